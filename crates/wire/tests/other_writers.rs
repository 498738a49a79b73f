//! Batches of other clients' frames, one after another through one pool: the pool has buffers of the right sizes.

#![cfg(all(
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    any(feature = "zstd", feature = "zstd-c")
))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::VecDeque;
use std::io::Write as _;

use allocation_counter::measure;
use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, Batches, HEADER_BYTES, RawBatch};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

const BATCHES: usize = 300;
const RECORD_BYTES: usize = 100;
const CONTENT_BYTES_MAX: usize = 300_000;

/// The allocations for a few contexts, and for one buffer of each size.
const MISSES_MAX: u64 = 24;
const ALLOCATIONS_PER_RECORD_MAX: f64 = 0.02;
const BYTES_PER_RECORD_MAX: f64 = 10.0;

/// A client's framing of compressed records.
type Frame = fn(&[u8]) -> Vec<u8>;

const WRITERS: [(&str, Compression, Frame); 8] = [
    // pierrec/lz4: blocks of 4 MiB, a checksum, no content size.
    ("franz-go, lz4", Compression::Lz4, |content| lz4(BlockSize::Max4MB, true, content)),
    // Its own writer, and librdkafka's: blocks of 64 KiB, no content size.
    ("Java, lz4", Compression::Lz4, |content| lz4(BlockSize::Max64KB, false, content)),
    ("librdkafka, lz4", Compression::Lz4, |content| lz4(BlockSize::Max64KB, true, content)),
    // A stream does not know its size at its beginning.
    ("Java, zstd", Compression::Zstd, |content| without_content_size(&ours(Compression::Zstd, content))),
    ("franz-go, zstd", Compression::Zstd, |content| ours(Compression::Zstd, content)),
    ("Java, snappy", Compression::Snappy, xerial),
    ("librdkafka, snappy", Compression::Snappy, |content| ours(Compression::Snappy, content)),
    ("gzip", Compression::Gzip, |content| ours(Compression::Gzip, content)),
];

fn ours(compression: Compression, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new().compress(compression, None, content, &mut out).unwrap();
    out
}

fn lz4(block: BlockSize, is_checked: bool, content: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(block).content_checksum(is_checked);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Chunks of 32 KiB, as snappy-java writes them.
fn xerial(content: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in content.chunks(32 << 10) {
        let chunk = ours(Compression::Snappy, chunk);
        out.extend((chunk.len() as u32).to_be_bytes());
        out.extend(chunk);
    }
    out
}

/// The same blocks after a header that has a window instead of the content size.
fn without_content_size(frame: &[u8]) -> Vec<u8> {
    let descriptor = frame[4];
    assert!(descriptor & 0b1_1111 == 0 || descriptor & 1 << 5 != 0, "no dictionary, no checksum");
    let is_single = descriptor & 1 << 5 != 0;
    let size_bytes = match (descriptor >> 6, is_single) {
        (0, false) => 0,
        (0, true) => 1,
        (code, _) => 1 << code,
    };
    let blocks = &frame[5 + usize::from(!is_single) + size_bytes..];
    const WINDOW_OF_8_MIB: u8 = 13 << 3;
    [&frame[..4], &[0, WINDOW_OF_8_MIB], blocks].concat()
}

/// A batch of `content` in the framing `frame`. Its checksum is not right.
fn batch(compression: Compression, content: &[u8], frame: Frame) -> RawBatch {
    let mut builder = BatchBuilder::new(&Pool::unpooled());
    builder.append(0, None, Some(b"v"), &[]).unwrap();
    let mut bytes = builder.seal().into_bytes()[..HEADER_BYTES].to_vec();
    bytes.extend(frame(content));
    let length = bytes.len() as u32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = compression as u8;
    Batches::new(Bytes::from(bytes)).next().unwrap().unwrap()
}

/// Bytes that are similar to the records of a batch: lines that compress by a factor of 2 to 5.
fn lines() -> Vec<u8> {
    let line = |index: usize| {
        let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (20 + index / 500 % 30);
        format!(r#"{{"id":"{id:022}","carrier":"UA","origin":"EWR","destination":"ORD","delay":{index:06}}}"#)
    };
    (0..2 * CONTENT_BYTES_MAX / 80).flat_map(|index| line(index).into_bytes()).collect()
}

#[test]
fn memory_is_there_whoever_wrote_the_batches() {
    let lines = lines();
    for (writer, compression, frame) in WRITERS {
        // Any size, as from a producer that sends the records it has.
        let contents: Vec<&[u8]> = (0..BATCHES)
            .map(|index| {
                let bytes = 20_000 + index.wrapping_mul(7_919_771) % (CONTENT_BYTES_MAX - 20_000);
                &lines[index * 1000 % CONTENT_BYTES_MAX..][..bytes]
            })
            .collect();
        let batches: Vec<_> = contents.iter().map(|content| batch(compression, content, frame)).collect();
        let (pool, mut decompressor) = (Pool::default(), Decompressor::new());
        let mut open = VecDeque::with_capacity(4);
        let mut wrong = 0;
        let counted = measure(|| {
            for (index, fetched) in batches.chunks(3).enumerate() {
                // The frame in which they were fetched.
                let bytes = fetched.iter().map(|batch| batch.bytes().len()).sum();
                let fetch = pool.take(bytes);
                for (place, batch) in fetched.iter().enumerate() {
                    let batch = batch.decompress(&mut decompressor, &pool, &Limits::default()).unwrap();
                    wrong += usize::from(batch.records_bytes() != contents[3 * index + place].len());
                    open.push_back(batch);
                    if open.len() > 2 {
                        open.pop_front();
                    }
                }
                drop(fetch);
            }
            open.clear();
        });
        let records =
            contents.iter().map(|content| content.len()).sum::<usize>() as f64 / RECORD_BYTES as f64;
        let stats = pool.stats();
        assert_eq!(wrong, 0, "{writer}");
        assert!(stats.misses <= MISSES_MAX, "{writer}: {stats:?}");
        let (allocations, bytes) =
            (counted.count_total as f64 / records, counted.bytes_total as f64 / records);
        assert!(allocations < ALLOCATIONS_PER_RECORD_MAX, "{writer}: {allocations} allocations per record");
        assert!(bytes < BYTES_PER_RECORD_MAX, "{writer}: {bytes} bytes allocated per record");
        // About the most that was in use: two batches and a fetch.
        assert_eq!(stats.bytes_out, 0);
        pool.trim();
        pool.trim();
        drop(pool.take(1000));
        assert_eq!(pool.stats().misses, stats.misses + 1, "{writer}: what is idle is let go");
    }
}
