//! `cargo xtask bench serdes`: real flights are written and read with their schema, beside Confluent's client for Python and Java's with
//! Apicurio's serdes, on the embedded broker and one Apicurio Registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::brokers::Process;
use super::drivers;
use super::pipeline::median;
use crate::apicurio::Apicurio;
use crate::kafka::process;

const ROUNDS: u32 = 3;
const RUN_SECONDS: &str = "120";
const RUN_LIMIT: Duration = Duration::from_secs(150);
const FORMATS: [&str; 3] = ["avro", "protobuf", "json"];

/// One client.
struct Driver {
    name: &'static str,
    words: Vec<String>,
    formats: &'static [&'static str],
    /// Many enough that starting the program takes a small part of the time.
    records: fn(&str) -> u64,
}

/// What one run took.
struct Run {
    rate: f64,
    cpu_us: f64,
    distance: i64,
}

/// Measures all of them in turn, and prints the medians.
///
/// # Errors
/// Milena could not be measured, or the clients read different things.
pub(super) fn run(rounds: Option<u32>) -> anyhow::Result<()> {
    let program = drivers::serdes_program()?;
    let drivers = drivers(&program);
    let files = crate::root().join("target/bench/flights");
    succeed(Command::new(&program).args(["flights", "files", "--dir"]).arg(&files))?;
    let registry = Apicurio::start()?;
    let broker = Process::start(Command::new(&program).arg("broker"))?;
    let bench = Bench { program, files, bootstrap: broker.bootstrap("bootstrap")?, registry: registry.url() };

    let rounds = rounds.unwrap_or(ROUNDS);
    println!(
        "| format | mode | client | records/s | CPU us/record | records/s, of Milena's |\n|---|---|---|---:|---:|---:|"
    );
    for format in FORMATS {
        let drivers: Vec<&Driver> =
            drivers.iter().filter(|driver| driver.formats.contains(&format)).collect();
        bench.prepare(format, &drivers)?;
        for mode in ["produce", "consume"] {
            let mut runs: Vec<Vec<Run>> = drivers.iter().map(|_| Vec::new()).collect();
            for round in 0..rounds {
                for (driver, runs) in drivers.iter().zip(&mut runs) {
                    let run = bench.measure(driver, format, mode, (driver.records)(format))?;
                    eprintln!("round {round}: {format} {mode} {} {:.0} records/s", driver.name, run.rate);
                    runs.push(run);
                }
            }
            report(format, mode, &drivers, &runs);
        }
        bench.compare(format, &drivers)?;
    }
    Ok(())
}

fn drivers(program: &Path) -> Vec<Driver> {
    let own = vec![program.to_string_lossy().into_owned(), "flights".into()];
    let records = |format: &str| if format == "json" { 300_000 } else { 1_000_000 };
    let mut drivers = vec![Driver { name: drivers::MILENA, words: own, formats: &FORMATS, records }];
    // Without Confluent's serdes for Java, which are not on Maven Central.
    match drivers::java_serdes() {
        Ok(words) => {
            let name = "Java, Apicurio's serdes";
            drivers.push(Driver { name, words, formats: &["avro"], records });
        }
        Err(error) => eprintln!("without Java: {error:#}"),
    }
    match drivers::python_serdes() {
        Ok(words) => {
            let name = "confluent-kafka (Python)";
            // Its Protobuf serdes take descriptors from a registry, which Apicurio does not make of files.
            drivers.push(Driver { name, words, formats: &["avro", "json"], records: |_| 50_000 });
        }
        Err(error) => eprintln!("without Python: {error:#}"),
    }
    drivers
}

struct Bench {
    program: PathBuf,
    files: PathBuf,
    bootstrap: String,
    registry: String,
}

impl Bench {
    /// Makes a topic that all clients read, and one that all write to. The schemas of both are registered by that.
    fn prepare(&self, format: &str, drivers: &[&Driver]) -> anyhow::Result<()> {
        let most = drivers.iter().map(|driver| (driver.records)(format)).max().unwrap_or_default();
        let own = drivers.first().context("there is no driver")?;
        for (topic, records) in [(format.to_owned(), most), (written(format), 1)] {
            let mut fill = Command::new(&self.program);
            succeed(fill.args(["fill", "--bootstrap", &self.bootstrap, "--topic", &format!("{topic}:1:0")]))?;
            self.run(own, format, "produce", &topic, records)?;
        }
        Ok(())
    }

    fn measure(&self, driver: &Driver, format: &str, mode: &str, records: u64) -> anyhow::Result<Run> {
        let topic = if mode == "produce" { written(format) } else { format.to_owned() };
        self.run(driver, format, mode, &topic, records)
    }

    /// What each client reads of the first records must be the same.
    fn compare(&self, format: &str, drivers: &[&Driver]) -> anyhow::Result<()> {
        let mut first = None;
        for driver in drivers {
            let read = self.run(driver, format, "consume", format, 20_000)?.distance;
            let expected = *first.get_or_insert(read);
            ensure!(read == expected, "{} read {read} in {format}, and not {expected}", driver.name);
        }
        Ok(())
    }

    fn run(
        &self,
        driver: &Driver,
        format: &str,
        mode: &str,
        topic: &str,
        records: u64,
    ) -> anyhow::Result<Run> {
        let mut command = Command::new(&self.program);
        command.args(["measure", RUN_SECONDS]).args(&driver.words).args([
            mode,
            "--bootstrap",
            &self.bootstrap,
        ]);
        command.args(["--registry", &self.registry, "--topic", topic, "--format", format]);
        command.args(["--records", &records.to_string()]);
        if driver.name != drivers::MILENA {
            command.arg("--flights").arg(self.files.join("flights.jsonl"));
            command.arg("--schema").arg(self.files.join(format));
        }
        let output = process::run(command, None, RUN_LIMIT)?;
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let what = || format!("{} {format} {mode}: {}", driver.name, error.trim());
        let mut lines = said.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let (cost, line) = (lines.next().with_context(what)?, lines.next().with_context(what)?);
        ensure!(cost["exit"] == 0 && line["failed"] == 0 && line["records"] == records, "{}: {line}", what());
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        Ok(Run {
            rate: records as f64 / number(&line["seconds"]),
            cpu_us: (number(&cost["user_us"]) + number(&cost["system_us"])) / records as f64,
            distance: line["settings"]["distance"].as_i64().unwrap_or_default(),
        })
    }
}

/// The topic that is written to.
fn written(format: &str) -> String {
    format!("{format}-written")
}

fn report(format: &str, mode: &str, drivers: &[&Driver], runs: &[Vec<Run>]) {
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
    let own = runs.first().map_or(1.0, |runs| of(runs, |run| run.rate));
    for (driver, runs) in drivers.iter().zip(runs) {
        let (rate, cpu) = (of(runs, |run| run.rate), of(runs, |run| run.cpu_us));
        println!("| {format} | {mode} | {} | {rate:.0} | {cpu:.2} | {:.3} |", driver.name, rate / own);
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let command = std::mem::replace(command, Command::new(""));
    let output = process::run(command, None, RUN_LIMIT)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
