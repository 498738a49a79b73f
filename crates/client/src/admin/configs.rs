//! The public types of configurations.

use std::fmt;

/// A resource that has a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
    /// A subscription to metrics of clients (KIP-714), by name: clients that match all of `match` (`client_id=orders-.*`) push the
    /// metrics whose names begin with one of `metrics` (`*` for all) each `interval.ms`. It is made by setting its entries, and
    /// removed by deleting them.
    ClientMetrics(String),
}

impl ConfigResource {
    /// The resource's type and its name, as requests have them.
    pub(super) fn key(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::Broker(id) => (BROKER, id.to_string()),
            Self::ClientMetrics(name) => (CLIENT_METRICS, name.clone()),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name:?}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::ClientMetrics(name) => write!(f, "the subscription to client metrics {name:?}"),
        }
    }
}

/// `DescribeConfigsRequest.Resources.ResourceType`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;

/// A change of one configuration entry, for [`Admin::alter_configs`](super::Admin::alter_configs).
///
/// ```
/// use milena::ConfigChange;
///
/// let changes = [
///     ConfigChange::set("retention.ms", "86400000"),
///     ConfigChange::delete("segment.ms"),
///     ConfigChange::append("cleanup.policy", "compact"),
/// ];
/// # assert_ne!(changes[0], changes[1]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    pub(super) name: String,
    /// `IncrementalAlterConfigsRequest.Resources.Configs.ConfigOperation`.
    pub(super) operation: i8,
    pub(super) value: Option<String>,
}

impl ConfigChange {
    /// Sets an entry.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 0, value: Some(value.into()) }
    }

    /// Takes a value away that was set, so that the default holds again.
    pub fn delete(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 1, value: None }
    }

    /// Adds words, separated by commas, to an entry that is a list.
    pub fn append(name: impl Into<String>, words: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 2, value: Some(words.into()) }
    }

    /// Takes words, separated by commas, away from an entry that is a list.
    pub fn subtract(name: impl Into<String>, words: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 3, value: Some(words.into()) }
    }
}

/// One configuration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; none if it is sensitive or is not set.
    pub value: Option<String>,
    /// Whether the value is the default, because nobody has set it.
    pub is_default: bool,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether the broker keeps its value secret.
    pub is_sensitive: bool,
}
