//! The producer machine on virtual time: what a caller notices of each answer. `crates/sim/tests/core` plays it against
//! the broker's machine, by seed.

mod times;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::init_producer_id::InitProducerIdResponse;
use milena_messages::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use milena_wire::Uuid;

use super::{Acks, Order, Outcome, Producer, RequestId, SealedBatch, Settings, Slot, Times, Transmit};
use crate::metadata::tests::{set_topic_id, snapshot};
use crate::{Backoff, BrokerId, Failure, Instant, ProducerIdentity, Rng};

/// A batch that is its number, its size and how it was stamped.
#[derive(Debug, Clone)]
struct Fake {
    number: u32,
    records: i32,
    bytes: usize,
}

impl SealedBatch for Fake {
    fn record_count(&self) -> i32 {
        self.records
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn max_timestamp_ms(&self) -> i64 {
        1000 + i64::from(self.number)
    }

    fn stamped(&mut self, identity: Option<(ProducerIdentity, i32)>) -> Bytes {
        let (id, epoch, sequence) =
            identity.map_or((-1, -1, -1), |(identity, sequence)| (identity.id.0, identity.epoch, sequence));
        let stamp = Stamp { number: self.number, records: self.records, id, epoch, sequence };
        stamp.to_bytes()
    }
}

impl Fake {
    /// In two, the second numbered by where it begins in the first.
    fn halves(self) -> [Self; 2] {
        let Self { number, records, bytes } = self;
        let first = records / 2;
        let second = Self { number: number + first as u32, records: records - first, bytes };
        [Self { number, records: first, bytes }, second]
    }
}

/// What a fake batch says on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    number: u32,
    records: i32,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Stamp {
    fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.records.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.into()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let part = |range: std::ops::Range<usize>| &bytes[range];
        Self {
            number: u32::from_be_bytes(part(0..4).try_into().expect("4")),
            records: i32::from_be_bytes(part(4..8).try_into().expect("4")),
            id: i64::from_be_bytes(part(8..16).try_into().expect("8")),
            epoch: i16::from_be_bytes(part(16..18).try_into().expect("2")),
            sequence: i32::from_be_bytes(part(18..22).try_into().expect("4")),
        }
    }
}

fn settings() -> Settings {
    Settings {
        acks: Acks::All,
        idempotent: true,
        transactional_id: None,
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(3),
        request_bytes_max: 1 << 20,
        in_flight_max: 5,
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
    }
}

/// The machine with two partitions led by broker 1, and what came out of it.
struct Lab {
    machine: Producer<Fake>,
    now: Instant,
    /// Open batches by slot, as the accumulator would hold them.
    open: Vec<Vec<Fake>>,
    sent: Vec<Transmit>,
    settled: Vec<(u32, Outcome)>,
    times: Vec<Option<Times>>,
    next: u32,
    /// Whether requests that were sent are on a connection, and cannot be recalled.
    is_connected: bool,
    /// Whether a batch of several records can be split.
    is_splittable: bool,
}

impl Lab {
    fn new(settings: Settings) -> Self {
        Self::of(2, settings)
    }

    fn of(partitions: i32, settings: Settings) -> Self {
        let mut machine = Producer::new(settings, Rng::seeded(1));
        for index in 0..partitions {
            machine.register(Arc::from("t"), index);
        }
        let mut lab = Self {
            machine,
            now: Instant::ORIGIN,
            open: vec![vec![]; partitions as usize],
            sent: vec![],
            settled: vec![],
            times: vec![],
            next: 0,
            is_connected: true,
            is_splittable: true,
        };
        lab.lead(&vec![(1, 0); partitions as usize]);
        lab
    }

    /// As [`new`](Self::new), with a producer id.
    fn identified(settings: Settings) -> Self {
        let mut lab = Self::new(settings);
        lab.learn_identity();
        lab
    }

    fn learn_identity(&mut self) {
        let lab = self;
        lab.append(0);
        assert!(lab.machine.poll_identity(lab.now).is_some());
        lab.identify(7, 0);
        lab.answer(0, ErrorCode::NONE);
        lab.sent.clear();
        lab.settled.clear();
        lab.times.clear();
    }

    fn identify(&mut self, producer_id: i64, producer_epoch: i16) {
        let answer = InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() };
        self.machine.handle_identity(Ok(answer), self.now);
        self.turn();
    }

    /// Sets leader and epoch of each partition.
    fn lead(&mut self, leaders: &[(i32, i32)]) {
        self.machine.handle_metadata(&snapshot("t", leaders), self.now);
        self.turn();
    }

    /// Appends one record to a new batch of `slot`, or to the open one.
    fn append(&mut self, slot: u32) -> u32 {
        let number = self.next;
        if self.open[slot as usize].is_empty() {
            self.next += 1;
            self.open[slot as usize].push(Fake { number, records: 1, bytes: 100 });
            self.machine.handle_opened(Slot(slot), self.now);
        } else {
            self.open[slot as usize][0].records += 1;
        }
        self.turn();
        number
    }

    /// A batch of `slot` that is full at once.
    fn fill(&mut self, slot: u32) -> u32 {
        let number = self.next;
        self.next += 1;
        self.machine.handle_opened(Slot(slot), self.now);
        let ticket = self.machine.handle_closed(Slot(slot), self.now);
        self.machine.handle_sealed(ticket, Fake { number, records: 10, bytes: 100 }, self.now);
        self.turn();
        number
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    fn turn(&mut self) {
        while let Some(order) = self.machine.poll_order(self.now) {
            match order {
                Order::Close(slot) => {
                    for fake in std::mem::take(&mut self.open[slot.0 as usize]) {
                        let ticket = self.machine.handle_closed(slot, self.now);
                        self.machine.handle_sealed(ticket, fake, self.now);
                    }
                    self.machine.handle_emptied(slot);
                }
                Order::Split(ticket, whole) => {
                    let pieces = if self.is_splittable { whole.halves().to_vec() } else { vec![whole] };
                    self.machine.handle_split(ticket, pieces, self.now);
                }
                Order::Recall(id) if self.is_connected => self.machine.handle_begun(id, self.now),
                Order::Recall(id) => {
                    let failure = Failure::unreachable("b:1", "no connection");
                    self.machine.handle_lost(id, &failure, false, self.now);
                }
                Order::Transmit(transmit) => self.sent.push(transmit),
            }
        }
        while let Some(settled) = self.machine.poll_settled() {
            self.settled.push((settled.batch.number, settled.outcome));
            self.times.push(settled.times);
        }
    }

    /// What each request sent carries.
    fn stamps(&self) -> Vec<Vec<Stamp>> {
        self.sent.iter().map(stamps).collect()
    }

    fn answer(&mut self, index: usize, code: ErrorCode) {
        let (id, response) = answer(&self.sent[index], |_| code);
        self.machine.handle_response(id, &response, self.now);
        self.turn();
    }

    fn lose(&mut self, index: usize) {
        let failure = Failure::Lost { peer: "b:1".into(), reason: "cut".into(), sent: true };
        self.machine.handle_lost(self.sent[index].id, &failure, true, self.now);
        self.turn();
    }

    /// The numbers of the batches settled so far, with `w` for written, `f` for failed, `?` for maybe written.
    fn outcomes(&self) -> String {
        let text = |(number, outcome): &(u32, Outcome)| match outcome {
            Outcome::Written { .. } => format!("{number}w"),
            Outcome::Failed { maybe_written: false, .. } => format!("{number}f"),
            Outcome::Failed { maybe_written: true, .. } => format!("{number}?"),
        };
        self.settled.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

fn stamps(transmit: &Transmit) -> Vec<Stamp> {
    let partitions = transmit.request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.map(|partition| Stamp::from_bytes(partition.records.as_deref().expect("records"))).collect()
}

/// The partitions that a request carries.
fn partitions(transmit: &Transmit) -> Vec<i32> {
    let partitions = transmit.request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.map(|partition| partition.index).collect()
}

/// An answer to all partitions of a request.
fn answer(transmit: &Transmit, mut code: impl FnMut(i32) -> ErrorCode) -> (RequestId, ProduceResponse) {
    let topic = |topic: &milena_messages::produce::TopicProduceData| TopicProduceResponse {
        name: topic.name.clone(),
        partition_responses: topic
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse {
                index: partition.index,
                error_code: code(partition.index),
                base_offset: 0,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let responses = transmit.request.topic_data.iter().map(topic).collect();
    (transmit.id, ProduceResponse { responses, ..Default::default() })
}

#[test]
fn a_lone_record_leaves_at_once_and_the_next_ones_gather_while_it_flies() {
    let mut lab = Lab::identified(settings());
    lab.append(0);
    assert_eq!(lab.sent.len(), 1, "the broker is idle");
    for _ in 0..3 {
        lab.append(0);
        lab.append(1);
    }
    assert_eq!(lab.sent.len(), 1, "the broker is busy and linger not over");
    lab.answer(0, ErrorCode::NONE);
    let stamps = lab.stamps();
    assert_eq!(stamps.len(), 2, "one request for both partitions");
    assert_eq!(stamps[1].iter().map(|stamp| stamp.records).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn linger_ends_although_the_broker_is_busy() {
    let mut lab = Lab::identified(settings());
    lab.append(0);
    lab.append(0);
    lab.wait(4);
    assert_eq!(lab.sent.len(), 1);
    lab.wait(1);
    assert_eq!(lab.sent.len(), 2);
}

#[test]
fn five_requests_fly_and_no_more() {
    let mut lab = Lab::identified(settings());
    for _ in 0..8 {
        lab.fill(0);
    }
    assert_eq!(lab.sent.len(), 5);
    let sequences: Vec<_> = lab.stamps().iter().map(|stamps| stamps[0].sequence).collect();
    assert_eq!(sequences, [1, 11, 21, 31, 41]);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.sent.len(), 6);
}

/// Brokers know a producer's last five batches. If batches that follow one in doubt are appended until it is the sixth,
/// sending it again looks like a gap to them, and it is reported although nothing is wrong with it.
#[test]
fn a_batch_in_doubt_is_never_the_sixth_last_of_its_partition() {
    let mut lab = Lab::identified(settings());
    for _ in 0..6 {
        lab.fill(0);
    }
    lab.answer(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    for index in 1..5 {
        lab.answer(index, ErrorCode::NONE);
    }
    lab.wait(1000);
    let numbers =
        |lab: &Lab| lab.stamps()[5..].iter().flatten().map(|stamp| stamp.number).collect::<Vec<_>>();
    assert_eq!(numbers(&lab), [1], "the last one waits until the first one is settled");
    lab.answer(5, ErrorCode::NONE);
    assert_eq!(numbers(&lab), [1, 6]);
}

#[test]
fn one_request_flies_until_the_broker_has_accepted_a_first_sequence() {
    let mut lab = Lab::new(settings());
    lab.fill(0);
    lab.fill(0);
    assert!(lab.sent.is_empty() && lab.machine.poll_identity(lab.now).is_some(), "no producer id yet");
    lab.identify(7, 0);
    assert_eq!(lab.sent.len(), 1);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.sent.len(), 2);
    assert_eq!(lab.outcomes(), "0w");
}

#[test]
fn without_idempotence_one_batch_of_a_partition_flies_so_that_order_holds() {
    let mut lab = Lab::new(Settings { idempotent: false, ..settings() });
    for _ in 0..3 {
        lab.fill(0);
        lab.fill(1);
    }
    assert_eq!(lab.sent.len(), 2);
    assert!(lab.stamps().iter().flatten().all(|stamp| stamp.id == -1 && stamp.sequence == -1));
    lab.lose(0);
    lab.answer(1, ErrorCode::NONE);
    lab.wait(1000);
    let numbers: Vec<_> = lab.stamps().iter().flatten().map(|stamp| stamp.number).collect();
    assert_eq!(numbers.iter().filter(|number| **number == 0).count(), 2, "sent again: {numbers:?}");
}

/// Each error code, how the batch is settled, and whether it is sent again.
#[test]
fn what_each_answer_does() {
    let check = |code: ErrorCode, expected: &str, resent: bool| {
        let mut lab = Lab::identified(settings());
        lab.fill(0);
        lab.answer(0, code);
        lab.wait(500);
        assert_eq!(lab.outcomes(), expected, "{code}");
        assert_eq!(lab.sent.len(), if resent { 2 } else { 1 }, "{code}");
        if resent {
            lab.answer(1, ErrorCode::NONE);
            assert_eq!(lab.outcomes(), "1w", "{code}");
        }
        // The next batch is written in every case.
        lab.wait(500);
        lab.fill(0);
        lab.answer(lab.sent.len() - 1, ErrorCode::NONE);
        assert!(lab.outcomes().ends_with("2w"), "{code}: {}", lab.outcomes());
    };
    check(ErrorCode::NONE, "1w", false);
    check(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, "1w", false);
    check(ErrorCode::NOT_LEADER_OR_FOLLOWER, "", true);
    check(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "", true);
    check(ErrorCode::NOT_ENOUGH_REPLICAS, "", true);
    check(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, "", true);
    check(ErrorCode::REQUEST_TIMED_OUT, "", true);
    check(ErrorCode::CORRUPT_MESSAGE, "", true);
    check(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "", true);
    check(ErrorCode::UNKNOWN_PRODUCER_ID, "", true);
    check(ErrorCode::INVALID_PRODUCER_EPOCH, "", true);
    check(ErrorCode::INVALID_TIMESTAMP, "1f", false);
    check(ErrorCode::INVALID_RECORD, "1f", false);
    check(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "1f", false);
    check(ErrorCode::UNKNOWN_SERVER_ERROR, "1?", false);
    check(ErrorCode::from_i16(32_000), "1?", false);
}

/// Whether a batch that was answered like this, and not again before its delivery timeout, may have been written.
#[test]
fn an_answer_that_does_not_exclude_the_append_leaves_the_record_uncertain() {
    let check = |code: ErrorCode, acks: Acks, expected: &str| {
        let idempotent = acks == Acks::All;
        let mut lab = Lab::new(Settings { acks, idempotent, ..settings() });
        if idempotent {
            lab.learn_identity();
        }
        lab.fill(0);
        lab.answer(0, code);
        lab.lead(&[(-1, 1), (1, 0)]);
        lab.wait(10_000);
        assert!(lab.outcomes().ends_with(expected), "{code}, {acks:?}: {}", lab.outcomes());
    };
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_ID,
    ] {
        check(code, Acks::All, "?");
        check(code, Acks::Leader, "f");
    }
    for code in [
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::from_i16(32_000),
    ] {
        check(code, Acks::All, "?");
        check(code, Acks::Leader, "?");
    }
    for code in [
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ] {
        check(code, Acks::All, "f");
        check(code, Acks::Leader, "f");
    }
}

#[test]
fn what_may_have_been_appended_when_leadership_ended_is_not_sent_under_another_epoch() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.fill(0);
    lab.answer(0, ErrorCode::INVALID_RECORD);
    lab.answer(1, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    lab.wait(500);
    assert_eq!(lab.outcomes(), "1f 2?");
    assert_eq!(lab.sent.len(), 2);
}

/// As Java's client does (KAFKA-3995): each of the records may be small enough.
#[test]
fn a_batch_that_is_too_large_is_split_in_place_until_one_record_is() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.next = 20;
    lab.fill(0);
    let flush = lab.machine.handle_flush();
    lab.answer(0, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(lab.sent.len(), 2, "the batch in flight after it lands first");
    lab.answer(1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab.wait(500);
    let parts = |stamps: &[Vec<Stamp>]| -> Vec<_> {
        stamps
            .iter()
            .flatten()
            .map(|stamp| (stamp.number, stamp.sequence, stamp.records, stamp.epoch))
            .collect()
    };
    assert_eq!(parts(&lab.stamps()[2..]), [(1, 1, 5, 0), (6, 6, 5, 0), (20, 11, 10, 0)]);
    lab.answer(2, ErrorCode::NONE);
    lab.answer(3, ErrorCode::NONE);
    assert_eq!(lab.machine.poll_flushed(), None);
    lab.answer(4, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1w 6w 20w");
    assert_eq!(lab.machine.poll_flushed(), Some(flush));

    // One record alone is refused.
    let mut lab = Lab::identified(settings());
    lab.append(0);
    lab.answer(0, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(lab.outcomes(), "1f");
    lab.append(0);
    lab.answer(1, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1f 2w");
}

#[test]
fn a_batch_that_could_not_be_split_makes_way_for_the_next_one_at_once() {
    let mut lab = Lab::identified(Settings { linger: Duration::from_secs(3600), ..settings() });
    lab.is_splittable = false;
    lab.fill(0);
    lab.append(0);
    assert_eq!(lab.sent.len(), 1, "the broker is busy");
    lab.answer(0, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(lab.outcomes(), "1f");
    assert_eq!(lab.sent.len(), 2, "the broker is idle");
}

#[test]
fn a_retry_keeps_its_sequence_and_the_broker_is_asked_about_leaders() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.lose(0);
    assert!(lab.machine.poll_metadata_wanted());
    assert_eq!(lab.sent.len(), 1, "not before the backoff is over");
    lab.wait(200);
    let stamps = lab.stamps();
    assert_eq!(stamps[0], stamps[1]);
}

#[test]
fn after_a_failure_everything_in_flight_lands_before_it_is_sent_again_in_order() {
    let mut lab = Lab::identified(settings());
    for _ in 0..4 {
        lab.fill(0);
    }
    lab.answer(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    lab.wait(500);
    assert_eq!(lab.sent.len(), 4, "three are still in flight");
    for index in 1..4 {
        lab.answer(index, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    lab.lead(&[(2, 1), (1, 0)]);
    let before = lab.stamps();
    lab.wait(1);
    let resent: Vec<_> = lab.stamps()[4..].iter().flatten().copied().collect();
    assert_eq!(resent, before[..4].iter().flatten().copied().collect::<Vec<_>>());
    assert!(lab.sent[4..].iter().all(|sent| sent.broker == BrokerId(2)));
}

#[test]
fn nothing_goes_to_a_new_leader_before_the_old_one_has_answered() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.lead(&[(2, 1), (1, 0)]);
    lab.fill(0);
    lab.wait(100);
    assert_eq!(lab.sent.len(), 1);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.sent.len(), 2);
    assert_eq!(lab.sent[1].broker, BrokerId(2));
}

/// Partitions that wait for their turn while their leader's epoch rises, or while they go to another broker and back.
#[test]
fn the_metadata_decides_which_of_two_leader_epochs_is_the_truth() {
    let mut lab = Lab::of(1, settings());
    lab.learn_identity();
    lab.lead(&[(1, 7)]);
    lab.fill(0);
    lab.answer(0, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(lab.sent.len(), 1, "not at once");
    // After an unclean change of the controller a lower epoch may be the truth.
    lab.lead(&[(1, 4)]);
    assert_eq!(lab.sent.len(), 2, "a change of leaders makes the next attempt promising");
}

#[test]
fn a_partition_is_never_twice_in_a_request() {
    for moves in [vec![1, 1], vec![2, 1], vec![2, 2], vec![-1, 1]] {
        // Two batches to a request and two requests at a time: partition 3 is ready and has to wait for the next one.
        let mut lab = Lab::of(4, Settings { request_bytes_max: 250, in_flight_max: 2, ..settings() });
        lab.learn_identity();
        for slot in 0..4 {
            lab.fill(slot);
            lab.answer(lab.sent.len() - 1, ErrorCode::NONE);
        }
        lab.sent.clear();
        lab.settled.clear();
        for slot in [0, 0, 1, 2, 3, 3, 3] {
            lab.fill(slot);
        }
        lab.answer(0, ErrorCode::NONE);
        for (index, leader) in moves.iter().enumerate() {
            lab.lead(&[(*leader, 1 + index as i32); 4]);
        }
        let mut answered = 1;
        while answered < lab.sent.len() {
            let mut numbers = partitions(&lab.sent[answered]);
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), lab.stamps()[answered].len(), "{moves:?}");
            if answered == 2 {
                lab.lose(answered);
                lab.wait(200);
            } else {
                lab.answer(answered, ErrorCode::NONE);
            }
            answered += 1;
        }
        assert_eq!(lab.settled.len(), 7, "{moves:?}: {}", lab.outcomes());
    }
}

#[test]
fn a_new_leader_ends_the_backoff() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.answer(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    lab.lead(&[(2, 1), (1, 0)]);
    assert_eq!(lab.sent.len(), 2);
    assert_eq!(lab.sent[1].broker, BrokerId(2));
}

#[test]
fn a_missing_sequence_starts_the_partition_at_zero_under_a_higher_epoch() {
    let mut lab = Lab::identified(settings());
    lab.fill(1);
    lab.answer(0, ErrorCode::NONE);
    for _ in 0..3 {
        lab.fill(0);
    }
    // The first is refused for good; the broker then lacks its sequence and refuses those after it.
    lab.answer(1, ErrorCode::INVALID_RECORD);
    lab.answer(2, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab.answer(3, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab.wait(500);
    let resent = lab.stamps()[4][0];
    assert_eq!((resent.epoch, resent.sequence, resent.number), (1, 0, 3));
    lab.answer(4, ErrorCode::NONE);
    let resent = lab.stamps()[5][0];
    assert_eq!((resent.epoch, resent.sequence, resent.number), (1, 10, 4));
    lab.answer(5, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1w 2f 3w 4w");
    // The other partition follows when nothing of it depends on the old epoch.
    lab.fill(1);
    let other = lab.stamps()[6][0];
    assert_eq!((other.epoch, other.sequence), (1, 0));
}

#[test]
fn what_may_have_been_appended_is_never_sent_under_another_epoch() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.fill(0);
    lab.lose(0);
    lab.lose(1);
    lab.wait(500);
    // The broker has lost the producer's state: it cannot tell whether it has the batch.
    lab.answer(2, ErrorCode::UNKNOWN_PRODUCER_ID);
    lab.answer(3, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(lab.outcomes(), "1? 2?");
    lab.fill(0);
    lab.wait(500);
    let last = *lab.stamps().last().and_then(|stamps| stamps.first()).expect("sent");
    assert_eq!((last.epoch, last.sequence, last.number), (1, 0, 3));
}

#[test]
fn the_delivery_timeout_ends_every_wait_and_tells_the_truth() {
    // Never sent: no leader.
    let mut lab = Lab::identified(settings());
    lab.lead(&[(-1, 1), (1, 0)]);
    lab.append(0);
    lab.wait(9_999);
    assert_eq!(lab.outcomes(), "");
    lab.wait(1);
    let cause = match lab.settled.last() {
        Some((_, Outcome::Failed { failure, .. })) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(cause.ends_with("partition 0 of topic \"t\" has no leader at present"), "{cause}");
    assert_eq!(lab.outcomes(), "1f");

    // In flight, never answered.
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.wait(10_000);
    assert_eq!(lab.outcomes(), "1?");

    // Answered, certainly not written, and not again in time.
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.answer(0, ErrorCode::NOT_ENOUGH_REPLICAS);
    lab.lead(&[(-1, 1), (1, 0)]);
    lab.wait(10_000);
    assert_eq!(lab.outcomes(), "1f");

    // On no connection yet.
    let mut lab = Lab::identified(settings());
    lab.is_connected = false;
    lab.fill(0);
    lab.wait(10_000);
    assert_eq!(lab.outcomes(), "1f");

    // Without a producer id.
    let mut lab = Lab::new(settings());
    lab.append(0);
    lab.wait(10_000);
    assert_eq!(lab.outcomes(), "0f");
}

#[test]
fn a_sequence_that_timed_out_in_flight_is_not_given_to_the_next_batch() {
    for (answer, sequence_after, epoch_after) in [
        // It arrived after all: sequences go on.
        (Some(ErrorCode::NONE), 11, 0),
        // It did not: a new epoch.
        (Some(ErrorCode::NOT_LEADER_OR_FOLLOWER), 0, 1),
        (None, 0, 1),
    ] {
        let mut lab = Lab::identified(Settings { in_flight_max: 1, ..settings() });
        lab.fill(0);
        lab.wait(10_000);
        assert_eq!(lab.outcomes(), "1?");
        lab.fill(0);
        match answer {
            Some(code) => lab.answer(0, code),
            None => lab.lose(0),
        }
        lab.wait(2_000);
        let next = lab.stamps().iter().flatten().find(|stamp| stamp.number == 2).copied().expect("sent");
        assert_eq!((next.sequence, next.epoch), (sequence_after, epoch_after), "{answer:?}");
    }
}

#[test]
fn a_topic_made_anew_gets_sequences_of_its_own() {
    let mut lab = Lab::identified(settings());
    let mut anew = snapshot("t", &[(1, 0), (1, 0)]);
    set_topic_id(&mut anew, "t", 1);
    lab.machine.handle_metadata(&anew, lab.now);
    lab.fill(0);
    lab.answer(0, ErrorCode::NONE);
    set_topic_id(&mut anew, "t", 2);
    lab.machine.handle_metadata(&anew, lab.now);
    lab.fill(0);
    let stamp = lab.stamps()[1][0];
    assert_eq!((stamp.epoch, stamp.sequence), (1, 0));
}

/// The lab's topic with this id.
fn made_anew(lab: &mut Lab, id: u8) {
    let mut anew = snapshot("t", &[(1, 0), (1, 0)]);
    set_topic_id(&mut anew, "t", id);
    lab.machine.handle_metadata(&anew, lab.now);
    lab.turn();
}

/// An answer that names the topic by id, as of ProduceResponse v13.
fn answer_by_id(lab: &mut Lab, index: usize, code: ErrorCode) {
    let (id, mut response) = answer(&lab.sent[index], |_| code);
    for (answered, asked) in response.responses.iter_mut().zip(&lab.sent[index].request.topic_data) {
        (answered.name, answered.topic_id) = ("".into(), asked.topic_id);
    }
    lab.machine.handle_response(id, &response, lab.now);
    lab.turn();
}

/// A topic that is missing from the metadata for a moment is the same topic afterwards (librdkafka 1.9 lost records here).
#[test]
fn a_topic_that_vanishes_for_a_moment_keeps_its_sequences() {
    let mut lab = Lab::identified(settings());
    made_anew(&mut lab, 1);
    lab.fill(0);
    answer_by_id(&mut lab, 0, ErrorCode::NONE);
    lab.fill(0);
    lab.fill(0);
    lab.machine.handle_metadata(&snapshot("u", &[(1, 0)]), lab.now);
    lab.turn();
    lab.lose(1);
    answer_by_id(&mut lab, 2, ErrorCode::UNKNOWN_TOPIC_ID);
    lab.fill(0);
    lab.wait(3_000);
    assert_eq!((lab.sent.len(), lab.outcomes().as_str()), (3, "1w"), "there is no leader to send to");
    made_anew(&mut lab, 1);
    lab.wait(500);
    let again: Vec<_> =
        lab.stamps()[3..].iter().flatten().map(|stamp| (stamp.epoch, stamp.sequence)).collect();
    assert_eq!(again, [(0, 11), (0, 21), (0, 31)]);
    for index in 3..6 {
        answer_by_id(&mut lab, index, ErrorCode::NONE);
    }
    assert_eq!(lab.outcomes(), "1w 2w 3w 4w");
}

/// Batches in flight when the topic was deleted and made again go to the new topic, unless they were written to the old
/// one: the new log cannot have what was sent to the old topic by its id.
#[test]
fn an_answer_under_the_id_that_was_asked_counts_though_the_topic_was_made_anew() {
    let mut lab = Lab::identified(settings());
    made_anew(&mut lab, 1);
    lab.fill(0);
    answer_by_id(&mut lab, 0, ErrorCode::NONE);
    for _ in 0..3 {
        lab.fill(0);
    }
    made_anew(&mut lab, 2);
    answer_by_id(&mut lab, 1, ErrorCode::NONE);
    answer_by_id(&mut lab, 2, ErrorCode::UNKNOWN_TOPIC_ID);
    answer_by_id(&mut lab, 3, ErrorCode::UNKNOWN_TOPIC_ID);
    lab.wait(1000);
    assert_eq!(lab.outcomes(), "1w 2w");
    answer_by_id(&mut lab, 4, ErrorCode::NONE);
    answer_by_id(&mut lab, 5, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1w 2w 3w 4w");
    let again: Vec<_> = lab.stamps()[4..].iter().flatten().map(|stamp| stamp.sequence).collect();
    assert_eq!(again, [0, 10]);
    assert!(
        lab.sent[4..].iter().all(|sent| sent.request.topic_data[0].topic_id == Uuid::from_bytes([2; 16]))
    );
}

#[test]
fn what_may_be_in_the_new_log_of_a_topic_made_anew_is_reported() {
    let mut lab = Lab::identified(settings());
    made_anew(&mut lab, 1);
    lab.fill(0);
    answer_by_id(&mut lab, 0, ErrorCode::NONE);
    lab.fill(0);
    made_anew(&mut lab, 2);
    // Old versions of the request name the topic, and it may have reached the new one.
    lab.lose(1);
    lab.wait(1000);
    assert_eq!(lab.outcomes(), "1w 2?");
}

#[test]
fn a_duplicate_is_not_given_the_greatest_time_of_its_batch() {
    for (is_retry, told, expected) in
        [(true, 1001, None), (true, 7777, Some(7777)), (false, 1001, Some(1001)), (false, -1, None)]
    {
        let mut lab = Lab::identified(settings());
        lab.fill(0);
        if is_retry {
            lab.lose(0);
            lab.wait(500);
        }
        let (id, mut response) = answer(lab.sent.last().expect("sent"), |_| ErrorCode::NONE);
        response.responses[0].partition_responses[0].log_append_time_ms = told;
        lab.machine.handle_response(id, &response, lab.now);
        lab.turn();
        let Some((1, Outcome::Written { log_append_time_ms, .. })) = lab.settled.last() else {
            panic!("{:?}", lab.settled)
        };
        assert_eq!(*log_append_time_ms, expected, "{is_retry} {told}");
    }
}

#[test]
fn timers_do_not_outlive_their_batches() {
    let mut lab = Lab::identified(Settings { linger: Duration::from_secs(3600), ..settings() });
    for index in 0..1000 {
        lab.append(index % 2);
        lab.answer(index as usize, ErrorCode::NONE);
        lab.wait(1);
    }
    assert_eq!(lab.settled.len(), 1000);
    assert!(lab.machine.timers.len() < 10, "{}", lab.machine.timers.len());
}

#[test]
fn a_flush_sends_at_once_and_waits_for_what_came_before_it_only() {
    let mut lab = Lab::identified(settings());
    lab.append(0);
    lab.append(1);
    assert_eq!(lab.sent.len(), 1, "the second partition gathers");
    let flush = lab.machine.handle_flush();
    lab.turn();
    assert_eq!(lab.sent.len(), 2);
    lab.fill(0);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.machine.poll_flushed(), None);
    lab.answer(1, ErrorCode::NONE);
    assert_eq!(lab.machine.poll_flushed(), Some(flush));
    assert_eq!(lab.machine.outstanding(), 1);
}

#[test]
fn a_flush_waits_for_a_batch_that_timed_out_while_it_was_being_sealed() {
    let mut lab = Lab::identified(settings());
    lab.machine.handle_opened(Slot(0), lab.now);
    let ticket = lab.machine.handle_closed(Slot(0), lab.now);
    let flush = lab.machine.handle_flush();
    lab.wait(11_000);
    assert_eq!((lab.outcomes().as_str(), lab.machine.poll_flushed()), ("", None));
    lab.machine.handle_sealed(ticket, Fake { number: 9, records: 1, bytes: 100 }, lab.now);
    lab.turn();
    assert_eq!((lab.outcomes().as_str(), lab.machine.poll_flushed()), ("9f", Some(flush)));
}

#[test]
fn a_batch_that_left_before_it_was_told_of_holds_no_flush_up() {
    let mut lab = Lab::identified(settings());
    let ticket = lab.machine.handle_closed(Slot(0), lab.now);
    lab.machine.handle_sealed(ticket, Fake { number: 9, records: 1, bytes: 100 }, lab.now);
    lab.turn();
    lab.answer(0, ErrorCode::NONE);
    lab.lead(&[(-1, 1), (1, 0)]);
    lab.machine.handle_opened(Slot(0), lab.now);
    let flush = lab.machine.handle_flush();
    lab.turn();
    assert_eq!((lab.outcomes().as_str(), lab.machine.poll_flushed()), ("9w", Some(flush)));
}

#[test]
fn a_flush_of_nothing_is_complete_at_once() {
    let mut lab = Lab::new(settings());
    let flush = lab.machine.handle_flush();
    assert_eq!(lab.machine.poll_flushed(), Some(flush));
}

#[test]
fn the_throttle_mutes_its_broker_and_no_longer_than_a_minute() {
    let mut lab = Lab::identified(Settings { delivery_timeout: Duration::from_secs(300), ..settings() });
    lab.fill(0);
    let (id, mut response) = answer(&lab.sent[0], |_| ErrorCode::NONE);
    response.throttle_time_ms = i32::MAX;
    lab.machine.handle_response(id, &response, lab.now);
    lab.fill(0);
    lab.wait(59_999);
    assert_eq!(lab.sent.len(), 1);
    lab.wait(1);
    assert_eq!(lab.sent.len(), 2);
}

#[test]
fn a_partition_that_an_answer_omits_is_tried_again() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    let id = lab.sent[0].id;
    lab.machine.handle_response(id, &ProduceResponse::default(), lab.now);
    lab.wait(500);
    assert_eq!(lab.sent.len(), 2);
    lab.answer(1, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1w");
}

#[test]
fn a_garbled_answer_about_the_producer_id_fails_what_waits_for_it_only_the_second_time() {
    let mut lab = Lab::new(settings());
    lab.fill(0);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    let garbled = Failure::Malformed { peer: "broker".into(), reason: "garbage".into() };
    lab.machine.handle_identity(Err(garbled.clone()), lab.now);
    lab.turn();
    assert_eq!(lab.outcomes(), "", "it may have been an accident");
    lab.wait(500);
    assert!(lab.machine.poll_identity(lab.now).is_some(), "asked again");
    lab.machine.handle_identity(Err(garbled), lab.now);
    lab.turn();
    assert_eq!(lab.outcomes(), "0f");
}

#[test]
fn a_refused_producer_id_fails_what_waits_for_it_and_nothing_that_comes_later() {
    let mut lab = Lab::new(settings());
    // One batch is open, one is closed, one is being sealed.
    lab.append(0);
    lab.fill(1);
    lab.machine.handle_opened(Slot(1), lab.now);
    let ticket = lab.machine.handle_closed(Slot(1), lab.now);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let refused = InitProducerIdResponse { error_code, ..Default::default() };
    lab.machine.handle_identity(Ok(refused), lab.now);
    lab.turn();
    lab.machine.handle_sealed(ticket, Fake { number: 2, records: 1, bytes: 100 }, lab.now);
    lab.next = 3;
    lab.turn();
    assert_eq!(lab.outcomes(), "1f 0f 2f");
    for (_, outcome) in &lab.settled {
        let Outcome::Failed { failure, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.code(), Some(error_code), "each names the refusal");
    }
    lab.wait(1);
    lab.append(0);
    lab.wait(500);
    assert!(lab.machine.poll_identity(lab.now).is_some(), "it may be granted later");
    lab.identify(7, 0);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.outcomes(), "1f 0f 2f 3w");
}

/// The epochs of an id are used up, and the next id is refused. A batch that had a sequence under the old one fails.
#[test]
fn a_refused_producer_id_leaves_no_gap_that_holds_later_batches_up() {
    let mut lab = Lab::new(settings());
    lab.append(0);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(7, i16::MAX);
    lab.answer(0, ErrorCode::NONE);
    lab.fill(0);
    lab.fill(1);
    lab.answer(2, ErrorCode::NOT_ENOUGH_REPLICAS);
    lab.answer(1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let refused = InitProducerIdResponse { error_code, ..Default::default() };
    lab.machine.handle_identity(Ok(refused), lab.now);
    lab.wait(500);
    assert_eq!(lab.outcomes(), "0w 1f 2f");
    lab.fill(1);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(8, 0);
    let latest = lab.stamps()[3][0];
    assert_eq!((latest.number, latest.id, latest.sequence), (3, 8, 0));
}

#[test]
fn a_producer_id_that_is_refused_after_the_end_revives_nothing() {
    let mut lab = Lab::new(settings());
    lab.append(0);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.machine.handle_close(&Failure::Closed);
    lab.turn();
    let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let refused = InitProducerIdResponse { error_code, ..Default::default() };
    lab.machine.handle_identity(Ok(refused), lab.now);
    lab.wait(1);
    // It was filled before the end, and is told of late.
    lab.fill(1);
    assert_eq!(lab.outcomes(), "0f 1f");
}

#[test]
fn closing_fails_everything_and_says_what_may_have_been_written() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.fill(1);
    lab.answer(1, ErrorCode::NOT_ENOUGH_REPLICAS);
    lab.append(0);
    lab.machine.handle_close(&Failure::Closed);
    lab.turn();
    let mut outcomes: Vec<_> = lab.outcomes().split(' ').map(str::to_owned).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["1?", "2f", "3f"]);
    assert_eq!(lab.machine.outstanding(), 0);
}

#[test]
fn without_acks_a_batch_is_done_when_it_is_written() {
    let mut lab = Lab::new(Settings { acks: Acks::None, idempotent: false, ..settings() });
    lab.fill(0);
    assert!(!lab.sent[0].is_answered);
    lab.machine.handle_written(lab.sent[0].id, lab.now);
    lab.turn();
    assert_eq!(lab.outcomes(), "0w");
}

/// A partition that found no place in the last request waits for the next one. That one waits for the identity.
#[test]
fn no_batch_goes_out_without_the_producer_id_that_is_still_to_come() {
    let mut lab = Lab::of(3, Settings { request_bytes_max: 100, in_flight_max: 2, ..settings() });
    lab.append(0);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(7, i16::MAX);
    lab.answer(0, ErrorCode::NONE);
    lab.sent.clear();
    lab.fill(2);
    for slot in [0, 1] {
        let (number, slot) = (lab.next, Slot(slot));
        lab.next += 1;
        lab.machine.handle_opened(slot, lab.now);
        let ticket = lab.machine.handle_closed(slot, lab.now);
        lab.machine.handle_sealed(ticket, Fake { number, records: 1, bytes: 100 }, lab.now);
    }
    lab.turn();
    assert_eq!(lab.sent.len(), 2, "the broker takes no third request");
    // The epochs of the id are used up.
    lab.answer(0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab.wait(500);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(8, 0);
    let ids: Vec<_> = lab.stamps().iter().map(|stamps| (stamps[0].number, stamps[0].id)).collect();
    assert!(ids.iter().all(|(_, id)| *id >= 7), "{ids:?}");
}

#[test]
fn brokers_answer_for_the_partitions_of_a_request_in_any_order() {
    for (partitions, is_by_id) in [(5, false), (40, false), (40, true)] {
        let mut lab = Lab::of(partitions, settings());
        if is_by_id {
            let mut snapshot = snapshot("t", &vec![(1, 0); partitions as usize]);
            set_topic_id(&mut snapshot, "t", 9);
            lab.machine.handle_metadata(&snapshot, lab.now);
        }
        // They wait for a producer id, and leave together.
        let batches: Vec<_> = (0..partitions as u32).map(|slot| lab.fill(slot)).collect();
        assert!(lab.machine.poll_identity(lab.now).is_some());
        lab.identify(7, 0);
        let codes = [ErrorCode::NONE, ErrorCode::INVALID_RECORD];
        let (id, mut response) = answer(&lab.sent[0], |partition| codes[partition as usize % 2]);
        let topic = &mut response.responses[0];
        if is_by_id {
            (topic.name, topic.topic_id) = ("".into(), Uuid::from_bytes([9; 16]));
        }
        topic.partition_responses.reverse();
        // Some are answered twice, and one that the request did not have is answered.
        for index in [0, 1, partitions] {
            let mut again = topic.partition_responses[0].clone();
            (again.index, again.error_code) = (index, ErrorCode::INVALID_RECORD);
            topic.partition_responses.push(again);
        }
        topic.partition_responses[0].current_leader.leader_id = 3;
        topic.partition_responses[0].current_leader.leader_epoch = 5;
        lab.machine.handle_response(id, &response, lab.now);
        lab.turn();
        lab.settled.sort_by_key(|(number, _)| *number);
        let expected =
            batches.iter().map(|number| format!("{number}{}", if number % 2 == 0 { 'w' } else { 'f' }));
        assert_eq!(lab.outcomes(), expected.collect::<Vec<_>>().join(" "));
        let hints: Vec<_> =
            lab.machine.poll_hints().iter().map(|hint| (hint.partition, hint.leader.0)).collect();
        assert_eq!(hints, [(partitions - 1, 3)]);
    }
}

/// KIP-360, KAFKA-8803: brokers before 2.5 answer so when they have no batch of the producer any more.
#[test]
fn an_unknown_producer_is_a_loss_unless_the_log_begins_after_what_was_acknowledged() {
    for (log_start, is_lost) in [(0, true), (10, true), (11, false), (-1, false)] {
        let mut lab = Lab::identified(settings());
        lab.fill(0);
        let (id, mut response) = answer(&lab.sent[0], |_| ErrorCode::NONE);
        response.responses[0].partition_responses[0].base_offset = 1;
        lab.machine.handle_response(id, &response, lab.now);
        lab.turn();
        lab.fill(0);
        let (id, mut response) = answer(&lab.sent[1], |_| ErrorCode::UNKNOWN_PRODUCER_ID);
        response.responses[0].partition_responses[0].log_start_offset = log_start;
        lab.machine.handle_response(id, &response, lab.now);
        lab.wait(500);
        // Either way the batch that was refused is in no log, and goes out again.
        let again = lab.stamps()[2][0];
        assert_eq!((again.number, again.epoch, again.sequence), (2, 1, 0));
        lab.answer(2, ErrorCode::NONE);
        assert_eq!(lab.outcomes(), "1w 2w");
        let loss = lab.machine.poll_loss();
        let expected = super::Loss { topic: "t".into(), partition: 0, acknowledged: 10, log_start };
        assert_eq!(loss, is_lost.then_some(expected), "the log begins at {log_start}");
        assert_eq!(lab.machine.poll_loss(), None);
    }
}

#[test]
fn a_purge_gives_up_what_came_before_it_and_says_what_may_have_been_written() {
    let mut lab = Lab::identified(Settings { in_flight_max: 2, ..settings() });
    // 1 in flight; 2 came back and is certainly not written; 3 is queued; 4 is open.
    lab.fill(0);
    lab.fill(1);
    lab.answer(1, ErrorCode::NOT_ENOUGH_REPLICAS);
    lab.fill(0);
    lab.fill(0);
    lab.append(1);
    let sealing = {
        lab.machine.handle_opened(Slot(1), lab.now);
        lab.machine.handle_closed(Slot(1), lab.now)
    };
    let purge = lab.machine.handle_abandon(lab.now);
    lab.turn();
    // What comes after the purge is not concerned, even at the same instant.
    let later = lab.fill(1);
    assert_eq!(lab.machine.poll_flushed(), None, "a batch is being sealed");
    lab.machine.handle_sealed(sealing, Fake { number: 99, records: 1, bytes: 100 }, lab.now);
    lab.turn();
    assert_eq!(lab.machine.poll_flushed(), Some(purge));
    let mut outcomes: Vec<_> = lab.outcomes().split(' ').map(str::to_owned).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["1?", "2f", "3?", "4f", "5f", "99f"]);
    for (_, outcome) in &lab.settled {
        assert!(matches!(outcome, Outcome::Failed { failure: Failure::Purged, .. }), "{outcome:?}");
    }
    // The answers of what was in flight settle nothing again, and the partitions go on.
    lab.settled.clear();
    for index in 0..lab.sent.len() {
        lab.answer(index, ErrorCode::NONE);
    }
    for _ in 0..10 {
        lab.wait(500);
        for index in 0..lab.sent.len() {
            lab.answer(index, ErrorCode::NONE);
        }
    }
    assert_eq!(lab.outcomes(), format!("{later}w"));
    assert_eq!(lab.machine.outstanding(), 0);
}

#[test]
fn a_purge_takes_back_what_no_connection_has_begun_with() {
    let mut lab = Lab::identified(settings());
    lab.is_connected = false;
    lab.fill(0);
    let purge = lab.machine.handle_abandon(lab.now);
    lab.turn();
    assert_eq!((lab.outcomes().as_str(), lab.machine.poll_flushed()), ("1f", Some(purge)));
}

/// One deadline bounds everything a record waits for: KIP-91, KAFKA-5886.
#[test]
fn the_time_that_a_caller_waited_for_room_counts_towards_the_delivery_timeout() {
    let mut lab = Lab::identified(settings());
    lab.wait(4_000);
    let began = lab.now;
    lab.lead(&[(-1, 1), (1, 0)]);
    lab.wait(6_000);
    lab.append(0);
    lab.machine.handle_waited(Slot(0), began, lab.now);
    lab.wait(3_999);
    assert_eq!(lab.outcomes(), "");
    lab.wait(1);
    assert_eq!(lab.outcomes(), "1f");

    // A batch before it keeps its own time, and the one that waited expires no sooner.
    let began = lab.now;
    lab.wait(1_000);
    lab.fill(0);
    lab.wait(1_000);
    lab.append(0);
    lab.machine.handle_waited(Slot(0), began, lab.now);
    lab.wait(8_999);
    assert_eq!(lab.outcomes(), "1f");
    lab.wait(1);
    assert_eq!(lab.outcomes(), "1f 2f 3f");
}

/// KIP-98: sequences are 31 bits, and brokers expect zero after 2^31 - 1.
#[test]
fn sequences_wrap_within_a_batch_and_between_batches() {
    let mut lab = Lab::identified(settings());
    let fill = |lab: &mut Lab, records| {
        lab.machine.handle_opened(Slot(0), lab.now);
        let ticket = lab.machine.handle_closed(Slot(0), lab.now);
        let fake = Fake { number: lab.next, records, bytes: 100 };
        lab.next += 1;
        lab.machine.handle_sealed(ticket, fake, lab.now);
        lab.turn();
        lab.stamps().last().expect("sent")[0].sequence
    };
    // One record was written under sequence 0.
    assert_eq!(fill(&mut lab, i32::MAX - 2), 1);
    assert_eq!(fill(&mut lab, 1), i32::MAX - 1);
    assert_eq!(fill(&mut lab, 5), i32::MAX, "the first record is the last before the wrap");
    assert_eq!(fill(&mut lab, 1), 4);
    // All come back and go out again under the same sequences, in order.
    for index in 0..4 {
        lab.lose(index);
    }
    lab.wait(500);
    for index in 4..8 {
        lab.answer(index, ErrorCode::NONE);
    }
    let again: Vec<_> = lab.stamps()[4..].iter().map(|stamps| stamps[0].sequence).collect();
    assert_eq!(again, [1, i32::MAX - 1, i32::MAX, 4]);
    assert_eq!(lab.outcomes(), "1w 2w 3w 4w");
    assert_eq!(fill(&mut lab, 1), 5);
}

/// KIP-360: a producer id whose epochs are used up makes way for another one.
#[test]
fn after_the_last_epoch_another_producer_id_is_asked_for_and_nothing_is_lost() {
    let mut lab = Lab::new(settings());
    lab.append(0);
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(7, i16::MAX);
    lab.answer(0, ErrorCode::NONE);
    lab.fill(0);
    lab.fill(1);
    assert_eq!(lab.stamps()[1][0].epoch, i16::MAX);
    // The broker has lost the producer's state: sequences start anew, which takes another epoch.
    lab.answer(1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab.answer(2, ErrorCode::NONE);
    lab.wait(500);
    lab.fill(1);
    assert_eq!(lab.sent.len(), 3, "nothing is sent before there is another id");
    assert!(lab.machine.poll_identity(lab.now).is_some());
    lab.identify(8, 0);
    for index in 3..5 {
        lab.answer(index.min(lab.sent.len() - 1), ErrorCode::NONE);
    }
    lab.wait(500);
    let stamps: Vec<_> = lab.sent[3..].iter().flat_map(stamps).collect();
    assert!(stamps.iter().all(|stamp| (stamp.id, stamp.epoch, stamp.sequence) == (8, 0, 0)), "{stamps:?}");
    let mut outcomes: Vec<_> = lab.outcomes().split(' ').map(str::to_owned).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["0w", "1w", "2w", "3w"]);
}

/// KAFKA-3197: each second another broker leads. The old leader writes what it gets first, and the rest is refused, or written
/// while its answer is lost.
#[test]
fn a_leader_that_moves_each_second_reorders_nothing_and_writes_all_once() {
    let mut lab = Lab::identified(Settings { delivery_timeout: Duration::from_secs(60), ..settings() });
    // The log: the next sequence that a leader expects, and the batches that it has.
    let (mut next, mut log) = (1, Vec::new());
    let mut append = |stamp: Stamp| {
        if stamp.sequence == next {
            next += stamp.records;
            log.push(stamp.number);
        }
        // One that it has already is acknowledged again.
        if stamp.sequence < next { ErrorCode::NONE } else { ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER }
    };
    let mut answered = 0;
    for second in 0..30 {
        for _ in 0..3 {
            lab.fill(0);
        }
        let out = answered..lab.sent.len();
        answered = out.end;
        for (place, index) in out.enumerate() {
            let stamp = lab.stamps()[index][0];
            if place > 0 && second % 2 == 0 {
                lab.answer(index, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                continue;
            }
            let code = append(stamp);
            if place == 0 { lab.answer(index, code) } else { lab.lose(index) }
        }
        lab.lead(&[(1 + second % 3, second), (1, 0)]);
        lab.wait(1_000);
    }
    while lab.machine.outstanding() > 0 {
        while answered < lab.sent.len() {
            let code = append(lab.stamps()[answered][0]);
            lab.answer(answered, code);
            answered += 1;
        }
        lab.wait(100);
    }
    let numbers: Vec<_> = (1..=90).collect();
    assert_eq!(log, numbers);
    assert_eq!(
        lab.outcomes(),
        numbers.iter().map(|number| format!("{number}w")).collect::<Vec<_>>().join(" ")
    );
    assert!(lab.stamps().iter().flatten().all(|stamp| stamp.epoch == 0), "no sequence was lost");
}
