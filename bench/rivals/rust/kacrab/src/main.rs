//! Drives kacrab.
//!
//! As its documentation advises: `send` to a topic whose metadata is there, from one task without awaiting, the futures awaited apart; records whose topic
//! and values are shared handles, so that none is copied before its batch; `poll` in a loop over manually assigned
//! partitions, position at `auto.offset.reset=earliest`. A record is kept by cloning it: its value is a slice of the
//! fetched response.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use driver::{
    Client, Consume, Deliveries, Job, Measured, Measuring, Producing, Records, Results, Settings, Sink,
    Unsupported,
};
use kacrab::common::TopicPartition;
use kacrab::consumer::{Consumer, ConsumerRecord};
use kacrab::producer::{Producer, ProducerRecord};

fn main() -> ExitCode {
    driver::run::<Kacrab>()
}

struct Kacrab;

impl Client for Kacrab {
    const NAME: &'static str = "kacrab";
    type Producer = Sender;
    type Consumer = Receiver;

    async fn producer(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Sender> {
        let producer = connect(job, producing, settings).await?;
        Ok(Sender { producer, topic: job.topic.as_str().into() })
    }

    async fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> anyhow::Result<Measured> {
        let producer = connect(job, producing, settings).await?;
        let topic: Arc<str> = job.topic.as_str().into();
        let measuring = Measuring::start();
        let mut deliveries = Deliveries::new(results);
        for record in records {
            let value = Bytes::from_static(record.value);
            let record = match record.key {
                Some(key) => ProducerRecord::topic_key_value(topic.clone(), Bytes::from_static(key), value),
                None => ProducerRecord::topic_value(topic.clone(), value),
            };
            deliveries.push(producer.send(record)?);
        }
        producer.flush().await?;
        deliveries.all().await?;
        Ok(measuring.stop())
    }

    async fn consumer(job: &Job, consume: &Consume, settings: &mut Settings) -> anyhow::Result<Receiver> {
        if consume.slow.is_some() {
            bail!(Unsupported("kacrab hands over the records of all partitions by one poll"));
        }
        settings.extend(consume.fetching.properties());
        settings.insert("auto.offset.reset".into(), "earliest".into());
        settings.insert("max.poll.records".into(), "10000".into());
        let mut consumer = Consumer::from_map(with_bootstrap(job, settings)).await?;
        let mut partitions = partitions(job, &job.topic, consume.partitions).await?;
        if let Some(topic) = &consume.idle_topic {
            partitions.extend(self::partitions(job, topic, None).await?);
        }
        consumer.assign(partitions)?;
        if let Some(partition) = consume.pause {
            consumer.pause(&[TopicPartition::new(&job.topic, partition)]);
        }
        Ok(Receiver(consumer))
    }
}

async fn connect(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Producer> {
    settings.extend(producing.properties());
    let producer = Producer::from_map(with_bootstrap(job, settings)).await?;
    // A record of a topic it knows nothing of takes a slow path, and so does every record behind it while there is one.
    producer.partitions_for(&job.topic).await?;
    Ok(producer)
}

fn with_bootstrap(job: &Job, settings: &Settings) -> Settings {
    let mut all = settings.clone();
    all.insert("bootstrap.servers".into(), job.bootstrap.clone());
    all
}

/// Its consumer does not list a topic's partitions, its producer does.
async fn partitions(job: &Job, topic: &str, count: Option<i32>) -> anyhow::Result<Vec<TopicPartition>> {
    if let Some(count) = count {
        return Ok((0..count).map(|partition| TopicPartition::new(topic, partition)).collect());
    }
    let producer = Producer::from_map(with_bootstrap(job, &Settings::new())).await?;
    let partitions = producer.partitions_for(topic).await?;
    producer.close().await?;
    Ok(partitions.iter().map(|partition| TopicPartition::new(topic, partition.partition)).collect())
}

struct Sender {
    producer: Producer,
    topic: Arc<str>,
}

impl driver::Producer for Sender {
    async fn enqueue(
        &self,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
        let delivery = self.producer.send(ProducerRecord::topic_value(self.topic.clone(), value))?;
        Ok(async { Ok(delivery.await.map(drop)?) })
    }
}

struct Receiver(Consumer);

impl driver::Consumer for Receiver {
    type Kept = ConsumerRecord;

    async fn poll(&mut self, sink: &mut impl Sink<ConsumerRecord>) -> anyhow::Result<()> {
        for record in &self.0.poll(Duration::from_secs(1)).await? {
            let value = record.value.as_deref().unwrap_or_default();
            sink.take(record.partition, value, || record.clone());
        }
        Ok(())
    }
}
