//! Observations that an embedded broker cannot give.

use std::collections::BTreeSet;
use std::time::Duration;

use milena::GroupState;

use super::*;
use crate::lag::Look;

/// A group with a member for each partition of "orders". `committed` are the offsets of a partition at each sample.
fn seen(partitions: &[&[i64]]) -> Observation {
    let member = |index: usize| MemberSeen {
        id: format!("m{index}"),
        client_id: "billing".into(),
        host: "10.0.0.1".into(),
        partitions: BTreeSet::from([("orders".to_owned(), index as i32)]),
        ..MemberSeen::default()
    };
    let sample = |at: usize| Sample {
        at_ms: at as i64 * 1000,
        state: GroupState::Stable,
        epoch: None,
        members: (0..partitions.len()).map(member).collect(),
        looks: partitions
            .iter()
            .enumerate()
            .map(|(index, committed)| {
                let look =
                    Look { committed: Some(committed[at]), ..Look::at(at as i64 * 1000, 100 + at as i64) };
                (("orders".to_owned(), index as i32), look)
            })
            .collect(),
        stable: Default::default(),
    };
    let count = partitions.iter().map(|committed| committed.len()).min().unwrap_or(0);
    Observation {
        group: "billing".into(),
        samples: (0..count).map(sample).collect(),
        ..Observation::default()
    }
}

fn faults(seen: &Observation) -> Vec<Fault> {
    diagnose(seen).iter().map(|finding| finding.fault).collect()
}

#[test]
fn nothing_that_was_seen_is_no_finding() {
    assert_eq!(faults(&Observation::default()), []);
    assert_eq!(faults(&seen(&[&[10, 20, 30, 40], &[100, 101, 102, 103]])), []);
    assert_eq!(faults(&seen(&[&[10, 10]])), [], "two samples say little");
}

#[test]
fn a_member_that_finishes_nothing_is_named_while_another_one_goes_on() {
    let found = diagnose(&seen(&[&[10, 10, 10, 10], &[10, 20, 30, 40]]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].fault, found[0].detail.contains("member m0 ")), (Fault::StuckHandler, true));
}

#[test]
fn a_record_that_cannot_be_read_is_poison() {
    let mut seen = seen(&[&[10, 10, 10, 10]]);
    let record =
        RecordSeen { offset: 10, error: Some("the checksum is wrong".into()), ..RecordSeen::default() };
    seen.records.insert(("orders".into(), 0), record);
    let found = diagnose(&seen);
    assert_eq!(found[0].fault, Fault::PoisonRecord);
    assert!(found[0].evidence.iter().any(|line| line.contains("the checksum is wrong")), "{found:?}");
}

#[test]
fn a_process_that_restarts_at_the_same_record_meets_poison() {
    let mut seen = seen(&[&[10; 6]]);
    for (at, sample) in seen.samples.iter_mut().enumerate() {
        sample.members[0].id = format!("start {}", at / 2);
    }
    assert_eq!(faults(&seen), [Fault::PoisonRecord]);
}

#[test]
fn a_group_of_the_classic_protocol_that_waits_for_a_member_has_a_zombie() {
    let mut seen = seen(&[&[10; 4], &[10; 4]]);
    for sample in &mut seen.samples {
        sample.state = GroupState::PreparingRebalance;
        sample.members[0].instance = Some("till 1".into());
    }
    let found = diagnose(&seen);
    assert_eq!(found.iter().map(|finding| finding.fault).collect::<Vec<_>>(), [Fault::ZombieMember]);
    assert_eq!(found[0].command, "milena groups remove-members billing --instance 'till 1'");
}

#[test]
fn a_poll_that_takes_longer_than_it_may_is_told_from_the_settings() {
    let mut seen = seen(&[&[10, 20, 30, 40]]);
    seen.reader = Some(Reader { max_poll_interval: Duration::from_secs(60), max_poll_records: 500 });
    assert_eq!(faults(&seen), [], "500 records take 50 seconds");
    seen.reader = Some(Reader { max_poll_interval: Duration::from_secs(30), max_poll_records: 500 });
    assert_eq!(faults(&seen), [Fault::MaxPollInterval]);
}

#[test]
fn retention_that_comes_near_is_told() {
    let mut seen = seen(&[&[10, 11, 12, 13]]);
    for (at, sample) in seen.samples.iter_mut().enumerate() {
        sample.looks.values_mut().for_each(|look| look.start = at as i64 * 3);
    }
    let found = diagnose(&seen);
    assert_eq!(found[0].fault, Fault::OffsetOutOfRetention);
    assert!(found[0].detail.ends_with("in about 2 s"), "{found:?}");
    assert_eq!(found[0].command, "milena topics config alter orders --set retention.ms=-1");
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_aborted_at_its_partition() {
    let mut seen = seen(&[&[50; 4]]);
    let partition = ("orders".to_owned(), 0);
    for sample in &mut seen.samples {
        sample.stable.insert(partition.clone(), 50);
    }
    seen.open.push(OpenAt { partition, start: 50, producer_id: 7, transactional_id: None });
    let found = diagnose(&seen);
    assert_eq!(found.iter().map(|finding| finding.fault).collect::<Vec<_>>(), [Fault::OpenTransaction]);
    assert_eq!(found[0].command, "milena txn abort-hanging --topic orders:0 --older-than 0");
}

#[test]
fn what_other_people_named_cannot_break_out_of_a_command() {
    let mut seen = seen(&[&[10, 10, 10, 10]]);
    seen.group = "a b'; rm -rf $HOME #".into();
    let found = diagnose(&seen);
    assert_eq!(found[0].command, r"milena groups remove-members 'a b'\''; rm -rf $HOME #' --all");
}
