//! What the budget counts for reading is what is allocated, whatever the batches are like.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

use std::time::Duration;

use milena::{Batch, Client, Compression, Consumer, ConsumerSettings, Record};
use milena_broker::{Broker, Cluster};
use tokio::runtime::{Builder, Runtime};

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is allocated and not counted: the client, its connections with their buffers, the topic's metadata, the sessions, and
/// what a codec takes. And the other way round, the answers that are expected and do not come.
const FIXED_BYTES: usize = 768 << 10;

/// The broker has threads of its own, so that only the client allocates on the thread of the test.
fn start(partitions: i32) -> (Runtime, Cluster) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
    let cluster = runtime.block_on(async { Broker::builder().start().await.expect("started") });
    cluster.create_topic("t", partitions).expect("created");
    (runtime, cluster)
}

/// Writes this many records into each partition, in batches of about `batch_bytes` before they are compressed.
fn fill(
    at: &(Runtime, Cluster),
    partitions: i32,
    each: usize,
    value: &[u8],
    batch_bytes: usize,
    codec: Compression,
) {
    let (runtime, cluster) = at;
    runtime.block_on(async {
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        let builder = client.producer().compression(codec).batch_bytes_max(batch_bytes);
        let producer = builder.build().await.expect("built");
        for partition in (0..each).flat_map(|_| 0..partitions) {
            producer.post(Record::to("t").partition(partition).value(value)).await.expect("taken");
        }
        producer.flush().await.expect("written");
    });
}

/// What the application does with batches.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Nothing,
    /// It holds this many.
    AndHolds(usize),
    /// It holds batches of this many bytes, decompressed.
    AndHoldsBytes(usize),
}

/// Reads until the memory is full, or until the application has what it takes, and compares what is counted with what is
/// allocated.
fn check(
    what: &str,
    cluster: &Cluster,
    memory_bytes_max: usize,
    takes: Takes,
    change: impl FnOnce(&mut ConsumerSettings),
) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("built");
    let mut kept = None;
    let allocated = allocation_counter::measure(|| {
        kept = Some(runtime.block_on(async {
            let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(memory_bytes_max);
            let client = builder.connect().await.expect("connected");
            let mut consumer =
                client.consumer_direct().topic("t").settings(change).build().await.expect("built");
            let mut held = Vec::new();
            let wants = |held: &[Batch], consumer: &Consumer| match takes {
                Takes::Nothing => false,
                Takes::AndHolds(count) => held.len() < count,
                Takes::AndHoldsBytes(bytes) => {
                    consumer.memory().topics.iter().map(|topic| topic.in_use_bytes).sum::<usize>() < bytes
                }
            };
            while wants(&held, &consumer) {
                held.push(next(&mut consumer).await);
            }
            settle(&consumer).await;
            (client, consumer, held)
        }));
    });
    let (client, consumer, held) = kept.expect("run");
    let memory = consumer.memory();
    let idle = client.pool_stats().bytes_idle + client.decompressed_pool_stats().bytes_idle;
    let allocated = usize::try_from(allocated.bytes_current).expect("more than before") - idle;
    // Where a program keeps its batches is up to it. They may be counted or not.
    let kept = held.capacity() * size_of::<Batch>();
    let counted = memory.budget_bytes_used;
    println!(
        "{what}: {counted} bytes are counted, {allocated} are allocated ({kept} for the values), {idle} are idle"
    );
    let is_within = |one: usize, other: usize| one <= other + other / 10 + FIXED_BYTES;
    assert!(
        is_within(counted, allocated) && is_within(allocated - kept, counted),
        "{what}: {counted} bytes are counted, and {allocated} are allocated: {memory:?}"
    );
    // Otherwise the test shows nothing.
    assert!(counted > 4 * FIXED_BYTES, "{what}: {memory:?}");
    // The runtime's tasks own a part of it.
    drop((held, consumer, client));
}

async fn next(consumer: &mut Consumer) -> Batch {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("something is assigned")
}

/// Waits until nothing has arrived for a while.
async fn settle(consumer: &Consumer) {
    let (mut last, mut same) = (None, 0);
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let memory = consumer.memory();
        same = if last.as_ref() == Some(&memory.budget_bytes_used) { same + 1 } else { 0 };
        last = Some(memory.budget_bytes_used);
    }
}

#[test]
fn small_batches_take_what_is_counted() {
    // 70 bytes each, and more than that for its place in the queue.
    let at = start(64);
    fill(&at, 64, 400, b"x", 1, Compression::None);
    check("batches of one byte", &at.1, 8 << 20, Takes::Nothing, |_| ());
    // Frames of 64 KiB.
    check("batches of one byte, in small fetches", &at.1, 8 << 20, Takes::Nothing, |settings| {
        settings.fetch_bytes_max = 48 << 10;
    });
    check("held batches of one byte", &at.1, 8 << 20, Takes::AndHolds(15_000), |_| ());
}

#[test]
fn batches_of_the_usual_size_take_what_is_counted() {
    let at = start(6);
    fill(&at, 6, 3000, &[7; 1000], 16 << 10, Compression::None);
    check("batches of 16 KiB", &at.1, 16 << 20, Takes::Nothing, |_| ());
    check("held batches of 16 KiB", &at.1, 16 << 20, Takes::AndHolds(600), |_| ());
}

#[test]
fn batches_above_every_limit_take_what_is_counted() {
    let at = start(3);
    fill(&at, 3, 6, &[7; 900_000], 1, Compression::None);
    let change = |settings: &mut ConsumerSettings| {
        (settings.fetch_bytes_max, settings.fetch_partition_bytes_max) = (64 << 10, 64 << 10);
    };
    check("batches of 900 kB, of which 64 KiB are asked for", &at.1, 8 << 20, Takes::AndHolds(8), change);
}

#[test]
fn compressed_batches_take_what_is_counted_however_they_expand() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let at = start(3);
        // Of the same byte, so that it becomes hundreds of times as large. Batches of up to a megabyte come of that, and smaller
        // ones on a busy machine.
        fill(&at, 3, 6000, &[7; 1000], 300_000, codec);
        check(&format!("held batches of {codec}"), &at.1, 8 << 20, Takes::AndHoldsBytes(4 << 20), |_| ());
    }
}
