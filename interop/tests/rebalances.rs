//! The short forms of `cargo xtask rebalances`, on the embedded broker.

use std::time::Duration;

use milena::Protocol;
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::rebalances::{self, Plan, Report};

fn rebalances(protocol: Protocol, drain: Duration) -> Report {
    let brokers =
        Brokers::start(Setting { heartbeat: Duration::from_millis(100), ..Setting::default() }).unwrap();
    let plan = Plan { changes: 15, rate: 500, protocol, drain, hurries: false, seed: 3 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(rebalances::run(&brokers.bootstrap(), "rebalances", &plan)).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
    report
}

#[test]
fn pipelines_of_a_classic_group_that_drain_process_no_record_twice() {
    let report = rebalances(Protocol::Classic, Duration::from_secs(60));
    assert_eq!(report.dropped, 0, "{}", report.text);
}

#[test]
fn pipelines_of_a_group_of_the_consumer_protocol_that_drain_process_no_record_twice() {
    let report = rebalances(Protocol::Consumer, Duration::from_secs(60));
    assert_eq!(report.dropped, 0, "{}", report.text);
}
