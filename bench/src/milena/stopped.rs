//! Measures the memory of an application that has stopped reading: it reads every partition for a moment, and then takes
//! nothing more for N seconds while the process's resident memory is sampled.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{connect, consume};
use crate::options::{Failure, Options};
use crate::outcome::Outcome;

/// How long the application reads before it stops.
const READS_FOR: Duration = Duration::from_secs(3);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    let mut consumer = consume::consumer(&client, options).await?;
    let memory_before = rss()?;
    let mut records = 0;
    // With readers of their own, each has taken a batch and dropped it, and then neither reads on nor goes away.
    let mut stopped = JoinSet::new();
    if options.own_readers {
        for mut reader in consumer.partitions() {
            stopped.spawn(async move {
                let batch = reader.next().await;
                drop(batch);
                sleep(Duration::MAX).await;
                drop(reader);
            });
        }
        sleep(READS_FOR).await;
    } else {
        let until = Instant::now() + READS_FOR;
        while let Ok(batch) = timeout(until - Instant::now(), consumer.next()).await {
            records += batch?.map_or(0, |batch| batch.iter().count() as u64);
        }
    }
    let start = Instant::now();
    let mut rss_max = 0;
    while start.elapsed().as_secs_f64() < options.seconds {
        sleep(SAMPLE_INTERVAL).await;
        rss_max = rss_max.max(rss()?);
    }
    let memory = consumer.memory();
    let buffered: usize = memory.topics.iter().map(|topic| topic.buffered_bytes).sum();
    let settings = json!({
        "own_readers": options.own_readers,
        "budget_bytes": memory.budget_bytes_max,
        "budget_bytes_used": memory.budget_bytes_used,
        "buffered_bytes": buffered,
        "rss_bytes_assigned": memory_before,
        "rss_bytes_max": rss_max,
        "pool": format!("{:?}", client.pool_stats()),
    });
    Ok(Outcome { records, seconds: start.elapsed().as_secs_f64(), settings, ..Default::default() })
}

/// The resident memory of this process, in bytes.
fn rss() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| "/proc/self/status has no VmRSS".to_owned())? << 10)
}
