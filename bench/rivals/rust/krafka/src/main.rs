//! Drives krafka.
//!
//! As its documentation advises ("Performance", "High Throughput Producer", "High Throughput Consumer"): `enqueue`
//! pipelines, the handles are awaited apart; a consumer without a group, `poll` with as many records as there are
//! (`max_poll_records`, `max_buffered_records`). A record is kept by cloning it: its value is a slice of the fetched
//! response.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use driver::{
    Acks, Client, Codec, Consume, Deliveries, Job, Measured, Measuring, Producing, Records, Results,
    Settings, Sink, Unsupported,
};
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord};
use krafka::producer::Producer;
use krafka::{Compression, Kafka, Record};

fn main() -> ExitCode {
    driver::run::<Krafka>()
}

struct Krafka;

impl Client for Krafka {
    const NAME: &'static str = "krafka";
    type Producer = Sender;
    type Consumer = Receiver;

    async fn producer(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Sender> {
        let producer = connect(job, producing, settings).await?;
        Ok(Sender { producer, topic: job.topic.clone() })
    }

    async fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> anyhow::Result<Measured> {
        let producer = connect(job, producing, settings).await?;
        let measuring = Measuring::start();
        let mut deliveries = Deliveries::new(results);
        for record in records {
            let mut sent = Record::new(&job.topic, Bytes::from_static(record.value));
            sent.key = record.key.map(Bytes::from_static);
            deliveries.push(producer.enqueue(sent).await?);
        }
        producer.flush().await?;
        deliveries.all().await?;
        Ok(measuring.stop())
    }

    async fn consumer(job: &Job, consume: &Consume, settings: &mut Settings) -> anyhow::Result<Receiver> {
        if consume.slow.is_some() {
            bail!(Unsupported("krafka hands over the records of all partitions by one poll"));
        }
        let kafka = Kafka::builder(job.bootstrap.as_str()).connect().await?;
        let mut builder = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
        if let Some(bytes) = consume.fetching.partition_fetch_bytes {
            builder = builder.max_partition_fetch_bytes(i32::try_from(bytes)?);
            settings.insert("max_partition_fetch_bytes".into(), bytes.to_string());
        }
        if let Some(bytes) = consume.fetching.fetch_bytes {
            builder = builder.fetch_max_bytes(i32::try_from(bytes)?);
            settings.insert("fetch_max_bytes".into(), bytes.to_string());
        }
        builder = builder.max_poll_records(POLL_RECORDS).max_buffered_records(0);
        settings.insert("max_poll_records".into(), POLL_RECORDS.to_string());
        settings.insert("max_buffered_records".into(), "0".into());
        let consumer = builder.build().await?;
        let count = match consume.partitions {
            Some(count) => count,
            None => partition_count(&consumer, &job.topic).await?,
        };
        consumer.assign(&job.topic, (0..count).collect()).await?;
        if let Some(topic) = &consume.idle_topic {
            let count = partition_count(&consumer, topic).await?;
            consumer.assign(topic, (0..count).collect()).await?;
        }
        if let Some(partition) = consume.pause {
            consumer.pause(&job.topic, &[partition]).await;
        }
        Ok(Receiver(consumer))
    }
}

async fn connect(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Producer> {
    let kafka = Kafka::builder(job.bootstrap.as_str()).connect().await?;
    let mut builder = kafka.producer();
    if let Some(codec) = producing.codec {
        builder = builder.compression(compression(codec));
        settings.insert("compression".into(), codec.name().into());
    }
    if let Some(acks) = producing.acks {
        builder = builder.acks(match acks {
            Acks::All => krafka::producer::Acks::All,
            Acks::One => krafka::producer::Acks::Leader,
        });
        settings.insert("acks".into(), acks.name().into());
    }
    if let Some(on) = producing.idempotent {
        builder = builder.idempotent(on);
        settings.insert("idempotent".into(), on.to_string());
    }
    if let Some(linger) = producing.linger_ms {
        builder = builder.linger(Duration::from_millis(linger));
        settings.insert("linger".into(), format!("{linger} ms"));
    }
    if let Some(bytes) = producing.batch_bytes {
        builder = builder.batch_size(bytes);
        settings.insert("batch_size".into(), bytes.to_string());
    }
    Ok(builder.build().await?)
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

async fn partition_count(consumer: &Consumer, topic: &str) -> anyhow::Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic)).await?;
    let topic = metadata.topics.first().context("no such topic")?;
    Ok(i32::try_from(topic.partitions_iter().count())?)
}

struct Sender {
    producer: Producer,
    topic: String,
}

impl driver::Producer for Sender {
    async fn enqueue(
        &self,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
        let delivery = self.producer.enqueue(Record::new(&self.topic, value)).await?;
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

/// As in its "High Throughput Consumer".
const POLL_RECORDS: i32 = 10_000;
