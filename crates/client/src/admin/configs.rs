//! Configurations of topics and brokers.

use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};

use super::{Admin, checked};
use crate::Error;

/// What a configuration belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
}

/// One configuration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; none when it is sensitive or has none.
    pub value: Option<String>,
    /// Whether it is the default, set by nobody.
    pub is_default: bool,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether its value is kept secret.
    pub is_sensitive: bool,
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// `DescribeConfigsResourceResult.ConfigSource`: nobody set it.
const SOURCE_DEFAULT: i8 = 5;

impl Admin {
    /// The configuration of a topic or broker.
    ///
    /// # Errors
    /// When there is no such resource, it may not be seen, or no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, Error> {
        let doing = || match resource {
            ConfigResource::Topic(name) => format!("describing the configuration of topic {name:?}"),
            ConfigResource::Broker(id) => format!("describing the configuration of broker {id}"),
        };
        let (resource_type, resource_name, destination) = match resource {
            ConfigResource::Topic(name) => (TOPIC, name.as_str().into(), Destination::Any),
            // Only the broker itself knows all of its own.
            ConfigResource::Broker(id) => (BROKER, id.to_string().into(), Destination::Broker(BrokerId(*id))),
        };
        let wanted = DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![wanted], ..Default::default() };
        let response = self.within(self.client.ask_again(&destination, &request, self.deadline())).await;
        let mut response = response.map_err(|failure| Error::harmless(doing(), failure))?;
        let Some(result) = response.results.pop() else {
            return Err(Error::harmless(doing(), Failure::incomplete()));
        };
        checked(doing, result.error_code, result.error_message.as_ref())?;
        Ok(result.configs.iter().map(ConfigEntry::from).collect())
    }
}

impl From<&DescribeConfigsResourceResult> for ConfigEntry {
    fn from(entry: &DescribeConfigsResourceResult) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.as_ref().map(ToString::to_string),
            is_default: entry.config_source == SOURCE_DEFAULT,
            is_read_only: entry.read_only,
            is_sensitive: entry.is_sensitive,
        }
    }
}
