//! `DescribeProducers`: the producers that replicas of partitions remember (KIP-664).

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::calls::{DESCRIBE_PRODUCERS, DESCRIBE_PRODUCERS_OF_BROKER, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerState, TopicRequest,
};

use super::partitions::{OfPartitions, Partition, by_topic, leader_of, named};
use super::{Admin, ProducerDescription};
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// Asks the replicas of this broker, or the leaders if there is none.
struct DescribeProducers<const OF_BROKER: bool>(Option<BrokerId>);

impl<const OF_BROKER: bool> ApiCall for DescribeProducers<OF_BROKER> {
    const ROW: &'static Row = if OF_BROKER { &DESCRIBE_PRODUCERS_OF_BROKER } else { &DESCRIBE_PRODUCERS };
    type Request = DescribeProducersRequest;
    type Item = Partition;
    type Key = Partition;
    type Found = Vec<ProducerDescription>;

    fn destination(&self, partition: &Partition) -> Destination {
        self.0.map_or_else(|| leader_of(partition), Destination::Broker)
    }

    fn key(&self, partition: &Partition) -> Partition {
        partition.clone()
    }

    fn request(&self, partitions: &[&Partition]) -> DescribeProducersRequest {
        let topic = |(name, partitions): (&str, BTreeMap<i32, ()>)| TopicRequest {
            name: name.into(),
            partition_indexes: partitions.into_keys().collect(),
            ..Default::default()
        };
        let topics = by_topic(partitions.iter().map(|partition| (*partition, ()))).into_iter();
        DescribeProducersRequest { topics: topics.map(topic).collect(), ..Default::default() }
    }

    fn answers(&self, response: DescribeProducersResponse) -> Answers<Partition, Self::Found> {
        let mut answers = Vec::new();
        for topic in response.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            for of in topic.partitions {
                let checked = Failure::check(of.error_code, of.error_message.as_deref());
                let found = checked.map(|()| of.active_producers.iter().map(description).collect());
                answers.push(((Arc::clone(&name), of.partition_index), found));
            }
        }
        answers
    }
}

impl Admin {
    /// Describes the idempotent and transactional producers that the leaders of these partitions remember, and which of them
    /// have a transaction open there. There is one result per partition, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let mut producer = client.transactional("billing-1").build().await?;
    /// # let transaction = producer.begin().await?;
    /// # transaction.send(milena::Record::to("orders").value("created")).await?;
    /// for ((topic, partition), producers) in client.admin().describe_producers([("orders", 0)]).await {
    ///     for producer in producers? {
    ///         let Some(offset) = producer.transaction_start else { continue };
    ///         println!("{topic} {partition}: a transaction of producer {} is open from offset {offset} on", producer.producer_id);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a partition does not exist, this principal may not read it or its leader does not answer, its result says so. Brokers
    /// before Kafka 2.8 refuse it.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_producers<T: AsRef<str>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> OfPartitions<Vec<ProducerDescription>> {
        self.describe(DescribeProducers::<false>(None), partitions).await
    }

    /// As [`describe_producers`](Self::describe_producers), by the replicas that broker `id` has of these partitions, as Java's
    /// `DescribeProducersOptions.brokerId`. What a follower remembers may differ from what the leader does.
    ///
    /// # Errors
    /// As [`describe_producers`](Self::describe_producers). A partition of which the broker has no replica is refused with
    /// `NOT_LEADER_OR_FOLLOWER`.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_producers_of_broker<T: AsRef<str>>(
        &self,
        id: i32,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> OfPartitions<Vec<ProducerDescription>> {
        self.describe(DescribeProducers::<true>(Some(BrokerId(id))), partitions).await
    }

    async fn describe<const OF_BROKER: bool, T: AsRef<str>>(
        &self,
        call: DescribeProducers<OF_BROKER>,
        partitions: impl IntoIterator<Item = (T, i32)>,
    ) -> OfPartitions<Vec<ProducerDescription>> {
        let partitions = named(partitions);
        let found = self.call(&call, &partitions, self.deadline()).await.finish();
        let result = |((topic, partition), found): (Partition, Result<_, Failure>)| {
            let doing = || format!("describing the producers of partition {partition} of topic {topic:?}");
            let found = found.map_err(|failure| Error::harmless(doing(), failure));
            ((topic.to_string(), partition), found)
        };
        partitions.into_iter().zip(found).map(result).collect()
    }
}

fn description(of: &ProducerState) -> ProducerDescription {
    ProducerDescription {
        producer_id: of.producer_id,
        producer_epoch: of.producer_epoch,
        last_sequence: Some(of.last_sequence).filter(|sequence| *sequence >= 0),
        last_timestamp_ms: Some(of.last_timestamp).filter(|ms| *ms >= 0),
        coordinator_epoch: Some(of.coordinator_epoch).filter(|epoch| *epoch >= 0),
        transaction_start: Some(of.current_txn_start_offset).filter(|offset| *offset >= 0),
    }
}
