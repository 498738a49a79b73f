//! What producers count: once for each batch or request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use milena_core::producer::Times;
use milena_core::{Failure, Instant};

use super::nanos;
use crate::clock::Clock;
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
    pub(crate) blocked: Blocked,
}

/// How long tasks wait for memory, together. It is counted while they wait: a producer that waits until its time is over would
/// otherwise look like one that never waits.
pub(crate) struct Blocked {
    counter: Counter,
    waiting: Mutex<Waiting>,
}

/// The tasks that wait, and up to when their time is counted.
#[derive(Default)]
struct Waiting {
    tasks: u32,
    counted_to: Option<Instant>,
}

/// A task that waits as long as this is here.
pub(crate) struct Blocking<'a> {
    blocked: &'a Blocked,
    clock: &'a Clock,
}

impl Blocked {
    fn new(counter: Counter) -> Self {
        Self { counter, waiting: Mutex::default() }
    }

    /// A task begins to wait.
    pub(crate) fn begin<'a>(&'a self, clock: &'a Clock) -> Blocking<'a> {
        self.change(clock.now(), |tasks| tasks + 1);
        Blocking { blocked: self, clock }
    }

    /// Counts the time of those that wait. Answers with what was added.
    pub(crate) fn count(&self, now: Instant) -> Duration {
        self.change(now, |tasks| tasks)
    }

    fn change(&self, now: Instant, tasks: impl FnOnce(u32) -> u32) -> Duration {
        let waiting = &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Two tasks may come here in another order than they have read the clock.
        let now = waiting.counted_to.map_or(now, |before| before.max(now));
        let added = (now - waiting.counted_to.unwrap_or(now)) * waiting.tasks;
        self.counter.add_duration(added);
        waiting.counted_to = Some(now);
        waiting.tasks = tasks(waiting.tasks);
        added
    }
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.blocked.change(self.clock.now(), |tasks| tasks - 1);
    }
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
            blocked: Blocked::new(registry.counter(&families::PRODUCER_BLOCKED_SECONDS, &[])),
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
        if !times.for_throttle().is_zero() {
            self.throttle.record_duration(times.for_throttle());
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
