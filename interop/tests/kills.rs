//! The short forms of `cargo xtask kills`, on the embedded broker.

use std::time::Duration;

use milena_interop::brokers::{Brokers, Setting};
use milena_interop::kills::{self, Plan};
use milena_interop::partner::Partner;

/// Brokers end and come back while producers write: what they were told is true.
fn kills(is_transactional: bool) {
    if !Partner::Java.is_here() {
        return;
    }
    let away = Duration::from_millis(900);
    let plan =
        Plan { records: 10_000, rate: 2000, kills: 6, is_transactional, partitions: 12, away, seed: 7 };
    let report = kills::run(&mut Brokers::start(Setting::default()).unwrap(), "kills", &plan).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
    assert!(report.records > 1000, "{}", report.text);
}

#[test]
fn what_producers_are_told_while_brokers_are_killed_is_true() {
    kills(false);
}

#[test]
fn transactions_are_whole_while_brokers_are_killed() {
    kills(true);
}
