//! Pausing and resuming: whoever reads, nothing is lost, fetched twice, or late.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use milena::{Address, Batch, Connect, Connecting, PartitionHandle, Resolving, Tcp, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinSet, yield_now};

use super::*;

/// Counts the bytes that come over all connections.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Metered {
    inner: Box<dyn Transport>,
    meter: Meter,
}

impl Connect for Meter {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, meter) = (Tcp::default().connect(address, at), self.clone());
        Box::pin(async move {
            let inner = connecting.await?;
            Ok(Box::new(Metered { inner, meter }) as Box<dyn Transport>)
        })
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.meter.0.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn next(consumer: &mut Consumer) -> Batch {
    let next = timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("something is assigned")
}

/// `count` batches of one record in each of these partitions of `t`.
pub(crate) async fn fill(client: &Client, partitions: i32, count: usize, value: &[u8]) {
    let producer = client.producer().batch_bytes_max(value.len()).build().await.expect("built");
    for partition in (0..count).flat_map(|_| 0..partitions) {
        producer.post(Record::to("t").partition(partition).value(value)).await.expect("taken");
    }
    producer.flush().await.expect("written");
}

#[tokio::test]
async fn a_paused_partition_is_returned_by_no_way_of_reading() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    let mut consumer = consumer(&client, "t", 2).await;
    // Partition 0 is given back, and read by the consumer.
    let mut alone = consumer.partitions().remove(1);
    consumer.assign([("t", 2)], Position::Earliest).await.expect("assigned");
    let handles = consumer.partition_handles();
    PartitionHandle::pause_each(&handles[..2]);
    assert!(handles[0].is_paused() && handles[1].is_paused() && !handles[2].is_paused());
    fill(&client, 3, 1, b"v").await;
    assert_eq!(next(&mut consumer).await.partition(), 2);
    // By now the other two partitions' batches are here, or come at any time.
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(20), consumer.next()).await.is_err());
        assert!(timeout(Duration::from_millis(20), StreamExt::next(&mut consumer)).await.is_err());
        assert!(consumer.try_next().expect("no error").is_none());
        assert!(timeout(Duration::from_millis(20), alone.next()).await.is_err());
        assert!(timeout(Duration::from_millis(20), StreamExt::next(&mut alone)).await.is_err());
        assert!(alone.try_next().expect("no error").is_none());
    }
    // They wait in every way of reading, and are woken.
    let resume = {
        let handle = consumer.handle();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            handle.resume("t", 0).expect("assigned");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(handle.partition_handle("t", 1).expect("assigned").resume());
        }
    };
    let (of_stream, of_next, ()) = tokio::join!(
        timeout(PATIENCE, StreamExt::next(&mut consumer)),
        timeout(PATIENCE, alone.next()),
        resume
    );
    let of_stream = of_stream.expect("in time").expect("assigned").expect("read");
    let of_next = of_next.expect("in time").expect("read").expect("assigned");
    assert_eq!((of_stream.partition(), of_next.partition()), (0, 1));
}

#[tokio::test]
async fn resuming_returns_what_is_here_before_anything_else_happens() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, 2, 20, &[7; 100]).await;
    let mut consumer = consumer(&client, "t", 2).await;
    let mut alone = consumer.partitions().remove(1);
    // What came with them in the same answer is here.
    assert_eq!(next(&mut consumer).await.first_offset(), 0);
    let first = timeout(PATIENCE, alone.next()).await.expect("in time").expect("read");
    assert_eq!(first.expect("assigned").first_offset(), 0);
    for offset in 1..20 {
        consumer.pause_all();
        assert!(consumer.try_next().expect("no error").is_none());
        assert!(alone.try_next().expect("no error").is_none());
        consumer.resume_all();
        // No other task has run since: this thread runs all of them.
        let batch = consumer.try_next().expect("no error").expect("it is here");
        assert_eq!((batch.partition(), batch.first_offset()), (0, offset));
        let batch = alone.try_next().expect("no error").expect("it is here");
        assert_eq!((batch.partition(), batch.first_offset()), (1, offset));
    }
}

#[tokio::test]
async fn a_resumed_partition_does_not_wait_out_the_fetch_of_the_others() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let partitions = (0..2).map(|partition| ("t", partition));
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    // Far longer than the test waits for anything.
    let mut consumer = builder.fetch_wait(PATIENCE * 10).build().await.expect("built");
    let handle = consumer.partition_handle("t", 1).expect("assigned");
    let producer = producer(&client).await;
    let write = async |value: &str| {
        producer.send(Record::to("t").partition(1).value(value)).await.expect("written");
    };
    for turn in 0..5 {
        handle.pause();
        // It arrives, and from then on the partition is left out: the broker holds a fetch of partition 0 alone.
        write("first").await;
        assert!(timeout(Duration::from_millis(50), consumer.next()).await.is_err());
        write("second").await;
        assert!(timeout(Duration::from_millis(50), consumer.next()).await.is_err());
        handle.resume();
        for offset in [2 * turn, 2 * turn + 1] {
            let batch = next(&mut consumer).await;
            assert_eq!((batch.partition(), batch.first_offset()), (1, offset));
        }
    }
}

#[tokio::test]
async fn a_thousand_flips_fetch_nothing_twice() {
    const COUNT: usize = 400;
    const VALUE: usize = 4000;
    let (cluster, filler) = start(1, &[("t", 3)]).await;
    fill(&filler, 3, COUNT, &[7; VALUE]).await;
    let meter = Meter::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(meter.clone());
    let client = builder.connect().await.expect("connected");
    let partitions = (0..3).map(|partition| ("t", partition));
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    // Many fetches, of a few batches each.
    let builder = builder.settings(|settings| settings.fetch_partition_bytes_max = 40_000);
    let before = meter.bytes();
    let mut consumer = builder.build().await.expect("built");
    let handles = consumer.partition_handles();
    let (mut flips, mut read) = (0, [0; 3]);
    while read != [COUNT as i64; 3] {
        let batch = next(&mut consumer).await;
        let place = batch.partition() as usize;
        assert_eq!(batch.first_offset(), read[place], "nothing is skipped or returned twice");
        read[place] = batch.next_offset();
        // As a program does whose worker is busy with a batch.
        handles[place].pause();
        for _ in 0..flips % 4 {
            yield_now().await;
        }
        if flips % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        handles[place].resume();
        flips += 1;
    }
    assert!(flips >= 1000, "{flips}");
    let came = meter.bytes() - before;
    let written = (3 * COUNT * VALUE) as u64;
    // Headers and answers around the records are the remainder. A single fetch more would be 40 kB.
    assert!((written..written + written / 20).contains(&came), "{came} bytes came for {written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn flips_from_many_tasks_lose_no_wake_up() {
    const COUNT: usize = 3000;
    let (_cluster, client) = start(1, &[("t", 4)]).await;
    let mut consumer = consumer(&client, "t", 4).await;
    let alone = {
        let mut taken = consumer.partitions();
        taken.retain(|partition| partition.partition() >= 2);
        taken
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let mut flippers = JoinSet::new();
    for task in 0..6 {
        let (handles, is_over) = (consumer.partition_handles(), Arc::clone(&is_over));
        let by_name = consumer.handle();
        flippers.spawn(async move {
            let mut turn = task;
            while !is_over.load(Ordering::Relaxed) {
                let handle = &handles[turn % handles.len()];
                if task == 0 {
                    by_name.pause("t", handle.partition()).expect("assigned");
                    by_name.resume("t", handle.partition()).expect("assigned");
                } else {
                    handle.pause();
                    if turn.is_multiple_of(3) {
                        yield_now().await;
                    }
                    handle.resume();
                }
                turn += 1;
                if turn.is_multiple_of(50) {
                    yield_now().await;
                }
            }
        });
    }
    let mut readers = JoinSet::new();
    // The consumer lives until the flippers have ended.
    let (done, is_done) = tokio::sync::oneshot::channel();
    readers.spawn(async move {
        let mut read = [0; 2];
        while read != [COUNT as i64; 2] {
            let batch = next(&mut consumer).await;
            let place = batch.partition() as usize;
            assert_eq!(batch.first_offset(), read[place]);
            read[place] = batch.next_offset();
        }
        let _ = done.send(consumer);
    });
    for mut alone in alone {
        readers.spawn(async move {
            let mut read = 0;
            while read != COUNT as i64 {
                let batch = timeout(PATIENCE, alone.next()).await.expect("in time");
                let batch = batch.expect("read").expect("assigned");
                assert_eq!(batch.first_offset(), read);
                read = batch.next_offset();
            }
        });
    }
    fill(&client, 4, COUNT, b"v").await;
    while let Some(reader) = readers.join_next().await {
        reader.expect("no panic");
    }
    is_over.store(true, Ordering::Relaxed);
    let _consumer = is_done.await.expect("it has read");
    while let Some(flipper) = flippers.join_next().await {
        flipper.expect("no panic");
    }
}

#[tokio::test]
async fn a_handle_is_of_its_partition_for_as_long_as_the_consumer_lives() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, 2, 1, b"v").await;
    let mut consumer = consumer(&client, "t", 2).await;
    let handle = consumer.partition_handle("t", 1).expect("assigned");
    let error = consumer.partition_handle("t", 2).expect_err("there is none");
    assert!(error.to_string().contains("partition 2 of topic \"t\""), "{error}");
    assert!(handle.pause() && handle.is_paused());
    // A partition that is assigned and sought stays paused.
    consumer.assign([("t", 1)], Position::Earliest).await.expect("assigned");
    consumer.seek("t", 1, Position::Earliest).expect("assigned");
    assert_eq!(next(&mut consumer).await.partition(), 0);
    assert!(timeout(Duration::from_millis(50), consumer.next()).await.is_err());

    consumer.unassign([("t", 1)]).expect("by position");
    assert!(!handle.is_assigned() && !handle.is_paused() && !handle.pause() && !handle.resume());
    assert!(consumer.pause("t", 1).is_err() && consumer.resume("t", 1).is_err());
    // One that is given up and assigned again does not.
    consumer.assign([("t", 1)], Position::Earliest).await.expect("assigned");
    assert!(handle.is_assigned() && !handle.is_paused());
    assert_eq!(next(&mut consumer).await.partition(), 1);
    assert!(handle.pause());
    drop(consumer);
    assert!(handle.resume(), "nothing is left to wake");
}

/// Waits until `is_so`, while the consumer's tasks run.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fetching_stops_at_a_number_of_records_and_says_so() {
    const COUNT: usize = 300;
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, 2, COUNT, &[7; 500]).await;
    let partitions = (0..2).map(|partition| ("t", partition));
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    let builder = builder.settings(|settings| {
        // Two batches of one record at a time, so that a fetch exceeds the limit by one record at most.
        settings.fetch_partition_bytes_max = 1200;
        settings.partition_buffer_records_max = Some(20);
        settings.partition_buffer_bytes_max = Some(1 << 20);
    });
    let mut consumer = builder.build().await.expect("built");
    until("both stop", || consumer.flow().partitions.now == 2).await;
    let flow = consumer.flow();
    assert!((40..=44).contains(&flow.buffered_records), "{flow:?}");
    assert!(flow.buffered_bytes > flow.buffered_records * 500, "{flow:?}");
    assert_eq!((flow.partitions.count, flow.all.count), (2, 0));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let later = consumer.flow();
    assert_eq!((later.buffered_records, later.partitions.count), (flow.buffered_records, 2), "nothing comes");
    assert!(later.partitions.time >= flow.partitions.time + Duration::from_millis(40), "{later:?}");
    // Everything comes all the same.
    assert_eq!(read(&mut consumer, 2 * COUNT).await.values().map(Vec::len).sum::<usize>(), 2 * COUNT);
    until("nothing is left", || consumer.flow().buffered_records == 0).await;
    let flow = consumer.flow();
    assert_eq!((flow.buffered_bytes, flow.partitions.now), (0, 0), "{flow:?}");
    assert!(flow.partitions.time >= later.partitions.time, "{flow:?} {later:?}");
}

#[tokio::test]
async fn fetching_stops_for_all_partitions_together_and_paused_ones_do_not_count() {
    const COUNT: usize = 200;
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    fill(&client, 3, COUNT, &[7; 500]).await;
    let partitions = (0..3).map(|partition| ("t", partition));
    let builder = client.consumer_direct().assign(partitions, Position::Earliest);
    let builder = builder.settings(|settings| {
        settings.fetch_partition_bytes_max = 6000;
        settings.buffer_records_max = Some(60);
    });
    let mut consumer = builder.build().await.expect("built");
    let first = consumer.partition_handle("t", 0).expect("assigned");
    until("all stop together", || consumer.flow().all.now == 1).await;
    let flow = consumer.flow();
    assert!((60..=120).contains(&flow.buffered_records) && flow.all.count == 1, "{flow:?}");
    // What partition 0 has is taken by no one, and the other two are read to their ends.
    first.pause();
    let mut left = 2 * COUNT;
    while left > 0 {
        let batch = next(&mut consumer).await;
        assert_ne!(batch.partition(), 0);
        left -= batch.iter().count();
    }
    first.resume();
    assert_eq!(read(&mut consumer, COUNT).await[&0].len(), COUNT);
}

/// Counts what the client logs.
struct Lines(Arc<AtomicU64>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && !metadata.target().starts_with("milena_broker")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_thousand_changes_of_what_is_assigned_log_nothing_and_disturb_no_fetch() {
    const CHANGES: usize = 1000;
    const VALUE: usize = 4000;
    let (cluster, client) = start(1, &[("t", 8)]).await;
    let producer = producer(&client).await;
    let meter = Meter::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(meter.clone());
    let reader = builder.connect().await.expect("connected");
    let mut consumer = consumer(&reader, "t", 2).await;
    let handle = consumer.handle();
    let mut next_offsets = [0; 2];
    let mut bytes_before = 0;
    let mut accepted = 0;
    let lines = Arc::new(AtomicU64::new(0));
    let guard = tracing::subscriber::set_default(Lines(Arc::clone(&lines)));
    for change in 0..CHANGES {
        let other = 2 + (change * 7 % 6) as i32;
        match change % 4 {
            0 => handle.assign([("t", other)], Position::Earliest).await.expect("there is one"),
            1 => handle.pause_all(),
            2 => handle.unassign([("t", 2 + ((change - 2) * 7 % 6) as i32)]).expect("by position"),
            _ => handle.resume_all(),
        }
        if change % 4 != 3 {
            continue;
        }
        // The two partitions that are kept go on.
        for partition in 0..2 {
            let record = Record::to("t").partition(partition).value(&[7; VALUE]);
            producer.send(record).await.expect("written");
        }
        for _ in 0..2 {
            let batch = next(&mut consumer).await;
            let place = batch.partition() as usize;
            assert_eq!(batch.first_offset(), next_offsets[place]);
            next_offsets[place] = batch.next_offset();
        }
        if change == 99 {
            // By now every connection is made.
            accepted = cluster.stats().accepted;
            bytes_before = meter.bytes();
        }
    }
    drop(guard);
    assert_eq!(next_offsets, [(CHANGES / 4) as i64; 2]);
    assert_eq!(lines.load(Ordering::Relaxed), 0, "nothing is logged");
    assert_eq!(cluster.stats().accepted, accepted, "no connection is made again");
    let came = meter.bytes() - bytes_before;
    let written = (2 * (CHANGES - 100) / 4 * VALUE) as u64;
    assert!((written..written * 5 / 4).contains(&came), "{came} bytes came for {written}");
}
