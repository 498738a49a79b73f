//! Brokers that hang, or are not what they were, beside one that works.

use std::time::Duration;

use milena::{Client, NewTopic, Record};
use milena_messages::ApiKey;
use tokio::time::timeout;

use super::peer::{Behaviour, Peer};

#[tokio::test]
async fn a_hung_broker_that_leads_nothing_delays_nobody_by_more_than_a_second() {
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Peer::start(Behaviour::Silent).await);
    }
    let others: Vec<_> = silent.iter().map(Peer::socket_address).collect();
    // The working one advertises another name than it was found by: nothing is known of that address yet.
    let peer = Peer::start_in(Behaviour::Broker, "localhost", others).await;
    for seed in 0..3 {
        let connecting = Client::builder().bootstrap(&peer.address()).seed(seed).connect();
        let client = connecting.await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        // Three silent brokers are asked first at worst, one second each.
        let sent = timeout(Duration::from_secs(8), producer.send(Record::to("t").value("v"))).await;
        sent.expect("the identity comes from whoever answers").expect("written");
        let asked = timeout(Duration::from_secs(8), client.admin().topics()).await;
        asked.expect("so does the answer to an admin call").expect("answered");
        // The broker that answered is asked first from now on.
        for _ in 0..20 {
            let asked = timeout(Duration::from_millis(900), client.admin().topics()).await;
            asked.expect("without a pause").expect("answered");
        }
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
    // It answered before, so it is asked first. A second later the next one is, and a second later the third.
    peer.set_behaviour(Behaviour::Silent);
    let asked = timeout(Duration::from_secs(8), client.admin().topics()).await;
    asked.expect("not after the whole deadline").expect("answered");
    for _ in 0..20 {
        let asked = timeout(Duration::from_millis(900), client.admin().topics()).await;
        asked.expect("without a pause").expect("answered");
    }
}
