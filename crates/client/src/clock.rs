//! The one place where a clock is read: core's instants are counted from when the client was made.

use std::time::Duration;

use milena_core::Instant;

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
