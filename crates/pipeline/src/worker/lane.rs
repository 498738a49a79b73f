//! A partition, or a part of its keys, as a worker reads it: its batches, and which of them are finished.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use milena::{RecordCursor, SharedBatch, SharedRecord};

use crate::flow::Flow;
use crate::record::Held;
use crate::schedule::{Item, Order};

/// Which of a partition's records a worker has: those whose number, by key or by offset, leaves `index` when it is divided by
/// `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: u64,
    pub(crate) count: u64,
}

pub(super) struct WorkerLane {
    pub(super) held: Arc<Held>,
    pub(super) flow: Arc<Flow>,
    share: Share,
    /// Batches that are not read to their end.
    cursors: VecDeque<RecordCursor>,
    /// The offset after the last record that was read of the first of them, whoever has it. None before the first record.
    next: Option<i64>,
    /// Batches with unfinished records, in order.
    open: VecDeque<Open>,
    hasher: RandomState,
}

struct Open {
    first: i64,
    /// The offset after the batch.
    end: i64,
    bytes: usize,
    /// Records that were read and are not finished.
    unfinished: usize,
    is_read: bool,
}

/// The offsets at a batch's end that have no records.
pub(super) struct Tail(pub(super) SharedBatch);

impl WorkerLane {
    pub(super) fn new(held: Arc<Held>, flow: Arc<Flow>, share: Share, hasher: RandomState) -> Self {
        Self { held, flow, share, cursors: VecDeque::new(), next: None, open: VecDeque::new(), hasher }
    }

    /// Is given the next batch.
    pub(super) fn push(&mut self, batch: &SharedBatch, bytes: usize) {
        self.open.push_back(Open {
            first: batch.first_offset(),
            end: batch.next_offset(),
            bytes,
            unfinished: 0,
            is_read: false,
        });
        self.cursors.push_back(batch.cursor());
    }

    /// Whether there is something to read.
    pub(super) fn has_more(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// Reads up to `count` records into `items`. Answers with the end of a batch that has no records there.
    pub(super) fn read(
        &mut self,
        order: Order,
        count: usize,
        items: &mut Vec<Item<SharedRecord>>,
    ) -> Option<Tail> {
        let cursor = self.cursors.front_mut()?;
        let batch = cursor.batch().clone();
        let mut from = self.next.unwrap_or_else(|| batch.first_offset());
        let (share, hasher) = (self.share, &self.hasher);
        let before = items.len();
        let has_more = cursor.advance(count, |view| {
            let offset = view.offset();
            let shard = match order {
                Order::Key => view.key().map_or_else(|| hasher.hash_one(offset), |key| hasher.hash_one(key)),
                Order::Partition => 0,
                // Neighbours stay together, so that what is done makes long runs.
                Order::None => u64::try_from(offset).unwrap_or_default() >> 6,
            };
            if share.count == 1 || shard % share.count == share.index {
                let record = batch.record(&view).expect("the view is of this batch");
                items.push(Item { record, shard, from, end: offset + 1 });
            }
            from = offset + 1;
        });
        let (first, end) = (batch.first_offset(), batch.next_offset());
        let open =
            self.open.iter_mut().find(|open| (open.first, open.end, open.is_read) == (first, end, false));
        let open = open.expect("a batch that is read is open");
        open.unfinished += items.len() - before;
        if has_more {
            self.next = Some(from);
            return None;
        }
        open.is_read = true;
        self.cursors.pop_front();
        self.next = None;
        self.close();
        // One worker of the partition marks what none of them reads.
        (from < end && share.index == 0).then(|| Tail(batch.range(from..)))
    }

    /// A record is finished.
    pub(super) fn finish(&mut self, offset: i64) {
        // They are in order unless the position was reset, and there are few.
        let has = |open: &&mut Open| open.first <= offset && offset < open.end && open.unfinished > 0;
        if let Some(open) = self.open.iter_mut().find(has) {
            open.unfinished -= 1;
            if open.unfinished == 0 && open.is_read {
                self.close();
            }
        }
    }

    /// Lets the partition go on for what is finished.
    fn close(&mut self) {
        let mut bytes = 0;
        self.open.retain(|open| {
            let is_closed = open.is_read && open.unfinished == 0;
            bytes += if is_closed { open.bytes } else { 0 };
            !is_closed
        });
        if bytes > 0 {
            self.flow.give_back(bytes);
        }
    }

    /// Drops what was not read.
    pub(super) fn stop_reading(&mut self) {
        self.cursors.clear();
        for open in &mut self.open {
            open.is_read = true;
        }
        self.close();
    }
}
