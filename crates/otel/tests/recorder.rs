//! What a recorder of the crate `metrics` is told.

#![allow(clippy::disallowed_methods, reason = "tests run on tokio")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use milena::metrics::{Family, Registry};
use milena_otel::recorder::Bridge;

static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
static SEATS: Family = Family::gauge("shop_seats", "Seats.");
static WAITED: Family =
    Family::histogram("shop_wait_seconds", "Waiting.").in_unit(milena::metrics::Unit::Seconds);

/// Keeps what it is told, by name and labels.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    numbers: BTreeMap<String, f64>,
    values: BTreeMap<String, Vec<(f64, usize)>>,
    described: Vec<String>,
}

struct Series {
    name: String,
    kept: Kept,
}

impl Series {
    fn of(key: &Key, kept: &Kept) -> Arc<Self> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = [key.name().to_owned()].into_iter().chain(labels).collect();
        Arc::new(Self { name, kept: kept.clone() })
    }

    fn set(&self, value: f64) {
        self.kept.0.lock().expect("whole").numbers.insert(self.name.clone(), value);
    }
}

impl CounterFn for Series {
    fn increment(&self, _: u64) {}
    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        Series::set(self, value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }
    fn record_many(&self, value: f64, count: usize) {
        let mut kept = self.kept.0.lock().expect("whole");
        kept.values.entry(self.name.clone()).or_default().push((value, count));
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.lock().expect("whole").described.push(format!("{} {unit:?} {description}", key.as_str()));
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe_counter(key, unit, description);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe_counter(key, unit, description);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Series::of(key, self))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Series::of(key, self))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Series::of(key, self))
    }
}

#[test]
fn counters_are_absolute_and_of_histograms_only_what_is_new_is_told() {
    let (registry, kept) = (Registry::new(), Kept::default());
    let mut bridge = Bridge::new(&registry);
    let (sales, seats) = (registry.counter(&SALES, &["Kiel"]), registry.gauge(&SEATS, &[]));
    let waited = registry.histogram(&WAITED, &[]);
    sales.add(2);
    seats.add(5);
    waited.record_duration(Duration::from_millis(20));
    waited.record_duration(Duration::from_millis(20));
    metrics::with_local_recorder(&kept, || bridge.forward());
    sales.add(1);
    seats.add(-4);
    waited.record_duration(Duration::from_secs(3));
    metrics::with_local_recorder(&kept, || bridge.forward());

    let state = kept.0.lock().expect("whole");
    assert_eq!(state.numbers["shop_sales_total city=Kiel"], 3.0);
    assert_eq!(state.numbers["shop_seats"], 1.0);
    let values = &state.values["shop_wait_seconds"];
    assert_eq!(values.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 1]);
    assert!((values[0].0 / 0.02 - 1.0).abs() < 0.02 && (values[1].0 / 3.0 - 1.0).abs() < 0.02, "{values:?}");
    assert_eq!(state.described.len(), 3, "each once: {:?}", state.described);
    assert!(state.described.contains(&"shop_wait_seconds Some(Seconds) Waiting.".to_owned()));
}
