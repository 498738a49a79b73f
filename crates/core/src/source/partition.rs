//! One partition being read: where, from whom, and whether it may be fetched.

use std::sync::Arc;

use milena_wire::{Str, Uuid};

use super::buffer::{Amount, Buffer};
use super::state::State;
use super::{Epoch, LaneId};
use crate::backoff::Retry;
use crate::{BrokerId, Instant, LeaderEpoch};

#[derive(Debug)]
pub(super) struct Partition {
    pub topic: Arc<str>,
    pub topic_name: Str,
    pub topic_id: Option<Uuid>,
    pub index: i32,
    pub epoch: Epoch,
    pub state: State,
    pub leader: Option<BrokerId>,
    pub leader_epoch: Option<LeaderEpoch>,
    /// The replica that the leader has named as nearer to us (KIP-392).
    pub follower: Option<BrokerId>,
    /// Which of the broker's lanes it is fetched by.
    pub lane: u8,
    pub is_paused: bool,
    pub buffer: Buffer,
    /// Since when its buffer has been above its high watermark.
    pub full_since: Option<Instant>,
    pub reader: Reader,
    /// Whether its own reader has found nothing since it took the last batch, and waits.
    pub is_awaited: bool,
    /// The size of a batch, if those that came last are alike, or of one that did not come whole. 0 if they are not
    /// alike.
    pub batch_bytes: usize,
    /// The end of the partition for our isolation level, as its broker said it last. A broker that leaves the partition
    /// out of an answer means that nothing has changed (KIP-227).
    pub end: Option<i64>,
    /// What `Lane::buffered_bytes` and `Lane::own_bytes` have of it, and of which lane.
    pub counted: Option<(LaneId, usize, usize)>,
    /// What the total of all partitions has of it.
    pub counted_in_all: Amount,
    pub retry: Retry,
}

/// How the application takes what comes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// In turns with other partitions, whichever has something.
    Shared,
    /// On its own: its reader waits for this partition and for no other.
    Own,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, index: i32) -> Self {
        Self {
            topic_name: Str::from(&*topic),
            topic,
            topic_id: None,
            index,
            epoch: Epoch::default(),
            state: State::Unassigned,
            leader: None,
            leader_epoch: None,
            follower: None,
            lane: 0,
            is_paused: false,
            buffer: Buffer::default(),
            full_since: None,
            counted_in_all: Amount::default(),
            reader: Reader::Shared,
            is_awaited: false,
            batch_bytes: 0,
            end: None,
            counted: None,
            retry: Retry::default(),
        }
    }

    /// The broker that it is fetched from: the leader, or the follower that the leader has named.
    pub(super) fn source(&self) -> Option<BrokerId> {
        self.follower.or(self.leader)
    }

    /// The lane it is fetched by, if it has a leader.
    pub(super) fn lane(&self) -> Option<LaneId> {
        self.source().map(|broker| LaneId { broker, lane: self.lane })
    }

    /// Whether it is to be fetched, but for a backoff.
    pub(super) fn may_be_fetched(&self) -> bool {
        matches!(self.state, State::Fetching { .. }) && !self.is_paused && !self.buffer.is_full()
    }

    /// Whether it still stands where it stood when this was asked of it.
    pub(super) fn is_at(&self, epoch: Epoch, offset: i64) -> bool {
        self.epoch == epoch && self.state.fetched() == Some(offset)
    }

    /// Whether it is to be fetched now.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.may_be_fetched() && self.retry.is_ready(now)
    }
}
