//! When no more records can come, each call returns an error and does not wait without end.

use std::time::Duration;

use milena::{Batch, Client, Consumer, Error, Position, Record};
use milena_broker::Broker;
use tokio::time::timeout;

use super::{PATIENCE, consumer, producer, start};

async fn next(consumer: &mut Consumer) -> Result<Option<Batch>, Error> {
    timeout(PATIENCE, consumer.next()).await.expect("an answer in time")
}

fn check(outcome: Result<Option<Batch>, Error>) {
    let error = outcome.expect_err("out of range");
    assert_eq!(error.code_name(), Some("OFFSET_OUT_OF_RANGE"), "{error}");
}

#[tokio::test]
async fn a_consumer_all_of_whose_partitions_stopped_says_so_again() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let producer = producer(&client).await;
    let partitions = [("t", 0), ("t", 1)];
    let mut consumer =
        client.consumer_direct().assign(partitions, Position::Offset(99)).build().await.expect("built");
    // Each partition once, then one of them again and again.
    let first: Vec<String> = [next(&mut consumer).await, next(&mut consumer).await]
        .map(|told| told.unwrap_err().to_string())
        .into();
    assert!(first[0] != first[1], "each partition is told of: {first:?}");
    for _ in 0..3 {
        check(next(&mut consumer).await);
        check(consumer.try_next());
    }
    // One that goes on is waited for, and the other one's error is not told a third time.
    consumer.seek("t", 1, Position::Earliest).expect("assigned");
    producer.send(Record::to("t").partition(1).value("v")).await.expect("written");
    assert_eq!(next(&mut consumer).await.expect("read").expect("assigned").partition(), 1);
    assert!(timeout(Duration::from_millis(50), consumer.next()).await.is_err(), "partition 1 may go on");
    // When it is gone, the stopped one is all there is.
    consumer.unassign([("t", 1)]).expect("by position");
    check(next(&mut consumer).await);
    consumer.unassign([("t", 0)]).expect("by position");
    assert!(next(&mut consumer).await.expect("no error").is_none(), "nothing is assigned");
}

#[tokio::test]
async fn a_partition_read_on_its_own_says_again_that_it_stopped() {
    let (_cluster, client) = start(1, &[("t", 2)]).await;
    let mut consumer =
        client.consumer_direct().assign([("t", 0)], Position::Offset(99)).build().await.expect("built");
    let mut partition = consumer.partitions().remove(0);
    for _ in 0..3 {
        check(timeout(PATIENCE, partition.next()).await.expect("an answer in time"));
        check(partition.try_next());
    }
    // After it is given back, its error has not been returned yet.
    consumer.assign([("t", 1)], Position::Earliest).await.expect("assigned");
    drop(partition);
    check(next(&mut consumer).await);
}

/// A client and consumer whose runtime runs on a thread of its own, until `end` is called.
fn on_another_runtime<T: Send + 'static>(
    set_up: impl AsyncFnOnce(Client) -> T + Send + 'static,
) -> (T, impl FnOnce()) {
    let (give, taken) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let cluster = Broker::builder().start().await.expect("started");
            cluster.create_topic("t", 2).expect("created");
            let client = Client::connect(cluster.bootstrap()).await.expect("connected");
            give.send(set_up(client).await).expect("awaited");
            let _ = ended.await;
        });
    });
    let set_up = taken.recv().expect("set up");
    (set_up, move || {
        drop(end);
        thread.join().expect("ended");
    })
}

#[tokio::test]
async fn a_consumer_whose_runtime_ended_says_so() {
    let ((mut consumer, mut partition), end) = on_another_runtime(async |client| {
        let consumer = consumer(&client, "t", 2).await;
        let partition = consumer.partitions().remove(0);
        (consumer, partition)
    });
    // One waits already, the other one asks later.
    let waiting = tokio::spawn(async move { partition.next().await.map(drop) });
    tokio::task::yield_now().await;
    end();
    for outcome in [
        timeout(PATIENCE, waiting).await.expect("an answer in time").expect("no panic"),
        timeout(PATIENCE, consumer.next()).await.expect("an answer in time").map(drop),
        consumer.try_next().map(drop),
    ] {
        let error = outcome.expect_err("nobody fetches any more");
        assert!(error.is_fatal(), "{error}");
        assert!(error.to_string().contains("runtime"), "{error}");
    }
}
