//! The short form of `cargo xtask tokens`.

use std::time::Duration;

use milena_interop::real;
use milena_interop::tokens::{self, Plan, Target};

fn lasts(is_kafka: bool) {
    let lifetime = Duration::from_secs(3);
    let plan = Plan { time: 4 * lifetime, rate: 5000, lifetime, partitions: 6 };
    let target = Target::start(is_kafka, lifetime).expect("started");
    let report = tokens::run(&target.bootstrap(), &plan).expect("begun");
    assert!(report.faults.is_empty(), "{}", report.text);
}

#[test]
fn tokens_and_sessions_of_seconds_lose_nothing() {
    lasts(false);
}

#[test]
fn tokens_and_sessions_of_seconds_lose_nothing_on_real_kafka() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    lasts(true);
}
