//! Groups of the consumer protocol after a crash.

use milena_messages::ErrorCode;
use milena_messages::consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup};
use milena_messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
};
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::list_groups::ListGroupsRequest;

use crate::groups::{all, commit};
use crate::restart::Run;

fn join(run: &Run, member: &str, instance: Option<&str>) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        instance_id: instance.map(Into::into),
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    run.ask(1, &request)
}

/// A heartbeat of a member that has what the answer gave it.
fn beat(run: &Run, before: &ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatResponse {
    let assignment = before.assignment.clone().unwrap_or_default();
    let owned = assignment.topic_partitions.into_iter().map(|topic| {
        let (topic_id, partitions) = (topic.topic_id, topic.partitions);
        ConsumerGroupHeartbeatRequestTopicPartitions { topic_id, partitions, ..Default::default() }
    });
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: before.member_id.clone().expect("it joined"),
        member_epoch: before.member_epoch,
        topic_partitions: Some(owned.collect()),
        ..Default::default()
    };
    run.ask(1, &request)
}

/// The number of partitions that an answer gives.
fn count(answer: &ConsumerGroupHeartbeatResponse) -> usize {
    let topics = answer.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.map(|topic| topic.partitions.len()).sum()
}

fn describe(run: &Run) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
    run.ask(1, &request).groups[0].clone()
}

#[test]
fn members_go_on_in_the_middle_of_a_rebalance() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let a = join(&run, "a", None);
    let b = join(&run, "b", Some("i"));
    let before = describe(&run);
    assert_eq!((before.group_state.as_str(), before.members.len()), ("Reconciling", 2));
    drop(run);
    // Nobody has to join again, and what was to be given up is still to be given up.
    let run = Run::start(dir.path());
    assert_eq!(describe(&run), before);
    let told = beat(&run, &a);
    assert_eq!((told.error_code, told.member_epoch, count(&a), count(&told)), (ErrorCode::NONE, 2, 2, 1));
    drop(run);
    let run = Run::start(dir.path());
    let done = beat(&run, &told);
    assert_eq!((done.error_code, done.member_epoch), (ErrorCode::NONE, 3));
    assert_eq!(count(&beat(&run, &b)), 1);
    assert_eq!(describe(&run).group_state, "Stable");
}

#[test]
fn a_group_that_was_deleted_stays_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let joined = join(&run, "a", None);
    let leave = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: joined.member_id.expect("it joined"),
        member_epoch: -1,
        ..Default::default()
    };
    assert_eq!(run.ask(1, &leave).error_code, ErrorCode::NONE);
    drop(run);
    let run = Run::start(dir.path());
    assert_eq!(describe(&run).group_state, "Empty");
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()], ..Default::default() };
    assert_eq!(run.ask(2, &request).results[0].error_code, ErrorCode::NONE);
    drop(run);
    assert!(Run::start(dir.path()).ask(5, &ListGroupsRequest::default()).groups.is_empty());
}

#[test]
fn offsets_survive_a_change_of_protocol() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    run.ask(9, &commit(42, String::new()));
    // The group was a classic one that had offsets only.
    assert_eq!(join(&run, "a", None).error_code, ErrorCode::NONE);
    drop(run);
    let run = Run::start(dir.path());
    let group = run.ask(9, &all()).groups[0].clone();
    assert_eq!(group.topics[0].partitions[0].committed_offset, 42);
    assert_eq!(describe(&run).members.len(), 1);
}
