//! Properties of any records and any bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use milena_wire::Limits;
use milena_wire::batch::{
    BatchBuilder, BatchHeader, BatchMut, Batches, Header, RawBatch, RecordBatch, TimestampType,
};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Lengths on both sides of the limits at which their varints get longer, and of the limit of the reader's usual path.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..20),
        4 => vec(any::<u8>(), 60..68),
        1 => (8188_usize..8196, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        1 => ((1_usize << 20) - 20..(1 << 20) + 20, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

/// Timestamps that are close together, as is usual, and any other ones.
fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1_700_000_000_000_i64..1_700_000_100_000, 1 => any::<i64>(), 1 => (1_i64 << 26)..(1 << 29)]
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let headers = vec((vec(any::<u8>(), 0..70), option::of(vec(any::<u8>(), 0..70))), 0..4);
    (timestamp(), option::of(bytes()), option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

fn build(pool: &Pool, records: &[OwnedRecord]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(pool).bytes_max(usize::MAX).record_bytes_max(usize::MAX);
    for record in records {
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let foretold = builder.bytes() + builder.encoded_bytes(record.timestamp, key, value, &headers);
        builder.append(record.timestamp, key, value, &headers).unwrap();
        assert_eq!(builder.bytes(), foretold);
    }
    builder
}

fn open(bytes: &Bytes) -> RecordBatch {
    let raw = RawBatch::parse(bytes).unwrap();
    raw.check_crc().unwrap();
    raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default()).unwrap()
}

fn read(batch: &RecordBatch) -> Vec<OwnedRecord> {
    let mut records = Vec::new();
    for (index, record) in batch.records().enumerate() {
        let record = record.unwrap();
        assert_eq!(record.offset, batch.header().base_offset + index as i64);
        let header = |header: Header<'_>| (header.key.to_vec(), header.value.map(<[u8]>::to_vec));
        records.push(OwnedRecord {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers().map(|read| header(read.unwrap())).collect(),
        });
    }
    records
}

/// Reads all records that can be read, and returns their number.
fn exhaust(bytes: Bytes) -> usize {
    let (mut decompressor, pool) = (Decompressor::new(), Pool::unpooled());
    let limits = Limits { decompressed_bytes_max: 1 << 16 };
    let mut count = 0;
    for raw in Batches::new(bytes) {
        let Ok(raw) = raw else { break };
        let _ = raw.check_crc();
        let Ok(batch) = raw.decompress(&mut decompressor, &pool, &limits) else { continue };
        let _ = batch.verify();
        for record in batch.records().flatten() {
            count += 1 + record.headers().flatten().count();
        }
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_appended_is_read(records in vec(record(), 0..40), codec in 0..Compression::ALL.len()) {
        let pool = Pool::default();
        let compression = Some(Compression::ALL[codec]).filter(|codec| codec.is_built_in()).unwrap_or_default();
        let mut sealed = build(&pool, &records).seal_compressed(&mut Compressor::new(), compression, None).unwrap();
        sealed.stamp(4001, 1, 17);
        let batch = open(&sealed.into_bytes());
        prop_assert_eq!(&read(&batch), &records);
        let max = records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(batch.header().max_timestamp, max.unwrap_or(-1));
        if !records.is_empty() {
            prop_assert_eq!(batch.verify().unwrap().max_timestamp, max.unwrap());
        }
    }

    #[test]
    fn editing_the_header_is_as_building_it(
        count in 1_u32..50,
        producer in any::<(i64, i16, i32)>(),
        max_timestamp in any::<i64>(),
    ) {
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        for index in 0..count {
            builder.append(i64::from(index), None, Some(&index.to_be_bytes()), &[]).unwrap();
        }
        let mut sealed = builder.seal();
        sealed.stamp(producer.0 & i64::MAX, producer.1, producer.2 & i32::MAX);
        let mut bytes = sealed.into_bytes().to_vec();
        BatchMut::new(&mut bytes).unwrap().set_max_timestamp(TimestampType::LogAppendTime, max_timestamp);
        let crc = crc32c::crc32c(&bytes[21..]);
        prop_assert_eq!(BatchHeader::parse(&bytes).unwrap().crc, crc);
        prop_assert!(open(&bytes.into()).records().all(|record| record.unwrap().timestamp == max_timestamp));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in vec(any::<u8>(), 0..200), magic in 0_u8..4) {
        // Random bytes rarely have a valid length and magic, so set these.
        if bytes.len() > 16 {
            let length = bytes.len() as i32 - 12;
            bytes[..12].copy_from_slice(&[[0; 4], [0; 4], length.to_be_bytes()].concat());
            bytes[16] = magic;
        }
        exhaust(bytes.into());
    }

    #[test]
    fn a_changed_batch_is_read_without_a_panic(
        records in vec(record(), 1..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        codec in 0..Compression::ALL.len(),
    ) {
        let compression = Some(Compression::ALL[codec]).filter(|codec| codec.is_built_in()).unwrap_or_default();
        let sealed = build(&Pool::unpooled(), &records).seal_compressed(&mut Compressor::new(), compression, None);
        let mut bytes = sealed.unwrap().into_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        exhaust(bytes.into());
    }

    /// The reader has two paths through a record. The number of bytes after the batch decides which one the last records take.
    #[test]
    fn both_ways_through_a_record_say_the_same(
        body in vec(prop_oneof![4 => 0_u8..8, 1 => any::<u8>()], 0..30),
        headers in 0_u8..3,
    ) {
        let mut records = vec![body.len() as u8 * 2];
        records.extend(&body);
        let batch = build(&Pool::unpooled(), &[]).seal().into_bytes().to_vec();
        let outcome = |padding: usize| {
            let mut bytes = batch.clone();
            bytes.extend(&records);
            bytes.extend(std::iter::repeat_n(headers, padding));
            let length = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[23..27].copy_from_slice(&3_i32.to_be_bytes());
            bytes[57..61].copy_from_slice(&1_i32.to_be_bytes());
            let raw = RawBatch::parse(&bytes.into()).unwrap();
            let opened = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap();
            let first = opened.records().next().unwrap();
            first.map(|record| {
                let headers: Vec<_> = record.headers().map(|header| format!("{header:?}")).collect();
                (record.offset, record.timestamp, format!("{:?} {:?}", record.key, record.value), headers)
            })
        };
        let (short, long) = (outcome(0), outcome(64));
        prop_assert_eq!(short, long);
    }
}
