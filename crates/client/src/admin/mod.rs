//! Admin calls: one file per API of Kafka.
//!
//! Each file says how a request is made of items and what an answer says of each item ([`ApiCall`]), and has the public
//! functions of that API. The table in [`milena_core::calls`] says where requests go and what is tried again, and
//! [`Client::call`] is the loop that they all go through. Public types are in files of their own.

mod abort_transaction;
mod acls;
mod alter_client_quotas;
mod alter_configs;
mod alter_group_offsets;
mod alter_user_scram_credentials;
mod api_versions;
mod configs;
mod create_acls;
mod create_delegation_token;
mod create_partitions;
mod create_topics;
mod delegation_tokens;
mod delete_acls;
mod delete_group_offsets;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_delegation_token;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_transactions;
mod describe_user_scram_credentials;
mod descriptions;
mod expire_delegation_token;
mod find_coordinator;
mod group_descriptions;
mod groups;
mod list_client_metrics;
mod list_group_offsets;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod new_topic;
mod offset_at;
mod partitions;
mod quotas;
mod remove_members;
mod renew_delegation_token;
mod rights;
mod scram_users;
mod transactions;

use std::time::Duration;

use milena_core::calls::Run;
use milena_core::{BrokerId, Failure, Instant};

pub use self::acls::{
    Acl, AclFilter, AclOperation, AclPermission, AclResource, PatternFilter, PatternType, ResourceType,
};
pub use self::api_versions::ApiSupport;
pub use self::configs::{ConfigChange, ConfigEntry, ConfigResource};
pub use self::create_partitions::NewPartitions;
pub use self::delegation_tokens::{DelegationToken, NewDelegationToken};
pub use self::delete_acls::DeletedAcls;
pub use self::describe_log_dirs::{LogDir, LogDirListing, ReplicaSize};
pub use self::descriptions::{BrokerDescription, ClusterDescription, PartitionDescription, TopicDescription};
pub use self::groups::{
    CommittedOffset, GroupDescription, GroupFilter, GroupListing, GroupState, GroupType, ListedGroup,
    MemberDescription,
};
pub use self::new_topic::NewTopic;
pub use self::offset_at::OffsetAt;
pub use self::quotas::{QuotaChange, QuotaDescription, QuotaEntity, QuotaFilter};
pub use self::rights::TopicRights;
pub use self::scram_users::{ScramChange, ScramCredential, ScramMechanism};
pub use self::transactions::{
    ListedTransaction, OpenTransaction, ProducerDescription, TransactionDescription, TransactionFilter,
    TransactionListing, TransactionState,
};
use crate::calls::ApiCall;
use crate::settings::Isolation;
use crate::{Client, Error};

/// Creates, grows, deletes and describes topics, deletes records, shows and changes configurations, looks up offsets and
/// coordinators, lists, describes, changes and deletes groups, lists, describes and aborts transactions, and shows and changes access
/// control lists, users of SCRAM, quotas and delegation tokens. It comes from [`Client::admin`], and is cheap to clone.
///
/// # Cancel safety
/// Dropping the future of a call that only looks is harmless. Dropping the future of a call that changes something leaves
/// open whether the change was made.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
    isolation: Isolation,
}

impl Client {
    /// Admin calls: topics, configurations, offsets, coordinators, groups, transactions, and who may do what.
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

    /// Sets how long each call may take, all attempts together. Default: the client's `api_timeout`, which is 30 s unless it was
    /// set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets which records of transactions [`list_offsets`](Self::list_offsets) sees. With [`Isolation::ReadCommitted`] a
    /// partition ends at its last stable offset, where a consumer of that isolation stops as well. Default: the isolation of
    /// the client's consumers (`isolation.level` in properties), which is [`Isolation::ReadUncommitted`] unless it was set.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Makes a call for `items`. See [`Client::call`].
    async fn call<C: ApiCall>(&self, call: &C, items: &[C::Item], deadline: Instant) -> Run<C::Found> {
        self.within(self.client.call(call, items, deadline)).await
    }

    /// Makes a call for one item, within the timeout of this handle.
    async fn call_one<C: ApiCall>(&self, call: &C, item: C::Item) -> Result<C::Found, Failure> {
        self.within(self.client.call_one(call, item, self.deadline())).await
    }

    /// Makes a call about `what` to each broker: what those that answered have told, and the others by id.
    ///
    /// # Errors
    /// When no broker tells anything.
    async fn call_all_brokers<C: ApiCall<Item = BrokerId>>(
        &self,
        call: &C,
        what: &str,
    ) -> Result<(Vec<(BrokerId, C::Found)>, Vec<(i32, Error)>), Error> {
        let cluster = self.describe_cluster().await?;
        let brokers: Vec<_> = cluster.brokers.iter().map(|broker| BrokerId(broker.id)).collect();
        let told = self.call(call, &brokers, self.deadline()).await.finish_whole();
        let told = told.map_err(|failure| Error::harmless(format!("listing {what}"), failure))?;
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (broker, told) in brokers.into_iter().zip(told) {
            match told {
                Ok(told) => found.push((broker, told)),
                Err(failure) => {
                    let doing = format!("listing the {what} of broker {broker}");
                    failed.push((broker.0, Error::harmless(doing, failure)));
                }
            }
        }
        match failed.first() {
            Some((_, error)) if found.is_empty() => Err(error.clone()),
            _ => Ok((found, failed)),
        }
    }

    /// Waits for `future`, on the client's runtime if the caller is on none.
    fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<'_, F> {
        self.client.0.runtime.within(future)
    }

    /// When a call that begins now is over.
    fn deadline(&self) -> Instant {
        self.client.0.clock.after(self.timeout)
    }

    /// How long a broker may take to carry an order out.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}
