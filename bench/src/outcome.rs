//! A driver's line of results, in JSON.

use std::alloc::System;

use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::histogram::Histogram;

/// Counts every allocation of the process.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Counts allocations since it was made.
pub(crate) struct Allocations(Region<'static, System>);

impl Allocations {
    pub(crate) fn start() -> Self {
        Self(Region::new(ALLOCATOR))
    }

    /// The number of allocations and their bytes. Growing a buffer counts as one.
    pub(crate) fn count(&self) -> (u64, u64) {
        let change = self.0.change();
        ((change.allocations + change.reallocations) as u64, change.bytes_allocated as u64)
    }

    /// The bytes that were allocated and are not freed.
    pub(crate) fn live_bytes(&self) -> usize {
        let change = self.0.change();
        change.bytes_allocated.saturating_sub(change.bytes_deallocated)
    }
}

/// The measured figures.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) allocations: Option<(u64, u64)>,
    pub(crate) latency: Option<Histogram>,
    /// The highest capacity of the buffers in use after any batch.
    pub(crate) in_use_bytes: Option<usize>,
    /// What `flip` found.
    pub(crate) flips: Value,
    pub(crate) settings: Value,
}

impl Outcome {
    pub(crate) fn to_json(&self, client: &str, version: &str, mode: &str) -> Value {
        json!({
            "client": client,
            "version": version,
            "mode": mode,
            "records": self.records,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "allocations": self.allocations.map(|(count, _)| count),
            "allocated_bytes": self.allocations.map(|(_, bytes)| bytes),
            "latency_us": self.latency.as_ref().map(Histogram::to_json),
            "in_use_bytes": self.in_use_bytes,
            "flips": self.flips,
            "settings": self.settings,
        })
    }
}

/// The least that a consumer does with a value.
#[inline]
pub(crate) fn touch(value: &[u8]) -> u64 {
    match value {
        [first, .., last] => u64::from(*first) + u64::from(*last),
        _ => 0,
    }
}
