//! The short forms of `cargo xtask hops`, on the embedded broker.

use std::time::Duration;

use milena_interop::brokers::{Brokers, Setting};
use milena_interop::hops::{self, Plan};
use milena_interop::partner::Partner;

/// Three groups in a chain copy exactly once while their members are killed.
fn hops(protocol: &str, transaction_version: i16) {
    if !Partner::Java.is_here() {
        return;
    }
    let session = Duration::from_millis(1500);
    let heartbeat = Duration::from_millis(300);
    let setting = Setting { transaction_version, session, heartbeat, ..Setting::default() };
    let plan = Plan {
        records: 10_000,
        rate: 1500,
        partitions: 6,
        protocol: protocol.into(),
        session,
        heartbeat,
        pause: Duration::from_millis(400),
        seed: 7,
    };
    let brokers = Brokers::start(setting).unwrap();
    let report = hops::run(&brokers.bootstrap(), "hops", &plan).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
    assert!(report.killed > 0, "{}", report.text);
}

#[test]
fn a_chain_of_classic_groups_whose_members_are_killed_is_exactly_once() {
    hops("classic", 2);
}

#[test]
fn a_chain_of_groups_of_the_consumer_protocol_whose_members_are_killed_is_exactly_once() {
    hops("consumer", 1);
}
