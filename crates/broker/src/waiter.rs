//! A parked fetch leaves a waiter at each of its partitions. The waiter counts the bytes that the fetch still lacks,
//! and wakes its task.
//!
//! A partition tells its waiters when it takes a batch, gets another leader or is deleted. An append that does not
//! bring enough bytes wakes no task. This file must not know requests, connections or tasks; it wakes with the standard
//! library's [`Waker`].

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

/// A parked fetch, as its partitions know it.
#[derive(Debug)]
pub(crate) struct Waiter {
    missing: AtomicI64,
    is_due: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    /// A waiter that is due when `missing` bytes were appended, or after [`wake`](Self::wake).
    pub(crate) fn new(missing: i64) -> Arc<Self> {
        let is_due = AtomicBool::new(missing <= 0);
        Arc::new(Self { missing: AtomicI64::new(missing), is_due, waker: Mutex::new(None) })
    }

    /// Makes the fetch due at once, because of a change that it must tell its client.
    pub(crate) fn wake(&self) {
        self.is_due.store(true, Ordering::Release);
        let waker = crate::lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when the fetch is due. Until then the context's task is woken as soon as it is.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        // This stores the waker first and then reads the flag; `wake` sets the flag first and then takes the waker. So
        // one of the two always sees the other.
        *crate::lock(&self.waker) = Some(context.waker().clone());
        if self.is_due.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn appended(&self, bytes: usize) {
        let bytes = bytes as i64;
        if self.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.wake();
        }
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Weak<Waiter>>);

impl Waiters {
    /// Adds a waiter, which leaves when the fetch drops it.
    pub(crate) fn add(&mut self, waiter: &Arc<Waiter>) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|waiter| waiter.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(waiter));
    }

    /// Tells the waiters that `bytes` were appended.
    pub(crate) fn appended(&mut self, bytes: usize) {
        self.0.retain(|waiter| match waiter.upgrade() {
            Some(waiter) => {
                waiter.appended(bytes);
                !waiter.is_due.load(Ordering::Acquire)
            }
            None => false,
        });
    }

    /// Wakes all of them.
    pub(crate) fn wake_all(&mut self) {
        self.0.drain(..).filter_map(|waiter| waiter.upgrade()).for_each(|waiter| waiter.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(waiter: &Waiter) -> bool {
        waiter.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_waiter_is_due_when_its_partitions_brought_enough_together() {
        let (mut one, mut two) = (Waiters::default(), Waiters::default());
        let waiter = Waiter::new(100);
        one.add(&waiter);
        two.add(&waiter);
        one.appended(60);
        assert!(!is_ready(&waiter));
        two.appended(40);
        assert!(is_ready(&waiter));
    }

    #[test]
    fn waiters_that_were_dropped_take_no_room() {
        let mut waiters = Waiters::default();
        for _ in 0..10_000 {
            waiters.add(&Waiter::new(1));
        }
        assert!(waiters.0.capacity() < 16);
    }
}
