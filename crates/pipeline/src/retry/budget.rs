//! How many of the calls may be retries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::window::Window;

/// Counts first calls and retries of the last [`WINDOW_S`] seconds. Its clones are one budget.
///
/// It has no clock. All times are durations since a moment that all its callers agree on, such as the start of the pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Of a hundred first calls.
    percent: u32,
    calls: Mutex<Window<{ WINDOW_S as usize }>>,
}

/// Kinds of calls.
const FIRSTS: usize = 0;
const RETRIES: usize = 1;

/// For how long calls count. Finagle's `RetryBudget` has this default.
const WINDOW_S: u64 = 10;

/// Retries that may be made each second however few records there are, so that a record which fails alone is tried again.
/// Finagle's default.
const FLOOR_PER_S: u64 = 10;

impl Budget {
    pub(super) fn new(percent: u32) -> Self {
        let calls = Mutex::new(Window::new(Duration::from_secs(WINDOW_S)));
        Self(Arc::new(Shared { percent, calls }))
    }

    /// `count` records were handed to the handler for the first time.
    pub(crate) fn first_calls(&self, count: u64, now: Duration) {
        self.calls(now).add(FIRSTS, count);
    }

    /// Whether a retry may begin now; if so it is counted.
    pub(crate) fn take(&self, now: Duration) -> bool {
        let mut calls = self.calls(now);
        let [firsts, retries] = calls.sums();
        let allowed = firsts.saturating_mul(self.0.percent.into()) / 100 + FLOOR_PER_S * WINDOW_S;
        if retries >= allowed {
            return false;
        }
        calls.add(RETRIES, 1);
        true
    }

    /// A retry was a success, and does not count any more. When what failed works again, this lets the records that wait be
    /// processed as fast as they succeed.
    pub(crate) fn give_back(&self, now: Duration) {
        self.calls(now).take_back(RETRIES);
    }

    fn calls(&self, now: Duration) -> MutexGuard<'_, Window<{ WINDOW_S as usize }>> {
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.advance(now);
        calls
    }
}
