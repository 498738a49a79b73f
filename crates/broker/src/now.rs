//! The time, which callers pass to the machine: it reads no clock itself.

use std::time::{Duration, Instant};

/// A moment, on the two clocks that a broker needs.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting and timers. It never goes back.
    pub instant: Instant,
    /// For timestamps, in milliseconds since 1970.
    pub unix_ms: i64,
}

impl Now {
    /// The same moment, `by` later on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self { instant: self.instant + by, unix_ms: self.unix_ms + by.as_millis() as i64 }
    }
}
