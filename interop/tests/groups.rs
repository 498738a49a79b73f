//! Clients of other projects in groups: members join, leave and are killed while records are produced all the time, and every
//! record is read, in order, and twice only where a killed member had not committed it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use milena_broker::Broker;
use milena_interop::checker::Findings;
use milena_interop::embedded::Embedded;
use milena_interop::group::{Group, Setup};
use milena_interop::journal::State;
use milena_interop::member::Client;
use milena_interop::real;

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

/// Four clients that assign partitions in turns: each is once the first member, and so the leader.
const MIXED: [Client; 4] = [Client::Milena, Client::Java, Client::Librdkafka, Client::FranzGo];

/// The members of a mixed group agree, whichever client assigns: each partition has one owner, all own equally many, and
/// nothing moves any more.
fn agree(bootstrap: &str, protocol: &str) {
    if !MIXED.iter().all(|client| client.is_here()) {
        return;
    }
    for first in 0..MIXED.len() {
        let what = format!("{protocol} by {:?}", MIXED[first]);
        // No member is killed. On a busy machine a member may be silent for some seconds.
        let session = Duration::from_secs(45);
        let setup = Setup { partitions: 12, session, ..Setup::new(protocol) };
        let mut group = Group::start(bootstrap, &format!("agree-{protocol}-{first}"), &setup).unwrap();
        let mut members = Vec::new();
        for number in 0..MIXED.len() {
            members.push(group.join(MIXED[(first + number) % MIXED.len()], None).unwrap());
            group.settle(number + 1).unwrap();
        }
        assert_rests(&group, &what, &setup, [3; 4]);
        // The leader leaves, and another client assigns.
        members.remove(0).close().unwrap();
        group.settle(3).unwrap();
        assert_rests(&group, &what, &setup, [4; 3]);
        let findings = group.finish(members).unwrap();
        assert!(findings.faults.is_empty(), "{what}: {:#?}", findings.faults);
    }
}

/// Each member comes to own that many partitions, and keeps them for three heartbeats and longer.
fn assert_rests<const MEMBERS: usize>(group: &Group, what: &str, setup: &Setup, counts: [usize; MEMBERS]) {
    let mut since = None;
    let rests = |state: &State| {
        let owned: Vec<usize> = state.owned.values().map(BTreeSet::len).collect();
        let (owned_now, since_when) = since.get_or_insert_with(|| (state.owned.clone(), Instant::now()));
        if owned != counts || *owned_now != state.owned {
            since = None;
            return None;
        }
        (since_when.elapsed() > 3 * setup.heartbeat).then_some(())
    };
    group.journal.wait(&format!("{what}: {counts:?} at rest"), Duration::from_secs(60), rests).unwrap();
}

#[test]
fn a_mixed_group_agrees_on_range() {
    agree(Embedded::start(3).bootstrap(), "range");
}

#[test]
fn a_mixed_group_agrees_on_cooperative_sticky() {
    agree(Embedded::start(3).bootstrap(), "cooperative-sticky");
}

#[test]
fn a_mixed_group_of_real_kafka_agrees_on_range() {
    let Some(kafka) = real::three() else { return };
    agree(&kafka.bootstrap(), "range");
}

#[test]
fn a_mixed_group_of_real_kafka_agrees_on_cooperative_sticky() {
    let Some(kafka) = real::three() else { return };
    agree(&kafka.bootstrap(), "cooperative-sticky");
}

/// A classic group is upgraded by a member of the consumer protocol (KIP-848), and downgraded when that one leaves, while Java's
/// members and Milena's read.
fn migrate(bootstrap: &str, protocol: &str) {
    if !Client::Java.is_here() {
        return;
    }
    let mut group = Group::start(bootstrap, &format!("migrates-{protocol}"), &Setup::new(protocol)).unwrap();
    let java = group.join(Client::Java, None).unwrap();
    let ours = group.join(Client::Milena, None).unwrap();
    group.settle(2).unwrap();
    group.flow(20).unwrap();
    let upgrades = group.join_by("consumer", Client::Milena).unwrap();
    group.settle(3).unwrap();
    group.flow(20).unwrap();
    // Java's goes over to the consumer protocol by a restart, as a rolling upgrade has it.
    java.close().unwrap();
    group.settle(2).unwrap();
    let java = group.join_by("consumer", Client::Java).unwrap();
    group.settle(3).unwrap();
    group.flow(20).unwrap();
    // And back: when the last member of the consumer protocol leaves, the group is a classic one.
    java.close().unwrap();
    upgrades.close().unwrap();
    group.settle(1).unwrap();
    group.flow(20).unwrap();
    let java = group.join(Client::Java, None).unwrap();
    group.settle(2).unwrap();
    group.flow(20).unwrap();
    let findings = group.finish(vec![java, ours]).unwrap();
    let Findings { faults, errors, records, again, lost, assigned, .. } = &findings;
    assert!(faults.is_empty(), "{protocol}: {faults:#?}\nerrors {errors:#?}");
    println!("{protocol}: {records} records, {again} again, {lost} lost, {assigned} assignments, {errors:?}");
}

#[test]
fn an_eager_group_migrates_to_the_consumer_protocol_and_back() {
    migrate(Embedded::start(3).bootstrap(), "range");
}

#[test]
fn a_cooperative_group_of_real_kafka_migrates_to_the_consumer_protocol_and_back() {
    let Some(kafka) = real::kafka() else { return };
    migrate(&kafka.bootstrap(), "cooperative-sticky");
}
