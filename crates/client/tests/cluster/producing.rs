//! Guarantees for a program that produces, whatever else happens at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use milena::Delivery;
use tokio::runtime;

use super::*;

/// Runs `test` on a thread of its own, to notice a task that never yields.
fn on_one_thread(test: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("built").block_on(test);
        let _ = done.send(());
    });
    is_done.recv_timeout(PATIENCE).expect("it panicked, or a future never yields");
}

/// A batch whose thread is busy with another task holds half of the memory, and the headers of the record take more than
/// the other half.
#[test]
fn a_record_with_large_headers_waits_for_room_and_lets_others_run() {
    on_one_thread(async {
        const BUDGET: usize = 64 << 10;
        let (cluster, _) = start(1, &[("t", 1)]).await;
        let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(2 * BUDGET);
        let client = builder.connect().await.expect("connected");
        let producer =
            client.producer().compression(Compression::Lz4).batch_bytes_max(30_000).settings(|settings| {
                settings.enqueue_timeout = Duration::from_millis(500);
            });
        let producer = producer.build().await.expect("built");
        producer.send(Record::to("t").value("first")).await.expect("written");

        let (release, released) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        producer.post(Record::to("t").value(vec![0; 20_000])).await.expect("taken");
        let header = vec![0; 40_000];
        let record = || Record::to("t").header("h", &header);

        timeout(Duration::from_millis(50), producer.post(record())).await.expect_err("no room yet");
        timeout(Duration::from_millis(50), producer.enqueue(record())).await.expect_err("no room yet");
        let error = producer.post(record()).await.expect_err("there is no room in time");
        assert_eq!(error.kind(), milena::ErrorKind::Full, "{error}");

        drop(release);
        busy.await.expect("ended").expect_err("nothing was sent");
        producer.send(record()).await.expect("there is room again");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flush_waits_for_everything_taken_before_it_whoever_opened_the_batch() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    producer.send(Record::to("t").value("warm")).await.expect("written");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for round in 0..2000 {
                    let delivery = producer.enqueue(Record::to("t").value("v")).await.expect("taken");
                    producer.flush().await.expect("flushed");
                    assert!(delivery.is_settled(), "round {round}");
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(PATIENCE, task).await.expect("in time").expect("settled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_taken_while_another_task_closes_is_settled_when_it_is_closed() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    for _ in 0..100 {
        let producer = producer(&client).await;
        producer.send(Record::to("t").value("warm")).await.expect("written");
        let is_closed = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (producer, is_closed) = (producer.clone(), Arc::clone(&is_closed));
                tokio::spawn(async move {
                    let mut last: Option<Delivery> = None;
                    loop {
                        match producer.enqueue(Record::to("t").value("v")).await {
                            Ok(delivery) => last = Some(delivery),
                            Err(error) => {
                                assert!(error.is_fatal() && !error.maybe_written(), "{error}");
                                break;
                            }
                        }
                    }
                    while !is_closed.load(Ordering::Acquire) {
                        tokio::task::yield_now().await;
                    }
                    assert!(last.is_none_or(|delivery| delivery.is_settled()));
                })
            })
            .collect();
        timeout(PATIENCE, producer.close()).await.expect("in time").expect("flushed");
        is_closed.store(true, Ordering::Release);
        for task in tasks {
            timeout(PATIENCE, task).await.expect("in time").expect("settled");
        }
    }
}

/// The producer was built on a runtime that is gone, and its handles live on in another.
#[test]
fn when_the_runtime_ends_nobody_waits_for_ever() {
    let here = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
    let there = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
    let (cluster, _) = here.block_on(start(1, &[("t", 2), ("u", 1)]));
    let bootstrap = cluster.bootstrap().to_owned();
    let (client, producer) = there.block_on(async {
        let client = Client::connect(&bootstrap).await.expect("connected");
        let producer = producer(&client).await;
        producer.send(Record::to("t").partition(0).value("written")).await.expect("written");
        (client, producer)
    });
    let (delivery, awaited, flush) = here.block_on(async {
        cluster.stop_node(1).await.expect("stopped");
        let delivery = producer.enqueue(Record::to("t").partition(0).value("lost")).await.expect("taken");
        let other = producer.enqueue(Record::to("t").partition(1).value("lost")).await.expect("taken");
        let flushing = producer.clone();
        (delivery, tokio::spawn(other), tokio::spawn(async move { flushing.flush().await }))
    });
    drop(there);
    here.block_on(async {
        let in_time = |what| move |_| panic!("{what} hangs");
        let error = timeout(PATIENCE, delivery).await.unwrap_or_else(in_time("a delivery"));
        assert!(error.expect_err("not written").is_fatal());
        let error = timeout(PATIENCE, awaited).await.unwrap_or_else(|_| panic!("an awaited delivery hangs"));
        assert!(error.expect("ran").expect_err("not written").is_fatal());
        let flushed = timeout(PATIENCE, flush).await.unwrap_or_else(|_| panic!("a flush hangs"));
        assert!(flushed.expect("ran").is_err());
        for record in [Record::to("t").value("late"), Record::to("u").value("late")] {
            let error =
                timeout(PATIENCE, producer.post(record)).await.unwrap_or_else(|_| panic!("post hangs"));
            assert!(error.expect_err("nobody sends it").is_fatal());
        }
        let flushed = timeout(PATIENCE, producer.flush()).await.unwrap_or_else(|_| panic!("flush hangs"));
        flushed.expect_err("nobody sends anything");
        timeout(PATIENCE, producer.close())
            .await
            .unwrap_or_else(|_| panic!("close hangs"))
            .expect_err("late");
        drop(client);
    });
}

#[tokio::test]
async fn records_without_a_key_avoid_partitions_without_a_leader() {
    let (cluster, _) = start(2, &[("t", 6)]).await;
    cluster.stop_node(2).await.expect("stopped");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().delivery_timeout(Duration::from_secs(5)).build().await.expect("built");
    for _ in 0..30 {
        let receipt = producer.send(Record::to("t").value("v")).await.expect("written");
        assert_eq!(cluster.leader("t", receipt.partition()), Some(1));
    }
}

/// The topic takes less than the producer's batches hold: as in Java's client (KAFKA-3995), only a record that is too
/// large alone is refused.
#[tokio::test]
async fn a_batch_that_is_too_large_for_its_topic_is_split() {
    for codec in [Compression::None, Compression::Lz4] {
        let cluster = Broker::builder().batch_bytes_max(10_000).start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        let producer = client.producer().compression(codec).build().await.expect("built");
        let mut noise = 7u64;
        let mut value = |bytes: usize| -> Vec<u8> {
            let mut next = || {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            };
            (0..bytes).map(|_| next()).collect()
        };
        let mut deliveries = Vec::new();
        for index in 0..300i64 {
            let key = index.to_be_bytes();
            let value = value(if index == 150 { 20_000 } else { 700 });
            let record = Record::to("t").key(&key).value(&value).header("h", "v").timestamp_ms(index);
            deliveries.push(producer.enqueue(record).await.expect("taken"));
        }
        producer.flush().await.expect("nothing was posted");
        let mut refused = Vec::new();
        for (index, delivery) in deliveries.into_iter().enumerate() {
            assert!(delivery.is_settled());
            match delivery.await {
                Ok(receipt) => {
                    let before = refused.len() as i64;
                    assert_eq!(
                        (receipt.offset(), receipt.timestamp_ms()),
                        (Some(index as i64 - before), index as i64)
                    );
                }
                Err(error) => {
                    assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"));
                    assert!(!error.maybe_written(), "{error}");
                    refused.push(index);
                }
            }
        }
        assert_eq!(refused, [150], "{codec}");
        let seen = read(&mut consumer(&client, "t", 1).await, 299).await.remove(&0).expect("partition 0");
        let keys: Vec<_> = seen.iter().map(|record| record.key.clone().expect("a key")).collect();
        let expected: Vec<_> =
            (0..300i64).filter(|index| *index != 150).map(|index| index.to_be_bytes().to_vec()).collect();
        assert_eq!(keys, expected, "{codec}");
        assert!(seen.iter().all(|record| record.headers == [(b"h".to_vec(), Some(b"v".to_vec()))]));
        // Those that follow are small enough from the start, posted ones too.
        for _ in 0..100 {
            producer.post(Record::to("t").value(value(700))).await.expect("taken");
        }
        producer.flush().await.expect("written");
    }
}

/// The producer learns the topic's limit, and makes batches that are as large as it takes.
#[tokio::test]
async fn batches_follow_the_topics_limit_once_one_was_refused() {
    let cluster = Broker::builder().batch_bytes_max(10_000).start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let value = [b'v'; 100];
    // The limit is asked for in the background.
    let follows = async {
        loop {
            for _ in 0..500 {
                producer.post(Record::to("t").value(&value)).await.expect("taken");
            }
            producer.flush().await.expect("written");
            let mut seen = 0;
            let mut largest = 0;
            while seen < 500 {
                let batch = consumer.next().await.expect("read").expect("assigned");
                assert!(batch.bytes() <= 10_000);
                largest = largest.max(batch.bytes());
                seen += batch.iter().count();
            }
            // Halves of a batch of 1 MB come to 7 812 bytes.
            if largest > 9_500 {
                break;
            }
        }
    };
    timeout(PATIENCE, follows).await.expect("batches stay small");
}

/// What a flush has confirmed is in the log, also without acknowledgements.
#[tokio::test]
async fn without_acks_a_flush_waits_until_the_broker_has_read_everything() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = client.producer().acks(Acks::None).build().await.expect("built");
    for round in 1..=20 {
        for _ in 0..100 {
            producer.post(Record::to("t").value("v")).await.expect("taken");
        }
        producer.flush().await.expect("the broker has read them");
        let ends = client.admin().list_offsets([("t", 0)], OffsetAt::Latest).await.expect("answered");
        assert_eq!(*ends[0].1.as_ref().expect("known"), Some(round * 100));
    }
}
