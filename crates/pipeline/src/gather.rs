//! Gathers records into groups: up to N of them, or those that came within some time.
//!
//! It has no clock: times are durations since the pipeline began.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::error::PipelineError;
use crate::schedule::{Item, LaneId, Order};

/// How records are put together for a handler of many.
///
/// ```
/// use milena_pipeline::prelude::*;
///
/// // Up to 100 records, of which the first waits for 50 ms at most.
/// let together = Together::up_to(100).within(50.ms());
/// // The same, but with one key in each group.
/// let by_key = together.by_key();
/// # let _ = by_key;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Together {
    pub(crate) records_max: usize,
    pub(crate) wait: Duration,
    pub(crate) is_by_key: bool,
}

impl Together {
    /// Groups of up to this many records. The first record of a group waits for 100 ms at most; see [`within`](Self::within).
    pub fn up_to(records: usize) -> Self {
        Self { records_max: records, wait: Duration::from_millis(100), is_by_key: false }
    }

    /// Sets how long the first record of a group waits for others. Default 100 ms.
    pub fn within(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Puts only records of one key into a group. Default: with [`Order::Key`], records of several keys, and no two groups that are
    /// processed at the same time have records of one key.
    pub fn by_key(mut self) -> Self {
        self.is_by_key = true;
        self
    }

    /// # Errors
    /// When no group could be.
    pub(crate) fn check(self) -> Result<(), PipelineError> {
        match self.records_max {
            0 => Err(PipelineError::setting("a group of 0 records is none")),
            _ => Ok(()),
        }
    }
}

/// Keys whose records may be in one group. Groups of one bucket are processed one after the other, so that a key keeps its order.
const BUCKETS: u64 = 64;

/// The groups that are not full.
pub(crate) struct Gather<R> {
    together: Together,
    order: Order,
    open: FxHashMap<(LaneId, u64), Open<R>>,
    /// Groups by the time at which they are over, in order. One that was full before is not open any more, or another one.
    due: VecDeque<(Duration, LaneId, u64, u64)>,
    next: u64,
}

struct Open<R> {
    number: u64,
    records: Vec<Item<R>>,
}

impl<R> Gather<R> {
    pub(crate) fn new(together: Together, order: Order) -> Self {
        Self { together, order, open: FxHashMap::default(), due: VecDeque::new(), next: 0 }
    }

    /// The next record of a lane. Answers with its group and that group's bucket, if the group is full.
    pub(crate) fn handle(
        &mut self,
        lane: LaneId,
        item: Item<R>,
        now: Duration,
    ) -> Option<(u64, Vec<Item<R>>)> {
        let bucket = match self.order {
            Order::Key if self.together.is_by_key => item.shard,
            Order::Key => item.shard % BUCKETS,
            Order::None if self.together.is_by_key => item.shard,
            Order::Partition | Order::None => 0,
        };
        let open = self.open.entry((lane, bucket)).or_insert_with(|| {
            self.next += 1;
            self.due.push_back((now.saturating_add(self.together.wait), lane, bucket, self.next));
            Open { number: self.next, records: Vec::new() }
        });
        open.records.push(item);
        if open.records.len() < self.together.records_max {
            return None;
        }
        self.open.remove(&(lane, bucket)).map(|open| (bucket, open.records))
    }

    /// A group that has waited for long enough.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<(LaneId, u64, Vec<Item<R>>)> {
        self.drop_closed();
        let (_, lane, bucket, _) = self.due.pop_front_if(|(at, ..)| *at <= now)?;
        self.open.remove(&(lane, bucket)).map(|open| (lane, bucket, open.records))
    }

    /// When [`poll`](Self::poll) is to be asked.
    pub(crate) fn poll_timeout(&mut self) -> Option<Duration> {
        self.drop_closed();
        self.due.front().map(|(at, ..)| *at)
    }

    /// The lane's records do not start any more.
    pub(crate) fn forget(&mut self, lane: LaneId) {
        self.open.retain(|(of, _), _| *of != lane);
    }

    fn drop_closed(&mut self) {
        let open = &self.open;
        let is_closed = |(_, lane, bucket, number): &mut (Duration, LaneId, u64, u64)| {
            open.get(&(*lane, *bucket)).is_none_or(|open| open.number != *number)
        };
        while self.due.pop_front_if(is_closed).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn item(offset: i64, shard: u64) -> Item<i64> {
        Item { record: offset, shard, from: offset, end: offset + 1, due: MS }
    }

    fn offsets(records: &[Item<i64>]) -> Vec<i64> {
        records.iter().map(|item| item.record).collect()
    }

    #[test]
    fn a_group_is_full_or_its_time_is_over() {
        let mut gather = Gather::new(Together::up_to(3).within(5 * MS), Order::Partition);
        let (first, second) = (LaneId::of(1), LaneId::of(2));
        assert!(gather.handle(first, item(0, 7), MS).is_none());
        assert!(gather.handle(second, item(0, 7), 2 * MS).is_none());
        assert!(gather.handle(first, item(1, 8), 3 * MS).is_none());
        let (_, full) = gather.handle(first, item(2, 9), 3 * MS).expect("three");
        assert_eq!(offsets(&full), [0, 1, 2]);
        assert!(gather.handle(first, item(3, 7), 4 * MS).is_none());
        assert_eq!(gather.poll_timeout(), Some(7 * MS));
        assert!(gather.poll(6 * MS).is_none());
        let (lane, _, late) = gather.poll(7 * MS).expect("its time is over");
        assert_eq!((lane, offsets(&late)), (second, vec![0]));
        assert_eq!(gather.poll_timeout(), Some(9 * MS));
        gather.forget(first);
        assert_eq!((gather.poll_timeout(), gather.poll(20 * MS).is_none()), (None, true));
    }

    #[test]
    fn by_key_a_group_has_one_key() {
        let mut gather = Gather::new(Together::up_to(2).by_key(), Order::Key);
        let lane = LaneId::of(1);
        assert!(gather.handle(lane, item(0, 7), MS).is_none());
        assert!(gather.handle(lane, item(1, 8), MS).is_none());
        let (bucket, full) = gather.handle(lane, item(2, 7), MS).expect("two");
        assert_eq!((bucket, offsets(&full)), (7, vec![0, 2]));
    }
}
