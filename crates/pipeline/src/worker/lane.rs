//! A partition, or a part of its keys, as a worker reads it: its batches, and which of them are finished.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;
use milena::{Batch, RecordCursor, RecordPlace, SharedBatch, SharedRecord};
use rustc_hash::FxHashMap;

use crate::Record;
use crate::control::Control;
use crate::flow::Flow;
use crate::record::Held;
use crate::retry_topics::{Behind, Returned, millis, unix_now};
use crate::schedule::{Item, Order};

/// Which of a partition's records a worker has: those whose number, by key or by offset, leaves `index` when it is divided by
/// `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: u64,
    pub(crate) count: u64,
}

pub(crate) struct WorkerLane {
    pub(super) held: Arc<Held>,
    flow: Arc<Flow>,
    share: Share,
    /// Batches that are not read to their end, and their numbers.
    cursors: VecDeque<(u64, RecordCursor)>,
    /// The offset after the last record that was read of the first of them, whoever has it. None before the first record.
    next: Option<i64>,
    /// Batches with unfinished records, by number.
    open: FxHashMap<u64, Open>,
    next_number: u64,
    hasher: RandomState,
    /// Whether its records may start: it is known which keys wait in retry topics.
    is_open: bool,
}

/// A record of a lane: the number of its batch, and where it is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(super) batch: u64,
    pub(super) place: RecordPlace,
}

/// What a batch takes here besides its records: itself, and its places in the two collections, which grow by doubling. Of records that
/// are written one at a time it is several times what they take themselves.
pub(crate) const BATCH_BYTES: usize =
    size_of::<Batch>() + 2 * (size_of::<(u64, Open)>() + size_of::<(u64, RecordCursor)>());

struct Open {
    batch: SharedBatch,
    bytes: usize,
    /// Records that were read and are not finished.
    unfinished: usize,
    is_read: bool,
}

/// The offsets at a batch's end that have no records.
pub(super) struct Tail(pub(super) SharedBatch);

impl WorkerLane {
    pub(super) fn new(held: Arc<Held>, flow: Arc<Flow>, share: Share, hasher: RandomState) -> Self {
        let (cursors, open) = (VecDeque::new(), FxHashMap::default());
        let is_open = held.behind.is_none();
        Self { held, flow, share, cursors, next: None, open, next_number: 0, hasher, is_open }
    }

    /// Is given the next batch.
    pub(super) fn push(&mut self, batch: SharedBatch, bytes: usize) {
        self.cursors.push_back((self.next_number, batch.cursor()));
        self.open.insert(self.next_number, Open { batch, bytes, unfinished: 0, is_read: false });
        self.next_number += 1;
    }

    /// Whether there is something to read.
    pub(super) fn has_more(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// Whether what there is to read may start.
    pub(super) fn is_open(&mut self) -> bool {
        self.is_open = self.is_open || self.held.behind.as_ref().is_none_or(Behind::is_ready);
        self.is_open
    }

    /// When a record of these is due that one of them has to wait for, in a retry topic. None if none has to.
    #[inline]
    pub(super) fn pending(&self, records: &[Item<Taken>]) -> Option<i64> {
        let behind = self.held.behind.as_ref()?;
        records.iter().find_map(|item| behind.pending(&self.record(item.record).view()))
    }

    /// The batch of an unfinished record.
    pub(super) fn batch(&self, number: u64) -> &SharedBatch {
        &self.open.get(&number).expect("the batch of an unfinished record is here").batch
    }

    /// An unfinished record.
    pub(super) fn record(&self, taken: Taken) -> SharedRecord {
        self.batch(taken.batch).record_at(taken.place)
    }

    /// The attempts that were made at an unfinished record before it came to this partition's retry topic.
    pub(super) fn attempts_before(&self, taken: Taken) -> u32 {
        // Whoever wrote a record without the header has tried it as well.
        self.held
            .tier
            .as_ref()
            .map_or(0, |_| Returned::read(self.record(taken).headers()).attempts.unwrap_or(1))
    }

    /// An unfinished record, as a handler gets it at this attempt.
    #[inline]
    pub(super) fn input(&self, taken: Taken, attempt: u32) -> Record {
        let attempt = self.attempts_before(taken).saturating_add(attempt);
        Record::new(self.record(taken), attempt, Arc::clone(&self.held))
    }

    /// Reads up to `count` records into `items`. Answers with the end of a batch that has no records there.
    pub(super) fn read(
        &mut self,
        order: Order,
        count: usize,
        control: &Control,
        items: &mut Vec<Item<Taken>>,
    ) -> Option<Tail> {
        let (number, cursor) = self.cursors.front_mut()?;
        let number = *number;
        let open = self.open.get_mut(&number).expect("a batch that is read is open");
        let batch = &open.batch;
        let mut from = self.next.unwrap_or_else(|| batch.first_offset());
        let (share, hasher) = (self.share, &self.hasher);
        let before = items.len();
        // First the system's clock, then the pipeline's: what passes in between makes records late, and not early.
        let tier = self.held.tier.as_deref().map(|tier| (tier, millis(unix_now()), control.now()));
        let has_more = cursor.advance(count, |view| {
            let offset = view.offset();
            let due = match tier {
                None => Duration::ZERO,
                Some((tier, now_ms, now)) => match tier.wait(&Returned::read(view.headers()), now_ms) {
                    Some(wait) => now.saturating_add(wait),
                    // For this group there is no record at the offset.
                    None => return,
                },
            };
            let shard = match order {
                Order::Key => view.key().map_or_else(|| hasher.hash_one(offset), |key| hasher.hash_one(key)),
                Order::Partition => 0,
                // Neighbours stay together, so that what is done makes long runs.
                Order::None => u64::try_from(offset).unwrap_or_default() >> 6,
            };
            if share.count == 1 || shard % share.count == share.index {
                let place = batch.place(&view).expect("the view is of this batch");
                items.push(Item {
                    record: Taken { batch: number, place },
                    shard,
                    from,
                    end: offset + 1,
                    due,
                });
            }
            from = offset + 1;
        });
        open.unfinished += items.len() - before;
        if has_more {
            self.next = Some(from);
            return None;
        }
        open.is_read = true;
        let end = batch.next_offset();
        // One worker of the partition marks what none of them reads.
        let tail = (from < end && share.index == 0).then(|| Tail(batch.range(from..)));
        self.next = None;
        self.cursors.pop_front();
        self.finish(number, 0);
        tail
    }

    /// Records of a batch are finished.
    pub(super) fn finish(&mut self, number: u64, count: usize) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if let Some(tier) = &self.held.tier {
            tier.counts.finished.fetch_add(count as u64, Ordering::Relaxed);
        }
        open.unfinished -= count;
        if open.unfinished == 0 && open.is_read {
            self.flow.give_back(open.bytes);
            self.open.remove(&number);
        }
    }

    /// Drops what was not read.
    pub(super) fn stop_reading(&mut self) {
        self.cursors.clear();
    }
}
