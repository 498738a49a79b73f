//! `Metadata`: describes the cluster, its brokers and its topics. The answer is for the caller alone: it does not become the
//! client's metadata.

use std::sync::Arc;

use milena_core::calls::{METADATA, Row};
use milena_core::metadata::Snapshot;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use super::{Admin, BrokerDescription, ClusterDescription, TopicDescription};
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// Asks for the brokers and for these topics, or for all topics if none are named.
struct Look(Option<Vec<Arc<str>>>);

impl ApiCall for Look {
    const ROW: &'static Row = &METADATA;
    type Request = MetadataRequest;
    /// The answer is taken as a whole.
    type Item = ();
    type Key = ();
    type Found = Snapshot;

    fn key(&self, _item: &()) {}

    fn request(&self, _items: &[&()]) -> MetadataRequest {
        let topic =
            |name: &Arc<str>| MetadataRequestTopic { name: Some((&**name).into()), ..Default::default() };
        MetadataRequest {
            topics: self.0.as_ref().map(|topics| topics.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        }
    }

    fn answers(&self, response: MetadataResponse) -> Answers<(), Snapshot> {
        vec![((), Ok(Snapshot::default().merge(&response, true)))]
    }
}

impl Admin {
    /// Describes the cluster and its brokers.
    ///
    /// # Errors
    /// When no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, Error> {
        let seen = self.call_one(&Look(Some(Vec::new())), ()).await;
        let seen = seen.map_err(|failure| Error::harmless("describing the cluster", failure))?;
        Ok(ClusterDescription {
            cluster_id: seen.cluster_id.as_deref().map(str::to_owned),
            controller: seen.controller.map(|controller| controller.0),
            brokers: seen.brokers.values().map(BrokerDescription::from).collect(),
        })
    }

    /// Lists all topics that this principal may see, sorted by name.
    ///
    /// # Errors
    /// When no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn topics(&self) -> Result<Vec<TopicDescription>, Error> {
        let seen = self.call_one(&Look(None), ()).await;
        let seen = seen.map_err(|failure| Error::harmless("listing topics", failure))?;
        Ok(seen.topics.values().filter_map(|topic| topic.as_ref().ok()).map(TopicDescription::from).collect())
    }

    /// Describes some topics. There is one result per name, in the order given.
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
        let seen = self.call_one(&Look(Some(asked)), ()).await;
        let seen = seen.map_err(|failure| Error::harmless("describing topics", failure))?;
        let result = |name: String| {
            let described = seen.topic(&name).map(TopicDescription::from);
            let described =
                described.map_err(|failure| Error::harmless(format!("describing topic {name:?}"), failure));
            (name, described)
        };
        Ok(names.into_iter().map(result).collect())
    }
}
