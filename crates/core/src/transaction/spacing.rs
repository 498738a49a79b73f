//! How long a producer rests between two transactions, so that its coordinator has completed the last one.
//!
//! A coordinator answers that a transaction has ended before the markers are in its partitions. What comes for the next one
//! meanwhile is refused, or waits at the broker for 20 ms (`add.partitions.to.txn.retry.backoff.ms`) before it is tried again.
//! A producer that begins at once loses more time so than if it began a moment later. How long that moment is depends on
//! the cluster, so it is learned.

use std::time::Duration;

use crate::Instant;

/// The rest after each transaction. There is none until a coordinator was found to be too slow for it.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    rest: Duration,
    /// Until when nothing begins.
    until: Option<Instant>,
    /// When the first records of the transaction that is open were sent, until they are written.
    sent: Option<Instant>,
    /// Whether first records of that transaction were sent.
    has_sent: bool,
    /// The shortest time that first records took.
    quickest: Option<Duration>,
}

/// First records that took this much longer than the quickest ones have waited for the last transaction's completion.
const HELD: Duration = Duration::from_millis(20);
/// The first rest: timers are not finer.
const REST_MIN: Duration = Duration::from_millis(1);
/// A longer rest would not be better than what it avoids. A cluster that is slow for other reasons costs no more than this.
const REST_MAX: Duration = Duration::from_millis(10);
/// Each transaction that did not come too early makes the rest shorter by this part.
const SHORTER_BY: u32 = 128;

impl Spacing {
    /// A transaction has ended.
    pub(super) fn handle_ended(&mut self, now: Instant) {
        self.until = (self.rest >= REST_MIN / 2).then(|| now + self.rest);
        (self.sent, self.has_sent) = (None, false);
    }

    /// Records of the transaction go out.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        if !self.has_sent {
            (self.sent, self.has_sent) = (Some(now), true);
        }
    }

    /// Records of the transaction were written.
    pub(super) fn handle_written(&mut self, now: Instant) {
        let Some(sent) = self.sent.take() else { return };
        let took = now - sent;
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        self.quickest = Some(quickest);
        if took >= quickest + HELD {
            self.handle_early();
        } else {
            self.rest -= self.rest / SHORTER_BY;
        }
    }

    /// The transaction came before the last one was completed.
    pub(super) fn handle_early(&mut self) {
        self.rest = (self.rest + self.rest / 2).clamp(REST_MIN, REST_MAX);
        self.sent = None;
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.until.take_if(|until| *until <= now);
    }

    /// Until when no transaction is to begin.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs a transaction whose first records take `took`, and answers for how long the producer rests after it.
    fn rest_after(spacing: &mut Spacing, took: Duration) -> Duration {
        let now = Instant::ORIGIN + 1000 * MS;
        spacing.handle_sent(now);
        spacing.handle_written(now + took);
        // Later records say nothing.
        spacing.handle_sent(now + took);
        spacing.handle_written(now + took + 100 * MS);
        spacing.handle_ended(now);
        let rest = spacing.poll_timeout().map_or(Duration::ZERO, |until| until - now);
        spacing.handle_timeout(now + rest);
        assert_eq!(spacing.poll_timeout(), None, "the rest is over");
        rest
    }

    #[test]
    fn a_producer_rests_only_where_it_was_held_up_and_learns_for_how_long() {
        let mut spacing = Spacing::default();
        assert_eq!(rest_after(&mut spacing, 50 * MS), Duration::ZERO, "nothing is known of this cluster");
        assert_eq!(rest_after(&mut spacing, MS), Duration::ZERO);
        assert_eq!(rest_after(&mut spacing, MS + HELD), MS);
        assert_eq!(rest_after(&mut spacing, MS + HELD), MS + MS / 2);
        for _ in 0..10 {
            rest_after(&mut spacing, MS + HELD);
        }
        assert_eq!(rest_after(&mut spacing, MS + HELD), REST_MAX, "and no longer");
        let (mut rest, mut count) = (REST_MAX, 0);
        while !rest.is_zero() {
            rest = rest_after(&mut spacing, MS + HELD - MS / 100);
            count += 1;
        }
        assert!((200..500).contains(&count), "after {count} transactions it begins at once again");
    }

    #[test]
    fn a_refusal_counts_as_well_and_only_once_for_a_transaction() {
        let mut spacing = Spacing::default();
        rest_after(&mut spacing, MS);
        spacing.handle_sent(Instant::ORIGIN);
        spacing.handle_early();
        spacing.handle_written(Instant::ORIGIN + 40 * MS);
        spacing.handle_ended(Instant::ORIGIN);
        assert_eq!(spacing.poll_timeout(), Some(Instant::ORIGIN + MS));
    }
}
