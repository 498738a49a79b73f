//! Answers a group's only member, in the classic protocol: it is the leader, gets the assignment that it makes, and begins
//! where nothing is committed. Nothing is kept, so that groups cost the sink nothing.

use bytes::Bytes;
use milena_messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use milena_messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use milena_messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_wire::Str;

use super::Sink;

const MEMBER: Str = Str::from_static("member");
/// The offset of a partition for which none is committed.
const NOTHING_COMMITTED: i64 = -1;

pub(super) fn join(_: &Sink, request: &JoinGroupRequest) -> JoinGroupResponse {
    let protocol = request.protocols.first().cloned().unwrap_or_default();
    let group_instance_id = request.group_instance_id.clone();
    let member = JoinGroupResponseMember {
        member_id: MEMBER,
        group_instance_id,
        metadata: protocol.metadata,
        ..Default::default()
    };
    JoinGroupResponse {
        generation_id: 1,
        protocol_type: Some(request.protocol_type.clone()),
        protocol_name: Some(protocol.name),
        leader: MEMBER,
        member_id: MEMBER,
        members: vec![member],
        ..Default::default()
    }
}

pub(super) fn sync(_: &Sink, request: &SyncGroupRequest) -> SyncGroupResponse {
    let assignment = request.assignments.first().map_or_else(Bytes::new, |own| own.assignment.clone());
    SyncGroupResponse {
        protocol_type: request.protocol_type.clone(),
        protocol_name: request.protocol_name.clone(),
        assignment,
        ..Default::default()
    }
}

pub(super) fn heartbeat(_: &Sink, _: &HeartbeatRequest) -> HeartbeatResponse {
    HeartbeatResponse::default()
}

pub(super) fn leave(_: &Sink, request: &LeaveGroupRequest) -> LeaveGroupResponse {
    let left = |member_id: &Str| MemberResponse { member_id: member_id.clone(), ..Default::default() };
    let members = request.members.iter().map(|member| left(&member.member_id)).collect();
    LeaveGroupResponse { members, ..Default::default() }
}

pub(super) fn commit(_: &Sink, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            ..Default::default()
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

/// Up to version 7 a request is about one group, and from version 8 about several.
pub(super) fn committed(_: &Sink, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let of_one = request.topics.iter().flatten().map(|topic| {
        let partitions =
            topic.partition_indexes.iter().map(|&partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_offset: NOTHING_COMMITTED,
                committed_leader_epoch: -1,
                ..Default::default()
            });
        OffsetFetchResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    let groups = request.groups.iter().map(|group| {
        let topics = group.topics.iter().flatten().map(|topic| {
            let partitions =
                topic.partition_indexes.iter().map(|&partition_index| OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: NOTHING_COMMITTED,
                    committed_leader_epoch: -1,
                    ..Default::default()
                });
            OffsetFetchResponseTopics {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        }
    });
    OffsetFetchResponse { topics: of_one.collect(), groups: groups.collect(), ..Default::default() }
}
