//! The interest that keeps a topic in the metadata, and what else the control task is told about topics.
//!
//! A user of a topic holds an [`Interest`] in it: a producer for each topic it writes to, a consumer for each topic that it is
//! assigned, a caller while it waits for one. The control task asks for the metadata of topics with an interest, and forgets
//! a topic some time after the last interest in it was dropped. Dropping an interest waits for nothing, so a future that holds
//! one may be dropped anywhere.

use std::sync::Arc;

use tokio::sync::mpsc;

/// Keeps a topic in the metadata while it lives.
#[derive(Debug)]
pub(crate) struct Interest {
    topic: Arc<str>,
    concerns: Concerns,
}

/// Where the control task is told about topics. Its senders bound it: an interest sends twice in its life, a look-up once
/// more.
pub(crate) type Concerns = mpsc::UnboundedSender<Concern>;

/// What the control task is told about topics.
#[derive(Debug)]
pub(crate) enum Concern {
    /// There is one more interest in the topic.
    Taken(Arc<str>),
    /// There is one interest less in the topic.
    GivenBack(Arc<str>),
    /// A look-up misses a topic or a partition in the metadata.
    Doubt,
    /// This client changed the cluster, or waits for its controller: new metadata is promising.
    Changed,
}

impl Interest {
    pub(crate) fn new(topic: Arc<str>, concerns: &Concerns) -> Self {
        // If the control task has ended, so has the client's runtime, and the topic needs no keeping.
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
