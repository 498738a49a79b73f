//! Record batches and message sets of Kafka's encoder: we read them, and write the same bytes.
//!
//! `cargo xtask oracle` makes the file; `xtask/oracle/Batches.java` has its layout.

#![cfg(feature = "gzip")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Buf, Bytes};
use milena_wire::Limits;
use milena_wire::batch::{
    BatchBuilder, BatchMut, Batches, ControlRecord, Header, NO_TIMESTAMP, ProducerStamp, TimestampType,
    end_transaction,
};
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::pool::Pool;

struct Entry {
    number: usize,
    magic: u8,
    gzip: bool,
    append_time: bool,
    transactional: bool,
    marker: u8,
    base_offset: i64,
    producer: Option<ProducerStamp>,
    partition_leader_epoch: Option<i32>,
    time: i64,
    records: Vec<Record>,
    encoded: Bytes,
}

struct Record {
    offset: i64,
    timestamp: i64,
    given_timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

fn entries() -> Vec<Entry> {
    let compressed: &[u8] = include_bytes!("java/batches.bin.gz");
    let mut file = Vec::new();
    Decompressor::new().decompress(Compression::Gzip, 2, compressed, &mut file, 1 << 24).unwrap();
    let mut file = Bytes::from(file);
    let mut entries = Vec::new();
    while file.has_remaining() {
        entries.push(entry(&mut file, entries.len()));
    }
    entries
}

fn entry(file: &mut Bytes, number: usize) -> Entry {
    let [magic, gzip, append_time, transactional, marker] = [0; 5].map(|_| file.get_u8());
    let base_offset = file.get_i64();
    let stamp = ProducerStamp {
        producer_id: file.get_i64(),
        producer_epoch: file.get_i16(),
        base_sequence: Some(file.get_i32()).filter(|sequence| *sequence >= 0),
    };
    let partition_leader_epoch = Some(file.get_i32()).filter(|epoch| *epoch >= 0);
    let time = file.get_i64();
    let count = file.get_i32();
    Entry {
        number,
        magic,
        gzip: gzip == 1,
        append_time: append_time == 1,
        transactional: transactional == 1,
        marker,
        base_offset,
        producer: (stamp.producer_id >= 0).then_some(stamp),
        partition_leader_epoch,
        time,
        records: (0..count).map(|_| record(file)).collect(),
        encoded: nullable(file).unwrap(),
    }
}

fn record(file: &mut Bytes) -> Record {
    let [offset, timestamp, given_timestamp] = [0; 3].map(|_| file.get_i64());
    let (key, value) = (nullable(file), nullable(file));
    let headers = (0..file.get_i32()).map(|_| (nullable(file).unwrap(), nullable(file))).collect();
    Record { offset, timestamp, given_timestamp, key, value, headers }
}

fn nullable(file: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(file.get_i32()).ok()?;
    Some(file.split_to(length))
}

impl Entry {
    fn is_dense(&self) -> bool {
        self.records.iter().zip(self.base_offset..).all(|(record, offset)| record.offset == offset)
    }
}

#[test]
fn what_java_wrote_is_read() {
    let (pool, mut decompressor) = (Pool::default(), Decompressor::new());
    let mut seen = 0;
    for entry in entries().iter().filter(|entry| entry.marker == 0) {
        let mut expected = entry.records.iter();
        for raw in Batches::new(entry.encoded.clone()) {
            let raw = raw.unwrap();
            raw.check_crc().unwrap();
            assert_eq!(raw.header.magic, entry.magic, "entry {}", entry.number);
            assert_eq!(raw.header.producer, entry.producer);
            assert_eq!(raw.header.partition_leader_epoch, entry.partition_leader_epoch);
            assert_eq!(raw.header.is_transactional(), entry.transactional);
            let append_time = raw.header.attributes.timestamp_type() == TimestampType::LogAppendTime;
            assert_eq!(append_time, entry.append_time);
            let batch = raw.decompress(&mut decompressor, &pool, &Limits::default()).unwrap();
            for record in &batch {
                let (record, expected) = (record.unwrap(), expected.next().unwrap());
                let place = format!("entry {}, offset {}", entry.number, expected.offset);
                assert_eq!(
                    (record.offset, record.timestamp),
                    (expected.offset, expected.timestamp),
                    "{place}"
                );
                assert_eq!((record.key, record.value), (expected.key.as_deref(), expected.value.as_deref()));
                let headers = record.headers().map(Result::unwrap);
                let wanted =
                    expected.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
                assert!(headers.eq(wanted), "{place}");
            }
            if entry.magic == 2 && entry.is_dense() {
                assert_eq!(batch.verify().unwrap().record_count as usize, entry.records.len());
            }
        }
        assert!(expected.next().is_none(), "entry {} holds more", entry.number);
        seen += 1;
    }
    assert_eq!(seen, 12 * 10);
}

#[test]
fn what_we_write_is_what_java_wrote() {
    let mut seen = 0;
    for entry in entries() {
        if entry.marker != 0 || entry.magic != 2 || entry.gzip || !entry.is_dense() {
            continue;
        }
        let mut builder = BatchBuilder::new(&Pool::unpooled()).transactional(entry.transactional);
        for record in &entry.records {
            let headers: Vec<_> =
                record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.append(record.given_timestamp, key, value, &headers).unwrap();
        }
        let mut sealed = builder.seal();
        if let Some(stamp) = entry.producer {
            sealed.stamp(stamp.producer_id, stamp.producer_epoch, stamp.base_sequence.unwrap());
        }
        let mut ours = sealed.into_bytes().to_vec();
        let mut batch = BatchMut::new(&mut ours).unwrap();
        batch.set_base_offset(entry.base_offset);
        if let Some(epoch) = entry.partition_leader_epoch {
            batch.set_partition_leader_epoch(epoch);
        }
        if entry.append_time {
            batch.set_max_timestamp(TimestampType::LogAppendTime, entry.time);
        }
        assert_eq!(ours, entry.encoded, "entry {}", entry.number);
        seen += 1;
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn our_markers_are_those_java_writes() {
    let mut seen = 0;
    for entry in entries().into_iter().filter(|entry| entry.marker != 0) {
        let marker = match entry.marker {
            1 => ControlRecord::Commit { coordinator_epoch: 31 },
            _ => ControlRecord::Abort { coordinator_epoch: 31 },
        };
        let stamp = entry.producer.unwrap();
        let pool = Pool::unpooled();
        let sealed = end_transaction(&pool, marker, entry.time, stamp.producer_id, stamp.producer_epoch);
        let mut ours = sealed.into_bytes().to_vec();
        let mut batch = BatchMut::new(&mut ours).unwrap();
        batch.set_base_offset(entry.base_offset);
        batch.set_partition_leader_epoch(entry.partition_leader_epoch.unwrap());
        assert_eq!(ours, entry.encoded);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn the_file_holds_every_kind() {
    let entries = entries();
    let count = |matches: fn(&Entry) -> bool| entries.iter().filter(|entry| matches(entry)).count();
    for magic in 0..=2 {
        assert!(entries.iter().any(|entry| entry.magic == magic && entry.gzip && !entry.is_dense()));
    }
    assert!(count(|entry| entry.append_time) > 20);
    assert!(count(|entry| entry.transactional) > 5);
    assert!(count(|entry| entry.records.iter().any(|record| !record.headers.is_empty())) > 10);
    assert!(count(|entry| entry.records.iter().any(|record| record.timestamp == NO_TIMESTAMP)) > 10);
}
