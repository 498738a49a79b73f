//! `OffsetFetch`: the offsets that groups have committed.

use std::collections::BTreeMap;

use milena_core::Failure;
use milena_core::calls::{OFFSET_FETCH, Row};
use milena_core::metadata::Destination;
use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse, OffsetFetchResponsePartition,
};

use super::partitions::{OfPartitions, Partition, by_topic, coordinator_of, named};
use super::{Admin, CommittedOffset};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct OffsetFetch;

/// A group, and the partitions that are asked for; all that have an offset if none are named.
struct Asked {
    group: String,
    partitions: Option<Vec<Partition>>,
}

type Found = BTreeMap<Partition, Result<Option<CommittedOffset>, Failure>>;

impl ApiCall for OffsetFetch {
    const ROW: &'static Row = &OFFSET_FETCH;
    type Request = OffsetFetchRequest;
    type Item = Asked;
    /// A request is about one group, and the answer does not repeat of which.
    type Key = ();
    type Found = Found;

    fn destination(&self, asked: &Asked) -> Destination {
        coordinator_of(&asked.group)
    }

    fn key(&self, _asked: &Asked) {}

    fn request(&self, asked: &[&Asked]) -> OffsetFetchRequest {
        let Some(asked) = asked.first() else { return OffsetFetchRequest::default() };
        let topics = asked.partitions.as_ref().map(|partitions| {
            let topics = by_topic(partitions.iter().map(|partition| (partition, ()))).into_iter();
            let topic = |(name, partitions): (&str, BTreeMap<i32, ()>)| OffsetFetchRequestTopic {
                name: name.into(),
                partition_indexes: partitions.into_keys().collect(),
                ..Default::default()
            };
            topics.map(topic).collect()
        });
        OffsetFetchRequest { group_id: asked.group.as_str().into(), topics, ..Default::default() }
    }

    fn answers(&self, response: OffsetFetchResponse) -> Answers<(), Found> {
        let found = Failure::check(response.error_code, None).map(|()| {
            let of_topic = response.topics.iter().flat_map(|topic| {
                let name = std::sync::Arc::from(&*topic.name);
                topic
                    .partitions
                    .iter()
                    .map(move |of| ((std::sync::Arc::clone(&name), of.partition_index), committed(of)))
            });
            of_topic.collect()
        });
        vec![((), found)]
    }
}

/// An offset of -1 means that the group has none there.
fn committed(of: &OffsetFetchResponsePartition) -> Result<Option<CommittedOffset>, Failure> {
    Failure::check(of.error_code, None)?;
    let metadata = of.metadata.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let leader_epoch = Some(of.committed_leader_epoch).filter(|epoch| *epoch >= 0);
    let offset = of.committed_offset;
    Ok((offset >= 0).then_some(CommittedOffset { offset, leader_epoch, metadata }))
}

impl Admin {
    /// Lists the offsets that groups have committed, of all partitions. There is one result per group, in the order given. A
    /// group that does not exist has none.
    ///
    /// # Errors
    /// If this principal may not see a group or its coordinator does not answer, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_group_offsets<T: AsRef<str>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<BTreeMap<(String, i32), CommittedOffset>, Error>)> {
        let asked = |group: T| Asked { group: group.as_ref().to_owned(), partitions: None };
        let asked: Vec<_> = groups.into_iter().map(asked).collect();
        let found = self.call(&OffsetFetch, &asked, self.deadline()).await.finish();
        let result = |(Asked { group, .. }, found): (Asked, Result<Found, Failure>)| {
            let offsets = found.and_then(|found| {
                let offsets = found.into_iter().filter_map(|((topic, partition), offset)| {
                    Some(offset.transpose()?.map(|offset| ((topic.to_string(), partition), offset)))
                });
                offsets.collect()
            });
            let doing = || format!("listing the committed offsets of group {group:?}");
            let offsets = offsets.map_err(|failure| Error::harmless(doing(), failure));
            (group, offsets)
        };
        asked.into_iter().zip(found).map(result).collect()
    }

    /// Lists the offsets that a group has committed of some partitions. There is one result per partition, in the order given;
    /// none if the group has no offset there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// let admin = client.admin();
    /// admin.alter_group_offsets("billing", [(("orders", 0), 17)]).await?;
    ///
    /// let found = admin.list_group_offsets_of("billing", [("orders", 0), ("orders", 1)]).await?;
    /// let offsets = found.into_iter().map(|(_, offset)| Ok(offset?.map(|committed| committed.offset)));
    /// assert_eq!(offsets.collect::<Result<Vec<_>, milena::Error>>()?, [Some(17), None]);
    ///
    /// for (group, offsets) in admin.list_group_offsets(["billing"]).await {
    ///     println!("{group} has committed offsets of {} partitions", offsets?.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When this principal may not see the group, or its coordinator does not answer.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_group_offsets_of<T: AsRef<str>>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<OfPartitions<Option<CommittedOffset>>, Error> {
        let partitions = named(partitions);
        let asked = Asked { group: group.to_owned(), partitions: Some(partitions.clone()) };
        let found = self.call_one(&OffsetFetch, asked).await;
        let doing = || format!("listing the committed offsets of group {group:?}");
        let found = found.map_err(|failure| Error::harmless(doing(), failure))?;
        let result = |(topic, partition): Partition| {
            let offset = found.get(&(topic.clone(), partition)).cloned();
            let offset = offset.unwrap_or_else(|| Err(Failure::incomplete()));
            let doing = || format!("{} of partition {partition} of topic {topic:?}", doing());
            let offset = offset.map_err(|failure| Error::harmless(doing(), failure));
            ((topic.to_string(), partition), offset)
        };
        Ok(partitions.into_iter().map(result).collect())
    }
}
