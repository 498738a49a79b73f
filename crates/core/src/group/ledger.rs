//! What was delivered of one partition, what of it is done, and the offset that may be committed.
//!
//! ```text
//!  offset   0 ········ 40 ──── 55 ── 60 ─────── 80 ── 90 ─────── 120
//!           committable ▲   (open) │ run │ (open) │ run │  (open)  ▲ delivered
//! ```
//!
//! Every offset below `committable` is finished: its record is done, or there is no record at it. Above it, the finished
//! offsets are kept as runs, so that memory follows the number of holes between unfinished records, not the number of records.
//!
//! This must not know requests, members or time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::finished::bits_at_most;
use crate::LeaderEpoch;
use crate::source::Epoch;

/// The account of one partition, from the position at which reading began.
///
/// # Inputs
///
/// Of each batch, in the order in which they are delivered: [`handle_delivered`](Self::handle_delivered). If the batch lacks
/// offsets that compaction removed, and single records of it will be marked, [`handle_hole`](Self::handle_hole) for each
/// stretch without records. A batch that is marked as a whole needs none.
/// [`handle_passed`](Self::handle_passed) where reading goes on after control batches, aborted transactions and batches that
/// compaction emptied.
///
/// [`handle_done`](Self::handle_done) marks offsets as done, in any order and any number of times.
///
/// [`restore`](Self::restore) tells what was finished by an earlier owner of the partition. It counts when it is delivered or passed.
///
/// Every input carries the [`Epoch`] of the assignment or seek that it belongs to. After [`resume`](Self::resume) marks of the
/// epochs before count below the position, because the application may still work on what it has. Any other input of an older
/// epoch changes nothing.
///
/// # Between calls
///
/// [`committable`](Self::committable) falls only when reading goes on at an earlier offset, and is never above an offset that was
/// delivered and is not finished. No two runs overlap or touch, and each begins above `committable`.
///
/// # Cost
///
/// A mark takes constant time if it begins at or below `committable`, as it does when work is finished in order; a run that
/// is reached by it is removed once. Any other mark takes the logarithm of the number of runs.
#[derive(Debug, Clone)]
pub struct Ledger {
    epoch: Epoch,
    is_before_delivery: bool,
    /// All below it is finished.
    finished: i64,
    /// The offset after the last one that was delivered or passed.
    delivered: i64,
    /// Finished offsets above `finished`: from each key up to, not including, its value.
    runs: BTreeMap<i64, i64>,
    /// The number of offsets in `runs`.
    runs_offsets: i64,
    /// Rises when offsets above `finished` are marked or are finished no more.
    runs_version: u64,
    /// The offset after the last one that was marked: all below it was handed out.
    marked: i64,
    /// What an earlier owner has finished, ascending.
    restored: Restored,
    /// Those of `restored` before this index end at or below `delivered`.
    restored_next: usize,
    /// The leader epoch of the last record below `finished`.
    leader_epoch: Option<LeaderEpoch>,
    /// Where a batch with another leader epoch than the one before it begins, at or above `finished`.
    leaders: VecDeque<(i64, Option<LeaderEpoch>)>,
    /// The first epoch whose marks may count.
    first_epoch: Epoch,
    /// Whether anything was delivered in this epoch.
    has_delivered: bool,
    /// Epochs before this one of which records are unfinished, and the offset below which marks of each count. An epoch that is
    /// not listed has the limit of the next one that is. Later epochs have higher limits.
    earlier: Vec<(Epoch, i64)>,
}

/// Finished offsets that are shared with those who hand out batches. Each batch has a pointer to them, which is to be small.
pub type Restored = Arc<Vec<Range<i64>>>;

/// An offset to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committable {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record before it (KIP-320). None if that is not known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What a mark did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// At least one offset of it was unfinished and is finished now.
    New,
    /// All of it was finished before.
    Already,
    /// It belongs to an older assignment, or to records that are delivered again after a seek. It had no effect.
    Stale,
    /// Part of it was never delivered in this epoch. It had no effect: a mark like this comes from a computed offset, and
    /// to believe any of it could commit records that were not read.
    NotDelivered,
}

/// A partition whose ledger holds this many runs gets no more batches until some are joined: every run stands for an
/// unfinished record that blocks the offset. Together they take about 3 MB.
pub const RUNS_MAX: usize = 65_536;
/// Offsets without records that would make more runs than this count as unfinished. It is more than [`RUNS_MAX`], because
/// batches may be in their queue when the partition is closed.
const RUNS_KEPT_MAX: usize = 2 * RUNS_MAX;
/// After more seeks than this, before each of which records were delivered and not finished, the oldest ones count no more.
const EARLIER_MAX: usize = 1_024;
/// Leaders change rarely, so more changes than this among unfinished records are a broker's fault.
const LEADERS_MAX: usize = 1_024;

impl Ledger {
    /// A ledger of a partition that is read from `position`. `leader_epoch` is the one that was committed with the position,
    /// if it is a committed offset. `is_before_delivery`: batches count as done when they are delivered, so that an offset is
    /// committed before the application sees the record (at most once).
    pub fn new(
        epoch: Epoch,
        position: i64,
        leader_epoch: Option<LeaderEpoch>,
        is_before_delivery: bool,
    ) -> Self {
        Self {
            epoch,
            is_before_delivery,
            finished: position,
            delivered: position,
            runs: BTreeMap::new(),
            runs_offsets: 0,
            runs_version: 0,
            marked: position,
            restored: Restored::default(),
            restored_next: 0,
            leader_epoch,
            leaders: VecDeque::new(),
            first_epoch: epoch,
            has_delivered: false,
            earlier: Vec::new(),
        }
    }

    /// An earlier owner of the partition has finished these offsets, which ascend and do not overlap. They count when they are
    /// delivered or passed, and until then they are a part of [`finished_above`](Self::finished_above). What was restored before
    /// is forgotten.
    pub fn restore(&mut self, finished: Vec<Range<i64>>) {
        self.restored = Arc::new(finished);
        self.restored_next = self.restored.partition_point(|run| run.end <= self.delivered);
    }

    /// What was restored and is not delivered counts no more.
    pub fn forget_restored(&mut self) {
        if !self.restored.is_empty() {
            self.restored = Restored::default();
            self.restored_next = 0;
            self.runs_version += 1;
        }
    }

    /// What was restored, wherever reading is by now.
    pub fn restored(&self) -> &Restored {
        &self.restored
    }

    /// Reading goes on at `position`: the partition was sought, a record was skipped, or the log was cut off there. Records before
    /// it that were delivered and are not finished stay unfinished until they are marked. Offsets that are passed over without
    /// having been delivered are finished, because the application does not want them. What was delivered from `position` on is
    /// delivered again, and of that only what was restored is finished.
    pub fn resume(&mut self, epoch: Epoch, position: i64) {
        if epoch <= self.epoch {
            return;
        }
        if std::mem::take(&mut self.has_delivered) {
            self.earlier.push((self.epoch, position));
        }
        self.epoch = epoch;
        if position < self.delivered {
            self.delivered = position;
            self.marked = position.min(self.marked);
            self.restored_next = self.restored.partition_point(|run| run.end <= position);
            let after = self.runs.split_off(&position);
            self.runs_offsets -= after.iter().map(|(start, end)| end - start).sum::<i64>();
            if let Some(mut last) = self.runs.last_entry() {
                let until = last.get_mut();
                self.runs_offsets -= (*until - position).max(0);
                *until = position.min(*until);
            }
            self.runs_version += 1;
            while self.leaders.pop_back_if(|(start, _)| *start >= position).is_some() {}
            if position < self.finished {
                self.finished = position;
                // The epochs of finished records are not kept.
                self.leader_epoch = None;
            }
        } else {
            self.pass(position);
        }
        for (_, limit) in &mut self.earlier {
            *limit = position.min(*limit);
        }
        let finished = self.earlier.partition_point(|(_, limit)| *limit <= self.finished);
        for (epoch, _) in self.earlier.drain(..finished) {
            self.first_epoch = Epoch(epoch.0 + 1);
        }
        // Of epochs with one limit the last is kept, and of too many the two oldest get the lower limit.
        self.earlier.dedup_by(|next, kept| {
            let is_same = next.1 == kept.1;
            if is_same {
                kept.0 = next.0;
            }
            is_same
        });
        if self.earlier.len() > EARLIER_MAX {
            let (_, limit) = self.earlier.remove(0);
            self.earlier[0].1 = limit;
        }
    }

    /// The position was reset, because the offset or the topic of before is not there any more: reading goes on at `position`.
    /// Marks of earlier epochs count no more.
    pub fn restart(&mut self, epoch: Epoch, position: i64, leader_epoch: Option<LeaderEpoch>) {
        if epoch >= self.epoch {
            let runs_version = self.runs_version + 1;
            *self = Self::new(epoch, position, leader_epoch, self.is_before_delivery);
            self.runs_version = runs_version;
        }
    }

    /// The epoch of the last assignment or seek.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A batch is delivered: the offsets from its first one up to, not including, `offsets.end`. There is no record between the
    /// batch before it and this one. Offsets that were delivered before are left out. Answers false if the epoch is over.
    pub fn handle_delivered(
        &mut self,
        epoch: Epoch,
        offsets: Range<i64>,
        leader_epoch: Option<LeaderEpoch>,
    ) -> bool {
        if epoch != self.epoch {
            return false;
        }
        let start = offsets.start.max(self.delivered);
        if start >= offsets.end {
            return true;
        }
        self.pass(start);
        let last = self.leaders.back().map_or(self.leader_epoch, |(_, epoch)| *epoch);
        if last != leader_epoch {
            let is_full = self.leaders.len() >= LEADERS_MAX;
            match self.leaders.back_mut().filter(|_| is_full) {
                // An epoch that is not known is not checked. A wrong one would look like a truncation.
                Some((_, last)) => *last = None,
                None => self.leaders.push_back((start, leader_epoch)),
            }
        }
        self.has_delivered = true;
        self.delivered = offsets.end;
        if self.is_before_delivery {
            self.finish(start..offsets.end);
        }
        self.finish_restored();
        true
    }

    /// There is nothing to deliver before `next`, where reading goes on. Answers false if the epoch is over.
    pub fn handle_passed(&mut self, epoch: Epoch, next: i64) -> bool {
        let is_current = epoch == self.epoch;
        if is_current {
            self.pass(next);
        }
        is_current
    }

    /// A batch that was delivered has no records at these offsets.
    pub fn handle_hole(&mut self, epoch: Epoch, offsets: Range<i64>) -> Marked {
        self.handle_done(epoch, offsets)
    }

    /// Marks offsets as done: a batch, a record or any range. Offsets below the position at which the epoch began count as
    /// done already.
    pub fn handle_done(&mut self, epoch: Epoch, offsets: Range<i64>) -> Marked {
        let offsets = if epoch == self.epoch {
            offsets
        } else {
            let index = self.earlier.partition_point(|(of, _)| *of < epoch);
            match self.earlier.get(index).filter(|_| epoch >= self.first_epoch) {
                Some((_, limit)) if offsets.start < *limit => offsets.start..offsets.end.min(*limit),
                _ => return Marked::Stale,
            }
        };
        if offsets.end > self.delivered {
            return Marked::NotDelivered;
        }
        self.marked = self.marked.max(offsets.end);
        if self.finish(offsets) {
            self.runs_version += 1;
            Marked::New
        } else {
            Marked::Already
        }
    }

    /// The application itself has committed `offset`: what was delivered before it is finished.
    pub fn handle_committed(&mut self, epoch: Epoch, offset: i64) {
        if epoch == self.epoch {
            self.finish(self.finished..offset.min(self.delivered));
        }
    }

    /// The offset to commit: the lowest unfinished one, or the one after the last that was delivered if all is done.
    pub fn committable(&self) -> Committable {
        Committable { offset: self.finished, leader_epoch: self.leader_epoch }
    }

    /// The offset after the last one that was delivered.
    pub fn delivered(&self) -> i64 {
        self.delivered
    }

    /// Whether all that was delivered is done.
    pub fn is_finished(&self) -> bool {
        self.finished == self.delivered
    }

    /// The finished offsets above the [`committable`](Self::committable) one, ascending: what is done, and what was restored and is
    /// not delivered yet. After a restart they need not be processed again by a program that kept them beside the committed
    /// offset ([`finished`](super::finished)).
    pub fn finished_above(&self) -> impl Iterator<Item = Range<i64>> + '_ {
        let runs = self.runs.iter().map(|(start, end)| *start..*end);
        let restored = self.restored[self.restored_next..].iter();
        runs.chain(restored.map(|run| run.start.max(self.delivered)..run.end))
    }

    /// Tells one state of [`finished_above`](Self::finished_above) from another, as far as marks have changed it.
    pub fn runs_version(&self) -> u64 {
        self.runs_version
    }

    /// The bits that the [text](super::finished) for the finished offsets needs at most, as far as the application has come. What
    /// was restored and is not handed out does not count: more of it comes only by handing out what is in between.
    pub fn text_bits_at_most(&self) -> u64 {
        let end = self.marked.max(self.finished);
        bits_at_most(self.finished, end, self.runs.len(), self.runs_offsets)
    }

    /// The number of runs of finished offsets above the committable one.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether the partition should get no more batches until unfinished records are done.
    pub fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX
    }

    fn pass(&mut self, next: i64) {
        if next > self.delivered {
            let from = self.delivered;
            self.delivered = next;
            // An application that marks nothing does not let a transactional topic's markers fill the memory.
            if from == self.finished || self.runs.len() < RUNS_KEPT_MAX {
                self.finish(from..next);
            }
            self.finish_restored();
        }
    }

    /// Finishes what was restored of the offsets that are delivered by now.
    fn finish_restored(&mut self) {
        while let Some(run) = self.restored.get(self.restored_next).filter(|run| run.start < self.delivered) {
            let (start, end) = (run.start, run.end);
            let is_whole = end <= self.delivered;
            self.restored_next += usize::from(is_whole);
            // This may drop all that was restored.
            self.finish(start..end.min(self.delivered));
            if !is_whole {
                break;
            }
        }
    }

    /// Finishes offsets; answers whether any of them was not.
    fn finish(&mut self, offsets: Range<i64>) -> bool {
        let (mut start, mut end) = (offsets.start.max(self.finished), offsets.end);
        if start >= end {
            return false;
        }
        if start == self.finished {
            self.finished = end;
            while let Some(run) = self.runs.first_entry().filter(|run| *run.key() <= self.finished) {
                let (start, end) = run.remove_entry();
                self.runs_offsets -= end - start;
                self.finished = self.finished.max(end);
            }
            self.settle_leaders();
            if self.restored.last().is_some_and(|last| last.end <= self.finished) {
                self.restored = Restored::default();
                self.restored_next = 0;
            }
            return true;
        }
        // The run that begins at or before these offsets may hold or touch them.
        if let Some((before, until)) =
            self.runs.range(..=start).next_back().map(|(start, end)| (*start, *end))
        {
            if until >= end {
                return false;
            }
            if until >= start {
                start = before;
            }
        }
        // Runs that begin within them or right after them are joined.
        while let Some((next, until)) = self.runs.range(start..=end).next().map(|(start, end)| (*start, *end))
        {
            self.runs.remove(&next);
            self.runs_offsets -= until - next;
            end = end.max(until);
        }
        self.runs_offsets += end - start;
        self.runs.insert(start, end);
        true
    }

    /// Leaves only those leader epochs that belong to records at or above `finished`.
    fn settle_leaders(&mut self) {
        while let Some((_, epoch)) = self.leaders.pop_front_if(|(start, _)| *start < self.finished) {
            self.leader_epoch = epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const E: Epoch = Epoch(1);

    fn ledger(position: i64) -> Ledger {
        Ledger::new(E, position, None, false)
    }

    /// Delivers batches of ten from `position` on.
    fn delivered(position: i64, batches: i64) -> Ledger {
        let mut ledger = ledger(position);
        for batch in 0..batches {
            let start = position + batch * 10;
            assert!(ledger.handle_delivered(E, start..start + 10, None));
        }
        ledger
    }

    fn above(ledger: &Ledger) -> Vec<(i64, i64)> {
        ledger.finished_above().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn nothing_delivered_commits_the_position() {
        let ledger = Ledger::new(E, 7, Some(LeaderEpoch(3)), false);
        assert_eq!(ledger.committable(), Committable { offset: 7, leader_epoch: Some(LeaderEpoch(3)) });
        assert!(ledger.is_finished());
    }

    #[test]
    fn batches_done_in_order_leave_no_runs() {
        let mut ledger = delivered(0, 5);
        for batch in 0..5 {
            assert_eq!(ledger.committable().offset, batch * 10);
            assert_eq!(ledger.handle_done(E, batch * 10..batch * 10 + 10), Marked::New);
            assert_eq!(ledger.runs(), 0);
        }
        assert!(ledger.is_finished());
    }

    #[test]
    fn the_lowest_unfinished_record_holds_the_offset_back() {
        let mut ledger = delivered(0, 3);
        ledger.handle_done(E, 10..20);
        ledger.handle_done(E, 20..30);
        assert_eq!((ledger.committable().offset, above(&ledger)), (0, vec![(10, 30)]));
        ledger.handle_done(E, 1..10);
        assert_eq!((ledger.committable().offset, above(&ledger)), (0, vec![(1, 30)]));
        ledger.handle_done(E, 0..1);
        assert_eq!((ledger.committable().offset, above(&ledger)), (30, vec![]));
    }

    #[test]
    fn records_done_in_any_order_join_into_runs() {
        let mut ledger = delivered(100, 1);
        for (offset, expect) in [
            (105, vec![(105, 106)]),
            (107, vec![(105, 106), (107, 108)]),
            (106, vec![(105, 108)]),
            (102, vec![(102, 103), (105, 108)]),
            (104, vec![(102, 103), (104, 108)]),
            (103, vec![(102, 108)]),
        ] {
            assert_eq!(ledger.handle_done(E, offset..offset + 1), Marked::New);
            assert_eq!(above(&ledger), expect);
        }
        assert_eq!(ledger.handle_done(E, 100..109), Marked::New);
        assert_eq!((ledger.committable().offset, ledger.runs()), (109, 0));
    }

    #[test]
    fn done_twice_changes_nothing() {
        let mut ledger = delivered(0, 3);
        assert_eq!(ledger.handle_done(E, 10..20), Marked::New);
        assert_eq!(ledger.handle_done(E, 10..20), Marked::Already);
        assert_eq!(ledger.handle_done(E, 12..15), Marked::Already);
        assert_eq!(ledger.handle_done(E, 0..10), Marked::New);
        assert_eq!(ledger.handle_done(E, 0..20), Marked::Already);
        assert_eq!(ledger.handle_done(E, 5..5), Marked::Already);
        assert_eq!(ledger.handle_done(E, 15..25), Marked::New, "its second half is new");
        assert_eq!(ledger.committable().offset, 25);
    }

    #[test]
    fn done_after_a_seek_or_a_revoke_has_no_effect() {
        let mut ledger = delivered(0, 3);
        ledger.restart(Epoch(2), 5, None);
        assert_eq!(ledger.handle_done(E, 0..30), Marked::Stale);
        assert!(!ledger.handle_delivered(E, 30..40, None), "a batch of before the seek");
        assert!(!ledger.handle_passed(E, 50));
        assert_eq!((ledger.committable().offset, ledger.delivered()), (5, 5));
        // Two seeks whose orders came the wrong way round.
        ledger.restart(E, 0, None);
        assert_eq!((ledger.epoch(), ledger.committable().offset), (Epoch(2), 5));
    }

    #[test]
    fn done_of_an_offset_that_was_never_delivered_has_no_effect() {
        let mut ledger = delivered(0, 1);
        assert_eq!(ledger.handle_done(E, 0..11), Marked::NotDelivered);
        assert_eq!(ledger.handle_done(E, 10..11), Marked::NotDelivered);
        assert_eq!((ledger.committable().offset, ledger.runs()), (0, 0));
    }

    #[test]
    fn markers_gaps_and_aborted_records_never_block() {
        let mut ledger = ledger(0);
        // Offsets 0 to 4 were compacted away, and the batch lacks 7 and 8.
        ledger.handle_delivered(E, 5..10, None);
        assert_eq!(ledger.committable().offset, 5);
        assert_eq!(ledger.handle_hole(E, 7..9), Marked::New);
        // A marker and an aborted transaction follow.
        ledger.handle_passed(E, 15);
        ledger.handle_delivered(E, 20..25, None);
        assert_eq!(above(&ledger), [(7, 9), (10, 20)]);
        for offset in [5, 6, 9] {
            ledger.handle_done(E, offset..offset + 1);
        }
        assert_eq!((ledger.committable().offset, ledger.is_finished()), (20, false));
        ledger.handle_done(E, 20..25);
        ledger.handle_passed(E, 26);
        assert_eq!(ledger.committable().offset, 26, "a marker after the last record");
        assert!(ledger.is_finished());
    }

    #[test]
    fn a_whole_batch_is_done_although_its_holes_were_not_told() {
        let mut ledger = ledger(0);
        ledger.handle_delivered(E, 3..100, None);
        ledger.handle_done(E, 3..100);
        assert_eq!(ledger.committable().offset, 100);
    }

    #[test]
    fn a_batch_from_before_the_position_counts_from_the_position() {
        let mut ledger = ledger(15);
        ledger.handle_delivered(E, 10..20, None);
        assert_eq!(ledger.committable().offset, 15);
        assert_eq!(ledger.handle_done(E, 10..20), Marked::New);
        assert_eq!(ledger.committable().offset, 20);
    }

    #[test]
    fn the_leader_epoch_is_that_of_the_last_record_before_the_offset() {
        let mut ledger = Ledger::new(E, 0, Some(LeaderEpoch(1)), false);
        let epoch = |number| Some(LeaderEpoch(number));
        ledger.handle_delivered(E, 0..10, epoch(1));
        ledger.handle_delivered(E, 10..20, epoch(2));
        ledger.handle_delivered(E, 20..30, epoch(2));
        ledger.handle_delivered(E, 30..40, None);
        for (done, offset, leader) in [
            (10..20, 0, epoch(1)),
            (0..10, 20, epoch(2)),
            (20..29, 29, epoch(2)),
            (29..30, 30, epoch(2)),
            (30..31, 31, None),
        ] {
            ledger.handle_done(E, done);
            assert_eq!(ledger.committable(), Committable { offset, leader_epoch: leader });
        }
    }

    #[test]
    fn at_most_once_finishes_a_batch_when_it_is_delivered() {
        let mut ledger = Ledger::new(E, 0, None, true);
        ledger.handle_delivered(E, 0..10, Some(LeaderEpoch(4)));
        assert_eq!(ledger.committable(), Committable { offset: 10, leader_epoch: Some(LeaderEpoch(4)) });
        assert_eq!(ledger.handle_done(E, 0..10), Marked::Already);
    }

    #[test]
    fn memory_follows_the_unfinished_records_and_a_full_ledger_says_so() {
        let mut ledger = ledger(0);
        let records = 2 * RUNS_MAX as i64;
        ledger.handle_delivered(E, 0..records + 1, None);
        for offset in (1..records).step_by(2) {
            assert!(!ledger.is_full());
            ledger.handle_done(E, offset..offset + 1);
        }
        assert!(ledger.is_full());
        ledger.handle_done(E, 2..3);
        assert!(!ledger.is_full(), "two runs became one");
        ledger.handle_done(E, 0..records);
        assert_eq!((ledger.runs(), ledger.committable().offset), (0, records));
    }

    #[test]
    fn after_a_seek_forward_what_is_in_hand_holds_the_offset_back() {
        let mut ledger = delivered(0, 2);
        ledger.handle_done(E, 0..5);
        ledger.resume(Epoch(2), 50);
        assert_eq!((ledger.committable().offset, above(&ledger)), (5, vec![(20, 50)]));
        assert_eq!(ledger.handle_done(Epoch(2), 40..41), Marked::Already);
        assert_eq!(ledger.handle_done(Epoch(2), 40..60), Marked::NotDelivered);
        assert_eq!(ledger.handle_done(E, 5..20), Marked::New);
        assert_eq!(ledger.committable().offset, 50);
        ledger.handle_delivered(Epoch(2), 50..60, None);
        assert_eq!(ledger.handle_done(E, 50..60), Marked::Stale, "an epoch of before cannot have had it");
        assert_eq!(ledger.handle_done(Epoch(2), 50..60), Marked::New);
        assert_eq!((ledger.committable().offset, ledger.runs()), (60, 0));
    }

    #[test]
    fn after_a_seek_back_what_comes_again_is_unfinished_and_what_is_before_it_waits_for_its_mark() {
        let mut ledger = delivered(0, 4);
        ledger.handle_done(E, 10..20);
        ledger.handle_done(E, 25..40);
        ledger.resume(Epoch(2), 15);
        assert_eq!((ledger.committable().offset, above(&ledger)), (0, vec![(10, 15)]));
        assert_eq!(ledger.handle_done(E, 20..25), Marked::Stale);
        assert_eq!(ledger.handle_done(E, 0..40), Marked::New, "only what is before the position counts");
        assert_eq!((ledger.committable().offset, ledger.delivered()), (15, 15));
        ledger.handle_delivered(Epoch(2), 15..40, None);
        assert_eq!(ledger.handle_done(Epoch(2), 15..40), Marked::New);
        ledger.resume(Epoch(3), 3);
        assert_eq!(ledger.committable().offset, 3);
        ledger.resume(Epoch(2), 30);
        assert_eq!(ledger.delivered(), 3, "an older epoch changes nothing");
    }

    #[test]
    fn seeks_without_end_take_no_memory_without_end() {
        let mut ledger = delivered(0, 1);
        // Without a batch in between, nothing is to be remembered.
        for epoch in 2..100_000 {
            ledger.resume(Epoch(epoch), 10 + i64::from(epoch % 2 == 0));
        }
        assert_eq!(ledger.earlier.len(), 1);
        // With one, and back to the same place.
        let mut ledger = delivered(0, 1);
        for epoch in 2..10_000 {
            ledger.resume(Epoch(epoch), 10);
            ledger.handle_delivered(Epoch(epoch), 10..20, None);
        }
        assert_eq!(ledger.earlier.len(), 1);
        assert_eq!(ledger.handle_done(E, 0..10), Marked::New);
        assert_eq!(ledger.committable().offset, 10);
        assert_eq!(ledger.handle_done(Epoch(77), 10..20), Marked::Stale, "it is delivered again");
        // With one each, ever further on.
        let mut ledger = delivered(0, 1);
        for epoch in 2..10_000 {
            let at = epoch as i64 * 100;
            ledger.resume(Epoch(epoch), at);
            ledger.handle_delivered(Epoch(epoch), at..at + 10, None);
        }
        assert_eq!(ledger.earlier.len(), EARLIER_MAX);
        assert_eq!(ledger.handle_done(Epoch(9_990), 999_000..999_010), Marked::New);
        assert_eq!(ledger.committable().offset, 0);
    }

    #[test]
    fn a_mark_of_an_epoch_that_is_settled_does_not_count_for_a_later_one() {
        let mut ledger = delivered(0, 4);
        ledger.resume(Epoch(2), 15);
        ledger.handle_delivered(Epoch(2), 15..40, None);
        ledger.handle_done(E, 0..15);
        ledger.resume(Epoch(3), 30);
        assert_eq!(ledger.handle_done(E, 20..25), Marked::Stale, "the second epoch has them");
        assert_eq!(ledger.handle_done(Epoch(2), 20..25), Marked::New);
        assert_eq!(ledger.committable().offset, 15);
    }

    #[test]
    fn an_application_that_marks_nothing_takes_no_memory_without_end() {
        let mut ledger = ledger(0);
        for transaction in 0..3 * RUNS_MAX as i64 {
            ledger.handle_delivered(
                E,
                transaction * 2..transaction * 2 + 1,
                Some(LeaderEpoch(transaction as i32)),
            );
            ledger.handle_passed(E, transaction * 2 + 2);
        }
        assert_eq!((ledger.runs(), ledger.leaders.len()), (RUNS_KEPT_MAX, LEADERS_MAX));
        // What it commits itself is finished.
        ledger.handle_committed(E, 1_001);
        assert_eq!((ledger.committable().offset, ledger.runs()), (1_002, RUNS_KEPT_MAX - 501));
        ledger.handle_committed(E, i64::MAX);
        assert_eq!((ledger.committable().offset, ledger.runs()), (ledger.delivered(), 0));
        assert_eq!(ledger.committable().leader_epoch, None, "too many to know");
    }

    /// Against a ledger that has a flag for each offset.
    #[test]
    fn it_agrees_with_a_list_of_flags() {
        for seed in 0..300 {
            let mut rng = Rng::seeded(seed);
            let start = i64::from(rng.below(50));
            let mut ledger = ledger(start);
            // Whether each offset from `start` on is finished.
            let mut flags: Vec<bool> = Vec::new();
            for _ in 0..200 {
                let delivered = start + flags.len() as i64;
                match rng.below(4) {
                    0 => {
                        let (gap, count) = (rng.below(3) as usize, 1 + rng.below(12) as usize);
                        flags.extend(vec![true; gap]);
                        flags.extend(vec![false; count]);
                        let first = delivered + gap as i64;
                        ledger.handle_delivered(E, first..first + count as i64, None);
                    }
                    1 if rng.below(4) == 0 => {
                        let count = rng.below(4) as usize;
                        flags.extend(vec![true; count]);
                        ledger.handle_passed(E, delivered + count as i64);
                    }
                    _ => {
                        let from = rng.below(flags.len() as u32 + 1) as usize;
                        let until = (from + rng.below(9) as usize).min(flags.len());
                        let is_new = flags[from..until].contains(&false);
                        flags[from..until].fill(true);
                        let marked = ledger.handle_done(E, start + from as i64..start + until as i64);
                        assert_eq!(marked == Marked::New, is_new, "seed {seed}");
                    }
                }
                let lowest = flags.iter().position(|done| !done).unwrap_or(flags.len());
                assert_eq!(ledger.committable().offset, start + lowest as i64, "seed {seed}");
                let mut above = vec![false; flags.len()];
                let mut last = ledger.committable().offset;
                for run in ledger.finished_above() {
                    assert!(run.start > last && run.end > run.start, "seed {seed}: runs touch");
                    last = run.end;
                    above[(run.start - start) as usize..(run.end - start) as usize].fill(true);
                }
                assert_eq!(above[lowest..], flags[lowest..], "seed {seed}");
                let sum: i64 = ledger.finished_above().map(|run| run.end - run.start).sum();
                assert_eq!(ledger.runs_offsets, sum, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_was_restored_counts_when_it_is_delivered_or_passed() {
        let mut ledger = ledger(100);
        ledger.restore(vec![103..110, 112..125, 130..140]);
        assert_eq!(ledger.committable().offset, 100);
        assert_eq!(above(&ledger), [(103, 110), (112, 125), (130, 140)]);
        // Until then a mark of it is one of what was not delivered.
        assert_eq!(ledger.handle_done(E, 103..104), Marked::NotDelivered);
        let version = ledger.runs_version();
        ledger.handle_delivered(E, 100..120, None);
        assert_eq!(above(&ledger), [(103, 110), (112, 120), (120, 125), (130, 140)]);
        assert_eq!(ledger.runs_version(), version, "it is stored already");
        assert_eq!(ledger.handle_done(E, 105..107), Marked::Already);
        assert_eq!(ledger.handle_done(E, 100..103), Marked::New);
        assert_eq!(ledger.committable().offset, 110);
        assert_eq!(ledger.handle_done(E, 110..112), Marked::New);
        assert_eq!(ledger.committable().offset, 120);
        ledger.handle_passed(E, 127);
        ledger.handle_delivered(E, 127..150, None);
        assert_eq!(ledger.committable().offset, 127);
        assert_eq!(above(&ledger), [(130, 140)]);
        assert_eq!(ledger.handle_done(E, 127..150), Marked::New);
        assert!(ledger.is_finished() && ledger.runs() == 0);
    }

    #[test]
    fn what_was_restored_is_finished_again_after_a_skip_and_not_after_it_was_forgotten() {
        let mut ledger = ledger(100);
        ledger.restore(vec![103..110, 112..125]);
        ledger.handle_delivered(E, 100..120, None);
        // The record at 100 cannot be read. Reading goes on after it, and what was fetched comes again.
        ledger.resume(Epoch(2), 101);
        assert_eq!(ledger.handle_done(E, 100..101), Marked::New);
        assert_eq!(above(&ledger), [(103, 110), (112, 125)]);
        ledger.handle_delivered(Epoch(2), 101..120, None);
        assert_eq!(ledger.handle_done(Epoch(2), 101..103), Marked::New);
        assert_eq!(ledger.committable().offset, 110);
        let version = ledger.runs_version();
        ledger.forget_restored();
        ledger.resume(Epoch(3), 101);
        assert!(ledger.runs_version() > version);
        assert_eq!(above(&ledger), []);
        ledger.handle_delivered(Epoch(3), 101..130, None);
        assert_eq!(above(&ledger), []);
        assert_eq!(ledger.committable().offset, 101);
    }

    #[test]
    fn what_was_restored_and_not_handed_out_does_not_fill_the_text() {
        let mut ledger = ledger(0);
        let every_other = (0..20_000).map(|index| 2 * index + 1..2 * index + 2).collect();
        ledger.restore(every_other);
        ledger.handle_delivered(E, 0..40_000, None);
        assert_eq!(ledger.runs(), 20_000);
        assert!(ledger.text_bits_at_most() < 200, "nothing was handed out");
        for at in (0..30_000).step_by(4) {
            ledger.handle_done(E, at + 2..at + 3);
        }
        let bits = ledger.text_bits_at_most();
        assert!((29_000..31_000).contains(&bits), "{bits} bits");
        assert_eq!(ledger.handle_done(E, 0..40_000), Marked::New);
        assert!(ledger.text_bits_at_most() < 200);
    }
}
