//! Reads all partitions of a topic from the beginning.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::assignors::{Assignor, CooperativeSticky};
use milena::{
    Batch, Client, Consumer, ConsumerSettings, GroupConsumerBuilder, OwnedRecord, PartitionConsumer,
    PartitionHandle, Position, Protocol,
};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::connect;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome, touch};

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let allocations = Allocations::start();
    let start = Instant::now();
    let client = connect(options).await?;
    let mut consumer = consumer(&client, options).await?;
    let pauses = options.pause_each.then(|| Pauses::start(&consumer));
    let slow = options.slow.map(|partition| tokio::spawn(read_slowly(take(&consumer, partition))));
    let mut reader = Reader { retain: options.retain.unwrap_or(u64::MAX), ..Reader::default() };
    let mut in_use = 0;
    while reader.records < options.records {
        let Some(batch) = consumer.next().await? else { break };
        in_use = in_use.max(client.pool_stats().bytes_out + client.decompressed_pool_stats().bytes_out);
        reader.read(&batch);
        if options.done {
            consumer.done(&batch);
        }
        if let Some(pauses) = &pauses {
            pauses.pause(batch.partition());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    slow.inspect(JoinHandle::abort);
    let allocations = Some(allocations.count());
    black_box((reader.sum, &reader.retained));
    let settings = json!({
        "fetch_partition_bytes_max": options.partition_fetch_bytes,
        "fetch_bytes_max": options.fetch_bytes,
        "threads": options.threads,
        "retained": reader.retained.len(),
        "group": options.group,
        "done": options.done,
    });
    let (records, bytes, in_use_bytes) = (reader.records, reader.bytes, Some(in_use));
    Ok(Outcome { records, bytes, seconds, allocations, in_use_bytes, settings, ..Default::default() })
}

/// A consumer of the topic and of the idle topics, by position or in a group; one partition may be paused.
pub(super) async fn consumer(client: &Client, options: &Options) -> Result<Consumer, Failure> {
    if let Some(group) = &options.group {
        let topics = [Some(&options.topic), options.idle_topics.as_ref()].into_iter().flatten();
        let mut member = client.consumer(group.as_str()).subscribe(topics);
        if options.mode == "follow" {
            member = cooperative(member);
        }
        return Ok(member.settings(|settings| fetching(options, settings)).build().await?);
    }
    let mut partitions = partitions(client, &options.topic).await?;
    if let Some(idle) = &options.idle_topics {
        partitions.extend(self::partitions(client, idle).await?);
    }
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    let consumer = builder.settings(|settings| fetching(options, settings)).build().await?;
    if let Some(partition) = options.pause {
        consumer.pause(&options.topic, partition)?;
    }
    Ok(consumer)
}

fn fetching(options: &Options, settings: &mut ConsumerSettings) {
    if let Some(bytes) = options.partition_fetch_bytes {
        settings.fetch_partition_bytes_max = bytes;
    }
    if let Some(bytes) = options.fetch_bytes {
        settings.fetch_bytes_max = bytes;
    }
    if let Some(wait) = options.fetch_wait_ms {
        settings.fetch_wait = Duration::from_millis(wait);
    }
}

/// What the members of all clients are told when partitions move: cooperative-sticky in the classic protocol, which all of
/// them have, and heartbeats that let a rebalance begin soon.
pub(super) fn cooperative(member: GroupConsumerBuilder) -> GroupConsumerBuilder {
    let member =
        member.protocol(Protocol::Classic).assignors([Arc::new(CooperativeSticky) as Arc<dyn Assignor>]);
    member.heartbeat_interval(Duration::from_millis(300))
}

/// How long a partition is paused after each batch.
const PAUSED_FOR: Duration = Duration::from_millis(1);

/// Pauses the partitions of a topic, and resumes each after a millisecond, as a worker does that is done with a batch.
struct Pauses {
    handles: BTreeMap<i32, PartitionHandle>,
    worker: UnboundedSender<(Instant, PartitionHandle)>,
}

impl Pauses {
    fn start(consumer: &Consumer) -> Self {
        let handles = consumer.partition_handles().into_iter();
        let (worker, mut paused) = unbounded_channel::<(Instant, PartitionHandle)>();
        tokio::spawn(async move {
            while let Some((until, handle)) = paused.recv().await {
                tokio::time::sleep_until(until.into()).await;
                handle.resume();
            }
        });
        Self { handles: handles.map(|handle| (handle.partition(), handle)).collect(), worker }
    }

    fn pause(&self, partition: i32) {
        if let Some(handle) = self.handles.get(&partition) {
            handle.pause();
            let _ = self.worker.send((Instant::now() + PAUSED_FOR, handle.clone()));
        }
    }
}

/// Takes one partition from the consumer, which keeps the remaining ones.
fn take(consumer: &Consumer, partition: i32) -> Vec<PartitionConsumer> {
    let is_wanted = |taken: &PartitionConsumer| taken.partition() == partition;
    consumer.partitions().into_iter().filter(is_wanted).collect()
}

/// Works on each batch for a millisecond.
async fn read_slowly(mut taken: Vec<PartitionConsumer>) {
    let Some(partition) = taken.first_mut() else { return };
    let mut reader = Reader { retain: u64::MAX, ..Reader::default() };
    while let Ok(Some(batch)) = partition.next().await {
        reader.read(&batch);
        drop(batch);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    black_box(reader.sum);
}

async fn partitions(client: &Client, topic: &str) -> Result<Vec<(String, i32)>, Failure> {
    let (_, described) = client.admin().describe_topics([topic]).await?.remove(0);
    Ok(described?.partitions.iter().map(|partition| (topic.to_owned(), partition.index)).collect())
}

/// The least that an application does with a batch.
#[derive(Default)]
struct Reader {
    records: u64,
    bytes: u64,
    sum: u64,
    /// One record in N is kept.
    retain: u64,
    retained: Vec<OwnedRecord>,
}

impl Reader {
    fn read(&mut self, batch: &Batch) {
        for record in batch {
            let value = record.value().unwrap_or_default();
            self.bytes += value.len() as u64;
            self.sum += touch(value);
            self.records += 1;
            if self.records.is_multiple_of(self.retain) {
                self.retained.push(record.to_owned());
            }
        }
    }
}
