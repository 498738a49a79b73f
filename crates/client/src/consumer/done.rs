//! Marking what is done, committing, and leaving: what the application of a group's member does.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use milena_core::group::commits::StoredOffset;
use milena_core::group::{Goodbye, TopicPartition};
use milena_core::source::Epoch;
use milena_core::{Failure, Instant, LeaderEpoch};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::commands::{Command, GroupCommand, Reply, Subscribed};
use super::handle::ConsumerHandle;
use super::naming::Pattern;
use super::queue::Queue;
use super::share::SharedBatch;
use super::shared::Shared;
use super::standing::Standing;
use super::{Consumer, PartitionConsumer};
use crate::{CommittedOffset, Error, RecordView};

impl From<CommittedOffset> for StoredOffset {
    fn from(of: CommittedOffset) -> Self {
        Self {
            offset: of.offset,
            leader_epoch: of.leader_epoch.map(LeaderEpoch),
            metadata: of.metadata.map(Arc::from),
        }
    }
}

impl From<StoredOffset> for CommittedOffset {
    fn from(of: StoredOffset) -> Self {
        Self {
            offset: of.offset,
            leader_epoch: of.leader_epoch.map(|epoch| epoch.0),
            metadata: of.metadata.map(|text| text.to_string()),
        }
    }
}

impl Consumer {
    /// Marks all records of `batch` as done. They are committed in the background, at [`commit`](Self::commit), and before
    /// the partition is given up. Batches may be marked in any order, and from other tasks through the
    /// [handle](Self::handle): no offset is committed above a record that is not done.
    ///
    /// A batch that was read before its partition was given up is not counted, and the next [`commit`](Self::commit) says so. Of one that was read before a
    /// [seek](Self::seek), the records before the new position are. A consumer that reads by position commits nothing, and this
    /// does nothing.
    pub fn done(&self, batch: &Batch) {
        self.shared.done(batch);
    }

    /// Marks one record as done. For whole batches [`done`](Self::done) is cheaper.
    pub fn done_record(&self, record: &RecordView<'_>) {
        self.shared.done_record(record);
    }

    /// Marks the records of a batch as done up to this one, which is included.
    pub fn done_up_to(&self, record: &RecordView<'_>) {
        self.shared.done_up_to(record);
    }

    /// Marks a part of a [shared](crate::Batch::share) batch as done: the range of it that a worker has finished.
    pub fn done_part(&self, part: &SharedBatch) {
        self.shared.done_part(part);
    }

    /// Commits what is done now, and waits until the group has stored it, for
    /// [`api_timeout`](crate::ClientSettings::api_timeout) at most.
    ///
    /// # Errors
    /// When not all of it is committed: the error [lists](Error::uncommitted) each partition that is not, its offset and why. That
    /// includes what was marked as done since the last call and cannot be committed any more, because its partition was lost or
    /// given up first: another member will read it again. When the consumer is in no group.
    ///
    /// # Cancel safety
    /// If the future is dropped, the commit goes on.
    pub async fn commit(&self) -> Result<(), Error> {
        self.shared.commit().await
    }

    /// Commits these offsets as they are, and waits until the group has stored them, for
    /// [`api_timeout`](crate::ClientSettings::api_timeout) at most. Each is the next offset to read, so one more than that of
    /// the last record that is done. Later automatic commits continue from what is marked as done.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and when a partition is not assigned to this consumer or an offset is below zero. What the
    /// error does not [list](Error::uncommitted) is committed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the commit goes on.
    pub async fn commit_offsets<T: AsRef<str>>(
        &self,
        offsets: impl IntoIterator<Item = ((T, i32), impl Into<CommittedOffset>)>,
    ) -> Result<(), Error> {
        self.shared.commit_offsets(offsets).await
    }

    /// Asks the group what is committed of these partitions; none where it has no offset.
    ///
    /// # Errors
    /// When the coordinator does not answer in time or refuses. When the consumer is in no group.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn committed<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<Vec<((String, i32), Option<CommittedOffset>)>, Error> {
        self.shared.committed(partitions).await
    }

    /// Subscribes to these topics in place of those before. With none, the member leaves its group and waits.
    ///
    /// # Errors
    /// When the consumer is in no group, was given partitions by [`assign`](crate::GroupConsumerBuilder::assign), or was
    /// closed.
    pub fn subscribe<T: AsRef<str>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.shared.subscribe(topics)
    }

    /// Subscribes to the topics whose names match `pattern`, in place of those before; see
    /// [`subscribe_pattern`](crate::GroupConsumerBuilder::subscribe_pattern).
    ///
    /// # Errors
    /// When the pattern is not a regular expression, and as [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<(), Error> {
        self.shared.subscribe_pattern(pattern)
    }

    /// Gives all partitions up and leaves the group, if it is a member of one, for [`request_timeout`](crate::ClientSettings::request_timeout) at most.
    /// The application finishes the batches that it holds, and what is done is committed. Other members get the partitions at
    /// once; a [static](crate::GroupConsumerBuilder::instance_id) member stays in the group instead, until its session ends or it
    /// comes back. Afterwards [`next`](Self::next) returns none.
    ///
    /// A consumer that is dropped without this commits what is done and leaves in the background, for 5 s at most, if its
    /// runtime goes on for so long.
    ///
    /// # Errors
    /// When not all that was done is committed, which the error [lists](Error::uncommitted), or the coordinator did not answer
    /// in time. The consumer is closed all the same.
    ///
    /// # Cancel safety
    /// If the future is dropped, closing goes on.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.close(Goodbye::Usual).await
    }

    /// As [`close`](Self::close), and says whether the member leaves its group or stays in it until its session ends
    /// (KIP-1092).
    ///
    /// # Errors
    /// As [`close`](Self::close).
    ///
    /// # Cancel safety
    /// If the future is dropped, closing goes on.
    pub async fn close_with(&self, how: Goodbye) -> Result<(), Error> {
        self.shared.close(how).await
    }
}

impl PartitionConsumer {
    /// As [`Consumer::done`].
    pub fn done(&self, batch: &Batch) {
        self.opener.shared.done(batch);
    }

    /// As [`Consumer::done_record`].
    pub fn done_record(&self, record: &RecordView<'_>) {
        self.opener.shared.done_record(record);
    }

    /// As [`Consumer::done_up_to`].
    pub fn done_up_to(&self, record: &RecordView<'_>) {
        self.opener.shared.done_up_to(record);
    }

    /// As [`Consumer::done_part`].
    pub fn done_part(&self, part: &SharedBatch) {
        self.opener.shared.done_part(part);
    }
}

impl ConsumerHandle {
    /// As [`Consumer::done`]. Does nothing when the consumer was dropped.
    pub fn done(&self, batch: &Batch) {
        if let Some(shared) = self.0.upgrade() {
            shared.done(batch);
        }
    }

    /// As [`Consumer::done_record`]. Does nothing when the consumer was dropped.
    pub fn done_record(&self, record: &RecordView<'_>) {
        if let Some(shared) = self.0.upgrade() {
            shared.done_record(record);
        }
    }

    /// As [`Consumer::done_up_to`]. Does nothing when the consumer was dropped.
    pub fn done_up_to(&self, record: &RecordView<'_>) {
        if let Some(shared) = self.0.upgrade() {
            shared.done_up_to(record);
        }
    }

    /// As [`Consumer::done_part`]. Does nothing when the consumer was dropped.
    pub fn done_part(&self, part: &SharedBatch) {
        if let Some(shared) = self.0.upgrade() {
            shared.done_part(part);
        }
    }

    /// As [`Consumer::commit`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the commit goes on.
    pub async fn commit(&self) -> Result<(), Error> {
        self.shared("committing")?.commit().await
    }

    /// As [`Consumer::commit_offsets`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the commit goes on.
    pub async fn commit_offsets<T: AsRef<str>>(
        &self,
        offsets: impl IntoIterator<Item = ((T, i32), impl Into<CommittedOffset>)>,
    ) -> Result<(), Error> {
        self.shared("committing")?.commit_offsets(offsets).await
    }

    /// As [`Consumer::committed`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn committed<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<Vec<((String, i32), Option<CommittedOffset>)>, Error> {
        self.shared("asking what is committed")?.committed(partitions).await
    }

    /// As [`Consumer::subscribe`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    pub fn subscribe<T: AsRef<str>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.shared("subscribing")?.subscribe(topics)
    }

    /// As [`Consumer::close`].
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// If the future is dropped, closing goes on.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared("closing the consumer")?.close(Goodbye::Usual).await
    }
}

/// A queue of marks with more entries than this is taken in at once, so that marks out of order take little memory.
const MARKS_MAX: usize = 1024;

impl Shared {
    pub(super) fn done(&self, batch: &Batch) {
        self.mark(batch, batch.first_offset(), batch.next_offset());
        batch.hold.put_down();
    }

    fn done_record(&self, record: &RecordView<'_>) {
        if self.standing.is_some() {
            record.batch.mark_holes();
        }
        self.mark(record.batch, record.offset(), record.offset() + 1);
    }

    fn done_up_to(&self, record: &RecordView<'_>) {
        if self.standing.is_some() {
            record.batch.mark_holes();
        }
        self.mark(record.batch, record.batch.first_offset(), record.offset() + 1);
    }

    fn done_part(&self, part: &SharedBatch) {
        self.mark(part.batch(), part.first_offset(), part.next_offset());
    }

    fn mark(&self, batch: &Batch, first: i64, end: i64) {
        self.mark_in(&batch.hold.queue, batch.epoch, first..end);
    }

    /// Marks offsets of a partition as done, if the consumer is in a group.
    pub(super) fn mark_in(&self, queue: &Queue, epoch: Epoch, offsets: Range<i64>) {
        let Some(standing) = &self.standing else { return };
        let end = offsets.end;
        let Some(entries) = queue.mark(epoch, offsets) else {
            if !standing.is_at_most_once {
                standing.note_late(&queue.topic, queue.partition, end);
            }
            return;
        };
        let is_crowded = entries == MARKS_MAX;
        if is_crowded {
            standing.note_crowd();
        }
        if standing.note_mark() || is_crowded {
            self.commands.arrived.notify_one();
        }
    }

    pub(super) fn standing(&self, doing: &str) -> Result<&Arc<Standing>, Error> {
        let standing = self.standing.as_ref();
        let standing = standing.ok_or_else(|| Error::caller(doing, "the consumer is in no group"))?;
        if standing.is_closed() {
            return Err(Error::harmless(doing, Failure::Ended("the consumer was closed")));
        }
        Ok(standing)
    }

    /// Whether the consumer is a member, which may subscribe.
    fn check_subscribes(&self) -> Result<(), Error> {
        let doing = "subscribing";
        if self.standing(doing)?.is_member {
            return Ok(());
        }
        let why = "the consumer reads partitions that assign() has given it, outside of its group: subscribe() and assign() \
                   do not go together";
        Err(Error::caller(doing, why))
    }

    fn api_deadline(&self) -> Instant {
        self.client.0.clock.after(self.client.0.settings.client.api_timeout)
    }

    /// Gives the driver a command and waits for what comes of it.
    pub(super) async fn order<T>(
        &self,
        doing: &str,
        command: impl FnOnce(Reply<T>) -> GroupCommand,
    ) -> Result<T, Error> {
        let standing = self.standing(doing)?;
        let group = Arc::clone(&standing.group);
        self.ready.check_driver()?;
        let (reply, outcome) = oneshot::channel();
        self.commands.push(Command::Group(command(reply)));
        if self.ready.is_over() {
            // The driver has ended meanwhile and may not have seen the command, which would wait for it without end.
            self.commands.take(&mut Vec::new());
        }
        let ended = || {
            Error::harmless(format!("{doing} in group {group:?}"), Failure::Ended("the consumer was closed"))
        };
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    pub(super) async fn commit(&self) -> Result<(), Error> {
        let deadline = self.api_deadline();
        self.order("committing", |reply| GroupCommand::Commit { deadline, reply }).await
    }

    async fn commit_offsets<T: AsRef<str>>(
        &self,
        offsets: impl IntoIterator<Item = ((T, i32), impl Into<CommittedOffset>)>,
    ) -> Result<(), Error> {
        let offsets = offsets.into_iter().map(|((topic, partition), offset)| {
            let offset: CommittedOffset = offset.into();
            (TopicPartition::new(&Arc::from(topic.as_ref()), partition), offset.into())
        });
        let offsets = offsets.collect();
        let deadline = self.api_deadline();
        self.order("committing", |reply| GroupCommand::CommitOffsets { offsets, deadline, reply }).await
    }

    pub(super) async fn committed<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<Vec<((String, i32), Option<CommittedOffset>)>, Error> {
        let partition =
            |(topic, partition): (T, i32)| TopicPartition::new(&Arc::from(topic.as_ref()), partition);
        let partitions: Vec<_> = partitions.into_iter().map(partition).collect();
        let deadline = self.api_deadline();
        let asked = |reply| GroupCommand::Committed { partitions, deadline, reply };
        let mut found = self.order("asking what is committed", asked).await?;
        found.sort_by(|(left, _), (right, _)| left.cmp(right));
        let told = |(at, stored): (TopicPartition, Option<StoredOffset>)| {
            ((at.topic.to_string(), at.partition), stored.map(CommittedOffset::from))
        };
        Ok(found.into_iter().map(told).collect())
    }

    fn subscribe<T: AsRef<str>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.check_subscribes()?;
        let topics = topics.into_iter().map(|topic| Arc::from(topic.as_ref())).collect();
        self.commands.push(Command::Group(GroupCommand::Subscribe(Subscribed { topics, pattern: None })));
        Ok(())
    }

    fn subscribe_pattern(&self, pattern: &str) -> Result<(), Error> {
        self.check_subscribes()?;
        let wrong = |why| Error::caller(format!("subscribing to the pattern {pattern:?}"), why);
        let pattern = Some(Pattern::new(pattern).map_err(wrong)?);
        let subscribed = Subscribed { topics: BTreeSet::new(), pattern };
        self.commands.push(Command::Group(GroupCommand::Subscribe(subscribed)));
        Ok(())
    }

    async fn close(&self, how: Goodbye) -> Result<(), Error> {
        let Some(standing) = &self.standing else {
            return self.unassign_all(self.assignment());
        };
        if standing.is_closed() {
            return Ok(());
        }
        let deadline = self.client.0.clock.after(self.client.0.settings.client.request_timeout);
        let closed =
            self.order("closing the consumer", |reply| GroupCommand::Close { how, deadline, reply }).await;
        match closed {
            // Another call has closed it meanwhile.
            Err(error) if standing.is_closed() && matches!(error.failure(), Failure::Ended(_)) => Ok(()),
            closed => closed,
        }
    }
}
