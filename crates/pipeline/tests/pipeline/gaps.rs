//! Offsets without records: what compaction has removed, markers of transactions, records of aborted ones. They hold no commit back.

use std::time::{Duration, SystemTime};

use milena::{Client, Isolation, NewTopic, Record as Produced};
use milena_broker::Broker;
use milena_pipeline::{Order, Pipeline, Record, Together};

use crate::world::{Counter, LIMIT, Log};

/// The offset that the group has committed of partition 0.
async fn committed(client: &Client, group: &str, topic: &str) -> Option<i64> {
    let consumer = client.consumer(group).assign([(topic, 0)]).build().await.expect("reads");
    let committed = consumer.committed([(topic, 0)]).await.expect("is told");
    committed.into_iter().next().and_then(|(_, committed)| committed).map(|committed| committed.offset)
}

/// Processes a topic of one partition in all orders, with one and with several workers, and in groups. Records end in another order
/// than they began.
async fn process(client: &Client, topic: &str, expected: &[i64], end: i64) {
    for order in [Order::Key, Order::Partition, Order::None] {
        for (workers, is_together) in [(1, false), (3, false), (1, true)] {
            let group = format!("{topic} {order:?} {workers} {is_together}");
            let (count, seen) = (Counter::new(), Log::new());
            let handle = {
                let (count, seen) = (count.clone(), seen.clone());
                async move |records: Vec<Record>| {
                    for record in records {
                        if record.offset() % 3 == 0 {
                            tokio::time::sleep(Duration::from_millis(1 + record.offset() as u64 % 5)).await;
                        }
                        seen.push(record.offset());
                        count.add();
                    }
                }
            };
            let consumer =
                client.consumer(group.as_str()).subscribe([topic]).isolation(Isolation::ReadCommitted);
            let pipeline = Pipeline::new(consumer).order(order).workers(workers);
            let all = count.reach(expected.len());
            let report = if is_together {
                let handler = move |records: Vec<Record>| {
                    let handle = handle.clone();
                    async move { handle(records).await }
                };
                let together = Together::up_to(4).within(Duration::from_millis(1));
                pipeline.run_together(together, handler, all).await
            } else {
                let handler = move |record: Record| {
                    let handle = handle.clone();
                    async move { handle(vec![record]).await }
                };
                pipeline.run(handler, all).await
            };
            assert_eq!(report.expect("succeeds").finished, expected.len() as u64, "{group}");
            let mut seen = seen.all();
            seen.sort_unstable();
            assert_eq!(seen, expected, "{group}");
            assert_eq!(committed(client, &group, topic).await, Some(end), "{group}");
        }
    }
}

#[tokio::test]
async fn what_compaction_has_removed_holds_no_commit_back() {
    let broker = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = broker.config("log.cleaner.backoff.ms", "1").start().await.expect("starts");
    let client = Client::connect(cluster.bootstrap()).await.expect("connects");
    let topic = NewTopic::new("t").partitions(1).config("cleanup.policy", "compact");
    let topic = topic.config("segment.ms", "10").config("min.cleanable.dirty.ratio", "0.01");
    client.admin().create_topic(topic).await.expect("is made");
    let producer = client.producer().build().await.expect("a producer");
    // Of the offsets 0 to 99, every other one is superseded by those from 100 to 149.
    let every_other = (0..100).step_by(2);
    let rounds: [(Vec<i32>, u64); 3] =
        [((0..100).collect(), 0), (every_other.collect(), 10), (vec![200], 20)];
    for (keys, second) in rounds {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
        for key in keys {
            let key = key.to_string();
            producer.post(Produced::to("t").key(&key).value("v").timestamp(time)).await.expect("is taken");
        }
        producer.flush().await.expect("is written");
    }
    let expected: Vec<i64> = (0..100).filter(|offset| offset % 2 == 1).chain(100..151).collect();
    let compacted = async {
        loop {
            let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("reads");
            let mut seen = Vec::new();
            while let Some(batch) = consumer.next().await.expect("reads") {
                seen.extend(batch.iter().map(|record| record.offset()));
            }
            if seen == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, compacted).await.expect("is compacted");
    process(&client, "t", &expected, 151).await;
}

#[tokio::test]
async fn markers_and_aborted_records_hold_no_commit_back() {
    let broker = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = broker.start().await.expect("starts");
    cluster.create_topic("t", 1).expect("is made");
    let client = Client::connect(cluster.bootstrap()).await.expect("connects");
    let mut producer = client.transactional("t-1").build().await.expect("a producer");
    let mut expected = Vec::new();
    let mut next = 0;
    for round in 0..8 {
        let transaction = producer.begin().await.expect("begins");
        for _ in 0..3 {
            let key = (next % 4).to_string();
            // What was not sent yet would be left out by an abort.
            transaction.send(Produced::to("t").key(&key).value("v")).await.expect("is written");
            if round % 3 != 1 {
                expected.push(next);
            }
            next += 1;
        }
        // The marker takes an offset.
        next += 1;
        if round % 3 == 1 {
            transaction.abort().await.expect("aborts");
        } else {
            transaction.commit().await.expect("commits");
        }
    }
    process(&client, "t", &expected, next).await;
}
