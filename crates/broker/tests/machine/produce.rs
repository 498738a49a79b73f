//! The broker as a producer sees it: offsets, duplicates, and each way in which a batch is refused.

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::produce::PartitionProduceData;
use milena_wire::batch::{Attributes, BatchBuilder, BatchHeader, BatchMut, RawBatch, TimestampType};
use milena_wire::codec::{Compression, Compressor};
use milena_wire::pool::Pool;

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
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        ("an unknown codec", with_attributes(Attributes::from_bits(7)), ErrorCode::UNKNOWN_SERVER_ERROR),
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
    let zstd = compressed(Compression::Zstd, &batch(&["first", "second"], None)[61..], 2);
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
    // Older versions have no field for it; their answer has the error code only.
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

/// A batch of `records` as they are on the wire, compressed, its header and checksum right for `count` of them.
fn compressed(codec: Compression, records: &[u8], count: i32) -> Bytes {
    let mut payload = Vec::new();
    Compressor::new().compress(codec, None, records, &mut payload).expect("compresses");
    framed(codec, &payload, count)
}

fn framed(codec: Compression, payload: &[u8], count: i32) -> Bytes {
    let mut raw = batch(&["x"], None)[..61].to_vec();
    raw.extend_from_slice(payload);
    let length = raw.len() as i32 - 12;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    raw[21..23].copy_from_slice(&codec.attributes().to_be_bytes());
    raw[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    raw[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn what_is_inside_a_compressed_batch_is_looked_at() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let sound = batch(&["first", "second"], None)[61..].to_vec();
    let mut end = 0;
    for codec in CODECS {
        let answer = rig.produce("t", 0, compressed(codec, &sound, 2));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, end), "{codec}");
        end += 2;
        let mut unordered = sound.clone();
        unordered[3] = 2; // the first record's offset delta
        let mut lying = sound.clone();
        lying[0] += 2; // the first record's length
        for (what, records, count, code) in [
            ("more records than there are", &sound[..], 3, ErrorCode::INVALID_RECORD),
            ("fewer records than there are", &sound, 1, ErrorCode::INVALID_RECORD),
            ("a record cut off", &sound[..sound.len() - 1], 2, ErrorCode::INVALID_RECORD),
            ("bytes after the last record", &[&sound[..], &[0]].concat(), 2, ErrorCode::INVALID_RECORD),
            ("a length that lies", &lying, 2, ErrorCode::INVALID_RECORD),
            ("offsets out of order", &unordered, 2, ErrorCode::UNKNOWN_SERVER_ERROR),
        ] {
            let answer = rig.produce("t", 0, compressed(codec, records, count));
            assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{codec}, {what}");
            assert!(answer.error_message.is_some(), "{codec}, {what}");
        }
        let mut payload = Vec::new();
        Compressor::new().compress(codec, None, &sound, &mut payload).expect("compresses");
        let answer = rig.produce("t", 0, framed(codec, &payload[..payload.len() / 2], 2));
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_SERVER_ERROR, "{codec} that does not decompress");
    }
    assert_eq!(rig.fetch("t", 0, 0).high_watermark, end);
}

#[test]
fn a_record_of_a_compressed_batch_has_a_limit() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[("max.decompressed.message.bytes", "100")]);
    for (value, code) in [("x".repeat(90), ErrorCode::NONE), ("x".repeat(100), ErrorCode::INVALID_RECORD)] {
        let plain = batch(&[&value], None);
        let zstd = compressed(Compression::Zstd, &plain[61..], 1);
        assert_eq!(rig.produce("t", 0, zstd).error_code, code);
        assert_eq!(rig.produce("t", 0, plain).error_code, ErrorCode::NONE, "it is of compressed batches");
    }
}

#[test]
fn lz4_frames_that_java_cannot_read_are_refused() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let sound = batch(&["first", "second"], None)[61..].to_vec();
    let mut payload = Vec::new();
    Compressor::new().compress(Compression::Lz4, None, &sound, &mut payload).expect("compresses");
    let code = |payload: &[u8]| rig.produce("t", 0, framed(Compression::Lz4, payload, 2)).error_code;
    assert_eq!(code(&payload), ErrorCode::NONE);
    // Linked blocks, with the checksum that such a header has. The content size is left out for that.
    let linked = [&[0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0][..], &payload[15..]].concat();
    assert_eq!(code(&linked), ErrorCode::UNKNOWN_SERVER_ERROR, "linked blocks");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &payload].concat();
    assert_eq!(code(&skippable), ErrorCode::UNKNOWN_SERVER_ERROR, "a skippable frame first");
    assert_eq!(code(&[&payload[..], &payload].concat()), ErrorCode::INVALID_RECORD, "two frames");
}

#[test]
fn the_records_that_are_to_blame_are_named() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[("message.timestamp.before.max.ms", "1000")]);
    let now = rig.now.unix_ms;
    for (what, times, code, blamed) in [
        ("all in time", [now, now - 1000, now + 3_600_000], ErrorCode::NONE, vec![]),
        ("two too late", [now + 3_600_001, now, now + 4_000_000], ErrorCode::INVALID_TIMESTAMP, vec![0, 2]),
        ("one too early", [now, now - 1001, now], ErrorCode::INVALID_TIMESTAMP, vec![1]),
        ("none without a time", [-1, now, -1], ErrorCode::NONE, vec![]),
    ] {
        let mut builder = BatchBuilder::new(&Pool::default());
        for time in times {
            builder.append(time, None, Some(b"v"), &[]).expect("fits");
        }
        let answer = rig.produce("t", 0, builder.seal().into_bytes());
        let errors = &answer.record_errors;
        assert_eq!(answer.error_code, code, "{what}");
        assert_eq!(errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), blamed, "{what}");
        assert!(errors.iter().all(|error| error.batch_index_error_message.is_some()), "{what}");
    }
}

#[test]
fn the_greatest_timestamp_is_that_of_the_records() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let lying = changed(|raw| raw[42] ^= 0x55);
    assert_eq!(rig.produce("t", 0, lying).error_code, ErrorCode::NONE);
    let stored = rig.fetch("t", 0, 0).records.expect("not null");
    let raw = RawBatch::parse(&stored).expect("a batch");
    raw.check_crc().expect("the checksum was made anew");
    assert_eq!(raw.header.max_timestamp, 1_700_000_000_001);
}

#[test]
fn a_batch_that_grows_beyond_bounds_is_refused() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let zeros = vec![0; 65 << 20];
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = compressed(codec, &zeros, 1_000_000);
        assert!(bomb.len() < 1_000_000, "{codec}: {}", bomb.len());
        assert_eq!(rig.produce("t", 0, bomb).error_code, ErrorCode::MESSAGE_TOO_LARGE, "{codec}");
    }
}

#[test]
fn one_partition_fails_its_whole_request_where_it_does_in_kafka() {
    let rig = Rig::new(1);
    rig.create("t", 2, &[]);
    let sound = || batch(&["x"], None);
    let codes = |second: Bytes| {
        let mut request = produce("t", 0, Some(sound()), -1);
        let data = PartitionProduceData { index: 1, records: Some(second), ..Default::default() };
        request.topic_data[0].partition_data.push(data);
        let response = rig.ask(1, PRODUCE, &request);
        let partitions = &response.responses[0].partition_responses;
        [partitions[0].error_code, partitions[1].error_code]
    };
    assert_eq!(codes(changed(|raw| raw[16] = 3)), [ErrorCode::CORRUPT_MESSAGE; 2], "an unknown magic");
    assert_eq!(codes(changed(|raw| raw[11] = 3)), [ErrorCode::CORRUPT_MESSAGE; 2], "too small a length");
    let transactional = with_attributes(Attributes::default().with_transactional(true));
    assert_eq!(codes(transactional), [ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 2]);
    assert_eq!(codes(Bytes::new()), [ErrorCode::NONE, ErrorCode::INVALID_RECORD]);
}
