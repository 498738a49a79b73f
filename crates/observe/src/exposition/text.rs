//! Writes families and series as lines.
//!
//! The two formats differ in three things: OpenMetrics names a family of counters without `_total`, has a line for the unit, and
//! ends with `# EOF`.

use std::io::Write as _;

use milena::metrics::{Family, HistogramSnapshot, Kind, Unit, Value};

use super::Format;

// Writing into a Vec cannot fail.
pub(super) fn head(text: &mut Vec<u8>, family: &Family, format: Format) {
    let (name, kind) = match (format, family.kind) {
        (Format::OpenMetrics, Kind::Counter) => match family.name.strip_suffix("_total") {
            Some(name) => (name, "counter"),
            // A counter of OpenMetrics ends with _total; names that other exporters made do not.
            None => (family.name, "unknown"),
        },
        _ => (family.name, family.kind.name()),
    };
    let help = |text: &mut Vec<u8>| {
        let _ = write!(text, "# HELP {name} ");
        escape(text, family.help, format == Format::OpenMetrics);
        text.push(b'\n');
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

/// Writes one series, whose label values come in the order of the family's names.
pub(super) fn series<L: AsRef<str>>(text: &mut Vec<u8>, of: &Family, labels: &[L], value: &Value) {
    match value {
        Value::Counter(value) | Value::Gauge(value) => {
            line(text, of.name, "", of.labels, labels, None, *value);
        }
        Value::Histogram(histogram) => write_histogram(text, of, labels, histogram),
    }
}

fn write_histogram<L: AsRef<str>>(
    text: &mut Vec<u8>,
    of: &Family,
    labels: &[L],
    histogram: &HistogramSnapshot,
) {
    let mut write = |suffix: &str, le: Option<&str>, value: f64| {
        line(text, of.name, suffix, of.labels, labels, le, value);
    };
    for bound in bounds(of.unit) {
        write("_bucket", Some(&format!("{bound:?}")), histogram.count_up_to(*bound) as f64);
    }
    write("_bucket", Some("+Inf"), histogram.count() as f64);
    write("_sum", None, histogram.sum());
    write("_count", None, histogram.count() as f64);
}

/// Upper bounds of classic buckets. Series are dear, so there are about three to a power of ten.
pub(super) fn bounds(unit: Unit) -> &'static [f64] {
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

/// `shop_sales_total{city="Kiel",till="1"} 2`. A cluster has tens of thousands of these, so what is common is quick.
fn line<L: AsRef<str>>(
    text: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    names: &[&str],
    labels: &[L],
    le: Option<&str>,
    value: f64,
) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(suffix.as_bytes());
    let mut sign = b'{';
    let mut label = |text: &mut Vec<u8>, name: &str, value: &str| {
        text.push(sign);
        sign = b',';
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice("=\"".as_bytes());
        escape(text, value, true);
        text.push(b'"');
    };
    for (name, value) in names.iter().zip(labels) {
        label(text, name, value.as_ref());
    }
    if let Some(le) = le {
        label(text, "le", le);
    }
    if sign == b',' {
        text.push(b'}');
    }
    text.push(b' ');
    number(text, value);
    text.push(b'\n');
}

/// Whole numbers are written several times as fast as fractions, and nearly all are whole. From here on they may not be exact.
const WHOLE_MAX: f64 = 1e15;

fn number(text: &mut Vec<u8>, value: f64) {
    // Writing into a Vec cannot fail.
    let _ = match value {
        f64::INFINITY => write!(text, "+Inf"),
        f64::NEG_INFINITY => write!(text, "-Inf"),
        value
            if value.trunc() == value
                && value.abs() < WHOLE_MAX
                && (value != 0.0 || value.is_sign_positive()) =>
        {
            write!(text, "{}", value as i64)
        }
        value => write!(text, "{value}"),
    };
}

/// As both formats want it in the values of labels; in the help of Prometheus' format quotes stay as they are.
fn escape(text: &mut Vec<u8>, raw: &str, escapes_quotes: bool) {
    if !raw.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        return text.extend_from_slice(raw.as_bytes());
    }
    for c in raw.chars() {
        match c {
            '\\' => text.extend_from_slice(r"\\".as_bytes()),
            '\n' => text.extend_from_slice(r"\n".as_bytes()),
            '"' if escapes_quotes => text.extend_from_slice("\\\"".as_bytes()),
            c => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
