//! The short form of `cargo xtask registry-outage`: it looks at counts, and not at how fast it was.

use std::time::Duration;

use milena_interop::outage::{self, Plan};

#[test]
fn while_the_registry_is_down_known_schemas_go_on_and_unknown_ones_wait_or_fail_and_no_record_is_lost() {
    let plan = Plan {
        time: Duration::from_secs(4),
        window: Duration::from_secs(1),
        rate: 300,
        unknown_every: 20,
        retry_wait: Duration::from_millis(20),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(outage::run(&plan)).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
}
