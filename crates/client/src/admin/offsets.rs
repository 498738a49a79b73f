//! Offsets looked up by position or time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure, Instant};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use super::Admin;
use crate::clock::millis_since_epoch;
use crate::runtime::Together;
use crate::settings::Isolation;
use crate::{Error, Position};

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// Of the first record there is.
    Earliest,
    /// After the last record: the high watermark, or the last stable offset with [`Isolation::ReadCommitted`].
    Latest,
    /// Of the first record whose timestamp is at or after this, in milliseconds since the epoch.
    TimestampMs(i64),
}

/// One partition's result: the offset, or none when no record is that late.
type Found = ((String, i32), Result<Option<i64>, Error>);

/// Of the first record at or after that time. A time before 1970 is refused.
impl From<SystemTime> for OffsetAt {
    fn from(at: SystemTime) -> Self {
        Self::TimestampMs(millis_since_epoch(at))
    }
}

impl OffsetAt {
    /// ListOffsetsRequest.Topics.Partitions.Timestamp: negative ones have meanings of their own.
    fn timestamp(self) -> Result<i64, Failure> {
        match self {
            Self::Earliest => Ok(-2),
            Self::Latest => Ok(-1),
            Self::TimestampMs(at) => Position::TimestampMs(at).check().map(|()| at),
        }
    }
}

impl Admin {
    /// Looks offsets up, one result per partition, in the order given. Each leader is asked once, all at a time.
    ///
    /// [`isolation`](Self::isolation) says where the end is, and which records a time may find.
    ///
    /// # Errors
    /// When the time is before 1970. What fails for one partition is in its result.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_offsets<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
        at: impl Into<OffsetAt>,
    ) -> Result<Vec<Found>, Error> {
        let deadline = self.deadline();
        let timestamp =
            at.into().timestamp().map_err(|failure| Error::harmless("looking up offsets", failure))?;
        let partitions: Vec<(String, i32)> =
            partitions.into_iter().map(|(topic, partition)| (topic.as_ref().to_owned(), partition)).collect();
        let mut results: Vec<Option<Result<Option<i64>, Error>>> = partitions.iter().map(|_| None).collect();
        let mut by_leader: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (index, (topic, partition)) in partitions.iter().enumerate() {
            match self.leader(topic, *partition, deadline).await {
                Ok(leader) => by_leader.entry(leader).or_default().push(index),
                Err(failure) => results[index] = Some(Err(offset_error(topic, *partition, failure))),
            }
        }
        let mut asked = Together::new();
        for (leader, indexes) in by_leader {
            let request = request(&partitions, &indexes, timestamp, self.isolation);
            asked.push(async move {
                (indexes, self.client.ask_again(&Destination::Broker(leader), &request, deadline).await)
            });
        }
        while let Some((indexes, answer)) = self.within(asked.next()).await {
            let answers = answer.as_ref().map(|answer| {
                let answers = answer.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|found| ((&*topic.name, found.partition_index), found))
                });
                answers.collect::<BTreeMap<_, _>>()
            });
            for index in indexes {
                let (topic, partition) = &partitions[index];
                let found = answers.as_ref().map_err(|failure| (*failure).clone()).and_then(|answers| {
                    let found = answers.get(&(topic.as_str(), *partition)).ok_or_else(Failure::incomplete)?;
                    found.error_code.ok().map_err(|code| Failure::answer(code, None))?;
                    Ok((found.offset >= 0).then_some(found.offset))
                });
                results[index] = Some(found.map_err(|failure| offset_error(topic, *partition, failure)));
            }
        }
        let lost = || Err(Error::harmless("looking up offsets", Failure::Closed));
        Ok(partitions
            .into_iter()
            .zip(results)
            .map(|(partition, found)| (partition, found.unwrap_or_else(lost)))
            .collect())
    }

    async fn leader(&self, topic: &str, partition: i32, deadline: Instant) -> Result<BrokerId, Failure> {
        // Held until the leader is known.
        let _known = self.within(self.client.topic(topic, Some(partition), deadline)).await?;
        let destination = Destination::Leader { topic: Arc::from(topic), partition };
        let leader = self.client.snapshot().route(&destination)?;
        leader.ok_or_else(|| Failure::NoRoute("the partition has no leader at present".into()))
    }
}

fn offset_error(topic: &str, partition: i32, failure: Failure) -> Error {
    Error::harmless(format!("looking up an offset of partition {partition} of topic {topic:?}"), failure)
}

fn request(
    partitions: &[(String, i32)],
    indexes: &[usize],
    timestamp: i64,
    isolation: Isolation,
) -> ListOffsetsRequest {
    // Each once: Kafka refuses a partition that is asked for twice.
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for index in indexes {
        let (topic, partition) = &partitions[*index];
        topics.entry(topic).or_default().insert(*partition);
    }
    let asked = |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
        name: name.into(),
        partitions: partitions.into_iter().map(asked).collect(),
        ..Default::default()
    });
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(isolation == Isolation::ReadCommitted),
        topics: topics.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_given_twice_is_asked_for_once() {
        let partitions = [("t", 1), ("u", 0), ("t", 1), ("t", 0)].map(|(topic, at)| (topic.to_owned(), at));
        let request = request(&partitions, &[0, 1, 2, 3], -1, Isolation::ReadUncommitted);
        let asked = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        let expected = [("t", 0), ("t", 1), ("u", 0)].map(|(topic, at)| (topic.to_owned(), at));
        assert_eq!(asked.collect::<Vec<_>>(), expected);
    }
}
