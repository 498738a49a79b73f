//! Record batches and message sets of clients of other projects are read record by record, and written again byte for byte.
//! `interop/src/bin/golden.rs` made them.
//!
//! | | lz4 blocks | checksums | snappy | zstd content size |
//! |---|---|---|---|---|
//! | Java | 64 KiB | none (broken header checksum in v0) | xerial | no |
//! | franz-go | 4 MiB | content | raw | yes |
//! | librdkafka | 64 KiB | none | raw | no |
//! | sarama | 64 KiB | content | xerial | yes, and a checksum |

#![cfg(all(
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    any(feature = "zstd", feature = "zstd-c")
))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "golden/records.rs"]
mod records;

use bytes::Bytes;
use milena_wire::Limits;
use milena_wire::batch::{
    BatchBuilder, BatchMut, Batches, HEADER_BYTES, Header, RawBatch, Record, RecordBatch,
};
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::pool::Pool;
use records::GoldenRecord;

const CLIENTS: [&str; 4] = ["java", "franz-go", "librdkafka", "sarama"];

/// The records of `MessageSets.java`.
const APPEND_TIME: i64 = 1_700_000_999_000;
const FIRST_OFFSET: i64 = 100;

fn golden(name: &str) -> Bytes {
    let path = format!("{}/tests/golden/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")).into()
}

fn raw_batches(bytes: &Bytes) -> Vec<RawBatch> {
    let mut batches = Batches::new(bytes.clone());
    let raw: Vec<RawBatch> = batches.by_ref().map(Result::unwrap).collect();
    assert_eq!(batches.partial(), None);
    raw
}

fn open(raw: &RawBatch) -> RecordBatch {
    raw.check_crc().unwrap();
    raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default()).unwrap()
}

fn golden_record(record: &Record<'_>) -> GoldenRecord {
    let header = |header: Header<'_>| (header.name().unwrap().to_owned(), header.value.map(<[u8]>::to_vec));
    GoldenRecord {
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers().map(|read| header(read.unwrap())).collect(),
    }
}

/// All records, and their offsets.
fn read(bytes: &Bytes) -> (Vec<i64>, Vec<GoldenRecord>) {
    let (mut offsets, mut records) = (Vec::new(), Vec::new());
    for raw in raw_batches(bytes) {
        for record in &open(&raw) {
            let record = record.unwrap();
            offsets.push(record.offset);
            records.push(golden_record(&record));
        }
    }
    (offsets, records)
}

fn assert_same(name: &str, expected: &[GoldenRecord], read: &[GoldenRecord]) {
    for (index, (expected, read)) in expected.iter().zip(read).enumerate() {
        assert!(read == expected, "{name}: record {index}");
    }
    assert_eq!(read.len(), expected.len(), "{name}: records");
}

#[test]
fn batches_of_every_client_in_every_codec_are_read_byte_for_byte() {
    for client in CLIENTS {
        for compression in Compression::ALL {
            let name = format!("{client}-{compression}");
            let expected = records::records(compression != Compression::None);
            let bytes = golden(&name);
            for raw in raw_batches(&bytes) {
                assert_eq!(raw.header.attributes.compression(), Ok(compression), "{name}");
            }
            let (offsets, read) = read(&bytes);
            assert_same(&name, &expected, &read);
            assert!(offsets.into_iter().eq(0..expected.len() as i64), "{name}: offsets");
        }
    }
}

#[test]
fn message_sets_of_java_are_read_byte_for_byte() {
    for compression in Compression::ALL.into_iter().filter(|compression| *compression != Compression::Zstd) {
        for magic in ["v0", "v1"] {
            for append_time in [false, true].into_iter().filter(|append_time| !append_time || magic == "v1") {
                let name =
                    format!("java-{magic}-{compression}{}", if append_time { "-append-time" } else { "" });
                let mut expected = records::records(compression != Compression::None);
                for record in &mut expected {
                    record.headers.clear();
                    match (magic, append_time) {
                        ("v0", _) => record.timestamp = milena_wire::batch::NO_TIMESTAMP,
                        (_, true) => record.timestamp = APPEND_TIME,
                        (_, false) => {}
                    }
                }
                let (offsets, read) = read(&golden(&name));
                assert_same(&name, &expected, &read);
                let last = FIRST_OFFSET + expected.len() as i64;
                assert!(offsets.into_iter().eq(FIRST_OFFSET..last), "{name}: offsets");
            }
        }
    }
}

/// The batch that our builder makes of the records of `raw`, with the fields that the producer and the broker set.
fn rebuilt(raw: &RawBatch) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&Pool::default());
    for record in &open(raw) {
        let record = record.unwrap();
        let headers: Vec<Header<'_>> = record.headers().map(Result::unwrap).collect();
        builder.append(record.timestamp, record.key, record.value, &headers).unwrap();
    }
    let mut bytes = builder.seal().into_bytes().to_vec();
    let mut batch = BatchMut::new(&mut bytes).unwrap();
    batch.set_base_offset(raw.header.base_offset);
    batch.set_partition_leader_epoch(raw.header.partition_leader_epoch.unwrap());
    batch.set_producer(raw.header.producer);
    bytes
}

#[test]
fn our_uncompressed_batch_of_the_same_records_is_java_s_byte_for_byte() {
    for client in CLIENTS {
        for raw in raw_batches(&golden(&format!("{client}-none"))) {
            assert!(raw.header.producer.is_some(), "{client} produces idempotently");
            assert!(rebuilt(&raw) == *raw.bytes(), "{client}");
        }
    }
}

#[test]
fn our_records_are_those_that_other_clients_compressed() {
    for client in CLIENTS {
        for compression in Compression::ALL {
            for raw in raw_batches(&golden(&format!("{client}-{compression}"))) {
                let mut theirs = Vec::new();
                Decompressor::new()
                    .decompress(compression, 2, &raw.bytes()[HEADER_BYTES..], &mut theirs, 1 << 20)
                    .unwrap();
                assert!(rebuilt(&raw)[HEADER_BYTES..] == theirs, "{client}-{compression}");
            }
        }
    }
}

#[test]
fn the_limit_holds_for_what_other_clients_wrote() {
    let limits = Limits { decompressed_bytes_max: 90_000 };
    let names = ["java", "franz-go", "librdkafka", "sarama", "java-v0", "java-v1"];
    for (client, compression) in names.iter().flat_map(|name| Compression::ALL.map(|codec| (name, codec))) {
        if compression == Compression::None || compression == Compression::Zstd && client.contains("-v") {
            continue;
        }
        let raw = raw_batches(&golden(&format!("{client}-{compression}"))).pop().unwrap();
        let error = raw.decompress(&mut Decompressor::new(), &Pool::default(), &limits).unwrap_err();
        assert!(error.to_string().contains("limit of 90000 bytes"), "{client}-{compression}: {error}");
    }
}

/// Reads as far as possible, without verifying checksums.
fn read_damaged(bytes: Vec<u8>, decompressor: &mut Decompressor, pool: &Pool) {
    for raw in Batches::new(bytes.into()) {
        let Ok(raw) = raw else { return };
        let Ok(batch) = raw.decompress(decompressor, pool, &Limits { decompressed_bytes_max: 1 << 20 })
        else {
            return;
        };
        for record in &batch {
            let Ok(record) = record else { return };
            record.headers().for_each(drop);
        }
    }
}

#[test]
fn damaged_batches_are_errors_and_never_a_panic() {
    let (mut decompressor, pool) = (Decompressor::new(), Pool::default());
    let folder = format!("{}/tests/golden", env!("CARGO_MANIFEST_DIR"));
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "bin")) {
        let whole = std::fs::read(&path).unwrap();
        // Every byte of the frames and of the small batches, and some bytes of compressed blocks.
        let step = |at: usize| if at < 400 || whole.len() < 3000 { 1 } else { 97 };
        let mut at = 0;
        while at < whole.len() {
            read_damaged(whole[..at].to_vec(), &mut decompressor, &pool);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            read_damaged(flipped.clone(), &mut decompressor, &pool);
            flipped[at] = !whole[at];
            read_damaged(flipped, &mut decompressor, &pool);
            at += step(at);
        }
    }
}
