//! Record batches through their public functions: written batches are read back, and malformed ones are errors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use milena_wire::batch::{
    AppendError, Attributes, BatchBuilder, BatchHeader, BatchMut, Batches, ControlRecord, HEADER_BYTES,
    Header, NO_TIMESTAMP, ProducerStamp, RawBatch, RecordBatch, RecordError, RecordsPlace, TimestampType,
    end_transaction,
};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;
use milena_wire::{DecodeError, DecodeReason, Limits};

fn builder() -> BatchBuilder {
    BatchBuilder::new(&Pool::unpooled())
}

/// A batch of `count` records with keys "0", "1", …
fn numbered(count: u32) -> Vec<u8> {
    let mut builder = builder();
    for index in 0..count {
        builder
            .append(1000 + i64::from(index), Some(index.to_string().as_bytes()), Some(b"value"), &[])
            .unwrap();
    }
    builder.seal().into_bytes().to_vec()
}

fn open(bytes: impl Into<Bytes>) -> RecordBatch {
    let raw = RawBatch::parse(&bytes.into()).unwrap();
    raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap()
}

/// The same batch with other bytes at `at`, and the right checksum.
fn with(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Vec<u8> {
    bytes[at..at + patch.len()].copy_from_slice(patch);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn outcomes(batch: &RecordBatch) -> Vec<Result<i64, RecordError>> {
    batch.records().map(|record| record.map(|record| record.offset)).collect()
}

#[test]
fn a_batch_is_laid_out_as_kafka_documents_it() {
    let mut builder = builder();
    builder.append(1000, None, Some(b"v"), &[Header::new("h", None)]).unwrap();
    builder.append(1002, Some(b""), None, &[]).unwrap();
    let mut sealed = builder.seal();
    sealed.stamp(7, 2, 9);
    let bytes = sealed.into_bytes();
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 0, // base offset
        0, 0, 0, 67, // batch length
        0xff, 0xff, 0xff, 0xff, // partition leader epoch
        2, // magic
        bytes[17], bytes[18], bytes[19], bytes[20], // checked below
        0, 0, // attributes
        0, 0, 0, 1, // last offset delta
        0, 0, 0, 0, 0, 0, 0x03, 0xe8, // base timestamp
        0, 0, 0, 0, 0, 0, 0x03, 0xea, // max timestamp
        0, 0, 0, 0, 0, 0, 0, 7, // producer id
        0, 2, // producer epoch
        0, 0, 0, 9, // base sequence
        0, 0, 0, 2, // record count
        // Length 10, attributes, Δtimestamp, Δoffset, key null, value "v", one header: "h" null.
        20, 0, 0, 0, 1, 2, b'v', 2, 2, b'h', 1,
        // Length 6, attributes, Δtimestamp 2, Δoffset 1, key empty, value null, no headers.
        12, 0, 4, 2, 0, 1, 0,
    ];
    assert_eq!(bytes, expected[..]);
    assert_eq!(bytes[17..21], crc32c::crc32c(&bytes[21..]).to_be_bytes());
}

#[test]
fn null_and_empty_stay_apart() {
    let mut builder = builder();
    let headers =
        [Header::new("null", None), Header::new("empty", Some(b"")), Header::new("", Some(b"nameless"))];
    builder.append(0, None, Some(b""), &headers).unwrap();
    builder.append(0, Some(b""), None, &[]).unwrap();
    let batch = open(builder.seal().into_bytes());
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!((records[0].key, records[0].value), (None, Some(&b""[..])));
    assert_eq!((records[1].key, records[1].value), (Some(&b""[..]), None));
    assert_eq!(records[0].headers().collect::<Result<Vec<_>, _>>(), Ok(headers.to_vec()));
    assert_eq!(records[1].headers().count(), 0);
}

#[test]
fn header_names_that_are_not_utf8_are_kept() {
    let mut builder = builder();
    builder.append(0, None, None, &[Header { key: b"\xff\xfe", value: Some(b"1") }]).unwrap();
    let batch = open(builder.seal().into_bytes());
    let header = batch.records().next().unwrap().unwrap().headers().next().unwrap().unwrap();
    assert_eq!((header.key, header.name()), (&b"\xff\xfe"[..], None));
}

#[test]
fn timestamps_of_any_distance_come_back() {
    let timestamps = [5, 0, -1, i64::MAX, i64::MIN, 1_700_000_000_000];
    let mut builder = builder();
    for timestamp in timestamps {
        builder.append(timestamp, None, None, &[]).unwrap();
    }
    assert_eq!(builder.max_timestamp(), i64::MAX);
    let batch = open(builder.seal().into_bytes());
    let read: Vec<_> = batch.records().map(|record| record.unwrap().timestamp).collect();
    assert_eq!(read, timestamps);
    assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (5, i64::MAX));
}

#[test]
fn append_time_stands_for_every_timestamp() {
    let mut bytes = numbered(3);
    BatchMut::new(&mut bytes).unwrap().set_max_timestamp(TimestampType::LogAppendTime, 77);
    assert_eq!(RawBatch::parse(&bytes.clone().into()).unwrap().check_crc(), Ok(()));
    assert!(open(bytes).records().all(|record| record.unwrap().timestamp == 77));
}

#[test]
fn the_size_of_a_record_is_known_before_it_is_appended() {
    for value_bytes in [0, 1, 63, 64, 8191, 8192, 100_000, 1 << 20, (1 << 20) + 1] {
        for headers in [&[][..], &[Header::new("name", Some(b"value"))], &[Header::new("n", None); 70]] {
            let mut builder = builder().bytes_max(usize::MAX).record_bytes_max(usize::MAX);
            for timestamp in [0, 63, 64, -(1 << 40)] {
                let value = vec![b'v'; value_bytes];
                let foretold = builder.encoded_bytes(timestamp, Some(b"key"), Some(&value), headers);
                let before = builder.bytes();
                builder.append(timestamp, Some(b"key"), Some(&value), headers).unwrap();
                assert_eq!(builder.bytes() - before, foretold, "{value_bytes} bytes, {timestamp}");
            }
            let bytes = builder.bytes();
            let mut sealed = builder.seal();
            assert_eq!((sealed.encoded_bytes(), sealed.bytes().len()), (bytes, bytes));
            assert_eq!(open(sealed.into_bytes()).verify().unwrap().record_count, 4);
        }
    }
}

#[test]
fn a_full_batch_takes_nothing_more_and_a_first_record_always() {
    let mut builder = builder().bytes_max(200).record_bytes_max(1000);
    let value = [b'v'; 300];
    assert_eq!(builder.append(0, None, Some(&value), &[]), Ok(0));
    let before = builder.bytes();
    assert_eq!(builder.append(0, None, Some(b"v"), &[]), Err(AppendError::Full));
    let error = builder.append(0, None, Some(&[0; 1000]), &[]).unwrap_err();
    assert_eq!(error, AppendError::TooLarge { bytes: 1009, limit: 1000 });
    assert_eq!(error.to_string(), "the record takes 1009 bytes, which is over the limit of 1000");
    assert_eq!((builder.bytes(), builder.record_count()), (before, 1));
}

#[test]
fn records_that_would_overflow_a_32_bit_size_are_refused() {
    // Many headers share one slice: they take gigabytes on the wire and kilobytes in memory.
    let value = vec![0; 1 << 20];
    let headers = vec![Header::new("h", Some(&value)); 4096];
    let mut builder = builder().bytes_max(usize::MAX).record_bytes_max(usize::MAX);
    let refused = builder.append(0, None, None, &headers);
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes, .. }) if bytes > 1 << 32), "{refused:?}");
    assert!(builder.is_empty());
}

#[test]
fn a_batch_without_records_is_sealed_and_read() {
    let batch = open(builder().seal().into_bytes());
    assert_eq!((batch.header().record_count, batch.header().max_timestamp), (0, NO_TIMESTAMP));
    assert_eq!(batch.records().count(), 0);
}

#[test]
fn every_codec_gives_back_what_went_in() {
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_built_in()) {
        let mut builder = builder();
        for index in 0..1000 {
            builder
                .append(index, Some(b"key"), Some(b"value value value"), &[Header::new("h", Some(b"x"))])
                .unwrap();
        }
        let mut sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).unwrap();
        sealed.stamp(1, 2, 3);
        assert_eq!(sealed.header().attributes.compression(), Ok(compression));
        assert!(sealed.encoded_bytes() < sealed.uncompressed_bytes() || compression == Compression::None);
        let raw = RawBatch::parse(&sealed.into_bytes()).unwrap();
        assert_eq!(raw.check_crc(), Ok(()), "{compression}");
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default()).unwrap();
        assert_eq!(batch.verify().unwrap().record_count, 1000, "{compression}");
        assert!(batch.records().all(|record| record.unwrap().value == Some(b"value value value")));
    }
}

#[test]
#[cfg(feature = "gzip")]
fn records_that_do_not_compress_are_left_as_they_are() {
    let mut builder = builder();
    builder.append(0, None, Some(b"x"), &[]).unwrap();
    let sealed = builder.seal_compressed(&mut Compressor::new(), Compression::Gzip, None).unwrap();
    assert_eq!(sealed.header().attributes.compression(), Ok(Compression::None));
    assert_eq!(open(sealed.into_bytes()).verify().unwrap().record_count, 1);
}

#[test]
#[cfg(feature = "gzip")]
fn a_bomb_ends_at_the_limit() {
    let mut builder = builder().bytes_max(usize::MAX);
    for _ in 0..100 {
        builder.append(0, None, Some(&[0; 100_000]), &[]).unwrap();
    }
    let sealed = builder.seal_compressed(&mut Compressor::new(), Compression::Gzip, None).unwrap();
    assert!(sealed.encoded_bytes() < 100_000);
    let raw = RawBatch::parse(&sealed.into_bytes()).unwrap();
    let limits = Limits { decompressed_bytes_max: 1 << 20 };
    let error = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &limits).unwrap_err();
    assert_eq!(error.reason, DecodeReason::DecompressesPast { limit: 1 << 20 });
}

#[test]
fn stamps_and_edits_keep_the_checksum_right() {
    for record_count in [0, 1, 300, 20_000] {
        let mut sealed = {
            let mut builder = builder().transactional(true);
            for index in 0..record_count {
                builder.append(index, None, Some(b"value"), &[]).unwrap();
            }
            builder.seal()
        };
        let unstamped = sealed.bytes();
        sealed.stamp(i64::MAX, i16::MAX, i32::MAX);
        sealed.stamp(4001, 3, 17);
        assert_eq!(RawBatch::parse(&unstamped).unwrap().header.producer, None);
        assert_eq!(RawBatch::parse(&unstamped).unwrap().check_crc(), Ok(()));
        let raw = RawBatch::parse(&sealed.bytes()).unwrap();
        assert_eq!(raw.check_crc(), Ok(()), "{record_count} records");
        assert_eq!(raw.header, *sealed.header());
        let stamp = ProducerStamp { producer_id: 4001, producer_epoch: 3, base_sequence: Some(17) };
        assert_eq!((raw.header.producer, raw.header.is_transactional()), (Some(stamp), true));

        let mut log = sealed.into_bytes().to_vec();
        let mut batch = BatchMut::new(&mut log).unwrap();
        batch.set_base_offset(1 << 40);
        batch.set_partition_leader_epoch(12);
        batch.set_max_timestamp(TimestampType::LogAppendTime, 99);
        batch.set_attributes(Attributes::default());
        batch.set_producer(None);
        let raw = RawBatch::parse(&log.into()).unwrap();
        assert_eq!(raw.check_crc(), Ok(()), "{record_count} records, edited");
        assert_eq!((raw.header.base_offset, raw.header.partition_leader_epoch), (1 << 40, Some(12)));
        assert_eq!((raw.header.max_timestamp, raw.header.producer), (99, None));
    }
}

#[test]
fn another_stamp_copies_a_batch_that_was_handed_out() {
    let pool = Pool::default();
    let mut builder = BatchBuilder::new(&pool);
    builder.append(0, None, Some(b"value"), &[]).unwrap();
    let mut sealed = builder.seal();
    let buffers_taken = || pool.stats().hits + pool.stats().misses;
    sealed.stamp(4001, 0, 0);
    assert_eq!(buffers_taken(), 1);
    let in_flight = sealed.bytes();
    sealed.stamp(4001, 0, 0);
    assert_eq!((sealed.bytes().as_ptr(), buffers_taken()), (in_flight.as_ptr(), 1), "the same stamp");
    sealed.stamp(4001, 1, 0);
    sealed.stamp(4001, 2, 0);
    assert_eq!(buffers_taken(), 2);
    let producer = |bytes| RawBatch::parse(bytes).unwrap().header.producer.unwrap().producer_epoch;
    assert_eq!((producer(&in_flight), producer(&sealed.bytes())), (0, 2));
}

#[test]
fn a_wrong_checksum_stays_wrong_when_the_header_changes() {
    let mut bytes = numbered(3);
    *bytes.last_mut().unwrap() ^= 1;
    BatchMut::new(&mut bytes).unwrap().set_max_timestamp(TimestampType::CreateTime, 5);
    let error = RawBatch::parse(&bytes.into()).unwrap().check_crc().unwrap_err();
    assert_eq!((error.field, error.offset), ("RecordBatch.CRC", 17));
    assert!(matches!(error.reason, DecodeReason::ChecksumMismatch { .. }));
}

#[test]
fn markers_end_transactions() {
    let pool = Pool::unpooled();
    for marker in
        [ControlRecord::Commit { coordinator_epoch: 5 }, ControlRecord::Abort { coordinator_epoch: 6 }]
    {
        let raw = RawBatch::parse(&end_transaction(&pool, marker, 1000, 4001, 2).into_bytes()).unwrap();
        assert_eq!(raw.check_crc(), Ok(()));
        assert!(raw.header.is_control() && raw.header.is_transactional());
        let stamp = ProducerStamp { producer_id: 4001, producer_epoch: 2, base_sequence: None };
        assert_eq!(raw.header.producer, Some(stamp));
        let batch = open(raw.bytes().clone());
        let record = batch.records().next().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(&record), Ok(marker));
    }
}

#[test]
fn control_records_of_other_kinds_and_versions_are_told_apart_from_garbage() {
    let parse = |key: &[u8], value: &[u8]| {
        let mut builder = builder().control(true);
        builder.append(0, Some(key), Some(value), &[]).unwrap();
        let batch = open(builder.seal().into_bytes());
        let record = batch.records().next().unwrap().unwrap();
        ControlRecord::parse(&record)
    };
    assert_eq!(parse(&[0, 0, 0, 2], b""), Ok(ControlRecord::Other(2)));
    let commit = ControlRecord::Commit { coordinator_epoch: 1 };
    assert_eq!(parse(&[0, 1, 0, 1, 9], &[0, 1, 0, 0, 0, 1, 0, 0]), Ok(commit));
    for (key, value, field) in [
        (&[0, 0][..], &[][..], "ControlRecordType.Type"),
        (&[0xff, 0, 0, 1], &[], "ControlRecordType.Version"),
        (&[0, 0, 0, 1], &[0, 0, 0], "EndTxnMarker.CoordinatorEpoch"),
        (&[0, 0, 0, 0], &[0x80, 0, 0, 0, 0, 0], "EndTxnMarker.Version"),
    ] {
        assert_eq!(parse(key, value).unwrap_err().field, field);
    }
}

#[test]
fn offsets_follow_the_base_offset_and_survive_compaction() {
    let mut bytes = numbered(3);
    let mut batch = BatchMut::new(&mut bytes).unwrap();
    batch.set_base_offset(100);
    // Compaction keeps the last offset even when it takes the records at the end.
    let bytes = with(bytes, 23, &9_i32.to_be_bytes());
    let batch = open(bytes.clone());
    assert_eq!(outcomes(&batch), [Ok(100), Ok(101), Ok(102)]);
    assert_eq!((batch.header().last_offset(), batch.header().next_offset()), (109, 110));
    let from = batch.records_from(102).map(|record| record.unwrap().offset).collect::<Vec<_>>();
    assert_eq!(from, [102]);
    assert_eq!(batch.records_from(103).count(), 0);
    assert_eq!(batch.records_from(-1).count(), 3);
    // From a producer it would be wrong: offsets must be dense.
    assert_eq!(batch.verify().unwrap_err().error.field, "RecordBatch.LastOffsetDelta");

    // All records gone: the header alone keeps the producer's state and the offsets.
    let mut header_only = with(bytes[..HEADER_BYTES].to_vec(), 57, &0_i32.to_be_bytes());
    header_only = with(header_only, 8, &(HEADER_BYTES as i32 - 12).to_be_bytes());
    let batch = open(header_only);
    assert_eq!((outcomes(&batch).len(), batch.header().next_offset()), (0, 110));
}

#[test]
fn reading_starts_at_any_offset_of_a_batch() {
    let batch = open(numbered(100));
    for from in 0..=100 {
        let offsets: Vec<_> = batch.records_from(from).map(|record| record.unwrap().offset).collect();
        assert_eq!(offsets, (from..100).collect::<Vec<_>>());
    }
}

#[test]
fn records_at_any_offsets_are_left_out() {
    let mut bytes = numbered(64);
    BatchMut::new(&mut bytes).unwrap().set_base_offset(1_000);
    let whole = open(bytes);
    // The record at offset 1 is wrong.
    let gap = around(&framed(&[0, 0, 2, 20, b'k', b'k']));
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as i64 % below as i64
    };
    for (batch, base) in [(&whole, 1_000), (&gap, 0)] {
        for _ in 0..500 {
            let (mut left_out, mut at) = (Vec::new(), base - 20 + random(30));
            while at < base + 70 {
                let end = at + 1 + random(9);
                left_out.push(at..end);
                at = end + 1 + random(9);
            }
            let from = base + random(70);
            let offset = |record: Result<milena_wire::batch::Record<'_>, RecordError>| {
                record.map_or_else(|of| of.offset, |of| of.offset)
            };
            let left = batch.records_from(from).leaving_out(&left_out).map(offset);
            let is_left = |at: &i64| !left_out.iter().any(|range| range.contains(at));
            let expect = batch.records_from(from).map(offset).filter(is_left);
            assert_eq!(left.collect::<Vec<_>>(), expect.collect::<Vec<_>>(), "{left_out:?} from {from}");
        }
    }
    assert_eq!(whole.records().leaving_out(std::slice::from_ref(&(i64::MIN..i64::MAX))).count(), 0);
}

#[test]
fn batches_follow_each_other_and_a_cut_one_ends_them() {
    let (first, second) = (numbered(2), numbered(3));
    let both = [&first[..], &second[..]].concat();
    for length in first.len()..both.len() {
        let mut batches = Batches::new(both[..length].to_vec().into());
        assert_eq!(batches.next().unwrap().unwrap().header.record_count, 2);
        assert!(batches.next().is_none(), "{length}");
        let left = length - first.len();
        let needed = (left >= 12).then_some(second.len());
        match batches.partial() {
            None => assert_eq!(left, 0),
            Some(partial) => assert_eq!((partial.bytes, partial.needed), (left, needed)),
        }
    }
    let mut batches = Batches::new(both.into());
    assert_eq!(batches.by_ref().map(Result::unwrap).count(), 2);
    assert_eq!(batches.partial(), None);
}

#[test]
fn every_cut_of_a_batch_is_an_error_or_a_quiet_end() {
    let whole = numbered(5);
    for length in 0..whole.len() {
        assert!(RawBatch::parse(&whole[..length].to_vec().into()).is_err());
        // The announced length follows the cut: now the records are cut off inside a batch that looks whole.
        if length >= HEADER_BYTES {
            let cut = with(whole[..length].to_vec(), 8, &(length as i32 - 12).to_be_bytes());
            let batch = open(cut);
            let outcomes = outcomes(&batch);
            let error = outcomes.last().unwrap().as_ref().unwrap_err();
            assert_eq!(error.index as usize, outcomes.len() - 1);
            assert_eq!(error.offset, outcomes.len() as i64 - 1, "the first offset it can have");
        }
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let check = |at, patch: &[u8], message: &str| {
        let bytes = with(numbered(2), at, patch);
        let error = Batches::new(bytes.into()).next().expect("an error, not an end").unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    check(
        0,
        &(-1_i64).to_be_bytes(),
        "RecordBatch.BaseOffset at byte 0: offset is negative or the last that 64 bits have",
    );
    check(
        0,
        &(i64::MAX - 1).to_be_bytes(),
        "RecordBatch.LastOffsetDelta at byte 23: last offset is before the base offset or beyond 64 bits",
    );
    check(8, &(-1_i32).to_be_bytes(), "RecordBatch.BatchLength at byte 8: negative length -1");
    check(8, &48_i32.to_be_bytes(), "RecordBatch.BatchLength at byte 8: less than the fixed fields take");
    check(8, &i32::MIN.to_be_bytes(), "RecordBatch.BatchLength at byte 8: negative length -2147483648");
    check(16, &[3], "RecordBatch.Magic at byte 16: version 3 is not supported");
    check(57, &(-2_i32).to_be_bytes(), "RecordBatch.RecordCount at byte 57: negative length -2");
}

#[test]
fn errors_name_the_place_in_the_whole_records_field() {
    let good = numbered(1);
    let bad = with(numbered(1), 57, &(-1_i32).to_be_bytes());
    let mut batches = Batches::new([&good[..], &bad[..]].concat().into());
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(batches.next().unwrap().unwrap_err().offset, good.len() + 57);
    assert!(batches.next().is_none(), "nothing behind an error can be found");
    assert_eq!(batches.partial(), None);
}

#[test]
fn a_batch_that_announces_two_gigabytes_waits_for_them_quietly() {
    let bytes = with(numbered(1), 8, &i32::MAX.to_be_bytes());
    let mut batches = Batches::new(bytes.into());
    assert!(batches.next().is_none());
    assert_eq!(batches.partial().unwrap().needed, Some(i32::MAX as usize + 12));
}

#[test]
fn an_unknown_codec_is_named_as_such() {
    let bytes = with(numbered(1), 21, &5_i16.to_be_bytes());
    let raw = RawBatch::parse(&bytes.into()).unwrap();
    let error = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "RecordBatch.Attributes at byte 21: unknown compression codec");
}

#[test]
fn a_record_count_that_lies_is_found_out() {
    let outcomes_of = |count: i32| outcomes(&open(with(numbered(3), 57, &count.to_be_bytes())));
    let fewer = outcomes_of(2);
    assert_eq!(fewer[..2], [Ok(0), Ok(1)]);
    let error = fewer[2].clone().unwrap_err();
    assert_eq!((error.index, error.error.field), (2, "RecordBatch.Records"));
    assert!(matches!(error.error.reason, DecodeReason::TrailingBytes(_)));
    for more in [4, 1000, i32::MAX] {
        let outcomes = outcomes_of(more);
        assert_eq!(outcomes.len(), 4, "three records, one error, the end");
        assert_eq!(
            outcomes[3].clone().unwrap_err().to_string().split(" at ").next(),
            Some("record 3 of its batch, offset 3 or later: Record.Length")
        );
    }
}

/// A record's content after its length, with the right length.
fn framed(body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 64);
    [&[body.len() as u8 * 2], body].concat()
}

/// A batch of a good record, `records`, and a good record.
fn around(poison: &[u8]) -> RecordBatch {
    let good = |delta: u8| framed(&[0, 0, delta * 2, 1, 1, 0]);
    // Enough bytes follow that the reader tries its usual path, and enough good records that it takes it.
    let mut records = good(0);
    records.extend_from_slice(poison);
    records.extend(good(2));
    records.extend(good(3));
    records.extend((4..9).flat_map(good));
    let mut bytes = numbered(9)[..HEADER_BYTES].to_vec();
    bytes.extend(records);
    let length = bytes.len() as i32 - 12;
    open(with(bytes, 8, &length.to_be_bytes()))
}

#[test]
fn one_poison_record_is_named_and_the_others_are_read() {
    let check = |body: &[u8], field: &str, at: usize, reason: DecodeReason| {
        let batch = around(&framed(body));
        let outcomes = outcomes(&batch);
        let error = outcomes[1].clone().unwrap_err();
        // 61 bytes of header, 7 of the first record, 1 of the length.
        let expected =
            DecodeError::new(Box::leak(field.to_owned().into_boxed_str()), HEADER_BYTES + 8 + at, reason);
        let expected = RecordError { index: 1, offset: 1, resume_offset: 2, error: expected };
        assert_eq!(error, expected, "{body:?}");
        assert_eq!(outcomes[0], Ok(0));
        assert_eq!(outcomes[2..], [2, 3, 4, 5, 6, 7, 8].map(Ok), "{body:?}");
        assert_eq!(batch.verify().unwrap_err(), error);
    };
    let truncated = |needed, remaining| DecodeReason::Truncated { needed, remaining };
    check(&[], "Record.Attributes", 0, truncated(1, 0));
    check(&[0], "Record.TimestampDelta", 1, truncated(1, 0));
    check(&[0, 0x80], "Record.TimestampDelta", 1, truncated(2, 1));
    check(&[0, 0], "Record.OffsetDelta", 2, truncated(1, 0));
    check(&[0, 0, 2], "Record.Key", 3, truncated(1, 0));
    check(&[0, 0, 2, 20, b'k'], "Record.Key", 4, truncated(10, 1));
    check(&[0, 0, 2, 3, 1, 0], "Record.Key", 4, DecodeReason::NegativeLength(-2));
    check(&[0, 0, 2, 1], "Record.Value", 4, truncated(1, 0));
    check(&[0, 0, 2, 1, 4, b'v'], "Record.Value", 5, truncated(2, 1));
    check(&[0, 0, 2, 1, 5, 0], "Record.Value", 5, DecodeReason::NegativeLength(-3));
    check(&[0, 0, 2, 1, 1], "Record.Headers", 5, truncated(1, 0));
    check(&[0, 0, 2, 1, 1, 1], "Record.Headers", 6, DecodeReason::NegativeLength(-1));
    check(&[0, 0, 2, 1, 1, 0, 0], "Record", 6, DecodeReason::TrailingBytes(1));
    let too_many = DecodeReason::TooLarge { announced: 2, limit: 1 };
    check(&[0, 0, 2, 1, 1, 4, 0, 1], "Record.Headers", 6, too_many);
    let outside = DecodeReason::Invalid("offset is not among the batch's");
    check(&[0, 0, 18, 1, 1, 0], "Record.OffsetDelta", 2, outside.clone());
    check(&[0, 0, 1, 1, 1, 0], "Record.OffsetDelta", 2, outside);
    check(
        &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x1f, 1, 1, 0],
        "Record.OffsetDelta",
        2,
        DecodeReason::VarintOverflow,
    );
}

#[test]
fn a_length_that_cannot_be_believed_ends_the_batch() {
    for (poison, field, reason) in [
        (&[1][..], "Record.Length", DecodeReason::NegativeLength(-1)),
        (
            &[0xfe, 0xff, 0xff, 0xff, 0x0f],
            "Record",
            DecodeReason::Truncated { needed: i32::MAX as usize, remaining: 49 },
        ),
        (&[0xff; 5], "Record.Length", DecodeReason::VarintOverflow),
    ] {
        let outcomes = outcomes(&around(poison));
        assert_eq!(outcomes.len(), 2, "{poison:?}");
        let error = outcomes[1].clone().unwrap_err();
        assert_eq!((error.index, error.offset, error.resume_offset), (1, 1, 9), "{poison:?}");
        assert_eq!((error.error.field, error.error.reason), (field, reason));
    }
}

#[test]
fn a_reader_gets_past_poison_by_its_resume_offset() {
    // The key is cut off. The offset before it, 5, can be read, as compaction leaves it.
    let batch = around(&framed(&[0, 0, 10, 20, b'k', b'k']));
    let error = outcomes(&batch)[1].clone().unwrap_err();
    assert_eq!((error.index, error.offset, error.resume_offset), (1, 5, 6));
    let from = |offset| batch.records_from(offset).map(|record| record.map(|record| record.offset)).collect();
    let outcomes: Vec<_> = from(error.resume_offset);
    assert_eq!(outcomes, [Ok(6), Ok(7), Ok(8)]);
    // A reader that starts before the record gets the error.
    let outcomes: Vec<_> = from(5);
    assert_eq!(outcomes[0], Err(error));

    // No record after a wrong length can be found, so a reader that starts after it gets the error too.
    let batch = around(&[1]);
    let error = batch.records_from(4).next().unwrap().unwrap_err();
    assert_eq!((error.offset, error.resume_offset), (1, batch.header().next_offset()));
}

/// The records of a batch, read in parts of `size` each.
fn in_parts(batch: &RecordBatch, size: usize) -> Vec<Result<i64, RecordError>> {
    let mut all = Vec::new();
    let mut from = RecordsPlace::default();
    loop {
        let mut ahead = batch.records_between(from, None, i64::MIN);
        ahead.by_ref().take(size).for_each(drop);
        let until = ahead.place();
        // No part comes after a record after which no other is found.
        let is_last = ahead.is_broken() || ahead.next().is_none();
        let part = batch.records_between(from, (!is_last).then_some(until), i64::MIN);
        all.extend(part.map(|record| record.map(|record| record.offset)));
        if is_last {
            return all;
        }
        from = until;
    }
}

#[test]
fn parts_of_a_batch_are_together_what_it_is_as_a_whole() {
    let whole = open(numbered(9));
    // Of one batch a record is wrong, and of the other one the records after it are not found.
    let poisoned = around(&framed(&[0, 0, 10, 20, b'k', b'k']));
    let broken = around(&[1]);
    for batch in [&whole, &poisoned, &broken] {
        for size in 1..11 {
            assert_eq!(in_parts(batch, size), outcomes(batch), "{size} at a time");
        }
    }
    // As with the whole batch, records before an offset are left out.
    let mut ahead = whole.records();
    ahead.by_ref().take(6).for_each(drop);
    let part = whole.records_between(RecordsPlace::default(), Some(ahead.place()), 4);
    assert_eq!(part.map(|record| record.unwrap().offset).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn poison_among_headers_is_found_while_they_are_read() {
    let check = |headers: &[u8], field: &str, reason: DecodeReason, good: usize| {
        let batch = around(&framed(&[&[0, 0, 2, 1, 1][..], headers].concat()));
        let record = batch.records().nth(1).unwrap().unwrap();
        let outcomes: Vec<_> = record.headers().collect();
        assert_eq!(outcomes.len(), good + 1, "{headers:?}");
        let error = outcomes.last().unwrap().clone().unwrap_err();
        assert_eq!((error.field, error.reason), (field, reason), "{headers:?}");
        assert_eq!(batch.verify().unwrap_err().index, 1);
    };
    check(&[2, 1, 0], "Record.Headers.HeaderKey", DecodeReason::UnexpectedNull, 0);
    check(&[2, 3, 0], "Record.Headers.HeaderKey", DecodeReason::NegativeLength(-2), 0);
    check(
        &[2, 20, b'k'],
        "Record.Headers.HeaderKey",
        DecodeReason::Truncated { needed: 10, remaining: 1 },
        0,
    );
    check(&[2, 2, b'k'], "Record.Headers.Value", DecodeReason::Truncated { needed: 1, remaining: 0 }, 0);
    check(&[2, 2, b'k', 1, 0], "Record", DecodeReason::TrailingBytes(1), 0);
    check(&[4, 2, b'k', 1, 1], "Record.Headers.HeaderKey", DecodeReason::UnexpectedNull, 1);
}

#[test]
fn verify_wants_offsets_without_gaps() {
    // Offset deltas 0, 2, 2, 3, …
    let batch = around(&framed(&[0, 0, 4, 1, 1, 0]));
    let error = batch.verify().unwrap_err();
    assert_eq!((error.index, error.error.field), (1, "Record.OffsetDelta"));
    let contents = open(numbered(9)).verify().unwrap();
    assert_eq!((contents.record_count, contents.max_timestamp, contents.max_timestamp_offset), (9, 1008, 8));
}

#[test]
fn a_header_is_parsed_without_the_records_behind_it() {
    let bytes = numbered(4);
    let header = BatchHeader::parse(&bytes[..HEADER_BYTES]).unwrap();
    assert_eq!((header.bytes, header.record_count), (bytes.len(), 4));
}
