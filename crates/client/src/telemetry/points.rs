//! Makes the metrics of a push from snapshots of the registry.
//!
//! ```text
//!  snapshot ─┬─ ROWS (java.rs) ─▶ org.apache.kafka.…
//!            └─ all families ───▶ milena.…
//! ```
//!
//! This must not know requests or time but that between two snapshots.

use std::collections::BTreeMap;

use milena_core::telemetry::Wanted;

use super::java::{Measure, Of, ROWS, Row};
use super::otlp::{Kind, Labels, Metric, Point};
use crate::metrics::{self, FamilySnapshot, HistogramSnapshot, Snapshot, Value};

/// Two snapshots, and what was between them.
pub(super) struct Between<'a> {
    /// All that was counted.
    pub(super) counted: &'a Snapshot,
    /// All families since the last push, whatever became of it.
    pub(super) since: &'a Snapshot,
    /// The seconds since then.
    pub(super) seconds: f64,
}

/// Whether the client has producers and consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Has {
    pub(crate) producers: bool,
    pub(crate) consumers: bool,
}

/// The metrics that are wanted, those that KIP-714 requires first. Counters are totals. A metric without values is left out.
pub(super) fn metrics(between: &Between<'_>, has: Has, wanted: &Wanted) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for row in ROWS {
        let prefixes: &[&str] = match (row.of, has) {
            (Of::Producer, Has { producers: true, .. }) | (Of::Consumer, Has { consumers: true, .. }) => {
                &[""]
            }
            (Of::Producer | Of::Consumer, _) => &[],
            (Of::Each, Has { producers: true, consumers: true }) => &["producer.", "consumer."],
            (Of::Each, Has { producers: true, .. }) => &["producer."],
            (Of::Each, Has { consumers: true, .. }) => &["consumer."],
            (Of::Each, _) => &["admin.client."],
        };
        for prefix in prefixes {
            let name = format!("{JAVA}{prefix}{}", row.name);
            if wanted.has(&name) {
                let points = of_row(row, between);
                metrics.push(Metric { name, kind: row.measure.kind(), points });
            }
        }
    }
    for family in between.counted.families() {
        own(family, between.since.family(family.family().name), wanted, &mut metrics);
    }
    metrics.retain(|metric| !metric.points.is_empty());
    metrics
}

const JAVA: &str = "org.apache.kafka.";

fn of_row(row: &Row, between: &Between<'_>) -> Vec<Point> {
    let snapshot = match row.measure {
        Measure::Total | Measure::SumTotal => between.counted,
        _ => between.since,
    };
    let Some(family) = snapshot.family(row.family.name) else { return Vec::new() };
    let place = |name: &str| row.family.labels.iter().position(|label| *label == name);
    let keep: Vec<_> = row.keep.iter().filter_map(|(own, java)| Some((place(own)?, *java))).collect();
    let only = place(row.only.0);
    // The joined series of each group, and of each value that they are restricted to.
    let mut groups: BTreeMap<Labels, BTreeMap<usize, Value>> = BTreeMap::new();
    for sample in family.samples() {
        let part = match only {
            None => Some(0),
            Some(place) => row.only.1.iter().position(|value| **value == *sample.labels[place]),
        };
        let Some(part) = part else { continue };
        let kept = keep.iter().map(|(place, java)| (*java, sample.labels[*place].to_string())).collect();
        let parts = groups.entry(kept).or_default();
        match parts.get_mut(&part) {
            Some(held) => join(held, sample.value, row.measure),
            None => drop(parts.insert(part, sample.value.clone())),
        }
    }
    let point = |(labels, parts): (Labels, BTreeMap<usize, Value>)| {
        let value = measured(row.measure, &parts, between.seconds)? * row.scale;
        Some(Point { labels, value, since_ms: 0 })
    };
    groups.into_iter().filter_map(point).collect()
}

fn join(held: &mut Value, more: &Value, measure: Measure) {
    match (held, more) {
        (Value::Gauge(held), Value::Gauge(more)) if measure == Measure::Most => *held = held.max(*more),
        (Value::Counter(held), Value::Counter(more)) | (Value::Gauge(held), Value::Gauge(more)) => {
            *held += more;
        }
        (Value::Histogram(held), Value::Histogram(more)) => held.merge(more),
        _ => unreachable!("the series of a family are of its kind"),
    }
}

/// The value of a group; none if there is nothing to tell.
fn measured(measure: Measure, parts: &BTreeMap<usize, Value>, seconds: f64) -> Option<f64> {
    let histograms = || parts.values().filter_map(histogram);
    let sum = || histograms().map(HistogramSnapshot::sum).sum::<f64>();
    let total = || -> f64 {
        let amount = |value: &Value| match value {
            Value::Counter(value) | Value::Gauge(value) => *value,
            Value::Histogram(values) => values.count() as f64,
        };
        parts.values().map(amount).sum()
    };
    match measure {
        Measure::Total | Measure::Value | Measure::Most => Some(total()),
        Measure::SumTotal => Some(sum()),
        Measure::Rate => (seconds > 0.0).then(|| total() / seconds),
        Measure::Avg => {
            let of = parts.get(&0).and_then(histogram).map_or(0, HistogramSnapshot::count);
            (of > 0).then(|| sum() / of as f64)
        }
        Measure::Max => {
            let highest: Vec<f64> = histograms().filter_map(HistogramSnapshot::max).collect();
            (!highest.is_empty()).then(|| highest.iter().sum())
        }
        Measure::IdleRatio => (seconds > 0.0).then(|| (1.0 - sum() / seconds).clamp(0.0, 1.0)),
    }
}

fn histogram(value: &Value) -> Option<&HistogramSnapshot> {
    match value {
        Value::Histogram(values) => Some(values),
        _ => None,
    }
}

/// The family under its own name. A histogram is how many values it has, and of those since the last push the average, the 99th
/// percentile and the highest: its buckets would be most of a push.
fn own(counted: &FamilySnapshot, since: Option<&FamilySnapshot>, wanted: &Wanted, metrics: &mut Vec<Metric>) {
    let family = counted.family();
    // Families of the application have its own names (KIP-1076).
    let name = family.name.replace('_', ".");
    let labels = |values: &[std::sync::Arc<str>]| -> Labels {
        family.labels.iter().copied().zip(values.iter().map(ToString::to_string)).collect()
    };
    let mut add = |name: String, kind: Kind, of: &FamilySnapshot, read: &dyn Fn(&Value) -> Option<f64>| {
        if wanted.has(&name) {
            let point = |sample: metrics::Sample<'_>| {
                Some(Point { labels: labels(sample.labels), value: read(sample.value)?, since_ms: 0 })
            };
            let points = of.samples().filter_map(point).collect();
            metrics.push(Metric { name, kind, points });
        }
    };
    let plain = |value: &Value| match value {
        Value::Counter(value) | Value::Gauge(value) => Some(*value),
        Value::Histogram(values) => Some(values.count() as f64),
    };
    match family.kind {
        metrics::Kind::Counter => add(name, Kind::Counter, counted, &plain),
        metrics::Kind::Gauge => add(name, Kind::Gauge, counted, &plain),
        metrics::Kind::Histogram => {
            add(format!("{name}.count"), Kind::Counter, counted, &plain);
            let Some(since) = since else { return };
            let average = |values: &HistogramSnapshot| Some(values.sum() / values.count() as f64);
            let of = |read: &dyn Fn(&HistogramSnapshot) -> Option<f64>, value: &Value| {
                histogram(value).filter(|values| values.count() > 0).and_then(read)
            };
            add(format!("{name}.avg"), Kind::Gauge, since, &|value| of(&average, value));
            add(format!("{name}.p99"), Kind::Gauge, since, &|value| {
                of(&|values| values.quantile(0.99), value)
            });
            add(format!("{name}.max"), Kind::Gauge, since, &|value| of(&HistogramSnapshot::max, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Registry, families};

    const ALL: Has = Has { producers: true, consumers: true };

    /// The value of a metric with these labels; none if there is none.
    fn value(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let metric = metrics.iter().find(|metric| metric.name == name)?;
        let is_it = |point: &&Point| {
            point.labels.iter().map(|(name, value)| (*name, value.as_str())).eq(labels.iter().copied())
        };
        metric.points.iter().find(is_it).map(|point| point.value)
    }

    fn close(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one / other - 1.0).abs() < 0.02)
    }

    #[test]
    fn totals_rates_averages_and_highest_values_have_javas_names_and_units() {
        let registry = Registry::new();
        let counter = |topic| registry.counter(&families::PRODUCER_RECORDS, &[topic]);
        counter("a").add(30);
        let phase = |phase| registry.histogram(&families::PRODUCER_PHASE_SECONDS, &[phase]);
        phase("batch").record_duration(Duration::from_secs(1));
        let before = registry.snapshot();
        counter("a").add(10);
        counter("b").add(20);
        for _ in 0..2 {
            phase("batch").record_duration(Duration::from_millis(10));
            phase("slot").record_duration(Duration::from_millis(30));
        }
        phase("broker").record_duration(Duration::from_secs(9));
        let node = registry.histogram(&families::NODE_REQUEST_SECONDS, &["2"]);
        node.record_duration(Duration::from_millis(5));
        let now = registry.snapshot();
        let since = now.since(&before);
        let between = Between { counted: &now, since: &since, seconds: 5.0 };
        let all = metrics(&between, ALL, &Wanted::All);
        let producer = |name: &str| format!("org.apache.kafka.producer.{name}");
        assert_eq!(value(&all, &producer("record.send.total"), &[]), Some(60.0));
        assert_eq!(value(&all, &producer("record.send.rate"), &[]), Some(6.0));
        assert_eq!(value(&all, &producer("topic.record.send.total"), &[("topic", "a")]), Some(40.0));
        assert_eq!(value(&all, &producer("topic.record.send.rate"), &[("topic", "b")]), Some(4.0));
        assert!(close(value(&all, &producer("record.queue.time.avg"), &[]), 40.0), "batch and slot, in ms");
        assert!(close(value(&all, &producer("record.queue.time.max"), &[]), 40.0));
        assert!(close(value(&all, &producer("node.request.latency.avg"), &[("node_id", "2")]), 5.0));
        assert_eq!(value(&all, "milena.producer.records.total", &[("topic", "a")]), Some(40.0));
        assert_eq!(value(&all, "milena.producer.phase.seconds.count", &[("phase", "batch")]), Some(3.0));
        assert!(close(value(&all, "milena.producer.phase.seconds.max", &[("phase", "broker")]), 9.0));
    }

    #[test]
    fn only_what_is_wanted_and_what_the_client_has_is_made() {
        let registry = Registry::new();
        registry.counter(&families::CONNECTIONS_OPENED, &[]).add(1);
        registry.counter(&families::PRODUCER_RECORDS, &["a"]).add(1);
        let now = registry.snapshot();
        let between = Between { counted: &now, since: &now, seconds: 1.0 };
        let names = |has: Has, wanted: &str| -> Vec<String> {
            let wanted = Wanted::of(wanted.split(',').map(str::to_owned));
            metrics(&between, has, &wanted).into_iter().map(|metric| metric.name).collect()
        };
        let total = ".connection.creation.total";
        let java = "org.apache.kafka.";
        let has = |producers, consumers| Has { producers, consumers };
        let creation = format!("{java}producer{total},{java}consumer{total},{java}admin.client{total}");
        assert_eq!(names(has(true, false), &creation), [format!("{java}producer{total}")]);
        assert_eq!(
            names(ALL, &creation),
            [format!("{java}producer{total}"), format!("{java}consumer{total}")]
        );
        assert_eq!(names(Has::default(), &creation), [format!("{java}admin.client{total}")]);
        assert_eq!(names(has(false, true), "org.apache.kafka.producer."), [""; 0]);
        let records = names(ALL, "org.apache.kafka.producer.record.send");
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(names(ALL, "milena.producer.records"), ["milena.producer.records.total"]);
        assert_eq!(names(ALL, "com.example."), [""; 0]);
    }
}
