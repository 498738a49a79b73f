//! Where a log starts, over restarts and `kill -9`.

use milena_messages::ErrorCode;
use milena_messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};

use crate::crash::{Victim, numbered};

fn delete_to(offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition { partition_index: 0, offset, ..Default::default() };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    DeleteRecordsRequest { topics: vec![topic], ..Default::default() }
}

fn earliest() -> ListOffsetsRequest {
    let partition = ListOffsetsPartition { timestamp: -2, current_leader_epoch: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    ListOffsetsRequest { topics: vec![topic], ..Default::default() }
}

#[test]
fn deleted_records_do_not_come_back_after_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut start, mut written) = (0, 0);
    for round in 1..=5 {
        let mut victim = Victim::start(dir.path());
        let topics = Some(vec![MetadataRequestTopic { name: Some("t".into()), ..Default::default() }]);
        victim.ask(12, &MetadataRequest { topics, ..Default::default() });
        let partition = victim.ask(10, &earliest()).topics[0].partitions[0].clone();
        assert_eq!((partition.error_code, partition.offset), (ErrorCode::NONE, start), "round {round}");
        for _ in 0..12 {
            let produced = victim.ask(12, &numbered(written)).responses[0].partition_responses[0].clone();
            assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, i64::from(written)));
            assert_eq!(produced.log_start_offset, start);
            written += 1;
        }
        // Inside a segment, at the high watermark, and where it is already.
        let wanted = if round % 2 == 0 { -1 } else { start + 7 };
        let deleted = victim.ask(2, &delete_to(wanted)).topics[0].partitions[0].clone();
        start = if round % 2 == 0 { i64::from(written) } else { wanted };
        assert_eq!((deleted.error_code, deleted.low_watermark), (ErrorCode::NONE, start));
    }
}
