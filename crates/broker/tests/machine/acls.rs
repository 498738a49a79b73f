//! What ACLs let clients do, and what those learn that they may not.

use std::net::SocketAddr;

use milena_broker::{Authorizer, Broker, Listener, Peer};
use milena_messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use milena_messages::create_acls::{AclCreation, CreateAclsRequest};
use milena_messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use milena_messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use milena_messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use milena_messages::describe_acls::DescribeAclsRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;
use milena_messages::update_features::UpdateFeaturesRequest;
use milena_messages::{ErrorCode, Request};
use milena_wire::Uuid;

use crate::rig::{FETCH, PRODUCE, Rig, batch, fetch, frame, produce};

const NONE: ErrorCode = ErrorCode::NONE;
const NO_TOPIC: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
const NO_GROUP: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
const NO_CLUSTER: ErrorCode = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
const NO_ID: ErrorCode = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;

/// A cluster in which `admin` may do everything and has made the topics `a` and `b`.
fn rig() -> Rig {
    let builder = Broker::builder().listener(Listener::sasl_plaintext());
    let builder = ["admin", "alice"].iter().fold(builder, |builder, user| builder.user(*user, "secret"));
    let rig = Rig::with(builder.authorizer(Authorizer::new().super_user("User:admin")));
    let topic = |name: &str| CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic("a"), topic("b")], ..Default::default() };
    let created = ask(&rig, &mut login(&rig, "admin"), 7, &request);
    assert!(created.topics.iter().all(|topic| topic.error_code.is_none()));
    rig
}

fn ask<R: Request>(rig: &Rig, peer: &mut Peer, version: i16, request: &R) -> R::Response {
    let answer = rig.machine.handle(peer, &frame(version, request), rig.now, usize::MAX).expect("understood");
    Rig::outcome::<R>(version, answer).answered()
}

fn login(rig: &Rig, user: &str) -> Peer {
    let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let mut peer = rig.machine.connect(1, address, rig.now).expect("the node is up");
    ask(rig, &mut peer, 1, &SaslHandshakeRequest { mechanism: "PLAIN".into() });
    let auth_bytes = format!("\0{user}\0secret").into();
    let answer = ask(rig, &mut peer, 2, &SaslAuthenticateRequest { auth_bytes, ..Default::default() });
    assert_eq!(answer.error_code, NONE);
    peer
}

const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const ID: i8 = 5;

/// An ACL for `alice` with a literal name.
fn acl(resource_type: i8, name: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type: 3,
        principal: "User:alice".into(),
        host: "*".into(),
        operation,
        permission_type: 3,
        ..Default::default()
    }
}

const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;
const DESCRIBE_CONFIGS: i8 = 10;
const IDEMPOTENT_WRITE: i8 = 12;

fn allow(rig: &Rig, creations: Vec<AclCreation>) {
    let request = CreateAclsRequest { creations, ..Default::default() };
    let created = ask(rig, &mut login(rig, "admin"), 3, &request);
    assert!(created.results.iter().all(|result| result.error_code.is_none()), "{created:?}");
}

fn metadata(rig: &Rig, peer: &mut Peer, topics: Option<&[&str]>, creates: bool) -> MetadataResponse {
    let named = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
    let request = MetadataRequest {
        topics: topics.map(|topics| topics.iter().map(named).collect()),
        allow_auto_topic_creation: creates,
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    ask(rig, peer, 12, &request)
}

#[test]
fn topics_are_hidden_from_clients_that_may_not_see_them() {
    let rig = rig();
    let mut alice = login(&rig, "alice");
    assert!(metadata(&rig, &mut alice, None, false).topics.is_empty());
    for name in ["a", "no-such-topic"] {
        let answer = metadata(&rig, &mut alice, Some(&[name]), false);
        let topic = &answer.topics[0];
        assert_eq!((topic.error_code, topic.topic_id), (NO_TOPIC, Uuid::ZERO), "{name}");
        assert!(topic.partitions.is_empty() && topic.topic_authorized_operations == i32::MIN);
    }
    let id = metadata(&rig, &mut login(&rig, "admin"), Some(&["a"]), false).topics[0].topic_id;
    let by_id = MetadataRequestTopic { topic_id: id, name: None, ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
    let answer = ask(&rig, &mut alice, 12, &request);
    assert_eq!((answer.topics[0].error_code, &answer.topics[0].name), (NO_TOPIC, &None));
    allow(&rig, vec![acl(TOPIC, "a", WRITE)]);
    let visible = metadata(&rig, &mut alice, None, false);
    assert_eq!(visible.topics.len(), 1);
    // Write, and Describe, which it implies.
    assert_eq!(visible.topics[0].topic_authorized_operations, 1 << WRITE | 1 << DESCRIBE);
    let all = metadata(&rig, &mut login(&rig, "admin"), None, false);
    assert_eq!(
        all.topics.iter().map(|topic| topic.topic_authorized_operations).max(),
        Some(0b1101_1111_1000)
    );
}

#[test]
fn a_topic_is_created_by_asking_for_it_only_if_the_client_may_create_it() {
    let rig = rig();
    let mut alice = login(&rig, "alice");
    allow(&rig, vec![acl(TOPIC, "c", DESCRIBE), acl(TOPIC, "d", DESCRIBE), acl(TOPIC, "d", CREATE)]);
    let code = |answer: MetadataResponse| answer.topics[0].error_code;
    assert_eq!(code(metadata(&rig, &mut alice, Some(&["c"]), true)), NO_TOPIC);
    assert_eq!(code(metadata(&rig, &mut alice, Some(&["c"]), false)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(metadata(&rig, &mut alice, Some(&["d"]), true)), NONE);
}

#[test]
fn records_are_written_and_read_where_it_is_allowed() {
    let rig = rig();
    let mut alice = login(&rig, "alice");
    let write = |alice: &mut Peer, topic: &str| {
        let answer = ask(&rig, alice, PRODUCE, &produce(topic, 0, Some(batch(&["x"], None)), -1));
        answer.responses[0].partition_responses[0].error_code
    };
    let read = |alice: &mut Peer, topic: &str| {
        let answer = ask(&rig, alice, FETCH, &fetch(topic, &[(0, 0)]));
        let data = &answer.responses[0].partitions[0];
        (data.error_code, data.records.as_ref().is_some_and(|records| !records.is_empty()))
    };
    for topic in ["a", "no-such-topic"] {
        assert_eq!((write(&mut alice, topic), read(&mut alice, topic)), (NO_TOPIC, (NO_TOPIC, false)));
    }
    allow(&rig, vec![acl(TOPIC, "a", WRITE)]);
    assert_eq!((write(&mut alice, "a"), read(&mut alice, "a")), (NONE, (NO_TOPIC, false)));
    allow(&rig, vec![acl(TOPIC, "a", READ)]);
    assert_eq!(read(&mut alice, "a"), (NONE, true));
    // With acks=0 an error closes the connection.
    let request = frame(PRODUCE, &produce("b", 0, Some(batch(&["x"], None)), 0));
    assert!(rig.machine.handle(&mut alice, &request, rig.now, usize::MAX).is_err());
    let mut alice = login(&rig, "alice");
    let mut as_id = |records| {
        let mut request = produce("a", 0, Some(records), -1);
        request.transactional_id = Some("id".into());
        ask(&rig, &mut alice, PRODUCE, &request).responses[0].partition_responses[0].error_code
    };
    assert_eq!(as_id(crate::transactions::batch(&["x"], (1, 0, 0))), NO_ID);
    assert_eq!(as_id(batch(&["x"], None)), NONE, "the id is of no account for other batches");
}

#[test]
fn groups_transactions_and_the_cluster_have_codes_of_their_own() {
    let rig = rig();
    let mut alice = login(&rig, "alice");
    let find = |alice: &mut Peer, key_type| {
        let request =
            FindCoordinatorRequest { key_type, coordinator_keys: vec!["x".into()], ..Default::default() };
        ask(&rig, alice, 4, &request).coordinators[0].error_code
    };
    assert_eq!((find(&mut alice, 0), find(&mut alice, 1)), (NO_GROUP, NO_ID));
    let beat = HeartbeatRequest { group_id: "x".into(), ..Default::default() };
    assert_eq!(ask(&rig, &mut alice, 4, &beat).error_code, NO_GROUP);
    let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    let topic = |name: &str| OffsetCommitRequestTopic {
        name: name.into(),
        partitions: vec![partition.clone()],
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "x".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic("a"), topic("b")],
        ..Default::default()
    };
    let codes = |alice: &mut Peer| {
        let answer = ask(&rig, alice, 8, &commit);
        answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&mut alice), [NO_GROUP, NO_GROUP]);
    allow(&rig, vec![acl(GROUP, "x", READ), acl(TOPIC, "a", READ)]);
    assert_eq!(codes(&mut alice), [NONE, NO_TOPIC]);
    assert_eq!(find(&mut alice, 0), NONE);
    assert_eq!(ask(&rig, &mut alice, 5, &ListGroupsRequest::default()).groups.len(), 1);
    let id = |transactional_id: Option<&str>| InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    assert_eq!(ask(&rig, &mut alice, 5, &id(None)).error_code, NO_CLUSTER);
    assert_eq!(ask(&rig, &mut alice, 5, &id(Some("x"))).error_code, NO_ID);
    allow(&rig, vec![acl(CLUSTER, "kafka-cluster", IDEMPOTENT_WRITE), acl(ID, "x", WRITE)]);
    assert_eq!(ask(&rig, &mut alice, 5, &id(None)).error_code, NONE);
    let producer = ask(&rig, &mut alice, 5, &id(Some("x")));
    assert_eq!(producer.error_code, NONE);
    let topic =
        |name: &str| AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0], ..Default::default() };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".into(),
        v3_and_below_producer_id: producer.producer_id,
        v3_and_below_producer_epoch: producer.producer_epoch,
        v3_and_below_topics: vec![topic("a"), topic("b")],
        ..Default::default()
    };
    let codes = |alice: &mut Peer| {
        let answer = ask(&rig, alice, 3, &add);
        let codes = answer.results_by_topic_v3_and_below.iter();
        codes.map(|topic| topic.results_by_partition[0].partition_error_code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&mut alice), [NO_TOPIC, NO_TOPIC]);
    allow(&rig, vec![acl(TOPIC, "a", WRITE)]);
    assert_eq!(codes(&mut alice), [ErrorCode::OPERATION_NOT_ATTEMPTED, NO_TOPIC]);
    allow(&rig, vec![acl(TOPIC, "b", WRITE)]);
    assert_eq!(codes(&mut alice), [NONE, NONE]);
    let features = UpdateFeaturesRequest::default();
    assert_eq!(ask(&rig, &mut alice, 2, &features).error_code, NO_CLUSTER);
    allow(&rig, vec![acl(CLUSTER, "kafka-cluster", ALTER)]);
    assert_eq!(ask(&rig, &mut alice, 2, &features).error_code, NONE);
}

#[test]
fn topics_are_made_described_and_deleted_where_it_is_allowed() {
    let rig = rig();
    let mut alice = login(&rig, "alice");
    let create = |alice: &mut Peer, name: &str| {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let created = ask(&rig, alice, 7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        (created.topics[0].error_code, created.topics[0].topic_config_error_code)
    };
    assert_eq!(create(&mut alice, "c").0, NO_TOPIC);
    allow(&rig, vec![acl(TOPIC, "c", CREATE)]);
    assert_eq!(create(&mut alice, "c"), (NONE, NO_TOPIC), "its configs are hidden");
    let describe = |alice: &mut Peer, resource_type, name: &str| {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        ask(&rig, alice, 4, &request).results[0].error_code
    };
    assert_eq!((describe(&mut alice, 2, "c"), describe(&mut alice, 4, "1")), (NO_TOPIC, NO_CLUSTER));
    allow(&rig, vec![acl(TOPIC, "c", DESCRIBE_CONFIGS)]);
    assert_eq!(describe(&mut alice, 2, "c"), NONE);
    let delete = |alice: &mut Peer, name: &str| {
        let topic = DeleteTopicState { name: Some(name.into()), ..Default::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..Default::default() };
        ask(&rig, alice, 6, &request).responses[0].error_code
    };
    assert_eq!((delete(&mut alice, "c"), delete(&mut alice, "no-such-topic")), (NO_TOPIC, NO_TOPIC));
    allow(&rig, vec![acl(TOPIC, "c", DELETE)]);
    assert_eq!(
        (delete(&mut alice, "c"), delete(&mut alice, "c")),
        (NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    );
    let request =
        DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
    assert_eq!(ask(&rig, &mut alice, 0, &request).cluster_authorized_operations, 0);
    let admin = ask(&rig, &mut login(&rig, "admin"), 0, &request);
    assert_eq!(admin.cluster_authorized_operations, 0b1_1111_1010_0000);
}

fn described(rig: &Rig, peer: &mut Peer) -> Result<Vec<(String, usize)>, ErrorCode> {
    let request = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    let answer = ask(rig, peer, 3, &request);
    match answer.error_code {
        NONE => {
            let count = answer.resources.into_iter();
            Ok(count.map(|resource| (resource.resource_name.to_string(), resource.acls.len())).collect())
        }
        code => Err(code),
    }
}

#[test]
fn acls_are_made_described_and_deleted() {
    let rig = rig();
    let (mut admin, mut alice) = (login(&rig, "admin"), login(&rig, "alice"));
    let refused = CreateAclsRequest { creations: vec![acl(TOPIC, "a", READ)], ..Default::default() };
    assert_eq!(ask(&rig, &mut alice, 3, &refused).results[0].error_code, NO_CLUSTER);
    assert_eq!(described(&rig, &mut alice), Err(NO_CLUSTER));
    allow(
        &rig,
        vec![acl(TOPIC, "a", READ), acl(TOPIC, "a", WRITE), acl(GROUP, "g", READ), acl(TOPIC, "a", READ)],
    );
    assert_eq!(described(&rig, &mut admin), Ok(vec![("a".to_owned(), 2), ("g".to_owned(), 1)]));
    let filter = |resource_type_filter, operation| DeleteAclsFilter {
        resource_type_filter,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation,
        permission_type: 1,
        ..Default::default()
    };
    let filters = vec![filter(TOPIC, READ), filter(TOPIC, DELETE), filter(0, READ)];
    let deleted = ask(&rig, &mut admin, 3, &DeleteAclsRequest { filters, ..Default::default() });
    let counts: Vec<_> =
        deleted.filter_results.iter().map(|result| (result.error_code, result.matching_acls.len())).collect();
    assert_eq!(counts, [(NONE, 1), (NONE, 0), (ErrorCode::INVALID_REQUEST, 0)]);
    assert_eq!(described(&rig, &mut admin), Ok(vec![("a".to_owned(), 1), ("g".to_owned(), 1)]));
    let wrong = [
        AclCreation { resource_name: "x".into(), ..acl(CLUSTER, "", READ) },
        acl(TOPIC, "", READ),
        acl(0, "a", READ),
        acl(TOPIC, "a", 1),
        AclCreation { principal: "alice".into(), ..acl(TOPIC, "a", READ) },
        AclCreation { host: "".into(), ..acl(TOPIC, "a", READ) },
        AclCreation { resource_pattern_type: 2, ..acl(TOPIC, "a", READ) },
        AclCreation { permission_type: 1, ..acl(TOPIC, "a", READ) },
    ];
    let count = wrong.len();
    let answer =
        ask(&rig, &mut admin, 3, &CreateAclsRequest { creations: wrong.into(), ..Default::default() });
    assert_eq!(answer.results.len(), count);
    assert!(
        answer.results.iter().all(|result| result.error_code == ErrorCode::INVALID_REQUEST),
        "{answer:?}"
    );
}

#[test]
fn without_an_authorizer_there_are_no_acls_and_everything_is_allowed() {
    let rig = Rig::new(1);
    let mut peer = rig.connect(1);
    assert_eq!(described(&rig, &mut peer), Err(ErrorCode::SECURITY_DISABLED));
    let request = CreateAclsRequest { creations: vec![acl(TOPIC, "a", READ)], ..Default::default() };
    assert_eq!(ask(&rig, &mut peer, 3, &request).results[0].error_code, ErrorCode::SECURITY_DISABLED);
}
