//! Looking topics up: what is known already is told at once, what is missing is waited for.

use std::sync::Arc;

use milena_core::metadata::{FRESH, Snapshot, Topic};
use milena_core::{Failure, Instant};

use crate::Client;
use crate::interest::{Concern, Interest};

/// A topic and the interest that keeps it known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) topic: Arc<Topic>,
    pub(crate) interest: Interest,
}

/// A look-up: what it is for, and when it began.
struct LookUp<'a> {
    topic: &'a str,
    partition: Option<i32>,
    /// The topic was made just now: what was seen before tells nothing.
    is_new: bool,
    began: Instant,
}

/// How far a look-up is.
enum Seen {
    Found(Arc<Topic>),
    /// Not there, and waiting is in vain.
    Refused(Failure),
    /// Not there: to be told at `until` if nothing changes. With `doubt`, what we know is too old to go by.
    NotYet {
        until: Instant,
        failure: Failure,
        doubt: bool,
    },
    /// The topic is there, but not the partition that is looked for, and what we know is too old to go by.
    Outgrown {
        topic: Arc<Topic>,
    },
}

impl Client {
    /// `name` with its partitions. A topic that no broker knows is waited for until
    /// [`unknown_topic_wait`](crate::ClientSettings::unknown_topic_wait) has passed since it was first missed: whoever
    /// asks for it after that gets the error at once, or after one more look at the cluster if the last was over a second
    /// ago. If the topic lacks `partition`, the cluster is looked at again too, because partitions are added; the topic
    /// that comes back may still lack it.
    ///
    /// # Cancel safety
    /// Dropping the future gives the interest back.
    pub(crate) async fn topic(
        &self,
        name: &str,
        partition: Option<i32>,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        self.look_up(name, partition, false, deadline).await
    }

    /// As [`topic`](Self::topic), for a topic that was made just now: brokers learn of it one after another.
    pub(crate) async fn topic_made(&self, name: &str, deadline: Instant) -> Result<Known, Failure> {
        self.look_up(name, None, true, deadline).await
    }

    /// The cluster was changed by us: what we know of it is looked at again at once.
    pub(crate) fn cluster_changed(&self) {
        let _ = self.0.concerns.send(Concern::Changed);
    }

    /// An interest of its own in a topic, before it is looked up.
    pub(crate) fn interest_in(&self, topic: &Arc<str>) -> Interest {
        Interest::new(Arc::clone(topic), &self.0.concerns)
    }

    async fn look_up(
        &self,
        name: &str,
        partition: Option<i32>,
        is_new: bool,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        let mut snapshot = self.watch_snapshot();
        let interest = Interest::new(Arc::from(name), &self.0.concerns);
        let look_up = LookUp { topic: name, partition, is_new, began: self.0.clock.now() };
        let wait = self.0.settings.client.unknown_topic_wait;
        if is_new {
            self.cluster_changed();
        }
        let mut doubted = false;
        loop {
            let seen = look_up.see(&snapshot.borrow_and_update(), wait, deadline);
            let (until, outcome, doubt) = match seen {
                Seen::Found(topic) => return Ok(Known { topic, interest }),
                Seen::Refused(failure) => return Err(failure),
                Seen::NotYet { until, failure, doubt } => (until, Err(failure), doubt),
                Seen::Outgrown { topic } => (deadline.min(look_up.began + wait), Ok(topic), true),
            };
            if doubt && !std::mem::replace(&mut doubted, true) {
                let _ = self.0.concerns.send(Concern::Doubt);
            }
            match self.0.clock.timeout_at(until, snapshot.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(Failure::Closed),
                None => return outcome.map(|topic| Known { topic, interest }),
            }
        }
    }
}

impl LookUp<'_> {
    fn see(&self, snapshot: &Snapshot, wait: std::time::Duration, deadline: Instant) -> Seen {
        let state = match snapshot.topic_state(self.topic) {
            Ok(topic) if self.partition.is_none_or(|partition| topic.partition(partition).is_some()) => {
                return Seen::Found(topic);
            }
            Ok(topic) if self.is_fresh(snapshot) => return Seen::Found(topic),
            Ok(topic) => return Seen::Outgrown { topic },
            Err(state) => state,
        };
        let Some(missing_since) = snapshot.missing_since.get(self.topic) else {
            // No broker has described it yet, or it has no partitions yet.
            if state.is_final {
                return Seen::Refused(state.failure);
            }
            return Seen::NotYet { until: deadline, failure: state.failure, doubt: false };
        };
        if !self.is_fresh(snapshot) {
            let failure = snapshot.trouble.clone().unwrap_or(state.failure);
            return Seen::NotYet { until: deadline.min(self.began + wait), failure, doubt: true };
        }
        if state.is_final {
            return Seen::Refused(state.failure);
        }
        let since = if self.is_new { self.began } else { self.began.min(*missing_since) };
        Seen::NotYet { until: deadline.min(since + wait), failure: state.failure, doubt: false }
    }

    /// Whether `snapshot` is young enough for its word that something is not there.
    fn is_fresh(&self, snapshot: &Snapshot) -> bool {
        let grace = if self.is_new { std::time::Duration::ZERO } else { FRESH };
        snapshot.asked_at.is_some_and(|at| at + grace >= self.began)
    }
}
