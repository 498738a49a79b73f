//! What a pipeline tells its client's registry of metrics ([`milena::ClientBuilder::metrics`]): its [`PipelineStats`], read when a
//! snapshot is taken. Nothing is counted for it that the pipeline does not count anyway.
//!
//! Pipelines whose clients share a registry are counted together. The series end with the pipeline.

use milena::metrics::{Collect, Family, Joined, Sheet, Unit};

use crate::control::Control;
use crate::stats::PipelineStats;

/// Defines the families, and lists them.
macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub(crate) static $name: Family = $family;)*

        /// All families of pipelines.
        pub static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

families! {
    STARTED = Family::counter("milena_pipeline_records_started_total", "Records that were started.");
    FINISHED = Family::counter("milena_pipeline_records_finished_total", "Records that are finished: processed, skipped, or written to the dead letters.");
    DEAD = Family::counter("milena_pipeline_dead_letters_total", "Records that were written to the dead letters.");
    SKIPPED = Family::counter("milena_pipeline_records_skipped_total", "Records that were skipped.");
    MOVED = Family::counter("milena_pipeline_records_moved_total", "Records that were written to a retry topic, each once per tier.");
    FAILED = Family::counter("milena_pipeline_failed_attempts_total", "Attempts that failed.");
    RETRIES = Family::counter("milena_pipeline_retries_total", "Attempts after the first.");
    EXPIRED = Family::counter("milena_pipeline_expired_attempts_total", "Attempts that took longer than the time limit.");
    ASIDE_FAILURES = Family::counter("milena_pipeline_dead_letter_failures_total", "Writes of dead letters, and to retry topics, that failed.");
    HELD = Family::gauge("milena_pipeline_held", "Pipelines that start nothing, because a record that is given up cannot be written.");
    CONCURRENCY = Family::gauge("milena_pipeline_concurrency", "Records that may be in work.");
    STALLED = Family::gauge("milena_pipeline_stalled_records", "Records that are in work for longer than the limit.");
    BACKLOG = Family::gauge("milena_pipeline_retry_backlog", "Records that wait in retry topics, by the topic's delay in seconds, as far as this member can know.")
        .labelled(&["delay"], 1);
    HANDLER_SECONDS = Family::histogram("milena_pipeline_handler_seconds", "How long handlers take for each call, by outcome (succeeded, retriable, poison, fatal, dropped) and the name that layers::Measure was given.")
        .in_unit(Unit::Seconds)
        .labelled(&["outcome", "handler"], 1);
    OLDEST_DEAD_LETTER = Family::gauge("milena_pipeline_oldest_dead_letter_seconds", "How long ago the oldest dead letter was written that is in the topic.")
        .in_unit(Unit::Seconds)
        .joined(Joined::Most);
}

impl Collect for Control {
    fn collect(&self, sheet: &mut Sheet<'_>) {
        let stats = PipelineStats::of(self);
        let counts = [
            (&STARTED, stats.records),
            (&FINISHED, stats.finished),
            (&DEAD, stats.dead),
            (&SKIPPED, stats.skipped),
            (&MOVED, stats.moved),
            (&FAILED, stats.failed_attempts),
            (&RETRIES, stats.retries),
            (&EXPIRED, stats.expired),
            (&ASIDE_FAILURES, stats.dead_letter_failures),
        ];
        for (family, count) in counts {
            sheet.counter(family, &[], count as f64);
        }
        sheet.gauge(&HELD, &[], f64::from(u8::from(stats.is_held)));
        sheet.gauge(&CONCURRENCY, &[], stats.concurrency as f64);
        sheet.gauge(&STALLED, &[], stats.stalls.len() as f64);
        for tier in &stats.retry_tiers {
            let delay = tier.delay.as_secs_f64().to_string();
            sheet.gauge(&BACKLOG, &[&delay], tier.written.saturating_sub(tier.finished) as f64);
        }
        if let Some(age) = stats.oldest_dead_letter {
            sheet.gauge(&OLDEST_DEAD_LETTER, &[], age.as_secs_f64());
        }
    }
}
