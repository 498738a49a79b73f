//! The report: which scenarios were run, on which machine, and their results.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::figures::number;
use super::plot::PLOTS;
use super::run::Missing;
use super::summary::{Measure, Row, Summary};
use super::targets;
use crate::kafka::NEWEST;

/// The results of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// The results of each scenario.
    pub(super) summaries: Vec<Summary>,
    /// The number of rounds.
    rounds: u32,
    /// The time limit of one run.
    limit: Duration,
    machine: Value,
}

impl Report {
    /// A report without results.
    pub(super) fn new(rounds: u32, limit: Duration) -> Self {
        Self { summaries: Vec::new(), rounds, limit, machine: machine() }
    }

    /// Writes the tables and the plots into `dir`, which may be committed, and every figure with its least and greatest
    /// value as `report.json` into `raw`, which is not: a full run makes it 2 MB, and no tool reads it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, dir: &Path, raw: &Path) -> anyhow::Result<()> {
        for dir in [dir, raw] {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        fs::write(dir.join("report.md"), self.markdown())?;
        let summaries: Vec<Value> = self.summaries.iter().map(Summary::to_json).collect();
        let json = json!({
            "date": date(),
            "machine": self.machine,
            "rounds": self.rounds,
            "limit_seconds": self.limit.as_secs(),
            "kafka": NEWEST,
            "scenarios": summaries,
        });
        fs::write(raw.join("report.json"), format!("{json:#}\n"))?;
        for plot in &PLOTS {
            if let Some(drawn) = plot.draw(&self.summaries) {
                fs::write(dir.join(format!("{}.svg", plot.name)), drawn)?;
            }
        }
        Ok(())
    }

    /// The scenarios in which a client failed. A scenario that it does not support does not count.
    pub(super) fn failures_of(&self, client: &str) -> Vec<&str> {
        let rows = self.summaries.iter().filter_map(|summary| Some((summary, summary.row(client)?)));
        let is_failed = |row: &Row| row.missing.iter().any(|missing| matches!(missing, Missing::Failed(_)));
        rows.filter(|(_, row)| is_failed(row)).map(|(summary, _)| summary.scenario.name.as_str()).collect()
    }

    fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!("# Milena beside other clients, {}\n\n", date());
        let field = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
        let _ = writeln!(
            text,
            "{} cores of {}, {}, Linux {}; {}; {}; Java {}. Apache Kafka {NEWEST}. Milena of commit {}. Medians of {} \
             alternating rounds (under half a second twice in each, over two seconds in one), with their spread.\n",
            machine["cores"],
            field("processor"),
            field("memory"),
            field("kernel"),
            field("rustc"),
            field("go"),
            field("java"),
            field("commit"),
            self.rounds
        );
        text += &self.versions();
        for plot in PLOTS.iter().filter(|plot| plot.draw(&self.summaries).is_some()) {
            let _ = write!(text, "\n![{}]({}.svg)\n", plot.title, plot.name);
        }
        text += "\n## Figures to reach\n";
        text += &targets::print(&self.summaries);
        text += "\n## Scenarios\n";
        self.summaries.iter().for_each(|summary| text += &table(summary));
        text += "\n## Settings\n\nAs each driver says what it set, where it is not the client's default.\n\n";
        text += &self.settings();
        text
    }

    /// The table of settings: for each mode and client, those of the first scenario in which the client has a row.
    fn settings(&self) -> String {
        let mut text = String::from("| mode | client | settings |\n|---|---|---|\n");
        let mut seen = Vec::new();
        for summary in &self.summaries {
            let mode = summary.scenario.name.split('-').next().unwrap_or_default();
            for row in summary.rows.iter().filter(|row| !row.settings.is_null()) {
                if !seen.contains(&(mode, row.client)) {
                    seen.push((mode, row.client));
                    let _ = writeln!(text, "| {mode} | {} | `{}` |", row.client, row.settings);
                }
            }
        }
        text
    }

    fn versions(&self) -> String {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for row in self.summaries.iter().flat_map(|summary| &summary.rows) {
            if !row.version.is_empty() && !seen.iter().any(|(client, _)| *client == row.client) {
                seen.push((row.client, &row.version));
            }
        }
        let list: Vec<String> = seen.iter().map(|(client, version)| format!("{client} {version}")).collect();
        format!("Versions: {}.\n", list.join(", "))
    }
}

/// The columns of a table.
const COLUMNS: [(Measure, &str); 15] = [
    (Measure::RecordsPerSecond, "records/s"),
    (Measure::CpuNsPerRecord, "CPU ns/record"),
    (Measure::RssMb, "peak RSS MB"),
    (Measure::AllocationsPerRecord, "allocations/record"),
    (Measure::AllocatedBytesPerRecord, "allocated B/record"),
    (Measure::SwitchesPerThousandRecords, "switches/1000"),
    (Measure::LatencyP50Us, "p50 µs"),
    (Measure::LatencyP99Us, "p99 µs"),
    (Measure::LatencyMaxUs, "max µs"),
    (Measure::WirePerByte, "wire/byte"),
    (Measure::RequestsPerThousandRecords, "requests/1000"),
    (Measure::FlipShare, "with flips/without"),
    (Measure::FlipNs, "ns/flip"),
    (Measure::FreeFlipShare, "with free flips/without"),
    (Measure::FreeFlipsPerSecond, "free flips/s"),
];

/// A scenario's table, without the columns for which no client has a figure.
#[must_use]
pub(super) fn table(summary: &Summary) -> String {
    let has = |measure: Measure| summary.rows.iter().any(|row| row.figure(measure).is_some());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(measure, _)| has(*measure)).collect();
    let titles: Vec<&str> = columns.iter().map(|(_, title)| *title).collect();
    let mut text = format!("\n### {}\n\n| client | {} |\n|---|", summary.scenario.name, titles.join(" | "));
    text += &"---|".repeat(columns.len());
    text += "\n";
    for row in &summary.rows {
        let cells: Vec<String> = columns.iter().map(|(measure, _)| cell(row, *measure)).collect();
        let _ = writeln!(text, "| {} | {} |", row.client, cells.join(" | "));
    }
    for row in summary.rows.iter().filter(|row| !row.missing.is_empty()) {
        let reasons: Vec<String> = row.missing.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\n{}: {}", row.client, reasons.join("; "));
    }
    text
}

fn cell(row: &Row, measure: Measure) -> String {
    let Some(figure) = row.figure(measure) else { return "–".into() };
    let spread = figure.spread();
    match row.rounds {
        0 | 1 => number(figure.median),
        _ => format!("{} ({:.0} %)", number(figure.median), spread * 100.0),
    }
}

/// Today, in UTC.
#[must_use]
pub(super) fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    civil(days)
}

/// Days since 1970 as year, month and day (Howard Hinnant's algorithm).
fn civil(days: u64) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The machine and the versions of its tools.
fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "rustc": said("rustc", &["--version"]),
        "go": said("go", &["version"]),
        "java": said("java", &["-version"]),
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::summary;
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_778), "2026-11-21");
    }

    #[test]
    fn a_table_has_a_row_for_everyone() {
        let clients = [("milena", 2e6, 150.0), ("franz-go", 1e6, 374.0)];
        let text = table(&summary("produce-sink-100B-none", &clients));
        assert!(
            text.contains("| client | records/s | CPU ns/record | peak RSS MB | switches/1000 |"),
            "{text}"
        );
        assert!(text.contains("| franz-go | 1.00 M | 374 | 5.00 | 0 |"), "{text}");
    }
}
