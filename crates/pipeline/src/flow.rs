//! How much of a partition the workers have, and when they are given no more of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena::PartitionHandle;

/// Pauses a partition while workers have enough of it, so that one whose records take long takes no more memory, and does not hold
/// up others. The consumer keeps what it has fetched of a paused partition, and delivers it when it is resumed.
#[derive(Debug)]
pub(crate) struct Flow {
    partition: PartitionHandle,
    /// From this many bytes on it is paused.
    high: usize,
    /// Below this many it is resumed.
    low: usize,
    /// It is slow if workers take this long for what they are given.
    long: Duration,
    /// Both the bytes and whether it is paused change under one lock: else a worker could resume it before it was paused, and nobody
    /// would resume it later.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The bytes of batches of which a record is unfinished.
    bytes: usize,
    is_paused: bool,
    pace: Pace,
}

/// How long workers take for what they are given, by its bytes: they finish batches in any order.
#[derive(Debug, Default)]
struct Pace {
    taken: u64,
    finished: u64,
    /// What had been taken at some time, and that time. When as much is finished, the next is looked at.
    mark: (u64, Duration),
    /// How long it took before.
    took: Duration,
}

/// It is long enough for a machine that has much else to do: a copy that was not needed costs more than a response that is kept for some
/// seconds.
const LONG: Duration = Duration::from_secs(5);

impl Flow {
    /// `is_waiting`: its records are not processed before their time, so that it is slow from the beginning.
    pub(crate) fn new(partition: PartitionHandle, high: usize, is_waiting: bool) -> Self {
        let long = if is_waiting { Duration::ZERO } else { LONG };
        // Below one is below nothing: it would never be resumed.
        Self { partition, high, low: (high / 2).max(1), long, inner: Mutex::default() }
    }

    /// A worker is given a batch. Answers with the bytes that are out, this batch included.
    pub(crate) fn take(&self, bytes: usize) -> usize {
        let mut inner = self.inner();
        inner.bytes += bytes;
        inner.pace.taken += bytes as u64;
        if inner.bytes >= self.high {
            // Also if it is paused: the program may have resumed it, through a handle of its own.
            inner.is_paused = true;
            self.partition.pause();
        }
        inner.bytes
    }

    /// All records of a batch are finished, or it was dropped.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut inner = self.inner();
        inner.bytes = inner.bytes.saturating_sub(bytes);
        inner.pace.finished += bytes as u64;
        if inner.bytes < self.low && inner.is_paused {
            inner.is_paused = false;
            self.partition.resume();
        }
    }

    /// Whether the next batch will be kept for long: workers have a good deal of the partition, and take long for it. One that is
    /// only read faster than it is processed is not slow: copies of all of its batches would free nothing, because what came in the
    /// same responses is kept for about as long.
    pub(crate) fn is_slow(&self, now: Duration) -> bool {
        let mut inner = self.inner();
        let takes = inner.pace.look(now);
        inner.bytes >= self.low && takes >= self.long
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// How long what is given now takes, as far as it is known.
    fn look(&mut self, now: Duration) -> Duration {
        let (taken, since) = self.mark;
        if self.finished >= taken {
            self.took = now.saturating_sub(since);
            self.mark = (self.taken, now);
            return self.took;
        }
        self.took.max(now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn the_pace_is_how_long_the_last_took_or_longer_if_it_is_not_finished() {
        let mut pace = Pace::default();
        assert_eq!(pace.look(0.s()), 0.s(), "nothing was taken");
        pace.taken += 10;
        assert_eq!(pace.look(1.s()), 1.s());
        pace.taken += 10;
        pace.finished += 9;
        assert_eq!(pace.look(3.s()), 2.s(), "one of the first ten is left");
        pace.finished += 1;
        assert_eq!(pace.look(4.s()), 3.s());
        assert_eq!(pace.look(5.s()), 3.s(), "the second ten are not finished");
        assert_eq!(pace.look(9.s()), 5.s());
        pace.finished += 10;
        assert_eq!(pace.look(10.s()), 6.s());
        pace.taken += 1;
        pace.finished += 1;
        assert_eq!(pace.look(10.s()), 0.s(), "all is finished, and at once");
    }
}
