//! Writes metrics as OpenTelemetry's `MetricsData` in protobuf's wire format (opentelemetry-proto, metrics v1).
//!
//! ```text
//!  MetricsData ─ ResourceMetrics ─┬─ Resource ─ attributes
//!                                 └─ ScopeMetrics ─ Metric, Metric, … ─ data points
//! ```
//!
//! All metrics are of one resource and one scope, so that its labels are written once. A metric that would make the payload larger
//! than it may be is left out, and those after it that fit are written.

/// A metric and its points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) points: Vec<Point>,
}

/// What its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// Counts up only.
    Counter,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) labels: Labels,
    pub(super) value: f64,
    /// Since when a counter counts, in milliseconds since 1970.
    pub(super) since_ms: i64,
}

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What the points of a payload share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// What the client says of itself.
    pub(super) resource: &'a [(&'static str, String)],
    pub(super) now_ms: i64,
    /// Whether counters are what was added since their last push.
    pub(super) is_delta: bool,
    /// The most bytes of the payload.
    pub(super) bytes_max: usize,
}

/// A payload.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    /// The places of the metrics that fitted.
    pub(super) written: Vec<usize>,
}

/// AggregationTemporality of opentelemetry-proto.
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// The most that the lengths of the messages around the metrics need: each is written before what it counts.
const LENGTHS_BYTES: usize = 3 * 11;

/// The payload of these metrics; empty if none fits.
pub(super) fn write(metrics: &[Metric], frame: &Frame<'_>) -> Payload {
    let mut resource = Vec::new();
    attributes(&mut resource, 1, frame.resource);
    let mut scope = Vec::new();
    text(&mut scope, 1, "milena");
    let mut scope_metrics = Vec::new();
    message(&mut scope_metrics, 1, &scope);
    let around = resource.len() + LENGTHS_BYTES;
    let mut written = Vec::new();
    for (place, metric) in metrics.iter().enumerate() {
        let of_metric = of_metric(metric, frame);
        // Its tag and its length come before it.
        if around + scope_metrics.len() + of_metric.len() + 11 > frame.bytes_max {
            continue;
        }
        message(&mut scope_metrics, 2, &of_metric);
        written.push(place);
    }
    if written.is_empty() {
        return Payload { bytes: Vec::new(), written };
    }
    let mut resource_metrics = Vec::new();
    message(&mut resource_metrics, 1, &resource);
    message(&mut resource_metrics, 2, &scope_metrics);
    let mut bytes = Vec::new();
    message(&mut bytes, 1, &resource_metrics);
    Payload { bytes, written }
}

fn of_metric(metric: &Metric, frame: &Frame<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    for point in &metric.points {
        message(&mut data, 1, &of_point(point, metric.kind, frame));
    }
    let mut written = Vec::new();
    text(&mut written, 1, &metric.name);
    match metric.kind {
        Kind::Gauge => message(&mut written, 5, &data),
        Kind::Counter => {
            number(&mut data, 2, if frame.is_delta { DELTA } else { CUMULATIVE });
            // It is monotonic.
            number(&mut data, 3, 1);
            message(&mut written, 7, &data);
        }
    }
    written
}

fn of_point(point: &Point, kind: Kind, frame: &Frame<'_>) -> Vec<u8> {
    let nanos = |ms: i64| u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000);
    let mut written = Vec::new();
    if kind == Kind::Counter {
        fixed(&mut written, 2, nanos(point.since_ms));
    }
    fixed(&mut written, 3, nanos(frame.now_ms));
    fixed(&mut written, 4, point.value.to_bits());
    attributes(&mut written, 7, &point.labels);
    written
}

/// `KeyValue`s whose values are strings.
fn attributes(out: &mut Vec<u8>, field: u64, labels: &[(&'static str, String)]) {
    for (name, value) in labels {
        let mut any_value = Vec::new();
        text(&mut any_value, 1, value);
        let mut attribute = Vec::new();
        text(&mut attribute, 1, name);
        message(&mut attribute, 2, &any_value);
        message(out, field, &attribute);
    }
}

fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    message(out, field, text.as_bytes());
}

fn message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn fixed(out: &mut Vec<u8>, field: u64, bits: u64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame<'_> = Frame { resource: &[], now_ms: 2, is_delta: true, bytes_max: usize::MAX };

    fn metric(name: &str, kind: Kind) -> Metric {
        let point = Point { labels: vec![("topic", "t".to_owned())], value: 1.5, since_ms: 1 };
        Metric { name: name.to_owned(), kind, points: vec![point] }
    }

    #[test]
    fn a_payload_is_as_protobuf_has_it() {
        let bits = 1.5_f64.to_bits().to_le_bytes();
        let mut point = vec![2 << 3 | 1];
        point.extend(1_000_000_u64.to_le_bytes());
        point.push(3 << 3 | 1);
        point.extend(2_000_000_u64.to_le_bytes());
        point.push(4 << 3 | 1);
        point.extend(bits);
        point.extend([7 << 3 | 2, 12, 1 << 3 | 2, 5]);
        point.extend(b"topic");
        point.extend([2 << 3 | 2, 3, 1 << 3 | 2, 1, b't']);
        let mut sum = vec![1 << 3 | 2, point.len() as u8];
        sum.extend(&point);
        sum.extend([2 << 3, 1, 3 << 3, 1]);
        let mut expected = vec![1 << 3 | 2, 1, b'm', 7 << 3 | 2, sum.len() as u8];
        expected.extend(&sum);
        assert_eq!(of_metric(&metric("m", Kind::Counter), &FRAME), expected);
        let whole = write(&[metric("m", Kind::Counter)], &FRAME);
        assert_eq!(whole.written, [0]);
        assert!(whole.bytes.ends_with(&expected));
    }

    #[test]
    fn a_payload_is_never_larger_than_it_may_be_and_what_fits_is_told() {
        let resource = [("group_id", "g".repeat(100))];
        let metrics: Vec<_> = (1..100).map(|size| metric(&"x".repeat(size * 3), Kind::Gauge)).collect();
        for bytes_max in [0, 1, 100, 200, 1000, 5000, 100_000] {
            let payload = write(&metrics, &Frame { resource: &resource, bytes_max, ..FRAME });
            assert!(payload.bytes.len() <= bytes_max, "{} of {bytes_max}", payload.bytes.len());
            assert_eq!(payload.written.len() == metrics.len(), bytes_max == 100_000);
            assert_eq!(payload.bytes.is_empty(), payload.written.is_empty());
        }
    }
}
