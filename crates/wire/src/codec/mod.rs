//! The four codecs of record batches, with contexts that are used again and a limit on the decompressed size.
//!
//! ```text
//!  records ─▶ Compressor ─▶ bytes after a batch header
//!  bytes after a batch header ─▶ Decompressor ─▶ Output (grows as bytes are produced, ends at the limit) ─▶ records
//! ```
//!
//! This module owns the codecs' framing and their limits. It must not know the content of the bytes, and it starts no thread. Keep
//! one context for a task or a connection, because making a context costs more than a small batch.
//!
//! Each codec is a cargo feature of its name; `zstd-c` uses libzstd, which needs a C compiler, instead of `zstd`. A codec reads
//! everything that any client writes, and writes what every client can read; its file says what that is.

mod compression;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg_attr(
    not(all(feature = "gzip", feature = "lz4")),
    allow(dead_code, reason = "each codec uses its part")
)]
mod input;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg_attr(
    not(all(feature = "gzip", feature = "lz4")),
    allow(dead_code, reason = "each codec uses its part")
)]
mod output;
mod ratio;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "lz4")]
mod xxh32;
#[cfg(all(feature = "zstd", not(feature = "zstd-c")))]
mod zstd;
#[cfg(feature = "zstd-c")]
#[path = "zstd_c.rs"]
mod zstd;
#[cfg(any(feature = "zstd", feature = "zstd-c"))]
mod zstd_frames;

use std::fmt;

pub use compression::{Compression, UnknownCompression};
use output::Output;
use ratio::Ratio;

use crate::pool::{Pool, PooledBuffer};
use crate::{DecodeError, DecodeReason, EncodeError, EncodeReason};

/// Compresses, and keeps each codec's context for the next call.
///
/// ```
/// use milena_wire::codec::{Compression, Compressor, Decompressor};
///
/// let records = b"anything at all, anything at all, anything at all".repeat(20);
/// let (mut compressed, mut restored) = (Vec::new(), Vec::new());
/// Compressor::new().compress(Compression::Lz4, None, &records, &mut compressed)?;
/// assert!(compressed.len() < records.len() / 4);
///
/// let mut decompressor = Decompressor::new();
/// decompressor.decompress(Compression::Lz4, 2, &compressed, &mut restored, 10_000)?;
/// assert_eq!(restored, records);
///
/// let bomb = decompressor.decompress(Compression::Lz4, 2, &compressed, &mut Vec::new(), 100).unwrap_err();
/// assert!(bomb.to_string().contains("limit of 100 bytes"), "{bomb}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Compressor {
    ratios: Ratios,
    #[cfg(feature = "gzip")]
    gzip: Option<gzip::Encoder>,
    #[cfg(feature = "snappy")]
    snappy: Option<snappy::Encoder>,
    #[cfg(feature = "lz4")]
    lz4: Option<lz4::Encoder>,
    #[cfg(any(feature = "zstd", feature = "zstd-c"))]
    zstd: Option<zstd::Encoder>,
}

impl Compressor {
    /// A compressor without contexts: each is made when its codec is first used.
    pub fn new() -> Self {
        Self {
            // JSON compresses a little better.
            ratios: Ratios::new(Ratio::new(1, 3)),
            #[cfg(feature = "gzip")]
            gzip: None,
            #[cfg(feature = "snappy")]
            snappy: None,
            #[cfg(feature = "lz4")]
            lz4: None,
            #[cfg(any(feature = "zstd", feature = "zstd-c"))]
            zstd: None,
        }
    }

    /// The bytes to which `input_bytes` probably compress, estimated from earlier batches, and a little more.
    pub(crate) fn likely_bytes(&self, compression: Compression, input_bytes: usize) -> usize {
        self.ratios.of(compression).output_bytes(input_bytes)
    }

    /// Appends `input`, compressed, to `out`.
    ///
    /// `level` is one of [`Compression::levels`], or `None` for Kafka's default.
    ///
    /// # Errors
    /// When the codec is not built in or has no such level; `out` is then as it was.
    #[cfg_attr(not(any(feature = "gzip", feature = "zstd", feature = "zstd-c")), expect(unused_variables))]
    pub fn compress(
        &mut self,
        compression: Compression,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let level = check_level(compression, level)?;
        let before = out.len();
        match compression {
            Compression::None => out.extend_from_slice(input),
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.get_or_insert_default().compress(level, input, out),
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.get_or_insert_default().compress(input, out)?,
            #[cfg(feature = "lz4")]
            Compression::Lz4 => self.lz4.get_or_insert_default().compress(input, out),
            #[cfg(any(feature = "zstd", feature = "zstd-c"))]
            Compression::Zstd => self.zstd.get_or_insert_default().compress(level, input, out),
            #[allow(unreachable_patterns, reason = "reachable as soon as a codec is left out")]
            absent => return Err(EncodeError::new(FIELD, EncodeReason::CodecNotBuiltIn(absent.name()))),
        }
        self.ratios.of_mut(compression).learn(input.len(), out.len() - before);
        Ok(())
    }
}

/// Decompresses, and keeps each codec's context for the next call. See [`Compressor`] for an example.
pub struct Decompressor {
    ratios: Ratios,
    #[cfg(feature = "gzip")]
    gzip: Option<gzip::Decoder>,
    #[cfg(feature = "snappy")]
    snappy: Option<snappy::Decoder>,
    #[cfg(any(feature = "zstd", feature = "zstd-c"))]
    zstd: Option<zstd::Decoder>,
}

impl Decompressor {
    /// A decompressor without contexts: each is made when its codec is first used.
    pub fn new() -> Self {
        Self {
            // JSON compresses a little less.
            ratios: Ratios::new(Ratio::new(4, 1)),
            #[cfg(feature = "gzip")]
            gzip: None,
            #[cfg(feature = "snappy")]
            snappy: None,
            #[cfg(any(feature = "zstd", feature = "zstd-c"))]
            zstd: None,
        }
    }

    /// Replaces the content of `out` with `input`, decompressed: at most `limit` bytes.
    ///
    /// `magic` is that of the batch, or of the message for a message set: before 2, lz4 frames have a header checksum
    /// that clients computed in two ways, and it is not checked (KAFKA-3160).
    ///
    /// `out` grows with the output, whatever the input announces. Its memory is used first, and need not be cleared. So a buffer
    /// that was used before is best.
    ///
    /// # Errors
    /// When `input` is malformed, decompresses to more than `limit` bytes, or its codec is not built in. `out` then has the bytes
    /// that were decompressed before the error.
    pub fn decompress(
        &mut self,
        compression: Compression,
        magic: i8,
        input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), DecodeError> {
        let output = Output::new(out, limit, self.ratios.of(compression), None);
        self.decompress_into(compression, magic, input, output)
    }

    /// Like [`decompress`](Self::decompress), into a buffer of `pool`. Its size is the one that the input announces, or else the
    /// one that earlier batches make likely.
    pub(crate) fn decompress_pooled(
        &mut self,
        compression: Compression,
        magic: i8,
        input: &[u8],
        pool: &Pool,
        limit: usize,
    ) -> Result<PooledBuffer, DecodeError> {
        let ratio = self.ratios.of(compression);
        let announced = match compression {
            #[cfg(feature = "gzip")]
            Compression::Gzip => Some(gzip::content_bytes(input)),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Some(snappy::content_bytes(input)),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::content_bytes(input),
            #[cfg(any(feature = "zstd", feature = "zstd-c"))]
            Compression::Zstd => zstd_frames::content_bytes(input, ratio),
            _ => None,
        };
        let expected = announced.unwrap_or_else(|| ratio.output_bytes(input.len()));
        let mut buffer = pool.take_uncleared(expected.min(limit));
        let output = Output::new(&mut buffer, limit, ratio, Some(pool));
        self.decompress_into(compression, magic, input, output)?;
        self.ratios.of_mut(compression).learn(input.len(), buffer.len());
        // Larger memory may have taken its place.
        buffer.recount();
        Ok(buffer)
    }

    #[cfg_attr(not(feature = "lz4"), expect(unused_variables))]
    fn decompress_into(
        &mut self,
        compression: Compression,
        magic: i8,
        input: &[u8],
        mut output: Output<'_>,
    ) -> Result<(), DecodeError> {
        match compression {
            Compression::None => output.extend(input, FIELD, 0),
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.get_or_insert_default().decompress(input, &mut output),
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.get_or_insert_default().decompress(input, &mut output),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(input, magic >= 2, &mut output),
            #[cfg(any(feature = "zstd", feature = "zstd-c"))]
            Compression::Zstd => self.zstd.get_or_insert_default().decompress(input, &mut output),
            #[allow(unreachable_patterns, reason = "reachable as soon as a codec is left out")]
            absent => Err(DecodeError::new(FIELD, 0, DecodeReason::CodecNotBuiltIn(absent.name()))),
        }
    }
}

/// A ratio for each codec.
struct Ratios([Ratio; Compression::ALL.len()]);

impl Ratios {
    fn new(likely: Ratio) -> Self {
        Self([likely; Compression::ALL.len()])
    }

    fn of(&self, compression: Compression) -> Ratio {
        self.0[compression as usize]
    }

    fn of_mut(&mut self, compression: Compression) -> &mut Ratio {
        &mut self.0[compression as usize]
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

const FIELD: &str = "compressed records";

fn check_level(compression: Compression, level: Option<i32>) -> Result<i32, EncodeError> {
    let (Some(levels), Some(default)) = (compression.levels(), compression.default_level()) else {
        return Ok(0);
    };
    let level = level.unwrap_or(default);
    if levels.contains(&level) {
        return Ok(level);
    }
    let (least, most) = levels.into_inner();
    Err(EncodeError::new("compression level", EncodeReason::OutOfRange { value: level, least, most }))
}

#[cfg(test)]
mod tests;
