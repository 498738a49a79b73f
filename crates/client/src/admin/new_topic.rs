//! The public type of a topic to be created.

use std::collections::BTreeMap;

use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig};

use crate::Error;

/// A topic to be created by [`Admin::create_topics`](crate::Admin::create_topics).
///
/// ```
/// let topic = milena::NewTopic::new("orders").partitions(6).replication(3).config("cleanup.policy", "compact");
/// # let _ = topic;
/// ```
#[derive(Debug, Clone)]
#[must_use = "a topic is created by Admin::create_topics"]
pub struct NewTopic {
    name: String,
    partitions: Option<i32>,
    replication: Option<i16>,
    configs: BTreeMap<String, String>,
}

/// `CreateTopicsRequest.Topics.NumPartitions` and `ReplicationFactor` that ask for the broker's own default (KIP-464).
const BROKER_DEFAULT: i16 = -1;

impl NewTopic {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A topic with the brokers' default numbers of partitions and replicas.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, configs: BTreeMap::new() }
    }

    /// Sets the number of partitions. Default: the brokers' `num.partitions`.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// Sets the number of replicas of each partition. Default: the brokers' `default.replication.factor`.
    pub fn replication(mut self, count: i16) -> Self {
        self.replication = Some(count);
        self
    }

    /// Sets a configuration of the topic, such as `retention.ms`. Default: the brokers'.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// Refuses numbers that cannot be meant. To a broker -1 would be its own default.
    pub(super) fn check(&self) -> Result<(), Error> {
        let doing = || format!("creating topic {:?}", self.name);
        if let Some(count) = self.partitions.filter(|count| *count < 1) {
            return Err(Error::caller(
                doing(),
                format!("a topic has at least 1 partition, not {count} partitions"),
            ));
        }
        if let Some(count) = self.replication.filter(|count| *count < 1) {
            return Err(Error::caller(
                doing(),
                format!("a partition has at least 1 replica, not {count} replicas"),
            ));
        }
        Ok(())
    }

    pub(super) fn to_request(&self) -> CreatableTopic {
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
