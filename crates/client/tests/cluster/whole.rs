//! Reading whole topics, to their end and beyond.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use milena::{Batch, Client, Consumer, ConsumerBuilder, Error, ErrorKind, NewTopic, Position, Record};
use tokio::time::timeout;

use super::{PATIENCE, producer, start};

async fn next(consumer: &mut Consumer) -> Result<Option<Batch>, Error> {
    timeout(PATIENCE, consumer.next()).await.expect("an answer in time")
}

/// The partition and offset of each record until `next` returns `None`.
async fn rest(consumer: &mut Consumer) -> Vec<(i32, i64)> {
    let mut seen = Vec::new();
    while let Some(batch) = next(consumer).await.expect("read") {
        seen.extend(batch.iter().map(|record| (record.partition(), record.offset())));
    }
    seen.sort_unstable();
    seen
}

/// `count` records in each of these partitions of `t`, their times their offsets in seconds.
async fn fill(client: &Client, partitions: &[i32], count: i64) {
    let producer = producer(client).await;
    for partition in partitions {
        for offset in 0..count {
            let record = Record::to("t").partition(*partition).value("v").timestamp_ms(offset * 1000);
            producer.post(record).await.expect("taken");
        }
    }
    producer.flush().await.expect("written");
}

async fn built(builder: ConsumerBuilder) -> Consumer {
    builder.until_end().build().await.expect("built")
}

fn offsets(partition: i32, offsets: impl IntoIterator<Item = i64>) -> Vec<(i32, i64)> {
    offsets.into_iter().map(|offset| (partition, offset)).collect()
}

#[tokio::test]
async fn a_topic_is_read_to_where_it_ended_when_reading_began() {
    let (_cluster, client) = start(2, &[("t", 3)]).await;
    fill(&client, &[0, 1], 10).await;
    let mut consumer = built(client.consumer_direct().topic("t")).await;
    // Partition 2 is empty, and what comes now comes too late.
    fill(&client, &[0, 2], 5).await;
    let all = [offsets(0, 0..10), offsets(1, 0..10)].concat();
    assert_eq!(rest(&mut consumer).await, all);
    assert!(next(&mut consumer).await.expect("no error").is_none(), "and it stays so");
    assert_eq!(consumer.assignment().len(), 3);
    // After a seek back, the end is the same.
    consumer.seek("t", 1, Position::Offset(7)).expect("assigned");
    assert_eq!(rest(&mut consumer).await, offsets(1, 7..10));
    // A partition that is assigned again ends where it ends now.
    consumer.assign([("t", 0)], Position::BeforeEnd(6)).await.expect("assigned");
    assert_eq!(rest(&mut consumer).await, offsets(0, 9..15));
}

#[tokio::test]
async fn every_start_comes_to_the_end() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, &[0], 10).await;
    let six_seconds = SystemTime::UNIX_EPOCH + Duration::from_secs(6);
    for (position, expected) in [
        (Position::Earliest, 0),
        (Position::Latest, 10),
        (Position::BeforeEnd(3), 7),
        (Position::Offset(4), 4),
        (Position::Offset(10), 10),
        (six_seconds.into(), 6),
        (Position::TimestampMs(1_000_000), 10),
    ] {
        let mut consumer = built(client.consumer_direct().assign([("t", 0)], position)).await;
        assert_eq!(rest(&mut consumer).await, offsets(0, expected..10), "{position:?}");
    }
    let mut consumer = built(client.consumer_direct().topic("t").from(six_seconds)).await;
    assert_eq!(rest(&mut consumer).await, offsets(0, 6..10));
}

#[tokio::test]
async fn a_partition_that_stops_is_told_and_is_not_the_end() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, &[0, 1], 3).await;
    let builder = client.consumer_direct().assign([("t", 0)], Position::Offset(99));
    let mut consumer = built(builder.assign([("t", 1)], Position::Earliest)).await;
    let (mut seen, mut errors) = (0, 0);
    while errors < 3 {
        match next(&mut consumer).await {
            Ok(batch) => seen += batch.expect("the other one is no end").iter().count(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
                errors += 1;
            }
        }
    }
    assert_eq!(seen, 3);
    consumer.unassign([("t", 0)]).expect("by position");
    assert!(next(&mut consumer).await.expect("no error").is_none());
}

#[tokio::test]
async fn an_offset_after_the_end_is_the_end_if_it_exists() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    fill(&client, &[0], 5).await;
    let mut consumer = built(client.consumer_direct().topic("t")).await;
    fill(&client, &[0], 5).await;
    assert_eq!(rest(&mut consumer).await, offsets(0, 0..5));
    for offset in [10, 7, 10] {
        consumer.seek("t", 0, Position::Offset(offset)).expect("assigned");
        assert!(rest(&mut consumer).await.is_empty(), "{offset}");
    }
    consumer.seek("t", 0, Position::Offset(11)).expect("assigned");
    let error = next(&mut consumer).await.expect_err("no such offset");
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
}

#[tokio::test]
async fn a_partition_given_twice_is_read_once_to_its_end() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    fill(&client, &[0], 5).await;
    let twice = client.consumer_direct().assign([("t", 0), ("t", 0)], Position::Earliest);
    assert_eq!(rest(&mut built(twice).await).await, offsets(0, 0..5));
}

#[tokio::test]
async fn each_partition_read_on_its_own_ends_on_its_own() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    fill(&client, &[0, 2], 10).await;
    let consumer = built(client.consumer_direct().topic("t")).await;
    for mut partition in consumer.partitions() {
        let mut seen = 0;
        while let Some(batch) = timeout(PATIENCE, partition.next()).await.expect("in time").expect("read") {
            seen += batch.iter().count();
        }
        assert_eq!(seen, if partition.partition() == 1 { 0 } else { 10 });
    }
}

#[tokio::test]
async fn consumers_are_streams() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    fill(&client, &[0, 1], 10).await;
    let consumer = built(client.consumer_direct().topic("t")).await;
    let count = consumer.try_fold(0, async |count, batch| Ok(count + batch.iter().count()));
    assert_eq!(timeout(PATIENCE, count).await.expect("in time").expect("read"), 20);

    let consumer = built(client.consumer_direct().topic("t")).await;
    let streams =
        consumer.partitions().into_iter().map(|partition| partition.map_ok(|batch| batch.iter().count()));
    let counts: Vec<_> =
        timeout(PATIENCE, futures_util::stream::select_all(streams).collect()).await.expect("in time");
    assert_eq!(counts.into_iter().map(|count| count.expect("read")).sum::<usize>(), 20);

    // Polled as a stream and left, it is read on by the other way: no wake-up is lost between them.
    let mut consumer =
        client.consumer_direct().topic("t").from(Position::Latest).build().await.expect("built");
    assert!(timeout(Duration::from_millis(20), StreamExt::next(&mut consumer)).await.is_err());
    let read = tokio::spawn(async move { next(&mut consumer).await });
    fill(&client, &[0], 1).await;
    assert!(read.await.expect("no panic").expect("read").is_some());
}

#[tokio::test]
async fn another_task_pauses_seeks_and_unassigns() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    fill(&client, &[0], 1).await;
    let mut consumer = client.consumer_direct().topic("t").build().await.expect("built");
    let handle = consumer.handle();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        while let Some(batch) = consumer.next().await? {
            let _ = tell.send(batch.first_offset());
        }
        Ok::<_, Error>(())
    });
    let mut next = async || timeout(PATIENCE, told.recv()).await.expect("in time").expect("reading");
    assert_eq!(next().await, 0);
    // It waits in `next` now.
    handle.seek("t", 0, Position::Earliest).expect("assigned");
    assert_eq!(next().await, 0);
    handle.pause("t", 0).expect("assigned");
    fill(&client, &[0], 1).await;
    handle.resume("t", 0).expect("assigned");
    assert_eq!(next().await, 1);
    assert_eq!((handle.position("t", 0), handle.assignment().len()), (Some(2), 1));
    handle.assign([("t", 0)], Position::Offset(1)).await.expect("assigned");
    assert_eq!(next().await, 1);
    handle.unassign([("t", 0)]).expect("by position");
    timeout(PATIENCE, reading).await.expect("in time").expect("no panic").expect("no error");
    for gone in [handle.pause("t", 0), handle.seek("t", 0, Position::Latest)] {
        assert_eq!(gone.expect_err("dropped").kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn a_record_copied_out_goes_back() {
    let (_cluster, client) = start(1, &[("t", 2), ("u", 2)]).await;
    let producer = producer(&client).await;
    let record = Record::to("t").partition(1).key("k").header("a", "1").header("b", "2").timestamp_ms(5);
    producer.send(record).await.expect("written");
    let one = async |topic: &str| {
        let mut consumer = built(client.consumer_direct().topic(topic)).await;
        let batch = next(&mut consumer).await.expect("read").expect("there is one");
        batch.iter().next().expect("a record").to_owned()
    };
    let first = one("t").await;
    assert_eq!((first.topic.as_str(), first.partition, first.offset), ("t", 1, 0));
    producer.send(first.as_record().topic("u").partition(first.partition)).await.expect("written");
    let second = one("u").await;
    assert_eq!(second, milena::OwnedRecord { topic: "u".into(), ..first });
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_told_at_once() {
    let (_cluster, client) = start(1, &[]).await;
    let error =
        client.consumer_direct().topic("nowhere").until_end().build().await.expect_err("no such topic");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    client.admin().create_topic(NewTopic::new("nowhere").partitions(1)).await.expect("made");
    assert!(rest(&mut built(client.consumer_direct().topic("nowhere")).await).await.is_empty());
}
