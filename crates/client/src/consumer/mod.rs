//! The consumer's handle: batches out, positions in.
//!
//! ```text
//!  Consumer::next ◀─ decompress, check ◀─ Queue per partition ◀─ Driver (core::Source) ◀─ connections
//!  seek, pause, assign ─────────────────────────────────────────▶ Driver
//! ```

mod batch;
mod driver;
mod partition;
mod queue;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use milena_core::backoff::Backoff;
use milena_core::source::{Settings as MachineSettings, Source};

pub use milena_core::source::Position;

pub use self::batch::{Batch, RecordViews};
use self::driver::Driver;
pub use self::partition::PartitionConsumer;
use self::queue::{Next, Queue};
use self::shared::{Opener, Shared};
use crate::settings::{ConsumerSettings, Isolation, Reset};
use crate::topics::Known;
use crate::{Client, Error};

/// Reads the partitions it is given.
///
/// Records come in batches, one partition's run at a time; partitions take turns. While the application works on one
/// batch the next ones are fetched, up to the memory the client may use.
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
}

/// Sets a consumer up; see [`Client::consumer_direct`].
#[must_use = "a builder does nothing until it builds"]
pub struct ConsumerBuilder {
    client: Client,
    settings: ConsumerSettings,
    assignments: Vec<(String, i32, Position)>,
}

impl Consumer {
    /// The next batch, of any partition that is not paused. Waits until there is one; none when nothing is assigned.
    ///
    /// # Errors
    /// - When a partition cannot be read on: it stops where it stands, the others go on with the next call, and
    ///   [`seek`](Self::seek) or [`assign`](Self::assign) starts it again. Each partition's error is told once; when all
    ///   have stopped that this consumer reads, every call tells the error of one of them again.
    /// - When the runtime that the consumer was built on has ended: nothing is fetched any more.
    ///
    /// # Cancel safety
    /// Dropped, it has taken nothing: the next call returns the batch.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            // Registered before looking, so that what arrives in between is not missed.
            let ready = Arc::clone(&self.shared.ready);
            let mut arrived = std::pin::pin!(ready.arrived.notified());
            arrived.as_mut().enable();
            if let Some(batch) = self.try_next()? {
                return Ok(Some(batch));
            }
            if self.shared.assigned().queues.is_empty() {
                return Ok(None);
            }
            arrived.await;
        }
    }

    /// The next batch if one is there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Batch>, Error> {
        self.opener.check()?;
        match self.shared.ready.next() {
            Next::Batch(queue, epoch, queued) => self.opener.open(&queue, epoch, queued).map(Some),
            Next::Stopped(error) => Err(error),
            Next::Nothing => {
                self.shared.check_progress()?;
                self.shared.note_idle();
                Ok(None)
            }
        }
    }

    /// The partitions that are assigned and were not taken yet, each to be read on its own; [`next`](Self::next) serves
    /// those that are assigned later. Reading goes on for as long as the consumer or one of them is there.
    pub fn partitions(&self) -> Vec<PartitionConsumer> {
        let assigned = self.shared.assigned();
        assigned.queues.values().filter_map(|queue| PartitionConsumer::take(queue, &self.shared)).collect()
    }

    /// Reads these partitions too, from `position`. Those already assigned are sought there.
    ///
    /// # Errors
    /// When a topic or partition does not exist, or the position is below zero. Nothing was assigned then.
    ///
    /// # Cancel safety
    /// Dropped, nothing was assigned.
    pub async fn assign<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        position: Position,
    ) -> Result<(), Error> {
        let partitions = partitions.into_iter();
        let owned = partitions.map(|(topic, partition)| (topic.as_ref().to_owned(), partition, position));
        self.assign_all(owned.collect()).await
    }

    async fn assign_all(&self, partitions: Vec<(String, i32, Position)>) -> Result<(), Error> {
        let client = &self.shared.client;
        let mut found = Vec::with_capacity(partitions.len());
        let mut last: Option<Known> = None;
        let mut interests = Vec::new();
        for (topic, partition, position) in partitions {
            let doing = || format!("assigning partition {partition} of topic {topic:?}");
            position.check().map_err(|failure| Error::new(doing(), failure))?;
            let is_at_hand =
                |last: &Known| *last.topic.name == *topic && last.topic.partition(partition).is_some();
            let known = match last.take() {
                Some(last) if is_at_hand(&last) => last,
                other => {
                    interests.extend(other.map(|other| other.interest));
                    let deadline = client.0.clock.after(client.0.settings.client.request_timeout);
                    let known = client.topic(&topic, Some(partition), deadline).await;
                    known.map_err(|failure| Error::with_maybe_written(doing(), failure, false))?
                }
            };
            if known.topic.partition(partition).is_none() {
                let count = known.topic.partitions.len();
                return Err(Error::caller(
                    doing(),
                    format!("the topic has {count} partitions, counted from 0"),
                ));
            }
            found.push((Arc::clone(&known.topic.name), partition, position));
            last = Some(known);
        }
        interests.extend(last.map(|last| last.interest));
        for (topic, partition, position) in found {
            self.shared.assign(topic, partition, position);
        }
        self.shared.keep_known(interests);
        Ok(())
    }

    /// Reads these partitions no more. What was fetched of them is dropped.
    pub fn unassign<T: AsRef<str>>(&self, partitions: impl IntoIterator<Item = (T, i32)>) {
        for (topic, partition) in partitions {
            self.shared.unassign(topic.as_ref(), partition);
        }
        // Whoever waits for the next batch may have nothing to wait for any more.
        self.shared.ready.arrived.notify_one();
    }

    /// Goes on from `position`. No record fetched before is delivered after this returns.
    ///
    /// # Errors
    /// When the partition is not assigned, or the position is below zero. Reading goes on as before then.
    pub fn seek(&self, topic: &str, partition: i32, position: Position) -> Result<(), Error> {
        let queue = self.queue(topic, partition, "seeking in")?;
        self.shared.seek(&queue, position)
    }

    /// Delivers nothing of the partition until [`resume`](Self::resume). What was fetched of it stays.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.set_paused(topic, partition, true)
    }

    /// Delivers the partition again, from what was fetched first.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.set_paused(topic, partition, false)
    }

    fn set_paused(&self, topic: &str, partition: i32, is_paused: bool) -> Result<(), Error> {
        let queue = self.queue(topic, partition, if is_paused { "pausing" } else { "resuming" })?;
        self.shared.set_paused(&queue, is_paused);
        Ok(())
    }

    /// The offset behind the last batch delivered, and behind what follows it and is shown to nobody: markers of
    /// transactions, records of aborted ones. None while it is being looked up, or when the partition is not
    /// assigned.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.queue(topic, partition, "").ok().and_then(|queue| queue.inner().position)
    }

    /// The partitions that are assigned.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.shared
            .assigned()
            .queues
            .keys()
            .map(|(topic, partition)| (topic.to_string(), *partition))
            .collect()
    }

    fn queue(&self, topic: &str, partition: i32, doing: &str) -> Result<Arc<Queue>, Error> {
        self.shared
            .find(topic, partition)
            .ok_or_else(|| shared::not_assigned(&format!("{doing} partition {partition} of topic {topic:?}")))
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        let settings = client.0.settings.consumer.clone();
        Self { client, settings, assignments: Vec::new() }
    }

    /// Adds partitions to be read from `position`.
    pub fn assign<T: AsRef<str>>(
        mut self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        position: Position,
    ) -> Self {
        let partitions = partitions.into_iter();
        self.assignments
            .extend(partitions.map(|(topic, partition)| (topic.as_ref().to_owned(), partition, position)));
        self
    }

    /// Sets where to go when a position does not exist any more. Default [`Reset::Fail`].
    pub fn reset(mut self, reset: Reset) -> Self {
        self.settings.reset = reset;
        self
    }

    /// Sets which records of transactions are seen. Default [`Isolation::ReadUncommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Sets how long a broker waits for records when it has none. Default 500 ms.
    pub fn fetch_wait(mut self, wait: Duration) -> Self {
        self.settings.fetch_wait = wait;
        self
    }

    /// Sets anything else.
    pub fn settings(mut self, change: impl FnOnce(&mut ConsumerSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// When a topic or partition does not exist, or a position is below zero.
    ///
    /// # Cancel safety
    /// Dropped, nothing is left behind.
    pub async fn build(self) -> Result<Consumer, Error> {
        let Self { client, settings, assignments } = self;
        let settings = client.0.settings.with_consumer(settings)?.consumer;
        let of_client = &client.0.settings.client;
        let machine = MachineSettings {
            fetch_bytes_max: settings.fetch_bytes_max,
            partition_bytes_max: settings.fetch_partition_bytes_max,
            fetch_bytes_min: settings.fetch_bytes_min,
            fetch_wait: settings.fetch_wait,
            buffer_bytes_max: settings.fetch_partition_bytes_max,
            reset: match settings.reset {
                Reset::Fail => None,
                Reset::Earliest => Some(Position::Earliest),
                Reset::Latest => Some(Position::Latest),
            },
            read_committed: settings.isolation == Isolation::ReadCommitted,
            request_timeout: of_client.request_timeout,
            backoff: Backoff { min: of_client.retry_backoff, max: of_client.retry_backoff_max },
        };
        let source = Source::new(machine, client.rng());
        let shared = Arc::new(Shared::new(client.clone(), settings.check_crcs));
        let (commands, ready) = (Arc::clone(&shared.commands), Arc::clone(&shared.ready));
        let driver = Driver::new(client, source, commands, ready, settings.fetch_bytes_max);
        let consumer = Consumer { opener: Opener::new(Arc::clone(&shared)), shared };
        consumer.assign_all(assignments).await?;
        // Not before everything is assigned: the first fetch would be a long poll for the first partition alone, and
        // the others would wait it out.
        tokio::spawn(driver.run());
        Ok(consumer)
    }
}
