//! Records that go: by age, by size, by DeleteRecords; and what readers are told.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::rig::{FETCH, Outcome, Rig, base_offsets, batch, batch_at, fetch, is_due};
use crate::time::live_through;

const MINUTE: Duration = Duration::from_secs(60);

/// Asks for an offset by time: `(code, timestamp, offset, leader epoch)`.
fn list(rig: &Rig, timestamp: i64) -> (ErrorCode, i64, i64, i32) {
    let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    let found = rig.ask(1, 10, &request).topics[0].partitions[0].clone();
    (found.error_code, found.timestamp, found.offset, found.leader_epoch)
}

fn earliest(rig: &Rig) -> i64 {
    list(rig, -2).2
}

/// A request that deletes the records of a partition before `offset`.
pub(crate) fn delete_request(topic: &str, index: i32, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition { partition_index: index, offset, ..Default::default() };
    let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    DeleteRecordsRequest { topics: vec![topic], ..Default::default() }
}

/// Deletes the records of a partition of `t` before `offset`, at node `node`.
fn delete(rig: &Rig, node: i32, version: i16, index: i32, offset: i64) -> (ErrorCode, i64) {
    let request = delete_request("t", index, offset);
    let deleted = rig.ask(node, version, &request).topics[0].partitions[0].clone();
    (deleted.error_code, deleted.low_watermark)
}

#[test]
fn records_go_when_their_segment_is_too_old() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[("retention.ms", "720000"), ("segment.ms", "120000")]);
    // One record a minute, three to a segment.
    for _ in 0..9 {
        rig.produce("t", 0, batch_at(rig.now.unix_ms, &["a"], None));
        live_through(&mut rig, MINUTE);
    }
    assert_eq!(earliest(&rig), 0);
    // Kafka looks every five minutes, the first time after half a minute. The first segment's newest record is from the
    // second minute, and too old in the 15th.
    live_through(&mut rig, MINUTE * 6);
    assert_eq!(earliest(&rig), 0);
    live_through(&mut rig, MINUTE);
    assert_eq!(earliest(&rig), 3);
    assert_eq!(list(&rig, 0), (ErrorCode::NONE, 1_700_000_180_000, 3, 0), "the first record that is left");
    let data = rig.fetch("t", 0, 2);
    assert_eq!((data.error_code, data.log_start_offset), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    let data = rig.fetch("t", 0, 3);
    assert_eq!((data.error_code, data.log_start_offset, data.high_watermark), (ErrorCode::NONE, 3, 9));
    assert_eq!(base_offsets(&data), [3, 4, 5]);
    // In the end all go, also those of the last segment, and offsets go on.
    live_through(&mut rig, MINUTE * 15);
    assert_eq!((earliest(&rig), list(&rig, -1).2), (9, 9));
    assert_eq!(list(&rig, 0), (ErrorCode::NONE, -1, -1, -1));
    let produced = rig.produce("t", 0, batch(&["b"], None));
    assert_eq!((produced.base_offset, produced.log_start_offset), (9, 9));
    assert_eq!(base_offsets(&rig.fetch("t", 0, 9)), [9]);
}

#[test]
fn a_topic_keeps_as_many_bytes_as_it_may_and_less_than_a_segment_more() {
    let mut rig = Rig::with(Broker::builder().segment_bytes(3000));
    rig.create("t", 1, &[("retention.bytes", "5000"), ("retention.ms", "-1")]);
    for _ in 0..20 {
        rig.produce("t", 0, batch(&[&"x".repeat(900)], None));
    }
    assert_eq!(earliest(&rig), 0);
    live_through(&mut rig, MINUTE);
    // Three batches of 970 bytes are a segment. Of 19 400 bytes, four whole segments are more than need be kept.
    assert_eq!(earliest(&rig), 12);
}

#[test]
fn records_without_a_timestamp_are_as_old_as_their_append() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[("retention.ms", "600000")]);
    rig.produce("t", 0, batch_at(-1, &["a"], None));
    live_through(&mut rig, MINUTE * 10);
    assert_eq!(earliest(&rig), 0);
    live_through(&mut rig, MINUTE * 5);
    assert_eq!(earliest(&rig), 1);
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let rig = Rig::new(2);
    rig.create("t", 1, &[]);
    let leader = if delete(&rig, 1, 2, 0, 0).0.is_none() { 1 } else { 2 };
    rig.machine.move_leader("t", 0, leader).expect("it leads already");
    let other = 3 - leader;
    assert_eq!(delete(&rig, other, 2, 0, 0), (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    for at in 0..3 {
        rig.produce("t", 0, batch_at(1_700_000_000_000 + at * 10, &["a", "b", "c", "d"], None));
    }
    for (index, offset, expected) in [
        (0, 0, (ErrorCode::NONE, 0)),
        (0, 5, (ErrorCode::NONE, 5)),
        (0, 3, (ErrorCode::NONE, 5)),
        (0, 13, (ErrorCode::OFFSET_OUT_OF_RANGE, -1)),
        (0, -2, (ErrorCode::OFFSET_OUT_OF_RANGE, -1)),
        (1, 0, (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1)),
    ] {
        for version in 0..=2 {
            assert_eq!(delete(&rig, 1, version, index, offset), expected, "{index} to {offset}");
        }
    }
    assert_eq!(earliest(&rig), 5);
    assert_eq!(rig.fetch("t", 0, 4).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(base_offsets(&rig.fetch("t", 0, 5)), [4, 8], "the batch that has the offset is whole");
    assert_eq!(list(&rig, 0).2, 5, "no record before the start is found by its time");
    assert_eq!(list(&rig, 1_700_000_000_011).2, 5);
    assert_eq!(list(&rig, 1_700_000_000_012).2, 6);
    assert_eq!(delete(&rig, 1, 2, 0, -1), (ErrorCode::NONE, 12));
    let data = rig.fetch("t", 0, 12);
    assert_eq!((data.error_code, data.log_start_offset), (ErrorCode::NONE, 12));
    assert_eq!(rig.fetch("t", 0, 11).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(rig.produce("t", 0, batch(&["e"], None)).log_start_offset, 12);
}

#[test]
fn a_fetch_that_waits_at_the_end_goes_on_waiting_when_all_before_it_is_deleted() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    rig.produce("t", 0, batch(&["a"], None));
    let mut request = fetch("t", &[(0, 1)]);
    (request.min_bytes, request.max_wait_ms) = (1, 500);
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &request) else { panic!("it waits") };
    assert_eq!(delete(&rig, 1, 2, 0, -1), (ErrorCode::NONE, 1));
    assert!(!is_due(&parked));
    rig.produce("t", 0, batch(&["b"], None));
    assert!(is_due(&parked));
}

#[test]
fn the_epoch_of_the_first_offset_is_known_after_its_batches_are_gone() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[("retention.ms", "60000")]);
    rig.produce("t", 0, batch(&["a"], None));
    for _ in 0..3 {
        rig.machine.move_leader("t", 0, 1).expect("moved");
    }
    rig.produce("t", 0, batch(&["b"], None));
    let end_of = |rig: &Rig, leader_epoch| {
        let partition =
            OffsetForLeaderPartition { leader_epoch, current_leader_epoch: -1, ..Default::default() };
        let topic =
            OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let end = &rig.ask(1, 4, &request).topics[0].partitions[0];
        (end.leader_epoch, end.end_offset)
    };
    assert_eq!((end_of(&rig, 0), list(&rig, -2).3), ((0, 1), 0));
    live_through(&mut rig, MINUTE * 6);
    assert_eq!((earliest(&rig), list(&rig, -2).3), (2, 3));
    assert_eq!((end_of(&rig, 0), end_of(&rig, 3)), ((0, 2), (3, 2)), "nothing of epoch 0 is left");
}
