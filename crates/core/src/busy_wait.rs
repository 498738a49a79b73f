//! Whether a connection waits for an answer awake.
//!
//! A task that sleeps until an answer comes is woken by the kernel, which takes longer than a broker on the same machine takes to
//! answer: an idle processor must first be woken. So a task that sends one small request at a time, and whose last answer came at
//! once, looks for the next one for a moment before it sleeps. Answers from farther away never come that soon, and a
//! connection with more to do does not wait at all.

use std::time::Duration;

use crate::Instant;

/// Decides for one connection. A request counts if it is the only one under way, and small.
#[derive(Debug, Default)]
pub struct BusyWait {
    /// When the request was sent that is waited for.
    since: Option<Instant>,
    /// Whether the last answer came within [`QUICK`].
    was_quick: bool,
    /// How often it was looked for.
    looks: u32,
}

/// An answer that comes within this time is worth waiting for awake, and no longer. On one machine a round trip takes 15 to
/// 70 µs, between two machines of a data centre mostly more than 100.
const QUICK: Duration = Duration::from_micros(100);
/// No answer is looked for more often, even if the clock stands still, as it does in tests.
const LOOKS_MAX: u32 = 400;
/// A larger request belongs to a producer that fills batches: there throughput counts, and processor time.
const REQUEST_BYTES_MAX: usize = 4 << 10;

impl BusyWait {
    /// A request was sent; `is_alone` if no other one is under way.
    pub fn handle_sent(&mut self, bytes: usize, is_alone: bool, now: Instant) {
        self.since = (is_alone && bytes <= REQUEST_BYTES_MAX).then_some(now);
        self.looks = 0;
    }

    /// An answer came.
    pub fn handle_answer(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.was_quick = now - since <= QUICK;
        }
    }

    /// Whether to look for the answer again at once, instead of sleeping until something happens.
    pub fn poll_awake(&mut self, now: Instant) -> bool {
        let is_awake = self.was_quick && self.since.is_some_and(|since| now - since <= QUICK);
        self.looks += u32::from(is_awake);
        is_awake && self.looks <= LOOKS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ORIGIN + Duration::from_micros(micros)
    }

    #[test]
    fn only_a_small_request_that_is_alone_is_waited_for_awake_and_only_after_a_quick_answer() {
        let mut wait = BusyWait::default();
        wait.handle_sent(200, true, at(0));
        assert!(!wait.poll_awake(at(1)), "nothing is known of the broker");
        wait.handle_answer(at(60));
        assert!(!wait.poll_awake(at(61)), "nothing is under way");
        wait.handle_sent(200, true, at(1000));
        assert!(wait.poll_awake(at(1100)) && !wait.poll_awake(at(1101)), "the time is limited");
        // A second request follows before the answer.
        wait.handle_sent(200, false, at(1050));
        assert!(!wait.poll_awake(at(1051)));
        wait.handle_answer(at(9000));
        wait.handle_sent(REQUEST_BYTES_MAX + 1, true, at(9001));
        assert!(!wait.poll_awake(at(9002)));
        wait.handle_answer(at(9003));
        wait.handle_sent(200, true, at(10_000));
        assert!(wait.poll_awake(at(10_001)), "those were no answers to wait for");
        wait.handle_answer(at(10_101));
        wait.handle_sent(200, true, at(20_000));
        assert!(!wait.poll_awake(at(20_001)), "the last answer was late");
    }

    #[test]
    fn a_clock_that_stands_still_ends_it_too() {
        let mut wait = BusyWait::default();
        for _ in 0..2 {
            wait.handle_sent(200, true, at(0));
            wait.handle_answer(at(0));
        }
        wait.handle_sent(200, true, at(0));
        let looks = (0..10_000).take_while(|_| wait.poll_awake(at(0))).count();
        assert_eq!(looks, LOOKS_MAX as usize);
    }
}
