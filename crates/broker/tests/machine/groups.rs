//! Groups of the classic protocol: joins, assignments, heartbeats, and members that leave, vanish and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Broker, Builder, Parked};
use milena_messages::ErrorCode;
use milena_messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use milena_wire::Str;

use crate::rig::{Outcome, Rig, is_due};
use crate::time::live_through;

pub(crate) const JOIN: i16 = 9;
const SYNC: i16 = 5;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

/// A member as its own client sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) generation: i32,
}

pub(crate) fn one_second(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn join_request(member: &Member) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: SESSION.as_millis() as i32,
        rebalance_timeout_ms: REBALANCE.as_millis() as i32,
        member_id: member.id.clone(),
        group_instance_id: member.instance.clone(),
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        ..Default::default()
    }
}

/// Subscriptions to the topic `t`.
pub(crate) fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    let protocol = |name: &&str| JoinGroupRequestProtocol {
        name: (*name).into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        ..Default::default()
    };
    names.iter().map(protocol).collect()
}

impl Rig {
    /// The ids of the members that the coordinator has removed.
    fn expired(&self) -> Vec<String> {
        self.machine.expired_members().into_iter().map(|member| member.member_id).collect()
    }

    fn join_at(&self, version: i16, request: &JoinGroupRequest) -> Outcome<JoinGroupResponse> {
        self.try_send(1, version, request).expect("understood")
    }

    /// Joins, and joins again when a member id is given out. The last request is parked or answered.
    pub(crate) fn join(&self, member: &mut Member) -> Outcome<JoinGroupResponse> {
        match self.join_at(JOIN, &join_request(member)) {
            Outcome::Answered(answer) if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED => {
                member.id = answer.member_id;
                self.join_at(JOIN, &join_request(member))
            }
            outcome => outcome,
        }
    }

    /// What a parked join is answered now.
    pub(crate) fn joined(&self, outcome: Outcome<JoinGroupResponse>) -> JoinGroupResponse {
        match outcome {
            Outcome::Parked(parked) => {
                assert!(is_due(&parked), "the join waits");
                self.resume::<JoinGroupRequest>(JOIN, parked).answered()
            }
            outcome => outcome.answered(),
        }
    }

    pub(crate) fn sync(&self, member: &Member, assignments: &[(&Str, &str)]) -> Outcome<SyncGroupResponse> {
        let assignment = |(id, text): &(&Str, &str)| SyncGroupRequestAssignment {
            member_id: (*id).clone(),
            assignment: Bytes::copy_from_slice(text.as_bytes()),
            ..Default::default()
        };
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            assignments: assignments.iter().map(assignment).collect(),
            ..Default::default()
        };
        self.try_send(1, SYNC, &request).expect("understood")
    }

    pub(crate) fn synced(&self, parked: Parked) -> SyncGroupResponse {
        assert!(is_due(&parked), "the sync waits");
        self.resume::<SyncGroupRequest>(SYNC, parked).answered()
    }

    pub(crate) fn heartbeat(&self, member: &Member) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            ..Default::default()
        };
        self.ask(1, 4, &request).error_code
    }

    pub(crate) fn leave(&self, member: &Member) -> ErrorCode {
        let identity = MemberIdentity {
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            ..Default::default()
        };
        let request =
            LeaveGroupRequest { group_id: "g".into(), members: vec![identity], ..Default::default() };
        let answer = self.ask(1, 5, &request);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.members[0].error_code
    }

    pub(crate) fn describe(&self) -> DescribedGroup {
        let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
        self.ask(1, 5, &request).groups[0].clone()
    }

    pub(crate) fn state(&self) -> String {
        self.describe().group_state.to_string()
    }

    /// A stable group of these members. The first is its leader.
    pub(crate) fn stable(&self, members: &mut [Member]) {
        let mut parked = Vec::new();
        let count = members.len();
        for at in 0..count {
            let outcome = self.join(&mut members[at]);
            // The members before it learn of the rebalance and join again.
            let mut outcomes = vec![(at, outcome)];
            for (before, member) in members[..at].iter_mut().enumerate() {
                outcomes.push((before, self.join(member)));
            }
            parked = outcomes;
        }
        for (at, outcome) in parked {
            let answer = self.joined(outcome);
            assert_eq!(answer.error_code, ErrorCode::NONE);
            members[at].generation = answer.generation_id;
        }
        let ids: Vec<Str> = members.iter().map(|member| member.id.clone()).collect();
        let assignments: Vec<(&Str, &str)> = ids.iter().map(|id| (id, "mine")).collect();
        let leader = self.describe_leader(members);
        let waiting: Vec<Parked> = (0..count)
            .filter(|at| *at != leader)
            .map(|at| match self.sync(&members[at], &[]) {
                Outcome::Parked(parked) => parked,
                _ => panic!("the leader has not brought the assignments"),
            })
            .collect();
        assert_eq!(self.sync(&members[leader], &assignments).answered().assignment, "mine");
        for parked in waiting {
            assert_eq!(self.synced(parked).assignment, "mine");
        }
        assert_eq!(self.state(), "Stable");
    }

    fn describe_leader(&self, members: &[Member]) -> usize {
        // A join in this state is answered with the generation as it is.
        let leader = self.join_at(JOIN, &join_request(&members[0])).answered().leader;
        members.iter().position(|member| member.id == leader).expect("one of them")
    }
}

pub(crate) fn rig_with(builder: Builder) -> Rig {
    let rig = Rig::with(builder);
    rig.create("t", 3, &[]);
    rig
}

pub(crate) fn rig() -> Rig {
    rig_with(Broker::builder())
}

#[test]
fn a_new_member_joins_twice_and_then_leads() {
    let rig = rig();
    let mut member = Member::default();
    let first = rig.join_at(JOIN, &join_request(&member)).answered();
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    assert!(first.member_id.starts_with("rig-") && first.member_id.len() == 40, "{}", first.member_id);
    assert_eq!(rig.state(), "Empty");
    member.id = first.member_id;
    let joined = rig.joined(rig.join(&mut member));
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
    assert_eq!((&joined.leader, &joined.member_id), (&member.id, &member.id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, protocols(&["range"])[0].metadata);
    member.generation = 1;
    assert_eq!(rig.state(), "CompletingRebalance");
    let synced = rig.sync(&member, &[(&member.id, "all")]).answered();
    assert_eq!((synced.error_code, &synced.assignment[..]), (ErrorCode::NONE, &b"all"[..]));
    let described = rig.describe();
    assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
    assert_eq!(described.members[0].member_assignment, "all");
    assert_eq!(described.members[0].client_id, "rig");
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    assert_eq!(rig.heartbeat(&member), ErrorCode::NONE);
    assert_eq!(rig.leave(&member), ErrorCode::NONE);
    assert_eq!((rig.state().as_str(), rig.heartbeat(&member)), ("Empty", ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn older_versions_join_at_once() {
    let rig = rig();
    for version in 0..4 {
        let mut request = join_request(&Member::default());
        request.group_id = format!("g{version}").into();
        if version == 0 {
            request.rebalance_timeout_ms = -1;
        }
        let joined = rig.join_at(version, &request).answered();
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1), "version {version}");
    }
}

#[test]
fn a_second_member_brings_a_rebalance() {
    let rig = rig();
    let mut members = [Member::default(), Member::default()];
    rig.stable(&mut members[..1]);
    let second = rig.join(&mut members[1]);
    let Outcome::Parked(second) = second else { panic!("it waits for the first member") };
    assert!(!is_due(&second));
    assert_eq!(rig.state(), "PreparingRebalance");
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::REBALANCE_IN_PROGRESS);
    let first = rig.joined(rig.join(&mut members[0]));
    let second = rig.joined(Outcome::Parked(second));
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "the leader sees all");
    assert_eq!(second.leader, members[0].id);
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::ILLEGAL_GENERATION);
    for member in &mut members {
        member.generation = 2;
    }
    // A member may ask again before the leader has brought the assignments.
    let Outcome::Parked(waiting) = rig.sync(&members[1], &[]) else { panic!("it waits for the leader") };
    assert!(!is_due(&waiting));
    assert_eq!(rig.sync(&members[0], &[(&members[1].id, "half")]).answered().assignment, "");
    assert_eq!(rig.synced(waiting).assignment, "half");
    assert_eq!(rig.sync(&members[1], &[]).answered().assignment, "half", "it may ask again");
    // A follower that joins again changes nothing, the leader begins a rebalance.
    assert_eq!(rig.joined(rig.join(&mut members[1])).generation_id, 2);
    assert_eq!(rig.state(), "Stable");
    assert!(matches!(rig.join(&mut members[0]), Outcome::Parked(_)));
    assert_eq!(rig.state(), "PreparingRebalance");
}

#[test]
fn what_is_not_allowed_is_refused_with_kafkas_codes() {
    let mut rig = rig();
    let mut member = Member::default();
    let join = |rig: &Rig, change: &dyn Fn(&mut JoinGroupRequest)| {
        let mut request = join_request(&Member::default());
        change(&mut request);
        rig.join_at(JOIN, &request).answered().error_code
    };
    type Change<'a> = &'a dyn Fn(&mut JoinGroupRequest);
    let table: [(&str, Change<'_>, ErrorCode); 7] = [
        ("no group id", &|join| join.group_id = "".into(), ErrorCode::INVALID_GROUP_ID),
        ("a short session", &|join| join.session_timeout_ms = 5999, ErrorCode::INVALID_SESSION_TIMEOUT),
        ("a long session", &|join| join.session_timeout_ms = 1_800_001, ErrorCode::INVALID_SESSION_TIMEOUT),
        ("an unknown id", &|join| join.member_id = "x".into(), ErrorCode::UNKNOWN_MEMBER_ID),
        ("no protocols", &|join| join.protocols.clear(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        ("no type", &|join| join.protocol_type = "".into(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        ("no member id yet", &|_| {}, ErrorCode::MEMBER_ID_REQUIRED),
    ];
    for (what, change, code) in table {
        assert_eq!(join(&rig, change), code, "{what}");
    }
    live_through(&mut rig, SESSION);
    rig.stable(std::slice::from_mut(&mut member));
    let other = protocols(&["sticky"]);
    assert_eq!(join(&rig, &|join| join.protocols.clone_from(&other)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(
        join(&rig, &|join| join.protocol_type = "connect".into()),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    let sync = |change: &dyn Fn(&mut SyncGroupRequest)| {
        let mut request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            ..Default::default()
        };
        change(&mut request);
        rig.ask(1, SYNC, &request).error_code
    };
    assert_eq!(sync(&|_| {}), ErrorCode::NONE);
    assert_eq!(sync(&|sync| sync.group_id = "".into()), ErrorCode::INVALID_GROUP_ID);
    assert_eq!(sync(&|sync| sync.group_id = "none".into()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(sync(&|sync| sync.member_id = "x".into()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(sync(&|sync| sync.group_instance_id = Some("x".into())), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(sync(&|sync| sync.generation_id += 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(
        sync(&|sync| sync.protocol_name = Some("sticky".into())),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    assert_eq!(
        sync(&|sync| sync.protocol_type = Some("connect".into())),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    let old = LeaveGroupRequest { group_id: "g".into(), member_id: "x".into(), ..Default::default() };
    assert_eq!(rig.ask(1, 2, &old).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut rig = rig();
    let mut members = [Member::default(), Member::default()];
    rig.stable(&mut members);
    live_through(&mut rig, SESSION - one_second(1));
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::NONE);
    live_through(&mut rig, one_second(1));
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.heartbeat(&members[1]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.joined(rig.join(&mut members[0])).members.len(), 1);
    assert_eq!(rig.expired(), [members[1].id.as_str()]);
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let mut rig = rig();
    let mut members = [Member::default(), Member::default()];
    rig.stable(&mut members[..1]);
    let Outcome::Parked(second) = rig.join(&mut members[1]) else { panic!("it waits") };
    // The first member lives and does not join.
    for _ in 0..5 {
        live_through(&mut rig, one_second(5));
        assert_eq!(rig.heartbeat(&members[0]), ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(!is_due(&second));
    }
    live_through(&mut rig, one_second(5));
    let joined = rig.joined(Outcome::Parked(second));
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    assert_eq!(joined.leader, members[1].id);
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.expired(), [members[0].id.as_str()]);
}

#[test]
fn a_member_that_does_not_fetch_its_assignment_is_out() {
    let mut rig = rig();
    let mut member = Member::default();
    member.generation = rig.joined(rig.join(&mut member)).generation_id;
    for _ in 0..5 {
        live_through(&mut rig, one_second(5));
        assert_eq!(rig.heartbeat(&member), ErrorCode::NONE);
    }
    live_through(&mut rig, one_second(5));
    assert_eq!(rig.heartbeat(&member), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.state(), "Empty");
    assert_eq!(rig.expired(), [member.id.as_str()]);
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_a_rebalance_waits_for_it() {
    let mut rig = rig();
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    // The id is given out, and a rebalance waits for its member.
    let given = rig.join_at(JOIN, &join_request(&Member::default())).answered().member_id;
    let Outcome::Parked(waiting) = rig.join(&mut member) else { panic!("it waits for the new member") };
    assert!(!is_due(&waiting));
    live_through(&mut rig, SESSION);
    assert_eq!(rig.joined(Outcome::Parked(waiting)).generation_id, 2);
    let late = Member { id: given, ..Member::default() };
    let answer = rig.join_at(JOIN, &join_request(&late)).answered();
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_first_rebalance_waits_while_members_come() {
    let delay = Duration::from_secs(3);
    let mut rig = rig_with(Broker::builder().group_initial_rebalance_delay(delay));
    let mut parked = Vec::new();
    for _ in 0..3 {
        let Outcome::Parked(join) = rig.join(&mut Member::default()) else { panic!("it waits") };
        parked.push(join);
        live_through(&mut rig, one_second(2));
    }
    // The delay began anew at 3 s, because of the second member, and at 6 s because of the third.
    live_through(&mut rig, one_second(2));
    assert!(parked.iter().all(|parked| !is_due(parked)));
    live_through(&mut rig, one_second(1));
    let joined: Vec<JoinGroupResponse> =
        parked.into_iter().map(|parked| rig.joined(Outcome::Parked(parked))).collect();
    assert!(joined.iter().all(|joined| joined.generation_id == 1));
    assert_eq!(joined[0].members.len(), 3);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut rig = rig();
    let mut leader = Member { instance: Some("a".into()), ..Member::default() };
    let mut follower = Member { instance: Some("b".into()), ..Member::default() };
    // Static members get their id in the answer to their only join.
    let joined = rig.joined(rig.join(&mut leader));
    (leader.id, leader.generation) = (joined.member_id, joined.generation_id);
    rig.sync(&leader, &[]).answered();
    let second = rig.join(&mut follower);
    leader.generation = rig.joined(rig.join(&mut leader)).generation_id;
    let joined = rig.joined(second);
    (follower.id, follower.generation) = (joined.member_id, joined.generation_id);
    assert!(leader.id.starts_with("a-") && follower.id.starts_with("b-"));
    let assignments = [(&leader.id, "one"), (&follower.id, "two")];
    assert_eq!(rig.sync(&leader, &assignments).answered().assignment, "one");
    // The follower comes back, with a new id and the old assignment.
    let old = follower.clone();
    follower.id = Str::default();
    let again = rig.joined(rig.join(&mut follower));
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, 2));
    assert!(!again.skip_assignment && again.members.is_empty());
    follower.id = again.member_id;
    assert_ne!(follower.id, old.id);
    assert_eq!(rig.sync(&follower, &[]).answered().assignment, "two");
    // Its former self is fenced.
    assert_eq!(rig.heartbeat(&old), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.leave(&old), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.sync(&old, &[]).answered().error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.join_at(JOIN, &join_request(&old)).answered().error_code, ErrorCode::FENCED_INSTANCE_ID);
    // The leader comes back and is told to skip the assignment (KIP-814). An older version is told another leader.
    for (version, skips) in [(9, true), (8, false)] {
        leader.id = Str::default();
        let again = rig.join_at(version, &join_request(&leader)).answered();
        assert_eq!((again.error_code, again.skip_assignment), (ErrorCode::NONE, skips));
        assert_eq!(
            (again.members.len(), again.leader == again.member_id),
            if skips { (2, true) } else { (0, false) }
        );
        leader.id = again.member_id;
    }
    assert_eq!(rig.state(), "Stable");
    // It stays as long as its session, and an administrator removes it by its name.
    live_through(&mut rig, SESSION - one_second(1));
    assert_eq!(rig.heartbeat(&leader), ErrorCode::NONE);
    let named = Member { instance: Some("b".into()), ..Member::default() };
    assert_eq!(rig.leave(&named), ErrorCode::NONE);
    assert_eq!(rig.leave(&named), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.heartbeat(&leader), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_group_has_a_largest_size() {
    let rig = rig_with(Broker::builder().group_members_max(2));
    let mut members = [Member::default(), Member::default()];
    rig.stable(&mut members);
    let third = rig.join_at(JOIN, &join_request(&Member::default())).answered();
    assert_eq!(third.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn the_protocol_is_the_one_that_most_like_best_of_those_that_all_offer() {
    let rig = rig();
    let offers: [&[&str]; 3] = [&["x", "b", "a"], &["b", "a"], &["a", "b", "y"]];
    let mut ids: BTreeMap<usize, Str> = BTreeMap::new();
    let mut joins = Vec::new();
    for (at, offer) in offers.iter().enumerate() {
        joins.clear();
        ids.insert(at, Str::default());
        for (&at, id) in ids.iter_mut().rev() {
            let member = Member { id: id.clone(), ..Member::default() };
            let mut request = JoinGroupRequest { protocols: protocols(offers[at]), ..join_request(&member) };
            let _ = offer;
            if id.is_empty() {
                *id = rig.join_at(JOIN, &request).answered().member_id;
                request.member_id = id.clone();
            }
            joins.push(rig.join_at(JOIN, &request));
        }
    }
    for join in joins {
        assert_eq!(rig.joined(join).protocol_name.as_deref(), Some("b"));
    }
}

#[test]
fn a_group_moves_to_another_coordinator_and_its_members_go_on() {
    let rig = Rig::new(2);
    rig.machine.move_coordinator("g", 1).expect("node 1 is up");
    let mut members = [Member::default(), Member::default()];
    rig.stable(&mut members);
    let Outcome::Parked(join) = rig.join(&mut members[0]) else { panic!("it waits for the second member") };
    rig.machine.move_coordinator("g", 2).expect("node 2 is up");
    assert_eq!(rig.joined(Outcome::Parked(join)).error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(rig.heartbeat(&members[0]), ErrorCode::NOT_COORDINATOR);
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: members[0].generation,
        member_id: members[0].id.clone(),
        ..Default::default()
    };
    assert_eq!(rig.ask(2, 4, &beat).error_code, ErrorCode::NONE, "the rebalance was not written");
    // Sessions go on at the new coordinator.
    let mut rig = rig;
    live_through(&mut rig, SESSION - one_second(1));
    assert_eq!(rig.ask(2, 4, &beat).error_code, ErrorCode::NONE);
    live_through(&mut rig, one_second(1));
    assert_eq!(rig.ask(2, 4, &beat).error_code, ErrorCode::REBALANCE_IN_PROGRESS, "the second was silent");
    rig.machine.stop_node(2).expect("node 2 was up");
    assert_eq!(rig.ask(1, 4, &beat).error_code, ErrorCode::NONE);
}

#[test]
fn what_clients_say_of_groups_is_bounded_whichever_request_says_it() {
    let rig = Rig::with(Broker::builder().group_initial_rebalance_delay(Duration::ZERO));
    let large = Bytes::from(vec![7; 16 << 20]);
    let join = |group: usize, metadata: &Bytes| {
        let mut request = join_request(&Member { instance: Some("i".into()), ..Member::default() });
        request.group_id = Str::from(format!("group-{group}"));
        request.protocols[0].metadata = metadata.clone();
        match rig.join_at(JOIN, &request) {
            Outcome::Answered(answer) => answer,
            outcome => rig.joined(outcome),
        }
    };
    let answers: Vec<_> = (0..20).map(|group| join(group, &large)).collect();
    let joined = answers.iter().filter(|answer| answer.error_code.is_none()).count();
    assert_eq!(joined, 7, "of 16 MiB each");
    assert!(answers[joined..].iter().all(|of| of.error_code == ErrorCode::COORDINATOR_NOT_AVAILABLE));
    // Others with less to say go on.
    assert_eq!(join(100, &Bytes::from_static(b"")).error_code, ErrorCode::NONE);
    // What is gone makes room.
    let leave = LeaveGroupRequest {
        group_id: "group-0".into(),
        members: vec![MemberIdentity { group_instance_id: Some("i".into()), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(rig.ask(1, 5, &leave).members[0].error_code, ErrorCode::NONE);
    assert_eq!(join(200, &large).error_code, ErrorCode::NONE);
    assert_eq!(join(201, &large).error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    // The same of those who join again and again: what is replaced does not count.
    for _ in 0..20 {
        assert_eq!(join(100, &Bytes::from(vec![7; 1 << 20])).error_code, ErrorCode::NONE);
    }
    // The leader's assignments count too.
    let answer = join(100, &Bytes::from_static(b""));
    let request = SyncGroupRequest {
        group_id: "group-100".into(),
        generation_id: answer.generation_id,
        member_id: answer.member_id.clone(),
        group_instance_id: Some("i".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: answer.member_id,
            assignment: large,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(rig.ask(1, SYNC, &request).error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[test]
fn a_group_that_is_named_twice_is_deleted_once_and_answered_once() {
    let rig = Rig::new(1);
    let request = milena_messages::delete_groups::DeleteGroupsRequest {
        groups_names: vec!["g".into(), "h".into(), "g".into()],
        ..Default::default()
    };
    let answers = rig.ask(1, 2, &request).results;
    let names: Vec<_> = answers.iter().map(|answer| answer.group_id.as_str()).collect();
    assert_eq!(names, ["g", "h"]);
}
