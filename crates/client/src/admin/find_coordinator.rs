//! `FindCoordinator`: looks up which broker coordinates a group or a transactional producer.

use std::sync::Arc;

use milena_core::metadata::Coordinated;

use super::{Admin, BrokerDescription};
use crate::Error;

impl Admin {
    /// Looks up the broker that coordinates a consumer group. The group need not exist. The rack is not told.
    ///
    /// # Errors
    /// When there is no coordinator in time, or this principal may not see the group.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn group_coordinator(&self, group: &str) -> Result<BrokerDescription, Error> {
        let doing = || format!("looking for the coordinator of group {group:?}");
        self.coordinator(Coordinated::Group(Arc::from(group)), doing).await
    }

    /// Looks up the broker that coordinates a transactional producer. The producer need not exist. The rack is not told.
    ///
    /// # Errors
    /// When there is no coordinator in time, or this principal may not see the producer.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn transaction_coordinator(&self, id: &str) -> Result<BrokerDescription, Error> {
        let doing = || format!("looking for the coordinator of transactional producer {id:?}");
        self.coordinator(Coordinated::Transaction(Arc::from(id)), doing).await
    }

    async fn coordinator(
        &self,
        of: Coordinated,
        doing: impl Fn() -> String,
    ) -> Result<BrokerDescription, Error> {
        let found = self.within(self.client.find_coordinator(of, self.deadline())).await;
        let found = found.map_err(|failure| Error::harmless(doing(), failure))?;
        Ok(BrokerDescription::from(&found))
    }
}
