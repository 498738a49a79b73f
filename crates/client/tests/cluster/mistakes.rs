//! A value that makes no sense is refused by the call that gets it, and the error says what is wrong.

use std::net::SocketAddr;

use milena::{
    Address, Client, Connect, Connecting, Error, ErrorKind, Fault, NewTopic, OffsetAt, Position, Record,
};
use tokio::time::timeout;

use super::{PATIENCE, consumer, producer, read, start};

fn check(refused: Result<(), Error>, part: &str) {
    let error = refused.expect_err("refused");
    assert!(error.to_string().contains(part), "{error}");
    assert!(!error.maybe_written() && error.fault() == Fault::Caller, "{error}");
}

const POSITIONS: [(Position, &str); 4] = [
    (Position::Offset(-1), "offset -1"),
    (Position::Offset(i64::MIN), "offset -9223372036854775808"),
    (Position::BeforeEnd(-1), "-1 records before the end"),
    (Position::TimestampMs(-5), "time -5 ms"),
];

#[tokio::test]
async fn a_position_below_zero_is_refused_and_changes_nothing() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    producer(&client).await.send(Record::to("t").value("v")).await.expect("written");
    let mut consumer = consumer(&client, "t", 1).await;
    for (position, part) in POSITIONS {
        let built = client.consumer_direct().assign([("t", 0)], position).build().await;
        check(built.map(drop), part);
        check(consumer.assign([("t", 0)], position).await, part);
        check(consumer.seek("t", 0, position), part);
        check(consumer.partitions().remove(0).seek(position), part);
    }
    assert_eq!(consumer.assignment(), [("t".to_owned(), 0)]);
    assert!(consumer.position("t", 0).is_none_or(|at| at >= 0), "{:?}", consumer.position("t", 0));
    assert_eq!(read(&mut consumer, 1).await[&0][0].offset, 0);
}

#[tokio::test]
async fn a_time_below_zero_is_not_looked_up() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let found = client.admin().list_offsets([("t", 0)], OffsetAt::TimestampMs(-5)).await;
    check(found.map(drop), "time -5 ms");
}

#[tokio::test]
async fn a_record_of_before_1970_is_refused_and_others_come_back_as_they_went() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    let before = || {
        let long_ago = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1);
        [
            Record::to("t").timestamp_ms(-1),
            Record::to("t").timestamp_ms(-5),
            Record::to("t").timestamp_ms(i64::MIN),
            Record::to("t").timestamp(long_ago),
        ]
    };
    for record in before() {
        check(producer.send(record.clone()).await.map(drop), "timestamp");
        check(producer.enqueue(record.clone()).await.map(drop), "timestamp");
        check(producer.post(record).await, "timestamp");
    }
    for time in [0, 1, 1_700_000_000_123] {
        let receipt = producer.send(Record::to("t").timestamp_ms(time)).await.expect("written");
        assert_eq!(receipt.timestamp_ms(), time);
    }
    let mut consumer = consumer(&client, "t", 1).await;
    let seen = read(&mut consumer, 3).await.remove(&0).expect("partition 0");
    let times: Vec<_> = seen.iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(times, [Some(0), Some(1), Some(1_700_000_000_123)]);
}

#[tokio::test]
async fn a_partition_below_zero_is_refused() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = producer(&client).await;
    check(producer.send(Record::to("t").partition(-1)).await.map(drop), "partition -1 of topic \"t\"");
    let mut consumer = consumer(&client, "t", 1).await;
    check(consumer.assign([("t", -1)], Position::Earliest).await, "partition -1 of topic \"t\"");
    check(consumer.seek("t", -1, Position::Earliest), "partition -1 of topic \"t\"");
    producer.send(Record::to("t")).await.expect("written");
    read(&mut consumer, 1).await;
}

#[tokio::test]
async fn an_answer_above_our_own_limit_names_the_setting() {
    let topics: Vec<_> = (0..100).map(|index| format!("topic-{index}")).collect();
    let topics: Vec<_> = topics.iter().map(|name| (name.as_str(), 1)).collect();
    let (cluster, _) = start(1, &topics).await;
    let client = Client::builder()
        .bootstrap(cluster.bootstrap())
        .settings(|settings| settings.response_bytes_max = 2000)
        .connect()
        .await
        .expect("connected");
    let error = client.admin().topics().await.expect_err("too long an answer");
    assert!(error.to_string().contains("response_bytes_max allows 2000"), "{error}");
    assert!(!error.to_string().contains("does not follow"), "{error}");
    assert_eq!((error.kind(), error.fault()), (ErrorKind::TooLarge, Fault::Caller));
    assert!(!error.is_retriable() && !error.maybe_written(), "{error}");
}

#[tokio::test]
async fn an_answer_above_our_own_limit_fails_no_other_request_on_its_connection() {
    let (cluster, _) = start(1, &[("t", 300)]).await;
    let building = Client::builder().bootstrap(cluster.bootstrap());
    let building = building.settings(|settings| settings.response_bytes_max = 2000);
    let admin = building.connect().await.expect("connected").admin();
    let (long, short, order) =
        tokio::join!(admin.topics(), admin.describe_cluster(), admin.delete_topics(["nowhere"]));
    assert_eq!(long.expect_err("too long an answer").kind(), ErrorKind::TooLarge);
    assert_eq!(short.expect("asked again").brokers.len(), 1);
    // Nobody knows what became of an order, and its answer was not too long.
    if let Err(error) = order {
        assert!(error.kind() == ErrorKind::Network && error.maybe_written(), "{error}");
    }
}

#[tokio::test]
async fn metadata_above_our_own_limit_names_the_setting_whichever_broker_is_asked() {
    let cluster = milena_broker::Broker::builder().nodes(3).start().await.expect("started");
    cluster.create_topic("t", 300).expect("made");
    let client = Client::builder()
        .bootstrap(cluster.bootstrap())
        .settings(|settings| settings.response_bytes_max = 2000)
        .connect()
        .await
        .expect("connected");
    let check = |error: Error| {
        assert!(error.to_string().contains("response_bytes_max allows 2000"), "{error}");
        assert_eq!((error.kind(), error.fault()), (ErrorKind::TooLarge, Fault::Caller), "{error}");
        assert!(!error.is_retriable() && !error.maybe_written(), "{error}");
    };
    check(client.admin().topics().await.expect_err("too long an answer"));
    let producer = client.producer().build().await.expect("built");
    let sent = timeout(PATIENCE, producer.send(Record::to("t").value("v"))).await;
    check(sent.expect("in time").expect_err("the topic cannot be described"));
    // One broker that is down does not hide what the others say.
    cluster.stop_node(cluster.leader("t", 0).expect("led")).await.expect("stopped");
    check(client.admin().topics().await.expect_err("too long an answer"));
}

#[tokio::test]
async fn a_topic_of_less_than_one_is_refused_and_so_are_those_asked_for_with_it() {
    let (_cluster, client) = start(1, &[]).await;
    let admin = client.admin();
    for (partitions, replicas, part) in
        [(0, 1, "0 partitions"), (-1, 1, "-1 partitions"), (1, -1, "-1 replicas")]
    {
        let refused = NewTopic::new("a").partitions(partitions).replication(replicas);
        check(admin.create_topics([NewTopic::new("b"), refused]).await.map(drop), part);
    }
    assert!(admin.topics().await.expect("listed").is_empty());
}

/// A connector with a fault of its own.
struct Panics;

impl Connect for Panics {
    fn connect(&self, address: &Address, _at: Option<SocketAddr>) -> Connecting {
        panic!("no way to {address}")
    }
}

#[tokio::test]
async fn a_connector_that_panics_is_named_and_nothing_counts_as_sent() {
    let connecting = Client::builder().bootstrap("localhost:1").connector(Panics).connect();
    let error = timeout(PATIENCE, connecting).await.expect("soon").expect_err("no connection");
    assert!(error.to_string().contains("the connector panicked"), "{error}");
    assert_eq!((error.kind(), error.maybe_written()), (ErrorKind::InvalidInput, false), "{error}");
}
