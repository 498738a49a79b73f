//! Whether the application still takes batches: Kafka's `max.poll.interval.ms`.
//!
//! The clock runs while the application holds batches or has more to take. It stands still while the application waits in
//! `next` and nothing is there, because then the application is not what is slow.

use std::time::Duration;

use crate::Instant;

/// The time since the application made progress.
#[derive(Debug)]
pub(super) struct Liveness {
    limit: Duration,
    /// Since when the clock runs. None while the application waits for records.
    since: Option<Instant>,
    is_told: bool,
}

/// What an application that makes no progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Half of the limit has passed. Told once until it makes progress.
    Half(Duration),
    /// The limit has passed. Told each time, so the caller stops asking.
    Full(Duration),
}

impl Liveness {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, is_told: false }
    }

    /// The application took a batch, or called `next`.
    pub(super) fn progress(&mut self, now: Instant) {
        self.since = Some(now);
        self.is_told = false;
    }

    /// Whether the application waits in `next` while nothing is there to take.
    pub(super) fn set_waiting(&mut self, is_waiting: bool, now: Instant) {
        self.since = if is_waiting { None } else { Some(self.since.unwrap_or(now)) };
        self.is_told &= !is_waiting;
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Late> {
        let since = now - self.since?;
        if since >= self.limit {
            return Some(Late::Full(since));
        }
        if since >= self.limit / 2 && !self.is_told {
            self.is_told = true;
            return Some(Late::Half(since));
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let since = self.since?;
        Some(since + if self.is_told { self.limit } else { self.limit / 2 })
    }
}
