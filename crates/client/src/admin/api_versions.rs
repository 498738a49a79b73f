//! `ApiVersions`: what a broker can do.

use milena_core::calls::{API_VERSIONS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::ApiKey;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};

use super::Admin;
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// The versions that a broker has of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiSupport {
    /// Kafka's number of the request.
    pub key: i16,
    /// Kafka's name of the request, such as `Produce`; none if this release does not know it.
    pub name: Option<&'static str>,
    /// The oldest version that the broker has.
    pub version_min: i16,
    /// The newest version that the broker has.
    pub version_max: i16,
    /// Whether this client can use one of them.
    pub is_common: bool,
}

struct Versions;

impl ApiCall for Versions {
    const ROW: &'static Row = &API_VERSIONS;
    type Request = ApiVersionsRequest;
    type Item = BrokerId;
    /// An answer is about its broker alone.
    type Key = ();
    type Found = Vec<ApiSupport>;

    fn destination(&self, broker: &BrokerId) -> Destination {
        Destination::Broker(*broker)
    }

    fn key(&self, _broker: &BrokerId) {}

    fn request(&self, _brokers: &[&BrokerId]) -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: "milena".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        }
    }

    fn answers(&self, response: ApiVersionsResponse) -> Answers<(), Vec<ApiSupport>> {
        let support = |range: &milena_messages::api_versions::ApiVersion| {
            let known = ApiKey::from_i16(range.api_key);
            let ours = known.map(ApiKey::versions);
            let (version_min, version_max) = (range.min_version, range.max_version);
            let is_common =
                ours.is_some_and(|ours| version_min <= *ours.end() && *ours.start() <= version_max);
            ApiSupport {
                key: range.api_key,
                name: known.map(ApiKey::name),
                version_min,
                version_max,
                is_common,
            }
        };
        let found = response.api_keys.iter().map(support).collect();
        vec![((), Failure::check(response.error_code, None).map(|()| found))]
    }
}

impl Admin {
    /// Asks a broker which requests it has, in which versions. It needs no rights, so it also tells whether the broker can be
    /// reached at the address that it advertises.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// let admin = client.admin();
    /// for broker in admin.describe_cluster().await?.brokers {
    ///     let versions = admin.api_versions(broker.id).await?;
    ///     assert!(versions.iter().any(|api| api.name == Some("Produce") && api.is_common));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the cluster has no such broker, or it does not answer.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn api_versions(&self, broker: i32) -> Result<Vec<ApiSupport>, Error> {
        let found = self.call_one(&Versions, BrokerId(broker)).await;
        found.map_err(|failure| Error::harmless(format!("asking broker {broker} for its versions"), failure))
    }
}
