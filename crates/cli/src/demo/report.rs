//! The demo's progress line, and its report at the end as text or JSON.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Fault, Findings};
use crate::latency::Percentiles;
use crate::memory::Resident;
use crate::units::{Bytes, Count, Micros, per_second};

/// The state of a run at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) time: Duration,
    pub(crate) record_count: u64,
    pub(crate) acknowledged_count: u64,
    pub(crate) delivered_count: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) to_ack: Percentiles,
    pub(crate) to_delivery: Percentiles,
    pub(crate) memory: Option<Resident>,
}

impl Snapshot {
    /// The progress since `earlier`, short enough for a progress bar on a terminal of 80 columns.
    pub(crate) fn short(&self, earlier: &Self) -> String {
        let time = self.time.saturating_sub(earlier.time);
        let delivered = per_second(self.delivered_count - earlier.delivered_count, time);
        let mut text = format!(
            "{delivered}/s  p99 ack {} delivery {}",
            Micros(self.to_ack.p99_us),
            Micros(self.to_delivery.p99_us)
        );
        if let Some(memory) = self.memory {
            // Writing into a String cannot fail.
            let _ = write!(text, "  {}", Bytes(memory.now));
        }
        text
    }

    /// The progress since `earlier`, for a line of its own.
    pub(crate) fn line(&self, earlier: &Self) -> String {
        let time = self.time.saturating_sub(earlier.time);
        let acknowledged = per_second(self.acknowledged_count - earlier.acknowledged_count, time);
        let delivered = per_second(self.delivered_count - earlier.delivered_count, time);
        let bytes = per_second(self.delivered_bytes - earlier.delivered_bytes, time);
        let mut line = format!(
            "acknowledged {} ({acknowledged}/s) · delivered {} ({delivered}/s, {bytes}B/s) · p50/p99 ack {}/{} · delivery {}/{}",
            Count(self.acknowledged_count),
            Count(self.delivered_count),
            Micros(self.to_ack.p50_us),
            Micros(self.to_ack.p99_us),
            Micros(self.to_delivery.p50_us),
            Micros(self.to_delivery.p99_us),
        );
        if let Some(memory) = self.memory {
            // Writing into a String cannot fail.
            let _ = write!(line, " · {}", Bytes(memory.now));
        }
        line
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) topic: String,
    pub(crate) cluster: String,
    pub(crate) partitions: u32,
    pub(crate) replicas: i16,
    pub(crate) compression: String,
    pub(crate) origin: String,
    /// Records handed to the producer, and the bytes of their keys and values.
    pub(crate) record_count: u64,
    pub(crate) record_bytes: u64,
    pub(crate) acknowledged_count: u64,
    pub(crate) failed_count: u64,
    /// Why the first failed record failed.
    pub(crate) first_failure: Option<String>,
    /// Every delivery counts, also a second delivery of the same record.
    pub(crate) delivered_count: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) produce_seconds: f64,
    pub(crate) consume_seconds: f64,
    pub(crate) send_to_ack: Percentiles,
    pub(crate) send_to_delivery: Percentiles,
    /// The memory of this process, with the embedded cluster if there is one.
    pub(crate) memory_before_bytes: Option<u64>,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) key_count: u64,
    pub(crate) faults: Vec<FaultCount>,
    /// Whether every record sent was acknowledged, and delivered once, intact and in order.
    pub(crate) verified: bool,
}

/// The records with one kind of fault.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FaultCount {
    pub(crate) fault: &'static str,
    pub(crate) count: u64,
    /// A few of these records.
    pub(crate) examples: Vec<String>,
}

/// Counts the faults and describes their examples; `describe` describes the record of an index.
pub(crate) fn fault_counts(findings: &Findings, describe: impl Fn(u32) -> String) -> Vec<FaultCount> {
    let named = |fault| {
        findings
            .examples(fault)
            .map(|example| match example.partition {
                Some(partition) => format!("{}, partition {partition}", describe(example.index)),
                None => describe(example.index),
            })
            .collect()
    };
    Fault::ALL
        .into_iter()
        .filter(|fault| findings.count(*fault) > 0)
        .map(|fault| FaultCount { fault: fault.name(), count: findings.count(fault), examples: named(fault) })
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "records      {} ({}) from {}",
            Count(self.record_count),
            Bytes(self.record_bytes),
            self.origin
        )?;
        // Bytes are counted when records are sent, so they give the rate of acknowledged bytes only if no record failed.
        let acknowledged_bytes = (self.failed_count == 0).then_some(self.record_bytes);
        write_rate(f, "acknowledged", self.acknowledged_count, acknowledged_bytes, self.produce_seconds)?;
        write_rate(f, "delivered", self.delivered_count, Some(self.delivered_bytes), self.consume_seconds)?;
        writeln!(f, "latency          {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "p99.9", "max")?;
        write_latency(f, "send → ack", self.send_to_ack)?;
        write_latency(f, "send → delivery", self.send_to_delivery)?;
        if let (Some(before), Some(peak)) = (self.memory_before_bytes, self.memory_peak_bytes) {
            writeln!(f, "memory       {} at most, {} before the first record", Bytes(peak), Bytes(before))?;
        }
        self.write_verdict(f)
    }
}

impl Report {
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verified {
            return write!(
                f,
                "verified     every record once, intact, in order for each of {} keys",
                Count(self.key_count)
            );
        }
        write!(f, "NOT VERIFIED")?;
        if self.failed_count > 0 {
            let why = self.first_failure.as_deref().unwrap_or("unknown");
            write!(f, "\n  failed     {}   the first: {why}", Count(self.failed_count))?;
        }
        for FaultCount { fault, count, examples } in &self.faults {
            write!(f, "\n  {fault:<10} {}   {}", Count(*count), examples.join("; "))?;
        }
        Ok(())
    }
}

fn write_rate(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    count: u64,
    bytes: Option<u64>,
    seconds: f64,
) -> fmt::Result {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    write!(f, "{name:<12} {} in {seconds:.2} s   {}/s", Count(count), per_second(count, time))?;
    if let Some(bytes) = bytes {
        write!(f, "   {}B/s", per_second(bytes, time))?;
    }
    writeln!(f)
}

fn write_latency(f: &mut fmt::Formatter<'_>, name: &str, p: Percentiles) -> fmt::Result {
    let [p50, p90, p99, p999, max] = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us].map(Micros);
    writeln!(f, "  {name:<15}{p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let p =
            Percentiles { p50_us: 3140, p90_us: 9000, p99_us: 12_300, p999_us: 20_000, max_us: 1_500_000 };
        Report {
            topic: "milena-demo-1".into(),
            cluster: "embedded, 3 nodes at 127.0.0.1:9092".into(),
            partitions: 12,
            replicas: 3,
            compression: "lz4".into(),
            origin: "the built-in sample".into(),
            record_count: 336_776,
            record_bytes: 118_200_000,
            acknowledged_count: 336_776,
            failed_count: 0,
            first_failure: None,
            delivered_count: 336_776,
            delivered_bytes: 118_200_000,
            produce_seconds: 0.9,
            consume_seconds: 1.0,
            send_to_ack: p,
            send_to_delivery: p,
            memory_before_bytes: Some(21_000_000),
            memory_peak_bytes: Some(143_000_000),
            key_count: 4043,
            faults: Vec::new(),
            verified: true,
        }
    }

    #[test]
    fn a_good_run_reads_well() {
        let expect = "\
records      336 776 (118 MB) from the built-in sample
acknowledged 336 776 in 0.90 s   374 k/s   131 MB/s
delivered    336 776 in 1.00 s   337 k/s   118 MB/s
latency                p50       p90       p99     p99.9       max
  send → ack       3.14 ms   9.00 ms   12.3 ms   20.0 ms    1.50 s
  send → delivery  3.14 ms   9.00 ms   12.3 ms   20.0 ms    1.50 s
memory       143 MB at most, 21.0 MB before the first record
verified     every record once, intact, in order for each of 4 043 keys";
        assert_eq!(report().to_string(), expect);
    }

    #[test]
    fn a_bad_run_names_what_is_wrong() {
        let faults = vec![FaultCount {
            fault: "lost",
            count: 2,
            examples: vec!["record 7".into(), "record 9".into()],
        }];
        let first_failure = Some("too large".into());
        let report = Report { verified: false, failed_count: 1, first_failure, faults, ..report() };
        let text = report.to_string();
        let verdict = &text[text.find("NOT").unwrap()..];
        assert_eq!(
            verdict,
            "NOT VERIFIED\n  failed     1   the first: too large\n  lost       2   record 7; record 9"
        );
        assert!(!text.contains("131 MB/s"), "no byte rate for what was not all acknowledged");
    }

    #[test]
    fn a_line_tells_what_happened_since_the_last() {
        let start = Snapshot {
            time: Duration::ZERO,
            record_count: 100_000,
            acknowledged_count: 0,
            delivered_count: 0,
            delivered_bytes: 0,
            to_ack: Percentiles::default(),
            to_delivery: Percentiles::default(),
            memory: None,
        };
        let memory = Some(Resident { now: 84_000_000, peak: 90_000_000 });
        let later = Snapshot {
            time: Duration::from_millis(500),
            acknowledged_count: 50_000,
            delivered_count: 40_000,
            delivered_bytes: 14_000_000,
            to_ack: Percentiles { p50_us: 900, p99_us: 3140, ..Percentiles::default() },
            memory,
            ..start
        };
        assert_eq!(
            later.line(&start),
            "acknowledged 50 000 (100 k/s) · delivered 40 000 (80.0 k/s, 28.0 MB/s) · \
             p50/p99 ack 900 µs/3.14 ms · delivery 0 µs/0 µs · 84.0 MB"
        );
        assert_eq!(later.short(&start), "80.0 k/s  p99 ack 3.14 ms delivery 0 µs  84.0 MB");
    }
}
