//! The figures that Milena is to reach, beside the best other client and beside the floor. Pure.

use std::fmt::Write as _;

use super::drivers::FLOOR;
use super::summary::{Measure, Summary};

const MILENA: &str = "milena";

/// A cell of the table: CPU per record, as a share of the best other client's, and as a multiple of the floor's.
struct Target {
    /// What scenario names begin with, up to the broker, and what follows it.
    mode: &'static str,
    cell: &'static str,
    of_best: f64,
    of_floor: Option<f64>,
}

const TARGETS: [Target; 12] = [
    Target { mode: "produce", cell: "100B-none", of_best: 0.25, of_floor: Some(4.5) },
    Target { mode: "produce", cell: "100B-lz4", of_best: 0.5, of_floor: None },
    Target { mode: "produce", cell: "1K-none", of_best: 0.5, of_floor: Some(1.9) },
    Target { mode: "produce", cell: "1K-lz4", of_best: 0.75, of_floor: None },
    Target { mode: "produce", cell: "100B-none-keyed", of_best: 0.25, of_floor: Some(4.5) },
    Target { mode: "produce", cell: "100B-lz4-keyed", of_best: 0.5, of_floor: None },
    Target { mode: "produce", cell: "1K-none-keyed", of_best: 0.5, of_floor: Some(1.9) },
    Target { mode: "produce", cell: "1K-lz4-keyed", of_best: 0.75, of_floor: None },
    Target { mode: "consume", cell: "100B-none", of_best: 0.25, of_floor: Some(3.0) },
    Target { mode: "consume", cell: "100B-lz4", of_best: 1.0 / 3.0, of_floor: None },
    Target { mode: "consume", cell: "1K-none", of_best: 0.5, of_floor: Some(1.8) },
    Target { mode: "consume", cell: "1K-lz4", of_best: 0.6, of_floor: None },
];

/// One figure beside what it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// Where.
    pub(super) scenario: String,
    /// What is compared, in words.
    pub(super) what: String,
    /// Ours.
    pub(super) ours: f64,
    /// Theirs, and who they are.
    pub(super) theirs: Option<(String, f64)>,
    /// At most this (or at least, where `is_floor`).
    pub(super) limit: f64,
    /// Ours over theirs, or ours alone.
    pub(super) ratio: f64,
    /// Whether more is better.
    pub(super) more_is_better: bool,
}

impl Verdict {
    /// Whether the figure is what it should be.
    #[must_use]
    pub(super) fn is_reached(&self) -> bool {
        if self.more_is_better { self.ratio >= self.limit } else { self.ratio <= self.limit }
    }
}

/// Everything that can be judged from these summaries.
#[must_use]
pub(super) fn verdicts(summaries: &[Summary]) -> Vec<Verdict> {
    summaries.iter().flat_map(of_summary).collect()
}

fn of_summary(summary: &Summary) -> Vec<Verdict> {
    let name = &summary.scenario.name;
    let mut verdicts = Vec::new();
    for target in &TARGETS {
        let is_cell = name.strip_prefix(target.mode).is_some_and(|rest| {
            ["-sink-", "-kafka-"].iter().any(|broker| rest.strip_prefix(broker) == Some(target.cell))
        });
        if is_cell {
            verdicts.extend(cpu(summary, Some(target.of_best), false));
            verdicts.extend(target.of_floor.and_then(|limit| cpu(summary, Some(limit), true)));
        }
    }
    verdicts.extend(throughput(summary));
    verdicts.extend(alone(summary, Measure::AllocationsPerRecord, "allocations per record", 0.01));
    if name.starts_with("consume") {
        verdicts.extend(alone(summary, Measure::WirePerByte, "wire bytes read per byte", 1.02));
    }
    verdicts.extend(sends(summary));
    verdicts
}

/// The best other client's median, and its name.
fn best(summary: &Summary, measure: Measure, more_is_better: bool) -> Option<(String, f64)> {
    let others = summary.rows.iter().filter(|row| row.client != MILENA && row.client != FLOOR);
    let figures = others.filter_map(|row| Some((row.client.to_owned(), row.median(measure)?)));
    figures.reduce(|best, other| if (other.1 > best.1) == more_is_better { other } else { best })
}

fn cpu(summary: &Summary, limit: Option<f64>, is_floor: bool) -> Option<Verdict> {
    let ours = summary.row(MILENA)?.median(Measure::CpuNsPerRecord)?;
    let theirs = if is_floor {
        (FLOOR.to_owned(), summary.row(FLOOR)?.median(Measure::CpuNsPerRecord)?)
    } else {
        best(summary, Measure::CpuNsPerRecord, false)?
    };
    Some(Verdict {
        scenario: summary.scenario.name.clone(),
        what: "CPU per record (ns)".into(),
        ours,
        ratio: ours / theirs.1,
        theirs: Some(theirs),
        limit: limit?,
        more_is_better: false,
    })
}

/// On real Kafka, no slower than the best other.
fn throughput(summary: &Summary) -> Option<Verdict> {
    let name = &summary.scenario.name;
    if !name.contains("-kafka") || !(name.starts_with("produce") || name.starts_with("consume")) {
        return None;
    }
    versus_best(summary, Measure::RecordsPerSecond, "records per second", 1.0, true)
}

fn sends(summary: &Summary) -> Vec<Verdict> {
    if !summary.scenario.name.starts_with("send") {
        return Vec::new();
    }
    let rate = if summary.scenario.name.ends_with("-16tasks") { 5.0 } else { 1.0 };
    let found = [
        versus_best(summary, Measure::RecordsPerSecond, "sends per second", rate, true),
        versus_best(summary, Measure::LatencyP50Us, "latency p50 (µs)", 1.0, false),
        versus_best(summary, Measure::LatencyP99Us, "latency p99 (µs)", 1.0, false),
    ];
    found.into_iter().flatten().collect()
}

fn versus_best(
    summary: &Summary,
    measure: Measure,
    what: &str,
    limit: f64,
    more_is_better: bool,
) -> Option<Verdict> {
    let ours = summary.row(MILENA)?.median(measure)?;
    let theirs = best(summary, measure, more_is_better)?;
    Some(Verdict {
        scenario: summary.scenario.name.clone(),
        what: what.into(),
        ours,
        ratio: ours / theirs.1,
        theirs: Some(theirs),
        limit,
        more_is_better,
    })
}

fn alone(summary: &Summary, measure: Measure, what: &str, limit: f64) -> Option<Verdict> {
    let ours = summary.row(MILENA)?.median(measure)?;
    Some(Verdict {
        scenario: summary.scenario.name.clone(),
        what: what.into(),
        ours,
        theirs: None,
        limit,
        ratio: ours,
        more_is_better: false,
    })
}

/// As a Markdown table.
#[must_use]
pub(super) fn print(summaries: &[Summary]) -> String {
    let verdicts = verdicts(summaries);
    if verdicts.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n| scenario | figure | milena | beside | ratio | wanted | |\n|---|---|---|---|---|---|---|\n",
    );
    for verdict in &verdicts {
        let beside = verdict
            .theirs
            .as_ref()
            .map_or_else(String::new, |(who, theirs)| format!("{who} {}", super::report::number(*theirs)));
        let sign = if verdict.more_is_better { "≥" } else { "≤" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {beside} | {:.2} | {sign} {:.2} | {} |",
            verdict.scenario,
            verdict.what,
            super::report::number(verdict.ours),
            verdict.ratio,
            verdict.limit,
            if verdict.is_reached() { "reached" } else { "**not reached**" },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::summary;
    use super::*;

    #[test]
    fn cpu_is_judged_beside_the_best_other_and_the_floor() {
        let clients =
            [("milena", 3e6, 90.0), ("floor", 9e6, 20.0), ("franz-go", 2e6, 400.0), ("rdkafka", 1e6, 500.0)];
        let verdicts = verdicts(&[summary("produce-kafka-100B-none", &clients)]);
        let told: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                let beside = verdict.theirs.as_ref().map_or("", |(who, _)| who.as_str());
                (beside, (verdict.ratio * 1000.0).round() / 1000.0, verdict.is_reached())
            })
            .collect();
        assert_eq!(told, [("franz-go", 0.225, true), ("floor", 4.5, true), ("franz-go", 1.5, true)]);
    }

    #[test]
    fn a_cell_is_judged_by_its_own_target() {
        let clients = [("milena", 3e6, 150.0), ("franz-go", 2e6, 400.0)];
        let keyed = verdicts(&[summary("produce-sink-100B-lz4-keyed", &clients)]);
        assert_eq!(keyed.iter().map(|verdict| verdict.limit).collect::<Vec<_>>(), [0.5]);
        let other = verdicts(&[summary("produce-sink-10B-none", &clients)]);
        assert_eq!(other, []);
    }
}
