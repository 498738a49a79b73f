//! A part with timers of its own, while it is locked.

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::time::Instant;

use crate::timers::{Timer, Timers};

/// A part that keeps a queue of its own timers.
pub(crate) trait Timed {
    /// The machine's timer for it.
    const TIMER: Timer;

    /// Tidies up after a change, and says when there is work.
    fn settle(&mut self) -> Option<Instant>;
}

/// The part, locked. When it is dropped the machine's timer is set to the earliest work.
#[derive(Debug)]
pub(crate) struct Locked<'a, T: Timed> {
    part: MutexGuard<'a, T>,
    timers: &'a Timers,
}

impl<'a, T: Timed> Locked<'a, T> {
    pub(crate) fn new(part: MutexGuard<'a, T>, timers: &'a Timers) -> Self {
        Self { part, timers }
    }
}

impl<T: Timed> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

impl<T: Timed> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.part
    }
}

impl<T: Timed> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        // The timer is set under the part's lock, or an older result could replace a newer one.
        if let Some(at) = self.part.settle() {
            self.timers.arm(T::TIMER, at);
        }
    }
}
