//! The forms in which records are given to a producer and their results come back.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _, stream};
use milena::ErrorKind;

use super::*;

/// A producer with little memory, whose broker at `node` is stopped.
async fn without_broker(cluster: &Cluster, memory: usize) -> Producer {
    let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(2 * memory);
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().batch_bytes_max(10_000).settings(|settings| {
        settings.enqueue_timeout = Duration::from_secs(1);
    });
    let producer = producer.build().await.expect("built");
    producer.send(Record::to("t").value("warm")).await.expect("written");
    cluster.stop_node(1).await.expect("stopped");
    producer
}

#[tokio::test]
async fn try_enqueue_refuses_at_once_and_says_why() {
    let (cluster, _client) = start(1, &[("t", 1), ("later", 1)]).await;
    let producer = without_broker(&cluster, 64 << 10).await;
    let value = [0; 1000];
    let mut deliveries = Vec::new();
    let error = loop {
        match producer.try_enqueue(Record::to("t").value(&value)) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
        assert!(deliveries.len() < 1000, "the memory never fills");
    };
    assert!(deliveries.len() >= 30, "{}", deliveries.len());
    assert_eq!((error.kind(), error.maybe_written()), (ErrorKind::Full, false), "{error}");

    // It is not known yet, and is asked for.
    let try_later = || producer.try_enqueue(Record::to("later").value("v"));
    assert_eq!(try_later().expect_err("not known").kind(), ErrorKind::Unavailable);
    cluster.start_node(1).await.expect("started");
    let delivery = loop {
        match try_later() {
            Ok(delivery) => break delivery,
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    timeout(PATIENCE, delivery).await.expect("in time").expect("written");
    for delivery in deliveries {
        delivery.await.expect("written");
    }

    let error = loop {
        let error = producer.try_enqueue(Record::to("missing").value("v")).expect_err("there is none");
        if error.kind() != ErrorKind::Unavailable {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    producer.close().await.expect("closed");
    assert_eq!(try_later().expect_err("closed").kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn one_error_names_the_records_of_a_call_that_were_not_written() {
    let (_cluster, client) = start(1, &[("t", 3)]).await;
    let producer = producer(&client).await;
    let large = vec![0; 2 << 20];
    let record = |index: usize| match index {
        7 => Record::to("t").value(&large),
        20 | 21 => Record::to("missing").value("v"),
        _ => Record::to("t").key(index.to_string()).value(index.to_string()).timestamp_ms(index as i64),
    };
    let error = producer.send_all((0..100).map(record)).await.expect_err("three are not written");
    assert_eq!(error.failed().map(|(place, _)| place).collect::<Vec<_>>(), [7, 20, 21]);
    assert!(!error.maybe_written());
    let text = error.to_string();
    assert!(text.starts_with("3 of 100 records were not written (7, 20, 21); record 7: "), "{text}");
    let mut offsets = BTreeMap::new();
    for (index, result) in error.results().iter().enumerate() {
        let Ok(receipt) = result else { continue };
        assert_eq!(receipt.timestamp_ms(), index as i64);
        // The records of a partition are in the order of the call.
        let next = offsets.entry(receipt.partition()).or_insert(0);
        assert_eq!(receipt.offset(), Some(*next));
        *next += 1;
    }
    assert_eq!(offsets.values().sum::<i64>(), 97);
    let receipts = producer.send_all((30..60).map(record)).await.expect("written");
    assert_eq!(receipts.len(), 30);
    assert!(producer.send_all([]).await.expect("nothing to write").is_empty());
}

#[tokio::test]
async fn callbacks_are_called_in_order_once_and_before_the_flush_returns() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    for index in 0..1000 {
        let (seen, again) = (Arc::clone(&seen), producer.clone());
        let settled = move |result: Result<milena::Receipt, Error>| {
            seen.lock().expect("no panic").push((index, result.expect("written").offset()));
            // A callback may produce.
            if index == 500 {
                drop(again.try_enqueue(Record::to("t").value("from a callback")).expect("taken"));
            }
            assert_ne!(index, 501, "a panic of a callback harms no other record");
        };
        producer.enqueue_with(Record::to("t").value("v"), settled).await.expect("taken");
    }
    producer.flush().await.expect("nothing was posted");
    let expected: Vec<_> = (0..1000).map(|index| (index, Some(index))).collect();
    assert_eq!(*seen.lock().expect("no panic"), expected);
    producer.enqueue_with(Record::to("missing"), |_| panic!("not taken")).await.expect_err("unknown");
    let last = producer.send(Record::to("t").value("v")).await.expect("written");
    assert_eq!(last.offset(), Some(1001));
}

#[tokio::test]
async fn a_stream_can_be_forwarded_to_a_producer() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let producer = producer(&client).await;
    let record = |index: i64| OwnedRecord {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        timestamp_ms: Some(index),
        key: None,
        value: Some(vec![0; 1000]),
        headers: Vec::new(),
    };
    let mut sink = producer.sink();
    sink.send_all(&mut stream::iter(0..5000).map(|index| Ok(record(index)))).await.expect("written");
    // It can go on, and tells what was not written.
    let missing = OwnedRecord { topic: "missing".into(), ..record(0) };
    sink.send(missing).await.expect_err("there is no such topic");
    sink.close().await.expect("flushed");
    let seen = read(&mut consumer(&client, "t", 2).await, 5000).await;
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 5000);
}

#[tokio::test]
async fn a_purge_gives_records_up_and_the_producer_goes_on() {
    let (cluster, _client) = start(1, &[("t", 1)]).await;
    let producer = without_broker(&cluster, 1 << 20).await;
    let mut deliveries = Vec::new();
    for _ in 0..30 {
        deliveries.push(producer.enqueue(Record::to("t").value(&[0; 1000])).await.expect("taken"));
    }
    producer.post(Record::to("t").value("posted")).await.expect("taken");
    timeout(PATIENCE, producer.purge()).await.expect("it waits for no broker").expect("purged");
    for delivery in deliveries {
        assert!(delivery.is_settled());
        let error = delivery.await.expect_err("given up");
        assert_eq!(error.kind(), ErrorKind::Purged, "{error}");
    }
    let error = producer.flush().await.expect_err("a posted record was given up");
    assert!(error.to_string().contains("1 posted records"), "{error}");
    cluster.start_node(1).await.expect("started");
    timeout(PATIENCE, producer.send(Record::to("t").value("after")))
        .await
        .expect("in time")
        .expect("written");
}

#[tokio::test]
async fn closing_with_a_deadline_returns_although_no_broker_answers() {
    let (cluster, _client) = start(1, &[("t", 1)]).await;
    let producer = without_broker(&cluster, 1 << 20).await;
    let delivery = producer.enqueue(Record::to("t").value("v")).await.expect("taken");
    let closed = timeout(PATIENCE, producer.close_within(Duration::from_millis(100))).await;
    closed.expect("it has a deadline").expect("nothing was posted");
    assert_eq!(delivery.await.expect_err("given up").kind(), ErrorKind::Purged);
    assert_eq!(producer.try_enqueue(Record::to("t")).expect_err("closed").kind(), ErrorKind::Closed);

    // With a broker it is a close like any other.
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = self::producer(&client).await;
    let delivery = producer.enqueue(Record::to("t").value("v")).await.expect("taken");
    producer.close_within(PATIENCE).await.expect("closed");
    assert!(delivery.is_settled());
    delivery.await.expect("written");
}

/// Counts what it sees, and panics at the second batch.
#[derive(Debug, Default)]
struct Counting {
    wants_records: bool,
    taken: std::sync::atomic::AtomicU32,
    settled: Mutex<Vec<(u32, bool)>>,
}

impl milena::Interceptor for Counting {
    fn settled(&self, batch: &milena::SettledBatch<'_>) {
        let mut settled = self.settled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        settled.push((batch.records, batch.result.is_ok()));
        assert_ne!(settled.len(), 2, "a program's interceptor may panic");
    }

    fn wants_records(&self) -> bool {
        self.wants_records
    }

    fn taken(&self, record: &Record<'_>, partition: i32) {
        assert_eq!((record.topic_name(), partition), ("t", 0));
        self.taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn interceptors_see_each_batch_and_records_only_if_they_want() {
    let (cluster, _client) = start(1, &[("t", 1)]).await;
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let [batches, records] =
        [false, true].map(|wants_records| Arc::new(Counting { wants_records, ..Counting::default() }));
    let builder = client.producer().interceptor(batches.clone()).interceptor(records.clone());
    let producer = builder.build().await.expect("built");
    for _ in 0..5 {
        producer.send(Record::to("t").value("v")).await.expect("written");
    }
    cluster.stop_node(1).await.expect("stopped");
    for _ in 0..3 {
        producer.post(Record::to("t").value("v")).await.expect("taken");
    }
    producer.purge().await.expect("purged");
    for (counting, taken) in [(&batches, 0), (&records, 8)] {
        assert_eq!(counting.taken.load(std::sync::atomic::Ordering::Relaxed), taken);
        let settled = counting.settled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = |is_written| -> u32 {
            settled.iter().filter(|(_, written)| *written == is_written).map(|(records, _)| records).sum()
        };
        assert_eq!((count(true), count(false)), (5, 3), "{settled:?}");
    }
}
