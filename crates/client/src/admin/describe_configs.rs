//! `DescribeConfigs`: the configuration of a topic or a broker.

use milena_core::calls::{DESCRIBE_CONFIGS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult,
};

use super::{Admin, ConfigEntry, ConfigResource};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeConfigs;

impl ApiCall for DescribeConfigs {
    const ROW: &'static Row = &DESCRIBE_CONFIGS;
    type Request = DescribeConfigsRequest;
    type Item = ConfigResource;
    /// The resource's type and name.
    type Key = (i8, String);
    type Found = Vec<ConfigEntry>;

    fn destination(&self, resource: &ConfigResource) -> Destination {
        match resource {
            ConfigResource::Topic(_) | ConfigResource::ClientMetrics(_) => Destination::Any,
            ConfigResource::Broker(id) => Destination::Broker(BrokerId(*id)),
        }
    }

    fn key(&self, resource: &ConfigResource) -> (i8, String) {
        resource.key()
    }

    fn request(&self, resources: &[&ConfigResource]) -> DescribeConfigsRequest {
        let resource = |resource: &&ConfigResource| {
            let (resource_type, name) = resource.key();
            DescribeConfigsResource { resource_type, resource_name: name.into(), ..Default::default() }
        };
        DescribeConfigsRequest { resources: resources.iter().map(resource).collect(), ..Default::default() }
    }

    fn answers(&self, response: DescribeConfigsResponse) -> Answers<(i8, String), Vec<ConfigEntry>> {
        let answer = |result: &DescribeConfigsResult| {
            let found = Failure::check(result.error_code, result.error_message.as_deref());
            let found = found.map(|()| result.configs.iter().map(ConfigEntry::from).collect());
            ((result.resource_type, result.resource_name.to_string()), found)
        };
        response.results.iter().map(answer).collect()
    }
}

/// `DescribeConfigsResourceResult.ConfigSource`: the value is the default.
const SOURCE_DEFAULT: i8 = 5;

impl Admin {
    /// Shows the configuration of a topic or a broker.
    ///
    /// # Errors
    /// When there is no such topic or broker, when this principal may not see its configuration, or when no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, Error> {
        let found = self.call_one(&DescribeConfigs, resource.clone()).await;
        found.map_err(|failure| {
            Error::harmless(format!("describing the configuration of {resource}"), failure)
        })
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
