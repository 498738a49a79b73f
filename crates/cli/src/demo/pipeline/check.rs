//! Reads the topics of a run to their ends.

use std::collections::BTreeMap;

use milena::{Client, Isolation};

use super::places::{Places, Topic};
use super::work::index_of;
use super::{Committed, Names};
use crate::exit::Failure;

/// What the topics hold.
pub(super) struct Read {
    pub(super) places: Places,
    /// Records of the flights and the retry topics that the group has not committed.
    pub(super) waiting: u64,
}

/// Reads all topics. `crashed_at` is what was committed when a member crashed.
pub(super) async fn read(
    client: &Client,
    names: &Names,
    record_count: u32,
    crashed_at: Option<&Committed>,
) -> Result<Read, Failure> {
    let mut read = Read { places: Places::new(record_count), waiting: 0 };
    let committed = committed(client, &names.group).await?;
    let reach = |committed: &Committed, topic: &str, partition: i32| {
        committed.get(&(topic.to_owned(), partition)).copied().unwrap_or(0)
    };
    for topic in names.topics(client).await? {
        let place = names.place(&topic);
        let consumer = client.consumer_direct().topic(topic.as_str()).isolation(Isolation::ReadCommitted);
        let mut consumer = consumer.until_end().build().await?;
        while let Some(batch) = consumer.next().await? {
            for record in &batch {
                let (partition, offset) = (record.partition(), record.offset());
                let index = index_of(&record);
                if let Some(place) = place {
                    read.places.note(place, index);
                }
                if matches!(place, None | Some(Topic::Flights)) {
                    read.waiting += u64::from(offset >= reach(&committed, &topic, partition));
                    if crashed_at.is_some_and(|at| offset >= reach(at, &topic, partition)) {
                        read.places.may_run_again(index);
                    }
                }
            }
        }
    }
    Ok(read)
}

/// What the group has committed.
pub(super) async fn committed(client: &Client, group: &str) -> Result<Committed, Failure> {
    let mut committed = BTreeMap::new();
    for (_, offsets) in client.admin().list_group_offsets([group]).await {
        committed.extend(offsets?.into_iter().map(|(partition, at)| (partition, at.offset)));
    }
    Ok(committed)
}
