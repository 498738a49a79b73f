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
    is_waiting: bool,
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
        Self { limit, since: None, is_waiting: false, is_told: false }
    }

    /// The application took a batch, or subscribed. That does not end its waiting, so it does not start the clock.
    pub(super) fn progress(&mut self, now: Instant) {
        self.since = (!self.is_waiting).then_some(now);
        self.is_told = false;
    }

    /// Whether the application waits in `next` while nothing is there to take.
    pub(super) fn set_waiting(&mut self, is_waiting: bool, now: Instant) {
        self.is_waiting = is_waiting;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn the_warning_comes_once_and_the_end_after_the_limit() {
        let mut liveness = Liveness::new(Duration::from_secs(10));
        liveness.progress(at(0));
        assert_eq!(liveness.poll(at(4)), None);
        assert_eq!(liveness.poll_timeout(), Some(at(5)));
        assert_eq!(liveness.poll(at(6)), Some(Late::Half(Duration::from_secs(6))));
        assert_eq!((liveness.poll(at(7)), liveness.poll_timeout()), (None, Some(at(10))));
        assert_eq!(liveness.poll(at(10)), Some(Late::Full(Duration::from_secs(10))));
        liveness.progress(at(11));
        assert_eq!(liveness.poll(at(16)), Some(Late::Half(Duration::from_secs(5))));
    }

    #[test]
    fn an_application_that_waits_is_never_late() {
        let mut liveness = Liveness::new(Duration::from_secs(10));
        liveness.set_waiting(true, at(0));
        // It subscribes from another task.
        liveness.progress(at(1));
        assert_eq!((liveness.poll(at(100)), liveness.poll_timeout()), (None, None));
        liveness.set_waiting(false, at(100));
        assert_eq!(liveness.poll_timeout(), Some(at(105)));
    }
}
