//! Every version that is advertised is answered, and nothing else is advertised.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::add_partitions_to_txn::AddPartitionsToTxnRequest;
use milena_messages::alter_client_quotas::AlterClientQuotasRequest;
use milena_messages::alter_configs::AlterConfigsRequest;
use milena_messages::alter_user_scram_credentials::AlterUserScramCredentialsRequest;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::create_acls::CreateAclsRequest;
use milena_messages::create_delegation_token::CreateDelegationTokenRequest;
use milena_messages::create_partitions::CreatePartitionsRequest;
use milena_messages::create_topics::CreateTopicsRequest;
use milena_messages::delete_acls::DeleteAclsRequest;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_records::DeleteRecordsRequest;
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_acls::DescribeAclsRequest;
use milena_messages::describe_client_quotas::DescribeClientQuotasRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::describe_delegation_token::DescribeDelegationTokenRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::describe_log_dirs::DescribeLogDirsRequest;
use milena_messages::describe_producers::DescribeProducersRequest;
use milena_messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use milena_messages::describe_transactions::DescribeTransactionsRequest;
use milena_messages::describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
use milena_messages::end_txn::EndTxnRequest;
use milena_messages::expire_delegation_token::ExpireDelegationTokenRequest;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use milena_messages::list_config_resources::ListConfigResourcesRequest;
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::list_transactions::ListTransactionsRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::OffsetDeleteRequest;
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::push_telemetry::PushTelemetryRequest;
use milena_messages::renew_delegation_token::RenewDelegationTokenRequest;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;
use milena_messages::sync_group::SyncGroupRequest;
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_messages::update_features::UpdateFeaturesRequest;
use milena_messages::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersRequest};
use milena_messages::{ApiKey, ErrorCode, Request};
use milena_wire::{Str, Uuid};
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::rig::{Outcome, Rig, batch, fetch, frame, produce};

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "rig".into(),
        client_software_version: "1.0".into(),
        ..Default::default()
    }
}

fn advertised(rig: &Rig, key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let response = rig.ask(1, 4, &api_versions());
    let found = response.api_keys.iter().find(|api| api.api_key == key.as_i16()).expect("advertised");
    found.min_version..=found.max_version
}

/// Every advertised version of an API is answered.
fn check<R: Request>(rig: &Rig, request: impl Fn(i16) -> R) {
    for version in advertised(rig, R::KEY) {
        if R::KEY == ApiKey::Produce && version < 3 {
            continue; // listed for librdkafka's sake only
        }
        let outcome = rig.try_send(1, version, &request(version));
        assert!(matches!(outcome, Ok(Outcome::Answered(_))), "{} version {version}", R::NAME);
    }
}

fn check_transactions(rig: &Rig, topic_id: Uuid) {
    check(rig, |_| InitProducerIdRequest { transactional_id: Some("a".into()), ..Default::default() });
    check(rig, |_| AddPartitionsToTxnRequest::default());
    check(rig, |_| AddOffsetsToTxnRequest::default());
    check(rig, |_| EndTxnRequest::default());
    check(rig, |version| {
        let marker = WritableTxnMarker { transaction_version: i8::from(version >= 2), ..Default::default() };
        WriteTxnMarkersRequest { markers: vec![marker], ..Default::default() }
    });
    check(rig, |version| TxnOffsetCommitRequest {
        topics: vec![TxnOffsetCommitRequestTopic {
            name: if version < 6 { "t".into() } else { Str::default() },
            topic_id: if version < 6 { Uuid::ZERO } else { topic_id },
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    });
    check(rig, |_| UpdateFeaturesRequest::default());
    check(rig, |_| DescribeLogDirsRequest { topics: None, ..Default::default() });
    check(rig, |_| DescribeProducersRequest::default());
    check(rig, |_| DescribeTransactionsRequest {
        transactional_ids: vec!["a".into(), "".into()],
        ..Default::default()
    });
    check(rig, |_| ListTransactionsRequest::default());
}

fn check_groups(rig: &Rig, topic_id: Uuid) {
    check(rig, |version| JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 6000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 6000 },
        // Known to nobody, so that the first answer of each version is the last.
        member_id: "unknown".into(),
        protocol_type: "consumer".into(),
        ..Default::default()
    });
    check(rig, |_| SyncGroupRequest { group_id: "g".into(), ..Default::default() });
    check(rig, |_| HeartbeatRequest { group_id: "g".into(), ..Default::default() });
    check(rig, |version| LeaveGroupRequest {
        group_id: "g".into(),
        members: if version < 3 { Vec::new() } else { vec![MemberIdentity::default()] },
        ..Default::default()
    });
    check(rig, |version| OffsetCommitRequest {
        group_id: "g".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 { "t".into() } else { Str::default() },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partitions: vec![OffsetCommitRequestPartition { committed_offset: 3, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    });
    check(rig, |version| OffsetFetchRequest {
        group_id: if version < 8 { "g".into() } else { Str::default() },
        topics: if !(2..8).contains(&version) { Some(Vec::new()) } else { None },
        groups: match version {
            8.. => vec![OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() }],
            _ => Vec::new(),
        },
        ..Default::default()
    });
    check(rig, |_| DescribeGroupsRequest { groups: vec!["g".into(), "none".into()], ..Default::default() });
    check(rig, |_| ConsumerGroupHeartbeatRequest {
        group_id: "c".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 6000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    });
    check(rig, |_| ConsumerGroupDescribeRequest {
        group_ids: vec!["c".into(), "g".into(), "none".into()],
        ..Default::default()
    });
    check(rig, |_| ListGroupsRequest::default());
    check(rig, |_| OffsetDeleteRequest { group_id: "g".into(), ..Default::default() });
    check(rig, |_| DeleteGroupsRequest {
        groups_names: vec!["g".into(), "none".into()],
        ..Default::default()
    });
}

#[test]
fn every_advertised_version_is_answered() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let id = rig.ask(1, 13, &MetadataRequest { topics: None, ..Default::default() }).topics[0].topic_id;
    check(&rig, |_| api_versions());
    check(&rig, |version| MetadataRequest {
        topics: if version == 0 { Some(Vec::new()) } else { None },
        ..Default::default()
    });
    check(&rig, |version| {
        let mut request = produce("t", 0, Some(batch(&["a"], None)), 1);
        request.topic_data[0].topic_id = if version >= 13 { id } else { Uuid::ZERO };
        request
    });
    check(&rig, |version| {
        let mut request = fetch("t", &[(0, 0)]);
        request.topics[0].topic_id = if version >= 13 { id } else { Uuid::ZERO };
        request
    });
    check(&rig, |_| ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    });
    check(&rig, |_| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    });
    check(&rig, |version| FindCoordinatorRequest {
        key: if version < 4 { "group".into() } else { Str::default() },
        coordinator_keys: if version < 4 { Vec::new() } else { vec!["group".into()] },
        ..Default::default()
    });
    check_groups(&rig, id);
    check_transactions(&rig, id);
    check(&rig, |_| InitProducerIdRequest { transactional_id: None, ..Default::default() });
    check(&rig, |_| CreateTopicsRequest::default());
    check(&rig, |_| DeleteTopicsRequest::default());
    check(&rig, |_| DeleteRecordsRequest::default());
    check(&rig, |_| CreatePartitionsRequest::default());
    check(&rig, |_| DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: None,
            ..Default::default()
        }],
        ..Default::default()
    });
    check(&rig, |_| AlterConfigsRequest::default());
    check(&rig, |_| IncrementalAlterConfigsRequest::default());
    check(&rig, |_| DescribeClusterRequest::default());
    check(&rig, |_| DescribeTopicPartitionsRequest::default());
    check(&rig, |_| CreateAclsRequest::default());
    check(&rig, |_| DescribeAclsRequest::default());
    check(&rig, |_| DeleteAclsRequest::default());
    check(&rig, |_| AlterUserScramCredentialsRequest::default());
    check(&rig, |_| DescribeUserScramCredentialsRequest::default());
    check(&rig, |_| AlterClientQuotasRequest::default());
    check(&rig, |_| DescribeClientQuotasRequest::default());
    check(&rig, |_| CreateDelegationTokenRequest::default());
    check(&rig, |_| RenewDelegationTokenRequest::default());
    check(&rig, |_| ExpireDelegationTokenRequest::default());
    check(&rig, |_| DescribeDelegationTokenRequest::default());
    check(&rig, |_| GetTelemetrySubscriptionsRequest::default());
    check(&rig, |_| PushTelemetryRequest::default());
    check(&rig, |_| ListConfigResourcesRequest::default());
    check(&rig, |_| SaslHandshakeRequest::default());
    check(&rig, |_| SaslAuthenticateRequest::default());
    assert_eq!(rig.ask(1, 4, &api_versions()).api_keys.len(), 55, "all of them are checked above");
}

#[test]
fn what_is_not_advertised_is_not_served() {
    let rig = Rig::new(1);
    let advertised = rig.ask(1, 4, &api_versions()).api_keys;
    for &key in ApiKey::ALL {
        let is_advertised = advertised.iter().any(|api| api.api_key == key.as_i16());
        let mut raw = frame(0, &ApiVersionsRequest::default()).to_vec();
        raw[0..2].copy_from_slice(&key.as_i16().to_be_bytes());
        let refused = rig.handle(1, &raw.into()).map_err(|refused| refused.to_string());
        let is_unserved =
            refused.is_err_and(|refused| refused == format!("{key} is not implemented by this broker yet"));
        assert_eq!(is_unserved, !is_advertised, "{key}");
    }
}

#[test]
fn a_node_may_offer_less_than_the_others() {
    let rig = Rig::new(2);
    let metadata = |node, version| {
        let outcome = rig.try_send(node, version, &MetadataRequest::default());
        outcome.map(|_| ()).map_err(|refused| refused.to_string())
    };
    let old = rig.connect(1);
    rig.machine.set_api_versions(1, 3, Some(1..=8)).expect("limited");
    rig.machine.set_api_versions(1, 68, None).expect("taken away");
    assert_eq!(advertised(&rig, ApiKey::Metadata), 1..=8);
    let offered = rig.ask(1, 4, &api_versions());
    let of_groups = |offered: &ApiVersionsResponse| {
        offered.finalized_features.iter().any(|feature| feature.name == "group.version")
    };
    assert!(offered.api_keys.iter().all(|api| api.api_key != 68) && !of_groups(&offered));
    assert!(metadata(1, 8).is_ok() && metadata(2, 9).is_ok());
    assert_eq!(metadata(1, 9), Err("Metadata version 9 is not supported by this broker".into()));
    let other = rig.ask(2, 4, &api_versions());
    assert!(other.api_keys.iter().any(|api| api.api_key == 68) && of_groups(&other));
    // A connection keeps what it was offered.
    let (mut old, request) = (old, frame(9, &MetadataRequest::default()));
    assert!(rig.machine.handle(&mut old, &request, rig.now, usize::MAX).is_ok());
    // ApiVersions itself, which is answered in version 0 when it is asked for in a version that is not offered.
    rig.machine.set_api_versions(1, 18, Some(0..=2)).expect("limited");
    let Ok(milena_broker::Answer::Now(answer)) = rig.handle(1, &frame(3, &api_versions())) else { panic!() };
    assert_eq!(answer.to_vec()[14..20], [0, 18, 0, 0, 0, 2]);
    // All that this broker has, and no more.
    for key in [3, 18, 68] {
        rig.machine.set_api_versions(1, key, Some(0..=i16::MAX)).expect("given back");
    }
    let whole = |offered: ApiVersionsResponse| {
        offered.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect::<Vec<_>>()
    };
    assert_eq!(whole(rig.ask(1, 4, &api_versions())), whole(rig.ask(2, 4, &api_versions())));
    for (node, key, versions) in [(3, 3, Some(0..=1)), (1, 1000, None), (1, 32767, None), (1, 18, None)] {
        assert!(rig.machine.set_api_versions(node, key, versions).is_err(), "node {node}, API {key}");
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_with_version_0() {
    let rig = Rig::new(1);
    for version in [6, 99, i16::MAX, -1] {
        let mut raw = frame(0, &ApiVersionsRequest::default()).to_vec();
        raw[2..4].copy_from_slice(&version.to_be_bytes());
        let answer = rig.handle(1, &raw.into()).expect("answered");
        let milena_broker::Answer::Now(answer) = answer else { panic!("answered at once") };
        let answer = answer.to_vec();
        assert_eq!(answer[8..10], ErrorCode::UNSUPPORTED_VERSION.as_i16().to_be_bytes());
        assert_eq!(answer[10..14], [0, 0, 0, 1], "one API: this one");
        assert_eq!(answer[14..20], [0, 18, 0, 0, 0, 5]);
    }
}

#[test]
fn other_requests_that_are_not_understood_are_refused() {
    let rig = Rig::new(1);
    let valid = frame(12, &MetadataRequest::default());
    let changed = |at: usize, bytes: [u8; 2]| {
        let mut raw = valid.to_vec();
        raw[at..at + 2].copy_from_slice(&bytes);
        raw
    };
    let table: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("cut in the header", valid[..9].to_vec()),
        ("cut in the body", valid[..valid.len() - 1].to_vec()),
        ("an unknown key", changed(0, [0x7f, 0xff])),
        ("a key that is not served", changed(0, [0, 4])),
        ("an unknown version", changed(2, [0, 99])),
    ];
    for (what, raw) in table {
        assert!(rig.handle(1, &raw.into()).is_err(), "{what}");
    }
    let longer = [&valid[..], &[0; 3]].concat();
    let answer = rig.handle(1, &longer.into());
    assert!(answer.is_ok(), "librdkafka 2.11 sends more than it means, and Kafka looks away");
}

#[test]
fn a_client_that_meant_another_cluster_or_node_is_sent_back() {
    let rig = Rig::new(2);
    let cluster_id = rig.ask(1, 12, &MetadataRequest::default()).cluster_id;
    let code = |cluster_id: Option<Str>, node_id| {
        rig.ask(1, 5, &ApiVersionsRequest { cluster_id, node_id, ..api_versions() }).error_code
    };
    assert_eq!(code(cluster_id.clone(), 1), ErrorCode::NONE);
    assert_eq!(code(None, -1), ErrorCode::NONE);
    assert_eq!(code(cluster_id, 2), ErrorCode::REBOOTSTRAP_REQUIRED);
    assert_eq!(code(Some("other".into()), 1), ErrorCode::REBOOTSTRAP_REQUIRED);
    let nameless = ApiVersionsRequest { client_software_name: "".into(), ..api_versions() };
    assert_eq!(rig.ask(1, 3, &nameless).error_code, ErrorCode::INVALID_REQUEST);
}

/// Collects what warnings say.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            let _ = write!(text, "{field}={value:?} ");
        });
        self.0.lock().expect("no panic").push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn what_a_client_asks_for_in_vain_is_told_to_the_log_once() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let rig = Rig::new(1);
        let header = |key: i16, version: i16| {
            let mut frame = [key.to_be_bytes(), version.to_be_bytes(), [0; 2], [0; 2]].concat();
            frame.extend_from_slice(b"\0\x03rig\0");
            Bytes::from(frame)
        };
        for _ in 0..3 {
            for (key, version) in [(34, 2), (1234, 0), (3, 99)] {
                assert!(rig.handle(1, &header(key, version)).is_err());
            }
            rig.ask(
                1,
                4,
                &FindCoordinatorRequest {
                    key_type: 2,
                    coordinator_keys: vec!["t".into()],
                    ..Default::default()
                },
            );
        }
    });
    let told = warnings.0.lock().expect("no panic");
    let expected = [
        "AlterReplicaLogDirs is not implemented by this broker yet",
        "API key 1234 does not exist",
        "Metadata version 99",
        "share groups",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        let names_the_client = told.contains("client=\"rig\"") && told.contains("peer=127.0.0.1:40000");
        assert!(told.contains(expected) && names_the_client, "{told}");
    }
}
