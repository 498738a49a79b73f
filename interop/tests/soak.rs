//! The short form of `cargo xtask soak`, on the embedded broker: it looks at counts, and not at how fast it was, nor at the memory of a
//! process in which other tests run.

use std::time::Duration;

use milena_interop::brokers::{Brokers, Setting};
use milena_interop::soak::{self, Plan};

#[test]
fn a_pipeline_with_faults_finishes_each_record_once() {
    let brokers = Brokers::start(Setting::default()).unwrap();
    let plan = Plan { time: Duration::from_secs(12), window: Duration::from_secs(3), rate: 300 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(soak::run(&brokers.bootstrap(), "soak", &plan)).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
}
