//! Rounds: every client does the scenario's work in turn, and each run is measured from outside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::brokers::{Brokers, GROUP, Target};
use super::drivers::{self, Driver, FLOOR, Kind, MILENA};
use super::scenario::{Broker, Rhythm, SPECIAL_PARTITION, Scenario, Twist, Work};
use crate::kafka::process;

/// One run of one client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    /// The driver's line of results.
    pub(super) line: Value,
    /// User and system time of the whole process.
    pub(super) cpu_seconds: f64,
    /// The peak resident memory.
    pub(super) rss_bytes: f64,
    /// Voluntary and involuntary context switches.
    pub(super) switches: f64,
    /// The sink's counts, if the broker was a sink.
    pub(super) sink: Option<Value>,
}

/// Why there is no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The client cannot do it, or cannot be built.
    Lacks(String),
    /// The run failed.
    Failed(String),
}

/// All rounds of one client.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The client.
    pub(super) client: &'static str,
    /// The runs that succeeded.
    pub(super) runs: Vec<Run>,
    /// Why other runs did not.
    pub(super) missing: Vec<Missing>,
}

/// How scenarios are run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// `milena-bench`.
    pub(super) program: PathBuf,
    /// The folder with the files of values and keys.
    pub(super) payloads: PathBuf,
    /// The number of rounds.
    pub(super) rounds: u32,
    /// The time limit of one run.
    pub(super) limit: Duration,
}

/// A run of fewer seconds depends too much on the machine's momentary speed, so that a turn has up to [`RUNS_MAX`] of them.
const SHORT: f64 = 0.5;
const RUNS_MAX: u32 = 2;
/// After a run of more seconds, the client is not run again in this scenario.
const LONG: f64 = 2.0;

/// Runs all rounds of a scenario. The order of the clients rotates with every round, so that no client always runs after the
/// same other one. A failure is reported in the client's row.
pub(super) fn rounds(
    plan: &Plan,
    brokers: &mut Brokers,
    scenario: &Scenario,
    drivers: &[Driver],
) -> Vec<Rounds> {
    let takes_part = |driver: &&Driver| match driver.client.name {
        MILENA => true,
        FLOOR => floor_does(scenario),
        _ => !scenario.is_own(),
    };
    let drivers: Vec<&Driver> = drivers.iter().filter(takes_part).collect();
    let new = |driver: &&Driver| Rounds { client: driver.client.name, runs: Vec::new(), missing: Vec::new() };
    let mut all: Vec<Rounds> = drivers.iter().map(new).collect();
    for round in 0..plan.rounds {
        for step in 0..drivers.len() {
            let index = (step + round as usize) % drivers.len();
            let (driver, rounds) = (drivers[index], &mut all[index]);
            // A client that lacks a feature, or does not end in time, is not tried again.
            let is_hopeless = !rounds.missing.is_empty() && rounds.runs.is_empty();
            if is_hopeless || rounds.runs.first().is_some_and(|run| seconds(run) > LONG) {
                continue;
            }
            turn(plan, brokers, scenario, driver, rounds);
        }
    }
    all
}

/// The seconds in the driver's line.
fn seconds(run: &Run) -> f64 {
    run.line["seconds"].as_f64().unwrap_or(SHORT)
}

/// A client's turn in a round.
fn turn(plan: &Plan, brokers: &mut Brokers, scenario: &Scenario, driver: &Driver, rounds: &mut Rounds) {
    let words = match &driver.command {
        Ok(words) => words,
        Err(reason) => return rounds.missing.push(Missing::Lacks(format!("not built: {reason}"))),
    };
    if driver.client.kind == Kind::Rust && scenario.is_flow() {
        let why = "its driver has no groups, and pauses nothing while it reads";
        return rounds.missing.push(Missing::Lacks(why.into()));
    }
    if scenario.is_transactional() && !drivers::TRANSACTIONAL.contains(&driver.client.name) {
        return rounds.missing.push(Missing::Lacks("its driver has no transactions".into()));
    }
    if scenario.is_tls && !drivers::ENCRYPTED.contains(&driver.client.name) {
        return rounds.missing.push(Missing::Lacks("its driver has no TLS".into()));
    }
    let mut sum = 0.0;
    // One round is a quick look.
    for _ in 0..RUNS_MAX.min(plan.rounds) {
        if sum >= SHORT {
            return;
        }
        let outcome = run(plan, brokers, scenario, driver.client.name, words).unwrap_or_else(|error| {
            // The failure may be the broker's, so the next client gets a new one.
            brokers.restart();
            Err(Missing::Failed(format!("the harness: {error:#}")))
        });
        match outcome {
            Ok(run) => {
                sum += seconds(&run);
                rounds.runs.push(run);
            }
            Err(missing) => {
                eprintln!("  {} {missing}", driver.client.name);
                return rounds.missing.push(missing);
            }
        }
    }
}

fn run(
    plan: &Plan,
    brokers: &mut Brokers,
    scenario: &Scenario,
    client: &str,
    words: &[String],
) -> anyhow::Result<Result<Run, Missing>> {
    let target = brokers.target(scenario, client == FLOOR)?;
    let mut command = Command::new(&plan.program);
    command.arg("measure").arg(plan.limit.as_secs_f64().to_string()).args(words);
    command.args(arguments(scenario, client, &target, &plan.payloads));
    let beside = brokers.beside(scenario, &target)?;
    // Leave the driver some time after the limit to write its output.
    let output = process::run(command, None, plan.limit + Duration::from_secs(10))?;
    drop(beside);
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_read = matches!(scenario.work, Work::Consume { .. });
    let sink = brokers.finish(target, is_read)?;
    Ok(read(&String::from_utf8_lossy(&output.stdout), &said, scenario, sink))
}

/// Whether the floor takes part: only scenarios that do nothing but move bytes to and from a sink have one.
fn floor_does(scenario: &Scenario) -> bool {
    // The floor reads prepared batches from the sink.
    if scenario.writer.is_some() || scenario.is_tls {
        return false;
    }
    match scenario.work {
        Work::Produce { rhythm, .. } => {
            rhythm == Rhythm::Free && !matches!(scenario.broker, Broker::Sink { delay_ms: 1.., .. })
        }
        Work::Consume { twist, .. } => {
            let is_near = !matches!(scenario.broker, Broker::Sink { delay_ms: 1.., .. });
            twist == Twist::None && is_near && !scenario.is_long
        }
        Work::Send { .. } => matches!(scenario.broker, Broker::Sink { .. }),
        _ => false,
    }
}

/// The arguments of every driver.
fn arguments(scenario: &Scenario, client: &str, target: &Target, payloads: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |name: &str, value: &dyn ToString| words.extend([format!("--{name}"), value.to_string()]);
    let values = payloads.join(scenario.payload.values());
    let mut flag = None;
    let mode = match scenario.work {
        Work::Produce { records, is_keyed, acks, is_idempotent, codec, rhythm } => {
            add("records", &records);
            if is_keyed {
                add("keys", &payloads.join(scenario.payload.keys()).display());
            }
            add("codec", &codec);
            add("acks", &acks);
            add("idempotent", &(is_idempotent && !drivers::NOT_IDEMPOTENT.contains(&client)));
            add("linger-ms", &5);
            add("batch-bytes", &1_000_000);
            match rhythm {
                Rhythm::Free => {}
                Rhythm::OneInFlight => add("in-flight", &1),
                Rhythm::Flushes(each) => add("flush-records", &each),
                Rhythm::Transactions(each) => add("transaction-records", &each),
            }
            "produce"
        }
        Work::Process { records, is_exactly_once } => {
            add("records", &records);
            add("linger-ms", &5);
            add("batch-bytes", &1_000_000);
            // The topic is made for each run, and so is the group.
            add("group", &target.topic);
            add("interval-ms", &100);
            flag = is_exactly_once.then_some("--exactly-once");
            "process"
        }
        Work::Send { tasks, seconds } => {
            add("tasks", &tasks);
            add("seconds", &seconds);
            "send"
        }
        Work::Pace { rate, seconds } => {
            add("rate", &rate);
            add("seconds", &seconds);
            add("codec", &"none");
            "pace"
        }
        Work::Latency { rate, seconds } => {
            add("rate", &rate);
            add("seconds", &seconds);
            "latency"
        }
        Work::Consume { records, codec, twist, .. } => {
            add("records", &wanted(records, scenario.partitions, twist));
            if client == FLOOR {
                // Clients find it in the batches.
                add("codec", &codec);
            }
            add("partitions", &scenario.partitions);
            // Small enough that a partition is fetched several times, so that there is something to fetch twice.
            add("partition-fetch-bytes", &if twist == Twist::PausedEach { 65_536 } else { 10_485_760 });
            add("fetch-bytes", &52_428_800);
            match twist {
                Twist::None | Twist::OthersIdle => {}
                Twist::Paused => add("pause", &SPECIAL_PARTITION),
                Twist::Slow => add("slow", &SPECIAL_PARTITION),
                Twist::Retain(every) => add("retain", &every),
                Twist::IdlePartitions(_) => {}
                Twist::PausedEach => flag = Some("--pause-each"),
                Twist::Group => {
                    add("group", &GROUP);
                    // The other clients commit what they have returned.
                    flag = (client == MILENA).then_some("--done");
                }
            }
            "consume"
        }
        Work::Flip { tasks, rate, seconds } => {
            add("tasks", &tasks);
            add("flips", &rate);
            add("seconds", &seconds);
            add("idle-partitions", &scenario.idle_partitions().unwrap_or(0));
            if client == MILENA {
                add("threads", &2);
            }
            "flip"
        }
        Work::Resume { seconds } => {
            add("seconds", &seconds);
            "resume"
        }
        Work::Follow { disturbance, seconds, .. } => {
            add("seconds", &seconds);
            if disturbance.is_group() {
                add("group", &GROUP);
            }
            "follow"
        }
    };
    if matches!(
        scenario.work,
        Work::Produce { .. } | Work::Send { .. } | Work::Pace { .. } | Work::Latency { .. }
    ) {
        add("values", &values.display());
    }
    if let Some(other) = &target.idle_topic {
        let is_written = matches!(scenario.work, Work::Process { .. });
        add(if is_written { "to" } else { "idle-topics" }, other);
    }
    if let Some(authority) = &target.authority {
        add("tls", &authority.display());
    }
    add("bootstrap", &target.bootstrap);
    add("topic", &target.topic);
    words.insert(0, mode.to_owned());
    words.extend(flag.map(str::to_owned));
    words.extend(scenario.has_metrics.then(|| "--metrics".to_owned()));
    words
}

/// The records that the consumer waits for: all but those of a paused or slow partition.
fn wanted(records: u64, partitions: u32, twist: Twist) -> u64 {
    if !matches!(twist, Twist::Paused | Twist::Slow) {
        return records;
    }
    let (partitions, special) = (u64::from(partitions), u64::from(SPECIAL_PARTITION));
    records - (records / partitions + u64::from(special < records % partitions))
}

/// Parses the driver's line of results and the line of `measure` after it.
fn read(stdout: &str, stderr: &str, scenario: &Scenario, sink: Option<Value>) -> Result<Run, Missing> {
    let failed = |why: &str| Missing::Failed(format!("{why}: {}", last_line(stderr)));
    let mut lines = stdout.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let cost = lines.next().ok_or_else(|| failed("not measured"))?;
    if cost["is_timeout"] == true {
        return Err(failed("did not end in time"));
    }
    match cost["exit"].as_i64() {
        Some(0) => {}
        Some(3) => return Err(Missing::Lacks(last_line(stderr).to_owned())),
        code => return Err(failed(&format!("exit code {code:?}"))),
    }
    let line = lines.next().ok_or_else(|| failed("said nothing"))?;
    let records = line["records"].as_u64().unwrap_or(0);
    let expected = match scenario.work {
        Work::Consume { records, twist, .. } => wanted(records, scenario.partitions, twist),
        _ => scenario.records().unwrap_or(0),
    };
    if records < expected {
        return Err(failed(&format!("{records} of {expected} records")));
    }
    if line["failed"].as_u64().unwrap_or(0) > 0 {
        return Err(failed(&format!("{} records failed", line["failed"])));
    }
    let number = |name: &str| cost[name].as_f64().unwrap_or(0.0);
    Ok(Run {
        cpu_seconds: (number("user_us") + number("system_us")) / 1e6,
        rss_bytes: number("rss_bytes"),
        switches: number("voluntary_switches") + number("involuntary_switches"),
        line,
        sink,
    })
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::super::scenario::table;
    use super::*;

    fn scenario(name: &str) -> Scenario {
        table().into_iter().find(|scenario| scenario.name == name).unwrap()
    }

    #[test]
    fn what_is_paused_or_slow_is_not_waited_for() {
        assert_eq!(wanted(3_000_000, 6, Twist::Paused), 2_500_000);
        assert_eq!(wanted(3_000_000, 6, Twist::Slow), 2_500_000);
        assert_eq!(wanted(10, 6, Twist::Paused), 8);
        assert_eq!(wanted(11, 6, Twist::None), 11);
    }

    #[test]
    fn a_run_is_read_from_its_two_lines() {
        let scenario = scenario("produce-sink-100B-none");
        let cost = r#"{"exit":0,"is_timeout":false,"user_us":3000000,"system_us":1000000,"rss_bytes":7,
            "voluntary_switches":2,"involuntary_switches":1}"#
            .replace('\n', "");
        let line = r#"{"records":3000000,"failed":0,"seconds":1.5}"#;
        let run = read(&format!("{line}\n{cost}\n"), "", &scenario, None).unwrap();
        assert_eq!((run.cpu_seconds, run.rss_bytes, run.switches), (4.0, 7.0, 3.0));

        let missing = |stdout: &str, stderr: &str| read(stdout, stderr, &scenario, None).unwrap_err();
        let few = line.replace("3000000", "30");
        assert_eq!(
            missing(&format!("{few}\n{cost}\n"), ""),
            Missing::Failed("30 of 3000000 records: it said nothing".into())
        );
        let lacking = cost.replace("\"exit\":0", "\"exit\":3");
        assert_eq!(missing(&lacking, "no zstd"), Missing::Lacks("no zstd".into()));
        let late = cost.replace("false", "true");
        assert!(matches!(missing(&late, ""), Missing::Failed(_)));
    }
}
