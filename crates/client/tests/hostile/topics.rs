//! Topics that are missing, deleted, or grow. One caller's look-up does not affect another caller, no look-up goes on without
//! end, and no caller waits for a topic that is known to be missing.

use std::pin::pin;
use std::time::{Duration, Instant};

use milena::{Client, NewTopic, OffsetAt, Position, Record};
use milena_messages::{ApiKey, ErrorCode};
use tokio::time::{sleep, timeout};

use super::peer::{Behaviour, Peer};

const SOON: Duration = Duration::from_secs(5);

/// A client that gives a missing topic up after 100 ms, so that the tests need not wait.
async fn connect(peer: &Peer) -> Client {
    Client::builder()
        .bootstrap(&peer.address())
        .settings(|settings| {
            settings.unknown_topic_wait = Duration::from_millis(100);
            settings.retry_backoff_max = Duration::from_millis(100);
        })
        .connect()
        .await
        .expect("connected")
}

/// Waits until no metadata request has come for two seconds; returns how many came before.
async fn metadata_requests_until_calm(peer: &Peer) -> usize {
    let calm = async {
        loop {
            let before = peer.requests(ApiKey::Metadata);
            sleep(Duration::from_secs(2)).await;
            if peer.requests(ApiKey::Metadata) == before {
                return before;
            }
        }
    };
    timeout(Duration::from_secs(30), calm).await.expect("metadata is asked for for ever")
}

#[tokio::test]
async fn one_callers_failed_look_up_takes_no_topic_from_its_producer() {
    let cluster = milena_broker::Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("made");
    let (client, other) =
        (Client::connect(cluster.bootstrap()).await, Client::connect(cluster.bootstrap()).await);
    let (client, other) = (client.expect("connected"), other.expect("connected"));
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").value("v")).await.expect("written");
    // The topic goes, the same client looks for it in vain, and it is made again.
    let deleted = other.admin().delete_topics(["t"]).await.expect("answered");
    deleted.into_iter().for_each(|(_, deleted)| deleted.expect("deleted"));
    let looked_for = async {
        loop {
            let found = client.admin().list_offsets([("t", 7)], OffsetAt::Latest).await.expect("one result");
            let error = found[0].1.as_ref().expect_err("there is no partition 7");
            if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, looked_for).await.expect("the client sees that it is gone");
    other.admin().create_topic(NewTopic::new("t").partitions(1)).await.expect("made");
    let sent = timeout(SOON * 2, producer.send(Record::to("t").value("v"))).await;
    assert_eq!(sent.expect("in time").expect("the topic is there again").offset(), Some(0));
}

#[tokio::test]
async fn cancelled_sends_to_missing_topics_leave_nothing_behind() {
    let peer = Peer::start(Behaviour::Broker).await;
    // However slow the machine is, no send gives its topic up before it is cancelled.
    let client = Client::builder()
        .bootstrap(&peer.address())
        .settings(|settings| settings.unknown_topic_wait = Duration::from_secs(60))
        .connect()
        .await
        .expect("connected");
    let producer = client.producer().build().await.expect("built");
    for index in 0..50 {
        let before = peer.requests(ApiKey::Metadata);
        let topic = format!("missing-{index}");
        let looked_for = async {
            while peer.requests(ApiKey::Metadata) == before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let mut sending = pin!(producer.send(Record::to(&topic).value("v")));
        tokio::select! {
            sent = &mut sending => panic!("it waits for the topic: {sent:?}"),
            looked_for = timeout(SOON * 2, looked_for) => looked_for.expect("the topic is asked for"),
        }
    }
    let before = peer.requests(ApiKey::Metadata);
    let more = metadata_requests_until_calm(&peer).await - before;
    assert!(more <= 5, "{more} metadata requests after the last caller went away");
}

#[tokio::test]
async fn one_garbled_metadata_answer_fails_no_look_up() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = connect(&peer).await;
    let producer = client.producer().build().await.expect("built");
    peer.set_behaviour(Behaviour::BrokerOnceBut(ApiKey::Metadata, &[0, 0, 0, 4, 9, 9, 9, 9]));
    let sent = timeout(SOON * 2, producer.send(Record::to("t").value("v"))).await;
    sent.expect("in time").expect("the second answer describes the topic");
    assert!(peer.requests(ApiKey::Metadata) >= 3, "one was garbled");
}

#[tokio::test]
async fn a_deleted_topic_that_nobody_uses_is_not_asked_for() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = connect(&peer).await;
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").value("v")).await.expect("written");
    let building = client.consumer_direct().assign([("t", 0)], Position::Earliest).build();
    let consumer = building.await.expect("built");
    peer.set_partitions("t", 0);
    // Both users are dropped, and another topic is looked up in vain, so that metadata is fetched.
    let error = producer.send(Record::to("u").value("v")).await.expect_err("no such topic");
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    drop(producer);
    consumer.unassign([("t", 0)]).expect("by position");
    metadata_requests_until_calm(&peer).await;
    // It is gone from what the client knows, too: the next user looks it up.
    peer.set_partitions("t", 1);
    let producer = client.producer().build().await.expect("built");
    timeout(SOON, producer.send(Record::to("t").value("v"))).await.expect("in time").expect("written");
}

#[tokio::test]
async fn a_missing_topic_holds_up_the_first_caller_and_not_those_after_it() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    let fails = async || {
        let sent = timeout(SOON, producer.send(Record::to("nowhere").value("v"))).await;
        let error = sent.expect("in time").expect_err("no such topic");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    };
    fails().await;
    let began = Instant::now();
    // 0.8 s each would be two minutes and a half.
    for _ in 0..200 {
        fails().await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let (asked, seconds) = (peer.requests(ApiKey::Metadata), began.elapsed().as_secs() as usize);
    assert!(asked < 20 + 4 * seconds, "{asked} metadata requests");
    // Once it is there it is found, by one of the next callers.
    peer.set_partitions("nowhere", 1);
    let found = async {
        while producer.send(Record::to("nowhere").value("v")).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, found).await.expect("the bad news is forgotten");
}

#[tokio::test]
async fn an_added_partition_is_found_when_it_is_named() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = connect(&peer).await;
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").value("v")).await.expect("written");
    peer.set_partitions("t", 3);
    // An answer of the last second is still valid.
    sleep(Duration::from_millis(1100)).await;
    let sent = timeout(SOON, producer.send(Record::to("t").partition(2).value("v"))).await;
    assert_eq!(sent.expect("in time").expect("the topic has grown").partition(), 2);
    peer.set_partitions("t", 5);
    sleep(Duration::from_millis(1100)).await;
    let building = client.consumer_direct().assign([("t", 0), ("t", 4)], Position::Earliest).build();
    timeout(SOON, building).await.expect("in time").expect("the topic has grown");
    let asked = peer.requests(ApiKey::Metadata);
    for _ in 0..100 {
        let error =
            producer.send(Record::to("t").partition(9).value("v")).await.expect_err("no such partition");
        assert!(error.to_string().contains("the topic has 5 partitions, counted from 0"), "{error}");
    }
    let more = peer.requests(ApiKey::Metadata) - asked;
    assert!(more <= 20, "{more} metadata requests for 100 wrong partitions");
}

#[tokio::test]
async fn partitions_that_a_topic_gets_later_are_read_by_those_who_read_the_topic() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = Client::builder()
        .bootstrap(&peer.address())
        .settings(|settings| settings.metadata_age_max = Duration::from_millis(100))
        .connect()
        .await
        .expect("connected");
    let build = async |builder: milena::ConsumerBuilder| builder.build().await.expect("built");
    // The peer's end without a transaction is later: what is added is read from its beginning all the same.
    let whole = build(client.consumer_direct().topic("t").from(Position::Latest)).await;
    let to_the_end = build(client.consumer_direct().topic("t").until_end()).await;
    let some = build(client.consumer_direct().assign([("t", 0)], Position::Earliest)).await;
    peer.set_partitions("t", 3);
    let grown = async {
        while whole.position("t", 2) != Some(0) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, grown).await.expect("they are found");
    assert_eq!(whole.assignment(), [0, 1, 2].map(|partition| ("t".to_owned(), partition)));
    assert_eq!((to_the_end.assignment().len(), some.assignment().len()), (1, 1));
}
