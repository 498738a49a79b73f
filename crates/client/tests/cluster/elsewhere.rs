//! Callers that are on no tokio runtime, or on another one than the client.

use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use milena::{Client, ErrorKind, NewTopic, OffsetAt, Position, Record};
use milena_broker::Broker;

/// Runs a future on this thread, as `futures::executor::block_on` does.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(super::PATIENCE),
        }
    }
}

#[test]
fn connecting_on_no_runtime_is_an_error() {
    let error = block_on(Client::connect("127.0.0.1:1")).expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}

#[test]
fn everything_else_works_as_long_as_the_clients_runtime_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (_cluster, client) = runtime.block_on(async {
        let cluster = Broker::builder().start().await.expect("started");
        let client = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(200_000);
        let client = client.connect().await.expect("connected");
        (cluster, client)
    });
    let admin = client.admin().timeout(Duration::from_secs(10));
    block_on(admin.create_topic(NewTopic::new("t").partitions(2))).expect("made");
    block_on(admin.describe_cluster()).expect("described");
    block_on(admin.group_coordinator("g")).expect("found");
    let producer = block_on(client.producer().compression(milena::Compression::Lz4).build()).expect("built");
    assert_eq!(
        block_on(producer.send(Record::to("nowhere").value("v"))).expect_err("no such topic").kind(),
        ErrorKind::UnknownTopic
    );
    // More than fits the memory, so that the call waits.
    let value = [7; 5_000];
    for index in 0..200 {
        block_on(producer.post(Record::to("t").partition(index % 2).value(&value))).expect("taken");
    }
    block_on(producer.flush()).expect("written");
    let ends = block_on(admin.list_offsets([("t", 0), ("t", 1)], OffsetAt::Latest)).expect("listed");
    assert!(ends.into_iter().all(|(_, end)| end.expect("found") == Some(100)));
    let mut consumer = block_on(client.consumer_direct().topic("t").until_end().build()).expect("built");
    let mut count = 0;
    while let Some(batch) = block_on(consumer.next()).expect("read") {
        count += batch.iter().count();
    }
    assert_eq!(count, 200);
    block_on(consumer.assign([("t", 0)], Position::Latest)).expect("assigned");
    block_on(admin.delete_topics(["t"])).expect("deleted");
}

#[test]
fn connections_outlive_the_runtime_of_the_caller_who_needs_them_first() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (_cluster, client) = runtime.block_on(super::start(3, &[]));
    let admin = client.admin().timeout(Duration::from_secs(10));
    let partitions = [0, 1, 2].map(|partition| ("t", partition));
    // A connection to each of the three brokers, made for a caller whose runtime ends at once.
    let helper = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    helper.block_on(admin.create_topic(NewTopic::new("t").partitions(3))).expect("made");
    let ends = helper.block_on(admin.list_offsets(partitions, OffsetAt::Latest)).expect("listed");
    assert!(ends.into_iter().all(|(_, end)| end.expect("found") == Some(0)));
    drop(helper);
    let ends = runtime.block_on(admin.list_offsets(partitions, OffsetAt::Latest)).expect("listed");
    assert!(ends.into_iter().all(|(_, end)| end.expect("found by the same brokers") == Some(0)));
    runtime.block_on(admin.create_topic(NewTopic::new("u").partitions(1))).expect("made");
}

#[test]
fn what_the_client_is_made_of_can_be_shown() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cluster = Broker::builder().start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let builder = Client::builder().bootstrap(cluster.bootstrap());
        let shown = format!("{builder:?}");
        assert!(shown.starts_with("ClientBuilder"), "{shown}");
        let client = builder.connect().await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        let consumer = client.consumer_direct().topic("t").build().await.expect("built");
        let handle = consumer.handle();
        for (shown, name) in [
            (format!("{client:?}"), "Client"),
            (format!("{:?}", client.admin()), "Admin"),
            (format!("{producer:?}"), "Producer"),
            (format!("{:?}", client.producer()), "ProducerBuilder"),
            (format!("{consumer:?}"), "Consumer"),
            (format!("{:?}", client.consumer_direct()), "ConsumerBuilder"),
            (format!("{handle:?}"), "ConsumerHandle"),
        ] {
            assert!(shown.starts_with(&format!("{name} {{")), "{shown}");
        }
        producer.send(Record::to("t").value("v")).await.expect("written");
        let stats: milena::PoolStats = client.pool_stats();
        assert!(stats.hits + stats.misses > 0, "{stats:?}");
    });
}
