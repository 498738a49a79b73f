//! Spans of time as one says them: `100.ms()`, `10.s()`, `5.minutes()`.

use std::time::Duration;

/// Makes a [`Duration`] of a number and its unit.
///
/// ```
/// use milena_pipeline::prelude::*;
/// use std::time::Duration;
///
/// assert_eq!(100.ms(), Duration::from_millis(100));
/// assert_eq!(10.s(), Duration::from_secs(10));
/// assert_eq!(5.minutes(), Duration::from_secs(300));
/// ```
///
/// It is implemented for `u64` alone, so that the type of a number like `100` is known.
pub trait Span: Sized {
    /// This many microseconds.
    fn us(self) -> Duration;
    /// This many milliseconds.
    fn ms(self) -> Duration;
    /// This many seconds.
    fn s(self) -> Duration;
    /// This many minutes. What a `Duration` cannot hold becomes the longest one.
    fn minutes(self) -> Duration;
    /// This many hours. What a `Duration` cannot hold becomes the longest one.
    fn hours(self) -> Duration;
    /// This many days of 24 hours. What a `Duration` cannot hold becomes the longest one.
    fn days(self) -> Duration;
}

impl Span for u64 {
    fn us(self) -> Duration {
        Duration::from_micros(self)
    }

    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }

    fn s(self) -> Duration {
        Duration::from_secs(self)
    }

    fn minutes(self) -> Duration {
        times(self, 60)
    }

    fn hours(self) -> Duration {
        times(self, 60 * 60)
    }

    fn days(self) -> Duration {
        times(self, 24 * 60 * 60)
    }
}

fn times(count: u64, seconds: u64) -> Duration {
    count.checked_mul(seconds).map_or(Duration::MAX, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_they_say_and_do_not_overflow() {
        assert_eq!([7.us(), 7.ms(), 7.s()], [7_000, 7_000_000, 7_000_000_000].map(Duration::from_nanos));
        assert_eq!([2.minutes(), 2.hours(), 2.days()], [120, 7_200, 172_800].map(Duration::from_secs));
        assert_eq!([u64::MAX.minutes(), u64::MAX.hours(), u64::MAX.days()], [Duration::MAX; 3]);
        assert_eq!(u64::MAX.s(), Duration::from_secs(u64::MAX));
    }
}
