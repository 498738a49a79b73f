//! The LZ4 frame format, over the block codec of `lz4_flex`.
//!
//! ```text
//!  magic | FLG BD [content size] HC | { size | data | [checksum] }* | 0 | [content checksum]
//! ```
//!
//! It reads blocks of every size, linked or independent, compressed or stored; several frames and skippable ones; and it verifies
//! all checksums. Bytes after a whole frame that do not begin another one are ignored, as in Java's client.
//!
//! It writes one frame of independent blocks, with the content size and without checksums (the batch has its CRC-32C already).
//! Java's client refuses linked blocks. `lz4_flex` has one compressor, a fast one, for all levels: Kafka's default level 9 means
//! the fast one in Java's client, too.

use lz4_flex::block::{self, CompressTable, DecompressError};

use super::input::Input;
use super::output::Output;
use super::xxh32::xxh32;
use crate::{DecodeError, DecodeReason};

const FRAME_MAGIC: u32 = 0x184d_2204;
/// The lowest of the sixteen magics of skippable frames.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

const VERSION: u8 = 0b01 << 6;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;

/// The flag in a block's size that its data is stored uncompressed.
const STORED: u32 = 1 << 31;

/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 * 1024;

/// Blocks of 64 KiB, as Java's client writes them, so that readers have buffers for them.
const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK_SIZE_CODE: u8 = 4;

/// The least room for a second attempt: the smallest blocks have at most 64 KiB.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// A match length grows by at most 255 for each byte of input.
const EXPANSION_MAX: usize = 255;
/// A match table and room for one block.
pub(super) struct Encoder {
    table: CompressTable,
    block: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: CompressTable::large(), block: vec![0; block::get_maximum_output_size(BLOCK_BYTES)] }
    }
}

impl Encoder {
    /// Appends one frame.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        let descriptor = out.len();
        out.extend_from_slice(&[VERSION | INDEPENDENT | CONTENT_SIZE, BLOCK_SIZE_CODE << 4]);
        out.extend_from_slice(&(input.len() as u64).to_le_bytes());
        out.push(header_checksum(&out[descriptor..]));
        for block in input.chunks(BLOCK_BYTES) {
            self.block(block, out);
        }
        out.extend_from_slice(&0_u32.to_le_bytes());
    }

    fn block(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let compressed = block::compress_into_with_table(input, &mut self.block, &mut self.table)
            .map_or(input, |bytes| &self.block[..bytes]);
        if compressed.len() < input.len() {
            out.extend_from_slice(&(compressed.len() as u32).to_le_bytes());
            out.extend_from_slice(compressed);
        } else {
            out.extend_from_slice(&(input.len() as u32 | STORED).to_le_bytes());
            out.extend_from_slice(input);
        }
    }
}

/// Appends the content of the frames in `input`. Without `check_header` the header's checksum is not verified: before magic 2,
/// some clients computed it over the magic as well (KAFKA-3160).
pub(super) fn decompress(
    input: &[u8],
    check_header: bool,
    output: &mut Output<'_>,
) -> Result<(), DecodeError> {
    let mut input = Input::new(input);
    let mut frames = 0;
    loop {
        let mut ahead = input.clone();
        match ahead.le_u32("lz4.magic") {
            Ok(FRAME_MAGIC) => {
                let frame = Frame::read(&mut ahead, check_header, output)?;
                frame.decompress(&mut ahead, output)?;
            }
            Ok(magic) if magic & !0xf == SKIPPABLE_MAGIC => {
                let bytes = ahead.le_u32("lz4.skippable")?;
                ahead.take(bytes as usize, "lz4.skippable")?;
            }
            _ if frames > 0 => return Ok(()),
            Ok(_) => return Err(input.error("lz4.magic", DecodeReason::Invalid("no lz4 frame"))),
            Err(error) => return Err(error),
        }
        input = ahead;
        frames += 1;
    }
}

/// The content size that the first frame announces, if the input can have that much.
pub(super) fn content_bytes(input: &[u8]) -> Option<usize> {
    let (head, rest) = input.split_first_chunk::<4>()?;
    let (&[flags, _], rest) = rest.split_first_chunk::<2>()?;
    if u32::from_le_bytes(*head) != FRAME_MAGIC || flags & CONTENT_SIZE == 0 {
        return None;
    }
    let announced = u64::from_le_bytes(*rest.first_chunk()?);
    let possible = input.len().saturating_mul(EXPANSION_MAX);
    Some(usize::try_from(announced).map_or(possible, |announced| announced.min(possible)))
}

/// The fields of a frame's header.
struct Frame {
    flags: u8,
    block_bytes_max: usize,
    content_bytes: Option<usize>,
    /// Where this frame's content starts in the output.
    start: usize,
}

impl Frame {
    fn read(input: &mut Input<'_>, check_header: bool, output: &mut Output<'_>) -> Result<Self, DecodeError> {
        let descriptor = input.rest();
        let invalid = |input: &Input<'_>, what| input.error("lz4.descriptor", DecodeReason::Invalid(what));
        let [flags, sizes] = input.array("lz4.descriptor")?;
        if flags & 0b1100_0000 != VERSION {
            return Err(invalid(input, "not version 1 of the frame format"));
        }
        if flags & 0b11 != 0 {
            return Err(invalid(input, "a dictionary or an unknown flag"));
        }
        let block_bytes_max = match sizes {
            0x40 | 0x50 | 0x60 | 0x70 => 1 << (8 + 2 * (sizes >> 4)),
            _ => return Err(invalid(input, "a block size that does not exist")),
        };
        let size_at = input.offset();
        let announced =
            if flags & CONTENT_SIZE != 0 { Some(input.le_u64("lz4.content_size")?) } else { None };
        let computed = header_checksum(&descriptor[..descriptor.len() - input.rest().len()]);
        let [stored] = input.array("lz4.header_checksum")?;
        if check_header && stored != computed {
            let reason = DecodeReason::ChecksumMismatch { stored: stored.into(), computed: computed.into() };
            return Err(DecodeError::new("lz4.header_checksum", input.offset() - 1, reason));
        }
        let possible = input.rest().len().saturating_mul(EXPANSION_MAX);
        let content_bytes = announced
            .map(|bytes| output.check_announced(bytes, possible, "lz4.content_size", size_at))
            .transpose()?;
        output.expect(content_bytes.unwrap_or(0));
        Ok(Self { flags, block_bytes_max, content_bytes, start: output.len() })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn decompress(&self, input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), DecodeError> {
        loop {
            let size = input.le_u32("lz4.block_size")?;
            if size == 0 {
                break;
            }
            let at = input.offset();
            let data = input.take((size & !STORED) as usize, "lz4.block")?;
            if self.has(BLOCK_CHECKSUM) {
                input.checksum(xxh32(data), "lz4.block_checksum")?;
            }
            if data.len() > self.block_bytes_max {
                return Err(DecodeError::new("lz4.block", at, DecodeReason::Invalid(BLOCK_TOO_LARGE)));
            }
            if size & STORED != 0 {
                output.extend(data, "lz4.block", at)?;
            } else {
                self.block(data, at, output)?;
            }
        }
        self.check_content(input, output)
    }

    /// Decompresses the block `data`, which starts at `at`.
    fn block(&self, data: &[u8], at: usize, output: &mut Output<'_>) -> Result<(), DecodeError> {
        let most = self.block_bytes_max.min(data.len().saturating_mul(EXPANSION_MAX));
        let known = self.content_bytes.map(|bytes| (bytes + self.start).saturating_sub(output.len()));
        // Frames announce blocks of up to 4 MiB, of which a small batch uses little. So a block first gets the room that is
        // likely enough, and is decompressed again with more if that is too little.
        let mut room_bytes = known.unwrap_or_else(|| output.likely_bytes(data.len())).min(most);
        loop {
            let (written, room) = output.split(room_bytes);
            let available = room.len();
            let content = &written[self.start..];
            let window = match self.has(INDEPENDENT) {
                true => &[],
                false => &content[content.len().saturating_sub(WINDOW_BYTES)..],
            };
            match decompress_block(data, room, window) {
                Ok(bytes) => {
                    output.advance(bytes);
                    return Ok(());
                }
                Err(DecompressError::OutputTooSmall { .. }) if available < room_bytes => {
                    return Err(output.over_limit("lz4.block", at));
                }
                Err(DecompressError::OutputTooSmall { .. }) if room_bytes < most => {
                    room_bytes = room_bytes.saturating_mul(2).max(ROOM_BYTES_MIN).min(most);
                }
                Err(DecompressError::OutputTooSmall { .. }) => {
                    return Err(DecodeError::new("lz4.block", at, DecodeReason::Invalid(BLOCK_TOO_LARGE)));
                }
                Err(_) => {
                    return Err(DecodeError::new("lz4.block", at, DecodeReason::Invalid("not an lz4 block")));
                }
            }
        }
    }

    fn check_content(&self, input: &mut Input<'_>, output: &Output<'_>) -> Result<(), DecodeError> {
        let content = &output.written()[self.start..];
        if self.content_bytes.is_some_and(|bytes| bytes != content.len()) {
            return Err(input.error("lz4.content_size", DecodeReason::Invalid("not the content's size")));
        }
        if self.has(CONTENT_CHECKSUM) {
            input.checksum(xxh32(content), "lz4.content_checksum")?;
        }
        Ok(())
    }
}

/// The hot loops, each in a function of its own: inlined into one function, they are a tenth slower.
fn decompress_block(data: &[u8], room: &mut [u8], window: &[u8]) -> Result<usize, DecompressError> {
    if window.is_empty() { independent_block(data, room) } else { linked_block(data, room, window) }
}

#[inline(never)]
fn independent_block(data: &[u8], room: &mut [u8]) -> Result<usize, DecompressError> {
    block::decompress_into(data, room)
}

#[inline(never)]
fn linked_block(data: &[u8], room: &mut [u8], window: &[u8]) -> Result<usize, DecompressError> {
    block::decompress_into_with_dict(data, room, window)
}

const BLOCK_TOO_LARGE: &str = "a block larger than its frame announces";

/// The second byte of the hash of the descriptor, without the magic.
fn header_checksum(descriptor: &[u8]) -> u8 {
    xxh32(descriptor).to_le_bytes()[1]
}
