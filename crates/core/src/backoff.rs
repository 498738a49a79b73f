//! How long to wait before trying again: twice as long after each failure, within bounds, with jitter.

use std::time::Duration;

use crate::{Instant, Rng};

/// The bounds of a backoff. `retry.backoff.ms` and `retry.backoff.max.ms` in Kafka's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure, before jitter.
    pub min: Duration,
    /// No delay is longer than this, before jitter.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row; none after none.
    pub fn delay(&self, failures: u32, rng: &mut Rng) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let delay = self.min.saturating_mul(2u32.saturating_pow(doublings)).min(self.max);
        rng.jitter(delay)
    }
}

/// Failures in a row of one thing, and when it may be tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry {
    failures: u32,
    not_before: Option<Instant>,
}

impl Retry {
    /// It worked: the next failure counts as the first.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed at `now`; answers when it may be tried again.
    pub fn failed(&mut self, now: Instant, backoff: &Backoff, rng: &mut Rng) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let at = now + backoff.delay(self.failures, rng);
        self.not_before = Some(at);
        at
    }

    /// Something changed that makes the next attempt promising: no need to wait any longer.
    pub fn hurry(&mut self) {
        self.not_before = None;
    }

    /// Whether it may be tried at `now`.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// When it may be tried again, if that is restricted.
    pub fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

    #[test]
    fn delays_double_up_to_the_maximum_and_spread_by_a_fifth() {
        let mut rng = Rng::seeded(7);
        for (failures, expected_ms) in
            [(0u32, 0u64), (1, 100), (2, 200), (4, 800), (5, 1000), (4_000_000_000, 1000)]
        {
            for _ in 0..100 {
                let delay = BACKOFF.delay(failures, &mut rng).as_millis() as u64;
                assert!(
                    (expected_ms * 8 / 10..=expected_ms * 12 / 10).contains(&delay),
                    "{failures}: {delay} ms"
                );
            }
        }
    }

    #[test]
    fn a_success_forgets_the_failures() {
        let mut rng = Rng::seeded(7);
        let mut retry = Retry::default();
        assert!(retry.is_ready(Instant::ORIGIN));
        let at = retry.failed(Instant::ORIGIN, &BACKOFF, &mut rng);
        assert!(!retry.is_ready(Instant::ORIGIN) && retry.is_ready(at));
        retry.succeeded();
        assert!(retry.is_ready(Instant::ORIGIN));
    }
}
