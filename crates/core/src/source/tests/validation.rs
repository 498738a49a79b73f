//! Validating positions after a change of leaders (KIP-320).

use milena_messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::super::Validation;
use super::*;

const CUT: Option<Position> = Some(Position::Earliest);

/// A batch that the leader of `epoch` has written.
fn batch_of(epoch: i32, base: i64, count: i64) -> Vec<u8> {
    let mut bytes = batch(base, count);
    BatchMut::new(&mut bytes).expect("a batch").set_partition_leader_epoch(epoch);
    bytes
}

/// An answer: for each partition its code, and where which epoch ends.
fn ends(partitions: &[(i32, ErrorCode, i32, i64)]) -> OffsetForLeaderEpochResponse {
    let end =
        |(partition, error_code, leader_epoch, end_offset): &(i32, ErrorCode, i32, i64)| EpochEndOffset {
            partition: *partition,
            error_code: *error_code,
            leader_epoch: *leader_epoch,
            end_offset: *end_offset,
            ..Default::default()
        };
    let partitions = partitions.iter().map(end).collect();
    let topic = OffsetForLeaderTopicResult { topic: "t".into(), partitions, ..Default::default() };
    OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }
}

/// What a validation asks: partition, the epoch that it believes to be the leader's, the epoch whose end it wants.
fn asked(validation: &Validation) -> Vec<(i32, i32, i32)> {
    let partitions = validation.request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|asked| (asked.partition, asked.current_leader_epoch, asked.leader_epoch)).collect()
}

impl Lab {
    /// Partition 0 was read up to offset 10, in epoch 3, and partition 1 not at all. Then both have a leader of epoch 5.
    fn after_an_election(reset: Option<Position>) -> Self {
        let mut lab = Self::new(Settings { reset, ..settings() }, Position::Offset(0));
        lab.lead(&[(1, 3), (1, 3)]);
        let first = lab.fetch();
        assert_eq!(lab.answer(&first, response(7, vec![data(0, batch_of(3, 0, 10))])), ["0:0..10"]);
        lab.lead(&[(2, 5), (2, 5)]);
        lab
    }

    fn lead(&mut self, leaders: &[(i32, i32)]) {
        self.source.handle_metadata(&snapshot("t", leaders), self.now);
    }

    fn validation(&mut self) -> Validation {
        let validation = self.source.poll_validation(self.now).expect("a question");
        assert!(self.source.poll_validation(self.now).is_none(), "one question is enough");
        validation
    }

    fn validated(&mut self, validation: &Validation, answer: OffsetForLeaderEpochResponse) -> Vec<String> {
        self.source.handle_validation(validation.number, Ok(answer), self.now);
        self.events()
    }

    /// What is fetched now.
    fn fetched(&mut self) -> Vec<(i32, i64)> {
        let fetches = std::iter::from_fn(|| self.source.poll_fetch(self.now, ROOM));
        fetches.flat_map(|fetch| named(&fetch).0).collect()
    }
}

#[test]
fn nothing_is_fetched_of_a_new_leader_before_it_says_that_it_has_the_last_record() {
    let mut lab = Lab::after_an_election(None);
    assert_eq!(lab.fetched(), [(1, 0)], "nothing was read of partition 1, so that nothing can be missing");
    let validation = lab.validation();
    assert_eq!((validation.broker.0, asked(&validation)), (2, vec![(0, 5, 3)]));
    assert_eq!(validation.request.replica_id, -1);
    assert_eq!(lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 10)])), [""; 0]);
    assert_eq!(lab.fetched(), [(0, 10)]);
    assert!(lab.source.poll_validation(lab.now).is_none(), "once");
}

#[test]
fn what_a_log_lost_is_told_and_read_again_from_there() {
    let mut lab = Lab::after_an_election(CUT);
    let validation = lab.validation();
    let events = lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 2, 4)]));
    assert_eq!(events, ["0 cut at 4, read to 10 in epoch 3"]);
    assert_eq!(lab.fetched().first(), Some(&(0, 4)));
    // The position is one of epoch 2 now.
    lab.lead(&[(3, 6), (2, 5)]);
    assert_eq!(asked(&lab.validation()), [(0, 6, 2)]);
}

#[test]
fn without_a_reset_policy_a_log_that_was_cut_off_stops_its_partition() {
    let mut lab = Lab::after_an_election(None);
    let validation = lab.validation();
    lab.source.handle_validation(validation.number, Ok(ends(&[(0, ErrorCode::NONE, 3, 4)])), lab.now);
    let Some(Event::Stopped { offset, failure, .. }) = lab.source.poll_event() else { panic!("it stops") };
    assert_eq!((offset, failure.code()), (Some(10), Some(ErrorCode::OFFSET_OUT_OF_RANGE)));
    let told = failure.to_string();
    assert!(told.contains("differs from offset 4 on") && told.contains("leader epoch 3"), "{told}");
    assert_eq!(lab.fetched(), [(1, 0)], "only the other partition is read");
}

#[test]
fn a_leader_that_knows_nothing_of_an_epoch_has_lost_nothing() {
    for (epoch, end) in [(-1, -1), (3, -1), (-1, 4)] {
        let mut lab = Lab::after_an_election(CUT);
        let validation = lab.validation();
        assert_eq!(lab.validated(&validation, ends(&[(0, ErrorCode::NONE, epoch, end)])), [""; 0]);
        assert_eq!(lab.fetched(), [(0, 10), (1, 0)]);
    }
}

#[test]
fn an_answer_of_the_leader_before_does_not_count() {
    let mut lab = Lab::after_an_election(CUT);
    let late = lab.validation();
    lab.lead(&[(3, 6), (2, 5)]);
    let validation = lab.validation();
    assert_eq!((validation.broker.0, asked(&validation)), (3, vec![(0, 6, 3)]));
    assert_eq!(lab.validated(&late, ends(&[(0, ErrorCode::NONE, 2, 4)])), [""; 0]);
    assert_eq!(lab.fetched(), [(1, 0)], "the new leader has not answered");
    assert_eq!(lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 12)])), [""; 0]);
    assert_eq!(lab.fetched(), [(0, 10)]);
    assert_eq!(
        lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 2, 4)])),
        [""; 0],
        "an answer counts once"
    );
}

#[test]
fn a_seek_ends_a_validation() {
    let mut lab = Lab::after_an_election(CUT);
    let late = lab.validation();
    lab.source.seek(Slot(0), Epoch(1), Position::Offset(7));
    assert_eq!(lab.fetched(), [(0, 7), (1, 0)]);
    assert_eq!(lab.validated(&late, ends(&[(0, ErrorCode::NONE, 2, 4)])), [""; 0]);
}

#[test]
fn a_validation_that_fails_for_now_is_repeated_and_does_not_reset() {
    let lost = || Err(Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true });
    let code = |code| Ok(ends(&[(0, code, -1, -1)]));
    for answer in [
        lost(),
        Ok(ends(&[])),
        code(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        code(ErrorCode::FENCED_LEADER_EPOCH),
        code(ErrorCode::UNKNOWN_LEADER_EPOCH),
        code(ErrorCode::LEADER_NOT_AVAILABLE),
        code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let mut lab = Lab::after_an_election(CUT);
        for _ in 0..3 {
            let validation = lab.validation();
            lab.source.handle_validation(validation.number, answer.clone(), lab.now);
            assert_eq!(lab.events(), [""; 0], "{answer:?}");
            assert!(lab.source.poll_validation(lab.now).is_none(), "not at once: {answer:?}");
            assert!(lab.source.poll_metadata_wanted());
            lab.wait(1200);
        }
        let validation = lab.validation();
        lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 10)]));
        assert_eq!(lab.fetched().first(), Some(&(0, 10)));
        assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none(), "it is no reset");
    }
}

#[test]
fn a_validation_that_is_refused_for_good_stops_the_partition_and_is_no_reset() {
    let mut lab = Lab::after_an_election(CUT);
    let validation = lab.validation();
    let refusal = ends(&[(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, -1, -1)]);
    assert_eq!(lab.validated(&validation, refusal), ["0 stopped at 10: TOPIC_AUTHORIZATION_FAILED"]);
    assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none());
}

#[test]
fn brokers_that_cannot_be_asked_are_read_without_being_asked() {
    let too_old = Failure::NoCommonVersion {
        peer: "b".into(),
        api: milena_messages::ApiKey::OffsetForLeaderEpoch,
        reason: "OffsetForLeaderEpoch".into(),
    };
    let refusal = Failure::answer(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, None);
    for failure in [too_old, refusal] {
        let mut lab = Lab::after_an_election(None);
        let validation = lab.validation();
        lab.source.handle_validation(validation.number, Err(failure), lab.now);
        assert_eq!(lab.events(), [""; 0]);
        assert_eq!(lab.fetched(), [(0, 10), (1, 0)]);
    }
    // They do not say who leads in which epoch, or epochs that are none (KAFKA-9840).
    let mut lab = Lab::after_an_election(None);
    let mut response = metadata_response("t", &[(3, 6), (3, 6)]);
    crate::metadata::drop_unreliable_epochs(&mut response, 8);
    lab.source.handle_metadata(&Snapshot::default().merge(&response, false), lab.now);
    assert!(lab.source.poll_validation(lab.now).is_none());
    assert_eq!(lab.fetched(), [(0, 10), (1, 0)]);
}

#[test]
fn the_leader_that_wrote_the_last_record_is_not_asked() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    lab.lead(&[(1, 3), (1, 3)]);
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch_of(3, 0, 10)), data(1, batch_of(3, 0, 10))]));
    // It is away for a while, and comes back in the same epoch.
    lab.lead(&[(-1, 3), (-1, 3)]);
    lab.lead(&[(1, 3), (1, 3)]);
    assert!(lab.source.poll_validation(lab.now).is_none());
    assert_eq!(lab.fetched(), [(0, 10), (1, 10)]);
}

#[test]
fn epochs_that_go_back_after_a_change_of_controllers_stop_nothing() {
    // The metadata has believed the lower epoch (`Snapshot::merge`), whose leader does not know the higher one.
    let mut lab = Lab::after_an_election(CUT);
    let validation = lab.validation();
    lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 10)]));
    lab.lead(&[(2, 1), (2, 1)]);
    let validation = lab.validation();
    assert_eq!(asked(&validation), [(0, 1, 3)]);
    assert_eq!(lab.validated(&validation, ends(&[(0, ErrorCode::NONE, -1, -1)])), [""; 0]);
    assert_eq!(lab.fetched(), [(0, 10), (1, 0)]);
}

#[test]
fn batches_of_the_leader_before_do_not_move_a_position_that_is_being_validated() {
    let mut lab = Lab::new(Settings { reset: CUT, ..settings() }, Position::Offset(0));
    lab.lead(&[(1, 3), (1, 3)]);
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch_of(3, 0, 10))]));
    let second = lab.fetch();
    lab.lead(&[(2, 5), (1, 3)]);
    let validation = lab.validation();
    assert_eq!(lab.answer(&second, response(7, vec![data(0, batch_of(3, 10, 10))])), [""; 0]);
    assert_eq!(
        lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 4)])),
        ["0 cut at 4, read to 10 in epoch 3"]
    );
}

#[test]
fn a_committed_offset_with_its_epoch_is_validated_before_it_is_read() {
    let stored = Position::OffsetInEpoch { offset: 10, leader_epoch: 3 };
    // The leader may be known when the position is given, or later.
    for is_known in [false, true] {
        let mut lab = Lab::new(Settings { reset: CUT, ..settings() }, Position::Offset(0));
        if is_known {
            lab.lead(&[(2, 5), (2, 5)]);
        }
        lab.source.seek(Slot(0), Epoch(1), stored);
        lab.source.seek(Slot(1), Epoch(2), Position::OffsetInEpoch { offset: 8, leader_epoch: 5 });
        if !is_known {
            lab.lead(&[(2, 5), (2, 5)]);
        }
        assert_eq!(lab.fetched(), [(1, 8)], "the present leader wrote the record before offset 8");
        let validation = lab.validation();
        assert_eq!(asked(&validation), [(0, 5, 3)]);
        assert_eq!(
            lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 4)])),
            ["0 cut at 4, read to 10 in epoch 3"]
        );
        assert_eq!(lab.fetched(), [(0, 4)]);
    }
    // A broker without epochs cannot be asked.
    let mut lab = Lab::new(settings(), stored);
    lab.lead(&[(2, -1), (2, -1)]);
    assert_eq!(lab.fetched(), [(0, 10), (1, 10)]);
    for impossible in [(-1, 3), (3, -1)] {
        let (offset, leader_epoch) = impossible;
        assert!(Position::OffsetInEpoch { offset, leader_epoch }.check().is_err());
    }
}

#[test]
fn an_offset_that_the_leader_before_found_is_looked_up_again() {
    let mut lab = Lab::new(settings(), Position::Latest);
    let late = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    lab.lead(&[(2, 5), (2, 5)]);
    let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    assert_eq!(lookup.broker.0, 2);
    lab.source.handle_lookup(late.number, Ok(found(&late, |_, _| 30)), lab.now);
    assert_eq!(lab.events(), [""; 0]);
    lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| 20)), lab.now);
    assert_eq!(lab.events(), ["0 at 20", "1 at 20"]);
}

#[test]
fn leaders_that_change_without_end_leave_no_questions_behind() {
    let mut lab = Lab::after_an_election(CUT);
    for epoch in 6..200 {
        let validation = lab.validation();
        if epoch % 3 == 0 {
            lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 10)]));
        }
        lab.lead(&[(1 + epoch % 2, epoch), (2, 5)]);
    }
    let validation = lab.validation();
    lab.validated(&validation, ends(&[(0, ErrorCode::NONE, 3, 10)]));
    assert_eq!(lab.fetched().first(), Some(&(0, 10)));
}
