//! A segment in memory. Batches are copied once into runs of contiguous bytes, and read as slices of the runs.
//!
//! ```text
//!  runs:    [ batch batch batch ][ batch ][ batch batch ░░░░ ]   the last run is open: it grows until it is read
//!  batches:   ▲     ▲     ▲        ▲        ▲     ▲              one small entry each
//! ```
//!
//! Appending copies, because a small batch that is a slice of a large request frame would keep the whole frame in
//! memory. Reading seals the open run: its buffer is split without a copy. So a consumer at the end of the log gets
//! everything that was appended since its last fetch as one slice, and appending goes on in the rest of the same
//! buffer.

use bytes::{Bytes, BytesMut};

use super::Entry;

/// The capacity of a segment's first buffer. Most topics in tests hold less.
const CHUNK_BYTES_FIRST: usize = 16 * 1024;

/// Each buffer has twice the capacity of the one before, up to this one.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// If a slice is shorter than this, the runs after it are copied into one with it: small slices would make small
/// responses.
const JOIN_BELOW_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy)]
struct Batch {
    last_offset: i64,
    max_timestamp: i64,
    run: u32,
    start: u32,
    bytes: u32,
}

impl Batch {
    fn end(&self) -> usize {
        self.start as usize + self.bytes as usize
    }
}

/// A segment's batches in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryRuns {
    sealed: Vec<Bytes>,
    open: BytesMut,
    batches: Vec<Batch>,
    chunk_bytes: usize,
}

impl MemoryRuns {
    pub(super) fn append(&mut self, entry: &Entry<'_>) {
        let bytes = entry.head.len() + entry.records.len();
        if self.open.capacity() - self.open.len() < bytes {
            self.seal();
            self.chunk_bytes = (self.chunk_bytes * 2).clamp(CHUNK_BYTES_FIRST, CHUNK_BYTES_MAX);
            self.open = BytesMut::with_capacity(self.chunk_bytes.max(bytes));
        }
        self.batches.push(Batch {
            last_offset: entry.header.last_offset(),
            max_timestamp: entry.header.max_timestamp,
            run: self.sealed.len() as u32,
            start: self.open.len() as u32,
            bytes: bytes as u32,
        });
        self.open.extend_from_slice(&entry.head);
        self.open.extend_from_slice(entry.records);
    }

    pub(super) fn read(&mut self, offset: i64, bytes_max: usize, at_least_one: bool) -> Bytes {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let slice = self.slice(first, bytes_max, at_least_one);
        let next = first + self.count_in(first, slice.len());
        if slice.is_empty() || slice.len() >= JOIN_BELOW_BYTES || next == self.batches.len() {
            return slice;
        }
        self.join(slice, next, bytes_max)
    }

    /// The first batch that has `offset` or a later one, and whose greatest timestamp is at least `timestamp`.
    pub(super) fn batch_by_time(&mut self, timestamp: i64, offset: i64) -> Option<Bytes> {
        // Timestamps need not ascend, so this goes through all entries. They are small, and this is asked rarely.
        let reaches = |batch: &Batch| batch.max_timestamp >= timestamp && batch.last_offset >= offset;
        let index = self.batches.iter().position(reaches)?;
        Some(self.slice(index, 0, true))
    }

    /// Batches from the one with index `first` on, up to the end of its run.
    fn slice(&mut self, first: usize, bytes_max: usize, at_least_one: bool) -> Bytes {
        let Some(&batch) = self.batches.get(first) else { return Bytes::new() };
        if batch.run as usize == self.sealed.len() {
            self.seal();
        }
        let end_max = (batch.start as usize).saturating_add(bytes_max);
        let fits = |other: &Batch| other.run == batch.run && other.end() <= end_max;
        let count = self.batches[first..].partition_point(fits).max(usize::from(at_least_one));
        match count.checked_sub(1) {
            None => Bytes::new(),
            Some(last) => {
                self.sealed[batch.run as usize].slice(batch.start as usize..self.batches[first + last].end())
            }
        }
    }

    /// The number of batches from `first` on that make up `bytes`, all in one run.
    fn count_in(&self, first: usize, bytes: usize) -> usize {
        let Some(batch) = self.batches.get(first) else { return 0 };
        let end = batch.start as usize + bytes;
        self.batches[first..].partition_point(|other| other.run == batch.run && other.end() <= end)
    }

    fn join(&mut self, slice: Bytes, mut next: usize, bytes_max: usize) -> Bytes {
        let mut joined = BytesMut::from(slice);
        while joined.len() < JOIN_BELOW_BYTES {
            let room = bytes_max.saturating_sub(joined.len()).min(JOIN_BELOW_BYTES);
            let more = self.slice(next, room, false);
            if more.is_empty() {
                break;
            }
            next += self.count_in(next, more.len());
            joined.extend_from_slice(&more);
        }
        joined.freeze()
    }

    /// Ends the open run, so that it can be read. The next run uses the rest of its buffer.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, entry};
    use super::*;

    /// A log of ten-record batches, each of `bytes`, and the same bytes end to end.
    fn log(count: i64, bytes: usize) -> (MemoryRuns, Vec<u8>) {
        let (mut log, mut all) = (MemoryRuns::default(), Vec::new());
        for index in 0..count {
            let raw = batch(index * 10, 10, bytes, index);
            log.append(&entry(&raw));
            all.extend_from_slice(&raw);
        }
        (log, all)
    }

    #[test]
    fn a_read_is_whole_batches_from_the_one_that_holds_the_offset() {
        let (mut log, all) = log(20, 100);
        let table = [
            (0, 100, true, 0..100),
            (9, 199, true, 0..100),
            (10, 250, true, 100..300),
            (15, 99, true, 100..200),
            (15, 99, false, 0..0),
            (199, 9999, true, 1900..2000),
            (200, 9999, true, 0..0),
            (0, 9999, true, 0..2000),
        ];
        for (offset, bytes_max, at_least_one, expected) in table {
            assert_eq!(log.read(offset, bytes_max, at_least_one), all[expected], "{offset} {bytes_max}");
        }
    }

    #[test]
    fn a_reader_at_the_end_gets_what_came_since_without_a_copy() {
        let (mut log, mut all) = log(5, 1000);
        let first = log.read(0, usize::MAX, true);
        assert_eq!(first, all);
        for index in 5..9 {
            let raw = batch(index * 10, 10, 1000, 0);
            log.append(&entry(&raw));
            all.extend_from_slice(&raw);
        }
        let second = log.read(50, usize::MAX, true);
        assert_eq!(second, all[5000..]);
        assert_eq!(second.as_ptr() as usize, first.as_ptr() as usize + 5000, "the same buffer");
    }

    #[test]
    fn runs_cut_short_by_readers_are_joined_for_the_next_one() {
        let (mut log, mut all) = (MemoryRuns::default(), Vec::new());
        for index in 0..100 {
            let raw = batch(index * 10, 10, 1000, 0);
            log.append(&entry(&raw));
            log.read(index * 10, usize::MAX, true);
            all.extend_from_slice(&raw);
        }
        assert_eq!(log.read(0, usize::MAX, true), all[..66_000]);
        assert_eq!(log.read(100, 5500, true), all[10_000..15_000]);
        assert_eq!(log.read(995, 5500, true), all[99_000..]);
    }

    #[test]
    fn every_batch_is_found_whatever_its_size() {
        let (mut log, mut all, mut starts) = (MemoryRuns::default(), Vec::new(), Vec::new());
        for index in 0..200_i64 {
            let raw = batch(index, 1, 61 + (index as usize * 7919) % 50_000, 0);
            log.append(&entry(&raw));
            starts.push(all.len());
            all.extend_from_slice(&raw);
        }
        for (offset, &start) in starts.iter().enumerate() {
            let read = log.read(offset as i64, 150_000, true);
            assert!(!read.is_empty() && read.len() <= 150_000);
            assert_eq!(read, all[start..start + read.len()], "offset {offset}");
        }
    }

    #[test]
    fn time_finds_the_first_batch_that_reaches_it() {
        let (mut log, all) = log(20, 100);
        assert_eq!(log.batch_by_time(7, 0), Some(Bytes::copy_from_slice(&all[700..800])));
        assert_eq!(log.batch_by_time(7, 80), Some(Bytes::copy_from_slice(&all[800..900])));
        assert_eq!(log.batch_by_time(20, 0), None);
    }
}
