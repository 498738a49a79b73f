//! Drives rskafka.
//!
//! It is of partitions, and so is this: a `PartitionClient` for each, as its documentation has it. To produce, whole
//! batches by `PartitionClient::produce`, one on its way per partition, partitions in turn; single records by
//! `BatchProducer`, which lingers. To consume, `fetch_records` in a task per partition. There is no partitioner, no
//! idempotence and no acks but all. A record is kept by cloning it: it owns its bytes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chrono::Utc;
use driver::{
    Acks, Client, Codec, Consume, Job, Measured, Measuring, Producing, Records, Results, Settings, Sink,
    Unsupported,
};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::producer::aggregator::RecordAggregator;
use rskafka::client::producer::{BatchProducer, BatchProducerBuilder};
use rskafka::record::{Record, RecordAndOffset};
use tokio::sync::mpsc::{Receiver as Channel, Sender as ChannelEnd, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

fn main() -> ExitCode {
    driver::run::<Rskafka>()
}

struct Rskafka;

impl Client for Rskafka {
    const NAME: &'static str = "rskafka";
    type Producer = Sender;
    type Consumer = Receiver;

    async fn producer(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Sender> {
        check(producing)?;
        let compression = compression(producing, settings);
        let batch_bytes = producing.batch_bytes.unwrap_or(DEFAULT_BATCH_BYTES);
        settings.insert("RecordAggregator".into(), batch_bytes.to_string());
        let build = |partition| {
            let mut builder = BatchProducerBuilder::new(partition).with_compression(compression);
            if let Some(linger) = producing.linger_ms {
                builder = builder.with_linger(Duration::from_millis(linger));
                settings.insert("linger".into(), format!("{linger} ms"));
            }
            Arc::new(builder.build(RecordAggregator::new(batch_bytes)))
        };
        let partitions = partitions(job, &job.topic).await?.into_iter().map(build).collect();
        Ok(Sender { partitions, next: AtomicUsize::new(0) })
    }

    async fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> anyhow::Result<Measured> {
        check(producing)?;
        let compression = compression(producing, settings);
        let batch_bytes = producing.batch_bytes.unwrap_or(DEFAULT_BATCH_BYTES);
        let mut writing = JoinSet::new();
        let partitions: Vec<ChannelEnd<Vec<Record>>> = partitions(job, &job.topic)
            .await?
            .into_iter()
            .map(|partition| {
                // One batch is made while the one before is on its way.
                let (batches, arriving) = channel(1);
                writing.spawn(write(partition, arriving, compression, results.clone()));
                batches
            })
            .collect();
        let measuring = Measuring::start();
        let (mut batch, mut bytes, mut turns) = (Vec::new(), 0, partitions.iter().cycle());
        for record in records {
            if record.key.is_some() {
                bail!(Unsupported("rskafka has no partitioner"));
            }
            // What a record of its costs beside its value, at most.
            let cost = record.value.len() + RECORD_OVERHEAD;
            if bytes + cost > batch_bytes {
                let turn = turns.next().context("the topic has no partitions")?;
                turn.send(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += cost;
            batch.push(owned(record.value));
        }
        turns.next().context("the topic has no partitions")?.send(batch).await?;
        drop(partitions);
        writing.join_all().await;
        Ok(measuring.stop())
    }

    async fn consumer(job: &Job, consume: &Consume, settings: &mut Settings) -> anyhow::Result<Receiver> {
        if consume.pause.is_some() {
            bail!(Unsupported("rskafka cannot pause a partition"));
        }
        let fetch_bytes = consume.fetching.partition_fetch_bytes.unwrap_or(DEFAULT_FETCH_BYTES);
        settings.insert("fetch_records bytes".into(), fetch_bytes.to_string());
        let (fetched, arriving) = channel(1);
        let mut all = partitions(job, &job.topic).await?;
        if let Some(topic) = &consume.idle_topic {
            all.extend(partitions(job, topic).await?);
        }
        for partition in all {
            let pause = (consume.slow == Some(partition.partition())).then_some(Duration::from_millis(1));
            tokio::spawn(read(partition, i32::try_from(fetch_bytes)?, pause, fetched.clone()));
        }
        Ok(Receiver(arriving))
    }
}

fn check(producing: &Producing) -> anyhow::Result<()> {
    ensure!(producing.idempotent != Some(true), Unsupported("rskafka has no idempotent producer"));
    ensure!(producing.acks != Some(Acks::One), Unsupported("rskafka always asks for all acks"));
    Ok(())
}

fn compression(producing: &Producing, settings: &mut Settings) -> Compression {
    let codec = producing.codec.unwrap_or(Codec::None);
    settings.insert("Compression".into(), codec.name().into());
    match codec {
        Codec::None => Compression::NoCompression,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

async fn partitions(job: &Job, topic: &str) -> anyhow::Result<Vec<Arc<PartitionClient>>> {
    let bootstrap = job.bootstrap.split(',').map(str::to_owned).collect();
    let client = ClientBuilder::new(bootstrap).build().await?;
    let topics = client.list_topics().await?;
    let topic = topics.into_iter().find(|known| known.name == topic).context("no such topic")?;
    let mut clients = Vec::new();
    for partition in topic.partitions {
        let client = client.partition_client(&topic.name, partition, UnknownTopicHandling::Error).await?;
        clients.push(Arc::new(client));
    }
    Ok(clients)
}

fn owned(value: &[u8]) -> Record {
    Record { key: None, value: Some(value.to_vec()), headers: BTreeMap::new(), timestamp: Utc::now() }
}

async fn write(
    partition: Arc<PartitionClient>,
    mut batches: Channel<Vec<Record>>,
    compression: Compression,
    results: Arc<Results>,
) {
    while let Some(batch) = batches.recv().await {
        let records = batch.len() as u64;
        results.count_many(records, partition.produce(batch, compression).await);
    }
}

/// What one fetch brought of one partition.
type Fetched = anyhow::Result<(i32, Vec<RecordAndOffset>)>;

/// Fetches until nobody wants it any more; a slow partition pauses before each batch it hands over.
async fn read(
    partition: Arc<PartitionClient>,
    fetch_bytes: i32,
    pause: Option<Duration>,
    fetched: ChannelEnd<Fetched>,
) {
    let mut offset = match partition.get_offset(OffsetAt::Earliest).await {
        Ok(offset) => offset,
        Err(error) => return drop(fetched.send(Err(error.into())).await),
    };
    loop {
        let (records, _) = match partition.fetch_records(offset, 1..fetch_bytes, FETCH_WAIT_MS).await {
            Ok(batch) => batch,
            Err(error) => return drop(fetched.send(Err(error.into())).await),
        };
        let Some(last) = records.last() else { continue };
        offset = last.offset + 1;
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        if fetched.send(Ok((partition.partition(), records))).await.is_err() {
            return;
        }
    }
}

struct Sender {
    partitions: Vec<Arc<BatchProducer<RecordAggregator>>>,
    next: AtomicUsize,
}

impl driver::Producer for Sender {
    async fn enqueue(
        &self,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
        let turn = self.next.fetch_add(1, Relaxed) % self.partitions.len();
        let partition = self.partitions[turn].clone();
        Ok(async move { Ok(partition.produce(owned(&value)).await.map(drop)?) })
    }
}

struct Receiver(Channel<Fetched>);

impl driver::Consumer for Receiver {
    type Kept = Record;

    async fn poll(&mut self, sink: &mut impl Sink<Record>) -> anyhow::Result<()> {
        let (partition, records) = self.0.recv().await.context("all partitions have ended")??;
        for RecordAndOffset { record, .. } in &records {
            sink.take(partition, record.value.as_deref().unwrap_or_default(), || record.clone());
        }
        Ok(())
    }
}

/// As others' default is.
const DEFAULT_BATCH_BYTES: usize = 1_000_000;
/// As `StreamConsumer`'s default is.
const DEFAULT_FETCH_BYTES: usize = 52_428_800;
const FETCH_WAIT_MS: i32 = 500;
/// Lengths, deltas and the count of headers, as the record format has them.
const RECORD_OVERHEAD: usize = 20;
