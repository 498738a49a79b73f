//! Records that fail: tried again, put aside, or the end of the pipeline.

use std::time::Duration;

use milena::{ConfigChange, ConfigResource, NewTopic};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Json, Order, Pipeline, Record, Retry};

use crate::world::{Counter, Log, World};

fn quick() -> Retry {
    Retry::fixed(Duration::from_millis(1)).attempts(3)
}

#[tokio::test]
async fn a_record_that_fails_is_tried_again_and_its_key_waits() {
    let world = World::new(1).await;
    world.write(6, |number| (Some(format!("k{}", number % 2)), 0)).await;
    let (done, log) = (Counter::new(), Log::new());
    let handler = {
        let (done, log) = (done.clone(), log.clone());
        move |record: Record| {
            let (done, log) = (done.clone(), log.clone());
            async move {
                log.push((record.offset(), record.attempt()));
                if record.offset() == 0 && record.attempt() < 3 {
                    return Err(Failure::retriable("not yet"));
                }
                done.add();
                Ok(())
            }
        }
    };
    let pipeline =
        Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).workers(1).retry(quick());
    let watch = pipeline.watch();
    let report = pipeline.run(handler, done.reach(6)).await.expect("succeeds");
    assert_eq!((report.finished, report.retries), (6, 2));
    assert_eq!(watch.stats().failed_attempts, 2);
    let of_key =
        |key: i64| log.all().into_iter().filter(move |(offset, _)| offset % 2 == key).collect::<Vec<_>>();
    assert_eq!(of_key(0), [(0, 1), (0, 2), (0, 3), (2, 1), (4, 1)]);
    assert_eq!(of_key(1), [(1, 1), (3, 1), (5, 1)]);
}

#[tokio::test]
async fn panics_and_attempts_that_take_too_long_are_failures() {
    let world = World::new(1).await;
    world.write(3, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                match (record.offset(), record.attempt()) {
                    (0, 1) => panic!("a bug"),
                    (1, 1) => std::future::pending::<()>().await,
                    _ => {}
                }
                done.add();
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.retry(quick()).time_limit(Duration::from_millis(20));
    let watch = pipeline.watch();
    let report = pipeline.run(handler, done.reach(3)).await.expect("succeeds");
    assert_eq!((report.finished, watch.stats().expired, watch.stats().failed_attempts), (3, 1, 2));
}

#[tokio::test]
async fn what_is_given_up_goes_to_the_dead_letters_with_its_origin() {
    let world = World::new(2).await;
    world.write(10, |number| (Some(format!("k{number}")), 1)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                match record.offset() {
                    3 => Err(Failure::poison("no such customer")),
                    5 => Err(Failure::retriable("always down")),
                    _ => {
                        done.add();
                        Ok(())
                    }
                }
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.retry(quick()).dead_letters(DeadLetters::to("orders.dlq").create(true));
    let watch = pipeline.watch();
    let stop = async {
        done.reach(8).await;
        while watch.stats().dead < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!((report.finished, report.dead, report.retries), (10, 2, 2));
    assert_eq!(world.committed("billing", 1).await, Some(10));
    let mut letters =
        world.client.consumer_direct().topic("orders.dlq").until_end().build().await.expect("reads");
    let mut seen = Vec::new();
    while let Some(batch) = letters.next().await.expect("reads") {
        for record in &batch {
            let text = |name: &str| {
                let value = record.header(name).flatten().map(<[u8]>::to_vec);
                String::from_utf8(value.unwrap_or_default()).expect("text")
            };
            seen.push((
                text("milena.dlq.offset"),
                text("milena.dlq.reason"),
                text("milena.dlq.attempts"),
                text("milena.dlq.group"),
                record.partition(),
            ));
        }
    }
    seen.sort();
    let expect = |offset: &str, reason: &str, attempts: &str| {
        (offset.to_owned(), reason.to_owned(), attempts.to_owned(), "billing".to_owned(), 1)
    };
    assert_eq!(seen, [expect("3", "no such customer", "1"), expect("5", "always down", "3")]);
}

#[tokio::test]
async fn while_a_dead_letter_cannot_be_written_nothing_starts_and_its_source_stays_uncommitted() {
    let world = World::new(1).await;
    let admin = world.client.admin();
    // No record is small enough for it.
    let topic = NewTopic::new("orders.dlq").partitions(1).config("max.message.bytes", "10");
    admin.create_topic(topic).await.expect("is made");
    world.write(50, |_| (Some("k".to_owned()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.offset() == 7 {
                    return Err(Failure::poison("unreadable"));
                }
                done.add();
                Ok(())
            }
        }
    };
    let pipeline =
        Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).dead_letters("orders.dlq");
    let watch = pipeline.watch();
    let stop = async {
        while !watch.stats().is_held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Another key would start if anything did.
        world.write(1, |_| (Some("other".to_owned()), 0)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((done.now(), watch.stats().dead), (7, 0));
        let change = ConfigChange::set("max.message.bytes", "100000");
        admin.alter_configs(&ConfigResource::Topic("orders.dlq".into()), [change]).await.expect("is changed");
        done.reach(50).await;
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!((report.finished, report.dead), (51, 1));
    assert!(watch.stats().dead_letter_failures > 0 && !watch.stats().is_held);
}

#[tokio::test]
async fn a_record_that_is_no_json_is_poison() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let error = pipeline.run(async |_: Json<Vec<u32>>| {}, std::future::pending()).await.unwrap_err();
    let failure = error.failure().expect("one");
    assert_eq!(failure.class(), milena_pipeline::Class::Poison);
    assert!(failure.to_string().starts_with("the record's value cannot be read: invalid type"), "{failure}");
}

#[tokio::test]
async fn without_a_place_for_it_the_pipeline_stops_at_a_record_that_is_given_up() {
    let world = World::new(1).await;
    world.write(5, |number| (Some(number.to_string()), 0)).await;
    for fatal in [false, true] {
        let handler = move |record: Record| async move {
            match record.offset() {
                2 if fatal => Err(Failure::fatal("the licence has ended")),
                2 => Err(Failure::poison("unreadable")),
                _ => Ok(()),
            }
        };
        // Of two workers, one could stop while the other has an earlier record.
        let pipeline =
            Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).workers(1).retry(quick());
        let pipeline =
            if fatal { pipeline.dead_letters(DeadLetters::to("orders.dlq").create(true)) } else { pipeline };
        let error = pipeline.run(handler, std::future::pending()).await.unwrap_err();
        assert_eq!(error.record().expect("one").offset, 2);
        let report = error.report().expect("it ran");
        let left: Vec<i64> = report.left.iter().map(|left| left.offset).collect();
        assert_eq!((report.finished, left), (if fatal { 0 } else { 2 }, vec![2]));
        assert!(
            error.to_string().contains("offset 2 of partition 0 of topic \"orders\", which is not committed"),
            "{error}"
        );
        assert_eq!(world.committed("billing", 0).await, Some(2));
    }
}

#[tokio::test]
async fn failed_records_can_be_skipped() {
    let world = World::new(1).await;
    world.write(5, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.offset() == 2 {
                    return Err(Failure::poison("unreadable"));
                }
                done.add();
                Ok(())
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .order(Order::Partition)
        .skip_failed();
    let report = pipeline.run(handler, done.reach(4)).await.expect("succeeds");
    assert_eq!((report.finished, report.skipped), (5, 1));
}

#[tokio::test]
async fn a_record_that_takes_long_is_reported_with_what_waits_for_it() {
    let world = World::new(1).await;
    world.write(8, |_| (Some("k".to_owned()), 0)).await;
    let reported = Log::new();
    let count = Counter::new();
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .report_after(Duration::from_millis(5))
        .on_stall(|_| unreachable!("another one is set after it"))
        .drain(Duration::ZERO);
    let pipeline = {
        let (reported, count) = (reported.clone(), count.clone());
        pipeline.on_stall(move |stall| {
            reported.push(stall.clone());
            count.add();
        })
    };
    let watch = pipeline.watch();
    let stop = async {
        count.reach(1).await;
        assert_eq!(watch.stats().stalls.len(), 1);
    };
    pipeline.run(async |_: Record| std::future::pending::<()>().await, stop).await.expect("succeeds");
    let stall = &reported.all()[0];
    assert_eq!((stall.offset, stall.attempt, stall.waiting_for_its_key), (0, 1, 7));
    assert!(watch.stats().stalls.is_empty());
}

#[tokio::test]
async fn dead_letters_of_a_pipeline_open_an_alert() {
    use milena_pipeline::alerts::{Alert, Alerts, Delivering, Rule, Sink};

    #[derive(Debug)]
    struct Told(tokio::sync::mpsc::UnboundedSender<String>);
    impl Sink for Told {
        fn name(&self) -> String {
            "a test".into()
        }
        fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a> {
            self.0.send(alert.summary.clone()).expect("it is taken");
            Box::pin(async { Ok(()) })
        }
    }

    let world = World::new(1).await;
    world.write(5, |number| (Some(number.to_string()), 0)).await;
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.dead_letters(DeadLetters::to("orders.dlq").create(true));
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let alerts = Alerts::of("billing").rule(Rule::dead_letter_rate(4)).every(Duration::from_millis(1));
    let alerts = alerts.to(Told(sender)).watch(pipeline.watch()).expect("rules");
    let mut summary = None;
    let stop = async { summary = told.recv().await };
    let handler = |_: Record| async { Err::<(), _>(Failure::poison("no such customer")) };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!(report.dead, 5);
    let expected = "5 records went to the dead letters within a minute; the limit is 4";
    assert_eq!(summary.as_deref(), Some(expected));
    let stats = alerts.close(Duration::from_secs(60)).await;
    assert_eq!((stats.opened, stats.resolved, stats.delivered, told.try_recv().is_err()), (1, 0, 1, true));
}
