//! What a handler is called with: a record, or a group of records.

use std::time::Duration;

use super::lane::{Taken, WorkerLane};
use crate::Record;
use crate::gather::Gather;
use crate::schedule::{Item, LaneId, Schedule};

/// A unit of work. The schedule starts units, and records are finished with their unit.
pub(crate) trait Unit: Send + Sized + 'static {
    /// What the handler gets.
    type Input;

    /// What the handler gets of it.
    fn input(&self, lane: &WorkerLane, attempt: u32) -> Self::Input;

    /// Its records, in order.
    fn records(item: &Item<Self>) -> &[Item<Taken>];

    /// Each of its records alone. None if it is one record.
    fn split(item: &Item<Self>) -> Option<Vec<Item<Self>>>;

    /// Gives the schedule records that were read, which may have to wait until their group is full.
    fn feed(feed: Feed<'_, Self>, lane: LaneId, read: &mut Vec<Item<Taken>>, now: Duration);

    /// Gives the schedule the groups that have waited for long enough.
    fn feed_due(feed: Feed<'_, Self>, now: Duration);
}

/// Where records wait for their group, and where groups wait to start.
pub(crate) struct Feed<'a, U> {
    pub(crate) gather: &'a mut Gather<Taken>,
    pub(crate) schedule: &'a mut Schedule<U>,
}

impl Unit for Taken {
    type Input = Record;

    #[inline]
    fn input(&self, lane: &WorkerLane, attempt: u32) -> Record {
        lane.input(*self, attempt)
    }

    #[inline]
    fn records(item: &Item<Self>) -> &[Item<Taken>] {
        std::slice::from_ref(item)
    }

    fn split(_: &Item<Self>) -> Option<Vec<Item<Self>>> {
        None
    }

    fn feed(feed: Feed<'_, Self>, lane: LaneId, read: &mut Vec<Item<Taken>>, _: Duration) {
        feed.schedule.handle_records(lane, read.drain(..));
    }

    fn feed_due(_: Feed<'_, Self>, _: Duration) {}
}

/// Records that are processed together. There is at least one.
#[derive(Debug)]
pub(crate) struct Group(Vec<Item<Taken>>);

impl Group {
    fn item(records: Vec<Item<Taken>>, bucket: u64) -> Item<Self> {
        let (from, end) = (records[0].from, records[0].end);
        // Groups of a retry topic start when all of their records may.
        let due = records.iter().map(|record| record.due).max().unwrap_or_default();
        Item { record: Self(records), shard: bucket, from, end, due }
    }
}

impl Unit for Group {
    type Input = Vec<Record>;

    fn input(&self, lane: &WorkerLane, attempt: u32) -> Vec<Record> {
        self.0.iter().map(|item| lane.input(item.record, attempt)).collect()
    }

    fn records(item: &Item<Self>) -> &[Item<Taken>] {
        &item.record.0
    }

    fn split(item: &Item<Self>) -> Option<Vec<Item<Self>>> {
        let records = Some(&item.record.0).filter(|records| records.len() > 1)?;
        Some(records.iter().map(|record| Self::item(vec![record.clone()], item.shard)).collect())
    }

    fn feed(feed: Feed<'_, Self>, lane: LaneId, read: &mut Vec<Item<Taken>>, now: Duration) {
        for item in read.drain(..) {
            if let Some((bucket, records)) = feed.gather.handle(lane, item, now) {
                feed.schedule.handle_records(lane, [Self::item(records, bucket)]);
            }
        }
    }

    fn feed_due(feed: Feed<'_, Self>, now: Duration) {
        while let Some((lane, bucket, records)) = feed.gather.poll(now) {
            feed.schedule.handle_records(lane, [Self::item(records, bucket)]);
        }
    }
}
