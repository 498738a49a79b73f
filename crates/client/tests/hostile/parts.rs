//! Batches that are returned in parts, and have gaps or records that cannot be read.

use std::ops::Range;
use std::time::Duration;

use milena::{Batch, Consumer};
use milena_wire::batch::{BatchBuilder, HEADER_BYTES};
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
