//! Open batches. Callers that write to one partition share nothing but a small mutex around its open batch, held for
//! one append or one drain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_core::Instant;
use milena_core::producer::Slot;
use milena_wire::batch::{AppendError, BatchBuilder, Header};
use milena_wire::pool::Pool;

use super::delivery::Promise;
use super::inbox::{Event, Inbox};
use super::partitioner::Sticky;
use super::profile::Profile;
use crate::Record;
use crate::budget::{Budget, Reservation};
use crate::trace::Contexts;

/// One partition's open batch, and the batches that were filled and that the driver has not taken yet.
pub(super) struct Accumulator {
    pub(super) slot: Slot,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) profile: Arc<Profile>,
    pub(super) sticky: Arc<Sticky>,
    inbox: Arc<Inbox>,
    batches: Mutex<Batches>,
}

#[derive(Default)]
struct Batches {
    open: Option<OpenBatch>,
    filled: Vec<OpenBatch>,
    /// The size of the last batch. The next one begins with as much memory, because growing to it would copy the
    /// records.
    expected_bytes: usize,
    /// No batch is opened any more, because the producer was closed or its driver has ended.
    is_closed: bool,
    /// The largest batch that the broker takes, once it has refused a larger one.
    bytes_max: Option<usize>,
}

/// A batch that takes records.
pub(super) struct OpenBatch {
    pub(super) builder: BatchBuilder,
    pub(super) promise: Promise,
    pub(super) reservation: Reservation,
    /// It takes no further record that would make it larger than this.
    pub(super) bytes_max: usize,
    /// From this size on, records that stick to its partition go to another one.
    turn_bytes_max: usize,
    /// How many of its records were posted: they have no delivery.
    pub(super) posted: u32,
    /// In which its records were created, if the client has hooks.
    pub(super) contexts: Contexts,
}

/// Where batches get their memory.
pub(super) struct Memory {
    pub(super) pool: Pool,
    pub(super) budget: Budget,
    /// Whether batches are parts of transactions.
    pub(super) is_transactional: bool,
}

/// What the caller of an append has waited for. Nothing, at first.
#[derive(Default)]
pub(super) struct Waited {
    /// Since when.
    pub(super) since: Option<Instant>,
    /// Memory for the record.
    pub(super) room: Option<Reservation>,
}

/// What became of an append.
pub(super) enum Appended<T> {
    /// The record is in the open batch.
    Done(T),
    /// The open batch had no room for the record and was closed. A record without a key goes to another partition now.
    Filled,
    /// Memory must be reserved first.
    NoRoom,
    /// The record is too large for any batch.
    TooLarge(TooLarge),
    /// The accumulator takes no more records.
    Closed,
}

/// A record that is too large for any batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// The least that is reserved for a batch.
const RESERVED_BYTES_MIN: usize = 1024;
/// How much is waited for beyond the record itself. When the budget is full, waiting for each record's bytes alone
/// would fill batches with a record or two.
const ROOM_BYTES_MIN: usize = 4096;

impl Accumulator {
    pub(super) fn new(
        slot: Slot,
        topic: Arc<str>,
        partition: i32,
        profile: Arc<Profile>,
        sticky: Arc<Sticky>,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self { slot, topic, partition, profile, sticky, inbox, batches: Mutex::default() }
    }

    /// How many bytes must be reserved for the batch to take `record`, whether the batch is open or not yet.
    ///
    /// # Errors
    /// When the record is too large for any batch.
    pub(super) fn room_for(
        &self,
        record: &Record<'_>,
        timestamp_ms: i64,
        memory: &Memory,
    ) -> Result<usize, TooLarge> {
        let headers = record.header_slice();
        let builder = BatchBuilder::new(&memory.pool);
        let (bytes, limit) = (
            builder.encoded_bytes(timestamp_ms, record.key_bytes(), record.value_bytes(), headers),
            self.profile.record_bytes_max,
        );
        if bytes > limit {
            return Err(TooLarge { bytes, limit });
        }
        let bytes = builder.bytes().saturating_add(bytes_at_most(record, headers));
        Ok(bytes.saturating_add(ROOM_BYTES_MIN).checked_next_power_of_two().unwrap_or(bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes `record` into the open batch, opening one if there is none. `waited` is what the caller has waited
    /// for. `result` makes what the caller wants from the batch and the record's index.
    ///
    /// Bench: `enqueue`.
    pub(super) fn append<T>(
        &self,
        record: &Record<'_>,
        timestamp_ms: i64,
        memory: &Memory,
        waited: &mut Waited,
        result: impl FnOnce(&mut OpenBatch, u32) -> T,
    ) -> Appended<T> {
        let Waited { since, room } = waited;
        let headers = record.header_slice();
        let mut batches = self.lock();
        let opened = batches.open.is_none();
        let Batches { expected_bytes, is_closed, bytes_max, .. } = *batches;
        let batch = match &mut batches.open {
            Some(batch) => batch,
            _ if is_closed => return Appended::Closed,
            none => match self.open(expected_bytes, bytes_max, memory, room) {
                Some(batch) => none.insert(batch),
                None => return Appended::NoRoom,
            },
        };
        // The upper bound of the record's size is cheap. Only if that does not fit the reservation, the exact size is
        // computed.
        let bytes_max = batch.builder.bytes().saturating_add(bytes_at_most(record, headers));
        let refused = if bytes_max > batch.reservation.bytes() && !batch.grow(record, timestamp_ms, room) {
            Appended::NoRoom
        } else {
            match batch.builder.append(timestamp_ms, record.key_bytes(), record.value_bytes(), headers) {
                Ok(index) => {
                    let result = result(batch, index);
                    if batch.builder.bytes() >= batch.turn_bytes_max {
                        batch.turn_bytes_max = usize::MAX;
                        self.sticky.leave(self.partition);
                    }
                    if opened {
                        self.tell_opened(&mut batches, *since);
                    } else if let Some(since) = since {
                        self.inbox.push(Event::Waited(self.slot.0, *since));
                    }
                    return Appended::Done(result);
                }
                Err(AppendError::TooLarge { bytes, limit }) => Appended::TooLarge(TooLarge { bytes, limit }),
                Err(AppendError::Full) => {
                    self.fill(&mut batches);
                    return Appended::Filled;
                }
            }
        };
        // An empty batch must not stay open: the driver was not told of it.
        if opened {
            batches.open = None;
        }
        refused
    }

    /// Tells the driver of the batch that was opened.
    ///
    /// This happens before the lock is given back. If it happened after, another task could append to the batch and
    /// flush, and the driver would hear of the flush before it heard of the batch.
    #[cold]
    fn tell_opened(&self, batches: &mut Batches, waited_since: Option<Instant>) {
        self.inbox.push(Event::Opened(self.slot.0));
        if let Some(since) = waited_since {
            self.inbox.push(Event::Waited(self.slot.0, since));
        }
        // A first record that fills the batch need not wait for more.
        if batches.open.as_ref().is_some_and(|open| open.builder.bytes() >= open.bytes_max) {
            self.fill(batches);
        }
    }

    /// Closes the open batch, which is full, and tells the driver.
    #[cold]
    fn fill(&self, batches: &mut Batches) {
        self.close_open(batches);
        self.inbox.push(Event::Filled(self.slot.0));
    }

    #[cold]
    fn open(
        &self,
        expected_bytes: usize,
        bytes_max: Option<usize>,
        memory: &Memory,
        room: &mut Option<Reservation>,
    ) -> Option<OpenBatch> {
        let Memory { pool, budget, .. } = memory;
        // If each of many partitions reserved as much as its last batch, those that come later would get nothing.
        let expected_bytes = expected_bytes.min(budget.available() / 4);
        let reservation = match room.take() {
            Some(room) => room,
            None => budget
                .try_reserve(expected_bytes.max(RESERVED_BYTES_MIN))
                .or_else(|| budget.try_reserve(RESERVED_BYTES_MIN))?,
        };
        let profile = &self.profile;
        // What was learnt from refusals counts until the topic's limit is known.
        let learnt = bytes_max.filter(|_| !profile.has_limit()).unwrap_or(usize::MAX);
        let bytes_max = profile.batch_bytes_max().min(learnt);
        let builder = BatchBuilder::with_expected_bytes(pool, reservation.bytes())
            .bytes_max(bytes_max)
            .record_bytes_max(profile.record_bytes_max)
            .transactional(memory.is_transactional);
        Some(OpenBatch {
            builder,
            promise: Promise::new(Arc::clone(&self.topic), self.partition),
            reservation,
            bytes_max,
            turn_bytes_max: self.sticky.turn_bytes_max(self.partition),
            posted: 0,
            contexts: Contexts::default(),
        })
    }

    /// Takes the batches to seal, oldest first: the filled ones, and with `close` the open one too. Answers whether no
    /// batch is open afterwards.
    pub(super) fn take(&self, close: bool, taken: &mut Vec<OpenBatch>) -> bool {
        let mut batches = self.lock();
        if close {
            self.close_open(&mut batches);
        }
        taken.append(&mut batches.filled);
        batches.open.is_none()
    }

    /// The broker has refused a larger batch: those opened from now on have at most `bytes`.
    pub(super) fn lower_bytes_max(&self, bytes: usize) {
        let mut batches = self.lock();
        batches.bytes_max = Some(batches.bytes_max.map_or(bytes, |learnt| learnt.min(bytes)));
    }

    /// Takes no more records. The driver has been told of each batch with records that were taken before.
    pub(super) fn close(&self) {
        let mut batches = self.lock();
        batches.is_closed = true;
        self.close_open(&mut batches);
    }

    fn close_open(&self, batches: &mut Batches) {
        if let Some(open) = batches.open.take() {
            let bytes = open.builder.bytes();
            batches.expected_bytes = bytes.next_power_of_two();
            batches.filled.push(open);
            self.sticky.closed(self.partition, bytes);
        }
    }
}

impl OpenBatch {
    /// Reserves the memory that the batch's buffer will have with `record` in it: buffers double. False if there is no
    /// room.
    #[cold]
    fn grow(&mut self, record: &Record<'_>, timestamp_ms: i64, room: &mut Option<Reservation>) -> bool {
        let headers = record.header_slice();
        let bytes = self.builder.bytes()
            + self.builder.encoded_bytes(timestamp_ms, record.key_bytes(), record.value_bytes(), headers);
        // The builder is going to refuse the record, so that the memory is for the next batch.
        if bytes > self.bytes_max && !self.builder.is_empty() {
            return true;
        }
        // The room that was waited for is enough for the record: see `Accumulator::room_for`.
        if let Some(room) = room.take() {
            self.reservation.merge(room);
        }
        if bytes <= self.reservation.bytes() {
            return true;
        }
        let wanted = bytes.next_power_of_two().max(RESERVED_BYTES_MIN);
        let missing = wanted.saturating_sub(self.reservation.bytes());
        self.reservation.try_grow(missing)
    }
}

/// An upper bound of a record's encoded size, which is cheap to compute.
fn bytes_at_most(record: &Record<'_>, headers: &[Header<'_>]) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    // Length, attributes, timestamp and offset deltas, two lengths, header count: at most 10 + 1 + 10 + 5 + 5 + 5 + 5.
    // Each header has two lengths.
    let fixed = 41 + length(record.key_bytes()) + length(record.value_bytes());
    headers.iter().fold(fixed, |sum, header| {
        sum.saturating_add(10).saturating_add(header.key.len()).saturating_add(length(header.value))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use milena_core::Rng;
    use milena_core::partitioner::SpreadSettings;
    use milena_wire::codec::Compression;

    use super::*;
    use crate::clock::Clock;
    use crate::producer::profile::Codec;
    use crate::runtime::Executor;

    fn partition(bytes_max: usize, record_bytes_max: usize) -> Accumulator {
        let clock = Clock::start(&Executor::current().expect("a runtime"));
        let settings = SpreadSettings { is_adaptive: true, availability_timeout: Duration::ZERO };
        let sticky = Sticky::new(settings, Rng::seeded(1), clock, &[0]);
        let codec = Codec { compression: Compression::None, level: None };
        let profile = Profile::of(codec, bytes_max, record_bytes_max);
        Accumulator::new(Slot(0), "t".into(), 0, Arc::new(profile), Arc::new(sticky), Arc::default())
    }

    /// The room that a record has waited for is enough, in an open batch and in a new one. Otherwise its caller would
    /// wait for the same room again and again.
    #[tokio::test]
    async fn a_record_that_got_its_room_is_taken() {
        let budget = Budget::new(1 << 20);
        let memory = Memory { pool: Pool::default(), budget: budget.clone(), is_transactional: false };
        for bytes in (0..40).map(|power| 1.3f64.powi(power) as usize) {
            for (value, header) in [(bytes, 0), (0, bytes), (bytes, bytes)] {
                let (value, header) = (vec![0; value], vec![0; header]);
                let headers = [Header::new("h", Some(&header)), Header::new("", None)];
                let record = Record::to("t").value(&value).headers(&headers);
                for is_open in [false, true] {
                    let partition = partition(1 << 19, 1 << 19);
                    let append = |record: &Record<'_>, waited: &mut Waited| {
                        partition.append(record, 0, &memory, waited, |_, _| ())
                    };
                    if is_open {
                        assert!(matches!(
                            append(&Record::to("t"), &mut Waited::default()),
                            Appended::Done(())
                        ));
                    }
                    let wanted = partition.room_for(&record, 0, &memory).expect("small enough");
                    let room = Some(budget.try_reserve(wanted).expect("free"));
                    let mut waited = Waited { since: None, room };
                    // The rest of the budget is taken.
                    let _others = budget.try_reserve(budget.available()).expect("free");
                    assert!(matches!(append(&record, &mut waited), Appended::Done(())), "{bytes} {is_open}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_record_larger_than_a_batch_travels_alone_and_at_once() {
        let memory = Memory { pool: Pool::default(), budget: Budget::new(1 << 20), is_transactional: false };
        let partition = partition(1000, 50_000);
        let append = |bytes: usize| {
            let value = vec![0; bytes];
            partition.append(&Record::to("t").value(&value), 0, &memory, &mut Waited::default(), |_, _| ())
        };
        let mut taken = Vec::new();
        assert!(matches!(append(10_000), Appended::Done(())));
        assert!(partition.take(false, &mut taken), "it is closed already");
        assert!(matches!(append(10), Appended::Done(())));
        assert!(matches!(append(10_000), Appended::Filled));
        assert!(matches!(append(10_000), Appended::Done(())));
        partition.take(true, &mut taken);
        assert_eq!(taken.iter().map(|batch| batch.builder.record_count()).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(matches!(append(50_000), Appended::TooLarge(TooLarge { limit: 50_000, .. })));
    }

    #[tokio::test]
    async fn a_full_batch_takes_no_memory_for_what_it_refuses() {
        let budget = Budget::new(1 << 20);
        let memory = Memory { pool: Pool::default(), budget: budget.clone(), is_transactional: false };
        let partition = partition(1 << 16, 1 << 16);
        let record = Record::to("t").value(&[0; 10_000]);
        let append = || {
            partition
                .append(&record, 0, &memory, &mut Waited::default(), |batch, _| batch.reservation.bytes())
        };
        for _ in 0..6 {
            assert!(matches!(append(), Appended::Done(result) if result <= 1 << 16));
        }
        assert!(matches!(append(), Appended::Filled));
        assert_eq!(budget.available(), (1 << 20) - (1 << 16));
    }
}
