//! Fetch (1). KIP-74 (limits), KIP-227 (sessions), KIP-320 (epochs), KIP-392 (the closest replica), KIP-516 (topic ids),
//! KIP-595 (diverging epochs), KIP-951 (the current leader).
//!
//! ```text
//!  request ─▶ plan (sessions) ─▶ pass over the partitions ─▶ enough, or an error? ─▶ response
//!                                      ▲                            │ no
//!                                      └── resume ◀── ParkedFetch ◀─┘  a waiter at every partition
//! ```
//!
//! A parked fetch keeps positions only: no frame, no records, no lock.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::batch::Batches;
use milena_wire::{Str, Uuid};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::{Call, Outcome};
use crate::parked::{FetchLimits, ParkedFetch, Replicas, Waiting};
use crate::partition::{Isolation, Partition, PartitionState};
use crate::quotas::Key;
use crate::refused::Refused;
use crate::sessions::{Answers, Plan, Session, TopicKey, Turn, Wanted};
use crate::waiter::Waiter;

/// What was found when all partitions were read once.
#[derive(Debug, Default)]
struct Pass {
    /// The partitions that the answer will contain, each with its turn in the session's order.
    found: Vec<(Turn, PartitionData)>,
    /// The partitions that do not exist. As in Kafka they come last, and they do not end the wait for those that exist.
    missing: Vec<(Turn, PartitionData)>,
    bytes: usize,
    /// There is an error or a diverging epoch, and the client must be told at once.
    is_urgent: bool,
}

/// What was found when one partition was read.
enum Look {
    Found(PartitionData),
    Missing(PartitionData),
}

/// The first version with a field for the current leader, and the first one with a field for the leader's address.
const LEADERS_FROM: i16 = 12;
const ENDPOINTS_FROM: i16 = 16;
/// The first version that followers answer.
const FOLLOWERS_FROM: i16 = 11;

pub(super) const API: Api = Api {
    brings_records: true,
    ..Api::new(ApiKey::Fetch, |call, reader| respond(call, &call.decode(reader)?))
};

fn respond(call: &Call<'_>, request: &FetchRequest) -> Result<Outcome, Refused> {
    let version = call.envelope.version;
    let plan = call.parts.sessions(call.peer.node()).plan(request, version, call.now.instant);
    let plan = match plan {
        Ok(plan) => plan,
        Err(error_code) => {
            let response = FetchResponse { error_code, ..Default::default() };
            return call.reply(response);
        }
    };
    let bytes_max = (request.max_bytes.max(0) as usize).min(call.parts.settings().fetch_bytes_max);
    // More would be above the quota though nothing was fetched before, and the client would never get it.
    let at_once = call.quota_at_once(Key::ConsumerBytes);
    let bytes_max = at_once.map_or(bytes_max, |at_once| bytes_max.min(at_once as usize));
    let limits = FetchLimits {
        // More bytes than one answer may have never come, so the fetch must not wait for them.
        bytes_min: (request.min_bytes.max(0) as usize).min(bytes_max),
        bytes_max,
        isolation: Isolation::of(request.isolation_level),
        replicas: match version {
            FOLLOWERS_FROM.. => Replicas::Any { rack: call.parts.state().known_rack(&request.rack_id) },
            _ => Replicas::Leader,
        },
    };
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    answer_or_park(call, plan, limits, call.now.instant + wait, None)
}

/// Answers a fetch that was woken or has reached its deadline. It is parked again if it was woken for too few bytes.
pub(super) fn resume(call: &Call<'_>, parked: ParkedFetch) -> Result<Outcome, Refused> {
    answer_or_park(call, parked.plan, parked.limits, parked.deadline, Some(parked.missing))
}

/// Reads the partitions once, and answers if that brought enough; parks the fetch otherwise. `missing` is the number of
/// partitions that did not exist when the fetch was parked.
fn answer_or_park(
    call: &Call<'_>,
    plan: Plan,
    limits: FetchLimits,
    deadline: Instant,
    missing: Option<usize>,
) -> Result<Outcome, Refused> {
    let mut session = crate::lock(&plan.session);
    if let Answers::News { epoch } = plan.answers
        && epoch != session.epoch()
    {
        // The session went on over another connection while this fetch waited.
        let error_code = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
        let response = FetchResponse { error_code, session_id: session.id, ..Default::default() };
        return call.reply(response);
    }
    let pass = read_all(call, &mut session, plan.answers, &limits);
    // Nothing can wake a fetch all of whose partitions are missing, so it is answered at once.
    let is_due = call.now.instant >= deadline || pass.missing.len() == session.wanted.len();
    let is_enough = pass.bytes >= limits.bytes_min || available(&session, &pass, &limits) >= limits.bytes_min;
    // A partition was created or deleted since the fetch was parked: Kafka answers that at once, too.
    let has_vanished = missing.is_some_and(|before| before != pass.missing.len());
    if is_due || pass.is_urgent || is_enough || has_vanished {
        return match is_throttled(call, &pass) {
            true => call.reply(empty(&plan, &session)),
            false => call.reply(respond_with(call, &plan, &mut session, pass)),
        };
    }
    let waiter = Waiter::new((limits.bytes_min - pass.bytes) as i64);
    for wanted in session.wanted.values() {
        let Some(partition) = wanted.partition.upgrade() else { continue };
        let mut state = partition.lock();
        state.add_waiter(&waiter);
        if state.changes() != wanted.seen_changes {
            // The partition has changed since it was read above, when this waiter was not there yet.
            waiter.wake();
        }
    }
    drop(session);
    let missing = pass.missing.len();
    let parked = ParkedFetch { plan, limits, deadline, waiter, missing };
    Ok(Outcome::Parked(Waiting::Fetch(parked)))
}

/// Whether the client is above a quota. It gets no records then, and these do not count (KIP-13).
fn is_throttled(call: &Call<'_>, pass: &Pass) -> bool {
    let (bytes, key) = (pass.bytes as f64, Key::ConsumerBytes);
    call.take_quota(Key::RequestPercentage, 0.0);
    call.take_quota(key, bytes);
    let is_throttled = !call.throttle.get().is_zero();
    if is_throttled {
        call.put_back_quota(key, bytes);
    }
    is_throttled
}

/// An answer without partitions. A session that was to begin with it does not begin, as in Kafka.
fn empty(plan: &Plan, session: &Session) -> FetchResponse {
    let session_id = if plan.answers == Answers::AllOfNew { 0 } else { session.id };
    FetchResponse { session_id, ..Default::default() }
}

/// Reads every partition once, in the order of their turns.
fn read_all(call: &Call<'_>, session: &mut Session, answers: Answers, limits: &FetchLimits) -> Pass {
    let mut pass = Pass::default();
    // Now, because partitions are locked after the state.
    let near = match &limits.replicas {
        Replicas::Any { rack: Some(rack) } => call.parts.state().nodes_in(rack),
        Replicas::Any { rack: None } | Replicas::Leader => Vec::new(),
    };
    for (&turn, wanted) in &mut session.wanted {
        match read(call, wanted, limits, &near, pass.bytes) {
            Look::Missing(data) => pass.missing.push((turn, data)),
            Look::Found(data) => {
                pass.bytes += data.records.as_ref().map_or(0, Bytes::len);
                pass.is_urgent |= !data.error_code.is_none()
                    || data.diverging_epoch.epoch >= 0
                    || data.preferred_read_replica >= 0;
                if answers.are_all() || wanted.is_news(&data) {
                    pass.found.push((turn, data));
                }
            }
        }
    }
    pass
}

/// The bytes that are there, as Kafka counts them. A partition that has more than was read counts with its whole limit,
/// though only whole batches are sent.
fn available(session: &Session, pass: &Pass, limits: &FetchLimits) -> usize {
    let available = |(turn, data): &(Turn, PartitionData)| {
        let (wanted, records) = (&session.wanted[turn], data.records.clone().unwrap_or_default());
        let bytes = records.len();
        let last = Batches::new(records).filter_map(Result::ok).last();
        let end = last.map_or(wanted.fetch_offset, |batch| batch.header.next_offset());
        let readable_end = match limits.isolation {
            Isolation::ReadUncommitted => data.high_watermark,
            Isolation::ReadCommitted => data.last_stable_offset,
        };
        if end < readable_end { wanted.bytes_max.max(bytes) } else { bytes }
    };
    pass.found.iter().map(available).fold(0, usize::saturating_add)
}

/// One partition's part of the response. The partitions before it brought `bytes` of records.
fn read(call: &Call<'_>, wanted: &mut Wanted, limits: &FetchLimits, near: &[i32], bytes: usize) -> Look {
    let read_from = |partition: &Partition, wanted: &mut Wanted| {
        let mut state = partition.lock();
        if state.is_deleted() {
            return None;
        }
        wanted.seen_changes = state.changes();
        let read = read_records(call, &mut state, wanted, limits, near, bytes);
        Some(Look::Found(read.unwrap_or_else(|code| denied(call, &state, wanted, code))))
    };
    if let Some(name) = guarded_name(call, wanted)
        && let Err(code) = call.check(Operation::Read, Resource::Topic, &name)
    {
        return Look::Found(failed(wanted.index, code));
    }
    if let Some(partition) = wanted.partition.upgrade()
        && let Some(found) = read_from(&partition, wanted)
    {
        return found;
    }
    wanted.partition = Weak::new();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    match find(call, wanted) {
        Ok(partition) => {
            read_from(&partition, wanted).unwrap_or_else(|| Look::Missing(failed(wanted.index, unknown)))
        }
        // Kafka finds the partition that has this name now, and then notices that it has another id.
        Err(code) if code == ErrorCode::INCONSISTENT_TOPIC_ID => {
            Look::Found(PartitionData { aborted_transactions: None, ..failed(wanted.index, code) })
        }
        Err(code) => Look::Missing(failed(wanted.index, code)),
    }
}

/// The name of the topic for which the ACLs are to be asked; `None` without an authorizer, and if no topic has the id.
fn guarded_name(call: &Call<'_>, wanted: &Wanted) -> Option<Str> {
    if !call.parts.has_acls() {
        return None;
    }
    match (&wanted.topic, &wanted.found_name) {
        (TopicKey::Name(name), _) | (TopicKey::Id(_), Some(name)) => Some(name.clone()),
        (TopicKey::Id(id), None) => Some(call.parts.state().topic_by_id(*id)?.name.clone()),
    }
}

fn denied(call: &Call<'_>, state: &PartitionState, wanted: &Wanted, code: ErrorCode) -> PartitionData {
    // Kafka answers null here when the error came from the log, and an empty list when it came earlier.
    let mut data = PartitionData { aborted_transactions: None, ..failed(wanted.index, code) };
    let moved = matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
    if moved && call.envelope.version >= LEADERS_FROM {
        let placement = state.placement();
        data.current_leader = LeaderIdAndEpoch {
            leader_id: placement.leader.unwrap_or(-1),
            leader_epoch: placement.leader_epoch,
            ..Default::default()
        };
    }
    data
}

fn read_records(
    call: &Call<'_>,
    state: &mut PartitionState,
    wanted: &Wanted,
    limits: &FetchLimits,
    near: &[i32],
    bytes: usize,
) -> Result<PartitionData, ErrorCode> {
    let node = call.peer.node();
    match limits.replicas {
        Replicas::Leader => state.check_leader(node, wanted.current_epoch)?,
        Replicas::Any { .. } => state.check_replica(node, wanted.current_epoch)?,
    }
    let mut data = PartitionData {
        partition_index: wanted.index,
        high_watermark: state.high_watermark(),
        last_stable_offset: state.last_stable_offset(),
        log_start_offset: state.log_start(),
        aborted_transactions: (limits.isolation == Isolation::ReadCommitted).then(Vec::new),
        records: Some(Bytes::new()),
        ..Default::default()
    };
    if let Some(nearer) = state.nearer_replica(node, near, wanted.fetch_offset) {
        data.preferred_read_replica = nearer;
        return Ok(data);
    }
    if let Some(last_epoch) = wanted.last_fetched_epoch {
        let end = state.epochs().end_of(last_epoch, state.log_end());
        let (epoch, end_offset) = end.ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
        if end_offset < wanted.fetch_offset || epoch < last_epoch {
            data.diverging_epoch = EpochEndOffset { epoch, end_offset, ..Default::default() };
            return Ok(data);
        }
    }
    let bytes_max = limits.bytes_max.min(call.fetch_bytes_max);
    let room = bytes_max.saturating_sub(bytes);
    // The first batch of the response is sent whatever its size, or a consumer would never get past it (KIP-74).
    let bytes_max = wanted.bytes_max.min(room);
    let records = state.read(wanted.fetch_offset, limits.isolation, bytes_max, bytes == 0)?;
    if let Some(aborted) = &mut data.aborted_transactions {
        aborted.extend(aborted_in(state, wanted.fetch_offset, &records));
    }
    data.records = Some(records);
    Ok(data)
}

/// The aborted transactions that have records among these, which were read from `offset` on.
fn aborted_in(state: &PartitionState, offset: i64, records: &Bytes) -> Vec<AbortedTransaction> {
    if records.is_empty() || state.aborted(offset, i64::MAX).next().is_none() {
        return Vec::new();
    }
    let last = Batches::new(records.clone()).filter_map(Result::ok).last();
    let end = last.map_or(offset, |batch| batch.header.next_offset());
    let told = state.aborted(offset, end).map(|aborted| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
        ..Default::default()
    });
    told.collect()
}

fn find(call: &Call<'_>, wanted: &mut Wanted) -> Result<Arc<Partition>, ErrorCode> {
    let state = call.parts.state();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topic = match (&wanted.topic, &wanted.found_name) {
        (TopicKey::Name(name), _) => state.topic(name).ok_or(unknown)?,
        (TopicKey::Id(id), name) => match (state.topic_by_id(*id), name) {
            (Some(topic), _) => topic,
            (None, None) => return Err(ErrorCode::UNKNOWN_TOPIC_ID),
            // The topic had this name when it was found before, and is deleted. There may be another one of the name
            // now.
            (None, Some(name)) => {
                let other = state.topic(name).and_then(|topic| topic.partition(wanted.index));
                return Err(other.map_or(unknown, |_| ErrorCode::INCONSISTENT_TOPIC_ID));
            }
        },
    };
    wanted.found_name = Some(topic.name.clone());
    let partition = topic.partition(wanted.index).ok_or(unknown)?;
    wanted.partition = Arc::downgrade(partition);
    Ok(Arc::clone(partition))
}

fn failed(partition_index: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code,
        high_watermark: -1,
        records: Some(Bytes::new()),
        ..Default::default()
    }
}

/// Makes the response. The session remembers what its client is told, and the order for the next fetch.
fn respond_with(call: &Call<'_>, plan: &Plan, session: &mut Session, pass: Pass) -> FetchResponse {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut leaders = Vec::new();
    let found = pass.found.len();
    for (at, (turn, data)) in pass.found.into_iter().chain(pass.missing).enumerate() {
        let Some(wanted) = session.wanted.get_mut(&turn) else { continue };
        wanted.tell(&data);
        leaders.push(data.current_leader.leader_id);
        let (topic, topic_id) = match &wanted.topic {
            TopicKey::Name(name) => (name.clone(), Uuid::ZERO),
            TopicKey::Id(id) => (Str::default(), *id),
        };
        // In a session, partitions that brought records move to the end of the order, so that every partition gets its
        // turn when the limit of the response is short. A new session begins with the order of its first answer.
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let goes_last = if plan.answers.are_all() { at >= found } else { has_records };
        if goes_last {
            session.move_to_end(turn);
        }
        match responses.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(data),
            _ => {
                let partitions = vec![data];
                responses.push(FetchableTopicResponse { topic, topic_id, partitions, ..Default::default() });
            }
        }
    }
    if plan.answers == Answers::AllOfNew {
        call.parts.sessions(call.peer.node()).open(&plan.session, session, call.now.instant);
    }
    FetchResponse {
        session_id: session.id,
        responses,
        node_endpoints: endpoints(call, leaders),
        ..Default::default()
    }
}

/// The addresses of the leaders that the response names (KIP-951).
fn endpoints(call: &Call<'_>, mut leaders: Vec<i32>) -> Vec<NodeEndpoint> {
    leaders.retain(|&id| id >= 0);
    leaders.sort_unstable();
    leaders.dedup();
    if leaders.is_empty() || call.envelope.version < ENDPOINTS_FROM {
        return Vec::new();
    }
    let (state, listener) = (call.parts.state(), call.peer.listener());
    let nodes = leaders.into_iter().filter_map(|id| state.nodes.get(&id));
    nodes
        .map(|node| NodeEndpoint {
            node_id: node.id,
            host: node.endpoint(listener).host.clone(),
            port: i32::from(node.endpoint(listener).port),
            ..Default::default()
        })
        .collect()
}
