//! What a partition remembers of each idempotent producer, in order to refuse a gap and to answer a retry (KIP-98,
//! KIP-360).
//!
//! ```text
//!  producer id ─▶ epoch, the last five batches (base sequence, last sequence, base offset, timestamp)
//!  new batch   ─▶ Fresh │ Duplicate(offset it has) │ out of order │ fenced epoch
//! ```
//!
//! All of it comes from the log: recovery replays every batch header through [`Producers::record`].
//! It must not know requests, sockets or the place where batches are stored.

use std::collections::{BTreeMap, VecDeque};

use milena_wire::batch::BatchHeader;

/// Batches remembered per producer, as many as an idempotent client may have in flight
/// (`max.in.flight.requests.per.connection`).
const BATCHES_KEPT: usize = 5;

/// Producers remembered per partition. When there are more, those that wrote longest ago are forgotten. A forgotten
/// producer's retry is appended again, but nothing retries that late, and Kafka forgets producers too.
const PRODUCERS_MAX: usize = 20_000;

/// A producer whose newest batch is this old is forgotten (Kafka's default of `producer.id.expiration.ms`).
const EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// The fields of a batch header that its idempotent producer set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) last_offset_delta: i32,
}

/// How a batch continues its producer's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be appended.
    Fresh,
    /// It is in the log already, from this offset on. The answer is a success.
    Duplicate { base_offset: i64, max_timestamp: i64 },
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It skips or repeats sequences: `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    OutOfOrder,
    /// A newer epoch of this producer has written already: `INVALID_PRODUCER_EPOCH`.
    StaleEpoch,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    max_timestamp: i64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Kept>,
    last_offset: i64,
}

/// All idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
}

impl Producers {
    /// Judges a batch before it is appended.
    pub(crate) fn check(&self, stamp: &Stamp) -> Result<Verdict, Refused> {
        let Some(producer) = self.by_id.get(&stamp.producer_id) else {
            // The producer is new or was forgotten. Its history may begin with any sequence (KIP-360).
            return Ok(Verdict::Fresh);
        };
        if stamp.producer_epoch < producer.epoch {
            return Err(Refused::StaleEpoch);
        }
        if stamp.producer_epoch > producer.epoch {
            return if stamp.base_sequence == 0 { Ok(Verdict::Fresh) } else { Err(Refused::OutOfOrder) };
        }
        let last_sequence = stamp.last_sequence();
        let same =
            |kept: &&Kept| kept.base_sequence == stamp.base_sequence && kept.last_sequence == last_sequence;
        if let Some(kept) = producer.batches.iter().find(same) {
            return Ok(Verdict::Duplicate {
                base_offset: kept.base_offset,
                max_timestamp: kept.max_timestamp,
            });
        }
        match producer.batches.back() {
            Some(newest) if stamp.base_sequence != following(newest.last_sequence, 1) => {
                Err(Refused::OutOfOrder)
            }
            _ => Ok(Verdict::Fresh),
        }
    }

    /// Remembers a batch that is in the log now.
    pub(crate) fn record(&mut self, stamp: &Stamp, base_offset: i64, max_timestamp: i64) {
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&stamp.producer_id) {
            self.forget_oldest();
        }
        let producer = self.by_id.entry(stamp.producer_id).or_insert_with(|| Producer {
            epoch: stamp.producer_epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            last_offset: base_offset,
        });
        if producer.epoch != stamp.producer_epoch {
            producer.epoch = stamp.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Kept {
            base_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence(),
            base_offset,
            max_timestamp,
        });
        producer.last_offset = base_offset + i64::from(stamp.last_offset_delta);
    }

    /// The last offset of each producer.
    pub(crate) fn last_offsets(&self) -> BTreeMap<i64, i64> {
        self.by_id.iter().map(|(&id, producer)| (id, producer.last_offset)).collect()
    }

    /// Forgets the producers whose newest batch is too old. As in Kafka, the age of a batch is that of its greatest
    /// timestamp, even when the client set it: a producer that writes old records is forgotten at the next check.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, producer| {
            let newest = producer.batches.back().map_or(-1, |kept| kept.max_timestamp);
            now_ms.saturating_sub(newest) < EXPIRATION_MS
        });
    }

    /// Forgets the eighth of all producers that wrote longest ago, so that there is one search for many new producers.
    fn forget_oldest(&mut self) {
        let mut offsets: Vec<i64> = self.by_id.values().map(|producer| producer.last_offset).collect();
        let (_, &mut cut, _) = offsets.select_nth_unstable(PRODUCERS_MAX / 8);
        self.by_id.retain(|_, producer| producer.last_offset > cut);
    }
}

impl Stamp {
    /// The stamp of a batch, if its producer is idempotent.
    pub(crate) fn of(header: &BatchHeader) -> Option<Self> {
        let producer = header.producer?;
        Some(Self {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            base_sequence: producer.base_sequence?,
            last_offset_delta: header.last_offset_delta,
        })
    }

    fn last_sequence(&self) -> i32 {
        following(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence that comes `by` after `sequence`. Sequences wrap from 2³¹−1 to 0.
fn following(sequence: i32, by: i32) -> i32 {
    sequence.wrapping_add(by) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: i16, base_sequence: i32, count: i32) -> Stamp {
        Stamp { producer_id: 7, producer_epoch: epoch, base_sequence, last_offset_delta: count - 1 }
    }

    /// A partition that took ten records in batches of two, sequences 0 to 9, offsets 100 to 109, in epoch 3.
    fn history() -> Producers {
        let mut producers = Producers::default();
        for batch in 0..5 {
            producers.record(&stamp(3, batch * 2, 2), 100 + i64::from(batch) * 2, -1);
        }
        producers
    }

    #[test]
    fn every_kind_of_batch_gets_kafkas_verdict() {
        let duplicate = |base_offset| Ok(Verdict::Duplicate { base_offset, max_timestamp: -1 });
        let table = [
            ("the next one", stamp(3, 10, 5), Ok(Verdict::Fresh)),
            ("the newest again", stamp(3, 8, 2), duplicate(108)),
            ("the oldest kept again", stamp(3, 0, 2), duplicate(100)),
            ("same start, other length", stamp(3, 8, 1), Err(Refused::OutOfOrder)),
            ("a gap", stamp(3, 11, 1), Err(Refused::OutOfOrder)),
            ("older than the batches that are kept", stamp(3, 1, 1), Err(Refused::OutOfOrder)),
            ("an older epoch", stamp(2, 10, 1), Err(Refused::StaleEpoch)),
            ("an older epoch, from zero", stamp(2, 0, 1), Err(Refused::StaleEpoch)),
            ("a newer epoch, from zero", stamp(4, 0, 1), Ok(Verdict::Fresh)),
            ("a newer epoch, not from zero", stamp(4, 10, 1), Err(Refused::OutOfOrder)),
        ];
        for (what, batch, expected) in table {
            assert_eq!(history().check(&batch), expected, "{what}");
        }
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().check(&stamp(0, 55, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn the_sixth_batch_pushes_out_the_first() {
        let mut producers = history();
        producers.record(&stamp(3, 10, 2), 110, -1);
        assert_eq!(producers.check(&stamp(3, 0, 2)), Err(Refused::OutOfOrder));
        assert_eq!(
            producers.check(&stamp(3, 2, 2)),
            Ok(Verdict::Duplicate { base_offset: 102, max_timestamp: -1 })
        );
    }

    #[test]
    fn sequences_wrap_to_zero_inside_and_between_batches() {
        let mut producers = Producers::default();
        producers.record(&stamp(0, i32::MAX - 1, 2), 0, -1);
        assert_eq!(producers.check(&stamp(0, 0, 4)), Ok(Verdict::Fresh));
        let mut producers = Producers::default();
        producers.record(&stamp(0, i32::MAX - 1, 4), 0, -1);
        assert_eq!(producers.check(&stamp(0, 2, 1)), Ok(Verdict::Fresh));
        assert_eq!(producers.check(&stamp(0, 1, 1)), Err(Refused::OutOfOrder));
    }

    #[test]
    fn a_producer_is_forgotten_a_day_after_its_newest_record() {
        let day = EXPIRATION_MS;
        let mut producers = Producers::default();
        producers.record(&stamp(3, 0, 1), 0, 5);
        producers.record(&stamp(3, 1, 1), 1, 1000);
        producers.expire(day + 999);
        assert_eq!(producers.check(&stamp(3, 7, 1)), Err(Refused::OutOfOrder));
        producers.expire(day + 1000);
        assert_eq!(producers.check(&stamp(3, 7, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn memory_is_bounded_by_forgetting_the_producers_that_wrote_longest_ago() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            let stamp = Stamp { producer_id: id, producer_epoch: 0, base_sequence: 0, last_offset_delta: 0 };
            producers.record(&stamp, id, -1);
        }
        assert!(producers.by_id.len() <= PRODUCERS_MAX);
        let newest = Stamp {
            producer_id: PRODUCERS_MAX as i64,
            producer_epoch: 0,
            base_sequence: 5,
            last_offset_delta: 0,
        };
        assert_eq!(producers.check(&newest), Err(Refused::OutOfOrder));
    }
}
