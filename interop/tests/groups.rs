//! Clients of other projects in groups: members join, leave and are killed while records are produced all the time, and every
//! record is read, in order, and twice only where a killed member had not committed it.

use std::time::Duration;

use milena_broker::Broker;
use milena_interop::checker::Findings;
use milena_interop::embedded::Embedded;
use milena_interop::group::{Group, Setup};
use milena_interop::member::Client;

/// Two members of two clients join a group, leave it and are killed.
fn live(bootstrap: &str, name: &str, protocol: &str, clients: [Client; 2]) -> Option<Findings> {
    if !clients.iter().all(|client| client.is_here()) {
        return None;
    }
    let mut group = Group::start(bootstrap, name, &Setup::new(protocol)).unwrap();
    let [first, second] = clients;
    let a = group.join(first, None).unwrap();
    group.settle(1).unwrap();
    group.flow(20).unwrap();
    let b = group.join(second, None).unwrap();
    group.settle(2).unwrap();
    group.flow(20).unwrap();
    a.close().unwrap();
    group.settle(1).unwrap();
    group.flow(20).unwrap();
    let c = group.join(first, None).unwrap();
    group.settle(2).unwrap();
    group.flow(20).unwrap();
    group.kill(b).unwrap();
    group.settle(1).unwrap();
    group.flow(20).unwrap();
    let findings = group.finish(vec![c]).unwrap();
    let Findings { faults, errors, records, again, lost, assigned, .. } = &findings;
    assert!(faults.is_empty(), "{clients:?} {protocol}: {faults:#?}\nerrors {errors:#?}");
    println!(
        "{clients:?} {protocol}: {records} records, {again} again, {lost} lost, {assigned} assignments, {errors:?}"
    );
    Some(findings)
}

fn live_embedded(protocol: &str, client: Client) {
    let second = Duration::from_secs(1);
    let builder = Broker::builder().nodes(3);
    let builder =
        builder.group_consumer_session_timeout(6 * second).group_consumer_heartbeat_interval(second);
    let broker = Embedded::build(builder);
    live(broker.bootstrap(), "lives", protocol, [client; 2]);
}

#[test]
fn java_lives_in_a_group() {
    live_embedded("range,cooperative-sticky", Client::Java);
}

#[test]
fn java_lives_in_a_cooperative_group() {
    live_embedded("cooperative-sticky", Client::Java);
}

#[test]
fn franz_go_lives_in_a_cooperative_group() {
    live_embedded("cooperative-sticky", Client::FranzGo);
}

#[test]
fn librdkafka_lives_in_a_group() {
    live_embedded("range,roundrobin", Client::Librdkafka);
}

#[test]
fn confluent_kafka_lives_in_a_cooperative_group() {
    live_embedded("cooperative-sticky", Client::Confluent);
}

#[test]
fn aiokafka_lives_in_a_group() {
    live_embedded("range", Client::Aiokafka);
}

#[test]
fn kafkajs_lives_in_a_group() {
    live_embedded("roundrobin", Client::Kafkajs);
}

#[test]
fn java_lives_in_a_group_of_the_consumer_protocol() {
    live_embedded("consumer", Client::Java);
}

#[test]
fn franz_go_lives_in_a_group_of_the_consumer_protocol() {
    live_embedded("consumer", Client::FranzGo);
}

#[test]
fn confluent_kafka_lives_in_a_group_of_the_consumer_protocol() {
    live_embedded("consumer", Client::Confluent);
}
