//! What a metric is called, what it counts and how it is labelled.

/// A family of metrics: one name, and one series for each set of label values.
///
/// ```
/// use milena::metrics::FAMILIES;
///
/// let phases = FAMILIES.iter().find(|family| family.name == "milena_producer_phase_seconds").unwrap();
/// assert_eq!(phases.labels, ["phase"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The name as in Prometheus: the prefix `milena_`, the base unit at the end, and `_total` for a counter.
    pub name: &'static str,
    /// One sentence that says what it counts.
    pub help: &'static str,
    /// Whether it counts up, goes up and down, or counts how often each value was met.
    pub kind: Kind,
    /// What its values are in.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The number of leading labels whose values are few by nature, such as phases and the names of errors. They are kept when a
    /// family has too many series; the values of the labels after them become [`OTHER`](super::OTHER).
    pub bounded: usize,
    /// How gauges of the same labels become one, for example those of two consumers.
    pub joined: Joined,
    /// The names that Java's client has for the same thing, divided by commas. Empty if it has none.
    pub java: &'static str,
}

/// What a family's series do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts how often each value was met.
    Histogram,
}

/// What the values of a family are in.
///
/// Hot code counts integers, which are finer than the unit: nanoseconds and millionths. Snapshots have the unit itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds; counted in nanoseconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share or a quotient; counted in millionths.
    Ratio,
}

/// How gauges of the same labels become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Joined {
    /// They are added.
    Sum,
    /// The smallest one, for example of the times at which certificates expire.
    Least,
    /// The largest one.
    Most,
}

impl Family {
    /// A counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// A gauge. Gauges of the same labels are added until [`joined`](Self::joined) says otherwise.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    /// A histogram.
    ///
    /// ```
    /// use milena::metrics::{Family, Registry, Unit};
    ///
    /// static WAITED: Family = Family::histogram("shop_payment_seconds", "How long a payment took.")
    ///     .in_unit(Unit::Seconds)
    ///     .labelled(&["bank"], 0);
    /// let registry = Registry::new();
    /// registry.histogram(&WAITED, &["postbank"]).record_duration(std::time::Duration::from_millis(20));
    /// let snapshot = registry.snapshot();
    /// let p99 = snapshot.histogram(&WAITED, &["postbank"]).unwrap().quantile(0.99).unwrap();
    /// assert!((p99 / 0.020 - 1.0).abs() < 0.02);
    /// ```
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Histogram)
    }

    const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        let (unit, labels, joined) = (Unit::Count, &[], Joined::Sum);
        Self { name, help, kind, unit, labels, bounded: 0, joined, java: "" }
    }

    /// The same family with another unit. Default: a count.
    pub const fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The same family with labels, of which the first `bounded` have few values by nature. Default: none.
    pub const fn labelled(self, labels: &'static [&'static str], bounded: usize) -> Self {
        assert!(bounded <= labels.len(), "more labels are bounded than there are");
        Self { labels, bounded, ..self }
    }

    /// The same family with another way to make one gauge of several. Default: they are added.
    pub const fn joined(self, joined: Joined) -> Self {
        Self { joined, ..self }
    }

    /// The same family with the names that Java's client has for it. Default: none.
    pub const fn like_java(self, java: &'static str) -> Self {
        Self { java, ..self }
    }
}

impl Kind {
    /// As the line `# TYPE` of Prometheus' text has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// The number of units in one of the integers that are counted.
    pub fn scale(self) -> f64 {
        match self {
            Self::Count | Self::Bytes => 1.0,
            Self::Seconds => 1e-9,
            Self::Ratio => 1e-6,
        }
    }

    /// As the line `# UNIT` of OpenMetrics has it; empty for a count.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}

impl Joined {
    pub(super) fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Sum => one + other,
            Self::Least => one.min(other),
            Self::Most => one.max(other),
        }
    }
}
