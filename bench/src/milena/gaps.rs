//! Measures how long `next()` waits while there are records to read: reads a topic from its beginning to its end, and notes
//! the longest wait between the first batch and the last record.
//!
//! The application's work spins. If it slept, the runtime would be idle, and the client's tasks would run in that time.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{connect, consume};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome, touch};

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let allocations = Allocations::start();
    let start = Instant::now();
    let client = connect(options).await?;
    let mut consumer = consume::consumer(&client, options).await?;
    let (mut records, mut bytes, mut sum) = (0, 0, 0);
    let mut waits = Histogram::new();
    let mut longest = (Duration::ZERO, 0);
    while records < options.records {
        let asked = Instant::now();
        let Some(batch) = consumer.next().await? else { break };
        // The first batch waits for connections and positions.
        if records > 0 {
            let waited = asked.elapsed();
            waits.add(waited.as_nanos() as u64);
            longest = longest.max((waited, records));
        }
        let mut count = 0;
        for record in &batch {
            let value = record.value().unwrap_or_default();
            bytes += value.len() as u64;
            sum += touch(value);
            count += 1;
        }
        records += count;
        work(Duration::from_micros(options.work_us) * count as u32);
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(sum);
    let settings = json!({
        "fetch_wait_ms": options.fetch_wait_ms,
        "work_us": options.work_us,
        "threads": options.threads,
        "longest_wait_ms": longest.0.as_secs_f64() * 1e3,
        "longest_wait_after_records": longest.1,
        "pool": format!("{:?}", client.pool_stats()),
        "decompressed_pool": format!("{:?}", client.decompressed_pool_stats()),
    });
    let (latency, allocations) = (Some(waits), Some(allocations.count()));
    Ok(Outcome { records, bytes, seconds, allocations, latency, settings, ..Default::default() })
}

/// The application's work on a batch.
fn work(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        spin_loop();
    }
}
