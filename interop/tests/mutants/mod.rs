//! Sends batches with changed fields to real Kafka and to the embedded broker. Both must accept the same batches, refuse the
//! same with the same code and the same record errors, and have the same bytes in their logs. [`MEANT`] has the intended
//! differences.
//!
//! `MILENA_MUTANTS=20000 MILENA_SEED=7 cargo test -p milena-interop --test interop mutants` sends that many random
//! batches besides the listed ones, from another seed.

mod cases;
mod draft;
mod frames;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use milena_broker::Broker;
use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::ErrorCode;
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::Limits;
use milena_wire::batch::RawBatch;
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::pool::Pool;

use cases::Case;
use draft::{PRODUCER_ID, Part};

/// A topic for the batches.
struct Place {
    topic: &'static str,
    config: Option<(&'static str, &'static str)>,
}

const PLAIN: Place = Place { topic: "mutants", config: None };

/// The broker sets the time.
const STAMPED: Place =
    Place { topic: "mutants-stamped", config: Some(("message.timestamp.type", "LogAppendTime")) };

/// Timestamps may not be old.
const RECENT: Place =
    Place { topic: "mutants-recent", config: Some(("message.timestamp.before.max.ms", "3600000")) };

const PARTITIONS: i32 = 8;

/// Every record needs a key.
const COMPACTED: Place = Place { topic: "mutants-compacted", config: Some(("cleanup.policy", "compact")) };

/// A broker's answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    code: ErrorCode,
    /// Its offset, relative to the log's end before.
    base_offset: i64,
    append_time: i64,
    log_start: i64,
    /// The record errors.
    records: Vec<i32>,
}

/// A reason for an answer that differs from Kafka's.
struct Meant {
    why: &'static str,
    /// Kafka's code, ours, and the batch.
    is_it: fn(ErrorCode, ErrorCode, &Case) -> bool,
}

/// All intended differences of error codes. Besides these, `error_message` has a reason where Kafka has none, a batch gets at
/// most 10 000 record errors, and a batch of more than 64 MiB after decompression is MESSAGE_TOO_LARGE.
const MEANT: &[Meant] = &[
    // Kafka does not check wrong lengths in compressed batches, lengths below −1, offsets outside an uncompressed batch,
    // checksums and sizes of lz4 content, reserved flags of gzip, bytes after the last lz4 frame or the last chunk of snappy,
    // and integers with too many bits.
    Meant {
        why: "Kafka takes what our reader cannot read",
        is_it: |kafka, ours, case| {
            kafka.is_none() && !ours.is_none() && is_readable(&case.draft.bytes()).is_err()
        },
    },
    // Depending on how far Java's stream came, it finds a broken record or fails to decompress.
    Meant {
        why: "a damaged payload is refused with another code",
        is_it: |kafka, ours, case| {
            let codes =
                [ErrorCode::INVALID_RECORD, ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::INVALID_TIMESTAMP];
            case.draft.payload.is_some() && codes.contains(&kafka) && codes.contains(&ours)
        },
    },
    // Two of 40 000: the decoder accepts bits that are left over.
    Meant {
        why: "our zstd decoder reads a damaged frame to its end, and finds sound records",
        is_it: |kafka, ours, case| {
            let is_damaged = case.draft.payload.is_some() && case.draft.codec == Compression::Zstd;
            is_damaged && kafka == ErrorCode::UNKNOWN_SERVER_ERROR && ours.is_none()
        },
    },
];

/// Sends all cases to an existing topic; returns the verdicts, and the accepted batches from the log.
fn judge(bootstrap: &str, place: &Place, cases: &[Case]) -> (Vec<Verdict>, Vec<Option<Bytes>>) {
    let mut raw = Raw::connect(bootstrap).unwrap();
    let is_stamped = place.config == STAMPED.config;
    let topic = place.topic;
    let mut ends = [0_i64; PARTITIONS as usize];
    let (mut verdicts, mut places) = (Vec::new(), Vec::new());
    for (number, case) in cases.iter().enumerate() {
        let index = number as i32 % PARTITIONS;
        let mut draft = case.draft.clone();
        // A producer id without a history.
        if let Some((id, ..)) = &mut draft.producer {
            *id += number as i64;
        }
        for (_, id) in draft.fields.iter_mut().filter(|(field, id)| *field == PRODUCER_ID && *id >= 0) {
            *id = if *id == i64::MAX { i64::MAX - number as i64 } else { 100_000_000 + number as i64 };
        }
        let data = PartitionProduceData { index, records: Some(draft.bytes()), ..Default::default() };
        let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![data], ..Default::default() };
        let response = raw.call(&request, case.version);
        let response = response.unwrap_or_else(|error| panic!("{}: {error:#}", case.what));
        let answer = &response.responses[0].partition_responses[0];
        let end = &mut ends[index as usize];
        let is_taken = answer.error_code.is_none();
        places.push(is_taken.then_some((index, answer.base_offset)));
        let base_offset = if is_taken { answer.base_offset - *end } else { answer.base_offset };
        if is_taken {
            *end = log_end(&mut raw, topic, index);
        }
        verdicts.push(Verdict {
            code: answer.error_code,
            base_offset,
            // Both brokers append at different times.
            append_time: if is_stamped {
                answer.log_append_time_ms.min(0)
            } else {
                answer.log_append_time_ms
            },
            log_start: answer.log_start_offset,
            records: answer.record_errors.iter().map(|error| error.batch_index).collect(),
        });
    }
    let logs: Vec<_> = (0..PARTITIONS).map(|index| log(&mut raw, topic, index, is_stamped)).collect();
    let stored =
        places.iter().map(|place| place.and_then(|(index, at)| logs[index as usize].get(&at).cloned()));
    (verdicts, stored.collect())
}

fn create(bootstrap: &str, place: &Place) {
    let mut raw = Raw::connect(bootstrap).unwrap();
    let configs = place.config.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    });
    let topic = CreatableTopic {
        name: place.topic.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(raw.call(&request, 5).unwrap().topics[0].error_code, ErrorCode::NONE);
    // Real Kafka answers before every partition has its leader.
    let started = Instant::now();
    while (0..PARTITIONS).any(|index| !raw.fetch(place.topic, index, 0).unwrap().error_code.is_none()) {
        assert!(started.elapsed() < Duration::from_secs(30), "{} has no leaders", place.topic);
    }
}

fn log_end(raw: &mut Raw, topic: &str, index: i32) -> i64 {
    raw.fetch(topic, index, 0).unwrap().high_watermark
}

/// The batches of a partition by their base offsets. Base offsets and leader epochs are set to zero, and so are append times
/// with their checksums.
fn log(raw: &mut Raw, topic: &str, index: i32, is_stamped: bool) -> BTreeMap<i64, Bytes> {
    let (mut log, mut next) = (BTreeMap::new(), 0);
    let end = log_end(raw, topic, index);
    while next < end {
        let data = raw.fetch(topic, index, next).unwrap();
        let mut rest = data.records.unwrap();
        let before = next;
        while rest.len() > 61 {
            let length = 12 + i32::from_be_bytes(*rest[8..].first_chunk().unwrap()) as usize;
            if rest.len() < length {
                break;
            }
            let batch = rest.split_to(length);
            let base = i64::from_be_bytes(*batch.first_chunk().unwrap());
            next = base + 1 + i64::from(i32::from_be_bytes(*batch[23..].first_chunk().unwrap()));
            let mut bytes = batch.to_vec();
            bytes[..8].fill(0);
            bytes[12..16].fill(0);
            if is_stamped {
                bytes[17..21].fill(0);
                bytes[35..43].fill(0);
            }
            log.insert(base, bytes.into());
        }
        assert!(next > before, "partition {index} cannot be read on from {before}");
    }
    log
}

/// Whether our reader can read all its records.
fn is_readable(batch: &Bytes) -> Result<(), String> {
    let read = || {
        let raw = RawBatch::parse(batch)?;
        raw.check_crc()?;
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default())?;
        let mut count = 0;
        for record in batch.records() {
            let record = record.map_err(|error| error.to_string())?;
            record.headers().try_for_each(|header| header.map(|_| ()))?;
            count += 1;
        }
        if count == raw.header.record_count { Ok(()) } else { Err(format!("{count} records").into()) }
    };
    read().map_err(|error: Box<dyn std::error::Error>| error.to_string())
}

#[test]
fn changed_batches_are_taken_or_refused_as_kafka_does() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let seed = number("MILENA_SEED", 10);
    compare(&PLAIN, &cases::all(seed, number("MILENA_MUTANTS", 1500) as usize));
}

#[test]
fn topics_that_judge_time_otherwise_take_or_refuse_as_kafka_does() {
    for place in [STAMPED, RECENT] {
        let mut cases = cases::all(11, 300);
        // The effect of a record's and a header's fields on time is the same for all codecs but two.
        cases.retain(|case| matches!(case.draft.codec, Compression::None | Compression::Lz4));
        for case in cases.iter_mut().step_by(2) {
            // Half of the timestamps are now, far from the limits of an hour.
            case.draft.base_timestamp = now_ms() - 60_000;
        }
        compare(&place, &cases);
    }
}

#[test]
fn records_without_a_key_are_refused_in_compacted_topics_as_kafka_does() {
    let mut cases = cases::all(12, 300);
    cases.retain(|case| matches!(case.draft.codec, Compression::None | Compression::Zstd));
    for case in cases.iter_mut().step_by(2) {
        for record in &mut case.draft.records {
            record.key = Part::of(b"key");
        }
    }
    compare(&COMPACTED, &cases);
}

/// A broker with a topic whose config it refuses now, and accepted before.
fn embedded_with_old_topic(place: &Place, dir: &Path) -> Embedded {
    let embedded = Embedded::build(Broker::builder().data_dir(dir));
    create(embedded.bootstrap(), &Place { config: None, ..*place });
    drop(embedded);
    let catalog = dir.join("milena.catalog");
    let text = std::fs::read_to_string(&catalog).unwrap();
    let line = text.lines().find(|line| line.starts_with("topic ")).unwrap();
    let (name, value) = place.config.unwrap();
    std::fs::write(&catalog, text.replace(line, &format!("{line}\nconfig {name} {value}"))).unwrap();
    Embedded::build(Broker::builder().data_dir(dir))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn compare(place: &Place, cases: &[Case]) {
    let Some(kafka) = real::kafka() else { return };
    let dir = tempfile::tempdir().unwrap();
    create(&kafka.bootstrap(), place);
    let embedded = if place.config == COMPACTED.config {
        embedded_with_old_topic(place, dir.path())
    } else {
        let embedded = Embedded::start(1);
        create(embedded.bootstrap(), place);
        embedded
    };
    let ((expected, kafkas), (answered, ours)) =
        (judge(&kafka.bootstrap(), place, cases), judge(embedded.bootstrap(), place, cases));
    let mut failures = Vec::new();
    let mut meant: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        let (kafka, our) = (&expected[at], &answered[at]);
        if let Some(batch) = &ours[at]
            && place.config != STAMPED.config
            && let Err(error) = is_readable(batch)
        {
            failures.push(format!("{}: taken, and cannot be read: {error}", case.what));
        }
        if kafka == our {
            if kafkas[at] != ours[at] {
                let (kafka, our) = (&kafkas[at], &ours[at]);
                failures.push(format!("{}: in Kafka's log {kafka:02x?}, in ours {our:02x?}", case.what));
            }
            continue;
        }
        match MEANT.iter().find(|meant| (meant.is_it)(kafka.code, our.code, case)) {
            Some(found) => *meant.entry(found.why).or_default() += 1,
            None => failures.push(format!(
                "{}:\n  Kafka {kafka:?}\n  ours  {our:?}\n  {:?}\n  {:02x?}",
                case.what,
                case.draft,
                case.draft.bytes()
            )),
        }
    }
    let taken = expected.iter().filter(|verdict| verdict.code.is_none()).count();
    println!("{}: {} batches, {taken} taken by Kafka; meant to differ: {meant:#?}", place.topic, cases.len());
    let (count, all) = (failures.len(), cases.len());
    assert!(failures.is_empty(), "{}: {count} of {all} batches\n{}", place.topic, failures.join("\n"));
}
