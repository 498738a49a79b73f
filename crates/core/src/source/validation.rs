//! Whether a log still has what was read of it (KIP-320).
//!
//! ```text
//!  read up to offset 100, in leader epoch 3 ── the leader of epoch 5: where does epoch 3 end? ─▶
//!                                            ◀─ at 120: its log has it all. At 80: 80..100 are gone ──
//! ```
//!
//! After an unclean election the new leader lacks the last records of the old one, and later writes others at their
//! offsets. A reader that went on by offset alone would miss those. `state.rs` says when a position is validated.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_messages::ErrorCode;
use milena_messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};

use super::state::{self, Input, State, Tell};
use super::{Event, Slot, Source, Validation, unmentioned};
use crate::{Failure, Instant, LeaderEpoch};

impl Source {
    /// `slot` has a leader, which may be another one than before.
    pub(super) fn step_led(&mut self, slot: Slot) {
        let partition = &self.partitions[slot.0 as usize];
        if partition.leader.is_none() {
            return;
        }
        let before = partition.state;
        self.step(slot, Input::Led(partition.leader_epoch));
        let was_asked = matches!(before, State::Validating { .. } | State::LookingUp { .. });
        if was_asked && self.at(slot).state != before {
            self.forget_asked(slot);
        }
    }

    /// The next request that asks one leader about all positions that are to be validated there.
    pub fn poll_validation(&mut self, now: Instant) -> Option<Validation> {
        debug_assert!(now >= self.passed_at, "what time made possible would not be possible yet");
        let is_due = |state| matches!(state, State::Unvalidated { .. });
        let broker = self.leader_to_ask(is_due, now)?;
        let mut topics: BTreeMap<Arc<str>, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        let mut asked = Vec::new();
        for slot in &self.unresolved {
            let partition = &mut self.partitions[slot.0 as usize];
            let State::Unvalidated { read_in, .. } = partition.state else { continue };
            if partition.leader != Some(broker) || !partition.retry.is_ready(now) {
                continue;
            }
            // Not by `step`: it stays in `unresolved`, which this loop goes through.
            (partition.state, _) = state::next(partition.state, Input::Asked);
            topics.entry(Arc::clone(&partition.topic)).or_default().push(OffsetForLeaderPartition {
                partition: partition.index,
                current_leader_epoch: partition.leader_epoch.map_or(-1, |epoch| epoch.0),
                leader_epoch: read_in.0,
                ..Default::default()
            });
            asked.push((*slot, partition.epoch));
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetForLeaderTopic {
            topic: (&*name).into(),
            partitions,
            ..Default::default()
        });
        let request =
            OffsetForLeaderEpochRequest { replica_id: -1, topics: topics.collect(), ..Default::default() };
        let number = self.number();
        self.lookups.insert(number, asked);
        Some(Validation { broker, number, request, deadline: now + self.settings.request_timeout })
    }

    /// A validation was answered, or failed.
    pub fn handle_validation(
        &mut self,
        number: u64,
        answer: Result<OffsetForLeaderEpochResponse, Failure>,
        now: Instant,
    ) {
        let Some(asked) = self.lookups.remove(&number) else { return };
        let (response, failure) = match answer {
            Ok(response) => (response, None),
            Err(failure) => (OffsetForLeaderEpochResponse::default(), Some(failure)),
        };
        let answers = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|end| ((&*topic.topic, end.partition), end)));
        let answers: BTreeMap<_, _> = answers.collect();
        for (slot, epoch) in asked {
            let partition = self.at(slot);
            // It was sought, or its slot given to another partition, since it was asked about.
            if partition.epoch != epoch {
                continue;
            }
            let outcome = match (answers.get(&(&*partition.topic, partition.index)), &failure) {
                (Some(end), _) => {
                    end.error_code.ok().map(|()| *end).map_err(|code| Failure::answer(code, None))
                }
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Err(unmentioned()),
            };
            self.validate(slot, outcome, now);
        }
    }

    fn validate(&mut self, slot: Slot, outcome: Result<&EpochEndOffset, Failure>, now: Instant) {
        let State::Validating { next, read_in } = self.at(slot).state else { return };
        match outcome {
            // −1 (UNDEFINED_EPOCH_OFFSET): the leader knows nothing of the epoch, as after an upgrade from old message
            // formats or after a controller that has lost epochs. That does not say that records were lost. If the
            // offset does not exist, the fetch says so.
            Ok(end) if end.end_offset < 0 || end.leader_epoch < 0 || end.end_offset >= next => {
                self.handle_valid(slot);
            }
            Ok(end) => self.handle_truncated(slot, next, read_in, end),
            // The broker cannot be asked: it is too old, or it lets only other brokers ask (before 2.3).
            Err(
                Failure::NoCommonVersion { .. }
                | Failure::Answer { code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED, .. },
            ) => {
                self.handle_valid(slot);
            }
            // An error that stays stops the partition. It says nothing of the position, and is no reason to reset it.
            Err(failure) => {
                self.step(slot, Input::Unanswered);
                self.handle_partition_failure(slot, failure, now);
            }
        }
    }

    fn handle_valid(&mut self, slot: Slot) {
        self.step(slot, Input::Valid);
        self.at(slot).retry.succeeded();
        self.hasten(slot);
    }

    fn handle_truncated(&mut self, slot: Slot, next: i64, read_in: LeaderEpoch, end: &EpochEndOffset) {
        let EpochEndOffset { end_offset: offset, leader_epoch, .. } = *end;
        let why = format!(
            "the log was cut off by an unclean election: it differs from offset {offset} on, and it was read up to \
             offset {next}, in leader epoch {read_in}"
        );
        let resumes = self.settings.reset.is_some();
        let input = Input::Truncated { offset, leader_epoch: LeaderEpoch::known(leader_epoch), resumes };
        if !resumes {
            return self.stop_on(slot, input, Failure::answer(ErrorCode::OFFSET_OUT_OF_RANGE, Some(&why)));
        }
        let epoch = self.at(slot).epoch;
        if let Tell::Truncated { position, read_in } = self.step(slot, input) {
            self.at(slot).retry.succeeded();
            self.events.push_back(Event::Truncated { slot, epoch, offset, position, leader_epoch: read_in });
            self.hasten(slot);
        }
    }
}
