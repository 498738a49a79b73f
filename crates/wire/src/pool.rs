//! A pool of buffers for frames, open batches and decompressed batches, which return to it after use.
//!
//! ```text
//!  Pool::take ─▶ PooledBuffer ─ fill ─▶ into_bytes ─▶ Bytes, slices of it
//!      ▲              │ drop                             │ last one dropped
//!      └──────────────┴──────────────────────────────────┘
//! ```
//!
//! It must not know what the bytes mean, or how many of them may exist: the memory budget decides that.
//!
//! Where the buffers are kept is up to a [`BufferPool`], which the user may write. [`Pool`] trusts it with nothing: a pool
//! that panics, or returns a buffer that is too small, only costs an allocation, and is counted in [`PoolStats::faults`].

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Keeps buffers between uses. [`SizeClasses`] is the default; implement this trait to use another one.
///
/// Calls come once per frame or batch, from any thread, and must not block for long. If a call panics, or
/// [`take`](Self::take) returns a buffer that is too small, the [`Pool`] allocates a buffer instead, and counts that in
/// [`PoolStats::faults`].
///
/// ```
/// use milena_wire::pool::{BufferPool, Pool};
/// use std::sync::Mutex;
///
/// /// Keeps the last buffer.
/// #[derive(Default)]
/// struct One(Mutex<Option<Vec<u8>>>);
///
/// impl BufferPool for One {
///     fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
///         self.0.lock().ok()?.take_if(|buffer| buffer.capacity() >= bytes_min)
///     }
///
///     fn give(&self, buffer: Vec<u8>) {
///         if let Ok(mut kept) = self.0.lock() {
///             *kept = Some(buffer);
///         }
///     }
/// }
///
/// let pool = Pool::new(One::default());
/// drop(pool.take(5000));
/// pool.take(3000);
/// assert_eq!(pool.stats().hits, 1);
/// ```
pub trait BufferPool: Send + Sync {
    /// Returns a kept buffer with a capacity of at least `bytes_min`. If there is none, the [`Pool`] allocates a buffer.
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>>;

    /// Takes an unused buffer back, to keep it or to drop it. Its content has no meaning.
    fn give(&self, buffer: Vec<u8>);

    /// Frees the kept buffers that were not used since the last call. A client calls this every few seconds, so that an idle
    /// client keeps no buffers. The default does nothing.
    fn trim(&self) {}

    /// The bytes of the buffers that are kept now, for [`PoolStats::bytes_idle`]. The default says 0.
    fn kept_bytes(&self) -> usize {
        0
    }
}

/// A handle to a pool of buffers; clones share it.
///
/// ```
/// use milena_wire::pool::Pool;
///
/// let pool = Pool::default();
/// let mut buffer = pool.take(100);
/// buffer.extend_from_slice(b"a frame");
/// let bytes = buffer.into_bytes();
/// let slice = bytes.slice(2..);
/// drop(bytes);
/// assert!(pool.stats().bytes_out >= 100); // the slice holds the whole buffer
/// drop(slice);
/// assert_eq!(pool.stats().bytes_out, 0);
///
/// pool.take(100);
/// assert_eq!((pool.stats().misses, pool.stats().hits), (1, 1));
/// ```
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    buffers: Box<dyn BufferPool>,
    hits: AtomicU64,
    misses: AtomicU64,
    faults: AtomicU64,
    bytes_out: AtomicUsize,
}

/// The counters of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers that were taken from those kept.
    pub hits: u64,
    /// Buffers that had to be allocated.
    pub misses: u64,
    /// How often the [`BufferPool`] panicked or returned a buffer that is too small. Such a call of
    /// [`BufferPool::take`] counts as a miss as well.
    pub faults: u64,
    /// The capacity of all buffers in use, in bytes. Each counts as it was when it was taken or became [`Bytes`].
    pub bytes_out: usize,
    /// The bytes of the buffers that are kept for the next use ([`BufferPool::kept_bytes`]).
    pub bytes_idle: usize,
}

impl Pool {
    /// A pool that keeps its buffers in `buffers`.
    pub fn new(buffers: impl BufferPool + 'static) -> Self {
        let shared = Shared {
            buffers: Box::new(buffers),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            bytes_out: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A pool that keeps nothing: every buffer is allocated and freed.
    pub fn unpooled() -> Self {
        Self::new(SizeClasses::new(0))
    }

    /// An empty buffer with room for `bytes_min` bytes or more.
    ///
    /// This allocates memory, so `bytes_min` must never be a length that a peer has announced but not sent.
    pub fn take(&self, bytes_min: usize) -> PooledBuffer {
        let mut buffer = self.take_uncleared(bytes_min);
        buffer.clear();
        buffer
    }

    /// Like [`take`](Self::take), but with the content of the buffer's last use. Codecs overwrite it, and need not clear it
    /// first.
    pub(crate) fn take_uncleared(&self, bytes_min: usize) -> PooledBuffer {
        let shared = &self.shared;
        let kept = shared.guarded(None, |buffers| buffers.take(bytes_min));
        let memory = match kept {
            Some(memory) if memory.capacity() >= bytes_min => {
                shared.hits.fetch_add(1, Ordering::Relaxed);
                memory
            }
            unusable => {
                // The default pool returns none that is too small, so only a user's pool can be at fault.
                shared.faults.fetch_add(u64::from(unusable.is_some()), Ordering::Relaxed);
                shared.misses.fetch_add(1, Ordering::Relaxed);
                Vec::with_capacity(class_bytes(bytes_min))
            }
        };
        let counted = memory.capacity();
        shared.bytes_out.fetch_add(counted, Ordering::Relaxed);
        PooledBuffer { memory, counted, pool: self.clone() }
    }

    /// Frees the buffers that were not used since the last call: see [`BufferPool::trim`].
    pub fn trim(&self) {
        self.shared.guarded((), |buffers| buffers.trim());
    }

    /// The counters.
    pub fn stats(&self) -> PoolStats {
        let bytes_idle = self.shared.guarded(0, |buffers| buffers.kept_bytes());
        PoolStats {
            hits: self.shared.hits.load(Ordering::Relaxed),
            misses: self.shared.misses.load(Ordering::Relaxed),
            faults: self.shared.faults.load(Ordering::Relaxed),
            bytes_out: self.shared.bytes_out.load(Ordering::Relaxed),
            bytes_idle,
        }
    }
}

impl Shared {
    /// Calls the user's code. If it panics, the answer is `otherwise`: buffers are taken by the tasks of connections and given
    /// back wherever a batch is dropped, and a panic there would end the task, or the process if it is already unwinding.
    fn guarded<T>(&self, otherwise: T, call: impl FnOnce(&dyn BufferPool) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| call(&*self.buffers))).unwrap_or_else(|_| {
            self.faults.fetch_add(1, Ordering::Relaxed);
            otherwise
        })
    }
}

impl Default for Pool {
    /// A pool of [`SizeClasses`] that keeps up to [`SizeClasses::KEPT_BYTES_MAX_DEFAULT`].
    fn default() -> Self {
        Self::new(SizeClasses::default())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.stats()).finish()
    }
}

/// A byte vector from a [`Pool`]. Dropping it returns it to the pool.
///
/// It is used as the `Vec<u8>` it dereferences to.
pub struct PooledBuffer {
    memory: Vec<u8>,
    counted: usize,
    pool: Pool,
}

impl PooledBuffer {
    /// The content as [`Bytes`]; the memory returns to the pool when the last slice of it is dropped.
    ///
    /// Costs one small allocation per buffer.
    pub fn into_bytes(mut self) -> Bytes {
        self.recount();
        Bytes::from_owner(self)
    }

    /// The pool it came from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Updates the count of bytes to the present capacity.
    pub(crate) fn recount(&mut self) {
        let counted = std::mem::replace(&mut self.counted, self.memory.capacity());
        let bytes_out = &self.pool.shared.bytes_out;
        // Wrapping: the difference may be negative.
        bytes_out.fetch_add(self.counted.wrapping_sub(counted), Ordering::Relaxed);
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.shared.bytes_out.fetch_sub(self.counted, Ordering::Relaxed);
        let memory = std::mem::take(&mut self.memory);
        self.pool.shared.guarded((), |buffers| buffers.give(memory));
    }
}

impl Deref for PooledBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.memory
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PooledBuffer({} of {} bytes)", self.memory.len(), self.memory.capacity())
    }
}

/// Buffers kept by size, in eight steps for each power of two from 1 KiB to 16 MiB, up to a total.
///
/// Smaller requests get the smallest size. Larger buffers are allocated exactly and not kept. The buffer that returned last is
/// used first, so those that returned long ago are not needed. They are freed when the total would be exceeded, when a buffer
/// of another size is allocated while more than a few MiB are kept, and on [`trim`](BufferPool::trim).
///
/// ```
/// use milena_wire::pool::{BufferPool, SizeClasses};
///
/// let classes = SizeClasses::default();
/// classes.give(Vec::with_capacity(5000));
/// assert_eq!(classes.kept_bytes(), 5000);
/// assert!(classes.take(4000).is_some());
///
/// classes.give(Vec::with_capacity(5000));
/// classes.trim(); // it was used since the last call
/// assert_eq!(classes.kept_bytes(), 5000);
/// classes.trim();
/// assert_eq!(classes.kept_bytes(), 0);
/// ```
pub struct SizeClasses {
    kept: Mutex<Kept>,
    kept_bytes_max: usize,
}

struct Kept {
    /// The buffers of each class, in the order in which they returned.
    classes: [VecDeque<Returned>; CLASS_COUNT],
    /// A bit for each class that has buffers.
    filled: u128,
    bytes: usize,
    /// How many buffers have returned so far.
    returns: u64,
    /// How many had returned at the last trim.
    trimmed: u64,
}

/// An unused buffer, and how many had returned before it.
struct Returned {
    buffer: Vec<u8>,
    at: u64,
}

const CLASS_BITS_MIN: u32 = 10;
const CLASS_BITS_MAX: u32 = 24;
/// The steps for each power of two. A new buffer is at most an eighth larger than the request.
const STEPS: usize = 8;
const CLASS_COUNT: usize = (CLASS_BITS_MAX - CLASS_BITS_MIN) as usize * STEPS + 1;
/// A buffer of another class is used if it is at most twice as large, so that small uses do not hold large buffers.
const USABLE: u128 = (1 << (STEPS + 1)) - 1;
/// How many bytes may be kept of sizes that are not asked for. With less, buffers of varying sizes are freed and allocated in
/// turn; with more, the process holds unused memory. Bench: `cargo xtask bench writers`.
const SPARE_BYTES: usize = 9 << 20;

impl SizeClasses {
    /// 64 MiB, which is about the buffers of one busy client.
    pub const KEPT_BYTES_MAX_DEFAULT: usize = 64 << 20;

    /// Keeps up to `kept_bytes_max` bytes of unused buffers.
    pub fn new(kept_bytes_max: usize) -> Self {
        let classes = std::array::from_fn(|_| VecDeque::new());
        let kept = Kept { classes, filled: 0, bytes: 0, returns: 0, trimmed: 0 };
        Self { kept: Mutex::new(kept), kept_bytes_max }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No change can be interrupted by a panic, so the state is valid.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Takes the buffer of the smallest usable class that returned last.
    fn pop(&mut self, bytes_min: usize) -> Option<Vec<u8>> {
        let least = class_for(bytes_min);
        let usable = self.filled.checked_shr(least as u32)? & USABLE;
        if usable == 0 {
            return None;
        }
        let class = least + usable.trailing_zeros() as usize;
        let returned = self.classes[class].pop_back()?;
        self.account_for_removal(class, &returned);
        Some(returned.buffer)
    }

    fn push(&mut self, class: usize, buffer: Vec<u8>) {
        self.bytes += buffer.capacity();
        self.filled |= 1 << class;
        self.classes[class].push_back(Returned { buffer, at: self.returns });
        self.returns += 1;
    }

    /// Removes the buffer that returned first, if it returned before `before`.
    fn pop_oldest(&mut self, before: u64) -> Option<Vec<u8>> {
        let filled = (0..CLASS_COUNT).filter(|class| self.filled & 1 << class != 0);
        let oldest = filled.filter_map(|class| Some((self.classes[class].front()?.at, class))).min();
        let (_, class) = oldest.filter(|(at, _)| *at < before)?;
        let returned = self.classes[class].pop_front()?;
        self.account_for_removal(class, &returned);
        Some(returned.buffer)
    }

    fn account_for_removal(&mut self, class: usize, returned: &Returned) {
        self.bytes -= returned.buffer.capacity();
        if self.classes[class].is_empty() {
            self.filled &= !(1 << class);
        }
    }
}

impl Default for SizeClasses {
    fn default() -> Self {
        Self::new(Self::KEPT_BYTES_MAX_DEFAULT)
    }
}

// Buffers are freed after the lock is released, because the system takes long to free large memory.
impl BufferPool for SizeClasses {
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        let mut freed = Vec::new();
        let mut kept = self.kept();
        if let Some(buffer) = kept.pop(bytes_min) {
            return Some(buffer);
        }
        // No kept buffer fits, so free old ones to make room for the new allocation.
        let mut displaced = 0;
        while displaced < bytes_min && kept.bytes > SPARE_BYTES {
            let Some(buffer) = kept.pop_oldest(u64::MAX) else { break };
            displaced += buffer.capacity();
            freed.push(buffer);
        }
        drop(kept);
        None
    }

    fn give(&self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let Some(class) = class_of(capacity).filter(|_| capacity <= self.kept_bytes_max) else { return };
        let mut freed = Vec::new();
        let mut kept = self.kept();
        while kept.bytes + capacity > self.kept_bytes_max {
            freed.extend(kept.pop_oldest(u64::MAX));
        }
        kept.push(class, buffer);
        drop(kept);
    }

    fn trim(&self) {
        let mut freed = Vec::new();
        let mut kept = self.kept();
        let before = kept.trimmed;
        while let Some(buffer) = kept.pop_oldest(before) {
            freed.push(buffer);
        }
        kept.trimmed = kept.returns;
        drop(kept);
    }

    fn kept_bytes(&self) -> usize {
        self.kept().bytes
    }
}

impl fmt::Debug for SizeClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SizeClasses({} of {} bytes kept)", self.kept_bytes(), self.kept_bytes_max)
    }
}

/// The class of a buffer: the one with the largest size up to this capacity. `None` if such a buffer is not kept.
fn class_of(capacity: usize) -> Option<usize> {
    let bits = capacity.checked_ilog2().filter(|bits| *bits >= CLASS_BITS_MIN)?;
    let step = (capacity >> (bits - STEPS.ilog2())) % STEPS;
    Some((bits - CLASS_BITS_MIN) as usize * STEPS + step).filter(|class| *class < CLASS_COUNT)
}

/// The smallest class whose buffers all have `bytes_min`; [`CLASS_COUNT`] if there is none.
fn class_for(bytes_min: usize) -> usize {
    let Some(class) = class_of(bytes_min.max(1 << CLASS_BITS_MIN)) else { return CLASS_COUNT };
    if class_size(class) < bytes_min { class + 1 } else { class }
}

fn class_size(class: usize) -> usize {
    (STEPS + class % STEPS) << (CLASS_BITS_MIN as usize - STEPS.ilog2() as usize + class / STEPS)
}

/// The capacity to allocate, so that the buffer also fits the next request of about that size.
fn class_bytes(bytes_min: usize) -> usize {
    match class_for(bytes_min) {
        CLASS_COUNT => bytes_min,
        class => class_size(class),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_on_drop_and_serves_the_next_taker() {
        let pool = Pool::default();
        let mut buffer = pool.take(5000);
        buffer.extend_from_slice(b"old");
        let address = buffer.as_ptr();
        drop(buffer);
        let again = pool.take(4097);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        let expected = PoolStats { hits: 1, misses: 1, faults: 0, bytes_out: 5120, bytes_idle: 0 };
        assert_eq!(pool.stats(), expected);
        drop(again);
        assert_eq!(pool.stats(), PoolStats { bytes_out: 0, bytes_idle: 5120, ..expected });
    }

    #[test]
    fn a_buffer_serves_its_own_size_and_half_of_it_but_no_less() {
        for (kept, wanted, hit) in [
            (4096, 4096, true),
            (4096, 2049, true),
            (4096, 2000, true),
            (4096, 1024, false),
            (4096, 4097, false),
        ] {
            let pool = Pool::default();
            drop(pool.take(kept));
            drop(pool.take(wanted));
            assert_eq!(pool.stats().hits == 1, hit, "kept {kept}, wanted {wanted}");
        }
    }

    #[test]
    fn a_class_has_a_size_that_all_its_buffers_have() {
        for class in 0..CLASS_COUNT {
            let size = class_size(class);
            assert_eq!((class_of(size), class_for(size), class_bytes(size)), (Some(class), class, size));
            assert_eq!(class_of(size - 1), class.checked_sub(1));
            assert_eq!(class_for(size + 1), class + 1);
            assert!(class == 0 || class_bytes(class_size(class - 1) + 1) == size);
        }
        assert_eq!((class_size(0), class_size(CLASS_COUNT - 1)), (1 << 10, 1 << 24));
        assert_eq!((class_for(0), class_bytes(1)), (0, 1 << 10));
        assert_eq!((class_bytes((1 << 24) + 1), class_for(usize::MAX)), ((1 << 24) + 1, CLASS_COUNT));
    }

    #[test]
    fn what_is_kept_is_bounded_and_giants_are_not_kept() {
        let classes = SizeClasses::new(10_000);
        for _ in 0..5 {
            classes.give(Vec::with_capacity(4096));
        }
        assert_eq!(classes.kept_bytes(), 8192);
        let classes = SizeClasses::default();
        classes.give(Vec::with_capacity((32 << 20) + 1));
        classes.give(Vec::new());
        assert_eq!(classes.kept_bytes(), 0);
        assert!(classes.take(32 << 20).is_none());
    }

    #[test]
    fn what_came_back_first_goes_first() {
        let classes = SizeClasses::new(10_000);
        for bytes in [5120, 1024, 4096] {
            classes.give(Vec::with_capacity(bytes));
        }
        assert_eq!(classes.kept_bytes(), 1024 + 4096, "no room for the first one");
        assert!(classes.take(1000).is_some());
        classes.give(Vec::with_capacity(10_001));
        assert_eq!(classes.kept_bytes(), 4096, "no room for the new one");
    }

    #[test]
    fn memory_that_no_take_asks_for_makes_room_for_memory_that_is_asked_for() {
        let classes = SizeClasses::default();
        for _ in 0..16 {
            classes.give(Vec::with_capacity(4 << 20));
        }
        assert_eq!(classes.kept_bytes(), 64 << 20);
        for taken in 1..=100 {
            assert!(classes.take(1 << 20).is_none(), "four times as large is not usable");
            // A buffer of 4 MiB makes room for four of these, until little is left.
            let allocated = taken << 20;
            assert!(classes.kept_bytes() + allocated <= (64 << 20).max(SPARE_BYTES + allocated));
        }
        assert_eq!(classes.kept_bytes(), SPARE_BYTES / (4 << 20) * (4 << 20), "whole buffers");
    }

    #[test]
    fn sizes_in_turn_are_kept_side_by_side() {
        let pool = Pool::default();
        for round in 0..100_usize {
            let frame = pool.take(500_000 + round % 7 * 100_000);
            let batches: Vec<_> =
                (0..3).map(|batch| pool.take(60_000 + (round + batch) % 11 * 60_000)).collect();
            drop((frame, batches));
        }
        assert!(pool.stats().misses < 25, "{pool:?}");
    }

    #[test]
    fn what_is_idle_is_let_go_and_what_is_in_use_is_not() {
        let pool = Pool::new(SizeClasses::default());
        let (idle, used) = (pool.take(5000), pool.take(100_000));
        drop((idle, used));
        pool.trim();
        for _ in 0..3 {
            drop(pool.take(100_000));
            pool.trim();
        }
        assert_eq!((pool.stats().hits, pool.stats().misses), (3, 2));
        drop(pool.take(5000));
        assert_eq!(pool.stats().misses, 3, "it was idle");
        pool.trim();
        pool.trim();
        drop((pool.take(5000), pool.take(100_000)));
        assert_eq!(pool.stats().misses, 5, "all was idle");
    }

    #[test]
    fn a_grown_buffer_is_counted_as_it_is() {
        let pool = Pool::default();
        let mut buffer = pool.take(1024);
        buffer.resize(100_000, 0);
        let capacity = buffer.capacity();
        let bytes = buffer.into_bytes();
        assert_eq!(pool.stats().bytes_out, capacity);
        drop(bytes);
        assert_eq!(pool.stats().bytes_out, 0);
        assert!(pool.shared.buffers.take(60_000).is_some());
    }

    /// A pool that is wrong in one way.
    struct Faulty {
        panics: bool,
    }

    impl BufferPool for Faulty {
        fn take(&self, _: usize) -> Option<Vec<u8>> {
            assert!(!self.panics, "take");
            Some(Vec::with_capacity(10))
        }

        fn give(&self, _: Vec<u8>) {
            assert!(!self.panics, "give");
        }

        fn trim(&self) {
            assert!(!self.panics, "trim");
        }

        fn kept_bytes(&self) -> usize {
            assert!(!self.panics, "kept_bytes");
            7
        }
    }

    #[test]
    fn a_pool_that_panics_or_gives_too_little_costs_allocations_only() {
        let stats = |panics| {
            let pool = Pool::new(Faulty { panics });
            let buffer = pool.take(5000);
            assert!(buffer.capacity() >= 5000);
            let bytes = buffer.into_bytes();
            assert!(pool.stats().bytes_out >= 5000);
            drop(bytes);
            pool.trim();
            // Asking for the counters asks the pool once more.
            pool.stats()
        };
        let expected = PoolStats { hits: 0, misses: 1, faults: 1, bytes_out: 0, bytes_idle: 7 };
        assert_eq!(stats(false), expected);
        assert_eq!(stats(true), PoolStats { faults: 5, bytes_idle: 0, ..expected });
    }
}
