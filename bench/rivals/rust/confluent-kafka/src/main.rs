//! Drives confluent-kafka, Confluent's translation of the Java client.
//!
//! As its documentation advises: `send` of byte slices, which are written straight into the batch, from one task, with
//! a callback each; `poll` in a loop over manually assigned partitions with `BytesDeserializer`, which copies
//! nothing. A record is kept by cloning it: its value is a slice of the fetched response.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use confluent_kafka::common::serialization::{ByteArraySerializer, BytesDeserializer};
use confluent_kafka::common::{Error, TopicPartition};
use confluent_kafka::consumer::{Consumer, ConsumerConfig, ConsumerRecord, KafkaConsumer};
use confluent_kafka::producer::{
    Callback, KafkaProducer, Producer, ProducerConfig, ProducerRecord, RecordMetadata,
};
use driver::{
    Client, Consume, Job, Measured, Measuring, Producing, Records, Results, Settings, Sink, Unsupported,
};

fn main() -> ExitCode {
    driver::run::<ConfluentKafka>()
}

struct ConfluentKafka;

impl Client for ConfluentKafka {
    const NAME: &'static str = "confluent-kafka";
    type Producer = Sender;
    type Consumer = Receiver;

    async fn producer(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Sender> {
        Ok(Sender { producer: connect(job, producing, settings)?, topic: job.topic.clone() })
    }

    async fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> anyhow::Result<Measured> {
        let producer = connect(job, producing, settings)?;
        RESULTS.get_or_init(|| results.clone());
        let measuring = Measuring::start();
        for record in records {
            let record = ProducerRecord::with_key(job.topic.clone(), record.key, Some(record.value));
            producer.send(record, Some(Box::new(Counting))).await?;
        }
        Producer::flush(&producer).await?;
        Ok(measuring.stop())
    }

    async fn consumer(job: &Job, consume: &Consume, settings: &mut Settings) -> anyhow::Result<Receiver> {
        if consume.slow.is_some() {
            bail!(Unsupported("confluent-kafka hands over the records of all partitions by one poll"));
        }
        settings.extend(consume.fetching.properties());
        settings.insert("auto.offset.reset".into(), "earliest".into());
        settings.insert("max.poll.records".into(), "10000".into());
        // The only one it has; without a group nobody speaks it.
        settings.insert("group.protocol".into(), "consumer".into());
        let config = ConsumerConfig::new(&with_bootstrap(job, settings))?;
        let mut consumer = KafkaConsumer::new(config, BytesDeserializer::new(), BytesDeserializer::new())?;
        let mut assignment = partitions(&mut consumer, &job.topic, consume.partitions).await?;
        if let Some(topic) = &consume.idle_topic {
            assignment.extend(partitions(&mut consumer, topic, None).await?);
        }
        consumer.assign(assignment).await?;
        if let Some(partition) = consume.pause {
            consumer.pause(&[TopicPartition::new(job.topic.as_str(), partition)]).await?;
        }
        Ok(Receiver(consumer))
    }
}

type ByteProducer = KafkaProducer<Vec<u8>, Vec<u8>>;
type ByteConsumer = KafkaConsumer<Bytes, Bytes>;

fn connect(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<ByteProducer> {
    settings.extend(producing.properties());
    let config = ProducerConfig::new(&with_bootstrap(job, settings))?;
    Ok(KafkaProducer::new(config, ByteArraySerializer::new(), ByteArraySerializer::new())?)
}

fn with_bootstrap(job: &Job, settings: &Settings) -> std::collections::HashMap<String, String> {
    let bootstrap = ("bootstrap.servers".to_owned(), job.bootstrap.clone());
    settings.clone().into_iter().chain([bootstrap]).collect()
}

async fn partitions(
    consumer: &mut ByteConsumer,
    topic: &str,
    count: Option<i32>,
) -> anyhow::Result<Vec<TopicPartition>> {
    if let Some(count) = count {
        return Ok((0..count).map(|partition| TopicPartition::new(topic, partition)).collect());
    }
    let partitions = consumer.partitions_for(topic).await?;
    Ok(partitions.iter().map(|partition| TopicPartition::new(topic, partition.partition())).collect())
}

/// Counts the result of one record. Of no size, so that boxing one for every record allocates nothing.
struct Counting;

static RESULTS: OnceLock<Arc<Results>> = OnceLock::new();

impl Callback for Counting {
    fn on_completion(self: Box<Self>, _: Option<&RecordMetadata>, error: Option<&Error>) {
        if let Some(results) = RESULTS.get() {
            results.count(error.map_or(Ok(()), Err));
        }
    }
}

struct Sender {
    producer: ByteProducer,
    topic: String,
}

impl driver::Producer for Sender {
    async fn enqueue(
        &self,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
        let record = ProducerRecord::new(self.topic.clone(), Some(&value[..]));
        let delivery = self.producer.send(record, None).await?;
        Ok(async move { Ok(delivery.get().await.map(drop)?) })
    }
}

struct Receiver(ByteConsumer);

impl driver::Consumer for Receiver {
    type Kept = ConsumerRecord<Bytes, Bytes>;

    async fn poll(&mut self, sink: &mut impl Sink<Self::Kept>) -> anyhow::Result<()> {
        for record in &self.0.poll(Duration::from_secs(1)).await? {
            let value = record.value().map_or(&[][..], |value| value);
            sink.take(record.partition(), value, || record.clone());
        }
        Ok(())
    }
}
