//! Measures the record path of milena-wire, a loop that only moves the bytes, and kafka-protocol.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as rival;
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, Batches, Header};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;

use crate::figures::{Contestant, compare};

/// The number of rounds, which take a few seconds.
pub(crate) const ROUNDS: usize = 501;

/// The size of a producer's batch under load.
const BATCH_BYTES: usize = 1 << 20;
const TIMESTAMP: i64 = 1_700_000_000_000;
/// The bytes of a record besides key and value: length, attributes, deltas, lengths and header count.
const FRAME: [u8; 9] = [0; 9];

/// Prints the figures.
pub(crate) fn run(rounds: usize) -> Result<(), String> {
    for value_bytes in [100, 1024] {
        let input = Input::new(value_bytes);
        println!("{} records of {value_bytes} bytes to a batch of 1 MiB, {rounds} rounds", input.records());
        append(&input, rounds);
        read(&input, rounds);
    }
    Ok(())
}

/// One hot function over the same input again and again, for counting its instructions.
pub(crate) fn workload(name: &str) -> Result<(), String> {
    let input = Input::new(if name.ends_with("1024") { 1024 } else { 100 });
    let pool = Pool::default();
    match name.split_once('-') {
        Some(("append", _)) => drop(black_box(append_milena(&pool, &input, &[]))),
        Some(("append_headers", _)) => {
            let headers = [Header::new("trace", Some(b"0123456789abcdef")), Header::new("tenant", None)];
            drop(black_box(append_milena(&pool, &input, &headers)));
        }
        Some(("read", _)) => {
            let batch = append_milena(&pool, &input, &[]);
            black_box(read_milena(&pool, &batch));
        }
        _ => return Err(format!("no workload is called {name}")),
    }
    Ok(())
}

/// The number of records in the batch of that workload.
pub(crate) fn workload_records(name: &str) -> usize {
    Input::new(if name.ends_with("1024") { 1024 } else { 100 }).records()
}

/// Values of JSON, all of one length and all different.
struct Input {
    values: Vec<Bytes>,
    records: usize,
}

impl Input {
    fn new(value_bytes: usize) -> Self {
        let value = |index: usize| {
            let mut text =
                format!("{{\"id\":{index:08},\"kind\":\"order\",\"state\":\"created\",\"note\":\"");
            let mut state = index as u32 | 1;
            while text.len() < value_bytes - 2 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push(char::from(b'a' + (state >> 24) as u8 % 26));
            }
            text.push_str("\"}");
            Bytes::from(text.into_bytes())
        };
        let records = (BATCH_BYTES - 100) / (value_bytes + FRAME.len() + 3);
        Self { values: (0..1024).map(value).collect(), records }
    }

    fn records(&self) -> usize {
        self.records
    }

    fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.values.iter().cycle().take(self.records)
    }
}

fn append(input: &Input, rounds: usize) {
    let pool = Pool::default();
    let mut copied = Vec::with_capacity(BATCH_BYTES);
    let rival_records: Vec<rival::Record> = input.values().enumerate().map(rival_record).collect();
    let mut rival_buffer = BytesMut::with_capacity(BATCH_BYTES * 2);
    let mut contestants = [
        Contestant { name: "copy and CRC-32C", job: Box::new(|| append_floor(&mut copied, input)) },
        Contestant {
            name: "milena append and seal",
            job: Box::new(|| drop(black_box(append_milena(&pool, input, &[])))),
        },
        Contestant {
            name: "kafka-protocol encode",
            job: Box::new(|| {
                rival_buffer.clear();
                append_rival(&mut rival_buffer, &rival_records);
            }),
        },
    ];
    compare(" append", input.records(), rounds, &mut contestants);
}

fn read(input: &Input, rounds: usize) {
    let pool = Pool::default();
    let batch = append_milena(&pool, input, &[]);
    let mut framed = Vec::new();
    append_floor(&mut framed, input);
    let stride = framed.len() / input.records();
    let mut contestants = [
        Contestant {
            name: "CRC-32C and touch",
            job: Box::new(|| {
                black_box(read_floor(&framed, stride));
            }),
        },
        Contestant {
            name: "milena check and iterate",
            job: Box::new(|| {
                black_box(read_milena(&pool, &batch));
            }),
        },
        Contestant {
            name: "kafka-protocol decode",
            job: Box::new(|| {
                black_box(read_rival(&batch));
            }),
        },
    ];
    compare(" read", input.records(), rounds, &mut contestants);
}

#[inline(never)]
fn append_floor(buffer: &mut Vec<u8>, input: &Input) {
    buffer.clear();
    for value in input.values() {
        buffer.extend_from_slice(black_box(&FRAME));
        buffer.extend_from_slice(value);
    }
    black_box(crc32c::crc32c(buffer));
}

#[inline(never)]
fn append_milena(pool: &Pool, input: &Input, headers: &[Header<'_>]) -> Bytes {
    let mut builder = BatchBuilder::with_expected_bytes(pool, BATCH_BYTES).bytes_max(BATCH_BYTES * 2);
    for (index, value) in input.values().enumerate() {
        builder.append(TIMESTAMP + index as i64 / 64, None, Some(value), headers).expect("there is room");
    }
    let mut sealed = builder.seal();
    sealed.stamp(4001, 0, 17);
    sealed.into_bytes()
}

#[inline(never)]
fn append_rival(buffer: &mut BytesMut, records: &[rival::Record]) {
    let options = rival::RecordEncodeOptions { version: 2, compression: rival::Compression::None };
    rival::RecordBatchEncoder::encode(buffer, records, &options).expect("encodes");
    black_box(buffer);
}

fn rival_record((index, value): (usize, &Bytes)) -> rival::Record {
    rival::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 4001,
        producer_epoch: 0,
        timestamp_type: rival::TimestampType::Creation,
        offset: index as i64,
        sequence: 17 + index as i32,
        timestamp: TIMESTAMP + index as i64 / 64,
        key: None,
        value: Some(value.clone()),
        headers: Default::default(),
    }
}

/// The least that a consumer does: reads the value's first and last byte.
fn touch(value: &[u8]) -> u64 {
    match value {
        [first, .., last] => u64::from(*first) + u64::from(*last),
        _ => 0,
    }
}

#[inline(never)]
fn read_floor(framed: &[u8], stride: usize) -> u64 {
    black_box(crc32c::crc32c(framed));
    framed.chunks_exact(stride).map(|record| touch(&record[FRAME.len()..])).sum()
}

#[inline(never)]
fn read_milena(pool: &Pool, records: &Bytes) -> u64 {
    let (mut decompressor, limits) = (Decompressor::new(), Limits::default());
    let mut sum = 0;
    for raw in Batches::new(records.clone()) {
        let raw = raw.expect("is whole");
        raw.check_crc().expect("is intact");
        let batch = raw.decompress(&mut decompressor, pool, &limits).expect("is not compressed");
        for record in &batch {
            let record = record.expect("is well formed");
            sum += touch(record.value.unwrap_or_default()) + record.offset as u64 + record.timestamp as u64;
        }
    }
    sum
}

#[inline(never)]
fn read_rival(records: &Bytes) -> u64 {
    let set = rival::RecordBatchDecoder::decode(&mut records.clone()).expect("decodes");
    set.records
        .iter()
        .map(|record| {
            touch(record.value.as_deref().unwrap_or_default())
                + record.offset as u64
                + record.timestamp as u64
        })
        .sum()
}
