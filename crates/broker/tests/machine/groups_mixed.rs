//! Groups with members of both protocols, and groups that change from one to the other.

use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Broker, MigrationPolicy};
use milena_messages::ErrorCode;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::sync_group::SyncGroupRequest;

use crate::groups::{self, Member as Classic, join_request};
use crate::groups_consumer::Member;
use crate::rig::{Outcome, Rig};
use crate::time::live_through;

/// Both partitions of `t`, as an assignor of the classic protocol hands them out.
const BOTH: &str = "\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\u{0}\u{0}\u{0}\u{0}";

fn rig(policy: MigrationPolicy) -> Rig {
    let rig = Rig::with(Broker::builder().group_migration(policy));
    rig.create("t", 2, &[]);
    rig
}

/// A group of one member of the classic protocol.
fn classic_group(rig: &Rig) -> Classic {
    let mut a = Classic::default();
    let outcome = rig.join(&mut a);
    a.generation = rig.joined(outcome).generation_id;
    let id = a.id.clone();
    assert_eq!(rig.sync(&a, &[(&id, BOTH)]).answered().error_code, ErrorCode::NONE);
    a
}

/// Joins a group of the consumer protocol, which answers at once.
fn join(rig: &Rig, member: &mut Classic) -> ErrorCode {
    let answer = rig.join(member).answered();
    if answer.error_code.is_none() {
        (member.id, member.generation) = (answer.member_id, answer.generation_id);
    }
    answer.error_code
}

fn sync(rig: &Rig, member: &Classic) -> Result<Bytes, ErrorCode> {
    let answer = rig.sync(member, &[]).answered();
    if answer.error_code.is_none() { Ok(answer.assignment) } else { Err(answer.error_code) }
}

#[test]
fn a_group_is_upgraded_and_downgraded_while_it_works() {
    let rig = rig(MigrationPolicy::Bidirectional);
    let mut a = classic_group(&rig);
    let mut b = Member::of("b", &["t"]);
    assert_eq!(rig.beat(&mut b), ErrorCode::NONE);
    assert_eq!((b.epoch, b.assigned.len()), (2, 0), "the classic member still has both");
    let described = rig.describe_consumer();
    let types: Vec<i8> = described.members.iter().map(|member| member.member_type).collect();
    assert_eq!((described.group_state.as_str(), types), ("Reconciling", vec![1, 0]));
    // The classic member is told to join again, gives one up, and then has the other.
    assert_eq!(rig.heartbeat(&a), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(join(&rig, &mut a), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(&a), ErrorCode::NONE);
    let one = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";
    assert_eq!(sync(&rig, &a).as_deref(), Ok(&one[..]));
    assert_eq!(rig.beat(&mut b), ErrorCode::NONE);
    assert_eq!(b.assigned.values().map(std::collections::BTreeSet::len).sum::<usize>(), 1);
    assert_eq!(rig.describe_consumer().group_state, "Stable");
    // The member of the consumer protocol leaves.
    b.epoch = -1;
    assert_eq!(rig.send_beat(&b.request()).error_code, ErrorCode::NONE);
    assert_eq!(rig.state(), "PreparingRebalance");
    assert_eq!(rig.heartbeat(&a), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(join(&rig, &mut a), ErrorCode::NONE);
    assert_eq!(rig.sync(&a, &[(&a.id.clone(), BOTH)]).answered().assignment, BOTH);
    assert_eq!(rig.state(), "Stable");
}

#[test]
fn the_policy_says_which_groups_change() {
    let refused = ErrorCode::GROUP_ID_NOT_FOUND;
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let rig = rig(policy);
        let a = classic_group(&rig);
        let mut b = Member::of("b", &["t"]);
        assert_eq!(rig.beat(&mut b), refused);
        assert_eq!(rig.heartbeat(&a), ErrorCode::NONE, "nothing has happened to it");
    }
    let rig = rig(MigrationPolicy::Upgrade);
    let mut a = classic_group(&rig);
    let mut b = Member::of("b", &["t"]);
    assert_eq!(rig.beat(&mut b), ErrorCode::NONE);
    b.epoch = -1;
    rig.send_beat(&b.request());
    assert_eq!(rig.describe_consumer().members.len(), 1, "it stays a group of the consumer protocol");
    assert_eq!(join(&rig, &mut a), ErrorCode::NONE);
    let rig = self::rig(MigrationPolicy::Disabled);
    assert_eq!(rig.beat(&mut Member::of("b", &["t"])), ErrorCode::NONE);
    assert_eq!(join(&rig, &mut Classic::default()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn a_group_with_data_of_its_assignor_is_not_upgraded() {
    let rig = rig(MigrationPolicy::Bidirectional);
    let mut a = Classic::default();
    let outcome = rig.join(&mut a);
    a.generation = rig.joined(outcome).generation_id;
    let id = a.id.clone();
    let data = "\0\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\x01x";
    assert_eq!(rig.sync(&a, &[(&id, data)]).answered().error_code, ErrorCode::NONE);
    assert_eq!(rig.beat(&mut Member::of("b", &["t"])), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(rig.heartbeat(&a), ErrorCode::NONE);
}

#[test]
fn a_join_that_waits_is_told_to_join_again_when_the_group_is_upgraded() {
    let rig = rig(MigrationPolicy::Bidirectional);
    let a = classic_group(&rig);
    let mut b = Classic::default();
    let Outcome::Parked(parked) = rig.join(&mut b) else { panic!("it waits for the first one") };
    assert_eq!(rig.beat(&mut Member::of("c", &["t"])), ErrorCode::NONE);
    let answer = rig.joined(Outcome::Parked(parked));
    assert_eq!((answer.error_code, answer.member_id), (ErrorCode::REBALANCE_IN_PROGRESS, b.id.clone()));
    assert_eq!(rig.describe_consumer().members.len(), 3);
    assert_eq!(rig.heartbeat(&a), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn classic_members_must_join_and_sync_in_time() {
    // It does not sync.
    let mut rig = rig(MigrationPolicy::Bidirectional);
    let mut a = Member::of("a", &["t"]);
    rig.beat(&mut a);
    let mut b = Classic::default();
    assert_eq!(join(&rig, &mut b), ErrorCode::NONE);
    for _ in 0..29 {
        live_through(&mut rig, Duration::from_secs(1));
        rig.beat(&mut a);
        assert!(!matches!(rig.heartbeat(&b), ErrorCode::UNKNOWN_MEMBER_ID));
    }
    live_through(&mut rig, Duration::from_secs(2));
    assert_eq!(rig.heartbeat(&b), ErrorCode::UNKNOWN_MEMBER_ID);
    // It does not join again when it is told to.
    rig.beat(&mut a);
    let mut b = Classic::default();
    assert_eq!(join(&rig, &mut b), ErrorCode::NONE);
    rig.beat(&mut a);
    rig.beat(&mut a);
    assert!(sync(&rig, &b).is_ok());
    assert_eq!(rig.heartbeat(&b), ErrorCode::REBALANCE_IN_PROGRESS, "one is free for it");
    for _ in 0..29 {
        live_through(&mut rig, Duration::from_secs(1));
        rig.beat(&mut a);
        assert_eq!(rig.heartbeat(&b), ErrorCode::REBALANCE_IN_PROGRESS);
    }
    live_through(&mut rig, Duration::from_secs(2));
    assert_eq!(rig.heartbeat(&b), ErrorCode::UNKNOWN_MEMBER_ID);
    // Its session is the one that it asked for.
    let mut b = Classic::default();
    assert_eq!(join(&rig, &mut b), ErrorCode::NONE);
    live_through(&mut rig, Duration::from_secs(11));
    assert_eq!(rig.heartbeat(&b), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_is_downgraded_when_the_last_other_member_is_silent() {
    let mut rig = rig(MigrationPolicy::Bidirectional);
    let mut a = Member::of("a", &["t"]);
    rig.beat(&mut a);
    let mut b = Classic::default();
    assert_eq!(join(&rig, &mut b), ErrorCode::NONE);
    assert!(sync(&rig, &b).is_ok());
    for _ in 0..46 {
        live_through(&mut rig, Duration::from_secs(1));
        rig.heartbeat(&b);
    }
    assert_eq!(rig.describe().members.len(), 1);
    assert_eq!(join(&rig, &mut b), ErrorCode::NONE);
    assert_eq!(rig.state(), "CompletingRebalance");
}

#[test]
fn classic_members_of_a_consumer_group_are_checked() {
    let rig = rig(MigrationPolicy::Bidirectional);
    let mut a = Member::of("a", &["t"]);
    rig.beat(&mut a);
    let strange = |request: JoinGroupRequest| {
        let outcome = rig.try_send(1, groups::JOIN, &request).expect("understood");
        outcome.answered().error_code
    };
    let plain = join_request(&Classic { id: "b".into(), ..Classic::default() });
    let inconsistent = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    assert_eq!(strange(JoinGroupRequest { protocol_type: "connect".into(), ..plain.clone() }), inconsistent);
    assert_eq!(strange(JoinGroupRequest { protocols: Vec::new(), ..plain.clone() }), inconsistent);
    // What it says of itself cannot be read.
    let mut broken = plain.clone();
    broken.protocols[0].metadata = Bytes::from_static(b"\0\x01\0\0");
    assert_eq!(strange(broken), ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(rig.describe_consumer().members.len(), 1, "nothing has happened");
    assert_eq!(strange(plain), ErrorCode::NONE);
    let other = JoinGroupRequest {
        protocols: groups::protocols(&["other"]),
        ..join_request(&Classic { id: "c".into(), ..Classic::default() })
    };
    assert_eq!(strange(other), inconsistent, "the classic members have no protocol in common");
    let named = Classic { id: "b".into(), instance: Some("i".into()), generation: 3 };
    assert_eq!(rig.heartbeat(&named), ErrorCode::UNKNOWN_MEMBER_ID);
    let request = SyncGroupRequest {
        group_id: "g".into(),
        member_id: "b".into(),
        generation_id: 3,
        protocol_name: Some("other".into()),
        protocol_type: Some("consumer".into()),
        ..Default::default()
    };
    assert_eq!(rig.ask(1, 5, &request).error_code, inconsistent);
    // LeaveGroup removes members of either protocol.
    assert_eq!(rig.leave(&Classic { id: "a".into(), ..Classic::default() }), ErrorCode::NONE);
    assert_eq!(rig.describe().members.len(), 1);
}
