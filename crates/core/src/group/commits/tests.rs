//! Commits and lookups on virtual time, against answers that the tests give. Names begin with the case of the reliability list
//! or the test of librdkafka that they are about.

mod keeping;
mod property;

use std::collections::BTreeMap;
use std::time::Duration;

use milena_messages::Message;
use milena_messages::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use milena_messages::offset_fetch::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use milena_wire::Writer;

use super::*;
use crate::Backoff;

const E: Epoch = Epoch(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(&Arc::from("orders"), partition)
}

fn answer(code: ErrorCode) -> Failure {
    Failure::answer(code, None)
}

fn silence() -> Failure {
    Failure::TimedOut { peer: "broker".into(), after: ms(30_000), sent: true }
}

fn member(generation: i32) -> MemberIdentity {
    MemberIdentity { member_id: "m".into(), generation_or_epoch: generation, instance_id: None }
}

fn settings(interval: Option<Duration>) -> Settings {
    Settings {
        group: "billing".into(),
        interval,
        is_before_delivery: false,
        keeps_finished: false,
        require_stable: true,
        request_timeout: ms(30_000),
        backoff: Backoff { min: ms(100), max: ms(1_000) },
    }
}

/// The machine, its clock, and what it said.
struct Rig {
    commits: Commits,
    now: Instant,
    settled: BTreeMap<Ticket, Result<(), NotCommitted>>,
    found: Vec<(TopicPartition, Result<Option<StoredOffset>, Failure>)>,
    rejoins: usize,
    fenced: usize,
    notices: Vec<Notice>,
}

impl Rig {
    fn with(settings: Settings) -> Self {
        let mut commits = Commits::new(settings, Rng::seeded(1));
        commits.handle_identity(Some(member(3)));
        commits.handle_coordinator(Ok(BrokerId(1)), Instant::ORIGIN);
        Self {
            commits,
            now: Instant::ORIGIN,
            settled: BTreeMap::new(),
            found: Vec::new(),
            rejoins: 0,
            fenced: 0,
            notices: Vec::new(),
        }
    }

    /// Commits by itself every second, two partitions from offset 0, which the group has stored.
    fn automatic() -> Self {
        let mut rig = Self::with(settings(Some(INTERVAL)));
        rig.assign(&[0, 1]);
        rig
    }

    fn manual() -> Self {
        let mut rig = Self::with(settings(None));
        rig.assign(&[0, 1]);
        rig
    }

    fn assign(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.commits.assign(&at(*partition), None, E, &StoredOffset::at(0), true, self.now);
        }
    }

    fn deliver(&mut self, partition: i32, offsets: Range<i64>) {
        assert!(self.commits.handle_delivered(&at(partition), E, offsets, Some(LeaderEpoch(7)), self.now));
    }

    fn done(&mut self, partition: i32, offsets: Range<i64>) {
        assert_eq!(self.commits.handle_done(&at(partition), E, offsets, self.now), Marked::New);
    }

    /// Delivers offsets and finishes them.
    fn work(&mut self, partition: i32, offsets: Range<i64>) {
        self.deliver(partition, offsets.clone());
        self.done(partition, offsets);
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.commits.handle_timeout(self.now);
        self.events();
    }

    fn events(&mut self) {
        while let Some(event) = self.commits.poll_event() {
            match event {
                Event::Settled(ticket, result) => {
                    assert!(self.settled.insert(ticket, result).is_none(), "{ticket:?} is settled twice");
                }
                Event::Found(partition, found) => self.found.push((partition, found)),
                Event::Rejoin { .. } => self.rejoins += 1,
                Event::Fenced(_) => self.fenced += 1,
            }
        }
        while let Some(notice) = self.commits.poll_notice() {
            self.notices.push(notice);
        }
    }

    fn request(&mut self) -> Option<Request> {
        let request = self.commits.poll_request(self.now);
        self.events();
        request
    }

    /// The commit that goes out now: offsets by partition.
    fn sent(&mut self) -> Option<Vec<(i32, i64)>> {
        match self.request() {
            Some(Request::Commit { request, .. }) => Some(offsets(&request)),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Waits until a request goes out, at most ten seconds, and answers how long that took.
    fn sent_later(&mut self) -> (Duration, Vec<(i32, i64)>) {
        let since = self.now;
        for _ in 0..100 {
            if self.commits.poll_coordinator_wanted(self.now) {
                self.commits.handle_coordinator(Ok(BrokerId(2)), self.now);
            }
            if let Some(sent) = self.sent() {
                return (self.now - since, sent);
            }
            let next = self.commits.poll_timeout().expect("something is to come");
            assert!(next > self.now, "the machine asks to be polled at once without end");
            self.pass(next - self.now);
        }
        panic!("nothing goes out");
    }

    fn take(&mut self, codes: &[(i32, ErrorCode)]) {
        let partitions = codes.iter().map(|(partition, code)| OffsetCommitResponsePartition {
            partition_index: *partition,
            error_code: *code,
            ..Default::default()
        });
        let topic = OffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.commits.handle_committed(&response, self.now);
        self.events();
    }

    fn lose(&mut self, kind: Kind) {
        self.commits.handle_lost(kind, &silence(), self.now);
        self.events();
    }

    fn commit(&mut self) -> Ticket {
        let ticket = self.commits.commit(self.now + ms(10_000), self.now);
        self.events();
        ticket
    }

    fn is_committed(&self, ticket: Ticket) -> bool {
        matches!(self.settled.get(&ticket), Some(Ok(())))
    }

    fn code(&self, ticket: Ticket) -> Option<ErrorCode> {
        self.settled.get(&ticket)?.as_ref().err()?.partitions[0].failure.code()
    }
}

fn offsets(request: &OffsetCommitRequest) -> Vec<(i32, i64)> {
    let all = request.topics.iter().flat_map(|topic| &topic.partitions);
    all.map(|of| (of.partition_index, of.committed_offset)).collect()
}

const OK: ErrorCode = ErrorCode::NONE;

#[test]
fn case_62_the_automatic_commit_takes_in_what_is_done_and_no_more() {
    let mut rig = Rig::automatic();
    rig.deliver(0, 0..10);
    rig.deliver(1, 0..10);
    rig.done(0, 0..4);
    rig.done(1, 5..10);
    rig.pass(ms(999));
    assert_eq!(rig.sent(), None);
    rig.done(0, 4..6);
    rig.pass(ms(1));
    assert_eq!(rig.sent(), Some(vec![(0, 6)]), "partition 1 has an unfinished record at its beginning");
    rig.take(&[(0, OK)]);
    rig.pass(ms(5_000));
    assert_eq!(rig.sent(), None, "nothing has changed");
    assert_eq!(rig.commits.poll_timeout(), None);
}

#[test]
fn case_62_progress_that_goes_on_is_committed_once_an_interval() {
    let mut rig = Rig::automatic();
    let mut commits = 0;
    for offset in 0..100 {
        rig.work(0, offset..offset + 1);
        rig.pass(ms(100));
        if rig.sent().is_some() {
            commits += 1;
            rig.take(&[(0, OK)]);
        }
    }
    assert!((9..=10).contains(&commits), "{commits} commits in ten seconds");
}

#[test]
fn case_63_what_was_done_before_a_seek_is_not_committed_after_it() {
    for (interval, expect) in [(Some(INTERVAL), None), (None, Some(vec![(0, 20)]))] {
        let mut rig = Rig::with(settings(interval));
        rig.assign(&[0]);
        rig.work(0, 0..50);
        let ticket = rig.commit();
        rig.sent();
        rig.take(&[(0, OK)]);
        assert!(rig.is_committed(ticket));
        rig.work(0, 50..60);
        let waits = rig.commit();
        // The commit of 60 has not gone out when the application goes back.
        rig.commits.seek(&at(0), Epoch(2), 20, rig.now);
        rig.events();
        assert!(rig.settled[&waits].is_err(), "its caller learns that 60 is not committed");
        assert_eq!(rig.commits.handle_done(&at(0), E, 0..60, rig.now), Marked::Stale);
        rig.pass(INTERVAL);
        rig.commit();
        // Automatic commits never go back. Without them it is the application's decision.
        assert_eq!(rig.sent(), expect);
    }
}

#[test]
fn case_63_a_seek_while_a_commit_is_in_flight_waits_for_its_answer() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..50);
    let ticket = rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 50)]));
    rig.commits.seek(&at(0), Epoch(2), 100, rig.now);
    rig.events();
    assert!(rig.settled.is_empty(), "the answer decides");
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), Some(vec![(0, 100)]));
}

#[test]
fn case_54_a_reset_may_move_the_committed_offset_back() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..50);
    rig.commit();
    rig.sent();
    rig.take(&[(0, OK)]);
    // The log was truncated: 50 does not exist any more.
    rig.commits.reset(&at(0), Epoch(2), 30, rig.now);
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), Some(vec![(0, 30)]));
}

#[test]
fn case_64_a_commit_that_is_made_again_has_the_newest_offsets() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let first = rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 10)]));
    rig.work(0, 10..20);
    let second = rig.commit();
    assert_eq!(rig.sent(), None, "one commit is in flight");
    rig.lose(Kind::Commit);
    let (after, sent) = rig.sent_later();
    assert_eq!(sent, [(0, 20)]);
    assert!(after >= ms(80), "{after:?}");
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(first) && rig.is_committed(second));
    rig.pass(ms(5_000));
    assert_eq!(rig.sent(), None);
}

#[test]
fn case_64_progress_since_the_lost_attempt_goes_with_the_next_one() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let ticket = rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 10)]));
    rig.work(0, 10..20);
    rig.lose(Kind::Commit);
    let (_, sent) = rig.sent_later();
    assert_eq!(sent, [(0, 20)]);
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.pass(ms(5_000));
    assert_eq!(rig.sent(), None);
}

#[test]
fn a_topic_that_was_made_again_begins_below_what_was_stored() {
    let (old, new) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
    let mut rig = Rig::with(settings(Some(INTERVAL)));
    rig.commits.assign(&at(0), Some(old), E, &StoredOffset::at(0), true, rig.now);
    rig.work(0, 0..50);
    rig.commit();
    rig.sent();
    rig.commits.set_topic_id(&at(0), new);
    rig.commits.reset(&at(0), Epoch(2), 0, rig.now);
    let topic = OffsetCommitResponseTopic {
        topic_id: old,
        partitions: vec![OffsetCommitResponsePartition::default()],
        ..Default::default()
    };
    let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
    rig.commits.handle_committed(&response, rig.now);
    assert_eq!(rig.commits.stored(&at(0)), None, "50 is an offset of the topic that is gone");
    assert!(rig.commits.handle_delivered(&at(0), Epoch(2), 0..3, None, rig.now));
    rig.commits.handle_done(&at(0), Epoch(2), 0..3, rig.now);
    rig.commit();
    let Some(Request::Commit { request, .. }) = rig.request() else { panic!("a commit") };
    assert_eq!((offsets(&request), request.topics[0].topic_id), (vec![(0, 3)], new));
}

#[test]
fn offsets_of_a_topic_that_is_gone_are_not_committed_to_the_one_that_took_its_name() {
    let (old, new) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
    let mut rig = Rig::with(settings(Some(INTERVAL)));
    rig.commits.assign(&at(0), Some(old), E, &StoredOffset::at(0), true, rig.now);
    rig.work(0, 0..50);
    let due = rig.commit();
    rig.commits.set_topic_id(&at(0), new);
    rig.events();
    assert!(rig.settled[&due].is_err(), "it will never be committed");
    // Before it is known where the new topic begins, the old one's records may still come in and be marked.
    rig.work(0, 50..60);
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), None);
    let never = rig.commit();
    assert_eq!(rig.sent(), None);
    let error = rig.settled[&never].as_ref().expect_err("offset 60 is not committed").to_string();
    assert!(error.contains("offset 60 of orders-0: the topic was deleted"), "{error}");
    rig.commits.reset(&at(0), Epoch(2), 0, rig.now);
    assert!(rig.commits.handle_delivered(&at(0), Epoch(2), 0..3, None, rig.now));
    rig.commits.handle_done(&at(0), Epoch(2), 0..3, rig.now);
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), Some(vec![(0, 3)]));
    // While a commit of these was in flight, the topic was made once more.
    rig.commits.set_topic_id(&at(0), old);
    rig.commit();
    rig.take(&[(0, OK)]);
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), None);
}

#[test]
fn what_is_done_after_its_partition_was_given_up_is_told_by_the_next_commit() {
    let mut rig = Rig::automatic();
    rig.commits.give_up(&at(0), &Failure::Ended("revoked"));
    rig.commits.handle_done_too_late(&at(0), 10);
    let ticket = rig.commit();
    let error = rig.settled[&ticket].as_ref().expect_err("offset 10 is not committed").to_string();
    assert!(error.contains("offset 10 of orders-0: its partition was given up"), "{error}");
    // Another member has done as much meanwhile.
    rig.commits.assign(&at(0), None, E, &StoredOffset::at(10), true, rig.now);
    rig.commits.handle_done_too_late(&at(0), 10);
    let ticket = rig.commit();
    assert!(rig.is_committed(ticket));
}

#[test]
fn what_was_done_of_a_partition_that_is_gone_is_told_by_the_next_commit() {
    let why = || Failure::Ended("the coordinator removed the member");
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.work(1, 0..20);
    rig.pass(INTERVAL);
    rig.sent();
    rig.take(&[(0, OK), (1, OK)]);
    rig.work(1, 20..30);
    rig.deliver(0, 10..15);
    rig.commits.give_up(&at(0), &why());
    rig.commits.give_up(&at(1), &why());
    let first = rig.commit();
    let error = rig.settled[&first].as_ref().expect_err("offset 30 is not committed");
    assert_eq!(error.partitions.len(), 1, "of partition 0 all that was done is committed");
    assert_eq!((error.partitions[0].partition.clone(), error.partitions[0].offset), (at(1), 30));
    let second = rig.commit();
    assert!(rig.is_committed(second), "it is told once");
    // Once the group has stored as much, there is nothing to tell.
    rig.assign(&[1]);
    rig.work(1, 0..30);
    rig.commits.give_up(&at(1), &why());
    rig.commits.assign(&at(1), None, E, &StoredOffset::at(30), true, rig.now);
    let third = rig.commit();
    assert!(rig.is_committed(third));
}

#[test]
fn a_commit_in_flight_of_a_partition_that_is_gone_is_told_if_it_is_refused() {
    for (code, is_told) in [(OK, false), (ErrorCode::UNKNOWN_MEMBER_ID, true)] {
        for is_asked in [false, true] {
            let mut rig = Rig::automatic();
            rig.work(0, 0..10);
            let asked = is_asked.then(|| rig.commit());
            rig.pass(INTERVAL);
            rig.sent();
            rig.commits.give_up(&at(0), &Failure::Ended("revoked"));
            rig.take(&[(0, code)]);
            assert!(asked.is_none_or(|asked| rig.settled[&asked].is_err() == is_told));
            let next = rig.commit();
            assert_eq!(rig.is_committed(next), is_asked || !is_told, "{code}, {is_asked}: it is told once");
        }
    }
}

#[test]
fn an_application_that_commits_offsets_of_its_own_need_not_mark_what_is_before_them() {
    let mut rig = Rig::manual();
    rig.deliver(0, 0..10);
    let given = rig.commits.commit_offsets([(at(0), StoredOffset::at(7))], rig.now + ms(10_000), rig.now);
    rig.sent();
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(given));
    assert_eq!(rig.commits.ledger(&at(0)).map(|ledger| ledger.committable().offset), Some(7));
    rig.done(0, 7..10);
    rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 10)]));
}

#[test]
fn waiting_for_a_commit_can_be_given_up_before_its_deadline() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let ticket = rig.commits.release(&[at(0)], rig.now + ms(60_000), rig.now);
    rig.sent();
    rig.now += ms(5_000);
    rig.commits.stop_waiting(ticket, rig.now);
    rig.events();
    let error = rig.settled[&ticket].as_ref().expect_err("no answer");
    assert_eq!(error.partitions[0].offset, 10);
    assert!(error.partitions[0].may_be_stored);
    assert!(error.to_string().contains("5s"), "{error}");
}

#[test]
fn a_throttle_holds_the_next_request_back() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.commit();
    rig.sent();
    let topic = OffsetCommitResponseTopic {
        name: "orders".into(),
        partitions: vec![OffsetCommitResponsePartition::default()],
        ..Default::default()
    };
    let response = OffsetCommitResponse { throttle_time_ms: 700, topics: vec![topic], ..Default::default() };
    rig.commits.handle_committed(&response, rig.now);
    rig.work(0, 10..20);
    rig.commit();
    assert_eq!(rig.sent(), None);
    assert_eq!(rig.sent_later(), (ms(700), vec![(0, 20)]));
}

#[test]
fn case_64_later_commits_share_the_next_request() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let first = rig.commit();
    rig.sent();
    let tickets: Vec<_> = (1..=5)
        .map(|step| {
            rig.work(0, step * 10..step * 10 + 10);
            rig.commit()
        })
        .collect();
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(first) && rig.settled.len() == 1);
    assert_eq!(rig.sent(), Some(vec![(0, 60)]));
    rig.take(&[(0, OK)]);
    assert!(tickets.iter().all(|ticket| rig.is_committed(*ticket)));
}

#[test]
fn a_commit_of_what_is_in_flight_or_stored_makes_no_request() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let first = rig.commit();
    rig.sent();
    let same = rig.commit();
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(first) && rig.is_committed(same));
    assert_eq!(rig.sent(), None);
    let nothing = rig.commit();
    assert!(rig.is_committed(nothing));
    assert_eq!(rig.sent(), None);
}

#[test]
fn case_65_what_is_done_is_committed_before_partitions_are_given_up() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.work(1, 0..10);
    let ticket = rig.commits.release(&[at(0)], rig.now + ms(3_000), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 10)]), "it does not wait for the interval");
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.commits.give_up(&at(0), &Failure::Ended("revoked"));
    assert_eq!(rig.commits.handle_done(&at(0), E, 0..10, rig.now), Marked::Stale);
    rig.pass(INTERVAL);
    assert_eq!(rig.sent(), Some(vec![(1, 10)]), "the kept one goes on");
}

#[test]
fn case_98_a_release_and_a_close_end_by_their_deadline_without_a_coordinator() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let release = rig.commits.release(&[at(0)], rig.now + ms(3_000), rig.now);
    rig.sent();
    rig.lose(Kind::Commit);
    let close = rig.commits.close(rig.now + ms(5_000), rig.now);
    rig.pass(ms(3_000));
    let error = rig.settled[&release].as_ref().expect_err("not committed");
    assert!(error.partitions[0].failure.may_have_acted(), "the request went out");
    assert_eq!(error.partitions[0].offset, 10);
    rig.pass(ms(2_000));
    assert!(rig.settled[&close].is_err());
}

#[test]
fn case_65_a_release_without_automatic_commits_waits_for_those_of_the_application() {
    let mut rig = Rig::manual();
    rig.work(0, 0..10);
    let nothing = rig.commits.release(&[at(0)], rig.now + ms(3_000), rig.now);
    rig.events();
    assert!(rig.is_committed(nothing));
    assert_eq!(rig.sent(), None);
    let own = rig.commits.commit_offsets([(at(0), StoredOffset::at(5))], rig.now + ms(3_000), rig.now);
    let release = rig.commits.release(&[at(0)], rig.now + ms(3_000), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 5)]));
    assert!(!rig.settled.contains_key(&release));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(own) && rig.is_committed(release));
}

#[test]
fn case_67_a_commit_during_a_rebalance_is_made_again() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let ticket = rig.commit();
    rig.sent();
    rig.take(&[(0, ErrorCode::REBALANCE_IN_PROGRESS)]);
    assert!(rig.settled.is_empty() && rig.rejoins == 0);
    assert_eq!(rig.sent(), None, "not at once");
    // The group is balanced, and the member has a new generation: now at once.
    rig.commits.handle_identity(Some(member(4)));
    match rig.request() {
        Some(Request::Commit { request, .. }) => assert_eq!(request.generation_id_or_member_epoch, 4),
        other => panic!("{other:?}"),
    }
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
}

#[test]
fn case_67_a_member_that_the_group_does_not_know_joins_again_and_is_no_zombie() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::GROUP_ID_NOT_FOUND]
    {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = rig.commit();
        rig.sent();
        rig.take(&[(0, code)]);
        assert_eq!((rig.rejoins, rig.code(ticket)), (1, Some(code)));
        let error = rig.settled[&ticket].as_ref().expect_err("refused").to_string();
        let expect = format!("group billing has not committed offset 10 of orders-0: {}", code.name());
        assert!(error.starts_with(&expect), "{error}");
        for _ in 0..5 {
            rig.pass(INTERVAL);
            assert_eq!(rig.sent(), None, "it has no identity");
        }
        // The member is back and has kept the partition.
        rig.commits.handle_identity(Some(member(5)));
        assert_eq!(rig.sent(), Some(vec![(0, 10)]));
    }
}

/// JoinGroup has a connection of its own, so a commit may be refused before the answer that brings the next generation is here.
#[test]
fn a_commit_of_a_generation_that_is_over_waits_for_the_next_one_or_for_the_loss_of_its_partition() {
    for is_lost in [false, true] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = rig.commits.release(&[at(0)], rig.now + ms(9_000), rig.now);
        rig.sent();
        rig.take(&[(0, ErrorCode::ILLEGAL_GENERATION)]);
        assert_eq!((rig.rejoins, rig.settled.len()), (1, 0));
        rig.pass(INTERVAL);
        assert_eq!(rig.sent(), None, "it has no identity");
        if is_lost {
            rig.commits.give_up(&at(0), &Failure::answer(ErrorCode::ILLEGAL_GENERATION, None));
            rig.events();
            assert_eq!(rig.code(ticket), Some(ErrorCode::ILLEGAL_GENERATION));
        } else {
            rig.commits.handle_identity(Some(member(4)));
            assert_eq!(rig.sent(), Some(vec![(0, 10)]));
            rig.take(&[(0, OK)]);
            assert!(rig.is_committed(ticket));
        }
    }
}

#[test]
fn case_67_a_stale_answer_after_the_member_has_joined_again_is_no_reason_to_join() {
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = rig.commit();
        rig.sent();
        rig.commits.handle_identity(Some(member(4)));
        rig.take(&[(0, code)]);
        assert_eq!((rig.rejoins, rig.fenced), (0, 0));
        assert_eq!(rig.sent(), Some(vec![(0, 10)]), "at once, as what it is now");
        rig.take(&[(0, OK)]);
        assert!(rig.is_committed(ticket));
    }
}

#[test]
fn case_69_a_fenced_static_member_commits_nothing_more() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    let first = rig.commit();
    rig.sent();
    rig.take(&[(0, ErrorCode::FENCED_INSTANCE_ID)]);
    assert_eq!((rig.fenced, rig.code(first)), (1, Some(ErrorCode::FENCED_INSTANCE_ID)));
    rig.work(0, 10..20);
    let second = rig.commit();
    assert_eq!(rig.code(second), Some(ErrorCode::FENCED_INSTANCE_ID));
    rig.commits.look_up(at(7), None);
    rig.pass(ms(60_000));
    assert_eq!(rig.sent(), None);
    assert_eq!(rig.found.len(), 1);
    assert!(!rig.commits.poll_coordinator_wanted(rig.now));
    assert_eq!(rig.commits.poll_timeout(), None);
}

#[test]
fn case_70_and_0148_a_stale_member_epoch_waits_for_the_newer_one() {
    for is_asked in [true, false] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = is_asked.then(|| rig.commit());
        rig.pass(INTERVAL);
        rig.sent();
        rig.take(&[(0, ErrorCode::STALE_MEMBER_EPOCH)]);
        assert!(rig.settled.is_empty() && rig.rejoins == 0);
        rig.commits.handle_identity(Some(member(4)));
        assert_eq!(rig.sent(), Some(vec![(0, 10)]));
        rig.take(&[(0, OK)]);
        assert!(ticket.is_none_or(|ticket| rig.is_committed(ticket)));
    }
}

#[test]
fn case_72_commits_of_lost_partitions_fail_and_say_why() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.work(1, 0..20);
    let in_flight = rig.commits.release(&[at(0)], rig.now + ms(9_000), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 10)]));
    let due = rig.commit();
    rig.commits.handle_identity(None);
    let why = Failure::Ended("the member left its group: no batch was taken for 5 minutes");
    rig.commits.give_up(&at(0), &why);
    rig.commits.give_up(&at(1), &why);
    rig.events();
    assert!(rig.settled.is_empty(), "partition 0 is in flight, and the answer decides");
    rig.take(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]);
    let error = rig.settled[&due].as_ref().expect_err("lost");
    let text = error.to_string();
    assert!(text.contains("offset 20 of orders-1: the member left"), "{text}");
    assert!(rig.settled[&in_flight].is_err());
    let never = rig.commits.commit_offsets([(at(0), StoredOffset::at(9))], rig.now, rig.now);
    rig.events();
    assert!(rig.settled[&never].is_err(), "it is not assigned any more");
}

#[test]
fn an_error_says_whether_the_offset_may_be_stored_all_the_same() {
    for (is_lost, may_be_stored) in [(true, true), (false, false)] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = rig.commit();
        rig.sent();
        if is_lost {
            rig.lose(Kind::Commit);
            rig.sent_later();
        }
        rig.take(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]);
        let error = rig.settled[&ticket].as_ref().expect_err("refused");
        assert_eq!(error.partitions[0].may_be_stored, may_be_stored);
        assert_eq!(error.to_string().ends_with("(it may be stored all the same)"), may_be_stored);
    }
}

#[test]
fn case_63_a_commit_that_may_be_stored_is_made_sure_of_before_a_lower_one() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..50);
    let ticket = rig.commit();
    rig.sent();
    rig.lose(Kind::Commit);
    // The coordinator may have 50, and a commit of 21 would move it back.
    rig.commits.seek(&at(0), Epoch(2), 20, rig.now);
    assert!(rig.commits.handle_delivered(&at(0), Epoch(2), 20..21, None, rig.now));
    rig.commits.handle_done(&at(0), Epoch(2), 20..21, rig.now);
    let (_, sent) = rig.sent_later();
    assert_eq!(sent, [(0, 50)]);
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.pass(ms(5_000));
    assert_eq!(rig.sent(), None);
}

#[test]
fn case_74_the_coordinator_is_looked_up_again_when_it_moved_and_when_it_was_silent() {
    for code in [
        Some(ErrorCode::NOT_COORDINATOR),
        Some(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        Some(ErrorCode::REQUEST_TIMED_OUT),
        None,
    ] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        let ticket = rig.commit();
        rig.sent();
        match code {
            Some(code) => rig.take(&[(0, code)]),
            None => rig.lose(Kind::Commit),
        }
        assert!(
            rig.commits.poll_coordinator_wanted(rig.now) && !rig.commits.poll_coordinator_wanted(rig.now)
        );
        rig.pass(ms(2_000));
        assert_eq!(rig.sent(), None, "there is no coordinator");
        rig.commits.handle_coordinator(Err(answer(ErrorCode::COORDINATOR_NOT_AVAILABLE)), rig.now);
        assert!(!rig.commits.poll_coordinator_wanted(rig.now), "not at once");
        let (_, sent) = rig.sent_later();
        assert_eq!(sent, [(0, 10)]);
        rig.take(&[(0, OK)]);
        assert!(rig.is_committed(ticket));
    }
}

#[test]
fn case_0143_attempts_to_commit_back_off() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.commits.commit(rig.now + ms(60_000), rig.now);
    rig.sent();
    let mut waits = Vec::new();
    for _ in 0..6 {
        rig.take(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]);
        waits.push(rig.sent_later().0.as_millis());
    }
    for (wait, expect) in waits.iter().zip([100, 200, 400, 800, 1_000, 1_000]) {
        assert!((expect * 8 / 10..=expect * 12 / 10).contains(wait), "{waits:?}");
    }
    assert!(!rig.notices.is_empty(), "people hear of it");
}

#[test]
fn one_partition_that_is_refused_holds_up_no_other() {
    for code in [
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::OFFSET_METADATA_TOO_LARGE,
        ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
    ] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        rig.work(1, 0..20);
        let ticket = rig.commit();
        rig.sent();
        rig.take(&[(0, OK), (1, code)]);
        let error = rig.settled[&ticket].as_ref().expect_err("refused");
        assert_eq!(error.partitions.len(), 1);
        assert_eq!((error.partitions[0].partition.clone(), error.partitions[0].offset), (at(1), 20));
        assert_eq!(rig.commits.stored(&at(0)), Some(10));
        rig.work(0, 10..11);
        rig.pass(INTERVAL);
        assert_eq!(rig.sent(), Some(vec![(0, 11)]), "the same offset is not refused every second");
        rig.take(&[(0, OK)]);
        let again = rig.commit();
        assert_eq!(rig.sent(), Some(vec![(1, 20)]), "a call tries again");
        rig.take(&[(1, OK)]);
        assert!(rig.is_committed(again));
    }
}

#[test]
fn an_unknown_topic_is_tried_again_alone() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.work(1, 0..20);
    let ticket = rig.commit();
    rig.sent();
    rig.take(&[(0, OK), (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    rig.work(0, 10..11);
    let kept = rig.commits.release(&[at(0)], rig.now + ms(500), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 11)]), "it does not wait for the other's backoff");
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(kept));
    let (_, sent) = rig.sent_later();
    assert_eq!(sent, [(1, 20)]);
    rig.take(&[(1, OK)]);
    assert!(rig.is_committed(ticket));
}

#[test]
fn a_deleted_topic_holds_up_no_rebalance_and_no_close() {
    for closes in [false, true] {
        let mut rig = Rig::automatic();
        rig.work(0, 0..10);
        rig.work(1, 0..20);
        let deadline = rig.now + ms(300_000);
        let ticket = match closes {
            true => rig.commits.close(deadline, rig.now),
            false => rig.commits.release(&[at(0), at(1)], deadline, rig.now),
        };
        assert_eq!(rig.sent(), Some(vec![(0, 10), (1, 20)]));
        rig.take(&[(0, OK), (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
        let since = rig.now;
        while !rig.settled.contains_key(&ticket) {
            let (_, sent) = rig.sent_later();
            assert_eq!(sent, [(1, 20)], "a topic may be missing for a moment");
            rig.take(&[(1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
        }
        assert_eq!(rig.code(ticket), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let waited = rig.now - since;
        assert!((ms(1000)..ms(5000)).contains(&waited), "{waited:?}");
    }
}

#[test]
fn an_answer_that_leaves_a_partition_out_commits_nothing_of_it() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.work(1, 0..20);
    let ticket = rig.commit();
    rig.sent();
    rig.take(&[(0, OK)]);
    let (_, sent) = rig.sent_later();
    assert_eq!(sent, [(1, 20)]);
    rig.take(&[]);
    rig.sent_later();
    rig.take(&[]);
    let error = rig.settled[&ticket].as_ref().expect_err("unknown");
    assert!(matches!(error.partitions[0].failure, Failure::Malformed { .. }), "{error}");
    assert_eq!(rig.commits.stored(&at(1)), Some(0));
}

#[test]
fn case_0030_offsets_that_the_application_gives_go_out_with_epoch_and_text() {
    let mut rig = Rig::manual();
    rig.work(0, 0..10);
    rig.pass(ms(10_000));
    assert_eq!(rig.sent(), None, "nothing goes out by itself");
    let what =
        StoredOffset { offset: 4, leader_epoch: Some(LeaderEpoch(2)), metadata: Some("batch 9".into()) };
    let ticket = rig.commits.commit_offsets([(at(0), what)], rig.now + ms(1_000), rig.now);
    let Some(Request::Commit { request, .. }) = rig.request() else { panic!("a commit") };
    let of = &request.topics[0].partitions[0];
    assert_eq!((of.committed_offset, of.committed_leader_epoch), (4, 2));
    assert_eq!(of.committed_metadata.as_deref(), Some("batch 9"));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    // An earlier offset is committed as well, because the application says so. Of two that wait, the later one counts.
    let first = rig.commits.commit_offsets([(at(0), StoredOffset::at(3))], rig.now + ms(1_000), rig.now);
    let second = rig.commits.commit_offsets([(at(0), StoredOffset::at(2))], rig.now + ms(1_000), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 2)]));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(first) && rig.is_committed(second));
    // And then what is done.
    rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 10)]));
}

#[test]
fn case_63_going_back_to_the_stored_offset_is_committed_though_a_higher_one_may_be_stored() {
    for is_lost in [true, false] {
        let mut rig = Rig::manual();
        rig.work(0, 0..20);
        rig.commit();
        assert_eq!(rig.sent(), Some(vec![(0, 20)]));
        if is_lost {
            rig.lose(Kind::Commit);
        }
        rig.commits.seek(&at(0), Epoch(2), 0, rig.now);
        let ticket = rig.commit();
        if !is_lost {
            rig.take(&[(0, OK)]);
        }
        assert!(!rig.settled.contains_key(&ticket), "0 was stored before, and 20 may be now");
        assert_eq!(rig.sent_later().1, [(0, 0)]);
        rig.take(&[(0, OK)]);
        assert!(rig.is_committed(ticket));
    }
}

#[test]
fn a_manual_commit_that_failed_is_not_made_later() {
    let mut rig = Rig::manual();
    rig.work(0, 0..10);
    let ticket = rig.commits.commit(rig.now + ms(50), rig.now);
    rig.sent();
    rig.take(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]);
    rig.pass(ms(50));
    assert_eq!(rig.code(ticket), Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), "the error says why");
    rig.pass(ms(5_000));
    assert_eq!(rig.sent(), None);
    assert_eq!(rig.commits.poll_timeout(), None);
}

#[test]
fn at_most_once_commits_before_delivery() {
    let mut rig = Rig::with(Settings { is_before_delivery: true, ..settings(Some(INTERVAL)) });
    rig.assign(&[0]);
    rig.deliver(0, 0..10);
    rig.deliver(0, 10..20);
    let ticket = rig.commit();
    assert_eq!(rig.commits.stored(&at(0)), Some(0), "neither batch may be handed out");
    assert_eq!(rig.sent(), Some(vec![(0, 20)]));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket) && rig.commits.stored(&at(0)) == Some(20));
}

#[test]
fn at_most_once_what_was_not_handed_out_is_taken_back_before_the_partition_is_released() {
    // What happens to the commit of the batch that is not handed out.
    #[derive(Debug)]
    enum Second {
        Waits,
        Answered,
        InFlight,
        Lost,
        LostLater,
    }
    use Second::{Answered, InFlight, Lost, LostLater, Waits};
    for second in [Waits, Answered, InFlight, Lost, LostLater] {
        let mut rig = Rig::with(Settings { is_before_delivery: true, ..settings(Some(INTERVAL)) });
        rig.assign(&[0]);
        rig.deliver(0, 0..10);
        rig.commit();
        assert_eq!(rig.sent(), Some(vec![(0, 10)]));
        rig.take(&[(0, OK)]);
        rig.deliver(0, 10..20);
        let waits = rig.commit();
        if !matches!(second, Waits) {
            assert_eq!(rig.sent(), Some(vec![(0, 20)]));
        }
        match second {
            Answered => rig.take(&[(0, OK)]),
            Lost => rig.lose(Kind::Commit),
            Waits | InFlight | LostLater => {}
        }
        rig.commits.take_back(&at(0), Epoch(2), 10, rig.now);
        let ticket = rig.commits.release(&[at(0)], rig.now + ms(5_000), rig.now);
        rig.events();
        match second {
            InFlight => {
                assert!(!rig.settled.contains_key(&ticket), "20 may be stored after 10");
                rig.take(&[(0, OK)]);
            }
            LostLater => rig.lose(Kind::Commit),
            Waits | Answered | Lost => {}
        }
        if !matches!(second, Waits) {
            assert_eq!(rig.sent_later().1, [(0, 10)], "{second:?}");
            assert!(!rig.settled.contains_key(&ticket), "{second:?}");
            rig.take(&[(0, OK)]);
        }
        assert!(
            rig.is_committed(ticket) && rig.settled.contains_key(&waits),
            "{second:?}: {:?}",
            rig.settled
        );
        assert_eq!(rig.sent(), None, "{second:?}");
    }
    let mut rig = Rig::with(Settings { is_before_delivery: true, ..settings(Some(INTERVAL)) });
    rig.assign(&[0]);
    rig.deliver(0, 0..10);
    rig.commits.take_back(&at(0), Epoch(2), 10, rig.now);
    rig.commits.release(&[at(0)], rig.now + ms(5_000), rig.now);
    assert_eq!(rig.sent(), Some(vec![(0, 10)]), "all of it was handed out");
}

#[test]
fn at_most_once_what_a_rebalance_refuses_is_committed_once_the_member_is_back() {
    for (code, is_told, is_refused) in [
        // The answer to JoinGroup may be on its way.
        (ErrorCode::ILLEGAL_GENERATION, false, false),
        (ErrorCode::UNKNOWN_MEMBER_ID, true, false),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, true, true),
    ] {
        let mut rig = Rig::with(Settings { is_before_delivery: true, ..settings(Some(INTERVAL)) });
        rig.assign(&[0]);
        rig.deliver(0, 0..10);
        let ticket = rig.commit();
        rig.sent();
        rig.take(&[(0, code)]);
        rig.events();
        assert_eq!(rig.settled.contains_key(&ticket), is_told, "{code:?}: {:?}", rig.settled);
        assert_eq!(rig.commits.is_refused(&at(0)), is_refused, "{code:?}");
        if !is_refused {
            rig.commits.handle_identity(Some(member(4)));
            assert_eq!(rig.sent_later().1, [(0, 10)], "{code:?}");
            rig.take(&[(0, OK)]);
            assert_eq!(rig.commits.stored(&at(0)), Some(10));
        }
    }
}

#[test]
fn by_hand_a_seek_is_committed_although_the_answer_to_what_was_done_before_is_lost() {
    let mut rig = Rig::with(settings(None));
    rig.assign(&[0]);
    rig.work(0, 0..20);
    rig.commit();
    rig.sent();
    rig.take(&[(0, OK)]);
    rig.work(0, 20..50);
    rig.commit();
    assert_eq!(rig.sent(), Some(vec![(0, 50)]));
    rig.commits.seek(&at(0), Epoch(2), 20, rig.now);
    rig.lose(Kind::Commit);
    let ticket = rig.commit();
    assert_eq!(rig.sent_later().1, [(0, 20)], "50 may be stored");
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
}

#[test]
fn case_0139_the_leader_epoch_of_the_last_record_goes_with_the_offset() {
    let mut rig = Rig::automatic();
    rig.work(0, 0..10);
    rig.commits.handle_passed(&at(0), E, 12, rig.now);
    rig.commit();
    let Some(Request::Commit { request, .. }) = rig.request() else { panic!("a commit") };
    let of = &request.topics[0].partitions[0];
    assert_eq!((of.committed_offset, of.committed_leader_epoch), (12, 7));
}

#[test]
fn every_version_can_carry_the_requests() {
    let id = Uuid::from_bytes([7; 16]);
    for (topic_id, newest) in [(None, 9), (Some(id), 10)] {
        let mut rig = Rig::with(settings(Some(INTERVAL)));
        rig.commits.assign(&at(0), topic_id, E, &StoredOffset::at(0), true, rig.now);
        rig.work(0, 0..10);
        rig.commit();
        rig.commits.look_up(at(5), topic_id);
        let Some(Request::Commit { request, version_max, .. }) = rig.request() else { panic!("a commit") };
        assert_eq!(version_max.min(10), newest);
        let mut encoded = |version| request.encode(&mut Writer::new(), version).expect("it can be written");
        (2..=newest).for_each(&mut encoded);
        let Some(Request::Lookup { lookup, version_max, .. }) = rig.request() else { panic!("a lookup") };
        assert_eq!(version_max.min(10), newest);
        for version in 1..=newest {
            let request = lookup.request(version);
            request.encode(&mut Writer::new(), version).expect("it can be written");
            assert_eq!(request.require_stable, version >= 7);
        }
        // An answer of v10 names the topic by its id.
        let partition = OffsetCommitResponsePartition::default();
        let topic = OffsetCommitResponseTopic {
            topic_id: topic_id.unwrap_or(Uuid::ZERO),
            name: if topic_id.is_some() { "".into() } else { "orders".into() },
            partitions: vec![partition],
            ..Default::default()
        };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        rig.commits.handle_committed(&response, rig.now);
        assert_eq!(rig.commits.stored(&at(0)), Some(10));
    }
}

// Lookups.

/// What the coordinator answers of one partition: the offset or -1, its leader epoch or -1, and a code.
type Stored = (i32, i64, i32, ErrorCode);

fn old_answer(of: &[Stored]) -> OffsetFetchResponse {
    let partitions = of.iter().map(|(partition, offset, epoch, code)| OffsetFetchResponsePartition {
        partition_index: *partition,
        committed_offset: *offset,
        committed_leader_epoch: *epoch,
        error_code: *code,
        ..Default::default()
    });
    let topic = OffsetFetchResponseTopic {
        name: "orders".into(),
        partitions: partitions.collect(),
        ..Default::default()
    };
    OffsetFetchResponse { topics: vec![topic], ..Default::default() }
}

fn new_answer(code: ErrorCode, id: Option<Uuid>, of: &[Stored]) -> OffsetFetchResponse {
    let partitions = of.iter().map(|(partition, offset, epoch, code)| OffsetFetchResponsePartitions {
        partition_index: *partition,
        committed_offset: *offset,
        committed_leader_epoch: *epoch,
        error_code: *code,
        ..Default::default()
    });
    let topic = OffsetFetchResponseTopics {
        name: if id.is_some() { "".into() } else { "orders".into() },
        topic_id: id.unwrap_or(Uuid::ZERO),
        partitions: partitions.collect(),
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup {
        group_id: "billing".into(),
        topics: vec![topic],
        error_code: code,
        ..Default::default()
    };
    OffsetFetchResponse { groups: vec![group], ..Default::default() }
}

impl Rig {
    /// Lookups of partitions 0 and 1 are in flight.
    fn looking_up(id: Option<Uuid>) -> Self {
        let mut rig = Self::with(settings(Some(INTERVAL)));
        rig.commits.look_up(at(0), id);
        rig.commits.look_up(at(1), id);
        assert!(rig.asks());
        rig
    }

    fn asks(&mut self) -> bool {
        matches!(self.request(), Some(Request::Lookup { .. }))
    }

    fn asks_later(&mut self) {
        for _ in 0..10 {
            if self.commits.poll_coordinator_wanted(self.now) {
                self.commits.handle_coordinator(Ok(BrokerId(2)), self.now);
            }
            if self.asks() {
                return;
            }
            let next = self.commits.poll_timeout().expect("something is to come");
            self.pass(next - self.now);
        }
        panic!("nothing is asked");
    }

    fn hear(&mut self, response: &OffsetFetchResponse) {
        self.commits.handle_offsets(response, self.now);
        self.events();
    }

    /// The offsets that were found: none, or -1 if the group has none.
    fn offsets(&self) -> Vec<(i32, i64)> {
        let offset = |found: &Result<Option<StoredOffset>, Failure>| match found {
            Ok(stored) => stored.as_ref().map_or(-1, |stored| stored.offset),
            Err(failure) => panic!("{failure}"),
        };
        self.found.iter().map(|(of, found)| (of.partition, offset(found))).collect()
    }
}

#[test]
fn positions_are_what_the_group_has_stored_or_the_reset_policy_decides() {
    let id = Uuid::from_bytes([7; 16]);
    let stored = [(0, 42, 3, OK), (1, -1, -1, OK)];
    for (id, response) in [
        (None, old_answer(&stored)),
        (None, new_answer(OK, None, &stored)),
        (Some(id), new_answer(OK, Some(id), &stored)),
    ] {
        let mut rig = Rig::looking_up(id);
        rig.hear(&response);
        assert_eq!(rig.offsets(), [(0, 42), (1, -1)]);
        let Ok(Some(of)) = &rig.found[0].1 else { panic!("found") };
        assert_eq!(of.leader_epoch, Some(LeaderEpoch(3)), "KIP-320: reading goes on with it");
        rig.pass(ms(10_000));
        assert!(!rig.asks());
    }
}

#[test]
fn case_39_an_unstable_offset_is_waited_for_and_never_read_as_none() {
    let mut rig = Rig::looking_up(None);
    for _ in 0..5 {
        rig.hear(&new_answer(OK, None, &[(0, -1, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT)]));
        assert!(rig.found.is_empty() || rig.found.len() == 1 && rig.found[0].0 == at(1), "{:?}", rig.found);
        assert!(!rig.asks(), "not at once");
        rig.asks_later();
    }
    rig.hear(&new_answer(OK, None, &[(0, 9, -1, OK), (1, 8, -1, OK)]));
    assert!(
        rig.found.iter().any(|(of, found)| *of == at(0) && matches!(found, Ok(Some(of)) if of.offset == 9))
    );
}

#[test]
fn case_75_an_omitted_partition_or_a_code_of_the_group_is_not_no_offset() {
    // Omitted once.
    let mut rig = Rig::looking_up(None);
    rig.hear(&new_answer(OK, None, &[(0, 5, -1, OK)]));
    assert_eq!(rig.offsets(), [(0, 5)]);
    rig.asks_later();
    rig.hear(&new_answer(OK, None, &[(1, 6, -1, OK)]));
    assert_eq!(rig.offsets(), [(0, 5), (1, 6)]);
    // An answer about no group at all.
    let mut rig = Rig::looking_up(None);
    rig.hear(&OffsetFetchResponse::default());
    assert!(rig.found.is_empty());
    // The group's code.
    for (code, is_refused) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, false),
        (ErrorCode::NOT_COORDINATOR, false),
        (ErrorCode::STALE_MEMBER_EPOCH, false),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, true),
    ] {
        let mut rig = Rig::looking_up(None);
        rig.hear(&new_answer(code, None, &[(0, -1, -1, OK), (1, -1, -1, OK)]));
        assert_eq!(rig.found.len(), if is_refused { 2 } else { 0 }, "{code}");
        assert!(rig.found.iter().all(|(_, found)| found.is_err()));
        if !is_refused {
            rig.asks_later();
            rig.hear(&new_answer(OK, None, &[(0, 1, -1, OK), (1, 2, -1, OK)]));
            assert_eq!(rig.offsets(), [(0, 1), (1, 2)]);
        }
    }
}

#[test]
fn what_is_asked_of_a_partition_is_asked_also_after_it_was_assigned() {
    let mut rig = Rig::with(settings(Some(INTERVAL)));
    rig.commits.look_up(at(0), None);
    let from = StoredOffset { offset: 5, leader_epoch: None, metadata: None };
    rig.commits.assign(&at(0), None, Epoch(1), &from, true, rig.now);
    assert!(rig.asks());
}

#[test]
fn case_70_a_lookup_of_a_member_that_is_gone_makes_it_join_again() {
    let mut rig = Rig::looking_up(None);
    rig.hear(&new_answer(ErrorCode::UNKNOWN_MEMBER_ID, None, &[]));
    assert_eq!((rig.rejoins, rig.found.len()), (1, 0));
    rig.pass(ms(10_000));
    assert!(!rig.asks());
    rig.commits.handle_identity(Some(member(4)));
    assert!(rig.asks());
}

#[test]
fn a_lookup_of_before_the_partition_was_given_up_does_not_count() {
    let mut rig = Rig::looking_up(None);
    rig.commits.give_up(&at(0), &Failure::Ended("revoked"));
    // Another member commits 50, and the partition comes back.
    rig.commits.look_up(at(0), None);
    rig.hear(&new_answer(OK, None, &[(0, 10, -1, OK), (1, 20, -1, OK)]));
    assert_eq!(rig.offsets(), [(1, 20)]);
    assert!(rig.asks());
    rig.hear(&new_answer(OK, None, &[(0, 50, -1, OK)]));
    assert_eq!(rig.offsets(), [(1, 20), (0, 50)]);
}

#[test]
fn a_lookup_asks_by_the_id_that_the_topic_has_now() {
    let id = |id: u8| Uuid::from_bytes([id; 16]);
    let mut rig = Rig::looking_up(Some(id(1)));
    rig.hear(&new_answer(OK, Some(id(1)), &[(0, -1, -1, ErrorCode::UNKNOWN_TOPIC_ID), (1, 20, -1, OK)]));
    assert!(rig.commits.poll_metadata_wanted());
    rig.asks_later();
    // The topic was made again. What is stored of the old one is no place to begin in the new one.
    rig.commits.set_topic_id(&at(0), id(2));
    rig.hear(&new_answer(OK, Some(id(1)), &[(0, 900, -1, OK)]));
    assert_eq!(rig.offsets(), [(1, 20)]);
    rig.asks_later();
    rig.hear(&new_answer(OK, Some(id(2)), &[(0, 5, -1, OK)]));
    assert_eq!(rig.offsets(), [(1, 20), (0, 5)]);
}

#[test]
fn case_74_a_lost_lookup_is_made_again_at_the_new_coordinator() {
    let mut rig = Rig::looking_up(None);
    rig.lose(Kind::Lookup);
    rig.asks_later();
    rig.hear(&new_answer(OK, None, &[(0, 1, -1, OK), (1, 2, -1, OK)]));
    assert_eq!(rig.offsets(), [(0, 1), (1, 2)]);
}

#[test]
fn a_consumer_outside_any_group_is_told_that_the_group_has_members() {
    let mut rig = Rig::manual();
    rig.commits.handle_identity(Some(MemberIdentity::outside()));
    let ticket = rig.commits.commit_offsets([(at(0), StoredOffset::at(4))], rig.now + ms(1_000), rig.now);
    let Some(Request::Commit { request, .. }) = rig.request() else { panic!("a commit") };
    assert_eq!((request.generation_id_or_member_epoch, &*request.member_id), (-1, ""));
    rig.take(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]);
    assert_eq!((rig.rejoins, rig.code(ticket)), (0, Some(ErrorCode::UNKNOWN_MEMBER_ID)));
}

#[test]
fn ten_thousand_partitions_go_out_in_several_requests() {
    let mut rig = Rig::with(settings(Some(INTERVAL)));
    let all: Vec<_> = (0..5_000).collect();
    rig.assign(&all);
    for partition in &all {
        rig.work(*partition, 0..1);
    }
    let ticket = rig.commit();
    let mut sizes = Vec::new();
    while let Some(sent) = rig.sent() {
        sizes.push(sent.len());
        let codes: Vec<_> = sent.iter().map(|(partition, _)| (*partition, OK)).collect();
        rig.take(&codes);
    }
    assert_eq!(sizes, [2_000, 2_000, 1_000]);
    assert!(rig.is_committed(ticket));
}
