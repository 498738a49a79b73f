//! What a pipeline counts in the registry of its client ([`milena::ClientBuilder::metrics`]).

use std::sync::{Arc, Weak};

use milena::metrics::{Collect, Family, Histogram, Joined, Registry, Sheet, Unit};

use crate::control::Control;
use crate::stats::PipelineStats;

/// Defines the families, and lists them.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = $family:expr;)*) => {
        $($(#[$doc])* pub static $name: Family = $family;)*

        /// All families of a pipeline.
        pub static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

const GROUP: &[&str] = &["group"];

families! {
    /// Records that were started.
    RECORDS = Family::counter("milena_pipeline_records_total", "Records that workers have started.").labelled(GROUP, 0);
    /// Records that are finished.
    FINISHED = Family::counter("milena_pipeline_finished_total", "Records that are finished: processed, skipped, or written to the dead letters.").labelled(GROUP, 0);
    /// Attempts that failed.
    FAILED_ATTEMPTS = Family::counter("milena_pipeline_failed_attempts_total", "Attempts that failed, the handler's panics and time limits included.").labelled(GROUP, 0);
    /// Attempts after the first.
    RETRIES = Family::counter("milena_pipeline_retries_total", "Attempts in place after the first.").labelled(GROUP, 0);
    /// Attempts that took too long.
    EXPIRED_ATTEMPTS = Family::counter("milena_pipeline_expired_attempts_total", "Attempts that took longer than the time limit.").labelled(GROUP, 0);
    /// Dead letters.
    DEAD_LETTERS = Family::counter("milena_pipeline_dead_letters_total", "Records that were written to the dead letters.").labelled(GROUP, 0);
    /// Skipped records.
    SKIPPED = Family::counter("milena_pipeline_skipped_total", "Records that were given up and skipped.").labelled(GROUP, 0);
    /// Writes that failed.
    ASIDE_FAILURES = Family::counter("milena_pipeline_aside_failures_total", "Writes of dead letters, and to retry topics, that failed.").labelled(GROUP, 0);
    /// Whether nothing is started.
    HELD = Family::gauge("milena_pipeline_held", "1 while nothing is started because a record that is given up cannot be written to the dead letters or a retry topic, else 0.").labelled(GROUP, 0);
    /// Records that may be in work.
    CONCURRENCY = Family::gauge("milena_pipeline_concurrency", "Records that may be in work at the same time. It moves if it is adaptive.").labelled(GROUP, 0);
    /// Records in work for too long.
    STALLED_RECORDS = Family::gauge("milena_pipeline_stalled_records", "Records that are in work for longer than the limit for reports.").labelled(GROUP, 0);
    /// The age of the oldest dead letter.
    OLDEST_DEAD_LETTER = Family::gauge("milena_pipeline_oldest_dead_letter_seconds", "How long ago the oldest record was written that is in the topic of dead letters; none if it is empty.").in_unit(Unit::Seconds).labelled(GROUP, 0).joined(Joined::Most);
    /// Records written to retry topics.
    RETRY_WRITTEN = Family::counter("milena_pipeline_retry_topic_written_total", "Records that were written to the retry topics of this delay.").labelled(&["delay", "group"], 1);
    /// Records of retry topics that are finished.
    RETRY_FINISHED = Family::counter("milena_pipeline_retry_topic_finished_total", "Records of the retry topics of this delay that are finished: processed, put aside, or written to the next tier.").labelled(&["delay", "group"], 1);
    /// How long handlers take.
    HANDLER_SECONDS = Family::histogram("milena_pipeline_handler_seconds", "How long attempts took that did not end at once. Those that end when they are first polled are not among them.").in_unit(Unit::Seconds).labelled(GROUP, 0);
}

/// How long calls take that [`layers::Measure`](crate::layers::Measure) measures. It is the layer's, and not one of [`FAMILIES`].
pub static CALL_SECONDS: Family = Family::histogram(
    "milena_pipeline_call_seconds",
    "How long calls of handlers take, by outcome (succeeded, retriable, poison, fatal, dropped) and the name that layers::Measure was given.",
)
.in_unit(Unit::Seconds)
.labelled(&["outcome", "handler"], 1);

/// Tells the registry how a pipeline stands, for as long as this is kept.
pub(crate) struct Meter {
    group: String,
    control: Weak<Control>,
}

impl Meter {
    /// Makes the families known, and this pipeline one of those that are asked.
    pub(crate) fn register(registry: &Registry, group: &str, control: &Arc<Control>) -> Arc<dyn Collect> {
        registry.know(FAMILIES);
        let meter: Arc<dyn Collect> =
            Arc::new(Self { group: group.to_owned(), control: Arc::downgrade(control) });
        registry.collect_from(&meter);
        meter
    }
}

/// The histogram of how long this group's handlers take.
pub(crate) fn handler_times(registry: &Registry, group: &str) -> Arc<Histogram> {
    let shards = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    registry.histogram_with_shards(&HANDLER_SECONDS, &[group], shards)
}

impl Collect for Meter {
    fn collect(&self, sheet: &mut Sheet<'_>) {
        let Some(control) = self.control.upgrade() else { return };
        let stats = PipelineStats::of(&control);
        let group = &[&*self.group];
        let counters = [
            (&RECORDS, stats.records),
            (&FINISHED, stats.finished),
            (&FAILED_ATTEMPTS, stats.failed_attempts),
            (&RETRIES, stats.retries),
            (&EXPIRED_ATTEMPTS, stats.expired),
            (&DEAD_LETTERS, stats.dead),
            (&SKIPPED, stats.skipped),
            (&ASIDE_FAILURES, stats.dead_letter_failures),
        ];
        for (family, value) in counters {
            sheet.counter(family, group, value as f64);
        }
        sheet.gauge(&HELD, group, f64::from(u8::from(stats.is_held)));
        sheet.gauge(&CONCURRENCY, group, stats.concurrency as f64);
        sheet.gauge(&STALLED_RECORDS, group, stats.stalls.len() as f64);
        if let Some(age) = stats.oldest_dead_letter {
            sheet.gauge(&OLDEST_DEAD_LETTER, group, age.as_secs_f64());
        }
        for tier in &stats.retry_tiers {
            let delay = format!("{:?}", tier.delay);
            let labels = &[&*delay, &*self.group];
            sheet.counter(&RETRY_WRITTEN, labels, tier.written as f64);
            sheet.counter(&RETRY_FINISHED, labels, tier.finished as f64);
        }
    }
}
