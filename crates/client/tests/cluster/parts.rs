//! Batches that are returned in parts, because an application wants fewer records at a time (`max.poll.records`).

use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;

use futures_util::StreamExt as _;
use milena::{Batch, GroupConsumerBuilder};

use super::members::{WAYS, Way, next, start_grouping};
use super::*;

/// One batch of 100 records in partition `partition` of `t`.
async fn write_batch_to(client: &Client, partition: i32, codec: Compression) {
    let producer = client.producer().compression(codec).build().await.expect("built");
    for index in 0..100 {
        let value = format!("{index:0200}");
        drop(producer.enqueue(Record::to("t").partition(partition).value(value)).await.expect("taken"));
    }
    producer.flush().await.expect("written");
}

async fn write_batch(client: &Client, codec: Compression) {
    write_batch_to(client, 0, codec).await;
}

/// A client whose consumers return 30 records at a time.
async fn with_parts(cluster: &Cluster) -> Client {
    let builder = Client::from_properties([("max.poll.records", "30")]).expect("known");
    builder.bootstrap(cluster.bootstrap()).connect().await.expect("connected")
}

/// The offsets of the records of a batch, which are all that it has.
fn offsets(batch: &Batch) -> Range<i64> {
    let offsets: Vec<_> = batch.iter().map(|record| record.offset()).collect();
    let range = batch.first_offset()..batch.next_offset();
    assert_eq!(offsets, range.clone().collect::<Vec<_>>());
    let is_as_written = |record: milena::RecordView<'_>| {
        record.value() == Some(format!("{:0200}", record.offset() % 100).as_bytes())
    };
    assert!(batch.iter().all(is_as_written));
    range
}

#[tokio::test]
async fn a_batch_is_handed_out_in_parts_of_the_records_of_one_poll() {
    for codec in [Compression::None, Compression::Lz4] {
        let (cluster, writer) = start(1, &[("t", 1)]).await;
        write_batch(&writer, codec).await;
        let client = with_parts(&cluster).await;
        let mut consumer = consumer(&client, "t", 1).await;
        let first = next(&mut consumer).await;
        assert_eq!((offsets(&first), consumer.position("t", 0)), (0..30, Some(30)));
        let stats = client.decompressed_pool_stats();
        let buffers = stats.hits + stats.misses;
        // The rest is here: no other task has run since, so nothing was fetched, and nothing is decompressed again.
        let mut parts = Vec::new();
        while let Some(part) = consumer.try_next().expect("no error") {
            assert_eq!(consumer.position("t", 0), Some(part.next_offset()));
            parts.push(part);
        }
        assert_eq!(parts.iter().map(offsets).collect::<Vec<_>>(), [30..60, 60..90, 90..100]);
        let stats = client.decompressed_pool_stats();
        assert_eq!(stats.hits + stats.misses, buffers);
        // All parts keep the one buffer, and the last of them gives it back.
        let memory = first.memory_bytes();
        drop(first);
        let last = parts.pop().expect("a part");
        drop(parts);
        assert!(consumer.memory().budget_bytes_used >= memory);
        drop(last);
        assert_eq!(consumer.memory().topics[0].in_use_batches, 0);
    }
}

#[tokio::test]
async fn what_is_left_of_a_parted_batch_waits_while_paused_and_goes_with_a_seek() {
    let (cluster, writer) = start(1, &[("t", 1)]).await;
    write_batch(&writer, Compression::Lz4).await;
    let client = with_parts(&cluster).await;
    let consumer = consumer(&client, "t", 1).await;
    let mut alone = consumer.partitions().remove(0);
    let first = timeout(PATIENCE, alone.next()).await.expect("in time").expect("read").expect("a batch");
    assert_eq!(offsets(&first), 0..30);
    alone.pause();
    assert!(alone.try_next().expect("no error").is_none());
    alone.resume();
    assert_eq!(offsets(&alone.try_next().expect("no error").expect("it is here")), 30..60);
    alone.seek(Position::Offset(10)).expect("assigned");
    assert!(alone.try_next().expect("no error").is_none());
    for expected in [10..40, 40..70, 70..100] {
        let part = timeout(PATIENCE, alone.next()).await.expect("in time").expect("read").expect("a batch");
        assert_eq!(offsets(&part), expected);
    }
    // The end is found after the last part, and not before.
    let topic = client.consumer_direct().topic("t").until_end();
    let mut all = topic.build().await.expect("built");
    let mut seen = Vec::new();
    while let Some(part) = timeout(PATIENCE, all.next()).await.expect("in time").expect("read") {
        seen.push(offsets(&part));
    }
    assert_eq!(seen, [0..30, 30..60, 60..90, 90..100]);
}

#[tokio::test]
async fn every_way_of_reading_returns_the_same_parts() {
    const PARTS: [Range<i64>; 4] = [0..30, 30..60, 60..90, 90..100];
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Zstd] {
        let (cluster, writer) = start(1, &[("t", 1)]).await;
        write_batch(&writer, codec).await;
        let client = with_parts(&cluster).await;
        let build = async || client.consumer_direct().topic("t").until_end().build().await.expect("built");

        let streamed = timeout(PATIENCE, build().await.collect::<Vec<_>>()).await.expect("in time");
        let streamed = streamed.into_iter().map(|part| offsets(&part.expect("read")));
        assert_eq!(streamed.collect::<Vec<_>>(), PARTS, "{codec}: as a stream");

        let mut alone = build().await.partitions().remove(0);
        let mut seen = Vec::new();
        while let Some(part) = timeout(PATIENCE, alone.next()).await.expect("in time").expect("read") {
            assert_eq!(alone.position(), Some(part.next_offset()));
            seen.push(offsets(&part));
        }
        assert_eq!(seen, PARTS, "{codec}: a partition on its own");

        let alone = build().await.partitions().remove(0);
        let streamed = timeout(PATIENCE, alone.collect::<Vec<_>>()).await.expect("in time");
        let streamed = streamed.into_iter().map(|part| offsets(&part.expect("read")));
        assert_eq!(streamed.collect::<Vec<_>>(), PARTS, "{codec}: a partition as a stream");

        // A partition that is read on its own and given back between two parts.
        let mut consumer = build().await;
        let mut alone = consumer.partitions().remove(0);
        let first = timeout(PATIENCE, alone.next()).await.expect("in time").expect("read").expect("a part");
        assert_eq!(offsets(&first), PARTS[0]);
        drop(alone);
        for expected in &PARTS[1..] {
            assert_eq!(offsets(&next(&mut consumer).await), *expected, "{codec}: given back");
        }
        assert!(timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_none());
    }
}

#[tokio::test]
async fn partitions_take_turns_with_their_parts() {
    let (cluster, writer) = start(1, &[("t", 2)]).await;
    for partition in 0..2 {
        write_batch_to(&writer, partition, Compression::Lz4).await;
    }
    let client = with_parts(&cluster).await;
    let mut consumer = consumer(&client, "t", 2).await;
    let is_here = |consumer: &Consumer| consumer.memory().topics[0].buffered_batches == 2;
    let both = async {
        while !is_here(&consumer) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, both).await.expect("in time");
    let mut seen = Vec::new();
    for _ in 0..8 {
        let part = next(&mut consumer).await;
        seen.push((part.partition(), offsets(&part)));
    }
    let turns: Vec<_> = seen.iter().map(|(partition, _)| *partition).collect();
    assert!(turns.chunks(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    for partition in 0..2 {
        let of = seen.iter().filter(|(of, _)| *of == partition).map(|(_, offsets)| offsets.clone());
        assert_eq!(of.collect::<Vec<_>>(), [0..30, 30..60, 60..90, 90..100]);
    }
}

#[tokio::test]
async fn calls_that_are_cancelled_between_parts_lose_none() {
    let (cluster, writer) = start(1, &[("t", 1)]).await;
    for _ in 0..3 {
        write_batch(&writer, Compression::Lz4).await;
    }
    let client = with_parts(&cluster).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let (mut end, mut is_stream) = (0, false);
    let reading = async {
        while end < 300 {
            // Calls of both kinds, each of which is dropped when it has nothing yet.
            is_stream = !is_stream;
            let part = if is_stream {
                let polled = std::future::poll_fn(|cx| {
                    std::task::Poll::Ready(futures_util::Stream::poll_next(Pin::new(&mut consumer), cx))
                });
                match polled.await {
                    std::task::Poll::Ready(part) => part.expect("assigned").expect("read"),
                    std::task::Poll::Pending => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
            } else {
                let Ok(part) = timeout(Duration::ZERO, consumer.next()).await else { continue };
                part.expect("read").expect("assigned")
            };
            assert_eq!(offsets(&part).start, end);
            end = part.next_offset();
        }
    };
    timeout(PATIENCE, reading).await.expect("in time");
}

#[tokio::test]
async fn parts_are_shared_each_with_its_own_records() {
    for codec in [Compression::None, Compression::Lz4] {
        let (cluster, writer) = start(1, &[("t", 1)]).await;
        write_batch(&writer, codec).await;
        let client = with_parts(&cluster).await;
        let mut consumer = consumer(&client, "t", 1).await;
        let mut kept = Vec::new();
        for expected in [0..30, 30..60, 60..90, 90..100_i64] {
            let part = next(&mut consumer).await.share();
            assert_eq!(part.first_offset()..part.next_offset(), expected);
            // A range that goes beyond the part ends with it.
            let halves = [part.range(..expected.start + 5), part.range(expected.start + 5..1000)];
            let of_halves: Vec<_> =
                halves.iter().flat_map(|half| half.iter().map(|record| record.offset())).collect();
            assert_eq!(of_halves, expected.clone().collect::<Vec<_>>());
            kept.extend(part.records());
        }
        // The parts are gone, and their records are here.
        let values = kept.iter().map(|record| record.value().expect("a value").to_vec());
        assert!(values.eq((0..100).map(|index| format!("{index:0200}").into_bytes())));
        let memory = consumer.memory();
        assert_eq!((memory.topics[0].in_use_batches, memory.topics[0].buffered_batches), (4, 0));
        drop(kept);
        assert_eq!(consumer.memory().topics[0].in_use_batches, 0);
    }
}

/// A member that returns 30 records at a time.
fn parted(builder: GroupConsumerBuilder) -> GroupConsumerBuilder {
    builder.settings(|settings| settings.delivery_records_max = Some(30))
}

async fn committed(consumer: &Consumer, partitions: i32) -> Vec<Option<i64>> {
    let partitions = (0..partitions).map(|partition| ("t", partition));
    let found = timeout(PATIENCE, consumer.committed(partitions)).await.expect("in time").expect("answered");
    found.into_iter().map(|(_, offset)| offset.map(|offset| offset.offset)).collect()
}

#[tokio::test]
async fn a_member_commits_the_parts_that_are_done_and_the_next_one_reads_the_others() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        write_batch(&client, Compression::Lz4).await;
        for (expected, done_up_to) in [(0..30, 30), (30..60, 45), (45..75, 75)] {
            let mut consumer = parted(way.member(&client, &["t"])).build().await.expect("built");
            let part = next(&mut consumer).await;
            assert_eq!(offsets(&part), expected, "{way:?}");
            let last = part.iter().find(|record| record.offset() == done_up_to - 1);
            consumer.done_up_to(&last.expect("it is there"));
            // The part after it is taken too, but not done, and what is left of the batch is not taken.
            drop(consumer.try_next().expect("no error"));
            drop(part);
            timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        }
    }
}

#[tokio::test]
async fn parts_are_done_in_any_order_and_the_committed_offset_stays_before_the_first_that_is_not() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    write_batch(&client, Compression::None).await;
    let mut consumer = parted(client.consumer("g").subscribe(["t"])).build().await.expect("built");
    let mut parts = Vec::new();
    for _ in 0..4 {
        parts.push(next(&mut consumer).await);
    }
    for (done, expected) in [(3, Some(0)), (1, Some(0)), (0, Some(60)), (2, Some(100))] {
        consumer.done(&parts[done]);
        timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&consumer, 1).await, [expected], "part {done}");
    }
}

#[tokio::test]
async fn a_rebalance_between_parts_loses_none_and_reads_again_what_was_not_done() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        for partition in 0..2 {
            write_batch_to(&client, partition, Compression::Lz4).await;
        }
        let build = || parted(way.member(&client, &["t"])).build();
        let mut first = build().await.expect("built");
        // Of partition 0 a part is done, of partition 1 half of one. The rest of both batches is opened and not taken.
        let mut parts = [next(&mut first).await, next(&mut first).await];
        parts.sort_by_key(Batch::partition);
        first.done(&parts[0]);
        first.done_up_to(&parts[1].iter().nth(14).expect("30 records"));
        let mut second = build().await.expect("built");
        let early = timeout(Duration::from_millis(300), second.next()).await;
        // Partition 0 is in nobody's hands, so that it may have moved already.
        assert!(early.is_err() || way != Way::Eager, "all is given up together");
        drop(parts);
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        let mut firsts = [None, None];
        if let Ok(batch) = early {
            let batch = batch.expect("read").expect("not closed");
            firsts[batch.partition() as usize] = Some(batch.first_offset());
            seen[batch.partition() as usize].extend(offsets(&batch));
            second.done(&batch);
        }
        let reading = async {
            while seen[0].last() != Some(&99) || seen[1].last() != Some(&99) {
                let (batch, is_first) = tokio::select! {
                    batch = first.next() => (batch, true),
                    batch = second.next() => (batch, false),
                };
                let batch = batch.expect("read").expect("not closed");
                let partition = batch.partition() as usize;
                if !is_first {
                    firsts[partition].get_or_insert(batch.first_offset());
                }
                seen[partition].extend(offsets(&batch));
                if is_first { first.done(&batch) } else { second.done(&batch) }
            }
        };
        timeout(PATIENCE, reading).await.expect("all in time");
        let begins = [30, 15];
        for partition in 0..2 {
            assert!(
                (begins[partition]..100).all(|offset| seen[partition].contains(&offset)),
                "{way:?}, partition {partition}: {:?}",
                seen[partition]
            );
            if let Some(begin) = firsts[partition] {
                assert_eq!(begin, begins[partition], "{way:?}: what was done is not read again");
            }
        }
        for consumer in [&first, &second] {
            timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        }
        let third = build().await.expect("built");
        assert_eq!(committed(&third, 2).await, [Some(100); 2], "{way:?}");
    }
}

#[tokio::test]
async fn with_at_most_once_each_part_is_committed_before_it_is_returned() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        for partition in 0..2 {
            write_batch_to(&client, partition, Compression::Lz4).await;
        }
        let build = || parted(way.member(&client, &["t"])).at_most_once().build();
        let mut seen = BTreeSet::new();
        // Members one after the other, each of which takes three parts.
        for _ in 0..2 {
            let mut consumer = build().await.expect("built");
            for _ in 0..3 {
                let part = next(&mut consumer).await;
                let stored = committed(&consumer, 2).await[part.partition() as usize];
                assert_eq!(stored, Some(part.next_offset()), "{way:?}: no more and no less than it");
                seen.extend(offsets(&part).map(|offset| (part.partition(), offset)));
            }
            timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        }
        let mut consumer = build().await.expect("built");
        while seen.len() < 200 {
            let part = next(&mut consumer).await;
            for offset in offsets(&part) {
                assert!(seen.insert((part.partition(), offset)), "{way:?}: {offset} came twice");
            }
        }
    }
}

#[tokio::test]
async fn gaps_of_compaction_between_parts_hold_no_commit_back() {
    let broker = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = broker.config("log.cleaner.backoff.ms", "1").start().await.expect("started");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let topic = NewTopic::new("t").partitions(1).config("cleanup.policy", "compact");
    let topic = topic.config("segment.ms", "10").config("min.cleanable.dirty.ratio", "0.01");
    client.admin().create_topic(topic).await.expect("made");
    let producer = producer(&client).await;
    // Offsets 0 to 99, of which 100 to 189 supersede those that are not below 5 or above 94.
    for (keys, second) in [(0..100, 0), (5..95, 10), (200..201, 20)] {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
        for key in keys {
            let key = format!("{key}");
            let record = Record::to("t").partition(0).key(&key).value("v").timestamp(time);
            drop(producer.enqueue(record).await.expect("taken"));
        }
        producer.flush().await.expect("written");
    }
    let expected: Vec<i64> = (0..5).chain(95..191).collect();
    let compacted = async {
        loop {
            let mut consumer = consumer(&client, "t", 1).await;
            let mut seen = Vec::new();
            while seen.last() != Some(&190) {
                seen.extend(next(&mut consumer).await.iter().map(|record| record.offset()));
            }
            if seen == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, compacted).await.expect("compacted");
    for (index, is_at_most_once) in [false, false, true].into_iter().enumerate() {
        let builder = client.consumer(format!("g-{index}")).subscribe(["t"]);
        let builder = builder.settings(|settings| settings.delivery_records_max = Some(3));
        let builder = if is_at_most_once { builder.at_most_once() } else { builder };
        let mut consumer = builder.build().await.expect("built");
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let part = next(&mut consumer).await;
            assert!(part.iter().count() <= 3);
            for record in &part {
                seen.push(record.offset());
                if index == 0 {
                    // Record by record, so that gaps within parts count too.
                    consumer.done_record(&record);
                }
            }
            if index == 1 {
                consumer.done(&part);
            }
        }
        assert_eq!(seen, expected);
        timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&consumer, 1).await, [Some(191)], "{index}");
    }
}
