//! What a producer sees: offsets, duplicates, and each way a batch is refused.

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_wire::batch::{Attributes, BatchHeader, BatchMut, TimestampType};

use crate::rig::{Outcome, PRODUCE, Rig, base_offsets, batch, batch_at, fetch, produce};

#[test]
fn batches_get_the_offsets_after_one_another() {
    let rig = Rig::new(1);
    rig.create("t", 2, &[]);
    assert_eq!(rig.produce("t", 0, batch(&["a", "b", "c"], None)).base_offset, 0);
    assert_eq!(rig.produce("t", 0, batch(&["d"], None)).base_offset, 3);
    assert_eq!(rig.produce("t", 1, batch(&["e"], None)).base_offset, 0);
    let data = rig.fetch("t", 0, 0);
    assert_eq!((base_offsets(&data), data.high_watermark), (vec![0, 3], 4));
}

#[test]
fn a_retried_batch_is_stored_once_and_answered_with_its_first_offset() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let mine = |sequence| batch(&["x", "y"], Some((5, 0, sequence)));
    for sequence in [0, 2, 4] {
        assert_eq!(rig.produce("t", 0, mine(sequence)).base_offset, i64::from(sequence));
    }
    for sequence in [0, 2, 4] {
        let again = rig.produce("t", 0, mine(sequence));
        assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, i64::from(sequence)));
    }
    assert_eq!(rig.produce("t", 0, mine(8)).error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let newer = batch(&["z"], Some((5, 1, 0)));
    assert_eq!(rig.produce("t", 0, newer).base_offset, 6);
    assert_eq!(rig.produce("t", 0, mine(6)).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(rig.fetch("t", 0, 0).high_watermark, 7);
}

#[test]
fn producer_ids_are_given_out_once() {
    let rig = Rig::new(2);
    let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let mut ids: Vec<i64> = (0..10).map(|n| rig.ask(1 + n % 2, 5, &request).producer_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    let request = InitProducerIdRequest { transactional_id: Some("mine".into()), ..Default::default() };
    let code = rig.ask(1, 5, &request).error_code;
    assert!(!code.is_none() && !code.is_retriable(), "{code}");
}

/// A valid batch after `change`, its checksum made right again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut raw = batch(&["first", "second"], None).to_vec();
    change(&mut raw);
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

fn with_attributes(attributes: Attributes) -> Bytes {
    let mut raw = batch(&["first", "second"], None).to_vec();
    BatchMut::new(&mut raw).expect("a batch").set_attributes(attributes);
    raw.into()
}

#[test]
fn each_kind_of_bad_batch_is_refused_by_name() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[("max.message.bytes", "1000")]);
    let flipped = |at: usize| {
        let mut raw = batch(&["first", "second"], None).to_vec();
        raw[at] ^= 1;
        Bytes::from(raw)
    };
    let whole = batch(&["first", "second"], None);
    let long = "x".repeat(1000);
    let table = [
        ("nothing", Bytes::new(), ErrorCode::INVALID_RECORD),
        ("two batches", [&whole[..], &whole[..]].concat().into(), ErrorCode::INVALID_RECORD),
        ("a cut batch", whole.slice(..whole.len() - 1), ErrorCode::INVALID_RECORD),
        ("a cut header", whole.slice(..60), ErrorCode::INVALID_RECORD),
        ("a flipped bit in a record", flipped(70), ErrorCode::CORRUPT_MESSAGE),
        ("a flipped bit in the timestamps", flipped(30), ErrorCode::CORRUPT_MESSAGE),
        ("an older format", changed(|raw| raw[16] = 1), ErrorCode::INVALID_RECORD),
        ("too large", batch(&[&long], None), ErrorCode::MESSAGE_TOO_LARGE),
        (
            "a control batch",
            with_attributes(Attributes::default().with_control(true)),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "a transactional batch",
            with_attributes(Attributes::default().with_transactional(true)),
            ErrorCode::INVALID_TXN_STATE,
        ),
        (
            "an unknown codec",
            with_attributes(Attributes::from_bits(7)),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        ("no records", changed(|raw| raw[57..61].fill(0)), ErrorCode::INVALID_RECORD),
        ("more records than offsets", changed(|raw| raw[60] = 3), ErrorCode::INVALID_RECORD),
        (
            "more records than there are",
            changed(|raw| (raw[26], raw[60]) = (2, 3)),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "fewer records than there are",
            changed(|raw| (raw[26], raw[60]) = (0, 1)),
            ErrorCode::INVALID_RECORD,
        ),
        ("a record longer than the batch", changed(|raw| raw[61] = 0x7e), ErrorCode::INVALID_RECORD),
        ("a producer id without a sequence", changed(|raw| raw[43..51].fill(0)), ErrorCode::INVALID_RECORD),
        (
            "a time far in the future",
            batch_at(1_700_000_000_000 + 3_600_001, &["x"], None),
            ErrorCode::INVALID_TIMESTAMP,
        ),
    ];
    for (what, records, expected) in table {
        let answer = rig.produce("t", 0, records);
        assert_eq!(answer.error_code, expected, "{what}: {:?}", answer.error_message);
        assert!(answer.error_message.is_some(), "{what}");
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(rig.fetch("t", 0, 0).high_watermark, 0, "nothing was stored");
    assert_eq!(rig.produce("t", 0, whole).error_code, ErrorCode::NONE);
}

#[test]
fn zstd_needs_version_7() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let zstd = with_attributes(Attributes::from_bits(4));
    for (version, expected) in [(6, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE), (7, ErrorCode::NONE)] {
        let response = rig.ask(1, version, &produce("t", 0, Some(zstd.clone()), -1));
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected, "version {version}");
    }
}

#[test]
fn without_acks_success_is_silent_and_failure_hangs_up() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let records = Some(batch(&["a"], None));
    let sent = rig.try_send(1, PRODUCE, &produce("t", 0, records.clone(), 0));
    assert!(matches!(sent, Ok(Outcome::Silent)));
    assert!(rig.try_send(1, PRODUCE, &produce("gone", 0, records.clone(), 0)).is_err());
    assert_eq!(rig.fetch("t", 0, 0).high_watermark, 1);
    let response = rig.ask(1, PRODUCE, &produce("t", 0, records, 2));
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::INVALID_REQUIRED_ACKS);
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    let rig = Rig::new(3);
    rig.create("t", 3, &[]);
    // Leaders go round: partition 1 is led by node 2.
    let response = rig.ask(1, PRODUCE, &produce("t", 1, Some(batch(&["a"], None)), -1));
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (2, 0));
    assert_eq!(response.node_endpoints.len(), 1);
    assert_eq!((response.node_endpoints[0].node_id, response.node_endpoints[0].host.as_str()), (2, "node-2"));
    // Older versions have no field for it, and are told the code.
    for (version, leader) in [(9, -1), (10, 2)] {
        let response = rig.ask(1, version, &produce("t", 1, Some(batch(&["a"], None)), -1));
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(partition.current_leader.leader_id, leader, "version {version}");
    }
    for (version, leader) in [(11, -1), (12, 2)] {
        let response = rig.ask(1, version, &fetch("t", &[(1, 0)]));
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(partition.current_leader.leader_id, leader, "version {version}");
    }
}

#[test]
fn unknown_topics_and_partitions_are_told_apart_from_unknown_ids() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let code = |version, topic, index| {
        let response = rig.ask(1, version, &produce(topic, index, Some(batch(&["a"], None)), -1));
        response.responses[0].partition_responses[0].error_code
    };
    assert_eq!(code(12, "gone", 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(12, "t", 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(12, "t", -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(13, "t", 0), ErrorCode::UNKNOWN_TOPIC_ID, "no id was given");
}

#[test]
fn a_topic_with_log_append_time_stamps_its_own_time_and_the_checksum_is_right() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let answer = rig.produce("t", 0, batch_at(5, &["a", "b"], Some((1, 0, 0))));
    assert_eq!(answer.log_append_time_ms, rig.now.unix_ms);
    let again = rig.produce("t", 0, batch_at(5, &["a", "b"], Some((1, 0, 0))));
    assert_eq!(again.log_append_time_ms, rig.now.unix_ms, "a duplicate is answered with its first time");
    let records = rig.fetch("t", 0, 0).records.expect("records");
    let header = BatchHeader::parse(&records).expect("a batch");
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((header.max_timestamp, header.bytes), (rig.now.unix_ms, records.len()));
    assert_eq!(crc32c::crc32c(&records[21..]), header.crc);
}
