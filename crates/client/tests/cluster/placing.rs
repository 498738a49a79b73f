//! Which partition a record goes to, and the handle of one topic.

use std::sync::Arc;

use milena::{ChoosePartition, NewPartitions, Partitioner};

use super::*;

/// The partition is the first byte of the value.
#[derive(Debug)]
struct ByFirstByte;

impl ChoosePartition for ByFirstByte {
    fn choose(&self, record: &Record<'_>, _partitions: u32) -> Option<u32> {
        record.value_bytes().and_then(|value| value.first()).copied().map(u32::from)
    }
}

#[tokio::test]
async fn a_programs_own_partitioner_places_records() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    let builder = client.producer().partitioner(Partitioner::Custom(Arc::new(ByFirstByte)));
    let producer = builder.build().await.expect("built");
    let send = |value: &'static [u8]| producer.send(Record::to("t").key("k").value(value));
    let values: [&[u8]; 3] = [&[0], &[1], &[2]];
    for partition in [2, 0, 1] {
        let receipt = send(values[partition]).await.expect("written");
        assert_eq!(receipt.partition(), partition as i32);
    }
    let error = send(&[7]).await.expect_err("there is no such partition");
    assert!(error.to_string().contains("3 partitions") && !error.maybe_written(), "{error}");
    // A partition that the record names comes first.
    let receipt = producer.send(Record::to("t").partition(1).value(&[2])).await.expect("written");
    assert_eq!(receipt.partition(), 1);
    // The topic grows while the producer runs.
    client.admin().create_partitions([NewPartitions::total("t", 8)]).await.expect("grown");
    assert_eq!(send(&[7]).await.expect("written").partition(), 7);
    // What it does not place is spread.
    send(&[]).await.expect("written");
}

/// Each record opens a batch, so that each finds the open batch full. Java's client passed over partitions then (KAFKA-9965).
#[tokio::test]
async fn round_robin_passes_over_no_partition_when_batches_are_full() {
    let (_cluster, client) = start(1, &[("t", 4)]).await;
    let builder = client.producer().partitioner(Partitioner::RoundRobin).batch_bytes_max(0);
    let producer = builder.build().await.expect("built");
    let mut counts = [0; 4];
    let mut deliveries = Vec::new();
    for _ in 0..400 {
        deliveries.push(producer.enqueue(Record::to("t").key("same").value("v")).await.expect("taken"));
    }
    for delivery in deliveries {
        counts[delivery.await.expect("written").partition() as usize] += 1;
    }
    assert_eq!(counts, [100; 4]);
}

#[tokio::test]
async fn records_without_a_key_are_spread_evenly() {
    let (_cluster, client) = start(3, &[("t", 6)]).await;
    // Otherwise a node that is slow on a busy machine gets less.
    let builder = client.producer().settings(|settings| settings.adaptive_partitioning = false);
    let producer = builder.build().await.expect("built");
    let mut counts = [0; 6];
    // Partitions are drawn at random. On a busy machine a batch may take a whole round, so that there are few draws in one.
    for round in 0..600 {
        // Batches of very different sizes.
        let count = if round % 3 == 0 { 200 } else { 3 };
        let mut deliveries = Vec::new();
        for _ in 0..count {
            deliveries.push(producer.enqueue(Record::to("t").value(&[0; 1000])).await.expect("taken"));
        }
        for delivery in deliveries {
            counts[delivery.await.expect("written").partition() as usize] += 1;
        }
    }
    let average = counts.iter().sum::<i32>() / 6;
    assert!(counts.iter().all(|count| (average / 2..average * 3 / 2).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn a_topics_handle_writes_what_the_producer_would() {
    let (_cluster, client) = start(1, &[("t", 2), ("u", 1)]).await;
    let producer = producer(&client).await;
    let topic = producer.topic("t").await.expect("it exists");
    assert_eq!(topic.name(), "t");
    let through_handle = topic.send(Record::new().key("abc").value("1")).await.expect("written");
    let named = topic.send(Record::to("t").key("abc").value("2")).await.expect("written");
    let through_producer = producer.send(Record::to("t").key("abc").value("3")).await.expect("written");
    let places = [through_handle, named, through_producer];
    let partition = 479_470_107 % 2;
    for (offset, receipt) in places.iter().enumerate() {
        assert_eq!((receipt.topic(), receipt.partition()), ("t", partition));
        assert_eq!(receipt.offset(), Some(offset as i64));
    }
    topic.post(Record::new().value("4").partition(1 - partition)).await.expect("taken");
    producer.flush().await.expect("written");

    let error = topic.send(Record::to("u").value("v")).await.expect_err("it is for another topic");
    assert!(error.to_string().contains("is for topic \"u\"") && !error.maybe_written(), "{error}");
    let error = producer.send(Record::new().value("v")).await.expect_err("for no topic");
    assert!(error.to_string().contains("names no topic"), "{error}");
    let error = producer.topic("missing").await.expect_err("there is no such topic");
    assert_eq!(error.kind(), milena::ErrorKind::UnknownTopic);

    // The handle sees partitions that are added.
    client.admin().create_partitions([NewPartitions::total("t", 5)]).await.expect("grown");
    assert_eq!(topic.send(Record::new().partition(4)).await.expect("written").partition(), 4);
    producer.close().await.expect("closed");
    topic.send(Record::new()).await.expect_err("the producer was closed");
    producer.topic("u").await.expect_err("the producer was closed");
}

/// The limits, the codec and the partitioner of one topic do not touch another one.
#[tokio::test]
async fn a_topic_may_have_settings_of_its_own() {
    let cluster = Broker::builder().batch_bytes_max(10_000).start().await.expect("started");
    for topic in ["own", "rest"] {
        cluster.create_topic(topic, 3).expect("created");
    }
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().compression(Compression::Zstd).topic("own", |topic| {
        topic.record_bytes_max = Some(50_000);
        topic.compression = Some(Compression::None);
        topic.partitioner = Some(Partitioner::RoundRobin);
    });
    let producer = producer.build().await.expect("built");
    let value = vec![b'v'; 60_000];
    let send = |topic, bytes: usize| producer.send(Record::to(topic).key("k").value(&value[..bytes]));
    let error = send("own", 60_000).await.expect_err("too large there");
    assert!(error.to_string().contains("limit of 50000"), "{error}");
    // The broker takes 10 kB, compressed or not.
    let error = send("own", 40_000).await.expect_err("it is not compressed there");
    assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"));
    send("rest", 60_000).await.expect("it is compressed");
    for (topic, count) in [("own", 3), ("rest", 1)] {
        let mut partitions = std::collections::BTreeSet::new();
        for _ in 0..3 {
            partitions.insert(send(topic, 100).await.expect("written").partition());
        }
        assert_eq!(partitions.len(), count, "{topic}");
    }

    let builder = client.producer().topic("t", |topic| {
        topic.compression = Some(Compression::Zstd);
        topic.compression_level = Some(99);
    });
    let error = builder.build().await.expect_err("there is no such level").to_string();
    assert!(error.contains("topic \"t\""), "{error}");
}
