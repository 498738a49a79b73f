//! Brokers at the addresses that they advertise.

use milena_broker::Broker;

use crate::Running;

#[test]
fn a_broker_advertises_a_name_that_does_not_exist() {
    let cluster = Running::start(Broker::builder().advertised_host("kafka-1.internal.invalid"));
    // The bootstrap address of such a cluster has that name too, and users come by another way.
    let at = cluster.cluster.addresses()[&1];
    crate::examine("advertised-name-does-not-exist", 1, &at.to_string(), &[]);
}

#[test]
fn a_broker_advertises_an_address_at_which_nothing_listens() {
    let cluster = Running::start(Broker::builder().advertised_host("127.0.0.9"));
    let at = cluster.cluster.addresses()[&1];
    crate::examine("advertised-address-is-closed", 1, &format!("127.0.0.1:{}", at.port()), &[]);
}

#[test]
fn a_broker_is_down() {
    let cluster = Running::start(Broker::builder().nodes(2).default_replication(2));
    cluster.cluster.create_topic("orders", 2).expect("made");
    let first = cluster.cluster.addresses()[&1];
    cluster.runtime.block_on(cluster.cluster.stop_node(2)).expect("stopped");
    crate::examine("broker-down", 0, &first.to_string(), &["--topic", "orders"]);
}

#[test]
fn a_controller_is_asked_instead_of_a_broker() {
    let cluster = Running::start(Broker::builder());
    // What Kafka's controllers do not have.
    cluster.cluster.set_api_versions(1, 3, None).expect("taken away");
    cluster.examine("controllers-port", 1, &[]);
}

#[test]
fn a_broker_is_too_old() {
    let cluster = Running::start(Broker::builder());
    cluster.cluster.set_api_versions(1, 22, None).expect("taken away");
    cluster.examine("broker-too-old", 1, &[]);
}
