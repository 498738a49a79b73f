//! Records that leave their topic: those that are given up, and those that wait for another one in a retry topic.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Unit, Work, Worker};
use crate::Failure;
use crate::aside::{Cause, GivenUp};
use crate::error::PipelineError;
use crate::retry_topics::Returned;
use crate::schedule::{Job, Verdict};

impl<U: Unit, S: Work<U>> Worker<U, S> {
    /// An earlier record of its key waits in a retry topic: the record goes there too, without being tried.
    pub(super) fn follow(&mut self, job: Job<U>, due_ms: i64, now: Duration) {
        if let Some(records) = U::split(&job.item) {
            // Others of its group may have nothing to wait for.
            return self.schedule.handle_split(job, records);
        }
        let lane = self.lanes.get(&job.lane).expect("a started job's lane is there");
        let taken = U::records(&job.item)[0].record;
        let record = lane.record(taken);
        let given_up = GivenUp {
            held: Arc::clone(&lane.held),
            cause: Cause::Follows(due_ms),
            attempts: lane.attempts_before(taken),
            first_ms: lane.held.tier.as_ref().and_then(|_| Returned::read(record.headers()).first_ms),
            last_ms: self.common.control.unix_ms(now),
            record,
        };
        self.put_aside(job, given_up, now);
    }

    /// Whether the record was not tried before it came to its retry topic.
    pub(super) fn has_only_waited(&self, job: &Job<U>) -> bool {
        let lane = self.lanes.get(&job.lane).expect("a started job's lane is there");
        lane.held.tier.is_some() && lane.attempts_before(U::records(&job.item)[0].record) == 0
    }

    /// The record is given up, because of this failure or of the one before: it is written elsewhere, and finished when it is there.
    pub(super) fn give_up(&mut self, mut job: Job<U>, failure: Option<Failure>, now: Duration) {
        let (since, last) = (job.since(), job.history.take());
        let (attempts, failure) = match (failure, last) {
            (Some(failure), last) => (last.map_or(0, |last| last.calls) + 1, failure),
            (None, Some(last)) => (last.calls, last.failure),
            (None, None) => unreachable!("a record that is given up has failed"),
        };
        let lane = self.lanes.get(&job.lane).expect("a started job's lane is there");
        // Of a group that fails, records are tried one by one.
        let taken = U::records(&job.item)[0].record;
        let (record, tier) = (lane.record(taken), lane.held.tier.as_ref());
        if !self.common.aside.has_place(record.topic(), tier.map(|tier| &**tier), &failure) {
            return self.stop_at(job, failure, now);
        }
        let control = &self.common.control;
        let tried_ms = tier.and_then(|_| Returned::read(record.headers()).first_ms);
        let given_up = GivenUp {
            held: Arc::clone(&lane.held),
            cause: Cause::Failed(failure),
            attempts: lane.attempts_before(taken).saturating_add(attempts),
            first_ms: Some(tried_ms.unwrap_or_else(|| control.unix_ms(since))),
            last_ms: control.unix_ms(now),
            record,
        };
        self.put_aside(job, given_up, now);
    }

    /// Writes a record elsewhere. It is finished when it is there.
    pub(super) fn put_aside(&mut self, job: Job<U>, given_up: GivenUp, now: Duration) {
        let cancelled = given_up.held.cancelled.clone();
        let control = Arc::clone(&self.common.control);
        let Some(id) = self.schedule.handle_failed(job, Verdict::Aside, now) else { return };
        let (aside, inbox) = (Arc::clone(&self.common.aside), Arc::clone(&self.inbox));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                put = aside.put(given_up, &control) => inbox.push(Command::Settled(id, put)),
                // The partition is another member's, which does it all again.
                () = cancelled.cancelled() => {}
            }
        });
    }

    /// The pipeline ends at this record, which stays unfinished.
    pub(super) fn stop_at(&mut self, job: Job<U>, failure: Failure, now: Duration) {
        let lane = self.lanes.get(&job.lane).expect("a started job's lane is there");
        let record = lane.record(U::records(&job.item)[0].record);
        self.common.control.fail(PipelineError::of_record(&record, failure));
        self.schedule.handle_failed(job, Verdict::Left, now);
    }
}
