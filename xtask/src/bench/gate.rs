//! Figures that must not grow: allocations, requests and wire bytes of Milena on the sink, and instructions of hot functions.
//!
//! None of these figures is a time. The number of requests depends a little on time, because a batch is sent when an answer
//! comes; so the best of a few rounds counts, with an allowance.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::brokers::Brokers;
use super::drivers::{self, CLIENTS};
use super::run::{self, Plan};
use super::scenario::{self, Scenario};
use super::summary::{Measure, Summary};
use crate::kafka::process;

/// The scenarios of the gate, each with a quarter of the report's records.
const SCENARIOS: [&str; 12] = [
    "produce-sink-100B-none",
    "produce-sink-100B-none-keyed",
    "produce-sink-1K-lz4",
    "produce-sink-rtt5-100B-none",
    "consume-sink-100B-none",
    "consume-sink-1K-lz4",
    "consume-sink-100B-none-group",
    "consume-sink-100B-lz4-group",
    "consume-sink-100B-none-batches16K-idle10000",
    "send-sink-16tasks",
    "produce-sink-100B-none-metrics",
    "consume-sink-100B-none-metrics",
];

/// The measures of the gate: the allowed factor over the recorded figure, and the figure that is allowed in any case.
const HELD: [(Measure, f64, f64); 3] = [
    (Measure::AllocationsPerRecord, 1.5, 0.002),
    (Measure::RequestsPerThousandRecords, 2.0, 0.15),
    (Measure::WirePerByte, 1.02, 0.0),
];

const ROUNDS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// The time for a build and for valgrind, which is slow.
const INSTRUCTIONS_LIMIT: Duration = Duration::from_secs(900);

/// A figure and its limit.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    scenario: String,
    measure: String,
    figure: f64,
    allowed: f64,
}

/// Measures the figures, and compares them with the recorded ones or records them.
///
/// # Errors
/// Something grew beyond its allowance, or could not be measured.
pub(super) fn run(is_record: bool) -> anyhow::Result<()> {
    instructions(is_record)?;
    let found = measure(&drivers::bench_program()?)?;
    let path = allowance_path();
    if is_record {
        fs::write(&path, to_text(&found)).with_context(|| path.display().to_string())?;
        return Ok(());
    }
    let recorded = parse(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
    let (text, worse) = compare(&found, &recorded);
    print!("{text}");
    ensure!(
        worse == 0,
        "{worse} figures are beyond their allowance; `cargo xtask bench gate --record` if that is worth it"
    );
    Ok(())
}

fn measure(program: &Path) -> anyhow::Result<Vec<Held>> {
    let drivers = drivers::build(program, &CLIENTS[..1]);
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(program, &payloads)?;
    let plan = Plan { program: program.to_owned(), payloads, rounds: ROUNDS, limit: LIMIT };
    let mut brokers = Brokers::new(&plan.program, &plan.payloads);
    let mut found = Vec::new();
    for scenario in scenarios() {
        let rounds = run::rounds(&plan, &mut brokers, &scenario, &drivers);
        let summary = Summary::of(scenario, rounds);
        let Some(row) = summary.rows.first().filter(|row| row.rounds > 0) else {
            bail!("{} did not run", summary.scenario.name);
        };
        for (measure, factor, nothing) in HELD {
            if let Some(figure) = row.figure(measure) {
                found.push(Held {
                    scenario: summary.scenario.name.clone(),
                    measure: measure.name().to_owned(),
                    figure: figure.min,
                    allowed: (figure.min * factor).max(nothing),
                });
            }
        }
    }
    Ok(found)
}

fn scenarios() -> Vec<Scenario> {
    let table = scenario::table().into_iter();
    table.filter(|scenario| SCENARIOS.contains(&scenario.name.as_str())).map(Scenario::shortened).collect()
}

/// Measures instructions in the same build as for `instructions.txt`: other linked code would change what is inlined.
fn instructions(is_record: bool) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--release", "--quiet", "--manifest-path"])
        .arg(crate::root().join("bench/Cargo.toml"));
    cargo.args(["--", "instructions"]).args(is_record.then_some("--record"));
    let output = process::run(cargo, None, INSTRUCTIONS_LIMIT)?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn allowance_path() -> PathBuf {
    crate::root().join("bench/allowance.txt")
}

fn to_text(found: &[Held]) -> String {
    let mut text = String::from(
        "# What Milena may take on the sink: scenario, measure, best of three rounds, and what is let pass.\n\
         # Written by `cargo xtask bench gate --record`; `cargo xtask bench gate` fails beyond the last column.\n",
    );
    for Held { scenario, measure, figure, allowed } in found {
        let _ = writeln!(text, "{scenario} {measure} {figure:.5} {allowed:.5}");
    }
    text
}

fn parse(text: &str) -> anyhow::Result<Vec<Held>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let held = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[scenario, measure, figure, allowed] = &words[..] else { bail!("allowance.txt: {line:?}") };
        let (scenario, measure) = (scenario.to_owned(), measure.to_owned());
        Ok(Held { scenario, measure, figure: figure.parse()?, allowed: allowed.parse()? })
    });
    held.collect()
}

/// Writes a line for each figure, and counts those beyond their limit. A figure that is not recorded is beyond it.
fn compare(found: &[Held], recorded: &[Held]) -> (String, usize) {
    let (mut text, mut worse) = (String::new(), 0);
    for held in found {
        let before = recorded.iter().find(|one| one.scenario == held.scenario && one.measure == held.measure);
        let allowed = before.map_or(f64::NEG_INFINITY, |before| before.allowed);
        let is_worse = held.figure > allowed;
        worse += usize::from(is_worse);
        let recorded = before.map_or_else(
            || "not recorded".to_owned(),
            |before| format!("recorded {:.5}, allowed {:.5}", before.figure, before.allowed),
        );
        let verdict = if is_worse { "  TOO MUCH" } else { "" };
        let _ = writeln!(
            text,
            "{:<46} {:<30} {:>9.5}  {recorded}{verdict}",
            held.scenario, held.measure, held.figure
        );
    }
    (text, worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(scenario: &str, figure: f64, allowed: f64) -> Held {
        Held { scenario: scenario.into(), measure: "wire".into(), figure, allowed }
    }

    #[test]
    fn every_scenario_of_the_gate_exists() {
        assert_eq!(scenarios().len(), SCENARIOS.len());
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let found = [held("a", 1.25, 1.5), held("b", 0.001, 0.25)];
        assert_eq!(parse(&to_text(&found)).unwrap(), found);
        parse("a b c\n").unwrap_err();
    }

    #[test]
    fn what_grew_or_was_never_recorded_fails() {
        let recorded = [held("a", 1.0, 1.5), held("b", 1.0, 1.5)];
        let found = [held("a", 1.5, 0.0), held("b", 1.51, 0.0), held("c", 0.0, 0.0)];
        let (text, worse) = compare(&found, &recorded);
        assert_eq!(worse, 2, "{text}");
        assert!(text.lines().nth(1).unwrap().ends_with("TOO MUCH"), "{text}");
    }
}
