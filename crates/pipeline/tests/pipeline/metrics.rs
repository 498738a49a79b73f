//! What pipelines count in the registry of their client.

use milena::Client;
use milena::metrics::{HistogramSnapshot, Registry};
use milena_pipeline::metrics::{
    CONCURRENCY, DEAD_LETTERS, FAILED_ATTEMPTS, FINISHED, HANDLER_SECONDS, HELD, RECORDS, RETRIES,
};
use milena_pipeline::{Failure, Pipeline, Record, Retry};

use crate::world::{LIMIT, World};

#[tokio::test]
async fn the_registry_of_the_client_has_what_a_pipeline_counts_while_it_runs() {
    let world = World::new(2).await;
    world.cluster.create_topic("orders.dlq", 1).expect("is made");
    world.write(20, |number| (Some(format!("k{number}")), number as i32 % 2)).await;
    let registry = Registry::new();
    let client = Client::builder().bootstrap(world.cluster.bootstrap()).metrics(&registry);
    let client = client.connect().await.expect("connects");
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .concurrency(5)
        .retry(Retry::fixed(std::time::Duration::from_millis(1)).attempts(2))
        .dead_letters("orders.dlq");
    let watch = pipeline.watch();
    let seen = async {
        while watch.stats().finished < 20 {
            tokio::task::yield_now().await;
        }
        registry.snapshot()
    };
    let (told, snapshot) = tokio::sync::oneshot::channel();
    let shutdown = async { drop(told.send(seen.await)) };
    let handler = |record: Record| async move {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        if record.value() == Some(b"7") { Err(Failure::retriable("refused")) } else { Ok(()) }
    };
    let running = pipeline.run(handler, shutdown);
    tokio::time::timeout(LIMIT, running).await.expect("ends").expect("succeeds");

    let snapshot = snapshot.await.expect("was taken");
    let value = |family| snapshot.value(family, &["billing"]);
    assert_eq!((value(&RECORDS), value(&FINISHED)), (Some(20.0), Some(20.0)));
    assert_eq!(
        (value(&FAILED_ATTEMPTS), value(&RETRIES), value(&DEAD_LETTERS)),
        (Some(2.0), Some(1.0), Some(1.0))
    );
    assert_eq!((value(&HELD), value(&CONCURRENCY)), (Some(0.0), Some(5.0)));
    assert_eq!(snapshot.histogram(&HANDLER_SECONDS, &["billing"]).map(HistogramSnapshot::count), Some(21));
    // The pipeline has ended, and nobody is asked any more. What was recorded stays.
    assert_eq!(registry.snapshot().value(&RECORDS, &["billing"]), None);
}
