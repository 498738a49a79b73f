//! A bridge to the facade [`metrics`](https://docs.rs/metrics): what a registry counts is told to the recorder of the program.
//!
//! ```text
//! Registry ─ snapshot ─▶ Bridge: what is new since the last one ─▶ metrics::Recorder ─▶ Prometheus, StatsD, ...
//! ```

use std::time::Duration;

use metrics::{Key, KeyName, Label, Level, Metadata};
use milena::metrics::{Family, FamilySnapshot, Kind, Registry, Sample, Snapshot, Unit, Value};
use tokio::task::AbortHandle;

/// Tells a recorder of the crate `metrics` what a registry counts, under the names that the families have at Prometheus.
///
/// Counters are set to what was counted (of those in seconds, to whole seconds, because the facade counts whole numbers), gauges to how they
/// stand. Of histograms each value is recorded that is new since the last time, within 1.6 %.
///
/// ```
/// use metrics::NoopRecorder;
/// use milena::metrics::Registry;
/// use milena_otel::recorder::Bridge;
///
/// let registry = Registry::new();
/// let mut bridge = Bridge::new(&registry);
/// metrics::with_local_recorder(&NoopRecorder, || bridge.forward()); // or to the recorder that is installed: bridge.forward()
/// ```
#[derive(Debug)]
pub struct Bridge {
    registry: Registry,
    /// What was told last.
    last: Snapshot,
}

/// Tells the recorder again and again, until it is dropped.
#[must_use = "nothing is told any more once it is dropped"]
#[derive(Debug)]
pub struct Forwarding(AbortHandle);

const METADATA: Metadata<'_> = Metadata::new("milena", Level::INFO, None);

impl Bridge {
    /// A bridge that has told nothing yet.
    pub fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), last: Snapshot::default() }
    }

    /// Tells the recorder of this thread, or the installed one, how the registry stands.
    pub fn forward(&mut self) {
        let now = self.registry.snapshot();
        let new = now.since(&self.last);
        metrics::with_recorder(|recorder| {
            for family in now.families() {
                if self.last.family(family.family().name).is_none() {
                    describe(recorder, family.family());
                }
            }
            // Counters are absolute, and only histograms are told what is new.
            let counted = now.families().zip(new.families());
            for (all, new) in counted {
                let of = if all.family().kind == Kind::Histogram { new } else { all };
                tell(recorder, of);
            }
        });
        self.last = now;
    }

    /// Starts a task of the present tokio runtime that tells the installed recorder, now and after each `interval` (at least 10 ms).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn every(mut self, interval: Duration) -> Forwarding {
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
            loop {
                ticks.tick().await;
                self.forward();
            }
        });
        Forwarding(task.abort_handle())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn describe(recorder: &dyn metrics::Recorder, family: &Family) {
    let (name, help) = (KeyName::from_const_str(family.name), family.help.into());
    let unit = match family.unit {
        Unit::Count | Unit::Ratio => metrics::Unit::Count,
        Unit::Seconds => metrics::Unit::Seconds,
        Unit::Bytes => metrics::Unit::Bytes,
    };
    match family.kind {
        Kind::Counter => recorder.describe_counter(name, Some(unit), help),
        Kind::Gauge => recorder.describe_gauge(name, Some(unit), help),
        Kind::Histogram => recorder.describe_histogram(name, Some(unit), help),
    }
}

fn tell(recorder: &dyn metrics::Recorder, family: &FamilySnapshot) {
    let Family { name, labels, .. } = *family.family();
    for Sample { labels: values, value } in family.samples() {
        let pairs = labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_string()));
        let key = Key::from_parts(name, pairs.collect::<Vec<_>>());
        match value {
            Value::Counter(value) => recorder.register_counter(&key, &METADATA).absolute(*value as u64),
            Value::Gauge(value) => recorder.register_gauge(&key, &METADATA).set(*value),
            Value::Histogram(histogram) => {
                let recorded = recorder.register_histogram(&key, &METADATA);
                for (low, high, count) in histogram.buckets() {
                    recorded.record_many((low + high) / 2.0, usize::try_from(count).unwrap_or(usize::MAX));
                }
            }
        }
    }
}
