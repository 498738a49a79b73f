//! Groups and their offsets after a stop, a crash and a `kill -9`.

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use milena_wire::Str;

use crate::crash::Victim;
use crate::restart::Run;

pub(crate) fn commit(offset: i64, metadata: String) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: 2,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() }
}

pub(crate) fn all() -> OffsetFetchRequest {
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

fn join(run: &Run, member_id: &Str, instance: &str) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        ..Default::default()
    };
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.clone(),
        group_instance_id: Some(instance.into()),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    run.ask(9, &request)
}

fn sync(run: &Run, joined: &JoinGroupResponse, assignment: &'static str) -> Bytes {
    let mine = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(assignment.as_bytes()),
        ..Default::default()
    };
    let request = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![mine],
        ..Default::default()
    };
    run.ask(5, &request).assignment
}

#[test]
fn a_group_goes_on_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let joined = join(&run, &Str::default(), "i");
    assert_eq!(sync(&run, &joined, "mine"), "mine");
    let request = OffsetCommitRequest {
        member_id: joined.member_id.clone(),
        generation_id_or_member_epoch: joined.generation_id,
        ..commit(42, "note".to_owned())
    };
    assert_eq!(run.ask(9, &request).topics[0].partitions[0].error_code, ErrorCode::NONE);
    drop(run);
    let run = Run::start(dir.path());
    let found = run.ask(9, &all()).groups[0].topics[0].partitions[0].clone();
    assert_eq!((found.committed_offset, found.committed_leader_epoch), (42, 2));
    assert_eq!(found.metadata.as_deref(), Some("note"));
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: Some("i".into()),
        ..Default::default()
    };
    assert_eq!(run.ask(4, &beat).error_code, ErrorCode::NONE);
    assert_eq!(sync(&run, &joined, "nobody asks for it"), "mine");
    // The static member comes back and has its assignment.
    let again = join(&run, &Str::default(), "i");
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, joined.generation_id));
    assert!(again.skip_assignment && again.member_id != joined.member_id);
    assert_eq!(run.ask(4, &beat).error_code, ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    run.ask(9, &commit(1, String::new()));
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()], ..Default::default() };
    assert_eq!(run.ask(2, &request).results[0].error_code, ErrorCode::NONE);
    drop(run);
    let run = Run::start(dir.path());
    assert!(run.ask(5, &ListGroupsRequest::default()).groups.is_empty());
    run.ask(9, &commit(1, String::new()));
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    run.ask(5, &request);
    run.metadata("t");
    drop(run);
    let run = Run::start(dir.path());
    assert!(run.ask(9, &all()).groups[0].topics.is_empty());
}

#[test]
fn a_journal_of_many_commits_stays_short() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    for offset in 0..2000 {
        run.ask(9, &commit(offset, "x".repeat(4000)));
    }
    let bytes = std::fs::metadata(dir.path().join("milena.groups")).expect("there").len();
    assert!(bytes < 2 << 20, "{bytes}");
    drop(run);
    let run = Run::start(dir.path());
    assert_eq!(run.ask(9, &all()).groups[0].topics[0].partitions[0].committed_offset, 1999);
}

#[test]
fn kill_9_loses_no_committed_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acked = -1;
    for round in 0..4 {
        let mut victim = Victim::start(dir.path());
        let topics = Some(vec![MetadataRequestTopic { name: Some("t".into()), ..Default::default() }]);
        victim.ask(12, &MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() });
        if round > 0 {
            let found = victim.ask(9, &all()).groups[0].topics[0].partitions[0].committed_offset;
            assert!(found == acked || found == acked + 1, "{found} of {acked}");
            acked = found;
        }
        for _ in 0..300 + 100 * round {
            let next = acked + 1;
            let answer = victim.ask(9, &commit(next, "m".repeat(next as usize % 1000)));
            assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
            acked = next;
        }
        // One more is on its way when it is killed.
        victim.send(9, &commit(acked + 1, String::new())).expect("sent");
    }
}
