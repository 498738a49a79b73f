//! The consumer protocol's machine on virtual time. Numbers of cases are those of the list of correctness cases that every
//! client has to survive.

use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponseTopicPartitions;

use super::super::testing::{seconds, settings, start, texts, topics};
use super::*;
use crate::metadata::tests::{set_topic_id, snapshot};
use crate::table;

/// A member, its driver and the time.
struct Rig {
    member: Consumer,
    now: Instant,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let mut member = Consumer::new(Arc::new(settings), Rng::seeded(7));
        member.handle_subscription(topics(&["t"]), start());
        member.handle_waiting(true, start());
        member.handle_metadata(&cluster(), start());
        Self { member, now: start() }
    }

    fn dynamic() -> Self {
        Self::new(settings(false))
    }

    fn of_static() -> Self {
        Self::new(Settings { instance_id: Some("static-1".into()), ..settings(false) })
    }

    /// A member of epoch 3 that owns `owned` of topic 1, and has reported it.
    fn stable(mut self, owned: &[i32]) -> Self {
        self.answer(3, Some(&[(1, owned)]));
        self.answer(3, None);
        assert!(self.asks().is_empty(), "everything is reported");
        self.events();
        self
    }

    /// The requests to send now. The coordinator is found at once.
    fn asks(&mut self) -> Vec<Ask> {
        if self.member.poll_coordinator_wanted(self.now) {
            self.member.handle_coordinator(Ok(BrokerId(1)), self.now);
        }
        std::iter::from_fn(|| self.member.poll_request(self.now)).collect()
    }

    /// The one request to send now.
    fn ask(&mut self) -> (u64, ConsumerGroupHeartbeatRequest) {
        let mut asks = self.asks();
        assert_eq!(asks.len(), 1, "{asks:?}");
        let ask = asks.remove(0);
        let Request::Consumer(request) = ask.request else { panic!("{ask:?}") };
        (ask.number, request)
    }

    /// The next heartbeat, once it is due.
    fn beat(&mut self) -> (u64, ConsumerGroupHeartbeatRequest) {
        let due = self.member.due_at().expect("no heartbeat is on its way");
        self.now = self.now.max(due);
        self.ask()
    }

    /// Answers the next heartbeat.
    fn answer(&mut self, epoch: i32, assignment: Option<&[(u8, &[i32])]>) -> ConsumerGroupHeartbeatRequest {
        let (number, request) = self.beat();
        self.member.handle_response(number, &answered(epoch, assignment), self.now);
        request
    }

    fn refuse(&mut self, error_code: ErrorCode) {
        let (number, _) = self.beat();
        self.member.handle_response(number, &refused(error_code), self.now);
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

fn id(topic: u8) -> Uuid {
    Uuid::from_bytes([topic; 16])
}

fn answered(member_epoch: i32, assignment: Option<&[(u8, &[i32])]>) -> Response {
    let topic = |(topic, partitions): &(u8, &[i32])| ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: id(*topic),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    let assignment = assignment.map(|topics| Assignment {
        topic_partitions: topics.iter().map(topic).collect(),
        ..Default::default()
    });
    Response::Consumer(ConsumerGroupHeartbeatResponse {
        member_epoch,
        heartbeat_interval_ms: 5000,
        assignment,
        ..Default::default()
    })
}

fn refused(error_code: ErrorCode) -> Response {
    Response::Consumer(ConsumerGroupHeartbeatResponse { error_code, ..Default::default() })
}

fn owned_in(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<(Uuid, Vec<i32>)>> {
    let topics = request.topic_partitions.as_ref()?;
    Some(topics.iter().map(|topic| (topic.topic_id, topic.partitions.clone())).collect())
}

/// Topic `t` with id 1.
fn cluster() -> Arc<Snapshot> {
    let mut cluster = snapshot("t", &[(1, 1), (1, 1), (1, 1)]);
    set_topic_id(&mut cluster, "t", 1);
    Arc::new(cluster)
}

/// Topics `t` with id 1, and `u` with id 2.
fn larger_cluster() -> Arc<Snapshot> {
    let mut more = snapshot("u", &[(1, 1)]);
    set_topic_id(&mut more, "u", 2);
    more.topics.extend(cluster().topics.clone());
    Arc::new(more)
}

fn lost() -> Failure {
    Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true }
}

#[test]
fn the_table() {
    let states = [
        State::Out,
        State::Away,
        State::Joining,
        State::Stable,
        State::Yielding,
        State::Quitting,
        State::Closing,
        State::Closed,
        State::Failed,
        State::Unsupported,
    ];
    let events = [
        Happened::Subscribed,
        Happened::Unsubscribed { yields: false },
        Happened::Unsubscribed { yields: true },
        Happened::Joined,
        Happened::Targeted { yields: false },
        Happened::Targeted { yields: true },
        Happened::Released,
        Happened::Expelled,
        Happened::Expired,
        Happened::Refused,
        Happened::Foreign,
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
  Close → Closed
  Close+yields → Closed
  nothing on Unsubscribed, Unsubscribed+yields, Joined, Targeted, Targeted+yields, Released, Expelled, Expired, Refused, Foreign, Stalled, Progress
Away
  Subscribed → Joining
  Unsubscribed → Out
  Unsubscribed+yields → Out
  Progress → Joining
  Close → Closed
  Close+yields → Closed
  nothing on Joined, Targeted, Targeted+yields, Released, Expelled, Expired, Refused, Foreign, Stalled
Joining
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Joined → Stable
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Foreign → Unsupported, HandOver
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Targeted, Targeted+yields, Released, Progress
Stable
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Targeted → Stable, Take
  Targeted+yields → Yielding, Yield
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Foreign → Unsupported, HandOver
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Released, Progress
Yielding
  Unsubscribed → Out, Leave
  Unsubscribed+yields → Quitting, YieldAll
  Released → Stable, Reconcile
  Expelled → Joining, Lose
  Expired → Joining, Lose
  Refused → Failed, Fail
  Foreign → Unsupported, HandOver
  Stalled → Away, LoseAndLeave
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Subscribed, Joined, Targeted, Targeted+yields, Progress
Quitting
  Subscribed → Yielding
  Released → Out, Leave
  Expelled → Out, Lose
  Expired → Out, Lose
  Refused → Out, Lose
  Foreign → Out, Lose
  Close → Closed, Leave
  Close+yields → Closing, YieldAll
  nothing on Unsubscribed, Unsubscribed+yields, Joined, Targeted, Targeted+yields, Stalled, Progress
Closing
  Released → Closed, Leave
  Expelled → Closed, Lose
  Expired → Closed, Lose
  Refused → Closed, Lose
  Foreign → Closed, Lose
  nothing on Subscribed, Unsubscribed, Unsubscribed+yields, Joined, Targeted, Targeted+yields, Stalled, Progress, Close, Close+yields
Closed
  nothing on Subscribed, Unsubscribed, Unsubscribed+yields, Joined, Targeted, Targeted+yields, Released, Expelled, Expired, Refused, Foreign, Stalled, Progress, Close, Close+yields
Failed
  Subscribed → Joining
  Unsubscribed → Out
  Unsubscribed+yields → Out
  Close → Closed
  Close+yields → Closed
  nothing on Joined, Targeted, Targeted+yields, Released, Expelled, Expired, Refused, Foreign, Stalled, Progress
Unsupported
  nothing on Subscribed, Unsubscribed, Unsubscribed+yields, Joined, Targeted, Targeted+yields, Released, Expelled, Expired, Refused, Foreign, Stalled, Progress, Close, Close+yields
";

#[test]
fn a_member_joins_with_everything_and_then_says_only_what_changed() {
    let mut rig = Rig::dynamic();
    let join = rig.answer(3, Some(&[(1, &[0, 1])]));
    assert_eq!((join.member_epoch, join.member_id.len()), (0, 22));
    assert_eq!(join.subscribed_topic_names, Some(vec!["t".into()]));
    assert_eq!((join.rebalance_timeout_ms, owned_in(&join)), (300_000, Some(Vec::new())));
    assert_eq!(rig.events(), ["assign t-0,t-1"]);
    let report = rig.answer(3, None);
    assert_eq!(report.member_id, join.member_id);
    assert_eq!((report.member_epoch, owned_in(&report)), (3, Some(vec![(id(1), vec![0, 1])])));
    assert_eq!((report.subscribed_topic_names, report.rebalance_timeout_ms), (None, -1));
    assert!(rig.asks().is_empty());
    // The coordinator's interval.
    assert_eq!(rig.member.due_at(), Some(rig.now + seconds(5)));
    let bare = rig.answer(3, None);
    assert_eq!((bare.subscribed_topic_names, bare.topic_partitions), (None, None));
    let identity = rig.member.identity().expect("a member");
    assert_eq!((&*identity.member_id, identity.generation_or_epoch), (&*join.member_id, 3));
}

#[test]
fn a_changed_subscription_goes_out_at_once() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let pattern = Some("u.*".into());
    rig.member.handle_subscription(Subscription { pattern, ..topics(&["t"]) }, rig.now);
    let (number, request) = rig.ask();
    assert_eq!((request.subscribed_topic_names, request.subscribed_topic_regex), (None, Some("u.*".into())));
    rig.member.handle_response(number, &answered(3, None), rig.now);
    rig.member.handle_subscription(topics(&["t"]), rig.now);
    let (_, request) = rig.ask();
    assert_eq!(request.subscribed_topic_regex, Some("".into()), "an empty pattern takes it back");
}

#[test]
fn case_76_the_coordinator_resolves_the_pattern() {
    let mut rig = Rig::dynamic();
    let pattern = Some("t.*".into());
    rig.member.handle_subscription(Subscription { pattern, ..Subscription::default() }, rig.now);
    let (_, join) = rig.ask();
    assert_eq!(
        (join.subscribed_topic_names, join.subscribed_topic_regex),
        (Some(Vec::new()), Some("t.*".into()))
    );
}

#[test]
fn case_70_what_is_not_in_the_target_is_given_up_and_told_at_once() {
    let mut rig = Rig::dynamic().stable(&[0, 1]);
    rig.answer(3, Some(&[(1, &[1])]));
    assert_eq!(rig.events(), ["revoke t-0"]);
    assert!(rig.asks().is_empty(), "it still owns it");
    // In the barrier heartbeats go on, and report nothing.
    assert_eq!(owned_in(&rig.answer(3, None)), None);
    rig.member.handle_released(rig.now);
    let (number, report) = rig.ask();
    assert_eq!(owned_in(&report), Some(vec![(id(1), vec![1])]));
    rig.member.handle_response(number, &answered(4, Some(&[(1, &[1, 2])])), rig.now);
    assert_eq!(rig.events(), ["assign t-2"]);
    assert_eq!(owned_in(&rig.ask().1), Some(vec![(id(1), vec![1, 2])]));
}

#[test]
fn case_70_nothing_new_is_taken_before_the_old_is_given_up() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.answer(3, Some(&[(1, &[1])]));
    assert_eq!(rig.events(), ["revoke t-0"]);
    // A newer target comes while the application finishes.
    rig.answer(4, Some(&[(1, &[2])]));
    assert!(rig.events().is_empty());
    rig.member.handle_released(rig.now);
    assert_eq!(rig.events(), ["assign t-2"]);
}

#[test]
fn case_70_an_assignment_that_changes_nothing_is_acknowledged_once() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.answer(4, Some(&[(1, &[0])]));
    assert_eq!(owned_in(&rig.ask().1), Some(vec![(id(1), vec![0])]));
    assert!(rig.events().is_empty());
}

#[test]
fn case_70_a_fenced_member_loses_everything_and_joins_with_epoch_0() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut rig = Rig::dynamic().stable(&[0]);
        let member_id = rig.member.member_id.clone();
        rig.refuse(code);
        assert_eq!(rig.events(), ["lost t-0"]);
        assert!(rig.member.identity().is_none(), "nothing can be committed");
        let (_, join) = rig.ask();
        assert_eq!((join.member_epoch, owned_in(&join)), (0, Some(Vec::new())));
        assert_eq!(&*join.member_id, &*member_id);
        assert!(join.subscribed_topic_names.is_some());
    }
}

#[test]
fn case_70_a_member_that_is_fenced_again_and_again_joins_with_a_backoff() {
    let mut rig = Rig::dynamic();
    rig.refuse(ErrorCode::FENCED_MEMBER_EPOCH);
    rig.refuse(ErrorCode::FENCED_MEMBER_EPOCH);
    assert!(rig.asks().is_empty());
    assert!(rig.member.poll_timeout() > Some(rig.now));
}

#[test]
fn case_70_leaving_is_told_once() {
    for (how, is_static, epoch) in [
        (Goodbye::Usual, false, Some(-1)),
        (Goodbye::Leave, false, Some(-1)),
        (Goodbye::Stay, false, None),
        (Goodbye::Usual, true, Some(-2)),
        (Goodbye::Leave, true, Some(-1)),
        (Goodbye::Stay, true, Some(-2)),
    ] {
        let rig = if is_static { Rig::of_static() } else { Rig::dynamic() };
        let mut rig = rig.stable(&[0]);
        rig.member.handle_close(how, rig.now);
        assert_eq!(rig.events(), ["revoke t-0"]);
        rig.member.handle_released(rig.now);
        let Some(epoch) = epoch else {
            assert!(rig.member.is_closed(), "{how:?}");
            continue;
        };
        let (number, leave) = rig.ask();
        assert_eq!(leave.member_epoch, epoch, "{how:?}, static: {is_static}");
        assert!(!rig.member.is_closed());
        rig.member.handle_lost(number, &lost(), rig.now);
        assert!(rig.member.is_closed() && rig.asks().is_empty(), "it is not sent again");
    }
}

#[test]
fn a_member_that_closes_while_it_joins_leaves() {
    let mut rig = Rig::dynamic();
    let (number, _) = rig.ask();
    rig.member.handle_close(Goodbye::Usual, rig.now);
    let (_, leave) = rig.ask();
    assert_eq!(leave.member_epoch, -1);
    rig.member.handle_response(number, &answered(3, Some(&[(1, &[0])])), rig.now);
    assert!(rig.events().is_empty() && rig.member.identity().is_none());
}

#[test]
fn case_70_an_epoch_below_1_changes_nothing_and_twice_ends_the_membership() {
    for epoch in [-1, 0] {
        let mut rig = Rig::dynamic().stable(&[0]);
        rig.answer(epoch, Some(&[]));
        assert!(rig.events().is_empty());
        assert_eq!(rig.member.identity().map(|identity| identity.generation_or_epoch), Some(3));
        let (at, since) = (rig.member.due_at().expect("a heartbeat"), rig.now);
        assert!(at > since, "with a backoff");
        rig.answer(epoch, Some(&[]));
        assert_eq!(rig.events(), ["lost t-0", "failed "]);
    }
}

#[test]
fn a_member_whose_group_is_gone_makes_it_again_and_keeps_its_protocol() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.refuse(ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(rig.events(), ["lost t-0"]);
    assert!(rig.member.poll_unsupported().is_none());
    let request = rig.answer(1, Some(&[(1, &[0])]));
    assert_eq!(request.member_epoch, 0);
    assert_eq!(rig.events(), ["assign t-0"]);
}

#[test]
fn a_commit_that_is_refused_for_good_is_never_left_without_a_consequence() {
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut rig = Rig::dynamic().stable(&[0]);
        rig.member.handle_commit_refused(code, 3, rig.now);
        assert_eq!(rig.events(), ["lost t-0"], "{code}");
        assert_eq!(rig.beat().1.member_epoch, 0, "{code}");
    }
    let mut rig = Rig::of_static().stable(&[0]);
    rig.member.handle_commit_refused(ErrorCode::FENCED_INSTANCE_ID, 3, rig.now);
    assert_eq!(rig.events(), ["lost t-0", "failed FENCED_INSTANCE_ID"]);
}

#[test]
fn an_assignment_in_each_answer_is_acknowledged_at_once_a_few_times_and_then_each_second() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let since = rig.now;
    rig.answer(4, Some(&[(1, &[1])]));
    for epoch in 5..30 {
        rig.member.handle_released(rig.now);
        rig.answer(epoch, Some(&[(1, &[epoch % 3])]));
    }
    let time = rig.now - since;
    assert!((seconds(17)..seconds(27)).contains(&time), "{time:?}");
    rig.member.handle_released(rig.now);
    rig.answer(30, None);
    rig.events();
    // The next one that comes alone is acknowledged at once.
    rig.pass(seconds(5));
    rig.answer(31, Some(&[(1, &[0, 1, 2])]));
    assert_eq!(rig.member.due_at(), Some(rig.member.retry.not_before().unwrap_or(Instant::ORIGIN)));
}

#[test]
fn case_70_partitions_of_an_unknown_topic_id_wait_for_the_metadata() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.answer(4, Some(&[(1, &[0]), (2, &[0])]));
    assert!(rig.events().is_empty());
    assert_eq!(rig.member.poll_metadata_wanted().expect("an id").ids, [id(2)].into());
    // It reports what it has.
    assert_eq!(owned_in(&rig.answer(4, None)), Some(vec![(id(1), vec![0])]));
    rig.member.handle_metadata(&larger_cluster(), rig.now);
    assert_eq!(rig.events(), ["assign u-0"]);
    assert_eq!(rig.member.poll_metadata_wanted(), Some(Wanted::default()), "it is found");
    assert_eq!(owned_in(&rig.ask().1), Some(vec![(id(1), vec![0]), (id(2), vec![0])]));
}

#[test]
fn a_topic_that_is_made_again_is_given_up_before_the_new_one_is_taken() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let mut remade = snapshot("t", &[(1, 1)]);
    set_topic_id(&mut remade, "t", 9);
    rig.member.handle_metadata(&Arc::new(remade), rig.now);
    rig.answer(4, Some(&[(9, &[0])]));
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.member.handle_released(rig.now);
    assert_eq!(rig.events(), ["assign t-0"]);
    assert_eq!(owned_in(&rig.ask().1), Some(vec![(id(9), vec![0])]));
}

#[test]
fn an_assignment_that_cannot_be_is_not_taken() {
    let many: Vec<i32> = (0..200_001).collect();
    for assigned in [&[-1][..], &[0, i32::MIN], &many] {
        let mut rig = Rig::dynamic();
        rig.answer(1, Some(&[(1, assigned)]));
        assert_eq!(rig.member.identity(), None, "it has not joined");
        rig.pass(seconds(1));
        rig.answer(1, Some(&[(1, assigned)]));
        assert_eq!(rig.events(), ["failed "]);
    }
}

#[test]
fn a_partition_that_is_assigned_under_two_ids_is_read_once() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let mut again = snapshot("t", &[(1, 1), (1, 1)]);
    set_topic_id(&mut again, "t", 5);
    rig.member.handle_metadata(&Arc::new(again), rig.now);
    rig.answer(4, Some(&[(1, &[0]), (5, &[0, 1])]));
    assert_eq!(rig.events(), ["assign t-1"]);
    rig.answer(5, Some(&[(5, &[0, 1])]));
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.member.handle_released(rig.now);
    assert_eq!(rig.events(), ["assign t-0"]);
}

#[test]
fn after_a_heartbeat_without_an_answer_everything_is_said_again() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let (number, _) = rig.beat();
    rig.member.handle_lost(number, &lost(), rig.now);
    let full = rig.answer(3, Some(&[(1, &[0])]));
    assert_eq!(full.subscribed_topic_names, Some(vec!["t".into()]));
    assert_eq!((full.rebalance_timeout_ms, owned_in(&full)), (300_000, Some(vec![(id(1), vec![0])])));
    assert!(rig.events().is_empty(), "nothing is lost");
    rig.answer(3, None);
    assert!(rig.asks().is_empty(), "and it does not go on so");
}

#[test]
fn case_74_the_coordinator_is_looked_up_again_when_it_moved() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let mut rig = Rig::dynamic().stable(&[0]);
        rig.refuse(code);
        assert!(rig.member.poll_coordinator_wanted(rig.now), "{code}");
        rig.member.handle_coordinator(Ok(BrokerId(2)), rig.now);
        rig.now += seconds(1);
        assert_eq!(rig.asks()[0].broker, BrokerId(2));
        assert!(rig.events().is_empty());
    }
}

#[test]
fn case_73_partitions_are_lost_when_no_heartbeat_is_answered_for_the_session_timeout() {
    let mut rig = Rig::dynamic().stable(&[0]);
    let answered_at = rig.member.alive_at;
    while rig.member.state == State::Stable {
        for ask in rig.asks() {
            rig.member.handle_lost(ask.number, &lost(), rig.now);
        }
        rig.member.poll_coordinator_wanted(rig.now);
        rig.member.handle_coordinator(Err(lost()), rig.now);
        rig.now = rig.member.poll_timeout().expect("a timer").max(rig.now);
        rig.member.handle_timeout(rig.now);
    }
    assert_eq!(rig.now - answered_at, seconds(45));
    assert_eq!(rig.events(), ["lost t-0"]);
}

#[test]
fn case_72_an_application_that_stops_is_warned_and_then_leaves() {
    let mut rig = Rig::of_static().stable(&[0]);
    let taken = rig.now;
    rig.member.handle_waiting(false, taken);
    let mut told = Vec::new();
    while rig.member.state != State::Away {
        rig.now = rig.member.poll_timeout().expect("a timer").max(rig.now);
        rig.member.handle_timeout(rig.now);
        if rig.member.state == State::Stable {
            for ask in rig.asks() {
                rig.member.handle_response(ask.number, &answered(3, None), rig.now);
            }
        }
        told.extend(rig.events().into_iter().map(|event| (rig.now - taken, event)));
    }
    let expected = [(150, "slow 150s"), (300, "lost t-0"), (300, "left")];
    assert_eq!(told, expected.map(|(at, event)| (seconds(at), event.to_string())));
    let (_, leave) = rig.ask();
    assert_eq!(leave.member_epoch, -2);
    // The next progress joins again, after the leave on the same connection.
    rig.member.handle_progress(rig.now);
    assert_eq!(rig.ask().1.member_epoch, 0);
}

#[test]
fn case_69_a_place_that_a_killed_instance_still_has_is_waited_for() {
    let mut rig = Rig::of_static();
    let since = rig.now;
    while rig.events().is_empty() {
        rig.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
    }
    // Twice the session timeout: then the other instance must be alive.
    assert!((seconds(90)..seconds(93)).contains(&(rig.now - since)), "{:?}", rig.now - since);
    assert_eq!(rig.member.state, State::Failed);
}

/// Kafka does not look whose place it is: it refuses a join again, although it is the same member's.
#[test]
fn a_static_member_releases_the_place_that_it_may_have_itself() {
    let check = |rig: &mut Rig| {
        rig.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
        let (number, release) = rig.ask();
        assert_eq!((release.member_epoch, &*release.member_id), (-2, &*rig.member.member_id));
        // Another member may have the place after all.
        rig.member.handle_response(number, &refused(ErrorCode::FENCED_INSTANCE_ID), rig.now);
        let (number, join) = rig.beat();
        assert_eq!((join.member_epoch, join.member_id), (0, release.member_id));
        rig.member.handle_response(number, &answered(2, None), rig.now);
        assert_eq!(rig.member.state, State::Stable);
    };
    // The join arrived, and its answer did not.
    let mut rig = Rig::of_static();
    let (number, _) = rig.beat();
    rig.member.handle_lost(number, &lost(), rig.now);
    check(&mut rig);
    // It was in, and the coordinator did not accept its epoch.
    let mut rig = Rig::of_static().stable(&[0]);
    rig.refuse(ErrorCode::FENCED_MEMBER_EPOCH);
    check(&mut rig);
    // It was never let in: the place is that of another one.
    let mut rig = Rig::of_static();
    for _ in 0..3 {
        rig.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
        assert!(rig.asks().is_empty());
    }
}

/// On a network that loses every other answer, a member waits as long for its own place as for a session of another one, and more
/// than once.
#[test]
fn a_static_member_whose_joins_go_unanswered_does_not_give_up() {
    let mut rig = Rig::of_static();
    let since = rig.now;
    while rig.now - since < seconds(300) {
        let (number, join) = rig.beat();
        assert_eq!(join.member_epoch, 0);
        rig.member.handle_lost(number, &lost(), rig.now);
        rig.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
        let (number, release) = rig.ask();
        assert_eq!(release.member_epoch, -2);
        rig.member.handle_lost(number, &lost(), rig.now);
        assert!(rig.events().is_empty());
    }
    let (number, _) = rig.beat();
    rig.member.handle_response(number, &answered(2, None), rig.now);
    assert_eq!(rig.member.state, State::Stable);
}

/// The coordinator believes what a heartbeat says: by a newer target it gives to others at once what the member does not have.
#[test]
fn nothing_is_taken_while_a_heartbeat_says_that_it_is_not_owned() {
    let check = |assignment: Option<&[(u8, &[i32])]>, expected: &[&str]| {
        let mut rig = Rig::dynamic();
        rig.answer(2, Some(&[(2, &[0, 1])]));
        let (number, heartbeat) = rig.ask();
        assert_eq!(owned_in(&heartbeat), Some(vec![]));
        rig.member.handle_metadata(&larger_cluster(), rig.now);
        assert!(rig.events().is_empty(), "the heartbeat is on its way");
        rig.member.handle_response(number, &answered(3, assignment), rig.now);
        assert_eq!(rig.events(), expected);
    };
    check(None, &["assign u-0,u-1"]);
    check(Some(&[(2, &[1])]), &["assign u-1"]);
}

#[test]
fn case_69_a_fenced_static_member_does_not_come_back() {
    let mut rig = Rig::of_static().stable(&[0]);
    rig.refuse(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.events(), ["lost t-0", "failed FENCED_INSTANCE_ID"]);
    rig.member.handle_progress(rig.now);
    rig.pass(seconds(60));
    assert!(rig.asks().is_empty());
    rig.member.handle_close(Goodbye::Leave, rig.now);
    assert!(rig.member.is_closed());
}

#[test]
fn case_67_a_refused_commit_makes_the_member_join_again() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.member.handle_commit_refused(ErrorCode::FENCED_MEMBER_EPOCH, 2, rig.now);
    assert!(rig.events().is_empty(), "the commit was of an older epoch");
    rig.member.handle_commit_refused(ErrorCode::STALE_MEMBER_EPOCH, 3, rig.now);
    assert_eq!(rig.ask().1.member_epoch, 3, "the next answer has the epoch");
    rig.member.handle_commit_refused(ErrorCode::FENCED_MEMBER_EPOCH, 3, rig.now);
    assert_eq!(rig.events(), ["lost t-0"]);
}

#[test]
fn unsubscribing_gives_everything_up_and_leaves() {
    let mut rig = Rig::dynamic().stable(&[0]);
    rig.member.handle_subscription(Subscription::default(), rig.now);
    assert_eq!(rig.events(), ["revoke t-0"]);
    rig.member.handle_released(rig.now);
    assert_eq!(rig.ask().1.member_epoch, -1);
    rig.member.handle_subscription(topics(&["t"]), rig.now);
    assert_eq!(rig.ask().1.member_epoch, 0);
}

#[test]
fn what_is_lost_in_a_barrier_is_not_released() {
    let mut rig = Rig::dynamic().stable(&[0, 1]);
    rig.answer(3, Some(&[(1, &[1])]));
    rig.refuse(ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(rig.events(), ["revoke t-0", "lost t-0,t-1"]);
    rig.member.handle_released(rig.now);
    rig.answer(5, Some(&[(1, &[0])]));
    assert_eq!(rig.events(), ["assign t-0"]);
}
