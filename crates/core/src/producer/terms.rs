//! What goes into the producer machine and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::produce::ProduceRequest;

use crate::{Backoff, BrokerId, Failure, Instant, ProducerIdentity};

/// What the machine needs to know of a sealed batch.
pub trait SealedBatch {
    /// How many records it holds; sequences count records.
    fn record_count(&self) -> i32;
    /// Its size on the wire.
    fn bytes(&self) -> usize;
    /// The greatest timestamp of its records.
    fn max_timestamp_ms(&self) -> i64;
    /// Its bytes, carrying this identity and base sequence, or none when the producer is not idempotent.
    fn stamped(&mut self, identity: Option<(ProducerIdentity, i32)>) -> Bytes;
}

/// Which replicas must have the records before a broker acknowledges them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// None: the broker never answers. A record counts as sent once it was handed to the network, and may be lost.
    None,
    /// The leader alone: lost if it fails before others have copied.
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

/// How the producer decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which replicas must have the records.
    pub acks: Acks,
    /// Whether batches carry a producer id and sequences, so that retries are written once and in order.
    pub idempotent: bool,
    /// The name of a transactional producer (`transactional.id`). Its identity comes from its coordinator, with
    /// [`handle_begin`](super::Producer::handle_begin).
    pub transactional_id: Option<Arc<str>>,
    /// How long an open batch waits for more records while its broker is busy.
    pub linger: Duration,
    /// How long a record may take from the first append to its batch until it is settled.
    pub delivery_timeout: Duration,
    /// How long one request may take; also what the broker is told to wait for replicas.
    pub request_timeout: Duration,
    /// A request is not filled beyond this many bytes of batches, unless one batch alone is larger.
    pub request_bytes_max: usize,
    /// Requests in flight to one broker. Kafka's brokers remember five batches per producer and partition.
    pub in_flight_max: usize,
    /// Between attempts.
    pub backoff: Backoff,
}

/// Names a partition within the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Names a batch that was closed and is being sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) slot: Slot,
    pub(super) number: u64,
    /// The generation of flushes that it belongs to, in case it is given up before it is sealed.
    pub(super) generation: u64,
    pub(super) sink: Option<BrokerId>,
}

impl Ticket {
    /// The partition of its batch.
    pub fn slot(&self) -> Slot {
        self.slot
    }
}

/// Names a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushId(pub(super) u64);

/// What the driver is to do: [`Producer::poll_order`](super::Producer::poll_order).
#[derive(Debug)]
pub enum Order<B> {
    /// Close the partition's open batch now. Answered by [`handle_closed`](super::Producer::handle_closed) for each
    /// batch that was closed, and by [`handle_emptied`](super::Producer::handle_emptied) when none is left open.
    Close(Slot),
    /// Split a batch of several records that its broker refuses for its size: each of them may be taken. Answered by
    /// [`handle_split`](super::Producer::handle_split).
    Split(Ticket, B),
    /// Take a request back unless a connection has begun with it: the time of one of its records is over, and whether
    /// that record may have been written depends on it. Answered by [`handle_lost`](super::Producer::handle_lost) or
    /// [`handle_begun`](super::Producer::handle_begun), at once.
    Recall(RequestId),
    /// Send a request.
    Transmit(Transmit),
}

/// A request to send.
#[derive(Debug)]
pub struct Transmit {
    /// To be handed back with the answer.
    pub id: RequestId,
    /// The broker.
    pub broker: BrokerId,
    /// The request.
    pub request: ProduceRequest,
    /// The latest version that can carry it: v13 names topics by id, which older metadata lacks.
    pub version_max: i16,
    /// Whether an answer comes at all (`acks=0` has none).
    pub is_answered: bool,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// A batch that is settled.
#[derive(Debug)]
pub struct Settled<B> {
    /// Its partition.
    pub slot: Slot,
    /// The batch itself, back from the machine.
    pub batch: B,
    /// Whether it was written.
    pub outcome: Outcome,
    /// When it came how far. None for a batch that was given up while it was open or being sealed.
    pub times: Option<Times>,
}

/// When a batch came how far, as far as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The machine heard that it was opened.
    pub opened: Instant,
    /// It was closed.
    pub closed: Instant,
    /// It was sealed, or split off a batch that was too large.
    pub sealed: Option<Instant>,
    /// It was sent first.
    pub sent: Option<Instant>,
    /// It was sent last.
    pub sent_last: Option<Instant>,
    /// How long it was ready, before it was sent first, while its broker took no request because of a quota (KIP-219).
    pub throttled: Duration,
    /// The same while it was open: a broker that takes no request leaves it open for longer than it lingers.
    pub throttled_open: Duration,
}

impl Times {
    pub(super) fn closed(opened: Instant, now: Instant) -> Self {
        let (throttled, throttled_open) = (Duration::ZERO, Duration::ZERO);
        Self { opened, closed: now, sealed: None, sent: None, sent_last: None, throttled, throttled_open }
    }

    /// How long it was open: from its first record until it was full or due. Without the broker's throttle.
    pub fn in_batch(&self) -> Duration {
        (self.closed - self.opened).saturating_sub(self.throttled_open)
    }

    /// How long it waited, open or ready, because of the broker's throttle.
    pub fn for_throttle(&self) -> Duration {
        self.throttled + self.throttled_open
    }

    /// How long it was compressed, with the wait for a thread that does it.
    pub fn compressing(&self) -> Option<Duration> {
        Some(self.sealed? - self.closed)
    }

    /// How long it was ready, while its partition or broker had no place for another request. Without the broker's throttle.
    pub fn for_slot(&self) -> Option<Duration> {
        Some((self.sent? - self.sealed?).saturating_sub(self.throttled))
    }

    /// How long its attempts took that were not the last one, with the backoff between them. None if it was sent once.
    pub fn retrying(&self) -> Option<Duration> {
        let (first, last) = (self.sent?, self.sent_last?);
        (last > first).then(|| last - first)
    }
}

/// Records that a broker acknowledged, and that its log does not have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset of the last record of this producer that was acknowledged.
    pub acknowledged: i64,
    /// Where the log begins now.
    pub log_start: i64,
}

/// How a batch was settled.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The broker has it.
    Written {
        /// The offset of its first record. None when the broker did not say: with `acks=0`, and for a duplicate of a
        /// batch that it has forgotten.
        base_offset: Option<i64>,
        /// The broker's time of append, for topics that use it. None when the broker gave the batch's own time, as it
        /// does for a batch that it had already.
        log_append_time_ms: Option<i64>,
    },
    /// It is given up.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether it may have been written all the same.
        maybe_written: bool,
        /// The records at fault within the batch, where the broker names them (KIP-467).
        records: Vec<(i32, Option<Arc<str>>)>,
    },
}
