//! Checks from batch headers that an idempotent producer's batches come once and in order.

use std::collections::{HashMap, VecDeque};

use milena_wire::batch::ProducerStamp;

/// A partition's state of the producers that write to it.
#[derive(Debug, Default)]
pub(super) struct Sequences(HashMap<i64, Producer>);

#[derive(Debug)]
struct Producer {
    epoch: i16,
    next: i32,
    /// The first sequence and the offset of each of the last batches, which may be sent again.
    last: VecDeque<(i32, i64)>,
}

/// The verdict on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Appended,
    /// It was appended before, at this offset.
    Duplicate(i64),
    OutOfOrder,
    OldEpoch,
}

/// The number of batches that brokers remember, and so the most requests that a producer may have in flight.
const KEPT: usize = 5;

impl Sequences {
    /// Judges a batch of `count` records that would be appended at `offset`.
    pub(super) fn check(&mut self, stamp: ProducerStamp, count: u32, offset: i64) -> Verdict {
        let sequence = stamp.base_sequence.unwrap_or(-1);
        let new = || Producer { epoch: stamp.producer_epoch, next: 0, last: VecDeque::new() };
        let producer = self.0.entry(stamp.producer_id).or_insert_with(new);
        if stamp.producer_epoch < producer.epoch {
            return Verdict::OldEpoch;
        }
        if stamp.producer_epoch > producer.epoch {
            *producer = new();
        }
        if let Some((_, offset)) = producer.last.iter().find(|(first, _)| *first == sequence) {
            return Verdict::Duplicate(*offset);
        }
        if sequence != producer.next {
            return Verdict::OutOfOrder;
        }
        producer.next = advance(sequence, count);
        if producer.last.len() == KEPT {
            producer.last.pop_front();
        }
        producer.last.push_back((sequence, offset));
        Verdict::Appended
    }
}

/// The sequence after `count` records; after the greatest sequence comes 0.
fn advance(sequence: i32, count: u32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(batches: &[(i16, i32, u32, Verdict)]) {
        let (mut sequences, mut offset) = (Sequences::default(), 0);
        for &(producer_epoch, sequence, count, expected) in batches {
            let stamp = ProducerStamp { producer_id: 7, producer_epoch, base_sequence: Some(sequence) };
            let verdict = sequences.check(stamp, count, offset);
            assert_eq!(verdict, expected, "epoch {producer_epoch}, sequence {sequence}");
            if verdict == Verdict::Appended {
                offset += i64::from(count);
            }
        }
    }

    #[test]
    fn batches_follow_each_other() {
        use Verdict::*;
        check(&[(0, 0, 10, Appended), (0, 10, 1, Appended), (0, 11, 5, Appended)]);
        check(&[(0, 0, 10, Appended), (0, 11, 1, OutOfOrder), (0, 10, 1, Appended)]);
        check(&[(0, 3, 1, OutOfOrder)]);
    }

    #[test]
    fn a_retry_is_told_where_it_went_before() {
        use Verdict::*;
        check(&[
            (0, 0, 10, Appended),
            (0, 10, 1, Appended),
            (0, 0, 10, Duplicate(0)),
            (0, 10, 1, Duplicate(10)),
        ]);
        let mut batches: Vec<_> = (0..6).map(|sequence| (0, sequence, 1, Appended)).collect();
        batches.extend([(0, 1, 1, Duplicate(1)), (0, 0, 1, OutOfOrder)]);
        check(&batches);
    }

    #[test]
    fn a_new_epoch_begins_with_0_and_ends_the_old_one() {
        use Verdict::*;
        check(&[(0, 0, 10, Appended), (1, 10, 1, OutOfOrder), (1, 0, 1, Appended), (0, 10, 1, OldEpoch)]);
    }

    #[test]
    fn sequences_begin_again_behind_the_greatest() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 5), 3);
    }
}
