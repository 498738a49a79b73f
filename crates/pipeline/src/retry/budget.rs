//! How many of the calls may be retries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Counts first calls and retries of the last [`WINDOW_S`] seconds. Its clones are one budget.
///
/// It has no clock. All times are durations since a moment that all its callers agree on, such as the start of the pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Of a hundred first calls.
    percent: u32,
    window: Mutex<Window>,
}

/// One slot per second; the slot of second `s` is `s % WINDOW_S`.
#[derive(Debug, Default)]
struct Window {
    slots: [Slot; WINDOW_S as usize],
    /// The second of the newest slot.
    second: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    firsts: u64,
    retries: u64,
}

/// For how long calls count. Finagle's `RetryBudget` has this default.
const WINDOW_S: u64 = 10;

/// Retries that may be made each second however few records there are, so that a record which fails alone is tried again.
/// Finagle's default.
pub(super) const FLOOR_PER_S: u64 = 10;

impl Budget {
    pub(super) fn new(percent: u32) -> Self {
        Self(Arc::new(Shared { percent, window: Mutex::default() }))
    }

    /// `count` records were handed to the handler for the first time.
    pub(crate) fn first_calls(&self, count: u64, now: Duration) {
        let mut window = self.window_at(now);
        let slot = window.newest();
        slot.firsts = slot.firsts.saturating_add(count);
    }

    /// Whether a retry may begin now; if so it is counted.
    pub(crate) fn take(&self, now: Duration) -> bool {
        let mut window = self.window_at(now);
        let (firsts, retries) = window.sums();
        let allowed = firsts.saturating_mul(self.0.percent.into()) / 100 + FLOOR_PER_S * WINDOW_S;
        if retries >= allowed {
            return false;
        }
        window.newest().retries += 1;
        true
    }

    /// A retry was a success, and does not count any more. When what failed works again, this lets the records that wait be
    /// processed as fast as they succeed.
    pub(crate) fn give_back(&self, now: Duration) {
        let mut window = self.window_at(now);
        let second = window.second;
        let newest_first = (0..WINDOW_S).map(|age| second.wrapping_sub(age));
        for second in newest_first {
            let slot = &mut window.slots[(second % WINDOW_S) as usize];
            if slot.retries > 0 {
                slot.retries -= 1;
                return;
            }
        }
    }

    fn window_at(&self, now: Duration) -> std::sync::MutexGuard<'_, Window> {
        let mut window = self.0.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.advance(now.as_secs());
        window
    }
}

impl Window {
    /// Forgets what is older than the window. Workers read the clock before they come here, so a time may be a little older
    /// than one that was seen; it counts as the newest.
    fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second).min(WINDOW_S);
        for ahead in 0..passed {
            self.slots[(second.wrapping_sub(ahead) % WINDOW_S) as usize] = Slot::default();
        }
        self.second = self.second.max(second);
    }

    fn newest(&mut self) -> &mut Slot {
        &mut self.slots[(self.second % WINDOW_S) as usize]
    }

    fn sums(&self) -> (u64, u64) {
        self.slots.iter().fold((0u64, 0u64), |(firsts, retries), slot| {
            (firsts.saturating_add(slot.firsts), retries.saturating_add(slot.retries))
        })
    }
}
