//! Retry topics that keep the order of keys.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Order, Output, Pipeline, Record, Retry, RetryTopics, Together};

use crate::world::{LIMIT, Log, World, until};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn pipeline(world: &World, order: Order) -> Pipeline {
    let consumer = world.client.consumer("billing").subscribe(["orders"]).commit_interval(ms(20));
    Pipeline::new(consumer)
        .order(order)
        .concurrency(20)
        .retry(Retry::never())
        .retry_topics(RetryTopics::tiers([ms(5), ms(10)]).create(true).keep_order(true))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
}

fn number_of(record: &Record) -> usize {
    std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()
}

/// Attempts: the number of each record, in the order in which they were made.
type Attempts = Log<(Vec<u8>, usize)>;

/// Of ten records, one fails in its topic, one also in the first tier, and one always.
fn verdict(record: &Record) -> Result<(), Failure> {
    match (number_of(record) % 10, record.tier()) {
        (1, 0) | (2, 0 | 1) | (3, _) => Err(Failure::retriable("not yet")),
        _ => Ok(()),
    }
}

/// The first attempts at the records of a key come in their order, each after the last of the record before it.
fn assert_ordered(attempts: &[(Vec<u8>, usize)]) {
    let mut last = BTreeMap::new();
    for (key, number) in attempts {
        let before = last.insert(key.clone(), *number);
        assert!(before.is_none_or(|before| before <= *number), "{number} of {key:?} after {before:?}");
    }
}

async fn write(world: &World, total: usize) {
    world.write(total, |number| (Some(format!("k{}", number % 7)), number as i32 % 7 % 3)).await;
}

async fn processes_in_order(order: Order) {
    let world = World::new(3).await;
    write(&world, 300).await;
    let attempts = Attempts::new();
    let handler = {
        let attempts = attempts.clone();
        move |record: Record| {
            let attempts = attempts.clone();
            async move {
                let key = match order {
                    Order::Partition => vec![record.partition() as u8],
                    _ => record.key().unwrap().to_vec(),
                };
                attempts.push((key, number_of(&record)));
                tokio::task::yield_now().await;
                verdict(&record)
            }
        }
    };
    let pipeline = pipeline(&world, order);
    let watch = pipeline.watch();
    let run = pipeline.run(handler, until(|| watch.stats().finished == 300));
    let report = tokio::time::timeout(LIMIT, run).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.dead), (300, 30));
    assert_ordered(&attempts.all());
}

#[tokio::test]
async fn a_key_keeps_its_order_over_retry_topics() {
    processes_in_order(Order::Key).await;
}

#[tokio::test]
async fn a_partition_keeps_its_order_over_retry_topics() {
    processes_in_order(Order::Partition).await;
}

#[tokio::test]
async fn groups_keep_the_order_of_their_keys_over_retry_topics() {
    let world = World::new(3).await;
    write(&world, 300).await;
    let ended = Attempts::new();
    let handler = {
        let ended = ended.clone();
        move |records: Vec<Record>| {
            let ended = ended.clone();
            async move {
                records.iter().try_for_each(verdict)?;
                for record in &records {
                    ended.push((record.key().unwrap().to_vec(), number_of(record)));
                }
                Ok::<_, Failure>(())
            }
        }
    };
    let pipeline = pipeline(&world, Order::Key);
    let watch = pipeline.watch();
    let run = pipeline.run_together(Together::up_to(10), handler, until(|| watch.stats().finished == 300));
    let report = tokio::time::timeout(LIMIT, run).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.dead), (300, 30));
    let ended = ended.all();
    assert_eq!(ended.len(), 270, "each once");
    assert_ordered(&ended);
}

/// Keys without a pending record are not held up: that of another key is processed while a long delay passes.
#[tokio::test]
async fn only_the_key_of_a_pending_record_waits() {
    let world = World::new(1).await;
    world.write(20, |number| (Some(format!("k{}", number % 2)), 0)).await;
    let attempts = Attempts::new();
    let handler = {
        let attempts = attempts.clone();
        move |record: Record| {
            attempts.push((record.key().unwrap().to_vec(), number_of(&record)));
            async move {
                match (number_of(&record), record.tier()) {
                    (1, 0) => Err(Failure::retriable("not for an hour")),
                    _ => Ok(()),
                }
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .retry(Retry::never())
        .retry_topics(RetryTopics::tiers([Duration::from_secs(3_600)]).create(true).keep_order(true))
        .skip_failed();
    let watch = pipeline.watch();
    let all_are_somewhere = || watch.stats().finished == 10 && watch.stats().moved == 10;
    pipeline.run(handler, until(all_are_somewhere)).await.expect("succeeds");
    let of_key = |key: &str| attempts.all().into_iter().filter(move |(of, _)| of == key.as_bytes()).count();
    assert_eq!((of_key("k0"), of_key("k1")), (10, 1));
    assert_eq!(world.committed("billing", 0).await, Some(20));
    // The next run knows which key waits before it processes anything.
    world.write(4, |number| (Some(format!("k{}", number % 2)), 0)).await;
    let log = attempts.clone();
    let handler = move |record: Record| {
        log.push((record.key().unwrap().to_vec(), number_of(&record)));
        async {}
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .retry_topics(RetryTopics::tiers([Duration::from_secs(3_600)]).keep_order(true));
    let watch = pipeline.watch();
    let stop = until(|| watch.stats().finished == 2 && watch.stats().moved == 2);
    pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!((of_key("k0"), of_key("k1")), (12, 1));
}

/// Members come, go and crash. What runs again was tried in its turn before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_its_order_while_members_come_and_go() {
    let total = 600;
    let world = World::new(3).await;
    write(&world, total).await;
    let attempts = Attempts::new();
    let start = || {
        let attempts = attempts.clone();
        let handler = move |record: Record| {
            let attempts = attempts.clone();
            async move {
                attempts.push((record.key().unwrap().to_vec(), number_of(&record)));
                tokio::time::sleep(ms(1)).await;
                verdict(&record)
            }
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let pipeline = pipeline(&world, Order::Key);
        let watch = pipeline.watch();
        let running = tokio::spawn(pipeline.run(handler, async move {
            let _ = stopped.await;
        }));
        (running, stop, watch)
    };
    let mut first = start();
    for round in 0..6 {
        let (running, stop, watch) = start();
        until(|| watch.stats().finished > 0 || first.2.stats().finished > 60).await;
        match round % 3 {
            0 => running.abort(),
            1 => {
                let _ = stop.send(());
                running.await.unwrap().expect("succeeds");
            }
            _ => {
                first.0.abort();
                first = (running, stop, watch);
            }
        }
    }
    let admin = world.client.admin();
    let committed = async {
        for topic in ["orders", "orders.billing.retry.5ms", "orders.billing.retry.10ms"] {
            for partition in 0..3 {
                let ends = admin.list_offsets([(topic, partition)], milena::OffsetAt::Latest);
                let end = ends.await.unwrap().remove(0).1.unwrap().unwrap();
                while world.committed_of("billing", topic, partition).await.unwrap_or_default() < end {
                    tokio::time::sleep(ms(20)).await;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, committed).await.expect("all end");
    let _ = first.1.send(());
    first.0.await.unwrap().expect("succeeds");
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut numbers = std::collections::BTreeSet::new();
    for (key, number) in attempts.all() {
        if numbers.insert(number) {
            let before = seen.insert(key, number);
            assert!(before.is_none_or(|before| before < number), "{number} is tried first after {before:?}");
        }
    }
    assert_eq!(numbers.len(), total);
}

#[tokio::test]
async fn a_key_keeps_its_order_in_transactions() {
    let world = World::new(3).await;
    world.client.admin().create_topic(milena::NewTopic::new("invoices").partitions(1)).await.unwrap();
    write(&world, 300).await;
    let handler = async |record: Record| {
        verdict(&record)?;
        Ok::<_, Failure>(Output::new().key(record.key().unwrap()).value(record.value().unwrap()))
    };
    let pipeline = pipeline(&world, Order::Key).transactional_id("billing-1").transaction_interval(ms(5));
    let watch = pipeline.watch();
    let run = pipeline.run_to("invoices", handler, until(|| watch.stats().finished == 300));
    let report = tokio::time::timeout(LIMIT, run).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.dead), (300, 30));
    let number = |value: Vec<u8>| String::from_utf8(value).unwrap().parse().unwrap();
    let outputs = world.read("invoices").await.into_iter();
    let outputs: Vec<_> = outputs.map(|of| (of.key.unwrap(), number(of.value.unwrap()))).collect();
    assert_eq!(outputs.len(), 270);
    assert_ordered(&outputs);
}

#[tokio::test]
async fn without_an_order_there_is_none_to_keep() {
    let world = World::new(1).await;
    let error =
        pipeline(&world, Order::None).run(|_: Record| async {}, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("keep_order()"), "{error}");
}

/// Far more waits in retry topics, and in the source, than the client may hold in memory: what waits is known all the same.
#[tokio::test]
async fn what_waits_is_known_also_if_memory_is_short() {
    let world = World::with_memory(3, 8 << 20).await;
    let (count, value) = (1_500, "x".repeat(10_000));
    let write = async |keys: &str| {
        let producer = world.client.producer().build().await.unwrap();
        for number in 0..count {
            let (key, value) = (format!("{keys}{}", number % 50), format!("{number} {value}"));
            let record = milena::Record::to("orders").partition(number % 3).key(&key).value(&value);
            producer.post(record).await.unwrap();
        }
        producer.flush().await.unwrap();
    };
    let run = async |finished: u64, moved: u64| {
        let handler = async |record: Record| match record.key().unwrap().starts_with(b"bad") {
            true => Err(Failure::retriable("not for an hour")),
            false => Ok(()),
        };
        let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
            .retry(Retry::never())
            .retry_topics(RetryTopics::tiers([Duration::from_secs(3_600)]).create(true).keep_order(true))
            .skip_failed();
        let watch = pipeline.watch();
        let stop = until(|| watch.stats().finished == finished && watch.stats().moved == moved);
        pipeline.run(handler, stop).await.expect("succeeds");
    };
    let all = u64::try_from(count).unwrap();
    write("bad").await;
    run(0, all).await;
    write("bad").await;
    write("good").await;
    run(all, all).await;
}
