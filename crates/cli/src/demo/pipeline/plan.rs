//! What happens to each record of the demo: pure, so that a report can be compared with it.

use std::time::Duration;

use super::Drill;

/// What a handler meets at a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is processed at once.
    Fine,
    /// Two attempts fail, and a third one in place succeeds.
    Flaky,
    /// All attempts in place fail, and the one in the first retry topic does too.
    Outage,
    /// The handler has a bug, which is fixed before the redrive.
    Bug,
    /// No handler can process it.
    Hopeless,
}

/// What a handler does at one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Succeed,
    Retriable(&'static str),
    Poison(&'static str),
}

/// How the faults are spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    drill: Option<Drill>,
    /// Records of a million that have a fault.
    faulty_ppm: u32,
}

/// Attempts in place.
pub(super) const ATTEMPTS: u32 = 3;
/// The delays of the retry topics.
pub(super) const TIERS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
/// How long the work of a record takes.
pub(super) const WORK: Duration = Duration::from_millis(2);
/// How long the stuck record of a run without a drill takes.
pub(super) const STUCK: Duration = Duration::from_millis(2500);

impl Plan {
    pub(super) fn new(drill: Option<Drill>, fault_percent: f64) -> Self {
        // `percent` is 0 to 100.
        Self { drill, faulty_ppm: (fault_percent * 10_000.0) as u32 }
    }

    /// The fate of a record. The same index has the same fate in every run.
    pub(super) fn fate(&self, index: u32) -> Fate {
        let dice = mix(index);
        if dice % 1_000_000 >= u64::from(self.faulty_ppm) {
            return Fate::Fine;
        }
        let kind = (dice >> 32) % 10;
        match self.drill {
            Some(Drill::Poison | Drill::DeadLettersDown) => Fate::Bug,
            // These are about what runs again: no record is put aside.
            Some(Drill::Crash | Drill::Rebalance) => Fate::Flaky,
            Some(Drill::StuckKey | Drill::SlowPartition) | None => match kind {
                0..4 => Fate::Flaky,
                4..6 => Fate::Outage,
                6..9 => Fate::Bug,
                _ => Fate::Hopeless,
            },
        }
    }
}

impl Fate {
    /// What the handler does.
    pub(super) fn step(self, attempt: u32, is_fixed: bool) -> Step {
        match self {
            Self::Flaky if attempt < ATTEMPTS => Step::Retriable("the seat map is busy"),
            Self::Outage if attempt <= ATTEMPTS + 1 => Step::Retriable("the weather service does not answer"),
            Self::Bug if !is_fixed => Step::Poison("the departure is before the day begins"),
            Self::Hopeless => Step::Poison("no such aircraft"),
            Self::Fine | Self::Flaky | Self::Outage | Self::Bug => Step::Succeed,
        }
    }
}

/// The finalizer of SplitMix64: neighbours get unrelated numbers.
fn mix(index: u32) -> u64 {
    let mut x = u64::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_as_many_as_the_rate_says_and_of_every_kind() {
        let plan = Plan::new(None, 10.0);
        let faulty: Vec<Fate> =
            (0..100_000).map(|index| plan.fate(index)).filter(|fate| *fate != Fate::Fine).collect();
        assert!((9_500..10_500).contains(&faulty.len()), "{}", faulty.len());
        for fate in [Fate::Flaky, Fate::Outage, Fate::Bug, Fate::Hopeless] {
            assert!(faulty.iter().filter(|of| **of == fate).count() > 800, "{fate:?}");
        }
        assert!((0..1000).all(|index| Plan::new(None, 0.0).fate(index) == Fate::Fine));
        assert!((0..1000).all(|index| Plan::new(Some(Drill::Poison), 100.0).fate(index) == Fate::Bug));
    }

    #[test]
    fn what_can_be_processed_ends_in_the_retry_topics_at_the_latest() {
        let last = ATTEMPTS + TIERS.len() as u32;
        for (fate, attempts) in [(Fate::Fine, 1), (Fate::Flaky, 3), (Fate::Outage, 5)] {
            let first = (1..=last).find(|attempt| fate.step(*attempt, false) == Step::Succeed);
            assert_eq!(first, Some(attempts), "{fate:?}");
        }
        assert_eq!(Fate::Bug.step(1, true), Step::Succeed);
        assert!(matches!(Fate::Bug.step(1, false), Step::Poison(_)));
        assert!(matches!(Fate::Hopeless.step(1, true), Step::Poison(_)));
    }
}
