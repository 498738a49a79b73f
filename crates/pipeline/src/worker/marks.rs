//! Marks records as done in the consumer's ledger, a run of them at a time.

use milena::{ConsumerHandle, SharedBatch};
use rustc_hash::FxHashMap;

use super::lane::{Taken, WorkerLane};
use crate::schedule::{Item, LaneId};

/// The run that is being extended. Records of a batch that end one after the other make one mark.
pub(super) struct Marks {
    consumer: ConsumerHandle,
    open: Option<Run>,
}

struct Run {
    lane: LaneId,
    batch: u64,
    from: i64,
    end: i64,
    count: usize,
}

impl Marks {
    pub(super) fn new(consumer: ConsumerHandle) -> Self {
        Self { consumer, open: None }
    }

    /// A record is finished, and there are no records at the offsets from the one before it to it. So a batch with holes leaves none
    /// unmarked.
    #[inline]
    pub(super) fn done(
        &mut self,
        lane: LaneId,
        item: &Item<Taken>,
        lanes: &mut FxHashMap<LaneId, WorkerLane>,
    ) {
        if let Some(run) = &mut self.open
            && run.end == item.from
            && run.batch == item.record.batch
            && run.lane == lane
        {
            run.end = item.end;
            run.count += 1;
            return;
        }
        self.flush(lanes);
        self.open = Some(Run { lane, batch: item.record.batch, from: item.from, end: item.end, count: 1 });
    }

    /// These offsets are finished: there are no records at them.
    pub(super) fn done_part(&mut self, part: SharedBatch, lane: &WorkerLane) {
        lane.held.done(&self.consumer, part);
    }

    /// What is done counts from now on.
    pub(super) fn flush(&mut self, lanes: &mut FxHashMap<LaneId, WorkerLane>) {
        let Some(run) = self.open.take() else { return };
        if let Some(lane) = lanes.get_mut(&run.lane) {
            lane.held.done(&self.consumer, lane.batch(run.batch).range(run.from..run.end));
            lane.finish(run.batch, run.count);
        }
    }
}
