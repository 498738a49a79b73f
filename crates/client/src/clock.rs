//! The one place where clocks are read: core's instants are counted from when the client was made, and records get the
//! time of day.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena_core::Instant;
pub(crate) use milena_core::millis_since_epoch;

/// tokio's clock, so that tests may pause it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(tokio::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(crate) fn now(self) -> Instant {
        Instant::after_origin(self.0.elapsed())
    }

    pub(crate) fn after(self, duration: Duration) -> Instant {
        self.now() + duration
    }

    /// The runtime's name for `instant`; a day from now stands for anything later.
    pub(crate) fn timer(self, instant: Instant) -> tokio::time::Instant {
        let latest = self.0.elapsed() + Duration::from_secs(86_400);
        self.0 + instant.since_origin().min(latest)
    }
}

/// Sleeps until `instant`, or forever.
pub(crate) async fn sleep_until(clock: Clock, instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(clock.timer(instant)).await,
        None => std::future::pending().await,
    }
}

/// Milliseconds since the epoch, now.
///
/// Records need it one by one, and asking the system takes a quarter of what a small one costs. So the processor's
/// counter tells how long ago the system was asked, and the system is asked again after [`FRESH`].
///
/// Bench: `post`.
pub(crate) fn time_of_day_ms() -> i64 {
    let ticks = COUNTER.raw();
    let reading = READING.get().filter(|reading| reading.ticks <= ticks);
    let elapsed = reading.map(|reading| (reading, COUNTER.delta_as_nanos(reading.ticks, ticks)));
    match elapsed {
        Some((reading, elapsed)) if elapsed < FRESH.as_nanos() as u64 => reading.after(elapsed),
        _ => ask_the_system(),
    }
}

/// Counters of processors and the system's time drift apart by tens of microseconds a second at most; and when
/// somebody sets the time, records are to follow.
const FRESH: Duration = Duration::from_millis(100);
/// A question that took longer was interrupted, and says nothing of when it was answered.
const QUESTION_MAX: Duration = Duration::from_micros(20);

static COUNTER: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

thread_local! {
    static READING: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// What the system said, and when.
#[derive(Debug, Clone, Copy)]
struct Reading {
    ticks: u64,
    /// Since the epoch.
    nanoseconds: u64,
}

impl Reading {
    /// Milliseconds since the epoch, so many nanoseconds later.
    fn after(self, nanoseconds: u64) -> i64 {
        ((self.nanoseconds + nanoseconds) / 1_000_000) as i64
    }
}

#[cold]
fn ask_the_system() -> i64 {
    let before = COUNTER.raw();
    let now = SystemTime::now();
    let after = COUNTER.raw();
    let question = Duration::from_nanos(COUNTER.delta_as_nanos(before, after));
    let since_epoch = now.duration_since(UNIX_EPOCH).ok();
    let nanoseconds = since_epoch.and_then(|since| u64::try_from(since.as_nanos()).ok());
    let nanoseconds = nanoseconds.filter(|_| before <= after && question < QUESTION_MAX);
    READING.set(nanoseconds.map(|nanoseconds| Reading { ticks: after, nanoseconds }));
    millis_since_epoch(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_the_systems() {
        let clock = Clock::start();
        let mut readings = 0;
        while clock.now().since_origin() < FRESH * 3 {
            let earliest = millis_since_epoch(SystemTime::now());
            let told = time_of_day_ms();
            let latest = millis_since_epoch(SystemTime::now());
            assert!((earliest - 1..=latest + 1).contains(&told), "{told} is not in {earliest}..={latest}");
            readings += 1;
        }
        assert!(readings > 100);
    }

    #[test]
    fn a_reading_counts_on() {
        let reading = Reading { ticks: 0, nanoseconds: 5_999_400_000 };
        assert_eq!(reading.after(0), 5999);
        assert_eq!(reading.after(599_999), 5999);
        assert_eq!(reading.after(600_000), 6000);
    }
}
