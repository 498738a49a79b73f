//! What a member measures of its group's requests and rebalances, if there are metrics.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_core::group::{Ask, Event, Membership, Protocol, Request};
use milena_core::{Failure, Instant};
use milena_messages::ErrorCode;
use milena_messages::offset_commit::OffsetCommitResponse;

use super::rebalancing::Reason;
use super::{Group, GroupTag};
use crate::connection::Answer;

impl Group {
    /// A request of this member's is no longer under way.
    pub(super) fn count_landed(&self, tag: &GroupTag, outcome: &Result<Answer, Failure>) {
        let Some(metrics) = &self.client.0.metrics else { return };
        let consuming = &metrics.consuming;
        match (tag, outcome) {
            (GroupTag::Join(_), Ok(answer)) => consuming.note_rebalancing("join", answer.course.took()),
            (GroupTag::Sync(_), Ok(answer)) => consuming.note_rebalancing("sync", answer.course.took()),
            (GroupTag::Commit(_), Ok(answer)) => consuming.note_commit(&answer.course),
            (GroupTag::Commit(_), Err(failure)) => consuming.note_commit_error(failure.label()),
            _ => {}
        }
    }

    /// The coordinator has refused offsets of a commit, if it has: each code counts once.
    pub(super) fn count_refused(&self, response: &OffsetCommitResponse) {
        let Some(metrics) = &self.client.0.metrics else { return };
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|partition| partition.error_code).filter(|code| *code != ErrorCode::NONE);
        for code in codes.map(ErrorCode::name).collect::<BTreeSet<_>>() {
            metrics.consuming.note_commit_error(code);
        }
    }

    /// A request of this member's is sent.
    pub(super) fn measure_ask(&mut self, ask: &Ask, now: Instant) {
        let is_outside = self.identity.is_none();
        match ask.request {
            Request::Join(_) | Request::Consumer(_) if is_outside => {
                self.rebalancing.begin(Reason::Join, now);
            }
            // A member joins again because its coordinator rebalances the group.
            Request::Join(_) => self.rebalancing.begin(Reason::Assign, now),
            _ => {}
        }
    }

    /// The membership says this, and it is carried out after this call.
    pub(super) fn measure_event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Revoke { .. } => self.rebalancing.revoke(now),
            Event::Lost { .. } => self.rebalancing.begin(Reason::Lost, now),
            Event::Left(_) | Event::Failed(_) => self.rebalancing.end(),
            Event::Slow { .. } => {}
            Event::Assign { partitions } => {
                let Some((reason, took)) = self.rebalancing.assigned(!partitions.is_empty(), now) else {
                    return;
                };
                self.note_rebalanced(reason, took);
            }
        }
    }

    /// All partitions that were taken back are given up.
    pub(super) fn measure_released(&mut self, now: Instant) {
        if !self.barriers.is_empty() {
            return;
        }
        let took = self.rebalancing.released(now);
        self.note_phase("revoke", took);
        let protocol = self.membership.as_ref().map(Membership::protocol);
        if protocol == Some(Protocol::Consumer)
            && self.closing.is_none()
            && let Some(took) = self.rebalancing.given_up(now)
        {
            self.note_rebalanced(Reason::Revoke, Some(took));
        }
    }

    /// Partitions have begun to be read, if some were to.
    pub(super) fn measure_started(&mut self, now: Instant) {
        if self.starting.is_empty() {
            let took = self.rebalancing.started(now);
            self.note_phase("start", took);
        }
    }

    fn note_rebalanced(&self, reason: Reason, took: Option<Duration>) {
        if let Some(metrics) = &self.client.0.metrics {
            metrics.consuming.note_rebalanced(reason.label());
        }
        self.note_phase("total", took);
    }

    fn note_phase(&self, phase: &'static str, took: Option<Duration>) {
        if let (Some(metrics), Some(took)) = (&self.client.0.metrics, took) {
            metrics.consuming.note_rebalancing(phase, took);
        }
    }
}
