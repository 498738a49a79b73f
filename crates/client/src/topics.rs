//! Topic look-ups. A topic that the metadata has is found at once; one that is missing is waited for.

use std::sync::Arc;

use milena_core::metadata::{FRESH, Snapshot, Topic};
use milena_core::{Failure, Instant};

use crate::Client;
use crate::interest::{Concern, Interest};

/// A topic, and the interest that keeps it in the metadata.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) topic: Arc<Topic>,
    pub(crate) interest: Interest,
}

/// A look-up: what is looked for, and since when.
struct LookUp<'a> {
    topic: &'a str,
    partition: Option<i32>,
    /// The topic was created just now, so metadata from before tells nothing about it.
    is_new: bool,
    began: Instant,
}

/// What the metadata says to a look-up.
enum Seen {
    Found(Arc<Topic>),
    /// The topic is not there, and waiting for it is in vain.
    Refused(Failure),
    /// The topic is not there. The caller gets `failure` at `until` if nothing changes. With `doubt` the metadata is too old to
    /// be believed, and is asked for anew.
    NotYet {
        until: Instant,
        failure: Failure,
        doubt: bool,
    },
    /// The topic is there without the partition that is looked for, and the metadata is too old to be believed.
    Outgrown {
        topic: Arc<Topic>,
    },
}

impl Client {
    /// Looks up topic `name` with its partitions. A topic that no broker knows is waited for until
    /// [`unknown_topic_wait`](crate::ClientSettings::unknown_topic_wait) has passed since it was first missed. A caller that
    /// looks for it after that gets the error at once, or after new metadata if the last is over a second old. If the topic
    /// lacks `partition`, the metadata is asked for anew too, because partitions are added; the topic that comes back may
    /// still lack it.
    ///
    /// # Cancel safety
    /// Dropping the future gives back the interest that it holds.
    pub(crate) async fn topic(
        &self,
        name: &str,
        partition: Option<i32>,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        self.look_up(name, partition, false, deadline).await
    }

    /// As [`topic`](Self::topic), for a topic that was created just now. It may be missing for a moment, because brokers learn
    /// of it one after another.
    pub(crate) async fn topic_made(&self, name: &str, deadline: Instant) -> Result<Known, Failure> {
        self.look_up(name, None, true, deadline).await
    }

    /// As [`topic`](Self::topic), for a partition that was added just now: one new answer of a broker decides, whether it has the
    /// partition or not.
    pub(crate) async fn partition_made(
        &self,
        name: &str,
        partition: i32,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        self.look_up(name, Some(partition), true, deadline).await
    }

    /// Asks for new metadata without a backoff, because this client changed the cluster or waits for its controller.
    pub(crate) fn cluster_changed(&self) {
        let _ = self.0.concerns.send(Concern::Changed);
    }

    /// A new interest in a topic.
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
            // No broker has described the topic yet, or it has no partitions yet.
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

    /// Whether `snapshot` is young enough to be believed when it lacks something.
    fn is_fresh(&self, snapshot: &Snapshot) -> bool {
        let grace = if self.is_new { std::time::Duration::ZERO } else { FRESH };
        snapshot.asked_at.is_some_and(|at| at + grace >= self.began)
    }
}
