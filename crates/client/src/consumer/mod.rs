//! The consumer's handle: batches out, positions in.
//!
//! ```text
//!  Consumer::next ◀─ decompress, check ◀─ Queue per partition ◀─ Driver (core::Source) ◀─ connections
//!  seek, pause, assign ─────────────────────────────────────────▶ Driver
//! ```
//!
//! - The driver's task, one per consumer, fetches and fills the queues. See [`driver`].
//! - The application's task takes a batch from a queue, and checks and decompresses it. [`Consumer::next`] takes from
//!   all queues in turn and waits in [`queue::Ready`]. A [`PartitionConsumer`] takes from the queue of one partition
//!   and waits there, so that slow readers do not delay each other.
//! - Whatever the application changes takes effect in the queue at once: a new epoch drops what was fetched before. A
//!   command then tells the driver. No call waits for the driver, and nothing is sent to it per record.

mod batch;
mod commands;
mod done;
mod driver;
mod ends;
mod flow;
mod gate;
mod group;
mod handle;
mod held;
mod hooks;
mod measuring;
mod member;
mod memory;
mod naming;
mod partition;
mod queue;
mod share;
mod shared;
mod stalls;
mod standing;
mod stream;
mod transaction;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use milena_core::source::{Settings as MachineSettings, Source, Watermarks};

pub use milena_core::source::Position;

pub use self::batch::{Batch, RecordViews};
use self::driver::Driver;
pub use self::flow::{ConsumerFlow, FetchStops, PartitionHandle};
use self::group::{Group, Setup};
pub use self::handle::ConsumerHandle;
use self::handle::{ToAssign, owned};
pub use self::member::GroupConsumerBuilder;
use self::memory::Watch;
pub use self::memory::{ConsumerMemory, TopicMemory};
pub use self::partition::PartitionConsumer;
use self::queue::Next;
pub use self::share::{RecordCursor, SharedBatch, SharedRecord};
use self::shared::{Opener, Shared};
use self::stalls::OnStall;
pub use self::stalls::{PartitionStall, StallCause};
use self::stream::{Look, Waiting};
pub(crate) use self::transaction::{InTransaction, Taken};
use crate::metrics::Collect;
use crate::settings::{ConsumerSettings, Isolation, Reset};
use crate::{Client, Error};

/// Reads partitions: those that it is given, or those that its group assigns to it ([`Client::consumer`]).
///
/// Records come in batches, each of one partition; partitions take turns. While the application works on one batch, the
/// next ones are fetched, as far as the client's memory budget has room.
///
/// A whole topic, to its end:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").partition(1).value("created")).await?;
/// let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// while let Some(batch) = consumer.next().await? {
///     for record in &batch {
///         println!("{}/{}: {:?}", record.partition(), record.offset(), record.value());
///     }
/// }
/// # assert_eq!(consumer.position("orders", 1), Some(1));
/// # Ok(())
/// # }
/// ```
///
/// Some partitions, for as long as the program runs:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").partition(1).value("created")).await?;
/// use milena::Position;
///
/// let mut consumer =
///     client.consumer_direct().assign([("orders", 0), ("orders", 1)], Position::Earliest).build().await?;
/// while let Some(batch) = consumer.next().await? {
///     for record in &batch {
///         println!("{}: {:?}", record.offset(), record.value());
///     }
///     # break;
/// }
/// assert_eq!(consumer.position("orders", 1), Some(1));
///
/// let error = consumer.seek("orders", 7, Position::Earliest).unwrap_err();
/// assert!(error.to_string().contains("it is not assigned to this consumer"));
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    opener: Opener,
    waiting: Waiting,
}

/// Sets a consumer up; see [`Client::consumer_direct`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConsumerBuilder {
    client: Client,
    settings: ConsumerSettings,
    assignments: Vec<ToAssign>,
    topics: Vec<String>,
    from: Position,
    is_until_end: bool,
    on_stall: Option<OnStall>,
}

impl Client {
    /// Sets a consumer up that reads the partitions it is given, without a group and without commits.
    pub fn consumer_direct(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }
}

impl Consumer {
    /// Waits for the next batch, of any partition that is not paused. None when no partition is assigned, or when every
    /// partition was read [to its end](ConsumerBuilder::until_end). A member of a group waits while the group assigns it no
    /// partition; it returns none only after it was [closed](Self::close).
    ///
    /// # Errors
    /// - When a partition cannot be read on. It stops at its position until [`seek`](Self::seek) or
    ///   [`assign`](Self::assign) starts it again; the next call goes on with the remaining partitions. The error of a
    ///   partition is returned once, but when all partitions that this consumer reads have stopped, every call returns
    ///   the error of one of them.
    /// - When a member has left its group because it took no batch for
    ///   [`max_poll_interval`](GroupConsumerBuilder::max_poll_interval). The next call joins the group again.
    /// - When the coordinator refuses the member, for example because another one with its
    ///   [name](GroupConsumerBuilder::instance_id) has taken its place. Every call returns the error, until
    ///   [`subscribe`](Self::subscribe) tries again.
    /// - When the runtime that the consumer was built on has ended: nothing is fetched any more.
    ///
    /// # Cancel safety
    /// If the future is dropped, it has taken nothing: the next call returns the batch.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        // A notification wakes one waiter. If `poll_next` was called before, it must not be the one that waits in its
        // place.
        self.waiting.leave();
        poll_fn(|cx| self.waiting.poll_turn(&self.shared.client.0.clock, cx)).await;
        loop {
            // Registered before looking, so that a batch that arrives in between is not missed.
            let ready = Arc::clone(&self.shared.ready);
            let mut arrived = std::pin::pin!(ready.arrived.notified());
            arrived.as_mut().enable();
            match self.look()? {
                Look::Batch(batch) => return Ok(Some(batch)),
                Look::End => return Ok(None),
                Look::Nothing => arrived.await,
            }
            self.waiting.waited();
        }
    }

    /// The next batch if one is there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Batch>, Error> {
        match self.look()? {
            Look::Batch(batch) => Ok(Some(batch)),
            Look::Nothing | Look::End => Ok(None),
        }
    }

    fn look(&mut self) -> Result<Look, Error> {
        self.opener.check()?;
        loop {
            return match self.shared.ready.next() {
                Next::Batch(hold, epoch, queued, end) => match self.opener.open(hold, epoch, queued, end)? {
                    Some(batch) => Ok(Look::Batch(batch)),
                    None => continue,
                },
                Next::Stopped(error) => Err(error),
                Next::Nothing => {
                    if self.shared.is_over()? {
                        return Ok(Look::End);
                    }
                    self.shared.note_idle();
                    Ok(Look::Nothing)
                }
            };
        }
    }

    /// Takes every assigned partition that was not taken yet, each to be read by a task of its own.
    /// [`next`](Self::next) returns batches of partitions that are assigned later. Reading goes on until the consumer
    /// and all partitions taken from it are dropped.
    pub fn partitions(&self) -> Vec<PartitionConsumer> {
        let assigned = self.shared.assigned();
        assigned.queues.values().filter_map(|queue| PartitionConsumer::take(queue, &self.shared)).collect()
    }

    /// A handle that pauses, seeks and assigns from another task, while this one waits for the next batch.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle::new(&self.shared)
    }

    /// Reads these partitions too, from `position`. Partitions that are assigned already are sought there.
    ///
    /// # Errors
    /// When a topic or partition does not exist, or the position is below zero. None of the partitions is assigned
    /// then. When the consumer is a member of a group, which assigns the partitions. When it was closed.
    ///
    /// # Cancel safety
    /// If the future is dropped, none of the partitions is assigned.
    pub async fn assign<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        position: impl Into<Position>,
    ) -> Result<(), Error> {
        self.shared.assign_all(owned(partitions, Some(position.into()))).await
    }

    /// Reads these partitions too, each from the offset that the group has committed, as
    /// [`GroupConsumerBuilder::assign`] does. Partitions that are assigned already go on where they are.
    ///
    /// # Errors
    /// As [`assign`](Self::assign), and when the consumer has no group.
    ///
    /// # Cancel safety
    /// If the future is dropped, none of the partitions is assigned.
    pub async fn assign_committed<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<(), Error> {
        self.shared.assign_all(owned(partitions, None)).await
    }

    /// Stops reading these partitions. Batches that were fetched and not returned yet are dropped. With a group, what is
    /// [done](Self::done) by now is committed in the background.
    ///
    /// # Errors
    /// When the consumer is a member of a group, which assigns the partitions. When a consumer with a group was closed.
    pub fn unassign<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<(), Error> {
        self.shared.unassign_all(partitions)
    }

    /// Goes on from `position`. After this returns, no batch that was fetched before is returned.
    ///
    /// In a group, records before `position` that were returned and are not [done](Consumer::done) still hold the committed
    /// offset back until they are; records that were never returned count as done, and those from `position` on are returned
    /// again.
    ///
    /// # Errors
    /// When the partition is not assigned, or the position is below zero. Reading goes on as before then.
    pub fn seek(&self, topic: &str, partition: i32, position: impl Into<Position>) -> Result<(), Error> {
        self.shared.seek_in(topic, partition, position.into())
    }

    /// Goes on after the record or batch that could not be read according to `error`.
    ///
    /// ```no_run
    /// # async fn read(mut consumer: milena::Consumer) -> Result<(), milena::Error> {
    /// loop {
    ///     match consumer.next().await {
    ///         Ok(Some(batch)) => println!("{} records at most", batch.record_count_max()),
    ///         Ok(None) => return Ok(()),
    ///         Err(error) if error.next_offset().is_some() => {
    ///             eprintln!("passed over: {error}");
    ///             consumer.skip(&error)?;
    ///         }
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When `error` is about something else ([`Error::next_offset`] is none), or its partition is not assigned.
    pub fn skip(&self, error: &Error) -> Result<(), Error> {
        self.shared.skip_in(error)
    }

    /// Returns no batches of the partition until [`resume`](Self::resume). Batches that were fetched stay in memory.
    ///
    /// It finds the partition by its name and then does what [`PartitionHandle::pause`] does; a program that pauses
    /// often saves the search with a [handle](Self::partition_handle).
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.shared.pause(topic, partition)
    }

    /// Returns batches of the partition again, beginning with those that were fetched before it was paused.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.shared.resume(topic, partition)
    }

    /// [Pauses](Self::pause) all partitions that are assigned now. Partitions that are assigned later are not paused.
    pub fn pause_all(&self) {
        self.shared.pause_all();
    }

    /// [Resumes](Self::resume) all partitions that are assigned now.
    pub fn resume_all(&self) {
        self.shared.resume_all();
    }

    /// What is buffered, and how often and for how long fetching has stopped because of that.
    pub fn flow(&self) -> ConsumerFlow {
        self.shared.flow()
    }

    /// A handle that pauses and resumes the partition, from any task.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn partition_handle(&self, topic: &str, partition: i32) -> Result<PartitionHandle, Error> {
        self.shared.partition_handle(topic, partition)
    }

    /// A handle of each partition that is assigned, in the order of topics and partitions.
    pub fn partition_handles(&self) -> Vec<PartitionHandle> {
        self.shared.partition_handles()
    }

    /// The next offset to read: after the last batch returned, and after the control records and aborted batches that
    /// follow it. None while the offset is being looked up, or when the partition is not assigned.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.position(topic, partition)
    }

    /// What this consumer's batches take of the client's memory now, by topic: what is buffered, what the application holds,
    /// and what it has held for long. The log warns once of batches that are held for more than a minute.
    ///
    /// A call takes some nanoseconds for each partition and for each batch that is held, and holds up no reader. Batches
    /// that come or go meanwhile may be counted or not.
    pub fn memory(&self) -> ConsumerMemory {
        self.shared.memory()
    }

    /// The partitions that are assigned.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.shared.assignment()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("assignment", &self.assignment()).finish_non_exhaustive()
    }
}

impl ConsumerBuilder {
    fn new(client: Client) -> Self {
        let settings = client.0.settings.consumer.clone();
        let (assignments, topics) = (Vec::new(), Vec::new());
        let from = Position::Earliest;
        Self { client, settings, assignments, topics, from, is_until_end: false, on_stall: None }
    }

    /// Adds partitions to be read from `position`.
    pub fn assign<T: AsRef<str>>(
        mut self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        position: impl Into<Position>,
    ) -> Self {
        self.assignments.extend(owned(partitions, Some(position.into())));
        self
    }

    /// Adds all partitions of a topic, to be read [from](Self::from) their first records by default. Partitions that
    /// the topic gets later are read as well, from their first records, once the client's metadata shows them
    /// ([`metadata_age_max`](crate::ClientSettings::metadata_age_max)).
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Sets where [topics](Self::topic) are read from. Default [`Position::Earliest`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use std::time::{Duration, SystemTime};
    ///
    /// let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    /// let consumer = client.consumer_direct().topic("orders").from(an_hour_ago).until_end().build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from(mut self, position: impl Into<Position>) -> Self {
        self.from = position.into();
        self
    }

    /// Reads each partition up to where it ends now: [`Consumer::next`] returns none when all were read so far. With
    /// [`Isolation::ReadCommitted`] the end is the last stable offset. Default: reading goes on for ever.
    ///
    /// A partition that is assigned later is read up to where it ends when it is assigned. Partitions that a topic
    /// gets later are not read. Each [`PartitionConsumer`] returns none when its own partition was read. If the topic
    /// is made again, or the partition loses its last records, it is read up to its new end.
    pub fn until_end(mut self) -> Self {
        self.is_until_end = true;
        self
    }

    /// Sets where a partition is read from when its position does not exist any more. Default [`Reset::Fail`].
    pub fn reset(mut self, reset: Reset) -> Self {
        self.settings.reset = Some(reset);
        self
    }

    /// Sets which records of transactions are read. Default [`Isolation::ReadUncommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Fetches ahead up to this many bytes, also of a single partition; see [`GroupConsumerBuilder::buffered`].
    pub fn buffered(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes_max = Some(bytes);
        self.settings.partition_buffer_bytes_max = Some(bytes);
        self
    }

    /// Sets how long a broker waits for records when it has none. Default 500 ms.
    pub fn fetch_wait(mut self, wait: Duration) -> Self {
        self.settings.fetch_wait = wait;
        self
    }

    /// Sets the rack that the application runs in, as brokers name theirs in `broker.rack`: a partition is fetched from
    /// a replica in this rack if its leader knows one (KIP-392). Default: none, so that leaders are fetched from.
    pub fn rack(mut self, rack: impl Into<Arc<str>>) -> Self {
        self.settings.rack = rack.into();
        self
    }

    /// Calls `tell` when a partition has stood still for longer than [`stall_after`](ConsumerSettings::stall_after) (default 60 s),
    /// and once more when it does so no more. See [`PartitionStall`] for an example.
    ///
    /// A partition stands still if the application does not take a batch of it that was fetched, and has not paused it, or if the
    /// application neither drops a batch that it has taken nor marks it as [done](Consumer::done). It is told within a sixth of that
    /// time, and at the latest 10 s late. `tell` runs on the consumer's own task: while it runs nothing is fetched, so it must not
    /// block. A panic in it is caught and logged. A second call replaces the first one.
    pub fn on_stall(mut self, tell: impl Fn(&PartitionStall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(OnStall::new(tell));
        self
    }

    /// Changes any other setting.
    pub fn settings(mut self, change: impl FnOnce(&mut ConsumerSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// When a topic or partition does not exist, a position is below zero, or the end of a partition cannot be looked
    /// up.
    ///
    /// # Cancel safety
    /// If the future is dropped, no consumer was started.
    pub async fn build(self) -> Result<Consumer, Error> {
        let Self { client, settings, assignments, topics, from, is_until_end, on_stall } = self;
        let settings = client.0.settings.with_consumer(settings)?.consumer;
        if let Some(group) = client.group_id() {
            tracing::warn!(
                target: "milena",
                "without effect here: group.id={group} (a consumer that reads by position is in no group)"
            );
        }
        let runtime = client.0.runtime.clone();
        let (consumer, driver) = consumer(client, &settings, settings.reset, is_until_end, None, on_stall);
        consumer.shared.assign_all(assignments).await?;
        consumer.shared.assign_topics(topics, from).await?;
        // Not before everything is assigned: the first fetch would be a long poll for the first partition alone, and
        // the remaining ones would have to wait until it returned.
        runtime.spawn(driver.run());
        Ok(consumer)
    }
}

impl Consumer {
    /// The client that it is of.
    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }
}

/// A consumer and its driver, which does not run yet.
fn consumer(
    client: Client,
    settings: &ConsumerSettings,
    reset: Option<Reset>,
    is_until_end: bool,
    member: Option<Setup>,
    on_stall: Option<OnStall>,
) -> (Consumer, Driver) {
    let of_client = &client.0.settings.client;
    let watermarks = |bytes: Option<usize>, records: Option<usize>| {
        let limit = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        Watermarks::new(limit(bytes), limit(records), settings.buffer_resume_percent)
    };
    let machine = MachineSettings {
        fetch_bytes_max: settings.fetch_bytes_max,
        partition_bytes_max: settings.fetch_partition_bytes_max,
        fetch_bytes_min: settings.fetch_bytes_min,
        fetch_wait: settings.fetch_wait,
        partition_watermarks: watermarks(
            settings.partition_buffer_bytes_max.or(Some(settings.fetch_partition_bytes_max)),
            settings.partition_buffer_records_max,
        ),
        watermarks: watermarks(settings.buffer_bytes_max, settings.buffer_records_max),
        reset: reset.and_then(Reset::position),
        rack: (&*settings.rack).into(),
        read_committed: settings.isolation == Isolation::ReadCommitted,
        tells_ends: is_until_end,
        request_timeout: of_client.request_timeout,
        backoff: client.retry_backoff(),
    };
    let source = Source::new(machine, client.rng());
    let standing = member.as_ref().map(|setup| Arc::new(setup.standing()));
    let shared = Arc::new(Shared::new(client.clone(), settings, is_until_end, standing.clone()));
    if let Some(metrics) = &client.0.metrics {
        let collected: Arc<dyn Collect> = Arc::clone(&shared) as _;
        metrics.registry.collect_from(&collected);
    }
    let group = member.zip(standing);
    let group = group.map(|(setup, standing)| Box::new(Group::new(&client, &shared, standing, setup)));
    let (commands, ready) = (Arc::clone(&shared.commands), Arc::clone(&shared.ready));
    let weak = Arc::downgrade(&shared);
    let watch = Watch::new(&shared, on_stall);
    let driver = Driver::new(client, source, commands, ready, weak, group, watch);
    let opener = Opener::new(Arc::clone(&shared));
    (Consumer { opener, shared, waiting: Waiting::default() }, driver)
}

impl Reset {
    /// Where to go on; none if the partition stops.
    fn position(self) -> Option<Position> {
        match self {
            Self::Fail => None,
            Self::Earliest => Some(Position::Earliest),
            Self::Latest => Some(Position::Latest),
            Self::ByDuration(time) => Some(Position::Ago(time)),
        }
    }
}
