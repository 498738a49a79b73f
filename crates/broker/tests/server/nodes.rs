//! Nodes that come and go, and the end.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::fetch::FetchRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::produce::ProduceRequest;

use crate::client::{Client, FETCH, PATIENCE, PRODUCE, batch, eventually, fetch, outcome, produce, start};

#[tokio::test]
async fn when_a_node_stops_another_replica_leads_and_nothing_is_lost() {
    let cluster = start(Broker::builder().nodes(3).default_replication(2)).await;
    cluster.create_topic("t", 3).expect("created");
    let (leader, epoch_before) = (cluster.leader("t", 0).expect("a leader"), 0);
    let mut client = Client::connect(cluster.addresses()[&leader]).await;
    client.produce("t", 0, b"before").await;
    cluster.stop_node(leader).await.expect("stopped");
    assert!(client.read_to_end().await.is_empty(), "its connections break");
    let next = cluster.leader("t", 0).expect("another replica");
    assert_ne!(next, leader);
    let mut client = Client::connect(cluster.addresses()[&next]).await;
    assert_eq!(client.produce("t", 0, b"after").await, 1);
    let metadata = client.ask(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    assert_eq!(metadata.brokers.len(), 2);
    let partition = &metadata.topics[0].partitions[0];
    assert!(partition.leader_epoch > epoch_before);
    assert_eq!((&partition.isr_nodes, &partition.offline_replicas), (&vec![next], &vec![leader]));
    cluster.start_node(leader).await.expect("started");
    let mut client = Client::connect(cluster.addresses()[&leader]).await;
    let answer = client.ask(PRODUCE, &produce("t", 0, batch(b"x"))).await;
    assert_eq!(outcome(&answer).0, ErrorCode::NOT_LEADER_OR_FOLLOWER, "it came back as a follower");
    cluster.move_leader("t", 0, leader).expect("moved");
    assert_eq!(client.produce("t", 0, b"back").await, 2);
}

#[tokio::test]
async fn with_too_few_replicas_in_sync_only_acks_all_is_refused() {
    let cluster = start(Broker::builder().nodes(2).default_replication(2)).await;
    let leader = cluster.addresses().keys().next().copied().expect("a node");
    let mut client = Client::connect(cluster.addresses()[&leader]).await;
    let config = CreatableTopicConfig {
        name: "min.insync.replicas".into(),
        value: Some("2".into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: 2,
        configs: vec![config],
        ..Default::default()
    };
    let created = client.ask(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
    if cluster.leader("t", 0) != Some(leader) {
        cluster.move_leader("t", 0, leader).expect("moved");
    }
    let all = produce("t", 0, batch(b"x"));
    let one = ProduceRequest { acks: 1, ..all.clone() };
    let outcomes = async |client: &mut Client| {
        let all = client.ask(PRODUCE, &all).await;
        [outcome(&all).0, outcome(&client.ask(PRODUCE, &one).await).0]
    };
    assert_eq!(outcomes(&mut client).await, [ErrorCode::NONE; 2]);
    let other = *cluster.addresses().keys().find(|node| **node != leader).expect("two nodes");
    cluster.stop_node(other).await.expect("stopped");
    assert_eq!(outcomes(&mut client).await, [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NONE]);
    cluster.start_node(other).await.expect("started");
    assert_eq!(outcomes(&mut client).await, [ErrorCode::NONE; 2]);
}

#[tokio::test]
async fn a_partition_without_a_live_replica_has_no_leader_until_it_returns() {
    let cluster = start(Broker::builder().nodes(2)).await;
    cluster.create_topic("t", 2).expect("created");
    let leader = cluster.leader("t", 1).expect("a leader");
    cluster.stop_node(leader).await.expect("stopped");
    assert_eq!(cluster.leader("t", 1), None);
    assert!(cluster.move_leader("t", 1, 3 - leader).is_err(), "it holds no replica");
    cluster.start_node(leader).await.expect("started");
    assert_eq!(cluster.leader("t", 1), Some(leader));
}

#[tokio::test]
async fn a_leader_that_moves_answers_the_fetches_that_wait_for_it() {
    let cluster = start(Broker::builder().nodes(2).default_replication(2)).await;
    cluster.create_topic("t", 1).expect("created");
    let leader = cluster.leader("t", 0).expect("a leader");
    let mut client = Client::connect(cluster.addresses()[&leader]).await;
    let mut parked = FetchRequest { min_bytes: 1, max_wait_ms: i32::MAX, ..fetch("t", 0, 0) };
    // Without an epoch a follower would serve it (KIP-392).
    parked.topics[0].partitions[0].current_leader_epoch = 0;
    client.send(1, FETCH, &parked).await;
    eventually("it is parked", || cluster.stats().requests == 1).await;
    cluster.move_leader("t", 0, 3 - leader).expect("moved");
    let (_, response) = client.receive::<FetchRequest>(FETCH).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(partition.current_leader.leader_id, 3 - leader);
}

#[tokio::test]
async fn shutdown_ends_everything_and_so_does_dropping() {
    let cluster = start(Broker::builder().nodes(3)).await;
    let addresses = cluster.addresses().clone();
    let mut clients = Vec::new();
    for &address in addresses.values() {
        let mut client = Client::connect(address).await;
        client.ask(12, &MetadataRequest::default()).await;
        clients.push(client);
    }
    tokio::time::timeout(PATIENCE, cluster.shutdown()).await.expect("in time").expect("flushed");
    for mut client in clients {
        assert!(client.read_to_end().await.is_empty());
    }
    for &address in addresses.values() {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
    let cluster = start(Broker::builder()).await;
    let address = cluster.addresses()[&1];
    let mut client = Client::of(&cluster).await;
    drop(cluster);
    assert!(client.read_to_end().await.is_empty());
    let gone = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the port is closed");
}
