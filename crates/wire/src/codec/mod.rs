//! The codecs of record batches.

mod compression;

pub use compression::{Compression, UnknownCompression};

use crate::{DecodeError, DecodeReason, EncodeError};

/// Compresses, keeping each codec's context for the next time.
#[derive(Debug, Default)]
pub struct Compressor {}

impl Compressor {
    /// A compressor without contexts: each is made when its codec is first used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `input`, compressed, to `out`. The codecs themselves come with the next change.
    ///
    /// # Errors
    /// None yet.
    pub fn compress(
        &mut self,
        _compression: Compression,
        _level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(input);
        Ok(())
    }
}

/// Decompresses, keeping each codec's context for the next time.
#[derive(Debug, Default)]
pub struct Decompressor {}

impl Decompressor {
    /// A decompressor without contexts: each is made when its codec is first used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `input`, decompressed, to `out`: at most `limit` bytes. The codecs themselves come with the next change.
    ///
    /// # Errors
    /// Always, but for [`Compression::None`].
    pub fn decompress(
        &mut self,
        compression: Compression,
        _magic: i8,
        input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DecodeError> {
        if compression != Compression::None || input.len() > limit {
            return Err(DecodeError::new(
                "compressed records",
                0,
                DecodeReason::Invalid("codec is not built in"),
            ));
        }
        out.extend_from_slice(input);
        Ok(())
    }
}
