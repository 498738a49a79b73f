//! Summarises a scenario's runs as figures per record for each client. Pure.

use serde_json::{Map, Value, json};

use super::figures::Figure;
use super::run::{Missing, Rounds, Run};
use super::scenario::{Scenario, Work};

/// A scenario and its results.
#[derive(Debug)]
pub(super) struct Summary {
    /// The scenario.
    pub(super) scenario: Scenario,
    /// The results of each client.
    pub(super) rows: Vec<Row>,
}

/// A client's figures in a scenario.
#[derive(Debug)]
pub(super) struct Row {
    /// The client.
    pub(super) client: &'static str,
    /// The version that its driver reported.
    pub(super) version: String,
    /// The settings that its driver reported.
    pub(super) settings: Value,
    /// The number of rounds that succeeded.
    pub(super) rounds: usize,
    /// Why other rounds did not, each reason once.
    pub(super) missing: Vec<Missing>,
    figures: Vec<(Measure, Figure)>,
}

/// A measure, in the unit of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    RecordsPerSecond,
    CpuNsPerRecord,
    RssMb,
    AllocationsPerRecord,
    AllocatedBytesPerRecord,
    SwitchesPerThousandRecords,
    LatencyP50Us,
    LatencyP99Us,
    LatencyP999Us,
    LatencyMaxUs,
    /// The bytes that the sink sent for each byte of the wanted batches, or received for each byte of a value; or that the
    /// embedded broker sent for each byte of a value that was delivered.
    WirePerByte,
    RequestsPerThousandRecords,
    /// The capacity of the buffers in use, if the driver reports it.
    InUseMb,
    /// The records per second while partitions are paused and resumed at a fixed rate, as a share of those without.
    FlipShare,
    /// The same while they are paused and resumed as fast as possible, and how often that is.
    FreeFlipShare,
    FreeFlipsPerSecond,
    /// The time of pausing or resuming a partition once.
    FlipNs,
}

impl Measure {
    /// All measures.
    pub(super) const ALL: [Self; 17] = [
        Self::RecordsPerSecond,
        Self::CpuNsPerRecord,
        Self::RssMb,
        Self::AllocationsPerRecord,
        Self::AllocatedBytesPerRecord,
        Self::SwitchesPerThousandRecords,
        Self::LatencyP50Us,
        Self::LatencyP99Us,
        Self::LatencyP999Us,
        Self::LatencyMaxUs,
        Self::WirePerByte,
        Self::RequestsPerThousandRecords,
        Self::InUseMb,
        Self::FlipShare,
        Self::FreeFlipShare,
        Self::FreeFlipsPerSecond,
        Self::FlipNs,
    ];

    /// The name in the JSON report.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records_per_second",
            Self::CpuNsPerRecord => "cpu_ns_per_record",
            Self::RssMb => "rss_mb",
            Self::AllocationsPerRecord => "allocations_per_record",
            Self::AllocatedBytesPerRecord => "allocated_bytes_per_record",
            Self::SwitchesPerThousandRecords => "context_switches_per_thousand_records",
            Self::LatencyP50Us => "latency_p50_us",
            Self::LatencyP99Us => "latency_p99_us",
            Self::LatencyP999Us => "latency_p999_us",
            Self::LatencyMaxUs => "latency_max_us",
            Self::FlipShare => "flip_share",
            Self::FreeFlipShare => "free_flip_share",
            Self::FreeFlipsPerSecond => "free_flips_per_second",
            Self::FlipNs => "flip_ns",
            Self::WirePerByte => "wire_bytes_per_byte",
            Self::RequestsPerThousandRecords => "requests_per_thousand_records",
            Self::InUseMb => "in_use_mb",
        }
    }

    fn of(self, run: &Run, scenario: &Scenario) -> Option<f64> {
        let line = |name: &str| run.line[name].as_f64();
        let latency = |name: &str| run.line["latency_us"][name].as_f64();
        let flips = |name: &str| run.line["flips"][name].as_f64();
        let records = line("records").filter(|records| *records > 0.0)?;
        match self {
            Self::RecordsPerSecond => Some(records / line("seconds")?),
            Self::CpuNsPerRecord => Some(run.cpu_seconds * 1e9 / records),
            Self::RssMb => Some(run.rss_bytes / 1e6),
            Self::AllocationsPerRecord => Some(line("allocations")? / records),
            Self::AllocatedBytesPerRecord => Some(line("allocated_bytes")? / records),
            Self::SwitchesPerThousandRecords => Some(run.switches * 1e3 / records),
            Self::LatencyP50Us => latency("p50"),
            Self::LatencyP99Us => latency("p99"),
            Self::LatencyP999Us => latency("p999"),
            Self::LatencyMaxUs => latency("max"),
            Self::FlipShare => flips("share"),
            Self::FreeFlipShare => flips("free_share"),
            Self::FreeFlipsPerSecond => flips("free_per_second"),
            Self::FlipNs => flips("ns"),
            Self::WirePerByte => wire(run, scenario),
            Self::InUseMb => Some(line("in_use_bytes")? / 1e6),
            Self::RequestsPerThousandRecords => {
                let requests = run.sink.as_ref()?["requests"].as_object()?;
                let name = if matches!(scenario.work, Work::Consume { .. }) { "Fetch" } else { "Produce" };
                Some(requests.get(name)?.as_f64()? * 1e3 / records)
            }
        }
    }
}

/// Wire bytes per byte of the wanted records, which may be fewer than the topic has.
fn wire(run: &Run, scenario: &Scenario) -> Option<f64> {
    let sink = run.sink.as_ref()?;
    let number = |value: &Value| value.as_f64().filter(|number| *number > 0.0);
    match scenario.work {
        Work::Consume { records, .. } => {
            let share = run.line["records"].as_f64()? / records as f64;
            Some(number(&sink["fetched_bytes"])? / (number(&sink["stored"]["bytes"])? * share.min(1.0)))
        }
        Work::Flip { .. } => None,
        Work::Follow { .. } => Some(number(&sink["sent_bytes"])? / number(&run.line["bytes"])?),
        _ => {
            number(&sink["produced"]["records"])?;
            Some(number(&sink["bytes_in"])? / number(&run.line["bytes"])?)
        }
    }
}

impl Summary {
    /// Summarises all rounds.
    #[must_use]
    pub(super) fn of(scenario: Scenario, rounds: Vec<Rounds>) -> Self {
        let rows = rounds.into_iter().map(|rounds| Row::of(&scenario, rounds)).collect();
        Self { scenario, rows }
    }

    /// A client's row.
    #[must_use]
    pub(super) fn row(&self, client: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.client == client)
    }

    /// The entry in the JSON report.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        json!({ "scenario": self.scenario.name, "clients": rows })
    }
}

impl Row {
    fn of(scenario: &Scenario, rounds: Rounds) -> Self {
        let Rounds { client, runs, mut missing } = rounds;
        missing.dedup();
        let figure = |measure: Measure| {
            let values = runs.iter().filter_map(|run| measure.of(run, scenario)).collect();
            Figure::of(values).map(|figure| (measure, figure))
        };
        let last = runs.last().map(|run| &run.line);
        let version = last.and_then(|line| line["version"].as_str()).unwrap_or("").to_owned();
        Self {
            client,
            version,
            settings: last.map_or(Value::Null, |line| line["settings"].clone()),
            rounds: runs.len(),
            missing,
            figures: Measure::ALL.into_iter().filter_map(figure).collect(),
        }
    }

    /// The figure of a measure, if it was measured.
    #[must_use]
    pub(super) fn figure(&self, measure: Measure) -> Option<Figure> {
        self.figures.iter().find(|(of, _)| *of == measure).map(|(_, figure)| *figure)
    }

    /// The median of a measure.
    #[must_use]
    pub(super) fn median(&self, measure: Measure) -> Option<f64> {
        self.figure(measure).map(|figure| figure.median)
    }

    fn to_json(&self) -> Value {
        let figure =
            |figure: &Figure| json!({ "median": figure.median, "min": figure.min, "max": figure.max });
        let figures: Map<String, Value> =
            self.figures.iter().map(|(measure, of)| (measure.name().to_owned(), figure(of))).collect();
        let missing: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
        json!({
            "client": self.client,
            "version": self.version,
            "settings": self.settings,
            "rounds": self.rounds,
            "missing": missing,
            "figures": figures,
        })
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lacks(why) => write!(f, "does not do it: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Summaries for the tests of other modules.
#[cfg(test)]
pub(super) mod tests {
    use super::super::scenario::table;
    use super::*;

    /// A scenario with clients of these medians: records per second and CPU nanoseconds per record.
    pub(in super::super) fn summary(name: &str, clients: &[(&'static str, f64, f64)]) -> Summary {
        let scenario = table().into_iter().find(|scenario| scenario.name == name).unwrap();
        let rounds = clients.iter().map(|&(client, rate, cpu_ns)| {
            let records = 1_000_000.0;
            let seconds = records / rate;
            let line = json!({
                "records": records, "seconds": seconds, "version": "1", "settings": {}, "in_use_bytes": 4e6,
            });
            let run =
                Run { line, cpu_seconds: cpu_ns * records / 1e9, rss_bytes: 5e6, switches: 0.0, sink: None };
            Rounds { client, runs: vec![run], missing: Vec::new() }
        });
        let rounds = rounds.collect();
        Summary::of(scenario, rounds)
    }

    #[test]
    fn figures_are_per_record() {
        let summary = summary("produce-sink-100B-none", &[("milena", 2e6, 150.0)]);
        let row = summary.row("milena").unwrap();
        assert!((row.median(Measure::CpuNsPerRecord).unwrap() - 150.0).abs() < 1e-6);
        assert!((row.median(Measure::RecordsPerSecond).unwrap() - 2e6).abs() < 1e-3);
        assert_eq!(row.median(Measure::LatencyP50Us), None);
        assert_eq!(summary.to_json()["clients"][0]["figures"]["rss_mb"]["median"], 5.0);
    }

    #[test]
    fn wire_bytes_are_of_what_was_wanted() {
        let scenario =
            table().into_iter().find(|scenario| scenario.name == "consume-sink-100B-none").unwrap();
        let sink =
            json!({ "fetched_bytes": 110.0, "stored": { "bytes": 200.0 }, "requests": { "Fetch": 3 } });
        let line = json!({ "records": scenario.records().unwrap() / 2, "seconds": 1.0 });
        let run = Run { line, cpu_seconds: 0.0, rss_bytes: 0.0, switches: 0.0, sink: Some(sink) };
        let found = Measure::WirePerByte.of(&run, &scenario).unwrap();
        assert!((found - 1.1).abs() < 1e-9);
    }
}
