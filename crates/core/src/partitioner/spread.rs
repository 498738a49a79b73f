//! Where a topic's records without a key go: to one partition until its batch is closed, and then to another one.
//!
//! ```text
//!  closed (bytes), settled ─▶ loads ─┐
//!  available partitions ─────────────┴─▶ turn: of two partitions by chance the less loaded ─▶ current
//! ```
//!
//! Records stick to one partition, because a batch of many records costs less than many batches of one (KIP-480). A slow
//! broker's batches grow while they wait, so partitions that take turns batch by batch would get the more records the slower
//! they are. Therefore the next partition is not chosen by chance alone (KIP-794): of two partitions that are drawn, the one
//! wins that has fewer batches waiting at its broker, or fewer bytes so far if both have as many. Drawing two makes the
//! partitions as even as if all were compared, and costs the same for two partitions and for ten thousand.
//!
//! It must not know brokers, leaders or racks: its owner says which partitions may be chosen.

use std::time::Duration;

use crate::{Instant, Rng};

/// How partitions are chosen.
#[derive(Debug, Clone, Copy)]
pub struct SpreadSettings {
    /// Whether partitions with batches that wait are avoided. Otherwise only bytes count.
    pub is_adaptive: bool,
    /// A partition with batches that wait, none of which was settled for longer than this, is chosen only if there is no
    /// other. Zero means no limit.
    pub availability_timeout: Duration,
}

/// Chooses partitions for the records of one topic that have no key. How is said at the top of its file.
///
/// **Inputs**: [`handle_available`](Self::handle_available) when leaders change; [`handle_closed`](Self::handle_closed) and
/// [`handle_settled`](Self::handle_settled) once for each batch of the topic, keyed records included.
/// [`current`](Self::current) is the answer, and changes only in the first two and in [`turn`](Self::turn).
///
/// Each takes constant time, but for `handle_available`, and for a turn while partitions do not answer.
#[derive(Debug)]
pub struct Spread {
    settings: SpreadSettings,
    rng: Rng,
    current: u32,
    /// The partitions to choose from, ascending.
    available: Vec<u32>,
    /// By partition.
    loads: Vec<Load>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    /// Batches that are closed and not settled.
    waiting: u32,
    /// When the last of its batches was settled, or the first one closed that waits.
    moved: Instant,
    /// The bytes of all its batches.
    bytes: u64,
    is_available: bool,
}

impl Spread {
    /// A topic without partitions.
    pub fn new(settings: SpreadSettings, rng: Rng) -> Self {
        Self { settings, rng, current: 0, available: Vec::new(), loads: Vec::new() }
    }

    /// The partition for the next record.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// The partitions to choose from, ascending.
    pub fn available(&self) -> &[u32] {
        &self.available
    }

    /// Sets the partitions to choose from, ascending and not empty. If the current one is none of them, another takes over.
    ///
    /// A partition that was not available before begins with as many bytes as the others have on average, or it would get
    /// all records until it has caught up.
    pub fn handle_available(&mut self, available: &[u32], now: Instant) {
        let stayed = || self.available.iter().map(|index| self.loads[*index as usize].bytes);
        let average = stayed().sum::<u64>() / (self.available.len().max(1) as u64);
        for load in &mut self.loads {
            load.is_available = false;
        }
        let new = Load { waiting: 0, moved: now, bytes: average, is_available: false };
        let count = available.last().map_or(0, |last| *last as usize + 1);
        self.loads.resize(count.max(self.loads.len()), new);
        for index in available {
            let is_new = self.available.binary_search(index).is_err();
            let load = &mut self.loads[*index as usize];
            load.is_available = true;
            if is_new {
                load.bytes = load.bytes.max(average);
            }
        }
        self.available = available.to_vec();
        if !self.loads.get(self.current as usize).is_some_and(|load| load.is_available) {
            self.turn(now);
        }
    }

    /// A batch of `partition` was closed. If records stick to this partition, they go to another one from now on.
    pub fn handle_closed(&mut self, partition: u32, bytes: usize, now: Instant) {
        let Some(load) = self.loads.get_mut(partition as usize) else { return };
        load.bytes += bytes as u64;
        // The turn comes before this batch counts as one that waits. Otherwise two partitions of fast brokers would take
        // strict turns, whatever the bytes of each turn are.
        if partition == self.current {
            self.turn(now);
        }
        let load = &mut self.loads[partition as usize];
        if load.waiting == 0 {
            load.moved = now;
        }
        load.waiting += 1;
    }

    /// A batch of `partition` was settled. The pieces of a split batch count as one more each: it does no harm that the
    /// partition seems to be idle for a moment.
    pub fn handle_settled(&mut self, partition: u32, now: Instant) {
        if let Some(load) = self.loads.get_mut(partition as usize) {
            load.waiting = load.waiting.saturating_sub(1);
            load.moved = now;
        }
    }

    /// How many batches of `partition` are closed and not settled.
    pub fn waiting(&self, partition: u32) -> u32 {
        self.loads.get(partition as usize).map_or(0, |load| load.waiting)
    }

    /// Ends the turn of the current partition.
    pub fn turn(&mut self, now: Instant) {
        let count = self.available.len() as u32;
        let first = self.rng.below(count);
        // Another one than the first, if there is one.
        let second = (first + 1 + self.rng.below(count.saturating_sub(1))).checked_rem(count).unwrap_or(0);
        let at = |place: u32| self.available.get(place as usize).copied();
        let (Some(first), Some(second)) = (at(first), at(second)) else { return };
        let mut chosen = if self.cost(second, now) < self.cost(first, now) { second } else { first };
        if self.is_stuck(chosen, now) {
            let all = self.available.iter().copied();
            chosen = all.min_by_key(|partition| self.cost(*partition, now)).unwrap_or(chosen);
        }
        self.current = chosen;
    }

    /// What partitions are compared by; the least is chosen.
    fn cost(&self, partition: u32, now: Instant) -> (bool, u32, u64) {
        let load = self.loads[partition as usize];
        let waiting = if self.settings.is_adaptive { load.waiting } else { 0 };
        (self.is_stuck(partition, now), waiting, load.bytes)
    }

    fn is_stuck(&self, partition: u32, now: Instant) -> bool {
        let (load, timeout) = (self.loads[partition as usize], self.settings.availability_timeout);
        self.settings.is_adaptive && !timeout.is_zero() && load.waiting > 0 && load.moved + timeout < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: SpreadSettings =
        SpreadSettings { is_adaptive: true, availability_timeout: Duration::ZERO };
    const EVEN: SpreadSettings = SpreadSettings { is_adaptive: false, ..ADAPTIVE };
    const START: Instant = Instant::ORIGIN;

    fn spread(settings: SpreadSettings, partitions: &[u32]) -> Spread {
        let mut spread = Spread::new(settings, Rng::seeded(7));
        spread.handle_available(partitions, START);
        spread
    }

    /// How many bytes each partition gets, if the batches of partition 0 are `factor` times as large as the others.
    fn bytes_by_partition(spread: &mut Spread, turns: usize, factor: usize) -> Vec<usize> {
        let mut bytes = vec![0; spread.loads.len()];
        for _ in 0..turns {
            let partition = spread.current();
            let batch = if partition == 0 { 1000 * factor } else { 1000 };
            bytes[partition as usize] += batch;
            spread.handle_closed(partition, batch, START);
            spread.handle_settled(partition, START);
        }
        bytes
    }

    #[test]
    fn every_partition_gets_as_many_bytes_however_large_its_batches_are() {
        for settings in [ADAPTIVE, EVEN] {
            for partitions in [&[0][..], &[0, 1], &[0, 1, 2, 3, 4, 5, 6]] {
                for factor in [1, 20] {
                    let bytes = bytes_by_partition(&mut spread(settings, partitions), 20_000, factor);
                    let average = bytes.iter().sum::<usize>() / bytes.len();
                    let even = average * 19 / 20..=average * 21 / 20;
                    assert!(
                        bytes.iter().all(|bytes| even.contains(bytes)),
                        "{partitions:?} {factor} {bytes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn records_stick_until_the_batch_is_closed() {
        let mut spread = spread(ADAPTIVE, &[0, 1, 2]);
        let current = spread.current();
        for other in (0..3).filter(|partition| *partition != current) {
            spread.handle_closed(other, 1000, START);
            assert_eq!(spread.current(), current);
        }
    }

    /// Partition 0 settles a batch every tenth turn, the others settle theirs at once.
    fn share_of_a_slow_partition(settings: SpreadSettings) -> f64 {
        let mut spread = spread(settings, &[0, 1, 2, 3]);
        let mut turns_of_slow = 0;
        for turn in 0..10_000 {
            let partition = spread.current();
            spread.handle_closed(partition, 1000, START);
            if partition == 0 {
                turns_of_slow += 1;
            } else {
                spread.handle_settled(partition, START);
            }
            if turn % 10 == 0 {
                spread.handle_settled(0, START);
            }
        }
        f64::from(turns_of_slow) / 10_000.0
    }

    #[test]
    fn a_slow_partition_gets_what_it_settles_and_not_more() {
        let share = share_of_a_slow_partition(ADAPTIVE);
        assert!((0.05..0.12).contains(&share), "{share}");
        let even = share_of_a_slow_partition(EVEN);
        assert!((0.24..0.26).contains(&even), "{even}");
    }

    #[test]
    fn a_partition_that_does_not_answer_is_chosen_only_if_there_is_no_other() {
        let timeout = Duration::from_secs(1);
        let settings = SpreadSettings { availability_timeout: timeout, ..ADAPTIVE };
        let mut spread = spread(settings, &[0, 1, 2]);
        // The others have more batches that wait, but theirs are settled.
        spread.handle_closed(0, 10, START);
        let later = START + timeout * 2;
        for partition in [1, 2] {
            for _ in 0..5 {
                spread.handle_closed(partition, 10, later);
            }
        }
        for _ in 0..100 {
            spread.turn(later);
            assert_ne!(spread.current(), 0);
        }
        spread.handle_available(&[0], later);
        assert_eq!(spread.current(), 0);
        spread.handle_available(&[0, 1, 2], later);
        spread.handle_settled(0, later);
        let turned = (0..100).any(|_| {
            spread.turn(later);
            spread.current() == 0
        });
        assert!(turned, "it answers again");
    }

    #[test]
    fn partitions_that_come_and_go_are_chosen_while_they_are_there() {
        let mut spread = spread(ADAPTIVE, &[0, 3]);
        let check = |spread: &mut Spread, available: &[u32]| {
            let bytes = bytes_by_partition(spread, 1000, 1);
            let chosen: Vec<_> = (0..bytes.len() as u32).filter(|index| bytes[*index as usize] > 0).collect();
            assert_eq!(chosen, available);
            bytes
        };
        check(&mut spread, &[0, 3]);
        for available in [&[1, 2, 4][..], &[2]] {
            spread.handle_available(available, START);
            check(&mut spread, available);
        }
        // Those that were away, and the new one, catch nothing up.
        spread.handle_available(&[0, 1, 2, 3, 4, 5], START);
        let bytes = check(&mut spread, &[0, 1, 2, 3, 4, 5]);
        assert!(bytes.iter().all(|bytes| *bytes < 1000 * 1000 / 2), "{bytes:?}");
    }
}
