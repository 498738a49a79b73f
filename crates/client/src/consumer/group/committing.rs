//! The commits of a group: marks of the application go in, and what its coordinator has stored or refused comes out, to whoever
//! asked for it. Who owns a partition, and when it is given up, is the parent's.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::commits::{Event as CommitEvent, NotCommitted, StoredOffset, Ticket};
use milena_core::group::{MemberIdentity, Membership, TopicPartition};
use milena_core::transaction::{Offsets, moved_on};
use milena_core::{Failure, Instant};

use super::super::driver::Driver;
use super::super::queue::Queue;
use super::{Group, Question, Releasing};
use crate::Error;

/// Without automatic commits, what is marked is taken in so often, so that it takes little memory.
const MANUAL_DRAIN: Duration = Duration::from_secs(1);

impl Group {
    /// Answers whether there was any.
    pub(super) fn handle_commit_events(&mut self, driver: &mut Driver, now: Instant) -> bool {
        let mut is_any = false;
        while let Some(event) = self.commits.poll_event() {
            self.handle_commit_event(event, driver, now);
            is_any = true;
        }
        is_any
    }

    fn handle_commit_event(&mut self, event: CommitEvent, driver: &mut Driver, now: Instant) {
        match event {
            CommitEvent::Settled(ticket, result) => self.settle(ticket, result, driver),
            CommitEvent::Found(at, found) => {
                self.answer(&at, &found);
                if let Some(starting) = self.starting.get_mut(&at) {
                    starting.found = Some(found);
                }
            }
            CommitEvent::Rejoin { failure, generation_or_epoch } => {
                if let (Some(code), Some(membership)) = (failure.code(), &mut self.membership) {
                    membership.handle_commit_refused(code, generation_or_epoch, now);
                }
            }
            CommitEvent::Fenced(failure) => {
                let generation = self.identity.as_ref().map_or(-1, |identity| identity.generation_or_epoch);
                if let (Some(code), Some(membership)) = (failure.code(), &mut self.membership) {
                    membership.handle_commit_refused(code, generation, now);
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<(), NotCommitted>, driver: &mut Driver) {
        if let Some(reply) = self.calls.remove(&ticket) {
            // The caller may have stopped waiting.
            let _ = reply.send(result.map_err(Error::not_committed));
            return;
        }
        let barrier = self.barriers.iter_mut().find(|of| of.state == Releasing::Committing(ticket));
        let Some(barrier) = barrier else { return self.refuse_uncommitted(result, driver) };
        barrier.state = Releasing::Finished;
        if let Err(error) = result {
            tracing::warn!(target: "milena", "partitions are given up, and not all that was done is committed: {error}");
            if let Some(closing) = &mut self.closing {
                match &mut closing.failure {
                    Some(of_others) => of_others.partitions.extend(error.partitions),
                    None => closing.failure = Some(error),
                }
            }
        }
    }

    /// What a transaction commits of this member: these offsets, or what is done. Of what was done and cannot be committed any more,
    /// because its partition is gone, the records may be in the transaction, so that it must not be committed.
    pub(super) fn offsets_in_transaction(
        &mut self,
        given: Option<Vec<(TopicPartition, StoredOffset)>>,
        of: &[Arc<Queue>],
        now: Instant,
    ) -> Result<Offsets, Error> {
        let doing = || format!("committing offsets of group {:?} in a transaction", self.id);
        if self.commit_settings.interval.is_some() || self.commit_settings.is_before_delivery {
            let why = "the consumer commits by itself: make it with manual_commits()";
            return Err(Error::caller(doing(), why));
        }
        self.drain(now);
        for ((topic, partition), offset) in self.standing.take_late() {
            self.commits.handle_done_too_late(&TopicPartition { topic, partition }, offset);
        }
        if given.is_none()
            && let Some(left_out) = self.commits.take_left_out()
        {
            return Err(Error::not_committed(left_out));
        }
        let doing = || format!("committing offsets of group {:?} in a transaction", self.id);
        let gone =
            |at: &TopicPartition| Error::harmless(doing(), moved_on(&format!("{at} was given up before")));
        for queue in of {
            let at = TopicPartition::new(&queue.topic, queue.partition);
            if !self.owned.get(&at).is_some_and(|owned| Arc::ptr_eq(owned, queue)) {
                return Err(gone(&at));
            }
        }
        let offsets = given.unwrap_or_else(|| self.commits.done());
        for (at, what) in &offsets {
            if what.offset < 0 {
                return Err(Error::caller(doing(), "an offset to commit is 0 or more"));
            }
            if !self.owned.contains_key(at) {
                return Err(gone(at));
            }
        }
        let outside = || Some(MemberIdentity::outside());
        let member = self.membership.as_ref().map_or_else(outside, Membership::identity);
        let member = member.ok_or_else(|| {
            let why = "the consumer is in no generation of its group";
            Error::harmless(doing(), moved_on(why))
        })?;
        Ok(Offsets { group: Arc::clone(&self.id), member, offsets })
    }

    /// With commits before delivery, what the group will not store is not handed out, and the application hears why.
    fn refuse_uncommitted(&self, result: Result<(), NotCommitted>, driver: &mut Driver) {
        let Err(error) = result else { return };
        for of in Error::not_committed(error).uncommitted() {
            let at = TopicPartition::new(&Arc::from(&*of.topic), of.partition);
            // What a rebalance has refused is committed again once the member is back.
            if let Some(queue) = self.owned.get(&at).filter(|_| self.commits.is_refused(&at)) {
                driver.refuse(queue, of.error.clone());
            }
        }
    }

    fn answer(&mut self, at: &TopicPartition, found: &Result<Option<StoredOffset>, Failure>) {
        let mut index = 0;
        while let Some(question) = self.questions.get_mut(index) {
            if question.missing.remove(at) {
                match found {
                    Ok(stored) => question.found.push((at.clone(), stored.clone())),
                    Err(failure) => {
                        let question = self.questions.swap_remove(index);
                        let doing = format!("asking what group {:?} has committed of {at}", self.id);
                        let _ = question.reply.send(Err(Error::harmless(doing, failure.clone())));
                        continue;
                    }
                }
            }
            if question.missing.is_empty() {
                let Question { found, reply, .. } = self.questions.swap_remove(index);
                let _ = reply.send(Ok(found));
                continue;
            }
            index += 1;
        }
    }

    pub(super) fn expire_questions(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(question) = self.questions.get(index) {
            if question.deadline > now && !question.missing.is_empty() {
                index += 1;
                continue;
            }
            let Question { missing, found, reply, .. } = self.questions.swap_remove(index);
            let result = if missing.is_empty() {
                Ok(found)
            } else {
                let doing = format!("asking what group {:?} has committed", self.id);
                let after = self.client.0.settings.client.api_timeout;
                let peer = "the group's coordinator".into();
                Err(Error::harmless(doing, Failure::TimedOut { peer, after, sent: false }))
            };
            let _ = reply.send(result);
        }
    }

    /// Takes in what is marked when the first mark comes, so that the time until the commit counts from there, and again
    /// before anything is committed by itself.
    pub(super) fn drain_if_due(&mut self, now: Instant) {
        let is_due = self.drain_at.or(self.commits.poll_timeout()).is_some_and(|at| at <= now);
        if is_due {
            self.drain_at = None;
            self.standing.clear_marks();
            self.drain(now);
        } else if self.standing.has_marks() && self.drain_at.is_none() {
            self.drain_at = Some(now + self.commit_settings.interval.unwrap_or(MANUAL_DRAIN));
            self.drain(now);
        } else if self.standing.take_crowd() {
            self.drain(now);
        }
    }

    pub(super) fn drain(&mut self, now: Instant) {
        let marked = self.owned.iter().filter(|(_, queue)| queue.has_marks());
        let marked: Vec<_> = marked.map(|(at, _)| at.clone()).collect();
        for at in &marked {
            self.drain_one(at, now);
        }
    }

    pub(super) fn drain_one(&mut self, at: &TopicPartition, now: Instant) {
        let Some(queue) = self.owned.get(at) else { return };
        queue.take_marks(&mut self.marks);
        for (epoch, offsets) in self.marks.drain(..) {
            self.commits.handle_done(at, epoch, offsets, now);
        }
        self.close_if_full(at);
    }

    /// Marks the next batch as done before it is handed out, and commits it. Only one that is waited for: what is committed and
    /// not taken would be lost. Partitions without a reader of their own take turns.
    pub(super) fn commit_before_delivery(&mut self, driver: &Driver, now: Instant) {
        if self.gated.is_empty() || !driver.ready.is_waited_for() {
            return;
        }
        let (mut waiting, mut is_shared_chosen) = (Vec::new(), false);
        let later = self.gated.range((Bound::Excluded(&self.last_gated), Bound::Unbounded));
        for at in later.chain(self.gated.range(..=&self.last_gated)) {
            let queue = self.owned.get(at).filter(|queue| !queue.gate.is_paused());
            let (Some(queue), Some(ledger)) = (queue, self.commits.ledger(at)) else { continue };
            let inner = queue.inner();
            let (front, epoch) = (inner.front(), inner.epoch);
            drop(inner);
            let Some((offsets, leader_epoch)) = front.filter(|_| epoch == ledger.epoch()) else { continue };
            let is_own = queue.is_taken();
            if ledger.delivered() >= offsets.end {
                // It is on its way, and the others wait.
                is_shared_chosen |= !is_own;
            } else {
                waiting.push((is_own, at.clone(), epoch, offsets, leader_epoch));
            }
        }
        let mut chosen = Vec::new();
        for (is_own, at, epoch, offsets, leader_epoch) in waiting {
            if is_own || !std::mem::replace(&mut is_shared_chosen, true) {
                chosen.push((at, epoch, offsets, leader_epoch));
            }
        }
        if chosen.is_empty() {
            return;
        }
        for (at, epoch, offsets, leader_epoch) in chosen {
            self.commits.handle_delivered(&at, epoch, offsets, leader_epoch, now);
            self.last_gated = at;
        }
        // Nobody waits for it: what fails is tried again, and the batches wait in their queues.
        self.commits.commit(now + self.commit_settings.request_timeout, now);
    }

    /// Hands out what was committed, and what is not full any more.
    pub(super) fn let_out(&mut self, driver: &Driver) {
        let (owned, commits) = (&self.owned, &self.commits);
        self.gated.retain(|at| {
            let Some(queue) = owned.get(at) else { return false };
            let Some(stored) = commits.stored(at) else { return true };
            driver.open(queue, stored);
            let front = queue.inner().front();
            front.is_some_and(|(offsets, _)| offsets.end > stored)
        });
        self.full.retain(|at| {
            let Some(queue) = owned.get(at) else { return false };
            let is_full = commits.is_full(at);
            if !is_full {
                driver.open(queue, i64::MAX);
            }
            is_full
        });
    }

    /// Hands out no more of a partition while its account is full.
    fn close_if_full(&mut self, at: &TopicPartition) {
        if !self.commits.is_full(at) {
            return;
        }
        let Some(ledger) = self.commits.ledger(at) else { return };
        if self.commit_settings.is_before_delivery || !self.full.insert(at.clone()) {
            return;
        }
        let (runs, offset) = (ledger.runs(), ledger.committable().offset);
        tracing::warn!(
            target: "milena",
            "group {}: {runs} runs of records of {at} are done after offset {offset}, which is not; no more of it is \
             returned until that is done",
            self.id
        );
        if let Some(queue) = self.owned.get(at) {
            queue.set_open_until(i64::MIN);
        }
    }
}
