//! `ListConfigResources`, in the version in which it lists subscriptions to metrics of clients (KIP-714).

use milena_core::Failure;
use milena_core::calls::{LIST_CLIENT_METRICS, Row};
use milena_messages::list_config_resources::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::Admin;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct ListClientMetrics;

impl ApiCall for ListClientMetrics {
    const ROW: &'static Row = &LIST_CLIENT_METRICS;
    type Request = ListConfigResourcesRequest;
    type Item = ();
    type Key = ();
    type Found = Vec<String>;

    fn key(&self, (): &()) {}

    fn request(&self, _items: &[&()]) -> ListConfigResourcesRequest {
        ListConfigResourcesRequest::default()
    }

    fn answers(&self, response: ListConfigResourcesResponse) -> Answers<(), Vec<String>> {
        let names = response.config_resources.iter().map(|resource| resource.resource_name.to_string());
        vec![((), Failure::check(response.error_code, None).map(|()| names.collect()))]
    }
}

impl Admin {
    /// Lists the names of the subscriptions to metrics of clients (KIP-714), in order. Their entries are those of
    /// [`ConfigResource::ClientMetrics`](crate::ConfigResource::ClientMetrics).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::{ConfigChange, ConfigResource};
    ///
    /// let producers = ConfigResource::ClientMetrics("producers".into());
    /// let metrics = ConfigChange::set("metrics", "org.apache.kafka.producer.");
    /// client.admin().alter_configs(&producers, [metrics, ConfigChange::set("interval.ms", "60000")]).await?;
    /// assert_eq!(client.admin().list_client_metrics().await?, ["producers"]);
    ///
    /// let remove = ["metrics", "interval.ms"].map(ConfigChange::delete);
    /// client.admin().alter_configs(&producers, remove).await?;
    /// assert!(client.admin().list_client_metrics().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When this principal may not describe the configuration of the cluster, when no broker answers, and when brokers are older than
    /// Kafka 3.7.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_client_metrics(&self) -> Result<Vec<String>, Error> {
        let found = self.call_one(&ListClientMetrics, ()).await;
        let mut names = found
            .map_err(|failure| Error::harmless("listing the subscriptions to client metrics", failure))?;
        names.sort_unstable();
        Ok(names)
    }
}
