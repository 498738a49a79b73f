//! Faults on the way to the brokers and among them, one scenario each: what is in the topics and in the group's offsets afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use milena::{ErrorKind, Isolation};
use milena_messages::ApiKey;

use super::lossy::{Loss, Losses};
use super::*;

async fn lossy(nodes: u16, topics: &[(&str, i32)], request_timeout: Duration) -> (Cluster, Client, Losses) {
    let builder = Broker::builder().nodes(nodes).default_replication(nodes as i16);
    let cluster = builder.group_initial_rebalance_delay(Duration::ZERO).start().await.expect("started");
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions).expect("created");
    }
    let losses = Losses::default();
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(losses.clone());
    let client = client.request_timeout(request_timeout).connect().await.expect("connected");
    (cluster, client, losses)
}

/// The values of a topic's partition in the order of its log.
async fn log(cluster: &Cluster, topic: &str, partition: i32, isolation: Isolation) -> Vec<String> {
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let builder = client.consumer_direct().assign([(topic, partition)], Position::Earliest);
    let mut consumer = builder.isolation(isolation).until_end().build().await.expect("built");
    let mut values = Vec::new();
    while let Some(batch) = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read") {
        for record in &batch {
            values.push(String::from_utf8_lossy(record.value().expect("a value")).into_owned());
        }
    }
    values
}

/// Each attempt of a batch meets another fault before one is answered. Up to five batches are in flight.
#[tokio::test]
async fn records_whose_answers_are_lost_late_or_cut_are_written_once_in_order_and_reported_so() {
    const RECORDS: usize = 200;
    let faults = [
        vec![Loss::Answer],
        vec![Loss::HalfAnswer],
        vec![Loss::Request],
        vec![Loss::Late(Duration::from_millis(1_500))],
        vec![Loss::Silence],
        vec![Loss::Answer, Loss::HalfAnswer, Loss::Request, Loss::Answer],
    ];
    for faults in faults {
        let (cluster, client, losses) = lossy(1, &[("t", 1)], Duration::from_secs(1)).await;
        let producer = client.producer().batch_bytes_max(200).build().await.expect("built");
        let mut deliveries = Vec::new();
        for index in 0..RECORDS {
            if index == 20 {
                faults.iter().for_each(|loss| losses.add(ApiKey::Produce, *loss));
            }
            let value = format!("{index:03}");
            deliveries.push(producer.enqueue(Record::to("t").value(&value)).await.expect("taken"));
        }
        for (index, delivery) in deliveries.into_iter().enumerate() {
            let receipt = timeout(PATIENCE, delivery).await.expect("in time");
            let receipt = receipt.unwrap_or_else(|error| panic!("{faults:?}, {index}: {error}"));
            // A broker that has forgotten where a batch is does not say.
            assert!(
                receipt.offset().is_none_or(|offset| offset == index as i64),
                "{faults:?}, {index}: {receipt:?}"
            );
        }
        assert!(losses.are_over(), "{faults:?}");
        let expected: Vec<_> = (0..RECORDS).map(|index| format!("{index:03}")).collect();
        assert_eq!(log(&cluster, "t", 0, Isolation::ReadUncommitted).await, expected, "{faults:?}");
    }
}

/// KAFKA-19012 (CVE-2026-35554): the memory of a batch whose time is over is used again while its bytes are on their way. Here the
/// connection takes no more bytes in the middle of a request, and the delivery timeout ends long before the request's.
#[tokio::test]
async fn a_batch_whose_time_is_over_while_it_is_sent_reaches_no_other_topic() {
    let (cluster, client, losses) = lossy(1, &[("a", 1), ("b", 1)], Duration::from_millis(500)).await;
    let producer = client.producer().batch_bytes_max(50_000).delivery_timeout(Duration::from_millis(150));
    let producer = producer.build().await.expect("built");
    let (mut written, mut failed) = ([0, 0], [0, 0]);
    for (place, topic) in ["a", "b"].into_iter().enumerate() {
        // The topics are known from then on.
        match producer.send(Record::to(topic).value(topic.repeat(1_000))).await {
            Ok(_) => written[place] += 1,
            Err(error) => failed[place] += i32::from(error.maybe_written()),
        }
    }
    for round in 0..6 {
        losses.add(ApiKey::Produce, Loss::Silence);
        let mut deliveries = Vec::new();
        for index in 0..400 {
            let place = (index + round) % 2;
            let topic = ["a", "b"][place];
            if let Ok(delivery) = producer.try_enqueue(Record::to(topic).value(topic.repeat(1_000))) {
                deliveries.push((place, delivery));
            }
        }
        for (place, delivery) in deliveries {
            match timeout(PATIENCE, delivery).await.expect("in time") {
                Ok(_) => written[place] += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                    failed[place] += i32::from(error.maybe_written());
                }
            }
        }
    }
    assert!(failed[0] + failed[1] > 0, "some were on their way when their time was over");
    for (place, topic) in ["a", "b"].into_iter().enumerate() {
        let values = log(&cluster, topic, 0, Isolation::ReadUncommitted).await;
        assert!(
            values.iter().all(|value| *value == topic.repeat(1_000)),
            "{topic} has records of the other topic"
        );
        let count = values.len() as i32;
        assert!((written[place]..=written[place] + failed[place]).contains(&count), "{topic}: {count}");
    }
}

/// Every record of the outage fails with the truth about itself, and then the producer writes again by itself.
#[tokio::test]
async fn a_producer_whose_memory_is_full_goes_on_after_an_outage_longer_than_the_delivery_timeout() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 2).expect("created");
    let client = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(256 << 10);
    let client = client.connect().await.expect("connected");
    let producer = client.producer().batch_bytes_max(10_000).delivery_timeout(Duration::from_secs(2));
    let producer = producer.build().await.expect("built");
    producer.send(Record::to("t").partition(0).value("before")).await.expect("written");
    cluster.stop_node(1).await.expect("stopped");
    let value = [7; 2_000];
    let (mut deliveries, mut refused) = (Vec::new(), 0);
    for index in 0..200 {
        match producer.enqueue(Record::to("t").partition(index % 2).value(&value)).await {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => {
                assert!(error.kind() == ErrorKind::Full && !error.maybe_written(), "{error}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
    }
    let mut maybe_written = 0;
    for delivery in deliveries {
        let error = timeout(PATIENCE, delivery).await.expect("in time").expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        maybe_written += usize::from(error.maybe_written());
    }
    cluster.start_node(1).await.expect("started");
    // One whose time ends while the connection is made anew fails too.
    let is_back =
        async { while producer.send(Record::to("t").partition(0).value("after")).await.is_err() {} };
    timeout(PATIENCE, is_back).await.expect("it goes on");
    for _ in 0..20 {
        producer.post(Record::to("t").partition(1).value(&value)).await.expect("taken");
    }
    producer.flush().await.expect("written");
    let found: usize = {
        let of_0 = log(&cluster, "t", 0, Isolation::ReadUncommitted).await;
        assert_eq!(of_0.first().map(String::as_str), Some("before"));
        assert_eq!(of_0.last().map(String::as_str), Some("after"));
        of_0.len() + log(&cluster, "t", 1, Isolation::ReadUncommitted).await.len()
    };
    assert!(
        (22..=22 + maybe_written + 100).contains(&found),
        "{found}, of which {maybe_written} may be written"
    );
}

/// Moves the leaders of `t` and the coordinators from node to node until it is stopped.
fn wander(cluster: &Arc<Cluster>, is_over: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (cluster, is_over) = (Arc::clone(cluster), Arc::clone(is_over));
    tokio::spawn(async move {
        let mut moves = 0;
        while !is_over.load(Ordering::SeqCst) {
            let node = (moves % 3) as i32 + 1;
            for partition in 0..2 {
                cluster.move_leader("t", partition, node).expect("moved");
            }
            cluster.move_transaction_coordinator("billing", (moves / 2 % 3) as i32 + 1).expect("moved");
            if moves % 5 == 4 {
                cluster.move_coordinator("g", node).expect("moved");
            }
            moves += 1;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        moves
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_move_all_the_time_while_answers_are_lost_reorder_nothing() {
    const RECORDS: usize = 2_000;
    let (cluster, client, losses) = lossy(3, &[("t", 2)], Duration::from_secs(1)).await;
    let (cluster, is_over) = (Arc::new(cluster), Arc::new(AtomicBool::new(false)));
    let wandering = wander(&cluster, &is_over);
    let producer = client.producer().batch_bytes_max(1_000).build().await.expect("built");
    let writing = async {
        for index in 0..RECORDS {
            let value = format!("{index:05}");
            let fault =
                [Loss::Answer, Loss::HalfAnswer, Loss::Request, Loss::Late(Duration::from_millis(30))];
            if index % 100 == 0 {
                losses.add(ApiKey::Produce, fault[index / 100 % 4]);
            }
            producer.post(Record::to("t").partition((index % 2) as i32).value(&value)).await.expect("taken");
            if index % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        producer.flush().await.expect("written");
    };
    timeout(PATIENCE * 2, writing).await.expect("in time");
    is_over.store(true, Ordering::SeqCst);
    assert!(wandering.await.expect("moved") > 3);
    for partition in 0..2 {
        let expected: Vec<_> = (partition..RECORDS).step_by(2).map(|index| format!("{index:05}")).collect();
        assert_eq!(log(&cluster, "t", partition as i32, Isolation::ReadUncommitted).await, expected);
    }
}

#[tokio::test]
async fn a_record_whose_time_is_over_fails_the_commit_and_the_next_transaction_is_good() {
    for version in [1, 2] {
        let cluster = Broker::builder().nodes(2).transaction_version(version).start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let leader = cluster.leader("t", 0).expect("led");
        cluster.move_transaction_coordinator("billing", 3 - leader).expect("moved");
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        let builder = client.transactional("billing").delivery_timeout(Duration::from_secs(2));
        let mut producer = builder.build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("aborted")).await.expect("written");
        cluster.stop_node(leader).await.expect("stopped");
        transaction.post(Record::to("t").value("aborted")).await.expect("taken");
        let error = timeout(PATIENCE, transaction.flush()).await.expect("in time").expect_err("it is down");
        assert!(error.requires_abort() && !error.is_fatal(), "version {version}: {error}");
        let error =
            timeout(PATIENCE, transaction.commit()).await.expect("in time").expect_err("one is missing");
        assert!(error.requires_abort() && !error.maybe_written(), "version {version}: {error}");
        cluster.start_node(leader).await.expect("started");
        let is_committed = async {
            loop {
                let Ok(transaction) = producer.begin().await else { continue };
                if transaction.post(Record::to("t").value("good")).await.is_err() {
                    continue;
                }
                if transaction.commit().await.is_ok() {
                    return;
                }
            }
        };
        timeout(PATIENCE, is_committed).await.expect("it goes on");
        assert_eq!(log(&cluster, "t", 0, Isolation::ReadCommitted).await, ["good"], "version {version}");
    }
}

/// KIP-447: an offset that waits for its transaction is neither read as it was before nor as none.
#[tokio::test]
async fn whoever_asks_for_an_offset_waits_for_the_transaction_that_changes_it() {
    for is_committed in [true, false] {
        let (_cluster, client, _) = lossy(1, &[("in", 1)], PATIENCE).await;
        let consumer = || {
            let builder = client.consumer("g").assign([("in", 0)]).isolation(Isolation::ReadCommitted);
            builder.manual_commits().build()
        };
        let (first, second) = (consumer().await.expect("built"), consumer().await.expect("built"));
        let mut producer = client.transactional("billing").build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        transaction.commit_offsets_at(&first, [(("in", 0), 7)]).await.expect("in the transaction");
        let mut asked = std::pin::pin!(second.committed([("in", 0)]));
        assert!(timeout(Duration::from_millis(300), &mut asked).await.is_err(), "it is not decided yet");
        match is_committed {
            true => transaction.commit().await.expect("committed"),
            false => transaction.abort().await.expect("aborted"),
        }
        let stored = timeout(PATIENCE, asked).await.expect("in time").expect("told").remove(0).1;
        assert_eq!(stored.map(|of| of.offset), is_committed.then_some(7));
    }
}

/// What a look-up of the committed offset says when it comes late is older than where the program has gone since.
#[tokio::test]
async fn a_late_answer_about_the_committed_offset_does_not_undo_a_seek() {
    let (_cluster, client, losses) = lossy(1, &[("in", 1)], PATIENCE).await;
    let producer = client.producer().build().await.expect("built");
    for value in ["a", "b", "c", "d"] {
        producer.send(Record::to("in").value(value)).await.expect("written");
    }
    let consumer = || client.consumer("g").assign([("in", 0)]).manual_commits().build();
    let mut before = consumer().await.expect("built");
    timeout(PATIENCE, before.next()).await.expect("in time").expect("read");
    before.commit_offsets([(("in", 0), 3)]).await.expect("committed");
    losses.add(ApiKey::OffsetFetch, Loss::Late(Duration::from_millis(300)));
    let mut consumer = consumer().await.expect("built");
    consumer.seek("in", 0, Position::Offset(1)).expect("assigned");
    let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
    assert_eq!(batch.expect("a partition is assigned").first_offset(), 1);
    assert!(losses.are_over());
}

/// A program that has read nothing commits no offsets, as often as it likes.
#[tokio::test]
async fn a_transaction_takes_no_offsets_as_well() {
    for version in [1, 2] {
        let (cluster, client, _) = lossy(1, &[("in", 1)], PATIENCE).await;
        cluster.set_transaction_version(version).expect("set");
        let consumer =
            client.consumer("g").assign([("in", 0)]).manual_commits().build().await.expect("built");
        let mut producer = client.transactional("billing").build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        transaction.commit_offsets(&consumer).await.expect("nothing");
        transaction.commit_offsets(&consumer).await.expect("nothing again");
        transaction.commit_offsets_at(&consumer, [(("in", 0), 1)]).await.expect("one");
        transaction.commit_offsets_at(&consumer, [(("in", 0), 2)]).await.expect("a later one");
        transaction.commit().await.expect("committed");
        let stored = consumer.committed([("in", 0)]).await.expect("told").remove(0).1;
        assert_eq!(stored.map(|of| of.offset), Some(2), "version {version}");
    }
}

/// What the brokers themselves refuse of a name, an acknowledgement or a record is told at once.
#[tokio::test]
async fn topics_that_cannot_be_are_told_at_once() {
    let (_cluster, client) = start(1, &[]).await;
    let producer = client.producer().build().await.expect("built");
    for name in ["", "a b", "a/b", ".", "..", &"x".repeat(250)] {
        let sent = timeout(Duration::from_secs(5), producer.send(Record::to(name).value("v")));
        let error = sent.await.expect("at once").expect_err("no such topic can be");
        assert!(!error.maybe_written() && error.fault() == Fault::Caller, "{name:?}: {error}");
    }
}
