//! The classic machine on virtual time. Numbers of cases are those of the list of correctness cases that every client has to
//! survive.

use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::join_group::JoinGroupResponseMember;
use milena_messages::leave_group::LeaveGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;

use super::super::testing::{partitions, seconds, settings, start, texts, topics};
use super::*;
use crate::metadata::tests::snapshot;
use crate::table;

/// A member, its driver and the time.
struct Rig {
    member: Classic,
    now: Instant,
    coordinator: i32,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let mut member = Classic::new(Arc::new(settings), Rng::seeded(7));
        member.handle_subscription(topics(&["t"]), start());
        Self { member, now: start(), coordinator: 1 }
    }

    fn eager() -> Self {
        Self::new(settings(false))
    }

    fn cooperative() -> Self {
        Self::new(settings(true))
    }

    fn of_static() -> Self {
        Self::new(Settings { instance_id: Some("static-1".into()), ..settings(true) })
    }

    /// A member of generation 1 that owns `owned`.
    fn stable(mut self, owned: &str) -> Self {
        self.join("m", 1);
        self.sync(owned);
        assert_eq!(self.member.state, State::Stable);
        assert_eq!(self.events(), [format!("assign {owned}")]);
        self
    }

    /// The requests to send now. The coordinator is found at once.
    fn asks(&mut self) -> Vec<Ask> {
        if self.member.poll_coordinator_wanted(self.now) {
            self.member.handle_coordinator(Ok(BrokerId(self.coordinator)), self.now);
        }
        std::iter::from_fn(|| self.member.poll_request(self.now)).collect()
    }

    /// The one request to send now.
    fn ask(&mut self, kind: Kind) -> Ask {
        let mut asks = self.asks();
        asks.retain(|ask| ask.kind == kind || ask.kind != Kind::Heartbeat);
        assert_eq!(asks.len(), 1, "{kind:?} is all: {asks:?}");
        assert_eq!(asks[0].kind, kind);
        asks.remove(0)
    }

    fn answer(&mut self, ask: &Ask, response: Response) {
        self.member.handle_response(ask.number, response, self.now);
    }

    fn join(&mut self, id: &str, generation: i32) {
        let ask = self.ask(Kind::Join);
        self.answer(&ask, joined(id, generation));
    }

    fn sync(&mut self, assignment: &str) {
        let ask = self.ask(Kind::Sync);
        self.answer(&ask, synced(ErrorCode::NONE, assignment));
    }

    /// The next heartbeat, when it is due, answered with `code`.
    fn beat(&mut self, code: ErrorCode) {
        self.now = self.now.max(self.member.beat_at);
        let asks = self.asks();
        let beat = asks.iter().find(|ask| ask.kind == Kind::Heartbeat).expect("a heartbeat is due");
        self.answer(&beat.clone(), heartbeat(code));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.member.handle_timeout(self.now);
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.member.poll_event()).map(|event| told(&event)).collect()
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Revoke { partitions, .. } => format!("revoke {}", texts(partitions)),
        Event::Assign { partitions } => format!("assign {}", texts(partitions)),
        Event::Lost { partitions, .. } => format!("lost {}", texts(partitions)),
        Event::Slow { since } => format!("slow {since:?}"),
        Event::Left(_) => "left".into(),
        Event::Failed(failure) => format!("failed {}", failure.code().map_or("", ErrorCode::name)),
    }
}

fn joined(id: &str, generation_id: i32) -> Response {
    Response::Join(JoinGroupResponse {
        generation_id,
        member_id: id.into(),
        leader: "another".into(),
        protocol_name: Some("greedy".into()),
        ..Default::default()
    })
}

/// The answer for the leader of a group in which `id` reads `t` and another member reads `other`.
fn elected(id: &str, generation_id: i32, skip_assignment: bool) -> Response {
    let member = |id: &str, metadata: &'static str| JoinGroupResponseMember {
        member_id: id.into(),
        metadata: Bytes::from_static(metadata.as_bytes()),
        ..Default::default()
    };
    Response::Join(JoinGroupResponse {
        generation_id,
        member_id: id.into(),
        leader: id.into(),
        protocol_name: Some("greedy".into()),
        members: vec![member(id, "t||-1"), member("another", "other||-1")],
        skip_assignment,
        ..Default::default()
    })
}

fn join_refused(error_code: ErrorCode, id: &str) -> Response {
    Response::Join(JoinGroupResponse { error_code, member_id: id.into(), ..Default::default() })
}

fn synced(error_code: ErrorCode, assignment: &str) -> Response {
    let assignment = Bytes::copy_from_slice(assignment.as_bytes());
    Response::Sync(SyncGroupResponse { error_code, assignment, ..Default::default() })
}

fn heartbeat(error_code: ErrorCode) -> Response {
    Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() })
}

fn left() -> Response {
    Response::Leave(LeaveGroupResponse::default())
}

fn join_of(ask: &Ask) -> &JoinGroupRequest {
    match &ask.request {
        Request::Join(join) => join,
        other => panic!("not a JoinGroup: {other:?}"),
    }
}

fn claim_of(ask: &Ask) -> String {
    String::from_utf8(join_of(ask).protocols[0].metadata.to_vec()).expect("text")
}

fn leaver_of(ask: &Ask) -> (String, Option<String>) {
    match &ask.request {
        Request::Leave(leave) => {
            let member = &leave.members[0];
            (member.member_id.to_string(), member.group_instance_id.as_ref().map(ToString::to_string))
        }
        other => panic!("not a LeaveGroup: {other:?}"),
    }
}

fn lost() -> Failure {
    Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true }
}

fn silent() -> Failure {
    Failure::TimedOut { peer: "b:1".into(), after: seconds(22), sent: true }
}

/// Topics `t` with `count` partitions and `other` with one.
fn cluster(count: usize) -> Arc<Snapshot> {
    let leaders = vec![(1, 1); count];
    let mut cluster = snapshot("t", &leaders);
    cluster.topics.extend(snapshot("other", &[(1, 1)]).topics);
    Arc::new(cluster)
}

#[test]
fn the_table() {
    let states = [
        State::Out,
        State::Away,
        State::Joining,
        State::Assigning,
        State::Syncing,
        State::Stable,
        State::Yielding,
        State::Quitting,
        State::Closing,
        State::Closed,
        State::Failed,
    ];
    let events = [
        Happened::Subscribed,
        Happened::Unsubscribed { yields: false },
        Happened::Unsubscribed { yields: true },
        Happened::Joined,
        Happened::Elected,
        Happened::Assigned,
        Happened::Synced { yields: false },
        Happened::Synced { yields: true },
        Happened::Ended { yields: false },
        Happened::Ended { yields: true },
        Happened::Released,
        Happened::Expelled,
        Happened::Expired,
        Happened::Refused,
        Happened::Stalled,
        Happened::Progress,
        Happened::Close { yields: false },
        Happened::Close { yields: true },
    ];
    let table = table::print(&states, &events, next);
    let table = table.replace(" { yields: false }", "").replace(" { yields: true }", "+yields");
    assert_eq!(table, TABLE, "\n{table}");
}

const TABLE: &str = "\
Out
  Subscribed → Joining
  Close → Closed, Leave
  Close+yields → Closed, Leave
  nothing on Unsubscribed, Unsubscribed+yields, Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Released, Expelled, Expired, Refused, Stalled, Progress
Away
  Subscribed → Joining
  Unsubscribed → Out
  Unsubscribed+yields → Out
  Progress → Joining
  Close → Closed, Leave
  Close+yields → Closed, Leave
  nothing on Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Released, Expelled, Expired, Refused, Stalled
Joining
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Joined → Syncing
  Elected → Assigning, Assign
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Assigned, Synced, Synced+yields, Ended, Ended+yields, Released, Progress
Assigning
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Assigned → Syncing
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Elected, Synced, Synced+yields, Ended, Ended+yields, Released, Progress
Syncing
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Synced → Stable, Take
  Synced+yields → Yielding, Take
  Ended → Joining
  Ended+yields → Yielding, Yield
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Elected, Assigned, Released, Progress
Stable
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Ended → Joining
  Ended+yields → Yielding, Yield
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Elected, Assigned, Synced, Synced+yields, Released, Progress
Yielding
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Released → Joining
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Progress
Quitting
  Subscribed → Yielding
  Released → Out, Leave
  Expelled → Out, Lose
  Expired → Out, Lose
  Refused → Out, Lose
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Unsubscribed, Unsubscribed+yields, Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Stalled, Progress
Closing
  Released → Closed, Leave
  Expelled → Closed, Lose
  Expired → Closed, Lose
  Refused → Closed, Lose
  nothing on Subscribed, Unsubscribed, Unsubscribed+yields, Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Stalled, Progress, Close, Close+yields
Closed
  nothing on Subscribed, Unsubscribed, Unsubscribed+yields, Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Released, Expelled, Expired, Refused, Stalled, Progress, Close, Close+yields
Failed
  Subscribed → Joining
  Unsubscribed → Out
  Unsubscribed+yields → Out
  Close → Closed
  Close+yields → Closed
  nothing on Joined, Elected, Assigned, Synced, Synced+yields, Ended, Ended+yields, Released, Expelled, Expired, Refused, Stalled, Progress
";

#[test]
fn a_member_joins_syncs_and_is_given_its_partitions() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    assert_eq!((&*join_of(&ask).member_id, &*claim_of(&ask)), ("", "t||-1"));
    assert_eq!(ask.deadline - rig.now, seconds(305), "JoinGroup waits for the rebalance, not for a request");
    rig.answer(&ask, joined("m", 1));
    rig.sync("t-0,t-1");
    assert_eq!(rig.events(), ["assign t-0,t-1"]);
    let identity = rig.member.identity().expect("a member");
    assert_eq!((&*identity.member_id, identity.generation_or_epoch), ("m", 1));
}

#[test]
fn heartbeats_go_out_at_their_interval_and_one_at_a_time() {
    let mut rig = Rig::eager().stable("t-0");
    assert!(rig.asks().is_empty());
    assert_eq!(rig.member.poll_timeout(), Some(rig.now + seconds(3)));
    rig.now += seconds(3);
    let beat = rig.ask(Kind::Heartbeat);
    assert_eq!(
        beat.deadline - rig.now,
        seconds(45) / 2,
        "half of the session is left to find the next coordinator"
    );
    rig.now += seconds(3);
    assert!(rig.asks().is_empty());
    rig.answer(&beat, heartbeat(ErrorCode::NONE));
    rig.ask(Kind::Heartbeat);
}

#[test]
fn case_69_the_member_id_of_kip_394_is_used_at_once() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.answer(&ask, join_refused(ErrorCode::MEMBER_ID_REQUIRED, "m"));
    let again = rig.ask(Kind::Join);
    assert_eq!(&*join_of(&again).member_id, "m");
}

#[test]
fn an_id_that_is_asked_for_again_or_not_given_is_tried_with_a_backoff() {
    let mut rig = Rig::cooperative();
    for (sent, given) in [("", "m"), ("m", "n"), ("n", "o")] {
        let ask = rig.ask(Kind::Join);
        assert_eq!(join_of(&ask).member_id, sent);
        rig.answer(&ask, join_refused(ErrorCode::MEMBER_ID_REQUIRED, given));
        let waits = rig.member.retry.not_before().is_some_and(|at| at > rig.now);
        assert_eq!(waits, !sent.is_empty());
        rig.pass(if waits { seconds(1) } else { Duration::ZERO });
    }
    // Without an id it breaks the protocol, which is not believed twice.
    for _ in 0..2 {
        let ask = rig.ask(Kind::Join);
        rig.answer(&ask, join_refused(ErrorCode::MEMBER_ID_REQUIRED, ""));
        rig.pass(seconds(1));
    }
    assert_eq!(rig.events(), ["failed "]);
}

#[test]
fn a_generation_below_0_or_a_member_without_an_id_is_no_membership() {
    for (id, generation) in [("m", -1), ("m", i32::MIN), ("", 3)] {
        let mut rig = Rig::cooperative();
        for _ in 0..2 {
            rig.join(id, generation);
            assert_eq!(rig.member.identity(), None);
            rig.pass(seconds(1));
        }
        assert_eq!(rig.events(), ["failed "]);
    }
}

#[test]
fn an_assignment_that_cannot_be_is_not_taken() {
    let many: Vec<String> = (0..200_001).map(|index| format!("t-{index}")).collect();
    for assigned in ["t--1", &many.join(",")] {
        let mut rig = Rig::cooperative();
        rig.join("m", 1);
        rig.sync(assigned);
        assert_eq!(rig.events(), ["failed "]);
    }
}

#[test]
fn an_assignment_by_another_assignor_is_not_taken() {
    let mut rig = Rig::cooperative();
    rig.join("m", 1);
    let ask = rig.ask(Kind::Sync);
    let response = SyncGroupResponse {
        protocol_name: Some("range".into()),
        assignment: "t-0".into(),
        ..Default::default()
    };
    rig.answer(&ask, Response::Sync(response));
    assert_eq!(rig.events(), ["failed "]);
}

#[test]
fn case_69_a_pending_member_leaves_when_it_closes() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.answer(&ask, join_refused(ErrorCode::MEMBER_ID_REQUIRED, "m"));
    rig.member.handle_close(Goodbye::Usual, rig.now);
    let leave = rig.ask(Kind::Leave);
    assert_eq!(leaver_of(&leave), ("m".into(), None));
    assert!(!rig.member.is_closed());
    rig.answer(&leave, left());
    assert!(rig.member.is_closed());
}

#[test]
fn case_69_an_id_that_comes_after_closing_leaves_too() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.member.handle_close(Goodbye::Usual, rig.now);
    assert!(!rig.member.is_closed() && rig.asks().is_empty());
    rig.answer(&ask, join_refused(ErrorCode::MEMBER_ID_REQUIRED, "m"));
    let leave = rig.ask(Kind::Leave);
    assert_eq!(leaver_of(&leave).0, "m");
    rig.answer(&leave, left());
    assert!(rig.member.is_closed());
}

#[test]
fn case_69_a_static_member_stays_when_it_closes_unless_it_is_told_to_leave() {
    for (how, leaves) in [(Goodbye::Usual, false), (Goodbye::Stay, false), (Goodbye::Leave, true)] {
        let mut rig = Rig::of_static().stable("t-0");
        rig.member.handle_close(how, rig.now);
        assert_eq!(rig.events(), ["revoke t-0"]);
        rig.member.handle_released(rig.now);
        assert_eq!(!rig.member.is_closed(), leaves, "{how:?}");
        if leaves {
            assert_eq!(leaver_of(&rig.ask(Kind::Leave)), ("m".into(), Some("static-1".into())));
        }
    }
}

#[test]
fn a_dynamic_member_leaves_when_it_closes_unless_it_is_told_to_stay() {
    for (how, leaves) in [(Goodbye::Usual, true), (Goodbye::Leave, true), (Goodbye::Stay, false)] {
        let mut rig = Rig::cooperative().stable("t-0");
        rig.member.handle_close(how, rig.now);
        rig.member.handle_released(rig.now);
        assert_eq!(!rig.member.is_closed(), leaves, "{how:?}");
    }
}

/// The coordinator refuses commits from JoinGroup's answer until the leader has synced.
#[test]
fn a_member_that_closes_after_it_has_joined_still_syncs_so_that_it_can_commit() {
    for is_leader in [false, true] {
        let mut rig = Rig::cooperative().stable("t-0");
        rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        let join = rig.ask(Kind::Join);
        rig.member.handle_close(Goodbye::Usual, rig.now);
        assert_eq!(rig.events(), ["revoke t-0"]);
        rig.answer(&join, if is_leader { elected("m", 2, false) } else { joined("m", 2) });
        assert_eq!(rig.member.identity().map(|identity| identity.generation_or_epoch), Some(2));
        if is_leader {
            assert!(rig.asks().is_empty(), "it does not know the topic that another member reads yet");
            rig.member.handle_metadata(&cluster(2), rig.now);
        }
        let sync = rig.ask(Kind::Sync);
        let Request::Sync(request) = &sync.request else { panic!("{sync:?}") };
        assert_eq!((request.generation_id, request.assignments.is_empty()), (2, !is_leader));
        rig.answer(&sync, synced(ErrorCode::NONE, "t-1"));
        assert!(rig.events().is_empty(), "it takes nothing any more");
        assert_eq!(rig.member.state, State::Closing);
        rig.member.handle_released(rig.now);
        rig.ask(Kind::Leave);
    }
}

#[test]
fn a_member_that_closes_asks_again_for_the_generation_when_the_answer_was_lost() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let join = rig.ask(Kind::Join);
    rig.member.handle_close(Goodbye::Usual, rig.now);
    rig.member.handle_lost(join.number, &lost(), rig.now);
    // A refusal says nothing until it is known which generation the group is in.
    rig.member.handle_commit_refused(ErrorCode::ILLEGAL_GENERATION, 1, rig.now);
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.pass(seconds(1));
    let join = rig.ask(Kind::Join);
    rig.answer(&join, joined("m", 2));
    let sync = rig.ask(Kind::Sync);
    rig.answer(&sync, synced(ErrorCode::REBALANCE_IN_PROGRESS, ""));
    assert!(rig.asks().is_empty(), "in the next rebalance commits are taken again");
    rig.member.handle_commit_refused(ErrorCode::ILLEGAL_GENERATION, 2, rig.now);
    assert_eq!(rig.events(), ["lost t-0"], "the group has gone on without it");
}

#[test]
fn a_commit_that_was_refused_while_join_group_is_under_way_is_no_loss_also_when_the_member_closes() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let join = rig.ask(Kind::Join);
    rig.member.handle_close(Goodbye::Usual, rig.now);
    rig.member.handle_commit_refused(ErrorCode::ILLEGAL_GENERATION, 1, rig.now);
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.answer(&join, joined("m", 2));
    assert_eq!(rig.member.identity().map(|identity| identity.generation_or_epoch), Some(2));
    rig.member.handle_commit_refused(ErrorCode::UNKNOWN_MEMBER_ID, 2, rig.now);
    assert_eq!(rig.events(), ["lost t-0"]);
}

#[test]
fn case_98_closing_ends_although_no_coordinator_answers() {
    let mut rig = Rig::eager().stable("t-0");
    rig.member.handle_close(Goodbye::Usual, rig.now);
    rig.member.handle_released(rig.now);
    let leave = rig.ask(Kind::Leave);
    rig.member.handle_lost(leave.number, &lost(), rig.now);
    assert!(rig.member.poll_coordinator_wanted(rig.now));
    let until = rig.now + seconds(30);
    while !rig.member.is_closed() {
        let at = rig.member.poll_timeout().expect("it does not wait without end");
        rig.now = rig.now.max(at);
        rig.member.handle_timeout(rig.now);
    }
    assert_eq!(rig.now, until);
}

#[test]
fn case_69_a_fenced_static_member_does_not_come_back() {
    let mut rig = Rig::of_static().stable("t-0");
    rig.beat(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.events(), ["lost t-0", "failed FENCED_INSTANCE_ID"]);
    rig.member.handle_progress(rig.now);
    rig.pass(seconds(60));
    assert!(rig.asks().is_empty(), "it would fence the newer instance in turn");
    rig.member.handle_close(Goodbye::Leave, rig.now);
    assert!(rig.member.is_closed(), "nor does it make the newer instance leave");
}

#[test]
fn case_69_a_static_leader_that_is_back_does_not_assign() {
    let mut rig = Rig::of_static();
    let ask = rig.ask(Kind::Join);
    rig.answer(&ask, elected("m", 4, true));
    let sync = rig.ask(Kind::Sync);
    let Request::Sync(request) = &sync.request else { panic!() };
    assert!(request.assignments.is_empty());
    rig.answer(&sync, synced(ErrorCode::NONE, "t-0"));
    assert_eq!(rig.events(), ["assign t-0"]);
    // It still watches the partitions, from when it first sees them.
    rig.member.handle_metadata(&cluster(1), rig.now);
    assert_eq!(rig.member.state, State::Stable);
    rig.member.handle_metadata(&cluster(2), rig.now);
    assert_eq!(rig.member.state, State::Joining);
}

#[test]
fn the_leader_waits_for_the_metadata_of_what_others_subscribe_to() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.member.handle_metadata(&Arc::new(snapshot("t", &[(1, 1)])), rig.now);
    rig.answer(&ask, elected("m", 1, false));
    assert_eq!(rig.member.state, State::Assigning);
    let wanted = rig.member.poll_metadata_wanted().expect("another topic");
    assert_eq!(wanted.topics, ["other".into()].into());
    assert!(rig.asks().is_empty());
    rig.member.handle_metadata(&cluster(2), rig.now);
    let sync = rig.ask(Kind::Sync);
    let Request::Sync(request) = &sync.request else { panic!() };
    let assigned: Vec<_> =
        request.assignments.iter().map(|a| (a.member_id.to_string(), a.assignment.to_vec())).collect();
    assert_eq!(assigned, [("m".into(), b"other-0,t-0,t-1".to_vec()), ("another".into(), Vec::new())]);
}

#[test]
fn case_76_a_topic_that_is_gone_or_refused_holds_up_no_assignment() {
    for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION] {
        let mut rig = Rig::eager();
        let ask = rig.ask(Kind::Join);
        let mut partly = snapshot("t", &[(1, 1)]);
        partly.topics.insert("other".into(), Err(code));
        rig.member.handle_metadata(&Arc::new(partly), rig.now);
        rig.answer(&ask, elected("m", 1, false));
        let sync = rig.ask(Kind::Sync);
        let Request::Sync(request) = &sync.request else { panic!() };
        assert_eq!(request.assignments[0].assignment[..], b"t-0"[..], "{code:?}");
        rig.answer(&sync, synced(ErrorCode::NONE, "t-0"));
        assert_eq!(rig.member.state, State::Stable);
        // Once it can be read, or is there, it is assigned.
        rig.member.handle_metadata(&cluster(1), rig.now);
        assert_eq!(rig.member.state, State::Yielding);
    }
}

#[test]
fn the_leader_assigns_what_it_knows_when_metadata_does_not_come() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.member.handle_metadata(&Arc::new(snapshot("t", &[(1, 1)])), rig.now);
    rig.answer(&ask, elected("m", 1, false));
    rig.pass(seconds(29));
    assert_eq!(rig.member.state, State::Assigning);
    rig.pass(seconds(1));
    assert_eq!(rig.member.state, State::Syncing);
    rig.sync("t-0");
    // When the topic is there, the group rebalances for it.
    rig.member.handle_metadata(&cluster(1), rig.now);
    assert_eq!(rig.member.state, State::Yielding);
}

#[test]
fn case_68_a_leader_that_cannot_read_other_members_metadata_leaves_the_group() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    let Response::Join(mut response) = elected("m", 1, false) else { panic!() };
    response.members[1].metadata = Bytes::from_static(b"\xff\xff");
    rig.answer(&ask, Response::Join(response));
    assert_eq!(rig.events(), ["failed "]);
    assert_eq!(leaver_of(&rig.ask(Kind::Leave)).0, "m");
}

#[test]
fn case_77_more_partitions_make_the_leader_rebalance() {
    let mut rig = Rig::cooperative();
    rig.member.handle_metadata(&cluster(2), rig.now);
    let ask = rig.ask(Kind::Join);
    rig.answer(&ask, elected("m", 1, false));
    rig.sync("t-0,t-1");
    rig.events();
    rig.member.handle_metadata(&cluster(2), rig.now);
    // A topic that is missing for a moment is no reason.
    rig.member.handle_metadata(&Arc::default(), rig.now);
    assert_eq!(rig.member.state, State::Stable);
    rig.member.handle_metadata(&cluster(3), rig.now);
    assert_eq!(claim_of(&rig.ask(Kind::Join)), "t|t-0,t-1|1");
    assert!(rig.events().is_empty(), "what is kept is not touched");
}

#[test]
fn an_eager_member_gives_everything_up_before_it_joins_again() {
    let mut rig = Rig::eager().stable("t-0,t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.events(), ["revoke t-0,t-1"]);
    rig.pass(seconds(3));
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(rig.asks().is_empty(), "it joins when the application has finished, and its heartbeats go on");
    assert!(rig.member.identity().is_some(), "commits go out in the barrier");
    rig.member.handle_released(rig.now);
    assert_eq!(claim_of(&rig.ask(Kind::Join)), "t||1");
}

#[test]
fn the_revoke_deadline_leaves_time_to_join() {
    let mut rig = Rig::eager().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let Some(Event::Revoke { deadline, .. }) = rig.member.poll_event() else { panic!() };
    assert_eq!(deadline - rig.now, seconds(294));
}

#[test]
fn case_65_a_cooperative_member_keeps_its_partitions_while_it_joins() {
    let mut rig = Rig::cooperative().stable("t-0,t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(rig.events().is_empty());
    let ask = rig.ask(Kind::Join);
    assert_eq!((&*join_of(&ask).member_id, &*claim_of(&ask)), ("m", "t|t-0,t-1|1"));
    // Heartbeats go on while JoinGroup waits for other members.
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.answer(&ask, joined("m", 2));
    rig.sync("t-0,t-1");
    assert_eq!(rig.events(), ["assign "]);
}

#[test]
fn case_66_what_moves_is_given_up_and_the_member_joins_once_more() {
    let mut rig = Rig::cooperative().stable("t-0,t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.join("m", 2);
    rig.sync("t-1,t-2");
    assert_eq!(rig.events(), ["revoke t-0", "assign t-2"]);
    assert!(rig.asks().is_empty());
    rig.member.handle_released(rig.now);
    assert!(rig.asks().is_empty(), "other members may not have their assignments yet");
    assert_eq!(rig.member.poll_timeout(), Some(rig.now + REJOIN_WAIT_MAX));
    rig.pass(REJOIN_WAIT_MAX);
    let ask = rig.ask(Kind::Join);
    assert_eq!(
        claim_of(&ask),
        "t|t-1,t-2|2",
        "another member can have it in the next generation, not in this one"
    );
}

#[test]
fn case_66_a_subscription_that_changes_in_a_rebalance_is_told_in_the_next() {
    let mut rig = Rig::cooperative();
    let ask = rig.ask(Kind::Join);
    rig.member.handle_subscription(topics(&["other"]), rig.now);
    assert!(rig.asks().is_empty(), "a second JoinGroup without an id would be a second member");
    rig.answer(&ask, joined("m", 1));
    rig.sync("t-0");
    // What the subscription dropped is not read for a moment.
    assert_eq!(rig.events(), ["assign "]);
    assert_eq!(claim_of(&rig.ask(Kind::Join)), "other||1");
}

#[test]
fn case_66_dropping_a_topic_gives_up_its_partitions_only() {
    let mut rig = Rig::cooperative();
    rig.member.handle_subscription(topics(&["t", "other"]), rig.now);
    let mut rig = rig.stable("other-0,t-0");
    rig.member.handle_subscription(topics(&["t"]), rig.now);
    assert_eq!(rig.events(), ["revoke other-0"]);
    rig.member.handle_released(rig.now);
    assert_eq!(claim_of(&rig.ask(Kind::Join)), "t|t-0|1");
}

#[test]
fn case_67_a_member_that_was_removed_is_back_at_once() {
    for (code, id) in [(ErrorCode::UNKNOWN_MEMBER_ID, ""), (ErrorCode::ILLEGAL_GENERATION, "m")] {
        let mut rig = Rig::cooperative().stable("t-0");
        rig.beat(code);
        assert_eq!(rig.events(), ["lost t-0"]);
        assert!(rig.member.identity().is_none(), "nothing can be committed");
        let ask = rig.ask(Kind::Join);
        assert_eq!((&*join_of(&ask).member_id, &*claim_of(&ask)), (id, "t||-1"), "{code}");
    }
}

#[test]
fn case_67_a_refused_commit_makes_the_member_join_again() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.member.handle_commit_refused(ErrorCode::ILLEGAL_GENERATION, 0, rig.now);
    assert_eq!(rig.member.state, State::Stable, "the commit was of an older generation");
    rig.member.handle_commit_refused(ErrorCode::REBALANCE_IN_PROGRESS, 1, rig.now);
    assert_eq!(rig.member.state, State::Joining);
    assert!(rig.events().is_empty());
    rig.member.handle_commit_refused(ErrorCode::UNKNOWN_MEMBER_ID, 1, rig.now);
    assert_eq!(rig.events(), ["lost t-0"]);
}

#[test]
fn case_68_a_heartbeat_that_join_group_overtook_says_nothing() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let join = rig.ask(Kind::Join);
    // The generation has ended at the coordinator, and its answer is on its way over the other connection.
    rig.beat(ErrorCode::ILLEGAL_GENERATION);
    assert!(rig.events().is_empty());
    rig.answer(&join, joined("m", 2));
    rig.sync("t-0");
    assert_eq!(rig.events(), ["assign "]);
}

#[test]
fn a_heartbeat_between_join_and_sync_does_not_end_the_generation() {
    let mut rig = Rig::cooperative();
    rig.join("m", 1);
    let sync = rig.ask(Kind::Sync);
    // Brokers before 2.5.
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.member.state, State::Syncing);
    rig.answer(&sync, synced(ErrorCode::REBALANCE_IN_PROGRESS, ""));
    assert_eq!(rig.member.state, State::Joining);
}

#[test]
fn case_72_an_application_that_stops_is_warned_and_then_leaves() {
    let mut rig = Rig::cooperative().stable("t-0");
    let taken = rig.now;
    rig.member.handle_progress(taken);
    let mut told = Vec::new();
    while rig.member.state != State::Away {
        rig.now = rig.member.poll_timeout().expect("a timer").max(rig.now);
        rig.member.handle_timeout(rig.now);
        for ask in rig.asks() {
            rig.answer(&ask, heartbeat(ErrorCode::NONE));
        }
        told.extend(rig.events().into_iter().map(|event| (rig.now - taken, event)));
    }
    let expected = [(150, "slow 150s"), (300, "lost t-0"), (300, "left")];
    assert_eq!(told, expected.map(|(at, event)| (seconds(at), event.to_string())));
    assert_eq!(leaver_of(&rig.ask(Kind::Leave)).0, "m");
}

#[test]
fn case_72_the_next_progress_joins_again() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.member.handle_progress(rig.now);
    for _ in 0..99 {
        rig.beat(ErrorCode::NONE);
        rig.member.handle_timeout(rig.now);
    }
    assert_eq!(rig.events(), ["slow 150s"]);
    rig.pass(seconds(3));
    assert_eq!(rig.events(), ["lost t-0", "left"]);
    let leave = rig.ask(Kind::Leave);
    rig.member.handle_progress(rig.now);
    let ask = rig.ask(Kind::Join);
    assert_eq!(&*join_of(&ask).member_id, "", "LeaveGroup is on its way for the old id");
    rig.answer(&leave, left());
    rig.answer(&ask, joined("n", 3));
    rig.sync("t-0");
    assert_eq!(rig.events(), ["assign t-0"]);
}

#[test]
fn case_72_an_application_that_waits_for_records_is_not_slow() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.member.handle_waiting(true, rig.now);
    for _ in 0..400 {
        rig.pass(seconds(3));
        rig.beat(ErrorCode::NONE);
    }
    assert!(rig.events().is_empty());
    rig.member.handle_waiting(false, rig.now);
    assert!(rig.member.poll_timeout() <= Some(rig.now + seconds(150)));
}

#[test]
fn case_73_partitions_are_lost_when_no_heartbeat_is_answered_for_the_session_timeout() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.member.handle_waiting(true, rig.now);
    let joined_at = rig.now;
    while rig.events().is_empty() {
        rig.now = rig.member.poll_timeout().expect("a timer").max(rig.now);
        rig.member.handle_timeout(rig.now);
        if rig.member.state == State::Stable {
            for ask in rig.asks() {
                rig.member.handle_lost(ask.number, &lost(), rig.now);
            }
        }
    }
    assert_eq!(rig.now - joined_at, seconds(45));
    assert_eq!(
        &*join_of(&rig.ask(Kind::Join)).member_id,
        "m",
        "if the coordinator still has it, it saves a round trip"
    );
}

#[test]
fn the_session_ends_while_join_group_waits_too() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.member.handle_waiting(true, rig.now);
    let join = rig.ask(Kind::Join);
    rig.pass(seconds(45));
    assert_eq!(rig.events(), ["lost t-0"]);
    rig.answer(&join, joined("m", 2));
    assert_eq!(rig.member.state, State::Joining, "the answer is of a JoinGroup that claimed what is lost");
}

#[test]
fn case_74_the_coordinator_is_looked_up_again_after_each_way_to_lose_it() {
    for failure in [lost(), silent(), Failure::unreachable("b:1", "refused")] {
        let mut rig = Rig::cooperative().stable("t-0");
        rig.now += seconds(3);
        let beat = rig.ask(Kind::Heartbeat);
        rig.member.handle_lost(beat.number, &failure, rig.now);
        assert!(rig.member.poll_coordinator_wanted(rig.now), "{failure}");
        rig.member.handle_coordinator(Ok(BrokerId(2)), rig.now);
        rig.now += seconds(1);
        assert_eq!(rig.ask(Kind::Heartbeat).broker, BrokerId(2));
        assert!(rig.events().is_empty());
    }
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let mut rig = Rig::cooperative().stable("t-0");
        rig.beat(code);
        assert!(rig.member.poll_coordinator_wanted(rig.now), "{code}");
    }
}

#[test]
fn case_74_a_join_group_moves_with_the_coordinator() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let join = rig.ask(Kind::Join);
    rig.beat(ErrorCode::NOT_COORDINATOR);
    assert!(rig.member.poll_coordinator_wanted(rig.now));
    rig.member.handle_coordinator(Ok(BrokerId(2)), rig.now);
    assert_eq!(rig.ask(Kind::Join).broker, BrokerId(2));
    rig.answer(&join, joined("m", 2));
    assert_eq!(rig.member.state, State::Joining, "the old coordinator's answer does not count");
}

#[test]
fn a_group_that_goes_on_rebalancing_is_joined_again_with_a_backoff() {
    let mut rig = Rig::eager();
    for _ in 0..3 {
        let ask = rig.ask(Kind::Join);
        rig.answer(&ask, join_refused(ErrorCode::REBALANCE_IN_PROGRESS, ""));
        assert!(rig.asks().is_empty());
        rig.now = rig.member.poll_timeout().expect("a backoff");
    }
    assert!(rig.events().is_empty());
}

#[test]
fn what_is_refused_for_good_is_told_and_tried_again_with_a_new_subscription() {
    let mut rig = Rig::eager();
    let ask = rig.ask(Kind::Join);
    rig.answer(&ask, join_refused(ErrorCode::GROUP_AUTHORIZATION_FAILED, ""));
    assert_eq!(rig.events(), ["failed GROUP_AUTHORIZATION_FAILED"]);
    rig.pass(seconds(60));
    rig.member.handle_progress(rig.now);
    assert!(rig.asks().is_empty());
    rig.member.handle_subscription(topics(&["t"]), rig.now);
    rig.ask(Kind::Join);
}

#[test]
fn unsubscribing_gives_everything_up_and_leaves() {
    let mut rig = Rig::cooperative().stable("t-0");
    rig.member.handle_subscription(Subscription::default(), rig.now);
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.member.handle_released(rig.now);
    assert_eq!(leaver_of(&rig.ask(Kind::Leave)).0, "m");
    rig.member.handle_subscription(topics(&["t"]), rig.now);
    assert_eq!(&*join_of(&rig.ask(Kind::Join)).member_id, "");
}

#[test]
fn closing_in_a_barrier_takes_back_the_rest_and_waits_for_both() {
    let mut rig = Rig::cooperative().stable("t-0,t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.join("m", 2);
    rig.sync("t-1");
    rig.member.handle_close(Goodbye::Usual, rig.now);
    assert_eq!(rig.events(), ["revoke t-0", "assign ", "revoke t-1"]);
    rig.member.handle_released(rig.now);
    assert!(rig.asks().is_empty());
    rig.member.handle_released(rig.now);
    rig.ask(Kind::Leave);
    assert_eq!(rig.member.owned, partitions(""));
}

#[test]
fn what_is_lost_in_a_barrier_is_not_released() {
    let mut rig = Rig::eager().stable("t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.events(), ["revoke t-0", "lost t-0"]);
    rig.member.handle_released(rig.now);
    rig.join("n", 3);
    rig.sync("t-0");
    assert_eq!(rig.events(), ["assign t-0"]);
}
