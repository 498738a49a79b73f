//! The time since a client began, and randomness for its waits.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Clones tell the same time.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A number that differs from call to call and from program to program.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
