//! Both formats, byte by byte.

use milena::metrics::{Family, Registry, Unit};

use super::protobuf::Native;
use super::{Encoding, Format};

static SALES: Family =
    Family::counter("shop_sales_total", "Sales \"of\\\nthe day\".").labelled(&["city", "till"], 0);
static OPEN: Family = Family::gauge("shop_open", "Whether it is open.");
static ODD: Family = Family::counter("shop_odd", "A counter of another exporter.");
static PAID: Family = Family::histogram("shop_payment_seconds", "How long a payment took.")
    .in_unit(Unit::Seconds)
    .labelled(&["bank"], 0);

fn text(format: Format, snapshot: &milena::metrics::Snapshot) -> String {
    String::from_utf8(format.write(snapshot)).expect("text")
}

#[test]
fn prometheus_text_is_written() {
    let registry = Registry::new();
    registry.counter(&SALES, &["Ki\"e\\l\n", "1"]).add(2);
    registry.gauge(&OPEN, &[]).set(-1);
    assert_eq!(
        text(Format::Prometheus, &registry.snapshot()),
        "# HELP shop_open Whether it is open.\n\
         # TYPE shop_open gauge\n\
         shop_open -1\n\
         # HELP shop_sales_total Sales \"of\\\\\\nthe day\".\n\
         # TYPE shop_sales_total counter\n\
         shop_sales_total{city=\"Ki\\\"e\\\\l\\n\",till=\"1\"} 2\n"
    );
    assert_eq!(text(Format::Prometheus, &Registry::new().snapshot()), "");
}

#[test]
fn openmetrics_names_families_of_counters_without_total_and_has_units() {
    let registry = Registry::new();
    registry.counter(&ODD, &[]).add(1);
    registry.know(&[&PAID, &SALES]);
    assert_eq!(
        text(Format::OpenMetrics, &registry.snapshot()),
        "# TYPE shop_odd unknown\n\
         # HELP shop_odd A counter of another exporter.\n\
         shop_odd 1\n\
         # TYPE shop_payment_seconds histogram\n\
         # UNIT shop_payment_seconds seconds\n\
         # HELP shop_payment_seconds How long a payment took.\n\
         # TYPE shop_sales counter\n\
         # HELP shop_sales Sales \\\"of\\\\\\nthe day\\\".\n\
         # EOF\n"
    );
}

#[test]
fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
    let registry = Registry::new();
    let paid = registry.histogram(&PAID, &["p"]);
    for ms in [3, 20, 20, 400_000] {
        paid.record_duration(std::time::Duration::from_millis(ms));
    }
    let text = text(Format::Prometheus, &registry.snapshot());
    let value = |start: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    for (le, count) in [("0.0025", 1.0 - 1.0), ("0.005", 1.0), ("0.025", 3.0), ("300.0", 3.0), ("+Inf", 4.0)]
    {
        assert_eq!(value(&format!("shop_payment_seconds_bucket{{bank=\"p\",le=\"{le}\"}}")), count, "{le}");
    }
    assert_eq!(value("shop_payment_seconds_count{bank=\"p\"}"), 4.0);
    assert!((value("shop_payment_seconds_sum{bank=\"p\"}") / 400.043 - 1.0).abs() < 0.02);
    let buckets: Vec<f64> = text
        .lines()
        .filter(|line| line.contains("_bucket"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(buckets.is_sorted());
}

#[test]
fn the_best_accepted_format_is_taken() {
    for (accept, expect) in [
        ("", Format::Prometheus),
        ("text/plain", Format::Prometheus),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
        ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", Format::Prometheus),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.7", Format::Prometheus),
        ("application/openmetrics-text;q=0", Format::Prometheus),
        ("text/plain;version=0.0.4, application/openmetrics-text", Format::OpenMetrics),
        // Prometheus 3 asks so.
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        (&";q=,=".repeat(10_000), Format::Prometheus),
        // Prometheus 2.42 asks so for native histograms.
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
             application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::Protobuf,
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            Format::Prometheus,
        ),
        ("application/vnd.google.protobuf", Format::Prometheus),
    ] {
        assert_eq!(Format::accepted(accept), expect, "{accept}");
    }
}

/// Fields of a message: their numbers and values, as a number or as bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        match key & 7 {
            0 => found.push((key >> 3, varint(&mut message), &[][..])),
            1 => {
                let (value, rest) = message.split_at(8);
                found.push((key >> 3, u64::from_le_bytes(value.try_into().expect("eight")), value));
                message = rest;
            }
            2 => {
                let length = varint(&mut message) as usize;
                let (value, rest) = message.split_at(length);
                found.push((key >> 3, length as u64, value));
                message = rest;
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

fn of(message: &[u8], field: u64) -> Vec<&[u8]> {
    fields(message).into_iter().filter(|(number, ..)| *number == field).map(|(.., bytes)| bytes).collect()
}

fn number(message: &[u8], field: u64) -> Option<u64> {
    fields(message).into_iter().find(|(number, ..)| *number == field).map(|(_, value, _)| value)
}

#[test]
fn protobuf_has_each_family_after_its_length() {
    let registry = Registry::new();
    registry.counter(&SALES, &["Kiel", "1"]).add(2);
    registry.gauge(&OPEN, &[]).set(-1);
    registry.know(&[&ODD]);
    let bytes = Format::Protobuf.write(&registry.snapshot());
    // Fields with the number of what begins a message: its length is a key of wire type 2 of no other use here.
    let length = usize::from(bytes[0]);
    let (open, sales) = (&bytes[1..=length], &bytes[length + 2..]);
    assert_eq!(usize::from(bytes[length + 1]), sales.len(), "a family without series is left out");
    assert_eq!((of(open, 1), of(open, 2)), (vec![&b"shop_open"[..]], vec![&b"Whether it is open."[..]]));
    assert_eq!((number(open, 3), number(sales, 3)), (Some(1), Some(0)), "a gauge and a counter");
    let gauge = of(of(open, 4)[0], 2)[0];
    assert_eq!(number(gauge, 1).map(f64::from_bits), Some(-1.0));
    let metric = of(sales, 4)[0];
    let labels: Vec<_> = of(metric, 1).into_iter().map(|label| (of(label, 1)[0], of(label, 2)[0])).collect();
    assert_eq!(labels, [(&b"city"[..], &b"Kiel"[..]), (b"till", b"1")]);
    assert_eq!(number(of(metric, 3)[0], 1).map(f64::from_bits), Some(2.0));
}

#[test]
fn protobuf_has_native_buckets_beside_classic_ones() {
    let registry = Registry::new();
    let paid = registry.histogram(&PAID, &["p"]);
    for ms in [0, 3, 20, 20, 400_000] {
        paid.record_duration(std::time::Duration::from_millis(ms));
    }
    let bytes = Format::Protobuf.write(&registry.snapshot());
    // Its length has two bytes.
    let histogram = of(of(&bytes[2..], 4)[0], 7)[0];
    assert_eq!(
        (number(histogram, 1), number(histogram, 5), number(histogram, 7)),
        (Some(5), Some(10), Some(1))
    );
    assert!(number(histogram, 6).map(f64::from_bits).is_some_and(|threshold| threshold > 0.0));
    let bucket = |le: f64| {
        let mut buckets = of(histogram, 3).into_iter();
        let found = buckets.find(|bucket| number(bucket, 2) == Some(le.to_bits()));
        number(found.expect("a bucket"), 1)
    };
    assert_eq!(
        (bucket(0.001), bucket(0.005), bucket(0.025), bucket(300.0)),
        (Some(1), Some(2), Some(4), Some(4))
    );
    let spans: Vec<_> = of(histogram, 12).iter().map(|span| (number(span, 1), number(span, 2))).collect();
    let zigzag = |offset: i64| Some((offset << 1 ^ offset >> 63).cast_unsigned());
    // 2^(i/32) is 0.003 at i = -268.2, 0.02 at -180.6 and 400 at 276.6.
    assert_eq!(spans, [(zigzag(-268), Some(1)), (zigzag(87), Some(1)), (zigzag(456), Some(1))]);
    // 1, 2 and 1, as differences.
    assert_eq!(of(histogram, 13), [&[2, 2, 1][..]]);
}

#[test]
fn native_buckets_have_all_values_where_they_belong() {
    let registry = Registry::new();
    let paid = registry.histogram(&PAID, &["p"]);
    let mut values: Vec<u64> =
        (0..20_000_u64).map(|number| number * number * 7919 % 10_000_000_000).collect();
    values.iter().for_each(|nanos| paid.record(*nanos));
    values.sort_unstable();
    let native = Native::of(&paid.snapshot());
    assert_eq!(native.zeros + native.counts.iter().sum::<u64>(), 20_000);
    assert_eq!(native.spans.iter().map(|(_, length)| *length).sum::<u64>(), native.counts.len() as u64);
    for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
        let rank = (q * 20_000.0) as u64;
        let (mut seen, mut found, mut counts) = (native.zeros, 0.0, native.counts.iter());
        let mut bucket = 0;
        for (offset, length) in &native.spans {
            bucket += offset;
            for _ in 0..*length {
                seen += counts.next().expect("a count");
                bucket += 1;
                if seen >= rank && found == 0.0 {
                    // The upper bound of the bucket before the next one.
                    found = f64::exp2((bucket - 1) as f64 / 32.0);
                }
            }
        }
        let expected = values[rank as usize - 1] as f64 * 1e-9;
        assert!((found / expected - 1.0).abs() < 0.016 + 0.022, "{q}: {found} for {expected}");
    }
}

#[test]
fn packed_is_gzip_if_that_is_accepted() {
    for (accept, expect) in [
        ("", Encoding::Identity),
        ("gzip", Encoding::Gzip),
        ("br, *;q=0.5", Encoding::Gzip),
        ("*;q=0", Encoding::Identity),
        ("*, gzip;q=0.0", Encoding::Identity),
        ("identity", Encoding::Identity),
        (&",;q=".repeat(10_000), Encoding::Identity),
    ] {
        assert_eq!(Encoding::accepted(accept), expect, "{accept}");
    }
}
