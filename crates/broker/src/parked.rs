//! Parked requests: their answer waits for something. Each API that can wait has a kind of its own.
//!
//! A kind knows what it waits for and until when; the API's file makes it and goes on with it. It must hold no frame,
//! no records and no lock, because a client may leave thousands of them parked.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use milena_messages::join_group::JoinGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;

use milena_wire::{Str, WireFrame};

use crate::envelope::Envelope;
use crate::groups::reply::Reply;
use crate::now::Now;
use crate::partition::Isolation;
use crate::sessions::Plan;
use crate::waiter::Waiter;

/// A request that waits. Dropping it forgets it.
#[derive(Debug)]
pub struct Parked {
    pub(crate) envelope: Envelope,
    pub(crate) waiting: Waiting,
}

/// The kinds of parked requests.
#[derive(Debug)]
pub(crate) enum Waiting {
    Fetch(ParkedFetch),
    Join(ParkedReply<JoinGroupResponse>),
    Sync(ParkedReply<SyncGroupResponse>),
    Denied(Denied),
}

/// The last answer to a client whose authentication has failed. It waits until its time has come.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) frame: WireFrame,
    pub(crate) due: Instant,
}

/// A fetch that found too few bytes. It waits at every partition that it asks for.
#[derive(Debug)]
pub(crate) struct ParkedFetch {
    pub(crate) plan: Plan,
    pub(crate) limits: FetchLimits,
    pub(crate) deadline: Instant,
    pub(crate) waiter: Arc<Waiter>,
    /// The number of partitions that did not exist when it was parked.
    pub(crate) missing: usize,
}

/// The limits of a fetch that hold for all partitions together.
#[derive(Debug, Clone)]
pub(crate) struct FetchLimits {
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
    pub(crate) isolation: Isolation,
    pub(crate) replicas: Replicas,
}

/// Which replicas answer a fetch (KIP-392).
#[derive(Debug, Clone)]
pub(crate) enum Replicas {
    /// Leaders only: the request is older than v11.
    Leader,
    /// Any. A leader names one in the consumer's rack, if a node is in that rack.
    Any { rack: Option<Str> },
}

/// A request that waits for the group coordinator's reply. It has no deadline of its own: the coordinator's timers
/// answer it.
#[derive(Debug)]
pub(crate) struct ParkedReply<T> {
    pub(crate) reply: Arc<Reply<T>>,
    look_again: Instant,
}

/// A parked request must have a deadline. This one only has the request parked again.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

impl<T> ParkedReply<T> {
    pub(crate) fn new(reply: Arc<Reply<T>>, now: Now) -> Self {
        Self { reply, look_again: now.instant + LOOK_AGAIN }
    }

    /// The same request, which waits on.
    pub(crate) fn again(self, now: Now) -> Self {
        Self::new(self.reply, now)
    }
}

impl Parked {
    /// Ready when the request is to be resumed before its deadline. Until then the context's task is woken when it is.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.waiting {
            Waiting::Fetch(fetch) => fetch.waiter.poll(context),
            Waiting::Join(join) => join.reply.poll(context),
            Waiting::Sync(sync) => sync.reply.poll(context),
            Waiting::Denied(_) => Poll::Pending,
        }
    }

    /// How long its connection may be silent. A member of a group waits for the others as long as their rebalance timeout
    /// allows, and must not lose its connection meanwhile.
    pub(crate) fn idle_timeout(&self, usual: Duration) -> Duration {
        match &self.waiting {
            Waiting::Fetch(_) | Waiting::Denied(_) => usual,
            Waiting::Join(_) | Waiting::Sync(_) => usual.max(LOOK_AGAIN),
        }
    }

    /// When the request is to be resumed at the latest.
    pub fn deadline(&self) -> Instant {
        match &self.waiting {
            Waiting::Fetch(fetch) => fetch.deadline,
            Waiting::Join(join) => join.look_again,
            Waiting::Sync(sync) => sync.look_again,
            Waiting::Denied(denied) => denied.due,
        }
    }
}
