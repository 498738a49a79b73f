//! Measures the memory of an application that has stopped reading: it reads for a moment, and then takes nothing more for N
//! seconds while the process's resident memory is sampled.

use std::fs;
use std::time::{Duration, Instant};

use milena::{Batch, Client, Consumer, PartitionHandle, SharedRecord};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{connect, consume};
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};

/// How long the application reads before it stops.
const READS_FOR: Duration = Duration::from_secs(3);
/// How many records a member reads.
const READ_BY_MEMBER: u64 = 10_000;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// How many records are kept of an application that keeps some, each of another batch.
const KEPT: usize = 100;
/// A member that stops reading for longer than this leaves its group, and would hold nothing any more.
const NEVER: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let allocations = Allocations::start();
    let client = connect(options).await?;
    let mut consumer = consumer(&client, options).await?;
    let (memory_before, live_before) = (rss()?, allocations.live_bytes());
    let mut records = 0;
    // With readers of their own, each has taken a batch and dropped it, and then neither reads on nor goes away.
    let mut stopped = JoinSet::new();
    let mut kept: Vec<SharedRecord> = Vec::new();
    match &*options.reading {
        "own" => {
            for mut reader in consumer.partitions() {
                stopped.spawn(async move {
                    let batch = reader.next().await;
                    drop(batch);
                    sleep(Duration::MAX).await;
                    drop(reader);
                });
            }
            sleep(READS_FOR).await;
        }
        "turns" => records += read(&mut consumer, READS_FOR, |_| ()).await?,
        // A broker in memory has not so many that there would be some left after seconds.
        "member" => {
            while records < READ_BY_MEMBER {
                let batch = timeout(READS_FOR, consumer.next())
                    .await
                    .map_err(|_| "a member got nothing to read".to_owned())?;
                records += batch?.map_or(0, |batch| batch.iter().count() as u64);
            }
            sleep(READS_FOR).await;
        }
        // Of nine partitions in ten, what was fetched stays while the remaining ones are read.
        "paused" => {
            records += read(&mut consumer, READS_FOR / 2, |_| ()).await?;
            let handles = consumer.partition_handles();
            PartitionHandle::pause_each(handles.iter().filter(|handle| handle.partition() % 10 > 0));
            records += read(&mut consumer, READS_FOR / 2, |_| ()).await?;
        }
        "keeping" => {
            let keep = |batch: Batch| {
                if kept.len() < KEPT {
                    kept.extend(batch.share().records().next());
                }
            };
            records += read(&mut consumer, READS_FOR, keep).await?;
        }
        other => {
            return Err(Failure::Usage(format!("--reading {other}: turns, own, member, paused or keeping")));
        }
    }
    let start = Instant::now();
    let mut rss_max = 0;
    while start.elapsed().as_secs_f64() < options.seconds {
        sleep(SAMPLE_INTERVAL).await;
        rss_max = rss_max.max(rss()?);
    }
    let memory = consumer.memory();
    let (mut buffered, mut pinned) = (0, 0);
    for topic in &memory.topics {
        buffered += topic.buffered_bytes;
        pinned += topic.pinned_bytes;
    }
    let settings = json!({
        "reading": options.reading,
        "budget_bytes": memory.budget_bytes_max,
        "budget_bytes_used": memory.budget_bytes_used,
        "buffered_bytes": buffered,
        "pinned_bytes": pinned,
        "kept": kept.len(),
        "live_bytes": allocations.live_bytes(),
        "live_bytes_assigned": live_before,
        "rss_bytes_assigned": memory_before,
        "rss_bytes_max": rss_max,
        "pool": format!("{:?}", client.pool_stats()),
        "decompressed_pool": format!("{:?}", client.decompressed_pool_stats()),
    });
    Ok(Outcome { records, seconds: start.elapsed().as_secs_f64(), settings, ..Default::default() })
}

async fn consumer(client: &Client, options: &Options) -> Result<Consumer, Failure> {
    if options.reading != "member" {
        return consume::consumer(client, options).await;
    }
    let group = client.consumer("stopped").subscribe([&*options.topic]).max_poll_interval(NEVER);
    Ok(group.build().await?)
}

/// Reads for this long, and gives each batch to `take`. Returns the number of records.
async fn read(consumer: &mut Consumer, time: Duration, mut take: impl FnMut(Batch)) -> Result<u64, Failure> {
    let (until, mut records) = (Instant::now() + time, 0);
    // A call that is ready at once is not ended by a timeout, and an application that decompresses always has the next batch.
    while Instant::now() < until {
        let Ok(batch) = timeout(until - Instant::now(), consumer.next()).await else { break };
        if let Some(batch) = batch? {
            records += batch.iter().count() as u64;
            take(batch);
        }
    }
    Ok(records)
}

/// The resident memory of this process, in bytes.
fn rss() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| "/proc/self/status has no VmRSS".to_owned())? << 10)
}
