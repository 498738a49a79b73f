//! Partitions that stand still, as a program is told of them.

use milena::metrics::{Registry, families as of};
use milena::{ConsumerSettings, PartitionStall, StallCause};
use tokio::sync::mpsc;

use super::*;

const LIMIT: Duration = Duration::from_millis(100);

fn soon(settings: &mut ConsumerSettings) {
    settings.stall_after = LIMIT;
}

struct Told(mpsc::UnboundedReceiver<PartitionStall>);

impl Told {
    fn new() -> (impl Fn(&PartitionStall) + Send + Sync + 'static, Self) {
        let (tell, told) = mpsc::unbounded_channel();
        let tell = move |stall: &PartitionStall| {
            let _ = tell.send(stall.clone());
        };
        (tell, Self(told))
    }

    async fn next(&mut self) -> PartitionStall {
        timeout(PATIENCE, self.0.recv()).await.expect("a stall is told").expect("the consumer tells")
    }
}

async fn written(client: &Client, values: &[&str]) {
    let producer = producer(client).await;
    for value in values {
        producer.send(Record::to("orders").partition(0).value(*value)).await.expect("sent");
    }
}

#[tokio::test]
async fn a_batch_that_is_not_taken_is_told_once_and_once_more_when_it_is() {
    let (cluster, _) = start(1, &[("orders", 2)]).await;
    let registry = Registry::new();
    let client = Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry).connect().await;
    let client = client.expect("connected");
    written(&client, &["first", "second"]).await;
    let (tell, mut told) = Told::new();
    let builder = client.consumer_direct().topic("orders").settings(soon).on_stall(tell);
    let mut consumer = builder.build().await.expect("built");

    let stall = told.next().await;
    assert_eq!((&*stall.topic, stall.partition, stall.offset), ("orders", 0, 0));
    assert_eq!((stall.cause, stall.has_ended), (StallCause::NotTaken, false));
    assert!(stall.lasted > LIMIT && stall.position == Some(0), "{stall:?}");
    assert!(stall.buffered_records > 0 && stall.buffered_bytes > 0, "{stall:?}");
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.value(&of::CONSUMER_STALLS, &["orders"]), Some(1.0));
    assert_eq!(snapshot.value(&of::CONSUMER_STALLED_PARTITIONS, &[]), Some(1.0));

    let mut read = 0;
    while read < 2 {
        let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
        read += batch.expect("assigned").iter().count();
    }
    let end = told.next().await;
    assert_eq!((end.has_ended, end.since, end.position), (true, stall.since, Some(2)));
    assert!(end.lasted > stall.lasted && end.buffered_records == 0, "{end:?}");
    assert_eq!(registry.snapshot().value(&of::CONSUMER_STALLED_PARTITIONS, &[]), Some(0.0));
    drop(consumer);
    assert!(
        timeout(PATIENCE, told.0.recv()).await.expect("the driver ends").is_none(),
        "nothing else was told"
    );
}

#[tokio::test]
async fn a_paused_partition_does_not_stand_still() {
    let (_cluster, client) = start(1, &[("orders", 1)]).await;
    written(&client, &["first"]).await;
    let (tell, mut told) = Told::new();
    let builder = client.consumer_direct().topic("orders").settings(soon).on_stall(tell);
    let consumer = builder.build().await.expect("built");
    assert!(!told.next().await.has_ended);
    consumer.pause("orders", 0).expect("assigned");
    assert!(told.next().await.has_ended);
    consumer.resume("orders", 0).expect("assigned");
    assert!(!told.next().await.has_ended, "it waits as long as before");
}

#[tokio::test]
async fn a_batch_in_work_is_told_until_it_is_done_although_it_is_kept() {
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    written(&client, &["first"]).await;
    let (tell, mut told) = Told::new();
    let builder = client.consumer("billing").subscribe(["orders"]).settings(soon).on_stall(tell);
    let mut consumer = builder.build().await.expect("built");
    let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("joined");

    let stall = told.next().await;
    assert_eq!((stall.cause, stall.has_ended, stall.offset), (StallCause::InWork, false, 0));
    assert_eq!((stall.position, stall.buffered_records), (Some(1), 0));
    assert!(stall.to_string().contains("worked for"), "{stall}");
    consumer.done(&batch);
    let end = told.next().await;
    assert_eq!((end.cause, end.has_ended), (StallCause::InWork, true));
    drop(batch);
}

#[tokio::test]
async fn a_stall_ends_with_its_consumer_and_a_callback_that_panics_ends_nothing() {
    let (_cluster, client) = start(1, &[("orders", 1)]).await;
    written(&client, &["first"]).await;
    let (tell, mut told) = Told::new();
    let panics = move |stall: &PartitionStall| {
        tell(stall);
        panic!("of the program");
    };
    let builder = client.consumer_direct().topic("orders").settings(soon).on_stall(panics);
    let consumer = builder.build().await.expect("built");
    assert!(!told.next().await.has_ended);
    drop(consumer);
    let end = told.next().await;
    assert_eq!((end.has_ended, end.cause, end.position), (true, StallCause::NotTaken, None));
}
