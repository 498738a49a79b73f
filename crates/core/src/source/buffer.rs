//! What was fetched and not taken yet, of one partition and of all, and whether more is fetched before it is.

use std::time::Duration;

use super::Slot;
use crate::Instant;

/// Fetched data that the application has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Bytes of record batches, as they came.
    pub bytes: usize,
    /// Records, as the headers of their batches count them.
    pub records: usize,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.records = self.records.saturating_add(other.records);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.records = self.records.saturating_sub(other.records);
    }
}

/// When fetching stops and when it goes on, with hysteresis, so that a slow reader is sent a few large fetches and not
/// many small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Nothing more is fetched once as many bytes, or as many records, are buffered.
    pub high: Amount,
    /// Fetching goes on once no more bytes and no more records than these are buffered.
    pub low: Amount,
}

impl Watermarks {
    /// No limit.
    pub const NONE: Self = Self::new(usize::MAX, usize::MAX, 100);

    /// These limits, and fetching that goes on once at most `resume_percent` of each of them are left.
    pub const fn new(bytes: usize, records: usize, resume_percent: usize) -> Self {
        Self {
            high: Amount { bytes, records },
            low: Amount { bytes: percent(bytes, resume_percent), records: percent(records, resume_percent) },
        }
    }

    fn is_reached(&self, amount: Amount) -> bool {
        amount.bytes >= self.high.bytes || amount.records >= self.high.records
    }

    fn is_left(&self, amount: Amount) -> bool {
        amount.bytes <= self.low.bytes && amount.records <= self.low.records
    }
}

const fn percent(of: usize, percent: usize) -> usize {
    (of as u128 * percent as u128 / 100) as usize
}

/// What is buffered of one partition.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    amount: Amount,
    is_full: bool,
    /// Memory was short, and the partition counts as full until the application has taken some of it.
    is_held_back: bool,
}

impl Buffer {
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    pub(super) fn bytes(&self) -> usize {
        self.amount.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.amount.bytes == 0
    }

    /// Whether batches are to be taken before more are fetched.
    pub(super) fn is_full(&self) -> bool {
        self.is_full || self.is_held_back
    }

    /// Whether that is because of its watermarks.
    pub(super) fn is_above_watermark(&self) -> bool {
        self.is_full
    }

    /// A fetch brought this.
    pub(super) fn fill(&mut self, amount: Amount, watermarks: &Watermarks) {
        self.amount.add(amount);
        self.is_full = watermarks.is_reached(self.amount);
        self.is_held_back = false;
    }

    /// The application took this. Answers whether the buffer has become one to be filled.
    pub(super) fn take(&mut self, amount: Amount, watermarks: &Watermarks) -> bool {
        self.amount.subtract(amount);
        let is_drained = self.is_full() && watermarks.is_left(self.amount);
        self.is_full &= !is_drained;
        self.is_held_back &= !is_drained;
        is_drained
    }

    /// Memory is short: no more is fetched before the application has taken something.
    pub(super) fn hold_back(&mut self) {
        self.is_held_back = true;
    }

    /// A reader waits for the first batch, or another reader comes: an empty buffer is not held back any more. Answers whether
    /// it was.
    pub(super) fn release(&mut self) -> bool {
        let was_held = self.is_full() && self.is_empty();
        self.is_full &= !was_held;
        self.is_held_back &= !was_held;
        was_held
    }

    /// The batches are of no use any more: the partition was sought or given up.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How often fetching stopped because a high watermark was reached, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stops {
    /// How many are stopped now.
    pub now: usize,
    /// How often one has stopped.
    pub count: u64,
    /// How long those have stopped, in all, that go on again.
    ended: Duration,
    /// The sum of the times, since the origin, at which those began that are stopped now.
    since: Duration,
}

impl Stops {
    fn begin(&mut self, now: Instant) {
        self.now += 1;
        self.count += 1;
        self.since += now.since_origin();
    }

    fn end(&mut self, since: Instant, now: Instant) {
        self.now -= 1;
        self.since -= since.since_origin();
        self.ended += now - since;
    }

    /// How long fetching has stopped, in all: two partitions that have stopped for a second count as two seconds.
    pub fn time(&self, now: Instant) -> Duration {
        let now = now.since_origin().saturating_mul(u32::try_from(self.now).unwrap_or(u32::MAX));
        self.ended + now.saturating_sub(self.since)
    }
}

/// What is buffered, and how often and for how long fetching has stopped for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// What is buffered of all partitions that are not paused.
    pub buffered: Amount,
    /// Of single partitions.
    pub partitions: Stops,
    /// Of all partitions together.
    pub all: Stops,
}

/// [`Flow`] as it comes about. Whether all partitions together have reached their watermarks is looked at once per turn.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) flow: Flow,
    /// Since when fetching stops for all partitions, if it does.
    full_since: Option<Instant>,
    /// Partitions that may have become full, or may be full no more, since the last turn.
    pub(super) changed: Vec<Slot>,
}

impl Total {
    /// What is buffered of a partition has changed.
    pub(super) fn replace(&mut self, old: Amount, new: Amount) {
        self.flow.buffered.subtract(old);
        self.flow.buffered.add(new);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    pub(super) fn look(&mut self, watermarks: &Watermarks, now: Instant) {
        match self.full_since {
            None if watermarks.is_reached(self.flow.buffered) => {
                self.full_since = Some(now);
                self.flow.all.begin(now);
            }
            Some(since) if watermarks.is_left(self.flow.buffered) => {
                self.full_since = None;
                self.flow.all.end(since, now);
            }
            None | Some(_) => {}
        }
    }

    /// A partition's `since`, the time since which it is full, follows `is_full`.
    pub(super) fn note(&mut self, since: &mut Option<Instant>, is_full: bool, now: Instant) {
        match *since {
            None if is_full => {
                *since = Some(now);
                self.flow.partitions.begin(now);
            }
            Some(began) if !is_full => {
                *since = None;
                self.flow.partitions.end(began, now);
            }
            None | Some(_) => {}
        }
    }
}
