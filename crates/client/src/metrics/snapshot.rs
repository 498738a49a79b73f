//! All metrics as they stood at one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Family, HistogramSnapshot, Kind, OTHER};

/// All metrics of a [`Registry`](super::Registry) as they stood at one time, ordered by name and labels.
///
/// ```
/// use milena::metrics::{Family, Registry};
///
/// static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
/// let (north, south) = (Registry::new(), Registry::new());
/// north.counter(&SALES, &["Kiel"]).add(2);
/// south.counter(&SALES, &["Ulm"]).add(3);
///
/// let mut both = north.snapshot();
/// both.merge(&south.snapshot());
/// assert_eq!(both.value(&SALES, &["Ulm"]), Some(3.0));
/// let families: Vec<_> = both.families().map(|family| (family.family().name, family.samples().len())).collect();
/// assert_eq!(families, [("shop_sales_total", 2)]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    families: BTreeMap<&'static str, FamilySnapshot>,
}

/// A family and its series.
#[derive(Debug, Clone)]
pub struct FamilySnapshot {
    family: &'static Family,
    samples: BTreeMap<Labels, Value>,
}

/// One series of a family.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The values of the labels, in the order of [`Family::labels`].
    pub labels: &'a [Arc<str>],
    /// What it is.
    pub value: &'a Value,
}

/// What a series is, in the unit of its family: seconds, not nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// What was counted since the registry was made.
    Counter(f64),
    /// How it stands.
    Gauge(f64),
    /// What was recorded since the registry was made.
    Histogram(HistogramSnapshot),
}

pub(super) type Labels = Box<[Arc<str>]>;

impl Snapshot {
    /// The families, ordered by name. A family that is known and has no series yet is among them.
    pub fn families(&self) -> impl Iterator<Item = &FamilySnapshot> {
        self.families.values()
    }

    /// The family of this name.
    pub fn family(&self, name: &str) -> Option<&FamilySnapshot> {
        self.families.get(name)
    }

    /// The value of a counter or gauge.
    pub fn value(&self, family: &Family, labels: &[&str]) -> Option<f64> {
        match self.family(family.name)?.get(labels)? {
            Value::Counter(value) | Value::Gauge(value) => Some(*value),
            Value::Histogram(_) => None,
        }
    }

    /// What a histogram holds.
    pub fn histogram(&self, family: &Family, labels: &[&str]) -> Option<&HistogramSnapshot> {
        match self.family(family.name)?.get(labels)? {
            Value::Histogram(histogram) => Some(histogram),
            Value::Counter(_) | Value::Gauge(_) => None,
        }
    }

    /// Adds what another snapshot has: counters and histograms are added, gauges are [joined](super::Joined).
    ///
    /// # Panics
    /// When both have a family of the same name that is not the same family.
    pub fn merge(&mut self, other: &Self) {
        for theirs in other.families.values() {
            let mine = self.family_mut(theirs.family);
            for (labels, value) in &theirs.samples {
                mine.add(labels.clone(), value.clone());
            }
        }
    }

    /// What was counted and recorded after `earlier`, an earlier snapshot of the same registry; gauges are as they stand now. A
    /// rate is this divided by the time between the two.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (name, family) in &mut rest.families {
            let before = earlier.families.get(name);
            for (labels, value) in &mut family.samples {
                let before = before.and_then(|before| before.samples.get(labels));
                match (value, before) {
                    (Value::Counter(now), Some(Value::Counter(before))) => *now = (*now - before).max(0.0),
                    (Value::Histogram(now), Some(Value::Histogram(before))) => *now = now.since(before),
                    _ => {}
                }
            }
        }
        rest
    }

    pub(super) fn family_mut(&mut self, family: &'static Family) -> &mut FamilySnapshot {
        let new = || FamilySnapshot { family, samples: BTreeMap::new() };
        let known = self.families.entry(family.name).or_insert_with(new);
        assert_eq!(known.family, family, "two families have one name");
        known
    }
}

impl FamilySnapshot {
    /// What it is called and counts.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// Its series, ordered by the values of their labels.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        self.samples.iter().map(|(labels, value)| Sample { labels, value })
    }

    /// The series of these labels' values.
    pub fn get(&self, labels: &[&str]) -> Option<&Value> {
        // The map's order is that of the strings, but it can only be searched by its own keys.
        let is_it = |held: &Labels| held.iter().map(|value| &**value).eq(labels.iter().copied());
        self.samples.iter().find(|(held, _)| is_it(held)).map(|(_, value)| value)
    }

    pub(super) fn add(&mut self, labels: Labels, value: Value) {
        match (self.samples.get_mut(&labels), value) {
            (None, value) => {
                self.samples.insert(labels, value);
            }
            (Some(Value::Counter(held)), Value::Counter(more)) => *held += more,
            (Some(Value::Gauge(held)), Value::Gauge(more)) => *held = self.family.joined.of(*held, more),
            (Some(Value::Histogram(held)), Value::Histogram(more)) => held.merge(&more),
            _ => unreachable!("the series of a family are of its kind"),
        }
    }

    /// As [`add`](Self::add), with at most `limit` series.
    pub(super) fn add_within(&mut self, limit: usize, labels: &[&str], value: Value) {
        let labels = within(limit, self.family, &self.samples, labels);
        self.add(labels, value);
    }
}

/// The labels under which a series is kept when a family has at most `limit` of them: those of a series that is known or finds
/// room, or else [`OTHER`] in place of every value that is not bounded. If the values that should be bounded are not, these are
/// given up, too.
pub(super) fn within<V>(
    limit: usize,
    family: &Family,
    known: &BTreeMap<Labels, V>,
    labels: &[&str],
) -> Labels {
    assert_eq!(labels.len(), family.labels.len(), "{} has the labels {:?}", family.name, family.labels);
    let own: Labels = labels.iter().map(|value| Arc::from(*value)).collect();
    if known.len() < limit || known.contains_key(&own) {
        return own;
    }
    let kept = if known.len() < limit * 2 { family.bounded } else { 0 };
    let (bounded, open) = own.split_at(kept);
    let other = open.iter().map(|_| Arc::from(OTHER));
    bounded.iter().cloned().chain(other).collect()
}

impl Value {
    pub(super) fn is_of(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Counter(_), Kind::Counter)
                | (Self::Gauge(_), Kind::Gauge)
                | (Self::Histogram(_), Kind::Histogram)
        )
    }
}
