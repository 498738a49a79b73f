//! `cargo xtask bench group`: what it costs to read as the member of a group, beside reading by position.
//!
//! Three readers of the same topic take turns: by position, as a member, and as a member that marks each batch as done, which
//! is committed in the background. Each is compared with the run by position of the same round, because the machine's speed
//! changes. Valgrind's count of instructions does not depend on that, but needs its own, smaller runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::brokers::{Brokers, GROUP, Target};
use super::drivers::{self, MILENA};
use super::figures::Figure;
use super::scenario::{self, Scenario};
use crate::kafka::process;

/// The default number of rounds.
const ROUNDS: u32 = 7;
/// The readers after the first one, which reads by position.
const READERS: [(&str, &[&str]); 3] = [
    ("by position", &[]),
    ("in a group", &["--group", GROUP]),
    ("in a group, done", &["--group", GROUP, "--done"]),
];
/// The allowed factor over reading by position.
const FACTOR_MAX: f64 = 1.03;
const ALLOCATIONS_MAX: f64 = 0.01;

const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Valgrind runs a program about fifty times slower. The difference of two runs leaves the start out.
const COUNTED_RECORDS: [u64; 2] = [1_000_000, 3_000_000];
const COUNT_LIMIT: Duration = Duration::from_secs(300);

/// Reads in all three ways, and fails if a group costs more than it may.
///
/// # Errors
/// A group costs more, or something could not be measured.
pub(super) fn run(rounds: Option<u32>) -> anyhow::Result<()> {
    let program = drivers::bench_program()?;
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(&program, &payloads)?;
    let mut brokers = Brokers::new(&program, &payloads);
    let scenarios = scenario::group_costs();
    let mut failed = Vec::new();
    for scenario in &scenarios {
        let target = brokers.target(scenario, false)?;
        println!("{}", scenario.name);
        // On a busy machine the medians of CPU differ by 5 %. Instructions do not.
        let is_counted = process::is_installed("valgrind");
        let mut found = by_time(&program, &target, scenario, rounds.unwrap_or(ROUNDS), !is_counted)?;
        if is_counted {
            found.extend(by_instructions(&program, &target)?);
        }
        failed.extend(found.into_iter().map(|why| format!("{} {why}", scenario.name)));
        brokers.finish(target, true)?;
    }
    ensure!(failed.is_empty(), "more than allowed: {}", failed.join("; "));
    Ok(())
}

/// CPU and allocations per record. CPU may be printed without being judged.
fn by_time(
    program: &Path,
    target: &Target,
    scenario: &Scenario,
    rounds: u32,
    is_cpu_judged: bool,
) -> anyhow::Result<Vec<String>> {
    let records = scenario.records().unwrap_or(0);
    let mut cpu: [Vec<f64>; 3] = Default::default();
    let mut allocations: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds as usize {
        for step in 0..READERS.len() {
            let reader = (round + step) % READERS.len();
            let (ns, count) = measure(program, target, records, READERS[reader].1)?;
            cpu[reader].push(ns);
            allocations[reader].push(count);
        }
    }
    let mut failed = Vec::new();
    for (reader, (name, _)) in READERS.iter().enumerate() {
        let ratios = cpu[reader].iter().zip(&cpu[0]).map(|(ours, by_position)| ours / by_position).collect();
        let median = |values| Figure::of(values).map(|figure| figure.median).context("a round");
        let ratio = median(ratios)?;
        let (ns, count) = (median(cpu[reader].clone())?, median(allocations[reader].clone())?);
        println!("  {name:<17} {ns:6.1} ns/record, ratio {ratio:.3}; {count:.5} allocations/record");
        if is_cpu_judged && ratio > FACTOR_MAX || count >= ALLOCATIONS_MAX {
            failed.push(format!("{name}: {ratio:.3} of the CPU, {count:.5} allocations per record"));
        }
    }
    Ok(failed)
}

/// The process's CPU and the allocations, per record.
fn measure(program: &Path, target: &Target, records: u64, rest: &[&str]) -> anyhow::Result<(f64, f64)> {
    let mut command = Command::new(program);
    command.args(["measure", &RUN_LIMIT.as_secs().to_string()]).arg(program);
    let output = process::run(consume(command, target, records, rest), None, RUN_LIMIT * 2)?;
    ensure!(output.status.success(), "reading: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [line, cost] = &lines[..] else { anyhow::bail!("the driver says: {text}") };
    let number = |of: &Value, what: &str| of[what].as_f64().with_context(|| format!("{what} in {of}"));
    let records = number(line, "records")?;
    let cpu = (number(cost, "user_us")? + number(cost, "system_us")?) * 1e3;
    Ok((cpu / records, number(line, "allocations")? / records))
}

fn consume(mut command: Command, target: &Target, records: u64, rest: &[&str]) -> Command {
    command.args([MILENA, "consume", "--bootstrap", &target.bootstrap, "--topic", &target.topic]);
    command.args(["--records", &records.to_string()]).args(rest);
    command
}

/// Instructions per record.
fn by_instructions(program: &Path, target: &Target) -> anyhow::Result<Vec<String>> {
    let mut by_position = None;
    let mut failed = Vec::new();
    for (name, rest) in READERS {
        let [few, many] = COUNTED_RECORDS.map(|records| instructions(program, target, records, rest));
        let per_record = (many? - few?) / (COUNTED_RECORDS[1] - COUNTED_RECORDS[0]) as f64;
        let ratio = per_record / *by_position.get_or_insert(per_record);
        println!("  {name:<17} {per_record:6.1} instructions/record, ratio {ratio:.3}");
        if ratio > FACTOR_MAX {
            failed.push(format!("{name}: {ratio:.3} of the instructions"));
        }
    }
    Ok(failed)
}

fn instructions(program: &Path, target: &Target, records: u64, rest: &[&str]) -> anyhow::Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    // A process calibrates its clock once, for as long as the machine needs: two runs differ by five instructions per record.
    command.args(["--toggle-collect=*Calibration::calibrate*", "--collect-atstart=yes"]).arg(program);
    let output = process::run(consume(command, target, records, rest), None, COUNT_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {said}");
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.with_context(|| format!("valgrind says no count: {said}"))
}
