//! `OffsetDelete`: deletes committed offsets of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{OFFSET_DELETE, Row};
use milena_core::metadata::Destination;
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};

use super::Admin;
use super::partitions::{OfPartitions, Partition, by_topic, coordinator_of, named};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct OffsetDelete<'a> {
    group: &'a str,
    partitions: &'a [Partition],
}

impl ApiCall for OffsetDelete<'_> {
    const ROW: &'static Row = &OFFSET_DELETE;
    type Request = OffsetDeleteRequest;
    type Item = Partition;
    type Key = Partition;
    type Found = ();

    fn destination(&self, _partition: &Partition) -> Destination {
        coordinator_of(self.group)
    }

    fn key(&self, partition: &Partition) -> Partition {
        partition.clone()
    }

    fn request(&self, partitions: &[&Partition]) -> OffsetDeleteRequest {
        let topics = by_topic(partitions.iter().map(|partition| (*partition, ()))).into_iter();
        let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
        let topic = |(name, partitions): (&str, BTreeMap<i32, ()>)| OffsetDeleteRequestTopic {
            name: name.into(),
            partitions: partitions.into_keys().map(partition).collect(),
        };
        OffsetDeleteRequest { group_id: self.group.into(), topics: topics.map(topic).collect() }
    }

    fn answers(&self, response: OffsetDeleteResponse) -> Answers<Partition, ()> {
        // A code for the group as a whole comes without partitions.
        if let Err(failure) = Failure::check(response.error_code, None) {
            return self
                .partitions
                .iter()
                .map(|partition| (partition.clone(), Err(failure.clone())))
                .collect();
        }
        let of_topic = response.topics.iter().flat_map(|topic| {
            let name: Arc<str> = Arc::from(&*topic.name);
            topic
                .partitions
                .iter()
                .map(move |of| ((Arc::clone(&name), of.partition_index), Failure::check(of.error_code, None)))
        });
        of_topic.collect()
    }
}

impl Admin {
    /// Deletes committed offsets of a group, of topics that no member subscribes to (KIP-496). There is one result per
    /// partition, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.admin().alter_group_offsets("billing", [(("orders", 0), 17)]).await?;
    /// for (_, deleted) in client.admin().delete_group_offsets("billing", [("orders", 0)]).await {
    ///     deleted?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If an offset was not deleted, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_group_offsets<T: AsRef<str>>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> OfPartitions<()> {
        let partitions = named(partitions);
        let call = OffsetDelete { group, partitions: &partitions };
        let deleted = self.call(&call, &partitions, self.deadline()).await.finish();
        let result = |((topic, partition), deleted): (&Partition, Result<(), Failure>)| {
            let deleted = deleted.map_err(|failure| {
                let doing = format!(
                    "deleting the offset of group {group:?} in partition {partition} of topic {topic:?}"
                );
                Error::new(doing, failure)
            });
            ((topic.to_string(), *partition), deleted)
        };
        partitions.iter().zip(deleted).map(result).collect()
    }
}
