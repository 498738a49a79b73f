//! Questions and orders that concern the cluster: one request, one answer, each a plain function.

mod cluster;
mod configs;
mod offsets;
mod topics;

use std::time::Duration;

use milena_core::{Failure, Instant};
use milena_messages::ErrorCode;
use milena_wire::Str;

pub use self::cluster::{BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription};
pub use self::configs::{ConfigEntry, ConfigResource};
pub use self::offsets::OffsetAt;
pub use self::topics::NewTopic;
use crate::settings::Isolation;
use crate::{Client, Error};

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

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
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

/// A code and a message of a response as a result.
fn checked(doing: impl FnOnce() -> String, code: ErrorCode, message: Option<&Str>) -> Result<(), Error> {
    code.ok().map_err(|code| Error::new(doing(), Failure::answer(code, message.map(|message| &**message))))
}
