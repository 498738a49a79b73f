//! Which broker a request goes to, by the metadata.

use std::sync::Arc;

use milena_messages::ApiKey;
use milena_messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Broker, Snapshot, not_up};
use crate::rights::Resource;
use crate::{BrokerId, Failure};

/// The broker that a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Any broker that is up.
    Any,
    /// This broker.
    Broker(BrokerId),
    /// The controller, which takes orders such as the creation of topics.
    Controller,
    /// The leader of a partition.
    Leader {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The coordinator of a group or a transactional producer, which the metadata do not name: it is looked up.
    Coordinator(Coordinated),
}

/// A group or a transactional producer: each has a broker as its coordinator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coordinated {
    /// A consumer group, by id.
    Group(Arc<str>),
    /// A transactional producer, by id.
    Transaction(Arc<str>),
}

impl Coordinated {
    /// The request that looks its coordinator up, in versions up to 3. Later versions look up several at a time.
    pub fn request(&self) -> FindCoordinatorRequest {
        let (key_type, key) = match self {
            Self::Group(id) => (0, id),
            Self::Transaction(id) => (1, id),
        };
        FindCoordinatorRequest { key: (&**key).into(), key_type, ..Default::default() }
    }

    /// The failure of a look-up, which names what was looked for if a right is missing.
    #[must_use]
    pub fn name(&self, failure: Failure) -> Failure {
        match self {
            Self::Group(id) => failure.on(Resource::Group, id),
            Self::Transaction(id) => failure.on(Resource::TransactionalId, id),
        }
    }

    /// The coordinator that an answer names.
    ///
    /// # Errors
    /// When the answer says that there is none, or none at present.
    pub fn coordinator(response: &FindCoordinatorResponse) -> Result<Broker, Failure> {
        let checked = Failure::check(response.error_code, response.error_message.as_deref());
        checked.map_err(|failure| failure.of(ApiKey::FindCoordinator))?;
        let nowhere = || Failure::NoRoute("the broker names no coordinator".into());
        let id = BrokerId::known(response.node_id).ok_or_else(nowhere)?;
        let port = u16::try_from(response.port).map_err(|_| nowhere())?;
        Ok(Broker { id, host: Arc::from(&*response.host), port, rack: None })
    }
}

impl Snapshot {
    /// The broker for `destination`; none if any broker will do.
    ///
    /// # Errors
    /// When the metadata has no such broker at present.
    pub fn route(&self, destination: &Destination) -> Result<Option<BrokerId>, Failure> {
        let broker = match destination {
            Destination::Any => return Ok(None),
            Destination::Broker(broker) => *broker,
            Destination::Controller => self
                .controller
                .ok_or_else(|| Failure::NoRoute("the cluster has no controller at present".into()))?,
            Destination::Leader { topic, partition } => {
                let (_, found) = self.partition(topic, *partition)?;
                found.leader.ok_or_else(|| found.leaderless(topic))?
            }
            Destination::Coordinator(_) => {
                return Err(Failure::NoRoute("the coordinator is not looked up yet".into()));
            }
        };
        if self.brokers.contains_key(&broker) {
            return Ok(Some(broker));
        }
        Err(not_up(broker))
    }
}
