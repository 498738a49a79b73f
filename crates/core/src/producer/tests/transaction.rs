//! The records of a transaction: what the producer machine sends, and what it tells the transaction machine.

use super::*;
use crate::ProducerId;
use crate::transaction::Version;

fn begun(version: Version) -> Lab {
    let mut lab = Lab::new(Settings { transactional_id: Some("billing".into()), ..settings() });
    begin(&mut lab, 0, version);
    lab
}

fn begin(lab: &mut Lab, epoch: i16, version: Version) {
    lab.machine.handle_begin(ProducerIdentity { id: ProducerId(7), epoch }, version);
    lab.turn();
}

/// Adds the partitions that the machine asks for.
fn add(lab: &mut Lab) -> Vec<u32> {
    let mut added = Vec::new();
    while let Some(slot) = lab.machine.poll_wanted() {
        added.push(slot.0);
        lab.machine.handle_added(slot);
    }
    lab.turn();
    added
}

#[test]
fn a_partition_is_written_to_only_once_it_is_in_the_transaction() {
    let mut lab = begun(Version::One);
    lab.append(0);
    lab.append(0);
    lab.fill(1);
    assert!(lab.sent.is_empty() && !lab.machine.poll_sent());
    let slot = lab.machine.poll_wanted().expect("a partition to add");
    lab.machine.handle_added(slot);
    lab.turn();
    assert_eq!((partitions(&lab.sent[0]), lab.sent[0].version_max), (vec![1], 11));
    assert_eq!(lab.sent[0].request.transactional_id.as_deref(), Some("billing"));
    assert!(lab.machine.poll_sent());
    assert_eq!(add(&mut lab), [0]);
    lab.answer(0, ErrorCode::NONE);
    // The batch that waited has grown meanwhile.
    assert_eq!(lab.stamps()[1][0].records, 2);
    // In the same transaction a partition is added once, and in the next one again.
    lab.answer(1, ErrorCode::NONE);
    lab.fill(0);
    assert_eq!((lab.sent.len(), add(&mut lab)), (3, vec![]));
    lab.answer(2, ErrorCode::NONE);
    begin(&mut lab, 0, Version::One);
    lab.fill(0);
    assert_eq!((lab.sent.len(), add(&mut lab)), (3, vec![0]));
    assert_eq!((lab.stamps()[3][0].epoch, lab.stamps()[3][0].sequence), (0, 12), "sequences go on");
}

#[test]
fn records_that_wait_to_be_added_say_so_and_name_the_coordinators_last_refusal() {
    let why = Failure::answer(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, None);
    for (last, expected) in [
        (
            None,
            "not delivered within 10s, waiting for the coordinator to add the partition to the transaction",
        ),
        (Some(&why), "(AddPartitionsToTxn); the last attempt: COORDINATOR_LOAD_IN_PROGRESS"),
    ] {
        let mut lab = begun(Version::One);
        lab.append(0);
        lab.fill(1);
        while lab.machine.poll_wanted().is_some() {}
        lab.machine.handle_unadded(last);
        lab.wait(10_000);
        assert_eq!(lab.settled.len(), 2);
        for (_, outcome) in &lab.settled {
            let Outcome::Failed { failure, maybe_written: false, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert!(failure.to_string().contains(expected), "{failure}");
            assert_eq!(failure.code(), last.and_then(Failure::code));
        }
    }
    // A partition that was added, or that brokers add themselves, is not said to wait for the coordinator.
    for version in [Version::One, Version::Two] {
        let mut lab = begun(version);
        lab.fill(0);
        add(&mut lab);
        lab.machine.handle_unadded(Some(&why));
        lab.fill(0);
        lab.lose(0);
        lab.wait(10_000);
        let (_, outcome) = lab.settled.last().expect("settled");
        let Outcome::Failed { failure, .. } = outcome else { panic!("{outcome:?}") };
        assert!(!failure.to_string().contains("coordinator"), "{failure}");
    }
}

#[test]
fn with_version_two_brokers_add_partitions_and_sequences_begin_anew_with_each_epoch() {
    let mut lab = begun(Version::Two);
    lab.fill(0);
    assert!(lab.machine.poll_wanted().is_none());
    assert!(lab.sent[0].version_max >= 12);
    lab.answer(0, ErrorCode::NONE);
    begin(&mut lab, 1, Version::Two);
    lab.fill(0);
    assert_eq!((lab.stamps()[1][0].epoch, lab.stamps()[1][0].sequence), (1, 0));
}

#[test]
fn nothing_is_sent_before_a_transaction_has_begun() {
    let mut lab = Lab::new(Settings { transactional_id: Some("billing".into()), ..settings() });
    lab.fill(0);
    add(&mut lab);
    assert!(lab.sent.is_empty() && lab.machine.poll_identity(lab.now).is_none());
}

#[test]
fn a_batch_that_is_refused_dooms_the_transaction() {
    let mut lab = begun(Version::Two);
    lab.fill(0);
    lab.fill(0);
    lab.answer(0, ErrorCode::INVALID_RECORD);
    let failure = lab.machine.poll_failed().expect("told");
    assert_eq!(failure.code(), Some(ErrorCode::INVALID_RECORD));
    assert!(lab.machine.poll_unsure(), "its sequence is missing");
    lab.append(1);
    assert_eq!(lab.outcomes(), "0f 1f 2f");
    assert_eq!((lab.machine.outstanding(), lab.sent.len()), (0, 1));
    for (_, outcome) in &lab.settled {
        let Outcome::Failed { failure, .. } = outcome else { panic!("{outcome:?}") };
        assert!(failure.requires_abort(), "{failure}");
        assert_eq!(failure.code(), Some(ErrorCode::INVALID_RECORD));
    }
    assert!(lab.machine.poll_failed().is_none(), "it is told once");
    begin(&mut lab, 1, Version::Two);
    lab.fill(0);
    assert_eq!((lab.stamps()[1][0].epoch, lab.stamps()[1][0].sequence), (1, 0));
}

#[test]
fn sequences_that_are_lost_doom_the_transaction_and_begin_at_zero_only_under_another_epoch() {
    for code in [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::INVALID_PRODUCER_EPOCH] {
        let mut lab = begun(Version::Two);
        lab.fill(0);
        lab.answer(0, ErrorCode::NONE);
        lab.fill(0);
        lab.answer(1, code);
        assert_eq!(lab.outcomes(), "0w 1f", "{code}");
        assert_eq!(lab.machine.poll_failed().and_then(|failure| failure.code()), Some(code));
        assert!(lab.machine.poll_unsure());
        lab.wait(20_000);
        assert_eq!(lab.sent.len(), 2, "nothing is sent any more");
    }
}

#[test]
fn an_abort_fails_what_waits_and_waits_for_what_is_on_its_way() {
    let mut lab = begun(Version::Two);
    lab.fill(0);
    lab.answer(0, ErrorCode::NONE);
    lab.fill(0);
    lab.fill(0);
    lab.append(1);
    let aborted = Failure::Doomed { cause: Box::new(Failure::Ended("it was aborted")), is_fatal: false };
    lab.machine.handle_purge(&aborted);
    lab.turn();
    let in_flight = lab.sent.len();
    assert_eq!(lab.outcomes(), "0w 3f", "what waits fails at once");
    lab.answer(1, ErrorCode::NONE);
    lab.lose(2);
    assert_eq!(lab.machine.outstanding(), 0);
    assert_eq!(lab.outcomes(), "0w 3f 1w 2?");
    assert!(lab.machine.poll_unsure(), "what was lost may yet be written");
    lab.wait(20_000);
    assert_eq!(lab.sent.len(), in_flight, "nothing is sent again");
}

#[test]
fn an_abort_takes_back_what_no_connection_has_begun_with() {
    let mut lab = begun(Version::Two);
    lab.is_connected = false;
    lab.fill(0);
    let aborted = Failure::Doomed { cause: Box::new(Failure::Ended("it was aborted")), is_fatal: false };
    lab.machine.handle_purge(&aborted);
    lab.turn();
    assert_eq!((lab.outcomes().as_str(), lab.machine.outstanding()), ("0f", 0));
}

#[test]
fn a_fenced_answer_is_fatal_for_every_record() {
    let mut lab = begun(Version::Two);
    lab.fill(0);
    lab.fill(1);
    lab.answer(0, ErrorCode::PRODUCER_FENCED);
    assert!(lab.machine.poll_failed().is_some_and(|failure| failure.is_fatal() && failure.is_fenced()));
    for (_, outcome) in &lab.settled {
        assert!(matches!(outcome, Outcome::Failed { failure, .. } if failure.is_fatal()), "{outcome:?}");
    }
}
