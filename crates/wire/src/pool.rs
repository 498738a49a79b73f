//! Buffers that come back: frames, open batches and decompressed batches are built in memory from here.
//!
//! ```text
//!  Pool::take ─▶ PooledBuffer ─ fill ─▶ into_bytes ─▶ Bytes, slices of it
//!      ▲              │ drop                             │ last one dropped
//!      └──────────────┴──────────────────────────────────┘
//! ```
//!
//! It must not know what the bytes mean, nor how many of them may exist: that is the memory budget's business.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Where buffers are kept between uses. [`SizeClasses`] is the default one; implement this to bring your own.
///
/// Calls come once per frame or batch, from any thread, and must not block for long.
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
    /// A kept buffer whose capacity is `bytes_min` or more, or none, upon which the [`Pool`] allocates one.
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>>;

    /// Takes back a buffer nobody uses any more, to keep or to drop. Its content is to be ignored.
    fn give(&self, buffer: Vec<u8>);
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
    bytes_out: AtomicUsize,
}

/// What a pool has done, and what of it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers that were there when asked for.
    pub hits: u64,
    /// Buffers that had to be allocated.
    pub misses: u64,
    /// Capacity of all buffers in use now, in bytes: as it was when each was taken or turned into [`Bytes`].
    pub bytes_out: usize,
}

impl Pool {
    /// A pool that keeps its buffers in `buffers`.
    pub fn new(buffers: impl BufferPool + 'static) -> Self {
        let shared = Shared {
            buffers: Box::new(buffers),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
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
    /// This reserves memory, so `bytes_min` must never be a length that the other side merely announced.
    pub fn take(&self, bytes_min: usize) -> PooledBuffer {
        let mut buffer = self.take_uncleared(bytes_min);
        buffer.clear();
        buffer
    }

    /// [`take`](Self::take), but with what its former user left in it: for codecs, which overwrite memory and then need
    /// not clear it first.
    pub(crate) fn take_uncleared(&self, bytes_min: usize) -> PooledBuffer {
        let shared = &self.shared;
        let memory = if let Some(memory) = shared.buffers.take(bytes_min) {
            shared.hits.fetch_add(1, Ordering::Relaxed);
            memory
        } else {
            shared.misses.fetch_add(1, Ordering::Relaxed);
            Vec::with_capacity(class_bytes(bytes_min))
        };
        let counted = memory.capacity();
        shared.bytes_out.fetch_add(counted, Ordering::Relaxed);
        PooledBuffer { memory, counted, pool: self.clone() }
    }

    /// The counters.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            hits: self.shared.hits.load(Ordering::Relaxed),
            misses: self.shared.misses.load(Ordering::Relaxed),
            bytes_out: self.shared.bytes_out.load(Ordering::Relaxed),
        }
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

/// A byte vector on loan from a [`Pool`], to which it returns when dropped.
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

    /// Counts the capacity as it is now.
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
        self.pool.shared.buffers.give(std::mem::take(&mut self.memory));
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

/// Buffers kept by size, in powers of two from 1 KiB to 16 MiB, up to a total.
///
/// Smaller requests get the smallest size; larger ones are allocated exactly and not kept.
pub struct SizeClasses {
    classes: [Mutex<Vec<Vec<u8>>>; CLASS_COUNT],
    kept_bytes: AtomicUsize,
    kept_bytes_max: usize,
}

const CLASS_BITS_MIN: u32 = 10;
const CLASS_BITS_MAX: u32 = 24;
const CLASS_COUNT: usize = (CLASS_BITS_MAX - CLASS_BITS_MIN + 1) as usize;

impl SizeClasses {
    /// 64 MiB: what one busy client has moving at a time, and little beside its memory budget.
    pub const KEPT_BYTES_MAX_DEFAULT: usize = 64 << 20;

    /// Keeps up to `kept_bytes_max` bytes of buffers that nobody uses.
    pub fn new(kept_bytes_max: usize) -> Self {
        Self { classes: Default::default(), kept_bytes: AtomicUsize::new(0), kept_bytes_max }
    }

    /// Bytes of buffers kept here now.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    fn pop(&self, class: usize) -> Option<Vec<u8>> {
        // A vector is whole whatever panicked beside it.
        let mut buffers = self.classes[class].lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffers.pop()?;
        self.kept_bytes.fetch_sub(buffer.capacity(), Ordering::Relaxed);
        Some(buffer)
    }
}

impl Default for SizeClasses {
    fn default() -> Self {
        Self::new(Self::KEPT_BYTES_MAX_DEFAULT)
    }
}

impl BufferPool for SizeClasses {
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        let class =
            bytes_min.max(1).next_power_of_two().trailing_zeros().saturating_sub(CLASS_BITS_MIN) as usize;
        // The next larger size will do; beyond it a small use would sit on large memory.
        (class..CLASS_COUNT.min(class + 2)).find_map(|class| self.pop(class))
    }

    fn give(&self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let Some(bits) =
            capacity.checked_ilog2().filter(|bits| (CLASS_BITS_MIN..=CLASS_BITS_MAX).contains(bits))
        else {
            return;
        };
        let kept = self.kept_bytes.fetch_add(capacity, Ordering::Relaxed);
        if kept + capacity > self.kept_bytes_max {
            self.kept_bytes.fetch_sub(capacity, Ordering::Relaxed);
            return;
        }
        let class = &self.classes[(bits - CLASS_BITS_MIN) as usize];
        class.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl fmt::Debug for SizeClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SizeClasses({} of {} bytes kept)", self.kept_bytes(), self.kept_bytes_max)
    }
}

/// The capacity to allocate, so that the buffer serves the next taker of about that size as well.
fn class_bytes(bytes_min: usize) -> usize {
    if bytes_min > 1 << CLASS_BITS_MAX {
        return bytes_min;
    }
    bytes_min.next_power_of_two().max(1 << CLASS_BITS_MIN)
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
        assert_eq!(pool.stats(), PoolStats { hits: 1, misses: 1, bytes_out: 8192 });
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
}
