//! A pipeline whose handler has a circuit breaker around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::layers::{CircuitBreaker, CircuitState};
use milena_pipeline::{Failure, Pipeline, Record, Retry, service};
use tower::Layer as _;

use crate::world::{Counter, World};

#[tokio::test]
async fn an_outage_does_not_empty_the_topic_into_the_dead_letters() {
    let world = World::new(1).await;
    world.write(60, |number| (Some(number.to_string()), 0)).await;
    let (calls, is_up) = (Counter::new(), Arc::new(AtomicBool::new(false)));
    let handler = {
        let (calls, is_up) = (calls.clone(), Arc::clone(&is_up));
        move |_: Record| {
            calls.add();
            let is_up = is_up.load(Ordering::Relaxed);
            async move { if is_up { Ok(()) } else { Err(Failure::poison("a bad release")) } }
        }
    };
    let breaker = CircuitBreaker::new().calls_min(10).open_for(Duration::from_millis(20)).probes(2);
    let handle = breaker.handle();
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).workers(2);
    let pipeline = pipeline.retry(Retry::never()).dead_letters(DeadLetters::to("orders.dlq").create(true));
    let watch = pipeline.watch();
    let stop = async {
        // The tenth failure opens the circuit. Five times two probes go, and fail.
        calls.reach(20).await;
        assert_ne!(handle.state(), CircuitState::Closed);
        is_up.store(true, Ordering::Relaxed);
        while watch.stats().finished < 60 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let report = pipeline.run(breaker.layer(service(handler)), stop).await.expect("succeeds");
    assert_eq!(handle.state(), CircuitState::Closed);
    // Only the nine failures before the circuit opened count.
    assert_eq!((report.finished, report.dead), (60, 9));
    assert_eq!((watch.stats().records, world.committed("billing", 0).await), (60, Some(60)));
}
