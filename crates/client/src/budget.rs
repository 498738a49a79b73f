//! The budget of memory that grows with traffic. Bytes are reserved before they are used, in order of arrival, up to a
//! fixed number. It knows nothing of records or requests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The number of bytes that may be in use at a time. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_use: usize,
    /// The waiting reservations, in order of arrival.
    waiting: VecDeque<Waiting>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    bytes: usize,
    waker: Waker,
}

/// Reserved bytes. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared { bytes_max, state: Mutex::default() }))
    }

    /// The whole budget, in bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// The bytes that are in use. They may be more than the whole budget.
    pub(crate) fn bytes_used(&self) -> usize {
        self.state().in_use
    }

    /// The bytes that are not in use.
    pub(crate) fn available(&self) -> usize {
        self.0.bytes_max.saturating_sub(self.state().in_use)
    }

    /// Reserves `bytes` if they are available and no earlier reservation is waiting. If nothing else is in use, a
    /// reservation may exceed the whole budget, so that one very large record can pass alone.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut state = self.state();
        let is_free = state.waiting.is_empty() && state.fits(bytes, self.0.bytes_max);
        is_free.then(|| state.take(self, bytes))
    }

    /// Waits until `bytes` are available, in order of arrival, and reserves them.
    ///
    /// # Cancel safety
    /// A dropped call leaves the queue and has reserved nothing.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        let mut place = Place { budget: self, id: None };
        poll_fn(|cx| {
            let mut state = self.state();
            let is_first = match place.id {
                Some(id) => state.waiting.front().is_some_and(|first| first.id == id),
                None => state.waiting.is_empty(),
            };
            if is_first && state.fits(bytes, self.0.bytes_max) {
                if place.id.take().is_some() {
                    state.waiting.pop_front();
                }
                let reservation = state.take(self, bytes);
                // A wake-up is for one reservation; the next in the queue may fit as well.
                state.wake_first(self.0.bytes_max);
                return Poll::Ready(reservation);
            }
            let waker = cx.waker().clone();
            match place.id.and_then(|id| state.waiting.iter_mut().find(|waiting| waiting.id == id)) {
                Some(waiting) => waiting.waker = waker,
                None => {
                    let id = state.next_id;
                    state.next_id += 1;
                    state.waiting.push_back(Waiting { id, bytes, waker });
                    place.id = Some(id);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reserves `bytes` even beyond the budget, for bytes that have arrived already.
    pub(crate) fn reserve_beyond(&self, bytes: usize) -> Reservation {
        self.state().take(self, bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, bytes: usize, bytes_max: usize) -> bool {
        self.in_use == 0 || self.in_use.saturating_add(bytes) <= bytes_max
    }

    fn take(&mut self, budget: &Budget, bytes: usize) -> Reservation {
        self.in_use += bytes;
        Reservation { budget: budget.clone(), bytes }
    }

    fn wake_first(&self, bytes_max: usize) {
        if let Some(first) = self.waiting.front().filter(|first| self.fits(first.bytes, bytes_max)) {
            first.waker.wake_by_ref();
        }
    }
}

impl Reservation {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another reservation of the same budget, as [`Budget::reserve_beyond`].
    pub(crate) fn another(&self, bytes: usize) -> Reservation {
        self.budget.reserve_beyond(bytes)
    }

    /// Adds `bytes` if they are available and no reservation is waiting; returns whether it did.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        match self.budget.try_reserve(bytes) {
            Some(more) => {
                self.merge(more);
                true
            }
            None => false,
        }
    }

    /// Adds the bytes of `other`, which is used up.
    pub(crate) fn merge(&mut self, mut other: Reservation) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Changes the reservation to `bytes`: gives bytes back, or takes more, even beyond the budget.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let mut state = self.budget.state();
        state.in_use = state.in_use + bytes - self.bytes;
        self.bytes = bytes;
        state.wake_first(self.budget.0.bytes_max);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.resize(0);
        }
    }
}

/// A place in the queue. Dropping it leaves the queue.
struct Place<'a> {
    budget: &'a Budget,
    id: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut state = self.budget.state();
            state.waiting.retain(|waiting| waiting.id != id);
            // If it was this place's turn, the next one in the queue has to be woken instead.
            state.wake_first(self.budget.0.bytes_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_served_in_order_and_may_leave() {
        let budget = Budget::new(100);
        let first = budget.try_reserve(80).expect("free");
        let mut cx = Context::from_waker(Waker::noop());
        let mut large = Box::pin(budget.reserve(60));
        let mut small = pin!(budget.reserve(10));
        assert!(large.as_mut().poll(&mut cx).is_pending());
        assert!(small.as_mut().poll(&mut cx).is_pending(), "it would fit, but it is not its turn");
        assert!(budget.try_reserve(1).is_none());
        drop(large);
        let Poll::Ready(small) = small.as_mut().poll(&mut cx) else { panic!("its turn") };
        assert_eq!(budget.available(), 10);
        drop((first, small));
        assert_eq!(budget.available(), 100);
    }

    #[test]
    fn what_is_larger_than_everything_passes_alone() {
        let budget = Budget::new(100);
        let some = budget.try_reserve(1).expect("free");
        assert!(budget.try_reserve(500).is_none());
        drop(some);
        let mut large = budget.try_reserve(500).expect("alone");
        assert!(budget.try_reserve(1).is_none());
        large.resize(20);
        assert_eq!(budget.available(), 80);
    }
}
