//! `kill -9` while logs are compacted: the newest record of each key is there, whatever the moment.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, Batches, NO_TIMESTAMP};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

use crate::crash::Victim;

const KEYS: usize = 50;

fn create() -> CreateTopicsRequest {
    let config = |(name, value): (&str, &str)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")].map(config).into(),
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

/// Has the cleaner work all the time.
fn hurry() -> IncrementalAlterConfigsRequest {
    let config = AlterableConfig {
        name: "log.cleaner.backoff.ms".into(),
        value: Some("0".into()),
        ..Default::default()
    };
    let resource = AlterConfigsResource { resource_type: 4, configs: vec![config], ..Default::default() };
    IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
}

fn key(n: usize, index: usize) -> String {
    format!("key {}", (n * 7 + index * 3) % KEYS)
}

/// Batch number `n`: ten records, whose values begin with `n`.
fn numbered(n: usize) -> ProduceRequest {
    let mut builder = BatchBuilder::new(&Pool::default());
    for index in 0..10 {
        let key = key(n, index);
        let value = format!("{n:08}{}", "v".repeat((n * 31 + index * 977) % 2000));
        builder.append(NO_TIMESTAMP, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("fits");
    }
    let codec = [Compression::None, Compression::Lz4, Compression::Zstd][n % 3];
    let sealed = builder.seal_compressed(&mut Compressor::new(), codec, None).expect("compresses");
    let data = PartitionProduceData { index: 0, records: Some(sealed.into_bytes()), ..Default::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() }
}

fn fetch(victim: &mut Victim, fetch_offset: i64) -> Bytes {
    let wanted = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
    let request =
        FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..Default::default() };
    let data = victim.ask(12, &request).responses[0].partitions[0].clone();
    assert_eq!(data.error_code, ErrorCode::NONE, "from {fetch_offset}");
    data.records.expect("records")
}

/// The number of the batch that has the newest record of each key, and how many records there are.
fn read_all(victim: &mut Victim) -> (BTreeMap<String, usize>, usize) {
    let (mut newest, mut count, mut next) = (BTreeMap::new(), 0, 0);
    loop {
        let records = fetch(victim, next);
        if records.is_empty() {
            return (newest, count);
        }
        for raw in Batches::new(records) {
            let raw = raw.expect("whole");
            raw.check_crc().expect("sound");
            assert!(raw.header.last_offset() >= next, "offsets ascend");
            let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
            for record in batch.expect("decompresses").records() {
                let record = record.expect("sound");
                let text =
                    |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("set").to_vec()).expect("text");
                let n = text(record.value)[..8].parse().expect("a number");
                newest.insert(text(record.key), n);
                count += 1;
            }
            next = raw.header.next_offset();
        }
    }
}

#[test]
fn the_newest_record_of_each_key_survives_kill_9_during_compaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut written, mut kept) = (0, 0);
    for round in 0..8 {
        let mut victim = Victim::start(dir.path());
        if round == 0 {
            victim.ask(7, &create());
            let altered = victim.ask(1, &hurry());
            assert_eq!(altered.responses[0].error_code, ErrorCode::NONE);
        }
        let (newest, count) = read_all(&mut victim);
        let mut expected = BTreeMap::new();
        for n in 0..written {
            expected.extend((0..10).map(|index| (key(n, index), n)));
        }
        assert_eq!(newest, expected, "round {round}");
        kept = count;
        for _ in 0..60 + round * 13 {
            let produced = victim.ask(12, &numbered(written)).responses[0].partition_responses[0].clone();
            assert_eq!(produced.error_code, ErrorCode::NONE);
            assert_eq!(produced.base_offset, written as i64 * 10);
            written += 1;
        }
    }
    let is_left = |name: &str| name.ends_with(".cleaned") || name.ends_with(".swap");
    drop(Victim::start(dir.path()));
    let names = std::fs::read_dir(dir.path().join("t-0")).expect("listed");
    assert!(!names.into_iter().any(|entry| is_left(&entry.unwrap().file_name().into_string().unwrap())));
    assert!(kept < written * 10 / 2, "{kept} records are left of {}", written * 10);
}
