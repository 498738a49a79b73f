//! `cargo xtask bench gaps`: how long `next()` waits while there are records to read.
//!
//! If a partition has records at its broker, and there is memory and a reader for them, a fetch for it must be in flight.
//! Otherwise its records wait until another partition's long poll ends, and the longest wait grows with `fetch_wait`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::brokers::{Brokers, Target};
use super::drivers::{self, MILENA};
use super::scenario::{self, Broker, Scenario, Work, Writer};
use crate::kafka::process;

/// The default number of rounds.
const RUNS: u32 = 8;
/// Microseconds of work for each record.
const WORKS_US: [u32; 2] = [0, 2];
/// The fetch waits in milliseconds, of which 500 is the default, and the runtime's threads; without one, everything runs on
/// the main thread.
const SETTINGS: [(u32, Option<u32>); 4] = [(50, Some(2)), (500, Some(2)), (3000, Some(2)), (500, None)];
/// With the default fetch wait, no `next()` before the last record may take N milliseconds or more.
const GAP_MS_MAX: f64 = 100.0;
const JUDGED_WAIT_MS: u32 = 500;

const RUN_LIMIT: Duration = Duration::from_secs(60);

/// How a topic is read.
struct Reading {
    work_us: u32,
    wait_ms: u32,
    threads: Option<u32>,
}

/// The result of one run.
struct Gap {
    longest_ms: f64,
    after_records: u64,
    seconds: f64,
}

/// Reads both topics in every combination, and fails if a wait is too long.
///
/// # Errors
/// A wait was too long, or something could not be measured.
pub(super) fn run(runs: Option<u32>) -> anyhow::Result<()> {
    let program = drivers::bench_program()?;
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(&program, &payloads)?;
    let mut brokers = Brokers::new(&program, &payloads);
    let mut too_long = 0;
    for scenario in scenarios() {
        let target = brokers.target(&scenario, false)?;
        for work_us in WORKS_US {
            for (wait_ms, threads) in SETTINGS {
                let reading = Reading { work_us, wait_ms, threads };
                let gaps: Vec<Gap> = (0..runs.unwrap_or(RUNS))
                    .map(|_| reading.measure(&program, &target, &scenario))
                    .collect::<anyhow::Result<_>>()?;
                too_long += reading.print(&scenario, &gaps);
            }
        }
        brokers.finish(target, true)?;
    }
    ensure!(
        too_long == 0,
        "{too_long} runs with a fetch wait of {JUDGED_WAIT_MS} ms have a gap of {GAP_MS_MAX} ms or more"
    );
    Ok(())
}

/// The topics: one that franz-go wrote to Kafka in large batches of lz4, and one with keys that Milena wrote to the embedded
/// broker.
fn scenarios() -> [Scenario; 2] {
    let writer = |client, is_keyed| Writer { client, batch_bytes: Some(1_000_000), is_keyed };
    let few = scenario::written(Broker::Embedded(1), "none", writer(MILENA, true));
    let few = Scenario { partitions: 4, ..few }.with(|work| {
        if let Work::Consume { records, .. } = work {
            *records = 1_000_000;
        }
    });
    [few, scenario::written(Broker::Kafka(1), "lz4", writer("franz-go", false))]
}

impl Reading {
    fn measure(&self, program: &Path, target: &Target, scenario: &Scenario) -> anyhow::Result<Gap> {
        let mut command = Command::new(program);
        command.args([MILENA, "gaps", "--bootstrap", &target.bootstrap, "--topic", &target.topic]);
        command.args(["--records", &scenario.records().unwrap_or(0).to_string()]);
        command.args(["--work-us", &self.work_us.to_string(), "--fetch-wait-ms", &self.wait_ms.to_string()]);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let output = process::run(command, None, RUN_LIMIT)?;
        ensure!(output.status.success(), "reading: {}", String::from_utf8_lossy(&output.stderr));
        let line: Value = serde_json::from_slice(&output.stdout).context("the driver's line")?;
        let number = |value: &Value, what| value.as_f64().with_context(|| format!("the driver says {what}"));
        let settings = &line["settings"];
        Ok(Gap {
            longest_ms: number(&settings["longest_wait_ms"], "how long it waited")?,
            after_records: settings["longest_wait_after_records"].as_u64().unwrap_or(0),
            seconds: number(&line["seconds"], "how long it took")?,
        })
    }

    /// Prints the runs; returns how many of them were too long.
    fn print(&self, scenario: &Scenario, gaps: &[Gap]) -> usize {
        let Self { work_us, wait_ms, threads } = self;
        let is_too_long = |gap: &&Gap| *wait_ms == JUDGED_WAIT_MS && gap.longest_ms >= GAP_MS_MAX;
        let too_long = gaps.iter().filter(is_too_long).count();
        let verdict = if too_long > 0 { format!(", {too_long} TOO LONG") } else { String::new() };
        let runtime = threads.map_or("main thread".into(), |threads| format!("{threads} threads"));
        println!("{}, fetch wait {wait_ms} ms, work {work_us} µs, {runtime}{verdict}", scenario.name);
        for gap in gaps {
            let Gap { longest_ms, after_records, seconds } = gap;
            println!(
                "  longest gap {longest_ms:4.0} ms, after {after_records:7} records; {seconds:.2} s in all"
            );
        }
        too_long
    }
}
