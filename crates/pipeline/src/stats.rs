//! What a pipeline says of itself, while it runs and when it has ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use milena::SharedRecord;

use crate::control::Control;

/// What came of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Records that are finished: processed, skipped, or written to the dead letters.
    pub finished: u64,
    /// Records that were written to the dead letters.
    pub dead: u64,
    /// Records that were skipped.
    pub skipped: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Records that were written to a retry topic, each once per tier. They are not finished by that.
    pub moved: u64,
    /// Records that were in work when the time to drain was over, or waited for another attempt. They are not committed. Records
    /// that had not started are not listed.
    pub left: Vec<Left>,
}

impl Report {
    pub(crate) fn of(stats: &PipelineStats, left: Vec<Left>) -> Self {
        let PipelineStats { finished, dead, skipped, retries, moved, .. } = *stats;
        Self { finished, dead, skipped, retries, moved, left }
    }
}

/// A record that was left unfinished.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Left {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Left {
    pub(crate) fn of(record: &SharedRecord) -> Self {
        Self { topic: record.topic().to_owned(), partition: record.partition(), offset: record.offset() }
    }
}

/// A record that is in work for longer than the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The number of the attempt; the first is 1.
    pub attempt: u32,
    /// For how long it was in work when it was reported.
    pub in_work: Duration,
    /// Records of its key that wait for it.
    pub waiting_for_its_key: usize,
    /// Records of its partition that were read and had not started.
    pub unstarted_of_its_partition: usize,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, attempt, in_work, .. } = self;
        write!(
            f,
            "the record at offset {offset} of partition {partition} of topic {topic:?} is in work for {in_work:?}, attempt {attempt}; \
             {} records wait for it, and {} of its partition have not started",
            self.waiting_for_its_key, self.unstarted_of_its_partition
        )
    }
}

/// Looks at a pipeline from outside. Cheap to clone.
#[derive(Clone)]
pub struct PipelineWatch {
    pub(crate) control: Arc<Control>,
}

impl PipelineWatch {
    /// What it has counted so far.
    pub fn stats(&self) -> PipelineStats {
        PipelineStats::of(&self.control)
    }

    /// Stops it as its shutdown does.
    pub fn stop(&self) {
        self.control.stop();
    }
}

impl fmt::Debug for PipelineWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipelineWatch").field(&self.stats()).finish()
    }
}

/// What a pipeline has counted since it began, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PipelineStats {
    /// Records that were started.
    pub records: u64,
    /// Records that are finished: processed, skipped, or written to the dead letters.
    pub finished: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Attempts that took longer than the time limit.
    pub expired: u64,
    /// Records that were written to the dead letters.
    pub dead: u64,
    /// Records that were skipped.
    pub skipped: u64,
    /// Records that were written to a retry topic, each once per tier. They are not finished by that.
    pub moved: u64,
    /// The retry topics, by tier.
    pub retry_tiers: Vec<RetryTierStats>,
    /// How long ago the oldest dead letter was written that is in the topic: those that were dealt with are to be deleted from it, for
    /// example by `milena dlq purge`. It is looked for when the pipeline starts, and every 30 s. None if there is none, or the
    /// pipeline has no dead letters.
    pub oldest_dead_letter: Option<Duration>,
    /// Writes of dead letters, and to retry topics, that failed.
    pub dead_letter_failures: u64,
    /// Whether nothing is started because a record that is given up cannot be written.
    pub is_held: bool,
    /// The number of records that may be in work.
    pub concurrency: usize,
    /// Records in work for longer than the limit.
    pub stalls: Vec<Stall>,
}

/// The retry topics of one delay, over all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryTierStats {
    /// The delay.
    pub delay: Duration,
    /// Records that this member has written to them since it began.
    pub written: u64,
    /// Records of them that this member has finished since it began: processed, put aside, or written to the next tier. They may
    /// have been written by other members, or before.
    pub finished: u64,
}

impl PipelineStats {
    /// Records that wait in retry topics, as far as this member can know: those that it has written and not finished. Other members
    /// may finish them; the group's lag in the retry topics counts them all.
    pub fn retry_backlog(&self) -> u64 {
        self.retry_tiers.iter().map(|tier| tier.written.saturating_sub(tier.finished)).sum()
    }

    pub(crate) fn of(control: &Control) -> Self {
        let counts = &control.counts;
        Self {
            records: counts.records.load(Ordering::Relaxed),
            finished: counts.finished.load(Ordering::Relaxed),
            failed_attempts: counts.failed_attempts.load(Ordering::Relaxed),
            retries: counts.retries.load(Ordering::Relaxed),
            expired: counts.expired.load(Ordering::Relaxed),
            dead: counts.dead.load(Ordering::Relaxed),
            skipped: counts.skipped.load(Ordering::Relaxed),
            moved: counts.moved.load(Ordering::Relaxed),
            retry_tiers: control.tiers.get().into_iter().flatten().map(|counts| counts.stats()).collect(),
            oldest_dead_letter: control.oldest_dead_letter(),
            dead_letter_failures: counts.aside_failures.load(Ordering::Relaxed),
            is_held: control.is_held(),
            concurrency: control.concurrency(),
            stalls: control.stalls(),
        }
    }
}
