//! Tells people when a pipeline needs them: many dead letters, dead letters that cannot be written, records that stall.
//!
//! ```text
//! PipelineWatch ─▶ Snapshot, once a second ─▶ rules (pure) ─▶ opened, resolved ─▶ a queue per receiver ─▶ Webhook, Command, Sink
//! ```
//!
//! ```
//! use milena_pipeline::alerts::{Alerts, Rule, Webhook};
//! use milena_pipeline::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 2)?;
//! # let client = milena::Client::connect(cluster.bootstrap()).await?;
//! # let shutdown = async {};
//! let alerts = Alerts::of("billing")
//!     .rule(Rule::dead_letter_rate(10))
//!     .rule(Rule::records_stall())
//!     .to(Webhook::slack("https://hooks.slack.com/services/T000/B000/XXXX")?);
//! Pipeline::new(client.consumer("billing").subscribe(["orders"]))
//!     .alerts(alerts)
//!     .run(|record: Record| async move { println!("{:?}", record.value()) }, shutdown)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! An alert is told once when it opens and once when it is resolved, within a second of the fact, and to each receiver in this
//! order. Deliveries that fail are tried again for about a minute, then counted and logged. Neither rules nor receivers ever hold up
//! the pipeline.

mod body;
mod command;
mod delivery;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(feature = "webhook")]
mod webhook;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use self::command::Command;
pub use self::delivery::AlertStats;
use self::delivery::{Counters, Queue, count};
pub use self::rules::Rule;
use self::rules::Rules;
pub use self::snapshot::Snapshot;
#[cfg(feature = "webhook")]
pub use self::webhook::Webhook;
use crate::{Failure, PipelineWatch, Retry};

/// Rules for one pipeline, and who is told.
#[derive(Debug)]
#[must_use = "nothing is watched before `watch` is called"]
pub struct Alerts {
    pipeline: Arc<str>,
    rules: Vec<Rule>,
    sinks: Vec<Arc<dyn Sink>>,
    every: Duration,
    retry: Retry,
}

/// Something that people should know.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The rule's name.
    pub name: Arc<str>,
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// What was the matter when it opened, in a sentence.
    pub summary: String,
    /// The figure that the rule looks at, in records, percent or seconds: when it opened, or when it was resolved.
    pub value: f64,
    /// The figure's limit.
    pub limit: f64,
    /// When it opened.
    pub starts_at: SystemTime,
    /// When it was last found to be so.
    pub seen_at: SystemTime,
    /// When it was resolved. None while it is open.
    pub ends_at: Option<SystemTime>,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Severity {
    /// Someone should look at it today.
    #[default]
    Warning,
    /// Someone should look at it now.
    Critical,
}

/// A receiver of alerts.
pub trait Sink: Send + Sync + fmt::Debug + 'static {
    /// What it is called in logs. It must not be a secret.
    fn name(&self) -> String;

    /// Delivers an alert that has opened or [was resolved](Alert::is_resolved). The next one is delivered when this is done.
    ///
    /// # Errors
    /// When it was not delivered. Unless the failure is [poison](Failure::poison), it is tried again.
    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a>;

    /// How often alerts are delivered again while they are open. Default: not at all.
    fn repeat_every(&self) -> Option<Duration> {
        None
    }
}

/// The future of [`Sink::deliver`].
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Alerts that watch a pipeline. When it is dropped they stop, and what is not delivered is lost: see [`close`](Self::close).
#[derive(Debug)]
pub struct AlertsHandle {
    shared: Arc<Shared>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    open: Mutex<Vec<Alert>>,
}

/// A setting of alerts that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertsError(String);

impl Alerts {
    /// Alerts of a pipeline that people know by this name, such as that of its group.
    pub fn of(pipeline: impl AsRef<str>) -> Self {
        let retry = Retry::exponential(Duration::from_secs(1), Duration::from_secs(30)).equal_jitter();
        let (rules, sinks) = (Vec::new(), Vec::new());
        let every = Duration::from_secs(1);
        Self { pipeline: pipeline.as_ref().into(), rules, sinks, every, retry: retry.attempts(7) }
    }

    /// Adds a rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds a receiver.
    pub fn to(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// How often rules are looked at. Default 1 s, at least 1 ms, at most a day.
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.clamp(Duration::from_millis(1), Duration::from_secs(86_400));
        self
    }

    /// How deliveries that fail are tried again. Default: 7 attempts, up to 30 s apart, with equal jitter: for about a minute. The
    /// deliveries after it wait as long.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Begins to watch a pipeline, best before it runs: what it has counted before does not count.
    ///
    /// # Errors
    /// When two rules have the same name and severity, so that receivers could not tell their alerts apart.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch(self, watch: PipelineWatch) -> Result<AlertsHandle, AlertsError> {
        self.watch_with(move || watch.stats().into())
    }

    /// As [`watch`](Self::watch), with snapshots of your own. `snapshot` must not block.
    ///
    /// # Errors
    /// When two rules have the same name and severity.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch_with(
        self,
        snapshot: impl Fn() -> Snapshot + Send + 'static,
    ) -> Result<AlertsHandle, AlertsError> {
        let mut known = BTreeSet::new();
        if let Some(twice) = self.rules.iter().find(|rule| !known.insert(rule.identity())) {
            let (name, severity) = twice.identity();
            let why = format!("two rules are named {name} with the severity {}: name one", severity.as_str());
            return Err(AlertsError(why));
        }
        let Self { pipeline, rules, sinks, every, retry } = self;
        let (shared, closing, mut tasks) =
            (Arc::new(Shared::default()), CancellationToken::new(), JoinSet::new());
        let queues = sinks.into_iter().map(|sink| {
            let (queue, task) = Queue::new(sink, retry.clone(), &shared.counters);
            tasks.spawn(task);
            queue
        });
        let (queues, epoch) = (queues.collect(), Instant::now());
        let rules = Rules::new(pipeline, SystemTime::now(), rules);
        let mut watching = Watching { shared: Arc::clone(&shared), rules, queues, epoch, snapshot };
        // Now, not when the task has its first turn: what is counted from here on counts.
        watching.look();
        let end = closing.clone();
        tasks.spawn(async move {
            let mut interval = tokio::time::interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while end.run_until_cancelled(interval.tick()).await.is_some() {
                watching.look();
            }
            // What happened since.
            watching.look();
        });
        Ok(AlertsHandle { shared, closing, tasks })
    }
}

struct Watching<S> {
    shared: Arc<Shared>,
    rules: Rules,
    queues: Vec<Queue>,
    epoch: Instant,
    snapshot: S,
}

impl<S: Fn() -> Snapshot> Watching<S> {
    fn look(&mut self) {
        let (now, mut changes) = (self.epoch.elapsed(), Vec::new());
        self.rules.evaluate(now, &(self.snapshot)(), &mut changes);
        let counters = &self.shared.counters;
        for alert in changes {
            count(if alert.is_resolved() { &counters.resolved } else { &counters.opened });
            let alert = Arc::new(alert);
            for queue in &self.queues {
                queue.push(&alert);
            }
        }
        for queue in &mut self.queues {
            queue.repeat(now, self.rules.open());
        }
        let open = self.rules.open().cloned().collect();
        *self.shared.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

impl AlertsHandle {
    /// What has become of alerts so far.
    pub fn stats(&self) -> AlertStats {
        self.shared.counters.stats()
    }

    /// The alerts that are open.
    pub fn open(&self) -> Vec<Alert> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks once more, and waits until all is delivered, but no longer than this. Alerts that are open stay open: that the
    /// pipeline has ended does not mend what they are about.
    ///
    /// # Cancel safety
    /// Dropped, what is not delivered is lost.
    pub async fn close(mut self, within: Duration) -> AlertStats {
        self.closing.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // What is late is given up when the tasks are dropped.
        let _ = tokio::time::timeout(within, ended).await;
        self.stats()
    }
}

impl Alert {
    /// Whether it is told that it has ended.
    pub fn is_resolved(&self) -> bool {
        self.ends_at.is_some()
    }

    /// `firing` or `resolved`.
    pub fn status(&self) -> &'static str {
        if self.is_resolved() { "resolved" } else { "firing" }
    }

    /// What two alerts that are the same one have in common: the names of pipeline and rule, and the severity.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.pipeline, self.name, self.severity.as_str())
    }
}

impl Severity {
    /// `warning` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl AlertsError {
    #[cfg(feature = "webhook")]
    fn new(why: String) -> Self {
        Self(why)
    }
}

impl fmt::Display for AlertsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AlertsError {}
