//! How long a broker delays a connection because the client is above a quota (KIP-219), read from the answers to all requests.
//!
//! Almost every answer begins with it. Those of Produce end with it, and the producer's machine mutes its broker by itself; what
//! remains are requests that are made once.

use std::time::Duration;

use milena_messages::ApiKey;

use crate::Instant;

/// No broker's delay holds longer than this, however large the number it sends.
pub const MAX: Duration = Duration::from_secs(60);

/// The delay in the answer to a request: `body` is the frame after its header.
pub fn of(api: ApiKey, version: i16, body: &[u8]) -> Duration {
    if first_from(api).is_none_or(|from| version < from) {
        return Duration::ZERO;
    }
    let ms = body.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(MAX)
}

/// From when to when a broker took no request last, because it said so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Muted(Option<(Instant, Instant)>);

impl Muted {
    /// The broker said at `now` that it takes none for `delay`.
    pub fn note(&mut self, delay: Duration, now: Instant) {
        if !delay.is_zero() {
            self.0 = Some((now, now + delay));
        }
    }

    /// How much of the time from `since` to `until` that was.
    pub fn within(&self, since: Instant, until: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |(from, to)| to.min(until) - from.max(since))
    }
}

/// The first version of an API whose answers begin with the delay.
fn first_from(api: ApiKey) -> Option<i16> {
    Some(match api {
        ApiKey::Metadata | ApiKey::OffsetCommit | ApiKey::OffsetFetch => 3,
        ApiKey::JoinGroup | ApiKey::ListOffsets => 2,
        ApiKey::DescribeGroups
        | ApiKey::FindCoordinator
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::ListGroups
        | ApiKey::SyncGroup => 1,
        // Older versions than those that there are lack it in some of them.
        ApiKey::AddOffsetsToTxn
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AlterClientQuotas
        | ApiKey::AlterConfigs
        | ApiKey::AlterUserScramCredentials
        | ApiKey::ConsumerGroupDescribe
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::CreateAcls
        | ApiKey::CreatePartitions
        | ApiKey::CreateTopics
        | ApiKey::DeleteAcls
        | ApiKey::DeleteGroups
        | ApiKey::DeleteRecords
        | ApiKey::DeleteTopics
        | ApiKey::DescribeAcls
        | ApiKey::DescribeClientQuotas
        | ApiKey::DescribeCluster
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeLogDirs
        | ApiKey::DescribeProducers
        | ApiKey::DescribeTopicPartitions
        | ApiKey::DescribeTransactions
        | ApiKey::DescribeUserScramCredentials
        | ApiKey::ElectLeaders
        | ApiKey::EndTxn
        | ApiKey::Fetch
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::InitProducerId
        | ApiKey::ListTransactions
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::TxnOffsetCommit
        | ApiKey::UpdateFeatures => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use milena_messages::{Message, Request};
    use milena_wire::Writer;

    use super::*;

    #[test]
    fn a_delay_counts_as_far_as_it_falls_into_the_time() {
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let mut muted = Muted::default();
        assert_eq!(muted.within(at(0), at(9)), Duration::ZERO);
        muted.note(Duration::from_secs(10), at(10));
        muted.note(Duration::ZERO, at(11));
        for (since, until, expected) in
            [(0, 9, 0), (5, 15, 5), (12, 14, 2), (15, 30, 5), (5, 30, 10), (21, 30, 0)]
        {
            assert_eq!(muted.within(at(since), at(until)).as_secs(), expected, "{since}..{until}");
        }
    }

    /// Every version of the answer that has a delay begins with it.
    fn check<R: Request>() {
        for version in R::VERSIONS {
            let encoded = |delay| {
                let mut response = R::Response::default();
                response.set_throttle_time_ms(delay);
                let mut writer = Writer::new();
                response.encode(&mut writer, version).expect("encodes");
                writer.finish().to_vec()
            };
            let has_delay = encoded(0) != encoded(77);
            let expected = Duration::from_millis(if has_delay { 77 } else { 0 });
            assert_eq!(of(R::KEY, version, &encoded(77)), expected, "{} v{version}", R::NAME);
        }
    }

    #[test]
    fn the_delay_is_read_from_every_version_of_every_answer() {
        use milena_messages::{
            add_offsets_to_txn, add_partitions_to_txn, alter_client_quotas, alter_configs,
            alter_user_scram_credentials, consumer_group_describe, consumer_group_heartbeat, create_acls,
            create_partitions, create_topics, delete_acls, delete_groups, delete_records, delete_topics,
            describe_acls, describe_client_quotas, describe_cluster, describe_configs, describe_groups,
            describe_log_dirs, describe_producers, describe_topic_partitions, describe_transactions,
            describe_user_scram_credentials, elect_leaders, end_txn, fetch, find_coordinator, heartbeat,
            incremental_alter_configs, init_producer_id, join_group, leave_group, list_groups, list_offsets,
            list_transactions, metadata, offset_commit, offset_fetch, offset_for_leader_epoch, sync_group,
            txn_offset_commit, update_features,
        };
        check::<add_offsets_to_txn::AddOffsetsToTxnRequest>();
        check::<add_partitions_to_txn::AddPartitionsToTxnRequest>();
        check::<alter_client_quotas::AlterClientQuotasRequest>();
        check::<alter_configs::AlterConfigsRequest>();
        check::<alter_user_scram_credentials::AlterUserScramCredentialsRequest>();
        check::<consumer_group_describe::ConsumerGroupDescribeRequest>();
        check::<consumer_group_heartbeat::ConsumerGroupHeartbeatRequest>();
        check::<create_acls::CreateAclsRequest>();
        check::<create_partitions::CreatePartitionsRequest>();
        check::<create_topics::CreateTopicsRequest>();
        check::<delete_acls::DeleteAclsRequest>();
        check::<delete_groups::DeleteGroupsRequest>();
        check::<delete_records::DeleteRecordsRequest>();
        check::<delete_topics::DeleteTopicsRequest>();
        check::<describe_acls::DescribeAclsRequest>();
        check::<describe_client_quotas::DescribeClientQuotasRequest>();
        check::<describe_cluster::DescribeClusterRequest>();
        check::<describe_configs::DescribeConfigsRequest>();
        check::<describe_groups::DescribeGroupsRequest>();
        check::<describe_log_dirs::DescribeLogDirsRequest>();
        check::<describe_producers::DescribeProducersRequest>();
        check::<describe_topic_partitions::DescribeTopicPartitionsRequest>();
        check::<describe_transactions::DescribeTransactionsRequest>();
        check::<describe_user_scram_credentials::DescribeUserScramCredentialsRequest>();
        check::<elect_leaders::ElectLeadersRequest>();
        check::<end_txn::EndTxnRequest>();
        check::<fetch::FetchRequest>();
        check::<find_coordinator::FindCoordinatorRequest>();
        check::<heartbeat::HeartbeatRequest>();
        check::<incremental_alter_configs::IncrementalAlterConfigsRequest>();
        check::<init_producer_id::InitProducerIdRequest>();
        check::<join_group::JoinGroupRequest>();
        check::<leave_group::LeaveGroupRequest>();
        check::<list_groups::ListGroupsRequest>();
        check::<list_offsets::ListOffsetsRequest>();
        check::<list_transactions::ListTransactionsRequest>();
        check::<metadata::MetadataRequest>();
        check::<offset_commit::OffsetCommitRequest>();
        check::<offset_fetch::OffsetFetchRequest>();
        check::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>();
        check::<sync_group::SyncGroupRequest>();
        check::<txn_offset_commit::TxnOffsetCommitRequest>();
        check::<update_features::UpdateFeaturesRequest>();
    }

    #[test]
    fn a_delay_is_bounded_and_never_negative() {
        let of = |ms: i32| of(ApiKey::Metadata, 12, &ms.to_be_bytes());
        assert_eq!((of(-1), of(0), of(i32::MAX)), (Duration::ZERO, Duration::ZERO, MAX));
        assert_eq!(super::of(ApiKey::Metadata, 2, &[9; 4]), Duration::ZERO, "this version has none");
        assert_eq!(super::of(ApiKey::Metadata, 12, &[9; 3]), Duration::ZERO, "nothing is there");
    }
}
