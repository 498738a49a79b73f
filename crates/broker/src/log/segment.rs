//! A segment of a log: batches that follow each other, kept or deleted as one.
//!
//! Retention, compaction and the choice of the segment for an offset are the same in memory and on disk, so what they
//! need to know of a segment is here. Only the bytes are in different places.

use std::io;

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};

use super::Entry;
use super::memory::MemoryRuns;
use super::segment_file::SegmentFile;

/// A segment of a log.
#[derive(Debug)]
pub(super) struct Segment {
    base_offset: i64,
    end: i64,
    bytes: u64,
    times: Times,
    store: Store,
}

/// The place of a segment's bytes.
#[derive(Debug)]
enum Store {
    Memory(MemoryRuns),
    File(SegmentFile),
}

/// The times of a segment, in milliseconds since 1970.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    /// The greatest timestamp of the first batch. `segment.ms` counts from it, as in Kafka.
    first_batch: Option<i64>,
    greatest: Option<i64>,
    /// When the first and the last batch was appended since the broker started. They stand for timestamps where
    /// producers set none.
    appended: Option<(i64, i64)>,
}

impl Segment {
    /// An empty segment in memory.
    pub(super) fn in_memory(base_offset: i64) -> Self {
        Self::new(base_offset, Store::Memory(MemoryRuns::default()))
    }

    /// An empty segment in a new file.
    pub(super) fn in_file(base_offset: i64, file: SegmentFile) -> Self {
        Self::new(base_offset, Store::File(file))
    }

    fn new(base_offset: i64, store: Store) -> Self {
        Self { base_offset, end: base_offset, bytes: 0, times: Times::default(), store }
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset after its last batch.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The greatest timestamp of its records.
    pub(super) fn max_timestamp(&self) -> Option<i64> {
        self.times.greatest
    }

    /// The time by which its age is judged. `None` when no record has a timestamp, and when it was last written to
    /// before the broker started.
    pub(super) fn newest_ms(&self) -> Option<i64> {
        let appended = self.times.appended.map(|(_, last)| last);
        self.times.greatest.filter(|&time| time >= 0).or(appended)
    }

    /// The file with its bytes, if it is on disk.
    pub(super) fn file(&mut self) -> Option<&mut SegmentFile> {
        match &mut self.store {
            Store::Memory(_) => None,
            Store::File(file) => Some(file),
        }
    }

    /// Whether a batch that ends at `last_offset` can be in this segment: indexes have 32 bits for an offset.
    pub(super) fn can_address(&self, last_offset: i64) -> bool {
        last_offset - self.base_offset < i64::from(i32::MAX)
    }

    /// The time from its first batch to a batch with this timestamp that arrives at `now_ms`.
    pub(super) fn span_ms(&self, timestamp: i64, now_ms: i64) -> i64 {
        match (self.times.first_batch, self.times.appended) {
            (Some(first @ 0..), _) => timestamp.saturating_sub(first),
            (_, Some((first, _))) => now_ms.saturating_sub(first),
            _ => 0,
        }
    }

    /// The greatest timestamp of its first batch.
    pub(super) fn first_timestamp(&self) -> Option<i64> {
        self.times.first_batch
    }

    /// Is as old as `other`, where its records have no timestamps.
    pub(super) fn take_age(&mut self, other: &Self) {
        self.times.appended = other.times.appended;
    }

    /// Appends a batch at `now_ms`.
    pub(super) fn append(&mut self, entry: &Entry<'_>, now_ms: i64) -> io::Result<()> {
        self.write(entry)?;
        let first = self.times.appended.map_or(now_ms, |(first, _)| first);
        self.times.appended = Some((first, now_ms));
        Ok(())
    }

    /// Appends a batch that another segment had before.
    pub(super) fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        match &mut self.store {
            Store::Memory(runs) => runs.append(entry),
            Store::File(file) => file.append(entry, self.bytes)?,
        }
        self.note(&entry.header, HEADER_BYTES + entry.records.len());
        Ok(())
    }

    /// Notes a batch that is the next one in the store.
    pub(super) fn note(&mut self, header: &BatchHeader, bytes: usize) {
        if let Store::File(file) = &mut self.store {
            let relative = (header.last_offset() - self.base_offset) as u32;
            file.note(relative, header.max_timestamp, self.bytes);
        }
        self.times.first_batch.get_or_insert(header.max_timestamp);
        self.times.greatest = self.times.greatest.max(Some(header.max_timestamp));
        self.bytes += bytes as u64;
        self.end = header.next_offset();
    }

    /// Whole batches from the one that contains `offset` on; see [`Log::read`](super::Log::read).
    pub(super) fn read(&mut self, offset: i64, bytes_max: usize, at_least_one: bool) -> io::Result<Bytes> {
        match &mut self.store {
            Store::Memory(runs) => Ok(runs.read(offset, bytes_max, at_least_one)),
            Store::File(file) => {
                let relative = (offset - self.base_offset).max(0) as u32;
                file.read(offset, relative, self.bytes, bytes_max, at_least_one)
            }
        }
    }

    /// The first batch that has `offset` or a later one, and whose greatest timestamp is at least `timestamp`.
    pub(super) fn batch_by_time(&mut self, timestamp: i64, offset: i64) -> io::Result<Option<Bytes>> {
        match &mut self.store {
            Store::Memory(runs) => Ok(runs.batch_by_time(timestamp, offset)),
            Store::File(file) => file.batch_by_time(timestamp, offset, self.bytes),
        }
    }
}
