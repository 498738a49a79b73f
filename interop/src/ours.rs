//! Milena's client with the operations of a partner: it produces letters and consumes assigned partitions.

use std::time::Duration;

use anyhow::{Context as _, bail};
use milena::{Client, Compression, Position, Record};
use tokio::time::timeout;

use crate::letter::{Letter, Received};
use crate::partner::Consumed;

/// The letter as a record of `topic`.
pub fn record<'a>(topic: &'a str, letter: &'a Letter) -> Record<'a> {
    let record = Record::to(topic)
        .partition(letter.partition)
        .timestamp_ms(letter.timestamp)
        .key_or_null(letter.key.as_deref())
        .value_or_null(letter.value.as_deref());
    let headers = letter.headers.iter();
    headers.fold(record, |record, (name, value)| record.header_or_null(name, value.as_deref()))
}

/// Produces `letters`, each to its own partition; all of them are in flight before the first answer is awaited. Returns the
/// offset of each.
///
/// # Errors
/// The client's, or nothing came within a minute.
pub fn produce(
    bootstrap: &str,
    topic: &str,
    codec: Compression,
    letters: &[Letter],
) -> anyhow::Result<Vec<(i32, i64)>> {
    block_on(async {
        let client = Client::connect(bootstrap).await?;
        let producer = client.producer().compression(codec).build().await?;
        let mut deliveries = Vec::new();
        for letter in letters {
            deliveries.push(producer.enqueue(record(topic, letter)).await?);
        }
        let mut placed = Vec::new();
        for delivery in deliveries {
            let receipt = delivery.await?;
            placed.push((receipt.partition(), receipt.offset().context("no offset in the receipt")?));
        }
        producer.close().await?;
        Ok(placed)
    })
}

/// Consumes `partitions` partitions from their beginnings until `count` records have come.
///
/// # Errors
/// The client's, or not as many came within a minute.
pub fn consume(bootstrap: &str, topic: &str, partitions: usize, count: usize) -> anyhow::Result<Consumed> {
    block_on(async {
        let client = Client::connect(bootstrap).await?;
        let mut ends = vec![0; partitions];
        let assigned = (0..i32::try_from(partitions)?).map(|partition| (topic, partition));
        let mut consumer = client.consumer_direct().assign(assigned, Position::Earliest).build().await?;
        let mut received = Vec::new();
        while received.len() < count {
            let Some(batch) = consumer.next().await? else { bail!("the consumer ended early") };
            for record in batch.try_iter() {
                let record = record?;
                let mut headers = Vec::new();
                for header in record.headers() {
                    let name = header.name().context("a header's name is not UTF-8")?;
                    headers.push((name.to_owned(), header.value.map(<[u8]>::to_vec)));
                }
                let letter = Letter {
                    partition: batch.partition(),
                    timestamp: record.timestamp_ms().unwrap_or(-1),
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.value().map(<[u8]>::to_vec),
                    headers,
                };
                received.push(Received { offset: record.offset(), letter });
            }
            ends[usize::try_from(batch.partition())?] = batch.high_watermark();
        }
        Ok(Consumed { received, ends })
    })
}

/// Runs a future to its end, for a minute at most.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { timeout(Duration::from_secs(60), work).await.context("not done in a minute")? })
}
