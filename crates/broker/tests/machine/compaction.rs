//! Compacted topics: the newest record of each key stays at its offset, and readers pass the gaps.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::fetch::PartitionData;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, BatchHeader, Batches};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

use crate::rig::{Rig, batch};
use crate::time::live_through;
use crate::transactions::{Producer, Tv1, Tv2, committed};

/// A compacted topic whose segments are closed after a second and compacted as soon as they are dirty.
const CONFIGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "60000"),
];

const MINUTE: Duration = Duration::from_secs(60);

/// A batch of keys and values, created now. Without a value the record is a tombstone.
fn keyed(
    rig: &Rig,
    compression: Compression,
    records: &[(&str, Option<&str>)],
    stamp: Option<(i64, i16, i32)>,
) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default());
    for (key, value) in records {
        let value = value.map(str::as_bytes);
        builder.append(rig.now.unix_ms, Some(key.as_bytes()), value, &[]).expect("fits");
    }
    let mut sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).expect("compresses");
    if let Some((id, epoch, sequence)) = stamp {
        sealed.stamp(id, epoch, sequence);
    }
    sealed.into_bytes()
}

fn produce(rig: &Rig, records: &[(&str, Option<&str>)]) {
    let produced = rig.produce("t", 0, keyed(rig, Compression::None, records, None));
    assert_eq!(produced.error_code, ErrorCode::NONE);
}

/// Closes the segment, and lets the cleaner work.
fn clean(rig: &mut Rig) {
    live_through(rig, Duration::from_secs(2));
    produce(rig, &[("closes the segment", Some(""))]);
    live_through(rig, MINUTE);
}

/// A record: offset, key, value.
type Read = (i64, String, Option<String>);

/// The headers and the records that a consumer reads from `offset` on.
fn read(rig: &Rig, mut offset: i64) -> (Vec<BatchHeader>, Vec<Read>) {
    let (mut headers, mut read) = (Vec::new(), Vec::new());
    loop {
        let data: PartitionData = rig.fetch("t", 0, offset);
        assert_eq!(data.error_code, ErrorCode::NONE);
        let records = data.records.expect("not null");
        if records.is_empty() {
            assert_eq!(offset, data.high_watermark, "it ends at the high watermark");
            return (headers, read);
        }
        for raw in Batches::new(records) {
            let raw = raw.expect("whole");
            raw.check_crc().expect("sound");
            let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
            for record in batch.expect("decompresses").records() {
                let record = record.expect("sound");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                if record.offset >= offset {
                    read.push((
                        record.offset,
                        record.key.map_or(String::new(), text),
                        record.value.map(text),
                    ));
                }
            }
            headers.push(raw.header);
            offset = raw.header.next_offset();
        }
    }
}

fn records(rig: &Rig) -> Vec<Read> {
    let mut records = read(rig, 0).1;
    records.retain(|(_, key, _)| key != "closes the segment");
    records
}

fn record(offset: i64, key: &str, value: Option<&str>) -> Read {
    (offset, key.to_owned(), value.map(str::to_owned))
}

#[test]
fn an_aborted_record_goes_and_replaces_none() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    let mut producer = Producer::start(&rig, "a", Tv2);
    // All of its records have the same key.
    for (value, is_committed) in [("1", true), ("2", false)] {
        producer.write(&rig, 0, &[value]);
        producer.end(&rig, is_committed);
    }
    clean(&mut rig);
    assert_eq!(committed(&rig, 0), ["1"]);
    let offsets: Vec<i64> = records(&rig).into_iter().map(|(offset, ..)| offset).collect();
    assert_eq!(offsets, [0, 1, 3], "the record of the first transaction, and both markers");
}

/// The producer has one identity for all its transactions: without its marker, an aborted one would swallow the next.
#[test]
fn a_marker_goes_when_nothing_is_left_of_its_transaction_and_readers_still_see_the_next_one() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    let mut producer = Producer::start(&rig, "a", Tv1);
    let markers = |rig: &Rig| {
        let headers = read(rig, 0).0.into_iter().filter(BatchHeader::is_control);
        headers.map(|header| (header.base_offset, header.attributes.has_delete_horizon())).collect::<Vec<_>>()
    };
    producer.write(&rig, 0, &["aborted"]);
    producer.end(&rig, false);
    producer.write(&rig, 0, &["committed"]);
    producer.end(&rig, true);
    clean(&mut rig);
    assert_eq!(markers(&rig), [(1, false), (3, false)], "the aborted record has just gone");
    clean(&mut rig);
    assert_eq!(markers(&rig), [(1, true), (3, false)], "the time of the first one begins");
    clean(&mut rig);
    live_through(&mut rig, MINUTE);
    clean(&mut rig);
    assert_eq!(markers(&rig), [(3, false)], "a record of the second transaction is there");
    assert_eq!(committed(&rig, 0).first().map(String::as_str), Some("committed"));
    assert_eq!(read(&rig, 0).1[0], record(2, "k", Some("committed")));
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    produce(&rig, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    produce(&rig, &[("a", Some("2"))]);
    live_through(&mut rig, Duration::from_secs(2));
    produce(&rig, &[("b", Some("2")), ("d", Some("1")), ("b", Some("3"))]);
    // The second segment is the active one: it is not touched, nor are its keys looked at.
    live_through(&mut rig, MINUTE);
    let untouched = [
        record(1, "b", Some("1")),
        record(2, "c", Some("1")),
        record(3, "a", Some("2")),
        record(4, "b", Some("2")),
        record(5, "d", Some("1")),
        record(6, "b", Some("3")),
    ];
    assert_eq!(records(&rig), untouched);
    clean(&mut rig);
    let expected = [
        record(2, "c", Some("1")),
        record(3, "a", Some("2")),
        record(5, "d", Some("1")),
        record(6, "b", Some("3")),
    ];
    assert_eq!(records(&rig), expected);
    let headers = read(&rig, 0).0;
    let facts: Vec<_> = headers.iter().map(|h| (h.base_offset, h.last_offset(), h.record_count)).collect();
    assert_eq!(facts[..3], [(0, 2, 1), (3, 3, 1), (4, 6, 2)]);
    // A reader that begins in a gap gets what comes after it.
    for (from, first) in [(0, 2), (1, 2), (4, 5), (6, 6)] {
        assert_eq!(read(&rig, from).1[0].0, first, "from {from}");
    }
    let first = list(&rig, 0);
    assert_eq!(first, 2, "a time finds the first record that is left");
    assert_eq!(rig.fetch("t", 0, 0).log_start_offset, 0, "compaction does not move the start");
}

fn list(rig: &Rig, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    rig.ask(1, 10, &request).topics[0].partitions[0].offset
}

#[test]
fn a_tombstone_goes_when_its_time_has_passed_and_the_log_is_compacted_again() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    produce(&rig, &[("a", Some("1")), ("b", Some("1")), ("a", None)]);
    clean(&mut rig);
    let tombstone = || [record(1, "b", Some("1")), record(2, "a", None)];
    assert_eq!(records(&rig), tombstone());
    assert!(read(&rig, 0).0[0].attributes.has_delete_horizon());
    live_through(&mut rig, MINUTE * 3);
    assert_eq!(records(&rig), tombstone(), "nothing is dirty, so nothing is compacted");
    clean(&mut rig);
    assert_eq!(records(&rig), [record(1, "b", Some("1"))]);
}

#[test]
fn a_producers_last_sequence_is_kept_without_its_records() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    let of_producer = |rig: &Rig, sequence| {
        let batch = keyed(rig, Compression::None, &[("a", Some("1"))], Some((7, 0, sequence)));
        rig.produce("t", 0, batch)
    };
    assert_eq!(of_producer(&rig, 0).error_code, ErrorCode::NONE);
    assert_eq!(of_producer(&rig, 1).error_code, ErrorCode::NONE);
    produce(&rig, &[("a", Some("2"))]);
    clean(&mut rig);
    assert_eq!(records(&rig), [record(2, "a", Some("2"))]);
    let headers = read(&rig, 0).0;
    assert_eq!((headers[0].base_offset, headers[0].record_count), (1, 0), "only its last batch");
    let again = of_producer(&rig, 1);
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 1), "a retry is recognized");
    assert_eq!(of_producer(&rig, 3).error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(of_producer(&rig, 2).error_code, ErrorCode::NONE);
}

#[test]
fn recent_records_stay_as_they_are_and_late_ones_do_not_wait_for_dirt() {
    let mut rig = Rig::new(1);
    let configs = |more| [&CONFIGS[..2], more].concat();
    rig.create(
        "t",
        1,
        &configs(&[("min.compaction.lag.ms", "600000"), ("min.cleanable.dirty.ratio", "0.0")]),
    );
    produce(&rig, &[("a", Some("1")), ("a", Some("2"))]);
    clean(&mut rig);
    assert_eq!(records(&rig).len(), 2);
    live_through(&mut rig, MINUTE * 10);
    assert_eq!(records(&rig).len(), 1);
    rig.create(
        "u",
        1,
        &configs(&[("max.compaction.lag.ms", "300000"), ("min.cleanable.dirty.ratio", "1.0")]),
    );
    rig.produce("u", 0, keyed(&rig, Compression::None, &[("a", Some("1")), ("a", Some("2"))], None));
    live_through(&mut rig, Duration::from_secs(2));
    rig.produce("u", 0, keyed(&rig, Compression::None, &[("b", Some("1"))], None));
    let count = |rig: &Rig| {
        let records = rig.fetch("u", 0, 0).records.expect("not null");
        BatchHeader::parse(&records).expect("a batch").record_count
    };
    live_through(&mut rig, MINUTE * 4);
    assert_eq!(count(&rig), 2);
    live_through(&mut rig, MINUTE * 2);
    assert_eq!(count(&rig), 1);
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key_and_deletes_none_by_command() {
    let rig = Rig::new(1);
    rig.create("t", 1, &CONFIGS);
    assert_eq!(rig.produce("t", 0, batch(&["a"], None)).error_code, ErrorCode::INVALID_RECORD);
    produce(&rig, &[("a", Some("1"))]);
    let request = crate::retention::delete_request("t", 0, 1);
    assert_eq!(rig.ask(1, 2, &request).topics[0].partitions[0].error_code, ErrorCode::POLICY_VIOLATION);
}

#[test]
fn compacted_records_also_go_by_age_when_the_policy_says_both() {
    let mut rig = Rig::new(1);
    let both = [("cleanup.policy", "compact,delete"), ("retention.ms", "600000"), CONFIGS[1], CONFIGS[2]];
    rig.create("t", 1, &both);
    produce(&rig, &[("a", Some("1")), ("a", Some("2")), ("b", Some("1"))]);
    clean(&mut rig);
    assert_eq!(records(&rig), [record(1, "a", Some("2")), record(2, "b", Some("1"))]);
    live_through(&mut rig, MINUTE * 11);
    assert_eq!(rig.fetch("t", 0, 0).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

/// Random writes, compaction now and then: what is left always says the same as a table of the newest values.
#[test]
fn a_compacted_log_says_what_the_whole_log_said() {
    let dir = tempfile::tempdir().expect("a directory");
    for builder in [Broker::builder(), Broker::builder().data_dir(dir.path())] {
        let mut rig = Rig::with(builder);
        rig.create("t", 1, &CONFIGS);
        let mut seed = 20_261_128_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let codecs =
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let mut newest: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        let (mut end, mut written) = (0, 0);
        for round in 0..40 {
            for _ in 0..random(30) {
                let count = 1 + random(8);
                let made: Vec<(String, Option<String>)> = (0..count)
                    .map(|_| {
                        (
                            format!("key {}", random(25)),
                            (random(5) > 0).then(|| "v".repeat(random(300) as usize)),
                        )
                    })
                    .collect();
                let records: Vec<(&str, Option<&str>)> =
                    made.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                let codec = codecs[random(5) as usize];
                let produced = rig.produce("t", 0, keyed(&rig, codec, &records, None));
                assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, end));
                for (key, value) in made {
                    newest.insert(key, (end, value));
                    end += 1;
                }
                written += count;
                live_through(&mut rig, Duration::from_millis(random(700)));
            }
            live_through(&mut rig, Duration::from_secs(random(30)));
            let read = read(&rig, 0).1;
            assert!(read.is_sorted_by(|one, next| one.0 < next.0), "round {round}");
            let mut left: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
            for (offset, key, value) in read {
                left.insert(key, (offset, value));
            }
            for (key, (offset, value)) in &newest {
                // A tombstone may be gone, and with it everything of its key.
                match left.remove(key) {
                    Some(found) => {
                        assert_eq!((&found.0, &found.1), (offset, value), "{key} in round {round}");
                    }
                    None => assert_eq!(*value, None, "{key} in round {round}"),
                }
            }
            assert!(left.is_empty());
        }
        assert!(read(&rig, 0).1.len() < written as usize / 4, "it was compacted");
    }
}
