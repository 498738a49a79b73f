//! One broker as the producer sees it: what waits to go there, and whether anything may go now.

use std::collections::VecDeque;
use std::time::Duration;

use super::Slot;
use crate::backoff::Retry;
use crate::throttle::Muted;
use crate::{BrokerId, Instant};

/// No broker's throttle holds longer than this, however large the number it sends (KIP-219 sets no bound).
const THROTTLE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Sink {
    /// Requests sent and not answered.
    pub in_flight: usize,
    /// Batches for this broker that are being sealed: it is about to be busy, so open batches may grow.
    pub sealing: usize,
    /// Partitions with a batch to send or to close, to be looked at.
    pub waiting: VecDeque<Slot>,
    /// Partitions whose oldest batch can go out with the next request.
    pub ready: VecDeque<Slot>,
    /// Failures of the connection to it.
    pub retry: Retry,
    /// The broker takes no request before this (KIP-219).
    pub muted_until: Option<Instant>,
    /// When it was muted last.
    pub muted: Muted,
}

/// Sinks that are to be looked at, in ascending order. A producer looks at them several times per request, and they are a few at
/// most.
#[derive(Debug, Default)]
pub(super) struct Stirred(Vec<BrokerId>);

impl Stirred {
    pub(super) fn insert(&mut self, broker: BrokerId) {
        if let Err(place) = self.0.binary_search(&broker) {
            self.0.insert(place, broker);
        }
    }

    pub(super) fn retain(&mut self, is_kept: impl FnMut(&BrokerId) -> bool) {
        self.0.retain(is_kept);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &BrokerId> {
        self.0.iter()
    }
}

impl Sink {
    /// Whether a request may be sent at `now`.
    pub(super) fn is_open(&self, in_flight_max: usize, now: Instant) -> bool {
        self.in_flight < in_flight_max
            && self.retry.is_ready(now)
            && self.muted_until.is_none_or(|until| until <= now)
    }

    /// Whether the broker has nothing to do: then an open batch gains nothing by waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.sealing == 0
    }

    /// The broker asks for no request before `throttle` is over (KIP-219).
    pub(super) fn mute(&mut self, now: Instant, throttle: Duration) {
        self.muted_until = (throttle > Duration::ZERO).then(|| now + throttle.min(THROTTLE_MAX));
        self.muted.note(throttle.min(THROTTLE_MAX), now);
    }
}
