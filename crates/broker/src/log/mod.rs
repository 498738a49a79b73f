//! A partition's log: record batches by offset, in memory or in segment files.
//!
//! ```text
//!  Entry (stamped header + records) ─▶ append ─▶ memory: runs of contiguous batches
//!                                             └▶ disk:   00000000000000000000.log .index .timeindex
//!  read(offset, bytes) ─▶ whole batches, one contiguous slice
//! ```
//!
//! It owns offsets and bytes. It must not know requests, producers, leaders or time. Its callers pass valid batches
//! only.

mod disk;
pub(crate) mod epoch_checkpoint;
pub(crate) mod file;
mod index;
mod memory;
mod segment;

use std::io;

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};

pub(crate) use disk::{DiskLog, OpenError};
pub(crate) use memory::MemoryLog;

/// A batch to be appended: its header, in which offset, epoch and time are set already, and its records.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The parsed form of `head`.
    pub(crate) header: BatchHeader,
    /// The bytes of the header.
    pub(crate) head: [u8; HEADER_BYTES],
    /// Everything after the header.
    pub(crate) records: &'a [u8],
}

/// A log in memory or on disk.
#[derive(Debug)]
pub(crate) enum Log {
    Memory(MemoryLog),
    Disk(DiskLog),
}

impl Log {
    /// The offset of the first record, or of the first one that will be there.
    pub(crate) fn start(&self) -> i64 {
        match self {
            Self::Memory(_) => 0,
            Self::Disk(log) => log.start(),
        }
    }

    /// The offset that the next record will get.
    pub(crate) fn end(&self) -> i64 {
        match self {
            Self::Memory(log) => log.end(),
            Self::Disk(log) => log.end(),
        }
    }

    /// Appends a batch whose base offset is [`end`](Self::end).
    ///
    /// # Errors
    /// When the disk fails. Then the log is as it was before.
    pub(crate) fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        debug_assert_eq!(entry.header.base_offset, self.end(), "offsets leave no gap");
        match self {
            Self::Memory(log) => {
                log.append(entry);
                Ok(())
            }
            Self::Disk(log) => log.append(entry),
        }
    }

    /// Whole batches from the one that contains `offset` on, at most `bytes_max` bytes of them. With `at_least_one` the
    /// first batch is read even if it is larger (KIP-74). Empty at the end of the log.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn read(&mut self, offset: i64, bytes_max: usize, at_least_one: bool) -> io::Result<Bytes> {
        match self {
            Self::Memory(log) => Ok(log.read(offset, bytes_max, at_least_one)),
            Self::Disk(log) => log.read(offset, bytes_max, at_least_one),
        }
    }

    /// The first batch whose greatest timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn batch_by_time(&mut self, timestamp: i64) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(log) => Ok(log.batch_by_time(timestamp)),
            Self::Disk(log) => log.batch_by_time(timestamp),
        }
    }

    /// The greatest timestamp of all records.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        match self {
            Self::Memory(log) => log.max_timestamp(),
            Self::Disk(log) => log.max_timestamp(),
        }
    }

    /// The bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(log) => log.bytes(),
            Self::Disk(log) => log.bytes(),
        }
    }
}

/// The length of the whole batches at the start of `bytes` that fit into `bytes_max`. With `at_least_one` the first
/// batch counts even if it does not fit, as long as it is whole.
fn whole_batches(bytes: &[u8], bytes_max: usize, at_least_one: bool) -> usize {
    let mut end = 0;
    while let Some(size) = batch_bytes_at(&bytes[end..]) {
        let next = end + size;
        if next > bytes.len() || next > bytes_max && !(at_least_one && end == 0) {
            break;
        }
        end = next;
    }
    end
}

/// Those of the batches in `bytes` that have no record at the offset `end` or after it.
pub(crate) fn batches_before(bytes: &Bytes, end: i64) -> Bytes {
    let mut before = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[before..])
        && header.next_offset() <= end
    {
        before += header.bytes;
    }
    bytes.slice(..before)
}

/// The size of the batch at the start of `bytes`, by its length field. The log has valid batches only.
fn batch_bytes_at(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
    Some(i32::from_be_bytes(length) as usize + 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_reach_beyond_an_offset_are_left_out() {
        let bytes = Bytes::from([testing::batch(10, 10, 100, 0), testing::batch(20, 10, 150, 0)].concat());
        for (end, expected) in [(19, 0), (20, 100), (29, 100), (30, 250), (99, 250)] {
            assert_eq!(batches_before(&bytes, end), bytes[..expected], "before {end}");
        }
        assert_eq!(batches_before(&Bytes::new(), 7), Bytes::new());
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Batches for the tests of logs. Their headers are valid; their records are not, and are never read.

    use super::{BatchHeader, HEADER_BYTES};

    /// A batch of `count` records in `bytes` bytes at `base_offset`, with a correct checksum.
    pub(crate) fn batch(base_offset: i64, count: i32, bytes: usize, timestamp: i64) -> Vec<u8> {
        let mut raw = vec![0_u8; bytes.max(HEADER_BYTES)];
        for (index, byte) in raw.iter_mut().enumerate().skip(HEADER_BYTES) {
            *byte = (base_offset as u8).wrapping_add(index as u8);
        }
        let length = (raw.len() - 12) as i32;
        raw[0..8].copy_from_slice(&base_offset.to_be_bytes());
        raw[8..12].copy_from_slice(&length.to_be_bytes());
        raw[16] = 2;
        raw[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        raw[27..35].copy_from_slice(&timestamp.to_be_bytes());
        raw[35..43].copy_from_slice(&timestamp.to_be_bytes());
        raw[43..51].copy_from_slice(&(-1_i64).to_be_bytes());
        raw[51..57].copy_from_slice(&[0xff; 6]);
        raw[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&raw[21..]);
        raw[17..21].copy_from_slice(&crc.to_be_bytes());
        raw
    }

    /// The batch in the form in which a log takes it.
    pub(crate) fn entry(raw: &[u8]) -> super::Entry<'_> {
        let head: [u8; HEADER_BYTES] = *raw.first_chunk().expect("a header");
        let header = BatchHeader::parse(&head).expect("valid");
        super::Entry { header, head, records: &raw[HEADER_BYTES..] }
    }
}
