//! What every pipeline does: all records once, in their order, as many at once as it may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena::Client;
use milena::metrics::{HistogramSnapshot, Registry};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::layers::Measure;
use milena_pipeline::{Failure, Order, Pipeline, Record, blocking, metrics, service};
use tower::{Layer as _, service_fn};

use crate::world::{Counter, LIMIT, Log, World};

async fn run_all(order: Order, workers: usize, partitions: i32) {
    let world = World::new(partitions).await;
    world.write(1_000, |number| (Some(format!("k{}", number % 17)), (number % 17) as i32 % partitions)).await;
    let (count, log) = (Counter::new(), Log::new());
    let in_work = std::sync::Arc::new(std::sync::Mutex::new((BTreeMap::new(), 0_usize, 0_usize)));
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let handler = {
        let (count, log, in_work) = (count.clone(), log.clone(), in_work.clone());
        move |record: Record| {
            let (count, log, in_work) = (count.clone(), log.clone(), in_work.clone());
            async move {
                let key = match order {
                    Order::Key => format!("{} {:?}", record.partition(), record.key()),
                    Order::Partition => record.partition().to_string(),
                    Order::None => format!("{} {}", record.partition(), record.offset()),
                };
                {
                    let mut now = in_work.lock().unwrap();
                    assert!(now.0.insert(key.clone(), ()).is_none(), "two of {key} are in work");
                    now.1 += 1;
                    now.2 = now.2.max(now.1);
                }
                if record.offset() % 3 > 0 {
                    tokio::time::sleep(Duration::from_millis(record.offset() as u64 % 3)).await;
                }
                {
                    let mut now = in_work.lock().unwrap();
                    now.0.remove(&key);
                    now.1 -= 1;
                }
                log.push((key, record.partition(), record.offset()));
                count.add();
            }
        }
    };
    let pipeline = pipeline.order(order).concurrency(50).workers(workers);
    let running = pipeline.run(handler, count.reach(1_000));
    let report = tokio::time::timeout(LIMIT, running).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.left.len()), (1_000, 0));
    let most = in_work.lock().unwrap().2;
    assert!(most <= 50, "{most} were in work");
    assert!(most > 1 || partitions == 1, "{most} was in work");
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, partition, offset) in log.all() {
        assert!(seen.insert((partition, offset)), "twice");
        let before = last.insert(key.clone(), offset);
        assert!(before.is_none_or(|before| before < offset), "{key}: {offset} after {before:?}");
    }
    let mut committed = 0;
    for partition in 0..partitions {
        committed += world.committed("billing", partition).await.unwrap_or_default();
    }
    assert_eq!(committed, 1_000);
}

#[tokio::test]
async fn by_key_with_one_worker() {
    run_all(Order::Key, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn by_key_with_more_workers_than_partitions() {
    run_all(Order::Key, 4, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_partition() {
    run_all(Order::Partition, 2, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_an_order() {
    run_all(Order::None, 4, 2).await;
}

#[tokio::test]
async fn functions_that_block_run_on_other_threads() {
    let world = World::new(2).await;
    world.write(20, |number| (None, number as i32 % 2)).await;
    let (count, log) = (Counter::new(), Log::new());
    let handler = {
        let (count, log) = (count.clone(), log.clone());
        blocking(move |_: Record| {
            std::thread::sleep(Duration::from_millis(1));
            log.push(std::thread::current().id());
            count.add();
        })
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).concurrency(8);
    let report = pipeline.run(handler, count.reach(20)).await.expect("succeeds");
    assert_eq!(report.finished, 20);
    assert!(!log.all().contains(&std::thread::current().id()));
}

#[tokio::test]
async fn what_is_unfinished_is_not_committed_and_comes_again() {
    let world = World::new(1).await;
    world.write(10, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.offset() == 4 {
                    std::future::pending::<()>().await;
                }
                done.add();
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .drain(Duration::from_millis(10));
    let report = pipeline.run(handler, done.reach(9)).await.expect("succeeds");
    let left: Vec<_> =
        report.left.iter().map(|left| (left.topic.as_str(), left.partition, left.offset)).collect();
    assert_eq!((report.finished, left), (9, vec![("orders", 0, 4)]));
    assert_eq!(world.committed("billing", 0).await, Some(4));

    // Without what was stored beside the offset, all from there on comes again. With it, only what was not finished.
    for (keeps, expect) in [(false, vec![4, 5, 6, 7, 8, 9]), (true, vec![4])] {
        let (again, log) = (Counter::new(), Log::new());
        let handler = {
            let (again, log) = (again.clone(), log.clone());
            move |record: Record| {
                log.push(record.offset());
                again.add();
                std::future::pending::<()>()
            }
        };
        let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
        let pipeline = pipeline.keep_finished(keeps).drain(Duration::ZERO);
        pipeline.run(handler, again.reach(expect.len())).await.expect("succeeds");
        let mut offsets = log.all();
        offsets.sort_unstable();
        assert_eq!(offsets, expect);
    }
}

#[tokio::test]
async fn a_slow_partition_holds_up_no_other() {
    let world = World::new(4).await;
    world.write(4_000, |number| (Some(number.to_string()), number as i32 % 4)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.partition() == 2 {
                    std::future::pending::<()>().await;
                }
                done.add();
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.concurrency(16).workers(1).drain(Duration::from_millis(10));
    let report = pipeline.run(handler, done.reach(3_000)).await.expect("succeeds");
    assert_eq!(report.finished, 3_000);
    assert!(report.left.len() <= 12, "{} of the slow partition were in work", report.left.len());
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_refused() {
    let world = World::new(1).await;
    for (change, why) in [
        ((|pipeline: Pipeline| pipeline.concurrency(0)) as fn(Pipeline) -> Pipeline, "concurrency is 0"),
        (|pipeline| pipeline.workers(0), "workers is 0"),
        (|pipeline| pipeline.concurrency(2).workers(3), "workers is 3, more than the concurrency of 2"),
        (|pipeline| pipeline.time_limit(Duration::ZERO), "time_limit is 0"),
        (|pipeline| pipeline.partition_bytes_max(0), "partition_bytes_max is 0"),
    ] {
        let pipeline = change(Pipeline::new(world.client.consumer("billing").subscribe(["orders"])));
        let error = pipeline.run(async |_: Record| {}, std::future::pending()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the pipeline cannot run: {why}")), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_gets_no_record() {
    let world = World::new(1).await;
    world.write(3, |_| (None, 0)).await;
    let error = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .run(Closed(service(async |_: Record| {})), std::future::pending())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("its handler takes no more records: out of ink"), "{error}");
    assert_eq!(error.failure().expect("one").to_string(), "out of ink");
}

#[derive(Clone)]
struct Closed<S>(S);

impl<S: milena_pipeline::RecordService> tower_service::Service<Record> for Closed<S> {
    type Response = ();
    type Error = Failure;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Failure>> {
        std::task::Poll::Ready(Err(Failure::fatal("out of ink")))
    }

    fn call(&mut self, record: Record) -> S::Future {
        self.0.call(record)
    }
}

/// A service that does eight records at a time, and lets others wait.
#[tokio::test]
async fn the_concurrency_that_is_of_use_is_found() {
    let world = World::new(4).await;
    world.write(4_000, |number| (Some(number.to_string()), number as i32 % 4)).await;
    let (done, busy) = (Counter::new(), std::sync::Arc::new(tokio::sync::Semaphore::new(8)));
    let handler = {
        let done = done.clone();
        move |_: Record| {
            let (done, busy) = (done.clone(), busy.clone());
            async move {
                let _permit = busy.acquire().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
                done.add();
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.order(Order::None).workers(1).adaptive_concurrency(2_000);
    let watch = pipeline.watch();
    let stop = async {
        done.reach(3_900).await;
        let found = watch.stats().concurrency;
        assert!((4..=200).contains(&found), "{found}");
        done.reach(4_000).await;
    };
    pipeline.run(handler, stop).await.expect("succeeds");
}

/// The buffer that a program asks for is filled while it takes nothing, and not much more than that.
#[tokio::test]
async fn a_consumer_fetches_ahead_as_far_as_it_was_told() {
    let world = World::new(1).await;
    let producer = world.client.producer().build().await.unwrap();
    let value = "x".repeat(10_000);
    for _ in 0..2_000 {
        producer.post(milena::Record::to("orders").value(&value)).await.unwrap();
    }
    producer.flush().await.unwrap();
    let bytes = 8 << 20;
    let mut consumer =
        world.client.consumer("billing").subscribe(["orders"]).buffered(bytes).build().await.unwrap();
    let mut taken = consumer.next().await.unwrap().expect("records").iter().count();
    crate::world::until(|| consumer.flow().buffered_bytes >= bytes).await;
    let flow = consumer.flow();
    assert!(flow.buffered_bytes < 2 * bytes && flow.partitions.now == 1, "{flow:?}");
    while taken < 2_000 {
        taken += consumer.next().await.unwrap().expect("records").iter().count();
    }
}

#[tokio::test]
async fn how_long_calls_take_is_in_a_registry_by_outcome() {
    let world = World::new(1).await;
    world.write(20, |number| (Some(number.to_string()), 0)).await;
    let registry = Registry::new();
    let client = Client::builder().bootstrap(world.cluster.bootstrap()).metrics(&registry);
    let client = client.connect().await.expect("connects");
    let count = Counter::new();
    let handler = {
        let count = count.clone();
        service_fn(move |record: Record| {
            count.add();
            async move { if record.offset() == 3 { Err(Failure::poison("of the test")) } else { Ok(()) } }
        })
    };
    let handler = Measure::new().in_registry(&registry, "charge").layer(handler);
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]));
    let watch = pipeline.watch();
    let pipeline = pipeline.dead_letters(DeadLetters::to("orders.dlq").create(true));
    let stop = async {
        count.reach(20).await;
        while watch.stats().finished < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let running = pipeline.run(service(handler), stop);
    let report = tokio::time::timeout(LIMIT, running).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.dead), (20, 1));

    let snapshot = registry.snapshot();
    let seconds = &metrics::CALL_SECONDS;
    let count =
        |outcome| snapshot.histogram(seconds, &[outcome, "charge"]).map_or(0, HistogramSnapshot::count);
    assert_eq!((count("succeeded"), count("poison"), count("dropped")), (19, 1, 0));
}
