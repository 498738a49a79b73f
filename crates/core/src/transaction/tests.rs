//! The machine of a transactional producer on virtual time, against a coordinator whose answers the test gives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnResponse;
use milena_messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnTopicResult,
};
use milena_messages::end_txn::EndTxnResponse;
use milena_messages::init_producer_id::InitProducerIdResponse;
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

use super::{Ask, Event, Fate, Offsets, Request, Response, Settings, Transaction, Version};
use crate::group::commits::StoredOffset;
use crate::group::{MemberIdentity, TopicPartition};
use crate::metadata::Coordinated;
use crate::{Backoff, BrokerId, Failure, Instant, ProducerId, ProducerIdentity, Rng};

const MS: Duration = Duration::from_millis(1);

struct Lab {
    machine: Transaction,
    now: Instant,
    /// Requests that were sent and not answered.
    asked: VecDeque<Ask>,
    lookups: Vec<Coordinated>,
    events: Vec<String>,
}

fn lab() -> Lab {
    let settings = Settings {
        transactional_id: "billing".into(),
        timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(30),
        backoff: Backoff { min: 100 * MS, max: Duration::from_secs(1) },
    };
    Lab {
        machine: Transaction::new(settings, Rng::seeded(7)),
        now: Instant::ORIGIN,
        asked: VecDeque::new(),
        lookups: Vec::new(),
        events: Vec::new(),
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(&Arc::from("orders"), partition)
}

fn lost() -> Failure {
    Failure::Lost { peer: "b:1".into(), reason: "cut".into(), sent: true }
}

fn answer(code: ErrorCode) -> Failure {
    Failure::answer(code, None)
}

fn offsets() -> Offsets {
    let member = MemberIdentity {
        member_id: "m-1".into(),
        generation_or_epoch: 4,
        instance_id: Some(Arc::from("static")),
    };
    Offsets { group: "shop".into(), member, offsets: vec![(at(0), StoredOffset::at(17))] }
}

impl Lab {
    /// A producer with identity 7/0.
    fn ready(version: Version) -> Self {
        let mut lab = lab();
        lab.machine.handle_wanted();
        lab.turn();
        lab.grant(7, 0);
        assert!(lab.begin(version));
        lab
    }

    fn begin(&mut self, version: Version) -> bool {
        let begun = self.machine.handle_begin(version).is_some();
        self.turn();
        begun
    }

    /// Polls everything, and answers look-ups.
    fn turn(&mut self) {
        self.machine.handle_timeout(self.now);
        loop {
            while let Some(event) = self.machine.poll_event() {
                self.events.push(told(&event));
            }
            if let Some(of) = self.machine.poll_lookup(self.now) {
                self.lookups.push(of.clone());
                let broker = BrokerId(if matches!(of, Coordinated::Group(_)) { 2 } else { 1 });
                self.machine.handle_coordinator(&of, Ok(broker), self.now);
                continue;
            }
            match self.machine.poll_request(self.now) {
                Some(ask) => self.asked.push_back(ask),
                None => break,
            }
        }
        assert!(
            self.machine.poll_timeout().is_none_or(|at| at > self.now),
            "a timer that is due does nothing"
        );
    }

    /// Goes on to the machine's next timer.
    fn wait(&mut self) {
        self.now = self.machine.poll_timeout().expect("a timer");
        self.turn();
    }

    fn next(&mut self) -> Ask {
        self.asked.pop_front().expect("a request")
    }

    fn answer(&mut self, ask: &Ask, response: &Response) {
        self.machine.handle_response(ask.number, response, self.now);
        self.turn();
    }

    fn lose(&mut self) {
        let ask = self.next();
        self.machine.handle_lost(ask.number, &lost(), true, self.now);
        self.turn();
    }

    fn grant(&mut self, producer_id: i64, producer_epoch: i16) {
        self.identity(ErrorCode::NONE, producer_id, producer_epoch);
    }

    fn identity(&mut self, error_code: ErrorCode, producer_id: i64, producer_epoch: i16) {
        let ask = self.next();
        assert!(matches!(ask.request, Request::Identity(_)), "{ask:?}");
        let response =
            InitProducerIdResponse { error_code, producer_id, producer_epoch, ..Default::default() };
        self.answer(&ask, &Response::Identity(response));
    }

    /// Answers AddPartitionsToTxn with this code for all partitions.
    fn add(&mut self, code: ErrorCode) {
        let ask = self.next();
        let Request::Partitions(request) = &ask.request else { panic!("{ask:?}") };
        assert_eq!(ask.version_max, 3);
        let topics = request.v3_and_below_topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic
                .partitions
                .iter()
                .map(|index| AddPartitionsToTxnPartitionResult {
                    partition_index: *index,
                    partition_error_code: code,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let response = AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: topics.collect(),
            ..Default::default()
        };
        self.answer(&ask, &Response::Partitions(response));
    }

    fn add_group(&mut self, error_code: ErrorCode) {
        let ask = self.next();
        assert!(matches!(&ask.request, Request::Group(request) if &*request.group_id == "shop"), "{ask:?}");
        let response = AddOffsetsToTxnResponse { error_code, ..Default::default() };
        self.answer(&ask, &Response::Group(response));
    }

    fn commit_offsets(&mut self, error_code: ErrorCode) {
        let ask = self.next();
        assert!(matches!(&ask.request, Request::Offsets(_)) && ask.broker == BrokerId(2), "{ask:?}");
        let partition = TxnOffsetCommitResponsePartition { error_code, ..Default::default() };
        let topic = TxnOffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let response = TxnOffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.answer(&ask, &Response::Offsets(response));
    }

    /// Answers EndTxn, which must end the transaction so.
    fn end(&mut self, fate: Fate, error_code: ErrorCode) {
        self.end_with(fate, EndTxnResponse { error_code, ..Default::default() });
    }

    fn end_with(&mut self, fate: Fate, response: EndTxnResponse) {
        let ask = self.next();
        let Request::End(request) = &ask.request else { panic!("{ask:?}") };
        assert_eq!(request.committed, fate == Fate::Commit);
        self.answer(&ask, &Response::End(response));
    }

    fn commit(&mut self) {
        self.machine.handle_commit();
        self.machine.handle_settled();
        self.turn();
    }

    fn abort(&mut self) {
        self.machine.handle_abort();
        self.machine.handle_settled();
        self.turn();
    }

    fn write(&mut self, partition: i32) {
        self.machine.handle_partition(at(partition));
        self.turn();
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// The request that is next must ask for a higher epoch.
    fn raise(&mut self, epoch: i16) {
        assert!(!self.machine.is_ready());
        let ask = self.asked.front().expect("a request");
        let Request::Identity(request) = &ask.request else { panic!("{ask:?}") };
        assert_eq!((request.producer_id, request.producer_epoch), (7, epoch - 1));
        self.grant(7, epoch);
        assert!(self.machine.is_ready());
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Added(partitions) => format!("added {}", partitions.len()),
        Event::Committed(_, Ok(())) => "offsets in".into(),
        Event::Committed(_, Err(failure)) => format!("offsets out: {}", told_of(failure)),
        Event::Purge(failure) => format!("purge: {}", told_of(failure)),
        Event::Refused(failure) => format!("refused: {}", told_of(failure)),
        Event::Ended(fate) => format!("ended: {fate:?}"),
        Event::Unstarted(failure) => format!("unstarted: {}", told_of(failure)),
        Event::Dead { failure, may_be_committed } => {
            format!("dead: {}{}", told_of(failure), if *may_be_committed { ", may be committed" } else { "" })
        }
    }
}

fn told_of(failure: &Failure) -> String {
    let class = if failure.is_fatal() {
        "fatal"
    } else if failure.requires_abort() {
        "abort"
    } else {
        "retriable"
    };
    let name = failure.code().map_or_else(|| failure.to_string(), |code| code.name().to_string());
    format!("{name} ({class})")
}

#[test]
fn a_transaction_adds_its_partitions_in_one_request_and_commits_under_the_same_epoch() {
    let mut lab = Lab::ready(Version::One);
    lab.machine.handle_partition(at(0));
    lab.machine.handle_partition(at(1));
    lab.turn();
    // What comes while a request is under way goes with the next one.
    lab.machine.handle_partition(at(2));
    lab.machine.handle_partition(at(3));
    lab.turn();
    assert_eq!(lab.asked.len(), 1);
    lab.add(ErrorCode::NONE);
    lab.add(ErrorCode::NONE);
    lab.commit();
    assert_eq!(lab.asked[0].version_max, 4);
    lab.end(Fate::Commit, ErrorCode::NONE);
    assert_eq!(lab.told(), ["added 2", "added 2", "ended: Commit"]);
    assert_eq!(
        lab.machine.handle_begin(Version::One),
        Some(ProducerIdentity { id: ProducerId(7), epoch: 0 })
    );
}

#[test]
fn with_version_two_each_transaction_has_an_epoch_of_its_own_and_nothing_is_added() {
    let mut lab = Lab::ready(Version::Two);
    lab.machine.handle_sent(lab.now);
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.turn();
    assert_eq!(lab.asked[0].version_max, 5);
    lab.commit_offsets(ErrorCode::NONE);
    lab.commit();
    let raised = EndTxnResponse { producer_id: 8, producer_epoch: 1, ..Default::default() };
    lab.end_with(Fate::Commit, raised);
    assert_eq!(lab.told(), ["offsets in", "ended: Commit"]);
    assert_eq!(
        lab.machine.handle_begin(Version::Two),
        Some(ProducerIdentity { id: ProducerId(8), epoch: 1 })
    );
}

#[test]
fn a_transaction_without_anything_in_it_asks_the_coordinator_nothing() {
    for version in [Version::One, Version::Two] {
        let mut lab = Lab::ready(version);
        lab.commit();
        assert!(lab.begin(version));
        lab.abort();
        assert!(lab.asked.is_empty());
        let purged = "purge: the transaction cannot be committed: the transaction was aborted (abort)";
        assert_eq!(lab.told(), ["ended: Commit", purged, "ended: Abort"]);
        assert!(lab.machine.is_ready());
    }
}

#[test]
fn offsets_go_to_the_groups_coordinator_as_its_member() {
    let mut lab = Lab::ready(Version::One);
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.turn();
    lab.add_group(ErrorCode::NONE);
    let ask = lab.asked.front().expect("a request");
    let Request::Offsets(request) = &ask.request else { panic!("{ask:?}") };
    assert_eq!((&*request.member_id, request.generation_id_or_member_epoch), ("m-1", 4));
    assert_eq!(request.group_instance_id.as_deref(), Some("static"));
    assert_eq!(request.topics[0].partitions[0].committed_offset, 17);
    lab.commit_offsets(ErrorCode::NONE);
    // The group is in the transaction, and need not be added again.
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.turn();
    lab.commit_offsets(ErrorCode::NONE);
    assert_eq!(lab.told(), ["offsets in", "offsets in"]);
}

#[test]
fn a_commit_waits_for_everything_that_is_under_way() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.machine.handle_commit();
    lab.turn();
    lab.add(ErrorCode::NONE);
    lab.add_group(ErrorCode::NONE);
    assert!(lab.machine.is_draining());
    lab.machine.handle_settled();
    lab.turn();
    // EndTxn would overtake the offsets.
    lab.commit_offsets(ErrorCode::NONE);
    lab.end(Fate::Commit, ErrorCode::NONE);
    assert_eq!(lab.told(), ["added 1", "offsets in", "ended: Commit"]);
}

/// Something is in the transaction, and its end is lost.
fn with_a_lost_end(version: Version, fate: Fate) -> Lab {
    let mut lab = Lab::ready(version);
    if version == Version::One {
        lab.write(0);
        lab.add(ErrorCode::NONE);
    } else {
        lab.machine.handle_sent(lab.now);
    }
    match fate {
        Fate::Commit => lab.commit(),
        Fate::Abort => lab.abort(),
    }
    lab.told();
    lab.lose();
    lab
}

#[test]
fn an_end_of_unknown_fate_is_resolved_before_the_next_transaction_begins() {
    for fate in [Fate::Commit, Fate::Abort] {
        let mut lab = with_a_lost_end(Version::One, fate);
        assert!(!lab.begin(Version::One));
        lab.wait();
        lab.lose();
        lab.wait();
        lab.end(fate, ErrorCode::NONE);
        assert_eq!(lab.told(), [format!("ended: {fate:?}")]);
        // The attempts that were lost may still reach the coordinator, and must not end the next transaction.
        assert!(!lab.begin(Version::One));
        lab.raise(1);
        assert!(lab.begin(Version::One));
    }
}

#[test]
fn with_version_two_the_raised_epoch_of_the_answer_keeps_lost_attempts_out() {
    let mut lab = with_a_lost_end(Version::Two, Fate::Commit);
    lab.wait();
    lab.end_with(Fate::Commit, EndTxnResponse { producer_id: 7, producer_epoch: 1, ..Default::default() });
    assert!(lab.begin(Version::Two));
}

#[test]
fn a_coordinator_that_does_not_raise_the_epoch_with_version_two_is_asked_to() {
    let mut lab = Lab::ready(Version::Two);
    lab.machine.handle_sent(lab.now);
    lab.commit();
    lab.end_with(Fate::Commit, EndTxnResponse { producer_id: -1, producer_epoch: -1, ..Default::default() });
    lab.raise(1);
}

#[test]
fn whatever_the_coordinator_says_of_an_end_it_is_not_guessed() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.add(ErrorCode::NONE);
    lab.commit();
    lab.told();
    for code in [
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::from_i16(999),
    ] {
        lab.end(Fate::Commit, code);
        assert_eq!(lab.told(), [""; 0], "{code}");
        lab.wait();
    }
    lab.end(Fate::Commit, ErrorCode::NONE);
    assert_eq!(lab.told(), ["ended: Commit"]);
    lab.raise(1);
}

#[test]
fn a_send_of_unknown_fate_in_an_aborted_transaction_raises_the_epoch() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.add(ErrorCode::NONE);
    lab.machine.handle_abort();
    // It becomes uncertain only while the transaction drains.
    lab.machine.handle_unsure();
    lab.machine.handle_settled();
    lab.turn();
    lab.end(Fate::Abort, ErrorCode::NONE);
    assert!(!lab.begin(Version::One));
    lab.raise(1);
}

#[test]
fn any_request_that_was_lost_raises_the_epoch() {
    for lost in ["partitions", "group", "offsets"] {
        let mut lab = Lab::ready(Version::One);
        if lost == "partitions" {
            lab.write(0);
            lab.lose();
            lab.wait();
            lab.add(ErrorCode::NONE);
        } else {
            lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
            lab.turn();
            if lost == "group" {
                lab.lose();
                lab.wait();
            }
            lab.add_group(ErrorCode::NONE);
            if lost == "offsets" {
                lab.lose();
                lab.wait();
            }
            lab.commit_offsets(ErrorCode::NONE);
        }
        lab.commit();
        lab.end(Fate::Commit, ErrorCode::NONE);
        lab.raise(1);
    }
}

#[test]
fn a_request_that_no_connection_has_begun_with_leaves_no_doubt() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    let ask = lab.next();
    lab.machine.handle_lost(ask.number, &lost(), false, lab.now);
    lab.turn();
    lab.wait();
    lab.add(ErrorCode::NONE);
    lab.commit();
    lab.end(Fate::Commit, ErrorCode::NONE);
    assert!(lab.begin(Version::One));
}

#[test]
fn what_failed_dooms_the_transaction_and_the_commit_is_refused() {
    for version in [Version::One, Version::Two] {
        let mut lab = Lab::ready(version);
        if version == Version::One {
            lab.write(0);
            lab.add(ErrorCode::NONE);
            lab.told();
        } else {
            lab.machine.handle_sent(lab.now);
        }
        lab.machine.handle_unsure();
        lab.machine.handle_failed(&answer(ErrorCode::MESSAGE_TOO_LARGE));
        lab.turn();
        assert_eq!(lab.told(), ["purge: MESSAGE_TOO_LARGE (abort)"]);
        // Offsets and partitions that come now are not sent.
        lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
        lab.machine.handle_partition(at(5));
        lab.commit();
        assert_eq!(
            lab.told(),
            [
                "offsets out: MESSAGE_TOO_LARGE (abort)",
                "purge: MESSAGE_TOO_LARGE (abort)",
                "refused: MESSAGE_TOO_LARGE (abort)"
            ]
        );
        lab.end_with(Fate::Abort, EndTxnResponse { producer_id: 7, producer_epoch: 1, ..Default::default() });
        assert_eq!(lab.told(), ["ended: Abort"]);
        if version == Version::One {
            lab.raise(1);
        }
        assert!(lab.begin(version));
    }
}

#[test]
fn a_record_that_fails_during_the_commit_turns_it_into_an_abort() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.add(ErrorCode::NONE);
    lab.machine.handle_commit();
    lab.machine.handle_failed(&answer(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    lab.machine.handle_unsure();
    lab.machine.handle_settled();
    lab.turn();
    lab.end(Fate::Abort, ErrorCode::NONE);
    let code = "OUT_OF_ORDER_SEQUENCE_NUMBER (abort)";
    let expected =
        ["added 1".into(), format!("purge: {code}"), format!("refused: {code}"), "ended: Abort".into()];
    assert_eq!(lab.told(), expected);
    lab.raise(1);
}

#[test]
fn partitions_that_are_refused_doom_the_transaction_and_concurrent_transactions_do_not() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    let since = lab.now;
    lab.add(ErrorCode::CONCURRENT_TRANSACTIONS);
    lab.wait();
    assert!(lab.now - since <= 24 * MS, "the markers of the last transaction are soon written");
    lab.add(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    lab.wait();
    lab.add(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(lab.told(), ["purge: TOPIC_AUTHORIZATION_FAILED (abort)"]);
    lab.abort();
    lab.end(Fate::Abort, ErrorCode::NONE);
    // Those markers took so long that the next transaction begins a little later.
    lab.wait();
    assert!(lab.begin(Version::One), "every request was answered");
}

#[test]
fn offsets_of_a_group_that_has_moved_on_doom_the_transaction() {
    for code in [
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::STALE_MEMBER_EPOCH,
    ] {
        let mut lab = Lab::ready(Version::One);
        lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
        lab.turn();
        lab.add_group(ErrorCode::NONE);
        lab.commit_offsets(code);
        let name = code.name();
        assert_eq!(lab.told(), [format!("offsets out: {name} (abort)"), format!("purge: {name} (abort)")]);
    }
}

#[test]
fn offsets_that_are_not_committed_in_time_doom_the_transaction_and_their_request_is_waited_for() {
    let mut lab = Lab::ready(Version::Two);
    lab.machine.handle_offsets(offsets(), lab.now + 500 * MS, 500 * MS);
    lab.turn();
    lab.commit_offsets(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    lab.wait();
    assert_eq!(lab.asked.len(), 1);
    lab.wait();
    let told = lab.told();
    assert!(told[0].starts_with("offsets out: COORDINATOR_LOAD_IN_PROGRESS (abort)"), "{told:?}");
    let doom = lab.machine.doom().expect("doomed").to_string();
    assert!(
        doom.contains("not delivered within 500ms; the last attempt: COORDINATOR_LOAD_IN_PROGRESS"),
        "{doom}"
    );
    lab.abort();
    assert!(lab.machine.is_draining(), "the request may still be carried out");
    lab.commit_offsets(ErrorCode::NONE);
    lab.end_with(Fate::Abort, EndTxnResponse { producer_id: 7, producer_epoch: 1, ..Default::default() });
    assert!(lab.begin(Version::Two));
}

#[test]
fn a_coordinator_that_has_moved_is_looked_up_again() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    let lookups = lab.lookups.len();
    lab.add(ErrorCode::NOT_COORDINATOR);
    lab.wait();
    assert_eq!(lab.lookups.len(), lookups + 1);
    lab.add(ErrorCode::NONE);
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.turn();
    lab.add_group(ErrorCode::NONE);
    let lookups = lab.lookups.len();
    lab.commit_offsets(ErrorCode::NOT_COORDINATOR);
    lab.wait();
    assert_eq!(lab.lookups.len(), lookups + 1);
    lab.commit_offsets(ErrorCode::NONE);
    lab.commit();
    lab.end(Fate::Commit, ErrorCode::NONE);
    assert!(lab.begin(Version::One), "none of it left a doubt");
}

#[test]
fn no_timer_is_due_while_the_answer_of_a_look_up_or_of_the_coordinator_is_waited_for() {
    let later = |lab: &mut Lab| lab.now += Duration::from_secs(5);
    // The transaction coordinator is looked up after a failure whose backoff is long over.
    let mut lab = Lab::ready(Version::Two);
    lab.machine.handle_sent(lab.now);
    lab.commit();
    let ask = lab.next();
    lab.machine.handle_lost(ask.number, &lost(), true, lab.now);
    later(&mut lab);
    assert!(lab.machine.poll_lookup(lab.now).is_some());
    assert_eq!(lab.machine.poll_timeout(), None);
    // So is the group's.
    let mut lab = Lab::ready(Version::Two);
    let after = Duration::from_secs(60);
    let deadline = lab.now + after;
    lab.machine.handle_offsets(offsets(), deadline, after);
    lab.turn();
    let ask = lab.next();
    lab.machine.handle_lost(ask.number, &lost(), true, lab.now);
    later(&mut lab);
    assert!(lab.machine.poll_lookup(lab.now).is_some());
    assert_eq!(lab.machine.poll_timeout(), Some(deadline));
    // Offsets failed in the last transaction, and the group is being added to this one.
    let mut lab = Lab::ready(Version::One);
    lab.machine.handle_offsets(offsets(), lab.now + Duration::from_secs(60), Duration::from_secs(60));
    lab.turn();
    lab.add_group(ErrorCode::NONE);
    lab.commit_offsets(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    lab.abort();
    lab.end(Fate::Abort, ErrorCode::NONE);
    later(&mut lab);
    assert!(lab.begin(Version::One));
    let after = Duration::from_secs(60);
    let deadline = lab.now + after;
    lab.machine.handle_offsets(offsets(), deadline, after);
    lab.turn();
    assert_eq!(lab.machine.poll_timeout(), Some(deadline));
}

#[test]
fn what_is_fenced_does_nothing_more_and_says_so() {
    for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH] {
        let mut lab = Lab::ready(Version::One);
        lab.write(0);
        lab.add(code);
        assert_eq!(lab.told(), ["dead: PRODUCER_FENCED (fatal)"]);
        let death = lab.machine.death().expect("dead");
        assert!(death.is_fenced());
        // All that is known is the epoch: a late copy of a request of its own raises it as well.
        let text = format!("{death}; {}", death.advice().expect("advice"));
        for cause in ["another instance has begun", "a late request of this one", "transaction.timeout.ms"] {
            assert!(text.contains(cause), "{text}");
        }
        lab.machine.handle_abort();
        lab.turn();
        assert!(lab.asked.is_empty() && !lab.begin(Version::One));
        assert_eq!(lab.machine.poll_timeout(), None);
    }
}

#[test]
fn a_commit_that_is_fenced_after_a_lost_attempt_may_have_been_committed() {
    let mut lab = with_a_lost_end(Version::One, Fate::Commit);
    lab.wait();
    lab.end(Fate::Commit, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(lab.told(), ["dead: PRODUCER_FENCED (fatal), may be committed"]);
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.add(ErrorCode::NONE);
    lab.commit();
    lab.end(Fate::Commit, ErrorCode::PRODUCER_FENCED);
    assert_eq!(lab.told()[1..], ["dead: PRODUCER_FENCED (fatal)"]);
}

#[test]
fn with_version_two_an_abort_tells_a_transaction_that_timed_out_from_a_producer_that_is_fenced() {
    for is_fenced in [false, true] {
        let mut lab = Lab::ready(Version::Two);
        lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
        lab.turn();
        lab.commit_offsets(ErrorCode::INVALID_PRODUCER_EPOCH);
        let code = "INVALID_PRODUCER_EPOCH (abort)";
        assert_eq!(lab.told(), [format!("offsets out: {code}"), format!("purge: {code}")]);
        lab.abort();
        if is_fenced {
            while lab.machine.death().is_none() {
                lab.end(Fate::Abort, ErrorCode::PRODUCER_FENCED);
                if lab.machine.death().is_none() {
                    lab.wait();
                }
            }
            assert_eq!(lab.told().pop().as_deref(), Some("dead: PRODUCER_FENCED (fatal)"));
        } else {
            let raised = EndTxnResponse { producer_id: 7, producer_epoch: 2, ..Default::default() };
            lab.end_with(Fate::Abort, raised);
            assert!(lab.begin(Version::Two));
        }
    }
}

#[test]
fn an_epoch_that_was_not_raised_is_not_gone_on_with() {
    let mut lab = with_a_lost_end(Version::One, Fate::Abort);
    lab.wait();
    lab.end(Fate::Abort, ErrorCode::NONE);
    lab.told();
    lab.grant(7, 0);
    assert!(!lab.machine.is_ready());
    lab.wait();
    lab.grant(7, -3);
    assert!(lab.told()[0].starts_with("dead: the transactional producer can do nothing more"));
    // Another id is as good as a higher epoch.
    let mut lab = with_a_lost_end(Version::One, Fate::Abort);
    lab.wait();
    lab.end(Fate::Abort, ErrorCode::NONE);
    lab.grant(8, 0);
    assert!(lab.machine.is_ready());
}

/// No answer of a coordinator, however often it comes, is asked for more than some fifty times a minute, or stops the machine
/// for good without saying so.
#[test]
fn no_answer_that_comes_without_end_makes_a_storm_or_a_standstill() {
    let codes = [
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::from_i16(-7),
        ErrorCode::from_i16(9999),
    ];
    for code in codes {
        let mut lab = Lab::ready(Version::One);
        lab.write(0);
        lab.add(ErrorCode::NONE);
        lab.machine.handle_commit();
        lab.machine.handle_settled();
        lab.turn();
        let (since, mut asked) = (lab.now, 0);
        while lab.now < since + 60_000 * MS {
            asked += 1;
            lab.end(Fate::Commit, code);
            assert!(lab.asked.is_empty(), "{code} is asked again at once");
            assert!(lab.machine.trouble().is_some_and(|of| of.code() == Some(code)), "{code}");
            lab.wait();
        }
        assert!((50..=90).contains(&asked), "{code}: {asked} requests");
        lab.end(Fate::Commit, ErrorCode::NONE);
        assert_eq!(lab.told(), ["added 1", "ended: Commit"]);
    }
}

/// Answers that name too few partitions, others, or the same ones twice.
#[test]
fn answers_that_name_other_partitions_than_were_asked_for_add_nothing() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    for (topic, partitions) in [("orders", vec![]), ("others", vec![0]), ("orders", vec![1, -1, i32::MAX, 1])]
    {
        let ask = lab.next();
        let results = partitions.into_iter().map(|partition_index| AddPartitionsToTxnPartitionResult {
            partition_index,
            ..Default::default()
        });
        let topic = AddPartitionsToTxnTopicResult {
            name: topic.into(),
            results_by_partition: results.collect(),
            ..Default::default()
        };
        let response =
            AddPartitionsToTxnResponse { results_by_topic_v3_and_below: vec![topic], ..Default::default() };
        lab.answer(&ask, &Response::Partitions(response));
        assert!(lab.told().is_empty());
        lab.wait();
    }
    lab.add(ErrorCode::NONE);
    assert_eq!(lab.told(), ["added 1"]);
    lab.machine.handle_offsets(offsets(), lab.now + 10_000 * MS, 10_000 * MS);
    lab.turn();
    lab.add_group(ErrorCode::NONE);
    let ask = lab.next();
    lab.answer(&ask, &Response::Offsets(TxnOffsetCommitResponse::default()));
    assert!(lab.told().is_empty());
    lab.wait();
    lab.commit_offsets(ErrorCode::NONE);
    assert_eq!(lab.told(), ["offsets in"]);
}

#[test]
fn an_abort_while_the_last_transaction_is_completed_fences_nobody() {
    let abort = || {
        let mut lab = Lab::ready(Version::Two);
        lab.machine.handle_sent(lab.now);
        lab.abort();
        lab.end(Fate::Abort, ErrorCode::PRODUCER_FENCED);
        lab
    };
    let mut lab = abort();
    lab.wait();
    lab.end_with(Fate::Abort, EndTxnResponse { producer_id: 7, producer_epoch: 1, ..Default::default() });
    assert!(lab.begin(Version::Two));
    // Another instance has taken over. It is not asked for a higher epoch, which would abort that one's transaction.
    let mut lab = abort();
    lab.told();
    let since = lab.now;
    while lab.machine.death().is_none() {
        lab.wait();
        lab.end(Fate::Abort, ErrorCode::PRODUCER_FENCED);
    }
    assert_eq!(lab.told(), ["dead: PRODUCER_FENCED (fatal)"]);
    assert!((2_000 * MS..8_000 * MS).contains(&(lab.now - since)), "{:?}", lab.now - since);
    // If a part of the transaction was written, its coordinator has it.
    let mut lab = Lab::ready(Version::Two);
    lab.machine.handle_sent(lab.now);
    lab.machine.handle_taken(lab.now);
    lab.abort();
    lab.end(Fate::Abort, ErrorCode::PRODUCER_FENCED);
    assert_eq!(lab.told()[1..], ["dead: PRODUCER_FENCED (fatal)"]);
}

#[test]
fn a_coordinator_that_moves_while_it_commits_may_have_committed() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let mut lab = Lab::ready(Version::Two);
        lab.machine.handle_sent(lab.now);
        lab.commit();
        lab.end(Fate::Commit, code);
        lab.wait();
        lab.end(Fate::Commit, ErrorCode::PRODUCER_FENCED);
        assert_eq!(lab.told(), ["dead: PRODUCER_FENCED (fatal), may be committed"]);
    }
}

#[test]
fn a_commit_that_is_refused_after_a_lost_attempt_may_have_been_committed() {
    for code in [ErrorCode::INVALID_TXN_STATE, ErrorCode::UNKNOWN_PRODUCER_ID] {
        let mut lab = with_a_lost_end(Version::One, Fate::Commit);
        lab.wait();
        lab.end(Fate::Commit, code);
        assert_eq!(lab.told(), [format!("dead: {} (fatal), may be committed", code.name())]);
    }
    // These say that it is not.
    for (version, code) in
        [(Version::One, ErrorCode::TRANSACTION_ABORTABLE), (Version::Two, ErrorCode::INVALID_TXN_STATE)]
    {
        let mut lab = with_a_lost_end(version, Fate::Commit);
        lab.wait();
        lab.end(Fate::Commit, code);
        lab.end(Fate::Abort, ErrorCode::NONE);
        assert_eq!(lab.told().last().map(String::as_str), Some("ended: Abort"));
    }
}

#[test]
fn a_commit_that_the_coordinator_refuses_is_aborted_and_the_epoch_raised() {
    let mut lab = Lab::ready(Version::One);
    lab.write(0);
    lab.add(ErrorCode::NONE);
    lab.told();
    lab.commit();
    lab.end(Fate::Commit, ErrorCode::TRANSACTION_ABORTABLE);
    let code = "TRANSACTION_ABORTABLE (abort)";
    assert_eq!(lab.told(), [format!("purge: {code}"), format!("refused: {code}")]);
    lab.end(Fate::Abort, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(lab.told(), ["ended: Abort"]);
    lab.raise(1);
}

#[test]
fn an_identity_that_is_refused_may_be_asked_for_again() {
    let mut lab = lab();
    lab.machine.handle_wanted();
    lab.turn();
    lab.identity(ErrorCode::CONCURRENT_TRANSACTIONS, -1, -1);
    lab.wait();
    lab.identity(ErrorCode::INVALID_TRANSACTION_TIMEOUT, -1, -1);
    assert_eq!(lab.told(), ["unstarted: INVALID_TRANSACTION_TIMEOUT (abort)"]);
    lab.machine.handle_wanted();
    lab.turn();
    lab.identity(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1, -1);
    assert_eq!(lab.told(), ["unstarted: TRANSACTIONAL_ID_AUTHORIZATION_FAILED (fatal)"]);
    lab.machine.handle_wanted();
    lab.turn();
    lab.lose();
    lab.wait();
    lab.grant(7, 0);
    assert!(lab.machine.is_ready());
}

#[test]
fn a_producer_that_may_not_have_a_higher_epoch_does_nothing_more() {
    let mut lab = with_a_lost_end(Version::One, Fate::Abort);
    lab.wait();
    lab.end(Fate::Abort, ErrorCode::NONE);
    lab.identity(ErrorCode::INVALID_PRODUCER_ID_MAPPING, -1, -1);
    assert_eq!(lab.told()[1..], ["dead: INVALID_PRODUCER_ID_MAPPING (fatal)"]);
}

#[test]
fn the_epoch_is_raised_when_the_cluster_goes_over_to_version_two_and_not_when_it_goes_back() {
    let mut lab = Lab::ready(Version::One);
    lab.commit();
    assert!(!lab.begin(Version::Two));
    lab.raise(1);
    assert!(lab.begin(Version::Two));
    lab.commit();
    assert!(lab.begin(Version::One));
}

#[test]
fn versions_follow_the_finalised_feature() {
    for (level, version) in [
        (None, Version::One),
        (Some(0), Version::One),
        (Some(1), Version::One),
        (Some(2), Version::Two),
        (Some(3), Version::Two),
    ] {
        assert_eq!(Version::of_feature(level), version, "{level:?}");
    }
}

#[test]
fn a_producer_that_was_held_up_by_the_completion_of_its_last_transaction_rests_before_the_next() {
    let mut lab = Lab::ready(Version::Two);
    for (producer_epoch, took, is_ready) in [(1, 1, true), (2, 40, false), (3, 1, false)] {
        lab.machine.handle_sent(lab.now);
        lab.now += took * MS;
        lab.machine.handle_taken(lab.now);
        lab.commit();
        let response = EndTxnResponse { producer_id: 7, producer_epoch, ..Default::default() };
        lab.end_with(Fate::Commit, response);
        assert_eq!(lab.begin(Version::Two), is_ready, "the records took {took} ms");
        if !is_ready {
            lab.wait();
            assert!(lab.begin(Version::Two), "it has rested");
        }
    }
}
