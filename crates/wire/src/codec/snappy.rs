//! Snappy. The raw format is written; the raw format and the xerial framing are read.
//!
//! ```text
//!  raw     length varint | elements
//!  xerial  82 "SNAPPY" 00 | version int32 | compatible int32 | { length int32 | raw }*
//! ```
//!
//! Java writes the framing of its snappy-java library (`xerial`) in chunks of 32 KiB, as does sarama; librdkafka and
//! franz-go write the raw format. All of them read both, so we write the raw format, which saves the chunks' headers.

use snap::raw;

use super::input::Input;
use super::output::Output;
use crate::{DecodeError, DecodeReason, EncodeError, EncodeReason};

const FIELD: &str = "snappy";

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// A copy element of three bytes stands for at most 64; the preamble is left out.
const EXPANSION_MAX: usize = 22;

/// A snappy context, and room for its largest possible output.
pub(super) struct Encoder {
    encoder: raw::Encoder,
    stream: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { encoder: raw::Encoder::new(), stream: Vec::new() }
    }
}

impl Encoder {
    /// Appends `input` in the raw format.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let bound = raw::max_compress_len(input.len());
        if bound == 0 {
            let reason = EncodeReason::TooLong { length: input.len(), limit: u32::MAX as usize };
            return Err(EncodeError::new(FIELD, reason));
        }
        if self.stream.len() < bound {
            self.stream.resize(bound, 0);
        }
        let written = self.encoder.compress(input, &mut self.stream).unwrap_or_else(|error| {
            unreachable!("the output has the greatest length that this input compresses to: {error}")
        });
        out.extend_from_slice(&self.stream[..written]);
        Ok(())
    }
}

/// The size that the input's streams announce, if the input can have that much.
pub(super) fn content_bytes(input: &[u8]) -> usize {
    let announced = |raw: &[u8]| raw::decompress_len(raw).unwrap_or(0);
    let bytes = if input.starts_with(&XERIAL_MAGIC) {
        let mut chunks = Input::new(input);
        std::iter::from_fn(|| chunk(&mut chunks).ok().flatten()).map(|(raw, _)| announced(raw)).sum()
    } else {
        announced(input)
    };
    bytes.min(input.len().saturating_mul(EXPANSION_MAX))
}

/// The next chunk of the xerial framing and its position; `None` at the end.
fn chunk<'a>(input: &mut Input<'a>) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
    // Several streams in a row are one stream, as in Java's reader.
    while input.rest().starts_with(&XERIAL_MAGIC) {
        input.take(XERIAL_HEADER_BYTES, "snappy.xerial")?;
    }
    if input.rest().is_empty() {
        return Ok(None);
    }
    let length = u32::from_be_bytes(input.array("snappy.xerial")?);
    let at = input.offset();
    Ok(Some((input.take(length as usize, "snappy.xerial")?, at)))
}

/// A snappy context.
pub(super) struct Decoder {
    decoder: raw::Decoder,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { decoder: raw::Decoder::new() }
    }
}

impl Decoder {
    /// Appends the content of `input` in either format.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        if input.starts_with(&XERIAL_MAGIC) { self.xerial(input, output) } else { self.raw(input, 0, output) }
    }

    fn xerial(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        let mut input = Input::new(input);
        while let Some((raw, at)) = chunk(&mut input)? {
            self.raw(raw, at, output)?;
        }
        Ok(())
    }

    /// Decompresses the raw `input` that starts at `base`.
    fn raw(&mut self, input: &[u8], base: usize, output: &mut Output<'_>) -> Result<(), DecodeError> {
        let invalid = |what| DecodeError::new(FIELD, base, DecodeReason::Invalid(what));
        let announced = raw::decompress_len(input).map_err(|_| invalid("no snappy length"))?;
        let bytes = output.check_announced(
            announced as u64,
            input.len().saturating_mul(EXPANSION_MAX),
            FIELD,
            base,
        )?;
        let written = self.decoder.decompress(input, output.room(bytes));
        output.advance(written.map_err(|_| invalid("not the snappy elements of the announced length"))?);
        Ok(())
    }
}
