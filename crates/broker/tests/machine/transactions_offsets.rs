//! Offsets that are committed within transactions.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use crate::groups::Member;
use crate::groups_consumer::Member as Beating;
use crate::groups_offsets::commit_request;
use crate::rig::Rig;
use crate::time::live_through;
use crate::transactions::{Producer, Protocol, Tv1, Tv2, describe, rig, rig_with};

/// Adds the group `g`, as clients do with the older protocol.
fn add(rig: &Rig, producer: &Producer) -> ErrorCode {
    let request = AddOffsetsToTxnRequest {
        transactional_id: producer.id.into(),
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch,
        group_id: "g".into(),
        ..Default::default()
    };
    rig.ask(1, 4, &request).error_code
}

fn request(producer: &Producer, partition: i32, offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: 4,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic =
        TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    TxnOffsetCommitRequest {
        transactional_id: producer.id.into(),
        group_id: "g".into(),
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn send(rig: &Rig, producer: &Producer, request: &TxnOffsetCommitRequest) -> ErrorCode {
    let version = if producer.protocol == Tv1 { 4 } else { 5 };
    rig.ask(1, version, request).topics[0].partitions[0].error_code
}

/// Commits an offset within the producer's transaction.
fn commit(rig: &Rig, producer: &Producer, partition: i32, offset: i64) {
    if producer.protocol == Tv1 {
        assert_eq!(add(rig, producer), ErrorCode::NONE);
    }
    assert_eq!(send(rig, producer, &request(producer, partition, offset)), ErrorCode::NONE);
}

fn plainly(rig: &Rig, partition: i32, offset: i64) {
    let answer = rig.ask(1, 9, &commit_request("t", partition, offset));
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

/// The offset of a partition, or why a consumer that wants stable ones must wait.
fn fetch(rig: &Rig, partition: i32, require_stable: bool) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![partition],
        ..Default::default()
    };
    let group =
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
    let found = rig.ask(1, 9, &request).groups[0].topics[0].partitions[0].clone();
    match found.error_code {
        ErrorCode::NONE => Ok(found.committed_offset),
        code => Err(code),
    }
}

const UNSTABLE: Result<i64, ErrorCode> = Err(ErrorCode::UNSTABLE_OFFSET_COMMIT);

#[test]
fn offsets_are_committed_with_their_transaction_and_not_before() {
    for protocol in Protocol::BOTH {
        let rig = rig(protocol);
        let mut producer = Producer::start(&rig, "a", protocol);
        plainly(&rig, 0, 1);
        commit(&rig, &producer, 0, 7);
        assert_eq!(
            (fetch(&rig, 0, true), fetch(&rig, 0, false), fetch(&rig, 1, true)),
            (UNSTABLE, Ok(1), Ok(-1))
        );
        let topics = describe(&rig, "a").topics;
        assert_eq!(topics[0].topic, "__consumer_offsets");
        producer.end(&rig, true);
        assert_eq!((fetch(&rig, 0, true), fetch(&rig, 0, false)), (Ok(7), Ok(7)));
        commit(&rig, &producer, 0, 9);
        producer.end(&rig, false);
        assert_eq!((fetch(&rig, 0, true), fetch(&rig, 0, false)), (Ok(7), Ok(7)));
    }
}

#[test]
fn the_offset_that_was_written_last_stays_whichever_transaction_ends_first() {
    let rig = rig(Tv2);
    let (mut one, mut two) = (Producer::start(&rig, "a", Tv2), Producer::start(&rig, "b", Tv2));
    commit(&rig, &one, 0, 10);
    commit(&rig, &two, 0, 20);
    two.end(&rig, true);
    assert_eq!(fetch(&rig, 0, true), UNSTABLE, "the other one is open");
    one.end(&rig, true);
    assert_eq!(fetch(&rig, 0, true), Ok(20));
    // A plain commit comes between.
    commit(&rig, &one, 0, 30);
    plainly(&rig, 0, 40);
    commit(&rig, &one, 1, 31);
    one.end(&rig, true);
    assert_eq!((fetch(&rig, 0, true), fetch(&rig, 1, true)), (Ok(40), Ok(31)));
}

#[test]
fn a_group_that_was_not_added_is_refused_with_the_code_of_the_version() {
    let rig = rig(Tv1);
    let producer = Producer::start(&rig, "a", Tv1);
    let code = |version: i16, request: &TxnOffsetCommitRequest| {
        rig.ask(1, version, request).topics[0].partitions[0].error_code
    };
    let sound = request(&producer, 0, 7);
    assert_eq!(code(3, &sound), ErrorCode::INVALID_TXN_STATE);
    assert_eq!(code(4, &sound), ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(code(5, &sound), ErrorCode::NONE, "this version adds it");
    let stale = TxnOffsetCommitRequest { producer_epoch: -1, ..sound.clone() };
    assert_eq!(code(5, &stale), ErrorCode::INVALID_PRODUCER_EPOCH);
    let other = TxnOffsetCommitRequest { producer_id: 99, ..sound.clone() };
    assert_eq!(code(5, &other), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    let nameless = TxnOffsetCommitRequest { group_id: "".into(), ..sound.clone() };
    assert_eq!(code(5, &nameless), ErrorCode::INVALID_GROUP_ID);
    let mut unknown = sound;
    unknown.topics[0].name = "none".into();
    assert_eq!(code(5, &unknown), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_producer_that_was_fenced_commits_no_offset() {
    for protocol in Protocol::BOTH {
        let rig = rig(protocol);
        let mut old = Producer::start(&rig, "a", protocol);
        commit(&rig, &old, 0, 7);
        assert_eq!(
            crate::transactions::init(&rig, &crate::transactions::init_request("a")).error_code,
            ErrorCode::CONCURRENT_TRANSACTIONS
        );
        assert_eq!(fetch(&rig, 0, true), Ok(-1), "its transaction is aborted");
        let mut new = Producer::start(&rig, "a", protocol);
        assert_eq!(send(&rig, &old, &request(&old, 0, 8)), ErrorCode::INVALID_PRODUCER_EPOCH);
        commit(&rig, &new, 0, 9);
        new.end(&rig, true);
        assert_eq!(fetch(&rig, 0, true), Ok(9));
        old.epoch = new.epoch;
    }
}

#[test]
fn only_members_of_the_generation_commit_if_they_say_who_they_are() {
    let rig = rig(Tv2);
    let producer = Producer::start(&rig, "a", Tv2);
    let mut member = Member::default();
    rig.stable(std::slice::from_mut(&mut member));
    let code = |member_id: &str, generation: i32| {
        let request = TxnOffsetCommitRequest {
            member_id: member_id.into(),
            generation_id_or_member_epoch: generation,
            ..request(&producer, 0, 7)
        };
        send(&rig, &producer, &request)
    };
    assert_eq!(code(&member.id, member.generation), ErrorCode::NONE);
    assert_eq!(code("", -1), ErrorCode::NONE, "clients before KIP-447 do not say");
    assert_eq!(code(&member.id, member.generation - 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code("someone", member.generation), ErrorCode::UNKNOWN_MEMBER_ID);
    let named = TxnOffsetCommitRequest {
        group_id: "none".into(),
        generation_id_or_member_epoch: 3,
        ..request(&producer, 0, 7)
    };
    assert_eq!(send(&rig, &producer, &named), ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn members_of_the_consumer_protocol_commit_under_their_epoch() {
    let rig = rig(Tv2);
    let producer = Producer::start(&rig, "a", Tv2);
    let mut member = Beating::of("m", &["t"]);
    assert_eq!(rig.beat(&mut member), ErrorCode::NONE);
    let code = |member_id: &str, epoch: i32| {
        let request = TxnOffsetCommitRequest {
            member_id: member_id.into(),
            generation_id_or_member_epoch: epoch,
            ..request(&producer, 0, 7)
        };
        send(&rig, &producer, &request)
    };
    assert_eq!(code("m", member.epoch), ErrorCode::NONE);
    assert_eq!(code("m", member.epoch + 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code("n", member.epoch), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code("", -1), ErrorCode::NONE);
}

#[test]
fn pending_offsets_go_with_their_group_and_their_partition() {
    let rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    plainly(&rig, 0, 1);
    commit(&rig, &producer, 0, 7);
    commit(&rig, &producer, 1, 8);
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions };
    let answer = rig.ask(1, 0, &OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] });
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    assert_eq!((fetch(&rig, 0, true), fetch(&rig, 1, true)), (Ok(-1), UNSTABLE));
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()], ..Default::default() };
    assert_eq!(rig.ask(1, 2, &request).results[0].error_code, ErrorCode::NONE);
    assert_eq!(fetch(&rig, 1, true), Ok(-1));
    producer.end(&rig, true);
    assert_eq!((fetch(&rig, 0, true), fetch(&rig, 1, true)), (Ok(-1), Ok(-1)));
}

#[test]
fn an_offset_that_a_transaction_is_about_to_replace_does_not_expire() {
    let hour = Duration::from_secs(3600);
    let mut rig = rig_with(
        Broker::builder().offsets_retention(hour).config("transaction.max.timeout.ms", "100000000"),
        Tv2,
    );
    let slow = milena_messages::init_producer_id::InitProducerIdRequest {
        transaction_timeout_ms: 100_000_000,
        ..crate::transactions::init_request("a")
    };
    let answer = crate::transactions::init(&rig, &slow);
    let mut producer = Producer::start(&rig, "b", Tv2);
    (producer.id, producer.producer_id, producer.epoch) = ("a", answer.producer_id, answer.producer_epoch);
    plainly(&rig, 0, 1);
    plainly(&rig, 1, 1);
    commit(&rig, &producer, 0, 7);
    live_through(&mut rig, hour + Duration::from_secs(700));
    assert_eq!((fetch(&rig, 0, false), fetch(&rig, 1, false)), (Ok(1), Ok(-1)));
    producer.end(&rig, false);
    live_through(&mut rig, Duration::from_secs(700));
    assert_eq!(fetch(&rig, 0, false), Ok(-1));
}
