//! Requests whose answer waits for something, one kind for each API that can wait.
//!
//! What a kind waits for is its own; here are when it is taken up again and which file goes on with it. It must not
//! hold a frame, records or a lock: a client may leave thousands parked.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::envelope::Envelope;
use crate::partition::Isolation;
use crate::sessions::Plan;
use crate::waiter::Waiter;

/// A request that waits. Dropping it forgets it.
#[derive(Debug)]
pub struct Parked {
    pub(crate) envelope: Envelope,
    pub(crate) waiting: Waiting,
}

/// What is parked.
#[derive(Debug)]
pub(crate) enum Waiting {
    Fetch(ParkedFetch),
}

/// A fetch that found too little: it waits at every partition that it asked for.
#[derive(Debug)]
pub(crate) struct ParkedFetch {
    pub(crate) plan: Plan,
    pub(crate) limits: FetchLimits,
    pub(crate) deadline: Instant,
    pub(crate) waiter: Arc<Waiter>,
    /// Partitions that did not exist.
    pub(crate) missing: usize,
}

/// What a fetch asks for as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
    pub(crate) isolation: Isolation,
}

impl Parked {
    /// Ready when the request is to be resumed before its deadline.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.waiting {
            Waiting::Fetch(fetch) => fetch.waiter.poll(context),
        }
    }

    /// When the request is to be resumed at the latest.
    pub fn deadline(&self) -> Instant {
        match &self.waiting {
            Waiting::Fetch(fetch) => fetch.deadline,
        }
    }
}
