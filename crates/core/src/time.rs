//! Monotonic time as an argument. Core never reads a clock, so a test or a simulator decides what time it is.

use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in monotonic time: nanoseconds since an origin that the driver chose once.
///
/// ```
/// use std::time::Duration;
/// use milena_core::Instant;
///
/// let later = Instant::ORIGIN + Duration::from_millis(5);
/// assert_eq!(later - Instant::ORIGIN, Duration::from_millis(5));
/// assert_eq!(Instant::ORIGIN - later, Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Where time starts.
    pub const ORIGIN: Self = Self(0);
    /// Later than every other instant.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant this long after the origin, or [`NEVER`](Self::NEVER) after 584 years or more.
    pub fn after_origin(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after the origin this is.
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// The time between two instants; zero when the right one is the later.
impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since the epoch, negative before it.
pub fn millis_since_epoch(at: SystemTime) -> i64 {
    let millis = |duration: Duration| {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        seconds.saturating_mul(1000).saturating_add(i64::from(duration.subsec_millis()))
    };
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_are_negative() {
        assert_eq!(millis_since_epoch(UNIX_EPOCH - Duration::from_millis(5)), -5);
        assert_eq!(millis_since_epoch(UNIX_EPOCH + Duration::from_millis(5)), 5);
    }
}
