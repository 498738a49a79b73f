//! What the tasks of one pipeline share: its clock, what it has counted, and whether it is to stop.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::PipelineError;
use crate::stats::{RetryTierStats, Stall};
use crate::worker::{Command, Inbox};

pub(crate) struct Control {
    began: Instant,
    began_unix: Duration,
    pub(crate) counts: Counts,
    /// Why the pipeline stops, if not because it was told to.
    failure: Mutex<Option<PipelineError>>,
    is_stopping: AtomicBool,
    pub(crate) stopping: Notify,
    /// Records that cannot be put aside at present.
    held: AtomicUsize,
    concurrency: AtomicUsize,
    /// Partitions that the member has.
    partitions: AtomicUsize,
    /// Records in work for longer than the limit, by a number of their own.
    stalls: Mutex<Vec<Arc<Stall>>>,
    pub(crate) workers: OnceLock<Vec<Arc<Inbox<Command>>>>,
    pub(crate) on_stall: OnceLock<OnStall>,
    /// When the oldest dead letter was written, in milliseconds since the epoch. Below zero if there is none.
    oldest_dead_letter_ms: AtomicI64,
    /// Retry topics, by tier.
    pub(crate) tiers: OnceLock<Vec<Arc<TierCounts>>>,
}

pub(crate) type OnStall = Box<dyn Fn(&Stall) + Send + Sync>;

/// What one partition may have of this many places.
pub(crate) fn share_of(places: usize) -> usize {
    places.saturating_sub((places / 4).max(1)).max(1)
}

/// What a pipeline has counted since it began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) records: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) failed_attempts: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) aside_failures: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) moved: AtomicU64,
}

/// What a pipeline has counted of the retry topics of one delay.
#[derive(Debug)]
pub(crate) struct TierCounts {
    pub(crate) delay: Duration,
    pub(crate) written: AtomicU64,
    pub(crate) finished: AtomicU64,
}

impl TierCounts {
    pub(crate) fn new(delay: Duration) -> Self {
        Self { delay, written: AtomicU64::new(0), finished: AtomicU64::new(0) }
    }

    pub(crate) fn stats(&self) -> RetryTierStats {
        let (written, finished) =
            (self.written.load(Ordering::Relaxed), self.finished.load(Ordering::Relaxed));
        RetryTierStats { delay: self.delay, written, finished }
    }
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            began_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            counts: Counts::default(),
            failure: Mutex::new(None),
            is_stopping: AtomicBool::new(false),
            stopping: Notify::new(),
            held: AtomicUsize::new(0),
            concurrency: AtomicUsize::new(0),
            partitions: AtomicUsize::new(0),
            stalls: Mutex::new(Vec::new()),
            workers: OnceLock::new(),
            on_stall: OnceLock::new(),
            oldest_dead_letter_ms: AtomicI64::new(-1),
            tiers: OnceLock::new(),
        }
    }

    /// The time since the pipeline began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When that was, as tokio's timers have it.
    pub(crate) fn at(&self, time: Duration) -> Instant {
        self.began + time
    }

    /// The same in milliseconds since the epoch.
    pub(crate) fn unix_ms(&self, time: Duration) -> i64 {
        i64::try_from(self.began_unix.saturating_add(time).as_millis()).unwrap_or(i64::MAX)
    }

    /// Ends the pipeline with this failure, unless it ends already.
    pub(crate) fn fail(&self, failure: PipelineError) {
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(failure);
        drop(known);
        self.stop();
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.stopping.notify_one();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub(crate) fn take_failure(&self) -> Option<PipelineError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A record cannot be put aside: nothing starts until it is.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    /// It is put aside, or its partition was given up.
    pub(crate) fn release(&self) {
        if self.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            for worker in self.workers.get().into_iter().flatten() {
                worker.push(Command::Wake);
            }
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    pub(crate) fn set_concurrency(&self, records: usize) {
        self.concurrency.store(records, Ordering::Relaxed);
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// How many records of one partition may be in work while there are others: three quarters of all, and one less than all. So one
    /// whose handlers hang leaves places to them.
    pub(crate) fn share(&self) -> usize {
        share_of(self.concurrency())
    }

    /// The member has this many partitions from now on.
    pub(crate) fn set_partitions(&self, count: usize) {
        self.partitions.store(count, Ordering::Relaxed);
    }

    /// Whether there is one partition at most, which may have all records in work.
    pub(crate) fn is_alone(&self) -> bool {
        self.partitions.load(Ordering::Relaxed) < 2
    }

    pub(crate) fn begin_stall(&self, stall: &Arc<Stall>) {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(stall));
    }

    pub(crate) fn end_stall(&self, stall: &Arc<Stall>) {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).retain(|of| !Arc::ptr_eq(of, stall));
    }

    pub(crate) fn set_oldest_dead_letter(&self, timestamp_ms: Option<i64>) {
        self.oldest_dead_letter_ms.store(timestamp_ms.unwrap_or(-1), Ordering::Relaxed);
    }

    /// How long ago the oldest dead letter was written.
    pub(crate) fn oldest_dead_letter(&self) -> Option<Duration> {
        let written = u64::try_from(self.oldest_dead_letter_ms.load(Ordering::Relaxed)).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(now.saturating_sub(Duration::from_millis(written)))
    }

    /// The number of records in work for longer than the limit.
    pub(crate) fn stalled(&self) -> usize {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn stalls(&self) -> Vec<Stall> {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.iter().map(|stall| Stall::clone(stall)).collect()
    }
}
