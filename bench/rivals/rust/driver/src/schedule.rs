//! When records are meant to be sent: at a constant rate, whatever the client does. Latency counts from here, so a
//! client that holds up its caller is charged for all who had to wait behind.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Intended times from `start` on. Above 1000 records a second they are intended in bursts, one every millisecond:
/// no timer is finer than that in every language here.
pub(crate) struct Schedule {
    start: Instant,
    start_of_day: SystemTime,
    rate: u64,
    next: u64,
    count: u64,
}

impl Schedule {
    pub(crate) fn from_now(rate: u64, duration: Duration) -> Self {
        let count = (rate as f64 * duration.as_secs_f64()) as u64;
        Self { start: Instant::now(), start_of_day: SystemTime::now(), rate, next: 0, count }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Sleeps until the next record is due, and says which it is and when it was meant to be sent. Not for a thread
    /// of the runtime: its timer is too coarse, so this blocks.
    pub(crate) fn wait(&mut self) -> Option<Intended> {
        if self.next == self.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let offset = self.offset(index);
        let instant = self.start + offset;
        let early = instant.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        Some(Intended { index, instant, time: self.start_of_day + offset })
    }

    fn offset(&self, index: u64) -> Duration {
        if self.rate > 1000 {
            Duration::from_millis(index * 1000 / self.rate)
        } else {
            Duration::from_nanos(index * 1_000_000_000 / self.rate)
        }
    }
}

/// When one record is meant to be sent.
#[derive(Clone, Copy)]
pub(crate) struct Intended {
    pub(crate) index: u64,
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}
