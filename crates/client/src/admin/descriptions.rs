//! The public types of what a cluster consists of: brokers, topics, partitions.

use std::sync::Arc;

use milena_core::BrokerId;
use milena_core::metadata::{Broker, Partition, Topic};

use crate::coordinator::Coordinator;

/// A cluster and its brokers.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The broker that orders such as the creation of topics are sent to. With KRaft that is any broker, which forwards them.
    pub controller: Option<i32>,
    /// The brokers that are up, by id.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its id.
    pub id: i32,
    /// The host it advertises.
    pub host: String,
    /// The port it advertises.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id in Kafka's own form. Brokers before 2.8 have none.
    pub id: Option<String>,
    /// Whether it is one of Kafka's own topics.
    pub is_internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its index.
    pub index: i32,
    /// The broker that leads it, if any does.
    pub leader: Option<i32>,
    /// The leader's epoch.
    pub leader_epoch: Option<i32>,
    /// Brokers that have a replica.
    pub replicas: Vec<i32>,
    /// Replicas that are in sync.
    pub isr: Vec<i32>,
    /// Replicas that are offline.
    pub offline: Vec<i32>,
}

impl From<&Broker> for BrokerDescription {
    fn from(broker: &Broker) -> Self {
        Self {
            id: broker.id.0,
            host: broker.host.to_string(),
            port: broker.port,
            rack: broker.rack.as_deref().map(str::to_owned),
        }
    }
}

/// The rack is none: the look-up of a coordinator does not tell it.
impl From<&Coordinator> for BrokerDescription {
    fn from(coordinator: &Coordinator) -> Self {
        let Coordinator { broker, address } = coordinator;
        Self { id: broker.0, host: address.host().to_owned(), port: address.port(), rack: None }
    }
}

impl From<&Arc<Topic>> for TopicDescription {
    fn from(topic: &Arc<Topic>) -> Self {
        Self {
            name: topic.name.to_string(),
            id: topic.id.map(|id| id.to_string()),
            is_internal: topic.is_internal,
            partitions: topic.partitions.iter().map(PartitionDescription::from).collect(),
        }
    }
}

impl From<&Partition> for PartitionDescription {
    fn from(partition: &Partition) -> Self {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
        Self {
            index: partition.index,
            leader: partition.leader.map(|leader| leader.0),
            leader_epoch: partition.leader_epoch.map(|epoch| epoch.0),
            replicas: ids(&partition.replicas),
            isr: ids(&partition.isr),
            offline: ids(&partition.offline),
        }
    }
}
