//! Processes a topic with many workers, or in a plain loop, as the only member of a group. Each record takes some time, of which
//! the application waits, or none.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena::{Client, GroupConsumerBuilder, RecordView};
use milena_pipeline::{Order, Pipeline, PipelineWatch, Record};
use serde_json::json;

use super::connect;
use super::paced::{nanoseconds_since_1970, stamp};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome, touch};

/// The time is from the first record to the last one. If values are stamped, the latency is measured from the times at which they
/// were to be sent until their records are processed.
pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    if options.is_stamped {
        return stamped(&client, options).await;
    }
    let allocations = Allocations::start();
    let (reading, work) = (options.reading.as_str(), Duration::from_micros(options.work_us));
    let time = match reading {
        "loop" => plain(&client, options).await?,
        "key" => process(&client, options, Order::Key, work).await?,
        "partition" => process(&client, options, Order::Partition, work).await?,
        "none" => process(&client, options, Order::None, work).await?,
        other => return Err(Failure::Usage(format!("--reading {other}: loop, key, partition or none"))),
    };
    Ok(Outcome {
        records: options.records,
        seconds: time.as_secs_f64(),
        allocations: Some(allocations.count()),
        settings: json!({
            "order": reading,
            "work_us": options.work_us,
            "concurrency": options.tasks,
            "threads": options.threads,
        }),
        ..Default::default()
    })
}

fn member(client: &Client, options: &Options) -> GroupConsumerBuilder {
    let group = options.group.as_deref().unwrap_or("bench");
    client.consumer(group).subscribe([&options.topic])
}

/// A loop that marks each batch as done, as the first example of the documentation has it.
async fn plain(client: &Client, options: &Options) -> Result<Duration, Failure> {
    let mut consumer = member(client, options).build().await?;
    let (mut records, mut sum) = (0, 0);
    let mut next = consumer.next().await?;
    let start = Instant::now();
    while let Some(batch) = next {
        for record in &batch {
            sum += look(&record);
            records += 1;
        }
        consumer.done(&batch);
        drop(batch);
        if records >= options.records {
            break;
        }
        next = consumer.next().await?;
    }
    let time = start.elapsed();
    black_box(sum);
    consumer.close().await?;
    Ok(time)
}

fn look(record: &RecordView<'_>) -> u64 {
    touch(record.value().unwrap_or_default()) + record.key().map_or(0, |key| key.len() as u64)
}

async fn process(
    client: &Client,
    options: &Options,
    order: Order,
    work: Duration,
) -> Result<Duration, Failure> {
    let pipeline = Pipeline::new(member(client, options)).order(order).concurrency(options.tasks);
    let watch = pipeline.watch();
    let mut time = Duration::ZERO;
    let all = async {
        reach(&watch, 1).await;
        let start = Instant::now();
        reach(&watch, options.records).await;
        time = start.elapsed();
    };
    let ended = if work.is_zero() {
        let handler = async |record: Record| {
            black_box(look(&record.view()));
        };
        pipeline.run(handler, all).await
    } else {
        let handler = move |record: Record| async move {
            black_box(look(&record.view()));
            tokio::time::sleep(work).await;
        };
        pipeline.run(handler, all).await
    };
    ended.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(time)
}

/// Another process sends the records at their times.
async fn stamped(client: &Client, options: &Options) -> Result<Outcome, Failure> {
    let order = if options.reading == "none" { Order::None } else { Order::Key };
    let work = Duration::from_micros(options.work_us);
    let pipeline = Pipeline::new(member(client, options)).order(order).concurrency(options.tasks);
    let (watch, latency) = (pipeline.watch(), Arc::new(Mutex::new(Histogram::new())));
    let handler = {
        let latency = Arc::clone(&latency);
        move |record: Record| {
            let latency = Arc::clone(&latency);
            async move {
                tokio::time::sleep(work).await;
                if let Some(sent) = stamp(record.value().unwrap_or_default()) {
                    let took = nanoseconds_since_1970().saturating_sub(sent).max(0) as u64;
                    latency.lock().expect("no other thread has panicked").add(took);
                }
            }
        }
    };
    let ended = pipeline.run(handler, reach(&watch, options.records)).await;
    ended.map_err(|error| Failure::Failed(error.to_string()))?;
    let latency = std::mem::replace(&mut *latency.lock().expect("as above"), Histogram::new());
    Ok(Outcome { records: options.records, seconds: 1.0, latency: Some(latency), ..Default::default() })
}

/// Waits until this many records are finished. The clock of the runtime ticks in milliseconds, and runs take seconds.
async fn reach(watch: &PipelineWatch, count: u64) {
    while watch.stats().finished < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
