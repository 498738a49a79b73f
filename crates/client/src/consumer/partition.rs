//! One partition read on its own, by a task of its own.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use milena_core::source::Position;
use tokio::sync::Notify;

use super::batch::Batch;
use super::commands::Command;
use super::flow::PartitionHandle;
use super::queue::{Next, Queue};
use super::shared::{Opener, Shared};
use super::stream::{Look, Waiting};
use crate::Error;

/// A partition taken from a [`Consumer`](crate::Consumer). Its reader delays no other partition, however slow it is.
///
/// When it is dropped, the consumer goes on reading the partition, after the last batch that was taken.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # producer.send(milena::Record::to("orders").partition(0).value("created")).await?;
/// # producer.send(milena::Record::to("orders").partition(1).value("created")).await?;
/// use milena::Position;
///
/// let consumer =
///     client.consumer_direct().assign([("orders", 0), ("orders", 1)], Position::Earliest).build().await?;
/// let mut tasks = Vec::new();
/// for mut partition in consumer.partitions() {
///     tasks.push(tokio::spawn(async move {
///         while let Some(batch) = partition.next().await? {
///             for record in &batch {
///                 println!("{} {}: {:?}", batch.partition(), record.offset(), record.value());
///             }
///             # break;
///         }
///         Ok::<_, milena::Error>(())
///     }));
/// }
/// # for task in tasks {
/// #     task.await??;
/// # }
/// # Ok(())
/// # }
/// ```
pub struct PartitionConsumer {
    queue: Arc<Queue>,
    /// Told when there may be something for this reader.
    pub(super) arrived: Arc<Notify>,
    pub(super) opener: Opener,
    pub(super) waiting: Waiting,
}

impl PartitionConsumer {
    /// Takes `queue`, unless it has a reader of its own already.
    pub(super) fn take(queue: &Arc<Queue>, shared: &Arc<Shared>) -> Option<Self> {
        let arrived = queue.take()?;
        shared.own_reader_changed(queue);
        let opener = Opener::new(Arc::clone(shared));
        Some(Self { queue: Arc::clone(queue), arrived, opener, waiting: Waiting::default() })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.queue.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.queue.partition
    }

    /// Waits for the next batch. None when the partition is not assigned any more, or was read
    /// [to its end](crate::ConsumerBuilder::until_end).
    ///
    /// # Errors
    /// - When the partition cannot be read on. It stops at its position, and every call returns the error, until
    ///   [`seek`](Self::seek) starts it again.
    /// - When the runtime that the consumer was built on has ended: nothing is fetched any more.
    ///
    /// # Cancel safety
    /// If the future is dropped, it has taken nothing: the next call returns the batch.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        // A notification wakes one waiter. If `poll_next` was called before, it must not be the one that waits in its
        // place.
        self.waiting.leave();
        poll_fn(|cx| self.waiting.poll_turn(&self.opener.shared.client.0.clock, cx)).await;
        loop {
            let arrived = Arc::clone(&self.arrived);
            // Registered before looking, so that a batch that arrives in between is not missed.
            let mut arrived = std::pin::pin!(arrived.notified());
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

    pub(super) fn look(&mut self) -> Result<Look, Error> {
        self.opener.check()?;
        loop {
            return match self.opener.shared.ready.next_of(&self.queue) {
                Next::Batch(hold, epoch, queued, end) => match self.opener.open(hold, epoch, queued, end)? {
                    Some(batch) => Ok(Look::Batch(batch)),
                    None => continue,
                },
                Next::Stopped(error) => Err(error),
                Next::Nothing if self.queue.is_over() || self.queue.is_read() => Ok(Look::End),
                Next::Nothing => {
                    self.opener.shared.ready.check_driver()?;
                    self.opener.shared.note_idle();
                    if self.queue.note_awaited() {
                        self.opener.shared.commands.push(Command::Awaited { queue: Arc::clone(&self.queue) });
                    }
                    Ok(Look::Nothing)
                }
            };
        }
    }

    /// As [`PartitionHandle::pause`].
    pub fn pause(&self) -> bool {
        self.queue.gate.pause()
    }

    /// As [`PartitionHandle::resume`].
    pub fn resume(&self) -> bool {
        self.opener.shared.resume_gate(&self.queue.gate)
    }

    /// A handle that pauses and resumes the partition, from any task.
    pub fn partition_handle(&self) -> PartitionHandle {
        self.opener.shared.handle(&self.queue.gate)
    }

    /// Goes on from `position`. After this returns, no batch that was fetched before is returned. In a group it means for commits
    /// what [`Consumer::seek`](crate::Consumer::seek) says.
    ///
    /// # Errors
    /// When the partition is not assigned any more, or the position is below zero.
    pub fn seek(&self, position: impl Into<Position>) -> Result<(), Error> {
        self.opener.shared.seek(&self.queue, position.into())
    }

    /// Goes on after the record or batch that could not be read according to `error`.
    ///
    /// # Errors
    /// When `error` is about something else ([`Error::next_offset`] is none), or the partition is not assigned any
    /// more.
    pub fn skip(&self, error: &Error) -> Result<(), Error> {
        self.opener.shared.skip(&self.queue, error)
    }

    /// The next offset to read. None while it is being looked up.
    pub fn position(&self) -> Option<i64> {
        self.queue.inner().position
    }
}

impl Drop for PartitionConsumer {
    fn drop(&mut self) {
        self.queue.give_back();
        self.opener.shared.own_reader_changed(&self.queue);
        self.opener.shared.ready.list(&self.queue);
    }
}

impl fmt::Debug for PartitionConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionConsumer")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .finish_non_exhaustive()
    }
}
