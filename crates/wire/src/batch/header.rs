//! The header of a batch: the 61 bytes before its records.
//!
//! ```text
//!  0          8       12        16    17   21    23     27         35        43       51     53       57      61
//!  │ base     │ batch │ leader  │magic│crc │attri│ last │ base      │ max      │producer│prod. │ base   │ record │
//!  │ offset   │ length│ epoch   │     │    │butes│ Δoff │ timestamp │ timestamp│ id     │epoch │sequence│ count  │
//!                                          └──────────────── the checksum covers this and the records ───────────
//! ```
//!
//! A −1 in a field that may be absent becomes `None` here and nowhere else.

use crate::codec::Compression;
use crate::{DecodeError, DecodeReason};

/// Bytes of a v2 record batch before its first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes that `batch length` does not count: the base offset and itself.
pub(super) const LENGTH_PREFIX_BYTES: usize = 12;

/// The start of the bytes that the checksum covers.
pub(super) const CRC_FROM: usize = 21;

/// The timestamp of a record without one (magic 0, or a producer that set none). It is not an `Option`, because a timestamp is the
/// sum of a base and a delta, which may be −1 as well.
pub const NO_TIMESTAMP: i64 = -1;

/// The header of a record batch, or of one message of a v0 or v1 message set.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, BatchHeader};
/// use milena_wire::pool::Pool;
///
/// let mut builder = BatchBuilder::new(&Pool::default());
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])?;
/// let bytes = builder.seal().into_bytes();
/// let header = BatchHeader::parse(&bytes)?;
/// assert_eq!((header.magic, header.record_count, header.bytes), (2, 1, bytes.len()));
/// assert_eq!(header.producer, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that was written; compaction may have removed that record. For a compressed message of a v0
    /// or v1 message set it is the last inner offset, because the message has only that.
    pub base_offset: i64,
    /// The bytes of the whole batch, with this header.
    pub bytes: usize,
    /// The epoch of the leader that appended the batch, if a leader has.
    pub partition_leader_epoch: Option<i32>,
    /// The format: 2 is a record batch, 0 and 1 are messages of the older message sets.
    pub magic: u8,
    /// The stored checksum: CRC-32C, or CRC-32 in the older formats.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// The last offset that was written, counted from the base offset. Compaction keeps it.
    pub last_offset_delta: i32,
    /// The timestamp to which the records' deltas are added, in milliseconds since the epoch.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, or the append time ([`TimestampType::LogAppendTime`]).
    pub max_timestamp: i64,
    /// The producer, if it is idempotent or transactional.
    pub producer: Option<ProducerStamp>,
    /// The number of records. It is 0 if compaction left only the header, and for a compressed message of a v0 or v1 message set,
    /// which does not have the number.
    pub record_count: u32,
}

/// The identity of an idempotent or transactional producer in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence of the batch's first record; control batches have none.
    pub base_sequence: Option<i32>,
}

/// The type of a record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// When the producer created it.
    CreateTime,
    /// When the broker appended it (`message.timestamp.type=LogAppendTime`).
    LogAppendTime,
}

/// A batch's attribute bits.
///
/// ```
/// use milena_wire::batch::{Attributes, TimestampType};
///
/// let attributes = Attributes::default().with_transactional(true);
/// assert!(attributes.is_transactional() && !attributes.is_control());
/// assert_eq!(attributes.timestamp_type(), TimestampType::CreateTime);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Attributes(i16);

const COMPRESSION_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

impl Attributes {
    /// The attributes with these bits.
    pub const fn from_bits(bits: i16) -> Self {
        Self(bits)
    }

    /// The bits as they are on the wire.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// When the codec's id is unknown.
    pub fn compression(self) -> Result<Compression, DecodeError> {
        Compression::from_attributes(self.0).ok_or_else(|| {
            DecodeError::new(
                "RecordBatch.Attributes",
                CRC_FROM,
                DecodeReason::Invalid("unknown compression codec"),
            )
        })
    }

    /// The type of the records' timestamps.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch is part of a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether it has control records, which are for brokers and clients, and never for the application.
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is the time after which compaction may drop tombstones and markers (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same with another compression.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !COMPRESSION_MASK | compression.attributes())
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same, part of a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(TRANSACTIONAL, transactional)
    }

    /// The same, holding control records or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(CONTROL, control)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

impl BatchHeader {
    /// Reads the header of a v2 record batch at the start of `bytes`.
    pub(super) fn parse_v2(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(truncated(bytes, HEADER_BYTES));
        };
        let base_offset = i64::from_be_bytes(field(raw, 0));
        let last_offset_delta = i32::from_be_bytes(field(raw, 23));
        let record_count = i32::from_be_bytes(field(raw, 57));
        let producer = ProducerStamp {
            producer_id: i64::from_be_bytes(field(raw, 43)),
            producer_epoch: i16::from_be_bytes(field(raw, 51)),
            base_sequence: not_negative(i32::from_be_bytes(field(raw, 53))),
        };
        check_offsets(base_offset, last_offset_delta)?;
        Ok(Self {
            base_offset,
            bytes: batch_bytes(i32::from_be_bytes(field(raw, 8)), HEADER_BYTES, "RecordBatch.BatchLength")?,
            partition_leader_epoch: not_negative(i32::from_be_bytes(field(raw, 12))),
            magic: 2,
            crc: u32::from_be_bytes(field(raw, 17)),
            attributes: Attributes(i16::from_be_bytes(field(raw, 21))),
            last_offset_delta,
            base_timestamp: i64::from_be_bytes(field(raw, 27)),
            max_timestamp: i64::from_be_bytes(field(raw, 35)),
            producer: (producer.producer_id >= 0).then_some(producer),
            record_count: u32::try_from(record_count).map_err(|_| {
                let reason = DecodeReason::NegativeLength(i64::from(record_count));
                DecodeError::new("RecordBatch.RecordCount", 57, reason)
            })?,
        })
    }

    /// The last offset that was written. `parse` has checked that it and the next offset do not overflow.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset + self.last_offset_delta as i64
    }

    /// The next offset to read after this batch, even if compaction removed its last records.
    pub const fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Whether it has control records.
    pub const fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// Whether it is part of a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Writes the header of a v2 batch.
    pub(super) fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        let stamp = self.producer.unwrap_or(ProducerStamp {
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: None,
        });
        let batch_length = (self.bytes - LENGTH_PREFIX_BYTES) as i32;
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.unwrap_or(-1).to_be_bytes());
        out[16] = self.magic;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&stamp.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&stamp.base_sequence.unwrap_or(-1).to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }
}

pub(crate) const MAGIC_AT: usize = 16;

/// The size of the whole batch, from its length field, which does not count itself and the base offset before it.
pub(crate) fn batch_bytes(length: i32, bytes_min: usize, field: &'static str) -> Result<usize, DecodeError> {
    let reason = match usize::try_from(length) {
        Ok(length) if length + LENGTH_PREFIX_BYTES >= bytes_min => return Ok(length + LENGTH_PREFIX_BYTES),
        Ok(_) => DecodeReason::Invalid("less than the fixed fields take"),
        Err(_) => DecodeReason::NegativeLength(i64::from(length)),
    };
    Err(DecodeError::new(field, 8, reason))
}

fn check_offsets(base_offset: i64, last_offset_delta: i32) -> Result<(), DecodeError> {
    check_offset(base_offset, "RecordBatch.BaseOffset")?;
    if last_offset_delta < 0 || base_offset >= i64::MAX - i64::from(last_offset_delta) {
        let reason = DecodeReason::Invalid("last offset is before the base offset or beyond 64 bits");
        return Err(DecodeError::new("RecordBatch.LastOffsetDelta", 23, reason));
    }
    Ok(())
}

/// Checks that there is a next offset, at which reading can continue.
pub(crate) fn check_offset(offset: i64, field: &'static str) -> Result<(), DecodeError> {
    if (0..i64::MAX).contains(&offset) {
        return Ok(());
    }
    Err(DecodeError::new(field, 0, DecodeReason::Invalid("offset is negative or the last that 64 bits have")))
}

pub(crate) fn truncated(bytes: &[u8], needed: usize) -> DecodeError {
    let reason = DecodeReason::Truncated { needed, remaining: bytes.len() };
    DecodeError::new("RecordBatch", 0, reason)
}

/// `N` bytes at `at`. With constant positions in an array the compiler removes all bounds checks.
#[inline(always)]
pub(crate) fn field<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn not_negative(value: i32) -> Option<i32> {
    (value >= 0).then_some(value)
}
