//! Client and embedded broker over real sockets: what a program that uses both would notice.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod admin;
mod delivering;
mod elsewhere;
mod fair;
mod faults;
mod flow;
mod groups;
mod holding;
mod keeping;
mod kept;
mod limits;
mod lossy;
mod members;
mod membership;
mod memory;
mod metrics;
mod metrics_of_faults;
mod mistakes;
mod outside;
mod parts;
mod placing;
mod producing;
mod readme;
mod remade;
mod replicas;
mod security;
mod sessions;
mod spans;
mod stalls;
mod stops;
mod telemetry;
mod transactional_ids;
mod transactions;
mod unflushed;
mod upgrade;
mod whole;

use std::collections::BTreeMap;
use std::time::Duration;

use milena::{
    Acks, Client, Compression, ConfigResource, Consumer, Error, Fault, Header, NewTopic, OffsetAt,
    OwnedRecord, Position, Producer, Record, Reset,
};
use milena_broker::{Broker, Cluster};
use tokio::time::timeout;

/// Nothing here takes this long. A call that does has hung.
const PATIENCE: Duration = Duration::from_secs(30);

async fn start(nodes: u16, topics: &[(&str, i32)]) -> (Cluster, Client) {
    let cluster = Broker::builder().nodes(nodes).start().await.expect("started");
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions).expect("created");
    }
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    (cluster, client)
}

async fn producer(client: &Client) -> Producer {
    client.producer().build().await.expect("built")
}

async fn consumer(client: &Client, topic: &str, partitions: i32) -> Consumer {
    let partitions = (0..partitions).map(|partition| (topic, partition));
    client.consumer_direct().assign(partitions, Position::Earliest).build().await.expect("built")
}

/// The next `count` records of each partition.
async fn read(consumer: &mut Consumer, count: usize) -> BTreeMap<i32, Vec<OwnedRecord>> {
    let mut records = BTreeMap::<i32, Vec<OwnedRecord>>::new();
    let mut left = count;
    while left > 0 {
        let next = timeout(PATIENCE, consumer.next()).await;
        let batch = next.unwrap_or_else(|_| panic!("{left} of {count} records never came")).expect("read");
        let batch = batch.expect("something is assigned");
        let of_partition = records.entry(batch.partition()).or_default();
        for record in &batch {
            of_partition.push(record.to_owned());
            left = left.checked_sub(1).expect("no more than were written");
        }
    }
    records
}

#[tokio::test]
async fn every_kind_of_record_comes_back_as_it_was() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let long = vec![7; 100_000];
    let headers = [Header::new("a", Some(b"1")), Header::new("a", None), Header::new("", Some(b""))];
    let records = || {
        [
            Record::to("t"),
            Record::to("t").key("").value(""),
            Record::to("t").key("k").header("h", "v").timestamp_ms(1_700_000_000_123),
            Record::to("t").value(&long).headers(&headers),
        ]
    };
    for codec in codecs {
        let producer = client.producer().compression(codec).build().await.expect("built");
        for record in records() {
            let delivery = producer.enqueue(record).await.expect("taken");
            drop(delivery);
        }
        producer.flush().await.expect("flushed");
    }
    let mut consumer = consumer(&client, "t", 1).await;
    let seen = read(&mut consumer, codecs.len() * 4).await.remove(&0).expect("partition 0");
    for (index, seen) in seen.chunks(4).enumerate() {
        let codec = codecs[index];
        assert_eq!((&seen[0].key, &seen[0].value), (&None, &None), "{codec}");
        assert_eq!(
            (seen[1].key.as_deref(), seen[1].value.as_deref()),
            (Some(&b""[..]), Some(&b""[..])),
            "{codec}"
        );
        assert_eq!(seen[2].headers, [(b"h".to_vec(), Some(b"v".to_vec()))], "{codec}");
        assert_eq!(seen[2].timestamp_ms, Some(1_700_000_000_123), "{codec}");
        assert_eq!(seen[3].value.as_deref(), Some(&long[..]), "{codec}");
        let expected =
            [(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), None), (Vec::new(), Some(Vec::new()))];
        assert_eq!(seen[3].headers, expected, "{codec}");
    }
}

#[tokio::test]
async fn a_receipt_says_where_the_record_is() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    let producer = producer(&client).await;
    let first = producer.send(Record::to("t").partition(2).value("a")).await.expect("written");
    let second =
        producer.send(Record::to("t").partition(2).value("b").timestamp_ms(5)).await.expect("written");
    assert_eq!((first.topic(), first.partition(), first.offset()), ("t", 2, Some(0)));
    assert_eq!((second.offset(), second.timestamp_ms()), (Some(1), 5));
    // The partition Java's client chooses: murmur2("abc") is 479470107.
    let keyed = producer.send(Record::to("t").key("abc")).await.expect("written");
    assert_eq!(keyed.partition(), 479_470_107 % 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_many_tasks_arrives_once_and_in_order_per_task() {
    const TASKS: usize = 8;
    const RECORDS: usize = 5_000;
    let (_cluster, client) = start(3, &[("t", 6)]).await;
    let producer = producer(&client).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for index in 0..RECORDS {
                    let (key, value) = (task.to_string(), index.to_string());
                    producer.post(Record::to("t").key(&key).value(&value)).await.expect("taken");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("finished");
    }
    producer.flush().await.expect("flushed");
    let mut consumer = consumer(&client, "t", 6).await;
    let mut next = BTreeMap::<Vec<u8>, usize>::new();
    for record in read(&mut consumer, TASKS * RECORDS).await.into_values().flatten() {
        let expected = next.entry(record.key.expect("keyed")).or_default();
        assert_eq!(record.value.expect("has a value"), expected.to_string().into_bytes());
        *expected += 1;
    }
    assert!(next.len() == TASKS && next.values().all(|count| *count == RECORDS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_and_nodes_go_and_nothing_is_lost_doubled_or_reordered() {
    const RECORDS: usize = 3_000;
    let (cluster, client) = start(3, &[("t", 2)]).await;
    let producer = producer(&client).await;
    let writing = tokio::spawn(async move {
        for index in 0..RECORDS {
            let value = index.to_string();
            producer.post(Record::to("t").partition((index % 2) as i32).value(&value)).await.expect("taken");
            if index % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        producer.flush().await.expect("flushed");
    });
    let mut consumer = consumer(&client, "t", 2).await;
    let reading = tokio::spawn(async move { read(&mut consumer, RECORDS).await });
    let nodes: Vec<i32> = cluster.addresses().keys().copied().collect();
    let mut turn = 0;
    while !writing.is_finished() {
        turn += 1;
        let node = nodes[turn % nodes.len()];
        for partition in 0..2 {
            // A node that is down takes nothing over.
            let _ = cluster.move_leader("t", partition, node);
        }
        if turn % 3 == 0 {
            cluster.stop_node(node).await.expect("stopped");
            tokio::time::sleep(Duration::from_millis(20)).await;
            cluster.start_node(node).await.expect("started");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writing.await.expect("written");
    let seen = timeout(PATIENCE, reading).await.expect("in time").expect("read");
    for (partition, records) in seen {
        let values: Vec<usize> = records
            .iter()
            .map(|record| {
                String::from_utf8_lossy(record.value.as_deref().expect("a value")).parse().expect("a number")
            })
            .collect();
        let expected: Vec<usize> = (0..RECORDS).filter(|index| index % 2 == partition as usize).collect();
        assert_eq!(values, expected, "partition {partition}");
    }
}

#[tokio::test]
async fn positions_by_offset_end_and_time() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    for index in 0..10 {
        let value = index.to_string();
        producer.send(Record::to("t").value(&value).timestamp_ms(1000 + index * 10)).await.expect("written");
    }
    let mut consumer = consumer(&client, "t", 1).await;
    for (position, expected) in [
        (Position::Earliest, 0),
        (Position::Offset(4), 4),
        (Position::BeforeEnd(3), 7),
        (Position::BeforeEnd(1000), 0),
        (Position::TimestampMs(1055), 6),
    ] {
        consumer.seek("t", 0, position).expect("assigned");
        let first = read(&mut consumer, 1).await.remove(&0).expect("partition 0").remove(0);
        assert_eq!(first.offset, expected, "{position:?}");
    }
    // A start within a batch begins there, not where the batch begins.
    producer.post(Record::to("t").value("a")).await.expect("taken");
    producer.post(Record::to("t").value("b")).await.expect("taken");
    producer.flush().await.expect("flushed");
    consumer.seek("t", 0, Position::Latest).expect("assigned");
    // Where the end is has to be known before it moves.
    let known = async {
        while consumer.position("t", 0) != Some(12) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, known).await.expect("looked up");
    producer.send(Record::to("t").value("latest")).await.expect("written");
    let after = read(&mut consumer, 1).await.remove(&0).expect("partition 0").remove(0);
    assert!(after.offset >= 12 && consumer.position("t", 0) == Some(13), "{after:?}");
}

#[tokio::test]
async fn a_position_that_does_not_exist_is_told_or_reset() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    producer.send(Record::to("t").value("only")).await.expect("written");
    let build =
        |reset| client.consumer_direct().assign([("t", 0)], Position::Offset(99)).reset(reset).build();
    let mut strict = build(Reset::Fail).await.expect("built");
    let error = timeout(PATIENCE, strict.next()).await.expect("in time").expect_err("out of range");
    assert_eq!(error.code_name(), Some("OFFSET_OUT_OF_RANGE"));
    assert!(error.to_string().contains("partition 0 of topic \"t\" at offset 99"), "{error}");
    strict.seek("t", 0, Position::Earliest).expect("assigned");
    assert_eq!(read(&mut strict, 1).await[&0][0].offset, 0);
    let mut lenient = build(Reset::Earliest).await.expect("built");
    assert_eq!(read(&mut lenient, 1).await[&0][0].offset, 0);
}

#[tokio::test]
async fn a_paused_partition_is_silent_and_the_others_flow() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, "t", 2).await;
    for round in 0..20 {
        for partition in 0..2 {
            producer.send(Record::to("t").partition(partition).value("v")).await.expect("written");
        }
        if round == 0 {
            read(&mut consumer, 2).await;
            consumer.pause("t", 0).expect("assigned");
        }
    }
    let seen = read(&mut consumer, 19).await;
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(
        timeout(Duration::from_millis(50), consumer.next()).await.is_err(),
        "nothing more while it is paused"
    );
    consumer.resume("t", 0).expect("assigned");
    let seen = read(&mut consumer, 19).await.remove(&0).expect("partition 0");
    assert_eq!(seen.iter().map(|record| record.offset).collect::<Vec<_>>(), (1..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_taken_from_its_consumer_is_read_on_its_own() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    let producer = producer(&client).await;
    let consumer = consumer(&client, "t", 3).await;
    let mut partitions = consumer.partitions();
    assert!(consumer.partitions().is_empty(), "each is taken once");
    for partition in 0..3 {
        producer.send(Record::to("t").partition(partition).value("first")).await.expect("written");
    }
    // A reader that keeps a batch of one partition does not delay another partition.
    let held = timeout(PATIENCE, partitions[0].next()).await.expect("in time").expect("read");
    for round in 0..100 {
        for partition in &mut partitions[1..] {
            let batch = timeout(PATIENCE, partition.next()).await.expect("in time").expect("read");
            assert_eq!(batch.expect("assigned").next_offset(), round + 1);
            let next = Record::to("t").partition(partition.partition()).value("next");
            producer.send(next).await.expect("written");
        }
    }
    assert_eq!(held.expect("assigned").partition(), 0);

    // Given back, it goes on where it was.
    producer.send(Record::to("t").partition(0).value("second")).await.expect("written");
    let mut consumer = consumer;
    assert!(timeout(Duration::from_millis(50), consumer.next()).await.is_err(), "all are taken");
    drop(partitions.remove(0));
    let seen = read(&mut consumer, 1).await;
    assert_eq!(seen[&0][0].offset, 1);

    // It ends with its assignment, and outlives its consumer.
    let mut last = partitions.pop().expect("partition 2");
    consumer.unassign([("t", 1)]).expect("by position");
    let over = timeout(PATIENCE, partitions[0].next()).await.expect("in time").expect("read");
    assert!(over.is_none(), "not assigned any more");
    drop((consumer, partitions));
    let batch = timeout(PATIENCE, last.next()).await.expect("in time").expect("read");
    assert_eq!(batch.expect("assigned").first_offset(), 100);
    last.seek(Position::Offset(50)).expect("assigned");
    let batch = timeout(PATIENCE, last.next()).await.expect("in time").expect("read");
    assert_eq!(batch.expect("assigned").first_offset(), 50);
}

#[tokio::test]
async fn a_partition_taken_with_records_in_its_queue_is_read_on_though_nobody_polls_its_consumer() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let producer = producer(&client).await;
    let write = async |partition: i32| {
        producer.send(Record::to("t").partition(partition).value("v")).await.expect("written");
    };
    write(0).await;
    write(1).await;
    let mut consumer = consumer(&client, "t", 2).await;
    // One answer brings the records of both: the other partition is in line now.
    read(&mut consumer, 1).await;
    for mut partition in consumer.partitions() {
        if partition.position() == Some(0) {
            timeout(PATIENCE, partition.next()).await.expect("in time").expect("read");
        }
        for _ in 0..3 {
            let index = partition.partition();
            // Somebody waits before there is anything.
            let (batch, ()) = tokio::join!(timeout(PATIENCE, partition.next()), write(index));
            batch.expect("in time").expect("read");
        }
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_seek_is_never_delivered_after_it() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    for _ in 0..200 {
        producer.send(Record::to("t").value("v")).await.expect("written");
    }
    let mut consumer = consumer(&client, "t", 1).await;
    for round in 0..10 {
        let to = (round * 37) % 200;
        consumer.seek("t", 0, Position::Offset(to)).expect("assigned");
        let batch =
            timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("assigned");
        assert_eq!(batch.iter().next().map(|record| record.offset()), Some(to));
    }
}

#[tokio::test]
async fn admin_makes_describes_and_deletes() {
    let (_cluster, client) = start(3, &[]).await;
    let admin = client.admin();
    admin
        .create_topic(NewTopic::new("a").partitions(4).replication(3).config("max.message.bytes", "1000"))
        .await
        .expect("made");
    let again = admin.create_topic(NewTopic::new("a").partitions(4)).await.expect_err("there already");
    assert_eq!((again.code_name(), again.fault()), (Some("TOPIC_ALREADY_EXISTS"), Fault::Caller));
    let topics = admin.topics().await.expect("listed");
    assert_eq!((topics.len(), topics[0].name.as_str(), topics[0].partitions.len()), (1, "a", 4));
    assert_eq!(topics[0].partitions[0].replicas.len(), 3);
    let brokers = admin.describe_cluster().await.expect("described").brokers;
    assert_eq!(brokers.len(), 3);
    assert!(brokers.contains(&admin.group_coordinator("g").await.expect("found")));
    assert!(brokers.contains(&admin.transaction_coordinator("x").await.expect("found")));
    let configs = admin.describe_configs(&ConfigResource::Topic("a".into())).await.expect("described");
    let size = configs.iter().find(|entry| entry.name == "max.message.bytes").expect("there");
    assert_eq!((size.value.as_deref(), size.is_default), (Some("1000"), false));

    producer(&client).await.send(Record::to("a").partition(3).value("v")).await.expect("written");
    let ends = admin.list_offsets([("a", 3), ("a", 0)], OffsetAt::Latest).await.expect("listed");
    let ends: Vec<_> = ends.into_iter().map(|(_, offset)| offset.expect("found")).collect();
    assert_eq!(ends, [Some(1), Some(0)]);

    let deleted = admin.delete_topics(["a", "b"]).await.expect("answered");
    assert!(deleted[0].1.is_ok());
    assert_eq!(
        deleted[1].1.as_ref().expect_err("no such topic").code_name(),
        Some("UNKNOWN_TOPIC_OR_PARTITION")
    );
    assert!(admin.topics().await.expect("listed").is_empty());
}

#[tokio::test]
async fn mistakes_are_told_at_once_and_nothing_was_written() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let producer = client.producer().record_bytes_max(1000).build().await.expect("built");
    let large = vec![0; 2000];
    let check = |error: Error, part: &str| {
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.maybe_written() && error.fault() == Fault::Caller, "{error}");
    };
    let within = Duration::from_secs(1);
    let nowhere = timeout(within, producer.send(Record::to("nowhere"))).await.expect("within a second");
    check(nowhere.expect_err("no such topic"), "\"nowhere\": UNKNOWN_TOPIC_OR_PARTITION");
    let partition =
        timeout(within, producer.send(Record::to("t").partition(2))).await.expect("within a second");
    check(
        partition.expect_err("no such partition"),
        "partition 2 of topic \"t\": the topic has 2 partitions",
    );
    let large = timeout(within, producer.send(Record::to("t").value(&large))).await.expect("within a second");
    check(large.expect_err("too large"), "above the limit of 1000");
    let unknown =
        timeout(within, client.consumer_direct().assign([("nowhere", 0)], Position::Earliest).build());
    check(unknown.await.expect("within a second").expect_err("no such topic"), "UNKNOWN_TOPIC_OR_PARTITION");
    // And it still works.
    producer.send(Record::to("t")).await.expect("written");
    producer.close().await.expect("closed");
    check(producer.send(Record::to("t")).await.expect_err("closed"), "closed");
}

#[tokio::test]
async fn a_batch_the_broker_refuses_fails_its_records_and_the_next_one_passes() {
    let cluster = Broker::builder().batch_bytes_max(10_000).start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = producer(&client).await;
    let error =
        producer.send(Record::to("t").value(vec![1; 20_000])).await.expect_err("too large for the topic");
    assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"));
    assert!(!error.maybe_written(), "{error}");
    producer.post(Record::to("t").value(vec![1; 20_000])).await.expect("taken");
    let error = producer.flush().await.expect_err("told at the flush");
    assert!(error.to_string().contains("1 posted records were not written"), "{error}");
    producer.flush().await.expect("told once");
    let receipt = producer.send(Record::to("t").value("small")).await.expect("written");
    assert_eq!(receipt.offset(), Some(0));
}

#[tokio::test]
async fn every_acks_writes() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    for (acks, offset) in [(Acks::None, None), (Acks::Leader, Some(1)), (Acks::All, Some(2))] {
        let producer = client.producer().acks(acks).build().await.expect("built");
        let receipt = timeout(PATIENCE, producer.send(Record::to("t").value("v"))).await.expect("in time");
        assert_eq!(receipt.expect("written").offset(), offset, "{acks:?}");
        // Without acks only reading tells when it is there.
        let mut consumer = consumer(&client, "t", 1).await;
        read(&mut consumer, 1).await;
    }
    let contradiction = client.producer().idempotence(true).acks(Acks::Leader).build().await;
    assert!(contradiction.expect_err("refused").to_string().contains("idempotence needs acks=all"));
}

#[tokio::test]
async fn a_full_memory_makes_callers_wait_and_not_fail() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 4).expect("created");
    let client = Client::builder()
        .bootstrap(cluster.bootstrap())
        .memory_bytes_max(256 << 10)
        .connect()
        .await
        .expect("connected");
    let producer = producer(&client).await;
    let value = vec![1; 10_000];
    let writing = async {
        for _ in 0..500 {
            producer.post(Record::to("t").value(&value)).await.expect("taken");
        }
        producer.flush().await.expect("flushed");
    };
    timeout(PATIENCE, writing).await.expect("in time");
    let mut consumer = consumer(&client, "t", 4).await;
    let count: usize = read(&mut consumer, 500).await.into_values().map(|records| records.len()).sum();
    assert_eq!(count, 500);
}

#[tokio::test]
async fn dropped_futures_lose_nothing_and_double_nothing() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    let mut taken = 0;
    for index in 0..200u64 {
        let value = index.to_string();
        // Dropped at the first, second, … pending poll, or not at all.
        let limit = Duration::from_micros(index * 7);
        if let Ok(delivery) = timeout(limit, producer.enqueue(Record::to("t").value(&value))).await {
            let _ = timeout(limit, delivery.expect("taken")).await;
            taken += 1;
        }
    }
    producer.flush().await.expect("flushed");
    let mut consumer = consumer(&client, "t", 1).await;
    let mut values = Vec::new();
    while values.len() < taken {
        if let Ok(batch) = timeout(Duration::from_micros(300), consumer.next()).await {
            values.extend(
                batch
                    .expect("read")
                    .expect("assigned")
                    .iter()
                    .map(|record| record.value().map(<[u8]>::to_vec)),
            );
        }
    }
    let count = values.len();
    values.dedup();
    assert_eq!((values.len(), count), (taken, taken));
}

#[tokio::test]
async fn a_producer_dropped_with_records_on_their_way_sends_them() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    let delivery = producer.enqueue(Record::to("t").value("v")).await.expect("taken");
    drop(producer);
    timeout(PATIENCE, delivery).await.expect("in time").expect("written");
}

#[test]
fn public_types_go_where_tasks_go() {
    fn check<T: Send + 'static>() {}
    fn shared<T: Send + Sync + 'static>() {}
    check::<Consumer>();
    check::<milena::PartitionConsumer>();
    check::<milena::Batch>();
    check::<milena::Delivery>();
    shared::<Client>();
    shared::<Producer>();
    shared::<Error>();
}
