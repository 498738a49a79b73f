//! When an alert opens, and when it is resolved. It has no clock.
//!
//! ```text
//!            over the limit                     below the lower limit for a while
//!  Quiet ─────────────────────▶ Open (alert) ─────────────────────────────────────▶ Quiet
//! ```
//!
//! Opening is at once. The lower limit and the while keep a figure near its limit from opening and closing an alert again and
//! again, and the while doubles each time that happens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Alert, Severity, Snapshot};
use crate::window::Window;

/// When there is an alert.
///
/// ```
/// use milena_pipeline::alerts::{Rule, Severity};
/// use milena_pipeline::prelude::*;
///
/// let rules = [
///     Rule::dead_letter_rate(10),
///     Rule::dead_letter_rate(1000).named("ManyDeadLetters").severity(Severity::Critical),
///     Rule::dead_letter_ratio(1.0).window(5.minutes()),
///     Rule::oldest_dead_letter(2.days()),
///     Rule::retry_backlog(10_000),
///     Rule::dead_letter_writes_fail(),
///     Rule::records_stall(),
/// ];
/// # let _ = rules;
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    kind: Kind,
    name: Arc<str>,
    severity: Severity,
    window: Duration,
    resolve_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    DeadLetterRate { per_minute: u64 },
    DeadLetterRatio { percent: f64, records_min: u64 },
    OldestDeadLetter { age: Duration },
    RetryBacklog { records: u64 },
    DeadLetterWritesFail,
    RecordsStall,
}

impl Rule {
    /// More than `per_minute` records went to the dead letters within a minute. Its name is `DeadLetterRate`.
    pub fn dead_letter_rate(per_minute: u64) -> Self {
        Self::new(Kind::DeadLetterRate { per_minute }, "DeadLetterRate", Duration::from_secs(60))
    }

    /// More than `percent` of the records went to the dead letters within 5 minutes, of at least 20 records. Its name is
    /// `DeadLetterRatio`.
    pub fn dead_letter_ratio(percent: f64) -> Self {
        // A limit that is no number would never be passed.
        let percent = if percent.is_nan() { 0.0 } else { percent.clamp(0.0, 100.0) };
        let kind = Kind::DeadLetterRatio { percent, records_min: 20 };
        Self::new(kind, "DeadLetterRatio", Duration::from_secs(300))
    }

    /// A dead letter has waited for longer than this. Its name is `OldestDeadLetter`.
    pub fn oldest_dead_letter(age: Duration) -> Self {
        Self::new(Kind::OldestDeadLetter { age }, "OldestDeadLetter", Duration::ZERO)
    }

    /// More than `records` records wait for another attempt, in a pipeline those in its retry topics. Its name is `RetryBacklog`.
    pub fn retry_backlog(records: u64) -> Self {
        Self::new(Kind::RetryBacklog { records }, "RetryBacklog", Duration::ZERO)
    }

    /// A dead letter cannot be written, so that no records are started. Its name is `DeadLetterWritesFail`, and it is
    /// [critical](Severity::Critical).
    pub fn dead_letter_writes_fail() -> Self {
        Self::new(Kind::DeadLetterWritesFail, "DeadLetterWritesFail", Duration::ZERO)
            .severity(Severity::Critical)
    }

    /// A record is in work for longer than [`report_after`](crate::Pipeline::report_after). There is one alert for all such records.
    /// Its name is `RecordsStall`.
    pub fn records_stall() -> Self {
        Self::new(Kind::RecordsStall, "RecordsStall", Duration::ZERO)
    }

    fn new(kind: Kind, name: &str, window: Duration) -> Self {
        let resolve_after = Duration::from_secs(3);
        Self { kind, name: name.into(), severity: Severity::Warning, window, resolve_after }
    }

    /// The alert's name. Two rules of the same kind need names or severities of their own.
    pub fn named(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().into();
        self
    }

    /// How bad it is. Default [`Severity::Warning`].
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Over which time [`dead_letter_ratio`](Self::dead_letter_ratio) counts. Default 5 minutes. It is without effect for other rules:
    /// the rate is always that of a minute.
    pub fn window(mut self, window: Duration) -> Self {
        if let Kind::DeadLetterRatio { .. } = self.kind {
            self.window = window;
        }
        self
    }

    /// From how many records in the window on [`dead_letter_ratio`](Self::dead_letter_ratio) counts. Default 20.
    pub fn records_min(mut self, count: u64) -> Self {
        if let Kind::DeadLetterRatio { records_min, .. } = &mut self.kind {
            *records_min = count;
        }
        self
    }

    /// How long it has to be well before the alert is resolved. Default 3 seconds. An alert that opens again within 10 minutes takes
    /// twice as long each time, up to 5 minutes or to the time that is set here.
    pub fn resolve_after(mut self, time: Duration) -> Self {
        self.resolve_after = time;
        self
    }

    /// What two rules may not have in common.
    pub(super) fn identity(&self) -> (&str, Severity) {
        (&self.name, self.severity)
    }
}

/// The rules of a pipeline, and which of their alerts are open.
#[derive(Debug)]
pub(super) struct Rules {
    pipeline: Arc<str>,
    /// When the time of the rules began.
    epoch: SystemTime,
    tracked: Vec<Tracked>,
    last: Option<Totals>,
}

#[derive(Debug)]
struct Tracked {
    rule: Rule,
    counts: Window<60>,
    open: Option<Open>,
    /// When it was last resolved.
    resolved: Option<Duration>,
    /// How often it has opened soon after it was resolved.
    flaps: u32,
}

#[derive(Debug)]
struct Open {
    alert: Alert,
    /// Since when it is well.
    well_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Totals {
    records: u64,
    dead: u64,
    writes_failed: u64,
}

/// What a rule sees.
struct Reading {
    value: f64,
    limit: f64,
    is_over: bool,
    is_well: bool,
}

const RECORDS: usize = 0;
const DEAD: usize = 1;

/// An alert that opens this soon after it was resolved has flapped.
const FLAP: Duration = Duration::from_secs(600);
/// The longest time that flapping adds up to.
const RESOLVE_AFTER_MAX: Duration = Duration::from_secs(300);

impl Rules {
    pub(super) fn new(pipeline: Arc<str>, epoch: SystemTime, rules: Vec<Rule>) -> Self {
        let tracked = rules.into_iter().map(Tracked::new).collect();
        Self { pipeline, epoch, tracked, last: None }
    }

    /// Looks at a snapshot of the time `now`, which does not go back. What has opened or was resolved is added to `changes`.
    ///
    /// The totals of the first snapshot do not count: they are from before it looked.
    pub(super) fn evaluate(&mut self, now: Duration, snapshot: &Snapshot, changes: &mut Vec<Alert>) {
        let totals = Totals {
            records: snapshot.records_total,
            dead: snapshot.dead_letters_total,
            writes_failed: snapshot.dead_letter_writes_failed_total,
        };
        let last = self.last.replace(totals).unwrap_or(totals);
        // Totals go back when a pipeline starts anew.
        let added = Totals {
            records: totals.records.saturating_sub(last.records),
            dead: totals.dead.saturating_sub(last.dead),
            writes_failed: totals.writes_failed.saturating_sub(last.writes_failed),
        };
        let at = self.epoch.checked_add(now).unwrap_or(self.epoch);
        for tracked in &mut self.tracked {
            let reading = tracked.read(now, snapshot, added);
            changes.extend(tracked.step(now, at, &reading, &self.pipeline, snapshot));
        }
    }

    /// The alerts that are open.
    pub(super) fn open(&self) -> impl Iterator<Item = &Alert> {
        self.tracked.iter().filter_map(|tracked| tracked.open.as_ref()).map(|open| &open.alert)
    }
}

impl Tracked {
    fn new(rule: Rule) -> Self {
        let counts = Window::new(rule.window);
        Self { rule, counts, open: None, resolved: None, flaps: 0 }
    }

    fn read(&mut self, now: Duration, snapshot: &Snapshot, added: Totals) -> Reading {
        self.counts.advance(now);
        self.counts.add(RECORDS, added.records);
        self.counts.add(DEAD, added.dead);
        let [records, dead] = self.counts.sums();
        match self.rule.kind {
            Kind::DeadLetterRate { per_minute } => Reading::of(dead as f64, per_minute as f64),
            Kind::DeadLetterRatio { percent, records_min } => {
                // A dead letter may be counted before the record that it was.
                let records = records.max(dead);
                let ratio = if records == 0 { 0.0 } else { dead as f64 / records as f64 * 100.0 };
                let reading = Reading::of(ratio, percent);
                Reading { is_over: reading.is_over && records >= records_min, ..reading }
            }
            Kind::OldestDeadLetter { age } => {
                let oldest = snapshot.oldest_dead_letter.unwrap_or_default();
                // It only grows until someone has dealt with it: there is no lower limit.
                Reading::of_fact(oldest > age, oldest.as_secs_f64(), age.as_secs_f64())
            }
            Kind::RetryBacklog { records } => Reading::of(snapshot.retry_backlog as f64, records as f64),
            Kind::DeadLetterWritesFail => {
                let is_failing = snapshot.is_held || added.writes_failed > 0;
                Reading::of_fact(is_failing, added.writes_failed as f64, 0.0)
            }
            Kind::RecordsStall => {
                let count = snapshot.stalls.len();
                Reading::of_fact(count > 0, count as f64, 0.0)
            }
        }
    }

    /// Opens or resolves its alert.
    fn step(
        &mut self,
        now: Duration,
        at: SystemTime,
        reading: &Reading,
        pipeline: &Arc<str>,
        snapshot: &Snapshot,
    ) -> Option<Alert> {
        let resolve_after = self.resolve_after();
        let Some(open) = &mut self.open else {
            if !reading.is_over {
                return None;
            }
            let is_flap = self.resolved.is_some_and(|resolved| now.saturating_sub(resolved) < FLAP);
            self.flaps = if is_flap { self.flaps.saturating_add(1) } else { 0 };
            let alert = Alert {
                name: Arc::clone(&self.rule.name),
                pipeline: Arc::clone(pipeline),
                severity: self.rule.severity,
                summary: self.summary(reading, snapshot),
                value: reading.value,
                limit: reading.limit,
                starts_at: at,
                seen_at: at,
                ends_at: None,
            };
            self.open = Some(Open { alert: alert.clone(), well_since: None });
            return Some(alert);
        };
        if !reading.is_well {
            open.well_since = None;
            open.alert.seen_at = at;
            return None;
        }
        let well_since = *open.well_since.get_or_insert(now);
        if now.saturating_sub(well_since) < resolve_after {
            return None;
        }
        let Open { alert, .. } = self.open.take()?;
        self.resolved = Some(now);
        Some(Alert { value: reading.value, seen_at: at, ends_at: Some(at), ..alert })
    }

    fn resolve_after(&self) -> Duration {
        let after = self.rule.resolve_after;
        after.saturating_mul(1 << self.flaps.min(16)).min(RESOLVE_AFTER_MAX.max(after))
    }

    /// What is the matter, for people.
    fn summary(&self, reading: &Reading, snapshot: &Snapshot) -> String {
        let value = reading.value;
        match self.rule.kind {
            Kind::DeadLetterRate { per_minute } => {
                format!("{value} records went to the dead letters within a minute; the limit is {per_minute}")
            }
            Kind::DeadLetterRatio { percent, .. } => {
                let window = self.rule.window;
                format!(
                    "{value:.1} % of the records went to the dead letters within {window:?}; the limit is {percent} %"
                )
            }
            Kind::OldestDeadLetter { age } => {
                format!(
                    "the oldest dead letter has waited for {value:.0} s; the limit is {} s",
                    age.as_secs()
                )
            }
            Kind::RetryBacklog { records } => {
                format!("{value} records wait for another attempt; the limit is {records}")
            }
            Kind::DeadLetterWritesFail if snapshot.is_held => {
                "a dead letter cannot be written, and no records are started until it can".into()
            }
            Kind::DeadLetterWritesFail => "a dead letter could not be written".into(),
            Kind::RecordsStall => {
                let longest = snapshot.stalls.iter().max_by_key(|stall| stall.in_work);
                let others = snapshot.stalls.len().saturating_sub(1);
                let longest = longest.map(ToString::to_string).unwrap_or_default();
                if others == 0 { longest } else { format!("{longest}; and {others} other records") }
            }
        }
    }
}

impl Reading {
    /// A figure that is over its limit, and well again when it is four fifths of it at most.
    fn of(value: f64, limit: f64) -> Self {
        Self { value, limit, is_over: value > limit, is_well: value <= limit * 0.8 }
    }

    /// Something that is, or is not.
    fn of_fact(is_over: bool, value: f64, limit: f64) -> Self {
        Self { value, limit, is_over, is_well: !is_over }
    }
}
