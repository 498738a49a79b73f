//! The open batch: each record is encoded once, straight into the memory from which it is sent.
//!
//! ```text
//!  append ─▶ [ room for the header │ record │ record │ … ]   one pooled buffer, nothing else per record
//!  seal   ─▶ [ header + checksum   │ records, compressed or as they are ] ─▶ SealedBatch
//! ```
//!
//! Bench: `wire`, append.

use std::fmt;

use super::header::{Attributes, BatchHeader, HEADER_BYTES, NO_TIMESTAMP};
use super::sealed::SealedBatch;
use super::{Header, TimestampType};
use crate::EncodeError;
use crate::codec::{Compression, Compressor};
use crate::pool::{Pool, PooledBuffer};
use crate::varint::{self, len_u64, zigzag64};

/// A record batch to which records can be appended.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, Batches, Header};
/// use milena_wire::codec::Decompressor;
/// use milena_wire::pool::Pool;
/// use milena_wire::Limits;
///
/// let pool = Pool::default();
/// let mut builder = BatchBuilder::new(&pool);
/// let headers = [Header::new("trace", Some(b"7f"))];
/// let index = builder.append(1_700_000_000_000, Some(b"42"), Some(b"created"), &headers)?;
/// assert_eq!(index, 0);
///
/// let mut sealed = builder.seal();
/// sealed.stamp(4001, 0, 17);
///
/// for raw in Batches::new(sealed.into_bytes()) {
///     let raw = raw?;
///     raw.check_crc()?;
///     let batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
///     for record in &batch {
///         assert_eq!(record?.value, Some(&b"created"[..]));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    buffer: PooledBuffer,
    bytes_max: usize,
    record_bytes_max: usize,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: u32,
    attributes: Attributes,
}

/// Why a record was not appended; the batch is as it was.
///
/// ```
/// use milena_wire::batch::{AppendError, BatchBuilder};
/// use milena_wire::pool::Pool;
///
/// let mut builder = BatchBuilder::new(&Pool::default()).bytes_max(100).record_bytes_max(1000);
/// builder.append(0, None, Some(&[0; 50]), &[])?;
/// assert_eq!(builder.append(0, None, Some(&[0; 50]), &[]), Err(AppendError::Full));
/// assert!(matches!(builder.append(0, None, Some(&[0; 1000]), &[]), Err(AppendError::TooLarge { limit: 1000, .. })));
/// # Ok::<(), AppendError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// The batch has no room for it: seal the batch and append to a new one.
    Full,
    /// It is too large for any batch.
    TooLarge {
        /// The bytes of the encoded record.
        bytes: usize,
        /// The most bytes of a record.
        limit: usize,
    },
}

/// The batch's size and each record's are signed 32-bit numbers on the wire.
const BYTES_MAX: usize = i32::MAX as usize;

impl BatchBuilder {
    /// 1 MiB, which brokers accept by default (`message.max.bytes`).
    pub const BYTES_MAX_DEFAULT: usize = 1 << 20;

    /// An empty batch with memory from `pool`: [`BYTES_MAX_DEFAULT`](Self::BYTES_MAX_DEFAULT) for the batch and each
    /// record, not transactional, no control records.
    pub fn new(pool: &Pool) -> Self {
        Self::with_expected_bytes(pool, HEADER_BYTES)
    }

    /// Like [`new`](Self::new), with memory for a batch of about `bytes`, such as the partition's last batch had. Without it the
    /// batch is copied a few times while it grows.
    pub fn with_expected_bytes(pool: &Pool, bytes: usize) -> Self {
        let mut buffer = pool.take(bytes.clamp(HEADER_BYTES, BYTES_MAX));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            buffer,
            bytes_max: Self::BYTES_MAX_DEFAULT,
            record_bytes_max: Self::BYTES_MAX_DEFAULT,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            record_count: 0,
            attributes: Attributes::default(),
        }
    }

    /// The size of a full batch in bytes, before compression: no record is appended that would exceed it. The first record may
    /// be larger, up to [`record_bytes_max`](Self::record_bytes_max).
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max.min(BYTES_MAX);
        self
    }

    /// The most bytes of an encoded record. A larger record is refused.
    #[must_use]
    pub fn record_bytes_max(mut self, record_bytes_max: usize) -> Self {
        self.record_bytes_max = record_bytes_max.min(BYTES_MAX - HEADER_BYTES);
        self
    }

    /// Makes it part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.attributes = self.attributes.with_transactional(transactional);
        self
    }

    /// Makes its records control records, which only brokers write: see [`ControlRecord`](super::ControlRecord).
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.attributes = self.attributes.with_control(control);
        self
    }

    /// Sets the type of the timestamps. With [`TimestampType::LogAppendTime`], readers use the batch's maximum for all records.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.attributes = self.attributes.with_timestamp_type(timestamp_type);
        self
    }

    /// Encodes a record into the batch, and returns its index there.
    ///
    /// `timestamp` is in milliseconds since the epoch. It allocates only when the batch's buffer grows.
    ///
    /// # Errors
    /// When the batch is full or the record is too large. Then the record was not appended.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, AppendError> {
        let index = self.record_count;
        let delta = self.delta(timestamp);
        let body = body_bytes(delta, index, key, value, headers);
        let bytes = length_and(body);
        self.check_room(bytes)?;
        let end = self.buffer.len() + bytes + WORD;
        if end > self.buffer.capacity() {
            self.grow(end);
        }
        put_record(&mut self.buffer, body, delta, index, key, value);
        put_headers(&mut self.buffer, headers);
        if index == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count = index + 1;
        Ok(index)
    }

    /// The bytes that [`append`](Self::append) would add for this record now.
    ///
    /// ```
    /// # use milena_wire::{batch::BatchBuilder, pool::Pool};
    /// let mut builder = BatchBuilder::new(&Pool::default());
    /// let foretold = builder.bytes() + builder.encoded_bytes(0, None, Some(b"value"), &[]);
    /// builder.append(0, None, Some(b"value"), &[])?;
    /// assert_eq!(builder.bytes(), foretold);
    /// # Ok::<(), milena_wire::batch::AppendError>(())
    /// ```
    pub fn encoded_bytes(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        length_and(body_bytes(self.delta(timestamp), self.record_count, key, value, headers))
    }

    /// Records appended so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch so far, uncompressed, header included.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of memory the batch occupies, [`bytes`](Self::bytes) or more.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The greatest timestamp appended, or [`NO_TIMESTAMP`].
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Closes the batch without compression: writes the header and the checksum.
    pub fn seal(self) -> SealedBatch {
        let bytes = self.buffer.len();
        let header = self.header(Compression::None, bytes);
        SealedBatch::new(self.buffer, header, bytes)
    }

    /// Closes the batch and compresses it. `level` is one of [`Compression::levels`], or `None` for the default.
    ///
    /// If compression does not make the records smaller, they are stored uncompressed, and the header says so.
    ///
    /// # Errors
    /// When the codec is not built in or has no such level.
    pub fn seal_compressed(
        self,
        compressor: &mut Compressor,
        compression: Compression,
        level: Option<i32>,
    ) -> Result<SealedBatch, EncodeError> {
        if compression == Compression::None {
            return Ok(self.seal());
        }
        let uncompressed_bytes = self.buffer.len();
        let likely_bytes = compressor.likely_bytes(compression, uncompressed_bytes).min(uncompressed_bytes);
        let mut compressed = self.buffer.pool().take(HEADER_BYTES + likely_bytes);
        compressed.resize(HEADER_BYTES, 0);
        compressor.compress(compression, level, &self.buffer[HEADER_BYTES..], &mut compressed)?;
        if compressed.len() >= uncompressed_bytes {
            return Ok(self.seal());
        }
        let header = self.header(compression, compressed.len());
        Ok(SealedBatch::new(compressed, header, uncompressed_bytes))
    }

    fn header(&self, compression: Compression, bytes: usize) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            bytes,
            partition_leader_epoch: None,
            magic: 2,
            crc: 0,
            attributes: self.attributes.with_compression(compression),
            last_offset_delta: self.record_count.saturating_sub(1) as i32,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: None,
            record_count: self.record_count,
        }
    }

    /// The zigzag of the timestamp's distance from the first one. It wraps, as the reader's addition does, so that any two
    /// timestamps are read back unchanged.
    #[inline(always)]
    fn delta(&self, timestamp: i64) -> u64 {
        if self.record_count == 0 { 0 } else { zigzag64(timestamp.wrapping_sub(self.base_timestamp)) }
    }

    #[inline(always)]
    fn check_room(&self, bytes: usize) -> Result<(), AppendError> {
        if bytes > self.record_bytes_max {
            return Err(AppendError::TooLarge { bytes, limit: self.record_bytes_max });
        }
        if bytes > self.bytes_max.saturating_sub(self.buffer.len()) && self.record_count > 0 {
            return Err(AppendError::Full);
        }
        Ok(())
    }

    /// Moves to a larger buffer.
    #[cold]
    fn grow(&mut self, end: usize) {
        let doubled = self.buffer.capacity().saturating_mul(2).min(self.bytes_max + WORD);
        let mut larger = self.buffer.pool().take(end.max(doubled));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the batch is full"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "the record takes {bytes} bytes, which is over the limit of {limit}")
            }
        }
    }
}

impl std::error::Error for AppendError {}

/// Numbers are written as whole words, of which only the first bytes count, so there must be room for one word more.
const WORD: usize = 8;

/// The bytes after the length field.
#[inline(always)]
fn body_bytes(
    delta: u64,
    index: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let numbers = 1 + len_u64(delta) + len_u64(u64::from(index) << 1) + len_u64((headers.len() as u64) << 1);
    // Saturating: many headers may share one huge slice.
    headers.iter().fold(numbers + nullable_bytes(key) + nullable_bytes(value), |sum, header| {
        sum.saturating_add(nullable_bytes(Some(header.key))).saturating_add(nullable_bytes(header.value))
    })
}

/// The bytes of a length field and of the content after it. A length of more than 32 bits is too large in any case.
#[inline(always)]
fn length_and(bytes: usize) -> usize {
    len_u64((bytes as u64) << 1).saturating_add(bytes)
}

#[inline(always)]
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| length_and(bytes.len()))
}

/// Writes the record without its headers. `out` has room.
#[inline(always)]
fn put_record(
    out: &mut Vec<u8>,
    body: usize,
    delta: u64,
    index: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) {
    // After the length comes a zero byte: the record's attributes, of which none is in use.
    let length = Word::default().length(body);
    if body < 1 << 20 && delta < 1 << 28 && index < 1 << 27 {
        // At most 3 + 1 + 4 bytes, then at most 4 + 1 + 3: an inner length has no more bytes than the outer one.
        length.byte(0).number(delta).put(out);
        let index = Word::default().number(u64::from(index) << 1);
        let value_length = match key {
            None => index.byte(NULL),
            Some(key) => {
                index.length(key.len()).put(out);
                out.extend_from_slice(key);
                Word::default()
            }
        };
        match value {
            None => value_length.byte(NULL).put(out),
            Some(value) => {
                value_length.length(value.len()).put(out);
                out.extend_from_slice(value);
            }
        }
    } else {
        length.byte(0).put(out);
        varint::put_u64(out, delta);
        varint::put_u32(out, index << 1);
        put_nullable(out, key);
        put_nullable(out, value);
    }
}

#[inline(always)]
fn put_headers(out: &mut Vec<u8>, headers: &[Header<'_>]) {
    Word::default().length(headers.len()).put(out);
    for header in headers {
        put_nullable(out, Some(header.key));
        put_nullable(out, header.value);
    }
}

#[inline(always)]
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(NULL),
        Some(bytes) => {
            Word::default().length(bytes.len()).put(out);
            out.extend_from_slice(bytes);
        }
    }
}

/// The zigzag varint −1, which is the length of null.
const NULL: u8 = 1;

/// Up to 8 bytes of varints, collected in a register and written at once, with one check of the capacity instead of several.
#[derive(Clone, Copy, Default)]
struct Word {
    bits: u64,
    bytes: usize,
}

impl Word {
    #[inline(always)]
    fn byte(self, byte: u8) -> Self {
        Self { bits: self.bits | u64::from(byte) << (8 * self.bytes), bytes: self.bytes + 1 }
    }

    /// A length of less than 31 bits.
    #[inline(always)]
    fn length(self, length: usize) -> Self {
        self.number((length as u64) << 1)
    }

    /// An unsigned number of less than 35 bits.
    #[inline(always)]
    fn number(self, number: u64) -> Self {
        let (bits, bytes) = if number < 1 << 7 {
            (number, 1)
        } else if number < 1 << 14 {
            (number & 0x7f | (number & 0x3f80) << 1 | 0x80, 2)
        } else if number < 1 << 21 {
            (number & 0x7f | (number & 0x3f80) << 1 | (number & 0x1f_c000) << 2 | 0x8080, 3)
        } else {
            spread(number)
        };
        Self { bits: self.bits | bits << (8 * self.bytes), bytes: self.bytes + bytes }
    }

    #[inline(always)]
    fn put(self, out: &mut Vec<u8>) {
        let end = out.len() + self.bytes;
        out.extend_from_slice(&self.bits.to_le_bytes());
        out.truncate(end);
    }
}

/// A varint of 4 or 5 bytes.
fn spread(number: u64) -> (u64, usize) {
    let low = number & 0x7f | (number & 0x3f80) << 1 | (number & 0x1f_c000) << 2 | 0x80_8080;
    let low = low | (number & 0xfe0_0000) << 3;
    match number >> 28 {
        0 => (low, 4),
        high => (low | 0x8000_0000 | high << 32, 5),
    }
}
