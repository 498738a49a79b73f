//! Per partition, the batches that were fetched and not taken yet, still compressed; and the list of partitions that
//! have some.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use milena_core::source::{Epoch, Slot};
use milena_core::{Failure, Instant};
use milena_wire::batch::RawBatch;
use tokio::sync::Notify;

use crate::Error;
use crate::budget::Reservation;
use crate::clock::Clock;

/// One partition's place.
pub(super) struct Queue {
    /// The machine's name for it, once the driver has assigned it.
    slot: OnceLock<Slot>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    is_paused: AtomicBool,
    is_over: AtomicBool,
    /// Where reading ends, or [`FOR_EVER`].
    until: AtomicI64,
    inner: Mutex<Inner>,
}

/// In place of an offset: reading does not end.
const FOR_EVER: i64 = i64::MAX;

/// What the driver fills and the consumer empties, under one lock held for one batch.
pub(super) struct Inner {
    pub(super) epoch: Epoch,
    pub(super) batches: VecDeque<Queued>,
    /// The offset behind what was delivered.
    pub(super) position: Option<i64>,
    /// Why it stops behind its batches.
    stopped: Option<Error>,
    /// Whether its consumer was told so: it tells each partition's error once.
    is_told: bool,
    /// If everything was read that is to be: in which epoch.
    read_in: Option<Epoch>,
    /// Whether it is in the list of those that have something.
    is_listed: bool,
    /// Wakes the task that reads this partition on its own, if one does. Most partitions are never taken, so that this is
    /// made when one is.
    reader: Option<Arc<Notify>>,
}

impl Inner {
    /// Begins a new epoch at `position`. What was fetched is for the caller to drop, once the lock is free.
    fn restart(&mut self, epochs: &Epochs, position: Option<i64>) -> VecDeque<Queued> {
        // Under the lock: a later order has a later epoch.
        self.epoch = epochs.next();
        self.position = position;
        self.stopped = None;
        self.is_told = false;
        self.read_in = None;
        std::mem::take(&mut self.batches)
    }

    fn wake_reader(&self) {
        if let Some(reader) = &self.reader {
            reader.notify_one();
        }
    }

    /// It stops behind the batches it has.
    pub(super) fn stop(&mut self, error: Error, is_told: bool) {
        self.stopped = Some(error);
        self.is_told = is_told;
    }

    /// Reading goes on at `offset` after what is there.
    pub(super) fn pass(&mut self, offset: i64) {
        match self.batches.back_mut() {
            Some(last) => last.passed = Some(offset),
            None => self.position = Some(offset),
        }
    }
}

impl Queued {
    /// Where reading goes on after it.
    pub(super) fn next_offset(&self) -> i64 {
        let header = &self.batch.header;
        self.passed.unwrap_or(header.base_offset + i64::from(header.last_offset_delta) + 1)
    }
}

/// A fetched batch.
pub(super) struct Queued {
    pub(super) batch: RawBatch,
    pub(super) from: i64,
    /// Behind it and behind what follows it and is shown to nobody, if something does.
    pub(super) passed: Option<i64>,
    pub(super) high_watermark: i64,
    pub(super) frame: Arc<Frame>,
}

/// A fetch response's memory: held until its last batch is dropped.
pub(super) struct Frame {
    pub(super) reservation: Option<Reservation>,
    pub(super) freed: Arc<Notify>,
}

impl Drop for Frame {
    fn drop(&mut self) {
        drop(self.reservation.take());
        self.freed.notify_one();
    }
}

/// Partitions that have something to deliver, in the order in which they are served.
#[derive(Default)]
pub(super) struct Ready {
    queues: Mutex<VecDeque<Arc<Queue>>>,
    pub(super) arrived: Arc<Notify>,
    /// Since when readers find nothing, in nanoseconds, or [`BUSY`].
    idle_since: AtomicU64,
    /// Whether the consumer was ever told of a partition that stopped.
    has_told: AtomicBool,
    /// Nobody fetches any more.
    is_over: AtomicBool,
}

/// Gives out epochs, each once: partitions get the slots of others, whose late answers must not count for them.
#[derive(Default)]
pub(super) struct Epochs(AtomicU64);

impl Epochs {
    pub(super) fn next(&self) -> Epoch {
        Epoch(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// In place of a time: there is something to do.
const BUSY: u64 = u64::MAX;

/// What a consumer may still get of a partition.
pub(super) enum Coming {
    Batches,
    /// It stopped, as the consumer knows.
    Error(Error),
    /// Everything was read that is to be.
    Nothing,
}

/// What the consumer gets next.
pub(super) enum Next {
    Batch(Arc<Queue>, Epoch, Queued),
    Stopped(Error),
    Nothing,
}

impl Queue {
    pub(super) fn new(
        topic: Arc<str>,
        partition: i32,
        epoch: Epoch,
        position: Option<i64>,
        until: Option<i64>,
    ) -> Self {
        let inner = Inner {
            epoch,
            batches: VecDeque::new(),
            position,
            stopped: None,
            is_told: false,
            read_in: None,
            is_listed: false,
            reader: None,
        };
        Self {
            slot: OnceLock::new(),
            topic,
            partition,
            is_paused: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            until: AtomicI64::new(until.unwrap_or(FOR_EVER)),
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        self.slot.get().copied()
    }

    /// To be told once.
    pub(super) fn set_slot(&self, slot: Slot) {
        let _ = self.slot.set(slot);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Answers whether that is a change.
    pub(super) fn set_paused(&self, is_paused: bool) -> bool {
        self.is_paused.swap(is_paused, Ordering::Relaxed) != is_paused
    }

    /// Takes it out of the consumer's turns: what tells its new reader that something may have arrived. None if it has a
    /// reader of its own already.
    pub(super) fn take(&self) -> Option<Arc<Notify>> {
        let mut inner = self.inner();
        if inner.reader.is_some() {
            return None;
        }
        Some(Arc::clone(inner.reader.insert(Arc::default())))
    }

    pub(super) fn give_back(&self) {
        let mut inner = self.inner();
        // Its reader alone knows that it stopped, if it did.
        inner.is_told = false;
        inner.reader = None;
    }

    /// Whether it is read on its own.
    pub(super) fn is_taken(&self) -> bool {
        self.inner().reader.is_some()
    }

    /// What its consumer may still get of it.
    pub(super) fn coming(&self) -> Coming {
        let inner = self.inner();
        match &inner.stopped {
            _ if inner.read_in.is_some() => Coming::Nothing,
            Some(error) if inner.is_told => Coming::Error(error.clone()),
            _ => Coming::Batches,
        }
    }

    /// Where reading ends, if it does.
    pub(super) fn until(&self) -> Option<i64> {
        Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != FOR_EVER)
    }

    pub(super) fn set_until(&self, until: Option<i64>) {
        self.until.store(until.unwrap_or(FOR_EVER), Ordering::Relaxed);
    }

    /// Whether everything was read that is to be.
    pub(super) fn is_read(&self) -> bool {
        self.inner().read_in.is_some()
    }

    /// Reading ends at `end` if it was to end at `until`, which does not exist any more.
    pub(super) fn lower_until(&self, until: i64, end: i64) {
        let _ = self.until.compare_exchange(until, end, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// If everything was read that is to be, and that was not so before: the epoch in which nothing more comes.
    pub(super) fn finish_if_read(&self, epochs: &Epochs) -> Option<Epoch> {
        let until = self.until()?;
        let mut inner = self.inner();
        // An offset after the end may be one that does not exist: that is told first.
        let is_reading = inner.stopped.is_none() && inner.read_in.is_none();
        let position = inner.position.filter(|position| *position >= until && is_reading)?;
        let old = inner.epoch;
        let dropped = inner.restart(epochs, Some(position));
        inner.read_in = Some(old);
        let epoch = inner.epoch;
        inner.wake_reader();
        drop(inner);
        drop(dropped);
        Some(epoch)
    }

    /// Whether it is not assigned any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// It is not assigned any more.
    pub(super) fn end(&self, epochs: &Epochs) -> Epoch {
        let mut inner = self.inner();
        let dropped = inner.restart(epochs, None);
        self.is_over.store(true, Ordering::Release);
        inner.wake_reader();
        let epoch = inner.epoch;
        drop(inner);
        drop(dropped);
        epoch
    }

    /// The next thing to deliver of it.
    pub(super) fn next(queue: &Arc<Self>) -> Next {
        let mut inner = queue.inner();
        if queue.is_paused() {
            // What it has stays; resuming lists it again.
            return Next::Nothing;
        }
        match inner.batches.pop_front() {
            Some(batch) => {
                // Under the same lock: what is passed next has the batch before it, or changes the position after it.
                inner.position = Some(batch.next_offset());
                Next::Batch(Arc::clone(queue), inner.epoch, batch)
            }
            None => inner.stopped.clone().map_or(Next::Nothing, Next::Stopped),
        }
    }

    /// Drops what was fetched and stands at `offset` because of `error`, of which its reader is told now; unless it was
    /// sought since epoch `of`. That everything was read is no seek: the last batch may not be readable, or hold a record
    /// that is not, and then that was not all.
    pub(super) fn stop(&self, epochs: &Epochs, of: Epoch, offset: i64, error: &Error) -> Option<Epoch> {
        let mut inner = self.inner();
        if inner.epoch != of && inner.read_in != Some(of) {
            return None;
        }
        let dropped = inner.restart(epochs, Some(offset));
        inner.stop(error.clone(), true);
        let epoch = inner.epoch;
        drop(inner);
        // Outside the lock: freeing memory wakes others.
        drop(dropped);
        Some(epoch)
    }

    /// Drops what was fetched and begins a new epoch at `position`.
    pub(super) fn restart(&self, epochs: &Epochs, position: Option<i64>) -> Epoch {
        let mut inner = self.inner();
        let dropped = inner.restart(epochs, position);
        let epoch = inner.epoch;
        drop(inner);
        // Outside the lock: freeing memory wakes others.
        drop(dropped);
        epoch
    }
}

impl Ready {
    /// A reader found nothing.
    pub(super) fn note_idle(&self, clock: &Clock) {
        if self.idle_since.load(Ordering::Relaxed) == BUSY {
            self.idle_since.store(clock.now().since_origin().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// A reader has something to do.
    pub(super) fn note_busy(&self) {
        if self.idle_since.load(Ordering::Relaxed) != BUSY {
            self.idle_since.store(BUSY, Ordering::Relaxed);
        }
    }

    /// Since when readers find nothing; [`Instant::NEVER`] while there is something to do.
    pub(super) fn idle_since(&self) -> Instant {
        Instant::after_origin(Duration::from_nanos(self.idle_since.load(Ordering::Relaxed)))
    }

    /// The consumer is being told of a partition that stopped.
    pub(super) fn note_told(&self) {
        self.has_told.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_told_of_stops(&self) -> bool {
        self.has_told.load(Ordering::Relaxed)
    }

    /// Nobody fetches any more: the task that did has ended with its runtime.
    pub(super) fn end<'a>(&self, queues: impl IntoIterator<Item = &'a Arc<Queue>>) {
        self.is_over.store(true, Ordering::Release);
        self.arrived.notify_one();
        queues.into_iter().for_each(|queue| queue.inner().wake_reader());
    }

    /// Whether somebody fetches.
    pub(super) fn check_driver(&self) -> Result<(), Error> {
        if !self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new("reading", Failure::Ended("the runtime that drives the consumer has ended")))
    }

    /// `queue` may have something to deliver: it gets in line, if it is not.
    pub(super) fn list(&self, queue: &Arc<Queue>) {
        let mut inner = queue.inner();
        let is_news = inner.stopped.is_some() && (!inner.is_told || inner.reader.is_some());
        let has_something = !inner.batches.is_empty() || is_news;
        if queue.is_paused() || !has_something {
            return;
        }
        if inner.reader.is_some() {
            // It may still be in the consumer's line from before it was taken, where its reader does not look.
            return inner.wake_reader();
        }
        if std::mem::replace(&mut inner.is_listed, true) {
            return;
        }
        drop(inner);
        self.queues().push_back(Arc::clone(queue));
        self.arrived.notify_one();
    }

    /// The next thing to deliver. Partitions take turns, a batch each.
    pub(super) fn next(&self) -> Next {
        loop {
            let Some(queue) = self.queues().pop_front() else { return Next::Nothing };
            let is_taken = {
                let mut inner = queue.inner();
                inner.is_listed = false;
                inner.reader.is_some()
            };
            let next = if is_taken { Next::Nothing } else { Queue::next(&queue) };
            if matches!(next, Next::Stopped(_)) {
                queue.inner().is_told = true;
                self.note_told();
            }
            self.list(&queue);
            if !matches!(next, Next::Nothing) {
                return next;
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, VecDeque<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use milena_wire::batch::{BatchBuilder, Batches};
    use milena_wire::pool::Pool;

    use super::*;

    /// A batch of one record at offset 0.
    fn batch() -> Queued {
        let mut builder = BatchBuilder::new(&Pool::default());
        builder.append(0, None, Some(b"record"), &[]).expect("room");
        let batch = Batches::new(builder.seal().into_bytes()).next().expect("one").expect("whole");
        let frame = Arc::new(Frame { reservation: None, freed: Arc::default() });
        Queued { batch, from: 0, passed: None, high_watermark: 2, frame }
    }

    #[test]
    fn a_marker_that_is_passed_while_its_batch_is_being_opened_moves_the_position() {
        let queue = Arc::new(Queue::new("t".into(), 0, Epoch(1), Some(0), None));
        // Passed before the batch is taken, and after: whoever opens it has nothing more to say of the position.
        for is_taken_first in [false, true] {
            queue.inner().batches.push_back(batch());
            let take = || assert!(matches!(Queue::next(&queue), Next::Batch(..)));
            if is_taken_first {
                take();
                assert_eq!(queue.inner().position, Some(1));
                queue.inner().pass(2);
            } else {
                queue.inner().pass(2);
                take();
            }
            assert_eq!(queue.inner().position, Some(2), "{is_taken_first}");
        }
    }

    /// Any failure.
    fn error() -> Error {
        Error::new("reading", Failure::Ended("of the test"))
    }

    #[test]
    fn a_last_batch_that_cannot_be_read_is_told_however_early_its_partition_was_read() {
        let epochs = Epochs::default();
        let queue = Arc::new(Queue::new("t".into(), 0, epochs.next(), Some(0), Some(1)));
        queue.inner().batches.push_back(batch());
        let Next::Batch(_, epoch, _) = Queue::next(&queue) else { panic!("there is a batch") };
        // While its reader opens it, something else comes, and whoever brings it sees that all was read.
        assert!(queue.finish_if_read(&epochs).is_some());
        assert!(queue.stop(&epochs, epoch, 0, &error()).is_some(), "it was not sought");
        assert!(matches!(Queue::next(&queue), Next::Stopped(_)) && !queue.is_read(), "that was not all");
        // A seek is another matter.
        queue.restart(&epochs, Some(1));
        assert!(queue.finish_if_read(&epochs).is_some());
        assert!(queue.stop(&epochs, epoch, 0, &error()).is_none(), "an error of before the seek");
    }
}
