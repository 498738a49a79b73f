//! Several listeners, and what a client that has not logged in may do to a node.

use std::time::{Duration, Instant};

use milena_broker::{Broker, Cluster, Listener};
use milena_messages::ErrorCode;
use milena_messages::metadata::MetadataRequest;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;

use crate::client::{Client, eventually, start};

async fn guarded() -> Cluster {
    let listener = Listener::sasl_plaintext();
    start(Broker::builder().listener(listener).user("alice", "secret")).await
}

async fn login(client: &mut Client, password: &str) -> ErrorCode {
    client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
    let auth_bytes = format!("\0alice\0{password}").into();
    client.ask(2, &SaslAuthenticateRequest { auth_bytes, ..Default::default() }).await.error_code
}

#[tokio::test]
async fn each_listener_has_ports_of_its_own() {
    let builder = Broker::builder().nodes(2).listener(Listener::plaintext());
    let inside = Listener::sasl_plaintext().name("INSIDE");
    let cluster = start(builder.listener(inside).user("alice", "secret")).await;
    assert_eq!(cluster.bootstrap_of("PLAINTEXT"), Some(cluster.bootstrap()));
    assert_eq!(cluster.bootstrap_of("SASL_PLAINTEXT"), None);
    let bootstrap = cluster.bootstrap_of("INSIDE").expect("there is one").to_owned();
    let address = bootstrap.split(',').next().expect("an address").parse().expect("an address");
    let mut client = Client::connect(address).await;
    assert_eq!(login(&mut client, "secret").await, ErrorCode::NONE);
    let metadata = client.ask(12, &MetadataRequest::default()).await;
    let brokers = metadata.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port));
    assert_eq!(brokers.collect::<Vec<_>>().join(","), bootstrap);
    // A node that was down comes back on all of its ports.
    cluster.stop_node(1).await.expect("stops");
    cluster.start_node(1).await.expect("starts");
    assert_eq!(login(&mut Client::connect(address).await, "secret").await, ErrorCode::NONE);
    Client::of(&cluster).await.ask(12, &MetadataRequest::default()).await;
    let twice = Broker::builder().listener(Listener::plaintext()).listener(Listener::plaintext());
    let refused = twice.start().await.expect_err("refused").to_string();
    assert_eq!(refused, "two listeners have the name PLAINTEXT");
}

#[tokio::test]
async fn a_wrong_password_is_answered_late_and_ends_the_connection() {
    let cluster = guarded().await;
    let mut client = Client::of(&cluster).await;
    let started = Instant::now();
    assert_eq!(login(&mut client, "wrong").await, ErrorCode::SASL_AUTHENTICATION_FAILED);
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    assert!(client.read_to_end().await.is_empty());
    eventually("it is counted", || cluster.stats().unauthenticated == 1).await;
    // A request without authentication.
    let mut client = Client::of(&cluster).await;
    client.send(1, 12, &MetadataRequest::default()).await;
    assert!(client.read_to_end().await.is_empty());
    eventually("it is counted", || cluster.stats().unauthenticated == 2).await;
    assert_eq!(cluster.stats().malformed, 0);
}

#[tokio::test]
async fn other_machines_reach_a_listener_only_if_it_authenticates_or_that_is_allowed() {
    let everywhere = || Broker::builder().host([0, 0, 0, 0].into());
    let refused = everywhere().start().await.expect_err("refused").to_string();
    assert!(refused.contains("0.0.0.0") && refused.contains("PLAINTEXT"), "{refused}");
    let both = everywhere().listener(Listener::sasl_plaintext()).listener(Listener::plaintext());
    both.start().await.expect_err("refused");
    start(everywhere().allow_anyone(true)).await;
    start(everywhere().listener(Listener::sasl_plaintext())).await;
    let authority = milena_broker::Authority::new().expect("made");
    let tls = milena_broker::Tls::of(&authority.server(["localhost"]).expect("made"));
    let open = everywhere().listener(Listener::ssl(tls.clone()));
    open.start().await.expect_err("refused");
    let tls = tls.require_clients(authority.certificate_pem()).expect("read");
    start(everywhere().listener(Listener::ssl(tls))).await;
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let builder = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "secret");
    let cluster = start(builder.connections_per_address_max(2)).await;
    let (mut first, second) = (Client::of(&cluster).await, Client::of(&cluster).await);
    eventually("both are there", || cluster.stats().connections == 2).await;
    assert!(Client::of(&cluster).await.read_to_end().await.is_empty());
    eventually("it is counted", || cluster.stats().refused == 1).await;
    assert_eq!(login(&mut first, "secret").await, ErrorCode::NONE, "the others go on");
    drop(second);
    eventually("one is gone", || cluster.stats().connections == 1).await;
    assert_eq!(login(&mut Client::of(&cluster).await, "secret").await, ErrorCode::NONE);
}

#[tokio::test]
async fn frames_are_small_until_the_client_has_logged_in() {
    let cluster = guarded().await;
    let too_large = (65_537_i32).to_be_bytes();
    let mut client = Client::of(&cluster).await;
    client.send_bytes(&too_large).await;
    assert!(client.read_to_end().await.is_empty());
    eventually("it is counted", || cluster.stats().malformed == 1).await;
    cluster.create_topic("t", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    assert_eq!(login(&mut client, "secret").await, ErrorCode::NONE);
    client.produce("t", 0, &vec![7; 500_000]).await;
}

#[tokio::test]
async fn an_address_has_few_connections_that_have_not_logged_in() {
    let builder = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "secret");
    let cluster = start(builder.unauthenticated_connections_per_address_max(2)).await;
    // Those that have logged in do not count.
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut member = Client::of(&cluster).await;
        assert_eq!(login(&mut member, "secret").await, ErrorCode::NONE);
        member.ask(12, &MetadataRequest::default()).await;
        members.push(member);
    }
    let mut guests = [Client::of(&cluster).await, Client::of(&cluster).await];
    eventually("they are here", || cluster.stats().connections == 7).await;
    let mut refused = Client::of(&cluster).await;
    assert!(refused.read_to_end().await.is_empty());
    assert_eq!(cluster.stats().refused, 1);
    // When one of them logs in or goes, another one may come.
    assert_eq!(login(&mut guests[0], "secret").await, ErrorCode::NONE);
    guests[0].ask(12, &MetadataRequest::default()).await;
    let mut next = Client::of(&cluster).await;
    assert_eq!(login(&mut next, "secret").await, ErrorCode::NONE);
}
