//! When to ask for metadata, and for which topics: one request at a time, at once when something changed, more and more
//! slowly while nothing does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use crate::backoff::Retry;
use crate::{Backoff, Instant, Rng};

/// How metadata is kept fresh.
#[derive(Debug, Clone)]
pub struct RefreshSettings {
    /// Metadata is asked for at least this often. `metadata.max.age.ms`.
    pub age_max: Duration,
    /// Between two requests while something is amiss.
    pub backoff: Backoff,
}

/// A request for metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The topics to describe.
    pub topics: Vec<Arc<str>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Refresh {
    settings: RefreshSettings,
    rng: Rng,
    /// The topics someone uses.
    topics: BTreeSet<Arc<str>>,
    /// Something was asked for since the last request went out.
    wanted: bool,
    asking: bool,
    retry: Retry,
    last: Option<Instant>,
}

impl Refresh {
    /// Knows no topic yet; the brokers were asked for just `now`.
    pub fn new(settings: RefreshSettings, rng: Rng, now: Instant) -> Self {
        let retry = Retry::default();
        Self { settings, rng, topics: BTreeSet::new(), wanted: false, asking: false, retry, last: Some(now) }
    }

    /// Someone needs `topic`. The first time it is asked for at once, as no backoff concerns it yet.
    pub fn handle_topic(&mut self, topic: &Arc<str>) {
        if self.topics.insert(Arc::clone(topic)) {
            self.wanted = true;
            self.retry.hurry();
        }
    }

    /// Nobody waits for `topic` any more.
    pub fn handle_forgotten(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Someone found the metadata outdated.
    pub fn handle_outdated(&mut self) {
        self.wanted = true;
    }

    /// The request was answered, and `snapshot` is what is known now.
    pub fn handle_answer(&mut self, snapshot: &Snapshot, now: Instant) {
        self.asking = false;
        self.last = Some(now);
        if self.topics.iter().all(|topic| snapshot.is_routable(topic)) {
            self.retry.succeeded();
            // Whoever finds it outdated right away waits a little: the brokers learn of changes one after another.
            self.retry.failed(now, &self.settings.backoff, &mut self.rng);
        } else {
            // Not yet created, not yet elected: look again soon, then more and more slowly.
            self.wanted = true;
            self.retry.failed(now, &self.settings.backoff, &mut self.rng);
        }
    }

    /// The request failed.
    pub fn handle_failure(&mut self, now: Instant) {
        self.asking = false;
        self.wanted = true;
        self.retry.failed(now, &self.settings.backoff, &mut self.rng);
    }

    /// The request to send now, if any.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.asking || self.poll_timeout().is_some_and(|at| at > now) {
            return None;
        }
        self.asking = true;
        self.wanted = false;
        Some(Ask { topics: self.topics.iter().cloned().collect() })
    }

    /// When to call [`poll_ask`](Self::poll_ask) again; none while a request is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.asking {
            return None;
        }
        let stale = self.last.map_or(Instant::ORIGIN, |last| last + self.settings.age_max);
        let soon = self.retry.not_before().unwrap_or(Instant::ORIGIN);
        Some(if self.wanted { soon } else { stale })
    }
}
