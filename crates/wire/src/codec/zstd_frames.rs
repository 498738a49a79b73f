//! Finds the frames of a zstd stream, and the most bytes that each can decompress to, from their headers only.
//!
//! ```text
//!  magic | descriptor [window] [dictionary id] [content size] | { header(24): last, type, size | data }* | [checksum]
//! ```
//!
//! So a decoder can get its whole output buffer at once: it needs no window besides it, and no memory is allocated for sizes that
//! the blocks cannot fill.

use super::input::Input;
use super::output::Output;
use super::ratio::Ratio;
use crate::{DecodeError, DecodeReason};

/// The largest window of a frame. It is libzstd's default, so other readers accept the same.
const WINDOW_BYTES_MAX: u64 = 1 << 27;

const FRAME_MAGIC: u32 = 0xfd2f_b528;
/// The lowest of the sixteen magics of skippable frames.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

const BLOCK_BYTES_MAX: u64 = 128 * 1024;

/// One frame of content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The whole frame, from magic to checksum.
    pub(super) bytes: &'a [u8],
    /// Its position in the input.
    pub(super) at: usize,
    /// The content size it announces.
    pub(super) content_bytes: Option<u64>,
    /// The most bytes that its blocks can decompress to.
    pub(super) content_bytes_max: u64,
}

/// Why a decoder could not decode a frame into the given room.
pub(super) enum DecodeFailure {
    /// The frame has more content than the room.
    RoomTooSmall,
    /// The content differs from the frame's checksum.
    Checksum,
    /// The frame is malformed.
    Malformed,
}

impl Frame<'_> {
    /// Appends the frame's content, which `decode` writes into the given room.
    pub(super) fn decode_into(
        &self,
        output: &mut Output<'_>,
        mut decode: impl FnMut(&[u8], &mut [u8]) -> Result<usize, DecodeFailure>,
    ) -> Result<(), DecodeError> {
        let invalid = |what| DecodeError::new("zstd.frame", self.at, DecodeReason::Invalid(what));
        let most = usize::try_from(self.content_bytes_max).unwrap_or(usize::MAX);
        let mut room_bytes = match self.content_bytes {
            Some(announced) => output.check_announced(announced, most, "zstd.content_size", self.at)?,
            None => most.min(output.likely_bytes(self.bytes.len())),
        };
        loop {
            let room = output.room(room_bytes);
            let available = room.len();
            match decode(self.bytes, room) {
                Ok(bytes) => {
                    output.advance(bytes);
                    return Ok(());
                }
                Err(DecodeFailure::RoomTooSmall) if available < room_bytes => {
                    return Err(output.over_limit("zstd.frame", self.at));
                }
                // Try again with more room after any error: a decoder may not know that it lacks room.
                Err(_) if self.content_bytes.is_none() && available == room_bytes && room_bytes < most => {
                    room_bytes = most;
                }
                Err(DecodeFailure::Checksum) => {
                    return Err(invalid("content that differs from its checksum"));
                }
                Err(_) => return Err(invalid("not a zstd frame")),
            }
        }
    }
}

/// The content size of the frames of `input`: the size that each announces, up to what its blocks can have, or else the size that
/// `ratio` makes likely. `None` if a frame is malformed.
pub(super) fn content_bytes(input: &[u8], ratio: Ratio) -> Option<usize> {
    let (mut frames, mut bytes) = (Frames::new(input), 0_usize);
    while let Some(frame) = frames.next().ok()? {
        let likely = || ratio.output_bytes(frame.bytes.len()) as u64;
        let held = frame.content_bytes.unwrap_or_else(likely).min(frame.content_bytes_max);
        bytes = bytes.saturating_add(usize::try_from(held).unwrap_or(usize::MAX));
    }
    Some(bytes)
}

/// The frames of `input`, without the skippable ones.
pub(super) struct Frames<'a> {
    input: Input<'a>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input: Input::new(input) }
    }

    /// The next frame, or `None` at the end of the input.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'a>>, DecodeError> {
        let input = &mut self.input;
        while input.offset() == 0 || !input.rest().is_empty() {
            let (start, at) = (input.clone(), input.offset());
            match input.le_u32("zstd.magic")? {
                FRAME_MAGIC => {
                    let (content_bytes, content_bytes_max) = frame(input)?;
                    let bytes = &start.rest()[..input.offset() - at];
                    return Ok(Some(Frame { bytes, at, content_bytes, content_bytes_max }));
                }
                magic if magic & !0xf == SKIPPABLE_MAGIC => {
                    let bytes = input.le_u32("zstd.skippable")?;
                    input.take(bytes as usize, "zstd.skippable")?;
                }
                _ => return Err(start.error("zstd.magic", DecodeReason::Invalid("no zstd frame"))),
            }
        }
        Ok(None)
    }
}

/// Reads the rest of a frame after its magic: its content size, and the most bytes that its blocks can decompress to.
fn frame(input: &mut Input<'_>) -> Result<(Option<u64>, u64), DecodeError> {
    let [descriptor] = input.array("zstd.descriptor")?;
    let single_segment = descriptor & (1 << 5) != 0;
    let has_checksum = descriptor & (1 << 2) != 0;
    if descriptor & (1 << 3) != 0 || descriptor & 0b11 != 0 {
        return Err(input.error("zstd.descriptor", DecodeReason::Invalid("a dictionary or an unknown flag")));
    }
    let window = if single_segment { None } else { Some(window_bytes(input)?) };
    let content_bytes = match (descriptor >> 6, single_segment) {
        (0, false) => None,
        (0, true) => Some(input.array("zstd.content_size").map(|[byte]| u64::from(byte))?),
        (1, _) => {
            Some(input.array("zstd.content_size").map(|bytes| u64::from(u16::from_le_bytes(bytes)) + 256)?)
        }
        (2, _) => Some(u64::from(input.le_u32("zstd.content_size")?)),
        _ => Some(input.le_u64("zstd.content_size")?),
    };
    let block_bytes_max = window.or(content_bytes).unwrap_or(0).min(BLOCK_BYTES_MAX);
    let content_bytes_max = blocks(input, block_bytes_max)?;
    if has_checksum {
        input.take(4, "zstd.checksum")?;
    }
    Ok((content_bytes, content_bytes_max))
}

fn window_bytes(input: &mut Input<'_>) -> Result<u64, DecodeError> {
    let at = input.offset();
    let [byte] = input.array("zstd.window")?;
    let base = 1_u64 << (10 + (byte >> 3));
    let announced = base + base / 8 * u64::from(byte & 0b111);
    if announced > WINDOW_BYTES_MAX {
        let reason = DecodeReason::TooLarge { announced, limit: WINDOW_BYTES_MAX };
        return Err(DecodeError::new("zstd.window", at, reason));
    }
    Ok(announced)
}

/// Walks over a frame's blocks; returns the most bytes that they can decompress to.
fn blocks(input: &mut Input<'_>, block_bytes_max: u64) -> Result<u64, DecodeError> {
    let mut content_bytes_max = 0;
    loop {
        let [a, b, c] = input.array("zstd.block")?;
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = header >> 3;
        let (data, content) = match header >> 1 & 0b11 {
            0 => (size, u64::from(size)),
            1 => (1, u64::from(size)),
            2 => (size, block_bytes_max),
            _ => {
                return Err(
                    input.error("zstd.block", DecodeReason::Invalid("a block type that does not exist"))
                );
            }
        };
        if u64::from(size) > block_bytes_max {
            return Err(input.error("zstd.block", DecodeReason::Invalid("a block larger than the window")));
        }
        input.take(data as usize, "zstd.block")?;
        content_bytes_max += content;
        if header & 1 != 0 {
            return Ok(content_bytes_max);
        }
    }
}
