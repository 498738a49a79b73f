//! Writes a snapshot as lines.
//!
//! The two formats differ in three things: OpenMetrics names a family of counters without `_total`, has a line for the unit, and
//! ends with `# EOF`.

use std::fmt::Write as _;
use std::sync::Arc;

use milena::metrics::{Family, FamilySnapshot, HistogramSnapshot, Kind, Sample, Snapshot, Unit, Value};

use super::Format;

pub(super) fn write(snapshot: &Snapshot, format: Format) -> String {
    let mut text = String::new();
    for family in snapshot.families() {
        head(&mut text, family.family(), format);
        series(&mut text, family);
    }
    if format == Format::OpenMetrics {
        text += "# EOF\n";
    }
    text
}

// Writing into a String cannot fail.
fn head(text: &mut String, family: &Family, format: Format) {
    let (name, kind) = match (format, family.kind) {
        (Format::OpenMetrics, Kind::Counter) => match family.name.strip_suffix("_total") {
            Some(name) => (name, "counter"),
            // A counter of OpenMetrics ends with _total; names that other exporters made do not.
            None => (family.name, "unknown"),
        },
        _ => (family.name, family.kind.name()),
    };
    let help = |text: &mut String| {
        let _ = write!(text, "# HELP {name} ");
        escape(text, family.help, format == Format::OpenMetrics);
        text.push('\n');
    };
    if format == Format::Prometheus {
        help(text);
    }
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if format == Format::OpenMetrics {
        let unit = family.unit.name();
        if !unit.is_empty() && name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        help(text);
    }
}

fn series(text: &mut String, family: &FamilySnapshot) {
    let of = family.family();
    let mut labels = String::new();
    for Sample { labels: values, value } in family.samples() {
        labels.clear();
        write_labels(&mut labels, of.labels, values);
        match value {
            Value::Counter(value) | Value::Gauge(value) => line(text, of.name, "", &labels, "", *value),
            Value::Histogram(histogram) => write_histogram(text, of, &labels, histogram),
        }
    }
}

/// `city="Kiel",shop="4"`.
fn write_labels(text: &mut String, names: &[&str], values: &[Arc<str>]) {
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value, true);
        text.push('"');
    }
}

fn write_histogram(text: &mut String, of: &Family, labels: &str, histogram: &HistogramSnapshot) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut bucket = |le: &str, count: u64| {
        let le = format!("{comma}le=\"{le}\"");
        line(text, of.name, "_bucket", labels, &le, count as f64);
    };
    for bound in bounds(of.unit) {
        bucket(&format!("{bound:?}"), histogram.count_up_to(*bound));
    }
    bucket("+Inf", histogram.count());
    line(text, of.name, "_sum", labels, "", histogram.sum());
    line(text, of.name, "_count", labels, "", histogram.count() as f64);
}

/// Upper bounds of classic buckets. Series are dear, so there are about three to a power of ten.
fn bounds(unit: Unit) -> &'static [f64] {
    match unit {
        Unit::Seconds => &[
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            10.0, 30.0, 60.0, 300.0,
        ],
        Unit::Bytes => &[
            64.0,
            256.0,
            1024.0,
            4096.0,
            16384.0,
            65536.0,
            262_144.0,
            1_048_576.0,
            4_194_304.0,
            16_777_216.0,
            67_108_864.0,
            268_435_456.0,
        ],
        Unit::Ratio => &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0],
        Unit::Count => &[
            1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 100_000.0,
        ],
    }
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, more: &str, value: f64) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || !more.is_empty() {
        text.push('{');
        text.push_str(labels);
        text.push_str(more);
        text.push('}');
    }
    text.push(' ');
    let _ = match value {
        f64::INFINITY => write!(text, "+Inf"),
        f64::NEG_INFINITY => write!(text, "-Inf"),
        value => write!(text, "{value}"),
    };
    text.push('\n');
}

/// As both formats want it in the values of labels; in the help of Prometheus' format quotes stay as they are.
fn escape(text: &mut String, raw: &str, escapes_quotes: bool) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '\n' => text.push_str(r"\n"),
            '"' if escapes_quotes => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}
