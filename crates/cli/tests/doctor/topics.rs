//! A topic, and the rights to it.

use milena_broker::{Authorizer, Broker, Listener};

use crate::Running;

#[test]
fn a_topic_does_not_exist() {
    Running::start(Broker::builder().auto_create_topics(false)).examine(
        "no-such-topic",
        1,
        &["--topic", "ordesr"],
    );
}

#[test]
fn a_partition_has_no_leader() {
    let cluster = Running::start(Broker::builder().nodes(2).default_replication(1));
    cluster.cluster.create_topic("orders", 2).expect("made");
    let first = cluster.cluster.addresses()[&1];
    cluster.runtime.block_on(cluster.cluster.stop_node(2)).expect("stopped");
    crate::examine("no-leader", 1, &first.to_string(), &["--topic", "orders"]);
}

#[test]
fn too_few_replicas_are_in_sync() {
    let broker = Broker::builder().nodes(2).default_replication(2).config("min.insync.replicas", "2");
    let cluster = Running::start(broker);
    cluster.cluster.create_topic("orders", 1).expect("made");
    let first = cluster.cluster.addresses()[&1];
    cluster.runtime.block_on(cluster.cluster.stop_node(2)).expect("stopped");
    crate::examine("too-few-in-sync", 1, &first.to_string(), &["--topic", "orders"]);
}

#[test]
fn a_topic_takes_smaller_batches_than_the_client_sends() {
    let cluster = Running::start(Broker::builder().config("message.max.bytes", "1000"));
    cluster.cluster.create_topic("orders", 1).expect("made");
    cluster.examine("small-batches-only", 0, &["--topic", "orders"]);
}

/// A cluster in which alice may do nothing.
fn closed() -> Running {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    let cluster = Running::start(broker.authorizer(Authorizer::new().super_user("User:admin")));
    cluster.cluster.create_topic("orders", 1).expect("made");
    cluster
}

const ALICE: [&str; 8] = [
    "-X",
    "security.protocol=SASL_PLAINTEXT",
    "-X",
    "sasl.mechanism=SCRAM-SHA-256",
    "-X",
    "sasl.username=alice",
    "-X",
    "sasl.password=pencil",
];

#[test]
fn a_topic_is_not_allowed() {
    closed().examine("topic-not-allowed", 1, &[&ALICE[..], &["--topic", "orders"]].concat());
}

#[test]
fn a_group_is_not_allowed() {
    closed().examine("group-not-allowed", 1, &[&ALICE[..], &["--group", "billing"]].concat());
}

#[test]
fn a_transactional_id_is_not_allowed() {
    closed().examine(
        "transactional-id-not-allowed",
        1,
        &[&ALICE[..], &["--transactional-id", "billing-1"]].concat(),
    );
}
