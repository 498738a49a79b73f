//! Topics made and deleted.

use std::collections::BTreeMap;

use milena_core::Failure;
use milena_messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use milena_messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::{Admin, checked};
use crate::Error;

/// A topic to be made.
///
/// ```
/// let topic = milena::NewTopic::new("orders").partitions(6).replication(3).config("cleanup.policy", "compact");
/// # let _ = topic;
/// ```
#[derive(Debug, Clone)]
#[must_use = "a topic is made by Admin::create_topics"]
pub struct NewTopic {
    name: String,
    partitions: Option<i32>,
    replication: Option<i16>,
    configs: BTreeMap<String, String>,
}

/// CreateTopicsRequest.Topics.NumPartitions and ReplicationFactor: the broker's own default (KIP-464).
const BROKER_DEFAULT: i16 = -1;
/// DeleteTopicsRequest v6 has another shape, so that topics can be named by id; we name them by name.
const DELETE_BY_NAME: i16 = 5;

impl NewTopic {
    /// A topic with as many partitions and replicas as the brokers make by default.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, configs: BTreeMap::new() }
    }

    /// Sets the number of partitions.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// Sets the number of replicas of each partition.
    pub fn replication(mut self, count: i16) -> Self {
        self.replication = Some(count);
        self
    }

    /// Sets a topic configuration, such as `retention.ms`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// Whether its numbers can be meant: to a broker -1 is its default.
    fn check(&self) -> Result<(), Error> {
        let doing = || format!("creating topic {:?}", self.name);
        if let Some(count) = self.partitions.filter(|count| *count < 1) {
            return Err(Error::caller(
                doing(),
                format!("{count} partitions cannot be: a topic has 1 or more"),
            ));
        }
        if let Some(count) = self.replication.filter(|count| *count < 1) {
            return Err(Error::caller(
                doing(),
                format!("{count} replicas cannot be: a partition has 1 or more"),
            ));
        }
        Ok(())
    }

    fn to_request(&self) -> CreatableTopic {
        let config = |(name, value): (&String, &String)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
            ..Default::default()
        };
        CreatableTopic {
            name: self.name.as_str().into(),
            num_partitions: self.partitions.unwrap_or(i32::from(BROKER_DEFAULT)),
            replication_factor: self.replication.unwrap_or(BROKER_DEFAULT),
            configs: self.configs.iter().map(config).collect(),
            ..Default::default()
        }
    }
}

impl Admin {
    /// Makes one topic, and waits until it can be used.
    ///
    /// # Errors
    /// As [`create_topics`](Self::create_topics), and when this topic was refused.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), Error> {
        let (_, made) = self.create_topics([topic]).await?.remove(0);
        made
    }

    /// Makes topics, and waits until those that were made can be used. One result per topic, in the order given.
    ///
    /// # Errors
    /// When the request as a whole failed. [`Error::maybe_written`] tells whether topics may have been made all the
    /// same. When a topic is to have no partitions or no replicas; none was made then.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let topics: Vec<_> = topics.into_iter().collect();
        topics.iter().try_for_each(NewTopic::check)?;
        let request = CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::to_request).collect(),
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let deadline = self.deadline();
        let codes = |response: &CreateTopicsResponse| {
            response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
        };
        let response = self.within(self.client.order(i16::MAX, &request, codes, deadline)).await;
        let response = response.map_err(|failure| Error::new("creating topics", failure))?;
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            let doing = || format!("creating topic {:?}", topic.name);
            let answer = response.topics.iter().find(|answer| answer.name == topic.name.as_str());
            let mut made = match answer {
                Some(answer) => checked(doing, answer.error_code, answer.error_message.as_ref()),
                None => Err(Error::new(doing(), Failure::incomplete())),
            };
            if made.is_ok() {
                // Brokers learn of it one after another; whoever uses it next should not find it missing.
                let wait = self.within(self.client.topic_made(&topic.name, deadline)).await;
                made = wait.map(drop).map_err(|failure| Error::with_maybe_written(doing(), failure, true));
            }
            results.push((topic.name, made));
        }
        Ok(results)
    }

    /// Deletes topics with all their records. One result per topic, in the order given.
    ///
    /// # Errors
    /// When the request as a whole failed. [`Error::maybe_written`] tells whether topics may have been deleted all the
    /// same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_topics<T: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let request = DeleteTopicsRequest {
            topic_names: names.iter().map(|name| name.as_str().into()).collect(),
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let codes = |response: &DeleteTopicsResponse| {
            response.responses.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
        };
        let ordered = self.client.order(DELETE_BY_NAME, &request, codes, self.deadline());
        let response = self.within(ordered).await;
        let response = response.map_err(|failure| Error::new("deleting topics", failure))?;
        // Whoever uses one of them learns of it now.
        self.client.cluster_changed();
        let result = |name: String| {
            let doing = || format!("deleting topic {name:?}");
            let answer =
                response.responses.iter().find(|answer| answer.name.as_deref() == Some(name.as_str()));
            let deleted = match answer {
                Some(answer) => checked(doing, answer.error_code, answer.error_message.as_ref()),
                None => Err(Error::new(doing(), Failure::incomplete())),
            };
            (name, deleted)
        };
        Ok(names.into_iter().map(result).collect())
    }
}
