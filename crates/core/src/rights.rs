//! What an access control list must allow, by the request that a broker refused and by its code. Brokers' answers name neither
//! the operation nor the resource.

use std::fmt;
use std::sync::Arc;

use milena_messages::{ApiKey, ErrorCode};

/// A right that a principal lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The operation, by the name that `kafka-acls` takes.
    operation: &'static str,
    /// The type of the resource.
    resource: Resource,
    /// The name of the resource, if the failure's own text does not have it.
    name: Option<Arc<str>>,
    /// Who lacks it, as far as the client knows: brokers may give a client another name than the one it logs in with.
    principal: Option<Arc<str>>,
}

/// The type of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A group.
    Group,
    /// The cluster.
    Cluster,
    /// A transactional id.
    TransactionalId,
    /// A user, for whom delegation tokens are made.
    User,
}

impl Right {
    /// What is needed for a request that was refused with this code; none if the code is about something else, or the request is
    /// one that this client does not send.
    pub fn needed(api: ApiKey, code: ErrorCode) -> Option<Self> {
        let resource = match code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Resource::Topic,
            ErrorCode::GROUP_AUTHORIZATION_FAILED => Resource::Group,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED => Resource::Cluster,
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Resource::TransactionalId,
            ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED => Resource::User,
            _ => return None,
        };
        let mut rights = TABLE.iter().filter(|(of, its, _)| *of == api && *its == resource);
        rights.next().map(|(_, _, operation)| Self { operation, resource, name: None, principal: None })
    }

    /// The same, of this principal.
    #[must_use]
    pub fn of_principal(self, principal: &Arc<str>) -> Self {
        Self { principal: Some(Arc::clone(principal)), ..self }
    }

    /// Who lacks it, as it may follow "must grant".
    pub fn principal(&self) -> &str {
        self.principal.as_deref().unwrap_or("this principal")
    }

    /// The right for `api` on the same resource, if it needs one for such a resource.
    #[must_use]
    pub fn instead_for(self, api: ApiKey) -> Self {
        let operation = TABLE.iter().find(|(of, its, _)| *of == api && *its == self.resource);
        match operation {
            Some((_, _, operation)) => Self { operation, ..self },
            None => self,
        }
    }

    /// The same, on a resource of this name if it is of this type.
    #[must_use]
    pub fn on(self, resource: Resource, name: &str) -> Self {
        if resource == self.resource { Self { name: Some(Arc::from(name)), ..self } } else { self }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = match self.resource {
            Resource::Topic => "topic",
            Resource::Group => "group",
            // KIP-679: brokers from Kafka 2.8 on let those write with idempotence who may write to any topic.
            Resource::Cluster if self.operation == IDEMPOTENT_WRITE => {
                return f.write_str("Write on a topic, or IdempotentWrite on the cluster before Kafka 2.8");
            }
            Resource::Cluster => return write!(f, "{} on the cluster", self.operation),
            Resource::TransactionalId => "transactional id",
            Resource::User => "user",
        };
        match &self.name {
            Some(name) => write!(f, "{} on {resource} {name:?}", self.operation),
            None => write!(f, "{} on the {resource}", self.operation),
        }
    }
}

const IDEMPOTENT_WRITE: &str = "IdempotentWrite";

/// What Kafka's brokers ask of their authorizer (`KafkaApis`, `ControllerApis`), for the requests that this client sends.
const TABLE: &[(ApiKey, Resource, &str)] = &[
    (ApiKey::Produce, Resource::Topic, "Write"),
    (ApiKey::Produce, Resource::TransactionalId, "Write"),
    (ApiKey::Produce, Resource::Cluster, IDEMPOTENT_WRITE),
    (ApiKey::Fetch, Resource::Topic, "Read"),
    (ApiKey::ListOffsets, Resource::Topic, "Describe"),
    (ApiKey::Metadata, Resource::Topic, "Describe"),
    (ApiKey::OffsetCommit, Resource::Topic, "Read"),
    (ApiKey::OffsetCommit, Resource::Group, "Read"),
    (ApiKey::OffsetFetch, Resource::Topic, "Describe"),
    (ApiKey::OffsetFetch, Resource::Group, "Describe"),
    // What is looked up is read or written next, and each of these rights implies that one.
    (ApiKey::FindCoordinator, Resource::Group, "Read"),
    (ApiKey::FindCoordinator, Resource::TransactionalId, "Write"),
    (ApiKey::JoinGroup, Resource::Group, "Read"),
    (ApiKey::SyncGroup, Resource::Group, "Read"),
    (ApiKey::Heartbeat, Resource::Group, "Read"),
    (ApiKey::LeaveGroup, Resource::Group, "Read"),
    (ApiKey::ConsumerGroupHeartbeat, Resource::Group, "Read"),
    (ApiKey::ConsumerGroupHeartbeat, Resource::Topic, "Describe"),
    (ApiKey::DescribeGroups, Resource::Group, "Describe"),
    (ApiKey::ConsumerGroupDescribe, Resource::Group, "Describe"),
    (ApiKey::ConsumerGroupDescribe, Resource::Topic, "Describe"),
    (ApiKey::DeleteGroups, Resource::Group, "Delete"),
    (ApiKey::OffsetDelete, Resource::Group, "Delete"),
    (ApiKey::OffsetDelete, Resource::Topic, "Read"),
    (ApiKey::OffsetForLeaderEpoch, Resource::Topic, "Describe"),
    (ApiKey::CreateTopics, Resource::Topic, "Create"),
    (ApiKey::CreateTopics, Resource::Cluster, "Create"),
    (ApiKey::DeleteTopics, Resource::Topic, "Delete"),
    (ApiKey::DeleteRecords, Resource::Topic, "Delete"),
    (ApiKey::CreatePartitions, Resource::Topic, "Alter"),
    (ApiKey::DescribeConfigs, Resource::Topic, "DescribeConfigs"),
    (ApiKey::DescribeConfigs, Resource::Cluster, "DescribeConfigs"),
    (ApiKey::IncrementalAlterConfigs, Resource::Topic, "AlterConfigs"),
    (ApiKey::IncrementalAlterConfigs, Resource::Cluster, "AlterConfigs"),
    (ApiKey::InitProducerId, Resource::TransactionalId, "Write"),
    (ApiKey::InitProducerId, Resource::Cluster, IDEMPOTENT_WRITE),
    (ApiKey::AddPartitionsToTxn, Resource::TransactionalId, "Write"),
    (ApiKey::AddPartitionsToTxn, Resource::Topic, "Write"),
    (ApiKey::AddOffsetsToTxn, Resource::TransactionalId, "Write"),
    (ApiKey::AddOffsetsToTxn, Resource::Group, "Read"),
    (ApiKey::TxnOffsetCommit, Resource::TransactionalId, "Write"),
    (ApiKey::TxnOffsetCommit, Resource::Group, "Read"),
    (ApiKey::TxnOffsetCommit, Resource::Topic, "Read"),
    (ApiKey::EndTxn, Resource::TransactionalId, "Write"),
    (ApiKey::WriteTxnMarkers, Resource::Cluster, "ClusterAction"),
    (ApiKey::DescribeLogDirs, Resource::Cluster, "Describe"),
    (ApiKey::DescribeProducers, Resource::Topic, "Read"),
    (ApiKey::DescribeTransactions, Resource::TransactionalId, "Describe"),
    (ApiKey::DescribeCluster, Resource::Cluster, "Describe"),
    (ApiKey::DescribeAcls, Resource::Cluster, "Describe"),
    (ApiKey::CreateAcls, Resource::Cluster, "Alter"),
    (ApiKey::DeleteAcls, Resource::Cluster, "Alter"),
    (ApiKey::DescribeUserScramCredentials, Resource::Cluster, "Describe"),
    (ApiKey::AlterUserScramCredentials, Resource::Cluster, "Alter"),
    (ApiKey::DescribeClientQuotas, Resource::Cluster, "DescribeConfigs"),
    (ApiKey::ListConfigResources, Resource::Cluster, "DescribeConfigs"),
    (ApiKey::AlterClientQuotas, Resource::Cluster, "AlterConfigs"),
    (ApiKey::CreateDelegationToken, Resource::User, "CreateTokens"),
    (ApiKey::DescribeDelegationToken, Resource::User, "DescribeTokens"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::TABLE as CALLS;

    #[test]
    fn a_right_names_operation_and_resource() {
        let check = |api, code, expected: Option<&str>| {
            let right = Right::needed(api, code).map(|right| right.on(Resource::Topic, "orders"));
            assert_eq!(right.map(|right| right.to_string()).as_deref(), expected);
        };
        let topic = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        check(ApiKey::Produce, topic, Some("Write on topic \"orders\""));
        check(ApiKey::Fetch, topic, Some("Read on topic \"orders\""));
        check(ApiKey::JoinGroup, ErrorCode::GROUP_AUTHORIZATION_FAILED, Some("Read on the group"));
        check(ApiKey::CreateTopics, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, Some("Create on the cluster"));
        let idempotent = Some("Write on a topic, or IdempotentWrite on the cluster before Kafka 2.8");
        check(ApiKey::InitProducerId, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, idempotent);
        check(ApiKey::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
        check(ApiKey::Fetch, ErrorCode::GROUP_AUTHORIZATION_FAILED, None);
    }

    #[test]
    fn each_admin_call_that_can_be_refused_is_in_the_table_once() {
        // These answer with what a principal may see, and refuse nothing; and only the owner of a token may change it.
        let never = [
            ApiKey::ApiVersions,
            ApiKey::ListGroups,
            ApiKey::ListTransactions,
            ApiKey::RenewDelegationToken,
            ApiKey::ExpireDelegationToken,
        ];
        for row in CALLS {
            let is_there = TABLE.iter().any(|(api, _, _)| *api == row.api);
            assert_eq!(is_there, !never.contains(&row.api), "{}", row.api.name());
        }
        for (index, (api, resource, _)) in TABLE.iter().enumerate() {
            let again = TABLE[index + 1..].iter().any(|(of, its, _)| of == api && its == resource);
            assert!(!again, "{} {resource:?}", api.name());
        }
    }
}
