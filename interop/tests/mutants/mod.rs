//! Batches with every field changed, sent to real Kafka and to the embedded broker: what one takes the other takes, what
//! one refuses the other refuses with the same code and the same record errors, and what both took is the same in their
//! logs, byte for byte. What is meant to differ is in [`MEANT`].
//!
//! `MILENA_MUTANTS=20000 MILENA_SEED=7 cargo test -p milena-interop --test interop mutants` sends that many random
//! batches beside the listed ones, from another seed.

mod cases;
mod draft;
mod frames;

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::ErrorCode;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::Limits;
use milena_wire::batch::RawBatch;
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::pool::Pool;

use cases::Case;
use draft::PRODUCER_ID;

const TOPIC: &str = "mutants";
const PARTITIONS: i32 = 8;

/// What a broker said to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    code: ErrorCode,
    /// Where it went, counted from the log's end before.
    base_offset: i64,
    append_time: i64,
    log_start: i64,
    /// Which records were wrong.
    records: Vec<i32>,
}

/// Why an answer may be another than Kafka's.
struct Meant {
    why: &'static str,
    /// Kafka's code, ours, and the batch.
    is_it: fn(ErrorCode, ErrorCode, &Case) -> bool,
}

/// All that is meant to differ in codes. Beside them, `error_message` says why where Kafka says nothing, and at most
/// 10 000 record errors are told of one batch.
const MEANT: &[Meant] = &[
    // Lengths in compressed batches that lie, and lengths below −1, offsets outside an uncompressed batch, checksums and
    // sizes of lz4 content, reserved flags of gzip, what follows the last lz4 frame or the last chunk of snappy, integers
    // with more bits than they have: Kafka does not look at them.
    Meant {
        why: "Kafka takes what our reader cannot read",
        is_it: |kafka, ours, case| {
            kafka.is_none() && !ours.is_none() && is_readable(&case.draft.bytes()).is_err()
        },
    },
    // It depends on how far Java's stream came whether it finds a record broken or fails to decompress.
    Meant {
        why: "a damaged payload is refused with another code",
        is_it: |kafka, ours, case| {
            let codes =
                [ErrorCode::INVALID_RECORD, ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::INVALID_TIMESTAMP];
            case.draft.payload.is_some() && codes.contains(&kafka) && codes.contains(&ours)
        },
    },
    // Two of 40 000: the decoder does not mind bits that are left over.
    Meant {
        why: "our zstd decoder reads a damaged frame to its end, and finds sound records",
        is_it: |kafka, ours, case| {
            let is_damaged = case.draft.payload.is_some() && case.draft.codec == Compression::Zstd;
            is_damaged && kafka == ErrorCode::UNKNOWN_SERVER_ERROR && ours.is_none()
        },
    },
];

/// Sends all cases; the verdicts, and what the logs hold by partition and offset.
fn judge(bootstrap: &str, cases: &[Case]) -> (Vec<Verdict>, Vec<Option<Bytes>>) {
    let mut raw = Raw::connect(bootstrap).unwrap();
    raw.create_topic(TOPIC, PARTITIONS).unwrap();
    let mut ends = [0_i64; PARTITIONS as usize];
    let (mut verdicts, mut places) = (Vec::new(), Vec::new());
    for (number, case) in cases.iter().enumerate() {
        let index = number as i32 % PARTITIONS;
        let mut draft = case.draft.clone();
        // Nobody else's history.
        if let Some((id, ..)) = &mut draft.producer {
            *id += number as i64;
        }
        for (_, id) in draft.fields.iter_mut().filter(|(field, id)| *field == PRODUCER_ID && *id >= 0) {
            *id = if *id == i64::MAX { i64::MAX - number as i64 } else { 100_000_000 + number as i64 };
        }
        let data = PartitionProduceData { index, records: Some(draft.bytes()), ..Default::default() };
        let data = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
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
            *end = log_end(&mut raw, index);
        }
        verdicts.push(Verdict {
            code: answer.error_code,
            base_offset,
            append_time: answer.log_append_time_ms,
            log_start: answer.log_start_offset,
            records: answer.record_errors.iter().map(|error| error.batch_index).collect(),
        });
    }
    let logs: Vec<_> = (0..PARTITIONS).map(|index| log(&mut raw, index)).collect();
    let stored =
        places.iter().map(|place| place.and_then(|(index, at)| logs[index as usize].get(&at).cloned()));
    (verdicts, stored.collect())
}

fn log_end(raw: &mut Raw, index: i32) -> i64 {
    raw.fetch(TOPIC, index, 0).unwrap().high_watermark
}

/// The batches of a partition by their base offsets; these and the leader epochs made zero.
fn log(raw: &mut Raw, index: i32) -> BTreeMap<i64, Bytes> {
    let (mut log, mut next) = (BTreeMap::new(), 0);
    let end = log_end(raw, index);
    while next < end {
        let data = raw.fetch(TOPIC, index, next).unwrap();
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
            log.insert(base, bytes.into());
        }
        assert!(next > before, "partition {index} cannot be read on from {before}");
    }
    log
}

/// Whether our reader gets all records out of it.
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
    let Some(kafka) = real::kafka() else { return };
    let seed = number("MILENA_SEED", 10);
    let cases = cases::all(seed, number("MILENA_MUTANTS", 1500) as usize);
    let embedded = Embedded::start(1);
    let ((expected, kafkas), (answered, ours)) =
        (judge(&kafka.bootstrap(), &cases), judge(embedded.bootstrap(), &cases));
    let mut failures = Vec::new();
    let mut meant: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        let (kafka, our) = (&expected[at], &answered[at]);
        if let Some(batch) = &ours[at]
            && let Err(error) = is_readable(batch)
        {
            failures.push(format!("{}: taken, and cannot be read: {error}", case.what));
        }
        if kafka == our {
            if kafkas[at] != ours[at] {
                failures.push(format!(
                    "{}: in Kafka's log {:02x?}, in ours {:02x?}",
                    case.what, kafkas[at], ours[at]
                ));
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
    println!("{} batches, {taken} taken by Kafka; meant to differ: {meant:#?}", cases.len());
    assert!(
        failures.is_empty(),
        "seed {seed}: {} of {} batches\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}
