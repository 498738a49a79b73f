//! Compaction and deleted records: what is left of the same input, and what readers of the rest are told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, BatchHeader, Batches};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

use super::{Asker, compare};

/// Records are created in 2023, so that both brokers find them neither too old nor too new.
const CREATED: i64 = 1_700_000_000_000;

fn create(asker: &mut Asker, name: &str, configs: &[(&str, &str)]) {
    let config = |&(name, value): &(&str, &str)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let response = asker.ask("create", &request, 7).expect("answered");
    asker.say("create", (response.topics[0].error_code, &response.topics[0].error_message));
    // Kafka's broker leads the partition a moment after the topic was created.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fetch(asker, name, 0).error_code.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A batch of keys and values, all of one time after [`CREATED`].
fn batch(
    after_ms: i64,
    compression: Compression,
    records: &[(Option<&str>, Option<&str>)],
    stamp: Option<(i64, i16, i32)>,
) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default());
    for (key, value) in records {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.append(CREATED + after_ms, key, value, &[]).expect("fits");
    }
    let mut sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).expect("compresses");
    if let Some((id, epoch, sequence)) = stamp {
        sealed.stamp(id, epoch, sequence);
    }
    sealed.into_bytes()
}

fn produce(asker: &mut Asker, topic: &str, records: Bytes) {
    let data = PartitionProduceData { index: 0, records: Some(records), ..Default::default() };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
    let response = asker.ask("produce", &request, 12).expect("answered");
    let partition = &response.responses[0].partition_responses[0];
    asker.say("produce", (partition.error_code, partition.base_offset, partition.log_start_offset));
}

fn fetch(asker: &mut Asker, topic: &str, fetch_offset: i64) -> PartitionData {
    let wanted = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() };
    let request = FetchRequest {
        max_bytes: 10 << 20,
        session_epoch: -1,
        max_wait_ms: 100,
        topics: vec![topic],
        ..Default::default()
    };
    let mut response = asker.ask("fetch", &request, 12).expect("answered");
    response.responses.remove(0).partitions.remove(0)
}

fn read(asker: &mut Asker, topic: &str) -> (Vec<BatchHeader>, Vec<String>) {
    let (mut headers, mut records, mut next) = (Vec::new(), Vec::new(), 0);
    loop {
        let read = fetch(asker, topic, next).records.unwrap_or_default();
        if read.is_empty() {
            return (headers, records);
        }
        for raw in Batches::new(read) {
            let raw = raw.expect("whole");
            raw.check_crc().expect("sound");
            let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
            for record in batch.expect("decompresses").records() {
                let record = record.expect("sound");
                let text =
                    |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                let (key, value) = (text(record.key), text(record.value));
                records.push(format!("{} {} {key:?}={value:?}", record.offset, record.timestamp - CREATED));
            }
            headers.push(raw.header);
            next = raw.header.next_offset();
        }
    }
}

/// Notes what is left as soon as that is `count` records, and after half a minute in any case.
fn note_left(asker: &mut Asker, what: &str, topic: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (headers, records) = loop {
        let found = read(asker, topic);
        if found.1.len() == count || Instant::now() > deadline {
            break found;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    for header in headers {
        // The base timestamp of a batch that was rewritten is a matter of taste.
        let facts = (
            (header.base_offset, header.last_offset(), header.record_count),
            (header.attributes, header.max_timestamp - CREATED),
            (header.producer, header.partition_leader_epoch),
        );
        asker.say(what, facts);
    }
    for record in records {
        asker.say(what, record);
    }
}

/// Sets one config of a topic, or of all brokers when there is no name.
fn set(asker: &mut Asker, topic: &str, config: &str, value: &str) {
    let config = AlterableConfig { name: config.into(), value: Some(value.into()), ..Default::default() };
    let resource = AlterConfigsResource {
        resource_type: if topic.is_empty() { 4 } else { 2 },
        resource_name: topic.into(),
        configs: vec![config],
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = asker.ask("set", &request, 1).expect("answered");
    asker.say("set", response.responses[0].error_code);
}

const COMPACTED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    // Nothing is compacted before all is there.
    ("min.cleanable.dirty.ratio", "1.0"),
    ("delete.retention.ms", "1"),
];

#[test]
fn the_same_records_are_left_after_compaction() {
    compare(|asker| {
        let topic = "answers-compacted";
        set(asker, "", "log.cleaner.backoff.ms", "100");
        create(asker, topic, &COMPACTED);
        let codecs =
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let mut sequence = 0;
        for (round, codec) in (0..).zip(codecs.into_iter().cycle().take(12)) {
            let value = format!("{round}{}", "v".repeat(100));
            let keys: Vec<String> =
                (0..4).map(|index| format!("key {}", (round * 3 + index * 5) % 13)).collect();
            let records: Vec<_> = keys
                .iter()
                .map(|key| (Some(key.as_str()), (round % 4 != 2).then_some(value.as_str())))
                .collect();
            let stamp = (round % 3 == 0).then(|| {
                sequence += 4;
                (4711, 0, sequence - 4)
            });
            produce(asker, topic, batch(round * 700, codec, &records, stamp));
        }
        // The first batch is superseded as a whole.
        let last: Vec<String> = (0..13).map(|index| format!("key {index}")).collect();
        let records: Vec<_> = last.iter().take(6).map(|key| (Some(key.as_str()), Some("last"))).collect();
        produce(asker, topic, batch(20_000, Compression::None, &records, None));
        produce(asker, topic, batch(30_000, Compression::None, &[(Some("end"), Some("1"))], None));
        set(asker, topic, "min.cleanable.dirty.ratio", "0.01");
        note_left(asker, "once", topic, 14);
        set(asker, topic, "min.cleanable.dirty.ratio", "1.0");
        // Tombstones go now: their horizon has passed.
        std::thread::sleep(Duration::from_millis(50));
        produce(asker, topic, batch(40_000, Compression::None, &[(Some("end"), Some("2"))], None));
        produce(asker, topic, batch(50_000, Compression::None, &[(Some("end"), Some("3"))], None));
        set(asker, topic, "min.cleanable.dirty.ratio", "0.01");
        note_left(asker, "twice", topic, 14);
        produce(asker, topic, batch(50_000, Compression::None, &[(None, Some("no key"))], None));
        delete(asker, topic, 1);
        for offset in [0, 1, 17, 30, 49] {
            let data = fetch(asker, topic, offset);
            let first = data.records.and_then(|records| BatchHeader::parse(&records).ok());
            let facts = (data.error_code, data.log_start_offset, first.map(|header| header.base_offset));
            asker.say(&format!("fetch from {offset}"), facts);
        }
        note_offsets(asker, topic, &TIMES);
    });
}

const TIMES: [i64; 12] = [-1, -2, -3, -4, 0, 700, 1400, 2800, 7000, 20_000, 45_000, 60_000];

fn note_offsets(asker: &mut Asker, topic: &str, times: &[i64]) {
    for &timestamp in times {
        let timestamp = if timestamp < 0 { timestamp } else { CREATED + timestamp };
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let topic =
            ListOffsetsTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let Some(response) = asker.ask("list", &request, 8) else { continue };
        let found = &response.topics[0].partitions[0];
        let answer = (found.error_code, found.timestamp, found.offset, found.leader_epoch);
        asker.say(&format!("list {timestamp}"), answer);
    }
    let partition =
        OffsetForLeaderPartition { leader_epoch: 0, current_leader_epoch: -1, ..Default::default() };
    let topic =
        OffsetForLeaderTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let response = asker.ask("epoch", &request, 4).expect("answered");
    let end = &response.topics[0].partitions[0];
    asker.say("epoch", (end.error_code, end.leader_epoch, end.end_offset));
}

fn delete(asker: &mut Asker, topic: &str, offset: i64) {
    for version in [0, 1, 2] {
        let partition =
            |index| DeleteRecordsPartition { partition_index: index, offset, ..Default::default() };
        let topic = DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![partition(0), partition(7)],
            ..Default::default()
        };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
        let Some(response) = asker.ask("delete", &request, version) else { continue };
        let mut answers: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.error_code, p.low_watermark))
            .collect();
        answers.sort_unstable_by_key(|answer| answer.0);
        asker.say(&format!("delete to {offset} v{version}"), answers);
    }
}

#[test]
fn records_are_deleted_and_readers_told_as_kafka_does() {
    compare(|asker| {
        let topic = "answers-deleted";
        create(asker, topic, &[("segment.ms", "1000")]);
        for round in 0..6 {
            let records = [(None, Some("a")), (None, Some("b")), (None, Some("c"))];
            produce(asker, topic, batch(round * 700, Compression::None, &records, None));
        }
        note_offsets(asker, topic, &TIMES);
        for offset in [0, 4, 4, 2, 19, -2, i64::MAX] {
            delete(asker, topic, offset);
        }
        for offset in [-1, 0, 3, 4, 5, 17, 18, 19] {
            let data = fetch(asker, topic, offset);
            let first = data.records.and_then(|records| BatchHeader::parse(&records).ok());
            let facts = (
                (data.error_code, data.high_watermark, data.last_stable_offset, data.log_start_offset),
                first.map(|header| header.base_offset),
            );
            asker.say(&format!("fetch from {offset}"), facts);
        }
        note_offsets(asker, topic, &TIMES);
        delete(asker, topic, -1);
        // Until their segment goes, Kafka finds deleted records as the newest ones, and none after them by time.
        note_offsets(asker, topic, &[-1, -2, -4, 7000]);
        produce(asker, topic, batch(9000, Compression::None, &[(None, Some("d"))], None));
        note_offsets(asker, topic, &[-1, -2, -3, -4, 7000, 20_000]);
        delete(asker, "nowhere", 0);
    });
}
