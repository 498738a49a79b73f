//! What the cluster consists of: brokers, topics, partitions.

use std::sync::Arc;

use milena_core::metadata::{Broker, Coordinated, Destination, Partition, Snapshot, Topic};
use milena_core::{BrokerId, Failure};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};

use super::Admin;
use crate::Error;

/// A cluster and its brokers.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The broker that takes topic creation and the like. With KRaft any broker passes it on.
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
    /// Its id in Kafka's own form; none from brokers before 2.8.
    pub id: Option<String>,
    /// Whether it is one of Kafka's own.
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

impl Admin {
    /// The cluster and its brokers.
    ///
    /// # Errors
    /// When no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let seen = self
            .look(Some(Vec::new()))
            .await
            .map_err(|failure| Error::harmless("describing the cluster", failure))?;
        Ok(ClusterDescription {
            cluster_id: seen.cluster_id.as_deref().map(str::to_owned),
            controller: seen.controller.map(|controller| controller.0),
            brokers: seen.brokers.values().map(BrokerDescription::from).collect(),
        })
    }

    /// The broker that coordinates a consumer group. The group need not exist.
    ///
    /// # Errors
    /// When there is none in time, or the group may not be seen.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn group_coordinator(&self, group: &str) -> Result<BrokerDescription, Error> {
        let of = Coordinated::Group(Arc::from(group));
        let found = self.within(self.client.find_coordinator(of, self.deadline())).await;
        let doing = || format!("looking for the coordinator of group {group:?}");
        found
            .map(|broker| BrokerDescription::from(&broker))
            .map_err(|failure| Error::harmless(doing(), failure))
    }

    /// The broker that coordinates a transactional producer. The producer need not exist.
    ///
    /// # Errors
    /// When there is none in time, or the producer may not be seen.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn transaction_coordinator(&self, id: &str) -> Result<BrokerDescription, Error> {
        let of = Coordinated::Transaction(Arc::from(id));
        let found = self.within(self.client.find_coordinator(of, self.deadline())).await;
        let doing = || format!("looking for the coordinator of transactional producer {id:?}");
        found
            .map(|broker| BrokerDescription::from(&broker))
            .map_err(|failure| Error::harmless(doing(), failure))
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// When no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn topics(&self) -> Result<Vec<TopicDescription>, Error> {
        let seen = self.look(None).await.map_err(|failure| Error::harmless("listing topics", failure))?;
        Ok(seen.topics.values().filter_map(|topic| topic.as_ref().ok()).map(TopicDescription::from).collect())
    }

    /// Some topics, one result per name, in the order given.
    ///
    /// # Errors
    /// When no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_topics<T: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Vec<(String, Result<TopicDescription, Error>)>, Error> {
        let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let asked = names.iter().map(|name| Arc::from(name.as_str())).collect();
        let seen =
            self.look(Some(asked)).await.map_err(|failure| Error::harmless("describing topics", failure))?;
        let result = |name: String| {
            let described = seen.topic(&name).map(TopicDescription::from);
            let described =
                described.map_err(|failure| Error::harmless(format!("describing topic {name:?}"), failure));
            (name, described)
        };
        Ok(names.into_iter().map(result).collect())
    }

    /// A snapshot made for this question alone: of these topics, or of all.
    async fn look(&self, topics: Option<Vec<Arc<str>>>) -> Result<Snapshot, Failure> {
        let topic =
            |name: &Arc<str>| MetadataRequestTopic { name: Some((&**name).into()), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.as_ref().map(|topics| topics.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let asked = self.client.ask_again(&Destination::Any, &request, self.deadline());
        let response = self.within(asked).await?;
        Ok(Snapshot::default().merge(&response, true))
    }
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
