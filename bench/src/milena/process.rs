//! Reads a topic as the only member of a group and writes each value to another topic: at least once, or exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use milena::{Batch, Client, Consumer, Error, Isolation, Record};
use serde_json::json;

use super::{connect, produce};
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};

/// The time is from the first batch to the last commit.
pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let to = options.to.clone().ok_or_else(|| Failure::Usage("--to is needed".into()))?;
    let client = connect(options).await?;
    let consumer = member(&client, options).await?;
    let allocations = Allocations::start();
    let done = if options.exactly_once {
        exactly_once(&client, options, consumer, to.into()).await?
    } else {
        at_least_once(&client, options, consumer, &to).await?
    };
    Ok(Outcome {
        records: done.records,
        bytes: done.bytes,
        seconds: done.seconds,
        allocations: Some(allocations.count()),
        settings: json!({ "interval_ms": options.interval_ms, "exactly_once": options.exactly_once }),
        ..Default::default()
    })
}

/// What was processed and committed.
#[derive(Default)]
struct Processed {
    records: u64,
    bytes: u64,
    seconds: f64,
}

async fn member(client: &Client, options: &Options) -> Result<Consumer, Error> {
    let group = options.group.as_deref().unwrap_or("bench");
    let member = client.consumer(group).subscribe([&options.topic]).manual_commits();
    member.isolation(Isolation::ReadCommitted).build().await
}

/// Processes for an interval, waits until all of it is written, and commits.
async fn at_least_once(
    client: &Client,
    options: &Options,
    mut consumer: Consumer,
    to: &str,
) -> Result<Processed, Failure> {
    let producer = produce::producer(client, options).await?;
    let interval = Duration::from_millis(options.interval_ms);
    let mut done = Processed::default();
    let mut next = consumer.next().await?;
    let start = Instant::now();
    while done.records < options.records {
        let until = Instant::now() + interval;
        while let Some(batch) = next.take() {
            for record in &batch {
                let value = record.value().unwrap_or_default();
                producer.post(Record::to(to).value(value)).await?;
                done.bytes += value.len() as u64;
                done.records += 1;
            }
            consumer.done(&batch);
            drop(batch);
            if done.records < options.records
                && let Ok(read) = tokio::time::timeout_at(until.into(), consumer.next()).await
            {
                next = read?;
            }
        }
        producer.flush().await?;
        consumer.commit().await?;
        if done.records < options.records {
            next = consumer.next().await?;
        }
    }
    done.seconds = start.elapsed().as_secs_f64();
    Ok(done)
}

async fn exactly_once(
    client: &Client,
    options: &Options,
    consumer: Consumer,
    to: Arc<str>,
) -> Result<Processed, Failure> {
    let producer = produce::transactional(client, options).await?;
    let handle = consumer.handle();
    let (records, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, wanted, mut start) = ((Arc::clone(&records), Arc::clone(&bytes)), options.records, None);
    let interval = Duration::from_millis(options.interval_ms);
    milena::exactly_once(consumer, producer)
        .interval(interval)
        .run(|transaction, batch: &Batch| {
            start.get_or_insert_with(Instant::now);
            let (to, handle, (records, bytes)) = (Arc::clone(&to), handle.clone(), counted.clone());
            Box::pin(async move {
                let (mut sum, mut count) = (0, 0);
                for record in batch {
                    let value = record.value().unwrap_or_default();
                    transaction.post(Record::to(&to).value(value)).await?;
                    sum += value.len() as u64;
                    count += 1;
                }
                bytes.fetch_add(sum, Ordering::Relaxed);
                let before = records.fetch_add(count, Ordering::Relaxed);
                // The loop commits what it has when its consumer closes.
                if before < wanted && before + count >= wanted {
                    tokio::spawn(async move { handle.close().await });
                }
                Ok::<_, Error>(())
            })
        })
        .await?;
    let seconds = start.map_or(0.0, |start| start.elapsed().as_secs_f64());
    Ok(Processed { records: records.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed), seconds })
}
