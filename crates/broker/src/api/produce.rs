//! Produce (0). KIP-98 (idempotence, transactions), KIP-890 (partitions of transactions are verified), KIP-467 (why a batch was refused), KIP-951 (the current leader), KIP-516 (topic
//! ids), KIP-110 (zstd).
//!
//! All replicas are one log, so acks=all is answered as soon as acks=1 is.

use std::sync::Arc;

use milena_messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;
use milena_wire::batch::Batches;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::{Call, Effort, Outcome};
use crate::check::{self, Checked, Checker, Outline, Rejected, Scope};
use crate::partition::Appended;
use crate::producers::Verified;
use crate::quotas::Key;
use crate::refused::{Refusal, Refused};
use crate::topic::Topic;
use crate::transactions::Identity;

/// All replicas in sync have the batch.
const ACKS_ALL: i16 = -1;

/// The first version with a field for the current leader.
const LEADERS_FROM: i16 = 10;

/// The first version whose clients know TRANSACTION_ABORTABLE, and the first one that adds partitions to transactions.
const ABORTABLE_FROM: i16 = 11;
const ADDS_FROM: i16 = 12;

pub(super) const API: Api = Api {
    // librdkafka takes a missing Produce v0 for a broker without compression, so Kafka 4 lists 0 to 2 and refuses them
    // (KAFKA-18659).
    advertised_from: 0,
    is_heavy: |_, bytes| bytes > HEAVY_PRODUCE_BYTES,
    ..Api::new(ApiKey::Produce, |call, reader| respond(call, &call.decode(reader)?))
};

/// A longer request may take milliseconds. Most of it is records, which are checked and stored at gigabytes a second.
const HEAVY_PRODUCE_BYTES: usize = 4 << 20;

fn respond(call: &Call<'_>, request: &ProduceRequest) -> Result<Outcome, Refused> {
    let Some(responses) = answer(call, request) else { return Ok(Outcome::TooMuch) };
    let mut response = ProduceResponse { responses, ..Default::default() };
    call.take_quota(Key::ProducerBytes, call.request_bytes as f64);
    if request.acks == 0 {
        // The client expects no answer. After an error the connection is closed, so that the client looks for the
        // leader.
        let mut codes = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        return match codes.find(|partition| !partition.error_code.is_none()) {
            Some(partition) => Err(Refusal::Unacknowledged(partition.error_code).into()),
            None => Ok(Outcome::Silent),
        };
    }
    response.node_endpoints = leaders(call, &response);
    call.reply(response)
}

/// With little effort at most this many compressed bytes are checked: decompressed they cost several times as much.
const COSTLY_BYTES: usize = 64 * 1024;

/// Checks and appends the batches of a request. `None` when that would take more effort than the call may take; then
/// nothing was appended.
fn answer(call: &Call<'_>, request: &ProduceRequest) -> Option<Vec<TopicProduceResponse>> {
    if let Some(Rejected { code, message, .. }) = refusal(request) {
        let message = Str::from(message.as_ref());
        return Some(answer_all(request, |data| failed(data.index, code, Some(message.clone()))));
    }
    // An id without records of a transaction is of no account, as in Kafka.
    if let Some(id) = &request.transactional_id
        && call.parts.has_acls()
        && has_transactional(request)
        && let Err(code) = call.check(Operation::Write, Resource::TransactionalId, id)
    {
        return Some(answer_all(request, |data| failed(data.index, code, None)));
    }
    // First every batch is found, because some faults of one batch fail the whole request.
    let found: Vec<_> = request.topic_data.iter().flat_map(|data| find(call, data)).collect();
    let refused = found.iter().filter_map(|found| found.as_ref().err());
    if let Some(Rejected { code, message, .. }) = refused.clone().find(|one| one.scope == Scope::Request) {
        let message = Str::from(message.as_ref());
        return Some(answer_all(request, |data| failed(data.index, *code, Some(message.clone()))));
    }
    let transactional = found.iter().flatten().filter(|_| request.transactional_id.is_some());
    let transactional = transactional.filter_map(|found| found.batch.transactional());
    let mut producers = transactional.map(|stamp| (stamp.producer_id, stamp.producer_epoch));
    if let Some(first) = producers.next()
        && producers.any(|producer| producer != first)
    {
        let Rejected { code, message, .. } = check::several_producers();
        let message = Str::from(message.as_ref());
        return Some(answer_all(request, |data| failed(data.index, code, Some(message.clone()))));
    }
    let compressed = found.iter().flatten().filter(|found| found.batch.is_compressed());
    let compressed: usize = compressed.map(|found| found.batch.bytes()).sum();
    if call.effort == Effort::Little && compressed > COSTLY_BYTES {
        return None;
    }
    // Then every batch is checked before the first one is appended, so that nothing has happened when a check shows
    // that the request takes too much effort.
    let mut checker = Checker::new(&call.parts.decompressors, call.effort == Effort::Little);
    let mut checked = Vec::with_capacity(found.len());
    for found in &found {
        checked.push(found.as_ref().map(|found| check(call, found, request.acks, &mut checker)));
        if checker.is_exhausted() && call.effort == Effort::Little {
            return None;
        }
    }
    // Checking has no effect, and adding a partition to a transaction has.
    let verified = verify(call, request.transactional_id.as_ref(), &found, &checked);
    let mut checked = checked.into_iter().zip(verified);
    Some(answer_all(request, |data| match checked.next() {
        Some((Ok(_), Err(code))) => refused_batch(data.index, check::not_in_transaction(code), -1),
        Some((Ok(checked), Ok(verified))) => append(call, checked, verified, data.index),
        Some((Err(rejected), _)) => refused_batch(data.index, rejected.clone(), -1),
        None => failed(data.index, ErrorCode::UNKNOWN_SERVER_ERROR, None),
    }))
}

/// Whether any batch belongs to a transaction.
fn has_transactional(request: &ProduceRequest) -> bool {
    let records = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let mut batches = records.filter_map(|data| data.records.clone()).flat_map(Batches::new);
    batches.any(|batch| batch.is_ok_and(|batch| batch.header.is_transactional()))
}

/// Asks the coordinator for the batches that must be in a transaction, if it is not open at their partitions yet: from
/// version 12 on it adds the partitions, and before it they must have been added (KIP-890).
fn verify(
    call: &Call<'_>,
    id: Option<&Str>,
    found: &[Result<Found<'_>, Rejected>],
    checked: &[Result<CheckedIn<'_>, &Rejected>],
) -> Vec<Result<Option<Verified>, ErrorCode>> {
    let mut verified: Vec<Result<Option<Verified>, ErrorCode>> = vec![Ok(None); found.len()];
    let Some(id) = id else { return verified };
    let adds = call.envelope.version >= ADDS_FROM;
    let mut wanted = Vec::new();
    for (at, (found, checked)) in found.iter().zip(checked).enumerate() {
        let (Ok(found), Ok(CheckedIn { batch: Some(_), .. })) = (found, checked) else { continue };
        let Some(partition) = found.topic.partition(found.index) else { continue };
        let Some(stamp) = found.batch.transactional() else { continue };
        verified[at] = Ok(partition.lock().begin_verification(&stamp, adds));
        if verified[at] != Ok(None) {
            let identity = Identity { producer_id: stamp.producer_id, epoch: stamp.producer_epoch };
            wanted.push((at, identity, found.topic.name.as_str(), found.index));
        }
    }
    let Some(&(_, identity, ..)) = wanted.first() else { return verified };
    let is_found = call.parts.state().transaction_coordinator(id).is_some();
    let mut transactions = call.parts.transactions(call.now);
    let checked = match () {
        () if id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
        () if !is_found => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        () if transactions.is_loading(id, call.now) => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        () if adds => {
            let partitions = wanted.iter().map(|&(_, _, topic, index)| (topic, index));
            transactions.add(id, identity, partitions, call.now)
        }
        () => Ok(()),
    };
    for (at, identity, topic, index) in wanted {
        let answer = match checked {
            Ok(()) if !adds => transactions.verify(id, identity, topic, index),
            checked => checked,
        };
        if let Err(code) = answer {
            verified[at] = Err(verification_code(call.envelope.version, code));
        }
    }
    verified
}

/// The code in the answer to Produce for that of a verification. Clients of each version must know what to do.
fn verification_code(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if version < ABORTABLE_FROM => ErrorCode::INVALID_TXN_STATE,
        ErrorCode::CONCURRENT_TRANSACTIONS if version >= ADDS_FROM => code,
        // They are retried, and make no client look for another leader.
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR => ErrorCode::NOT_ENOUGH_REPLICAS,
        code => code,
    }
}

fn answer_all<'a>(
    request: &'a ProduceRequest,
    mut answer: impl FnMut(&'a PartitionProduceData) -> PartitionProduceResponse,
) -> Vec<TopicProduceResponse> {
    let topics = request.topic_data.iter().map(|data| TopicProduceResponse {
        name: data.name.clone(),
        topic_id: data.topic_id,
        partition_responses: data.partition_data.iter().map(&mut answer).collect(),
        ..Default::default()
    });
    topics.collect()
}

/// Why the whole request is refused, if it is.
fn refusal(request: &ProduceRequest) -> Option<Rejected> {
    let has_id = request.transactional_id.is_some();
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.find_map(|data| check::check_request(data.records.as_ref(), has_id).err())
}

/// A partition that exists, and the batch for it.
struct Found<'a> {
    topic: Arc<Topic>,
    index: i32,
    batch: Outline<'a>,
}

fn find<'a>(call: &Call<'_>, data: &'a TopicProduceData) -> Vec<Result<Found<'a>, Rejected>> {
    let version = call.envelope.version;
    let (topic, unknown) = if version >= 13 {
        (call.parts.state().topic_by_id(data.topic_id).cloned(), ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        (call.parts.state().topic(&data.name).cloned(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    // A client that may not write to a topic must not learn whether it exists, unless it knows its id.
    let name = topic.as_ref().map_or(&data.name, |topic| &topic.name);
    let is_hidden = topic.is_none() && version >= 13;
    let allowed = if is_hidden { Ok(()) } else { call.check(Operation::Write, Resource::Topic, name) };
    let find = |data: &'a PartitionProduceData| {
        allowed.map_err(Rejected::code)?;
        let topic = topic.as_ref().ok_or_else(|| Rejected::code(unknown))?;
        if topic.partition(data.index).is_none() {
            return Err(Rejected::code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        }
        let batch = Outline::find(data.records.as_ref(), version)?;
        Ok(Found { topic: Arc::clone(topic), index: data.index, batch })
    };
    data.partition_data.iter().map(find).collect()
}

/// A batch that may be appended, or the reason why it may not.
struct CheckedIn<'a> {
    topic: &'a Arc<Topic>,
    /// `None` when the node does not lead the partition: Kafka notices that before it checks the batch.
    batch: Option<Result<Checked<'a>, Rejected>>,
}

fn check<'a>(call: &Call<'_>, found: &'a Found<'a>, acks: i16, checker: &mut Checker<'_>) -> CheckedIn<'a> {
    let topic = &found.topic;
    let Some(partition) = topic.partition(found.index) else { return CheckedIn { topic, batch: None } };
    if !(-1..=1).contains(&acks) {
        return CheckedIn { topic, batch: Some(Err(Rejected::code(ErrorCode::INVALID_REQUIRED_ACKS))) };
    }
    let (is_led, is_replicated) = {
        let state = partition.lock();
        let is_led = state.check_leader(call.peer.node(), None).is_ok();
        (is_led, acks != ACKS_ALL || state.has_in_sync(topic.rules.insync_min))
    };
    let batch = match (is_led, is_replicated) {
        (false, _) => None,
        (true, false) => Some(Err(check::too_few_replicas())),
        // Checking the batch is the expensive part, so it is done without the partition's lock.
        (true, true) => Some(checker.check(found.batch, &topic.rules.of_batches(call.now.unix_ms))),
    };
    CheckedIn { topic, batch }
}

fn append(
    call: &Call<'_>,
    checked: CheckedIn<'_>,
    verified: Option<Verified>,
    index: i32,
) -> PartitionProduceResponse {
    let CheckedIn { topic, batch } = checked;
    let Some(partition) = topic.partition(index) else {
        return failed(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
    };
    let batch = match batch {
        Some(Err(rejected)) => return refused_batch(index, rejected, partition.lock().log_start()),
        Some(Ok(batch)) => Some(batch),
        None => None,
    };
    let mut state = partition.lock();
    let appended = match (state.check_leader(call.peer.node(), None), batch) {
        (Err(code), _) => Err(code),
        (Ok(()), Some(batch)) => state.append(&batch, verified, &topic.rules, call.now.unix_ms),
        // The node was not the leader when the batch was to be checked, and has become it since. The client tries
        // again.
        (Ok(()), None) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    };
    match appended {
        Ok(Appended { base_offset, append_time }) => PartitionProduceResponse {
            index,
            base_offset,
            log_append_time_ms: append_time,
            log_start_offset: state.log_start(),
            ..Default::default()
        },
        Err(code) if code == ErrorCode::NOT_LEADER_OR_FOLLOWER && call.envelope.version >= LEADERS_FROM => {
            let placement = state.placement();
            let leader_id = placement.leader.unwrap_or(-1);
            let leader =
                LeaderIdAndEpoch { leader_id, leader_epoch: placement.leader_epoch, ..Default::default() };
            PartitionProduceResponse { current_leader: leader, ..failed(index, code, None) }
        }
        Err(code @ (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::INVALID_PRODUCER_EPOCH)) => {
            let log_start_offset = state.log_start();
            PartitionProduceResponse { log_start_offset, ..failed(index, code, None) }
        }
        Err(code) => failed(index, code, None),
    }
}

fn refused_batch(index: i32, rejected: Rejected, log_start: i64) -> PartitionProduceResponse {
    let Rejected { code, message, scope, records } = rejected;
    let message = (!message.is_empty()).then(|| Str::from(message.as_ref()));
    let record_errors = records.into_iter().map(|(batch_index, message)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(message),
        ..Default::default()
    });
    PartitionProduceResponse {
        record_errors: record_errors.collect(),
        log_start_offset: if scope == Scope::Log { log_start } else { -1 },
        ..failed(index, code, message)
    }
}

fn failed(index: i32, error_code: ErrorCode, error_message: Option<Str>) -> PartitionProduceResponse {
    PartitionProduceResponse { index, error_code, error_message, base_offset: -1, ..Default::default() }
}

/// The addresses of the leaders that the response names (KIP-951).
fn leaders(call: &Call<'_>, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut ids: Vec<i32> = partitions.map(|partition| partition.current_leader.leader_id).collect();
    ids.retain(|&id| id >= 0);
    ids.sort_unstable();
    ids.dedup();
    let (state, listener) = (call.parts.state(), call.peer.listener());
    let nodes = ids.into_iter().filter_map(|id| state.nodes.get(&id));
    nodes
        .map(|node| NodeEndpoint {
            node_id: node.id,
            host: node.endpoint(listener).host.clone(),
            port: i32::from(node.endpoint(listener).port),
            ..Default::default()
        })
        .collect()
}
