//! What people are told of a pipeline, and what it says of its dead letters.

use std::time::Duration;

use milena_pipeline::alerts::{Alert, Alerts, Delivering, Rule, Sink};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Pipeline, Record};

use crate::world::{Log, World, until};

struct Told(Log<String>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Sink for Told {
    fn name(&self) -> String {
        "told".to_owned()
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a> {
        Box::pin(async move {
            // It is delivered after the pipeline has ended.
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.0.push(alert.key());
            Ok(())
        })
    }
}

fn pipeline(world: &World) -> Pipeline {
    Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
}

#[tokio::test]
async fn alerts_of_a_pipeline_are_delivered_when_it_has_ended() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let told = Log::new();
    let alerts = Alerts::of("billing").rule(Rule::dead_letter_rate(0)).to(Told(told.clone()));
    let pipeline = pipeline(&world).alerts(alerts);
    let watch = pipeline.watch();
    let handler = async |_: Record| Err::<(), _>(Failure::poison("no amount"));
    pipeline.run(handler, until(|| watch.stats().dead == 1)).await.expect("succeeds");
    assert_eq!(told.all(), ["billing/DeadLetterRate/warning"]);
}

#[tokio::test]
async fn rules_that_cannot_be_told_apart_are_refused_at_the_start() {
    let world = World::new(1).await;
    let alerts = Alerts::of("billing").rule(Rule::records_stall()).rule(Rule::records_stall());
    let run = pipeline(&world).alerts(alerts).run(async |_: Record| {}, std::future::pending());
    assert!(run.await.unwrap_err().to_string().contains("two rules are named RecordsStall"));
}

#[tokio::test]
async fn the_oldest_dead_letter_is_known_until_it_is_deleted() {
    let world = World::new(2).await;
    world.write(4, |number| (None, number as i32 % 2)).await;
    let run = async |stop: &dyn Fn(&milena_pipeline::PipelineStats) -> bool| {
        let pipeline = pipeline(&world);
        let watch = pipeline.watch();
        let handler = async |_: Record| Err::<(), _>(Failure::poison("no amount"));
        pipeline.run(handler, until(|| stop(&watch.stats()))).await.expect("succeeds");
        watch.stats().oldest_dead_letter
    };
    run(&|stats| stats.dead == 4).await;
    let oldest = run(&|stats| stats.oldest_dead_letter.is_some()).await.expect("one");
    let ages = world.read("orders.dlq").await.into_iter().map(|of| of.timestamp_ms.expect("a time"));
    let first = Duration::from_millis(ages.min().expect("four").unsigned_abs());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later than 1970");
    // It was asked a moment ago.
    assert!(oldest <= now - first, "{oldest:?}");
    assert!(oldest > Duration::ZERO);
}
