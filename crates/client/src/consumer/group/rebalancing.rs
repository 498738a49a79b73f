//! Where the time of a rebalance goes, for metrics. It has no clock: times are arguments.
//!
//! ```text
//!  join sent, partitions taken back or lost ─▶ begun ─▶ released ─▶ assigned ─▶ all partitions are read
//!                                               └── revoke ──┘           │          │
//!                                               └─────── total ──────────┘          │
//!                                                                        └─ start ──┘
//! ```

use std::time::Duration;

use milena_core::Instant;

/// What began a rebalance, as this member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The member was in no generation of the group.
    Join,
    /// The coordinator takes partitions back.
    Revoke,
    /// The coordinator assigns partitions without taking any back.
    Assign,
    /// The membership was lost, and the partitions with it.
    Lost,
}

impl Reason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Revoke => "revoke",
            Self::Assign => "assign",
            Self::Lost => "lost",
        }
    }
}

/// A rebalance that is under way, if one is.
#[derive(Debug, Default)]
pub(super) struct Rebalancing {
    begun: Option<(Instant, Reason)>,
    revoking_since: Option<Instant>,
    starting_since: Option<Instant>,
}

impl Rebalancing {
    /// The member asks to join, or its partitions are lost.
    pub(super) fn begin(&mut self, reason: Reason, now: Instant) {
        self.begun.get_or_insert((now, reason));
    }

    /// Partitions are to be given up. A cooperative member learns that after it has joined again for the same rebalance.
    pub(super) fn revoke(&mut self, now: Instant) {
        self.begin(Reason::Revoke, now);
        if let Some((_, reason @ Reason::Assign)) = &mut self.begun {
            *reason = Reason::Revoke;
        }
        self.revoking_since.get_or_insert(now);
    }

    /// They are given up. Answers with how long that took.
    pub(super) fn released(&mut self, now: Instant) -> Option<Duration> {
        self.revoking_since.take().map(|since| now - since)
    }

    /// They are given up, and with the consumer protocol that may be all: nothing more is assigned if others get them. Answers with
    /// how long it took, if the rebalance was about that.
    pub(super) fn given_up(&mut self, now: Instant) -> Option<Duration> {
        let (since, _) = self.begun.take_if(|(_, reason)| *reason == Reason::Revoke)?;
        Some(now - since)
    }

    /// Partitions are assigned, and `is_more` says whether some that were not before. Answers with what began the rebalance, and
    /// how long it took if that is known; none if nothing has changed.
    pub(super) fn assigned(&mut self, is_more: bool, now: Instant) -> Option<(Reason, Option<Duration>)> {
        if is_more {
            self.starting_since.get_or_insert(now);
        }
        self.revoking_since = None;
        match self.begun.take() {
            Some((since, reason)) => Some((reason, Some(now - since))),
            None => is_more.then_some((Reason::Assign, None)),
        }
    }

    /// All partitions that were assigned are read. Answers with how long it took since they were assigned.
    pub(super) fn started(&mut self, now: Instant) -> Option<Duration> {
        self.starting_since.take().map(|since| now - since)
    }

    /// The member is out of the group, and does not come back by itself.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rebalance_is_measured_from_what_began_it() {
        let mut rebalancing = Rebalancing::default();
        rebalancing.revoke(at(10));
        rebalancing.revoke(at(11));
        assert_eq!(rebalancing.released(at(13)), Some(seconds(3)));
        // The member joins again, because of the same rebalance.
        rebalancing.begin(Reason::Join, at(13));
        assert_eq!(rebalancing.assigned(true, at(15)), Some((Reason::Revoke, Some(seconds(5)))));
        assert_eq!(rebalancing.started(at(16)), Some(seconds(1)));
        assert_eq!((rebalancing.released(at(17)), rebalancing.started(at(17))), (None, None));
    }

    #[test]
    fn a_member_that_is_in_the_group_joins_again_because_partitions_are_given_or_taken() {
        let mut rebalancing = Rebalancing::default();
        rebalancing.begin(Reason::Assign, at(1));
        assert_eq!(rebalancing.assigned(false, at(2)), Some((Reason::Assign, Some(seconds(1)))));
        rebalancing.begin(Reason::Assign, at(3));
        rebalancing.revoke(at(4));
        assert_eq!(rebalancing.assigned(false, at(5)), Some((Reason::Revoke, Some(seconds(2)))));
    }

    #[test]
    fn what_is_given_up_to_others_may_be_all_of_a_rebalance() {
        let mut rebalancing = Rebalancing::default();
        rebalancing.revoke(at(1));
        assert_eq!(
            (rebalancing.released(at(2)), rebalancing.given_up(at(2))),
            (Some(seconds(1)), Some(seconds(1)))
        );
        assert_eq!(rebalancing.assigned(true, at(9)), Some((Reason::Assign, None)), "another one");
        rebalancing.begin(Reason::Lost, at(10));
        assert_eq!(rebalancing.given_up(at(11)), None, "it goes on until the member is back");
    }

    #[test]
    fn partitions_that_come_without_warning_have_a_reason_and_no_time() {
        let mut rebalancing = Rebalancing::default();
        assert_eq!(rebalancing.assigned(true, at(1)), Some((Reason::Assign, None)));
        assert_eq!(rebalancing.assigned(false, at(2)), None, "nothing has changed");
        rebalancing.begin(Reason::Lost, at(3));
        rebalancing.end();
        assert_eq!(rebalancing.assigned(false, at(4)), None);
    }
}
