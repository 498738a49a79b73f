//! Fetch: limits, waiting, errors, and incremental sessions.

use std::time::{Duration, Instant};

use milena_interop::letter::Letter;
use milena_interop::raw;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::batch::Batches;
use milena_wire::codec::Compression;
use milena_wire::{Str, Uuid};

use super::{Asker, compare};

fn wanted(partition: i32, offset: i64, bytes_max: i32) -> FetchPartition {
    FetchPartition { partition, fetch_offset: offset, partition_max_bytes: bytes_max, ..Default::default() }
}

fn request(topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic { topic: topic.into(), partitions, ..Default::default() };
    FetchRequest { max_wait_ms: 0, min_bytes: 0, topics: vec![topic], ..Default::default() }
}

/// Writes `batches` batches of three records with 1000 bytes in all.
fn fill(asker: &mut Asker, topic: &str, partition: i32, batches: usize) {
    for _ in 0..batches {
        let letters = vec![Letter::value(partition, &[b'x'; 300]); 3];
        let records = raw::batch(&letters, Compression::None).unwrap();
        let data = PartitionProduceData { index: partition, records: Some(records), ..Default::default() };
        let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![data], ..Default::default() };
        let response = asker.raw.call(&request, 9).unwrap();
        assert!(response.responses[0].partition_responses[0].error_code.is_none());
    }
}

/// Fetches, and notes the fields of each partition in the answer, and how many bytes and offsets came.
fn fetch(asker: &mut Asker, what: &str, request: &FetchRequest, version: i16) -> i32 {
    let what = format!("{what} v{version}");
    let Some(response) = asker.ask(&what, request, version) else { return 0 };
    asker.say(&what, (response.error_code, response.session_id != 0, response.responses.len()));
    for topic in &response.responses {
        for answer in &topic.partitions {
            let records = answer.records.clone().unwrap_or_default();
            let (letters, _) = raw::letters(answer.partition_index, &records).unwrap();
            // Real Kafka cuts at the limit, in the middle of a batch. Only whole batches count.
            let whole: usize = Batches::new(records.clone()).map(|batch| batch.unwrap().bytes().len()).sum();
            let offsets = letters.first().map(|first| (first.offset, letters[letters.len() - 1].offset));
            asker.say(
                &what,
                (
                    answer.partition_index,
                    answer.error_code,
                    (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset),
                    (answer.records.is_some(), whole, offsets),
                    (&answer.aborted_transactions, answer.preferred_read_replica),
                    (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset),
                ),
            );
        }
    }
    response.session_id
}

const PLENTY: i32 = 1 << 20;

#[test]
fn limits_are_honoured_as_kafka_does() {
    compare(|asker| {
        asker.create("limits", 2);
        fill(asker, "limits", 0, 8);
        fill(asker, "limits", 1, 8);
        for version in [4, 5, 7, 11, 12] {
            fetch(asker, "all", &request("limits", vec![wanted(0, 0, PLENTY)]), version);
        }
        for bytes_max in [0, 1, 500, 1000, 1027, 1500, 2500, 5000] {
            let what = format!("partition_max_bytes {bytes_max}");
            fetch(asker, &what, &request("limits", vec![wanted(0, 0, bytes_max)]), 12);
            let both = vec![wanted(0, 0, bytes_max), wanted(1, 0, bytes_max)];
            fetch(asker, &format!("{what}, twice"), &request("limits", both), 12);
        }
        for max_bytes in [0, 1, 500, 1000, 1500, 2500, 5000] {
            let what = format!("max_bytes {max_bytes}");
            let both = vec![wanted(0, 0, PLENTY), wanted(1, 0, PLENTY)];
            let request = FetchRequest { max_bytes, ..request("limits", both) };
            fetch(asker, &what, &request, 12);
        }
        for offset in [1, 2, 3, 4, 22, 23] {
            fetch(asker, &format!("from {offset}"), &request("limits", vec![wanted(0, offset, 1)]), 12);
        }
    });
}

#[test]
fn min_bytes_and_max_wait_hold_the_answer() {
    compare(|asker| {
        asker.create("patience", 1);
        fill(asker, "patience", 0, 1);
        for (what, offset, min_bytes, max_wait_ms, waits) in [
            ("at the end, nothing wanted", 3, 0, 9_000, false),
            ("at the end, a byte wanted", 3, 1, 400, true),
            ("at the end, no wait", 3, 1, 0, false),
            ("enough is there", 0, 500, 9_000, false),
            ("not enough is there", 0, 5_000, 400, true),
            ("out of range", 99, 5_000, 9_000, false),
        ] {
            let started = Instant::now();
            let request = FetchRequest {
                min_bytes,
                max_wait_ms,
                ..request("patience", vec![wanted(0, offset, PLENTY)])
            };
            fetch(asker, what, &request, 12);
            // Even on a slow machine, a fetch that waits takes the whole time, and one that does not takes far less.
            let waited =
                max_wait_ms > 0 && started.elapsed() >= Duration::from_millis(max_wait_ms as u64 - 50);
            assert_eq!(waited, waits, "{what}: answered after {:?}", started.elapsed());
        }
    });
}

#[test]
fn what_cannot_be_fetched_is_named_as_kafka_does() {
    compare(|asker| {
        asker.create("errors", 1);
        fill(asker, "errors", 0, 2);
        for version in [4, 12] {
            for (what, topic, partition, offset) in [
                ("unknown topic", "nowhere", 0, 0),
                ("unknown partition", "errors", 9, 0),
                ("at the end", "errors", 0, 6),
                ("beyond the end", "errors", 0, 7),
                ("negative offset", "errors", 0, -1),
                ("very negative offset", "errors", 0, -100),
            ] {
                fetch(asker, what, &request(topic, vec![wanted(partition, offset, PLENTY)]), version);
            }
        }
        for epoch in [-1, 0, 1, 100] {
            let partition = FetchPartition { current_leader_epoch: epoch, ..wanted(0, 0, PLENTY) };
            fetch(asker, &format!("leader epoch {epoch}"), &request("errors", vec![partition]), 12);
            let partition = FetchPartition { last_fetched_epoch: epoch, ..wanted(0, 3, PLENTY) };
            fetch(asker, &format!("last fetched epoch {epoch}"), &request("errors", vec![partition]), 12);
        }
        let committed = FetchRequest { isolation_level: 1, ..request("errors", vec![wanted(0, 0, PLENTY)]) };
        fetch(asker, "read committed", &committed, 12);
        let unknown = FetchTopic {
            topic_id: Uuid::from_bytes([7; 16]),
            partitions: vec![wanted(0, 0, PLENTY)],
            ..Default::default()
        };
        let by_id = FetchRequest { topics: vec![unknown], ..request("", vec![]) };
        fetch(asker, "unknown topic id", &by_id, 13);
        fetch(asker, "unknown topic id", &by_id, 16);
        fetch(asker, "nothing", &FetchRequest { topics: vec![], ..request("", vec![]) }, 12);
    });
}

#[test]
fn sessions_remember_as_kafkas() {
    compare(|asker| {
        asker.create("session", 3);
        fill(asker, "session", 0, 1);
        let in_session = |id: i32, epoch: i32, partitions: Vec<FetchPartition>| FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: if partitions.is_empty() { vec![] } else { request("session", partitions).topics },
            ..request("", vec![])
        };
        let all = || (0..3).map(|partition| wanted(partition, 0, PLENTY)).collect();
        fetch(asker, "no session", &in_session(0, -1, all()), 12);
        let id = fetch(asker, "a new session", &in_session(0, 0, all()), 12);
        fetch(asker, "the same position again", &in_session(id, 1, vec![]), 12);
        fetch(asker, "the first partition moved on", &in_session(id, 2, vec![wanted(0, 3, PLENTY)]), 12);
        fetch(asker, "nothing new", &in_session(id, 3, vec![]), 12);
        fill(asker, "session", 1, 1);
        fetch(asker, "a batch in the second", &in_session(id, 4, vec![]), 12);
        fetch(asker, "the second moved on", &in_session(id, 5, vec![wanted(1, 3, PLENTY)]), 12);
        fetch(asker, "an epoch left out", &in_session(id, 9, vec![]), 12);
        fetch(asker, "an epoch again", &in_session(id, 5, vec![]), 12);
        fetch(asker, "the right epoch", &in_session(id, 6, vec![]), 12);
        fetch(asker, "an unknown session", &in_session(id ^ 0x5555, 1, vec![]), 12);
        fill(asker, "session", 0, 1);
        fill(asker, "session", 2, 1);
        let forgotten = |name: &'static str, partitions: Vec<i32>| ForgottenTopic {
            topic: Str::from_static(name),
            partitions,
            ..Default::default()
        };
        let forget = FetchRequest {
            forgotten_topics_data: vec![forgotten("session", vec![0]), forgotten("nowhere", vec![0])],
            ..in_session(id, 7, vec![])
        };
        fetch(asker, "the first forgotten", &forget, 12);
        fetch(asker, "it stays forgotten", &in_session(id, 8, vec![wanted(2, 3, PLENTY)]), 12);
        fetch(
            asker,
            "an unknown partition is asked for",
            &in_session(id, 9, vec![wanted(77, 0, PLENTY)]),
            12,
        );
        fetch(asker, "and still is unknown", &in_session(id, 10, vec![]), 12);
        fetch(asker, "out of range", &in_session(id, 11, vec![wanted(1, 999, PLENTY)]), 12);
        fetch(asker, "still out of range", &in_session(id, 12, vec![]), 12);
        fetch(asker, "the session closed", &in_session(id, -1, all()), 12);
        fetch(asker, "it is gone", &in_session(id, 13, vec![]), 12);
        fetch(asker, "epoch 5 of no session", &in_session(0, 5, all()), 12);
    });
}
