//! `ListOffsets`: looks up offsets by position or time, at the leader of each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{LIST_OFFSETS, Row};
use milena_core::metadata::Destination;
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use super::partitions::{OfPartitions, Partition, by_topic, leader_of, named};
use super::{Admin, OffsetAt};
use crate::Error;
use crate::calls::{Answers, ApiCall};
use crate::settings::Isolation;

struct ListOffsets {
    timestamp: i64,
    isolation: Isolation,
}

impl ApiCall for ListOffsets {
    const ROW: &'static Row = &LIST_OFFSETS;
    type Request = ListOffsetsRequest;
    type Item = Partition;
    type Key = Partition;
    type Found = Option<i64>;

    fn destination(&self, partition: &Partition) -> Destination {
        leader_of(partition)
    }

    fn key(&self, partition: &Partition) -> Partition {
        partition.clone()
    }

    fn request(&self, partitions: &[&Partition]) -> ListOffsetsRequest {
        let timestamp = self.timestamp;
        let asked = |index| ListOffsetsPartition { partition_index: index, timestamp, ..Default::default() };
        let topic = |(name, partitions): (&str, BTreeMap<i32, ()>)| ListOffsetsTopic {
            name: name.into(),
            partitions: partitions.into_keys().map(asked).collect(),
            ..Default::default()
        };
        let topics = by_topic(partitions.iter().map(|partition| (*partition, ()))).into_iter();
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.isolation == Isolation::ReadCommitted),
            topics: topics.map(topic).collect(),
            ..Default::default()
        }
    }

    fn answers(&self, response: ListOffsetsResponse) -> Answers<Partition, Option<i64>> {
        let mut answers = Vec::new();
        for topic in response.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            for found in topic.partitions {
                let offset = (found.offset >= 0).then_some(found.offset);
                let checked = Failure::check(found.error_code, None).map(|()| offset);
                answers.push(((Arc::clone(&name), found.partition_index), checked));
            }
        }
        answers
    }
}

impl Admin {
    /// Looks up an offset of each partition. There is one result per partition, in the order given: the offset, or none when no
    /// record is that late. All leaders are asked at the same time, and only partitions whose leader has moved are asked for again.
    /// [`isolation`](Self::isolation) says where a partition ends, and which records a time may find.
    ///
    /// # Errors
    /// When the time is before 1970. If the look-up fails for one partition, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_offsets<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        at: impl Into<OffsetAt>,
    ) -> Result<OfPartitions<Option<i64>>, Error> {
        let timestamp = at.into().timestamp();
        let timestamp = timestamp.map_err(|failure| Error::harmless("looking up offsets", failure))?;
        let partitions = named(partitions);
        let call = ListOffsets { timestamp, isolation: self.isolation };
        let found = self.call(&call, &partitions, self.deadline()).await.finish();
        let result = |((topic, partition), found): (Partition, Result<_, Failure>)| {
            let doing = || format!("looking up an offset of partition {partition} of topic {topic:?}");
            let found = found.map_err(|failure| Error::harmless(doing(), failure));
            ((topic.to_string(), partition), found)
        };
        Ok(partitions.into_iter().zip(found).map(result).collect())
    }
}
