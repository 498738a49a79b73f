//! The short forms of `cargo xtask rebalances`, on the embedded broker.

use std::time::Duration;

use milena_interop::brokers::{Brokers, Setting};
use milena_interop::rebalances::{self, Plan, Report, Way};

/// Longer than any record takes.
const LONG: Duration = Duration::from_secs(60);

fn rebalances(way: Way, drain: Duration, hurries: bool) -> Report {
    let (session, heartbeat) = (Duration::from_secs(45), Duration::from_millis(100));
    let brokers = Brokers::start(Setting { session, heartbeat, ..Setting::default() }).unwrap();
    let changes = if hurries { 30 } else { 15 };
    let plan = Plan { changes, rate: 500, way, drain, hurries, seed: 3 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(rebalances::run(&brokers.bootstrap(), "rebalances", &plan)).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
    assert!(drain.is_zero() || report.dropped == 0, "{}", report.text);
    report
}

#[test]
fn pipelines_of_a_classic_group_that_drain_process_no_record_twice() {
    rebalances(Way::Cooperative, LONG, false);
}

#[test]
fn pipelines_of_a_group_of_the_consumer_protocol_that_drain_process_no_record_twice() {
    rebalances(Way::Consumer, LONG, false);
}

#[test]
fn pipelines_of_an_eager_group_that_drain_process_no_record_twice_also_if_they_leave_within_a_rebalance() {
    rebalances(Way::Eager, LONG, true);
}

#[test]
fn pipelines_of_a_classic_group_that_leave_within_a_rebalance_commit_what_is_done() {
    rebalances(Way::Cooperative, Duration::ZERO, true);
}

#[test]
fn pipelines_of_a_group_of_the_consumer_protocol_that_do_not_drain_repeat_only_what_was_in_work() {
    rebalances(Way::Consumer, Duration::ZERO, true);
}
