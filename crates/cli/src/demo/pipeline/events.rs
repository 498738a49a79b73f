//! What happens during a run: one line each for a person, and the alerts for the report.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::output::print;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Events {
    started: Instant,
    /// Whether a person watches.
    is_shown: bool,
    alerts: Mutex<Vec<AlertSeen>>,
}

/// An alert that the webhook has received.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AlertSeen {
    pub(super) name: String,
    pub(super) summary: String,
    /// Seconds since the run began.
    pub(super) opened: f64,
    pub(super) resolved: Option<f64>,
}

impl Events {
    pub(super) fn new(is_shown: bool) -> Self {
        Self { started: Instant::now(), is_shown, alerts: Mutex::default() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says something, with the time.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        self.line(format_args!("{:>5.1} s  {text}", self.elapsed().as_secs_f64()));
    }

    /// Says something.
    pub(super) fn line(&self, text: impl std::fmt::Display) {
        if self.is_shown {
            // If stdout is closed, the run goes on: its exit code still says how it ended.
            let _ = print(&format!("{text}\n"));
        }
    }

    /// An alert has come.
    pub(super) fn alert(&self, name: &str, is_resolved: bool, summary: &str) {
        let now = self.elapsed().as_secs_f64();
        let mut alerts = self.lock();
        if is_resolved {
            let open = alerts.iter_mut().rev().find(|of| of.name == name && of.resolved.is_none());
            if let Some(open) = open {
                open.resolved = Some(now);
            }
        } else {
            let (name, summary) = (name.to_owned(), summary.to_owned());
            alerts.push(AlertSeen { name, summary, opened: now, resolved: None });
        }
        drop(alerts);
        if is_resolved {
            self.say(format_args!("the alert {name} is resolved"));
        } else {
            self.say(format_args!("ALERT {name}: {summary}"));
        }
    }

    pub(super) fn alerts(&self) -> Vec<AlertSeen> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AlertSeen>> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
