//! The one place where clocks are read and timers are made: core's instants are counted from when the client was made, or
//! from the origin of the runtime it was given, and records get the time of day.

#![expect(clippy::disallowed_methods, reason = "this module wraps tokio's clocks and timers")]

use std::cell::Cell;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena_core::Instant;
pub(crate) use milena_core::millis_since_epoch;
use pin_project_lite::pin_project;

use crate::runtime::{Executor, Runtime};

/// A client's clock and timers.
#[derive(Clone)]
pub(crate) enum Clock {
    /// tokio's clock, which tests can pause. The instant is when the client was made: the origin of core's instants.
    Tokio(tokio::time::Instant),
    /// The clock of a runtime that the user gave. Its origin is the origin of core's instants.
    Given(Arc<dyn Runtime>),
}

impl Clock {
    pub(crate) fn start(executor: &Executor) -> Self {
        match executor {
            Executor::Tokio(_) => Self::Tokio(tokio::time::Instant::now()),
            Executor::Given(runtime) => Self::Given(Arc::clone(runtime)),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::after_origin(match self {
            Self::Tokio(origin) => origin.elapsed(),
            Self::Given(runtime) => runtime.now(),
        })
    }

    pub(crate) fn after(&self, duration: Duration) -> Instant {
        self.now() + duration
    }

    /// Milliseconds since the epoch, now.
    #[inline]
    pub(crate) fn unix_ms(&self) -> i64 {
        match self {
            Self::Tokio(_) => system_unix_ms(),
            Self::Given(runtime) => runtime.unix_ms(),
        }
    }

    /// Sleeps until `at`, or forever.
    pub(crate) async fn sleep_until(&self, at: Option<Instant>) {
        match (self, at) {
            (Self::Tokio(origin), Some(at)) => tokio::time::sleep_until(timer_at(*origin, at)).await,
            (Self::Given(runtime), Some(at)) => runtime.sleep_until(at.since_origin()).await,
            (_, None) => std::future::pending().await,
        }
    }

    /// Sets `timer` to `at`. What it was set for before is forgotten, and its memory is used again.
    pub(crate) fn set(&self, timer: &mut Option<Timer>, at: Instant) {
        match (self, timer) {
            (Self::Tokio(origin), Some(Timer::Tokio(sleep))) => sleep.as_mut().reset(timer_at(*origin, at)),
            (Self::Tokio(origin), timer) => {
                *timer = Some(Timer::Tokio(Box::pin(tokio::time::sleep_until(timer_at(*origin, at)))));
            }
            (Self::Given(runtime), timer) => {
                *timer = Some(Timer::Given(runtime.sleep_until(at.since_origin())));
            }
        }
    }

    /// The output of `future`, or none if it is not finished at `at`.
    pub(crate) fn timeout_at<F: Future>(&self, at: Instant, future: F) -> Timeout<F> {
        match self {
            Self::Tokio(origin) => {
                Timeout::Tokio { timeout: tokio::time::timeout_at(timer_at(*origin, at), future) }
            }
            Self::Given(runtime) => Timeout::Given { future, sleep: runtime.sleep_until(at.since_origin()) },
        }
    }
}

/// `at` as an instant of tokio's. tokio's instants do not reach as far as core's, so a day from now stands for anything
/// later.
fn timer_at(origin: tokio::time::Instant, at: Instant) -> tokio::time::Instant {
    let latest = origin.elapsed() + Duration::from_secs(86_400);
    origin + at.since_origin().min(latest)
}

/// A timer that can be set again; see [`Clock::set`].
pub(crate) enum Timer {
    Tokio(Pin<Box<tokio::time::Sleep>>),
    Given(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Timer {
    /// Ready from the time on that it was set for. Not to be polled again then before it is set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tokio(sleep) => sleep.as_mut().poll(cx),
            Self::Given(sleep) => sleep.as_mut().poll(cx),
        }
    }
}

pin_project! {
    /// See [`Clock::timeout_at`].
    #[project = TimeoutProjection]
    pub(crate) enum Timeout<F> {
        Tokio { #[pin] timeout: tokio::time::Timeout<F> },
        Given { #[pin] future: F, sleep: Pin<Box<dyn Future<Output = ()> + Send>> },
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            TimeoutProjection::Tokio { timeout } => timeout.poll(cx).map(Result::ok),
            TimeoutProjection::Given { future, sleep } => {
                if let Poll::Ready(output) = future.poll(cx) {
                    return Poll::Ready(Some(output));
                }
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(None)
            }
        }
    }
}

/// The system's time in milliseconds since the epoch.
///
/// It is needed for each record, and asking the system takes a quarter of the time that a small record costs. So the
/// processor's counter tells how long ago the system was asked, and the system is asked again after [`FRESH`].
///
/// Bench: `post`.
fn system_unix_ms() -> i64 {
    let ticks = COUNTER.raw();
    let reading = READING.get().filter(|reading| reading.ticks <= ticks);
    let elapsed = reading.map(|reading| (reading, COUNTER.delta_as_nanos(reading.ticks, ticks)));
    match elapsed {
        Some((reading, elapsed)) if elapsed < FRESH.as_nanos() as u64 => reading.after(elapsed),
        _ => ask_the_system(),
    }
}

/// How long one reading of the system's time is used. A processor's counter and the system's time drift apart by tens of
/// microseconds a second at most, and the timestamps of records must soon follow when the system's time is set.
const FRESH: Duration = Duration::from_millis(100);
/// The process was interrupted when asking the system took longer than this. It is then unknown which of the two counts the
/// time belongs to, so such a reading is not kept.
const QUESTION_MAX: Duration = Duration::from_micros(20);

static COUNTER: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

thread_local! {
    static READING: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// The system's time, and the processor's counter when it was asked.
#[derive(Debug, Clone, Copy)]
struct Reading {
    ticks: u64,
    /// Since the epoch.
    nanoseconds: u64,
}

impl Reading {
    /// Milliseconds since the epoch, `nanoseconds` after the reading.
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
        let clock = Clock::Tokio(tokio::time::Instant::now());
        let mut readings = 0;
        while clock.now().since_origin() < FRESH * 3 {
            let earliest = millis_since_epoch(SystemTime::now());
            let told = system_unix_ms();
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
