//! Transactions: who may begin, write and end them, and what readers see, in both versions of the protocol.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use milena_messages::describe_transactions::DescribeTransactionsRequest;
use milena_messages::end_txn::EndTxnRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::list_transactions::ListTransactionsRequest;
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};
use milena_wire::batch::{BatchBuilder, Batches};
use milena_wire::pool::Pool;

use super::{Asker, compare, compare_old};

/// The name of the script that Kafka 3.9 plays.
const OLD: &str = "txn-old";

/// A transactional producer, which sends what it is told to, right or wrong.
#[derive(Clone)]
struct Producer {
    /// Its name in what is said, and its transactional id.
    label: String,
    id: String,
    topic: String,
    producer_id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

/// What a script has to itself: its topic, and the beginning of its transactional ids and groups. Tests share real Kafka.
struct Stage {
    name: &'static str,
    /// Producer ids are not the same for both brokers. Each is shown by the order in which it was first seen.
    ids: Vec<i64>,
}

impl Stage {
    fn new(asker: &mut Asker, name: &'static str, partitions: i32) -> Self {
        asker.create(name, partitions);
        Self { name, ids: Vec::new() }
    }

    fn show(&mut self, id: i64) -> i64 {
        if id < 0 {
            return id;
        }
        let at = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        at as i64
    }

    /// An id or a group of this script's own.
    fn own(&self, name: &str) -> String {
        match name {
            "" => String::new(),
            name => format!("{}-{name}", self.name),
        }
    }

    fn producer(&self, label: &str) -> Producer {
        let (id, topic) = (self.own(label), self.name.to_owned());
        Producer { label: label.into(), id, topic, producer_id: -1, epoch: -1, sequences: BTreeMap::new() }
    }
}

fn init_request(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

/// Whether a code only says that the broker is not ready yet. Real Kafka makes its coordinators' topics first, and writes markers
/// in its own time.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
    )
}

/// Asks again while the code is a passing one.
///
/// Real Kafka verifies the transactions of all producers that come at the same time in one request, and tells all of them with
/// the code that the first one's version knows. So these two codes count when the broker has said the same twice.
fn patiently<T>(mut ask: impl FnMut() -> T, code: impl Fn(&T) -> ErrorCode) -> T {
    let started = Instant::now();
    let mut before = None;
    loop {
        let answer = ask();
        let code = code(&answer);
        let is_refused = matches!(code, ErrorCode::INVALID_TXN_STATE | ErrorCode::TRANSACTION_ABORTABLE);
        let is_said = !is_passing(code) && (!is_refused || before == Some(code));
        if is_said || started.elapsed() > Duration::from_secs(20) {
            return answer;
        }
        before = Some(code);
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Producer {
    fn start(asker: &mut Asker, ids: &mut Stage, id: &str) -> Self {
        let mut producer = ids.producer(id);
        producer.init(asker, ids, "starts", &init_request(&ids.own(id)));
        producer
    }

    /// Takes over the identity in the answer.
    fn init(&mut self, asker: &mut Asker, ids: &mut Stage, what: &str, request: &InitProducerIdRequest) {
        let answer = patiently(|| asker.ask(what, request, 5).expect("answered"), |answer| answer.error_code);
        asker.say(
            &format!("{} {what}", self.label),
            (answer.error_code, ids.show(answer.producer_id), answer.producer_epoch),
        );
        if answer.error_code.is_none() {
            (self.producer_id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
    }

    fn add(&self, asker: &mut Asker, version: i16, partitions: &[(&str, i32)]) {
        let topic = |&(name, partition): &(&str, i32)| AddPartitionsToTxnTopic {
            name: name.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.as_str().into(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: partitions.iter().map(topic).collect(),
            ..Default::default()
        };
        let answer = asker.ask("add", &request, version).expect("answered");
        let mut codes: Vec<_> = answer
            .results_by_topic_v3_and_below
            .iter()
            .flat_map(|topic| {
                let name = topic.name.to_string();
                topic.results_by_partition.iter().map(move |partition| {
                    (name.clone(), partition.partition_index, partition.partition_error_code)
                })
            })
            .collect();
        codes.sort_by_key(|(name, index, _)| (name.clone(), *index));
        asker.say(&format!("{} adds v{version}", self.label), codes);
    }

    /// Asks as a broker does, to add or only to verify.
    fn add_as_broker(&self, asker: &mut Asker, verify_only: bool, partition: i32) {
        let topic = AddPartitionsToTxnTopic {
            name: self.topic.as_str().into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: self.id.as_str().into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            verify_only,
            topics: vec![topic],
            ..Default::default()
        };
        let request = AddPartitionsToTxnRequest { transactions: vec![transaction], ..Default::default() };
        let answer = asker.ask("add", &request, 5).expect("answered");
        let code =
            answer.results_by_transaction[0].topic_results[0].results_by_partition[0].partition_error_code;
        asker.say(&format!("{} as broker, verify only {verify_only}", self.label), (answer.error_code, code));
    }

    fn request(&self, partition: i32, count: usize, is_transactional: bool) -> ProduceRequest {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new(&Pool::default()).transactional(is_transactional);
        for number in 0..count {
            let value = format!("{} {sequence} {number}", self.label);
            builder.append(milena_interop::letter::TIME, None, Some(value.as_bytes()), &[]).expect("fits");
        }
        let mut sealed = builder.seal();
        sealed.stamp(self.producer_id, self.epoch, sequence);
        let data = PartitionProduceData {
            index: partition,
            records: Some(sealed.into_bytes()),
            ..Default::default()
        };
        let topic = TopicProduceData {
            name: self.topic.as_str().into(),
            partition_data: vec![data],
            ..Default::default()
        };
        ProduceRequest {
            transactional_id: Some(self.id.as_str().into()),
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![topic],
            ..Default::default()
        }
    }

    fn send(
        &mut self,
        asker: &mut Asker,
        version: i16,
        partition: i32,
        request: &ProduceRequest,
        count: i32,
    ) {
        let of = |answer: &milena_messages::produce::ProduceResponse| {
            answer.responses[0].partition_responses[0].error_code
        };
        let answer = patiently(|| asker.ask("produce", request, version).expect("answered"), of);
        let answer = &answer.responses[0].partition_responses[0];
        asker.say(
            &format!("{} produces v{version} to {partition}", self.label),
            (answer.error_code, answer.base_offset),
        );
        if answer.error_code.is_none() {
            *self.sequences.entry(partition).or_default() += count;
        }
    }

    fn produce(&mut self, asker: &mut Asker, version: i16, partition: i32) {
        let request = self.request(partition, 2, true);
        self.send(asker, version, partition, &request, 2);
    }

    /// Ends the transaction and takes over the next identity.
    fn end(&mut self, asker: &mut Asker, ids: &mut Stage, version: i16, committed: bool) {
        let request = EndTxnRequest {
            transactional_id: self.id.as_str().into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        };
        let answer =
            patiently(|| asker.ask("end", &request, version).expect("answered"), |answer| answer.error_code);
        asker.say(
            &format!("{} ends v{version} commit {committed}", self.label),
            (answer.error_code, ids.show(answer.producer_id), answer.producer_epoch),
        );
        if answer.error_code.is_none() && version >= 5 {
            (self.producer_id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        settle(asker, &self.id);
    }

    fn add_offsets(&self, asker: &mut Asker, version: i16, group: &str) {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id.as_str().into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            group_id: group.into(),
            ..Default::default()
        };
        let answer = patiently(
            || asker.ask("add offsets", &request, version).expect("answered"),
            |answer| answer.error_code,
        );
        asker.say(&format!("{} adds offsets v{version} of {group:?}", self.label), answer.error_code);
    }

    fn commit_request(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: Some("note".into()),
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        TxnOffsetCommitRequest {
            transactional_id: self.id.as_str().into(),
            group_id: group.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn commit_offset(&self, asker: &mut Asker, version: i16, request: &TxnOffsetCommitRequest) {
        let answer = patiently(
            || asker.ask("commit offset", request, version).expect("answered"),
            |answer| answer.topics[0].partitions[0].error_code,
        );
        asker.say(
            &format!("{} commits an offset v{version}", self.label),
            answer.topics[0].partitions[0].error_code,
        );
    }
}

/// Waits until all markers are written.
fn settle(asker: &mut Asker, id: &str) {
    let request = DescribeTransactionsRequest { transactional_ids: vec![id.into()], ..Default::default() };
    let started = Instant::now();
    loop {
        let answer = asker.ask("describe", &request, 0).expect("answered");
        if !answer.transaction_states[0].transaction_state.starts_with("Prepare") {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{id} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn describe(asker: &mut Asker, ids: &mut Stage, id: &str) {
    let own = ids.own(id).into();
    let request = DescribeTransactionsRequest { transactional_ids: vec![own], ..Default::default() };
    let answer = patiently(
        || asker.ask("describe", &request, 0).expect("answered"),
        |answer| answer.transaction_states[0].error_code,
    );
    let state = &answer.transaction_states[0];
    let mut topics: Vec<_> = state
        .topics
        .iter()
        .map(|topic| {
            let mut partitions = topic.partitions.clone();
            partitions.sort_unstable();
            (
                topic.topic.starts_with("__"),
                if topic.topic.starts_with("__") { Vec::new() } else { partitions },
            )
        })
        .collect();
    topics.sort();
    asker.say(
        &format!("describe {id:?}"),
        (
            state.error_code,
            state.transaction_state.to_string(),
            // Without an id there is none to show.
            if state.error_code.is_none() { ids.show(state.producer_id) } else { -1 },
            state.producer_epoch,
            state.transaction_timeout_ms,
            // Kafka 3.9 keeps that of the transaction before.
            state.transaction_state == "Empty" || state.transaction_start_time_ms > 0,
            topics,
        ),
    );
}

fn producers(asker: &mut Asker, ids: &mut Stage, partition: i32) {
    let topic =
        TopicRequest { name: ids.name.into(), partition_indexes: vec![partition], ..Default::default() };
    let request = DescribeProducersRequest { topics: vec![topic], ..Default::default() };
    let answer = asker.ask("producers", &request, 0).expect("answered");
    let partition = &answer.topics[0].partitions[0];
    let mut rows: Vec<_> = partition
        .active_producers
        .iter()
        .map(|producer| {
            (
                ids.show(producer.producer_id),
                producer.producer_epoch,
                producer.last_sequence,
                producer.coordinator_epoch,
                producer.current_txn_start_offset,
            )
        })
        .collect();
    rows.sort_unstable();
    asker.say("producers", (partition.error_code, rows));
}

/// What readers of either isolation see of a partition: offsets, the aborted transactions, and the batches.
fn look(asker: &mut Asker, ids: &mut Stage, partition: i32, from: i64) {
    for isolation_level in [0, 1] {
        let wanted = FetchPartition {
            partition,
            fetch_offset: from,
            partition_max_bytes: 1 << 20,
            current_leader_epoch: -1,
            ..Default::default()
        };
        let topics =
            vec![FetchTopic { topic: ids.name.into(), partitions: vec![wanted], ..Default::default() }];
        let request = FetchRequest {
            max_bytes: 1 << 20,
            session_epoch: -1,
            isolation_level,
            topics,
            ..Default::default()
        };
        let answer = asker.ask("fetch", &request, 12).expect("answered");
        let data = &answer.responses[0].partitions[0];
        let aborted = data.aborted_transactions.as_ref().map(|list| {
            let mut list: Vec<_> =
                list.iter().map(|aborted| (ids.show(aborted.producer_id), aborted.first_offset)).collect();
            list.sort_unstable();
            list
        });
        let batches: Vec<_> = Batches::new(data.records.clone().unwrap_or_default())
            .map(|raw| {
                let header = raw.expect("sound").header;
                let producer = header.producer.map(|producer| {
                    (ids.show(producer.producer_id), producer.producer_epoch, producer.base_sequence)
                });
                let flags = (header.is_control(), header.is_transactional());
                (header.base_offset, header.record_count, flags, producer)
            })
            .collect();
        asker.say(
            &format!("fetch {partition} from {from} isolation {isolation_level}"),
            (data.error_code, data.high_watermark, data.last_stable_offset, aborted, batches),
        );
        let latest = ListOffsetsPartition {
            partition_index: partition,
            timestamp: -1,
            current_leader_epoch: -1,
            ..Default::default()
        };
        let topic =
            ListOffsetsTopic { name: ids.name.into(), partitions: vec![latest], ..Default::default() };
        let request =
            ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
        let answer = asker.ask("latest", &request, 7).expect("answered");
        asker.say("latest", answer.topics[0].partitions[0].offset);
    }
}

fn offset(asker: &mut Asker, ids: &Stage, version: i16, require_stable: bool) {
    let (group, topic) = (ids.own("g"), ids.name);
    let topic =
        OffsetFetchRequestTopic { name: topic.into(), partition_indexes: vec![0, 1], ..Default::default() };
    let request = OffsetFetchRequest {
        group_id: group.as_str().into(),
        topics: Some(vec![topic]),
        require_stable,
        ..Default::default()
    };
    let answer =
        patiently(|| asker.ask("offset", &request, version).expect("answered"), |answer| answer.error_code);
    let partitions: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| {
            let metadata = partition.metadata.as_ref().map(ToString::to_string);
            (partition.partition_index, partition.error_code, partition.committed_offset, metadata)
        })
        .collect();
    asker.say(&format!("offsets stable {require_stable}"), (answer.error_code, partitions));
    let all = OffsetFetchRequest { topics: None, ..request };
    let answer = asker.ask("offset", &all, version).expect("answered");
    let partitions: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| (partition.partition_index, partition.error_code, partition.committed_offset))
        .collect();
    asker.say("all offsets", partitions);
}

/// Everything that both versions have in common, by the versions of the requests.
fn script(asker: &mut Asker, name: &'static str, produce: i16, end: i16) {
    let (ids, adds) = (&mut Stage::new(asker, name, 4), produce < 12);
    coordinators(asker);
    for (what, request) in [
        ("no id", InitProducerIdRequest { transactional_id: Some("".into()), ..init_request("") }),
        ("no timeout", InitProducerIdRequest { transaction_timeout_ms: 0, ..init_request(&ids.own("bad")) }),
        (
            "too long a timeout",
            InitProducerIdRequest { transaction_timeout_ms: 900_001, ..init_request(&ids.own("bad")) },
        ),
        ("half an identity", InitProducerIdRequest { producer_epoch: 3, ..init_request(&ids.own("bad")) }),
        ("another half", InitProducerIdRequest { producer_id: 3, ..init_request(&ids.own("bad")) }),
    ] {
        let answer =
            patiently(|| asker.ask(what, &request, 5).expect("answered"), |answer| answer.error_code);
        asker.say(what, (answer.error_code, answer.producer_id, answer.producer_epoch));
    }
    describe(asker, ids, "bad");
    let mut one = Producer::start(asker, ids, "one");
    describe(asker, ids, "one");
    // Before anything is in the transaction.
    for version in [10, 11] {
        one.produce(asker, version, 0);
    }
    one.clone().end(asker, ids, 4, true);
    one.add(asker, 3, &[(name, 0), ("nowhere", 0)]);
    one.add(asker, 3, &[(name, 9), (name, 1)]);
    one.add_as_broker(asker, true, 0);
    describe(asker, ids, "one");
    let add = |asker: &mut Asker, producer: &Producer, partition: i32| {
        if adds {
            producer.add(asker, 3, &[(name, partition)]);
        }
    };
    add(asker, &one, 0);
    one.produce(asker, produce, 0);
    one.produce(asker, produce, 0);
    add(asker, &one, 1);
    one.produce(asker, produce, 1);
    one.add_as_broker(asker, true, 0);
    one.add_as_broker(asker, true, 3);
    describe(asker, ids, "one");
    look(asker, ids, 0, 0);
    producers(asker, ids, 0);
    let copy = one.clone();
    one.end(asker, ids, end, true);
    describe(asker, ids, "one");
    look(asker, ids, 0, 0);
    producers(asker, ids, 0);
    copy.clone().end(asker, ids, end, true);
    copy.clone().end(asker, ids, end, false);
    // Late batches of the transaction that has ended.
    let (mut late, retry) = (copy.clone(), copy.request(0, 2, true));
    late.send(asker, produce, 0, &retry, 2);
    let first = Producer { sequences: BTreeMap::new(), ..copy }.request(1, 2, true);
    late.send(asker, produce, 1, &first, 2);
    // An aborted one, with a plain batch within.
    add(asker, &one, 0);
    one.produce(asker, produce, 0);
    let plain = one.request(0, 2, false);
    one.send(asker, produce, 0, &plain, 2);
    look(asker, ids, 0, 4);
    let mut copy = one.clone();
    one.end(asker, ids, end, false);
    look(asker, ids, 0, 4);
    look(asker, ids, 0, 0);
    look(asker, ids, 0, 6);
    look(asker, ids, 0, 8);
    producers(asker, ids, 0);
    copy.clone().end(asker, ids, end, false);
    copy.end(asker, ids, end, true);
    // An end without anything in the transaction.
    one.clone().end(asker, ids, end, true);
    one.end(asker, ids, end, false);
    describe(asker, ids, "one");
    // A wrong epoch, id and name.
    add(asker, &one, 2);
    let future = Producer { epoch: one.epoch + 3, ..one.clone() };
    future.clone().produce(asker, produce, 2);
    future.add(asker, 3, &[(name, 2)]);
    future.clone().end(asker, ids, end, true);
    let past = Producer { epoch: one.epoch - 1, ..one.clone() };
    for version in [0, 1, 2, 3] {
        past.add(asker, version, &[(name, 2)]);
    }
    past.clone().produce(asker, produce, 2);
    for version in [0, 1, 2, end] {
        past.clone().end(asker, ids, version, true);
    }
    let other = Producer { producer_id: one.producer_id + 7777, ..one.clone() };
    other.add(asker, 3, &[(name, 2)]);
    other.clone().produce(asker, produce, 2);
    other.clone().end(asker, ids, end, true);
    let unknown = Producer { label: "unknown".into(), id: "unknown".into(), ..one.clone() };
    unknown.add(asker, 3, &[(name, 2)]);
    unknown.clone().produce(asker, produce, 2);
    unknown.clone().end(asker, ids, end, true);
    let nameless = Producer { id: String::new(), ..one.clone() };
    nameless.add(asker, 3, &[(name, 2)]);
    nameless.clone().end(asker, ids, end, true);
    nameless.clone().produce(asker, produce, 2);
    // Sequences of a new transaction.
    let gap = Producer { sequences: [(2, 5)].into(), ..one.clone() }.request(2, 2, true);
    one.clone().send(asker, produce, 2, &gap, 2);
    one.produce(asker, produce, 2);
    let gap = Producer { sequences: [(2, 5)].into(), ..one.clone() }.request(2, 2, true);
    one.clone().send(asker, produce, 2, &gap, 2);
    one.end(asker, ids, end, true);
    look(asker, ids, 2, 0);
    // A second producer of the id, while a transaction is open.
    add(asker, &one, 3);
    one.produce(asker, produce, 3);
    let answer = asker.ask("second", &init_request(&ids.own("one")), 5).expect("answered");
    asker.say("second", (answer.error_code, answer.producer_id, answer.producer_epoch));
    settle(asker, &ids.own("one"));
    describe(asker, ids, "one");
    look(asker, ids, 3, 0);
    producers(asker, ids, 3);
    one.clone().end(asker, ids, end, false);
    one.clone().end(asker, ids, end, true);
    one.clone().produce(asker, produce, 3);
    let mut two = Producer::start(asker, ids, "one");
    one.clone().produce(asker, produce, 3);
    one.clone().end(asker, ids, end, true);
    let own = |producer: &Producer| InitProducerIdRequest {
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch,
        ..init_request(&producer.id)
    };
    for version in [3, 4, 5] {
        let answer = asker.ask("fenced", &own(&one), version).expect("answered");
        asker.say("fenced", (answer.error_code, answer.producer_id, answer.producer_epoch));
    }
    // The producer raises its own epoch, and repeats it.
    let before = two.clone();
    two.init(asker, ids, "raises", &own(&before));
    two.init(asker, ids, "raises again", &own(&before));
    let now = two.clone();
    two.init(asker, ids, "raises once more", &own(&now));
    two.clone().init(asker, ids, "raises too late", &own(&before));
    describe(asker, ids, "one");
    // It raises its epoch while its transaction is open.
    add(asker, &two, 3);
    two.produce(asker, produce, 3);
    let now = two.clone();
    two.init(asker, ids, "raises in a transaction", &own(&now));
    describe(asker, ids, "one");
    look(asker, ids, 3, 0);
    offsets(asker, ids, produce, end);
    lists(asker, ids);
}

fn coordinators(asker: &mut Asker) {
    // Kafka makes the topic of each type of coordinator when it is looked for first.
    for (key_type, version, key) in [(1, 2, "x"), (1, 3, "x"), (1, 4, "x"), (1, 4, ""), (0, 4, "x")] {
        let request = FindCoordinatorRequest {
            key_type,
            key: if version < 4 { key.into() } else { "".into() },
            coordinator_keys: if version < 4 { Vec::new() } else { vec![key.into()] },
            ..Default::default()
        };
        let code = |answer: &milena_messages::find_coordinator::FindCoordinatorResponse| {
            answer.coordinators.first().map_or(answer.error_code, |found| found.error_code)
        };
        let answer = patiently(|| asker.ask("find", &request, version).expect("answered"), code);
        asker.say(&format!("find {key_type} {key:?} v{version}"), code(&answer));
    }
}

fn offsets(asker: &mut Asker, ids: &mut Stage, produce: i16, end: i16) {
    let adds = produce < 12;
    let version = if adds { 4 } else { 5 };
    let (g, none, name) = (&ids.own("g"), &ids.own("none"), ids.name);
    let mut producer = Producer::start(asker, ids, "offsets");
    let request = producer.commit_request(g, name, 0, 7);
    for version in [2, 3, 4] {
        producer.commit_offset(asker, version, &request);
    }
    offset(asker, ids, 7, true);
    if adds {
        producer.add_offsets(asker, 3, g);
    }
    producer.commit_offset(asker, version, &request);
    producer.commit_offset(asker, version, &producer.commit_request(g, "nowhere", 0, 7));
    producer.commit_offset(asker, version, &producer.commit_request("", name, 0, 7));
    describe(asker, ids, "offsets");
    for stable in [true, false] {
        offset(asker, ids, 7, stable);
    }
    producer.end(asker, ids, end, true);
    offset(asker, ids, 7, true);
    // Late, or under another name.
    producer.commit_offset(
        asker,
        version,
        &TxnOffsetCommitRequest {
            producer_epoch: producer.epoch - 1,
            ..producer.commit_request(g, name, 0, 8)
        },
    );
    producer.commit_offset(
        asker,
        version,
        &TxnOffsetCommitRequest {
            producer_epoch: producer.epoch + 1,
            ..producer.commit_request(g, name, 0, 8)
        },
    );
    producer.commit_offset(
        asker,
        version,
        &TxnOffsetCommitRequest { producer_id: 9_999, ..producer.commit_request(g, name, 0, 8) },
    );
    producer.commit_offset(
        asker,
        version,
        &TxnOffsetCommitRequest {
            transactional_id: "unknown".into(),
            ..producer.commit_request(g, name, 0, 8)
        },
    );
    // Members that are none.
    if adds {
        producer.add_offsets(asker, 3, g);
        producer.add_offsets(asker, 0, none);
    }
    let member = |member: &str, generation: i32, group: &str| TxnOffsetCommitRequest {
        member_id: member.into(),
        generation_id_or_member_epoch: generation,
        ..producer.commit_request(group, name, 1, 3)
    };
    // Kafka 3.9 answered some of them otherwise.
    if name != OLD {
        for (member_id, generation, group) in
            [("m", 1, g), ("", 1, g), ("m", -1, g), ("m", 3, none), ("", -1, none)]
        {
            producer.commit_offset(asker, version, &member(member_id, generation, group));
        }
    }
    producer.commit_offset(asker, version, &producer.commit_request(g, name, 0, 9));
    offset(asker, ids, 7, true);
    // A plain commit comes after it, and stays.
    let partition = OffsetCommitRequestPartition { committed_offset: 20, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: name.into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: g.as_str().into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = asker.ask("plain", &request, 7).expect("answered");
    asker.say("plain", answer.topics[0].partitions[0].error_code);
    offset(asker, ids, 7, true);
    offset(asker, ids, 7, false);
    producer.end(asker, ids, end, true);
    offset(asker, ids, 7, true);
    // An aborted one, and one whose offset is deleted meanwhile.
    for committed in [false, true] {
        if adds {
            producer.add_offsets(asker, 3, g);
        }
        producer.commit_offset(asker, version, &producer.commit_request(g, name, 1, 50));
        if committed {
            let partitions = vec![OffsetDeleteRequestPartition { partition_index: 1 }];
            let topic = OffsetDeleteRequestTopic { name: name.into(), partitions };
            let request = OffsetDeleteRequest { group_id: g.as_str().into(), topics: vec![topic] };
            let answer = asker.ask("delete", &request, 0).expect("answered");
            asker.say("delete", answer.topics[0].partitions[0].error_code);
            offset(asker, ids, 7, true);
        }
        producer.end(asker, ids, end, committed);
        offset(asker, ids, 7, true);
    }
}

fn lists(asker: &mut Asker, ids: &Stage) {
    // a filter of 0 ms lists what began over 0 ms ago: a fast broker has ended the last transaction in less
    std::thread::sleep(Duration::from_millis(5));
    let all = ListTransactionsRequest { duration_filter: -1, ..Default::default() };
    let states = |states: &[&str]| ListTransactionsRequest {
        state_filters: states.iter().map(|&state| state.into()).collect(),
        ..all.clone()
    };
    for (what, request, version) in [
        ("all", all.clone(), 0),
        ("states", states(&["Empty", "CompleteCommit"]), 0),
        ("an unknown state", states(&["empty", "Dead", "PrepareEpochFence"]), 0),
        ("by time", ListTransactionsRequest { duration_filter: 0, ..all.clone() }, 1),
        ("by a long time", ListTransactionsRequest { duration_filter: 1_000_000_000, ..all.clone() }, 1),
        ("by another id", ListTransactionsRequest { producer_id_filters: vec![123_456], ..all.clone() }, 0),
    ] {
        let answer = asker.ask(what, &request, version).expect("answered");
        let mut listed: Vec<_> = answer
            .transaction_states
            .iter()
            .map(|state| (state.transactional_id.to_string(), state.transaction_state.to_string()))
            .filter(|(id, _)| id.starts_with(ids.name))
            .collect();
        listed.sort();
        asker.say(what, (answer.error_code, answer.unknown_state_filters.len(), listed));
    }
}

#[test]
fn transactions_without_raised_epochs_are_as_in_kafka_4() {
    compare(|asker| script(asker, "txn-tv1", 11, 4));
}

#[test]
fn transactions_with_raised_epochs_are_as_in_kafka_4() {
    compare(|asker| script(asker, "txn-tv2", 12, 5));
}

#[test]
fn transactions_are_as_in_kafka_3_9() {
    compare_old(|asker| script(asker, OLD, 11, 4));
}

#[test]
fn patterns_of_listed_transactions_are_as_in_kafka() {
    compare(|asker| {
        let ids = &mut Stage::new(asker, "txn-listed", 1);
        coordinators(asker);
        for id in ["p.1", "p.2", "q"] {
            Producer::start(asker, ids, id);
        }
        for pattern in ["txn-listed-p.*", "txn-listed-p", "(", "txn-listed-(q|p\\.1)", "^txn-listed-q$"] {
            let request = ListTransactionsRequest {
                duration_filter: -1,
                transactional_id_pattern: Some(pattern.into()),
                ..Default::default()
            };
            let answer = asker.ask(pattern, &request, 2).expect("answered");
            let mut listed: Vec<_> =
                answer.transaction_states.iter().map(|state| state.transactional_id.to_string()).collect();
            listed.sort();
            asker.say(pattern, (answer.error_code, listed));
        }
    });
}

#[test]
fn a_transaction_that_times_out_ends_as_in_kafka_under_tv1() {
    compare_old(|asker| timed_out(asker, "txn-slow-tv1", 11, 4));
}

#[test]
fn a_transaction_that_times_out_ends_as_in_kafka_under_tv2() {
    compare(|asker| timed_out(asker, "txn-slow-tv2", 12, 5));
}

/// Kafka looks for such transactions every ten seconds.
fn timed_out(asker: &mut Asker, name: &'static str, produce: i16, end: i16) {
    let ids = &mut Stage::new(asker, name, 1);
    coordinators(asker);
    let mut producer = ids.producer("slow");
    let request = InitProducerIdRequest { transaction_timeout_ms: 500, ..init_request(&producer.id) };
    producer.init(asker, ids, "starts", &request);
    if produce < 12 {
        producer.add(asker, 3, &[(name, 0)]);
    }
    producer.produce(asker, produce, 0);
    let own = producer.id.as_str().into();
    let request = DescribeTransactionsRequest { transactional_ids: vec![own], ..Default::default() };
    let started = Instant::now();
    while asker.ask("describe", &request, 0).expect("answered").transaction_states[0].transaction_state
        != "CompleteAbort"
    {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not time out");
        std::thread::sleep(Duration::from_millis(50));
    }
    describe(asker, ids, "slow");
    look(asker, ids, 0, 0);
    producers(asker, ids, 0);
    producer.clone().produce(asker, produce, 0);
    producer.clone().end(asker, ids, end, true);
    producer.clone().end(asker, ids, end, false);
    let own = InitProducerIdRequest {
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch,
        ..init_request(&producer.id)
    };
    producer.clone().init(asker, ids, "raises its epoch", &own);
    let request = init_request(&producer.id);
    producer.init(asker, ids, "starts again", &request);
}

#[test]
fn markers_are_taken_as_in_kafka() {
    compare(|asker| {
        let ids = &mut Stage::new(asker, "txn-marked", 1);
        coordinators(asker);
        let mut producer = Producer::start(asker, ids, "marked");
        let mark = |asker: &mut Asker,
                    producer: &Producer,
                    epoch: i16,
                    coordinator: i32,
                    version: i8,
                    commit| {
            let name = producer.topic.as_str();
            let topics = [(name, 0), (name, 5), ("nowhere", 0)].map(|(name, index)| WritableTxnMarkerTopic {
                name: name.into(),
                partition_indexes: vec![index],
                ..Default::default()
            });
            let marker = WritableTxnMarker {
                producer_id: producer.producer_id,
                producer_epoch: epoch,
                transaction_result: commit,
                topics: topics.into(),
                coordinator_epoch: coordinator,
                transaction_version: version,
                ..Default::default()
            };
            let request = WriteTxnMarkersRequest { markers: vec![marker], ..Default::default() };
            let answer = asker.ask("mark", &request, 2).expect("answered");
            let mut codes: Vec<_> = answer.markers[0]
                .topics
                .iter()
                .flat_map(|topic| {
                    let name = topic.name.to_string();
                    topic.partitions.iter().map(move |of| (name.clone(), of.partition_index, of.error_code))
                })
                .collect();
            codes.sort_by_key(|(name, index, _)| (name.clone(), *index));
            asker.say(&format!("mark epoch {epoch} of {coordinator} version {version}"), codes);
        };
        // No producer is known there yet.
        mark(asker, &producer, 0, 0, 1, false);
        producers(asker, ids, 0);
        producer.produce(asker, 12, 0);
        producers(asker, ids, 0);
        mark(asker, &producer, -1, 0, 1, false);
        mark(asker, &producer, 0, 0, 2, false);
        look(asker, ids, 0, 0);
        mark(asker, &producer, 0, 3, 1, false);
        look(asker, ids, 0, 0);
        producers(asker, ids, 0);
        mark(asker, &producer, 0, 2, 1, false);
        mark(asker, &producer, 0, 3, 1, false);
        mark(asker, &producer, 0, 3, 2, true);
        mark(asker, &producer, 5, 3, 2, true);
        mark(asker, &producer, 5, 3, 2, true);
        mark(asker, &producer, 4, 3, 2, true);
        mark(asker, &producer, 4, 3, 1, true);
        look(asker, ids, 0, 0);
        producers(asker, ids, 0);
    });
}

#[test]
fn the_finalized_features_are_those_of_kafka() {
    compare(|asker| {
        let request = ApiVersionsRequest {
            client_software_name: "x".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = asker.ask("versions", &request, 4).expect("answered");
        for name in ["group.version", "transaction.version"] {
            let finalized = answer.finalized_features.iter().find(|feature| feature.name == name);
            let supported = answer.supported_features.iter().find(|feature| feature.name == name);
            asker.say(
                name,
                (
                    finalized.map(|feature| (feature.min_version_level, feature.max_version_level)),
                    supported.map(|feature| (feature.min_version, feature.max_version)),
                ),
            );
        }
        for api_key in [22, 24, 25, 26, 27, 28, 61, 65, 66] {
            let found = answer.api_keys.iter().find(|api| api.api_key == api_key);
            asker.say("versions", found.map(|api| (api_key, api.min_version, api.max_version)));
        }
    });
}
