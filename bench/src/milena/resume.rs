//! Measures the time from resuming a partition until all is delivered that was written to it while it was paused. The other
//! partitions have no records, so the broker holds their fetch back.

use std::time::{Duration, Instant};

use milena::{Consumer, Error, PartitionHandle, Producer, Record};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::{connect, consume};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::Outcome;

/// A fetch that includes the paused partition is answered within this time after a record is written. The next fetch leaves
/// the partition out.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    let consumer = consume::consumer(&client, options).await?;
    let handle = consumer.partition_handle(&options.topic, 0)?;
    let producer = client.producer().build().await?;
    let (arrivals, mut arrived) = unbounded_channel();
    let reading = tokio::spawn(read(consumer, options.topic.clone(), arrivals));
    let warm = write(&producer, options).await?;
    until(&mut arrived, warm).await?;
    let mut latency = Histogram::new();
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < options.seconds {
        latency.add(cycle(&producer, &handle, &mut arrived, options).await?.as_nanos() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    reading.abort();
    let (records, settings) = (latency.count(), json!({ "fetch_wait_ms": options.fetch_wait_ms }));
    Ok(Outcome { records, seconds, latency: Some(latency), settings, ..Default::default() })
}

/// Pauses, writes two records, and resumes. The first record comes with the fetch that is in flight; a client may keep it. The
/// second one does not.
async fn cycle(
    producer: &Producer,
    handle: &PartitionHandle,
    arrived: &mut UnboundedReceiver<(i64, Instant)>,
    options: &Options,
) -> Result<Duration, Failure> {
    handle.pause();
    write(producer, options).await?;
    sleep(SETTLE).await;
    let last = write(producer, options).await?;
    sleep(SETTLE).await;
    let resumed = Instant::now();
    handle.resume();
    Ok(until(arrived, last).await? - resumed)
}

async fn write(producer: &Producer, options: &Options) -> Result<i64, Failure> {
    let receipt = producer.send(Record::to(&options.topic).value("written while paused")).await?;
    Ok(receipt.offset().unwrap_or_default())
}

async fn read(
    mut consumer: Consumer,
    topic: String,
    arrivals: UnboundedSender<(i64, Instant)>,
) -> Result<(), Error> {
    while let Some(batch) = consumer.next().await? {
        if batch.topic() == topic {
            let _ = arrivals.send((batch.next_offset() - 1, Instant::now()));
        }
    }
    Ok(())
}

async fn until(arrived: &mut UnboundedReceiver<(i64, Instant)>, wanted: i64) -> Result<Instant, Failure> {
    while let Some((offset, at)) = arrived.recv().await {
        if offset >= wanted {
            return Ok(at);
        }
    }
    Err(Failure::Failed("the consumer ended".into()))
}
