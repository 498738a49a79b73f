//! Prometheus' protobuf format: messages `io.prometheus.client.MetricFamily`, each after its length. Numbers of fields are those of
//! `metrics.proto` of Prometheus' client_model.
//!
//! Histograms have classic buckets and native ones (exponential, schema 5: 32 to a doubling, as many as ours). A server takes the native
//! ones, which cost a series less for each bucket, or the classic ones if it does not know native ones.

use milena::metrics::{Family, HistogramSnapshot, Kind, Value};

use super::text::bounds;

/// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// Each bucket is 2^(1/32) = 1.022 times as wide as the one before. A value of ours stands for up to 1.6 % on either side, so a finer
/// schema would have gaps and say nothing more.
const SCHEMA: i64 = 5;
const PER_DOUBLING: f64 = 32.0;
/// Values up to here are in the bucket of zero, which only zero itself is. It is above zero, because by that Prometheus knows a native
/// histogram that is empty.
const ZERO_THRESHOLD: f64 = 1e-128;
/// A span costs as much as this many empty buckets.
const GAP_MAX: i64 = 2;

/// Writes a family around its series. Prometheus does not take one without series, so nothing is written of it.
pub(super) fn family(out: &mut Vec<u8>, family: &Family, series: &[u8]) {
    if series.is_empty() {
        return;
    }
    let mut head = Vec::new();
    bytes(&mut head, 1, family.name.as_bytes());
    bytes(&mut head, 2, family.help.as_bytes());
    let kind = match family.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 4,
    };
    number(&mut head, 3, kind);
    varint(out, (head.len() + series.len()) as u64);
    out.extend_from_slice(&head);
    out.extend_from_slice(series);
}

/// Writes one series as a field `metric` of its family.
pub(super) fn series<L: AsRef<str>>(out: &mut Vec<u8>, of: &Family, labels: &[L], value: &Value) {
    let mut metric = Vec::with_capacity(128);
    for (name, value) in of.labels.iter().zip(labels) {
        let (name, value) = (name.as_bytes(), value.as_ref().as_bytes());
        // Without a buffer of its own: there may be millions of labels.
        key(&mut metric, 1, BYTES);
        varint(&mut metric, (bytes_len(name) + bytes_len(value)) as u64);
        bytes(&mut metric, 1, name);
        bytes(&mut metric, 2, value);
    }
    let mut inner = Vec::new();
    let field = match value {
        Value::Gauge(value) => {
            double(&mut inner, 1, *value);
            2
        }
        Value::Counter(value) => {
            double(&mut inner, 1, *value);
            3
        }
        Value::Histogram(histogram) => {
            write_histogram(&mut inner, of, histogram);
            7
        }
    };
    bytes(&mut metric, field, &inner);
    bytes(out, 4, &metric);
}

fn write_histogram(out: &mut Vec<u8>, of: &Family, histogram: &HistogramSnapshot) {
    number(out, 1, histogram.count());
    double(out, 2, histogram.sum());
    for bound in bounds(of.unit) {
        let mut bucket = Vec::with_capacity(24);
        number(&mut bucket, 1, histogram.count_up_to(*bound));
        double(&mut bucket, 2, *bound);
        bytes(out, 3, &bucket);
    }
    let native = Native::of(histogram);
    number(out, 5, zigzag(SCHEMA));
    double(out, 6, ZERO_THRESHOLD);
    number(out, 7, native.zeros);
    for (offset, length) in &native.spans {
        let mut span = Vec::with_capacity(16);
        number(&mut span, 1, zigzag(*offset));
        number(&mut span, 2, *length);
        bytes(out, 12, &span);
    }
    let mut deltas = Vec::with_capacity(native.counts.len() * 2);
    let mut before = 0_i64;
    for count in &native.counts {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        varint(&mut deltas, zigzag(count - before));
        before = count;
    }
    if !deltas.is_empty() {
        bytes(out, 13, &deltas);
    }
}

/// Exponential buckets: bucket `i` has the values above 2^((i-1)/32) up to 2^(i/32).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Native {
    pub(super) zeros: u64,
    /// Runs of buckets: how many are left out before, and how many there are. The first one's offset is its bucket.
    pub(super) spans: Vec<(i64, u64)>,
    /// The counts of the buckets of all runs.
    pub(super) counts: Vec<u64>,
}

impl Native {
    pub(super) fn of(histogram: &HistogramSnapshot) -> Self {
        let mut native = Self::default();
        let mut last: Option<i64> = None;
        for (low, high, count) in histogram.buckets() {
            if low <= 0.0 {
                native.zeros += count;
                continue;
            }
            // The middle of the values that fall into it: a bucket of one value has that value.
            let unit = histogram.unit().scale();
            let middle = f64::midpoint(low, high - unit);
            let bucket = (middle.log2() * PER_DOUBLING).ceil() as i64;
            match last.map(|last| bucket - last) {
                Some(..=0) => {
                    // Above each doubling ours are narrower for a while than these.
                    if let Some(before) = native.counts.last_mut() {
                        *before += count;
                    }
                    continue;
                }
                Some(step) if step <= GAP_MAX + 1 => {
                    native.counts.extend(std::iter::repeat_n(0, step as usize - 1));
                    if let Some((_, length)) = native.spans.last_mut() {
                        *length += step as u64;
                    }
                }
                Some(step) => native.spans.push((step - 1, 1)),
                None => native.spans.push((bucket, 1)),
            }
            native.counts.push(count);
            last = Some(bucket);
        }
        native
    }
}

fn key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned()
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The length of a short field with its key.
fn bytes_len(value: &[u8]) -> usize {
    let length = value.len();
    let digits = (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize;
    1 + digits + length
}
