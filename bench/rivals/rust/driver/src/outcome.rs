//! What a run came to, and the line of JSON that says so.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Settings;
use crate::allocations::Allocations;
use crate::latencies::Latencies;

/// An option that this client cannot honour.
#[derive(Debug)]
pub struct Unsupported(
    /// What it lacks.
    pub &'static str,
);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}

/// The results of records that were sent, counted wherever the client reports them.
#[derive(Default)]
pub struct Results {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Results {
    /// None yet, to be shared with callbacks.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// One record's result; the first failure is told on standard error.
    pub fn count<T>(&self, result: Result<T, impl Display>) {
        self.count_many(1, result);
    }

    /// The result that many records have together.
    pub fn count_many<T>(&self, records: u64, result: Result<T, impl Display>) {
        let Err(error) = result else {
            self.acknowledged.fetch_add(records, Relaxed);
            return;
        };
        if self.failed.fetch_add(records, Relaxed) == 0 {
            eprintln!("a record failed: {error:#}");
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// The measured part of a run, while it lasts.
pub struct Measuring {
    start: Instant,
    allocations: Allocations,
}

impl Measuring {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { allocations: Allocations::so_far(), start: Instant::now() }
    }

    /// Stops the clock.
    pub fn stop(self) -> Measured {
        let seconds = self.start.elapsed().as_secs_f64();
        let now = Allocations::so_far();
        Measured {
            seconds,
            allocations: now.count - self.allocations.count,
            allocated_bytes: now.bytes - self.allocations.bytes,
        }
    }
}

/// What the measured part took.
pub struct Measured {
    seconds: f64,
    allocations: u64,
    allocated_bytes: u64,
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    pub(crate) measured: Measured,
    pub(crate) latencies: Option<Arc<Latencies>>,
    pub(crate) settings: Settings,
}

impl Outcome {
    pub(crate) fn line(&self, client: &str, version: &str, mode: &str) -> Value {
        json!({
            "client": client,
            "version": version,
            "mode": mode,
            "records": self.records,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": self.measured.seconds,
            "allocations": self.measured.allocations,
            "allocated_bytes": self.measured.allocated_bytes,
            "latency_us": self.latencies.as_ref().map_or(Value::Null, |latencies| latencies.report()),
            "settings": self.settings,
        })
    }
}
