//! One partition's batches: open in the accumulator, closed and waiting, in flight.
//!
//! ```text
//!  opens ─▶ queue ─▶ flights ─▶ settled
//!             ▲         │
//!             └─────────┘ without success: back to the front, in sequence order, once all in flight have landed
//! ```
//!
//! It must not know brokers beyond their ids, nor when a request goes out, which [`Producer`](super::Producer) decides.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use milena_wire::{Str, Uuid};

use super::span::Admission;
use super::terms::Times;
use crate::backoff::Retry;
use crate::{BrokerId, Failure, Instant, LeaderEpoch, ProducerIdentity};

/// A batch open in the accumulator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// When its delivery timeout began: a caller may have waited before.
    pub since: Instant,
    pub opened: Instant,
    pub generation: u64,
}

/// A closed batch.
#[derive(Debug)]
pub(super) struct Closed<B> {
    pub ticket: u64,
    /// When its delivery timeout began.
    pub opened: Instant,
    pub times: Times,
    pub generation: u64,
    pub content: Content<B>,
    /// Given at the first transmission and kept for every retry, so that the broker recognises the retry (KIP-98).
    pub sequence: Option<Sequence>,
    /// Whether an earlier attempt may have been appended although no answer said so.
    pub doubt: Doubt,
    pub last_failure: Option<Failure>,
}

/// Where the records of a closed batch are.
#[derive(Debug)]
pub(super) enum Content<B> {
    /// With the driver, which seals or splits it.
    Away,
    /// Here, to be sent.
    Ready(B),
    /// Here, to be split before it is sent again: the broker takes no batch of this size.
    TooLarge(B),
}

impl<B> Content<B> {
    pub(super) fn batch(&self) -> Option<&B> {
        match self {
            Self::Away => None,
            Self::Ready(batch) | Self::TooLarge(batch) => Some(batch),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// Takes the batch out, if it is to be split.
    pub(super) fn take_too_large(&mut self) -> Option<B> {
        match std::mem::replace(self, Self::Away) {
            Self::TooLarge(batch) => Some(batch),
            other => {
                *self = other;
                None
            }
        }
    }

    pub(super) fn mark_too_large(&mut self) {
        *self = match std::mem::replace(self, Self::Away) {
            Self::Ready(batch) => Self::TooLarge(batch),
            other => other,
        };
    }
}

/// A batch's place among those of its partition under one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    /// The sequence of its first record.
    pub base: i32,
    /// The number of batches before it.
    pub ordinal: u64,
}

impl Sequence {
    /// The sequence of the next batch, if this one has `count` records.
    pub(super) fn after(self, count: i32) -> Self {
        Self { base: sequence_after(self.base, count), ordinal: self.ordinal + 1 }
    }
}

/// Whether a batch may be in a log although no broker acknowledged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Doubt {
    /// It is in no log.
    #[default]
    Unwritten,
    /// It may be in the log of the topic with this id, and in no other one: the request named the topic by its id.
    In(Uuid),
    /// It may be in a log.
    Somewhere,
}

impl Doubt {
    pub(super) fn note(&mut self, other: Self) {
        *self = match (*self, other) {
            (one, Self::Unwritten) => one,
            (Self::Unwritten, other) => other,
            (one, other) if one == other => one,
            _ => Self::Somewhere,
        };
    }

    pub(super) fn maybe_written(self) -> bool {
        self != Self::Unwritten
    }

    /// Whether the log of the topic with this id may have it. The log of a topic that was deleted does not matter.
    fn concerns(self, topic: Option<Uuid>) -> bool {
        match self {
            Self::Unwritten => false,
            Self::In(id) => topic.is_none_or(|topic| topic == id),
            Self::Somewhere => true,
        }
    }
}

/// A batch in flight. `closed` is none when its delivery timeout was reported meanwhile. Its place is kept, because the
/// sequences after it depend on whether it was appended.
#[derive(Debug)]
pub(super) struct Flight<B> {
    pub request: u64,
    pub broker: BrokerId,
    pub ordinal: Option<u64>,
    pub closed: Option<Closed<B>>,
    /// It landed without success. It waits for the batches in flight after it, so that all are sent again in order.
    pub returned: bool,
}

#[derive(Debug)]
pub(super) struct Partition<B> {
    pub topic: Arc<str>,
    pub topic_name: Str,
    pub topic_number: usize,
    pub index: i32,
    pub topic_id: Option<Uuid>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: Option<LeaderEpoch>,
    /// Why there is no leader to send to.
    pub unrouted: Option<Failure>,
    pub opens: VecDeque<Open>,
    /// The number of batches that were closed before we heard that they were opened.
    pub unheard: u32,
    pub queue: VecDeque<Closed<B>>,
    pub flights: VecDeque<Flight<B>>,
    pub retry: Retry,
    pub flushing: bool,
    pub listed: Listed,
    /// The timer that ends the linger of the oldest open batch, or of one before it that has left.
    pub linger_armed: Option<Instant>,
    pub deadline_armed: Option<Instant>,
    /// The offset of the last record that was acknowledged, if the broker said it.
    pub acknowledged: Option<i64>,
    /// None before the first batch and after a restart, and always without idempotence.
    sequences: Option<Sequences>,
    pub admission: Admission,
}

/// In which list of its leader's sink the partition is. It is in no list of any other sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    Waiting,
    Ready,
}

/// The idempotence of one partition: sequences count up from zero under one identity.
#[derive(Debug)]
struct Sequences {
    identity: ProducerIdentity,
    next: i32,
    /// Batches that have a sequence.
    count: u64,
    standing: Standing,
}

/// What the broker thinks of a partition's sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has accepted no batch under this identity. Until then it accepts any first sequence, so only one batch may be
    /// in flight: two could be appended the wrong way round (franz-go #223).
    Unproven,
    /// It has accepted a batch, and accepts only the next sequence.
    Proven,
    /// A sequence was given to a batch that will never be appended, or of which that is not known. No batch is sent
    /// until sequences start anew under another identity (KIP-360).
    Broken,
}

impl Sequences {
    fn under(identity: ProducerIdentity) -> Self {
        Self { identity, next: 0, count: 0, standing: Standing::Unproven }
    }
}

/// Brokers remember the last five batches of a producer in a partition, and recognise these when they come again
/// (KIP-98).
const BATCHES_KNOWN: u64 = 5;

impl<B> Partition<B> {
    pub(super) fn new(topic: Arc<str>, topic_number: usize, index: i32) -> Self {
        Self {
            topic_name: Str::from(&*topic),
            topic,
            topic_number,
            index,
            topic_id: None,
            leader: None,
            leader_epoch: None,
            unrouted: None,
            opens: VecDeque::new(),
            unheard: 0,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            retry: Retry::default(),
            flushing: false,
            listed: Listed::No,
            linger_armed: None,
            deadline_armed: None,
            acknowledged: None,
            sequences: None,
            admission: Admission::Free,
        }
    }

    /// Whether one more batch may be in flight to `broker` now, if there is one.
    pub(super) fn may_fly(&self, broker: BrokerId, limit: usize, now: Instant) -> bool {
        let limit = match self.sequences.as_ref().map(|sequences| sequences.standing) {
            Some(Standing::Broken) => 0,
            Some(Standing::Proven) => limit,
            // Without idempotence a retry could be overtaken by the batch after it.
            Some(Standing::Unproven) | None => limit.min(1),
        };
        self.leader == Some(broker)
            && self.retry.is_ready(now)
            && self.flights.len() < limit
            && self.stays_known()
            // While batches are in flight to the old leader, the new one gets none: they could come back and be
            // appended after it (KAFKA-3197).
            && self.flights.iter().all(|flight| flight.broker == broker && !flight.returned)
    }

    /// Whether brokers will still remember the oldest batch in flight once the next batch is appended too. If the
    /// oldest one were sent again after they forgot it, they would answer OUT_OF_ORDER_SEQUENCE_NUMBER. Batches between
    /// the two count, although they may have been settled long ago.
    fn stays_known(&self) -> bool {
        let next = self.queue.front().and_then(|closed| closed.sequence);
        let count = self.sequences.as_ref().map_or(0, |sequences| sequences.count);
        let next = next.map_or(count, |sequence| sequence.ordinal);
        let oldest = self.flights.front().and_then(|flight| flight.ordinal);
        oldest.is_none_or(|oldest| next.saturating_sub(oldest) < BATCHES_KNOWN)
    }

    /// Whether the oldest closed batch is sealed.
    pub(super) fn has_sealed(&self) -> bool {
        self.queue.front().is_some_and(|closed| closed.content.is_ready())
    }

    pub(super) fn has_data(&self) -> bool {
        !self.opens.is_empty() || !self.queue.is_empty()
    }

    /// When the oldest record's delivery timeout ends.
    pub(super) fn deadline(&self, delivery_timeout: Duration) -> Option<Instant> {
        let queued = self.queue.front().map(|closed| closed.opened);
        let flying =
            self.flights.iter().find_map(|flight| flight.closed.as_ref()).map(|closed| closed.opened);
        let open = self.opens.front().map(|open| open.since);
        [flying, queued, open].into_iter().flatten().min().map(|opened| opened + delivery_timeout)
    }

    /// The generation of flushes of the oldest record that is not settled.
    pub(super) fn oldest_generation(&self) -> Option<u64> {
        let flying = self.flights.iter().find_map(|flight| flight.closed.as_ref());
        let closed = flying.or(self.queue.front()).map(|closed| closed.generation);
        closed.or_else(|| self.opens.front().map(|open| open.generation))
    }

    /// The identity and base sequence that the next batch goes out with, of `records` records. `kept` is the sequence
    /// it has, or gets now. `current` is the producer's identity; the partition takes it over when no batch depends on
    /// the one it had.
    pub(super) fn assign(
        &mut self,
        kept: &mut Option<Sequence>,
        records: i32,
        current: ProducerIdentity,
    ) -> (ProducerIdentity, i32) {
        let is_bound = !self.flights.is_empty() || kept.is_some();
        let sequences = self.sequences.get_or_insert_with(|| Sequences::under(current));
        if !is_bound && sequences.identity != current {
            *sequences = Sequences::under(current);
        }
        let sequence = kept.get_or_insert_with(|| {
            let sequence = Sequence { base: sequences.next, ordinal: sequences.count };
            sequences.next = sequence_after(sequence.base, records);
            sequences.count += 1;
            sequence
        });
        (sequences.identity, sequence.base)
    }

    /// The batch that was at `place` of the queue becomes `pieces` batches: the batches after it have more before them.
    /// None of them is in flight.
    pub(super) fn count_pieces(&mut self, place: usize, pieces: usize) {
        let more = pieces as u64 - 1;
        if let Some(sequences) = &mut self.sequences {
            sequences.count += more;
        }
        for closed in self.queue.range_mut(place..) {
            if let Some(sequence) = &mut closed.sequence {
                sequence.ordinal += more;
            }
        }
    }

    /// A batch was accepted.
    pub(super) fn prove(&mut self) {
        if let Some(sequences) = &mut self.sequences {
            sequences.standing = match sequences.standing {
                Standing::Unproven | Standing::Proven => Standing::Proven,
                // Those that follow the gap are refused all the same.
                Standing::Broken => Standing::Broken,
            };
        }
    }

    /// A batch with a sequence is given up without being known to be written, or the broker expects another sequence.
    pub(super) fn note_gap(&mut self) {
        if let Some(sequences) = &mut self.sequences {
            sequences.standing = Standing::Broken;
        }
    }

    pub(super) fn has_gap(&self) -> bool {
        self.sequences.as_ref().is_some_and(|sequences| sequences.standing == Standing::Broken)
    }

    pub(super) fn identity(&self) -> Option<ProducerIdentity> {
        self.sequences.as_ref().map(|sequences| sequences.identity)
    }

    /// Once no batch is in flight any more, puts those that came back at the front of the queue, oldest first.
    pub(super) fn gather_returned(&mut self) {
        if self.flights.iter().any(|flight| !flight.returned) {
            return;
        }
        while let Some(flight) = self.flights.pop_back() {
            match flight.closed {
                Some(closed) => self.queue.push_front(closed),
                // Its delivery timeout was reported while it was in flight, and then it failed: its sequence is
                // missing.
                None => self.note_gap(),
            }
        }
    }

    /// Starts sequences anew under an identity that is still to come. Batches that may have been appended cannot be
    /// sent under it, because the broker would not recognise them: they leave the queue and are the answer.
    pub(super) fn restart_sequences(&mut self) -> Vec<Closed<B>> {
        self.sequences = None;
        let mut doubtful = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for mut closed in self.queue.drain(..) {
            if closed.sequence.is_some() && closed.doubt.concerns(self.topic_id) {
                doubtful.push(closed);
            } else {
                closed.sequence = None;
                kept.push_back(closed);
            }
        }
        self.queue = kept;
        doubtful
    }
}

/// Sequences are 31 bits and wrap to zero.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::sequence_after;

    #[test]
    fn sequences_wrap_to_zero_as_the_brokers_do() {
        assert_eq!(sequence_after(0, 10), 10);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }
}
