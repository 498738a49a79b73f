//! Requests with bytes changed, cut and doubled at random. Each is answered or refused, none makes the broker panic,
//! and memory follows the bytes that arrived.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use milena_broker::Answer;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::fetch::FetchRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::configs::alter_request;
use crate::groups::{Member, join_request};
use crate::groups_consumer::Member as Consumer;
use crate::groups_offsets::commit_request;
use crate::retention::delete_request;
use crate::rig::{Rig, batch, fetch, frame, produce};

/// A valid request of each kind that has something to change, in an early and a late version.
fn valid() -> Vec<Bytes> {
    let topic = || MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let metadata = || MetadataRequest { topics: Some(vec![topic()]), ..Default::default() };
    let offsets = || ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition { timestamp: 5, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let epochs = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let assignment = CreatableReplicaAssignment { broker_ids: vec![1], ..Default::default() };
    let create = |assignments: Vec<_>| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "u".into(),
            num_partitions: if assignments.is_empty() { 3 } else { -1 },
            replication_factor: -1,
            assignments,
            ..Default::default()
        }],
        ..Default::default()
    };
    let grow = CreatePartitionsTopic { name: "t".into(), count: 4, assignments: None, ..Default::default() };
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: Some(vec!["segment.bytes".into()]),
        ..Default::default()
    };
    let waiting = FetchRequest { min_bytes: 9, max_wait_ms: 50, session_epoch: 0, ..fetch("t", &[(0, 1)]) };
    let records = batch(&["first", "second", "third"], Some((7, 0, 0)));
    let groups = group_requests();
    let mut frames = vec![
        frame(9, &produce("t", 0, Some(records.clone()), 1)),
        frame(3, &produce("t", 1, Some(records), -1)),
        frame(12, &waiting),
        frame(4, &fetch("t", &[(0, 0), (1, 0)])),
        frame(11, &offsets()),
        frame(1, &offsets()),
        frame(4, &epochs),
        frame(12, &metadata()),
        frame(4, &metadata()),
        frame(7, &create(Vec::new())),
        frame(4, &create(vec![assignment])),
        frame(3, &CreatePartitionsRequest { topics: vec![grow], ..Default::default() }),
        frame(4, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() }),
        frame(5, &DeleteTopicsRequest { topic_names: vec!["u".into()], ..Default::default() }),
        frame(2, &delete_request("t", 1, 2)),
        frame(
            1,
            &alter_request(2, "t", &[("segment.ms", 0, Some("5")), ("cleanup.policy", 2, Some("delete"))]),
        ),
        frame(1, &alter_request(4, "", &[("num.partitions", 0, Some("2"))])),
        frame(3, &ApiVersionsRequest { client_software_name: "rig".into(), ..Default::default() }),
    ];
    frames.extend(groups);
    frames
}

fn group_requests() -> Vec<Bytes> {
    let join = JoinGroupRequest { rebalance_timeout_ms: 9000, ..join_request(&Member::default()) };
    let fixed = JoinGroupRequest { group_instance_id: Some("i".into()), ..join.clone() };
    let assignment = SyncGroupRequestAssignment { member_id: "m".into(), ..Default::default() };
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        assignments: vec![assignment],
        ..Default::default()
    };
    let heartbeat = HeartbeatRequest { group_id: "g".into(), generation_id: 1, ..Default::default() };
    let identity = MemberIdentity { group_instance_id: Some("i".into()), ..Default::default() };
    let topic =
        OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0, 1], ..Default::default() };
    let some =
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let offset = OffsetDeleteRequestTopic {
        name: "t".into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    vec![
        frame(3, &join),
        frame(9, &join),
        frame(9, &fixed),
        // Members of the classic protocol in the group of the consumer protocol that the requests below make.
        frame(9, &JoinGroupRequest { member_id: "k".into(), ..join.clone() }),
        frame(4, &HeartbeatRequest { member_id: "k".into(), ..heartbeat.clone() }),
        frame(5, &SyncGroupRequest { member_id: "k".into(), ..sync.clone() }),
        frame(5, &sync),
        frame(4, &heartbeat),
        frame(5, &LeaveGroupRequest { group_id: "g".into(), members: vec![identity], ..Default::default() }),
        frame(1, &Consumer::of("m", &["t"]).request()),
        frame(1, &Consumer { pattern: Some("t|[u-w]+".into()), ..Consumer::of("n", &[]) }.request()),
        frame(1, &Consumer { epoch: 2, instance: Some("i".into()), ..Consumer::of("m", &[]) }.request()),
        frame(1, &ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() }),
        frame(9, &commit_request("t", 0, 5)),
        frame(4, &commit_request("t", 0, 5)),
        frame(9, &OffsetFetchRequest { groups: vec![some], ..Default::default() }),
        frame(5, &ListGroupsRequest { states_filter: vec!["Stable".into()], ..Default::default() }),
        frame(6, &DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() }),
        frame(0, &OffsetDeleteRequest { group_id: "g".into(), topics: vec![offset] }),
        frame(2, &DeleteGroupsRequest { groups_names: vec!["g".into()], ..Default::default() }),
    ]
}

#[test]
fn changed_requests_never_panic() {
    let mut seed = 20_261_121_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below.max(1)
    };
    let new_rig = || {
        let rig = Rig::with(milena_broker::Broker::builder().nodes(2));
        rig.create("t", 2, &[]);
        rig
    };
    let valid = valid();
    let (mut answered, mut refused) = (0, 0);
    let mut rig = new_rig();
    for round in 0..15_000 {
        if round % 500 == 0 {
            rig = new_rig(); // or ever more topics make it slow
        }
        let mut raw = valid[round % valid.len()].to_vec();
        for _ in 0..1 + random(3) {
            let at = random(raw.len());
            match random(5) {
                0 => raw.truncate(at),
                1 => raw.extend_from_within(at..),
                2 => raw[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
                _ => raw[at] = random(256) as u8,
            }
            if raw.is_empty() {
                break;
            }
        }
        rig.pass(Duration::from_millis(1));
        rig.machine.handle_timeout(rig.now);
        let mut peer = rig.connect(1 + random(2) as i32);
        match rig.machine.handle(&mut peer, &raw.into(), rig.now, usize::MAX) {
            Ok(Answer::Later(parked)) => {
                let _ = parked.poll(&mut Context::from_waker(Waker::noop()));
                rig.machine.resume(&mut peer, parked, rig.now, usize::MAX).expect("can be written");
                answered += 1;
            }
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
    }
    // Both happen often, or this tests less than it says.
    assert!(answered > 1000 && refused > 1000, "{answered} answered, {refused} refused");
}
