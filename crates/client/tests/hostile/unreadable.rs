//! Records and batches that cannot be read: the error says where they are and where reading can continue.

use std::time::Duration;

use bytes::Bytes;
use milena::{Client, Consumer, ConsumerSettings, Error, Position};
use milena_messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use milena_messages::{ApiKey, Message};
use milena_wire::Writer;
use milena_wire::batch::{BatchBuilder, BatchMut};
use milena_wire::pool::Pool;
use tokio::time::timeout;

use super::peer::{Behaviour, Peer};

/// Three records from offset `base` on.
fn batch(base: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&Pool::unpooled());
    for value in [b"a", b"b", b"c"] {
        builder.append(0, None, Some(value), &[]).expect("fits");
    }
    let mut bytes = builder.seal().into_bytes().to_vec();
    BatchMut::new(&mut bytes).expect("a batch").set_base_offset(base);
    bytes
}

/// The same, the second of which has a key of minus two bytes.
fn with_poison(base: i64) -> Vec<u8> {
    let mut bytes = batch(base);
    let record = bytes.len() - 2 * ((bytes.len() - 61) / 3);
    assert_eq!(bytes[record + 4], 1, "no key");
    bytes[record + 4] = 3;
    bytes
}

/// The same, said to be compressed with gzip.
fn with_garbage(base: i64) -> Vec<u8> {
    let mut bytes = batch(base);
    bytes[22] = 1;
    bytes
}

async fn read(batches: &[Vec<u8>]) -> (Peer, Consumer) {
    read_parted(batches, None).await
}

/// A peer whose partition 0 of topic `t` is `batches`, whatever is asked for, and its reader, which is given this many
/// records at a time.
pub(crate) async fn read_parted(batches: &[Vec<u8>], records_max: Option<usize>) -> (Peer, Consumer) {
    let set = |settings: &mut ConsumerSettings| {
        settings.check_crcs = false;
        settings.delivery_records_max = records_max;
    };
    read_with(batches, set).await
}

async fn read_with(batches: &[Vec<u8>], set: impl FnOnce(&mut ConsumerSettings)) -> (Peer, Consumer) {
    let records = Some(Bytes::from(batches.concat()));
    let partition = PartitionData { high_watermark: 9, records, ..Default::default() };
    let topic =
        FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    // The last version that names topics, as this peer has no ids; its header has tagged fields, of which there are none.
    let mut writer = Writer::new();
    response.encode(&mut writer, 12).expect("encodes");
    let body = [&[0], &writer.finish().to_vec()[..]].concat();
    let peer = Peer::start(Behaviour::BrokerButBody(&[ApiKey::Fetch], body.leak())).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    let consumer = client.consumer_direct().assign([("t", 0)], Position::Offset(0));
    (peer, consumer.settings(set).build().await.expect("built"))
}

/// The offsets of the next batch's records.
async fn next(consumer: &mut Consumer) -> Result<Vec<i64>, Error> {
    let next = timeout(Duration::from_secs(30), consumer.next()).await.expect("in time");
    Ok(next?.expect("assigned").iter().map(|record| record.offset()).collect())
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_passed_over_by_one_call() {
    let (_peer, mut consumer) = read(&[with_poison(0), batch(3)]).await;
    assert_eq!(next(&mut consumer).await.expect("read"), [0]);
    let error = next(&mut consumer).await.expect_err("the second record");
    assert!(error.to_string().contains("reading offset 1 of partition 0 of topic \"t\""), "{error}");
    assert_eq!((error.next_offset(), consumer.position("t", 0)), (Some(2), Some(1)));
    consumer.skip(&error).expect("assigned");
    assert_eq!(next(&mut consumer).await.expect("read"), [2]);
    assert_eq!(next(&mut consumer).await.expect("read"), [3, 4, 5]);

    consumer.unassign([("t", 0)]).expect("by position");
    let error = consumer.skip(&error).expect_err("not assigned");
    assert!(error.to_string().contains("not assigned") && error.next_offset().is_none(), "{error}");
    consumer.skip(&error).expect_err("of another kind");
}

#[tokio::test]
async fn a_wrong_checksum_is_told_and_neither_skipped_nor_fetched_in_a_loop() {
    // The checksum itself, and a byte of a record.
    for at in [17, 70] {
        let mut damaged = batch(3);
        damaged[at] ^= 1;
        let (peer, mut consumer) = read_with(&[batch(0), damaged], |_| {}).await;
        assert_eq!(next(&mut consumer).await.expect("it is sound"), [0, 1, 2]);
        let mut asked = 0;
        for turn in 0..20 {
            let error = next(&mut consumer).await.expect_err("a wrong checksum");
            assert!(error.to_string().contains("CRC"), "{error}");
            assert_eq!((error.next_offset(), consumer.position("t", 0)), (Some(6), Some(3)));
            let now = peer.requests(ApiKey::Fetch);
            assert!(turn == 0 || now == asked, "it was fetched again");
            asked = now;
        }
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_passed_over_by_one_call() {
    let (_peer, consumer) = read(&[with_garbage(0), batch(3)]).await;
    let mut partition = consumer.partitions().remove(0);
    let told = timeout(Duration::from_secs(30), partition.next()).await.expect("in time");
    let error = told.expect_err("no gzip");
    assert!(error.to_string().contains("reading offsets 0 to 2 of partition 0"), "{error}");
    assert_eq!((error.next_offset(), partition.position()), (Some(3), Some(0)));
    partition.skip(&error).expect("assigned");
    let batch = timeout(Duration::from_secs(30), partition.next()).await.expect("in time").expect("read");
    assert_eq!(batch.expect("assigned").first_offset(), 3);
}

#[tokio::test]
async fn what_is_met_in_a_batch_of_before_a_seek_does_not_stop_the_partition() {
    let (_peer, mut consumer) = read(&[with_poison(0), batch(3)]).await;
    let old = timeout(Duration::from_secs(30), consumer.next()).await.expect("in time").expect("read");
    let old = old.expect("assigned");
    consumer.seek("t", 0, Position::Offset(4)).expect("assigned");
    assert_eq!(old.iter().count(), 1);
    let error = next(&mut consumer).await.expect_err("it is told all the same");
    assert_eq!(error.next_offset(), Some(2));
    assert_eq!(consumer.position("t", 0), Some(4), "the partition stays where it was sought");
    assert_eq!(next(&mut consumer).await.expect("read"), [4, 5]);
}
