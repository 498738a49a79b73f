//! When a record was written, by its offset.
//!
//! The end of a partition at a time says that records below it were written before, and those from it on afterwards. Between two
//! such marks time is interpolated.

use std::time::Duration;

use super::window::Window;

/// How long ago the oldest record was written that a group has not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLag {
    /// The time, zero if there is no such record.
    pub time: Duration,
    /// The record is older than everything that is known of the partition, so it may be more.
    pub is_at_least: bool,
}

/// The end of a partition, and when it was seen first and last.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    end: i64,
    first_ms: i64,
    last_ms: i64,
}

/// More make it more exact for groups that are far behind. With 48 marks the type stays below 2 KiB.
const MARKS: usize = 48;

/// Ends of a partition with their times, ascending in both.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    marks: Window<Mark, MARKS>,
}

impl Times {
    /// The partition ended at `end` at this time.
    pub(super) fn see(&mut self, end: i64, at_ms: i64) {
        if let Some(last) = self.marks.last_mut() {
            if at_ms < last.last_ms {
                return;
            }
            if end == last.end {
                last.last_ms = at_ms;
                return;
            }
            // The topic was deleted and made again, or an unclean election lost records.
            if end < last.end {
                self.marks.clear();
            }
        }
        self.make_room(at_ms);
        self.marks.push(Mark { end, first_ms: at_ms, last_ms: at_ms });
    }

    /// A record with this offset has this timestamp. It is of use only below what is known already.
    pub(super) fn know(&mut self, offset: i64, timestamp_ms: i64) {
        let Some(oldest) = self.marks.items().first() else { return };
        if offset < oldest.end && timestamp_ms <= oldest.first_ms && timestamp_ms >= 0 {
            self.make_room(oldest.first_ms);
            self.marks.insert(0, Mark { end: offset, first_ms: timestamp_ms, last_ms: timestamp_ms });
        }
    }

    /// Removes the mark that is missed least: the one whose neighbours are close together for its age.
    fn make_room(&mut self, now_ms: i64) {
        if !self.marks.is_full() {
            return;
        }
        let error = |marks: &[Mark]| {
            let apart = marks[2].first_ms.saturating_sub(marks[0].last_ms) as f64;
            apart / now_ms.saturating_sub(marks[1].first_ms).max(1) as f64
        };
        let errors = self.marks.items().windows(3).map(error).enumerate();
        let least = errors.min_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(index, _)| index);
        self.marks.remove(least + 1);
    }

    /// How long before `now_ms` the record at `offset` was written, if anything is known of the partition.
    pub(super) fn ago(&self, offset: i64, now_ms: i64) -> Option<TimeLag> {
        let marks = self.marks.items();
        let after = marks.partition_point(|mark| mark.end <= offset);
        let time = |at_ms: i64| Duration::from_millis(now_ms.saturating_sub(at_ms).max(0).unsigned_abs());
        let Some(before) = after.checked_sub(1).map(|index| marks[index]) else {
            // It was there when the partition was seen first.
            return marks.first().map(|first| TimeLag { time: time(first.first_ms), is_at_least: true });
        };
        let Some(next) = marks.get(after) else {
            // It was not written when the partition was seen last.
            return Some(TimeLag::default());
        };
        let part = offset.abs_diff(before.end) as f64 / next.end.abs_diff(before.end) as f64;
        let between = next.first_ms.saturating_sub(before.last_ms) as f64 * part;
        Some(TimeLag { time: time(before.last_ms.saturating_add(between as i64)), is_at_least: false })
    }
}
