//! zstd (RFC 8878), in Rust alone, over `structured-zstd`.
//!
//! Written: one frame with its content size and without a checksum (the batch has its CRC-32C already). Read: frames
//! with and without content size or checksum, several and skippable ones, windows up to 128 MiB.

use structured_zstd::decoding::errors::FrameDecoderError;
use structured_zstd::decoding::{ContentChecksum, FrameDecoder};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::output::Output;
use super::zstd_frames::{DecodeFailure, Frames};
use crate::DecodeError;

/// Match tables, and room for what becomes part of a batch.
pub(super) struct Encoder {
    compressor: FrameCompressor,
    level: i32,
    frame: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        let level = 3;
        Self { compressor: compressor(level), level, frame: Vec::new() }
    }
}

impl Encoder {
    /// Appends one frame.
    pub(super) fn compress(&mut self, level: i32, input: &[u8], out: &mut Vec<u8>) {
        if self.level != level {
            self.compressor = compressor(level);
            self.level = level;
        }
        self.compressor.compress_independent_frame_into(input, &mut self.frame);
        out.extend_from_slice(&self.frame);
    }
}

fn compressor(level: i32) -> FrameCompressor {
    let mut compressor = FrameCompressor::new(CompressionLevel::from_level(level));
    compressor.set_content_checksum(false);
    compressor
}

/// Decoding tables.
pub(super) struct Decoder {
    decoder: FrameDecoder,
}

impl Default for Decoder {
    fn default() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_content_checksum(ContentChecksum::Verify);
        Self { decoder }
    }
}

impl Decoder {
    /// Appends what all frames hold.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next()? {
            frame.decode_into(output, |bytes, room| match self.decoder.decode_all(bytes, room) {
                Ok(bytes) => Ok(bytes),
                Err(FrameDecoderError::TargetTooSmall) => Err(DecodeFailure::RoomTooSmall),
                Err(FrameDecoderError::ChecksumMismatch { .. }) => Err(DecodeFailure::Checksum),
                Err(_) => Err(DecodeFailure::Malformed),
            })?;
        }
        Ok(())
    }
}
