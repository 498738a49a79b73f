//! Which of several registries is asked next, and when. It has no clock and no randomness: times and random numbers are arguments.

use std::time::Duration;

/// How failed requests are made again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Rounds over all addresses after the first one. Java: `max.retries`, 3.
    pub(crate) retries: u32,
    /// The longest wait before the second round. Java: `retries.wait.ms`, 1 s.
    pub(crate) wait: Duration,
    /// The longest wait before any round. Java: `retries.max.wait.ms`, 20 s.
    pub(crate) wait_max: Duration,
}

/// The attempts at one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: Policy,
    addresses: usize,
    /// The address of the present attempt.
    at: usize,
    /// Attempts of this round, the present one included.
    in_round: usize,
    rounds: u32,
    until: Duration,
}

/// What a failed attempt says of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The address cannot be reached, or has a fault: another one may do, or the same one later.
    MayPass,
    /// It would fail everywhere.
    Final,
}

/// What follows a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another attempt at this address, after this time.
    At { address: usize, after: Duration },
    /// The error is the caller's.
    GiveUp,
}

impl Attempts {
    /// Begins with address `first` of `addresses`; no attempt begins after `until`.
    pub(crate) fn new(policy: Policy, addresses: usize, first: usize, until: Duration) -> Self {
        Self { policy, addresses, at: first % addresses.max(1), in_round: 1, rounds: 0, until }
    }

    /// The address to ask.
    pub(crate) fn address(&self) -> usize {
        self.at
    }

    /// The attempt failed at `now`. Another address is asked at once, and after a round over all of them there is a wait: a random
    /// part of twice the wait before ("full jitter"), so that programs that failed together do not come back together.
    pub(crate) fn failed(&mut self, fate: Fate, now: Duration, random: u64) -> Next {
        if fate == Fate::Final {
            return Next::GiveUp;
        }
        let mut after = Duration::ZERO;
        if self.in_round < self.addresses {
            self.in_round += 1;
        } else if self.rounds < self.policy.retries {
            let longest =
                self.policy.wait.saturating_mul(2u32.saturating_pow(self.rounds)).min(self.policy.wait_max);
            after = part(longest, random);
            self.rounds += 1;
            self.in_round = 1;
        } else {
            return Next::GiveUp;
        }
        if now.saturating_add(after) >= self.until {
            return Next::GiveUp;
        }
        self.at = (self.at + 1) % self.addresses.max(1);
        Next::At { address: self.at, after }
    }
}

/// A part of `longest`, from none to all of it.
pub(crate) fn part(longest: Duration, random: u64) -> Duration {
    let nanos = longest.as_nanos() * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { retries: 3, wait: Duration::from_secs(1), wait_max: Duration::from_secs(3) };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn waits_double_up_to_the_maximum_with_full_jitter() {
        let check = |random: u64, expected: [Duration; 3]| {
            let mut attempts = Attempts::new(POLICY, 1, 0, secs(100));
            for after in expected {
                assert_eq!(attempts.failed(Fate::MayPass, secs(0), random), Next::At { address: 0, after });
            }
            assert_eq!(attempts.failed(Fate::MayPass, secs(0), random), Next::GiveUp);
        };
        check(u64::MAX, [secs(1), secs(2), secs(3)]);
        check(0, [Duration::ZERO; 3]);
        check(u64::MAX / 2, [1, 2, 3].map(|longest| secs(longest) / 2 - Duration::from_nanos(1)));
    }

    #[test]
    fn other_addresses_are_asked_at_once_and_a_round_is_waited_for() {
        let mut attempts = Attempts::new(POLICY, 3, 2, secs(100));
        let mut asked = vec![attempts.address()];
        let mut waits = Vec::new();
        while let Next::At { address, after } = attempts.failed(Fate::MayPass, secs(0), u64::MAX) {
            asked.push(address);
            waits.push(after.as_secs());
        }
        assert_eq!(asked, [2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(waits, [0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn what_is_final_or_late_is_given_up() {
        let mut attempts = Attempts::new(POLICY, 3, 0, secs(10));
        assert_eq!(attempts.failed(Fate::Final, secs(0), 0), Next::GiveUp);
        let mut attempts = Attempts::new(POLICY, 1, 0, secs(10));
        assert_eq!(
            attempts.failed(Fate::MayPass, secs(9), u64::MAX),
            Next::GiveUp,
            "the wait ends at the deadline"
        );
        assert_eq!(attempts.failed(Fate::MayPass, secs(10), 0), Next::GiveUp);
    }
}
