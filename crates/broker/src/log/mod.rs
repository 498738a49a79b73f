//! A partition's log: record batches by offset, in segments, which are in memory or in files.
//!
//! ```text
//!  Entry (stamped header + records) ─▶ append ─▶ the last segment │ a new one when that is full or old
//!  read(offset, bytes) ─▶ whole batches of one segment, one contiguous slice
//!  retain, delete_to   ─▶ the first segments go; the log starts later
//!  replace             ─▶ compacted segments take the place of others; offsets have gaps
//!
//!  orders-0/  00000000000000000000.log .index .timeindex
//!             00000000000000104214.log                      the last one takes the appends
//!             leader-epoch-checkpoint  log-start-offset-checkpoint  cleaner-offset-checkpoint
//!             partition.metadata
//! ```
//!
//! It owns offsets and bytes. It must not know requests, producers, leaders or a clock. Its callers pass valid batches
//! only.
//!
//! On disk, appends are as durable as Kafka's. An acknowledged one is in the page cache: `kill -9` of the process loses
//! nothing, and a power cut may lose what the system had not written yet. [`Log::flush`] makes everything durable.

pub(crate) mod checkpoint;
mod compaction;
mod disk;
pub(crate) mod file;
mod index;
mod memory;
mod retention;
mod rewrite;
mod segment;
mod segment_file;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, Batches, HEADER_BYTES};

pub(crate) use compaction::{Compaction, Dirty, Group, Replacement};
pub(crate) use disk::OpenError;
pub(crate) use retention::Retention;
pub(crate) use rewrite::{Keys, Left, Passed, Rewriter, Terms};
use segment::Segment;

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

/// Sees a batch while a log is opened: its header, and all bytes of it if it is a control batch.
pub(crate) type Visit<'a> = dyn FnMut(&BatchHeader, &[u8]) + 'a;

/// When a new segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roll {
    /// `segment.bytes`.
    pub(crate) bytes_max: u64,
    /// `segment.ms`, from the first batch's timestamp to that of the next one.
    pub(crate) span_max_ms: i64,
}

/// A partition's log.
#[derive(Debug)]
pub(crate) struct Log {
    /// The directory of its files, if it is on disk.
    dir: Option<PathBuf>,
    /// In ascending order, and never empty.
    segments: Vec<Segment>,
    /// The offset before which nothing can be read, though the first segment may have it still.
    start: i64,
    /// The offset up to which it is compacted.
    cleaned_to: i64,
}

impl Log {
    /// An empty log in memory.
    pub(crate) fn in_memory() -> Self {
        Self { dir: None, segments: vec![Segment::in_memory(0)], start: 0, cleaned_to: 0 }
    }

    /// The directory of its files, if it is on disk.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The offset of the first record that can be read, or of the first one that will be there.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record will get.
    pub(crate) fn end(&self) -> i64 {
        self.active().end()
    }

    /// The bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// The greatest timestamp of all records.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.segments.iter().filter_map(Segment::max_timestamp).max()
    }

    /// Appends a batch, whose base offset is [`end`](Self::end), at `now_ms`.
    ///
    /// # Errors
    /// When the disk fails. Then the log is as it was before.
    pub(crate) fn append(&mut self, entry: &Entry<'_>, roll: Roll, now_ms: i64) -> io::Result<()> {
        debug_assert_eq!(entry.header.base_offset, self.end(), "the next offset");
        let bytes = (HEADER_BYTES + entry.records.len()) as u64;
        let active = self.active();
        let is_full = active.bytes() + bytes > roll.bytes_max
            || active.span_ms(entry.header.max_timestamp, now_ms) > roll.span_max_ms;
        if active.bytes() > 0 && is_full || !active.can_address(entry.header.last_offset()) {
            self.roll()?;
        }
        self.active_mut().append(entry, now_ms)
    }

    /// Whole batches from the one that contains `offset` on, at most `bytes_max` bytes of them. With `at_least_one` the
    /// first batch is read even if it is larger (KIP-74). Empty at the end of the log.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn read(&mut self, offset: i64, bytes_max: usize, at_least_one: bool) -> io::Result<Bytes> {
        let after = self.segments.partition_point(|segment| segment.base_offset() <= offset);
        // If the offset lies in a gap at the end of a segment, a later segment has the first batch after it. Compaction may
        // leave a segment without batches in between.
        for segment in &mut self.segments[after.saturating_sub(1)..] {
            if segment.bytes() > 0 && segment.end() > offset {
                return segment.read(offset, bytes_max, at_least_one);
            }
        }
        Ok(Bytes::new())
    }

    /// The first batch that has `offset` or a later one, and whose greatest timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn batch_by_time(&mut self, timestamp: i64, offset: i64) -> io::Result<Option<Bytes>> {
        for segment in &mut self.segments {
            if segment.end() <= offset || segment.max_timestamp().is_none_or(|max| max < timestamp) {
                continue;
            }
            if let Some(found) = segment.batch_by_time(timestamp, offset)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes the batches away that reach beyond `end`, from a log in memory that has that offset.
    pub(crate) fn cut_off(&mut self, end: i64, now_ms: i64) -> io::Result<()> {
        debug_assert!(self.dir.is_none() && (self.start..=self.end()).contains(&end), "cut off at {end}");
        let cut = self.segments.partition_point(|segment| segment.base_offset() < end).saturating_sub(1);
        let mut old = self.segments.split_off(cut).into_iter();
        let Some(mut old) = old.next() else { return Ok(()) };
        let mut kept = Segment::in_memory(old.base_offset());
        loop {
            let read = batches_before(&old.read(kept.end(), usize::MAX, true)?, end);
            for batch in Batches::new(read.clone()).filter_map(Result::ok) {
                let bytes = batch.bytes();
                let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { continue };
                let entry = Entry { header: batch.header, head: *head, records: &bytes[HEADER_BYTES..] };
                kept.append(&entry, now_ms)?;
            }
            if read.is_empty() {
                break;
            }
        }
        self.segments.push(kept);
        self.cleaned_to = self.cleaned_to.min(self.end());
        Ok(())
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a log has at least one segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has at least one segment")
    }

    /// Begins a new segment.
    fn roll(&mut self) -> io::Result<()> {
        let next = match &self.dir {
            None => Segment::in_memory(self.end()),
            Some(dir) => disk::create_segment(dir, self.end())?,
        };
        if let Some(file) = self.active_mut().file() {
            file.write_index()?;
        }
        self.segments.push(next);
        Ok(())
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
