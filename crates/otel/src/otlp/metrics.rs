//! A snapshot as a message of OTLP. It is pure: times are arguments.

use milena::metrics::{
    Family, FamilySnapshot, HistogramSnapshot, Kind, OTHER, Snapshot, Unit, Value, families as of,
};

use super::proto::Message;

/// What a metric is called and what it is in.
struct Named<'a> {
    name: &'a str,
    help: &'a str,
    /// By UCUM.
    unit: &'a str,
    kind: Kind,
}

/// One series.
struct Point<'a> {
    attributes: Vec<(&'a str, &'a str)>,
    value: &'a Value,
}

/// When counting began, and now: nanoseconds since 1970.
type Times = [u64; 2];

/// The buckets that the conventions name for durations, in seconds.
const DURATIONS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const SYSTEM: (&str, &str) = ("messaging.system", "kafka");
const OPERATION: &str = "messaging.operation.name";
const TYPE: &str = "messaging.operation.type";
const TOPIC: &str = "messaging.destination.name";
/// Of `milena-pipeline`, which this crate does not need otherwise.
const HANDLER_SECONDS: &str = "milena_pipeline_handler_seconds";
const CUMULATIVE: u64 = 2;

pub(super) fn request(snapshot: &Snapshot, resource: &[(&str, &str)], times: Times) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |all| {
        all.message(1, |message| attributes(message, 1, resource));
        all.message(2, |scope| {
            scope.message(1, |message| {
                message.text(1, "milena");
                message.text(2, env!("CARGO_PKG_VERSION"));
            });
            conventional(scope, snapshot, times);
            for family in snapshot.families() {
                let Family { name, help, unit, kind, .. } = *family.family();
                metric(scope, &Named { name, help, unit: ucum(unit), kind }, &points(family), times, None);
            }
        });
        all.text(3, "https://opentelemetry.io/schemas/1.44.0");
    });
    request.finish()
}

/// Metrics with the names of the semantic conventions for messaging.
fn conventional(scope: &mut Message, snapshot: &Snapshot, times: Times) {
    let send = [SYSTEM, (OPERATION, "send"), (TYPE, "send")];
    let poll = [SYSTEM, (OPERATION, "poll"), (TYPE, "receive")];
    let commit = [SYSTEM, (OPERATION, "commit"), (TYPE, "settle")];
    let process = [SYSTEM, (OPERATION, "process"), (TYPE, "process")];

    let counter = |name, help| Named { name, help, unit: "{message}", kind: Kind::Counter };
    let mut sent = with(snapshot, of::PRODUCER_RECORDS.name, &send, &[TOPIC]);
    sent.extend(with(snapshot, of::PRODUCER_RECORD_ERRORS.name, &send, &["error.type", TOPIC]));
    let named = counter("messaging.client.sent.messages", "Records that producers have written or given up.");
    metric(scope, &named, &sent, times, None);
    let consumed = with(snapshot, of::CONSUMER_RECORDS.name, &poll, &[TOPIC]);
    let named = counter("messaging.client.consumed.messages", "Records that the application was given.");
    metric(scope, &named, &consumed, times, None);

    let duration = |name, help| Named { name, help, unit: "s", kind: Kind::Histogram };
    let mut operations = with(snapshot, of::PRODUCER_DELIVERY_SECONDS.name, &send, &[]);
    operations.extend(with(snapshot, of::CONSUMER_COMMIT_SECONDS.name, &commit, &[]));
    let named =
        duration("messaging.client.operation.duration", "How long batches took to be written, and commits.");
    metric(scope, &named, &operations, times, Some(DURATIONS));
    let processed = with(snapshot, HANDLER_SECONDS, &process, &["messaging.consumer.group.name"]);
    let named = duration("messaging.process.duration", "How long handlers of pipelines took.");
    metric(scope, &named, &processed, times, Some(DURATIONS));
}

/// The series of a family with these attributes, and with `labels` in place of the names of its labels.
fn with<'a>(
    snapshot: &'a Snapshot,
    family: &str,
    fixed: &[(&'static str, &'static str)],
    labels: &[&'static str],
) -> Vec<Point<'a>> {
    let samples = snapshot.family(family).into_iter().flat_map(FamilySnapshot::samples);
    let point = |sample: milena::metrics::Sample<'a>| {
        let values = labels.iter().copied().zip(sample.labels.iter().map(|value| &**value));
        // Topics that found no room are no topic.
        let values = values.filter(|(name, value)| (*name, *value) != (TOPIC, OTHER));
        Point { attributes: fixed.iter().copied().chain(values).collect(), value: sample.value }
    };
    samples.map(point).collect()
}

fn points(family: &FamilySnapshot) -> Vec<Point<'_>> {
    let names = family.family().labels;
    family
        .samples()
        .map(|sample| Point {
            attributes: names.iter().copied().zip(sample.labels.iter().map(|value| &**value)).collect(),
            value: sample.value,
        })
        .collect()
}

/// A metric that has series.
fn metric(
    scope: &mut Message,
    named: &Named<'_>,
    points: &[Point<'_>],
    times: Times,
    bounds: Option<&[f64]>,
) {
    if points.is_empty() {
        return;
    }
    let Named { name, help, unit, kind } = *named;
    scope.message(2, |metric| {
        metric.text(1, name);
        metric.text(2, help);
        metric.text(3, unit);
        match kind {
            Kind::Gauge => metric.message(5, |gauge| {
                points.iter().for_each(|point| gauge.message(1, |to| number(to, point, times)));
            }),
            Kind::Counter => metric.message(7, |sum| {
                points.iter().for_each(|point| sum.message(1, |to| number(to, point, times)));
                sum.number(2, CUMULATIVE);
                sum.number(3, 1);
            }),
            Kind::Histogram => metric.message(9, |histogram| {
                points.iter().for_each(|point| histogram.message(1, |to| buckets(to, point, times, bounds)));
                histogram.number(2, CUMULATIVE);
            }),
        }
    });
}

fn number(to: &mut Message, point: &Point<'_>, [start, now]: Times) {
    if let Value::Counter(_) = point.value {
        to.fixed(2, start);
    }
    to.fixed(3, now);
    if let Value::Counter(value) | Value::Gauge(value) = point.value {
        to.double(4, *value);
    }
    attributes(to, 7, &point.attributes);
}

fn buckets(to: &mut Message, point: &Point<'_>, [start, now]: Times, bounds: Option<&[f64]>) {
    let Value::Histogram(histogram) = point.value else { return };
    let bounds = bounds.unwrap_or_else(|| bounds_of(histogram.unit()));
    to.fixed(2, start);
    to.fixed(3, now);
    to.fixed(4, histogram.count());
    to.double(5, histogram.sum());
    to.packed(6, counts(histogram, bounds));
    to.packed(7, bounds.iter().map(|bound| bound.to_bits()));
    attributes(to, 9, &point.attributes);
    if let Some(max) = histogram.max() {
        to.double(12, max);
    }
}

/// How many values are in each bucket: up to each bound, and above the last one.
fn counts(histogram: &HistogramSnapshot, bounds: &[f64]) -> Vec<u64> {
    let upto = bounds.iter().map(|bound| histogram.count_up_to(*bound)).chain([histogram.count()]);
    upto.scan(0, |before, upto| Some(upto - std::mem::replace(before, upto))).collect()
}

/// The upper bounds of buckets: about three to a power of ten.
fn bounds_of(unit: Unit) -> &'static [f64] {
    match unit {
        Unit::Seconds => &[
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            10.0, 30.0, 60.0, 300.0,
        ],
        Unit::Bytes => {
            &[1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0]
        }
        Unit::Ratio => &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0],
        Unit::Count => {
            &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0]
        }
    }
}

fn attributes(to: &mut Message, field: u8, list: &[(&str, &str)]) {
    for (name, value) in list {
        to.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| any.text(1, value));
        });
    }
}

fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::Count | Unit::Ratio => "1",
        Unit::Seconds => "s",
        Unit::Bytes => "By",
    }
}
