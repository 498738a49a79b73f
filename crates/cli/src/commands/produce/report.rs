//! The delivery report: what was written, how fast, and how long acknowledgements took.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::tally::{OfPartition, Tally};
use crate::exit::Failure;
use crate::latency::Percentiles;
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};
use crate::units::{Bytes, Count, Micros, per_second};

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A few lines on stderr
    Text,
    /// The same with the counts of each partition
    Partitions,
    /// One JSON object on stdout, with the counts of each partition
    Json,
}

#[derive(Serialize)]
struct Report {
    records: u64,
    failed: u64,
    maybe_written: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    bytes_per_second: f64,
    latency: Percentiles,
    /// Null without transactions, as the next two.
    transactions_committed: Option<u64>,
    records_committed: Option<u64>,
    records_aborted: Option<u64>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    records: u64,
    bytes: u64,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

/// Writes the report of what was done in `time`.
pub(super) fn report(form: Form, tally: &Tally, time: Duration) -> Result<(), Failure> {
    let report = Report::new(tally, time);
    match form {
        Form::Json => write_out(&(to_json(&report)? + "\n")),
        Form::Text => {
            tell(report.text().trim_end());
            Ok(())
        }
        Form::Partitions => {
            tell((report.text() + &report.table().text(0)).trim_end());
            Ok(())
        }
    }
}

impl Report {
    fn new(tally: &Tally, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1e-9);
        let of = tally.transactions.as_ref();
        let aborted = |of: &super::tally::Transactions| {
            of.last.as_ref().filter(|last| !last.may_be_committed).map_or(0, |last| last.records)
        };
        let partition = |(partition, of): (&i32, &OfPartition)| {
            let OfPartition { records, bytes, first_offset, last_offset } = *of;
            Partition { partition: *partition, records, bytes, first_offset, last_offset }
        };
        Self {
            records: tally.acknowledged,
            failed: tally.failed,
            maybe_written: tally.maybe_written,
            bytes: tally.bytes,
            seconds,
            records_per_second: tally.acknowledged as f64 / seconds,
            bytes_per_second: tally.bytes as f64 / seconds,
            latency: tally.latency.percentiles(),
            transactions_committed: of.map(|of| of.committed),
            records_committed: of.map(|of| of.committed_records),
            records_aborted: of.map(aborted),
            partitions: tally.partitions.iter().map(partition).collect(),
        }
    }

    fn text(&self) -> String {
        let time = Duration::from_secs_f64(self.seconds);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut text = format!(
            "{} records, {} in {}: {}/s, {}B/s\n",
            Count(self.records),
            Bytes(self.bytes),
            Micros(micros),
            per_second(self.records, time),
            per_second(self.bytes, time),
        );
        if self.records > 0 {
            let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us } = self.latency;
            let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(Micros);
            text += &format!("latency p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}\n");
        }
        text
    }

    fn table(&self) -> Table {
        let right = Align::Right;
        let columns = [
            ("partition", right),
            ("records", right),
            ("bytes", right),
            ("first offset", right),
            ("last offset", right),
        ];
        let mut table = Table::new(&columns);
        let known = |offset: Option<i64>| offset.map_or_else(|| "-".into(), |offset| offset.to_string());
        for of in &self.partitions {
            table.row([
                of.partition.to_string(),
                of.records.to_string(),
                of.bytes.to_string(),
                known(of.first_offset),
                known(of.last_offset),
            ]);
        }
        table
    }
}
