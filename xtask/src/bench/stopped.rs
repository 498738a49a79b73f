//! `cargo xtask bench stopped`: how much memory the client takes when the application has stopped reading 10 000 partitions
//! that have records.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::brokers::{Brokers, Target};
use super::drivers::{self, MILENA};
use super::scenario;
use crate::kafka::process;

/// What resident memory may take beyond the budget: the program, metadata and sessions of 10 000 partitions, connections.
const BEYOND_BUDGET_MAX: f64 = 48.0;
const MIB: f64 = (1 << 20) as f64;

/// Lets the application stop for `seconds` in each way, and fails if memory exceeds the budget by more than 48 MiB.
///
/// # Errors
/// Memory exceeds the limit, or something could not be measured.
pub(super) fn run(seconds: u64) -> anyhow::Result<()> {
    let program = drivers::bench_program()?;
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(&program, &payloads)?;
    let mut brokers = Brokers::new(&program, &payloads);
    let mut failed = Vec::new();
    for scenario in scenario::stopped() {
        let target = brokers.target(&scenario, false)?;
        for own_readers in [false, true] {
            let name = format!(
                "{}{}",
                scenario.name,
                if own_readers { ", a reader for each partition" } else { "" }
            );
            let beyond = measure(&program, &target, &name, own_readers, seconds)?;
            if beyond > BEYOND_BUDGET_MAX {
                failed.push(name);
            }
        }
        brokers.finish(target, true)?;
    }
    ensure!(
        failed.is_empty(),
        "resident memory exceeds the budget by more than {BEYOND_BUDGET_MAX} MiB in: {}",
        failed.join("; ")
    );
    Ok(())
}

/// Prints a run, and returns by how many MiB resident memory exceeded the budget.
fn measure(
    program: &Path,
    target: &Target,
    name: &str,
    own_readers: bool,
    seconds: u64,
) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    command.args([MILENA, "stopped", "--bootstrap", &target.bootstrap, "--topic", &target.topic]);
    command.args(["--seconds", &seconds.to_string(), "--threads", "2"]);
    if own_readers {
        command.arg("--own-readers");
    }
    let output = process::run(command, None, Duration::from_secs(seconds + 60))?;
    ensure!(output.status.success(), "reading: {}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).context("the driver's line")?;
    let mib = |what: &str| {
        let bytes = line["settings"][what].as_f64();
        bytes.map(|bytes| bytes / MIB).with_context(|| format!("the driver does not say {what}"))
    };
    let (budget, rss) = (mib("budget_bytes")?, mib("rss_bytes_max")?);
    let beyond = rss - budget;
    println!(
        "{name}: {rss:.1} MiB resident in {seconds} s ({:.1} before the first fetch), {:.1} of {budget:.1} MiB of the \
         budget used, {:.1} MiB buffered; {beyond:.1} of {BEYOND_BUDGET_MAX} MiB beyond the budget",
        mib("rss_bytes_assigned")?,
        mib("budget_bytes_used")?,
        mib("buffered_bytes")?,
    );
    Ok(beyond)
}
