//! What producers count: once for each batch or request.

use std::sync::Arc;

use milena_core::producer::Times;
use milena_core::{Failure, Instant};

use super::nanos;
use crate::connection::{Answer, Course};
use crate::metrics::{Counter, Histogram, Registry, families};

/// The handles of producers.
pub(crate) struct Producing {
    registry: Registry,
    pub(crate) room: Arc<Histogram>,
    pub(crate) turn: Arc<Histogram>,
    in_batch: Arc<Histogram>,
    compress: Arc<Histogram>,
    slot: Arc<Histogram>,
    throttle: Arc<Histogram>,
    retry: Arc<Histogram>,
    wire: Arc<Histogram>,
    network: Arc<Histogram>,
    broker: Arc<Histogram>,
    delivery: Arc<Histogram>,
    records: Arc<Histogram>,
    bytes: Arc<Histogram>,
    pub(crate) blocked: Counter,
}

/// The handles of one topic.
pub(crate) struct OfTopic {
    records: Counter,
    bytes: Counter,
    uncompressed_bytes: Counter,
}

/// What a settled batch held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) records: u64,
    pub(crate) bytes: usize,
    pub(crate) uncompressed_bytes: usize,
}

impl Producing {
    pub(super) fn new(registry: &Registry) -> Self {
        let phase = |phase| registry.histogram(&families::PRODUCER_PHASE_SECONDS, &[phase]);
        Self {
            room: phase("room"),
            turn: phase("turn"),
            in_batch: phase("batch"),
            compress: phase("compress"),
            slot: phase("slot"),
            throttle: phase("throttle"),
            retry: phase("retry"),
            wire: phase("wire"),
            network: phase("network"),
            broker: phase("broker"),
            delivery: registry.histogram(&families::PRODUCER_DELIVERY_SECONDS, &[]),
            records: registry.histogram(&families::PRODUCER_BATCH_RECORDS, &[]),
            bytes: registry.histogram(&families::PRODUCER_BATCH_BYTES, &[]),
            blocked: registry.counter(&families::PRODUCER_BLOCKED_SECONDS, &[]),
            registry: registry.clone(),
        }
    }

    pub(crate) fn topic(&self, topic: &str) -> OfTopic {
        OfTopic {
            records: self.registry.counter(&families::PRODUCER_RECORDS, &[topic]),
            bytes: self.registry.counter(&families::PRODUCER_BYTES, &[topic]),
            uncompressed_bytes: self.registry.counter(&families::PRODUCER_UNCOMPRESSED_BYTES, &[topic]),
        }
    }

    /// A request of `batches` was answered, or written if it gets no answer.
    pub(crate) fn note_landed(&self, batches: u64, is_answered: bool, answer: &Answer) {
        let Course { queued, throttled, written, round_trip, .. } = answer.course;
        self.wire.record_n(nanos((written - queued).saturating_sub(throttled)), batches);
        if !throttled.is_zero() {
            self.throttle.record_n(nanos(throttled), batches);
        }
        if is_answered {
            let outside = answer.began - written;
            let network = round_trip.min(outside);
            self.network.record_n(nanos(network), batches);
            self.broker.record_n(nanos(outside - network), batches);
        }
    }

    /// A batch was written.
    pub(crate) fn note_written(
        &self,
        topic: &OfTopic,
        contents: Contents,
        times: Option<Times>,
        now: Instant,
    ) {
        let Contents { records, bytes, uncompressed_bytes } = contents;
        topic.records.add(records);
        topic.bytes.add(bytes as u64);
        topic.uncompressed_bytes.add(uncompressed_bytes as u64);
        self.records.record(records);
        self.bytes.record(bytes as u64);
        self.note_times(times, now);
    }

    /// A batch of `records` has failed for good.
    #[cold]
    pub(crate) fn note_failed(
        &self,
        topic: &str,
        records: u64,
        failure: &Failure,
        times: Option<Times>,
        now: Instant,
    ) {
        self.registry.counter(&families::PRODUCER_RECORD_ERRORS, &[failure.label(), topic]).add(records);
        self.note_times(times, now);
    }

    fn note_times(&self, times: Option<Times>, now: Instant) {
        let Some(times) = times else { return };
        self.delivery.record_duration(now - times.opened);
        self.in_batch.record_duration(times.in_batch());
        if let Some(took) = times.compressing() {
            self.compress.record_duration(took);
        }
        if let Some(took) = times.for_slot() {
            self.slot.record_duration(took);
        }
        if !times.throttled.is_zero() {
            self.throttle.record_duration(times.throttled);
        }
        if let Some(took) = times.retrying() {
            self.retry.record_duration(took);
        }
    }

    /// A batch is sent again after `failure`.
    #[cold]
    pub(crate) fn note_retry(&self, failure: &Failure) {
        self.registry.counter(&families::PRODUCER_RETRIES, &[failure.label()]).add(1);
    }
}
