//! Percentiles of the latencies of many records. The histogram is locked once per batch, not per record.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

/// A histogram of microseconds that several tasks add to.
#[derive(Debug)]
pub(crate) struct Latency {
    histogram: Mutex<Histogram<u64>>,
}

/// The percentiles that are shown, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

/// The highest latency that is told apart; a longer one counts as this.
const HIGHEST_US: u64 = 600_000_000;

impl Latency {
    pub(crate) fn new() -> Self {
        // Three digits up to ten minutes: 170 kB. The bounds are constants that the constructor accepts.
        let histogram = Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("constant bounds are valid");
        Self { histogram: Mutex::new(histogram) }
    }

    /// Adds a batch of latencies.
    pub(crate) fn record(&self, latencies_us: impl IntoIterator<Item = u32>) {
        let mut histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        for us in latencies_us {
            histogram.saturating_record(us.into());
        }
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        Percentiles {
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_everything_recorded() {
        let latency = Latency::new();
        assert_eq!(latency.percentiles(), Percentiles::default());
        latency.record(1..=500);
        latency.record(501..=1000);
        latency.record([u32::MAX]);
        let p = latency.percentiles();
        assert_eq!((p.p50_us, p.p90_us), (501, 901));
        assert!(p.max_us >= HIGHEST_US, "what is too long is counted at the end");
    }
}
