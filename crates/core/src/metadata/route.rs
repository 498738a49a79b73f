//! Which broker a request goes to.

use std::sync::Arc;

use super::Snapshot;
use crate::{BrokerId, Failure};

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Whoever is up.
    Any,
    /// This broker.
    Broker(BrokerId),
    /// The broker that takes topic creation and the like.
    Controller,
    /// The leader of a partition.
    Leader {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
}

impl Snapshot {
    /// The broker for `destination`; none when any will do.
    ///
    /// # Errors
    /// When there is no such broker at present.
    pub fn route(&self, destination: &Destination) -> Result<Option<BrokerId>, Failure> {
        let broker = match destination {
            Destination::Any => return Ok(None),
            Destination::Broker(broker) => *broker,
            Destination::Controller => self
                .controller
                .ok_or_else(|| Failure::NoRoute("the cluster has no controller at present".into()))?,
            Destination::Leader { topic, partition } => {
                let (_, found) = self.partition(topic, *partition)?;
                found.leader.ok_or_else(|| {
                    Failure::NoRoute(
                        format!("partition {partition} of topic {topic:?} has no leader at present").into(),
                    )
                })?
            }
        };
        if self.brokers.contains_key(&broker) {
            return Ok(Some(broker));
        }
        Err(Failure::NoRoute(format!("broker {broker} is not up").into()))
    }
}
