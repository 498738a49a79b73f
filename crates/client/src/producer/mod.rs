//! The producer's handle: records in, deliveries out.
//!
//! ```text
//!  send, enqueue, post ─▶ Topics (partition) ─▶ Accumulator (open batch) ─▶ Driver ─▶ connections
//!  Delivery (batch, index) ◀──────────── one settlement per batch ◀──────────┘
//! ```
//!
//! - The caller's task encodes its record into the open batch of the record's partition. It tells the [`driver`] once
//!   per batch, through the [`inbox`]: when the record opened the batch, and when the batch is full. It waits only for
//!   room in the memory budget, for metadata of a new topic, and for its turn while batches wait to be compressed.
//! - The driver's task, one per producer, decides through core's machine when a batch is closed and sent. Batches are
//!   compressed on the runtime's threads for blocking work.
//! - Settling a batch wakes every task that waits for one of its deliveries. Nothing is woken per record.

mod accumulator;
mod delivery;
mod driver;
mod inbox;
mod interceptor;
mod many;
mod observers;
mod partitioner;
mod profile;
mod seal;
mod sink;
mod topic;
mod topics;
mod transacting;
mod transaction;
mod unconfirmed;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena_core::backoff::Backoff;
use milena_core::partitioner::SpreadSettings;
use milena_core::producer::{Producer as Machine, Settings as MachineSettings};
use milena_core::{Failure, Instant};
use milena_messages::ApiKey;
use tokio::sync::{mpsc, oneshot};

use self::accumulator::{Appended, Memory, OpenBatch, TooLarge, Waited};
use self::delivery::OnSettled;
pub use self::delivery::{Delivery, Receipt};
use self::driver::{Driver, Parts};
use self::inbox::Event;
pub use self::interceptor::{Interceptor, SettledBatch};
pub use self::many::NotAllWritten;
use self::observers::Observers;
pub(crate) use self::partitioner::NAMED;
use self::partitioner::Place;
pub use self::partitioner::{ChoosePartition, Partitioner};
use self::profile::Profiles;
pub use self::profile::TopicSettings;
use self::seal::{Backlog, Sealer};
pub use self::sink::RecordSink;
pub use self::topic::TopicProducer;
use self::topics::{Spreading, TopicEntry, Topics};
use self::transacting::Transacting;
pub use self::transaction::{
    Transaction, TransactionEnd, TransactionalProducer, TransactionalProducerBuilder,
};
use crate::budget::Reservation;
use crate::clock::Clock;
use crate::settings::{Acks, Compression, ProducerSettings, Settings};
use crate::telemetry::Enrolled;
use crate::topics::Known;
use crate::{Client, Error, Record};

/// Writes records. Cheap to clone; clones share everything.
///
/// By default every record is written once and in the order of the calls per partition, and counts as written when all
/// in-sync replicas have it. Batches form by themselves: a record is sent at once while its broker is idle, and
/// together with other records while the broker is busy.
///
/// When the last clone is dropped, records that the producer has taken are still sent as long as the runtime runs.
/// Call [`flush`](Self::flush) before the program ends. When the runtime on which the producer was built ends,
/// deliveries and flushes that still wait fail, and so does every later call.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # cluster.create_topic("clicks", 6)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena::Record;
///
/// let producer = client.producer().build().await?;
/// let receipt = producer.send(Record::to("orders").key("42").value("created")).await?;
/// println!("written to partition {}", receipt.partition());
///
/// let delivery = producer.enqueue(Record::to("orders").key("42").value("paid")).await?;
/// delivery.await?;
///
/// for id in 0..1_000 {
///     producer.post(Record::to("clicks").value(&format!("{id}"))).await?;
/// }
/// producer.flush().await?; // fails if any of them was not written
///
/// let error = producer.send(Record::to("ordesr").value("created")).await.unwrap_err();
/// assert_eq!(error.code_name(), Some("UNKNOWN_TOPIC_OR_PARTITION"));
/// assert!(!error.maybe_written());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    client: Client,
    /// The client's clock, which each record asks for the time of day: a copy here saves one pointer to follow.
    clock: Clock,
    parts: Parts,
    memory: Memory,
    /// None if nobody wants to see each record.
    observers: Option<Box<Observers>>,
    enqueue_timeout: Duration,
    _enrolled: Option<Arc<Enrolled>>,
}

/// Sets a producer up; see [`Client::producer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ProducerBuilder {
    client: Client,
    settings: ProducerSettings,
    of_topics: BTreeMap<Arc<str>, TopicSettings>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    idempotence_asked: bool,
    /// The name of a transactional producer.
    transactional_id: Option<Arc<str>>,
}

impl Client {
    /// Sets a producer up.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }
}

impl Producer {
    /// Writes a record and waits until it is written.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and when the record was not acknowledged in time. Then
    /// [`Error::maybe_written`] tells whether it may have been written nevertheless.
    ///
    /// # Cancel safety
    /// If the future is dropped before the record is in a batch, the record is not sent. If it is dropped later, the
    /// record is sent nevertheless.
    pub async fn send(&self, record: Record<'_>) -> Result<Receipt, Error> {
        self.enqueue(record).await?.await
    }

    /// Takes a record, waiting only for room. The delivery resolves when the record is written or given up.
    ///
    /// Records of one partition are written in the order in which these calls return.
    ///
    /// The first record to a topic that does not exist waits
    /// [`unknown_topic_wait`](crate::ClientSettings::unknown_topic_wait), 800 ms, for the topic to appear. Records
    /// after it fail at once, until the topic exists or no record was written to it for five seconds.
    ///
    /// # Errors
    /// When the topic or partition does not exist, the record is larger than [`ProducerSettings::record_bytes_max`] or
    /// its timestamp is negative, there is no room within [`ProducerSettings::enqueue_timeout`], or the producer was
    /// closed. The record was not written then.
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent.
    pub fn enqueue(&self, record: Record<'_>) -> impl Future<Output = Result<Delivery, Error>> + Send {
        self.enqueue_to(self.0.parts.topics.get(record.topic), record)
    }

    /// Takes a record without making a delivery for it, which is the cheapest way to write. If it is not written, the
    /// next [`flush`](Self::flush) fails.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent.
    pub fn post(&self, record: Record<'_>) -> impl Future<Output = Result<(), Error>> + Send {
        self.post_to(self.0.parts.topics.get(record.topic), record)
    }

    /// A handle for one topic, for programs that write many records to it: a record through the handle needs no look-up of
    /// its topic's name.
    ///
    /// # Errors
    /// When the topic does not exist, as [`enqueue`](Self::enqueue) tells it, or the producer was closed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::{Compression, Record};
    ///
    /// let producer = client
    ///     .producer()
    ///     .topic("orders", |topic| topic.compression = Some(Compression::Zstd))
    ///     .build()
    ///     .await?;
    /// let orders = producer.topic("orders").await?;
    /// for id in 0..1_000 {
    ///     orders.post(Record::new().key(&format!("{id}")).value("created")).await?;
    /// }
    /// producer.flush().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn topic(&self, name: &str) -> Result<TopicProducer<'static>, Error> {
        self.topic_for(name).await
    }

    async fn topic_for<'a>(&self, name: &str) -> Result<TopicProducer<'a>, Error> {
        let record = Record::to(name);
        let deadline = self.0.clock.after(self.0.enqueue_timeout);
        loop {
            if let Some(entry) = self.0.parts.topics.get(name) {
                return Ok(TopicProducer::new(self.clone(), Arc::clone(entry)));
            }
            self.learn(&record, deadline).await?;
        }
    }

    /// Takes a record if that needs no waiting, and refuses it at once otherwise.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). [`Error::kind`] says why: [`Full`](crate::ErrorKind::Full) if there is no room,
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) if no broker knows the topic, and
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if its metadata is not here yet: it is asked for then, and a later call
    /// finds it. [`topic`](Self::topic) waits for it. The record was not written.
    #[expect(clippy::needless_pass_by_value, reason = "a record is given away, as with the other calls")]
    pub fn try_enqueue(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.try_enqueue_to(self.0.parts.topics.get(record.topic), &record)
    }

    /// Takes a record, waiting only for room, and calls `settled` with the receipt when it is written, or with the error when
    /// it is given up. It is called once, unless this call fails.
    ///
    /// Callbacks of one partition are called in the order of their records. They are called on the producer's own task: while
    /// one runs, the producer sends nothing. It must not block, and may call [`try_enqueue`](Self::try_enqueue). A panic in it
    /// is caught and logged.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). `settled` is not called then.
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent, and `settled` is not called.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// use milena::Record;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let record = Record::to("orders").key("42").value("created");
    /// producer.enqueue_with(record, move |result| drop(sender.send(result))).await?;
    /// producer.flush().await?; // callbacks of records before it were called when it returns
    /// assert_eq!(receiver.recv()??.offset(), Some(0));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn enqueue_with(
        &self,
        record: Record<'_>,
        settled: impl FnOnce(Result<Receipt, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.enqueue_with_to(self.0.parts.topics.get(record.topic), record, Box::new(settled)).await
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn moves its arguments once more, some 100 bytes each time"
    )]
    fn enqueue_to(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        record: Record<'_>,
    ) -> impl Future<Output = Result<Delivery, Error>> + Send {
        async move {
            let timestamp_ms = self.timestamp_of(&record)?;
            let take = |batch: &mut OpenBatch, index| (batch.promise.state(), index);
            let (state, index) = match self.append_at_once(topic, &record, timestamp_ms, take) {
                Step::Done(taken) => taken?,
                Step::Wait(wait, place) => self.append(place, &record, timestamp_ms, wait, take).await?,
            };
            Ok(Delivery::new(state, index, timestamp_ms))
        }
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn moves its arguments once more, some 100 bytes each time"
    )]
    fn post_to(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        record: Record<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async move {
            let timestamp_ms = self.timestamp_of(&record)?;
            let take = |batch: &mut OpenBatch, _| batch.posted += 1;
            match self.append_at_once(topic, &record, timestamp_ms, take) {
                Step::Done(taken) => taken,
                Step::Wait(wait, place) => self.append(place, &record, timestamp_ms, wait, take).await,
            }
        }
    }

    async fn enqueue_with_to(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        record: Record<'_>,
        settled: OnSettled,
    ) -> Result<(), Error> {
        let timestamp_ms = self.timestamp_of(&record)?;
        let mut settled = Some(settled);
        let mut take = |batch: &mut OpenBatch, index: u32| {
            if let Some(settled) = settled.take() {
                batch.promise.call(index, timestamp_ms, settled);
            }
        };
        match self.append_at_once(topic, &record, timestamp_ms, &mut take) {
            Step::Done(taken) => taken,
            Step::Wait(wait, place) => self.append(place, &record, timestamp_ms, wait, take).await,
        }
    }

    fn try_enqueue_to(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        record: &Record<'_>,
    ) -> Result<Delivery, Error> {
        let timestamp_ms = self.timestamp_of(record)?;
        let take = |batch: &mut OpenBatch, index| (batch.promise.state(), index);
        let step = match self.append_at_once(topic, record, timestamp_ms, take) {
            // The full batch is closed, and the record opens the next one, unless too many wait to be compressed.
            Step::Wait(Wait::Turn, place) if self.0.parts.backlog.has_room() => {
                self.append_now(topic, place, record, timestamp_ms, &mut Waited::default(), take)
            }
            step => step,
        };
        match step {
            Step::Done(taken) => taken.map(|(state, index)| Delivery::new(state, index, timestamp_ms)),
            Step::Wait(Wait::Topic, _) => Err(self.not_known(record)),
            Step::Wait(Wait::Turn | Wait::Room, _) => {
                Err(Error::harmless(doing(record), Failure::NoRoom { after: Duration::ZERO }))
            }
        }
    }

    /// Why `record` cannot be placed now. Its topic, or its partition, is looked up in the background.
    #[cold]
    fn not_known(&self, record: &Record<'_>) -> Error {
        if self.0.parts.topics.is_closed() {
            return closed(record);
        }
        if record.topic.is_empty() {
            return Error::caller(doing(record), NO_TOPIC);
        }
        let snapshot = self.0.client.snapshot();
        let failure = match snapshot.topic(record.topic) {
            Err(failure) if snapshot.missing_since.contains_key(record.topic) => failure,
            _ => Failure::NoRoute(Arc::from("the topic's metadata is not here yet")),
        };
        let parts = &self.0.parts;
        if let Some(looked_up) = parts.topics.begin_look_up(record.topic) {
            let (client, topics) = (self.0.client.clone(), Arc::clone(&parts.topics));
            let partition = record.chosen_partition();
            let deadline = self.0.clock.after(self.0.enqueue_timeout);
            self.0.client.0.runtime.spawn(async move {
                if let Ok(known) = client.topic(&looked_up, partition, deadline).await {
                    topics.learn(&known.topic, Some(known.interest), &client.snapshot());
                }
                topics.end_look_up(&looked_up);
            });
        }
        Error::harmless(doing(record), failure)
    }

    /// Sends every record taken before this call without waiting for linger, and waits until each is written or given
    /// up.
    ///
    /// # Errors
    /// When records that were [posted](Self::post) since the last flush were not written. The error tells how many
    /// they are and why the first of them failed. Failures of enqueued records are told by their deliveries only.
    ///
    /// With `acks=0`, for all records: when a connection was lost before its broker had read what was written to it. The
    /// deliveries of these records have said that they were handed over, which is all that is known of them.
    ///
    /// # Cancel safety
    /// If the future is dropped, the records are sent nevertheless, and failures are kept for the next flush.
    pub async fn flush(&self) -> Result<(), Error> {
        self.settle_all(Event::Flush).await?;
        self.posted()
    }

    /// The client that it is of.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Takes no more records, from this or any clone, and flushes. It may take as long as
    /// [`ProducerSettings::delivery_timeout`]; [`close_within`](Self::close_within) has a deadline of its own.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    /// If the future is dropped, the producer is closed nevertheless.
    pub async fn close(&self) -> Result<(), Error> {
        // Before the flush, so that it covers every record that was taken.
        self.0.parts.topics.close();
        self.flush().await
    }

    /// Takes no more records, flushes for `timeout` at most, and gives up what is left, as [`purge`](Self::purge) does. It
    /// returns whatever the brokers do.
    ///
    /// # Errors
    /// As [`flush`](Self::flush): posted records that were given up count as not written. Deliveries of those that were given
    /// up say so.
    ///
    /// # Cancel safety
    /// If the future is dropped, the producer is closed nevertheless, and nothing is given up.
    pub async fn close_within(&self, timeout: Duration) -> Result<(), Error> {
        self.0.parts.topics.close();
        let client = &self.0.client.0;
        let deadline = client.clock.after(timeout);
        let flushed =
            client.runtime.entered(|| client.clock.timeout_at(deadline, self.settle_all(Event::Flush)));
        if flushed.await.transpose()?.is_none() {
            self.settle_all(Event::Purge).await?;
        }
        self.posted()
    }

    /// Gives up every record that was taken before this call and is not settled, for programs that cannot wait for their
    /// delivery timeout. The records fail with [`ErrorKind::Purged`](crate::ErrorKind::Purged); those whose request a
    /// connection has begun to write [may have been written](Error::maybe_written). The producer goes on, and records that are
    /// taken later are not concerned.
    ///
    /// It waits for no broker, only for batches that are being compressed.
    ///
    /// # Errors
    /// When the runtime that drives the client has ended. Posted records that were given up are told by the next
    /// [`flush`](Self::flush).
    ///
    /// # Cancel safety
    /// If the future is dropped, the records are given up nevertheless.
    pub async fn purge(&self) -> Result<(), Error> {
        self.settle_all(Event::Purge).await
    }

    /// Leaves a flush or a purge in the inbox, and waits until every record that it concerns is settled.
    async fn settle_all(&self, event: impl FnOnce(oneshot::Sender<()>) -> Event) -> Result<(), Error> {
        let (done, settled) = oneshot::channel();
        self.0.parts.inbox.push(event(done));
        settled.await.map_err(|_| Error::new("flushing", Failure::Closed))
    }

    /// What became of the records that were posted and settled since the last call.
    fn posted(&self) -> Result<(), Error> {
        let Some((count, first)) = self.0.parts.failures.take() else { return Ok(()) };
        let not = if first.maybe_written() { "may not have been" } else { "were not" };
        let doing =
            format!("flushing: {count} posted records {not} written; the first failure: {}", first.doing());
        Err(Error::with_maybe_written(doing, first.failure().clone(), first.maybe_written()))
    }

    #[inline]
    fn timestamp_of(&self, record: &Record<'_>) -> Result<i64, Error> {
        record.timestamp_or_now(&self.0.clock).map_err(|time| no_time(record, time))
    }

    /// [`append_now`](Self::append_now), the first time.
    #[inline]
    fn append_at_once<T>(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        record: &Record<'_>,
        timestamp_ms: i64,
        take: impl FnOnce(&mut OpenBatch, u32) -> T,
    ) -> Step<T> {
        self.append_now(topic, None, record, timestamp_ms, &mut Waited::default(), take)
    }

    /// Appends the record if that needs no waiting. Otherwise it tells what to wait for. `place` is where an earlier attempt
    /// found that the record goes: a partitioner is asked once only, or it would pass over partitions.
    #[inline]
    fn append_now<T>(
        &self,
        topic: Option<&Arc<TopicEntry>>,
        place: Option<Place>,
        record: &Record<'_>,
        timestamp_ms: i64,
        waited: &mut Waited,
        take: impl FnOnce(&mut OpenBatch, u32) -> T,
    ) -> Step<T> {
        let Some(topic) = topic else { return Step::Wait(Wait::Topic, None) };
        let place = match place {
            Some(place) => place,
            None => topic.place(record),
        };
        // The topic may have got more partitions since its metadata was read.
        let Ok(accumulator) = topic.at(place) else { return Step::Wait(Wait::Topic, None) };
        if let Some(observers) = &self.0.observers {
            let appended = observers.append(accumulator, record, timestamp_ms, &self.0.memory, waited, take);
            return Step::after(appended, record, place);
        }
        let appended = accumulator.append(record, timestamp_ms, &self.0.memory, waited, take);
        Step::after(appended, record, place)
    }

    /// Appends the record, however often that needs waiting.
    #[cold]
    async fn append<T>(
        &self,
        mut place: Option<Place>,
        record: &Record<'_>,
        timestamp_ms: i64,
        mut wait: Wait,
        mut take: impl FnMut(&mut OpenBatch, u32) -> T,
    ) -> Result<T, Error> {
        let began = self.0.clock.now();
        let deadline = began + self.0.enqueue_timeout;
        let mut waiting_since = began;
        let mut waited = Waited::default();
        loop {
            // What this waits for may be there each time, so that it would never give way to the tasks that make room
            // and watch the time. And the driver sends a full batch while it is in the processor's caches, before
            // there are more full ones.
            tokio::task::yield_now().await;
            match wait {
                Wait::Turn => self.0.parts.backlog.turn(&self.0.client.0.runtime, &self.0.clock).await,
                Wait::Topic => self.learn(record, deadline).await?,
                Wait::Room => {
                    // The room that was too little is given back first, or it would be reserved twice.
                    drop(waited.room.take());
                    let metrics = self.0.client.0.metrics.as_ref();
                    let _blocking = metrics.map(|metrics| metrics.producing.blocked.begin(&self.0.clock));
                    waited.room = Some(self.room(place, record, timestamp_ms, deadline).await?);
                }
            }
            let now = self.0.clock.now();
            if let Some(metrics) = &self.0.client.0.metrics {
                let producing = &metrics.producing;
                match wait {
                    Wait::Turn => producing.turn.record_duration(now - waiting_since),
                    Wait::Room => producing.room.record_duration(now - waiting_since),
                    Wait::Topic => {}
                }
            }
            waiting_since = now;
            // The delivery timeout counts from the call.
            waited.since = (now - began >= WAIT_COUNTED).then_some(began);
            let topic = self.0.parts.topics.get(record.topic);
            match self.append_now(topic, place, record, timestamp_ms, &mut waited, &mut take) {
                Step::Done(appended) => return appended,
                // Other tasks may fill each batch before this one comes to it.
                Step::Wait(Wait::Turn, _) if now >= deadline => return Err(self.no_room(record)),
                Step::Wait(next, at) => (wait, place) = (next, at),
            }
        }
    }

    /// Waits for the memory of a batch that takes `record`.
    async fn room(
        &self,
        place: Option<Place>,
        record: &Record<'_>,
        timestamp_ms: i64,
        deadline: Instant,
    ) -> Result<Reservation, Error> {
        let topic = self.0.parts.topics.get(record.topic);
        let partition = topic.zip(place).and_then(|(topic, place)| topic.at(place).ok());
        let room_for = |record: &Record<'_>| {
            partition.map_or(Ok(0), |at| at.room_for(record, timestamp_ms, &self.0.memory))
        };
        let wanted = match &self.0.observers {
            None => room_for(record),
            Some(observers) => observers.with_context(record, |record, _| room_for(record)),
        };
        let wanted = wanted.map_err(|TooLarge { bytes, limit }| too_large(record, bytes, limit))?;
        let reserve = self.0.memory.budget.reserve(wanted);
        let client = &self.0.client.0;
        let reserved = client.runtime.entered(|| client.clock.timeout_at(deadline, reserve));
        reserved.await.ok_or_else(|| self.no_room(record))
    }

    #[cold]
    fn no_room(&self, record: &Record<'_>) -> Error {
        Error::harmless(doing(record), Failure::NoRoom { after: self.0.enqueue_timeout })
    }

    /// Waits until the record's topic and partition are known.
    async fn learn(&self, record: &Record<'_>, deadline: Instant) -> Result<(), Error> {
        // The partition that a custom partitioner names may be new, too.
        let place = self.0.parts.topics.get(record.topic).map(|topic| topic.place(record));
        let known = || {
            let topic = self.0.parts.topics.get(record.topic)?;
            Some(place.map_or(Ok(()), |place| topic.at(place).map(drop)))
        };
        if known() == Some(Ok(())) {
            return Ok(());
        }
        if self.0.parts.topics.is_closed() {
            return Err(closed(record));
        }
        if record.topic.is_empty() {
            return Err(Error::caller(doing(record), NO_TOPIC));
        }
        let failed = |failure: Failure| {
            let failure = self.0.client.named(failure.in_order_to(ApiKey::Produce));
            Error::with_maybe_written(doing(record), failure, false)
        };
        let client = &self.0.client;
        let looked_up = client.topic(record.topic, record.chosen_partition(), deadline);
        let Known { topic, interest } = client.0.runtime.within(looked_up).await.map_err(failed)?;
        let snapshot = client.snapshot();
        self.0.parts.topics.learn(&topic, Some(interest), &snapshot);
        match known() {
            Some(Err(count)) => {
                let why = format!("the topic has {count} partitions, counted from 0");
                Err(Error::caller(doing(record), why))
            }
            _ => Ok(()),
        }
    }
}

/// What an append that does not wait comes to.
enum Step<T> {
    Done(Result<T, Error>),
    /// The place is where the record goes, if that is known.
    Wait(Wait, Option<Place>),
}

impl<T> Step<T> {
    /// What comes of an append. It is here and not at the append, because records that someone observes take another way there.
    #[inline]
    fn after(appended: Appended<T>, record: &Record<'_>, place: Place) -> Self {
        match appended {
            Appended::Done(result) => Self::Done(Ok(result)),
            Appended::TooLarge(TooLarge { bytes, limit }) => Self::Done(Err(too_large(record, bytes, limit))),
            Appended::Closed => Self::Done(Err(closed(record))),
            Appended::Filled => Self::Wait(Wait::Turn, Some(place)),
            Appended::NoRoom => Self::Wait(Wait::Room, Some(place)),
        }
    }
}

/// What an append waits for.
enum Wait {
    /// The batch is full. The driver gets it before the next one is opened.
    Turn,
    /// The topic, or the partition, is not known.
    Topic,
    /// The memory budget has no room for the record.
    Room,
}

/// A shorter wait is not taken off the delivery timeout, so that a batch that was full costs no message to the driver.
const WAIT_COUNTED: Duration = Duration::from_millis(10);
const NO_TOPIC: &str = "the record names no topic";

#[cold]
fn doing(record: &Record<'_>) -> String {
    match record.chosen_partition() {
        Some(partition) => format!("writing to partition {partition} of topic {:?}", record.topic),
        None => format!("writing to topic {:?}", record.topic),
    }
}

#[cold]
fn no_time(record: &Record<'_>, timestamp_ms: i64) -> Error {
    let why = format!(
        "the timestamp {timestamp_ms} ms is below zero: timestamps count from 1970; nothing was sent"
    );
    Error::caller(doing(record), why)
}

#[cold]
fn closed(record: &Record<'_>) -> Error {
    Error::new(doing(record), Failure::Ended("the producer was closed"))
}

#[cold]
fn too_large(record: &Record<'_>, bytes: usize, limit: usize) -> Error {
    let why = format!(
        "the record takes {bytes} bytes, above the limit of {limit} (record_bytes_max); nothing was sent"
    );
    Error::new(doing(record), Failure::TooLarge(why.into()))
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("client", &self.0.client).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.parts.inbox.push(Event::Released);
    }
}

impl ProducerBuilder {
    fn new(client: Client) -> Self {
        let settings = client.0.settings.producer.clone();
        let idempotence_asked = client.0.settings.idempotence_asked();
        let (of_topics, interceptors) = (BTreeMap::new(), Vec::new());
        Self { client, settings, of_topics, interceptors, idempotence_asked, transactional_id: None }
    }

    /// Adds an interceptor. Interceptors are called in the order in which they were added.
    pub fn interceptor(mut self, interceptor: Arc<dyn Interceptor>) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Sets how records that name no partition are placed. Default [`Partitioner::Murmur2Random`], which is Java's default.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.settings.partitioner = partitioner;
        self
    }

    /// Changes settings of one topic. What it does not set is as for all topics of the producer.
    ///
    /// ```
    /// # fn build(client: milena::Client) -> milena::ProducerBuilder {
    /// use milena::Compression;
    ///
    /// client.producer().compression(Compression::Lz4).topic("archive", |topic| {
    ///     topic.compression = Some(Compression::Zstd);
    ///     topic.compression_level = Some(12);
    /// })
    /// # }
    /// ```
    pub fn topic(mut self, name: &str, change: impl FnOnce(&mut TopicSettings)) -> Self {
        change(self.of_topics.entry(name.into()).or_default());
        self
    }

    /// Sets which replicas must have a record before it counts as written. Default [`Acks::All`]. With less, records
    /// are not written idempotently.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Sets whether a record that is sent again is written once only, and in its order. Default true.
    pub fn idempotence(mut self, idempotence: bool) -> Self {
        self.settings.idempotence = idempotence;
        self.idempotence_asked = idempotence;
        self
    }

    /// Sets how long a batch waits for more records while its broker is busy. Default 5 ms.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Sets when a batch is full, in bytes before compression. Default 1 000 000; 0 sends every record alone. A larger
    /// record has a batch of its own, up to [`ProducerSettings::record_bytes_max`].
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes_max = bytes;
        self
    }

    /// Sets how large a record may be, in bytes, encoded and before compression. Default 1 048 576.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.record_bytes_max = bytes;
        self
    }

    /// Sets how batches are compressed. Default none.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Sets how long a record may take until it is written or given up. Default 2 minutes.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// Changes any other setting.
    pub fn settings(mut self, change: impl FnOnce(&mut ProducerSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts the producer. It asks no broker anything before the first record.
    ///
    /// # Errors
    /// When settings contradict each other.
    ///
    /// # Cancel safety
    /// The future waits for nothing.
    #[expect(clippy::unused_async, reason = "every builder of a client is awaited")]
    pub async fn build(self) -> Result<Producer, Error> {
        if let Some(id) = &self.settings.transactional_id {
            let why = format!(
                "transactional.id={id} is set, and Client::producer makes a producer without transactions; call \
                 Client::transactional instead, or remove the property"
            );
            return Err(Error::caller("setting a producer up", why));
        }
        self.start()
    }

    fn start(self) -> Result<Producer, Error> {
        let Self { client, settings, of_topics, interceptors, idempotence_asked, transactional_id } = self;
        let complete = |settings| {
            let all = client.0.settings.with_producer(settings)?;
            Ok(ProducerSettings { compression_level: all.compression_level(), ..all.producer })
        };
        let of_topics = of_topics.into_iter();
        let of_topics = of_topics.map(|(topic, own)| Ok((topic, complete(own.over(&settings))?)));
        let of_topics = of_topics.collect::<Result<_, Error>>()?;
        let settings = complete(settings)?;
        let profiles = Profiles::new(&settings, of_topics)?;
        let spreading = spreading(&settings, &client.0.settings)?;
        let idempotent = settings.idempotence && settings.acks == Acks::All;
        check(&settings, idempotence_asked)?;
        if transactional_id.is_some() && !idempotent {
            let why = "transactions need idempotence and acks=all";
            return Err(Error::caller("setting a transactional producer up", why));
        }
        let machine = MachineSettings {
            acks: settings.acks,
            idempotent,
            transactional_id: transactional_id.clone(),
            linger: settings.linger,
            delivery_timeout: settings.delivery_timeout,
            request_timeout: client.0.settings.client.request_timeout.min(settings.delivery_timeout),
            request_bytes_max: settings.request_bytes_max,
            in_flight_max: settings.in_flight_max.max(1),
            backoff: Backoff {
                min: client.0.settings.client.retry_backoff,
                max: client.0.settings.client.retry_backoff_max,
            },
        };
        let inbox = Arc::default();
        let parts = Parts {
            topics: Arc::new(Topics::new(
                client.rng(),
                Arc::clone(&inbox),
                profiles,
                spreading,
                client.0.clock.clone(),
            )),
            inbox,
            failures: Arc::default(),
            backlog: Arc::new(Backlog::new(settings.batch_bytes_max, client.0.runtime.parallelism())),
        };
        // The memory budget bounds the batches that are being sealed.
        let (done, sealed) = mpsc::unbounded_channel();
        let sealer = Sealer::new(client.0.runtime.clone(), Arc::clone(&parts.backlog), done);
        let machine = Machine::new(machine, client.rng());
        let is_transactional = transactional_id.is_some();
        let enrolled = client.enrol(Enrolled::producer(transactional_id.as_deref()));
        let transacting = transactional_id
            .map(|id| Box::new(Transacting::new(&client, &parts.inbox, id, settings.transaction_timeout)));
        let observers = Observers::of(&interceptors, client.0.trace.as_ref());
        let driver = Driver::new(client.clone(), machine, &parts, sealer, sealed, transacting, interceptors);
        client.0.runtime.spawn(driver.run());
        let memory =
            Memory { pool: client.0.pool.clone(), budget: client.0.produce_budget.clone(), is_transactional };
        // One deadline bounds all that a record waits for.
        let enqueue_timeout = settings.enqueue_timeout.min(settings.delivery_timeout);
        let clock = client.0.clock.clone();
        Ok(Producer(Arc::new(Shared {
            client,
            clock,
            parts,
            memory,
            observers,
            enqueue_timeout,
            _enrolled: enrolled,
        })))
    }
}

fn check(settings: &ProducerSettings, idempotence_asked: bool) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::caller("setting a producer up", why));
    if idempotence_asked && settings.acks != Acks::All {
        return wrong(
            "idempotence needs acks=all: a leader that fails could forget what it acknowledged".into(),
        );
    }
    if settings.idempotence && settings.acks == Acks::All && settings.in_flight_max > 5 {
        return wrong(
            "with idempotence, in_flight_max is 5 at most: brokers remember five batches (KIP-98)".into(),
        );
    }
    Ok(())
}

/// How records without a key are spread. The producer's rack is that of the client's consumers unless it has its own.
fn spreading(settings: &ProducerSettings, of_client: &Settings) -> Result<Spreading, Error> {
    let rack = settings.rack.as_ref().unwrap_or(&of_client.consumer.rack);
    if settings.rack_aware && rack.is_empty() {
        let why = "rack_aware needs to know the rack that the program runs in (client.rack)";
        return Err(Error::caller("setting a producer up", why));
    }
    let rack = settings.rack_aware.then(|| Arc::clone(rack));
    let settings = SpreadSettings {
        is_adaptive: settings.adaptive_partitioning,
        availability_timeout: settings.partition_availability_timeout,
    };
    Ok(Spreading { settings, rack })
}
