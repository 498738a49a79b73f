//! One record as it lies in a batch, and its headers.
//!
//! ```text
//!  length │ attributes │ Δtimestamp │ Δoffset │ key length, key │ value length, value │ count │ headers…
//!  varint   1 byte       varint       varint    varint (−1 null)  varint (−1 null)      varint
//! ```
//!
//! Bench: `read`.

use crate::varint::{self, VarintError};
use crate::{DecodeError, DecodeReason};

/// A record, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch, or [`NO_TIMESTAMP`](super::NO_TIMESTAMP); the batch's
    /// [`TimestampType`](super::TimestampType) says of what.
    pub timestamp: i64,
    /// The key; null and empty are different keys.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone, empty is not.
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
    /// The name. Kafka means UTF-8, but some clients write other bytes and brokers do not look, so a copy must keep
    /// what was there.
    pub key: &'a [u8],
    /// The value; null and empty are different values.
    pub value: Option<&'a [u8]>,
}

/// A record's headers, read while iterating, in the order they were written; a name may come more than once.
///
/// Ends after the first error.
#[derive(Debug, Clone)]
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
    /// A header of that name.
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

    /// Headers not read yet, as the record announces.
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

/// What a record's fields say before the batch's base is added.
pub(super) struct Deltas<'a> {
    pub(super) timestamp: i64,
    pub(super) offset: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Reads a record's fields out of what its length field announced, `cursor`.
#[inline(always)]
pub(super) fn read_body(mut cursor: Cursor<'_>) -> Result<Deltas<'_>, DecodeError> {
    cursor.skip_attributes()?;
    let timestamp = cursor.varlong("Record.TimestampDelta")?;
    let offset = cursor.varint("Record.OffsetDelta")?;
    let key = cursor.nullable("Record.Key")?;
    let value = cursor.nullable("Record.Value")?;
    let count = cursor.varint("Record.Headers")?;
    // A header takes two bytes at least; none must leave nothing.
    let remaining = if count == 0 && cursor.rest.is_empty() { 0 } else { cursor.check_headers(count)? };
    Ok(Deltas { timestamp, offset, key, value, headers: Headers { cursor, remaining } })
}

/// Bytes being read, and where they end in what the reader was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
    pub(super) end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline(always)]
    pub(super) fn varint(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        match varint::get_i32(self.rest) {
            Ok((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Err(error) => Err(self.varint_error(field, error)),
        }
    }

    #[inline(always)]
    fn varlong(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        match varint::get_i64(self.rest) {
            Ok((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Err(error) => Err(self.varint_error(field, error)),
        }
    }

    /// The record's own attributes, of which none are in use.
    #[inline(always)]
    fn skip_attributes(&mut self) -> Result<(), DecodeError> {
        match self.rest.split_first() {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.truncated("Record.Attributes", 1)),
        }
    }

    /// Bytes behind their length, where −1 stands for null.
    #[inline(always)]
    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.varint(field)?;
        if length < 0 {
            return if length == -1 { Ok(None) } else { Err(self.negative(field, length)) };
        }
        self.take(length as usize, field).map(Some)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated(field, length)),
        }
    }

    fn check_headers(&self, count: i32) -> Result<u32, DecodeError> {
        let field = "Record.Headers";
        let limit = self.rest.len() as u64 / 2;
        match u32::try_from(count) {
            Err(_) => Err(self.negative(field, count)),
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

    #[cold]
    fn varint_error(&self, field: &'static str, error: VarintError) -> DecodeError {
        match error {
            VarintError::Truncated => self.truncated(field, self.rest.len() + 1),
            VarintError::Overflow => DecodeError::new(field, self.at(), DecodeReason::VarintOverflow),
        }
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        DecodeError::new(field, self.at(), DecodeReason::Truncated { needed, remaining: self.rest.len() })
    }

    #[cold]
    pub(super) fn negative(&self, field: &'static str, length: i32) -> DecodeError {
        DecodeError::new(field, self.at(), DecodeReason::NegativeLength(i64::from(length)))
    }
}
