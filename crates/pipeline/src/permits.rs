//! How many records may be in work at the same time, over all workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Permits that workers take for records in work. The number may change while permits are out.
///
/// A worker may have all of them while no other one wants any. A worker that has less than an equal part and wants more goes
/// first: else one whose partitions have many records would use each of its permits again as soon as a record ends, and other
/// workers would get none.
#[derive(Debug)]
pub(crate) struct Permits {
    shared: Arc<Shared>,
    worker: usize,
}

#[derive(Debug)]
struct Shared {
    /// How many workers want a permit and have less than an equal part.
    short: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    out: usize,
    workers: Vec<Of>,
}

/// What a worker has and wants.
#[derive(Debug, Clone, Default)]
struct Of {
    held: usize,
    /// It has found none. This lasts until it takes one or wants none any more, also after it was woken.
    wants: bool,
    waker: Option<Waker>,
}

impl Permits {
    /// Permits for each of the workers.
    pub(crate) fn new(limit: usize, workers: usize) -> impl Iterator<Item = Self> {
        let inner = Inner { limit, out: 0, workers: vec![Of::default(); workers] };
        let shared = Arc::new(Shared { short: AtomicUsize::new(0), inner: Mutex::new(inner) });
        (0..workers).map(move |worker| Self { shared: Arc::clone(&shared), worker })
    }

    /// Takes a permit. If there is none for this worker, `waker` is woken when there may be one.
    pub(crate) fn take(&self, waker: &Waker) -> bool {
        let mut inner = self.inner();
        let part = inner.part();
        let others_first = inner.workers[self.worker].held >= part
            && inner.workers.iter().enumerate().any(|(index, of)| index != self.worker && of.is_short(part));
        let may = inner.out < inner.limit && !others_first;
        let of = &mut inner.workers[self.worker];
        of.wants = !may;
        if may {
            of.held += 1;
            of.waker = None;
            inner.out += 1;
        } else if of.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            of.waker = Some(waker.clone());
        }
        self.tell(&inner);
        may
    }

    /// Whether a permit that this worker has and does not use should go to another worker.
    pub(crate) fn is_wanted(&self) -> bool {
        if self.shared.short.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let inner = self.inner();
        inner.workers[self.worker].held > inner.part()
    }

    /// Gives permits back.
    pub(crate) fn give_back(&self, count: usize) {
        if count == 0 {
            return;
        }
        let woken = {
            let mut inner = self.inner();
            inner.out -= count;
            inner.workers[self.worker].held -= count;
            self.tell(&inner);
            inner.wakers()
        };
        // Outside the lock, which they take.
        woken.into_iter().for_each(Waker::wake);
    }

    /// The worker wants none any more.
    pub(crate) fn want_none(&self) {
        let woken = {
            let mut inner = self.inner();
            let of = &mut inner.workers[self.worker];
            (of.wants, of.waker) = (false, None);
            self.tell(&inner);
            // Those that have more than their part had to leave what there is to this one.
            inner.wakers()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Changes the number of permits. If more are out, none is given until enough have come back.
    pub(crate) fn set_limit(&self, limit: usize) {
        let woken = {
            let mut inner = self.inner();
            inner.limit = limit;
            self.tell(&inner);
            inner.wakers()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// The number of permits that are out.
    pub(crate) fn out(&self) -> usize {
        self.inner().out
    }

    fn tell(&self, inner: &Inner) {
        let part = inner.part();
        let short = inner.workers.iter().filter(|of| of.is_short(part)).count();
        self.shared.short.store(short, Ordering::Relaxed);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// An equal part of all.
    fn part(&self) -> usize {
        (self.limit / self.workers.len()).max(1)
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.workers.iter_mut().filter_map(|of| of.waker.take()).collect()
    }
}

impl Of {
    fn is_short(&self, part: usize) -> bool {
        self.wants && self.held < part
    }
}

/// A worker that ends, for example because of a panic, has no records in work.
impl Drop for Permits {
    fn drop(&mut self) {
        let held = self.inner().workers[self.worker].held;
        self.give_back(held);
        self.want_none();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    fn two(limit: usize) -> (Permits, Permits) {
        let mut permits = Permits::new(limit, 2);
        (permits.next().expect("the first"), permits.next().expect("the second"))
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn no_more_are_out_than_the_limit_says() {
        let permits = Permits::new(2, 1).next().expect("one worker");
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

    #[test]
    fn a_worker_alone_may_have_all_and_gives_them_up_to_one_that_has_fewer() {
        let (busy, other) = two(4);
        let waker = Waker::noop();
        for _ in 0..4 {
            assert!(busy.take(waker), "no other one wants any");
        }
        assert!(!busy.is_wanted());
        let count = Arc::new(Count::default());
        let woken = Waker::from(Arc::clone(&count));
        assert!(!other.take(&woken));
        assert!(busy.is_wanted());
        busy.give_back(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(!busy.take(waker), "the other one is first, although it has not come yet");
        assert!(other.take(&woken));
        assert!(!other.take(&woken));
        busy.give_back(1);
        assert!(!busy.take(waker) && other.take(&woken), "up to an equal part");
        assert!(!other.take(&woken) && !busy.is_wanted(), "it has its part");
    }

    #[test]
    fn what_a_worker_wants_no_more_goes_to_another_one() {
        let (busy, other) = two(4);
        let count = Arc::new(Count::default());
        let woken = Waker::from(Arc::clone(&count));
        for _ in 0..4 {
            assert!(busy.take(&woken));
        }
        assert!(!other.take(Waker::noop()));
        busy.give_back(1);
        assert!(!busy.take(&woken));
        other.want_none();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(busy.take(&woken));
        drop(busy);
        assert!((0..4).all(|_| other.take(Waker::noop())), "a worker that has ended has none");
    }
}
