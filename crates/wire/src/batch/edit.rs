//! Changes a batch's header in place: the fields that a broker assigns on append, and those that a producer sets.

use super::crc;
use super::header::{Attributes, BatchHeader, CRC_FROM, HEADER_BYTES, ProducerStamp, TimestampType};
use crate::DecodeError;
use crate::DecodeReason;

/// A v2 record batch in mutable memory.
///
/// Each change corrects the checksum without reading the records. So a wrong checksum stays wrong.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, BatchHeader, BatchMut, TimestampType};
/// use milena_wire::pool::Pool;
///
/// let mut builder = BatchBuilder::new(&Pool::default());
/// builder.append(0, None, Some(b"value"), &[])?;
/// let mut log = builder.seal().into_bytes().to_vec();
///
/// let mut batch = BatchMut::new(&mut log)?;
/// batch.set_base_offset(1000);
/// batch.set_partition_leader_epoch(3);
/// batch.set_max_timestamp(TimestampType::LogAppendTime, 1_700_000_000_000);
/// let header = *batch.header();
/// assert_eq!(BatchHeader::parse(&log)?, header);
/// assert_eq!((header.base_offset, header.partition_leader_epoch), (1000, Some(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatchMut<'a> {
    head: &'a mut [u8; HEADER_BYTES],
    records: &'a [u8],
    header: BatchHeader,
}

impl<'a> BatchMut<'a> {
    /// The batch at the start of `bytes`. Bytes after it are not changed.
    ///
    /// # Errors
    /// When there is no whole v2 batch.
    pub fn new(bytes: &'a mut [u8]) -> Result<Self, DecodeError> {
        let header = BatchHeader::parse(bytes)?;
        if header.magic != 2 {
            let reason = DecodeReason::UnsupportedVersion(i16::from(header.magic));
            return Err(DecodeError::new("RecordBatch.Magic", super::header::MAGIC_AT, reason));
        }
        let remaining = bytes.len();
        let batch = bytes.get_mut(..header.bytes).ok_or_else(|| {
            let reason = DecodeReason::Truncated { needed: header.bytes, remaining };
            DecodeError::new("RecordBatch", 0, reason)
        })?;
        Ok(Self::over(batch, header))
    }

    /// The batch in `bytes`, which has this header.
    pub(super) fn over(bytes: &'a mut [u8], header: BatchHeader) -> Self {
        let (head, records) = bytes.split_first_chunk_mut().expect("a batch is at least its header");
        Self { head, records, header }
    }

    /// The header as it is now.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Sets the offset of the first record, and so of all. The checksum does not cover it.
    pub fn set_base_offset(&mut self, base_offset: i64) {
        debug_assert!(base_offset >= 0, "offsets are not negative");
        self.change(|header| header.base_offset = base_offset);
    }

    /// Sets the epoch of the leader that appends the batch. The checksum does not cover it.
    pub fn set_partition_leader_epoch(&mut self, epoch: i32) {
        self.change(|header| header.partition_leader_epoch = Some(epoch));
    }

    /// Sets the greatest timestamp and the type of timestamps. With [`TimestampType::LogAppendTime`] it is the timestamp of every
    /// record.
    pub fn set_max_timestamp(&mut self, timestamp_type: TimestampType, max_timestamp: i64) {
        self.change(|header| {
            header.attributes = header.attributes.with_timestamp_type(timestamp_type);
            header.max_timestamp = max_timestamp;
        });
    }

    /// Sets compression and flags.
    pub fn set_attributes(&mut self, attributes: Attributes) {
        self.change(|header| header.attributes = attributes);
    }

    /// Sets the producer's id, epoch and sequence.
    pub fn set_producer(&mut self, producer: Option<ProducerStamp>) {
        self.change(|header| header.producer = producer);
    }

    /// Computes the checksum from all the bytes it covers.
    pub(super) fn compute_crc(&mut self) {
        self.header.crc = crc32c::crc32c_append(crc32c::crc32c(&self.head[CRC_FROM..]), self.records);
        self.header.write(self.head);
    }

    fn change(&mut self, change: impl FnOnce(&mut BatchHeader)) {
        let old = *self.head;
        change(&mut self.header);
        self.header.write(self.head);
        let (old, new) = (&old[CRC_FROM..], &self.head[CRC_FROM..]);
        if old != new {
            self.header.crc = crc::exchange_head(self.header.crc, old, new, self.records.len());
            self.header.write(self.head);
        }
    }
}
