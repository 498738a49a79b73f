//! Where series live, and the handles by which code counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::histogram::nanos;
use super::snapshot::{Labels, within};
use super::{Family, Histogram, Kind, Snapshot, Value};

/// Where metrics are counted. A client counts in the one that its builder was given
/// ([`ClientBuilder::metrics`](crate::ClientBuilder::metrics)); pipelines and your own code can count in the same one. It is
/// cheap to clone, and clones are the same registry. Clients that share a registry are counted together.
///
/// A series is looked up once, under a lock, and its handle is kept; counting by a handle is one atomic addition.
///
/// ```
/// use milena::metrics::{Family, Registry};
///
/// static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
///
/// let registry = Registry::new();
/// let in_kiel = registry.counter(&SALES, &["Kiel"]);
/// in_kiel.add(2);
/// assert_eq!(registry.snapshot().value(&SALES, &["Kiel"]), Some(2.0));
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    series_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    families: BTreeMap<&'static str, Entry>,
    collectors: Vec<Weak<dyn Collect>>,
}

struct Entry {
    family: &'static Family,
    series: BTreeMap<Labels, Series>,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Arc<Histogram>),
}

/// The value of a label that stands for all values that found no room; see [`Registry::with_series_max`].
pub const OTHER: &str = "_other";

/// Series per family; see [`Registry::with_series_max`].
const SERIES_MAX: usize = 1000;

/// Counts up. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// Goes up and down. Clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

/// Is asked for its metrics whenever a snapshot is taken, so that what is known anyway costs nothing meanwhile.
///
/// ```
/// use std::sync::Arc;
/// use milena::metrics::{Collect, Family, Registry, Sheet};
///
/// static SEATS: Family = Family::gauge("shop_seats", "Seats that are taken.");
/// struct Room(Vec<String>);
/// impl Collect for Room {
///     fn collect(&self, sheet: &mut Sheet<'_>) {
///         sheet.gauge(&SEATS, &[], self.0.len() as f64);
///     }
/// }
///
/// let registry = Registry::new();
/// let room: Arc<dyn Collect> = Arc::new(Room(vec!["Ada".into()]));
/// registry.collect_from(&room);
/// assert_eq!(registry.snapshot().value(&SEATS, &[]), Some(1.0));
/// drop(room);
/// assert_eq!(registry.snapshot().value(&SEATS, &[]), None);
/// ```
pub trait Collect: Send + Sync {
    /// Writes how its metrics stand. It is called by the thread that takes the snapshot, and holds it up.
    fn collect(&self, sheet: &mut Sheet<'_>);
}

/// What a [`Collect`] writes on.
#[derive(Debug)]
pub struct Sheet<'a> {
    series_max: usize,
    snapshot: &'a mut Snapshot,
}

impl Registry {
    /// An empty registry of at most 1000 series per family.
    pub fn new() -> Self {
        Self::with_series_max(SERIES_MAX)
    }

    /// An empty registry of at most `series_max` series per family. Further ones are counted together: the values of their labels
    /// become [`OTHER`], except those that are few by nature, such as phases and the names of errors
    /// ([`Family::bounded`]).
    ///
    /// ```
    /// use milena::metrics::{Family, OTHER, Registry};
    ///
    /// static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
    /// let registry = Registry::with_series_max(2);
    /// for city in ["Kiel", "Ulm", "Jena", "Gera"] {
    ///     registry.counter(&SALES, &[city]).add(1);
    /// }
    /// assert_eq!(registry.snapshot().value(&SALES, &[OTHER]), Some(2.0));
    /// ```
    pub fn with_series_max(series_max: usize) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { series_max: series_max.max(1), state }))
    }

    /// Makes families known, so that they are in snapshots before anything is counted.
    ///
    /// # Panics
    /// When another family has the name of one of them.
    pub fn know(&self, families: &[&'static Family]) {
        let mut state = self.state();
        for family in families {
            state.entry(family);
        }
    }

    /// The counter of these labels' values, in the order of [`Family::labels`].
    ///
    /// # Panics
    /// When the family is no counter, has another number of labels, or shares its name with another family. These are mistakes of
    /// the program and do not depend on values.
    pub fn counter(&self, family: &'static Family, labels: &[&str]) -> Counter {
        let made = |_: &Family| Series::Counter(Counter::default());
        self.series(family, Kind::Counter, labels, made, |series| match series {
            Series::Counter(counter) => Some(counter.clone()),
            _ => None,
        })
    }

    /// The gauge of these labels' values.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    pub fn gauge(&self, family: &'static Family, labels: &[&str]) -> Gauge {
        let made = |_: &Family| Series::Gauge(Gauge::default());
        self.series(family, Kind::Gauge, labels, made, |series| match series {
            Series::Gauge(gauge) => Some(gauge.clone()),
            _ => None,
        })
    }

    /// The histogram of these labels' values.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    pub fn histogram(&self, family: &'static Family, labels: &[&str]) -> Arc<Histogram> {
        self.histogram_with_shards(family, labels, 1)
    }

    /// As [`histogram`](Self::histogram), for many threads that record all the time; see [`Histogram::with_shards`].
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    pub fn histogram_with_shards(
        &self,
        family: &'static Family,
        labels: &[&str],
        shards: usize,
    ) -> Arc<Histogram> {
        let made = |family: &Family| Series::Histogram(Arc::new(Histogram::with_shards(family.unit, shards)));
        self.series(family, Kind::Histogram, labels, made, |series| match series {
            Series::Histogram(histogram) => Some(Arc::clone(histogram)),
            _ => None,
        })
    }

    fn series<T>(
        &self,
        family: &'static Family,
        kind: Kind,
        labels: &[&str],
        made: impl FnOnce(&Family) -> Series,
        handle: impl FnOnce(&Series) -> Option<T>,
    ) -> T {
        assert_eq!(family.kind, kind, "{} is of another kind", family.name);
        let mut state = self.state();
        let entry = state.entry(family);
        let labels = within(self.0.series_max, family, &entry.series, labels);
        let series = entry.series.entry(labels).or_insert_with(|| made(family));
        handle(series).expect("the series of a family are of its kind")
    }

    /// Asks `collector` whenever a snapshot is taken, for as long as someone else holds it.
    pub fn collect_from(&self, collector: &Arc<dyn Collect>) {
        let mut state = self.state();
        state.collectors.retain(|held| held.strong_count() > 0);
        state.collectors.push(Arc::downgrade(collector));
    }

    /// All metrics as they stand. The registry is locked while its series are read, which holds up nobody who counts by a handle.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let state = self.state();
        for entry in state.families.values() {
            let family = snapshot.family_mut(entry.family);
            let scale = entry.family.unit.scale();
            for (labels, series) in &entry.series {
                let value = match series {
                    Series::Counter(counter) => Value::Counter(counter.value() as f64 * scale),
                    Series::Gauge(gauge) => Value::Gauge(gauge.value() as f64 * scale),
                    Series::Histogram(histogram) => Value::Histogram(histogram.snapshot()),
                };
                family.add(labels.clone(), value);
            }
        }
        let collectors: Vec<_> = state.collectors.iter().filter_map(Weak::upgrade).collect();
        // A collector may ask for series itself.
        drop(state);
        let mut sheet = Sheet { series_max: self.0.series_max, snapshot: &mut snapshot };
        for collector in collectors {
            collector.collect(&mut sheet);
        }
        snapshot
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&mut self, family: &'static Family) -> &mut Entry {
        let new = || Entry { family, series: BTreeMap::new() };
        let known = self.families.entry(family.name).or_insert_with(new);
        assert_eq!(known.family, family, "two families have one name");
        known
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = self.state().families.len();
        f.debug_struct("Registry").field("families", &families).finish_non_exhaustive()
    }
}

impl Counter {
    /// Counts `more`: nanoseconds, bytes, millionths or things; see [`Unit`](super::Unit).
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts a duration, in a counter of seconds.
    #[inline]
    pub fn add_duration(&self, more: Duration) {
        self.add(nanos(more));
    }

    /// What was counted.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Sets it, in the integers of [`Unit`](super::Unit).
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `more`, which may be negative.
    #[inline]
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Sheet<'_> {
    /// Writes a counter, in the unit of its family. It is added to one of the same labels.
    ///
    /// # Panics
    /// As [`Registry::counter`].
    pub fn counter(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.write(family, labels, Value::Counter(value));
    }

    /// Writes a gauge, in the unit of its family. With one of the same labels it is [joined](super::Joined).
    ///
    /// # Panics
    /// As [`Registry::counter`].
    pub fn gauge(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.write(family, labels, Value::Gauge(value));
    }

    /// Writes what a histogram holds. It is merged with one of the same labels.
    ///
    /// # Panics
    /// As [`Registry::counter`].
    pub fn histogram(&mut self, family: &'static Family, labels: &[&str], histogram: &Histogram) {
        self.write(family, labels, Value::Histogram(histogram.snapshot()));
    }

    fn write(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        assert!(value.is_of(family.kind), "{} is of another kind", family.name);
        self.snapshot.family_mut(family).add_within(self.series_max, labels, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Joined;

    static ERRORS: Family = Family::counter("errors_total", "Errors.").labelled(&["error", "topic"], 1);
    static OLDEST: Family = Family::gauge("oldest", "The oldest.").joined(Joined::Least);

    #[test]
    fn labels_without_room_become_other_but_bounded_ones_are_kept() {
        let registry = Registry::with_series_max(3);
        for (error, topic) in [("A", "t1"), ("A", "t2"), ("B", "t1"), ("B", "t3"), ("A", "t4"), ("B", "t5")] {
            registry.counter(&ERRORS, &[error, topic]).add(1);
        }
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.value(&ERRORS, &["A", "t2"]), Some(1.0));
        assert_eq!(snapshot.value(&ERRORS, &["A", OTHER]), Some(1.0));
        assert_eq!(snapshot.value(&ERRORS, &["B", OTHER]), Some(2.0));
        assert_eq!(snapshot.value(&ERRORS, &["B", "t3"]), None);
    }

    #[test]
    fn values_that_should_be_few_and_are_not_have_a_limit_too() {
        let registry = Registry::with_series_max(3);
        for error in 0..100 {
            registry.counter(&ERRORS, &[&error.to_string(), "t"]).add(1);
        }
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.family("errors_total").unwrap().samples().len(), 7);
        assert_eq!(snapshot.value(&ERRORS, &[OTHER, OTHER]), Some(94.0));
    }

    #[test]
    fn what_collectors_write_has_the_same_limit_and_is_joined() {
        struct Both(f64);
        impl Collect for Both {
            fn collect(&self, sheet: &mut Sheet<'_>) {
                sheet.gauge(&OLDEST, &[], self.0);
                for topic in 0..5 {
                    sheet.counter(&ERRORS, &["A", &topic.to_string()], self.0);
                }
            }
        }
        let registry = Registry::with_series_max(3);
        let collectors: [Arc<dyn Collect>; 2] = [Arc::new(Both(7.0)), Arc::new(Both(4.0))];
        collectors.iter().for_each(|collector| registry.collect_from(collector));
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.value(&OLDEST, &[]), Some(4.0));
        assert_eq!(snapshot.value(&ERRORS, &["A", "0"]), Some(11.0));
        assert_eq!(snapshot.value(&ERRORS, &["A", OTHER]), Some(22.0));
    }

    #[test]
    fn since_is_what_was_counted_between() {
        let registry = Registry::new();
        let counter = registry.counter(&ERRORS, &["A", "t"]);
        counter.add(5);
        let before = registry.snapshot();
        counter.add(2);
        assert_eq!(registry.snapshot().since(&before).value(&ERRORS, &["A", "t"]), Some(2.0));
    }

    #[test]
    #[should_panic(expected = "two families have one name")]
    fn a_name_has_one_family() {
        static SAME: Family = Family::gauge("errors_total", "Not the same.");
        let registry = Registry::new();
        registry.counter(&ERRORS, &["A", "t"]);
        registry.gauge(&SAME, &[]);
    }
}
