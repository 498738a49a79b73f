//! `ListOffsets`: looks up offsets by position or time, at the leader of each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{LIST_OFFSETS, Row};
use milena_core::metadata::Destination;
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use super::{Admin, OffsetAt};
use crate::Error;
use crate::calls::{Answers, ApiCall};
use crate::settings::Isolation;

struct ListOffsets {
    timestamp: i64,
    isolation: Isolation,
}

type Partition = (Arc<str>, i32);
/// One partition's result: the offset, or none when no record is that late.
type Found = ((String, i32), Result<Option<i64>, Error>);

impl ApiCall for ListOffsets {
    const ROW: &'static Row = &LIST_OFFSETS;
    type Request = ListOffsetsRequest;
    type Item = Partition;
    type Key = Partition;
    type Found = Option<i64>;

    fn destination(&self, (topic, partition): &Partition) -> Destination {
        Destination::Leader { topic: Arc::clone(topic), partition: *partition }
    }

    fn key(&self, partition: &Partition) -> Partition {
        partition.clone()
    }

    fn request(&self, partitions: &[&Partition]) -> ListOffsetsRequest {
        // Each partition goes in once: Kafka refuses one that is asked for twice.
        let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            topics.entry(topic).or_default().insert(*partition);
        }
        let timestamp = self.timestamp;
        let asked =
            |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
        let topic = |(name, partitions): (&str, BTreeSet<i32>)| ListOffsetsTopic {
            name: name.into(),
            partitions: partitions.into_iter().map(asked).collect(),
            ..Default::default()
        };
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.isolation == Isolation::ReadCommitted),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn answers(&self, response: ListOffsetsResponse) -> Answers<Partition, Option<i64>> {
        let mut answers = Vec::new();
        for topic in response.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            answers.extend(topic.partitions.iter().map(|found| {
                let offset = (found.offset >= 0).then_some(found.offset);
                let checked = Failure::check(found.error_code, None);
                ((Arc::clone(&name), found.partition_index), checked.map(|()| offset))
            }));
        }
        answers
    }
}

impl Admin {
    /// Looks up an offset of each partition. There is one result per partition, in the order given. All leaders are asked at
    /// the same time, and only partitions whose leader has moved are asked for again.
    ///
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
    ) -> Result<Vec<Found>, Error> {
        let timestamp = at.into().timestamp();
        let timestamp = timestamp.map_err(|failure| Error::harmless("looking up offsets", failure))?;
        let partitions =
            partitions.into_iter().map(|(topic, partition)| (Arc::from(topic.as_ref()), partition));
        let partitions: Vec<Partition> = partitions.collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_given_twice_is_asked_for_once() {
        let call = ListOffsets { timestamp: -1, isolation: Isolation::ReadUncommitted };
        let partitions = [("t", 1), ("u", 0), ("t", 1), ("t", 0)].map(|(topic, at)| (Arc::from(topic), at));
        let request = call.request(&partitions.iter().collect::<Vec<_>>());
        let asked = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        let expected = [("t", 0), ("t", 1), ("u", 0)].map(|(topic, at)| (topic.to_owned(), at));
        assert_eq!(asked.collect::<Vec<_>>(), expected);
    }
}
