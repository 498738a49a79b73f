//! Pipelines that write in transactions: whatever fails, each output is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::layers::Timeout;
use milena_pipeline::{
    Failure, Order, Output, Pipeline, Record, Retry, RetryTopics, Together, blocking, writer,
};
use tower::ServiceBuilder;

use crate::world::{LIMIT, World, until};

fn number_of(record: &Record) -> usize {
    std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()
}

/// How often each value is in a topic, for those who read what is committed.
async fn counts(world: &World, topic: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in world.read(topic).await {
        let value = String::from_utf8(record.value.unwrap_or_default()).unwrap();
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}

fn pipeline(world: &World, id: &str) -> Pipeline {
    Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .transactional_id(id)
        .transaction_interval(Duration::from_millis(5))
        .concurrency(20)
        .retry(Retry::fixed(Duration::from_millis(2)).attempts(2))
        .retry_topics(RetryTopics::tiers([Duration::from_millis(5)]).create(true))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
}

/// Of five records one is dead, one is processed in the retry topic, one at its second attempt, one makes two outputs, one none.
async fn charge(record: Record) -> Result<Vec<Output>, Failure> {
    let number = number_of(&record);
    tokio::time::sleep(Duration::from_micros(number as u64 * 37 % 3_000)).await;
    let output = |half: &str| Output::new().key(format!("k{number}")).value(format!("{number}{half}"));
    match (number % 5, record.tier(), record.attempt()) {
        (0, ..) => Err(Failure::retriable("always down")),
        (1, 0, _) | (2, _, 1) => Err(Failure::retriable("not yet")),
        (1 | 2, ..) => Ok(vec![output("")]),
        (3, ..) => Ok(vec![output("a"), output("b")]),
        _ => Ok(Vec::new()),
    }
}

fn expected(total: usize) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let outputs = (0..total).flat_map(|number| match number % 5 {
        1 | 2 => vec![number.to_string()],
        3 => vec![format!("{number}a"), format!("{number}b")],
        _ => vec![],
    });
    let dead = (0..total).filter(|number| number % 5 == 0).map(|number| number.to_string());
    (outputs.map(|value| (value, 1)).collect(), dead.map(|value| (value, 1)).collect())
}

async fn assert_exact(world: &World, total: usize) {
    let (outputs, dead) = expected(total);
    assert_eq!(counts(world, "invoices").await, outputs);
    assert_eq!(counts(world, "orders.dlq").await, dead);
}

async fn world(total: usize) -> World {
    let world = World::new(3).await;
    world.client.admin().create_topic(milena::NewTopic::new("invoices").partitions(2)).await.unwrap();
    world.write(total, |number| (Some(format!("k{}", number % 50)), number as i32 % 3)).await;
    world
}

#[tokio::test]
async fn outputs_retries_and_dead_letters_are_written_with_the_offsets() {
    let world = world(300).await;
    let pipeline = pipeline(&world, "billing-1");
    let watch = pipeline.watch();
    let run = pipeline.run_to("invoices", charge, until(|| watch.stats().finished == 300));
    let report = tokio::time::timeout(LIMIT, run).await.expect("ends").expect("succeeds");
    assert_eq!((report.finished, report.dead, report.moved), (300, 60, 120));
    assert_exact(&world, 300).await;
    for partition in 0..3 {
        assert_eq!(world.committed("billing", partition).await, Some(100));
    }
}

#[tokio::test]
async fn outputs_of_a_partition_are_in_the_order_of_its_records() {
    let world = world(300).await;
    let pipeline = pipeline(&world, "billing-1").order(Order::None);
    let watch = pipeline.watch();
    let handler = async |record: Record| {
        let number = number_of(&record);
        tokio::time::sleep(Duration::from_micros(number as u64 * 37 % 3_000)).await;
        Output::new().partition(0).key(record.partition().to_string()).value(record.offset().to_string())
    };
    pipeline.run_to("invoices", handler, until(|| watch.stats().finished == 300)).await.expect("succeeds");
    for partition in 0..3 {
        let records = world.read("invoices").await;
        let of_partition = records.iter().filter(|of| of.key == Some(partition.to_string().into_bytes()));
        let offsets: Vec<_> =
            of_partition.map(|of| String::from_utf8(of.value.clone().unwrap()).unwrap()).collect();
        assert_eq!(offsets, (0..100).map(|offset: i32| offset.to_string()).collect::<Vec<_>>());
    }
}

/// The program is gone at any moment, a hundred times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_program_ends_each_output_and_dead_letter_is_there_once() {
    let total = 6_000;
    let world = world(total).await;
    for round in 0..100_u64 {
        let pipeline = pipeline(&world, "billing-1");
        let watch = pipeline.watch();
        let running = tokio::spawn(pipeline.run_to("invoices", charge, std::future::pending()));
        if round % 5 > 0 {
            // Amid its work, and after a transaction or two. The others end while they start.
            until(|| watch.stats().finished > round * 7 % 40).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 1_370 % 15_000)).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }
    let pipeline = pipeline(&world, "billing-1");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(pipeline.run_to("invoices", charge, async move {
        let _ = stopped.await;
    }));
    let (outputs, dead) = expected(total);
    let ending = async {
        while counts(&world, "invoices").await.len() < outputs.len()
            || counts(&world, "orders.dlq").await.len() < dead.len()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ending).await.expect("all end");
    let _ = stop.send(());
    running.await.unwrap().expect("succeeds");
    assert_exact(&world, total).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_each_output_is_there_once() {
    let total = 3_000;
    let world = world(total).await;
    let start = |number: usize| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let pipeline = pipeline(&world, &format!("billing-{number}"));
        let watch = pipeline.watch();
        let running = tokio::spawn(pipeline.run_to("invoices", charge, async move {
            let _ = stopped.await;
        }));
        (running, stop, watch)
    };
    let first = start(0);
    for number in 1..=6 {
        let (running, stop, watch) = start(number);
        until(|| watch.stats().finished > 0 || first.2.stats().finished as usize > number * total / 8).await;
        match number % 2 {
            0 => running.abort(),
            _ => {
                let _ = stop.send(());
                running.await.unwrap().expect("succeeds");
            }
        }
    }
    let (outputs, dead) = expected(total);
    let ending = async {
        while counts(&world, "invoices").await.len() < outputs.len()
            || counts(&world, "orders.dlq").await.len() < dead.len()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ending).await.expect("all end");
    let _ = first.1.send(());
    first.0.await.unwrap().expect("succeeds");
    assert_exact(&world, total).await;
}

/// What `charge` does, as a function that blocks its thread.
fn charge_blocking(record: Record) -> Result<Vec<Output>, Failure> {
    tokio::runtime::Handle::current().block_on(charge(record))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_writes_may_block_be_a_service_or_have_layers() {
    let service = tower::service_fn(charge);
    let layered = ServiceBuilder::new().layer(Timeout::new(LIMIT)).service(writer(charge));
    for kind in ["blocking", "service", "layers"] {
        let world = world(100).await;
        let pipeline = pipeline(&world, "billing-1");
        let watch = pipeline.watch();
        let stop = until(|| watch.stats().finished == 100);
        let report = match kind {
            "blocking" => pipeline.run_to("invoices", blocking(charge_blocking), stop).await,
            "service" => pipeline.run_to("invoices", service, stop).await,
            _ => pipeline.run_to("invoices", layered.clone(), stop).await,
        };
        let report = report.expect("succeeds");
        assert_eq!((report.finished, report.dead, report.moved), (100, 20, 40), "{kind}");
        assert_exact(&world, 100).await;
    }
}

/// Each group writes how many records it had. The program is gone at any moment: each record is in one group that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_of_groups_are_there_once_whenever_the_program_ends() {
    let total = 3_000;
    let world = world(total).await;
    let sum = async |records: Vec<Record>| {
        tokio::time::sleep(Duration::from_micros(records.len() as u64 * 37 % 900)).await;
        match records.iter().any(|record| number_of(record).is_multiple_of(50)) {
            true => Err(Failure::poison("no amount")),
            false => Ok(Output::new().value(records.len().to_string())),
        }
    };
    let together = || Together::up_to(7).within(Duration::from_millis(2));
    for round in 0..30_u64 {
        let pipeline = pipeline(&world, "billing-1").order(Order::Partition);
        let watch = pipeline.watch();
        let running =
            tokio::spawn(pipeline.run_together_to("invoices", together(), sum, std::future::pending()));
        until(|| watch.stats().finished > round % 20).await;
        tokio::time::sleep(Duration::from_micros(round * 1_370 % 15_000)).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }
    let records = async || {
        let sizes =
            world.read("invoices").await.into_iter().map(|of| String::from_utf8(of.value.unwrap()).unwrap());
        sizes.map(|size| size.parse::<usize>().unwrap()).sum::<usize>()
    };
    let (good, dead) = (total - total / 50, total / 50);
    let pipeline = pipeline(&world, "billing-1").order(Order::Partition);
    let stop = async {
        let ending = async {
            while records().await < good || counts(&world, "orders.dlq").await.len() < dead {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, ending).await.expect("all end");
    };
    pipeline.run_together_to("invoices", together(), sum, stop).await.expect("succeeds");
    assert_eq!(records().await, good);
    assert!(counts(&world, "orders.dlq").await.values().all(|count| *count == 1));
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let world_of_groups = world(1).await;
    let error = pipeline(&world_of_groups, "billing-1")
        .run_together_to(
            "invoices",
            Together::up_to(2),
            async |_: Vec<Record>| Output::new(),
            std::future::pending(),
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("order(Order::Partition)"), "{error}");
    let world = world(1).await;
    let consumer = || world.client.consumer("billing").subscribe(["orders"]);
    let error =
        Pipeline::new(consumer()).run_to("invoices", charge, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("set transactional_id()"), "{error}");
    for (topic, bytes, why) in [("nowhere", 1, "nowhere"), ("invoices", 3 << 20, "record")] {
        let handler = move |_: Record| async move { Output::new().value(vec![0; bytes]) };
        let pipeline = Pipeline::new(consumer()).transactional_id("billing-1");
        let run = pipeline.run_to(topic, handler, std::future::pending());
        let error = tokio::time::timeout(LIMIT, run).await.expect("ends").unwrap_err();
        assert!(error.client_error().is_some() && error.to_string().contains(why), "{error}");
    }
    assert_eq!(world.committed("billing", 0).await, None);
}

#[tokio::test]
async fn another_instance_with_the_same_id_takes_over() {
    let world = world(30).await;
    let first = pipeline(&world, "billing-1");
    let watch = first.watch();
    let first = tokio::spawn(first.run_to("invoices", charge, std::future::pending()));
    until(|| watch.stats().finished == 30).await;
    let _second = world.client.transactional("billing-1").build().await.unwrap();
    world.write(30, |_| (None, 0)).await;
    let error = tokio::time::timeout(LIMIT, first).await.expect("ends").unwrap().unwrap_err();
    assert!(error.client_error().expect("one").is_fenced(), "{error}");
}
