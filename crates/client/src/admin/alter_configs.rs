//! `IncrementalAlterConfigs`: changes some configs of a topic or a broker.

use milena_core::calls::{INCREMENTAL_ALTER_CONFIGS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::{Admin, ConfigChange, ConfigResource};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct AlterConfigs {
    configs: Vec<AlterableConfig>,
}

impl ApiCall for AlterConfigs {
    const ROW: &'static Row = &INCREMENTAL_ALTER_CONFIGS;
    type Request = IncrementalAlterConfigsRequest;
    type Item = ConfigResource;
    /// The resource's type and name.
    type Key = (i8, String);
    type Found = ();

    fn destination(&self, resource: &ConfigResource) -> Destination {
        match resource {
            ConfigResource::Topic(_) | ConfigResource::ClientMetrics(_) => Destination::Any,
            ConfigResource::Broker(id) => Destination::Broker(BrokerId(*id)),
        }
    }

    fn key(&self, resource: &ConfigResource) -> (i8, String) {
        resource.key()
    }

    fn request(&self, resources: &[&ConfigResource]) -> IncrementalAlterConfigsRequest {
        let resource = |resource: &&ConfigResource| {
            let (resource_type, name) = resource.key();
            let (resource_name, configs) = (name.into(), self.configs.clone());
            AlterConfigsResource { resource_type, resource_name, configs, ..Default::default() }
        };
        let resources = resources.iter().map(resource).collect();
        IncrementalAlterConfigsRequest { resources, ..Default::default() }
    }

    fn answers(&self, response: IncrementalAlterConfigsResponse) -> Answers<(i8, String), ()> {
        let answer = |result: &AlterConfigsResourceResponse| {
            let altered = Failure::check(result.error_code, result.error_message.as_deref());
            ((result.resource_type, result.resource_name.to_string()), altered)
        };
        response.responses.iter().map(answer).collect()
    }
}

impl Admin {
    /// Changes configs of a topic or a broker; configs that are not named stay as they are. All changes are made or none. A
    /// broker takes them over at once, or a moment later. Java's client calls it `incrementalAlterConfigs` (KIP-339).
    ///
    /// ```
    /// use milena::{ConfigChange, ConfigResource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// let orders = ConfigResource::Topic("orders".into());
    /// let changes = [ConfigChange::set("retention.ms", "86400000"), ConfigChange::delete("max.message.bytes")];
    /// client.admin().alter_configs(&orders, changes).await?;
    ///
    /// let wrong = client.admin().alter_configs(&orders, [ConfigChange::set("retention.ms", "soon")]).await;
    /// assert_eq!(wrong.unwrap_err().code_name(), Some("INVALID_CONFIG"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no such topic, broker or config, when a value is not right for its config, when this principal may not
    /// change it, or when no broker answers; [`Error::maybe_written`] tells whether it may have been changed all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: impl IntoIterator<Item = ConfigChange>,
    ) -> Result<(), Error> {
        let config = |change: ConfigChange| AlterableConfig {
            name: change.name.into(),
            config_operation: change.operation,
            value: change.value.map(Into::into),
            ..Default::default()
        };
        let call = AlterConfigs { configs: changes.into_iter().map(config).collect() };
        let altered = self.call_one(&call, resource.clone()).await;
        altered.map_err(|failure| Error::new(format!("changing the configuration of {resource}"), failure))
    }
}
