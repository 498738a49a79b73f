//! The open batch: each record is encoded once, straight into the memory it will be sent from.
//!
//! ```text
//!  append ─▶ [ room for the header │ record │ record │ … ]   one pooled buffer, nothing else per record
//!  seal   ─▶ [ header + checksum   │ records, compressed or as they are ] ─▶ SealedBatch
//! ```
//!
//! Bench: `append`.

use std::fmt;

use super::header::{Attributes, BatchHeader, HEADER_BYTES, NO_TIMESTAMP};
use super::sealed::SealedBatch;
use super::{Header, TimestampType};
use crate::codec::{Compression, Compressor};
use crate::pool::{Pool, PooledBuffer};
use crate::varint::{len_i32, len_i64, put_i32, put_i64};
use crate::{EncodeError, varint};

/// A record batch that still takes records.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// The batch has no room left for it: seal this one and append to a new one.
    Full,
    /// No batch takes it.
    TooLarge {
        /// What the record would take, encoded.
        bytes: usize,
        /// What a record may take.
        limit: usize,
    },
}

/// The batch's size and each record's are signed 32-bit numbers on the wire.
const BYTES_MAX: usize = i32::MAX as usize;

impl BatchBuilder {
    /// 1 MiB: what brokers take by default (`message.max.bytes`).
    pub const BYTES_MAX_DEFAULT: usize = 1 << 20;

    /// An empty batch with memory from `pool`: [`BYTES_MAX_DEFAULT`](Self::BYTES_MAX_DEFAULT) for the batch and each
    /// record, not transactional, no control records.
    pub fn new(pool: &Pool) -> Self {
        let mut buffer = pool.take(HEADER_BYTES);
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

    /// The batch is full when another record would make it larger than this, before compression. A first record is
    /// taken however large, up to [`record_bytes_max`](Self::record_bytes_max).
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max.min(BYTES_MAX);
        self
    }

    /// A record that takes more than this, encoded, is refused.
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

    /// Makes its records control records: the broker's own, see [`ControlRecord`](super::ControlRecord).
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.attributes = self.attributes.with_control(control);
        self
    }

    /// Says what the timestamps tell. With [`TimestampType::LogAppendTime`] readers take the batch's maximum for all.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.attributes = self.attributes.with_timestamp_type(timestamp_type);
        self
    }

    /// Encodes a record into the batch: its index there.
    ///
    /// `timestamp` is in milliseconds since the epoch. Allocates nothing but the growth of the batch's buffer.
    ///
    /// # Errors
    /// When the batch is full or the record too large; nothing was appended then.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, AppendError> {
        let (delta, body) = self.body_bytes(timestamp, key, value, headers);
        let bytes = record_bytes(body);
        self.check_room(bytes)?;
        let index = self.record_count;
        if index == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;

        let out = &mut *self.buffer;
        out.reserve(bytes);
        put_i32(out, body as i32);
        out.push(0); // the record's own attributes, of which none are in use
        put_i64(out, delta);
        put_i32(out, index as i32);
        put_nullable(out, key);
        put_nullable(out, value);
        put_i32(out, headers.len() as i32);
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
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
        record_bytes(self.body_bytes(timestamp, key, value, headers).1)
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

    /// The greatest timestamp appended, or [`NO_TIMESTAMP`].
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Closes the batch as it is: writes the header and the checksum.
    pub fn seal(self) -> SealedBatch {
        let uncompressed_bytes = self.buffer.len();
        let header = self.header(Compression::None, uncompressed_bytes);
        SealedBatch::new(self.buffer, header, uncompressed_bytes)
    }

    /// Closes the batch and compresses it, `level` being one of [`Compression::levels`] or `None` for its default.
    ///
    /// Records that compression makes no smaller are left as they are, and the batch says so.
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
        // A third is what text comes down to; more is grown.
        let mut compressed = self.buffer.pool().take(HEADER_BYTES + uncompressed_bytes / 3);
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

    /// The timestamp's delta, and the bytes behind the record's length field.
    #[inline]
    fn body_bytes(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> (i64, usize) {
        // Wrapping, as the reader's addition wraps: any two timestamps come out as they went in.
        let delta = if self.record_count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) };
        let body = 1
            + len_i64(delta)
            + len_i32(self.record_count as i32)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + header_bytes(headers);
        (delta, body)
    }

    #[inline]
    fn check_room(&self, bytes: usize) -> Result<(), AppendError> {
        if bytes > self.record_bytes_max {
            return Err(AppendError::TooLarge { bytes, limit: self.record_bytes_max });
        }
        if bytes > self.bytes_max.saturating_sub(self.buffer.len()) && self.record_count > 0 {
            return Err(AppendError::Full);
        }
        Ok(())
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

#[inline]
fn record_bytes(body: usize) -> usize {
    // Of a body beyond 32 bits only its being too large matters.
    varint::len_u64((body as u64) << 1) + body
}

#[inline]
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| record_bytes(bytes.len()))
}

#[inline]
fn header_bytes(headers: &[Header<'_>]) -> usize {
    let count = varint::len_u64((headers.len() as u64) << 1);
    // Saturating: many headers may share one huge slice.
    headers.iter().fold(count, |sum, header| {
        sum.saturating_add(nullable_bytes(Some(header.key))).saturating_add(nullable_bytes(header.value))
    })
}

#[inline]
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}
