//! Questions and orders that concern the cluster: one file per API.
//!
//! A file says what a request is made of and what its answer says of each item, and has the public functions around it.
//! Where requests go and what is tried again is the affair of the table in [`milena_core::calls`], and the loop is
//! [`Client::call`]'s.

mod configs;
mod create_topics;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod descriptions;
mod find_coordinator;
mod list_offsets;
mod new_topic;
mod offset_at;

use std::time::Duration;

use milena_core::calls::Run;
use milena_core::{Failure, Instant};

pub use self::configs::{ConfigEntry, ConfigResource};
pub use self::descriptions::{BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription};
pub use self::new_topic::NewTopic;
pub use self::offset_at::OffsetAt;
use crate::Client;
use crate::calls::ApiCall;
use crate::settings::Isolation;

/// Topics, configurations, offsets. Cheap to clone.
///
/// # Cancel safety
/// Dropping the future of a question is harmless. Dropping the future of an order leaves open whether it was carried
/// out.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
    isolation: Isolation,
}

impl Client {
    /// Topics, configurations, offsets: questions and orders that concern the cluster.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }
}

impl Admin {
    fn new(client: Client) -> Self {
        let timeout = client.0.settings.client.api_timeout;
        let isolation = client.0.settings.consumer.isolation;
        Self { client, timeout, isolation }
    }

    /// Sets how long each call may take, attempts and all. Default: the client's `api_timeout`, 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets which records of transactions [`list_offsets`](Self::list_offsets) counts. With
    /// [`Isolation::ReadCommitted`] a partition ends at its last stable offset, where a consumer of that isolation stops
    /// as well. Default: that of the client's consumers (`isolation.level` in properties), which is
    /// [`Isolation::ReadUncommitted`] unless it was set.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Makes a call for `items`, each with a result of its own.
    async fn call<C: ApiCall>(&self, call: &C, items: &[C::Item], deadline: Instant) -> Run<C::Found> {
        self.within(self.client.call(call, items, deadline)).await
    }

    /// Makes a call for one item.
    async fn call_one<C: ApiCall>(&self, call: &C, item: C::Item) -> Result<C::Found, Failure> {
        self.within(self.client.call_one(call, item, self.deadline())).await
    }

    /// Waits for what the client is asked, on the client's runtime where the caller is on none.
    fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<'_, F> {
        self.client.0.runtime.within(future)
    }

    fn deadline(&self) -> Instant {
        self.client.0.clock.after(self.timeout)
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}
