//! When the oldest dead letter was written that is still in the topic.
//!
//! Letters that were dealt with are deleted (`milena dlq purge`), or the topic's retention removes them. So the oldest one is the
//! first of a partition, and is read again only when another record is first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena::{Client, Error, Isolation, OffsetAt, Position, Reset};

use crate::control::Control;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(30);
/// A partition whose log is not empty may have no letter, only what transactions leave.
const READ: Duration = Duration::from_secs(5);

/// The first letter of a partition: its offset, or where one was looked for, and its timestamp.
type First = (i64, Option<i64>);

/// Looks until it is dropped. What cannot be found out stays as it was.
pub(crate) async fn watch(client: Client, topic: String, partition_count: i32, control: Arc<Control>) {
    let mut first = BTreeMap::new();
    let mut has_failed = false;
    loop {
        match look(&client, &topic, partition_count, &mut first).await {
            Ok(()) => {
                has_failed = false;
                control.set_oldest_dead_letter(first.values().filter_map(|(_, timestamp)| *timestamp).min());
            }
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!(target: "milena", "the oldest dead letter of topic {topic:?} cannot be looked for: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(
    client: &Client,
    topic: &str,
    partition_count: i32,
    first: &mut BTreeMap<i32, First>,
) -> Result<(), Error> {
    let partitions: Vec<(&str, i32)> = (0..partition_count).map(|partition| (topic, partition)).collect();
    let admin = client.admin().isolation(Isolation::ReadCommitted);
    let begins = admin.list_offsets(partitions.iter().copied(), OffsetAt::Earliest).await?;
    let ends = admin.list_offsets(partitions, OffsetAt::Latest).await?;
    for (((_, partition), begin), (_, end)) in begins.into_iter().zip(ends) {
        let (Some(begin), Some(end)) = (begin?, end?) else { continue };
        if begin >= end {
            first.remove(&partition);
        } else if first
            .get(&partition)
            .is_none_or(|(offset, timestamp)| *offset < begin || timestamp.is_none())
        {
            first.insert(partition, read(client, topic, partition, begin).await?);
        }
    }
    Ok(())
}

/// The first letter from this offset on.
async fn read(client: &Client, topic: &str, partition: i32, from: i64) -> Result<First, Error> {
    let consumer = client.consumer_direct().assign([(topic, partition)], Position::Offset(from));
    let consumer = consumer.isolation(Isolation::ReadCommitted).reset(Reset::Earliest).until_end();
    let mut consumer = consumer.build().await?;
    let next = tokio::time::timeout(READ, consumer.next()).await;
    let batch = next.unwrap_or(Ok(None))?;
    let record = batch.as_ref().and_then(|batch| batch.iter().next());
    Ok(record.map_or((from, None), |record| (record.offset(), record.timestamp_ms())))
}
