//! Attempts that take long: those that have had their time are ended, and others are reported.

use std::sync::Arc;
use std::time::Duration;

use super::{Unit, Work, Worker};
use crate::Failure;
use crate::schedule::{JobId, Overdue};
use crate::stats::Stall;

impl<U: Unit, S: Work<U>> Worker<U, S> {
    /// Ends what has had its time, and reports what takes long.
    pub(super) fn handle_overdue(&mut self, now: Duration) {
        while let Some(overdue) = self.schedule.poll_overdue(now) {
            match overdue {
                Overdue::Expired(id) => {
                    self.tally.expired += 1;
                    self.sample.has_expired = true;
                    self.slots.cancel(self.slot_of[id.index()]);
                    let limit = self.common.terms.time_limit.unwrap_or_default();
                    self.handle_ended(id, Err(Failure::retriable(TimedOut(limit))), now);
                }
                Overdue::Slow(id) => self.begin_stall(id, now),
            }
        }
    }

    pub(super) fn begin_stall(&mut self, id: JobId, now: Duration) {
        let Some(job) = self.schedule.job(id) else { return };
        let batch = self
            .lanes
            .get(&job.lane)
            .expect("a job's lane is there")
            .batch(U::records(&job.item)[0].record.batch);
        let stall = Arc::new(Stall {
            topic: batch.topic().into(),
            partition: batch.partition(),
            offset: job.item.end - 1,
            attempt: job.attempt(),
            in_work: now.saturating_sub(job.began),
            waiting_for_its_key: self.schedule.waiting_for(id),
            unstarted_of_its_partition: self.schedule.unstarted(job.lane),
        });
        let control = &self.common.control;
        tracing::warn!(target: "milena", "{stall}");
        if let Some(on_stall) = control.on_stall.get() {
            on_stall(&stall);
        }
        control.begin_stall(&stall);
        self.stalls.insert(id, stall);
        self.set_limit();
    }

    pub(super) fn end_stall(&mut self, id: JobId) {
        if let Some(stall) = self.stalls.remove(&id) {
            self.common.control.end_stall(&stall);
            self.set_limit();
        }
    }
}

/// The attempt took longer than the time limit.
#[derive(Debug)]
struct TimedOut(Duration);

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the handler took longer than its time limit of {:?}", self.0)
    }
}

impl std::error::Error for TimedOut {}
