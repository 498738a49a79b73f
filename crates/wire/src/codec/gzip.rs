//! gzip (RFC 1952). One member is written; any number of members is read, with every optional header field.
//!
//! Bytes after a whole member that do not begin another one are ignored, as in Java's `GZIPInputStream`.

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status, crc32};

use super::input::Input;
use super::output::Output;
use crate::{DecodeError, DecodeReason};

const FIELD: &str = "gzip";

/// No name, no time and an unknown system, as Java writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, DEFLATE, 0, 0, 0, 0, 0, 0, 0xff];
const DEFLATE: u8 = 8;

/// Deflate compresses at most 1032 bytes into one: a match of 258 bytes takes two bits.
const EXPANSION_MAX: usize = 1032;

const WINDOW_BITS: u8 = 15;

/// A deflate context, and room for its largest possible output.
pub(super) struct Encoder {
    deflate: Deflate,
    level: i32,
    stream: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        let level = 6;
        Self { deflate: Deflate::new(level, false, WINDOW_BITS), level, stream: Vec::new() }
    }
}

impl Encoder {
    /// Appends one member.
    pub(super) fn compress(&mut self, level: i32, input: &[u8], out: &mut Vec<u8>) {
        self.start(level);
        out.extend_from_slice(&HEADER);
        out.extend_from_slice(self.deflate(input));
        out.extend_from_slice(&crc32::crc32(0, input).to_le_bytes());
        out.extend_from_slice(&(input.len() as u32).to_le_bytes());
    }

    fn start(&mut self, level: i32) {
        self.deflate.reset();
        if self.level != level {
            self.deflate.set_level(level).expect("nothing is pending, and the level is one of gzip's");
            self.level = level;
        }
    }

    /// The compressed stream, in memory that is used again: new memory would have to be as large as the input.
    fn deflate(&mut self, input: &[u8]) -> &[u8] {
        let bound = zlib_rs::compress_bound(input.len());
        if self.stream.len() < bound {
            self.stream.resize(bound, 0);
        }
        loop {
            let read = self.deflate.total_in() as usize;
            let written = self.deflate.total_out() as usize;
            let room = &mut self.stream[written..];
            match self.deflate.compress(&input[read..], room, DeflateFlush::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {
                    self.stream.resize(self.stream.len() + input.len() / 8 + 64, 0);
                }
                Err(error) => unreachable!("deflate has no errors but of its settings: {error:?}"),
            }
        }
        &self.stream[..self.deflate.total_out() as usize]
    }
}

/// An inflate context.
pub(super) struct Decoder {
    inflate: Inflate,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Inflate::new(false, WINDOW_BITS) }
    }
}

impl Decoder {
    /// Appends the content of all members.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
        output.expect(content_bytes(input));
        let mut input = Input::new(input);
        header(&mut input)?;
        loop {
            self.member(&mut input, output)?;
            if header(&mut input).is_err() {
                return Ok(());
            }
        }
    }

    /// Inflates the member whose header was read, and checks its trailer.
    fn member(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), DecodeError> {
        let start = output.len();
        self.inflate(input, output)?;
        let content = &output.written()[start..];
        input.checksum(crc32::crc32(0, content), "gzip.crc32")?;
        if input.le_u32("gzip.isize")? != content.len() as u32 {
            return Err(input.error("gzip.isize", DecodeReason::Invalid("not the content's size")));
        }
        Ok(())
    }

    /// Inflates one deflate stream.
    fn inflate(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> Result<(), DecodeError> {
        self.inflate.reset(false);
        let mut past_limit = [0];
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            // Without room the stream may still end, but it must not write another byte.
            let full = output.remaining() == 0;
            let room = if full { &mut past_limit[..] } else { output.more_room() };
            let status = self.inflate.decompress(input.rest(), room, InflateFlush::NoFlush);
            let produced = (self.inflate.total_out() - written) as usize;
            let consumed = (self.inflate.total_in() - read) as usize;
            input.take(consumed, FIELD)?;
            if full && produced > 0 {
                return Err(output.over_limit(FIELD, input.offset()));
            }
            output.advance(produced);
            match status {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(Status::Ok | Status::BufError) if produced + consumed > 0 => {}
                Ok(Status::Ok | Status::BufError) => {
                    return Err(input.error(FIELD, DecodeReason::Truncated { needed: 1, remaining: 0 }));
                }
                Err(_) => return Err(input.error(FIELD, DecodeReason::Invalid("not a deflate stream"))),
            }
        }
    }
}

/// The size that the last member's trailer announces, if the input could hold as much.
pub(super) fn content_bytes(input: &[u8]) -> usize {
    let announced = input.last_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize);
    announced.min(input.len().saturating_mul(EXPANSION_MAX))
}

/// Reads a member's header.
fn header(input: &mut Input<'_>) -> Result<(), DecodeError> {
    const FIELD: &str = "gzip.header";
    const HEADER_CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0b1110_0000;

    let start = input.rest();
    let fixed: [u8; HEADER.len()] = input.array(FIELD)?;
    let flags = fixed[3];
    if fixed[..3] != HEADER[..3] || flags & RESERVED != 0 {
        return Err(input.error(FIELD, DecodeReason::Invalid("no gzip member")));
    }
    if flags & EXTRA != 0 {
        let bytes = u16::from_le_bytes(input.array(FIELD)?);
        input.take(bytes.into(), FIELD)?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let text = input.rest().iter().position(|byte| *byte == 0).unwrap_or(input.rest().len());
            input.take(text + 1, FIELD)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let computed = crc32::crc32(0, &start[..start.len() - input.rest().len()]) as u16;
        let stored = u16::from_le_bytes(input.array(FIELD)?);
        if stored != computed {
            let reason = DecodeReason::ChecksumMismatch { stored: stored.into(), computed: computed.into() };
            return Err(input.error(FIELD, reason));
        }
    }
    Ok(())
}
