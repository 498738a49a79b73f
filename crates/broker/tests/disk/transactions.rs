//! Transactions after a crash and a `kill -9`: open ones go on, those that were ending end, and what was aborted stays so.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::describe_transactions::DescribeTransactionsRequest;
use milena_messages::end_txn::EndTxnRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_messages::{ErrorCode, Request};
use milena_wire::batch::{BatchBuilder, Batches, NO_TIMESTAMP, RawBatch};
use milena_wire::pool::Pool;

use crate::crash::Victim;
use crate::groups::all;
use crate::restart::Run;

/// A producer id, its epoch and the next sequence of both partitions.
type Producer = (i64, i16, i32);

fn init() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some("a".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

/// One record to each of the two partitions of `t`.
fn produce(producer: Producer, value: &[u8]) -> ProduceRequest {
    let data = |index| {
        let mut builder = BatchBuilder::new(&Pool::default()).transactional(true);
        // It has no timestamp, so that it is never too old to be kept.
        builder.append(NO_TIMESTAMP, None, Some(value), &[]).expect("fits");
        let mut sealed = builder.seal();
        sealed.stamp(producer.0, producer.1, producer.2);
        PartitionProduceData { index, records: Some(sealed.into_bytes()), ..Default::default() }
    };
    let partition_data = vec![data(0), data(1)];
    let topic = TopicProduceData { name: "t".into(), partition_data, ..Default::default() };
    let transactional_id = Some("a".into());
    ProduceRequest { transactional_id, acks: -1, topic_data: vec![topic], ..Default::default() }
}

fn end(producer: Producer, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: "a".into(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        committed,
        ..Default::default()
    }
}

fn commit_offset(producer: Producer, offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic =
        TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    TxnOffsetCommitRequest {
        transactional_id: "a".into(),
        group_id: "g".into(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn fetch(index: i32, fetch_offset: i64) -> FetchRequest {
    let wanted =
        FetchPartition { partition: index, fetch_offset, partition_max_bytes: 1 << 24, ..Default::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
    let topics = vec![topic];
    FetchRequest { max_bytes: 1 << 24, session_epoch: -1, isolation_level: 1, topics, ..Default::default() }
}

fn state(run: &Run) -> String {
    let request = DescribeTransactionsRequest { transactional_ids: vec!["a".into()], ..Default::default() };
    run.ask(0, &request).transaction_states[0].transaction_state.to_string()
}

fn start(run: &Run) -> Producer {
    let answer = run.ask(5, &init());
    assert_eq!(answer.error_code, ErrorCode::NONE);
    (answer.producer_id, answer.producer_epoch, 0)
}

fn code(run: &Run, request: &ProduceRequest) -> ErrorCode {
    run.ask(12, request).responses[0].partition_responses[1].error_code
}

fn read(run: &Run) -> PartitionData {
    run.ask(12, &fetch(0, 0)).responses[0].partitions[0].clone()
}

/// The group's offset, if it has one, and whether a transaction is about to replace it.
fn offset(run: &Run) -> (Option<i64>, bool) {
    let request = OffsetFetchRequest { require_stable: true, ..all() };
    let topics = run.ask(9, &request).groups[0].topics.clone();
    let found = topics.first().map(|topic| topic.partitions[0].clone());
    let is_unstable = found.as_ref().is_some_and(|found| !found.error_code.is_none());
    (found.map(|found| found.committed_offset), is_unstable)
}

#[test]
fn an_open_transaction_goes_on_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let producer = start(&run);
    assert_eq!(code(&run, &produce(producer, b"1")), ErrorCode::NONE);
    let answer = run.ask(5, &commit_offset(producer, 42));
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    drop(run);
    let run = Run::start(dir.path());
    assert_eq!((state(&run).as_str(), read(&run).last_stable_offset), ("Ongoing", 0));
    assert_eq!(offset(&run).0, None, "it is still to be committed");
    assert_eq!(code(&run, &produce((producer.0, producer.1, 1), b"2")), ErrorCode::NONE);
    let answer = run.ask(5, &end(producer, true));
    assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, producer.1 + 1));
    drop(run);
    let run = Run::start(dir.path());
    let data = read(&run);
    assert_eq!((data.last_stable_offset, data.high_watermark), (3, 3));
    assert_eq!((state(&run).as_str(), offset(&run)), ("CompleteCommit", (Some(42), false)));
    // The last transaction's producer has ended.
    assert_eq!(code(&run, &produce((producer.0, producer.1, 2), b"3")), ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn a_transaction_that_was_ending_ends_after_a_crash() {
    for committed in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let builder = Broker::builder().transaction_marker_delay(Duration::from_secs(3600));
        let run = Run::with(builder, dir.path()).expect("starts");
        run.metadata("t");
        let producer = start(&run);
        assert_eq!(code(&run, &produce(producer, b"1")), ErrorCode::NONE);
        run.ask(5, &commit_offset(producer, 42));
        assert_eq!(run.ask(5, &end(producer, committed)).error_code, ErrorCode::NONE);
        assert!(state(&run).starts_with("Prepare"));
        drop(run);
        let run = Run::start(dir.path());
        run.metadata("t");
        run.handle_timeout();
        let data = read(&run);
        assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
        assert_eq!(data.aborted_transactions.map(|list| list.len()), Some(usize::from(!committed)));
        assert_eq!(state(&run), if committed { "CompleteCommit" } else { "CompleteAbort" });
        assert_eq!(offset(&run), (committed.then_some(42), false));
    }
}

#[test]
fn what_was_aborted_is_known_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let mut producer = start(&run);
    // Segments are short, so that there are several.
    for number in 0..20 {
        assert_eq!(code(&run, &produce(producer, &[7; 300])), ErrorCode::NONE);
        let answer = run.ask(5, &end(producer, number % 2 == 0));
        producer = (answer.producer_id, answer.producer_epoch, 0);
    }
    let before = read(&run);
    drop(run);
    let run = Run::start(dir.path());
    let after = read(&run);
    assert_eq!(
        before.aborted_transactions.as_ref().map(Vec::len),
        after.aborted_transactions.as_ref().map(Vec::len)
    );
    assert_eq!(before, after);
}

impl Victim {
    /// Asks, and gives up when the process is gone.
    fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.send(version, request).ok()?;
        self.receive::<R>(version).ok()
    }
}

/// A producer commits and aborts, and the broker is killed between any two requests. A transaction is in both partitions and in
/// the group's offset, or in none of them.
#[test]
fn transactions_are_whole_after_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut last_acknowledged = 0_u32;
    let mut number = 0_u32;
    Run::start(dir.path()).metadata("t");
    for round in 0..8_u32 {
        let mut victim = Victim::start(dir.path());
        let started = loop {
            let answer: InitProducerIdResponse = victim.ask(5, &init());
            if answer.error_code != ErrorCode::CONCURRENT_TRANSACTIONS {
                break answer;
            }
        };
        assert_eq!(started.error_code, ErrorCode::NONE);
        let mut producer = (started.producer_id, started.producer_epoch, 0);
        // The process is killed after this many requests.
        let mut left = 40 + round * 7;
        loop {
            number += 1;
            let is_committed = !number.is_multiple_of(3);
            let value = number.to_be_bytes();
            let produced = victim.try_ask(12, &produce(producer, &value));
            if !spend(&mut left, &mut victim) || produced.is_none() {
                break;
            }
            victim.try_ask(5, &commit_offset(producer, number.into()));
            if !spend(&mut left, &mut victim) {
                break;
            }
            if left == 1 {
                // It is killed while it ends the transaction, or just after it.
                victim.send(5, &end(producer, is_committed)).expect("sent");
                victim.process.kill().expect("killed");
                break;
            }
            let Some(ended) = victim.try_ask(5, &end(producer, is_committed)) else { break };
            assert_eq!(ended.error_code, ErrorCode::NONE);
            if is_committed {
                last_acknowledged = number;
            }
            producer = (ended.producer_id, ended.producer_epoch, 0);
            if !spend(&mut left, &mut victim) {
                break;
            }
        }
        drop(victim);
        check(dir.path(), last_acknowledged);
    }
    assert!(last_acknowledged > 50, "{last_acknowledged}");
}

/// Counts a request. False when it was the last one, after which the process is killed.
fn spend(left: &mut u32, victim: &mut Victim) -> bool {
    *left -= 1;
    if *left == 0 {
        victim.process.kill().expect("killed");
    }
    *left > 0
}

/// Both partitions have the same committed records, the group's offset is the last of them, and none that was acknowledged is
/// missing.
fn check(dir: &std::path::Path, last_acknowledged: u32) {
    let run = Run::start(dir);
    run.metadata("t");
    run.handle_timeout();
    // A producer that comes next aborts what is open.
    while run.ask(5, &init()).error_code == ErrorCode::CONCURRENT_TRANSACTIONS {}
    let (one, other) = (committed(&run, 0), committed(&run, 1));
    assert_eq!(one, other);
    let last = one.last().copied().unwrap_or(0);
    assert!(last >= last_acknowledged, "{last} of {last_acknowledged}");
    let expected: Vec<u32> = (1..=last).filter(|number| !number.is_multiple_of(3)).collect();
    let is_hole = |number: &&u32| !one.contains(number);
    // Those in flight at a crash may be missing, one for each round.
    assert!(expected.iter().filter(is_hole).count() <= 8, "{one:?}");
    assert!(
        one.is_sorted_by(|one, next| one < next) && one.iter().all(|number| !number.is_multiple_of(3)),
        "{one:?}"
    );
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let offset = run.ask(9, &request).groups[0].topics[0].partitions[0].committed_offset;
    assert_eq!(offset, i64::from(last));
}

/// The numbers that a reader of committed records sees.
fn committed(run: &Run, index: i32) -> Vec<u32> {
    let (mut raws, mut aborted, mut offset) = (Vec::new(), Vec::new(), 0);
    loop {
        let data = run.ask(12, &fetch(index, offset)).responses[0].partitions[0].clone();
        raws.extend(Batches::new(data.records.expect("not null")).map(|raw| raw.expect("whole")));
        aborted.extend(data.aborted_transactions.into_iter().flatten());
        let end = raws.last().map_or(0, |raw: &RawBatch| raw.header.next_offset());
        if end == offset {
            break;
        }
        offset = end;
    }
    let mut numbers = Vec::new();
    for raw in raws.iter().filter(|raw| !raw.header.is_control()) {
        let producer = raw.header.producer.expect("all have one").producer_id;
        // Each transaction has one record in a partition.
        let is_aborted =
            aborted.iter().any(|of| of.producer_id == producer && of.first_offset == raw.header.base_offset);
        if !is_aborted {
            let bytes = raw.bytes();
            let value = bytes[bytes.len() - 5..bytes.len() - 1].try_into().expect("four bytes");
            numbers.push(u32::from_be_bytes(value));
        }
    }
    numbers
}
