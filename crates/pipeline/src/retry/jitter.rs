//! How a delay is spread, so that records that failed together are not tried again together.

use std::time::Duration;

/// The kinds of spreading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jitter {
    /// The delay itself.
    None,
    /// From zero to the delay.
    Full,
    /// From half of the delay to all of it.
    Equal,
    /// From the first delay to three times the last one.
    Decorrelated,
}

/// A duration from `low` to `high`, both included, which follows from `random`.
pub(super) fn between(low: Duration, high: Duration, random: u64) -> Duration {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let low = nanos(low);
    let width = u128::from(nanos(high).saturating_sub(low)) + 1;
    // Multiply and shift. The product's upper half is below `width`, so that the sum is at most `high`.
    let above = ((u128::from(random) * width) >> 64) as u64;
    Duration::from_nanos(low.saturating_add(above))
}
