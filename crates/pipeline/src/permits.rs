//! How many records may be in work at the same time, over all workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Permits that workers take for records in work. The number may change while permits are out.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    out: usize,
    /// Workers that found none.
    waiting: Vec<Waker>,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { limit, out: 0, waiting: Vec::new() })))
    }

    /// Takes a permit. If there is none, `waker` is woken when there may be one.
    pub(crate) fn take(&self, waker: &Waker) -> bool {
        let mut inner = self.inner();
        if inner.out < inner.limit {
            inner.out += 1;
            return true;
        }
        if !inner.waiting.iter().any(|other| other.will_wake(waker)) {
            inner.waiting.push(waker.clone());
        }
        false
    }

    /// Gives permits back.
    pub(crate) fn give_back(&self, count: usize) {
        if count == 0 {
            return;
        }
        let woken = {
            let mut inner = self.inner();
            inner.out -= count;
            std::mem::take(&mut inner.waiting)
        };
        // Outside the lock, which they take.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Changes the number of permits. If more are out, none is given until enough have come back.
    pub(crate) fn set_limit(&self, limit: usize) {
        let woken = {
            let mut inner = self.inner();
            inner.limit = limit;
            std::mem::take(&mut inner.waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// The number of permits.
    pub(crate) fn limit(&self) -> usize {
        self.inner().limit
    }

    /// The number of permits that are out.
    pub(crate) fn out(&self) -> usize {
        self.inner().out
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_out_than_the_limit_says() {
        let permits = Permits::new(2);
        let waker = Waker::noop();
        assert!(permits.take(waker) && permits.take(waker));
        assert!(!permits.take(waker));
        permits.give_back(1);
        assert!(permits.take(waker));
        permits.set_limit(1);
        permits.give_back(1);
        assert!(!permits.take(waker), "one is out");
        permits.give_back(1);
        assert!(permits.take(waker));
    }
}
