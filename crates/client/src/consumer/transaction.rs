//! The consumer's part in a transaction: its offsets go into it, and after an abort it goes back to what is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use milena_core::group::TopicPartition;
use milena_core::group::commits::StoredOffset;
use milena_core::source::{Epoch, Position};
use milena_core::transaction::Offsets;
use milena_core::{Failure, LeaderEpoch};

use super::batch::Batch;
use super::commands::{Command, FinishedBefore, GroupCommand};
use super::queue::Queue;
use super::shared::Shared;
use super::{Consumer, ConsumerHandle};
use crate::{CommittedOffset, Error};

/// Offsets of a consumer in a transaction.
pub(crate) struct InTransaction {
    shared: Weak<Shared>,
    offsets: Offsets,
}

impl InTransaction {
    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The group's coordinator does not take them.
    pub(crate) fn refused(self, why: &Failure) {
        if let Some(shared) = self.shared.upgrade() {
            let command = GroupCommand::NotStored(self.offsets.offsets, why.clone());
            shared.commands.push(Command::Group(command));
        }
    }

    /// The transaction is committed.
    pub(crate) fn committed(self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.commands.push(Command::Group(GroupCommand::Stored(self.offsets.offsets)));
        }
    }
}

/// What a transaction has taken of one partition: the batches from `first` to `next`. The partition is not given up while this
/// lives, unless the group does not wait for it any longer.
pub(crate) struct Taken {
    queue: Arc<Queue>,
    epoch: Epoch,
    first: i64,
    next: i64,
    leader_epoch: Option<LeaderEpoch>,
}

impl Taken {
    /// The partition of `batch`, with this batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        let queue = Arc::clone(&batch.hold.queue);
        queue.take_up();
        let leader_epoch = batch.records().header().partition_leader_epoch.map(LeaderEpoch);
        let (first, next) = (batch.first_offset(), batch.next_offset());
        Self { queue, epoch: batch.epoch, first, next, leader_epoch }
    }

    /// Takes in one more batch, if it continues these.
    pub(crate) fn add(&mut self, batch: &Batch) -> bool {
        let is_same = Arc::ptr_eq(&self.queue, &batch.hold.queue) && self.epoch == batch.epoch;
        if is_same {
            self.next = batch.next_offset();
            self.leader_epoch = batch.records().header().partition_leader_epoch.map(LeaderEpoch);
        }
        is_same
    }

    /// Whether the group takes the partition back, or the consumer is closed.
    pub(crate) fn is_wanted_back(&self) -> bool {
        self.queue.is_over()
    }

    /// The next offset to read: after control records that follow, too, so that nothing is left to be read at the end.
    fn stored(&self) -> (TopicPartition, StoredOffset) {
        let inner = self.queue.inner();
        let position = inner.position.filter(|_| inner.epoch == self.epoch);
        drop(inner);
        let offset = position.map_or(self.next, |position| position.max(self.next));
        let at = TopicPartition::new(&self.queue.topic, self.queue.partition);
        (at, StoredOffset { offset, leader_epoch: self.leader_epoch, metadata: None })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.queue.put_down();
    }
}

impl Consumer {
    /// Goes back, in every assigned partition, to the offset that the group has committed, or to where
    /// [`reset`](crate::GroupConsumerBuilder::reset) says where it has committed none. A program does so after a transaction with
    /// records of this consumer was aborted; the [loop](crate::exactly_once()) does it by itself.
    ///
    /// # Errors
    /// As [`committed`](Self::committed), and when the group has committed no offset of a partition and the reset policy is to fail.
    ///
    /// # Cancel safety
    /// If the future is dropped, the consumer has gone back in no partition.
    pub async fn rewind(&self) -> Result<(), Error> {
        self.shared.rewind().await
    }

    /// What a transaction commits of this consumer: these offsets, or what is [done](Self::done). None if that is nothing.
    pub(crate) async fn in_transaction(
        &self,
        given: Option<Vec<(TopicPartition, StoredOffset)>>,
    ) -> Result<Option<InTransaction>, Error> {
        self.shared.in_transaction(given, Vec::new()).await
    }

    /// As [`in_transaction`](Self::in_transaction), of what was taken.
    pub(crate) async fn taken_in_transaction(&self, taken: &[Taken]) -> Result<Option<InTransaction>, Error> {
        // Of a partition that was sought meanwhile, the later part counts.
        let offsets: BTreeMap<_, _> = taken.iter().map(Taken::stored).collect();
        let offsets = offsets.into_iter().collect();
        let queues = taken.iter().map(|of| Arc::clone(&of.queue)).collect();
        self.shared.in_transaction(Some(offsets), queues).await
    }

    /// Goes back to before what was taken, in partitions that are still read as they were.
    pub(crate) fn give_back(&self, taken: &[Taken]) {
        for Taken { queue, epoch, first, .. } in taken {
            if let Some((epoch, offset)) = self.shared.truncate(queue, *epoch, *first) {
                let position = Position::Offset(offset);
                let (queue, before) = (Arc::clone(queue), FinishedBefore::Stays);
                self.shared.commands.push(Command::Seek { queue, epoch, position, before });
            }
        }
    }

    /// # Errors
    /// When a loop that processes exactly once cannot have this consumer.
    pub(crate) fn check_exactly_once(&self) -> Result<(), Error> {
        let doing = "processing exactly once";
        let standing = self.shared.standing(doing)?;
        if standing.is_automatic {
            let why = "the consumer commits by itself: make it with manual_commits()";
            return Err(Error::caller(doing, why));
        }
        if !self.shared.is_read_committed {
            let why =
                "the consumer reads what is not committed: make it with isolation(Isolation::ReadCommitted)";
            return Err(Error::caller(doing, why));
        }
        Ok(())
    }
}

impl ConsumerHandle {
    /// What a transaction commits of the consumer: what is done. None if that is nothing.
    pub(crate) async fn in_transaction(&self) -> Result<Option<InTransaction>, Error> {
        self.shared("committing offsets in a transaction")?.in_transaction(None, Vec::new()).await
    }

    /// As [`Consumer::rewind`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn rewind(&self) -> Result<(), Error> {
        self.shared("rewinding")?.rewind().await
    }
}

impl Shared {
    async fn rewind(&self) -> Result<(), Error> {
        let doing = "rewinding";
        let reset = self.standing(doing)?.reset;
        let assigned = self.assignment();
        for ((topic, partition), stored) in self.committed(assigned).await? {
            let position = match &stored {
                Some(CommittedOffset { offset, .. }) => Position::Offset(*offset),
                None => reset.ok_or_else(|| {
                    let why = format!(
                        "the group has committed no offset of partition {partition} of topic {topic:?}, and the reset \
                         policy is to fail"
                    );
                    Error::caller(doing, why)
                })?,
            };
            // It may have been given up meanwhile.
            let queue = self.found(&topic, partition, "rewinding");
            let sought =
                queue.and_then(|queue| self.seek_to(&queue, position, stored.map(StoredOffset::from)));
            if let Err(error) = sought
                && !matches!(error.failure(), Failure::Caller(_))
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn in_transaction(
        self: &Arc<Self>,
        given: Option<Vec<(TopicPartition, StoredOffset)>>,
        of: Vec<Arc<Queue>>,
    ) -> Result<Option<InTransaction>, Error> {
        let order = |reply| GroupCommand::Offsets { given, of, reply };
        let offsets: Offsets = self.order("committing offsets in a transaction", order).await?;
        let is_empty = offsets.offsets.is_empty();
        Ok((!is_empty).then(|| InTransaction { shared: Arc::downgrade(self), offsets }))
    }
}
