//! The aborted transactions of a partition, which a fetch under `read_committed` is told of (KIP-98).
//!
//! Kafka has an index of them beside each segment. Here they are in memory, and recovery finds them in the log again.

use std::collections::VecDeque;

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    /// The offset of its first record, and that of its marker.
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
    /// The last stable offset after it ended. Transactions that end later begin at this offset or after it.
    pub(crate) stable: i64,
}

/// All of them, in the order of their markers.
#[derive(Debug, Default, Clone)]
pub(crate) struct AbortedTransactions(VecDeque<Aborted>);

impl AbortedTransactions {
    /// Adds the transaction whose marker is the newest one.
    pub(crate) fn add(&mut self, aborted: Aborted) {
        self.0.push_back(aborted);
    }

    /// Those that have records in the offsets from `from` on before `end`.
    pub(crate) fn between(&self, from: i64, end: i64) -> impl Iterator<Item = &Aborted> {
        let first = self.0.partition_point(|aborted| aborted.last_offset < from);
        let mut is_done = false;
        let may_follow = move |aborted: &&Aborted| {
            let was_done = is_done;
            is_done |= aborted.stable >= end;
            !was_done
        };
        self.0.range(first..).take_while(may_follow).filter(move |aborted| aborted.first_offset < end)
    }

    /// Whether a batch of a producer at `offset`, which is not a marker, is part of one.
    pub(crate) fn has(&self, producer_id: i64, offset: i64) -> bool {
        self.between(offset, offset + 1).any(|aborted| aborted.producer_id == producer_id)
    }

    /// Forgets those with markers at these ascending offsets.
    pub(crate) fn forget(&mut self, markers: &[i64]) {
        if !markers.is_empty() {
            self.0.retain(|aborted| markers.binary_search(&aborted.last_offset).is_err());
        }
    }

    /// The log starts at `start` now: what ended before is gone.
    pub(crate) fn start_at(&mut self, start: i64) {
        let gone = self.0.partition_point(|aborted| aborted.last_offset < start);
        self.0.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_told_of_the_transactions_that_it_meets() {
        let mut all = AbortedTransactions::default();
        for (producer_id, first_offset, last_offset, stable) in
            [(1, 10, 20, 5), (2, 5, 30, 25), (3, 25, 40, 41), (4, 50, 60, 61)]
        {
            all.add(Aborted { producer_id, first_offset, last_offset, stable });
        }
        for (from, end, expected) in [
            (0, 5, &[][..]),
            (0, 6, &[2]),
            (0, 100, &[1, 2, 3, 4]),
            (20, 26, &[1, 2, 3]),
            (21, 25, &[2]),
            (31, 41, &[3]),
            (41, 50, &[]),
            (61, 99, &[]),
        ] {
            let found: Vec<i64> = all.between(from, end).map(|aborted| aborted.producer_id).collect();
            assert_eq!(found, expected, "from {from} to {end}");
        }
        assert!(all.has(1, 15) && !all.has(1, 9) && !all.has(3, 15));
        all.forget(&[10, 30]);
        assert_eq!(all.between(0, 100).map(|aborted| aborted.producer_id).collect::<Vec<_>>(), [1, 3, 4]);
        all.start_at(31);
        assert_eq!(all.between(0, 100).map(|aborted| aborted.producer_id).collect::<Vec<_>>(), [3, 4]);
    }
}
