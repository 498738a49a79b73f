//! Transactions: their records, their ends, and who may go on, in both versions of the protocol (KIP-98, KIP-890).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Broker, Builder};
use milena_messages::ErrorCode;
use milena_messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use milena_messages::describe_transactions::{DescribeTransactionsRequest, TransactionState};
use milena_messages::end_txn::{EndTxnRequest, EndTxnResponse};
use milena_messages::fetch::{FetchRequest, PartitionData};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::list_transactions::ListTransactionsRequest;
use milena_messages::produce::{PartitionProduceResponse, ProduceRequest};
use milena_messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use milena_messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};
use milena_wire::batch::{BatchBuilder, Batches};
use milena_wire::pool::Pool;

use crate::rig::{FETCH, Outcome, Rig, fetch, is_due, produce};
use crate::time::live_through;

/// The two protocols: partitions are added by request and epochs stay, or both is left to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tv1,
    Tv2,
}

pub(crate) use Protocol::{Tv1, Tv2};

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Tv1, Tv2];

    fn produce(self) -> i16 {
        if self == Tv1 { 11 } else { 12 }
    }

    fn end(self) -> i16 {
        if self == Tv1 { 4 } else { 5 }
    }

    fn level(self) -> i16 {
        if self == Tv1 { 1 } else { 2 }
    }
}

/// A transactional producer as a client would be one.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) id: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

impl Producer {
    /// A producer that has its first id.
    pub(crate) fn start(rig: &Rig, id: &'static str, protocol: Protocol) -> Self {
        let answer = init(rig, &init_request(id));
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let (producer_id, epoch) = (answer.producer_id, answer.producer_epoch);
        Self { id, protocol, producer_id, epoch, sequences: BTreeMap::new() }
    }

    /// Adds a partition of `t`, as clients do with the older protocol.
    pub(crate) fn add(&self, rig: &Rig, partition: i32) -> ErrorCode {
        let topic =
            AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.into(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        rig.ask(1, 3, &request).results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// The request for the next batch of a partition of `t`.
    pub(crate) fn request(&self, partition: i32, values: &[&str]) -> ProduceRequest {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let records = batch(values, (self.producer_id, self.epoch, sequence));
        ProduceRequest {
            transactional_id: Some(self.id.into()),
            ..produce("t", partition, Some(records), -1)
        }
    }

    pub(crate) fn produce(&mut self, rig: &Rig, partition: i32, values: &[&str]) -> PartitionProduceResponse {
        let answer = rig.ask(1, self.protocol.produce(), &self.request(partition, values));
        let answer = answer.responses[0].partition_responses[0].clone();
        if answer.error_code.is_none() {
            *self.sequences.entry(partition).or_default() += values.len() as i32;
        }
        answer
    }

    /// Writes records to a partition of `t`, which is added before if that is left to the client.
    pub(crate) fn write(&mut self, rig: &Rig, partition: i32, values: &[&str]) {
        if self.protocol == Tv1 {
            assert_eq!(self.add(rig, partition), ErrorCode::NONE);
        }
        assert_eq!(self.produce(rig, partition, values).error_code, ErrorCode::NONE);
    }

    pub(crate) fn end_request(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: self.id.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        }
    }

    pub(crate) fn try_end(&self, rig: &Rig, committed: bool) -> EndTxnResponse {
        rig.ask(1, self.protocol.end(), &self.end_request(committed))
    }

    pub(crate) fn end(&mut self, rig: &Rig, committed: bool) {
        let answer = self.try_end(rig, committed);
        assert_eq!(answer.error_code, ErrorCode::NONE, "{self:?}");
        if self.protocol == Tv2 {
            (self.producer_id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
    }
}

pub(crate) fn init_request(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

pub(crate) fn init(rig: &Rig, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    rig.ask(1, 5, request)
}

/// A transactional batch with a `(producer id, epoch, base sequence)`.
pub(crate) fn batch(values: &[&str], stamp: (i64, i16, i32)) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default()).transactional(true);
    for value in values {
        builder.append(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &[]).expect("fits");
    }
    let mut sealed = builder.seal();
    sealed.stamp(stamp.0, stamp.1, stamp.2);
    sealed.into_bytes()
}

/// A cluster of one node that has the topic `t` of three partitions.
pub(crate) fn rig(protocol: Protocol) -> Rig {
    rig_with(Broker::builder(), protocol)
}

pub(crate) fn rig_with(builder: Builder, protocol: Protocol) -> Rig {
    let rig = Rig::with(builder.transaction_version(protocol.level()));
    rig.create("t", 3, &[]);
    rig
}

fn committed_request(partition: i32, offset: i64) -> FetchRequest {
    FetchRequest { isolation_level: 1, ..fetch("t", &[(partition, offset)]) }
}

/// What a fetch under `read_committed` brings.
fn fetch_committed(rig: &Rig, partition: i32, offset: i64) -> PartitionData {
    rig.ask(1, FETCH, &committed_request(partition, offset)).responses[0].partitions[0].clone()
}

/// The values that a consumer under `read_committed` sees in a partition of `t`.
pub(crate) fn committed(rig: &Rig, partition: i32) -> Vec<String> {
    let data = fetch_committed(rig, partition, 0);
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|aborted| (aborted.first_offset, aborted.producer_id))
        .collect();
    let mut values = Vec::new();
    let mut skipped: Vec<i64> = Vec::new();
    for raw in Batches::new(data.records.expect("not null")) {
        let raw = raw.expect("whole");
        let producer_id = raw.header.producer.map(|producer| producer.producer_id);
        aborted.retain(|&(first, id)| {
            let begins = first <= raw.header.base_offset;
            if begins {
                skipped.push(id);
            }
            !begins
        });
        if raw.header.is_control() {
            skipped.retain(|&id| Some(id) != producer_id);
        } else if !(raw.header.is_transactional() && producer_id.is_some_and(|id| skipped.contains(&id))) {
            let batch = raw
                .decompress(
                    &mut milena_wire::codec::Decompressor::new(),
                    &Pool::default(),
                    &Default::default(),
                )
                .expect("sound");
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
            values.extend(batch.records().map(|record| text(record.expect("sound").value.expect("a value"))));
        }
    }
    values
}

/// The last stable offset and the high watermark of a partition of `t`.
pub(crate) fn offsets(rig: &Rig, partition: i32) -> (i64, i64) {
    let data = rig.fetch("t", partition, 0);
    (data.last_stable_offset, data.high_watermark)
}

pub(crate) fn describe(rig: &Rig, id: &str) -> TransactionState {
    let request = DescribeTransactionsRequest { transactional_ids: vec![id.into()], ..Default::default() };
    rig.ask(1, 0, &request).transaction_states[0].clone()
}

#[test]
fn only_committed_records_are_read_and_only_up_to_the_last_stable_offset() {
    for protocol in Protocol::BOTH {
        let rig = rig(protocol);
        let mut producer = Producer::start(&rig, "a", protocol);
        producer.write(&rig, 0, &["1", "2"]);
        producer.write(&rig, 1, &["3"]);
        assert_eq!((offsets(&rig, 0), offsets(&rig, 1), offsets(&rig, 2)), ((0, 2), (0, 1), (0, 0)));
        assert_eq!(committed(&rig, 0), [""; 0]);
        producer.end(&rig, true);
        assert_eq!((offsets(&rig, 0), offsets(&rig, 1), offsets(&rig, 2)), ((3, 3), (2, 2), (0, 0)));
        assert_eq!(
            (committed(&rig, 0), committed(&rig, 1)),
            (vec!["1".into(), "2".into()], vec!["3".into()])
        );
        producer.write(&rig, 0, &["4"]);
        assert_eq!(rig.produce("t", 0, crate::rig::batch(&["5"], None)).base_offset, 4);
        assert_eq!(offsets(&rig, 0), (3, 5), "what follows an open transaction waits for it");
        producer.end(&rig, false);
        assert_eq!(committed(&rig, 0), ["1", "2", "5"]);
        producer.write(&rig, 0, &["6"]);
        producer.end(&rig, true);
        assert_eq!(
            (committed(&rig, 0), offsets(&rig, 0)),
            (vec!["1", "2", "5", "6"].into_iter().map(String::from).collect(), (8, 8))
        );
        let aborted = fetch_committed(&rig, 0, 0).aborted_transactions.expect("a list");
        assert_eq!(aborted.len(), 1);
        assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (producer.producer_id, 3));
        assert!(fetch_committed(&rig, 0, 6).aborted_transactions.expect("a list").is_empty());
        assert_eq!(rig.fetch("t", 0, 0).aborted_transactions, None, "only who reads committed is told");
    }
}

#[test]
fn the_latest_offset_depends_on_the_isolation() {
    let rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    producer.write(&rig, 0, &["1", "2"]);
    let latest = |isolation_level| {
        let partition =
            ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
        let request = ListOffsetsRequest { isolation_level, topics: vec![topic], ..Default::default() };
        rig.ask(1, 7, &request).topics[0].partitions[0].offset
    };
    assert_eq!((latest(0), latest(1)), (2, 0));
    producer.end(&rig, true);
    assert_eq!((latest(0), latest(1)), (3, 3));
}

#[test]
fn a_fetch_that_waits_for_committed_records_is_woken_by_the_marker() {
    let rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    producer.write(&rig, 0, &["1"]);
    let request = FetchRequest { max_wait_ms: 60_000, min_bytes: 100, ..committed_request(0, 0) };
    let Outcome::Parked(parked) = rig.try_send(1, FETCH, &request).expect("understood") else {
        panic!("answered")
    };
    assert!(!is_due(&parked));
    producer.end(&rig, true);
    assert!(is_due(&parked));
    let answer = rig.resume::<FetchRequest>(FETCH, parked).answered();
    assert_eq!(Batches::new(answer.responses[0].partitions[0].records.clone().expect("not null")).count(), 2);
}

#[test]
fn each_end_raises_the_epoch_under_tv2_and_none_does_under_tv1() {
    for protocol in Protocol::BOTH {
        let rig = rig(protocol);
        let mut producer = Producer::start(&rig, "a", protocol);
        let mut epochs = vec![producer.epoch];
        for (round, commit) in [true, false, true].into_iter().enumerate() {
            producer.write(&rig, 0, &["x"]);
            let request = producer.clone();
            producer.end(&rig, commit);
            epochs.push(producer.epoch);
            // A copy of the request has the same answer, and its opposite none.
            let copy = request.try_end(&rig, commit);
            assert_eq!(copy.error_code, ErrorCode::NONE, "{protocol:?} {round}");
            if protocol == Tv2 {
                assert_eq!((copy.producer_id, copy.producer_epoch), (producer.producer_id, producer.epoch));
            }
            assert_eq!(request.try_end(&rig, !commit).error_code, ErrorCode::INVALID_TXN_STATE);
        }
        assert_eq!(epochs, if protocol == Tv1 { [0, 0, 0, 0] } else { [0, 1, 2, 3] });
    }
}

#[test]
fn a_late_copy_of_an_end_ends_no_later_transaction_under_tv2() {
    let rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    producer.write(&rig, 0, &["1"]);
    let late = producer.clone();
    producer.end(&rig, true);
    producer.write(&rig, 0, &["2"]);
    // KAFKA-17754: it has the epoch of the transaction that it ended.
    assert_eq!(late.try_end(&rig, true).error_code, ErrorCode::PRODUCER_FENCED);
    assert_eq!(committed(&rig, 0), ["1"]);
    producer.end(&rig, false);
    assert_eq!(committed(&rig, 0), ["1"]);
}

#[test]
fn batches_outside_of_a_transaction_are_refused_with_the_code_of_their_version() {
    let rig = rig(Tv1);
    let mut producer = Producer::start(&rig, "a", Tv1);
    let code = |producer: &Producer, version: i16| {
        let answer = rig.ask(1, version, &producer.request(0, &["x"]));
        answer.responses[0].partition_responses[0].error_code
    };
    assert_eq!(code(&producer, 10), ErrorCode::INVALID_TXN_STATE);
    assert_eq!(code(&producer, 11), ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(producer.add(&rig, 1), ErrorCode::NONE);
    assert_eq!(code(&producer, 11), ErrorCode::TRANSACTION_ABORTABLE, "another partition was added");
    let stale = Producer { epoch: producer.epoch - 1, ..producer.clone() };
    assert_eq!(code(&stale, 11), ErrorCode::INVALID_PRODUCER_EPOCH);
    let other = Producer { producer_id: 99, ..producer.clone() };
    assert_eq!(code(&other, 12), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    let unknown = Producer { id: "unknown", ..producer.clone() };
    assert_eq!(code(&unknown, 12), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(offsets(&rig, 0), (0, 0));
    producer.write(&rig, 0, &["x"]);
    producer.end(&rig, true);
    assert_eq!(code(&producer, 11), ErrorCode::TRANSACTION_ABORTABLE, "the transaction has ended");
    // A plain batch of a producer whose transaction is open here.
    producer.write(&rig, 0, &["y"]);
    let plain = crate::rig::batch(&["z"], Some((producer.producer_id, producer.epoch, 2)));
    assert_eq!(rig.produce("t", 0, plain).error_code, ErrorCode::INVALID_TXN_STATE);
}

#[test]
fn a_batch_in_flight_does_not_take_the_place_of_one_before_it_that_was_refused() {
    let rig = rig(Tv1);
    let mut producer = Producer::start(&rig, "a", Tv1);
    assert_eq!(producer.produce(&rig, 0, &["1", "2"]).error_code, ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(producer.add(&rig, 0), ErrorCode::NONE);
    let mut next = Producer { sequences: BTreeMap::from([(0, 2)]), ..producer.clone() };
    assert_eq!(next.produce(&rig, 0, &["3"]).error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(producer.produce(&rig, 0, &["1", "2"]).error_code, ErrorCode::NONE);
    assert_eq!(next.produce(&rig, 0, &["3"]).error_code, ErrorCode::NONE);
    producer.end(&rig, true);
    assert_eq!(committed(&rig, 0), ["1", "2", "3"]);
}

#[test]
fn sequences_begin_anew_with_each_epoch() {
    let rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    let gap = |producer: &Producer| {
        let records = batch(&["x"], (producer.producer_id, producer.epoch, 5));
        let request =
            ProduceRequest { transactional_id: Some("a".into()), ..produce("t", 0, Some(records), -1) };
        rig.ask(1, 12, &request).responses[0].partition_responses[0].error_code
    };
    assert_eq!(gap(&producer), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.write(&rig, 0, &["1"]);
    producer.end(&rig, true);
    assert_eq!(gap(&producer), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.write(&rig, 0, &["2"]);
    // A copy of what was written is recognised while its transaction is open, and refused after it.
    let late =
        rig.ask(1, 12, &Producer { sequences: BTreeMap::new(), ..producer.clone() }.request(0, &["2"]));
    assert_eq!(late.responses[0].partition_responses[0].base_offset, 2);
    let late = Producer { sequences: BTreeMap::new(), ..producer.clone() };
    producer.end(&rig, true);
    let answer = rig.ask(1, 12, &late.request(0, &["2"]));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(committed(&rig, 0), ["1", "2"]);
}

#[test]
fn a_new_producer_of_an_id_fences_the_one_before() {
    for protocol in Protocol::BOTH {
        let rig = rig(protocol);
        let mut old = Producer::start(&rig, "a", protocol);
        old.write(&rig, 0, &["1"]);
        let answer = init(&rig, &init_request("a"));
        assert_eq!(answer.error_code, ErrorCode::CONCURRENT_TRANSACTIONS, "the open one is aborted first");
        let mut new = Producer::start(&rig, "a", protocol);
        assert_eq!((new.producer_id, new.epoch), (old.producer_id, 2), "{protocol:?}");
        assert_eq!((offsets(&rig, 0), committed(&rig, 0).len()), ((2, 2), 0));
        assert_eq!(old.produce(&rig, 0, &["2"]).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(old.produce(&rig, 1, &["2"]).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(old.add(&rig, 0), ErrorCode::PRODUCER_FENCED);
        assert_eq!(old.try_end(&rig, true).error_code, ErrorCode::PRODUCER_FENCED);
        let code = |version| rig.ask(1, version, &old.end_request(true)).error_code;
        assert_eq!(code(1), ErrorCode::INVALID_PRODUCER_EPOCH, "old clients know no other code");
        let request = InitProducerIdRequest {
            producer_id: old.producer_id,
            producer_epoch: old.epoch,
            ..init_request("a")
        };
        assert_eq!(init(&rig, &request).error_code, ErrorCode::PRODUCER_FENCED);
        assert_eq!(rig.ask(1, 3, &request).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
        new.write(&rig, 0, &["3"]);
        new.end(&rig, true);
        assert_eq!(committed(&rig, 0), ["3"]);
    }
}

#[test]
fn a_producer_raises_its_own_epoch_and_may_repeat_that() {
    let rig = rig(Tv1);
    let producer = Producer::start(&rig, "a", Tv1);
    let raise = |epoch| {
        let producer_id = producer.producer_id;
        let answer =
            init(&rig, &InitProducerIdRequest { producer_id, producer_epoch: epoch, ..init_request("a") });
        (answer.error_code, answer.producer_epoch)
    };
    assert_eq!(raise(0), (ErrorCode::NONE, 1));
    assert_eq!(raise(0), (ErrorCode::NONE, 1), "its answer was lost");
    assert_eq!(raise(1), (ErrorCode::NONE, 2));
    assert_eq!(raise(0), (ErrorCode::PRODUCER_FENCED, -1));
    assert_eq!(Producer::start(&rig, "a", Tv1).epoch, 3);
    assert_eq!(raise(1), (ErrorCode::PRODUCER_FENCED, -1), "another producer came between");
    let half = InitProducerIdRequest { producer_id: 7, ..init_request("a") };
    assert_eq!(init(&rig, &half).error_code, ErrorCode::INVALID_REQUEST);
    let other = InitProducerIdRequest { producer_id: 777, producer_epoch: 3, ..init_request("a") };
    assert_eq!(init(&rig, &other).error_code, ErrorCode::PRODUCER_FENCED);
}

#[test]
fn timeouts_are_within_their_limits() {
    let rig = rig(Tv2);
    let code = |transaction_timeout_ms| {
        init(&rig, &InitProducerIdRequest { transaction_timeout_ms, ..init_request("a") }).error_code
    };
    for (timeout_ms, expected) in [
        (0, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (-1, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        (1, ErrorCode::NONE),
        (900_000, ErrorCode::NONE),
        (900_001, ErrorCode::INVALID_TRANSACTION_TIMEOUT),
    ] {
        assert_eq!(code(timeout_ms), expected, "{timeout_ms}");
    }
    assert_eq!(init(&rig, &init_request("")).error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_transaction_whose_time_is_over_is_aborted_and_its_producer_is_fenced() {
    for protocol in Protocol::BOTH {
        let mut rig = rig(protocol);
        let mut producer = Producer::start(&rig, "a", protocol);
        live_through(&mut rig, Duration::from_secs(100));
        producer.write(&rig, 0, &["1"]);
        live_through(&mut rig, Duration::from_secs(59));
        producer.write(&rig, 1, &["2"]);
        assert_eq!((offsets(&rig, 0), describe(&rig, "a").transaction_state.as_str()), ((0, 1), "Ongoing"));
        live_through(&mut rig, Duration::from_secs(1));
        assert_eq!(
            (offsets(&rig, 0), offsets(&rig, 1)),
            ((2, 2), (2, 2)),
            "from its begin, not from its last record"
        );
        assert_eq!((committed(&rig, 0).len(), committed(&rig, 1).len()), (0, 0));
        let state = describe(&rig, "a");
        assert_eq!((state.transaction_state.as_str(), state.producer_epoch), ("CompleteAbort", 1));
        assert_eq!(producer.produce(&rig, 0, &["3"]).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(producer.try_end(&rig, true).error_code, expected_after_timeout(protocol));
    }
}

/// Under TV2 the epoch of a transaction that timed out looks as if its producer had ended it.
fn expected_after_timeout(protocol: Protocol) -> ErrorCode {
    match protocol {
        Tv1 => ErrorCode::PRODUCER_FENCED,
        Tv2 => ErrorCode::INVALID_TXN_STATE,
    }
}

#[test]
fn until_the_markers_are_written_nothing_else_begins() {
    for protocol in Protocol::BOTH {
        let delay = Duration::from_secs(2);
        let mut rig = rig_with(Broker::builder().transaction_marker_delay(delay), protocol);
        let mut producer = Producer::start(&rig, "a", protocol);
        producer.write(&rig, 0, &["1"]);
        let before = producer.clone();
        producer.end(&rig, true);
        assert_eq!(
            (describe(&rig, "a").transaction_state.as_str(), offsets(&rig, 0)),
            ("PrepareCommit", (0, 1))
        );
        assert_eq!(before.try_end(&rig, true).error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
        assert_eq!(before.try_end(&rig, false).error_code, ErrorCode::INVALID_TXN_STATE);
        assert_eq!(producer.add(&rig, 0), ErrorCode::CONCURRENT_TRANSACTIONS);
        let expected =
            if protocol == Tv1 { ErrorCode::NOT_ENOUGH_REPLICAS } else { ErrorCode::CONCURRENT_TRANSACTIONS };
        assert_eq!(producer.produce(&rig, 1, &["2"]).error_code, expected);
        assert_eq!(init(&rig, &init_request("a")).error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
        live_through(&mut rig, delay);
        assert_eq!(
            (describe(&rig, "a").transaction_state.as_str(), offsets(&rig, 0)),
            ("CompleteCommit", (2, 2))
        );
        producer.write(&rig, 0, &["3"]);
        producer.end(&rig, true);
        live_through(&mut rig, delay);
        assert_eq!(committed(&rig, 0), ["1", "3"]);
    }
}

#[test]
fn an_end_needs_a_transaction_unless_it_aborts_under_tv2() {
    for (protocol, after_abort) in [(Tv1, ErrorCode::INVALID_TXN_STATE), (Tv2, ErrorCode::NONE)] {
        let rig = rig(protocol);
        let producer = Producer::start(&rig, "a", protocol);
        assert_eq!(producer.try_end(&rig, true).error_code, ErrorCode::INVALID_TXN_STATE);
        let answer = producer.try_end(&rig, false);
        assert_eq!(
            (answer.error_code, answer.producer_epoch),
            (after_abort, if protocol == Tv1 { -1 } else { 1 })
        );
        let unknown = Producer { id: "unknown", ..producer.clone() };
        assert_eq!(unknown.try_end(&rig, true).error_code, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        let nameless = Producer { id: "", ..producer };
        assert_eq!(nameless.try_end(&rig, true).error_code, ErrorCode::INVALID_REQUEST);
    }
}

#[test]
fn no_partition_is_added_if_one_of_them_does_not_exist() {
    let rig = rig(Tv1);
    let producer = Producer::start(&rig, "a", Tv1);
    let topic = |name: &str, partitions: &[i32]| AddPartitionsToTxnTopic {
        name: name.into(),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "a".into(),
        v3_and_below_producer_id: producer.producer_id,
        v3_and_below_producer_epoch: producer.epoch,
        v3_and_below_topics: vec![topic("t", &[0, 7]), topic("none", &[0])],
        ..Default::default()
    };
    let answer = rig.ask(1, 3, &request);
    let codes: Vec<ErrorCode> = answer
        .results_by_topic_v3_and_below
        .iter()
        .flat_map(|topic| &topic.results_by_partition)
        .map(|partition| partition.partition_error_code)
        .collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [ErrorCode::OPERATION_NOT_ATTEMPTED, unknown, unknown]);
    assert_eq!(describe(&rig, "a").transaction_state, "Empty");
}

#[test]
fn the_finalized_version_is_told_and_changes_while_the_cluster_runs() {
    let rig = rig(Tv2);
    let told = |rig: &Rig| {
        let request = ApiVersionsRequest {
            client_software_name: "rig".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = rig.ask(1, 4, &request);
        let level = |name: &str| {
            answer.finalized_features.iter().find(|feature| feature.name == name).map(|f| f.max_version_level)
        };
        (level("transaction.version"), answer.finalized_features_epoch)
    };
    assert_eq!(told(&rig), (Some(2), 0));
    rig.machine.set_transaction_version(1).expect("there is one");
    assert_eq!(told(&rig), (Some(1), 1));
    rig.machine.set_transaction_version(0).expect("there is one");
    assert_eq!(told(&rig), (None, 2));
    assert!(rig.machine.set_transaction_version(3).is_err());
    let asks = |level, kind, validate_only| {
        let feature = FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: level,
            upgrade_type: kind,
            ..Default::default()
        };
        let request =
            UpdateFeaturesRequest { feature_updates: vec![feature], validate_only, ..Default::default() };
        rig.ask(1, 2, &request).error_code
    };
    let refused = ErrorCode::INVALID_UPDATE_VERSION;
    assert_eq!([asks(3, 1, false), asks(2, 2, false), asks(1, 0, false), asks(-1, 2, false)], [refused; 4]);
    assert_eq!((asks(2, 1, true), told(&rig)), (ErrorCode::NONE, (None, 2)));
    assert_eq!((asks(2, 1, false), told(&rig)), (ErrorCode::NONE, (Some(2), 3)));
    assert_eq!((asks(1, 1, false), asks(1, 3, true)), (refused, ErrorCode::NONE));
    assert_eq!((asks(1, 2, false), told(&rig)), (ErrorCode::NONE, (Some(1), 4)));
    // What a client does is decided by the versions of its requests.
    for protocol in [Tv2, Tv1, Tv2] {
        let mut producer = Producer::start(&rig, "a", protocol);
        producer.write(&rig, 0, &["x"]);
        producer.end(&rig, true);
    }
    assert_eq!(committed(&rig, 0), ["x"; 3]);
}

#[test]
fn transactions_go_on_when_their_coordinator_moves() {
    let load_time = Duration::from_secs(3);
    let builder = Broker::builder().nodes(2).default_replication(2).transaction_load_time(load_time);
    let mut rig = rig_with(builder, Tv2);
    rig.machine.move_transaction_coordinator("a", 1).expect("it is up");
    for partition in 0..3 {
        rig.machine.move_leader("t", partition, 1).expect("it has a replica");
    }
    let mut producer = Producer::start(&rig, "a", Tv2);
    producer.write(&rig, 0, &["1"]);
    rig.machine.move_transaction_coordinator("a", 2).expect("it is up");
    let find = |rig: &Rig| {
        let request =
            FindCoordinatorRequest { key_type: 1, coordinator_keys: vec!["a".into()], ..Default::default() };
        rig.ask(1, 4, &request).coordinators[0].node_id
    };
    assert_eq!(find(&rig), 2);
    let end = |rig: &Rig, node| rig.ask(node, 5, &producer.end_request(true));
    assert_eq!(end(&rig, 1).error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(end(&rig, 2).error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let answer = rig.ask(1, 12, &producer.request(1, &["2"]));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    rig.pass(load_time);
    assert_eq!(end(&rig, 2).error_code, ErrorCode::NONE);
    assert_eq!(committed(&rig, 0), ["1"]);
    // It also moves when its node goes down.
    rig.machine.stop_node(2).expect("it was up");
    assert_eq!(find(&rig), 1);
    // The new coordinator has a greater epoch than the old one.
    let epochs = producers(&rig).into_iter().map(|(_, _, epoch, _)| epoch).collect::<Vec<_>>();
    assert_eq!(epochs, [1]);
}

#[test]
fn markers_wait_for_the_leaders_of_their_partitions() {
    let mut rig = rig_with(Broker::builder().nodes(2), Tv2);
    rig.machine.move_transaction_coordinator("a", 1).expect("it is up");
    let at = |rig: &Rig, node: i32, request: &ProduceRequest| {
        rig.ask(node, 12, request).responses[0].partition_responses[0].error_code
    };
    let producer = Producer::start(&rig, "a", Tv2);
    // The partitions of `t` have one replica each, at the nodes in turn.
    let mut written = 0;
    for partition in 0..3 {
        let request = producer.request(partition, &["x"]);
        written += (1..=2).filter(|&node| at(&rig, node, &request).is_none()).count();
    }
    assert_eq!(written, 3);
    rig.machine.stop_node(2).expect("it was up");
    assert_eq!(producer.try_end(&rig, true).error_code, ErrorCode::NONE);
    assert_eq!(describe(&rig, "a").transaction_state, "PrepareCommit");
    live_through(&mut rig, Duration::from_secs(5));
    assert_eq!(describe(&rig, "a").transaction_state, "PrepareCommit");
    rig.machine.start_node(2).expect("it was down");
    live_through(&mut rig, Duration::from_secs(1));
    assert_eq!(describe(&rig, "a").transaction_state, "CompleteCommit");
}

#[test]
fn ids_that_nobody_uses_expire() {
    let day = Duration::from_secs(24 * 60 * 60);
    let mut rig = rig_with(Broker::builder().transactional_id_expiration(day), Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    Producer::start(&rig, "b", Tv2);
    live_through(&mut rig, day / 2);
    producer.write(&rig, 0, &["1"]);
    producer.end(&rig, true);
    live_through(&mut rig, day / 2 + Duration::from_secs(3600));
    assert_eq!(describe(&rig, "a").transaction_state, "CompleteCommit");
    assert_eq!(describe(&rig, "b").error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    live_through(&mut rig, day);
    assert_eq!(producer.produce(&rig, 0, &["2"]).error_code, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_ne!(Producer::start(&rig, "a", Tv2).producer_id, producer.producer_id);
}

/// The producers of partition 0: id, epoch, coordinator epoch and the start of an open transaction.
fn producers(rig: &Rig) -> Vec<(i64, i32, i32, i64)> {
    producers_at(rig, 1).expect("told")
}

/// As the replica of `node` remembers them.
fn producers_at(rig: &Rig, node: i32) -> Result<Vec<(i64, i32, i32, i64)>, ErrorCode> {
    let topic = TopicRequest { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let request = DescribeProducersRequest { topics: vec![topic], ..Default::default() };
    let answer = rig.ask(node, 0, &request).topics[0].partitions[0].clone();
    answer.error_code.ok()?;
    let row = |producer: milena_messages::describe_producers::ProducerState| {
        let (id, epoch) = (producer.producer_id, producer.producer_epoch);
        (id, epoch, producer.coordinator_epoch, producer.current_txn_start_offset)
    };
    Ok(answer.active_producers.into_iter().map(row).collect())
}

/// `kafka-transactions.sh describe-producers --broker-id` asks followers as well.
#[test]
fn every_replica_tells_the_producers_of_a_partition_and_no_other_node_does() {
    let rig = Rig::with(Broker::builder().nodes(3).default_replication(2));
    rig.create("t", 1, &[]);
    rig.machine.move_transaction_coordinator("a", 1).expect("there is one");
    let mut producer = Producer::start(&rig, "a", Tv2);
    rig.machine.move_leader("t", 0, 1).expect("node 1 has a replica");
    producer.write(&rig, 0, &["1"]);
    let mut told: Vec<_> = (1..=3).map(|node| producers_at(&rig, node)).collect();
    told.sort_by_key(Result::is_err);
    let known = Ok(vec![(producer.producer_id, 0, -1, 0)]);
    assert_eq!(told, [known.clone(), known, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
}

fn marker(rig: &Rig, marker: WritableTxnMarker) -> ErrorCode {
    let topic = WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let marker = WritableTxnMarker { topics: vec![topic], ..marker };
    let request = WriteTxnMarkersRequest { markers: vec![marker], ..Default::default() };
    rig.ask(1, 2, &request).markers[0].topics[0].partitions[0].error_code
}

#[test]
fn markers_of_old_epochs_are_refused() {
    let rig = rig(Tv1);
    let mut producer = Producer::start(&rig, "a", Tv1);
    producer.write(&rig, 0, &["1"]);
    let id = producer.producer_id;
    assert_eq!(producers(&rig), [(id, 0, -1, 0)]);
    let of = |epoch, coordinator_epoch, transaction_version| WritableTxnMarker {
        producer_id: id,
        producer_epoch: epoch,
        coordinator_epoch,
        transaction_version,
        ..Default::default()
    };
    assert_eq!(marker(&rig, of(-1, 5, 1)), ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(marker(&rig, of(0, 5, 2)), ErrorCode::INVALID_PRODUCER_EPOCH, "its epoch is not raised");
    // An administrator aborts it.
    assert_eq!(marker(&rig, of(0, 5, 1)), ErrorCode::NONE);
    assert_eq!((producers(&rig), offsets(&rig, 0)), (vec![(id, 0, 5, -1)], (2, 2)));
    assert_eq!(marker(&rig, of(0, 4, 1)), ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    assert_eq!(marker(&rig, of(0, 5, 2)), ErrorCode::NONE, "a copy, which ends nothing");
    assert_eq!(marker(&rig, of(3, 5, 2)), ErrorCode::NONE);
    assert_eq!(marker(&rig, of(2, 5, 1)), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(offsets(&rig, 0), (4, 4));
    assert_eq!(committed(&rig, 0), [""; 0]);
}

#[test]
fn transactions_are_described_and_listed() {
    let mut rig = rig(Tv2);
    let mut producer = Producer::start(&rig, "a", Tv2);
    Producer::start(&rig, "b", Tv2);
    producer.write(&rig, 2, &["1"]);
    producer.write(&rig, 0, &["1"]);
    let state = describe(&rig, "a");
    assert_eq!((state.producer_id, state.producer_epoch), (producer.producer_id, 0));
    assert_eq!((state.transaction_timeout_ms, state.transaction_start_time_ms), (60_000, rig.now.unix_ms));
    assert_eq!((state.topics.len(), &state.topics[0].partitions[..]), (1, &[0, 2][..]));
    assert_eq!(describe(&rig, "c").error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    rig.pass(Duration::from_secs(5));
    let list = |request: ListTransactionsRequest| {
        let answer = rig.ask(1, 2, &request);
        let ids = answer.transaction_states.iter().map(|state| state.transactional_id.to_string());
        (ids.collect::<Vec<_>>().join(" "), answer.unknown_state_filters.len(), answer.error_code)
    };
    let all = ListTransactionsRequest { duration_filter: -1, ..Default::default() };
    let pattern = |pattern: &str| ListTransactionsRequest {
        transactional_id_pattern: Some(pattern.into()),
        ..all.clone()
    };
    let states = |states: &[&str]| ListTransactionsRequest {
        state_filters: states.iter().map(|&state| state.into()).collect(),
        ..all.clone()
    };
    let of = |ids: &str| (ids.to_owned(), 0, ErrorCode::NONE);
    assert_eq!(list(all.clone()), of("a b"));
    assert_eq!(list(states(&["Ongoing", "Dead"])), of("a"));
    assert_eq!(list(states(&["ongoing"])), (String::new(), 1, ErrorCode::NONE));
    assert_eq!(list(pattern("[b-z]")), of("b"));
    assert_eq!(list(pattern("(")).2, ErrorCode::INVALID_REGULAR_EXPRESSION);
    let producer_id_filters = vec![producer.producer_id];
    assert_eq!(list(ListTransactionsRequest { producer_id_filters, ..all }), of("a"));
}
