//! One partition's batches: open in the accumulator, closed and waiting, in flight.
//!
//! ```text
//!  opens ─▶ queue ─▶ flights ─▶ settled
//!             ▲         │
//!             └─────────┘ landed without success: back to the front, in sequence order, once all have landed
//! ```
//!
//! It must not know brokers beyond their ids, nor when a request goes out: [`Producer`](super::Producer) decides that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use milena_wire::{Str, Uuid};

use crate::backoff::Retry;
use crate::{BrokerId, Failure, Instant, LeaderEpoch, ProducerIdentity};

/// A batch open in the accumulator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub since: Instant,
    pub generation: u64,
}

/// A closed batch that is not in flight. `batch` is none while it is being sealed.
#[derive(Debug)]
pub(super) struct Closed<B> {
    pub ticket: u64,
    pub opened: Instant,
    pub generation: u64,
    pub batch: Option<B>,
    /// Given at the first transmission, and kept for every retry: that is what makes a retry recognisable.
    pub sequence: Option<Sequence>,
    /// Whether an earlier attempt may have been appended without our hearing of it.
    pub doubt: Doubt,
    pub last_failure: Option<Failure>,
    /// The broker takes no batch of this size: it is to be split before it is sent again.
    pub is_too_large: bool,
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
    /// That of the next batch, if this one has so many records.
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
    /// It may be in the log of the topic with this id, and in no other one: a broker that takes ids said so.
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

    /// Whether the log of the topic with this id may have it. That of a topic that was deleted does not matter.
    fn concerns(self, topic: Option<Uuid>) -> bool {
        match self {
            Self::Unwritten => false,
            Self::In(id) => topic.is_none_or(|topic| topic == id),
            Self::Somewhere => true,
        }
    }
}

/// A batch in flight. `batch` is none when its delivery timeout was reported meanwhile; the place is kept, because the
/// sequences behind it depend on what became of it.
#[derive(Debug)]
pub(super) struct Flight<B> {
    pub request: u64,
    pub broker: BrokerId,
    pub ordinal: Option<u64>,
    pub closed: Option<Closed<B>>,
    /// It landed without success and waits for those behind it, so that all are sent again in order.
    pub returned: bool,
}

#[derive(Debug)]
pub(super) struct Partition<B> {
    pub topic: Arc<str>,
    pub topic_name: Str,
    pub index: i32,
    pub topic_id: Option<Uuid>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: Option<LeaderEpoch>,
    /// Why routing has no place for this partition.
    pub unrouted: Option<Failure>,
    pub opens: VecDeque<Open>,
    /// Batches that were closed before we heard that they were opened.
    pub unheard: u32,
    pub queue: VecDeque<Closed<B>>,
    pub flights: VecDeque<Flight<B>>,
    pub retry: Retry,
    pub flushing: bool,
    pub listed: Listed,
    /// The timer that ends the linger of the oldest open batch, or of one before it that has left.
    pub linger_armed: Option<Instant>,
    pub deadline_armed: Option<Instant>,
    sequences: Sequences,
}

/// Where the partition is in the lists of its leader's sink: once at most, and in no other sink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    Waiting,
    Ready,
}

/// The idempotence of one partition: sequences count up from zero under one identity.
#[derive(Debug, Default)]
struct Sequences {
    identity: Option<ProducerIdentity>,
    next: i32,
    /// Batches that have a sequence.
    count: u64,
    /// The broker accepted a batch under this identity. Until then it accepts any first sequence, so only one batch
    /// may be in flight: two could be appended the wrong way round (franz-go #223).
    proven: bool,
    /// A batch that has a sequence will never be appended, or nobody knows: what follows needs a new identity.
    gap: bool,
}

/// Brokers remember this many batches of a producer in a partition (KIP-98).
const BATCHES_KNOWN: u64 = 5;

impl<B> Partition<B> {
    pub(super) fn new(topic: Arc<str>, index: i32) -> Self {
        Self {
            topic_name: Str::from(&*topic),
            topic,
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
            sequences: Sequences::default(),
        }
    }

    /// Whether one more batch may fly to `broker` now, if there is one.
    pub(super) fn may_fly(&self, broker: BrokerId, limit: usize, now: Instant) -> bool {
        let limit = if self.sequences.proven { limit } else { 1 };
        self.leader == Some(broker)
            && self.retry.is_ready(now)
            && !self.sequences.gap
            && self.flights.len() < limit
            && self.stays_known()
            // In flight to another broker: the old leader's answer comes first, or order is lost (KAFKA-3197).
            && self.flights.iter().all(|flight| flight.broker == broker && !flight.returned)
    }

    /// Whether brokers still know the oldest batch in flight once the next one is appended too. If that one is sent again
    /// and they have forgotten it, they take it for a gap. Those between the two may have been settled long ago.
    fn stays_known(&self) -> bool {
        let next = self.queue.front().and_then(|closed| closed.sequence);
        let next = next.map_or(self.sequences.count, |sequence| sequence.ordinal);
        let oldest = self.flights.front().and_then(|flight| flight.ordinal);
        oldest.is_none_or(|oldest| next.saturating_sub(oldest) < BATCHES_KNOWN)
    }

    /// Whether the oldest closed batch is sealed.
    pub(super) fn has_sealed(&self) -> bool {
        self.queue.front().is_some_and(|closed| closed.batch.is_some())
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

    /// The identity and sequence the next batch goes out with. `current` is the producer's identity; the partition
    /// takes it over when no batch depends on the one it had.
    pub(super) fn assign(
        &mut self,
        closed: &mut Closed<B>,
        count: i32,
        current: ProducerIdentity,
    ) -> (ProducerIdentity, i32) {
        let depends = !self.flights.is_empty() || closed.sequence.is_some();
        match self.sequences.identity {
            Some(identity) if depends || identity == current => (identity, self.sequence_of(closed, count)),
            _ => {
                self.sequences = Sequences { identity: Some(current), ..Sequences::default() };
                (current, self.sequence_of(closed, count))
            }
        }
    }

    fn sequence_of(&mut self, closed: &mut Closed<B>, count: i32) -> i32 {
        let sequences = &mut self.sequences;
        let sequence = closed.sequence.get_or_insert_with(|| {
            let sequence = Sequence { base: sequences.next, ordinal: sequences.count };
            sequences.next = sequence_after(sequence.base, count);
            sequences.count += 1;
            sequence
        });
        sequence.base
    }

    /// The batch that was at `place` of the queue becomes so many: those behind it have more before them. None of those
    /// is in flight.
    pub(super) fn count_pieces(&mut self, place: usize, pieces: usize) {
        let more = pieces as u64 - 1;
        self.sequences.count += more;
        for closed in self.queue.range_mut(place..) {
            if let Some(sequence) = &mut closed.sequence {
                sequence.ordinal += more;
            }
        }
    }

    /// A batch was accepted.
    pub(super) fn prove(&mut self) {
        self.sequences.proven = true;
    }

    /// A batch with a sequence leaves without being known to be written, or the broker counts differently.
    pub(super) fn note_gap(&mut self) {
        self.sequences.gap |= self.sequences.identity.is_some();
    }

    pub(super) fn has_gap(&self) -> bool {
        self.sequences.gap
    }

    pub(super) fn identity(&self) -> Option<ProducerIdentity> {
        self.sequences.identity
    }

    /// Puts what landed without success back, oldest first, once nothing is left in the air.
    pub(super) fn gather_returned(&mut self) {
        if self.flights.iter().any(|flight| !flight.returned) {
            return;
        }
        while let Some(flight) = self.flights.pop_back() {
            match flight.closed {
                Some(closed) => self.queue.push_front(closed),
                // It timed out in flight, was reported, and did not arrive: its sequence is missing.
                None => self.note_gap(),
            }
        }
    }

    /// Starts sequences anew under an identity that is still to come. Batches that may have been appended cannot be
    /// sent under it, because the broker would not recognise them: they are taken out and given back.
    pub(super) fn restart_sequences(&mut self) -> Vec<Closed<B>> {
        self.sequences = Sequences::default();
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
