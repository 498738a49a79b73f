//! Both formats, byte by byte.

use milena::metrics::{Family, Registry, Unit};

use super::Format;

static SALES: Family =
    Family::counter("shop_sales_total", "Sales \"of\\\nthe day\".").labelled(&["city", "till"], 0);
static OPEN: Family = Family::gauge("shop_open", "Whether it is open.");
static ODD: Family = Family::counter("shop_odd", "A counter of another exporter.");
static PAID: Family = Family::histogram("shop_payment_seconds", "How long a payment took.")
    .in_unit(Unit::Seconds)
    .labelled(&["bank"], 0);

#[test]
fn prometheus_text_is_written() {
    let registry = Registry::new();
    registry.counter(&SALES, &["Ki\"e\\l\n", "1"]).add(2);
    registry.gauge(&OPEN, &[]).set(-1);
    assert_eq!(
        Format::Prometheus.text(&registry.snapshot()),
        "# HELP shop_open Whether it is open.\n\
         # TYPE shop_open gauge\n\
         shop_open -1\n\
         # HELP shop_sales_total Sales \"of\\\\\\nthe day\".\n\
         # TYPE shop_sales_total counter\n\
         shop_sales_total{city=\"Ki\\\"e\\\\l\\n\",till=\"1\"} 2\n"
    );
    assert_eq!(Format::Prometheus.text(&Registry::new().snapshot()), "");
}

#[test]
fn openmetrics_names_families_of_counters_without_total_and_has_units() {
    let registry = Registry::new();
    registry.counter(&ODD, &[]).add(1);
    registry.know(&[&PAID, &SALES]);
    assert_eq!(
        Format::OpenMetrics.text(&registry.snapshot()),
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
    let text = Format::Prometheus.text(&registry.snapshot());
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
    ] {
        assert_eq!(Format::accepted(accept), expect, "{accept}");
    }
}
