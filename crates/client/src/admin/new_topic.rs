//! A topic to be made, as a public type.

use std::collections::BTreeMap;

use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig};

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

impl NewTopic {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

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
    pub(super) fn check(&self) -> Result<(), Error> {
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
