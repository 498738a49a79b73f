//! How much of a partition the workers have, and when they are given no more of it.

use std::sync::{Mutex, PoisonError};

use milena::PartitionHandle;

/// Pauses a partition while workers have enough of it, so that one whose records take long takes no more memory, and does not hold
/// up others. The consumer keeps what it has fetched of a paused partition, and delivers it when it is resumed.
#[derive(Debug)]
pub(crate) struct Flow {
    partition: PartitionHandle,
    /// From this many bytes on it is paused.
    high: usize,
    /// Below this many it is resumed.
    low: usize,
    /// The bytes of batches of which a record is unfinished, and whether the partition is paused. Both change under one lock: else
    /// a worker could resume it before it was paused, and nobody would resume it later.
    inner: Mutex<(usize, bool)>,
}

impl Flow {
    pub(crate) fn new(partition: PartitionHandle, high: usize) -> Self {
        // Below one is below nothing: it would never be resumed.
        Self { partition, high, low: (high / 2).max(1), inner: Mutex::new((0, false)) }
    }

    /// A worker is given a batch. Answers with the bytes that are out, this batch included.
    pub(crate) fn take(&self, bytes: usize) -> usize {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += bytes;
        if inner.0 >= self.high {
            // Also if it is paused: the program may have resumed it, through a handle of its own.
            inner.1 = true;
            self.partition.pause();
        }
        inner.0
    }

    /// All records of a batch are finished, or it was dropped.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 = inner.0.saturating_sub(bytes);
        if inner.0 < self.low && inner.1 {
            inner.1 = false;
            self.partition.resume();
        }
    }

    /// Whether the partition has to wait for its workers.
    pub(crate) fn is_slow(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 >= self.low
    }
}
