//! zstd (RFC 8878) with `structured-zstd`, which is Rust only.
//!
//! It writes one frame with its content size and without a checksum (the batch has its CRC-32C already). It reads frames with and
//! without content size or checksum, several and skippable frames, and windows of up to 128 MiB.

use structured_zstd::decoding::errors::{
    DecodeBlockContentError, DecodeBufferError, DecompressBlockError, ExecuteSequencesError,
    FrameDecoderError,
};
use structured_zstd::decoding::{ContentChecksum, FrameDecoder};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::output::Output;
use super::zstd_frames::{DecodeFailure, Frames};
use crate::DecodeError;

/// Match tables, and room for the output.
pub(super) struct Encoder {
    compressor: FrameCompressor,
    level: i32,
    frame: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        let level = 3;
        let mut compressor = FrameCompressor::new(CompressionLevel::from_level(level));
        compressor.set_content_checksum(false);
        Self { compressor, level, frame: Vec::new() }
    }
}

impl Encoder {
    /// Appends one frame.
    pub(super) fn compress(&mut self, level: i32, input: &[u8], out: &mut Vec<u8>) {
        if self.level != level {
            self.compressor.set_compression_level(CompressionLevel::from_level(level));
            self.level = level;
        }
        self.compressor.compress_independent_frame_into(input, &mut self.frame);
        out.extend_from_slice(&self.frame);
    }
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
    /// Appends the content of all frames.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next()? {
            frame.decode_into(output, |bytes, room| {
                self.decoder.decode_all(bytes, room).map_err(|error| match error {
                    FrameDecoderError::ChecksumMismatch { .. } => DecodeFailure::Checksum,
                    error if is_out_of_room(&error) => DecodeFailure::RoomTooSmall,
                    _ => DecodeFailure::Malformed,
                })
            })?;
        }
        Ok(())
    }
}

/// The decoder has several errors for an output buffer that is too small.
fn is_out_of_room(error: &FrameDecoderError) -> bool {
    use DecodeBlockContentError::DecompressBlockError as Decompress;
    use DecompressBlockError::ExecuteSequencesError as Execute;

    match error {
        FrameDecoderError::TargetTooSmall => true,
        FrameDecoderError::FailedToReadBlockBody(Decompress(Execute(error))) => matches!(
            error,
            ExecuteSequencesError::OutputBufferOverflow { .. }
                | ExecuteSequencesError::DecodebufferError(DecodeBufferError::OutputBufferOverflow { .. })
        ),
        _ => false,
    }
}
