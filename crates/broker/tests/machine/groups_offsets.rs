//! Committed offsets, and what administrators ask of groups.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
};
use milena_wire::{Str, Uuid};

use crate::groups::{Member, one_second, rig, rig_with};
use crate::rig::{Outcome, Rig};
use crate::time::live_through;

const COMMIT: i16 = 9;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn commit_request(topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: 4,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() }
}

fn code(rig: &Rig, version: i16, request: &OffsetCommitRequest) -> ErrorCode {
    rig.ask(1, version, request).topics[0].partitions[0].error_code
}

/// Commits as one who is no member.
fn commit(rig: &Rig, topic: &str, partition: i32, offset: i64) -> ErrorCode {
    code(rig, COMMIT, &commit_request(topic, partition, offset))
}

fn commit_as(rig: &Rig, member: &Member, version: i16, offset: i64) -> ErrorCode {
    let request = OffsetCommitRequest {
        member_id: member.id.clone(),
        generation_id_or_member_epoch: member.generation,
        group_instance_id: member.instance.clone(),
        ..commit_request("t", 0, offset)
    };
    code(rig, version, &request)
}

fn fetch_partition(rig: &Rig, topic: &str, partition: i32) -> OffsetFetchResponsePartitions {
    let topic = OffsetFetchRequestTopics {
        name: topic.into(),
        partition_indexes: vec![partition],
        ..Default::default()
    };
    let group =
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let answer = rig.ask(1, 9, &OffsetFetchRequest { groups: vec![group], ..Default::default() });
    assert_eq!(answer.groups[0].error_code, ErrorCode::NONE);
    answer.groups[0].topics[0].partitions[0].clone()
}

fn committed(rig: &Rig, topic: &str, partition: i32) -> i64 {
    fetch_partition(rig, topic, partition).committed_offset
}

fn groups(rig: &Rig, states: &[&str], types: &[&str]) -> Vec<(String, String, String, String)> {
    let list = |filter: &[&str]| filter.iter().map(|&name| Str::from(name)).collect();
    let request =
        ListGroupsRequest { states_filter: list(states), types_filter: list(types), ..Default::default() };
    let groups = rig.ask(1, 5, &request).groups.into_iter();
    let text = |text: Str| text.to_string();
    groups
        .map(|group| {
            (text(group.group_id), text(group.protocol_type), text(group.group_state), text(group.group_type))
        })
        .collect()
}

fn delete(rig: &Rig, group: &str) -> ErrorCode {
    let request = DeleteGroupsRequest { groups_names: vec![group.into()], ..Default::default() };
    rig.ask(1, 2, &request).results[0].error_code
}

fn delete_offset(rig: &Rig, topic: &str, partition: i32) -> Result<ErrorCode, ErrorCode> {
    let partition = OffsetDeleteRequestPartition { partition_index: partition };
    let topic = OffsetDeleteRequestTopic { name: topic.into(), partitions: vec![partition] };
    let answer = rig.ask(1, 0, &OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] });
    match answer.error_code {
        ErrorCode::NONE => Ok(answer.topics[0].partitions[0].error_code),
        code => Err(code),
    }
}

#[test]
fn what_is_committed_is_fetched_with_metadata_and_epoch() {
    let rig = rig();
    assert_eq!(committed(&rig, "t", 0), -1);
    assert_eq!(commit(&rig, "t", 0, 7), ErrorCode::NONE);
    assert_eq!(commit(&rig, "t", 2, 9), ErrorCode::NONE);
    let found = fetch_partition(&rig, "t", 0);
    assert_eq!((found.committed_offset, found.committed_leader_epoch), (7, 4));
    assert_eq!((found.metadata.as_deref(), found.error_code), (Some("note"), ErrorCode::NONE));
    let none = fetch_partition(&rig, "t", 1);
    assert_eq!((none.committed_offset, none.committed_leader_epoch), (-1, -1));
    assert_eq!(none.metadata.as_deref(), Some(""));
    assert_eq!(commit(&rig, "t", 3, 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(commit(&rig, "none", 0, 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(commit(&rig, "t", 0, 3), ErrorCode::NONE, "an offset may go back");
    assert_eq!(committed(&rig, "t", 0), 3);
    // Another group has offsets of its own.
    let other = OffsetFetchRequestGroup { group_id: "h".into(), topics: None, ..Default::default() };
    let mine = OffsetFetchRequestGroup { group_id: "g".into(), ..other.clone() };
    let answer = rig.ask(1, 8, &OffsetFetchRequest { groups: vec![other, mine], ..Default::default() });
    assert_eq!((answer.groups[0].topics.len(), answer.groups[0].error_code), (0, ErrorCode::NONE));
    let all: Vec<(i32, i64)> = answer.groups[1].topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, partition.committed_offset))
        .collect();
    assert_eq!(all, [(0, 3), (2, 9)]);
}

#[test]
fn older_versions_ask_for_one_group() {
    let rig = rig();
    commit(&rig, "t", 1, 5);
    for version in 1..8 {
        let topic =
            OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![1, 2], ..Default::default() };
        for topics in [Some(vec![topic]), None] {
            if topics.is_none() && version < 2 {
                continue;
            }
            let request = OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() };
            let answer = rig.ask(1, version, &request);
            assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::NONE, 1), "version {version}");
            let partition = &answer.topics[0].partitions[0];
            assert_eq!((partition.partition_index, partition.committed_offset), (1, 5));
        }
    }
}

#[test]
fn topics_are_named_by_their_ids_in_version_10() {
    let rig = rig();
    let id = rig.ask(1, 13, &MetadataRequest { topics: None, ..Default::default() }).topics[0].topic_id;
    let by_id = |topic_id| {
        let mut request = commit_request("", 1, 8);
        request.topics[0].topic_id = topic_id;
        let answer = rig.ask(1, 10, &request).topics[0].clone();
        assert_eq!(answer.topic_id, topic_id);
        answer.partitions[0].error_code
    };
    let unknown = Uuid::from_bytes([9; 16]);
    assert_eq!((by_id(id), by_id(unknown)), (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID));
    let topic =
        |topic_id| OffsetFetchRequestTopics { topic_id, partition_indexes: vec![1], ..Default::default() };
    let some = OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![topic(id), topic(unknown)]),
        ..Default::default()
    };
    let all = OffsetFetchRequestGroup { topics: None, ..some.clone() };
    let answer = rig.ask(1, 10, &OffsetFetchRequest { groups: vec![some, all], ..Default::default() });
    let seen = |group: usize| -> Vec<(Uuid, i64, ErrorCode)> {
        let topics = answer.groups[group].topics.iter();
        topics
            .map(|topic| {
                (topic.topic_id, topic.partitions[0].committed_offset, topic.partitions[0].error_code)
            })
            .collect()
    };
    let found = (id, 8, ErrorCode::NONE);
    assert_eq!(seen(0), [found, (unknown, -1, ErrorCode::UNKNOWN_TOPIC_ID)]);
    assert_eq!(seen(1), [found]);
}

#[test]
fn a_commit_must_come_from_the_generation_that_is() {
    let rig = rig();
    let mut member = Member::default();
    let stranger = Member { id: "x".into(), generation: 1, ..Member::default() };
    assert_eq!(commit_as(&rig, &stranger, 8, 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit_as(&rig, &stranger, 9, 1), ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(groups(&rig, &[], &[]).is_empty(), "nothing was made");
    rig.stable(std::slice::from_mut(&mut member));
    assert_eq!(commit_as(&rig, &member, COMMIT, 5), ErrorCode::NONE);
    assert_eq!(commit_as(&rig, &stranger, COMMIT, 6), ErrorCode::UNKNOWN_MEMBER_ID);
    let old = Member { generation: 0, ..member.clone() };
    assert_eq!(commit_as(&rig, &old, COMMIT, 6), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&rig, "t", 0, 6), ErrorCode::UNKNOWN_MEMBER_ID, "the group has members");
    let named = Member { instance: Some("i".into()), ..member.clone() };
    assert_eq!(commit_as(&rig, &named, COMMIT, 6), ErrorCode::UNKNOWN_MEMBER_ID);
    // While members join, those of the last generation may commit. While assignments are handed out nobody may.
    let joining = rig.join(&mut Member::default());
    assert_eq!(commit_as(&rig, &member, COMMIT, 7), ErrorCode::NONE);
    member.generation = rig.joined(rig.join(&mut member)).generation_id;
    rig.joined(joining);
    assert_eq!(rig.state(), "CompletingRebalance");
    assert_eq!(commit_as(&rig, &member, COMMIT, 8), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(committed(&rig, "t", 0), 7);
}

#[test]
fn a_commit_keeps_its_member_alive() {
    let mut rig = rig();
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    for offset in 0..4 {
        live_through(&mut rig, one_second(9));
        assert_eq!(commit_as(&rig, &member, COMMIT, offset), ErrorCode::NONE);
    }
    assert_eq!(rig.heartbeat(&member), ErrorCode::NONE);
}

#[test]
fn metadata_has_a_largest_size() {
    let rig = rig();
    let with = |metadata: String| {
        let mut request = commit_request("t", 0, 1);
        request.topics[0].partitions[0].committed_metadata = Some(metadata.into());
        code(&rig, COMMIT, &request)
    };
    assert_eq!(with("é".repeat(4096)), ErrorCode::NONE, "Kafka counts characters");
    assert_eq!(with("x".repeat(4097)), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(committed(&rig, "t", 0), 1);
}

#[test]
fn unused_offsets_expire_and_used_ones_do_not() {
    let mut rig = rig_with(Broker::builder().offsets_retention(DAY));
    rig.create("other", 1, &[]);
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    let other = OffsetCommitRequest {
        member_id: member.id.clone(),
        generation_id_or_member_epoch: member.generation,
        ..commit_request("other", 0, 2)
    };
    assert_eq!(
        (commit_as(&rig, &member, COMMIT, 1), code(&rig, COMMIT, &other)),
        (ErrorCode::NONE, ErrorCode::NONE)
    );
    for _ in 0..(DAY.as_secs() + 600) / 9 + 1 {
        live_through(&mut rig, one_second(9));
        assert_eq!(rig.heartbeat(&member), ErrorCode::NONE);
    }
    // The member subscribes to `t` and to nothing else.
    assert_eq!((committed(&rig, "t", 0), committed(&rig, "other", 0)), (1, -1));
    assert_eq!(rig.leave(&member), ErrorCode::NONE);
    live_through(&mut rig, DAY - one_second(1));
    assert_eq!(committed(&rig, "t", 0), 1, "it counts from when the group became empty");
    live_through(&mut rig, one_second(601));
    assert_eq!((committed(&rig, "t", 0), groups(&rig, &[], &[]).len()), (-1, 0));
}

#[test]
fn offsets_of_one_who_is_no_member_expire_after_their_commit() {
    let mut rig = rig_with(Broker::builder().offsets_retention(DAY));
    commit(&rig, "t", 0, 1);
    live_through(&mut rig, DAY / 2);
    commit(&rig, "t", 1, 1);
    // An old client may set the time itself.
    let request = OffsetCommitRequest { retention_time_ms: 1000, ..commit_request("t", 2, 1) };
    assert_eq!(code(&rig, 4, &request), ErrorCode::NONE);
    live_through(&mut rig, one_second(600));
    assert_eq!(committed(&rig, "t", 2), -1);
    live_through(&mut rig, DAY / 2);
    assert_eq!((committed(&rig, "t", 0), committed(&rig, "t", 1)), (-1, 1));
}

#[test]
fn deleting_a_topic_ends_its_offsets() {
    let rig = rig();
    commit(&rig, "t", 0, 5);
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    assert_eq!(rig.ask(1, 5, &request).responses[0].error_code, ErrorCode::NONE);
    rig.create("t", 1, &[]);
    assert_eq!(committed(&rig, "t", 0), -1);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let rig = rig();
    commit(&rig, "t", 0, 5);
    rig.stable(std::slice::from_mut(&mut Member::default()));
    let mut simple = commit_request("t", 0, 5);
    simple.group_id = "simple".into();
    code(&rig, COMMIT, &simple);
    let row = |id: &str, protocol: &str, state: &str| {
        (id.to_owned(), protocol.to_owned(), state.to_owned(), "classic".to_owned())
    };
    let (stable, empty) = (row("g", "consumer", "Stable"), row("simple", "", "Empty"));
    assert_eq!(groups(&rig, &[], &[]), [stable.clone(), empty.clone()]);
    assert_eq!(groups(&rig, &[" stable "], &[]), [stable]);
    assert_eq!(groups(&rig, &["EMPTY"], &["Classic"]), [empty]);
    assert!(groups(&rig, &[], &["consumer"]).is_empty());
}

#[test]
fn groups_without_members_are_deleted_with_their_offsets() {
    let rig = rig();
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    commit_as(&rig, &member, COMMIT, 5);
    assert_eq!(delete(&rig, "g"), ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(delete(&rig, "none"), ErrorCode::GROUP_ID_NOT_FOUND);
    rig.leave(&member);
    assert_eq!((committed(&rig, "t", 0), delete(&rig, "g")), (5, ErrorCode::NONE));
    assert_eq!((committed(&rig, "t", 0), rig.state().as_str()), (-1, "Dead"));
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let described = rig.ask(1, 6, &request).groups[0].clone();
    assert_eq!(described.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(described.error_message.as_deref(), Some("Group g not found."));
}

#[test]
fn offsets_are_deleted_unless_a_member_subscribes_to_their_topic() {
    let rig = rig();
    rig.create("other", 1, &[]);
    assert_eq!(delete_offset(&rig, "t", 0), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    commit(&rig, "t", 0, 5);
    commit(&rig, "other", 0, 6);
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    assert_eq!(delete_offset(&rig, "t", 0), Ok(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(delete_offset(&rig, "other", 0), Ok(ErrorCode::NONE));
    assert_eq!(delete_offset(&rig, "none", 0), Ok(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!((committed(&rig, "t", 0), committed(&rig, "other", 0)), (5, -1));
    rig.leave(&member);
    assert_eq!((delete_offset(&rig, "t", 0), committed(&rig, "t", 0)), (Ok(ErrorCode::NONE), -1));
}

#[test]
fn only_the_coordinator_answers() {
    let rig = Rig::new(3);
    rig.create("t", 3, &[]);
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    let found = |rig: &Rig, from: i32| rig.ask(from, 4, &find).coordinators[0].node_id;
    let first = found(&rig, 1);
    assert!((1..=3).all(|node| found(&rig, node) == first));
    let code = |rig: &Rig, node| {
        rig.ask(node, COMMIT, &commit_request("t", 0, 1)).topics[0].partitions[0].error_code
    };
    for node in 1..=3 {
        let expected = if node == first { ErrorCode::NONE } else { ErrorCode::NOT_COORDINATOR };
        assert_eq!(code(&rig, node), expected);
    }
    // Its groups move when it goes down, and come back with it.
    rig.machine.stop_node(first).expect("it was up");
    let second = found(&rig, 1 + first % 3);
    assert_ne!(second, first);
    assert_eq!(code(&rig, second), ErrorCode::NONE);
    rig.machine.start_node(first).expect("it was down");
    assert_eq!((found(&rig, first), code(&rig, second)), (first, ErrorCode::NOT_COORDINATOR));
    assert!(
        matches!(rig.try_send(first, 5, &ListGroupsRequest::default()), Ok(Outcome::Answered(list)) if list.groups.len() == 1)
    );
}
