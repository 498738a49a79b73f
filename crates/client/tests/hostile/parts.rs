//! Batches that are returned in parts, and are not as a broker of today writes them: with gaps, with records that cannot be
//! read, and message sets of before Kafka 0.11.

use std::ops::Range;
use std::time::Duration;

use milena::{Batch, Consumer};
use milena_wire::batch::{BatchBuilder, HEADER_BYTES};
use milena_wire::codec::{Compression, Compressor};
use milena_wire::pool::Pool;
use tokio::time::timeout;

use super::unreadable::read_parted;

/// Each record of [`batch`], in bytes.
const RECORD: usize = 8;

/// One record at each of these offsets, which compaction has left of the batch from 0 up to `end`.
fn batch(offsets: &[u8], end: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&Pool::unpooled());
    for _ in offsets {
        builder.append(0, None, Some(b"v"), &[]).expect("fits");
    }
    let mut bytes = builder.seal().into_bytes().to_vec();
    assert_eq!(bytes.len(), HEADER_BYTES + RECORD * offsets.len());
    for (index, offset) in offsets.iter().enumerate() {
        // The offset delta, as a varint.
        bytes[HEADER_BYTES + index * RECORD + 3] = offset * 2;
    }
    bytes[23..27].copy_from_slice(&i32::from(end - 1).to_be_bytes());
    bytes
}

async fn next(consumer: &mut Consumer) -> Batch {
    let next = timeout(Duration::from_secs(30), consumer.next()).await.expect("in time");
    next.expect("read").expect("assigned")
}

/// What a part covers, and the offsets of its records.
fn part(batch: &Batch) -> (Range<i64>, Vec<i64>) {
    (batch.first_offset()..batch.next_offset(), batch.iter().map(|record| record.offset()).collect())
}

#[tokio::test]
async fn parts_pass_the_gaps_that_compaction_has_left() {
    let (_peer, mut consumer) = read_parted(&[batch(&[0, 1, 2, 9, 11, 30, 31], 60)], Some(3)).await;
    let expected = [
        (0..3, vec![0, 1, 2]),
        // From 3 up to 9 there is no record, so the part that follows begins there.
        (9..12, vec![9, 11]),
        (30..33, vec![30, 31]),
    ];
    for expected in expected {
        let batch = next(&mut consumer).await;
        assert_eq!(part(&batch), expected);
        assert_eq!(consumer.position("t", 0), Some(expected.0.end));
    }
    // After the last record comes a gap that no call returns.
    let waiting = timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert_eq!(consumer.position("t", 0), Some(60));
    assert_eq!(consumer.memory().topics[0].in_use_batches, 0);
}

#[tokio::test]
async fn a_part_begins_where_reading_was_to_begin() {
    let (_peer, mut consumer) = read_parted(&[batch(&[0, 1, 2, 3, 4, 5, 6, 7], 8)], Some(3)).await;
    consumer.seek("t", 0, milena::Position::Offset(2)).expect("assigned");
    for expected in [2..5, 5..8] {
        assert_eq!(part(&next(&mut consumer).await), (expected.clone(), expected.collect()));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_ends_its_part_and_not_those_before_it() {
    let mut bytes = batch(&[0, 1, 2, 3, 4, 5, 6, 7], 8);
    // The key of record 4 has minus two bytes.
    bytes[HEADER_BYTES + 4 * RECORD + 4] = 3;
    let (_peer, mut consumer) = read_parted(&[bytes], Some(3)).await;
    assert_eq!(part(&next(&mut consumer).await), (0..3, vec![0, 1, 2]));
    let second = next(&mut consumer).await;
    assert_eq!(part(&second), (3..6, vec![3]), "it ends before the record");
    assert_eq!(second.try_iter().map(|record| record.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    let error = timeout(Duration::from_secs(30), consumer.next()).await.expect("in time").expect_err("met");
    assert_eq!((error.next_offset(), consumer.position("t", 0)), (Some(5), Some(4)), "{error}");
    consumer.skip(&error).expect("assigned");
    assert_eq!(part(&next(&mut consumer).await), (5..8, vec![5, 6, 7]), "fetched anew");
}

#[tokio::test]
async fn records_that_are_not_iterated_are_not_looked_at() {
    let mut bytes = batch(&[0, 1, 2, 3, 4, 5, 6, 7], 8);
    bytes[HEADER_BYTES + 4 * RECORD + 4] = 3;
    let (_peer, mut consumer) = read_parted(&[bytes], Some(3)).await;
    for expected in [0..3, 3..6, 6..8] {
        let batch = next(&mut consumer).await;
        assert_eq!(batch.first_offset()..batch.next_offset(), expected);
    }
}

#[tokio::test]
async fn a_record_after_which_no_other_is_found_ends_all_parts_after_it() {
    let broken = || {
        let mut bytes = batch(&[0, 1, 2, 3, 4, 5, 6, 7], 8);
        // Record 4 is longer than the batch.
        bytes[HEADER_BYTES + 4 * RECORD] = 0x7e;
        bytes
    };
    let (_peer, mut consumer) = read_parted(&[broken()], Some(3)).await;
    assert_eq!(part(&next(&mut consumer).await), (0..3, vec![0, 1, 2]));
    assert_eq!(part(&next(&mut consumer).await), (3..6, vec![3]));
    let error = timeout(Duration::from_secs(30), consumer.next()).await.expect("in time").expect_err("met");
    assert_eq!((error.next_offset(), consumer.position("t", 0)), (Some(8), Some(4)), "{error}");
    // An application that looks at no record passes the batch, part by part.
    let (_peer, mut consumer) = read_parted(&[broken()], Some(3)).await;
    for expected in [0..3, 3..6, 6..8] {
        let batch = next(&mut consumer).await;
        assert_eq!(batch.first_offset()..batch.next_offset(), expected);
    }
}

/// A message of before Kafka 0.11.
fn message(magic: u8, offset: i64, compression: Compression, value: &[u8]) -> Vec<u8> {
    let mut body = vec![magic, compression.attributes() as u8];
    if magic == 1 {
        body.extend([0; 8]);
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend((value.len() as i32).to_be_bytes());
    body.extend(value);
    let crc = crc32fast::hash(&body).to_be_bytes();
    let bytes = body.len() as i32 + 4;
    [&offset.to_be_bytes()[..], &bytes.to_be_bytes(), &crc, &body].concat()
}

/// The messages of these offsets in one compressed message. Those of magic 1 count from the first one (KIP-31).
fn compressed(magic: u8, offsets: Range<i64>) -> Vec<u8> {
    let of = |offset| if magic == 1 { offset - offsets.start } else { offset };
    let set: Vec<_> =
        offsets.clone().flat_map(|offset| message(magic, of(offset), Compression::None, b"v")).collect();
    let mut value = Vec::new();
    Compressor::new().compress(Compression::Gzip, None, &set, &mut value).expect("compresses");
    message(magic, offsets.end - 1, Compression::Gzip, &value)
}

#[tokio::test]
async fn message_sets_are_returned_in_parts_too() {
    for magic in [0, 1] {
        let plain: Vec<_> = (0..3).map(|offset| message(magic, offset, Compression::None, b"v")).collect();
        let sets = [plain.concat(), compressed(magic, 3..10), compressed(magic, 10..12)];
        let (_peer, mut consumer) = read_parted(&sets, Some(3)).await;
        for expected in [0..1, 1..2, 2..3, 3..6, 6..9, 9..10, 10..12] {
            let batch = next(&mut consumer).await;
            assert_eq!(part(&batch), (expected.clone(), expected.clone().collect()), "magic {magic}");
            let shared = batch.share();
            assert_eq!(shared.records().map(|record| record.offset()).collect::<Vec<_>>(), {
                expected.collect::<Vec<_>>()
            });
        }
    }
}

#[tokio::test]
async fn a_compressed_message_set_begins_where_the_one_before_it_ends() {
    for magic in [0, 1] {
        let (_peer, mut consumer) =
            read_parted(&[compressed(magic, 0..7), compressed(magic, 7..9)], None).await;
        for expected in [0..7, 7..9] {
            let batch = next(&mut consumer).await;
            assert_eq!(part(&batch), (expected.clone(), expected.clone().collect()), "magic {magic}");
            let shared = batch.share();
            assert_eq!(shared.records().count(), expected.count(), "magic {magic}");
        }
    }
}
