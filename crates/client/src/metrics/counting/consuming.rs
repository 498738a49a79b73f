//! What consumers count: once for each batch or answer.

use std::sync::Arc;
use std::time::Duration;

use milena_core::Instant;

use super::nanos;
use crate::connection::Course;
use crate::metrics::{Counter, Histogram, Registry, families};

/// The handles of consumers.
pub(crate) struct Consuming {
    registry: Registry,
    broker: Arc<Histogram>,
    network: Arc<Histogram>,
    throttle: Arc<Histogram>,
    transfer: Arc<Histogram>,
    queued: Arc<Histogram>,
    pub(crate) decompress: Arc<Histogram>,
    application: Arc<Histogram>,
    fetch_bytes: Arc<Histogram>,
    batch_records: Arc<Histogram>,
    commit: Arc<Histogram>,
}

/// The handles of one topic, with those that batches need when they are dropped.
pub(crate) struct OfTopic {
    records: Counter,
    bytes: Counter,
    end_to_end: Arc<Histogram>,
    application: Arc<Histogram>,
    queued: Arc<Histogram>,
    batch_records: Arc<Histogram>,
}

impl Consuming {
    pub(super) fn new(registry: &Registry) -> Self {
        let phase = |phase| registry.histogram(&families::CONSUMER_PHASE_SECONDS, &[phase]);
        Self {
            broker: phase("broker"),
            network: phase("network"),
            throttle: phase("throttle"),
            transfer: phase("transfer"),
            queued: phase("queued"),
            decompress: phase("decompress"),
            application: phase("application"),
            fetch_bytes: registry.histogram(&families::CONSUMER_FETCH_BYTES, &[]),
            batch_records: registry.histogram(&families::CONSUMER_BATCH_RECORDS, &[]),
            commit: registry.histogram(&families::CONSUMER_COMMIT_SECONDS, &[]),
            registry: registry.clone(),
        }
    }

    pub(crate) fn topic(&self, topic: &str) -> OfTopic {
        OfTopic {
            records: self.registry.counter(&families::CONSUMER_RECORDS, &[topic]),
            bytes: self.registry.counter(&families::CONSUMER_BYTES, &[topic]),
            end_to_end: self.registry.histogram(&families::CONSUMER_END_TO_END_SECONDS, &[topic]),
            application: Arc::clone(&self.application),
            queued: Arc::clone(&self.queued),
            batch_records: Arc::clone(&self.batch_records),
        }
    }

    /// A fetch was answered with batches. The first of its `bytes` were there at `began`.
    pub(crate) fn note_fetched(&self, course: &Course, began: Instant, bytes: usize) {
        let Course { throttled, written, ended, round_trip, .. } = *course;
        if !throttled.is_zero() {
            self.throttle.record_duration(throttled);
        }
        let outside = began - written;
        let network = round_trip.min(outside);
        self.network.record_duration(network);
        self.broker.record_duration(outside - network);
        self.transfer.record_duration(ended - began);
        self.fetch_bytes.record(bytes as u64);
    }

    /// A commit was answered.
    pub(crate) fn note_commit(&self, course: &Course) {
        self.commit.record_duration(course.took());
    }

    /// A commit has failed, or that of one partition.
    #[cold]
    pub(crate) fn note_commit_error(&self, error: &str) {
        self.registry.counter(&families::CONSUMER_COMMIT_ERRORS, &[error]).add(1);
    }

    /// A part of a rebalance has ended.
    pub(crate) fn note_rebalancing(&self, phase: &'static str, took: Duration) {
        self.registry.histogram(&families::CONSUMER_REBALANCE_SECONDS, &[phase]).record_duration(took);
    }

    /// A rebalance has ended.
    pub(crate) fn note_rebalanced(&self, reason: &'static str) {
        self.registry.counter(&families::CONSUMER_REBALANCES, &[reason]).add(1);
    }

    /// A partition has become stalled.
    pub(crate) fn note_stall(&self, topic: &str) {
        self.registry.counter(&families::CONSUMER_STALLS, &[topic]).add(1);
    }
}

impl OfTopic {
    /// The application has taken `records`, which are the first of a batch that came at `fetched`.
    pub(crate) fn note_taken(&self, records: u64, fetched: Instant, taken: Instant) {
        self.note_part(records);
        self.batch_records.record(records);
        self.queued.record_duration(taken - fetched);
    }

    /// The application has taken `records` of a batch of which it has taken some before.
    pub(crate) fn note_part(&self, records: u64) {
        self.records.add(records);
    }

    /// The batch had these many bytes when it came.
    pub(crate) fn note_bytes(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
    }

    /// The records have timestamps from `first_ms` to `last_ms`.
    pub(crate) fn note_age(&self, records: u64, first_ms: i64, last_ms: i64, now_ms: i64) {
        let age =
            |ms: i64| nanos(Duration::from_millis(u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0)));
        let of_first = records / 2;
        self.end_to_end.record_n(age(last_ms), records - of_first);
        if of_first > 0 {
            self.end_to_end.record_n(age(first_ms), of_first);
        }
    }

    /// The application has dropped what it took `held` before.
    pub(crate) fn note_dropped(&self, held: Duration) {
        self.application.record_duration(held);
    }
}
