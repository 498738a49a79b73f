//! Offsets by time and by epoch.

use milena_messages::ErrorCode;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_wire::batch::BatchBuilder;
use milena_wire::codec::{Compression, Compressor};
use milena_wire::pool::Pool;

use crate::rig::{PRODUCE, Rig, batch, batch_at, fetch, produce};

fn list(rig: &Rig, timestamp: i64) -> (ErrorCode, i64, i64, i32) {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let found = rig.ask(1, 11, &request).topics[0].partitions[0].clone();
    (found.error_code, found.timestamp, found.offset, found.leader_epoch)
}

#[test]
fn offsets_are_found_by_time_and_by_the_special_times() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let none = ErrorCode::NONE;
    assert_eq!(list(&rig, -3), (none, -1, -1, -1), "no record, no greatest timestamp");
    assert_eq!(list(&rig, 0), (none, -1, -1, -1));
    rig.produce("t", 0, batch_at(1000, &["a", "b", "c"], None));
    rig.produce("t", 0, batch_at(5000, &["d", "e"], None));
    rig.produce("t", 0, batch_at(3000, &["f"], None));
    let table = [
        (-1, -1, 6),
        (-2, -1, 0),
        (-3, 5001, 4),
        (-4, -1, 0),
        (0, 1000, 0),
        (1001, 1001, 1),
        (1002, 1002, 2),
        (1003, 5000, 3),
        (5001, 5001, 4),
    ];
    for (asked, timestamp, offset) in table {
        assert_eq!(list(&rig, asked), (none, timestamp, offset, 0), "time {asked}");
    }
    assert_eq!(list(&rig, 5002), (none, -1, -1, -1));
    assert_eq!(list(&rig, -5), (none, -1, -1, -1), "nothing is tiered");
    assert_eq!(list(&rig, -99).0, ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn time_looks_into_compressed_batches() {
    let rig = Rig::new(1);
    for (index, compression) in
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd].into_iter().enumerate()
    {
        let name = format!("t{index}");
        rig.create(&name, 1, &[]);
        let mut builder = BatchBuilder::new(&Pool::default());
        for delta in 0..100 {
            builder.append(1000 + delta, None, Some(b"value value value"), &[]).expect("fits");
        }
        let sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).expect("compresses");
        rig.produce(&name, 0, sealed.into_bytes());
        let partition = ListOffsetsPartition { timestamp: 1042, ..Default::default() };
        let topic = ListOffsetsTopic {
            name: name.as_str().into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        assert_eq!(rig.ask(1, 11, &request).topics[0].partitions[0].offset, 42, "{compression:?}");
    }
}

#[test]
fn an_epoch_ends_where_the_next_begins() {
    let rig = Rig::with(milena_broker::Broker::builder().nodes(2).default_replication(2));
    rig.create("t", 1, &[]);
    rig.produce("t", 0, batch(&["a", "b"], None));
    // Away and back: epochs 1 and 2, of which the first wrote nothing.
    rig.machine.move_leader("t", 0, 2).expect("moved");
    rig.machine.move_leader("t", 0, 1).expect("moved");
    rig.produce("t", 0, batch(&["c"], None));
    let ask = |leader_epoch, current_leader_epoch| {
        let partition = OffsetForLeaderPartition { current_leader_epoch, leader_epoch, ..Default::default() };
        let topic =
            OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let end = rig.ask(1, 4, &request).topics[0].partitions[0].clone();
        (end.error_code, end.leader_epoch, end.end_offset)
    };
    let none = ErrorCode::NONE;
    let table = [
        (0, -1, (none, 0, 2)),
        (1, -1, (none, 0, 2)),
        (2, -1, (none, 2, 3)),
        (3, -1, (none, -1, -1)),
        (2, 2, (none, 2, 3)),
        (2, 1, (ErrorCode::FENCED_LEADER_EPOCH, -1, -1)),
        (2, 3, (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1)),
    ];
    for (epoch, current, expected) in table {
        assert_eq!(ask(epoch, current), expected, "epoch {epoch}, current {current}");
    }
    // The answer tells a consumer where its log diverges (KIP-595).
    let mut request = fetch("t", &[(0, 3)]);
    request.topics[0].partitions[0].last_fetched_epoch = 1;
    let data = rig.ask(1, 12, &request).responses[0].partitions[0].clone();
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 2));
    assert!(data.records.is_some_and(|records| records.is_empty()));
}

#[test]
fn after_an_unclean_election_the_ends_of_epochs_are_those_of_the_new_leader() {
    let rig = Rig::with(milena_broker::Broker::builder().nodes(2).default_replication(2));
    rig.create("t", 1, &[]);
    rig.machine.move_leader("t", 0, 1).expect("moved");
    let first_epoch = 1;
    for _ in 0..5 {
        rig.produce("t", 0, batch(&["1", "2"], None));
    }
    let end = |node, leader_epoch| {
        let partition =
            OffsetForLeaderPartition { current_leader_epoch: -1, leader_epoch, ..Default::default() };
        let topic =
            OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let end = rig.ask(node, 4, &request).topics[0].partitions[0].clone();
        (end.error_code, end.leader_epoch, end.end_offset)
    };
    assert_eq!(end(1, first_epoch), (ErrorCode::NONE, first_epoch, 10));
    assert!(rig.machine.elect_uncleanly("t", 0, 2, 11).is_err(), "the log has no such offset");
    assert!(rig.machine.elect_uncleanly("t", 0, 2, -1).is_err());
    // Within a batch: the whole batch is lost.
    rig.machine.elect_uncleanly("t", 0, 2, 5).expect("elected");
    assert_eq!(end(2, first_epoch), (ErrorCode::NONE, first_epoch, 4));
    assert_eq!(end(1, first_epoch).0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    // The new records have a new epoch.
    let written = rig.ask(2, PRODUCE, &produce("t", 0, Some(batch(&["3"], None)), -1));
    assert_eq!(written.responses[0].partition_responses[0].base_offset, 4);
    assert_eq!(end(2, first_epoch + 1), (ErrorCode::NONE, first_epoch + 1, 5));
    assert_eq!(end(2, first_epoch), (ErrorCode::NONE, first_epoch, 4));
}

#[test]
fn records_that_were_lost_are_not_duplicates_when_their_producer_sends_them_again() {
    let rig = Rig::with(milena_broker::Broker::builder().nodes(2).default_replication(2));
    rig.create("t", 1, &[]);
    rig.machine.move_leader("t", 0, 1).expect("moved");
    for sequence in 0..3 {
        rig.produce("t", 0, batch(&["1"], Some((7, 0, sequence))));
    }
    rig.machine.elect_uncleanly("t", 0, 1, 1).expect("elected");
    for (sequence, offset) in [(0, 0), (1, 1), (2, 2)] {
        let written = rig.produce("t", 0, batch(&["1"], Some((7, 0, sequence))));
        assert_eq!((written.error_code, written.base_offset), (ErrorCode::NONE, offset), "{sequence}");
    }
}
