//! Whose turn it is to be measured. Each turn is one candidate on one chunk of the sample.
//!
//! The candidate that has had the least time is next. So turns of all candidates alternate, and what else the machine does meanwhile
//! falls on all of them; a fast codec goes through the sample several times, and a slow one through a part of it.

use std::time::Duration;

/// The order of turns within a time.
#[derive(Debug)]
pub(crate) struct Schedule {
    entries: Vec<Entry>,
    chunk_count: usize,
    /// From one turn of a candidate to its next, this many chunks further.
    stride: usize,
    limit: Duration,
}

/// One candidate.
#[derive(Clone, Debug)]
struct Entry {
    /// The candidate before it does the same with less work, as the same codec with a lower level.
    follows: bool,
    turn_count: usize,
    spent: Duration,
    longest: Duration,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) candidate: usize,
    pub(crate) chunk: usize,
}

/// After this many turns and this time a candidate's medians do not change any more.
const TURNS_ENOUGH: usize = 15;
const TIME_ENOUGH: Duration = Duration::from_millis(400);
/// A level may take this many times as long as the one before it in the list.
const NEXT_LEVEL: u32 = 4;

impl Schedule {
    /// `follows` says of each candidate whether the one before it does the same with less work.
    pub(crate) fn new(follows: &[bool], chunk_count: usize, limit: Duration) -> Self {
        let entry = |follows: &bool| Entry {
            follows: *follows,
            turn_count: 0,
            spent: Duration::ZERO,
            longest: Duration::ZERO,
        };
        Self { entries: follows.iter().map(entry).collect(), chunk_count, stride: stride(chunk_count), limit }
    }

    /// The next turn, `elapsed` after the start. None if the time is over or the medians are known well enough.
    pub(crate) fn next(&self, elapsed: Duration) -> Option<Turn> {
        let left = self.limit.saturating_sub(elapsed);
        let open = (0..self.entries.len()).filter(|index| {
            let entry = &self.entries[*index];
            !self.is_done(entry) && self.expected(*index) <= left
        });
        if left.is_zero() {
            return None;
        }
        let candidate = open.min_by_key(|index| self.entries[*index].spent)?;
        let chunk = self.entries[candidate].turn_count % self.chunk_count.max(1) * self.stride
            % self.chunk_count.max(1);
        Some(Turn { candidate, chunk })
    }

    /// The turn took this long.
    pub(crate) fn note(&mut self, turn: Turn, took: Duration) {
        let entry = &mut self.entries[turn.candidate];
        entry.turn_count += 1;
        entry.spent += took;
        entry.longest = entry.longest.max(took);
    }

    fn is_done(&self, entry: &Entry) -> bool {
        entry.turn_count >= self.chunk_count.max(TURNS_ENOUGH) && entry.spent >= TIME_ENOUGH
    }

    /// How long the candidate's next turn may take. Of the first one it is known only what a lower level takes.
    fn expected(&self, index: usize) -> Duration {
        let entry = &self.entries[index];
        match index.checked_sub(1) {
            Some(before) if entry.turn_count == 0 && entry.follows => {
                // A lower level that had no turn has no time for one, and then this one has none.
                let before = &self.entries[before];
                if before.turn_count == 0 { Duration::MAX } else { before.longest * NEXT_LEVEL }
            }
            _ => entry.longest,
        }
    }
}

/// A step that reaches each of `count` chunks, and spreads the first ones over all of them: the sample's beginning may be unlike
/// its end.
fn stride(count: usize) -> usize {
    let golden = count * 618 / 1000;
    (golden.max(1)..).find(|step| gcd(*step, count) == 1).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a schedule whose candidates take these milliseconds a turn, and counts their turns.
    fn run(costs: &[u64], follows: &[bool], chunks: usize, limit_ms: u64) -> (Vec<usize>, u64, Vec<Turn>) {
        let limit = Duration::from_millis(limit_ms);
        let mut schedule = Schedule::new(follows, chunks, limit);
        let (mut now, mut counts, mut turns) = (0, vec![0; costs.len()], Vec::new());
        while let Some(turn) = schedule.next(Duration::from_millis(now)) {
            let cost = costs[turn.candidate];
            schedule.note(turn, Duration::from_millis(cost));
            counts[turn.candidate] += 1;
            now += cost;
            turns.push(turn);
        }
        (counts, now, turns)
    }

    #[test]
    fn time_is_shared_and_ends() {
        let (counts, took, _) = run(&[1, 10, 100], &[false, false, true], 8, 900);
        assert!(took <= 900, "{took}");
        // The slow one has 3 turns; the fast ones as much time.
        assert!(counts[2] >= 3 && counts[1] >= 25 && counts[0] >= 250, "{counts:?}");
    }

    #[test]
    fn what_has_no_time_is_not_begun() {
        // The first level takes 100 ms: the next one may take 400, of which 200 are left.
        let (counts, took, _) = run(&[100, 900], &[false, true], 1, 300);
        assert_eq!((counts[1], took), (0, 300), "{counts:?}");
        // A level after one without a turn has none either.
        let (counts, ..) = run(&[100, 900, 900], &[false, true, true], 1, 300);
        assert_eq!(counts[1..], [0, 0]);
        assert_eq!(run(&[1], &[false], 1, 0).0, [0]);
    }

    #[test]
    fn a_small_sample_ends_before_the_time() {
        let (counts, took, _) = run(&[10, 10], &[false, false], 2, 1_000_000);
        assert_eq!((counts, took), (vec![40, 40], 800));
    }

    #[test]
    fn first_turns_are_spread_over_the_sample_and_reach_all_of_it() {
        for chunks in [1, 2, 3, 8, 10, 100, 257] {
            let (_, _, turns) = run(&[1], &[false], chunks, 1_000_000);
            let mut first: Vec<_> = turns.iter().take(chunks).map(|turn| turn.chunk).collect();
            if chunks == 100 {
                assert_eq!(first[..4], [0, 61, 22, 83]);
            }
            first.sort_unstable();
            assert_eq!(first, (0..chunks).collect::<Vec<_>>(), "{chunks}");
        }
    }
}
