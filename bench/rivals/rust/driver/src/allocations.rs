//! Counts heap allocations of the whole process, cheaply enough to leave on in every measurement. Owns the global
//! allocator of each driver.
//!
//! A counter that all threads share would cost a client that allocates on several threads a bouncing cache line per
//! allocation, and be charged to it. So every thread has a slot of its own, and only those beyond the last share one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Allocations since the process began, and their bytes.
#[derive(Clone, Copy)]
pub(crate) struct Allocations {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Allocations {
    pub(crate) fn so_far() -> Self {
        let sum = |of: fn(&Slot) -> &AtomicU64| SLOTS.iter().map(|slot| of(slot).load(Relaxed)).sum();
        Self { count: sum(|slot| &slot.count), bytes: sum(|slot| &slot.bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: every call goes to the system's allocator with its arguments unchanged; the counting beside it allocates
// nothing, so it cannot come back here.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise about `block`, `layout` and `size` is passed on.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// On cache lines of its own.
#[repr(align(128))]
struct Slot {
    count: AtomicU64,
    bytes: AtomicU64,
}

static SLOTS: [Slot; SLOT_COUNT] =
    [const { Slot { count: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; SLOT_COUNT];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// More threads than any client starts here; the last slot is for all that come after.
const SLOT_COUNT: usize = 256;
const SHARED: usize = SLOT_COUNT - 1;

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count(bytes: usize) {
    let mut index = SLOT.get();
    if index == usize::MAX {
        index = NEXT.fetch_add(1, Relaxed).min(SHARED);
        SLOT.set(index);
    }
    let slot = &SLOTS[index];
    if index == SHARED {
        slot.count.fetch_add(1, Relaxed);
        slot.bytes.fetch_add(bytes as u64, Relaxed);
    } else {
        // One writer, so no read-modify-write is needed.
        slot.count.store(slot.count.load(Relaxed) + 1, Relaxed);
        slot.bytes.store(slot.bytes.load(Relaxed) + bytes as u64, Relaxed);
    }
}
