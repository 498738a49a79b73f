//! Records cost no heap allocation in either direction. A batch costs a few, for any number of records.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, Batches, Header};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

const HEADERS: [Header<'_>; 2] = [Header::new("trace", Some(b"0123456789")), Header::new("tenant", None)];

fn append(builder: &mut BatchBuilder, count: u32) {
    for index in 0..count {
        let headers = if index % 2 == 0 { &HEADERS[..] } else { &[] };
        builder.append(i64::from(index), Some(b"key"), Some(&[b'v'; 100]), headers).unwrap();
    }
}

#[test]
fn appending_a_record_allocates_nothing() {
    let pool = Pool::default();
    let mut builder = BatchBuilder::with_expected_bytes(&pool, 1 << 20);
    let counted = measure(|| append(&mut builder, 5000));
    assert_eq!(counted.count_total, 0);
    assert_eq!(builder.record_count(), 5000);
}

#[test]
fn reading_a_record_and_its_headers_allocates_nothing() {
    let pool = Pool::default();
    let mut builder = BatchBuilder::new(&pool);
    append(&mut builder, 5000);
    let raw = Batches::new(builder.seal().into_bytes()).next().unwrap().unwrap();
    let batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default()).unwrap();
    let counted = measure(|| {
        let mut headers = 0;
        for record in &batch {
            headers += record.unwrap().headers().map(Result::unwrap).count();
        }
        assert_eq!(headers, 5000);
        batch.verify().unwrap();
    });
    assert_eq!(counted.count_total, 0);
}

/// The allocations of a batch do not grow with its records, through every codec.
#[test]
fn a_batch_costs_a_few_allocations_whatever_it_holds() {
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_built_in()) {
        let pool = Pool::default();
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let mut there_and_back = |count| {
            let mut builder = BatchBuilder::new(&pool);
            append(&mut builder, count);
            let sealed = builder.seal_compressed(&mut compressor, compression, None).unwrap();
            for raw in Batches::new(sealed.into_bytes()) {
                let raw = raw.unwrap();
                raw.check_crc().unwrap();
                let batch = raw.decompress(&mut decompressor, &pool, &Limits::default()).unwrap();
                assert_eq!(batch.records().map(Result::unwrap).count() as u32, count);
            }
        };
        // Fills the pool and makes the codec's contexts.
        there_and_back(5000);
        let few = measure(|| there_and_back(500)).count_total;
        let many = measure(|| there_and_back(5000)).count_total;
        // Some decoders keep tables for each block, of which a larger batch has more.
        assert!(few <= 24 && many <= 24, "{compression}: {few} for 500 records, {many} for 5000");
    }
}

#[test]
fn a_count_or_length_that_lies_allocates_nothing() {
    let mut builder = BatchBuilder::new(&Pool::default());
    append(&mut builder, 10);
    let mut bytes = builder.seal().into_bytes().to_vec();
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let lying_count: bytes::Bytes = bytes.clone().into();
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let lying_length: bytes::Bytes = bytes.into();
    let pool = Pool::default();
    let mut decompressor = Decompressor::new();
    let counted = measure(|| {
        assert!(Batches::new(lying_length.clone()).next().is_none());
        let raw = Batches::new(lying_count.clone()).next().unwrap().unwrap();
        let batch = raw.decompress(&mut decompressor, &pool, &Limits::default()).unwrap();
        assert!(batch.records().last().unwrap().is_err());
    });
    assert!(counted.bytes_total < 200, "{counted:?}");
}
