//! Access control lists: which are taken, described and deleted, and what a client may do under each.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use milena_interop::letter::Letter;
use milena_interop::raw;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use milena_messages::alter_client_quotas::AlterClientQuotasRequest;
use milena_messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion,
};
use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::create_acls::{AclCreation, CreateAclsRequest};
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use milena_messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_acls::DescribeAclsRequest;
use milena_messages::describe_client_quotas::DescribeClientQuotasRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use milena_messages::describe_producers::{self, DescribeProducersRequest};
use milena_messages::describe_topic_partitions::{self, DescribeTopicPartitionsRequest};
use milena_messages::describe_transactions::DescribeTransactionsRequest;
use milena_messages::describe_user_scram_credentials::{self, DescribeUserScramCredentialsRequest};
use milena_messages::end_txn::EndTxnRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::list_transactions::ListTransactionsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::sync_group::SyncGroupRequest;
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_messages::update_features::UpdateFeaturesRequest;
use milena_messages::write_txn_markers::WriteTxnMarkersRequest;
use milena_messages::{ErrorCode, Request};
use milena_wire::codec::Compression;

use super::Asker;
use super::guarded::{self, codes, until};

/// `[resource type, pattern type, operation, permission]` by their numbers, name, principal and host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Acl([i8; 4], &'static str, &'static str, &'static str);

fn creation(
    Acl([resource_type, resource_pattern_type, operation, permission_type], name, principal, host): Acl,
) -> AclCreation {
    AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type,
        principal: principal.into(),
        host: host.into(),
        operation,
        permission_type,
        ..Default::default()
    }
}

/// Creates ACLs, and returns those that were taken.
fn create(asker: &mut Asker, what: &str, acls: &[Acl]) -> Vec<Acl> {
    let request =
        CreateAclsRequest { creations: acls.iter().copied().map(creation).collect(), ..Default::default() };
    let Some(answer) = asker.ask(what, &request, 3) else { return Vec::new() };
    asker.say(what, codes(&answer));
    let taken = acls.iter().zip(&answer.results).filter(|(_, result)| result.error_code.is_none());
    taken.map(|(acl, _)| *acl).collect()
}

/// A filter: numbers as those of an ACL, then name, principal and host, where `*any*` is null.
#[derive(Clone, Copy)]
struct Filter([i8; 4], &'static str, &'static str, &'static str);

const ANY: &str = "*any*";
const ALL: Filter = Filter([1, 1, 1, 1], ANY, ANY, ANY);

fn text(text: &str) -> Option<milena_wire::Str> {
    (text != ANY).then(|| text.into())
}

/// What the filter finds, in order.
fn found(asker: &mut Asker, version: i16, filter: Filter) -> Option<(ErrorCode, Vec<String>)> {
    let Filter(
        [resource_type_filter, pattern_type_filter, operation, permission_type],
        name,
        principal,
        host,
    ) = filter;
    let request = DescribeAclsRequest {
        resource_type_filter,
        resource_name_filter: text(name),
        pattern_type_filter,
        principal_filter: text(principal),
        host_filter: text(host),
        operation,
        permission_type,
        ..Default::default()
    };
    let answer = asker.ask("describe ACLs", &request, version)?;
    let lines = answer.resources.iter().flat_map(|resource| {
        resource.acls.iter().map(move |acl| {
            format!(
                "{} {} {} {} {} {} {}",
                resource.resource_type,
                resource.pattern_type,
                resource.resource_name,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type
            )
        })
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    Some((answer.error_code, lines))
}

/// Waits until as many ACLs are there: the broker learns of them after the controller.
fn settle(asker: &mut Asker, count: usize) {
    until(|| found(asker, 3, ALL), |found| found.as_ref().is_some_and(|(_, lines)| lines.len() == count));
}

fn delete(asker: &mut Asker, what: &str, filters: &[Filter]) {
    let filter = |filter: &Filter| {
        let Filter(
            [resource_type_filter, pattern_type_filter, operation, permission_type],
            name,
            principal,
            host,
        ) = *filter;
        DeleteAclsFilter {
            resource_type_filter,
            resource_name_filter: text(name),
            pattern_type_filter,
            principal_filter: text(principal),
            host_filter: text(host),
            operation,
            permission_type,
            ..Default::default()
        }
    };
    let request = DeleteAclsRequest { filters: filters.iter().map(filter).collect(), ..Default::default() };
    let Some(answer) = asker.ask(what, &request, 3) else { return };
    let results: Vec<_> = answer
        .filter_results
        .iter()
        .map(|result| {
            let matching = result.matching_acls.iter();
            let mut matching: Vec<String> = matching
                .map(|acl| {
                    format!(
                        "{} {} {} {} {} {} {}: {}",
                        acl.resource_type,
                        acl.pattern_type,
                        acl.resource_name,
                        acl.principal,
                        acl.host,
                        acl.operation,
                        acl.permission_type,
                        acl.error_code
                    )
                })
                .collect();
            matching.sort();
            (result.error_code, matching)
        })
        .collect();
    asker.say(what, results);
}

const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const THE_CLUSTER: &str = "kafka-cluster";

fn lists(asker: &mut Asker) {
    let mut taken = BTreeSet::new();
    let usual = Acl([TOPIC, LITERAL, 3, ALLOW], "t", "User:x", "*");
    let with = |change: fn(&mut Acl)| {
        let mut acl = usual;
        change(&mut acl);
        acl
    };
    // Kafka closes the connection at the numbers that stand for nothing (0), and has an UNKNOWN_SERVER_ERROR at those of
    // filters (1, 2). The embedded broker says which number is wrong.
    for (what, index, numbers) in
        [("resource", 0, 2..=8), ("pattern", 1, 3..=5), ("operation", 2, 2..=16), ("permission", 3, 2..=4)]
    {
        for number in numbers {
            let mut acl = usual;
            acl.0[index] = number;
            if index == 0 && number == CLUSTER {
                acl.1 = THE_CLUSTER;
            }
            taken.extend(create(asker, &format!("{what} {number}"), &[acl]));
        }
    }
    taken.extend(create(asker, "no name", &[with(|acl| acl.1 = "")]));
    taken.extend(create(asker, "another cluster", &[Acl([CLUSTER, LITERAL, 3, ALLOW], "x", "User:x", "*")]));
    taken.extend(create(
        asker,
        "a prefix of clusters",
        &[Acl([CLUSTER, PREFIXED, 3, ALLOW], THE_CLUSTER, "User:x", "*")],
    ));
    for principal in ["", "x", "User:", ":x", "Group:g", "User:a:b", "User:*"] {
        let mut acl = usual;
        acl.2 = principal;
        taken.extend(create(asker, &format!("principal {principal:?}"), &[acl]));
    }
    for host in ["", "127.0.0.1", "not an address", "10.0.0.0/8"] {
        let mut acl = usual;
        acl.3 = host;
        taken.extend(create(asker, &format!("host {host:?}"), &[acl]));
    }
    taken.extend(create(asker, "one good, one wrong, one twice", &[usual, with(|acl| acl.3 = ""), usual]));
    taken.extend(create(asker, "none", &[]));
    asker.be("bob");
    create(asker, "without rights", &[usual, usual]);
    let denied = found(asker, 3, ALL);
    asker.say("described without rights", denied);
    delete(asker, "deleted without rights", &[ALL, ALL]);
    asker.be("admin");
    settle(asker, taken.len());
    let all = found(asker, 3, ALL);
    asker.say("all", all);
    delete(asker, "all go", &[ALL]);
    settle(asker, 0);
}

fn filters(asker: &mut Asker) {
    let mut acls = Vec::new();
    for (pattern, name) in
        [(LITERAL, "a"), (LITERAL, "ab"), (LITERAL, "*"), (PREFIXED, "a"), (PREFIXED, "ab"), (PREFIXED, "*")]
    {
        acls.push(Acl([TOPIC, pattern, 3, ALLOW], name, "User:x", "*"));
        acls.push(Acl([TOPIC, pattern, 4, DENY], name, "User:y", "127.0.0.1"));
    }
    acls.push(Acl([GROUP, LITERAL, 2, ALLOW], "ab", "User:*", "*"));
    acls.push(Acl([CLUSTER, LITERAL, 5, ALLOW], THE_CLUSTER, "User:x", "*"));
    create(asker, "many", &acls);
    settle(asker, acls.len());
    let mut wanted = vec![
        ("all", ALL),
        ("topics", Filter([TOPIC, 1, 1, 1], ANY, ANY, ANY)),
        ("reads", Filter([1, 1, 3, 1], ANY, ANY, ANY)),
        ("denials", Filter([1, 1, 1, 2], ANY, ANY, ANY)),
        ("of x", Filter([1, 1, 1, 1], ANY, "User:x", ANY)),
        ("of everyone", Filter([1, 1, 1, 1], ANY, "User:*", ANY)),
        ("from everywhere", Filter([1, 1, 1, 1], ANY, ANY, "*")),
        ("from here", Filter([1, 1, 1, 1], ANY, ANY, "127.0.0.1")),
        ("an unknown operation", Filter([1, 1, 77, 1], ANY, ANY, ANY)),
        ("an unknown permission", Filter([1, 1, 1, 77], ANY, ANY, ANY)),
        ("an unknown type", Filter([77, 1, 1, 1], ANY, ANY, ANY)),
        ("an unknown pattern", Filter([1, 77, 1, 1], ANY, ANY, ANY)),
        ("a principal of another form", Filter([1, 1, 1, 1], ANY, "x", ANY)),
        ("no principal", Filter([1, 1, 1, 1], ANY, "", ANY)),
        ("no host", Filter([1, 1, 1, 1], ANY, ANY, "")),
    ];
    for pattern in 1..=5 {
        for name in ["a", "ab", "abc", "*", "", ANY] {
            wanted.push(("by name", Filter([TOPIC, pattern, 1, 1], name, ANY, ANY)));
        }
    }
    for (what, filter) in wanted {
        let what = format!("{what} {:?} {:?}", filter.0, filter.1);
        for version in [1, 3] {
            let found = found(asker, version, filter);
            asker.say(&what, found);
        }
    }
    delete(asker, "an unknown filter", &[Filter([1, 1, 77, 1], ANY, ANY, ANY)]);
    delete(
        asker,
        "by several filters",
        &[
            Filter([TOPIC, 2, 1, 1], "abc", "User:y", ANY),
            Filter([TOPIC, 1, 1, 2], ANY, ANY, ANY),
            Filter([GROUP, PREFIXED, 1, 1], ANY, ANY, ANY),
            Filter([1, 1, 1, 1], ANY, "User:*", ANY),
        ],
    );
    settle(asker, 7);
    let left = found(asker, 3, ALL);
    asker.say("left", left);
    delete(asker, "all go", &[ALL]);
    settle(asker, 0);
}

#[test]
fn lists_are_taken_and_refused_as_kafka_does() {
    guarded::compare(lists);
}

#[test]
fn lists_are_found_and_deleted_by_filters_as_kafka_does() {
    guarded::compare(filters);
}

const T: &str = "acl-t";
const G: &str = "acl-g";
const X: &str = "acl-x";

/// Asks, and returns the codes of the answer.
fn probe<R: Request>(asker: &mut Asker, said: &mut Vec<String>, what: &str, version: i16, request: &R)
where
    R::Response: Debug,
{
    let codes = asker.ask(what, request, version).map(|answer| codes(&answer));
    said.push(format!("{what} {codes:?}"));
}

/// Everything that a client asks for, as the user that is logged in. Nothing of it changes what another run sees.
fn everything(asker: &mut Asker, records: &Bytes) -> Vec<String> {
    let mut said = Vec::new();
    let s = &mut said;
    let topic = || T.into();
    // Topics.
    let named = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    for topics in [Some(vec![named(T)]), Some(vec![named("acl-none")])] {
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: false,
            include_topic_authorized_operations: true,
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        probe(asker, s, "metadata", 9, &request);
    }
    if let Some(answer) = asker.ask("all topics", &MetadataRequest { topics: None, ..Default::default() }, 9)
    {
        let mut names: Vec<String> =
            answer.topics.iter().filter_map(|topic| topic.name.as_deref()).map(str::to_owned).collect();
        names.retain(|name| name.starts_with("acl"));
        s.push(format!("all topics {names:?}"));
    }
    let wanted = describe_topic_partitions::TopicRequest { name: topic(), ..Default::default() };
    let request = DescribeTopicPartitionsRequest {
        topics: vec![wanted],
        response_partition_limit: 9,
        ..Default::default()
    };
    probe(asker, s, "describe topic", 0, &request);
    for (what, id) in [("produce", None), ("produce in a transaction", Some(X.into()))] {
        let data = PartitionProduceData { records: Some(records.clone()), ..Default::default() };
        let topic = TopicProduceData { name: topic(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            transactional_id: id,
            acks: -1,
            timeout_ms: 5000,
            topic_data: vec![topic],
            ..Default::default()
        };
        probe(asker, s, what, 9, &request);
    }
    let wanted = FetchPartition { partition_max_bytes: 1000, ..Default::default() };
    let of = FetchTopic { topic: topic(), partitions: vec![wanted], ..Default::default() };
    probe(
        asker,
        s,
        "fetch",
        12,
        &FetchRequest { max_bytes: 1000, session_epoch: -1, topics: vec![of], ..Default::default() },
    );
    let of = ListOffsetsTopic {
        name: topic(),
        partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
        ..Default::default()
    };
    probe(
        asker,
        s,
        "list offsets",
        6,
        &ListOffsetsRequest { replica_id: -1, topics: vec![of], ..Default::default() },
    );
    let of = OffsetForLeaderTopic {
        topic: topic(),
        partitions: vec![OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() }],
        ..Default::default()
    };
    probe(
        asker,
        s,
        "epochs",
        4,
        &OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![of], ..Default::default() },
    );
    let of = DeleteRecordsTopic {
        name: topic(),
        partitions: vec![DeleteRecordsPartition { offset: 0, ..Default::default() }],
        ..Default::default()
    };
    probe(
        asker,
        s,
        "delete records",
        2,
        &DeleteRecordsRequest { topics: vec![of], timeout_ms: 5000, ..Default::default() },
    );
    let of = CreatableTopic {
        name: "acl-new".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    probe(
        asker,
        s,
        "create a topic",
        7,
        &CreateTopicsRequest {
            topics: vec![of],
            timeout_ms: 5000,
            validate_only: true,
            ..Default::default()
        },
    );
    probe(
        asker,
        s,
        "delete a topic",
        5,
        &DeleteTopicsRequest { topic_names: vec!["acl-none".into()], timeout_ms: 5000, ..Default::default() },
    );
    let of = CreatePartitionsTopic { name: topic(), count: 5, assignments: None, ..Default::default() };
    probe(
        asker,
        s,
        "create partitions",
        3,
        &CreatePartitionsRequest {
            topics: vec![of],
            timeout_ms: 5000,
            validate_only: true,
            ..Default::default()
        },
    );
    for (resource_type, name) in [(2, T), (4, "1")] {
        let of = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: Some(vec!["retention.ms".into()]),
            ..Default::default()
        };
        probe(
            asker,
            s,
            "describe configs",
            4,
            &DescribeConfigsRequest { resources: vec![of], ..Default::default() },
        );
        let config =
            AlterableConfig { name: "retention.ms".into(), value: Some("-1".into()), ..Default::default() };
        let configs = if resource_type == 2 { vec![config] } else { Vec::new() };
        let of =
            AlterConfigsResource { resource_type, resource_name: name.into(), configs, ..Default::default() };
        probe(
            asker,
            s,
            "alter configs",
            1,
            &IncrementalAlterConfigsRequest {
                resources: vec![of],
                validate_only: true,
                ..Default::default()
            },
        );
    }
    let of =
        describe_producers::TopicRequest { name: topic(), partition_indexes: vec![0], ..Default::default() };
    probe(
        asker,
        s,
        "describe producers",
        0,
        &DescribeProducersRequest { topics: vec![of], ..Default::default() },
    );
    let of = DescribableLogDirTopic { topic: topic(), partitions: vec![0], ..Default::default() };
    for version in [2, 3] {
        let request = DescribeLogDirsRequest { topics: Some(vec![of.clone()]), ..Default::default() };
        probe(asker, s, "describe log dirs", version, &request);
    }
    // Groups.
    for (key_type, key) in [(0, G), (1, X)] {
        let request =
            FindCoordinatorRequest { key_type, coordinator_keys: vec![key.into()], ..Default::default() };
        probe(asker, s, "find a coordinator", 4, &request);
    }
    let of = OffsetFetchRequestTopics { name: topic(), partition_indexes: vec![0], ..Default::default() };
    for topics in [Some(vec![of]), None] {
        let group = OffsetFetchRequestGroup { group_id: G.into(), topics, ..Default::default() };
        probe(
            asker,
            s,
            "fetch offsets",
            8,
            &OffsetFetchRequest { groups: vec![group], ..Default::default() },
        );
    }
    let of = OffsetCommitRequestTopic {
        name: topic(),
        partitions: vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }],
        ..Default::default()
    };
    probe(
        asker,
        s,
        "commit",
        8,
        &OffsetCommitRequest { group_id: G.into(), topics: vec![of], ..Default::default() },
    );
    probe(
        asker,
        s,
        "heartbeat",
        4,
        &HeartbeatRequest { group_id: G.into(), member_id: "m".into(), ..Default::default() },
    );
    probe(
        asker,
        s,
        "sync",
        5,
        &SyncGroupRequest {
            group_id: G.into(),
            member_id: "m".into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..Default::default()
        },
    );
    let member = MemberIdentity { member_id: "m".into(), ..Default::default() };
    probe(
        asker,
        s,
        "leave",
        5,
        &LeaveGroupRequest { group_id: G.into(), members: vec![member], ..Default::default() },
    );
    probe(
        asker,
        s,
        "describe a group",
        5,
        &DescribeGroupsRequest {
            groups: vec![G.into()],
            include_authorized_operations: true,
            ..Default::default()
        },
    );
    probe(
        asker,
        s,
        "describe another group",
        0,
        &ConsumerGroupDescribeRequest {
            group_ids: vec!["acl-no-group".into()],
            include_authorized_operations: true,
            ..Default::default()
        },
    );
    let beat = ConsumerGroupHeartbeatRequest {
        group_id: "acl-no-group".into(),
        member_id: "m".into(),
        member_epoch: 7,
        ..Default::default()
    };
    probe(asker, s, "heartbeat of another group", 0, &beat);
    let of = OffsetDeleteRequestTopic {
        name: topic(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 7 }],
    };
    probe(asker, s, "delete offsets", 0, &OffsetDeleteRequest { group_id: G.into(), topics: vec![of] });
    probe(
        asker,
        s,
        "delete a group",
        2,
        &DeleteGroupsRequest { groups_names: vec!["acl-no-group".into()], ..Default::default() },
    );
    if let Some(answer) = asker.ask("list groups", &ListGroupsRequest::default(), 4) {
        let mut names: Vec<String> = answer.groups.iter().map(|group| group.group_id.to_string()).collect();
        names.retain(|name| name.starts_with("acl"));
        s.push(format!("list groups {:?} {names:?}", answer.error_code));
    }
    // Transactions.
    for (what, id) in [("a producer id", None), ("a transactional producer id", Some(X.into()))] {
        let request = InitProducerIdRequest {
            transactional_id: id,
            transaction_timeout_ms: 5000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        probe(asker, s, what, 4, &request);
    }
    let of = AddPartitionsToTxnTopic { name: topic(), partitions: vec![0], ..Default::default() };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: X.into(),
        v3_and_below_producer_id: 999,
        v3_and_below_topics: vec![of],
        ..Default::default()
    };
    probe(asker, s, "add partitions", 3, &request);
    probe(
        asker,
        s,
        "add offsets",
        3,
        &AddOffsetsToTxnRequest {
            transactional_id: X.into(),
            producer_id: 999,
            group_id: G.into(),
            ..Default::default()
        },
    );
    probe(
        asker,
        s,
        "end",
        3,
        &EndTxnRequest { transactional_id: X.into(), producer_id: 999, ..Default::default() },
    );
    let of = TxnOffsetCommitRequestTopic {
        name: topic(),
        partitions: vec![TxnOffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }],
        ..Default::default()
    };
    let request = TxnOffsetCommitRequest {
        transactional_id: X.into(),
        group_id: G.into(),
        producer_id: 999,
        generation_id_or_member_epoch: -1,
        topics: vec![of],
        ..Default::default()
    };
    probe(asker, s, "commit in a transaction", 3, &request);
    probe(
        asker,
        s,
        "describe transactions",
        0,
        &DescribeTransactionsRequest { transactional_ids: vec!["acl-no-id".into()], ..Default::default() },
    );
    probe(
        asker,
        s,
        "list transactions",
        1,
        &ListTransactionsRequest { duration_filter: -1, ..Default::default() },
    );
    probe(asker, s, "write markers", 1, &WriteTxnMarkersRequest::default());
    // The cluster.
    probe(
        asker,
        s,
        "describe the cluster",
        1,
        &DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() },
    );
    let any = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: Some("acl-none".into()),
        pattern_type_filter: 3,
        operation: 1,
        permission_type: 1,
        principal_filter: None,
        host_filter: None,
        ..Default::default()
    };
    probe(asker, s, "describe ACLs", 3, &any);
    probe(
        asker,
        s,
        "create no ACL",
        3,
        &CreateAclsRequest {
            creations: vec![creation(Acl([TOPIC, LITERAL, 3, ALLOW], "", "User:x", "*"))],
            ..Default::default()
        },
    );
    let none = DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: Some("acl-none".into()),
        pattern_type_filter: 3,
        operation: 1,
        permission_type: 1,
        principal_filter: None,
        host_filter: None,
        ..Default::default()
    };
    probe(asker, s, "delete no ACL", 3, &DeleteAclsRequest { filters: vec![none], ..Default::default() });
    let nobody = describe_user_scram_credentials::UserName { name: "nobody".into(), ..Default::default() };
    probe(
        asker,
        s,
        "describe users",
        0,
        &DescribeUserScramCredentialsRequest { users: Some(vec![nobody]), ..Default::default() },
    );
    let user = ScramCredentialDeletion { name: "nobody".into(), mechanism: 1, ..Default::default() };
    probe(
        asker,
        s,
        "alter users",
        0,
        &AlterUserScramCredentialsRequest { deletions: vec![user], ..Default::default() },
    );
    probe(asker, s, "describe quotas", 1, &DescribeClientQuotasRequest::default());
    probe(
        asker,
        s,
        "alter quotas",
        1,
        &AlterClientQuotasRequest { validate_only: true, ..Default::default() },
    );
    probe(
        asker,
        s,
        "update features",
        1,
        &UpdateFeaturesRequest { timeout_ms: 5000, validate_only: true, ..Default::default() },
    );
    said
}

fn rights(asker: &mut Asker) {
    let records = raw::batch(&[Letter::value(0, b"x")], Compression::None).unwrap();
    asker.create(T, 1);
    // The coordinators are there, and the group and the id exist.
    let ready = |of: &Vec<String>| {
        of.iter().all(|said| !said.contains("COORDINATOR") && !said.contains("UNKNOWN_SERVER"))
    };
    until(|| everything(asker, &records), ready);
    let of = |resource, pattern, name, operation| {
        Acl([resource, pattern, operation, ALLOW], name, "User:alice", "*")
    };
    let mut grants: Vec<(String, Vec<Acl>)> = vec![("nothing".to_owned(), Vec::new())];
    for (resource, name, operations) in [
        (TOPIC, T, &[2, 3, 4, 5, 6, 7, 8, 10, 11][..]),
        (GROUP, G, &[2, 3, 6, 8]),
        (ID, X, &[2, 4, 8]),
        (CLUSTER, THE_CLUSTER, &[2, 5, 7, 8, 9, 10, 11, 12]),
    ] {
        for &operation in operations {
            grants.push((
                format!("type {resource}, operation {operation}"),
                vec![of(resource, LITERAL, name, operation)],
            ));
        }
    }
    let more = [
        (
            "a prefix",
            vec![of(TOPIC, PREFIXED, "acl-", 2), of(GROUP, PREFIXED, "acl-", 2), of(ID, PREFIXED, "acl-", 2)],
        ),
        ("any name", vec![of(TOPIC, LITERAL, "*", 2), of(GROUP, LITERAL, "*", 2), of(ID, LITERAL, "*", 2)]),
        ("read a topic in a group", vec![of(TOPIC, LITERAL, T, 3), of(GROUP, LITERAL, G, 3)]),
        ("write in a transaction", vec![of(TOPIC, LITERAL, T, 4), of(ID, LITERAL, X, 4)]),
        (
            "commit in a transaction",
            vec![of(TOPIC, LITERAL, T, 3), of(GROUP, LITERAL, G, 3), of(ID, LITERAL, X, 4)],
        ),
        ("everyone", vec![Acl([TOPIC, LITERAL, 3, ALLOW], T, "User:*", "*")]),
        ("from here", vec![Acl([TOPIC, LITERAL, 3, ALLOW], T, "User:alice", "127.0.0.1")]),
        ("from elsewhere", vec![Acl([TOPIC, LITERAL, 3, ALLOW], T, "User:alice", "10.0.0.1")]),
        (
            "a denial by name",
            vec![of(TOPIC, LITERAL, "*", 2), Acl([TOPIC, LITERAL, 3, DENY], T, "User:alice", "*")],
        ),
        (
            "a denial by prefix",
            vec![of(TOPIC, LITERAL, T, 2), Acl([TOPIC, PREFIXED, 8, DENY], "acl", "User:*", "*")],
        ),
        (
            "a denial of all",
            vec![of(TOPIC, LITERAL, T, 2), Acl([TOPIC, LITERAL, 2, DENY], "*", "User:alice", "*")],
        ),
        ("writes to another topic", vec![of(TOPIC, LITERAL, "other", 4)]),
        (
            "writes, and all denied",
            vec![of(TOPIC, LITERAL, "other", 4), Acl([TOPIC, LITERAL, 4, DENY], "*", "User:alice", "*")],
        ),
    ];
    grants.extend(more.map(|(what, acls)| (what.to_owned(), acls)));
    for (what, acls) in grants {
        asker.be("admin");
        create(asker, &what, &acls);
        settle(asker, acls.len());
        asker.be("alice");
        for line in everything(asker, &records) {
            asker.say(&what, line);
        }
        asker.be("admin");
        delete(asker, "all go", &[ALL]);
        settle(asker, 0);
    }
}

#[test]
fn clients_may_do_what_they_may_with_kafka() {
    guarded::compare(rights);
}
