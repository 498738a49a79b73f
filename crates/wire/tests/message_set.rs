//! Message sets of magic 0 and 1, which brokers before 0.11 wrote and old segments still have.

#![cfg(feature = "gzip")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use milena_wire::batch::{Batches, NO_TIMESTAMP, RecordError, TimestampType};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;
use milena_wire::{DecodeError, DecodeReason, Limits};

/// A message before it is written.
#[derive(Clone, Copy)]
struct Message<'a> {
    magic: u8,
    offset: i64,
    attributes: u8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

const APPEND_TIME: u8 = 8;

fn message<'a>(magic: u8, offset: i64, value: &'a [u8]) -> Message<'a> {
    Message { magic, offset, attributes: 0, timestamp: 1000 + offset, key: None, value: Some(value) }
}

impl Message<'_> {
    fn encode(self) -> Vec<u8> {
        let mut body = vec![self.magic, self.attributes];
        if self.magic == 1 {
            body.extend(self.timestamp.to_be_bytes());
        }
        for field in [self.key, self.value] {
            body.extend(field.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            body.extend(field.unwrap_or_default());
        }
        let mut out = self.offset.to_be_bytes().to_vec();
        out.extend((body.len() as i32 + 4).to_be_bytes());
        out.extend(crc32fast::hash(&body).to_be_bytes());
        out.extend(body);
        out
    }
}

/// A compressed message around `inner`.
fn wrap(compression: Compression, outer: Message<'_>, inner: &[Message<'_>]) -> Vec<u8> {
    let set: Vec<u8> = inner.iter().flat_map(|message| message.encode()).collect();
    let mut value = Vec::new();
    Compressor::new().compress(compression, None, &set, &mut value).unwrap();
    let attributes = outer.attributes | compression.attributes() as u8;
    Message { attributes, value: Some(&value), ..outer }.encode()
}

type Read = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Every record of every message: offset, timestamp, key, value.
fn read(bytes: &[u8]) -> Vec<Result<Read, RecordError>> {
    let mut all = Vec::new();
    for raw in Batches::new(Bytes::copy_from_slice(bytes)) {
        let raw = raw.unwrap();
        raw.check_crc().unwrap();
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap();
        all.extend(batch.records().map(|record| {
            record.map(|record| {
                assert_eq!(record.headers().count(), 0);
                let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
                (record.offset, record.timestamp, key, value)
            })
        }));
    }
    all
}

fn open_error(bytes: &[u8]) -> DecodeError {
    let raw = Batches::new(Bytes::copy_from_slice(bytes)).next().unwrap().unwrap();
    raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap_err()
}

fn offsets(bytes: &[u8]) -> Vec<i64> {
    read(bytes).into_iter().map(|record| record.unwrap().0).collect()
}

fn legacy_codecs() -> impl Iterator<Item = Compression> {
    [Compression::Gzip, Compression::Snappy, Compression::Lz4].into_iter().filter(|codec| codec.is_built_in())
}

#[test]
fn plain_messages_are_read() {
    let keyed = Message { key: Some(b""), value: None, ..message(1, 8, b"") };
    let set = [message(0, 7, b"zero").encode(), keyed.encode()].concat();
    assert_eq!(
        read(&set),
        [Ok((7, NO_TIMESTAMP, None, Some(b"zero".to_vec()))), Ok((8, 1008, Some(Vec::new()), None)),]
    );
}

#[test]
fn a_message_is_a_batch_of_one_in_its_header() {
    let outer = Message { attributes: APPEND_TIME | 0xf0, ..message(1, 42, b"v") };
    let raw = Batches::new(outer.encode().into()).next().unwrap().unwrap();
    let header = raw.header;
    assert_eq!((header.base_offset, header.next_offset(), header.record_count, header.magic), (42, 43, 1, 1));
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert!(!header.is_control() && !header.is_transactional(), "those bits mean nothing before magic 2");
    assert_eq!((header.producer, header.partition_leader_epoch), (None, None));
}

#[test]
fn inner_offsets_of_magic_1_count_back_from_the_outer_one() {
    for codec in legacy_codecs() {
        let inner = [message(1, 0, b"a"), message(1, 1, b"b"), message(1, 2, b"c")];
        let bytes = wrap(codec, message(1, 102, b""), &inner);
        assert_eq!(offsets(&bytes), [100, 101, 102], "{codec}");
        // Compacted: gaps stay.
        let inner = [message(1, 0, b"a"), message(1, 5, b"f")];
        assert_eq!(offsets(&wrap(codec, message(1, 105, b""), &inner)), [100, 105], "{codec}");
    }
}

#[test]
fn inner_offsets_of_magic_0_are_the_real_ones() {
    for codec in legacy_codecs() {
        let inner = [message(0, 100, b"a"), message(0, 101, b"b")];
        let bytes = wrap(codec, message(0, 101, b""), &inner);
        let read: Vec<_> = read(&bytes).into_iter().map(Result::unwrap).collect();
        assert_eq!(read[1], (101, NO_TIMESTAMP, None, Some(b"b".to_vec())), "{codec}");
        assert_eq!(read[0].0, 100);
    }
}

#[test]
fn an_outer_offset_of_zero_leaves_inner_offsets_alone() {
    let inner = [message(1, 0, b"a"), message(1, 1, b"b")];
    assert_eq!(offsets(&wrap(Compression::Gzip, message(1, 0, b""), &inner)), [0, 1]);
}

#[test]
fn an_outer_append_time_is_the_inner_ones_too() {
    let inner = [message(1, 0, b"a"), message(1, 1, b"b")];
    let timestamps = |attributes| {
        let outer = Message { attributes, timestamp: 9999, ..message(1, 11, b"") };
        let bytes = wrap(Compression::Gzip, outer, &inner);
        read(&bytes).into_iter().map(|record| record.unwrap().1).collect::<Vec<_>>()
    };
    assert_eq!(timestamps(APPEND_TIME), [9999, 9999]);
    assert_eq!(timestamps(0), [1000, 1001]);
}

#[test]
fn sets_and_batches_may_follow_each_other() {
    let mut builder = milena_wire::batch::BatchBuilder::new(&Pool::unpooled());
    builder.append(1, None, Some(b"new"), &[]).unwrap();
    let mut batch = builder.seal().into_bytes().to_vec();
    milena_wire::batch::BatchMut::new(&mut batch).unwrap().set_base_offset(12);
    let inner = [message(1, 0, b"a"), message(1, 1, b"b")];
    let all = [message(0, 9, b"old").encode(), wrap(Compression::Gzip, message(1, 11, b""), &inner), batch]
        .concat();
    assert_eq!(offsets(&all), [9, 10, 11, 12]);
}

#[test]
fn every_cut_ends_quietly_or_in_an_error() {
    let inner = [message(1, 0, b"aaaa"), message(1, 1, b"bbbb")];
    let set: Vec<u8> = inner.iter().flat_map(|message| message.encode()).collect();
    for length in 0..set.len() {
        // Cut off on the wire: not an error.
        let mut batches = Batches::new(set[..length].to_vec().into());
        assert_eq!(batches.by_ref().map(Result::unwrap).count(), usize::from(length >= set.len() / 2));
        // Cut off inside a compressed message, whose own length is right: an error.
        if length > 0 && length != set.len() / 2 {
            let mut value = Vec::new();
            Compressor::new().compress(Compression::Gzip, None, &set[..length], &mut value).unwrap();
            let outer = Message { attributes: 1, value: Some(&value), ..message(1, 101, b"") };
            let raw = Batches::new(outer.encode().into()).next().unwrap().unwrap();
            let opened = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default());
            assert!(
                opened.is_err() || opened.unwrap().records().any(|record| record.is_err()),
                "cut at {length}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_checksums() {
    let good = message(1, 3, b"value").encode();
    for at in 16..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        if let Some(Ok(raw)) = Batches::new(bad.into()).next() {
            let error = raw.check_crc().unwrap_err();
            assert!(matches!(error.reason, DecodeReason::ChecksumMismatch { .. }));
        }
    }
    // Inside a compressed message the inner checksum is verified.
    let mut inner = message(1, 0, b"value").encode();
    *inner.last_mut().unwrap() ^= 1;
    let mut value = Vec::new();
    Compressor::new().compress(Compression::Gzip, None, &inner, &mut value).unwrap();
    let outer = Message { attributes: 1, value: Some(&value), ..message(1, 7, b"") };
    let error = read(&outer.encode()).remove(0).unwrap_err();
    assert_eq!((error.index, error.error.field, error.error.offset), (0, "Message.Crc", 12));
}

#[test]
fn what_no_client_may_write_is_refused() {
    let nested = wrap(Compression::Gzip, message(1, 1, b""), &[message(1, 0, b"deep")]);
    let nested_value = &nested[34..];
    let twice = Message { attributes: 1, value: Some(nested_value), ..message(1, 0, b"") };
    let error = read(&wrap(Compression::Gzip, message(1, 5, b""), &[twice])).remove(0).unwrap_err();
    assert_eq!(error.error.reason, DecodeReason::Invalid("inner message is compressed again"));

    let error =
        read(&wrap(Compression::Gzip, message(1, 5, b""), &[message(0, 0, b"")])).remove(0).unwrap_err();
    assert_eq!(
        error.error.reason,
        DecodeReason::Invalid("inner message has another magic than the outer one")
    );

    let empty = open_error(&wrap(Compression::Gzip, message(1, 5, b""), &[]));
    assert_eq!(empty.reason, DecodeReason::Invalid("compressed message holds none"));

    let null = Message { attributes: 1, value: None, ..message(1, 5, b"") };
    assert_eq!(open_error(&null.encode()).reason, DecodeReason::UnexpectedNull);

    let before = open_error(&wrap(Compression::Gzip, message(1, 5, b""), &[message(1, 9, b"")]));
    assert_eq!(before.reason, DecodeReason::Invalid("outer offset is less than the last inner one"));

    let zstd = Message { attributes: 4, ..message(1, 5, b"") };
    assert_eq!(
        open_error(&zstd.encode()).reason,
        DecodeReason::Invalid("zstd needs a record batch (KIP-110)")
    );
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let check = |at: usize, patch: &[u8], field: &str| {
        let mut bytes = message(1, 0, b"value").encode();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        let error = match Batches::new(bytes.into()).next().unwrap() {
            Err(error) => error,
            Ok(raw) => {
                let batch =
                    raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap();
                let mut records = batch.records();
                let error = records.next().unwrap().unwrap_err().error;
                assert!(records.next().is_none(), "nothing behind it can be found");
                error
            }
        };
        assert_eq!(error.field, field, "{error}");
    };
    check(8, &(-1_i32).to_be_bytes(), "Message.MessageSize");
    check(8, &21_i32.to_be_bytes(), "Message.MessageSize");
    check(0, &(-5_i64).to_be_bytes(), "Message.Offset");
    check(26, &(-2_i32).to_be_bytes(), "Message.Key");
    check(26, &i32::MAX.to_be_bytes(), "Message.Key");
    check(30, &(-2_i32).to_be_bytes(), "Message.Value");
    check(30, &6_i32.to_be_bytes(), "Message.Value");
    check(30, &4_i32.to_be_bytes(), "Message");
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let zeros = vec![0; 4 << 20];
    let bytes = wrap(Compression::Gzip, message(1, 0, b""), &[message(1, 0, &zeros)]);
    assert!(bytes.len() < 10_000);
    let raw = Batches::new(bytes.into()).next().unwrap().unwrap();
    let limits = Limits { decompressed_bytes_max: 1 << 20 };
    let error = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &limits).unwrap_err();
    assert_eq!(error.reason, DecodeReason::DecompressesPast { limit: 1 << 20 });
}
