//! What rules look at.

use std::time::Duration;

use crate::{PipelineStats, Stall};

/// How a pipeline stands, as [rules](super::Rule) see it.
///
/// Totals count from the start of the pipeline. A figure that is not known stays at its default, and its rule never fires.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Records that are finished: processed, skipped, or written to the dead letters.
    pub records_total: u64,
    /// Records that were written to the dead letters.
    pub dead_letters_total: u64,
    /// Writes of dead letters that failed.
    pub dead_letter_writes_failed_total: u64,
    /// Whether no records are started because a dead letter cannot be written.
    pub is_held: bool,
    /// How long ago the oldest dead letter was written that waits for someone.
    pub oldest_dead_letter: Option<Duration>,
    /// Records that wait for another attempt, of [`PipelineStats`] those in its retry topics.
    pub retry_backlog: u64,
    /// Records that are in work for longer than [`report_after`](crate::Pipeline::report_after).
    pub stalls: Vec<Stall>,
}

impl From<PipelineStats> for Snapshot {
    fn from(stats: PipelineStats) -> Self {
        Self {
            retry_backlog: stats.retry_backlog(),
            oldest_dead_letter: stats.oldest_dead_letter,
            records_total: stats.finished,
            dead_letters_total: stats.dead,
            dead_letter_writes_failed_total: stats.dead_letter_failures,
            is_held: stats.is_held,
            stalls: stats.stalls,
        }
    }
}
