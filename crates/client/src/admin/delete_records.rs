//! `DeleteRecords`: has partitions start at a later offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{DELETE_RECORDS, Row};
use milena_core::metadata::Destination;
use milena_messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};

use super::Admin;
use super::partitions::{OfPartitions, Partition, by_topic, leader_of, named};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DeleteRecords {
    timeout_ms: i32,
}

/// `DeleteRecordsRequest.Topics.Partitions.Offset`: all records that consumers may read.
const HIGH_WATERMARK: i64 = -1;

impl ApiCall for DeleteRecords {
    const ROW: &'static Row = &DELETE_RECORDS;
    type Request = DeleteRecordsRequest;
    type Item = (Partition, i64);
    type Key = Partition;
    /// The partition's first offset now.
    type Found = i64;

    fn destination(&self, (partition, _): &Self::Item) -> Destination {
        leader_of(partition)
    }

    fn key(&self, (partition, _): &Self::Item) -> Partition {
        partition.clone()
    }

    fn request(&self, items: &[&Self::Item]) -> DeleteRecordsRequest {
        let partition = |(partition_index, offset)| DeleteRecordsPartition {
            partition_index,
            offset,
            ..Default::default()
        };
        let topic = |(name, partitions): (&str, BTreeMap<i32, i64>)| DeleteRecordsTopic {
            name: name.into(),
            partitions: partitions.into_iter().map(partition).collect(),
            ..Default::default()
        };
        let topics = by_topic(items.iter().map(|(partition, offset)| (partition, *offset))).into_iter();
        let (timeout_ms, topics) = (self.timeout_ms, topics.map(topic).collect());
        DeleteRecordsRequest { topics, timeout_ms, ..Default::default() }
    }

    fn answers(&self, response: DeleteRecordsResponse) -> Answers<Partition, i64> {
        let of_topic = response.topics.iter().flat_map(|topic| {
            let name: Arc<str> = Arc::from(&*topic.name);
            topic.partitions.iter().map(move |of| {
                let deleted = Failure::check(of.error_code, None).map(|()| of.low_watermark);
                ((Arc::clone(&name), of.partition_index), deleted)
            })
        });
        of_topic.collect()
    }
}

impl Admin {
    /// Deletes the records of partitions before an offset, or all records with `None`. There is one result per partition, in
    /// the order given: the partition's first offset from now on. Readers before it get OFFSET_OUT_OF_RANGE, and go where
    /// their reset policy says. Java's client calls it `deleteRecords` (KIP-107).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// for ((topic, partition), start) in client.admin().delete_records([(("orders", 0), None)]).await? {
    ///     match start {
    ///         Ok(start) => println!("{topic}-{partition} begins at offset {start}"),
    ///         Err(error) => eprintln!("{topic}-{partition} is as it was: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When an offset is negative or a partition is given twice; nothing is deleted then. If a partition's records were not
    /// deleted, its result says so: the offset is after the partition's end, or the topic's `cleanup.policy` is `compact`
    /// only.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_records<T: AsRef<str>, O: Into<Option<i64>>>(
        &self,
        before: impl IntoIterator<Item = ((T, i32), O)>,
    ) -> Result<OfPartitions<i64>, Error> {
        let (partitions, offsets): (Vec<_>, Vec<_>) = before.into_iter().unzip();
        let offsets = offsets.into_iter().map(|offset| offset.into().unwrap_or(HIGH_WATERMARK));
        let items: Vec<(Partition, i64)> = named(partitions).into_iter().zip(offsets).collect();
        let doing = |(topic, partition): &Partition| {
            format!("deleting records of partition {partition} of topic {topic:?}")
        };
        let mut seen = BTreeSet::new();
        for (partition, offset) in &items {
            if *offset < HIGH_WATERMARK {
                return Err(Error::caller(doing(partition), format!("offset {offset} is negative")));
            }
            if !seen.insert(partition) {
                return Err(Error::caller(doing(partition), "the partition is given twice"));
            }
        }
        let call = DeleteRecords { timeout_ms: self.timeout_ms() };
        let deleted = self.call(&call, &items, self.deadline()).await.finish();
        let result = |((partition, _), deleted): ((Partition, _), Result<i64, Failure>)| {
            let deleted = deleted.map_err(|failure| Error::new(doing(&partition), failure));
            ((partition.0.to_string(), partition.1), deleted)
        };
        Ok(items.into_iter().zip(deleted).map(result).collect())
    }
}
