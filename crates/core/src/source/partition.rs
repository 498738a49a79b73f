//! One partition being read: where, from whom, and whether it may be fetched.

use std::sync::Arc;

use milena_wire::{Str, Uuid};

use super::{Epoch, LaneId, Position};
use crate::backoff::Retry;
use crate::{BrokerId, Instant, LeaderEpoch};

#[derive(Debug)]
pub(super) struct Partition {
    pub topic: Arc<str>,
    pub topic_name: Str,
    pub topic_id: Option<Uuid>,
    pub index: i32,
    pub is_assigned: bool,
    pub epoch: Epoch,
    pub state: State,
    pub leader: Option<BrokerId>,
    pub leader_epoch: Option<LeaderEpoch>,
    /// Which of the leader's lanes it is fetched by.
    pub lane: u8,
    pub is_paused: bool,
    /// Too much of it is buffered.
    pub is_full: bool,
    pub buffered_bytes: usize,
    /// What each of the batches takes that came last, or one that did not come whole; 0 where they are not alike.
    pub batch_bytes: usize,
    /// Where its broker said last that it ends, for readers of our isolation. In a session, nothing said is no change.
    pub end: Option<i64>,
    /// Whether somebody reads it and nothing else.
    pub has_own_reader: bool,
    /// What is counted of it, for which lane: bytes that are buffered, and those of a reader of its own.
    pub counted: Option<(LaneId, usize, usize)>,
    /// The position was counted back from the end and may lie before the first record: that is not an error then.
    pub clamp: bool,
    pub retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The offset is to be looked up.
    Unresolved { position: Position, asked: bool },
    /// Read from `next` on.
    Fetching { next: i64 },
    /// Not read.
    Stopped,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, index: i32) -> Self {
        Self {
            topic_name: Str::from(&*topic),
            topic,
            topic_id: None,
            index,
            is_assigned: false,
            epoch: Epoch::default(),
            state: State::Stopped,
            leader: None,
            leader_epoch: None,
            lane: 0,
            is_paused: false,
            is_full: false,
            buffered_bytes: 0,
            batch_bytes: 0,
            end: None,
            has_own_reader: false,
            counted: None,
            clamp: false,
            retry: Retry::default(),
        }
    }

    /// The way it is fetched, if it has a leader.
    pub(super) fn lane(&self) -> Option<LaneId> {
        self.leader.map(|broker| LaneId { broker, lane: self.lane })
    }

    /// Whether it is to be fetched, but for a backoff.
    pub(super) fn may_be_fetched(&self) -> bool {
        matches!(self.state, State::Fetching { .. }) && !self.is_paused && !self.is_full
    }

    /// Whether it is to be fetched now.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.may_be_fetched() && self.retry.is_ready(now)
    }

    /// The offset it stands at, if that is known.
    pub(super) fn position(&self) -> Option<i64> {
        match self.state {
            State::Fetching { next } => Some(next),
            State::Unresolved { position: Position::Offset(offset), .. } => Some(offset),
            _ => None,
        }
    }
}
