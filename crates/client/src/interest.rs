//! The interest that keeps topics known, and what else the control task is told of topics.
//!
//! Whoever uses a topic holds an [`Interest`] in it: a producer for the topics it writes to, a consumer for those it is
//! assigned, a caller while it waits. The control task asks about topics in which somebody has an interest, and forgets
//! the others. Giving an interest back waits for nothing, so a future may be dropped anywhere.

use std::sync::Arc;

use tokio::sync::mpsc;

/// A topic is kept known for as long as this lives.
#[derive(Debug)]
pub(crate) struct Interest {
    topic: Arc<str>,
    concerns: Concerns,
}

/// Where the control task is told what concerns topics. It is bounded by its senders: an interest sends twice in its
/// life, a look-up once more.
pub(crate) type Concerns = mpsc::UnboundedSender<Concern>;

/// What the control task is told of topics.
#[derive(Debug)]
pub(crate) enum Concern {
    /// Somebody takes an interest in the topic.
    Taken(Arc<str>),
    /// Somebody gives an interest back.
    GivenBack(Arc<str>),
    /// Somebody misses a topic or a partition.
    Doubt,
    /// We changed the cluster ourselves.
    Changed,
}

impl Interest {
    pub(crate) fn new(topic: Arc<str>, concerns: &Concerns) -> Self {
        // A control task that has ended needs to know nothing.
        let _ = concerns.send(Concern::Taken(Arc::clone(&topic)));
        Self { topic, concerns: concerns.clone() }
    }

    /// The topic's name.
    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let _ = self.concerns.send(Concern::GivenBack(Arc::clone(&self.topic)));
    }
}
