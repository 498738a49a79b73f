//! A histogram whose buckets are 32 to a doubling, and what it held at one time.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Unit;

/// Counts how often each value was met. A bucket is at most 1/32 wide, so that what is read from it is within 1.6 % of what was
/// recorded; values below 64 are exact. Any number of threads may record at the same time.
///
/// Recording is one atomic addition. Neither a count nor a sum is kept beside the buckets: both follow from them. Memory is about
/// 1 KiB, and 256 bytes for each doubling that was met, allocated when it is met first.
///
/// ```
/// use milena::metrics::{Histogram, Unit};
///
/// let histogram = Histogram::new(Unit::Bytes);
/// histogram.record(100);
/// histogram.record_n(5000, 99); // a batch stands for its records
/// let seen = histogram.snapshot();
/// assert_eq!(seen.count(), 100);
/// assert!((seen.quantile(0.5).unwrap() / 5000.0 - 1.0).abs() < 0.02);
/// ```
pub struct Histogram {
    unit: Unit,
    shards: Box<[Shard]>,
}

/// What a [`Histogram`] held at one time. Its values are in the unit of the histogram: seconds, not nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot {
    unit: Unit,
    count: u64,
    /// Bucket and count, by ascending bucket, without empty ones.
    buckets: Vec<(u16, u64)>,
}

/// Threads that share no shard share no cache line.
#[repr(align(128))]
struct Shard {
    octaves: [OnceLock<Box<Octave>>; OCTAVES],
}

type Octave = [AtomicU64; PER_OCTAVE];

const PRECISION: u32 = 5;
const PER_OCTAVE: usize = 1 << PRECISION;
const OCTAVES: usize = (u64::BITS - PRECISION + 1) as usize;
/// More shards than this do not pay: each costs memory and time to read.
const SHARDS_MAX: usize = 16;

impl Histogram {
    /// An empty histogram.
    pub fn new(unit: Unit) -> Self {
        Self::with_shards(unit, 1)
    }

    /// An empty histogram for values that many threads record all the time, for example one for each record. It has the memory
    /// of `shards` histograms (at most 16), and each thread records in one of them.
    pub fn with_shards(unit: Unit, shards: usize) -> Self {
        let shards = (0..shards.clamp(1, SHARDS_MAX)).map(|_| Shard::new()).collect();
        Self { unit, shards }
    }

    /// Records one value: nanoseconds, bytes, millionths or a count; see [`Unit`].
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records one duration in a histogram of seconds.
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record_n(nanos(duration), 1);
    }

    /// Records a value `count` times, at the cost of once.
    #[inline]
    pub fn record_n(&self, value: u64, count: u64) {
        let bucket = bucket(value);
        let octave = self.shard().octaves[bucket >> PRECISION].get_or_init(new_octave);
        octave[bucket % PER_OCTAVE].fetch_add(count, Ordering::Relaxed);
    }

    #[inline]
    fn shard(&self) -> &Shard {
        match &*self.shards {
            [only] => only,
            shards => &shards[THREAD.with(Cell::get) % shards.len()],
        }
    }

    /// What it holds now. Values that are recorded meanwhile may be in it.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::empty(self.unit);
        for octave in 0..OCTAVES {
            let read = self.shards.iter().filter_map(|shard| shard.octaves[octave].get());
            let mut counts = [0_u64; PER_OCTAVE];
            for shard in read {
                for (count, more) in counts.iter_mut().zip(shard.iter()) {
                    *count += more.load(Ordering::Relaxed);
                }
            }
            let met = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            snapshot.buckets.extend(met.map(|(index, &count)| ((octave * PER_OCTAVE + index) as u16, count)));
        }
        snapshot.count = snapshot.buckets.iter().map(|(_, count)| count).sum();
        snapshot
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Histogram")
            .field("count", &snapshot.count())
            .field("p50", &snapshot.quantile(0.5))
            .field("p99", &snapshot.quantile(0.99))
            .finish_non_exhaustive()
    }
}

impl HistogramSnapshot {
    /// A snapshot without values, to merge others into.
    pub fn empty(unit: Unit) -> Self {
        Self { unit, count: 0, buckets: Vec::new() }
    }

    /// What its values are in.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values, within 1.6 %.
    pub fn sum(&self) -> f64 {
        self.buckets.iter().map(|&(bucket, count)| self.in_unit(middle(bucket)) * count as f64).sum()
    }

    /// The value that a share of `q` of all values does not exceed, within 1.6 %; none if there are no values. `q` is between 0
    /// (the lowest value) and 1 (the highest one).
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        // Rounding of a large count may ask for a rank above it.
        found.or(self.buckets.last()).map(|&(bucket, _)| self.in_unit(middle(bucket)))
    }

    /// The highest value, within 1.6 %.
    pub fn max(&self) -> Option<f64> {
        self.quantile(1.0)
    }

    /// How many values are at most `bound`. The values of a bucket count as its middle, so a bound within 1.6 % of a value may
    /// count it or not.
    pub fn count_up_to(&self, bound: f64) -> u64 {
        let upto = self.buckets.iter().take_while(|(bucket, _)| self.in_unit(middle(*bucket)) <= bound);
        upto.map(|(_, count)| count).sum()
    }

    /// The buckets that have values, lowest first: the lowest value that falls into it, the lowest one that does not any more,
    /// and the count.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        self.buckets.iter().map(|&(bucket, count)| {
            let (low, width) = bounds(bucket);
            (self.in_unit(low as f64), self.in_unit(low as f64 + width as f64), count)
        })
    }

    /// Adds what another snapshot has.
    ///
    /// # Panics
    /// When the units differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.unit, other.unit, "histograms of different units are not one");
        self.combine(other, |mine, more| mine + more);
    }

    /// What was recorded after `earlier`, an earlier snapshot of the same histogram.
    ///
    /// # Panics
    /// When the units differ.
    pub fn since(&self, earlier: &Self) -> Self {
        assert_eq!(self.unit, earlier.unit, "histograms of different units are not one");
        let mut rest = self.clone();
        rest.combine(earlier, u64::saturating_sub);
        rest
    }

    fn combine(&mut self, other: &Self, combined: fn(u64, u64) -> u64) {
        let mut all = Vec::with_capacity(self.buckets.len().max(other.buckets.len()));
        let (mut mine, mut others) = (self.buckets.iter().peekable(), other.buckets.iter().peekable());
        while let Some(bucket) = mine.peek().into_iter().chain(others.peek()).map(|(bucket, _)| *bucket).min()
        {
            let one = mine.next_if(|(of, _)| *of == bucket).map_or(0, |(_, count)| *count);
            let two = others.next_if(|(of, _)| *of == bucket).map_or(0, |(_, count)| *count);
            all.push((bucket, combined(one, two)));
        }
        all.retain(|(_, count)| *count > 0);
        self.count = all.iter().map(|(_, count)| count).sum();
        self.buckets = all;
    }

    fn in_unit(&self, value: f64) -> f64 {
        value * self.unit.scale()
    }
}

impl Shard {
    fn new() -> Self {
        Self { octaves: [const { OnceLock::new() }; OCTAVES] }
    }
}

#[cold]
fn new_octave() -> Box<Octave> {
    Box::new([const { AtomicU64::new(0) }; PER_OCTAVE])
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// A number of this thread's own.
    static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The number of the bucket: how often the value is halved until six bits are left, and these bits.
#[inline]
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    ((shift as usize) << PRECISION) + (value >> shift) as usize
}

/// The lowest value of a bucket, and how many values it has.
fn bounds(bucket: u16) -> (u64, u64) {
    let bucket = u64::from(bucket);
    let shift = (bucket >> PRECISION).saturating_sub(1);
    ((bucket - (shift << PRECISION)) << shift, 1 << shift)
}

fn middle(bucket: u16) -> f64 {
    let (low, width) = bounds(bucket);
    low as f64 + (width - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_within_2_percent_of_what_was_recorded() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3, u64::MAX >> bit]) {
            let histogram = Histogram::new(Unit::Count);
            histogram.record(value);
            let said = histogram.snapshot().quantile(0.99).unwrap();
            assert!((said - value as f64).abs() <= value as f64 / 64.0, "{value} reads as {said}");
            let (low, width) = bounds(bucket(value) as u16);
            assert!(low <= value && value - low < width, "{value} is not in its bucket");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let histogram = Histogram::new(Unit::Seconds);
        (1..=1000).for_each(|micros| histogram.record_duration(Duration::from_micros(micros)));
        let seen = histogram.snapshot();
        for (q, expected) in [(0.0, 1e-6), (0.5, 500e-6), (0.99, 990e-6), (1.0, 1000e-6)] {
            let said = seen.quantile(q).unwrap();
            assert!((said / expected - 1.0).abs() < 0.02, "{q}: {said}");
        }
        assert!((seen.sum() / 0.5005 - 1.0).abs() < 0.02, "{}", seen.sum());
        let half = seen.count_up_to(500e-6);
        assert!((490..=510).contains(&half), "{half}");
    }

    #[test]
    fn merged_is_as_if_recorded_in_one() {
        let (one, two, both) = (new(), new(), new());
        for value in 0..5000 {
            let of = if value % 3 == 0 { &one } else { &two };
            of.record_n(value, 7);
            both.record_n(value, 7);
        }
        let mut merged = one.snapshot();
        merged.merge(&two.snapshot());
        assert_eq!(merged, both.snapshot());
        assert_eq!(merged.since(&one.snapshot()), two.snapshot());
    }

    #[test]
    fn nothing_recorded_has_no_quantiles() {
        assert_eq!(new().snapshot().quantile(0.5), None);
        let once = new();
        once.record_n(5, 0);
        assert_eq!(once.snapshot(), HistogramSnapshot::empty(Unit::Count));
    }

    #[test]
    fn shards_are_read_together() {
        let histogram = Histogram::with_shards(Unit::Count, 4);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|value| histogram.record(value)));
            }
        });
        assert_eq!(histogram.snapshot().count(), 8000);
    }

    fn new() -> Histogram {
        Histogram::new(Unit::Count)
    }
}
