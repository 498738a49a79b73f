//! Whether a request that failed is made again, and when. It has no clock of its own.

use std::time::Duration;

use milena_core::backoff::{Backoff, Retry};
use milena_core::{Instant, Rng};

/// The attempts at one request, until a deadline.
#[derive(Debug)]
pub(crate) struct Attempts {
    backoff: Backoff,
    retry: Retry,
    left: u32,
    until: Instant,
    rng: Rng,
}

impl Attempts {
    /// At most `count` attempts, none of which begins after `until`.
    pub(crate) fn new(backoff: Backoff, count: u32, until: Instant, rng: Rng) -> Self {
        Self { backoff, retry: Retry::default(), left: count, until, rng }
    }

    /// An attempt failed at `now` for a reason that may pass. When the next one begins, or none if this was the last.
    pub(crate) fn handle_failure(&mut self, now: Instant) -> Option<Instant> {
        self.left = self.left.saturating_sub(1);
        let at = self.retry.failed(now, &self.backoff, &mut self.rng);
        (self.left > 0 && at < self.until).then_some(at)
    }
}

/// Java's `sasl.login.retry.backoff.ms` and `sasl.login.retry.backoff.max.ms`.
pub(crate) const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    #[test]
    fn attempts_end_by_their_count_and_by_the_deadline() {
        let mut attempts = Attempts::new(BACKOFF, 3, at(10_000), Rng::seeded(1));
        let second = attempts.handle_failure(at(0)).expect("again");
        assert!((at(50)..=at(150)).contains(&second), "{second:?}");
        let third = attempts.handle_failure(second).expect("again");
        assert!(third - second >= Duration::from_millis(100), "{:?}", third - second);
        assert_eq!(attempts.handle_failure(third), None);

        let mut attempts = Attempts::new(BACKOFF, 100, at(40), Rng::seeded(1));
        assert_eq!(attempts.handle_failure(at(0)), None, "the backoff is longer than the time that is left");
    }
}
