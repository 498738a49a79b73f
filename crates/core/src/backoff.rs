//! How long to wait before trying again: twice as long after each failure, within bounds, with jitter.

use std::time::Duration;

use crate::failure::Obstacle;
use crate::{Failure, Instant, Rng};

/// The bounds of a backoff: `retry.backoff.ms` and `retry.backoff.max.ms` in Kafka's terms. However small they are set, the
/// delay after a first failure is at least [`FLOOR`](Self::FLOOR), and it doubles at least up to
/// [`FLOOR_MAX`](Self::FLOOR_MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure, before jitter.
    pub min: Duration,
    /// No delay is longer than this, before jitter.
    pub max: Duration,
}

impl Backoff {
    /// The shortest first delay. A setting of zero must not let a loop run as fast as a broker answers.
    pub const FLOOR: Duration = Duration::from_millis(10);
    /// The shortest maximum. Whatever the settings, something that fails again and again is not tried more often than this.
    pub const FLOOR_MAX: Duration = Duration::from_millis(100);

    /// The delay after `failures` failures in a row, zero if there was none.
    pub fn delay(&self, failures: u32, rng: &mut Rng) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let (min, max) = (self.min.max(Self::FLOOR), self.max.max(Self::FLOOR_MAX));
        rng.jitter(min.saturating_mul(2u32.saturating_pow(doublings)).min(max))
    }
}

/// Counts how often in a row one thing has failed, and says when it may be tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry {
    failures: u32,
    malformed: u32,
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

    /// It failed, and trying again at once may succeed. It counts as a failure for the attempts that follow.
    pub fn failed_but_try_at_once(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = None;
    }

    /// As [`failed`](Self::failed), with the cause.
    pub fn failed_by(
        &mut self,
        failure: &Failure,
        now: Instant,
        backoff: &Backoff,
        rng: &mut Rng,
    ) -> Instant {
        self.malformed = self.malformed.saturating_add(u32::from(failure.is_unusable()));
        self.failed(now, backoff, rng)
    }

    /// Whether a request that met `failure` instead of an answer may succeed later. A peer may break the protocol once by
    /// accident. When it has done so twice without a success between, it is not tried again.
    pub fn may_pass(&self, failure: &Failure) -> bool {
        failure.is_retriable() || (failure.is_unusable() && self.malformed < 2)
    }

    /// Whether to tell people of `failure`, the last one, because they may be waiting: at the third failure in a row, the
    /// sixth, the twelfth and so on, since one or two are normal while a leader moves. A request that was not answered in time
    /// has lasted long already, so it is told each time. A name that does not resolve may be misspelt, so it is told the first
    /// time too.
    pub fn is_notable(&self, failure: &Failure) -> bool {
        let is_their_turn = self.failures.is_multiple_of(3) && (self.failures / 3).is_power_of_two();
        let is_first_of_name = self.failures == 1 && failure.obstacle() == Some(Obstacle::Name);
        is_their_turn || is_first_of_name || matches!(failure, Failure::TimedOut { sent: true, .. })
    }

    /// Something changed, so that the next attempt may succeed: it may begin at once.
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
    fn no_setting_makes_a_storm() {
        let mut rng = Rng::seeded(7);
        let never = Backoff { min: Duration::ZERO, max: Duration::ZERO };
        let (mut retry, mut now, mut attempts) = (Retry::default(), Instant::ORIGIN, 0);
        while now < Instant::ORIGIN + Duration::from_secs(1) {
            attempts += 1;
            now = retry.failed(now, &never, &mut rng);
        }
        assert!((8..=16).contains(&attempts), "{attempts} attempts in a second");
    }

    #[test]
    fn people_hear_of_it_before_a_second_has_passed_and_then_ever_more_rarely() {
        let mut rng = Rng::seeded(7);
        let (mut retry, mut now, mut told) = (Retry::default(), Instant::ORIGIN, Vec::new());
        for failures in 1..=100 {
            now = retry.failed(now, &BACKOFF, &mut rng);
            if retry.is_notable(&Failure::Closed) {
                told.push(failures);
            }
            assert!(failures != 3 || now - Instant::ORIGIN < Duration::from_secs(1));
        }
        assert_eq!(told, [3, 6, 12, 24, 48, 96]);
        let silence = Failure::TimedOut { peer: "broker".into(), after: Duration::from_secs(30), sent: true };
        assert!(retry.is_notable(&silence));
        let nowhere = Failure::Unreachable {
            peer: "kafak:9092".into(),
            obstacle: Obstacle::Name,
            cause: None,
            reason: "the name does not resolve".into(),
        };
        let mut retry = Retry::default();
        retry.failed(now, &BACKOFF, &mut rng);
        assert!(retry.is_notable(&nowhere), "a misspelt name is told the first time");
        assert!(!retry.is_notable(&Failure::Closed));
    }

    #[test]
    fn a_peer_that_broke_the_protocol_twice_is_given_up_until_it_works() {
        let mut rng = Rng::seeded(7);
        let mut retry = Retry::default();
        let malformed = Failure::Malformed { peer: "broker".into(), reason: "garbage".into() };
        let lost = Failure::Lost { peer: "broker".into(), reason: "closed".into(), sent: true };
        let mut attempt = |retry: &mut Retry, failure| {
            retry.failed_by(failure, Instant::ORIGIN, &BACKOFF, &mut rng);
            retry.may_pass(failure)
        };
        assert!(attempt(&mut retry, &lost) && attempt(&mut retry, &malformed) && attempt(&mut retry, &lost));
        assert!(!attempt(&mut retry, &malformed));
        assert!(attempt(&mut retry, &lost), "the way to it is another matter");
        retry.succeeded();
        assert!(attempt(&mut retry, &malformed));
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
