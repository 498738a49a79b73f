//! One partition with records without end beside thousands with a few, and readers beside other tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use tokio::task::{JoinSet, yield_now};

use super::*;

/// Partition 0 is the hot one.
const PARTITIONS: i32 = 10_000;
/// What partition 0 has: as much as hundreds of fetches bring.
const HOT_BATCHES: usize = 1_000;
const HOT_BYTES: usize = 20_000;
const RECORDS: usize = 2;

/// A client whose fetches bring much less than partition 0 has, and the topic.
async fn start_hot() -> (Cluster, Client) {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", PARTITIONS).expect("created");
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().batch_bytes_max(HOT_BYTES).build().await.expect("built");
    let value = vec![7; HOT_BYTES];
    for _ in 0..HOT_BATCHES {
        producer.post(Record::to("t").partition(0).value(&value)).await.expect("taken");
    }
    for partition in (0..RECORDS).flat_map(|_| 1..PARTITIONS) {
        producer.post(Record::to("t").partition(partition).value("v")).await.expect("taken");
    }
    producer.flush().await.expect("written");
    (cluster, client)
}

async fn reader(client: &Client) -> Consumer {
    let partitions = (0..PARTITIONS).map(|partition| ("t", partition));
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    let limits = |settings: &mut milena::ConsumerSettings| {
        settings.fetch_bytes_max = 100_000;
        settings.fetch_partition_bytes_max = 50_000;
    };
    builder.settings(limits).build().await.expect("built")
}

#[tokio::test]
async fn a_hot_partition_starves_no_other_partition_of_its_reader() {
    let (_cluster, client) = start_hot().await;
    let mut consumer = reader(&client).await;
    let (mut hot, mut others, mut seen) = (0, 0, BTreeSet::new());
    while others < RECORDS * (PARTITIONS - 1) as usize {
        let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
        let batch = batch.expect("assigned");
        match batch.partition() {
            0 => hot += batch.iter().count(),
            _ => {
                others += batch
                    .iter()
                    .inspect(|record| assert!(seen.insert((record.partition(), record.offset()))))
                    .count();
            }
        }
    }
    assert!(hot < HOT_BATCHES, "the others waited until all of partition 0 was read");
    // Nor do they starve it.
    assert_eq!(read(&mut consumer, 20).await.into_keys().collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn a_hot_partition_starves_no_reader_of_another_partition() {
    let (_cluster, client) = start_hot().await;
    let consumer = reader(&client).await;
    let (mut readers, mut hot) = (JoinSet::new(), None);
    for mut partition in consumer.partitions() {
        if partition.partition() == 0 {
            hot = Some(partition);
            continue;
        }
        readers.spawn(async move {
            let mut seen = 0;
            while seen < RECORDS {
                seen += partition.next().await.expect("read").expect("assigned").iter().count();
            }
        });
    }
    let mut hot = hot.expect("partition 0");
    let (mut read, mut has_more) = (0, true);
    while !readers.is_empty() {
        tokio::select! {
            done = timeout(PATIENCE, readers.join_next()) => done.expect("in time").expect("some").expect("no panic"),
            batch = hot.next(), if has_more => {
                read += batch.expect("read").expect("assigned").iter().count();
                has_more = read < HOT_BATCHES;
            }
        }
    }
    assert!(read < HOT_BATCHES, "the others waited until all of partition 0 was read");
}

/// On a runtime with one thread, heartbeats and fetches wait for the application's task.
#[tokio::test]
async fn a_reader_that_always_has_batches_gives_way_to_other_tasks() {
    const BATCHES: usize = 20;
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    flow::fill(&client, 2, 2 * BATCHES, b"v").await;
    let mut consumer = consumer(&client, "t", 2).await;
    let mut alone = consumer.partitions().remove(1);
    let all_are_here = async || {
        while consumer.flow().buffered_records < 4 * BATCHES {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all_are_here()).await.expect("fetched in time");

    let turns = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
    });
    let work = || std::thread::sleep(Duration::from_millis(1));
    for way in ["next", "stream", "next of a partition", "stream of a partition"] {
        let before = turns.load(Ordering::Relaxed);
        for _ in 0..BATCHES {
            let batch = match way {
                "next" => consumer.next().await,
                "stream" => StreamExt::next(&mut consumer).await.transpose(),
                "next of a partition" => alone.next().await,
                _ => StreamExt::next(&mut alone).await.transpose(),
            };
            assert_eq!(batch.expect("read").expect("assigned").iter().count(), 1);
            work();
        }
        let turns = turns.load(Ordering::Relaxed) - before;
        assert!(
            turns + 1 >= BATCHES,
            "{way}: another task ran {turns} times while {BATCHES} batches were read"
        );
    }
    other.abort();
}
