//! What a partition remembers of each idempotent producer, in order to refuse a gap and to answer a retry (KIP-98,
//! KIP-360); and of each transactional one, where its open transaction began (KIP-890).
//!
//! ```text
//!  producer id ─▶ epoch, the last five batches (base sequence, last sequence, base offset, timestamp), open transaction
//!  new batch   ─▶ Fresh │ Duplicate(offset it has) │ out of order │ fenced epoch │ not in a transaction
//!  marker      ─▶ to be written │ fenced epoch │ fenced coordinator
//! ```
//!
//! All of it comes from the log: recovery replays every batch through [`Producers::record`] and [`Producers::end`].
//! It must not know requests, sockets or the place where batches are stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use milena_messages::ErrorCode;
use milena_wire::batch::BatchHeader;

/// Batches remembered per producer, as many as an idempotent client may have in flight
/// (`max.in.flight.requests.per.connection`).
const BATCHES_KEPT: usize = 5;

/// Producers remembered per partition. When there are more, those that wrote longest ago are forgotten. A forgotten
/// producer's retry is appended again, but nothing retries that late, and Kafka forgets producers too. A producer with an
/// open transaction is never forgotten: the coordinator knows each of them, and bounds their number.
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
    pub(crate) is_transactional: bool,
}

/// The end of a transaction, as its coordinator tells it to the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) coordinator_epoch: i32,
    pub(crate) is_commit: bool,
    /// Whether each transaction has an epoch of its own, and its marker has the next one (KIP-890).
    pub(crate) raises_epoch: bool,
}

/// How a batch continues its producer's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be appended.
    Fresh,
    /// It is in the log already, from this offset on. The answer is a success.
    Duplicate { base_offset: i64, max_timestamp: i64 },
}

/// Why a batch or a marker is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It skips or repeats sequences: `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    OutOfOrder,
    /// A newer epoch of this producer has written already: `INVALID_PRODUCER_EPOCH`.
    StaleEpoch,
    /// The partition is not in the producer's transaction, or the batch is in none while one is open: `INVALID_TXN_STATE`.
    NotInTransaction,
    /// A newer coordinator has written a marker: `TRANSACTION_COORDINATOR_FENCED`.
    StaleCoordinator,
}

/// What the coordinator said of a producer's batch, before it is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The transactions that had ended here when the coordinator was asked. If another one has ended since, its answer is
    /// outdated, and the batch would begin a transaction that never ends.
    ends: u64,
    /// Whether the client raises its epoch with each transaction (Produce v12+), so that its sequences begin with 0.
    pub(crate) raises_epoch: bool,
}

/// A transaction that ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The offset of its first record.
    pub(crate) first_offset: i64,
}

/// What the log says last of a producer, which stays when the log is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// The batch that ends at this offset, which has its last sequence.
    Batch(i64),
    /// The marker of this epoch, which fences earlier ones.
    Marker(i16),
}

/// A producer, as DescribeProducers shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp: i64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) transaction_start: Option<i64>,
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
    last_timestamp: i64,
    /// The offset of the first record of its open transaction.
    transaction: Option<i64>,
    /// That of its last marker.
    coordinator_epoch: i32,
    /// How many markers it has here.
    ends: u64,
}

/// All idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// The first offsets of the open transactions, and their producers.
    open: BTreeSet<(i64, i64)>,
    /// The epochs and lowest sequences of batches that were verified, or refused then, before a first one of their transactions
    /// was appended. When the first of several batches in flight is refused, the next ones must not take its place.
    verifying: BTreeMap<i64, (i16, i32)>,
}

impl Producers {
    /// Whether a batch must be in a transaction that is not open here yet, so that the coordinator is to be asked. If so, the
    /// answer is to be given to [`check`](Self::check) with what this returns.
    pub(crate) fn begin_verification(&mut self, stamp: &Stamp, raises_epoch: bool) -> Option<Verified> {
        let to_verify = self.to_verify(stamp, raises_epoch)?;
        if self.verifying.len() >= PRODUCERS_MAX && !self.verifying.contains_key(&stamp.producer_id) {
            self.verifying.clear();
        }
        let (epoch, sequence) = (stamp.producer_epoch, stamp.base_sequence);
        let known = self.verifying.entry(stamp.producer_id).or_insert((epoch, sequence));
        if epoch > known.0 {
            *known = (epoch, sequence);
        } else if epoch == known.0 {
            known.1 = known.1.min(sequence);
        }
        Some(to_verify)
    }

    fn to_verify(&self, stamp: &Stamp, raises_epoch: bool) -> Option<Verified> {
        let producer = self.by_id.get(&stamp.producer_id);
        let is_open =
            producer.is_some_and(|known| known.transaction.is_some() && known.epoch == stamp.producer_epoch);
        let ends = producer.map_or(0, |producer| producer.ends);
        (stamp.is_transactional && !is_open).then_some(Verified { ends, raises_epoch })
    }

    /// Judges a batch before it is appended. `verified` is there if the coordinator has it in the producer's transaction.
    pub(crate) fn check(&self, stamp: &Stamp, verified: Option<Verified>) -> Result<Verdict, Refused> {
        let producer = self.by_id.get(&stamp.producer_id);
        let last_sequence = stamp.last_sequence();
        let same =
            |kept: &&Kept| kept.base_sequence == stamp.base_sequence && kept.last_sequence == last_sequence;
        let known = producer.filter(|producer| producer.epoch == stamp.producer_epoch);
        if let Some(kept) = known.and_then(|producer| producer.batches.iter().find(same)) {
            let (base_offset, max_timestamp) = (kept.base_offset, kept.max_timestamp);
            return Ok(Verdict::Duplicate { base_offset, max_timestamp });
        }
        self.check_transaction(stamp, verified)?;
        let lowest = self.verifying.get(&stamp.producer_id);
        if lowest.is_some_and(|&(_, lowest)| stamp.base_sequence > lowest) {
            return Err(Refused::OutOfOrder);
        }
        let Some(producer) = producer else {
            // The producer is new or was forgotten. Its history may begin with any sequence (KIP-360), unless it begins one
            // with each transaction (KIP-890).
            let raises_epoch = verified.is_some_and(|verified| verified.raises_epoch);
            return if raises_epoch && stamp.base_sequence != 0 {
                Err(Refused::OutOfOrder)
            } else {
                Ok(Verdict::Fresh)
            };
        };
        // After a marker that raised the epoch no batch is known, and the sequences begin anew.
        let expected = match producer.batches.back().filter(|_| known.is_some()) {
            Some(newest) => following(newest.last_sequence, 1),
            None => 0,
        };
        if stamp.base_sequence != expected {
            return Err(Refused::OutOfOrder);
        }
        if producer.transaction.is_some() && !stamp.is_transactional {
            return Err(Refused::NotInTransaction);
        }
        Ok(Verdict::Fresh)
    }

    /// Judges whose batch it is and whether it is in a transaction if it must be, whatever its sequence is.
    pub(crate) fn check_transaction(&self, stamp: &Stamp, verified: Option<Verified>) -> Result<(), Refused> {
        let raises_epoch = verified.is_some_and(|verified| verified.raises_epoch);
        if let Some(now) = self.to_verify(stamp, raises_epoch)
            && verified != Some(now)
        {
            return Err(Refused::NotInTransaction);
        }
        match self.by_id.get(&stamp.producer_id) {
            Some(producer) if stamp.producer_epoch < producer.epoch => Err(Refused::StaleEpoch),
            _ => Ok(()),
        }
    }

    /// Remembers a batch that is in the log now.
    pub(crate) fn record(&mut self, stamp: &Stamp, base_offset: i64, max_timestamp: i64) {
        let producer = self.entry(stamp.producer_id, stamp.producer_epoch, base_offset);
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
        producer.last_timestamp = max_timestamp;
        if stamp.is_transactional && producer.transaction.is_none() {
            producer.transaction = Some(base_offset);
            self.open.insert((base_offset, stamp.producer_id));
        }
        self.verifying.remove(&stamp.producer_id);
    }

    /// Judges a marker before it is appended.
    pub(crate) fn check_marker(&self, marker: &Marker) -> Result<(), Refused> {
        let Some(producer) = self.by_id.get(&marker.producer_id) else { return Ok(()) };
        // Where each transaction has an epoch of its own, one of this epoch is a later one than the marker's. A copy of a
        // marker ends nothing, and Kafka appends it.
        let is_of_earlier =
            marker.raises_epoch && marker.producer_epoch == producer.epoch && producer.transaction.is_some();
        if marker.producer_epoch < producer.epoch || is_of_earlier {
            return Err(Refused::StaleEpoch);
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(Refused::StaleCoordinator);
        }
        Ok(())
    }

    /// Remembers a marker that is in the log now. Returns the transaction that it ended, if one was open.
    pub(crate) fn end(&mut self, marker: &Marker, offset: i64, timestamp: i64) -> Option<Ended> {
        let producer = self.entry(marker.producer_id, marker.producer_epoch, offset);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = timestamp;
        producer.ends += 1;
        let first_offset = producer.transaction.take();
        self.verifying.remove(&marker.producer_id);
        let first_offset = first_offset?;
        self.open.remove(&(first_offset, marker.producer_id));
        Some(Ended { first_offset })
    }

    /// The first offset of the earliest transaction that is open.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first().map(|&(offset, _)| offset)
    }

    /// A producer in this epoch. What is remembered of an older one goes.
    fn entry(&mut self, id: i64, epoch: i16, offset: i64) -> &mut Producer {
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&id) {
            self.forget_oldest();
        }
        let producer = self.by_id.entry(id).or_insert_with(|| Producer {
            epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            last_offset: offset,
            last_timestamp: -1,
            transaction: None,
            coordinator_epoch: -1,
            ends: 0,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer
    }

    /// What must stay in the log of each producer, for it to be known after a restart: its last batch, or its last marker if no
    /// batch of its epoch is known.
    pub(crate) fn remembered(&self) -> BTreeMap<i64, Remembered> {
        let of = |producer: &Producer| match producer.batches.is_empty() {
            true => Remembered::Marker(producer.epoch),
            false => Remembered::Batch(producer.last_offset),
        };
        self.by_id.iter().map(|(&id, producer)| (id, of(producer))).collect()
    }

    /// All producers, by their ids.
    pub(crate) fn describe(&self) -> impl Iterator<Item = Described> {
        self.by_id.iter().map(|(&producer_id, producer)| Described {
            producer_id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |kept| kept.last_sequence),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction,
        })
    }

    /// Forgets the producers whose newest batch is too old. As in Kafka, the age of a batch is that of its greatest
    /// timestamp, even when the client set it: a producer that writes old records is forgotten at the next check.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction.is_some() || now_ms.saturating_sub(producer.last_timestamp) < EXPIRATION_MS
        });
    }

    /// Forgets the eighth of all producers that wrote longest ago, so that there is one search for many new producers.
    fn forget_oldest(&mut self) {
        let mut offsets: Vec<i64> = self.by_id.values().map(|producer| producer.last_offset).collect();
        let (_, &mut cut, _) = offsets.select_nth_unstable(PRODUCERS_MAX / 8);
        self.by_id.retain(|_, producer| producer.transaction.is_some() || producer.last_offset > cut);
    }
}

impl Refused {
    /// The code for the client.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::OutOfOrder => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::StaleEpoch => ErrorCode::INVALID_PRODUCER_EPOCH,
            Self::NotInTransaction => ErrorCode::INVALID_TXN_STATE,
            Self::StaleCoordinator => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        }
    }
}

impl Stamp {
    /// The stamp of offsets that are committed in a transaction: they have no sequence.
    pub(crate) fn of_offsets(producer_id: i64, producer_epoch: i16) -> Self {
        Self { producer_id, producer_epoch, base_sequence: 0, last_offset_delta: 0, is_transactional: true }
    }

    /// The stamp of a batch, if its producer is idempotent.
    pub(crate) fn of(header: &BatchHeader) -> Option<Self> {
        let producer = header.producer?;
        Some(Self {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            base_sequence: producer.base_sequence?,
            last_offset_delta: header.last_offset_delta,
            is_transactional: header.is_transactional(),
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
        Stamp {
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            last_offset_delta: count - 1,
            is_transactional: false,
        }
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
            assert_eq!(history().check(&batch, None), expected, "{what}");
        }
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().check(&stamp(0, 55, 1), None), Ok(Verdict::Fresh));
    }

    #[test]
    fn the_sixth_batch_pushes_out_the_first() {
        let mut producers = history();
        producers.record(&stamp(3, 10, 2), 110, -1);
        assert_eq!(producers.check(&stamp(3, 0, 2), None), Err(Refused::OutOfOrder));
        assert_eq!(
            producers.check(&stamp(3, 2, 2), None),
            Ok(Verdict::Duplicate { base_offset: 102, max_timestamp: -1 })
        );
    }

    #[test]
    fn sequences_wrap_to_zero_inside_and_between_batches() {
        let mut producers = Producers::default();
        producers.record(&stamp(0, i32::MAX - 1, 2), 0, -1);
        assert_eq!(producers.check(&stamp(0, 0, 4), None), Ok(Verdict::Fresh));
        let mut producers = Producers::default();
        producers.record(&stamp(0, i32::MAX - 1, 4), 0, -1);
        assert_eq!(producers.check(&stamp(0, 2, 1), None), Ok(Verdict::Fresh));
        assert_eq!(producers.check(&stamp(0, 1, 1), None), Err(Refused::OutOfOrder));
    }

    #[test]
    fn a_producer_is_forgotten_a_day_after_its_newest_record() {
        let day = EXPIRATION_MS;
        let mut producers = Producers::default();
        producers.record(&stamp(3, 0, 1), 0, 5);
        producers.record(&stamp(3, 1, 1), 1, 1000);
        producers.expire(day + 999);
        assert_eq!(producers.check(&stamp(3, 7, 1), None), Err(Refused::OutOfOrder));
        producers.expire(day + 1000);
        assert_eq!(producers.check(&stamp(3, 7, 1), None), Ok(Verdict::Fresh));
    }

    #[test]
    fn memory_is_bounded_by_forgetting_the_producers_that_wrote_longest_ago() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            let stamp = Stamp {
                producer_id: id,
                producer_epoch: 0,
                base_sequence: 0,
                last_offset_delta: 0,
                is_transactional: false,
            };
            producers.record(&stamp, id, -1);
        }
        assert!(producers.by_id.len() <= PRODUCERS_MAX);
        let newest = Stamp {
            producer_id: PRODUCERS_MAX as i64,
            producer_epoch: 0,
            base_sequence: 5,
            last_offset_delta: 0,
            is_transactional: false,
        };
        assert_eq!(producers.check(&newest, None), Err(Refused::OutOfOrder));
    }
}
