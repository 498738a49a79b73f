//! Retry topics: records that wait in topics for later attempts.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena::{ConfigChange, ConfigResource, NewTopic, Reset};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Pipeline, Record, Retry, RetryTopics};

use crate::world::{Counter, LIMIT, Log, World, text, until};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970")
}

fn pipeline(world: &World, tiers: impl IntoIterator<Item = Duration>) -> Pipeline {
    Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .retry(Retry::never())
        .retry_topics(RetryTopics::tiers(tiers).create(true))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
}

#[tokio::test]
async fn a_record_goes_through_all_tiers_and_never_early() {
    let world = World::new(3).await;
    let producer = world.client.producer().build().await.unwrap();
    let record = milena::Record::to("orders").partition(2).key("k").value("v").timestamp_ms(77);
    // Whoever produces cannot make up an origin.
    let record = record.header("trace", "7f").header("milena.retry.attempts", "40").header("trace", "80");
    producer.send(record).await.unwrap();
    let tries = Log::new();
    let handler = {
        let tries = tries.clone();
        move |record: Record| {
            let origin = record.origin();
            let place = (origin.topic.to_owned(), origin.partition, origin.offset, origin.timestamp_ms);
            assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"v"[..])));
            tries.push((record.tier(), record.attempt(), record.partition(), place, unix_now()));
            async { Err::<(), _>(Failure::retriable("the bank is closed")) }
        }
    };
    let pipeline = pipeline(&world, [ms(30), ms(10)]).retry(Retry::fixed(ms(1)).attempts(2));
    let watch = pipeline.watch();
    let report = pipeline.run(handler, until(|| watch.stats().dead == 1)).await.expect("succeeds");
    assert_eq!((report.finished, report.moved, report.dead, report.retries), (1, 2, 1, 3));
    let tries = tries.all();
    let seen: Vec<_> =
        tries.iter().map(|(tier, attempt, partition, ..)| (*tier, *attempt, *partition)).collect();
    assert_eq!(seen, [(0, 1, 2), (0, 2, 2), (1, 3, 2), (2, 4, 2)]);
    assert!(tries.iter().all(|(.., origin, _)| *origin == ("orders".to_owned(), 2, 0, Some(77))));
    let waits: Vec<_> = tries.windows(2).skip(1).map(|of| of[1].4 - of[0].4).collect();
    assert!(waits[0] >= ms(30) && waits[1] >= ms(10), "{waits:?}");

    let [first, second] = ["orders.billing.retry.30ms", "orders.billing.retry.10ms"];
    for (topic, tier, attempts) in [(first, "1", "2"), (second, "2", "3")] {
        let [record] = &world.read(topic).await[..] else { panic!("one record") };
        assert_eq!((record.partition, record.key.as_deref()), (2, Some(&b"k"[..])));
        let of = |name: &str| text(record, &format!("milena.retry.{name}"));
        let said = ["tier", "topic", "partition", "offset", "timestamp", "attempts", "group"].map(of);
        assert_eq!(said, [tier, "orders", "2", "0", "77", attempts, "billing"]);
        assert_eq!([of("reason"), of("first-reason")], ["the bank is closed"; 2].map(str::to_owned));
        let first_ms: u128 = of("first").parse().unwrap();
        assert!((1..=unix_now().as_millis()).contains(&first_ms));
        let traces = record.headers.iter().filter(|(name, _)| name == b"trace").count();
        assert_eq!(traces, 2);
        assert_eq!(world.committed_of("billing", topic, 2).await, Some(1));
    }
    assert_eq!(world.committed("billing", 2).await, Some(1));
    let [letter] = &world.read("orders.dlq").await[..] else { panic!("one letter") };
    let of = |name: &str| text(letter, &format!("milena.dlq.{name}"));
    let said = ["topic", "partition", "offset", "timestamp", "attempts", "letters"].map(of);
    assert_eq!(said, ["orders", "2", "0", "77", "4", "1"]);
    assert!(!letter.headers.iter().any(|(name, _)| name.starts_with(b"milena.retry.")), "{letter:?}");
}

#[tokio::test]
async fn what_is_added_is_less_than_4_kib_and_replaced_in_the_next_tier() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let long = "ä".repeat(100_000);
    let handler = move |_: Record| {
        let failure = Failure::retriable(long.clone());
        async move { Err::<(), _>(failure) }
    };
    let pipeline = pipeline(&world, [ms(1), ms(2)]);
    let watch = pipeline.watch();
    pipeline.run(handler, until(|| watch.stats().dead == 1)).await.expect("succeeds");
    for topic in ["orders.billing.retry.1ms", "orders.billing.retry.2ms"] {
        let [record] = &world.read(topic).await[..] else { panic!("one record") };
        let bytes =
            record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 4);
        let bytes: usize = bytes.sum();
        assert!((2_000..4_096).contains(&bytes), "{bytes}");
    }
}

#[tokio::test]
async fn what_is_poison_goes_through_no_tier() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let pipeline = pipeline(&world, [ms(1)]);
    let watch = pipeline.watch();
    let handler = async |_: Record| Err::<(), _>(Failure::poison("unreadable"));
    let report = pipeline.run(handler, until(|| watch.stats().dead == 1)).await.expect("succeeds");
    assert_eq!((report.moved, report.dead), (0, 1));
}

#[tokio::test]
async fn a_tier_may_have_more_attempts() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let tries = Log::new();
    let handler = {
        let tries = tries.clone();
        move |record: Record| {
            tries.push((record.tier(), record.attempt()));
            async { Err::<(), _>(Failure::retriable("not yet")) }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .retry(Retry::fixed(ms(1)).attempts(3))
        .retry_topics(RetryTopics::tiers([ms(1)]).create(true).attempts(2))
        .skip_failed();
    let watch = pipeline.watch();
    pipeline.run(handler, until(|| watch.stats().skipped == 1)).await.expect("succeeds");
    assert_eq!(tries.all(), [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)]);
}

#[tokio::test]
async fn without_a_place_after_the_last_tier_the_pipeline_stops_there() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .retry(Retry::never())
        .retry_topics(RetryTopics::tiers([ms(1)]).create(true));
    let handler = async |_: Record| Err::<(), _>(Failure::retriable("not yet"));
    let error = pipeline.run(handler, std::future::pending()).await.unwrap_err();
    assert_eq!(error.record().expect("one").topic, "orders.billing.retry.1ms");
    assert_eq!(world.committed("billing", 0).await, Some(1));
}

#[tokio::test]
async fn a_record_that_waits_is_tried_after_a_restart_also_by_a_group_that_begins_at_the_end() {
    let world = World::new(2).await;
    let (tries, done) = (Log::new(), Counter::new());
    let start = || {
        let consumer = world.client.consumer("billing").subscribe(["orders"]).reset(Reset::Latest);
        let (tries, done) = (tries.clone(), done.clone());
        let handler = move |record: Record| {
            tries.push((record.tier(), record.attempt(), unix_now()));
            let (fails, done) = (record.tier() < 2, done.clone());
            async move {
                if fails {
                    return Err(Failure::retriable("not yet"));
                }
                done.add();
                Ok(())
            }
        };
        let pipeline = Pipeline::new(consumer)
            .retry(Retry::never())
            .retry_topics(RetryTopics::tiers([ms(40), ms(50)]).create(true));
        (pipeline, handler)
    };
    let (first, handler) = start();
    let watch = first.watch();
    let stop = async {
        // Where the group begins is known when a record was read.
        while watch.stats().records == 0 {
            world.write(1, |_| (None, 1)).await;
            tokio::time::sleep(ms(5)).await;
        }
        until(|| watch.stats().retry_tiers[0].written > 0).await;
    };
    let report = first.run(handler, stop).await.expect("succeeds");
    assert!(report.moved > 0);
    let count = usize::try_from(watch.stats().retry_tiers[0].written).unwrap();
    let (second, handler) = start();
    second.run(handler, done.reach(count)).await.expect("succeeds");
    let tries = tries.all();
    for tier in 1..=2 {
        let first_of = |tier: usize| tries.iter().find(|of| of.0 == tier).expect("one").2;
        let wait = first_of(tier) - first_of(tier - 1);
        assert!(wait >= [ms(40), ms(50)][tier - 1], "{wait:?} before tier {tier}");
    }
}

#[tokio::test]
async fn a_long_delay_blocks_neither_a_short_one_nor_the_source() {
    let world = World::new(1).await;
    world.write(100, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                let number: u32 = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
                match (number % 4, record.tier()) {
                    (0, 0) | (1, 0 | 1) => Err(Failure::retriable("not yet")),
                    _ => {
                        done.add();
                        Ok(())
                    }
                }
            }
        }
    };
    // A record of each four waits in the second tier for longer than this test runs.
    let pipeline = pipeline(&world, [ms(1), Duration::from_secs(3_600)]).report_after(ms(100));
    let watch = pipeline.watch();
    let stop = async {
        done.reach(75).await;
        until(|| watch.stats().retry_tiers[1].written == 25).await;
        // Nothing else is told of records that wait.
        tokio::time::sleep(ms(150)).await;
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!((report.finished, report.moved, report.left.len()), (75, 75, 0));
    let stats = watch.stats();
    assert!(stats.stalls.is_empty(), "a record that waits is no stall: {:?}", stats.stalls);
    assert_eq!(stats.retry_backlog(), 25);
}

#[tokio::test]
async fn topics_that_are_missing_or_do_not_fit_are_named_at_the_start() {
    let world = World::new(2).await;
    let admin = world.client.admin();
    let error = async |tiers: RetryTopics| {
        let consumer = world.client.consumer("billing").subscribe(["orders"]);
        let pipeline = Pipeline::new(consumer).retry_topics(tiers);
        let run = pipeline.run(async |_: Record| {}, std::future::pending());
        let error = tokio::time::timeout(LIMIT, run).await.expect("ends").unwrap_err().to_string();
        error
            .strip_prefix("the pipeline cannot run: retry topics: ")
            .unwrap_or_else(|| panic!("{error}"))
            .to_owned()
    };
    let tiers = || RetryTopics::tiers([ms(1), ms(2)]);
    let missing = "these retry topics do not exist: orders.billing.retry.1ms, orders.billing.retry.2ms; create them with 2 \
                   partitions, or have them created with create(true)";
    assert_eq!(error(tiers()).await, missing);
    admin.create_topic(NewTopic::new("orders.billing.retry.2ms").partitions(3)).await.unwrap();
    let other = error(tiers().create(true)).await;
    assert!(
        other.starts_with("the retry topic \"orders.billing.retry.2ms\" has 3 partitions and its source"),
        "{other}"
    );
    admin
        .create_topic(NewTopic::new("orders.b.retry.1ms").partitions(2).config("cleanup.policy", "compact"))
        .await
        .unwrap();
    let compacted = error(RetryTopics::tiers([ms(1)]).named("b")).await;
    assert!(compacted.contains("is compacted"), "{compacted}");
    assert!(error(tiers().named("b/c")).await.contains("cannot be the name of a topic"));
}

#[tokio::test]
async fn groups_with_the_same_topics_pass_over_the_records_of_each_other() {
    let world = World::new(1).await;
    world.write(10, |number| (Some(number.to_string()), 0)).await;
    let tries = Log::new();
    let run = async |group: &'static str| {
        let log = tries.clone();
        let handler = move |record: Record| {
            log.push((group, record.tier(), record.origin().offset));
            let fails = record.tier() == 0;
            async move { if fails { Err(Failure::retriable("not yet")) } else { Ok(()) } }
        };
        let consumer = world.client.consumer(group).subscribe(["orders"]);
        let pipeline = Pipeline::new(consumer)
            .retry(Retry::never())
            .retry_topics(RetryTopics::tiers([ms(1)]).create(true).named("both"));
        let watch = pipeline.watch();
        let report = pipeline.run(handler, until(|| watch.stats().finished == 10)).await.expect("succeeds");
        assert_eq!((report.finished, report.moved), (10, 10));
    };
    run("billing").await;
    run("shipping").await;
    let mut tried = tries.all();
    tried.sort_unstable();
    let each = |group| (0..2).flat_map(move |tier| (0..10).map(move |offset| (group, tier, offset)));
    assert_eq!(tried, each("billing").chain(each("shipping")).collect::<Vec<_>>());
    // The records of the other group, too, are behind the committed offset.
    assert_eq!(world.committed_of("shipping", "orders.both.retry.1ms", 0).await, Some(20));
}

#[tokio::test]
async fn while_a_retry_cannot_be_written_nothing_starts_and_its_source_stays_uncommitted() {
    let world = World::new(1).await;
    let admin = world.client.admin();
    let topic = NewTopic::new("orders.billing.retry.1ms").partitions(1).config("max.message.bytes", "10");
    admin.create_topic(topic).await.unwrap();
    world.write(20, |_| (Some("k".to_owned()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.tier() == 0 && record.offset() == 7 {
                    return Err(Failure::retriable("not yet"));
                }
                done.add();
                Ok(())
            }
        }
    };
    let pipeline = pipeline(&world, [ms(1)]);
    let watch = pipeline.watch();
    let stop = async {
        until(|| watch.stats().is_held).await;
        assert_eq!((done.now(), watch.stats().moved), (7, 0));
        let change = ConfigChange::set("max.message.bytes", "100000");
        let resource = ConfigResource::Topic("orders.billing.retry.1ms".into());
        admin.alter_configs(&resource, [change]).await.unwrap();
        done.reach(20).await;
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!((report.finished, report.moved), (20, 1));
}

/// The program is gone at any moment, many times. In the end each record was processed, or is in the dead letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_anywhere_loses_no_record() {
    let world = World::new(3).await;
    let total = 600;
    world.write(total, |number| (Some(format!("k{}", number % 50)), number as i32 % 3)).await;
    let processed = Log::new();
    let start = || {
        let processed = processed.clone();
        let handler = move |record: Record| {
            let processed = processed.clone();
            async move {
                let number: usize = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
                tokio::task::yield_now().await;
                match (number % 5, record.tier()) {
                    (0, _) => Err(Failure::retriable("always down")),
                    (1, 0) | (2, 0 | 1) => Err(Failure::retriable("not yet")),
                    (3, _) if number % 15 == 3 => Err(Failure::poison("unreadable")),
                    _ => {
                        processed.push(number);
                        Ok(())
                    }
                }
            }
        };
        let pipeline = pipeline(&world, [ms(5), ms(20)]).concurrency(20);
        async move { pipeline.run(handler, std::future::pending()).await }
    };
    for round in 0..30_u64 {
        let running = tokio::spawn(start());
        // Some end while they start, others amid their work.
        tokio::time::sleep(ms(round * 7 % 90)).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }
    let running = tokio::spawn(start());
    let all: BTreeSet<usize> = (0..total).collect();
    let ending = async {
        loop {
            let letters = world.read("orders.dlq").await;
            let dead = letters
                .iter()
                .map(|of| String::from_utf8(of.value.clone().unwrap()).unwrap().parse().unwrap());
            let ended: BTreeSet<usize> = dead.chain(processed.all()).collect();
            if ended == all {
                break;
            }
            tokio::time::sleep(ms(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ending).await.expect("all end");
    running.abort();
}

/// Far more waits than the client may hold in memory: what does not wait goes on.
#[tokio::test]
async fn what_waits_leaves_memory_to_what_does_not() {
    let world = World::with_memory(3, 8 << 20).await;
    let (count, more) = (2_700, 300);
    let value = "x".repeat(10_000);
    let write = async |count: usize, first: usize| {
        let producer = world.client.producer().build().await.unwrap();
        for number in first..first + count {
            let value = format!("{number} {value}");
            let record = milena::Record::to("orders").partition(number as i32 % 3).value(&value);
            producer.post(record).await.unwrap();
        }
        producer.flush().await.unwrap();
    };
    write(count, 0).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                let value = std::str::from_utf8(record.value().unwrap()).unwrap();
                let number: usize = value.split(' ').next().unwrap().parse().unwrap();
                if number < count && record.tier() <= number / 3 % 3 {
                    return Err(Failure::retriable("not yet"));
                }
                done.add();
                Ok(())
            }
        }
    };
    let hours = Duration::from_secs(3_600);
    let pipeline = pipeline(&world, [ms(1), 2 * hours, 3 * hours]);
    let watch = pipeline.watch();
    let stop = async {
        // A third was tried again in the first tier and is done, and two thirds wait in the second.
        done.reach(count / 3).await;
        until(|| watch.stats().retry_tiers[1].written == (count - count / 3) as u64).await;
        write(more, count).await;
        done.reach(count / 3 + more).await;
    };
    pipeline.run(handler, stop).await.expect("succeeds");
}

/// `cargo test -p milena-pipeline --test pipeline -- --ignored --nocapture a_hundred_thousand` says how late records are, and how much
/// memory waiting takes beside the broker, which is in the same process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute, and says how late records are"]
async fn a_hundred_thousand_that_wait_are_late_by_little_and_take_little_memory() {
    let world = World::new(8).await;
    let total = 100_000;
    world.write(total, |number| (Some(number.to_string()), number as i32 % 8)).await;
    let late = Log::new();
    let done = Counter::new();
    let handler = {
        let (late, done) = (late.clone(), done.clone());
        move |record: Record| {
            let (late, done) = (late.clone(), done.clone());
            async move {
                if record.tier() == 0 {
                    return Err(Failure::retriable("not yet"));
                }
                let due = record.header("milena.retry.due").flatten().unwrap();
                let due: u64 = std::str::from_utf8(due).unwrap().parse().unwrap();
                late.push(unix_now().checked_sub(ms(due)).expect("never early"));
                done.add();
                Ok(())
            }
        }
    };
    let pipeline = pipeline(&world, [Duration::from_secs(40)]).concurrency(1_000);
    let watch = pipeline.watch();
    let stop = async {
        let began = std::time::Instant::now();
        while watch.stats().moved < total as u64 {
            tokio::time::sleep(ms(10)).await;
        }
        println!("all {total} wait after {:?}, {} were tried again", began.elapsed(), done.now());
        println!("resident {} MiB", resident() >> 20);
        while done.now() < total {
            tokio::time::sleep(ms(10)).await;
        }
        println!("all were tried again after {:?}, resident {} MiB", began.elapsed(), resident() >> 20);
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!(report.finished, total as u64);
    let mut late = late.all();
    late.sort_unstable();
    for percent in [50, 99, 100] {
        println!("p{percent}: late by {:?}", late[(late.len() - 1) * percent / 100]);
    }
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}
