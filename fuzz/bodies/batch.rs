//! Any bytes as the `records` of a fetch response or produce request.

use bytes::Bytes;
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, BatchMut, Batches, ControlRecord, Header, RawBatch, RecordBatch};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;

const LIMITS: Limits = Limits { decompressed_bytes_max: 1 << 20 };

/// Nothing panics, nothing is larger than the limit, and what was understood is understood the same when written anew.
pub(crate) fn run(data: &[u8]) {
    let (mut decompressor, pool) = (Decompressor::new(), Pool::unpooled());
    let mut batches = Batches::new(Bytes::copy_from_slice(data));
    for raw in batches.by_ref() {
        let Ok(raw) = raw else { break };
        assert_eq!(raw.header.bytes, raw.bytes().len());
        assert!(raw.header.next_offset() > raw.header.base_offset || raw.header.base_offset == i64::MAX);
        edit(&raw);
        let Ok(batch) = raw.decompress(&mut decompressor, &pool, &LIMITS) else { continue };
        assert!(batch.records_bytes() <= LIMITS.decompressed_bytes_max.max(data.len()));
        read(&batch);
    }
    if let Some(partial) = batches.partial() {
        assert!(partial.needed.is_none_or(|needed| needed > partial.bytes));
    }
}

/// Editing a header never makes a checksum right or wrong.
fn edit(raw: &RawBatch) {
    let mut bytes = raw.bytes().to_vec();
    let Ok(mut batch) = BatchMut::new(&mut bytes) else { return };
    batch.set_base_offset(7);
    batch.set_partition_leader_epoch(3);
    batch.set_max_timestamp(raw.header.attributes.timestamp_type(), 99);
    let edited = RawBatch::parse(&bytes.into()).expect("was a batch before");
    assert_eq!(edited.check_crc().is_ok(), raw.check_crc().is_ok());
}

fn read(batch: &RecordBatch) {
    let mut rewritten =
        BatchBuilder::new(&Pool::unpooled()).bytes_max(usize::MAX).record_bytes_max(usize::MAX);
    let mut understood = Vec::new();
    for record in batch {
        let Ok(record) = record else { continue };
        let _ = ControlRecord::parse(&record);
        let Ok(headers) = record.headers().collect::<Result<Vec<Header<'_>>, _>>() else { continue };
        rewritten.append(record.timestamp, record.key, record.value, &headers).expect("was written before");
        understood.push((record.timestamp, record.key, record.value, headers));
    }
    // Messages may be empty; a record takes seven bytes.
    assert!(understood.len() <= batch.records_bytes() / 7);
    if let Ok(contents) = batch.verify() {
        assert_eq!(contents.record_count as usize, understood.len());
    }
    let raw = RawBatch::parse(&rewritten.seal().into_bytes()).expect("just sealed");
    raw.check_crc().expect("just sealed");
    let batch = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &LIMITS).expect("not compressed");
    // No producer may send an empty batch.
    let count = batch.verify().map_or(0, |contents| contents.record_count as usize);
    assert_eq!(count, understood.len());
    for (record, (timestamp, key, value, headers)) in batch.records().zip(understood) {
        let record = record.expect("just sealed");
        assert_eq!((record.timestamp, record.key, record.value), (timestamp, key, value));
        assert!(record.headers().map(|header| header.expect("just sealed")).eq(headers));
    }
}
