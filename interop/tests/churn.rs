//! The short forms of `cargo xtask churn`, on the embedded broker.

use std::time::Duration;

use milena_broker::Broker;
use milena_interop::churn::{self, Plan};
use milena_interop::embedded::Embedded;
use milena_interop::group::Setup;
use milena_interop::member::Client;
use milena_interop::report::Report;

fn start(setup: &Setup) -> Embedded {
    let builder = Broker::builder().nodes(3).group_session_timeout_min(setup.session);
    let builder = builder.group_consumer_session_timeout(setup.session);
    Embedded::build(builder.group_consumer_heartbeat_interval(setup.heartbeat))
}

fn assert_kept(report: &Report, records: u64) {
    assert!(report.findings.faults.is_empty(), "{}", report.text);
    assert!(report.findings.records >= records, "{}", report.text);
}

/// Members of Milena, Java and librdkafka join, leave and are killed.
fn churns(protocol: &str) {
    if ![Client::Java, Client::Librdkafka].iter().all(|client| client.is_here()) {
        return;
    }
    let setup = Setup { partitions: 12, rate: 1000, ..Setup::new(protocol) };
    let plan = Plan { setup, changes: 10, records: 5000, seed: 7 };
    let broker = start(&plan.setup);
    assert_kept(&churn::run(broker.bootstrap(), "churn", &plan).unwrap(), plan.records);
}

#[test]
fn an_eager_group_churns() {
    churns("range,cooperative-sticky");
}

#[test]
fn a_cooperative_group_churns() {
    churns("cooperative-sticky");
}

#[test]
fn a_group_of_the_consumer_protocol_churns() {
    churns("consumer");
}

/// Members that finish records in random order are killed and started again: what they committed does not come again, and what
/// they had not finished does.
fn crashes(protocol: &str) {
    let (session, heartbeat) = (Duration::from_millis(1500), Duration::from_millis(300));
    let setup = Setup { session, heartbeat, rate: 2000, ..Setup::new(protocol) };
    let plan = Plan { setup, changes: 15, records: 5000, seed: 7 };
    let broker = start(&plan.setup);
    let report = churn::crash(broker.bootstrap(), "crash", &plan).unwrap();
    assert_kept(&report, plan.records);
    assert!(report.findings.again > 0, "{}", report.text);
}

#[test]
fn members_of_a_classic_group_crash() {
    crashes("cooperative-sticky");
}

#[test]
fn members_of_a_group_of_the_consumer_protocol_crash() {
    crashes("consumer");
}
