//! The order on a connection: requests are answered one at a time and in order, and other connections do not wait.

use std::time::{Duration, Instant};

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::fetch::FetchRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use milena_messages::metadata::MetadataRequest;
use milena_messages::produce::ProduceRequest;
use milena_wire::Str;

use crate::client::{Client, FETCH, PRODUCE, batch, eventually, fetch, outcome, produce, start};

#[tokio::test]
async fn a_parked_fetch_holds_back_its_own_connection_only() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    let (mut waiting, mut other) = (Client::of(&cluster).await, Client::of(&cluster).await);
    let parked = FetchRequest { min_bytes: 1, max_wait_ms: 60_000, ..fetch("t", 0, 0) };
    waiting.send(1, FETCH, &parked).await;
    waiting.send(2, 12, &MetadataRequest::default()).await;
    other.ask(12, &MetadataRequest::default()).await;
    other.produce("t", 0, b"value").await;
    let (first, response) = waiting.receive::<FetchRequest>(FETCH).await;
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    let (second, _) = waiting.receive::<MetadataRequest>(12).await;
    assert_eq!((first, second), (1, 2));
}

#[tokio::test]
async fn a_fetch_is_answered_when_its_time_is_up() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    let started = Instant::now();
    client.ask(FETCH, &FetchRequest { min_bytes: 1, max_wait_ms: 50, ..fetch("t", 0, 0) }).await;
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_order() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    let mut all = Vec::new();
    for id in 0..500 {
        let value = vec![7; (id as usize * 37) % 3000];
        all.extend(crate::client::frame(id, PRODUCE, &produce("t", 0, batch(&value))));
    }
    // In pieces that respect no border.
    for piece in all.chunks(10_007) {
        client.send_bytes(piece).await;
    }
    for id in 0..500 {
        let (correlation_id, response) = client.receive::<ProduceRequest>(PRODUCE).await;
        assert_eq!((correlation_id, outcome(&response).1), (id, i64::from(id)));
    }
}

#[tokio::test]
async fn who_hangs_up_while_waiting_is_forgotten() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("t", 1).expect("created");
    for number in 0..20 {
        let mut client = Client::of(&cluster).await;
        let parked = FetchRequest { min_bytes: 1, max_wait_ms: i32::MAX, ..fetch("t", 0, 0) };
        client.send(1, FETCH, &parked).await;
        eventually("the fetch is handled", || cluster.stats().requests > number).await;
        // Another request, which is not read, may be before the end of the stream.
        if number % 2 == 1 {
            client.send(2, 12, &MetadataRequest::default()).await;
        }
    }
    eventually("no connection is left", || cluster.stats().connections == 0).await;
}

#[tokio::test]
async fn a_wait_of_weeks_ends_with_the_idle_timeout() {
    let cluster = start(Broker::builder().idle_timeout(Duration::from_millis(200))).await;
    cluster.create_topic("t", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    let parked = FetchRequest { min_bytes: 1, max_wait_ms: i32::MAX, ..fetch("t", 0, 0) };
    // A second request hides the end of the stream from a broker that looks for it.
    client.send(1, FETCH, &parked).await;
    client.send(2, FETCH, &parked).await;
    assert!(client.read_to_end().await.is_empty());
    eventually("no connection is left", || cluster.stats().connections == 0).await;
}

#[tokio::test]
async fn a_member_that_waits_for_others_keeps_its_connection() {
    let builder = Broker::builder().idle_timeout(Duration::from_millis(200));
    let cluster = start(builder.group_session_timeout_min(Duration::from_millis(1))).await;
    let request = |member_id: Str| JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 1000,
        member_id,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    let (mut one, mut two) = (Client::of(&cluster).await, Client::of(&cluster).await);
    assert_eq!(one.ask(3, &request(Str::default())).await.error_code, ErrorCode::NONE);
    // The first one does not join again, and the second one waits for it as long as a rebalance takes.
    let answer = two.ask(3, &request(Str::default())).await;
    assert_eq!((answer.error_code, answer.generation_id, answer.members.len()), (ErrorCode::NONE, 2, 1));
}
