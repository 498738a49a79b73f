//! `cargo xtask bench pipeline`: what processing with many workers costs beside a plain loop, and beside Confluent's Parallel
//! Consumer, on the same topics of one Kafka.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::drivers;
use crate::kafka::{Cluster, NEWEST, process};

const ROUNDS: u32 = 5;
const RECORDS: u64 = 4_000_000;
/// The other program takes too long for all of them.
const RECORDS_OF_RIVAL: u64 = 400_000;
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// One way to process a topic.
struct Row {
    name: &'static str,
    is_rival: bool,
    topic: &'static str,
    reading: &'static str,
    work_us: u64,
    concurrency: u32,
    records: u64,
    rates: Vec<f64>,
    bytes: Vec<f64>,
}

fn row(
    name: &'static str,
    topic: &'static str,
    reading: &'static str,
    work_us: u64,
    concurrency: u32,
) -> Row {
    Row {
        name,
        is_rival: false,
        topic,
        reading,
        work_us,
        concurrency,
        records: RECORDS,
        rates: Vec::new(),
        bytes: Vec::new(),
    }
}

fn rival(row: Row) -> Row {
    Row { is_rival: true, records: RECORDS_OF_RIVAL, ..row }
}

/// Zipf's keys are few in most records; with slow work, each key is in few.
fn rows() -> Vec<Row> {
    vec![
        row("plain loop", "zipf", "loop", 0, 1),
        row("no order, no work", "zipf", "none", 0, 256),
        row("by key, no work", "zipf", "key", 0, 256),
        row("no order, 10 ms", "many", "none", 10_000, 5_000),
        row("by key, 10 ms", "many", "key", 10_000, 5_000),
        rival(row("no order, no work", "zipf", "none", 0, 256)),
        rival(row("by key, no work", "zipf", "key", 0, 256)),
        rival(row("no order, 10 ms", "many", "none", 10_000, 1_000)),
        rival(row("by key, 10 ms", "many", "key", 10_000, 1_000)),
    ]
}

/// What a figure has to reach.
struct Target {
    what: &'static str,
    ours: f64,
    least: f64,
}

/// Measures the rows in turn, and their latencies.
///
/// # Errors
/// A figure is not reached, or something could not be measured.
pub(super) fn run(rounds: Option<u32>) -> anyhow::Result<()> {
    let program = drivers::bench_program()?;
    let rival = drivers::parallel_consumer();
    if let Err(error) = &rival {
        println!("without the Parallel Consumer: {error:#}");
    }
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(&program, &payloads)?;
    let settings =
        ["offsets.topic.num.partitions=1".to_owned(), "group.initial.rebalance.delay.ms=0".to_owned()];
    let cluster = Cluster::start_with(1, NEWEST, &settings)?;
    let bench = Bench { program, payloads, bootstrap: cluster.bootstrap(), rival: rival.ok() };
    for (topic, keys) in [("zipf", "zipf-keys.txt"), ("many", "many-keys.txt")] {
        bench.fill(topic, keys)?;
    }
    let mut rows = rows();
    rows.retain(|row| !row.is_rival || bench.rival.is_some());
    for round in 0..rounds.unwrap_or(ROUNDS) {
        for (index, row) in rows.iter_mut().enumerate() {
            let outcome = bench.measure(row, &format!("bench-{round}-{index}"))?;
            let records = outcome["records"].as_f64().context("no records")?;
            let rate = records / outcome["seconds"].as_f64().context("no seconds")?;
            row.rates.push(rate);
            if let Some(bytes) = outcome["allocated_bytes"].as_f64() {
                row.bytes.push(bytes / records);
            }
            eprintln!("round {round}: {}{} {:.0} records/s", who(row), row.name, rate);
        }
    }
    println!(
        "| program | order, work | records/s | of the plain loop | bytes allocated per record |\n|---|---|---:|---:|---:|"
    );
    let plain = median(&rows[0].rates);
    for row in &rows {
        let (rate, bytes) = (median(&row.rates), median(&row.bytes));
        let bytes = if row.bytes.is_empty() { "not counted".into() } else { format!("{bytes:.1}") };
        println!("| {} | {} | {rate:.0} | {:.3} | {bytes} |", who(row).trim(), row.name, rate / plain);
    }
    latencies(&bench)?;
    let of = |index: usize| median(&rows[index].rates);
    let most_bytes = rows[1..5].iter().map(|row| median(&row.bytes)).fold(0.0, f64::max);
    let targets = [
        Target { what: "no order, no work: of the plain loop", ours: of(1) / plain, least: 0.6 },
        Target { what: "by key, no work: of the plain loop", ours: of(2) / plain, least: 0.45 },
        Target { what: "no order, 10 ms: records/s", ours: of(3), least: 200_000.0 },
        Target { what: "by key, 10 ms: records/s", ours: of(4), least: 100_000.0 },
        Target {
            what: "100 bytes allocated per record, divided by ours",
            ours: 100.0 / most_bytes,
            least: 1.0,
        },
    ];
    let mut missed = Vec::new();
    for Target { what, ours, least } in targets {
        println!("{} {what}: {ours:.2}, wanted {least}", if ours >= least { "reached" } else { "MISSED" });
        if ours < least {
            missed.push(what);
        }
    }
    ensure!(missed.is_empty(), "not reached: {}", missed.join("; "));
    Ok(())
}

fn who(row: &Row) -> &'static str {
    if row.is_rival { "Parallel Consumer 0.5.3.2 " } else { "Milena " }
}

/// The time from the intended sending of a record to the end of its work, of 1 ms, at 20 000 records a second. The rival's clock has
/// milliseconds.
fn latencies(bench: &Bench) -> anyhow::Result<()> {
    const RATE: u64 = 20_000;
    const SECONDS: u64 = 10;
    for (who, is_rival) in [("Milena", false), ("Parallel Consumer 0.5.3.2", true)] {
        if is_rival && bench.rival.is_none() {
            continue;
        }
        let topic = if is_rival { "paced-rival" } else { "paced" };
        bench.create(topic)?;
        let row =
            Row { is_rival, topic, records: RATE * SECONDS, ..row("by key, 1 ms", topic, "key", 1_000, 256) };
        let mut writer = Command::new(&bench.program);
        let values = bench.payloads.join("values-100.txt");
        writer
            .args(["milena", "write", "--bootstrap", &bench.bootstrap, "--topic", topic, "--values"])
            .arg(values);
        writer.args(["--rate", &RATE.to_string(), "--seconds", &SECONDS.to_string()]).stdout(Stdio::null());
        let outcome = std::thread::scope(|scope| {
            let measured = scope.spawn(|| bench.measure(&row, &format!("bench-{topic}")));
            // The member joins first. What is sent before it reads counts from its intended time too.
            std::thread::sleep(Duration::from_secs(5));
            let written = process::run(writer, None, RUN_LIMIT);
            let outcome = measured.join().expect("it does not panic");
            written.context("writing at intended times")?;
            outcome
        })?;
        println!("{who}, by key, 1 ms of work, {RATE} records/s: latency (us) {}", outcome["latency_us"]);
    }
    Ok(())
}

struct Bench {
    program: PathBuf,
    payloads: PathBuf,
    bootstrap: String,
    rival: Option<Vec<String>>,
}

impl Bench {
    fn create(&self, topic: &str) -> anyhow::Result<()> {
        let mut fill = Command::new(&self.program);
        fill.args(["fill", "--bootstrap", &self.bootstrap, "--topic", &format!("{topic}:8:0")]);
        succeed(fill)
    }

    /// Values of 100 bytes, in the partitions of their keys.
    fn fill(&self, topic: &str, keys: &str) -> anyhow::Result<()> {
        self.create(topic)?;
        let mut produce = Command::new(&self.program);
        produce.args([
            "milena",
            "produce",
            "--bootstrap",
            &self.bootstrap,
            "--topic",
            topic,
            "--records",
            &RECORDS.to_string(),
        ]);
        produce
            .arg("--values")
            .arg(self.payloads.join("values-100.txt"))
            .arg("--keys")
            .arg(self.payloads.join(keys));
        succeed(produce)
    }

    fn measure(&self, row: &Row, group: &str) -> anyhow::Result<Value> {
        let mut command = match &self.rival {
            Some(rival) if row.is_rival => {
                let mut command = Command::new(&rival[0]);
                command.args(&rival[1..]);
                command
            }
            _ => {
                let mut command = Command::new(&self.program);
                command.args(["milena"]);
                command
            }
        };
        command.args([
            "pipeline",
            "--bootstrap",
            &self.bootstrap,
            "--topic",
            row.topic,
            "--reading",
            row.reading,
        ]);
        command.args(["--records", &row.records.to_string(), "--work-us", &row.work_us.to_string()]);
        command.args(["--tasks", &row.concurrency.to_string(), "--group", group]);
        if !row.is_rival {
            command.args(["--threads", "2"]);
        }
        if row.topic.starts_with("paced") {
            command.arg("--stamped");
        }
        let output = process::run(command, None, RUN_LIMIT)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}: {}", row.name, String::from_utf8_lossy(&output.stderr));
        let line = said.lines().last().context("no line of results")?;
        serde_json::from_str(line).context("the line of results")
    }
}

fn succeed(command: Command) -> anyhow::Result<()> {
    let output = process::run(command, None, RUN_LIMIT)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
