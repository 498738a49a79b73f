//! The short forms of `cargo xtask crashes`.

use milena_interop::brokers::{Brokers, Setting};
use milena_interop::crashes::{self, Plan, SESSION};
use milena_interop::real;

fn crashes(bootstrap: &str, name: &str, plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(crashes::run(bootstrap, name, plan)).unwrap();
    assert!(report.faults.is_empty(), "{}", report.text);
}

#[test]
fn after_kill_9_a_pipeline_runs_again_only_what_it_finished_after_its_last_commit() {
    let brokers = Brokers::start(Setting { session: SESSION, ..Setting::default() }).unwrap();
    let protocol = "consumer".into();
    let plan = Plan { protocol, records: 4000, after_commits: 1, in_the_middle: 1, seed: 5 };
    crashes(&brokers.bootstrap(), "crashes", &plan);
}

#[test]
fn after_kill_9_a_pipeline_with_20_000_records_finished_above_its_offset_runs_none_of_them_again_on_kafka() {
    let Some(kafka) = real::kafka() else { return };
    let plan =
        Plan { protocol: "classic".into(), records: 40_000, after_commits: 1, in_the_middle: 0, seed: 6 };
    crashes(&kafka.bootstrap(), "crashes-classic", &plan);
}
