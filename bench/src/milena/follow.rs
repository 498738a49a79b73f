//! Reads what another process writes meanwhile, and measures the time from when a record was to be sent to its delivery.
//!
//! What is disturbed is the idle topic: its leader moves, or a group gives it to another member. Only the other topic's
//! records are measured.

use std::time::Instant;

use serde_json::json;

use super::paced::{nanoseconds_since_1970, stamp};
use super::{connect, consume};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    let mut consumer = consume::consumer(&client, options).await?;
    let (mut latency, mut bytes) = (Histogram::new(), 0);
    let allocations = Allocations::start();
    let mut began: Option<(Instant, i64)> = None;
    let mut seconds = 0.0;
    while seconds < options.seconds {
        let Some(batch) = consumer.next().await? else { break };
        let now = nanoseconds_since_1970();
        // What was written before everything was set up does not count.
        let (start, first) = *began.get_or_insert_with(|| (Instant::now(), now));
        seconds = start.elapsed().as_secs_f64();
        for record in batch.iter().filter(|record| record.topic() == options.topic) {
            let value = record.value().unwrap_or_default();
            bytes += value.len() as u64;
            if let Some(sent) = stamp(value).filter(|sent| *sent >= first) {
                latency.add(now.saturating_sub(sent) as u64);
            }
        }
        consumer.done(&batch);
    }
    let allocations = Some(allocations.count());
    consumer.close().await?;
    let settings = json!({ "group": options.group });
    let records = latency.count();
    Ok(Outcome {
        records,
        bytes,
        seconds,
        allocations,
        latency: Some(latency),
        settings,
        ..Default::default()
    })
}
