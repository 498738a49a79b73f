//! zstd (RFC 8878) with libzstd, which needs a C compiler. It writes and reads the same frames as `zstd.rs`.

use zstd_safe::{CCtx, DCtx};

use super::output::Output;
use super::zstd_frames::{DecodeFailure, Frames};
use crate::DecodeError;

/// A libzstd context, and room for its largest possible output.
pub(super) struct Encoder {
    context: CCtx<'static>,
    frame: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { context: CCtx::create(), frame: Vec::new() }
    }
}

impl Encoder {
    /// Appends one frame.
    pub(super) fn compress(&mut self, level: i32, input: &[u8], out: &mut Vec<u8>) {
        let bound = zstd_safe::compress_bound(input.len());
        if self.frame.len() < bound {
            self.frame.resize(bound, 0);
        }
        let written = self.context.compress(&mut self.frame[..], input, level).unwrap_or_else(|code| {
            unreachable!("the output has libzstd's own bound: {}", zstd_safe::get_error_name(code))
        });
        out.extend_from_slice(&self.frame[..written]);
    }
}

/// A libzstd context.
pub(super) struct Decoder {
    context: DCtx<'static>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { context: DCtx::create() }
    }
}

impl Decoder {
    /// Appends the content of all frames.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next()? {
            frame.decode_into(output, |bytes, room| {
                self.context.decompress(room, bytes).map_err(|code| match zstd_safe::get_error_name(code) {
                    "Destination buffer is too small" => DecodeFailure::RoomTooSmall,
                    "Restored data doesn't match checksum" => DecodeFailure::Checksum,
                    _ => DecodeFailure::Malformed,
                })
            })?;
        }
        Ok(())
    }
}
