//! The sparse indexes of a segment, from offset to position and from time to offset, in the form of Kafka's files.
//!
//! Both come from the segment and are rebuilt when it is opened. The files are written for Kafka's tools, when a
//! segment is rolled or closed; this broker does not read them.

use std::io;
use std::path::Path;

use super::file;

/// There is one entry for at least this many bytes of log (`index.interval.bytes`).
pub(super) const INDEX_INTERVAL_BYTES: u64 = 4096;

/// The indexes of one segment.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The last offset of a batch, relative to the segment's base offset, and the position of the batch.
    offsets: Vec<(u32, u32)>,
    /// The greatest timestamp so far, and the relative last offset of the batch that has it. Both ascend.
    times: Vec<(i64, u32)>,
    /// The position of the batch after which the last entry was made.
    indexed_to: u64,
    max_timestamp: Option<(i64, u32)>,
}

impl Index {
    /// Notes a batch at `position`.
    pub(super) fn note(&mut self, last_offset: u32, timestamp: i64, position: u64) {
        if self.max_timestamp.is_none_or(|(max, _)| timestamp > max) {
            self.max_timestamp = Some((timestamp, last_offset));
        }
        if position - self.indexed_to > INDEX_INTERVAL_BYTES {
            self.indexed_to = position;
            self.offsets.push((last_offset, position as u32));
            self.note_time();
        }
    }

    /// A position that is not after the batch with the relative `offset`.
    pub(super) fn position_before(&self, offset: u32) -> u64 {
        let after = self.offsets.partition_point(|&(last_offset, _)| last_offset <= offset);
        after.checked_sub(1).map_or(0, |index| u64::from(self.offsets[index].1))
    }

    /// A position that is not after the first batch whose greatest timestamp is at least `timestamp`.
    pub(super) fn position_before_time(&self, timestamp: i64) -> u64 {
        let after = self.times.partition_point(|&(time, _)| time < timestamp);
        after.checked_sub(1).map_or(0, |index| self.position_before(self.times[index].1))
    }

    /// Writes `<base>.index` and `<base>.timeindex` beside the segment at `log_path`. A crash may lose them.
    pub(super) fn write_files(&mut self, log_path: &Path) -> io::Result<()> {
        self.note_time();
        let mut bytes = Vec::with_capacity(self.offsets.len() * 8);
        for (offset, position) in &self.offsets {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        file::replace_derived(&log_path.with_extension("index"), &bytes)?;
        bytes.clear();
        for (timestamp, offset) in &self.times {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&offset.to_be_bytes());
        }
        file::replace_derived(&log_path.with_extension("timeindex"), &bytes)
    }

    fn note_time(&mut self) {
        if let Some((timestamp, offset)) = self.max_timestamp
            && self.times.last().is_none_or(|&(time, _)| timestamp > time)
        {
            self.times.push((timestamp, offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_never_land_behind_what_they_look_for() {
        let mut index = Index::default();
        let batches: Vec<(u32, i64, u64)> = (0..500)
            .map(|n| (n * 3 + 2, 1000 + i64::from(n * 37 % 101) + i64::from(n), u64::from(n) * 700))
            .collect();
        for &(last_offset, timestamp, position) in &batches {
            index.note(last_offset, timestamp, position);
        }
        for &(last_offset, timestamp, position) in &batches {
            for offset in last_offset - 2..=last_offset {
                let found = index.position_before(offset);
                assert!(found <= position && position - found <= INDEX_INTERVAL_BYTES + 1400, "{offset}");
            }
            let first = batches.iter().find(|batch| batch.1 >= timestamp).expect("itself");
            assert!(index.position_before_time(timestamp) <= first.2, "time {timestamp}");
        }
    }
}
