//! `OffsetCommit`: sets the committed offsets of a group that has no members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{OFFSET_COMMIT, Row, of_group_with_members};
use milena_core::metadata::Destination;
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};

use super::partitions::{OfPartitions, Partition, by_topic, coordinator_of, named};
use super::{Admin, CommittedOffset};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct OffsetCommit<'a> {
    group: &'a str,
}

impl ApiCall for OffsetCommit<'_> {
    const ROW: &'static Row = &OFFSET_COMMIT;
    type Request = OffsetCommitRequest;
    type Item = (Partition, CommittedOffset);
    type Key = Partition;
    type Found = ();

    fn destination(&self, _item: &Self::Item) -> Destination {
        coordinator_of(self.group)
    }

    fn key(&self, (partition, _): &Self::Item) -> Partition {
        partition.clone()
    }

    /// Without a member id and with generation -1, which the coordinator takes for a group without members.
    fn request(&self, items: &[&Self::Item]) -> OffsetCommitRequest {
        let topics = by_topic(items.iter().map(|(partition, offset)| (partition, offset))).into_iter();
        let partition = |(partition_index, offset): (i32, &CommittedOffset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
            committed_metadata: Some(offset.metadata.as_deref().unwrap_or_default().into()),
            ..Default::default()
        };
        let topic = |(name, partitions): (&str, BTreeMap<i32, &CommittedOffset>)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions: partitions.into_iter().map(partition).collect(),
            ..Default::default()
        };
        let (group_id, topics) = (self.group.into(), topics.map(topic).collect());
        OffsetCommitRequest { group_id, topics, ..Default::default() }
    }

    fn answers(&self, response: OffsetCommitResponse) -> Answers<Partition, ()> {
        let of_topic = response.topics.iter().flat_map(|topic| {
            let name: Arc<str> = Arc::from(&*topic.name);
            topic.partitions.iter().map(move |of| {
                let committed = Failure::check(of.error_code, None).map_err(of_group_with_members);
                ((Arc::clone(&name), of.partition_index), committed)
            })
        });
        of_topic.collect()
    }
}

impl Admin {
    /// Sets the committed offsets of a group, which must not have members: while it has, its coordinator refuses. The group is
    /// made if it does not exist. There is one result per partition, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// // The members of `billing` begin at offset 17 when they come back.
    /// for ((topic, partition), set) in client.admin().alter_group_offsets("billing", [(("orders", 0), 17)]).await? {
    ///     match set {
    ///         Ok(()) => println!("{topic}-{partition} is set"),
    ///         Err(error) => eprintln!("{topic}-{partition} is as it was: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When an offset is negative or a partition is given twice; no offset is set then. If an offset was not set, its result
    /// says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn alter_group_offsets<T: AsRef<str>, O: Into<CommittedOffset>>(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = ((T, i32), O)>,
    ) -> Result<OfPartitions<()>, Error> {
        let (partitions, offsets): (Vec<_>, Vec<_>) = offsets.into_iter().unzip();
        let offsets = offsets.into_iter().map(Into::into);
        let items: Vec<(Partition, CommittedOffset)> = named(partitions).into_iter().zip(offsets).collect();
        let doing = |(topic, partition): &Partition| {
            format!("setting the offset of group {group:?} in partition {partition} of topic {topic:?}")
        };
        let mut seen = BTreeSet::new();
        for (partition, CommittedOffset { offset, .. }) in &items {
            if *offset < 0 {
                return Err(Error::caller(doing(partition), format!("offset {offset} is negative")));
            }
            if !seen.insert(partition) {
                return Err(Error::caller(doing(partition), "the partition is given twice"));
            }
        }
        let set = self.call(&OffsetCommit { group }, &items, self.deadline()).await.finish();
        let result = |((partition, _), set): ((Partition, _), Result<(), Failure>)| {
            let set = set.map_err(|failure| Error::new(doing(&partition), failure));
            ((partition.0.to_string(), partition.1), set)
        };
        Ok(items.into_iter().zip(set).map(result).collect())
    }
}
