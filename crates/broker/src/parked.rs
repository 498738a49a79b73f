//! Parked requests: their answer waits for something. Each API that can wait has a kind of its own.
//!
//! A kind knows what it waits for and until when; the API's file makes it and goes on with it. It must hold no frame,
//! no records and no lock, because a client may leave thousands of them parked.

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

/// The kinds of parked requests.
#[derive(Debug)]
pub(crate) enum Waiting {
    Fetch(ParkedFetch),
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
    pub(crate) isolation: Isolation,
}

impl Parked {
    /// Ready when the request is to be resumed before its deadline. Until then the context's task is woken when it is.
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
