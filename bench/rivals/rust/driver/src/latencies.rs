//! A histogram of latencies that any number of threads fill: 128 buckets for every doubling, so that what it says is
//! within 0.8 % of what was measured.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

/// Counts of nanoseconds.
pub(crate) struct Latencies {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let buckets = (0..=bucket(u64::MAX)).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, max: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
        self.max.fetch_max(nanos, Relaxed);
    }

    /// Percentiles in microseconds; null when there are none.
    pub(crate) fn report(&self) -> Value {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Value::Null;
        }
        let max = self.max.load(Relaxed);
        let quantile = |q: f64| {
            let rank = (q * total as f64).ceil() as u64;
            let mut seen = 0;
            let index = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            micros(index.map_or(max, |index| middle(index).min(max)))
        };
        json!({
            "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "p999": quantile(0.999),
            "max": micros(max),
        })
    }
}

/// The highest bits of `nanos`: their number, then the seven after the leading one.
fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(PRECISION + 1);
    ((u64::from(shift) << PRECISION) + (nanos >> shift)) as usize
}

/// The middle of what falls into bucket `index`.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < 1 << PRECISION {
        return index;
    }
    let shift = (index >> PRECISION) - 1;
    let low = (index - (shift << PRECISION)) << shift;
    low + (1 << shift) / 2
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

const PRECISION: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_a_hundredth_of_what_falls_into_it() {
        for nanos in (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3, u64::MAX >> bit]) {
            let said = middle(bucket(nanos));
            assert!(said.abs_diff(nanos) <= nanos / 128, "{nanos} ns reads as {said} ns");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let latencies = Latencies::new();
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let report = latencies.report();
        for (name, expected) in [("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("max", 1000.0)] {
            let said = report[name].as_f64().unwrap();
            assert!((said - expected).abs() <= expected / 100.0, "{name}: {said}");
        }
    }
}
