//! Produces as fast as possible, or one record at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::{Client, Delivery, Error, Producer, Record, TransactionalProducer};
use serde_json::{Value, json};

use super::{acks, connect, linger};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};
use crate::payload::Lines;

/// Sends records with `post`, whose failures `flush` counts; or with `enqueue`, looking at every delivery; or in transactions.
pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let (values, keys) = (options.values()?, options.keys()?);
    let client = connect(options).await?;
    let (failed, seconds, allocations);
    if let Some(each) = options.transaction_records {
        let mut producer = transactional(&client, options).await?;
        let (start, counting) = (Instant::now(), Allocations::start());
        transact_all(&mut producer, options, each, &values, keys.as_ref()).await?;
        (failed, seconds, allocations) = (0, start.elapsed().as_secs_f64(), counting.count());
    } else {
        let producer = producer(&client, options).await?;
        let (start, counting) = (Instant::now(), Allocations::start());
        failed = if options.deliveries {
            enqueue_all(&producer, options, &values, keys.as_ref()).await?
        } else {
            post_all(&producer, options, &values, keys.as_ref()).await?
        };
        (seconds, allocations) = (start.elapsed().as_secs_f64(), counting.count());
    }
    Ok(Outcome {
        records: options.records,
        failed,
        seconds,
        allocations: Some(allocations),
        bytes: values.cycle().take(options.records as usize).map(|value| value.len() as u64).sum(),
        settings: settings(options),
        ..Default::default()
    })
}

pub(super) async fn producer(client: &Client, options: &Options) -> Result<Producer, Error> {
    let builder = client.producer().acks(acks(options)).idempotence(options.idempotent);
    let builder = builder.linger(linger(options)).batch_bytes_max(options.batch_bytes);
    let builder = builder.compression(options.codec);
    builder
        .settings(|settings| {
            settings.in_flight_max = options.in_flight.unwrap_or(settings.in_flight_max);
            settings.compression_level = options.level;
            settings.memory_bytes_max = options.memory_bytes;
        })
        .build()
        .await
}

/// A producer of the same settings that writes in transactions. All clients have the same id: the last one's transactions are
/// over when the next one begins.
pub(super) async fn transactional(
    client: &Client,
    options: &Options,
) -> Result<TransactionalProducer, Error> {
    let builder = client.transactional("bench").linger(linger(options));
    builder.batch_bytes_max(options.batch_bytes).compression(options.codec).build().await
}

pub(super) fn settings(options: &Options) -> Value {
    json!({
        "acks": format!("{:?}", acks(options)),
        "idempotence": options.idempotent,
        "linger_ms": options.linger_ms,
        "batch_bytes_max": options.batch_bytes,
        "compression": options.codec.name(),
        "transaction_records": options.transaction_records,
        "flush_records": options.flush_records,
        "in_flight_max": options.in_flight,
        "level": options.level,
        "memory_bytes_max": options.memory_bytes,
        "call": if options.deliveries { "enqueue" } else { "post" },
        "threads": options.threads,
    })
}

fn record<'a>(topic: &'a str, key: Option<&'a [u8]>, value: &'a [u8]) -> Record<'a> {
    Record::to(topic).key_or_null(key).value(value)
}

async fn post_all(
    producer: &Producer,
    options: &Options,
    values: &Lines,
    keys: Option<&Lines>,
) -> Result<u64, Failure> {
    let mut keys = keys.map(|keys| keys.cycle());
    let flush_records = options.flush_records.unwrap_or(u64::MAX);
    for (value, number) in values.cycle().take(options.records as usize).zip(1_u64..) {
        let key = keys.as_mut().and_then(Iterator::next).map(|key| &key[..]);
        producer.post(record(&options.topic, key, value)).await?;
        if number % flush_records == 0 {
            producer.flush().await?;
        }
    }
    match producer.flush().await {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("{error}");
            Ok(failed_in(&error.to_string()).unwrap_or(options.records))
        }
    }
}

/// Sends records in transactions of `each` records.
async fn transact_all(
    producer: &mut TransactionalProducer,
    options: &Options,
    each: u64,
    values: &Lines,
    keys: Option<&Lines>,
) -> Result<(), Failure> {
    let mut keys = keys.map(|keys| keys.cycle());
    let mut values = values.cycle().take(options.records as usize).peekable();
    while values.peek().is_some() {
        let transaction = producer.begin().await?;
        for value in values.by_ref().take(each as usize) {
            let key = keys.as_mut().and_then(Iterator::next).map(|key| &key[..]);
            transaction.post(record(&options.topic, key, value)).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// The number of records that were not written, from the flush's error.
fn failed_in(error: &str) -> Option<u64> {
    let (count, _) = error.split_once(" posted records were not written")?;
    count.rsplit(' ').next()?.parse().ok()
}

/// The most deliveries that are kept, about those of a few batches; then the oldest ones are awaited.
const DELIVERIES_KEPT: usize = 1 << 16;

async fn enqueue_all(
    producer: &Producer,
    options: &Options,
    values: &Lines,
    keys: Option<&Lines>,
) -> Result<u64, Failure> {
    let mut keys = keys.map(|keys| keys.cycle());
    let mut deliveries = std::collections::VecDeque::with_capacity(DELIVERIES_KEPT);
    let mut failed = 0;
    for value in values.cycle().take(options.records as usize) {
        let key = keys.as_mut().and_then(Iterator::next).map(|key| &key[..]);
        if deliveries.len() == DELIVERIES_KEPT
            && let Some(oldest) = deliveries.pop_front()
        {
            failed += is_failed(oldest).await;
        }
        deliveries.push_back(producer.enqueue(record(&options.topic, key, value)).await?);
    }
    producer.flush().await?;
    for delivery in deliveries {
        failed += is_failed(delivery).await;
    }
    Ok(failed)
}

async fn is_failed(delivery: Delivery) -> u64 {
    u64::from(delivery.await.is_err())
}

/// Tasks that each send a record, wait until it is written, and send the next. All settings are the defaults.
pub(super) async fn send(options: &Options) -> Result<Outcome, Failure> {
    let values = Arc::new(options.values()?);
    let producer = connect(options).await?.producer().build().await?;
    // Make the connections and get the producer id before measuring.
    producer.send(record(&options.topic, None, values.line(0))).await?;
    let allocations = Allocations::start();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let tasks: Vec<_> = (0..options.tasks)
        .map(|task| {
            let (producer, values, topic) = (producer.clone(), Arc::clone(&values), options.topic.clone());
            tokio::spawn(async move { send_until(end, task as u64, &producer, &topic, &values).await })
        })
        .collect();
    let mut sum = (Histogram::new(), 0, 0);
    for task in tasks {
        let (histogram, failed, bytes) = task.await.map_err(|error| error.to_string())?;
        sum.0.merge(&histogram);
        sum.1 += failed;
        sum.2 += bytes;
    }
    let seconds = start.elapsed().as_secs_f64();
    let allocations = Some(allocations.count());
    let (latency, failed, bytes) = sum;
    let settings = json!({ "tasks": options.tasks, "threads": options.threads });
    Ok(Outcome {
        records: latency.count() + failed,
        failed,
        bytes,
        seconds,
        allocations,
        latency: Some(latency),
        settings,
        ..Default::default()
    })
}

async fn send_until(
    end: Instant,
    mut next: u64,
    producer: &Producer,
    topic: &str,
    values: &Lines,
) -> (Histogram, u64, u64) {
    let (mut histogram, mut failed, mut bytes) = (Histogram::new(), 0, 0);
    loop {
        let start = Instant::now();
        if start >= end {
            return (histogram, failed, bytes);
        }
        let value = values.line(next);
        match producer.send(record(topic, None, value)).await {
            Ok(_) => histogram.add(start.elapsed().as_nanos() as u64),
            Err(_) => failed += 1,
        }
        bytes += value.len() as u64;
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_producers_own_count_of_failures_is_taken() {
        let said = "flushing: 12 posted records were not written, the first in writing to topic \"t\"";
        assert_eq!(super::failed_in(said), Some(12));
        assert_eq!(super::failed_in("flushing: the client is closed"), None);
    }
}
