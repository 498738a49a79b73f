//! Quotas over sockets: the answer comes at once, and the connection is not read until the time that it says is over.

use std::time::{Duration, Instant};

use milena_broker::{Broker, Cluster};
use milena_messages::ErrorCode;
use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData, OpData,
};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::MetadataRequest;

use crate::client::{Client, PRODUCE, batch, eventually, outcome, produce, start};

async fn set(cluster: &Cluster, kind: &str, key: &str, value: f64) {
    let of = AlterClientQuotasRequestEntityData {
        entity_type: kind.into(),
        entity_name: None,
        ..Default::default()
    };
    let op = OpData { key: key.into(), value, ..Default::default() };
    let entry = AlterClientQuotasRequestEntryData { entity: vec![of], ops: vec![op], ..Default::default() };
    let request = AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
    let answer = Client::of(cluster).await.ask(1, &request).await;
    assert_eq!(answer.entries[0].error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn the_answer_comes_at_once_and_the_next_request_is_read_when_its_time_is_over() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    // A request of 10 kB is a tenth of ten seconds' worth, so the eleventh waits for a second.
    set(&cluster, "user", "producer_byte_rate", 10_000.0).await;
    let mut client = Client::of(&cluster).await;
    let request = produce("t", 0, batch(&[7; 9_900]));
    let throttle = loop {
        let answer = client.ask(PRODUCE, &request).await;
        assert_eq!(outcome(&answer).0, ErrorCode::NONE);
        if answer.throttle_time_ms > 100 {
            break Duration::from_millis(answer.throttle_time_ms as u64);
        }
    };
    let began = Instant::now();
    client.ask(12, &MetadataRequest::default()).await;
    // The time began before the answer was read.
    assert!(began.elapsed() > throttle / 2, "{:?} of {throttle:?}", began.elapsed());
    // The connections of other users, and those of the same one that have asked for nothing, are not delayed.
    Client::of(&cluster).await.ask(12, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn the_time_of_every_request_is_charged() {
    for is_heavy in [false, true] {
        let cluster = start(Broker::builder()).await;
        // A nanosecond of each second: any request is above that.
        set(&cluster, "user", "request_percentage", 1e-7).await;
        let mut client = Client::of(&cluster).await;
        if is_heavy {
            client.ask(5, &ListGroupsRequest::default()).await;
        } else {
            client.ask(12, &MetadataRequest::default()).await;
        }
        let next = client.ask(12, &MetadataRequest::default()).await;
        assert_eq!(next.throttle_time_ms, 1000, "heavy: {is_heavy}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_while_it_is_muted_is_let_go() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    set(&cluster, "user", "producer_byte_rate", 1.0).await;
    let mut client = Client::of(&cluster).await;
    let answer = client.ask(PRODUCE, &produce("t", 0, batch(&[7; 9_900]))).await;
    assert!(answer.throttle_time_ms > 1_000_000, "it would take weeks");
    drop(client);
    eventually("it is gone", || cluster.stats().connections == 0).await;
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_hung_up_on() {
    let cluster = start(Broker::builder()).await;
    let mut first = Client::of(&cluster).await;
    set(&cluster, "ip", "connection_creation_rate", 1.0).await;
    for _ in 0..10 {
        Client::of(&cluster).await.ask(12, &MetadataRequest::default()).await;
    }
    let began = Instant::now();
    let mut refused = Client::of(&cluster).await;
    assert!(refused.read_to_end().await.is_empty());
    assert!(began.elapsed() > Duration::from_millis(300), "it learns of it late: {:?}", began.elapsed());
    eventually("it is counted", || cluster.stats().refused == 1).await;
    first.ask(12, &MetadataRequest::default()).await;
}
