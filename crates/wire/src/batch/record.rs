//! One record in a batch, and its headers.
//!
//! ```text
//!  length │ attributes │ Δtimestamp │ Δoffset │ key length, key │ value length, value │ count │ headers…
//!  varint   1 byte       varint       varint    varint (−1 null)  varint (−1 null)      varint
//! ```
//!
//! Bench: `read`.

use std::fmt;

use crate::varint::{self, VarintError};
use crate::{DecodeError, DecodeReason};

/// A record, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch, or [`NO_TIMESTAMP`](super::NO_TIMESTAMP). The batch's
    /// [`TimestampType`](super::TimestampType) says whether it is the producer's or the broker's time.
    pub timestamp: i64,
    /// The key. Null and empty are different keys.
    pub key: Option<&'a [u8]>,
    /// The value. Null is a tombstone, and an empty value is not.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// A record's header: a name, and a value that may be null.
///
/// ```
/// use milena_wire::batch::Header;
///
/// let header = Header::new("trace", Some(b"7f"));
/// assert_eq!(header.name(), Some("trace"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    /// The name. It should be UTF-8, but some clients write other bytes and brokers do not check, so a copy must keep the bytes.
    pub key: &'a [u8],
    /// The value. Null and empty are different values.
    pub value: Option<&'a [u8]>,
}

/// A record's headers, parsed while iterating, in the order in which they were written. Names may repeat.
///
/// The iteration ends after the first error.
#[derive(Clone)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    remaining: u32,
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        offset: i64,
        timestamp: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: Headers<'a>,
    ) -> Self {
        Self { offset, timestamp, key, value, headers }
    }

    /// The headers.
    ///
    /// ```
    /// # use milena_wire::{Limits, batch::{BatchBuilder, Batches, Header}, codec::Decompressor, pool::Pool};
    /// # let pool = Pool::default();
    /// # let mut builder = BatchBuilder::new(&pool);
    /// builder.append(0, None, None, &[Header::new("retries", Some(b"3")), Header::new("last", None)])?;
    /// # for raw in Batches::new(builder.seal().into_bytes()) {
    /// #     let batch = raw?.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
    /// #     for record in &batch {
    /// #         let record = record?;
    /// for header in record.headers() {
    ///     let header = header?;
    ///     assert!(header.name() == Some("retries") || header.value.is_none());
    /// }
    /// #     }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

impl<'a> Header<'a> {
    /// A header with this name.
    pub const fn new(name: &'a str, value: Option<&'a [u8]>) -> Self {
        Self { key: name.as_bytes(), value }
    }

    /// The name, if it is UTF-8, as it should be.
    pub fn name(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

impl<'a> Headers<'a> {
    /// No headers.
    pub(crate) const NONE: Self = Self { cursor: Cursor { rest: &[], end: 0 }, remaining: 0 };

    pub(super) fn parts(&self) -> (Cursor<'a>, u32) {
        (self.cursor, self.remaining)
    }

    pub(super) fn from_parts(cursor: Cursor<'a>, remaining: u32) -> Self {
        Self { cursor, remaining }
    }

    /// How many headers are left, as the record announces.
    pub fn remaining(&self) -> usize {
        self.remaining as usize
    }

    fn read(&mut self) -> Result<Header<'a>, DecodeError> {
        let cursor = &mut self.cursor;
        let at = cursor.at();
        let key = cursor
            .nullable("Record.Headers.HeaderKey")?
            .ok_or_else(|| DecodeError::new("Record.Headers.HeaderKey", at, DecodeReason::UnexpectedNull))?;
        let value = cursor.nullable("Record.Headers.Value")?;
        if self.remaining == 1 {
            cursor.finish("Record")?;
        }
        Ok(Header { key, value })
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let header = self.read();
        self.remaining = if header.is_ok() { self.remaining - 1 } else { 0 };
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining()))
    }
}

/// A record's fields, before the batch's base is added.
pub(super) struct Deltas<'a> {
    pub(super) timestamp: i64,
    pub(super) offset: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// The bytes of the numbers before a record's key, at 4 bytes each, and of a word to read the number after them.
const HEAD_BYTES: usize = 32;

/// Reads the record at `at` if it is of the usual kind: well formed, with numbers of at most 28 bits, and not in the last bytes of
/// the area. Also returns where it ends. `area_at` is the start of the area in the input from which errors count.
///
/// For any other record it returns `None`, and [`read_body`] reads the record or returns its error. Without errors to build,
/// and with one load and one check for several numbers, this takes a third of the instructions.
#[inline(always)]
pub(super) fn read_usual(area: &[u8], at: usize, area_at: usize) -> Option<(Deltas<'_>, usize)> {
    let head: &[u8; HEAD_BYTES] = area.get(at..)?.first_chunk()?;
    let (length, length_bytes) = usual_varint(word(head, 0)?)?;
    let end = at + length_bytes + not_negative(length)?;

    let deltas = word(head, length_bytes + 1)?;
    let (timestamp, timestamp_bytes) = usual_varint(deltas)?;
    let (offset, offset_bytes) = usual_varint(deltas >> (8 * timestamp_bytes))?;
    let key_at = length_bytes + 1 + timestamp_bytes + offset_bytes;

    let lengths = word(head, key_at)?;
    let (key, value, value_at) = if lengths as u8 == NULL {
        (None, lengths >> 8, at + key_at + 1)
    } else {
        let (length, length_bytes) = usual_varint(lengths)?;
        let start = at + key_at + length_bytes;
        let end = start + not_negative(length)?;
        (Some(area.get(start..end)?), word(area, end)?, end)
    };
    let (value, headers_at) = if value as u8 == NULL {
        (None, value_at + 1)
    } else {
        let (length, length_bytes) = usual_varint(value)?;
        let start = value_at + length_bytes;
        let end = start + not_negative(length)?;
        (Some(area.get(start..end)?), end)
    };

    let headers = match *area.get(headers_at)? {
        0 if headers_at + 1 == end => Headers::NONE,
        count => {
            let rest = area.get(headers_at + 1..end)?;
            let remaining = u32::from(count / 2);
            if count & 0x81 != 0 || remaining == 0 || remaining as usize * 2 > rest.len() {
                return None;
            }
            Headers { cursor: Cursor { rest, end: area_at + end }, remaining }
        }
    };
    let timestamp = i64::from(varint::unzigzag32(timestamp));
    let offset = not_negative(offset)? as i32;
    Some((Deltas { timestamp, offset, key, value, headers }, end))
}

/// The zigzag varint −1, which is the length of null.
const NULL: u8 = 1;

#[inline(always)]
fn not_negative(zigzag: u32) -> Option<usize> {
    (zigzag & 1 == 0).then_some((zigzag >> 1) as usize)
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The varint in the low bytes of `word`, and its length, if that is at most 4.
#[inline(always)]
fn usual_varint(word: u64) -> Option<(u32, usize)> {
    let low = word as u32;
    if low & 0x80 == 0 {
        return Some((low & 0x7f, 1));
    }
    if low & 0x8000 == 0 {
        return Some((low & 0x7f | (low & 0x7f00) >> 1, 2));
    }
    if low & 0x80_0000 == 0 {
        return Some((low & 0x7f | (low & 0x7f00) >> 1 | (low & 0x7f_0000) >> 2, 3));
    }
    let value = low & 0x7f | (low & 0x7f00) >> 1 | (low & 0x7f_0000) >> 2 | (low & 0x7f00_0000) >> 3;
    (low & 0x8000_0000 == 0).then_some((value, 4))
}

/// Reads a record's fields from `cursor`, which has the bytes that its length field announces.
pub(super) fn read_body(mut cursor: Cursor<'_>, last_offset_delta: i32) -> Result<Deltas<'_>, DecodeError> {
    cursor.skip_attributes()?;
    let timestamp = cursor.varlong("Record.TimestampDelta")?;
    let at = cursor.at();
    let offset = cursor.varint("Record.OffsetDelta")?;
    if !(0..=last_offset_delta).contains(&offset) {
        let reason = DecodeReason::Invalid("offset is not among the batch's");
        return Err(DecodeError::new("Record.OffsetDelta", at, reason));
    }
    let key = cursor.nullable("Record.Key")?;
    let value = cursor.nullable("Record.Value")?;
    let count = cursor.varint("Record.Headers")?;
    let remaining = cursor.check_headers(count)?;
    Ok(Deltas { timestamp, offset, key, value, headers: Headers { cursor, remaining } })
}

/// The offset of a record that [`read_body`] refused, if it can be read.
pub(super) fn read_offset(mut cursor: Cursor<'_>, last_offset_delta: i32) -> Option<i32> {
    cursor.skip_attributes().ok()?;
    cursor.varlong("Record.TimestampDelta").ok()?;
    let offset = cursor.varint("Record.OffsetDelta").ok()?;
    (0..=last_offset_delta).contains(&offset).then_some(offset)
}

/// The bytes to read, and where they end in the reader's input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
    pub(super) end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        match varint::get_i32(self.rest) {
            Ok((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Err(error) => Err(self.varint_error(field, error)),
        }
    }

    fn varlong(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        match varint::get_i64(self.rest) {
            Ok((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Err(error) => Err(self.varint_error(field, error)),
        }
    }

    /// Reads the record's attributes, of which none is in use.
    fn skip_attributes(&mut self) -> Result<(), DecodeError> {
        match self.rest.split_first() {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.truncated("Record.Attributes", 1)),
        }
    }

    /// Reads a length and the bytes after it; the length −1 is null.
    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.varint(field)?;
        if length < 0 {
            return if length == -1 { Ok(None) } else { Err(self.negative(field, length)) };
        }
        self.take(length as usize, field).map(Some)
    }

    pub(super) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated(field, length)),
        }
    }

    /// The body of a record, after its length.
    pub(super) fn framed(&mut self) -> Result<Self, DecodeError> {
        let length = self.varint("Record.Length")?;
        let length = usize::try_from(length).map_err(|_| self.negative("Record.Length", length))?;
        let rest = self.take(length, "Record")?;
        Ok(Self { rest, end: self.at() })
    }

    /// A header takes at least two bytes; without headers no bytes may be left.
    fn check_headers(&self, count: i32) -> Result<u32, DecodeError> {
        let field = "Record.Headers";
        let limit = self.rest.len() as u64 / 2;
        match u32::try_from(count) {
            Err(_) => Err(self.negative(field, count)),
            Ok(0) if self.rest.is_empty() => Ok(0),
            Ok(0) => Err(DecodeError::new("Record", self.at(), DecodeReason::TrailingBytes(self.rest.len()))),
            Ok(count) if u64::from(count) > limit => {
                let reason = DecodeReason::TooLarge { announced: u64::from(count), limit };
                Err(DecodeError::new(field, self.at(), reason))
            }
            Ok(count) => Ok(count),
        }
    }

    fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::new(field, self.at(), DecodeReason::TrailingBytes(count))),
        }
    }

    fn varint_error(&self, field: &'static str, error: VarintError) -> DecodeError {
        match error {
            VarintError::Truncated => self.truncated(field, self.rest.len() + 1),
            VarintError::Overflow => DecodeError::new(field, self.at(), DecodeReason::VarintOverflow),
        }
    }

    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        DecodeError::new(field, self.at(), DecodeReason::Truncated { needed, remaining: self.rest.len() })
    }

    pub(super) fn negative(&self, field: &'static str, length: i32) -> DecodeError {
        DecodeError::new(field, self.at(), DecodeReason::NegativeLength(i64::from(length)))
    }
}
