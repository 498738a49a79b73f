//! `cargo xtask bench stopped`: how much memory the client takes when the application has stopped reading 10 000 partitions
//! that have records.

use std::path::Path;
use std::process::Command;
use std::thread;
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
/// The first rows start together, and reading 10 000 partitions takes a while.
const START_LIMIT: Duration = Duration::from_secs(240);
/// How many applications run at the same time: memory is measured, not time, and ten minutes for each would take hours.
const TOGETHER: usize = 5;

/// One way of reading.
struct Row {
    name: String,
    reading: &'static str,
    target: Target,
}

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
    for scenarios in scenario::stopped().chunks(TOGETHER) {
        let rows = scenarios.iter().map(|(scenario, reading)| {
            let target = brokers.target(scenario, false)?;
            Ok(Row { name: format!("{}, {reading}", scenario.name), reading, target })
        });
        let rows = rows.collect::<anyhow::Result<Vec<Row>>>()?;
        let beyond: Vec<anyhow::Result<f64>> = thread::scope(|scope| {
            let program = &program;
            let runs = rows.iter().map(|row| scope.spawn(move || measure(program, row, seconds)));
            let runs: Vec<_> = runs.collect();
            runs.into_iter().map(|run| run.join().expect("a measurement does not panic")).collect()
        });
        for (row, beyond) in rows.into_iter().zip(beyond) {
            if beyond? > BEYOND_BUDGET_MAX {
                failed.push(row.name);
            }
            brokers.finish(row.target, true)?;
        }
    }
    ensure!(
        failed.is_empty(),
        "resident memory exceeds the budget by more than {BEYOND_BUDGET_MAX} MiB in: {}",
        failed.join("; ")
    );
    Ok(())
}

/// Prints a run, and returns by how many MiB resident memory exceeded the budget, or what is used of it if that is more
/// because the application keeps records.
fn measure(program: &Path, row: &Row, seconds: u64) -> anyhow::Result<f64> {
    let Row { name, reading, target } = row;
    let mut command = Command::new(program);
    command.args([MILENA, "stopped", "--bootstrap", &target.bootstrap, "--topic", &target.topic]);
    command.args(["--seconds", &seconds.to_string(), "--threads", "2", "--reading", reading]);
    let output = process::run(command, None, Duration::from_secs(seconds) + START_LIMIT)?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).context("the driver's line")?;
    let mib = |what: &str| {
        let bytes = line["settings"][what].as_f64();
        bytes.map(|bytes| bytes / MIB).with_context(|| format!("the driver does not say {what}"))
    };
    let (budget, used, rss) = (mib("budget_bytes")?, mib("budget_bytes_used")?, mib("rss_bytes_max")?);
    ensure!(
        used > budget / 2.0,
        "{name}: {used:.1} of {budget:.1} MiB were used: there was too little to read"
    );
    let beyond = rss - if *reading == "keeping" { budget.max(used) } else { budget };
    println!(
        "{name}: {rss:.1} MiB resident in {seconds} s ({:.1} before the first fetch), {used:.1} of {budget:.1} MiB of the \
         budget used, {:.1} MiB buffered, {:.1} MiB pinned; {beyond:.1} of {BEYOND_BUDGET_MAX} MiB beyond it",
        mib("rss_bytes_assigned")?,
        mib("buffered_bytes")?,
        mib("pinned_bytes")?,
    );
    Ok(beyond)
}
