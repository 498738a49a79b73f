//! Changes of a consumer's positions and assignment, made through the consumer itself or from another task.

use std::fmt;
use std::sync::{Arc, Weak};

use milena_core::Failure;
use milena_core::source::Position;

use super::flow::{ConsumerFlow, PartitionHandle};
use super::memory::ConsumerMemory;
use super::shared::Shared;
use crate::interest::Interest;
use crate::topics::Known;
use crate::{Error, OffsetAt};

/// Changes a consumer while another task waits for its next batch. Cheap to clone. It does not keep the consumer alive.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// use milena::Position;
///
/// let mut consumer = client.consumer_direct().topic("orders").build().await?;
/// let handle = consumer.handle();
/// let reading = tokio::spawn(async move {
///     while let Some(batch) = consumer.next().await? {
///         println!("{} records from {}", batch.iter().count(), batch.first_offset());
///     }
///     Ok::<_, milena::Error>(())
/// });
/// handle.pause("orders", 0)?;
/// handle.resume("orders", 0)?;
/// handle.seek("orders", 0, Position::Earliest)?;
/// handle.unassign([("orders", 0)])?; // nothing is left to read: `next` returns none
/// reading.await??;
/// assert!(handle.pause("orders", 0).unwrap_err().to_string().contains("the consumer was dropped"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConsumerHandle(pub(super) Weak<Shared>);

impl ConsumerHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    pub(super) fn shared(&self, doing: &str) -> Result<Arc<Shared>, Error> {
        self.0.upgrade().ok_or_else(|| Error::new(doing, Failure::Ended("the consumer was dropped")))
    }

    /// As [`Consumer::assign`](crate::Consumer::assign).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, none of the partitions is assigned.
    pub async fn assign<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        position: impl Into<Position>,
    ) -> Result<(), Error> {
        self.shared("assigning partitions")?.assign_all(owned(partitions, Some(position.into()))).await
    }

    /// As [`Consumer::assign_committed`](crate::Consumer::assign_committed).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, none of the partitions is assigned.
    pub async fn assign_committed<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<(), Error> {
        self.shared("assigning partitions")?.assign_all(owned(partitions, None)).await
    }

    /// As [`Consumer::unassign`](crate::Consumer::unassign). Does nothing when the consumer was dropped.
    ///
    /// # Errors
    /// As there.
    pub fn unassign<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<(), Error> {
        self.0.upgrade().map_or(Ok(()), |shared| shared.unassign_all(partitions))
    }

    /// As [`Consumer::seek`](crate::Consumer::seek).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn seek(&self, topic: &str, partition: i32, position: impl Into<Position>) -> Result<(), Error> {
        self.shared("seeking")?.seek_in(topic, partition, position.into())
    }

    /// As [`Consumer::skip`](crate::Consumer::skip).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn skip(&self, error: &Error) -> Result<(), Error> {
        self.shared("going on after an error")?.skip_in(error)
    }

    /// As [`Consumer::pause`](crate::Consumer::pause).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.shared("pausing")?.pause(topic, partition)
    }

    /// As [`Consumer::resume`](crate::Consumer::resume).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.shared("resuming")?.resume(topic, partition)
    }

    /// As [`Consumer::pause_all`](crate::Consumer::pause_all).
    pub fn pause_all(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.pause_all();
        }
    }

    /// As [`Consumer::resume_all`](crate::Consumer::resume_all).
    pub fn resume_all(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.resume_all();
        }
    }

    /// As [`Consumer::flow`](crate::Consumer::flow); none when the consumer was dropped.
    pub fn flow(&self) -> Option<ConsumerFlow> {
        Some(self.0.upgrade()?.flow())
    }

    /// As [`Consumer::partition_handle`](crate::Consumer::partition_handle).
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn partition_handle(&self, topic: &str, partition: i32) -> Result<PartitionHandle, Error> {
        self.shared("looking for a partition")?.partition_handle(topic, partition)
    }

    /// As [`Consumer::partition_handles`](crate::Consumer::partition_handles); none when the consumer was dropped.
    pub fn partition_handles(&self) -> Vec<PartitionHandle> {
        self.0.upgrade().map_or_else(Vec::new, |shared| shared.partition_handles())
    }

    /// As [`Consumer::position`](crate::Consumer::position); none when the consumer was dropped.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.upgrade()?.position(topic, partition)
    }

    /// As [`Consumer::memory`](crate::Consumer::memory); none when the consumer was dropped.
    pub fn memory(&self) -> Option<ConsumerMemory> {
        Some(self.0.upgrade()?.memory())
    }

    /// The partitions that are assigned; none when the consumer was dropped.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.0.upgrade().map_or_else(Vec::new, |shared| shared.assignment())
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("assignment", &self.assignment()).finish()
    }
}

/// A partition to assign, and the position to read it from; none for what the group has committed.
pub(super) type ToAssign = (String, i32, Option<Position>);

pub(super) fn owned<T: AsRef<str>>(
    partitions: impl IntoIterator<Item = (T, i32)>,
    position: Option<Position>,
) -> Vec<ToAssign> {
    let partitions = partitions.into_iter();
    partitions.map(|(topic, partition)| (topic.as_ref().to_owned(), partition, position)).collect()
}

/// A partition that exists, the position to read it from, and the offset to read it up to.
struct Found {
    topic: Arc<str>,
    partition: i32,
    position: Option<Position>,
    until: Option<i64>,
}

impl Shared {
    /// Assigns these partitions, or none of them if one cannot be assigned.
    pub(super) async fn assign_all(&self, partitions: Vec<ToAssign>) -> Result<(), Error> {
        self.check_assigns("assigning partitions")?;
        let mut found = Vec::with_capacity(partitions.len());
        let mut last: Option<Known> = None;
        let mut interests = Vec::new();
        for (topic, partition, position) in partitions {
            let doing = || format!("assigning partition {partition} of topic {topic:?}");
            match position {
                Some(position) => position.check().map_err(|failure| Error::new(doing(), failure))?,
                None => drop(self.standing(&doing())?),
            }
            let is_at_hand =
                |last: &Known| *last.topic.name == *topic && last.topic.partition(partition).is_some();
            let known = match last.take() {
                Some(last) if is_at_hand(&last) => last,
                other => {
                    interests.extend(other.map(|other| other.interest));
                    let known = self.topic(&topic, Some(partition)).await;
                    known.map_err(|failure| Error::harmless(doing(), failure))?
                }
            };
            if known.topic.partition(partition).is_none() {
                let count = known.topic.partitions.len();
                return Err(Error::caller(
                    doing(),
                    format!("the topic has {count} partitions, counted from 0"),
                ));
            }
            found.push(Found { topic: Arc::clone(&known.topic.name), partition, position, until: None });
            last = Some(known);
        }
        interests.extend(last.map(|last| last.interest));
        self.assign_found(found, interests).await
    }

    /// Assigns all partitions of these topics. Those that a topic gets later are assigned then, unless reading ends.
    pub(super) async fn assign_topics(&self, topics: Vec<String>, position: Position) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut interests = Vec::new();
        for name in topics {
            let doing = || format!("assigning topic {name:?}");
            position.check().map_err(|failure| Error::new(doing(), failure))?;
            let known = self.topic(&name, None).await;
            let Known { topic, interest } = known.map_err(|failure| Error::harmless(doing(), failure))?;
            found.extend(topic.partitions.iter().map(|partition| Found {
                topic: Arc::clone(&topic.name),
                partition: partition.index,
                position: Some(position),
                until: None,
            }));
            if !self.is_until_end {
                self.assigned().followed.insert(Arc::clone(&topic.name), topic.partitions.len());
            }
            interests.push(interest);
        }
        self.assign_found(found, interests).await
    }

    async fn assign_found(&self, mut found: Vec<Found>, interests: Vec<Interest>) -> Result<(), Error> {
        if self.is_until_end {
            self.find_ends(&mut found).await?;
        }
        for Found { topic, partition, position, until } in found {
            self.assign(topic, partition, position, until);
        }
        self.keep_known(interests);
        Ok(())
    }

    /// Looks up where each partition ends now for readers with this consumer's isolation level.
    async fn find_ends(&self, found: &mut [Found]) -> Result<(), Error> {
        let partitions = found.iter().map(|found| (&*found.topic, found.partition));
        let ends = self.asking().list_offsets(partitions, OffsetAt::Latest).await?;
        for (found, (_, end)) in found.iter_mut().zip(ends) {
            // Brokers answer with no offset to questions about times only: a partition always has an end.
            found.until = Some(end?.unwrap_or(0));
        }
        Ok(())
    }

    async fn topic(&self, topic: &str, partition: Option<i32>) -> Result<Known, Failure> {
        let client = &self.client;
        let deadline = client.0.clock.after(client.0.settings.client.request_timeout);
        client.0.runtime.within(client.topic(topic, partition, deadline)).await
    }

    /// Whether the application assigns the partitions, and not a group.
    ///
    /// # Errors
    /// When the group does, or the consumer was closed.
    fn check_assigns(&self, doing: &str) -> Result<(), Error> {
        let Some(standing) = &self.standing else { return Ok(()) };
        if standing.is_member {
            let why = "the consumer is a member of a group, which assigns the partitions: subscribe() and assign() do not go \
                       together";
            return Err(Error::caller(doing, why));
        }
        self.standing(doing).map(drop)
    }

    pub(super) fn unassign_all<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<(), Error> {
        self.check_assigns("unassigning partitions")?;
        for (topic, partition) in partitions {
            self.unassign(topic.as_ref(), partition);
        }
        // The task in `next` may have nothing more to wait for.
        self.ready.arrived.notify_one();
        Ok(())
    }

    pub(super) fn seek_in(&self, topic: &str, partition: i32, position: Position) -> Result<(), Error> {
        let queue = self.found(topic, partition, "seeking in")?;
        self.seek(&queue, position)
    }

    pub(super) fn skip_in(&self, error: &Error) -> Result<(), Error> {
        let Some((topic, partition, _)) = error.unread_part() else {
            let doing = "going on after an error";
            return Err(Error::caller(doing, "the error does not say where reading can go on"));
        };
        self.skip(&self.found(topic, partition, "going on after an error in")?, error)
    }

    pub(super) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.find(topic, partition).and_then(|queue| queue.inner().position)
    }

    pub(super) fn assignment(&self) -> Vec<(String, i32)> {
        let assigned = self.assigned();
        assigned.queues.keys().map(|(topic, partition)| (topic.to_string(), *partition)).collect()
    }
}
