//! How a log loses its oldest records: by age, by size, and by command.
//!
//! ```text
//!  [ segment ][ segment ][ segment ][ active ]
//!      ▲          ▲ start: nothing before it can be read
//!      └ removed as a whole, once all of it is before the start, too old, or more than the log may have
//! ```
//!
//! As in Kafka a segment goes as a whole, so that a log keeps more than its limits say.

use std::io;

use super::{Log, Segment, checkpoint, disk};

/// How much of a log is kept (`cleanup.policy=delete`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// `retention.ms`.
    pub(crate) age_max_ms: Option<i64>,
    /// `retention.bytes`.
    pub(crate) bytes_max: Option<u64>,
}

impl Log {
    /// Removes the segments that are before the start, and those that `retention` does not keep at `now_ms`. `None`
    /// keeps all records. Returns whether the log starts later now.
    ///
    /// # Errors
    /// When the disk fails. Then fewer segments are removed, and the log can be read all the same.
    pub(crate) fn retain(&mut self, retention: Option<Retention>, now_ms: i64) -> io::Result<bool> {
        let start = self.start;
        let mut starts_later = self.remove_while(|_, next| next.is_some_and(|next| next <= start))?;
        let Some(Retention { age_max_ms, bytes_max }) = retention else { return Ok(starts_later) };
        if let Some(mut surplus) = bytes_max.and_then(|bytes_max| self.bytes().checked_sub(bytes_max)) {
            starts_later |= self.remove_while(|segment, _| {
                let is_surplus = segment.bytes() <= surplus;
                surplus = surplus.saturating_sub(segment.bytes());
                is_surplus
            })?;
        }
        if let Some(age_max_ms) = age_max_ms {
            let is_old = |newest: i64| now_ms.saturating_sub(newest) > age_max_ms;
            starts_later |= self.remove_while(|segment, _| segment.newest_ms().is_some_and(is_old))?;
        }
        Ok(starts_later)
    }

    /// Has the log start at `offset`, if it starts earlier. Returns whether it did. The segments before it are removed
    /// by the next [`retain`](Self::retain).
    ///
    /// # Errors
    /// When the disk fails. Then the log starts where it did.
    pub(crate) fn delete_to(&mut self, offset: i64) -> io::Result<bool> {
        debug_assert!(offset <= self.end());
        if offset <= self.start {
            return Ok(false);
        }
        if let Some(dir) = &self.dir {
            checkpoint::write_log_start(dir, offset)?;
        }
        self.start = offset;
        Ok(true)
    }

    /// Removes the first segments as long as they are `wanted` gone, by the segment and the next one's base offset.
    /// Returns whether the log starts later now.
    fn remove_while(&mut self, mut wanted: impl FnMut(&Segment, Option<i64>) -> bool) -> io::Result<bool> {
        let mut count = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(index + 1).map(Segment::base_offset);
            let is_empty_last = next.is_none() && segment.bytes() == 0;
            if is_empty_last || !wanted(segment, next) {
                break;
            }
            count += 1;
        }
        if count == self.segments.len() {
            self.roll()?;
        }
        // The oldest file goes first: a crash in between leaves a log without a hole.
        for _ in 0..count {
            if let Some(dir) = &self.dir {
                disk::remove_segment(dir, self.segments[0].base_offset())?;
            }
            self.segments.remove(0);
        }
        let before = self.start;
        self.start = before.max(self.segments[0].base_offset());
        Ok(self.start > before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, entry};
    use super::super::{Log, Roll};
    use super::*;

    const ROLL: Roll = Roll { bytes_max: 500, span_max_ms: 1000 };

    /// Batches of ten records in 100 bytes, one every 100 ms; five to a segment.
    fn fill(log: &mut Log, count: i64) {
        for _ in 0..count {
            let end = log.end();
            log.append(&entry(&batch(end, 10, 100, end * 10)), ROLL, end * 10).expect("appended");
        }
    }

    /// The same log in memory and on disk, and the directory of the latter.
    fn logs() -> (Vec<Log>, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let on_disk = Log::create(dir.path()).expect("created");
        (vec![Log::in_memory(), on_disk], dir)
    }

    fn retention(age_max_ms: Option<i64>, bytes_max: Option<u64>) -> Option<Retention> {
        Some(Retention { age_max_ms, bytes_max })
    }

    #[test]
    fn whole_segments_go_by_age_by_size_and_by_command() {
        // 20 batches in four segments: offsets 0, 50, 100, 150; greatest timestamps 400, 900, 1400, 1900.
        let table = [
            ("nothing is limited", None, 0, 0, 0),
            ("none is too old", retention(Some(1500), None), 1900, 0, 0),
            ("one is too old", retention(Some(1500), None), 1901, 0, 50),
            ("three are too old", retention(Some(0), None), 1900, 0, 150),
            ("all are too old", retention(Some(0), None), 1901, 0, 200),
            ("the size is less than one segment above", retention(None, Some(1501)), 0, 0, 0),
            ("the size is one segment above", retention(None, Some(1500)), 0, 0, 50),
            ("the size is two segments above", retention(None, Some(700)), 0, 0, 100),
            ("nothing may be kept", retention(None, Some(0)), 0, 0, 200),
            ("by command, inside a segment", None, 0, 70, 70),
            ("by command, to a segment's start", None, 0, 100, 100),
            ("by command, and too old", retention(Some(1000), None), 1901, 70, 100),
            ("by command, all", None, 0, 200, 200),
        ];
        for (what, retention, now_ms, delete_to, start) in table {
            let (logs, _dir) = logs();
            for mut log in logs {
                fill(&mut log, 20);
                log.delete_to(delete_to).expect("deleted");
                log.retain(retention, now_ms).expect("retained");
                assert_eq!((log.start(), log.end()), (start, 200), "{what}, {log:?}");
                let kept = log.segments[0].base_offset();
                assert!(
                    kept <= start && start - kept <= 50,
                    "{what}: all segments before that of the start are gone"
                );
                fill(&mut log, 1);
                assert_eq!(log.read(200, 1000, true).expect("read").len(), 100, "{what}");
            }
        }
    }

    #[test]
    fn a_segment_begins_when_the_last_one_is_full_or_spans_too_long() {
        let bases = |log: &Log| log.segments.iter().map(Segment::base_offset).collect::<Vec<_>>();
        let (logs, _dir) = logs();
        for mut log in logs {
            for (timestamp, segments) in
                [(0, 1), (1000, 1), (1001, 2), (500, 2), (2001, 2), (2002, 3), (-1, 3)]
            {
                let end = log.end();
                log.append(&entry(&batch(end, 1, 100, timestamp)), ROLL, 0).expect("appended");
                assert_eq!(log.segments.len(), segments, "at {timestamp}: {:?}", bases(&log));
            }
            log.roll().expect("rolled");
            // Without timestamps the time of the append counts.
            for (now_ms, segments) in [(10_000, 4), (11_000, 4), (11_001, 5)] {
                let end = log.end();
                log.append(&entry(&batch(end, 1, 100, -1)), ROLL, now_ms).expect("appended");
                assert_eq!(log.segments.len(), segments, "at {now_ms}: {:?}", bases(&log));
            }
        }
    }

    #[test]
    fn a_log_on_disk_starts_where_it_did_when_it_is_opened_again() {
        for (delete_to, retention, start) in
            [(70, None, 70), (0, retention(None, Some(700)), 100), (120, retention(None, Some(700)), 120)]
        {
            let (mut logs, dir) = logs();
            let mut log = logs.pop().expect("on disk");
            fill(&mut log, 20);
            log.delete_to(delete_to).expect("deleted");
            log.retain(retention, 0).expect("retained");
            let bytes = log.bytes();
            drop(log);
            let log = Log::open(dir.path(), 0, &mut |_, _| {}).expect("opened");
            assert_eq!((log.start(), log.end(), log.bytes()), (start, 200, bytes));
        }
        let (mut logs, dir) = logs();
        let mut log = logs.pop().expect("on disk");
        fill(&mut log, 20);
        log.retain(retention(Some(0), None), 9999).expect("retained");
        drop(log);
        let log = Log::open(dir.path(), 0, &mut |_, _| {}).expect("opened");
        assert_eq!((log.start(), log.end(), log.bytes()), (200, 200, 0), "an empty log keeps its offsets");
    }
}
