//! Brokers that hang or behave differently from before, beside one that works.

use std::time::{Duration, Instant};

use milena::{Client, NewTopic, Record};
use milena_messages::header::ResponseHeader;
use milena_messages::init_producer_id::InitProducerIdResponse;
use milena_messages::{ApiKey, ErrorCode, Message};
use milena_wire::Writer;
use tokio::time::timeout;

use super::peer::{Behaviour, Peer};

/// Asks N times a question that any broker can answer, and returns how many whole seconds that took.
async fn pauses(client: &Client, times: usize) -> u64 {
    let mut pauses = 0;
    for _ in 0..times {
        let began = Instant::now();
        let asked = timeout(Duration::from_secs(8), client.admin().topics()).await;
        asked.expect("not after the whole deadline").expect("answered");
        pauses += began.elapsed().as_secs();
    }
    pauses
}

#[tokio::test]
async fn a_hung_broker_that_leads_nothing_delays_nobody_by_more_than_a_second() {
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Peer::start(Behaviour::Silent).await);
    }
    let others: Vec<_> = silent.iter().map(Peer::socket_address).collect();
    // The working broker advertises another name than its bootstrap address, so nothing is known of that address yet.
    let peer = Peer::start_in(Behaviour::Broker, "localhost", others).await;
    for seed in 0..3 {
        let connecting = Client::builder().bootstrap(&peer.address()).seed(seed).connect();
        let client = connecting.await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        // Three silent brokers are asked first at worst, one second each.
        let sent = timeout(Duration::from_secs(8), producer.send(Record::to("t").value("v"))).await;
        sent.expect("the identity comes from whoever answers").expect("written");
        // A broker that was silent is asked last from then on, so each costs one pause at most.
        let pauses = pauses(&client, 40).await;
        assert!(pauses <= 3, "{pauses} s of pauses for three silent brokers");
    }
}

#[tokio::test]
async fn an_order_is_given_again_when_the_controller_has_moved() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    peer.deny_to_be_controller(5);
    let made = timeout(Duration::from_secs(20), client.admin().create_topic(NewTopic::new("new"))).await;
    made.expect("in time").expect("made by the sixth attempt");
    assert_eq!(peer.requests(ApiKey::CreateTopics), 6);
    assert!(peer.requests(ApiKey::Metadata) > 2, "the controller is looked for");
}

#[tokio::test]
async fn when_the_best_broker_hangs_the_next_ones_are_asked_and_remembered() {
    let (silent, other) = (Peer::start(Behaviour::Silent).await, Peer::start(Behaviour::Broker).await);
    let others = vec![silent.socket_address(), other.socket_address()];
    let peer = Peer::start_in(Behaviour::Broker, "127.0.0.1", others).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    // It answered before, and hangs now. A call that asks a silent broker first asks the next one a second later.
    peer.set_behaviour(Behaviour::Silent);
    let pauses = pauses(&client, 40).await;
    assert!(pauses <= 2, "{pauses} s of pauses for two silent brokers");
    assert!(other.requests(ApiKey::Metadata) >= 40, "the third one answers");
}

/// The bytes after the correlation id in an answer to InitProducerId with COORDINATOR_LOAD_IN_PROGRESS.
fn loading() -> &'static [u8] {
    let key = ApiKey::InitProducerId;
    let version = *key.versions().end();
    let mut writer = Writer::new();
    let head = ResponseHeader::default();
    head.encode(&mut writer, key.response_header_version(version)).expect("encodes");
    let error_code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let body = InitProducerIdResponse { error_code, ..Default::default() };
    body.encode(&mut writer, version).expect("encodes");
    &writer.finish().to_vec().leak()[4..]
}

#[tokio::test]
async fn a_broker_that_answers_with_an_error_is_not_asked_for_ever() {
    let other = Peer::start(Behaviour::Broker).await;
    // Like a broker without a connection to the quorum: it answers, but has no producer ids.
    let cut_off = Behaviour::BrokerButBody(&[ApiKey::InitProducerId], loading());
    let peer = Peer::start_in(cut_off, "127.0.0.1", vec![other.socket_address()]).await;
    for seed in 0..3 {
        let client =
            Client::builder().bootstrap(&peer.address()).seed(seed).connect().await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        let sent = timeout(Duration::from_secs(30), producer.send(Record::to("t").value("v"))).await;
        sent.expect("the other broker has producer ids").expect("written");
    }
}
