//! The figures that Milena should reach, compared with the best other client and with the floor. Pure.

use std::fmt::Write as _;

use super::drivers::{FLOOR, MILENA, NOT_IDEMPOTENT};
use super::figures::number;
use super::scenario::{Broker, Rhythm, Scenario, Twist, Work};
use super::summary::{Measure, Row, Summary};

/// The targets of the main scenarios: CPU per record as a share of the best other client's, and as a multiple of the floor's.
struct Target {
    /// The beginning of the scenarios' names up to the broker, and the end of the names after it.
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

/// One figure and its target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// The scenario.
    pub(super) scenario: String,
    /// A description of the figure.
    pub(super) what: String,
    /// Milena's figure.
    pub(super) ours: f64,
    /// The client it is compared with, and that client's figure.
    pub(super) beside: Option<String>,
    /// The target: the most, or the least if more is better.
    pub(super) limit: f64,
    /// Milena's figure divided by the other one, or Milena's figure alone.
    pub(super) ratio: f64,
    /// Whether more is better.
    pub(super) more_is_better: bool,
}

impl Verdict {
    /// Whether the figure reaches its target.
    #[must_use]
    pub(super) fn is_reached(&self) -> bool {
        if self.more_is_better { self.ratio >= self.limit } else { self.ratio <= self.limit }
    }
}

/// All targets for which these summaries have figures.
#[must_use]
pub(super) fn verdicts(summaries: &[Summary]) -> Vec<Verdict> {
    let of = |summary| {
        of_summary(summary)
            .into_iter()
            .chain(of_twist(summary, summaries))
            .chain(of_rhythm(summary, summaries))
    };
    summaries.iter().flat_map(of).collect()
}

fn of_summary(summary: &Summary) -> Vec<Verdict> {
    let name = &summary.scenario.name;
    let mut verdicts = Vec::new();
    for target in &TARGETS {
        let is_cell = name.strip_prefix(target.mode).is_some_and(|rest| {
            ["-sink-", "-kafka-"].iter().any(|broker| rest.strip_prefix(broker) == Some(target.cell))
        });
        if is_cell {
            verdicts.extend(cpu(summary, target.of_best, false));
            verdicts.extend(target.of_floor.and_then(|limit| cpu(summary, limit, true)));
        }
    }
    if summary.scenario.writer.is_some() {
        return written(summary);
    }
    if summary.scenario.is_tls {
        verdicts.extend(cpu(summary, 1.0, false));
    }
    verdicts.extend(throughput(summary));
    let allocations = match summary.scenario.work {
        Work::Follow { .. } | Work::Resume { .. } | Work::Flip { .. } => None,
        // Two for a request, which may have a single record, and what it takes to start.
        Work::Send { .. } => Some(2.05),
        _ => Some(0.01),
    };
    if let Some(limit) = allocations {
        verdicts.extend(alone(summary, Measure::AllocationsPerRecord, "allocations per record", limit));
    }
    if matches!(summary.scenario.work, Work::Consume { .. }) {
        verdicts.extend(alone(summary, Measure::WirePerByte, "wire bytes read per byte", 1.02));
    }
    verdicts.extend(sends(summary));
    verdicts.extend(flows(summary));
    verdicts.extend(memory(summary));
    verdicts
}

/// The targets for topics that other clients wrote: buffers of the right sizes, and little memory beyond those in use.
fn written(summary: &Summary) -> Vec<Verdict> {
    let found = [
        throughput(summary),
        alone(summary, Measure::AllocationsPerRecord, "allocations per record", 0.02),
        alone(summary, Measure::AllocatedBytesPerRecord, "bytes allocated per record", 10.0),
        summary.row(MILENA).and_then(|row| {
            let (rss, in_use) = (row.median(Measure::RssMb)?, row.median(Measure::InUseMb)?);
            let what = format!("peak RSS (MB), {} of it in use", number(in_use));
            verdict(summary, &what, rss, None, in_use + SPARE_MB, false)
        }),
    ];
    found.into_iter().flatten().collect()
}

/// The memory of the process itself and of the buffers in the pool.
const SPARE_MB: f64 = 16.0;

/// The targets for what a twist costs, compared with the same scenario without it.
fn of_twist(summary: &Summary, all: &[Summary]) -> Vec<Verdict> {
    let name = summary.scenario.plain().name;
    let Some(plain) = all.iter().find(|other| other.scenario.name == name) else { return Vec::new() };
    // With the sink, the long scenarios are used.
    if matches!(summary.scenario.broker, Broker::Sink { .. }) && !summary.scenario.is_long {
        return Vec::new();
    }
    let beside = |measure, what: &str, limit, more_is_better| {
        let ours = summary.row(MILENA)?.median(measure)?;
        let theirs = plain.row(MILENA)?.median(measure)?;
        let theirs = Some((format!("without: {}", number(theirs)), theirs));
        verdict(summary, what, ours, theirs, limit, more_is_better)
    };
    let twist = match summary.scenario.work {
        Work::Consume { twist, .. } => twist,
        Work::Follow { .. } if name != summary.scenario.name => {
            return beside(Measure::WirePerByte, "bytes sent per byte", 1.05, false).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    let found = match twist {
        Twist::None | Twist::PausedEach => None,
        Twist::Group => beside(Measure::CpuNsPerRecord, "CPU per record (ns)", 1.03, false),
        Twist::OthersIdle | Twist::Paused | Twist::Slow => {
            beside(Measure::RecordsPerSecond, "records per second", 0.95, true)
        }
        Twist::Retain(_) => beside(Measure::RssMb, "peak RSS (MB)", 1.05, false),
        Twist::IdlePartitions(_) => beside(Measure::CpuNsPerRecord, "CPU per record (ns)", 1.05, false),
    };
    found.into_iter().collect()
}

/// The targets for what transactions cost, and for what more than one batch in flight gains, compared with the same scenario
/// without them.
fn of_rhythm(summary: &Summary, all: &[Summary]) -> Vec<Verdict> {
    let beside = |other: &Scenario, name: &str, measure, what: &str, limit, more_is_better| {
        let other = all.iter().find(|summary| summary.scenario.name == other.name)?;
        let (ours, theirs) = (summary.row(MILENA)?.median(measure)?, other.row(MILENA)?.median(measure)?);
        let theirs = Some((format!("{name}: {}", number(theirs)), theirs));
        verdict(summary, what, ours, theirs, limit, more_is_better)
    };
    let (scenario, cpu, rate) = (&summary.scenario, Measure::CpuNsPerRecord, Measure::RecordsPerSecond);
    if scenario.has_metrics {
        let without = beside(&scenario.plain(), "without metrics", cpu, "CPU per record (ns)", 1.02, false);
        return without.into_iter().collect();
    }
    let found = match scenario.work {
        Work::Produce { rhythm: Rhythm::Transactions(_), .. } => vec![
            beside(&scenario.plain(), "without", cpu, "CPU per record (ns)", 1.1, false),
            beside(&scenario.flushing(), "flushes", cpu, "CPU per record (ns)", 1.1, false),
        ],
        Work::Produce { rhythm: Rhythm::Free, .. } => {
            let one = scenario.clone().rhythm(Rhythm::OneInFlight);
            vec![beside(&one, "one in flight", rate, "records per second", 4.0, true)]
        }
        Work::Process { is_exactly_once: true, .. } => {
            vec![beside(&scenario.plain(), "at least once", rate, "records per second", 0.5, true)]
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// The targets for memory: at most the least of the clients that are at least half as fast, and at most the budget and a
/// little more.
fn memory(summary: &Summary) -> Vec<Verdict> {
    if summary.scenario.records().is_none() {
        return Vec::new();
    }
    let Some(ours) = summary.row(MILENA) else { return Vec::new() };
    let (Some(rss), Some(rate)) = (ours.median(Measure::RssMb), ours.median(Measure::RecordsPerSecond))
    else {
        return Vec::new();
    };
    let is_fast = |row: &&Row| row.median(Measure::RecordsPerSecond).is_some_and(|other| other >= rate / 2.0);
    let fast = others(summary).filter(is_fast);
    let figures = fast.filter_map(|row| Some((row.client, row.median(Measure::RssMb)?)));
    let least = figures.min_by(|one, other| one.1.total_cmp(&other.1));
    let beside = least.and_then(|(who, least)| {
        verdict(summary, "peak RSS (MB)", rss, Some((format!("{who} {}", number(least)), least)), 1.0, false)
    });
    let budget = verdict(summary, "peak RSS (MB)", rss, None, BUDGET_MB + SPARE_MB, false);
    beside.into_iter().chain(budget).collect()
}

/// The client's default, `memory_bytes_max`.
const BUDGET_MB: f64 = 67.1;

/// The other clients that do the same work.
fn others(summary: &Summary) -> impl Iterator<Item = &Row> {
    let is_idempotent = matches!(summary.scenario.work, Work::Produce { is_idempotent: true, .. });
    summary.rows.iter().filter(move |row| {
        let does_less = is_idempotent && NOT_IDEMPOTENT.contains(&row.client);
        row.client != MILENA && row.client != FLOOR && !does_less
    })
}

/// Ours over theirs, or ours alone.
fn verdict(
    summary: &Summary,
    what: &str,
    ours: f64,
    beside: Option<(String, f64)>,
    limit: f64,
    more_is_better: bool,
) -> Option<Verdict> {
    let ratio = beside.as_ref().map_or(ours, |(_, theirs)| ours / theirs);
    Some(Verdict {
        scenario: summary.scenario.name.clone(),
        what: what.into(),
        ours,
        beside: beside.map(|(who, _)| who),
        limit,
        ratio,
        more_is_better,
    })
    .filter(|verdict| verdict.ratio.is_finite())
}

/// The best other client and its median.
fn best(summary: &Summary, measure: Measure, more_is_better: bool) -> Option<(String, f64)> {
    let figures = others(summary).filter_map(|row| Some((row.client, row.median(measure)?)));
    let best = figures.reduce(|best, other| if (other.1 > best.1) == more_is_better { other } else { best });
    best.map(|(who, theirs)| (format!("{who} {}", number(theirs)), theirs))
}

fn cpu(summary: &Summary, limit: f64, is_floor: bool) -> Option<Verdict> {
    let measure = Measure::CpuNsPerRecord;
    let ours = summary.row(MILENA)?.median(measure)?;
    let beside = if is_floor {
        let floor = summary.row(FLOOR)?.median(measure)?;
        (format!("{FLOOR} {}", number(floor)), floor)
    } else {
        best(summary, measure, false)?
    };
    verdict(summary, "CPU per record (ns)", ours, Some(beside), limit, false)
}

/// The targets with Apache Kafka: not slower than the best other client.
fn throughput(summary: &Summary) -> Option<Verdict> {
    let is_kafka =
        matches!(summary.scenario.broker, Broker::Kafka(_)) && summary.scenario.records().is_some();
    if is_kafka {
        versus_best(summary, Measure::RecordsPerSecond, "records per second", 1.0, true)
    } else {
        None
    }
}

fn sends(summary: &Summary) -> Vec<Verdict> {
    let Work::Send { tasks, .. } = summary.scenario.work else { return Vec::new() };
    let rate = if tasks == 16 { 5.0 } else { 1.0 };
    let found = [
        versus_best(summary, Measure::RecordsPerSecond, "sends per second", rate, true),
        versus_best(summary, Measure::LatencyP50Us, "latency p50 (µs)", 1.0, false),
        versus_best(summary, Measure::LatencyP99Us, "latency p99 (µs)", 1.0, false),
    ];
    found.into_iter().flatten().collect()
}

/// The targets for partitions that are paused, moved and given away while others are read.
fn flows(summary: &Summary) -> Vec<Verdict> {
    let best = |measure, what, limit| versus_best(summary, measure, what, limit, false);
    let found = match summary.scenario.work {
        Work::Consume { twist: Twist::PausedEach, .. } => {
            [best(Measure::CpuNsPerRecord, "CPU per record (ns)", 0.5), None]
        }
        Work::Flip { .. } => [
            summary.row(MILENA).and_then(|row| {
                let share = row.median(Measure::FlipShare)?;
                verdict(summary, "rate with flips, of that without", share, None, 0.95, true)
            }),
            alone(summary, Measure::FlipNs, "pausing or resuming once (ns)", 50.0),
        ],
        Work::Resume { .. } => [
            best(Measure::LatencyP50Us, "latency p50 (µs)", 1.0),
            best(Measure::LatencyP99Us, "latency p99 (µs)", 1.0),
        ],
        Work::Follow { .. } => [
            best(Measure::CpuNsPerRecord, "CPU per record (ns)", 0.5),
            best(Measure::LatencyP99Us, "latency p99 (µs)", 1.0),
        ],
        _ => [None, None],
    };
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
    verdict(summary, what, ours, Some(best(summary, measure, more_is_better)?), limit, more_is_better)
}

fn alone(summary: &Summary, measure: Measure, what: &str, limit: f64) -> Option<Verdict> {
    verdict(summary, what, summary.row(MILENA)?.median(measure)?, None, limit, false)
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
        let beside = verdict.beside.as_deref().unwrap_or_default();
        let ratio = verdict.beside.as_ref().map_or_else(String::new, |_| format!("{:.2}", verdict.ratio));
        let sign = if verdict.more_is_better { "≥" } else { "≤" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {beside} | {ratio} | {sign} {:.2} | {} |",
            verdict.scenario,
            verdict.what,
            number(verdict.ours),
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
            .filter(|verdict| !verdict.what.contains("RSS"))
            .map(|verdict| {
                let beside = verdict.beside.as_deref().unwrap_or_default();
                (beside, (verdict.ratio * 1000.0).round() / 1000.0, verdict.is_reached())
            })
            .collect();
        let expected =
            [("franz-go 400", 0.225, true), ("floor 20.0", 4.5, true), ("franz-go 2.00 M", 1.5, true)];
        assert_eq!(told, expected);
    }

    #[test]
    fn who_does_less_is_not_the_best() {
        let clients = [("milena", 3e6, 100.0), ("franz-go", 2e6, 400.0), (NOT_IDEMPOTENT[0], 4e6, 50.0)];
        let beside = |name| {
            let verdicts = verdicts(&[summary(name, &clients)]);
            verdicts.into_iter().find(|verdict| verdict.what.contains("second")).unwrap().beside.unwrap()
        };
        assert_eq!(beside("produce-kafka-100B-none"), "franz-go 2.00 M");
        assert!(beside("produce-kafka-100B-none-acks1").starts_with(NOT_IDEMPOTENT[0]));
    }

    #[test]
    fn a_cell_is_judged_by_its_own_target() {
        let clients = [("milena", 3e6, 150.0), ("franz-go", 2e6, 400.0)];
        let limits = |name| {
            let verdicts = verdicts(&[summary(name, &clients)]);
            let cpu = verdicts.iter().filter(|verdict| verdict.what.contains("CPU"));
            cpu.map(|verdict| verdict.limit).collect::<Vec<_>>()
        };
        assert_eq!(limits("produce-sink-100B-lz4-keyed"), [0.5]);
        assert!(limits("produce-sink-10B-none").is_empty());
    }

    #[test]
    fn a_twist_is_judged_beside_the_same_without_it() {
        let plain = summary("consume-sink-100B-none-batches16K-long", &[("milena", 4e6, 100.0)]);
        let paused = summary("consume-sink-100B-none-batches16K-long-paused", &[("milena", 3.9e6, 100.0)]);
        let idle = summary("consume-sink-100B-none-batches16K-long-idle10000", &[("milena", 4e6, 110.0)]);
        let verdicts = verdicts(&[plain, paused, idle]);
        let told = verdicts.iter().filter(|verdict| verdict.beside.is_some());
        let told: Vec<_> =
            told.map(|verdict| ((verdict.ratio * 1000.0).round(), verdict.is_reached())).collect();
        assert_eq!(told, [(975.0, true), (1100.0, false)]);
    }

    #[test]
    fn what_others_wrote_is_judged_by_its_memory() {
        let clients = [("milena", 3e6, 90.0), ("franz-go", 2e6, 400.0)];
        let verdicts = verdicts(&[summary("consume-kafka-100B-lz4-by-franz-go-1M", &clients)]);
        let told: Vec<_> = verdicts.iter().map(|verdict| (verdict.what.as_str(), verdict.limit)).collect();
        assert_eq!(told, [("records per second", 1.0), ("peak RSS (MB), 4.00 of it in use", 4.0 + SPARE_MB)]);
    }

    #[test]
    fn transactions_are_judged_beside_the_same_without_them() {
        let ours = |name: &str, rate, cpu| summary(name, &[("milena", rate, cpu)]);
        let verdicts = verdicts(&[
            ours("produce-embedded-1K-none", 4e6, 100.0),
            ours("produce-embedded-1K-none-flush1000", 4e6, 110.0),
            ours("produce-embedded-1K-none-transactions1000", 3e6, 120.0),
            ours("process-embedded-100B", 4e6, 100.0),
            ours("process-embedded-100B-exactly-once", 1e6, 100.0),
            ours("produce-sink-rtt50-100B-none-1partitions", 5e6, 100.0),
            ours("produce-sink-rtt50-100B-none-one-in-flight-1partitions", 1e6, 100.0),
        ]);
        let told = verdicts.iter().filter_map(|verdict| {
            let beside = verdict.beside.as_deref()?.split(':').next()?;
            Some((beside, (verdict.ratio * 100.0).round(), verdict.is_reached()))
        });
        let expected = [
            ("without", 120.0, false),
            ("flushes", 109.0, true),
            ("at least once", 25.0, false),
            ("one in flight", 500.0, true),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn memory_is_judged_beside_those_who_are_half_as_fast() {
        let clients = [("milena", 4e6, 100.0), ("slow", 1e6, 1.0), ("fast", 3e6, 1.0)];
        let verdicts = verdicts(&[summary("consume-sink-10B-none", &clients)]);
        let rss: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.beside.clone()).collect();
        assert_eq!(rss, ["fast 5.00"]);
    }
}
