//! Timers: when there is work to do that no request asks for.
//!
//! ```text
//!  handlers ─▶ arm(timer, at) ─▶ queue ─▶ earliest ─▶ the driver sleeps until then
//!                                  └────▶ take_due  ◀─ the driver calls handle_timeout
//! ```
//!
//! A timer names the work, and the machine knows how it is done. A timer is in the queue at most once. This file must
//! not know a clock. The queue's lock is held for one change only, and no other lock is taken under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The kinds of work. Timers that are due at the same time come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Partitions forget the producers whose newest batch is too old.
    ExpireProducers,
    /// Partitions remove the records that they need not keep.
    Retain,
    /// Partitions are compacted.
    Clean,
    /// Delegation tokens are removed whose time is over.
    Tokens,
    /// Rates of clients with quotas are forgotten that are over.
    Rates,
    /// The group coordinator has something to do. It keeps a queue of its own that says what.
    Groups,
    /// The transaction coordinator has something to do, by a queue of its own.
    Transactions,
}

/// All timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queue: Queue<Timer>,
    driver: Option<Waker>,
}

/// Work by the time when it is due. Each piece of work is in the queue at most once.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    by_time: BTreeSet<(Instant, T)>,
    by_work: BTreeMap<T, Instant>,
}

impl Timers {
    /// Sets a timer. If it is set already it moves to the new time.
    pub(crate) fn arm(&self, timer: Timer, at: Instant) {
        crate::lock(&self.0).set(timer, at);
    }

    /// Sets a timer unless it is set already.
    pub(crate) fn arm_if_idle(&self, timer: Timer, at: Instant) {
        let mut inner = crate::lock(&self.0);
        if !inner.queue.contains(&timer) {
            inner.set(timer, at);
        }
    }

    /// When the earliest timer is due.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        crate::lock(&self.0).queue.earliest()
    }

    /// Ready with [`earliest`](Self::earliest) when that differs from `known`. Only one task may wait for it.
    pub(crate) fn poll_earliest(
        &self,
        known: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Instant>> {
        let mut inner = crate::lock(&self.0);
        let earliest = inner.queue.earliest();
        if earliest != known {
            return Poll::Ready(earliest);
        }
        inner.driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes the earliest timer out of the queue, if it is due.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Timer> {
        crate::lock(&self.0).queue.take_due(now)
    }
}

impl Inner {
    fn set(&mut self, timer: Timer, at: Instant) {
        let before = self.queue.earliest();
        self.queue.set(timer, at);
        // If a timer moves to a later time the driver wakes too early and asks again. It must be woken only if it would
        // sleep too long.
        let is_earlier = before.is_none_or(|before| at < before);
        if let Some(driver) = self.driver.take_if(|_| is_earlier) {
            driver.wake();
        }
    }
}

impl<T: Ord + Clone> Queue<T> {
    /// When the earliest work is due.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Puts work in. If it is in the queue already it moves to the new time.
    pub(crate) fn set(&mut self, work: T, at: Instant) {
        self.cancel(&work);
        self.by_time.insert((at, work.clone()));
        self.by_work.insert(work, at);
    }

    /// Whether work is in the queue.
    pub(crate) fn contains(&self, work: &T) -> bool {
        self.by_work.contains_key(work)
    }

    /// Takes work out, if it is in the queue.
    pub(crate) fn cancel(&mut self, work: &T) {
        if let Some((work, at)) = self.by_work.remove_entry(work) {
            self.by_time.remove(&(at, work));
        }
    }

    /// Takes the earliest work out, if it is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<T> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (_, work) = self.by_time.pop_first()?;
        self.by_work.remove(&work);
        Some(work)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_work: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    const TIMER: Timer = Timer::ExpireProducers;

    #[derive(Default)]
    struct Driver(AtomicUsize);

    impl Wake for Driver {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_timer_is_in_the_queue_once_and_moves() {
        let (timers, start) = (Timers::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        timers.arm(TIMER, after(5));
        timers.arm(TIMER, after(9));
        timers.arm_if_idle(TIMER, after(1));
        assert_eq!(timers.earliest(), Some(after(9)));
        assert_eq!(timers.take_due(after(8)), None);
        assert_eq!(timers.take_due(after(9)), Some(TIMER));
        assert_eq!((timers.take_due(after(9)), timers.earliest()), (None, None));
    }

    #[test]
    fn the_driver_is_woken_when_it_would_sleep_too_long_and_not_otherwise() {
        let (timers, start) = (Timers::default(), Instant::now());
        let driver = Arc::new(Driver::default());
        let waker = Waker::from(Arc::clone(&driver));
        let poll = |known| timers.poll_earliest(known, &mut Context::from_waker(&waker));
        let (sooner, later) = (start + Duration::from_secs(1), start + Duration::from_secs(2));
        assert_eq!(poll(None), Poll::Pending);
        timers.arm(TIMER, sooner);
        assert_eq!((driver.0.load(Ordering::Relaxed), poll(None)), (1, Poll::Ready(Some(sooner))));
        assert_eq!(poll(Some(sooner)), Poll::Pending);
        timers.arm(TIMER, later);
        assert_eq!(driver.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(Some(sooner)), Poll::Ready(Some(later)), "it changed before the driver looked");
    }
}
