//! What the demo shows: a line as it runs, and the whole at its end, as text or as JSON.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::latency::Percentiles;
use super::ledger::{Fault, Findings};
use crate::memory::Resident;
use crate::units::{Bytes, Count, Micros, per_second};

/// Where a run stands.
#[derive(Clone, Debug)]
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
    /// What has happened since `earlier`, in one line.
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

/// A run that is over.
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
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
    pub(crate) delivered_count: u64,
    pub(crate) produce_seconds: f64,
    pub(crate) consume_seconds: f64,
    pub(crate) send_to_ack: Percentiles,
    pub(crate) send_to_delivery: Percentiles,
    /// Of this process, the embedded cluster included where there is one.
    pub(crate) memory_before_bytes: Option<u64>,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) key_count: u64,
    pub(crate) faults: Vec<FaultCount>,
    /// Whether every record sent was acknowledged, and delivered once, intact and in order.
    pub(crate) verified: bool,
}

/// Records with one fault.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FaultCount {
    pub(crate) fault: &'static str,
    pub(crate) count: u64,
    /// A few of them by name.
    pub(crate) examples: Vec<String>,
}

/// Counts the faults and names their examples; `describe` says what an index stands for.
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
        let rates = |count: u64, bytes: u64, seconds: f64| {
            let time = Duration::from_secs_f64(seconds);
            format!("in {seconds:.2} s   {}/s   {}B/s", per_second(count, time), per_second(bytes, time))
        };
        writeln!(
            f,
            "records      {} ({}) from {}",
            Count(self.record_count),
            Bytes(self.record_bytes),
            self.origin
        )?;
        let rate = rates(self.acknowledged_count, self.record_bytes, self.produce_seconds);
        writeln!(f, "acknowledged {} {rate}", Count(self.acknowledged_count))?;
        let rate = rates(self.delivered_count, self.record_bytes, self.consume_seconds);
        writeln!(f, "delivered    {} {rate}", Count(self.delivered_count))?;
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

fn write_latency(f: &mut fmt::Formatter<'_>, name: &str, p: Percentiles) -> fmt::Result {
    let [p50, p90, p99, p999, max] = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us].map(Micros);
    writeln!(f, "  {name:<15}{p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")
}
