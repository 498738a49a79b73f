//! Latencies, counted in buckets less than 1.6 % wide, from a microsecond's fraction to hours.

use serde_json::{Value, json};

/// Buckets for each doubling.
const STEPS: u64 = 64;

/// The counts of latencies in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], max: 0 }
    }

    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The latency that `share` of all latencies do not exceed: the end of its bucket.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, |bucket| bucket_end(bucket).min(self.max))
    }

    /// The JSON of a driver's line of results.
    pub(crate) fn to_json(&self) -> Value {
        let micros = |nanoseconds: u64| (nanoseconds as f64 / 100.0).round() / 10.0;
        let at = |share| micros(self.percentile(share));
        json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": micros(self.max),
        })
    }
}

/// Values below `STEPS` have a bucket each; above, each doubling has `STEPS`.
fn bucket(value: u64) -> usize {
    let doublings = u64::from(63 - (value | 1).leading_zeros()).saturating_sub(STEPS.ilog2().into());
    (doublings * STEPS + (value >> doublings)) as usize
}

/// The greatest value of a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let doublings = (bucket as u64 / STEPS).saturating_sub(1);
    let low = bucket as u64 - doublings * STEPS;
    (low << doublings) + ((1 << doublings) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_narrow_and_knows_its_end() {
        for value in [0, 1, 63, 64, 65, 127, 128, 1000, 123_456, 7_000_000_000, u64::MAX / 3] {
            let end = bucket_end(bucket(value));
            assert!(end >= value && end - value <= value / 64, "{value}: {end}");
            if end < u64::MAX {
                assert_eq!(bucket(end + 1), bucket(value) + 1, "{value}");
            }
        }
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|value| histogram.add(value * 1000));
        for (share, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = histogram.percentile(share) as f64;
            assert!((found / expected - 1.0).abs() < 0.02, "{share}: {found}");
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.count(), twice.max), (2000, 1_000_000));
    }
}
