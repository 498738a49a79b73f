//! How many records may be in work, found from how long they take: more are let in until they begin to wait for each other.
//!
//! It has no clock: times are durations since the pipeline began.

use std::time::Duration;

/// Finds the number of records in work, as TCP Vegas finds a window.
///
/// While nothing waits, an attempt takes the same time however many are in work. If the average time grows from `base` to `now`, of
/// `n` records in work about `n * (1 - base / now)` wait for others. That number is kept small, and not zero: with none waiting, more
/// could be done.
///
/// The base changes with the work. So from time to time the number is halved for one window, in which the base is measured anew.
#[derive(Debug)]
pub(crate) struct Limit {
    max: usize,
    /// It is never lower, so that a record which hangs leaves a place.
    min: usize,
    limit: f64,
    base: Option<f64>,
    window: Window,
    windows: u32,
    /// The limit to go back to after the window in which the base is measured.
    measuring: Option<f64>,
}

/// What was seen in the last moments.
#[derive(Debug, Default)]
struct Window {
    began: Duration,
    count: u64,
    seconds: f64,
    running_max: usize,
    has_expired: bool,
}

/// What a worker has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Attempts that have ended, and the time that they took together.
    pub(crate) count: u64,
    pub(crate) time: Duration,
    /// The most records in work, over all workers.
    pub(crate) running: usize,
    /// Whether an attempt has taken longer than its time limit.
    pub(crate) has_expired: bool,
}

const WINDOW: Duration = Duration::from_millis(100);
/// A window has at least this many attempts, or ten times its length.
const COUNT: u64 = 20;
/// The base is measured again after this many windows.
const MEASURE: u32 = 100;
const FIRST: usize = 8;

impl Limit {
    /// At most `max` records, which is at least 1. It begins with few.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            min: max.min(2),
            limit: FIRST.min(max) as f64,
            base: None,
            window: Window::default(),
            windows: 0,
            measuring: None,
        }
    }

    /// The number of records that may be in work.
    pub(crate) fn get(&self) -> usize {
        (self.limit as usize).clamp(self.min, self.max)
    }

    /// The number of records that may be in work while this many of them are in work for longer than they are expected to be. Those
    /// say nothing about how many others the work has room for, and would leave them no place.
    pub(crate) fn beside(&self, stalled: usize) -> usize {
        self.get().saturating_add(stalled).min(self.max)
    }

    /// Takes in what a worker has seen. Answers with the limit, if it is another one now.
    pub(crate) fn handle(&mut self, sample: Sample, now: Duration) -> Option<usize> {
        let before = self.get();
        let window = &mut self.window;
        window.count += sample.count;
        window.seconds += sample.time.as_secs_f64();
        window.running_max = window.running_max.max(sample.running);
        window.has_expired |= sample.has_expired;
        let age = now.saturating_sub(window.began);
        if age < WINDOW || (window.count < COUNT && age < 10 * WINDOW) || window.count == 0 {
            return None;
        }
        let window = std::mem::replace(window, Window { began: now, ..Window::default() });
        self.close(&window);
        Some(self.get()).filter(|limit| *limit != before)
    }

    fn close(&mut self, window: &Window) {
        let average = (window.seconds / window.count as f64).max(1e-6);
        if let Some(limit) = self.measuring.take() {
            self.base = Some(average);
            self.limit = limit;
            return;
        }
        if window.has_expired {
            // Whatever the others took, these took too long.
            self.limit = (self.limit * 0.9).max(self.min as f64);
            return;
        }
        let base = self.base.map_or(average, |base| base.min(average));
        self.base = Some(base);
        let few = self.limit.log10().max(0.0) + 1.0;
        let waiting = self.limit * (1.0 - base / average);
        // A limit that was not reached says nothing about more.
        let is_reached = window.running_max >= self.get();
        if waiting <= few && is_reached {
            // Doubles while it is small, then grows by tenths.
            self.limit += (self.limit / 10.0).max(few * 2.0);
        } else if waiting <= 3.0 * few && is_reached {
            self.limit += few;
        } else if waiting > 6.0 * few {
            self.limit -= (waiting - 3.0 * few).min(self.limit / 2.0);
        }
        self.limit = self.limit.clamp(self.min as f64, self.max as f64);
        self.windows += 1;
        if self.windows >= MEASURE && self.limit >= 2.0 {
            self.windows = 0;
            self.measuring = Some(self.limit);
            self.limit /= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that does `capacity` records at a time, each in `base`, and lets others wait.
    fn run(
        limit: &mut Limit,
        from: Duration,
        windows: u32,
        capacity: f64,
        base: Duration,
    ) -> (Vec<usize>, Duration) {
        let mut now = from;
        let mut limits = Vec::new();
        for _ in 0..windows {
            let running = limit.get();
            let latency = base.mul_f64((running as f64 / capacity).max(1.0));
            let rate = running as f64 / latency.as_secs_f64();
            now += WINDOW;
            let count = (rate * WINDOW.as_secs_f64()) as u64;
            let time = latency * u32::try_from(count).expect("few");
            limit.handle(Sample { count, time, running, has_expired: false }, now);
            limits.push(limit.get());
        }
        (limits, now)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_finds_what_a_service_can_do_and_follows_it() {
        let mut limit = Limit::new(1_000);
        let (limits, now) = run(&mut limit, Duration::ZERO, 300, 100.0, 10 * MS);
        let settled = &limits[200..];
        let least = settled.iter().copied().filter(|limit| *limit > 80).min().expect("some");
        assert!(least >= 95 && *settled.iter().max().expect("some") <= 140, "{settled:?}");
        let halved = settled.iter().filter(|limit| **limit <= 80).count();
        assert!(halved <= 2, "{settled:?}");
        // The service gets slower, and can do less.
        let (limits, now) = run(&mut limit, now, 300, 20.0, 30 * MS);
        let settled = &limits[200..];
        assert!(settled.iter().max().expect("some") <= &40, "{settled:?}");
        let (limits, _) = run(&mut limit, now, 400, 400.0, 5 * MS);
        assert!(limits[300..].iter().filter(|limit| **limit < 380).count() <= 2, "{:?}", &limits[300..]);
    }

    #[test]
    fn it_never_goes_above_the_highest_number() {
        let mut limit = Limit::new(50);
        let (limits, _) = run(&mut limit, Duration::ZERO, 100, 10_000.0, 10 * MS);
        assert_eq!(limits.iter().max(), Some(&50));
        assert_eq!(Limit::new(1).get(), 1);
    }

    #[test]
    fn a_limit_that_is_not_reached_stays() {
        let mut limit = Limit::new(1_000);
        for second in 1..100 {
            let sample = Sample { count: 100, time: 100 * MS, running: 3, has_expired: false };
            limit.handle(sample, Duration::from_secs(second));
        }
        assert!(limit.get() <= FIRST);
    }

    #[test]
    fn records_that_hang_leave_places_to_others() {
        let mut limit = Limit::new(100);
        limit.limit = 1.0;
        assert_eq!((limit.get(), limit.beside(30), limit.beside(1_000)), (2, 32, 100));
    }

    #[test]
    fn attempts_that_take_too_long_lower_it() {
        let mut limit = Limit::new(1_000);
        let (_, now) = run(&mut limit, Duration::ZERO, 50, 100.0, 10 * MS);
        let before = limit.get();
        limit.handle(Sample { count: 30, time: 300 * MS, running: before, has_expired: true }, now + WINDOW);
        assert!(limit.get() < before);
    }
}
