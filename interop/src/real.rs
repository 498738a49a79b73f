//! Real Kafka for tests: one cluster of each kind for the whole test program, started by the first test that needs it.
//!
//! If Java or Maven is missing, a test prints that it is skipped; with `CI=true` it fails. Any other failure fails the test.

use std::io::Write as _;
use std::sync::OnceLock;

use xtask::kafka::{Cluster, NEWEST};

/// The last release that supports ZooKeeper, and the oldest release with which everything is tested.
pub const OLD: &str = "3.9.1";

/// One broker of the newest Kafka.
#[must_use]
pub fn kafka() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| start(1, NEWEST)).as_ref()
}

/// One broker of the newest Kafka for a test that changes what other tests depend on. It ends when it is dropped.
#[must_use]
pub fn alone() -> Option<Cluster> {
    start(1, NEWEST)
}

/// Three brokers of the newest Kafka.
#[must_use]
pub fn three() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| start(3, NEWEST)).as_ref()
}

/// One broker of Kafka 3.9.
#[must_use]
pub fn old() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| start(1, OLD)).as_ref()
}

fn start(brokers: usize, version: &str) -> Option<Cluster> {
    if let Some(program) = xtask::kafka::missing_program() {
        skip(&format!("real Kafka {version} cannot be started: {program} is not installed"));
        return None;
    }
    match Cluster::start(brokers, version) {
        Ok(cluster) => Some(cluster),
        Err(error) => panic!("Kafka {version} with {brokers} brokers did not start: {error:#}"),
    }
}

/// Prints that tests are skipped directly to the terminal, because the test harness would hide it.
///
/// # Panics
/// With `CI=true`: there everything must be installed.
pub fn skip(why: &str) {
    assert!(!in_ci(), "{why}, and with CI=true nothing is skipped");
    // Failing to write to the terminal does not fail the test.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {why} ***\n");
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
