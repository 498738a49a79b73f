//! What a consumer and the partitions taken from it tell the driver's task.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use milena_core::group::commits::StoredOffset;
use milena_core::group::{Goodbye, TopicPartition};
use milena_core::source::{Amount, Epoch, Position};
use milena_core::transaction::Offsets;
use milena_core::{Failure, Instant};
use tokio::sync::{Notify, oneshot};

use super::naming::Pattern;
use super::queue::Queue;
use crate::Error;

/// Something for the driver to do. What is about pausing and about readers names the partition and not the new state,
/// which the driver reads from the partition's queue: when two tasks change the state, their commands may come in the
/// wrong order.
pub(super) enum Command {
    /// Read the partition from `position`; if there is none, from what the group has committed.
    Assign { queue: Arc<Queue>, epoch: Epoch, position: Option<Position> },
    /// Go on from `position`.
    Seek { queue: Arc<Queue>, epoch: Epoch, position: Position, before: FinishedBefore },
    /// Fetch no more of the partition until it is sought.
    Halt { queue: Arc<Queue>, epoch: Epoch },
    /// Read the partition no more.
    Unassign { queue: Arc<Queue>, epoch: Epoch },
    /// The partition was paused, and a reader has found that it has something.
    Parked { queue: Arc<Queue> },
    /// The partition was resumed after it had been left out of fetches.
    Resumed { queue: Arc<Queue> },
    /// The partition got a reader of its own, or has none any more.
    Own { queue: Arc<Queue> },
    /// The partition's own reader has found nothing since it took the last batch, and waits.
    Awaited { queue: Arc<Queue> },
    /// A batch of this size was taken out of the partition's queue.
    Taken { queue: Arc<Queue>, epoch: Epoch, amount: Amount },
    /// Something for the group that the consumer is a member of.
    Group(GroupCommand),
    /// The consumer and all partitions taken from it were dropped.
    Released,
}

/// What becomes of what is finished above the committed offset, and was when the partition was assigned.
pub(super) enum FinishedBefore {
    /// It is not returned.
    Stays,
    /// The application wants everything from the new position on.
    Forgotten,
    /// The application went back to this, which the group has stored, and does not get what it says is finished.
    Anew(Box<StoredOffset>),
}

/// Where the outcome of a call goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Something for a group's member to do.
pub(super) enum GroupCommand {
    /// Commit what is done now.
    Commit { deadline: Instant, reply: Reply<()> },
    /// Commit these offsets.
    CommitOffsets { offsets: Vec<(TopicPartition, StoredOffset)>, deadline: Instant, reply: Reply<()> },
    /// Ask what is committed of these partitions.
    Committed { partitions: Vec<TopicPartition>, deadline: Instant, reply: Reply<Stored> },
    /// Tell the offsets to commit in a transaction, and as which member: these, or what is done. The partitions of these queues
    /// must still be this consumer's.
    Offsets { given: Option<Vec<(TopicPartition, StoredOffset)>>, of: Vec<Arc<Queue>>, reply: Reply<Offsets> },
    /// These offsets were committed in a transaction.
    Stored(Vec<(TopicPartition, StoredOffset)>),
    /// These offsets were refused in a transaction.
    NotStored(Vec<(TopicPartition, StoredOffset)>, Failure),
    /// Subscribe to this in place of what was subscribed to before.
    Subscribe(Subscribed),
    /// The application asks for a batch after it heard that the member had left.
    Rejoin,
    /// Give everything up and leave the group, or stay in it.
    Close { how: Goodbye, deadline: Instant, reply: Reply<()> },
}

/// What a member subscribes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscribed {
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) pattern: Option<Pattern>,
}

/// What is committed of partitions.
pub(super) type Stored = Vec<(TopicPartition, Option<StoredOffset>)>;

/// Where commands are left for the driver. They are a few per batch at most, so a mutex is cheap.
#[derive(Default)]
pub(super) struct Commands {
    queue: Mutex<Vec<Command>>,
    /// Told when a command was left, and when the memory of a fetched frame was freed.
    pub(super) arrived: Arc<Notify>,
}

impl Commands {
    pub(super) fn push(&self, command: Command) {
        self.push_all([command]);
    }

    /// Leaves commands that the driver is to see together.
    pub(super) fn push_all(&self, commands: impl IntoIterator<Item = Command>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).extend(commands);
        self.arrived.notify_one();
    }

    /// Takes all commands into `commands`, which is empty. The two vectors change places, so that their memory is used
    /// again.
    pub(super) fn take(&self, commands: &mut Vec<Command>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), commands);
    }
}
