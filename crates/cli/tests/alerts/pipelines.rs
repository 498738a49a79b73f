//! Faults of pipelines.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::{ConfigChange, ConfigResource};
use milena_pipeline::{Failure, Pipeline, Record, Retry, RetryTopics};
use tokio::sync::watch;

use crate::stage::Stand;
use crate::world::{World, ago};

/// Whether the fault is there. Handlers look at it.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

async fn world() -> World {
    let mut world = World::new(2).await;
    world.cluster.create_topic("orders.dlq", 1).expect("is made");
    world.go_on_writing(&world.other.clone(), Duration::from_millis(20));
    world
}

/// Runs a pipeline that gives up what `is_bad` says, as long as the world is there.
fn run(world: &mut World, pipeline: Pipeline, is_bad: &Switch) {
    let is_bad = is_bad.clone();
    let handler = move |_: Record| {
        let is_bad = is_bad.is_on();
        async move { if is_bad { Err(Failure::poison("no such customer")) } else { Ok(()) } }
    };
    world.spawn(async move {
        pipeline.run(handler, pending()).await.expect("goes on");
    });
}

fn pipeline(world: &World) -> Pipeline {
    Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).dead_letters("orders.dlq")
}

/// For a while the handler can do nothing with any record.
pub(crate) async fn records_are_poison(mut stand: Stand) {
    let (mut world, is_bad) = (world().await, Switch::default());
    let pipeline = pipeline(&world);
    run(&mut world, pipeline, &is_bad);
    stand.show(world.registry.clone());
    stand.is_well().await;

    is_bad.set(true);
    stand.fires("MilenaDeadLetters").await;
    stand.fires("MilenaDeadLetterRatio").await;
    is_bad.set(false);
    stand.resolves("MilenaDeadLetters").await;
    stand.resolves("MilenaDeadLetterRatio").await;
}

/// A letter of two days ago is there, until it is deleted.
pub(crate) async fn a_dead_letter_is_old(mut stand: Stand) {
    let mut world = world().await;
    let pipeline = pipeline(&world);
    run(&mut world, pipeline, &Switch::default());
    stand.show(world.registry.clone());
    stand.is_well().await;

    let producer = world.other.producer().build().await.expect("a producer");
    let letter = milena::Record::to("orders.dlq").value("v").timestamp_ms(ago(Duration::from_hours(48)));
    producer.send(letter).await.expect("is written");
    stand.fires("MilenaOldDeadLetters").await;
    for (_, deleted) in world.other.admin().delete_records([(("orders.dlq", 0), None)]).await.expect("asked")
    {
        deleted.expect("are deleted");
    }
    stand.resolves("MilenaOldDeadLetters").await;
}

/// The topic of dead letters takes no record as large as a letter.
pub(crate) async fn dead_letters_cannot_be_written(mut stand: Stand) {
    let (mut world, is_bad) = (world().await, Switch::default());
    let pipeline = pipeline(&world);
    run(&mut world, pipeline, &is_bad);
    stand.show(world.registry.clone());
    stand.is_well().await;

    let letters = ConfigResource::Topic("orders.dlq".into());
    let admin = world.other.admin();
    admin.alter_configs(&letters, [ConfigChange::set("max.message.bytes", "80")]).await.expect("is altered");
    is_bad.set(true);
    stand.fires("MilenaPipelineHeld").await;
    is_bad.set(false);
    admin.alter_configs(&letters, [ConfigChange::delete("max.message.bytes")]).await.expect("is altered");
    stand.resolves("MilenaPipelineHeld").await;
}

/// The handler waits for something that does not answer.
pub(crate) async fn a_handler_hangs(mut stand: Stand) {
    let mut world = world().await;
    let (answers, waits) = watch::channel(true);
    let pipeline = pipeline(&world).concurrency(4).report_after(Duration::from_secs(2));
    let handler = move |_: Record| {
        let mut answers = waits.clone();
        async move {
            let _ = answers.wait_for(|answers| *answers).await;
        }
    };
    world.spawn(async move {
        pipeline.run(handler, pending()).await.expect("goes on");
    });
    stand.show(world.registry.clone());
    stand.is_well().await;

    answers.send_replace(false);
    stand.fires("MilenaRecordsStuck").await;
    answers.send_replace(true);
    stand.resolves("MilenaRecordsStuck").await;
}

/// More than ten thousand records fail their first attempt, and are to be tried again in a minute.
pub(crate) async fn retries_pile_up(mut stand: Stand) {
    const RECORDS: usize = 12_000;
    let mut world = World::new(4).await;
    let topics = RetryTopics::tiers([Duration::from_secs(60)]).create(true);
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]));
    let pipeline = pipeline.retry(Retry::never()).retry_topics(topics).skip_failed();
    let handler = |record: Record| async move {
        if record.attempt() == 1 { Err(Failure::retriable("the bank is closed")) } else { Ok(()) }
    };
    world.spawn(async move {
        pipeline.run(handler, pending()).await.expect("goes on");
    });
    stand.show(world.registry.clone());
    stand.is_well().await;

    let producer = world.other.producer().build().await.expect("a producer");
    for number in 0..RECORDS {
        let value = number.to_string();
        producer.post(milena::Record::to("orders").key(&value).value(&value)).await.expect("is taken");
    }
    producer.flush().await.expect("are written");
    stand.fires("MilenaRetryBacklog").await;
    stand.resolves("MilenaRetryBacklog").await;
}
