//! The batches of one partition that the application holds, and the memory that each of them keeps.
//!
//! ```text
//!  Queue ── taken ──▶ Hold, in a Batch or in what it was shared as ── dropped ──▶ Memory goes back to the budget
//!                      │ listed in the partition's Held for as long as it lives
//! ```
//!
//! A batch is listed under the queue's lock, in the same moment in which it leaves the queue, and not when it has been
//! decompressed: whoever waits until the application has finished a partition's batches must not miss one. It costs two
//! short locks of this list per batch and nothing per record.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_core::Instant;
use tokio::sync::Notify;

use super::queue::{Queue, Queued};
use super::stalls::Since;
use crate::budget::Reservation;
use crate::clock::Clock;
use crate::metrics::ConsumedTopic;

/// The memory of a fetch response or of a decompressed batch. It counts against the budget until this is dropped.
pub(super) struct Memory {
    reservation: Option<Reservation>,
    /// The bytes of its batches, with their places in the queues.
    claimed_bytes: AtomicUsize,
    /// Wakes the driver, which may have room for a fetch again.
    freed: Arc<Notify>,
    /// When its batches came.
    arrived: Instant,
}

/// What a batch uses of memory that other batches are in too, such as a response with batches of other partitions. Each of
/// them keeps all of it.
pub(super) struct Claim {
    memory: Arc<Memory>,
    /// The size of the batch.
    bytes: usize,
}

/// What a batch that the application holds keeps in memory.
pub(super) enum Kept {
    /// The memory that it is a part of. Of a response, batches of other partitions may be parts too; of a decompressed batch
    /// that is handed out in parts, its other parts.
    Part(Claim),
    /// A buffer of its own.
    Whole(Memory),
}

/// The batches of one partition that the application holds.
pub(super) struct Held {
    clock: Clock,
    /// Where the partition's batches are counted, if there are metrics.
    pub(super) counted: Option<ConsumedTopic>,
    list: Mutex<List>,
}

/// A batch is known by its index, so that any of them can be removed at once.
#[derive(Default)]
struct List {
    entries: Vec<Option<Entry>>,
    /// The indexes that are not in use.
    free: Vec<usize>,
}

/// A batch that the application holds.
pub(super) struct Entry {
    pub(super) since: Instant,
    /// Its first offset.
    offset: i64,
    /// Whether the application has finished it, although it keeps it.
    is_down: bool,
    pub(super) kept: Kept,
}

/// Keeps a batch's memory, and the batch in its partition's list.
pub(super) struct Hold {
    pub(super) queue: Arc<Queue>,
    index: usize,
    /// When it left the queue.
    pub(super) taken_at: Instant,
    /// Whether it was given to the application.
    is_given: AtomicBool,
    /// Whether the application has finished the batch, although it may keep it.
    is_down: AtomicBool,
}

/// An empty list with more room than this gives it back.
const ROOM_KEPT: usize = 16;

impl Memory {
    pub(super) fn new(reservation: Reservation, freed: &Arc<Notify>) -> Self {
        let (claimed_bytes, freed) = (AtomicUsize::new(0), Arc::clone(freed));
        Self { reservation: Some(reservation), claimed_bytes, freed, arrived: Instant::ORIGIN }
    }

    /// The same memory, with batches that came at `arrived`.
    pub(super) fn since(mut self, arrived: Instant) -> Self {
        self.arrived = arrived;
        self
    }

    /// When its batches came.
    pub(super) fn arrived(&self) -> Instant {
        self.arrived
    }

    pub(super) fn bytes(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.reservation.take());
        self.freed.notify_one();
    }
}

impl Claim {
    pub(super) fn new(memory: &Arc<Memory>, bytes: usize) -> Self {
        memory.claimed_bytes.fetch_add(bytes + Queued::PLACE_BYTES, Ordering::Relaxed);
        Self { memory: Arc::clone(memory), bytes }
    }

    /// The size of the batch, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Whether less than half of the memory is still buffered or held. Then a copy of that takes less memory than it frees.
    pub(super) fn is_of_waste(&self) -> bool {
        self.memory.claimed_bytes.load(Ordering::Relaxed) < self.memory.bytes() / 2
    }
}

impl Clone for Claim {
    fn clone(&self) -> Self {
        Self::new(&self.memory, self.bytes)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.claimed_bytes.fetch_sub(self.bytes + Queued::PLACE_BYTES, Ordering::Relaxed);
    }
}

impl Held {
    pub(super) fn new(clock: &Clock, counted: Option<ConsumedTopic>) -> Self {
        Self { clock: clock.clone(), counted, list: Mutex::default() }
    }

    /// Whether the application holds no batch of the partition.
    pub(super) fn is_empty(&self) -> bool {
        let list = self.list();
        list.free.len() == list.entries.len()
    }

    /// Calls `see` with each batch. It must not take a lock that is held while a batch is taken or dropped.
    pub(super) fn each(&self, see: impl FnMut(&Entry)) {
        self.list().entries.iter().flatten().for_each(see);
    }

    /// The batch that the application has worked on for longest: that it holds and has not finished.
    pub(super) fn oldest_in_work(&self) -> Option<Since> {
        let list = self.list();
        let in_work = list.entries.iter().flatten().filter(|entry| !entry.is_down);
        in_work.map(|entry| Since { at: entry.since, offset: entry.offset }).min_by_key(|since| since.at)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Lists a batch, which begins at `offset`, that leaves the queue. The caller holds the queue's lock.
    pub(super) fn new(queue: &Arc<Queue>, claim: Claim, offset: i64) -> Self {
        let taken_at = queue.held.clock.now();
        let entry = Entry { since: taken_at, offset, is_down: false, kept: Kept::Part(claim) };
        let mut list = queue.held.list();
        let index = list.free.pop().unwrap_or_else(|| {
            list.entries.push(None);
            list.entries.len() - 1
        });
        list.entries[index] = Some(entry);
        queue.take_up();
        let (is_given, is_down) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { queue: Arc::clone(queue), index, taken_at, is_given, is_down }
    }

    /// The batch is given to the application, which is counted until it drops it.
    pub(super) fn note_given(&self) {
        self.is_given.store(true, Ordering::Relaxed);
    }

    /// The application has finished the batch.
    pub(super) fn put_down(&self) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            if let Some(entry) = &mut self.queue.held.list().entries[self.index] {
                entry.is_down = true;
            }
            self.queue.put_down();
        }
    }

    /// Memory for a copy of the batch, if it is a part of a response that takes more: at least an eighth more.
    pub(super) fn memory_of_copy(&self) -> Option<Memory> {
        let list = self.queue.held.list();
        let Kept::Part(Claim { memory, bytes }) = &list.entries[self.index].as_ref()?.kept else {
            return None;
        };
        let is_worth_it = memory.bytes() > bytes + bytes / 8 + Queued::PLACE_BYTES;
        let reservation = memory.reservation.as_ref().filter(|_| is_worth_it)?.another(*bytes);
        Some(Memory::new(reservation, &memory.freed))
    }

    /// The batch is in this memory now, and no longer keeps the one of before.
    pub(super) fn move_to(&self, kept: Kept) {
        let mut list = self.queue.held.list();
        let Some(entry) = list.entries[self.index].as_mut() else { return };
        let frame = std::mem::replace(&mut entry.kept, kept);
        drop(list);
        // Outside the lock, because freeing memory wakes tasks.
        drop(frame);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut list = self.queue.held.list();
        let entry = list.entries[self.index].take();
        list.free.push(self.index);
        if list.free.len() == list.entries.len() && list.entries.capacity() > ROOM_KEPT {
            *list = List::default();
        }
        drop(list);
        // Outside the lock, because freeing memory wakes tasks.
        drop(entry);
        if !self.is_down.swap(true, Ordering::Relaxed) {
            self.queue.put_down();
        }
        let held = &self.queue.held;
        if let Some(counted) = held.counted.as_ref().filter(|_| self.is_given.load(Ordering::Relaxed)) {
            counted.note_dropped(held.clock.now() - self.taken_at);
        }
    }
}
