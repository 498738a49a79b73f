//! Produce (0). KIP-98 (idempotence), KIP-467 (why a batch was refused), KIP-951 (who leads instead), KIP-516 (topic
//! ids), KIP-110 (zstd).
//!
//! All replicas are one log, so acks=all is answered as soon as acks=1 is.

use std::sync::Arc;

use milena_messages::ErrorCode;
use milena_messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use milena_wire::Str;

use super::{Call, Outcome};
use crate::check::{self, Rejected, Rules};
use crate::machine::Refused;
use crate::partition::Appended;
use crate::topic::Topic;

/// The first version with a place for who leads instead.
const LEADERS_FROM: i16 = 10;

pub(super) fn respond(call: &Call<'_>, request: &ProduceRequest) -> Result<Outcome, Refused> {
    let denied = deny_all(request);
    let topics = request.topic_data.iter().map(|data| append_topic(call, data, denied));
    let mut response = ProduceResponse { responses: topics.collect(), ..Default::default() };
    if request.acks == 0 {
        // Nobody waits for an answer; an error is told by hanging up, so that the client looks for the leader again.
        let mut codes = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        return match codes.find(|partition| !partition.error_code.is_none()) {
            Some(partition) => Err(Refused::unacknowledged(partition.error_code)),
            None => Ok(Outcome::Silent),
        };
    }
    response.node_endpoints = leaders(call, &response);
    Ok(Outcome::Answered(call.envelope.answer(&response)?))
}

/// What is wrong with the request as a whole.
fn deny_all(request: &ProduceRequest) -> Option<ErrorCode> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    request.transactional_id.as_ref().map(|_| ErrorCode::INVALID_TXN_STATE)
}

fn append_topic(call: &Call<'_>, data: &TopicProduceData, denied: Option<ErrorCode>) -> TopicProduceResponse {
    let (topic, unknown) = if call.envelope.version >= 13 {
        (call.machine.state().topic_by_id(data.topic_id).cloned(), ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        (call.machine.state().topic(&data.name).cloned(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    let append = |data: &PartitionProduceData| match (&topic, denied) {
        (_, Some(code)) => failed(data.index, code, None),
        (None, None) => failed(data.index, unknown, None),
        (Some(topic), None) => append(call, topic, data),
    };
    TopicProduceResponse {
        name: data.name.clone(),
        topic_id: data.topic_id,
        partition_responses: data.partition_data.iter().map(append).collect(),
        ..Default::default()
    }
}

fn append(call: &Call<'_>, topic: &Arc<Topic>, data: &PartitionProduceData) -> PartitionProduceResponse {
    let Some(partition) = topic.partition(data.index) else {
        return failed(data.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
    };
    let now_ms = call.now.unix_ms;
    let append_time = topic.rules.stamps_append_time.then_some(now_ms);
    let rules = Rules {
        batch_bytes_max: topic.rules.batch_bytes_max,
        timestamp_max: match append_time {
            Some(_) => i64::MAX,
            None => now_ms.saturating_add(topic.rules.timestamp_after_max_ms),
        },
        zstd: call.envelope.version >= 7,
    };
    // The checksum is the expensive part, and needs no lock.
    let batch = match check::check(data.records.as_ref(), rules) {
        Ok(batch) => batch,
        Err(Rejected { code, message, is_of_log }) => {
            let log_start_offset = if is_of_log { partition.lock().log_start() } else { -1 };
            let failed = failed(data.index, code, Some(message.as_ref().into()));
            return PartitionProduceResponse { log_start_offset, ..failed };
        }
    };
    let mut state = partition.lock();
    let appended =
        state.check_leader(call.envelope.node, None).and_then(|()| state.append(&batch, append_time));
    match appended {
        Ok(Appended { base_offset, append_time }) => PartitionProduceResponse {
            index: data.index,
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
            PartitionProduceResponse { current_leader: leader, ..failed(data.index, code, None) }
        }
        Err(code @ (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::INVALID_PRODUCER_EPOCH)) => {
            let log_start_offset = state.log_start();
            PartitionProduceResponse { log_start_offset, ..failed(data.index, code, None) }
        }
        Err(code) => failed(data.index, code, None),
    }
}

fn failed(index: i32, error_code: ErrorCode, error_message: Option<Str>) -> PartitionProduceResponse {
    PartitionProduceResponse { index, error_code, error_message, base_offset: -1, ..Default::default() }
}

/// Where the leaders are that the response names (KIP-951).
fn leaders(call: &Call<'_>, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut ids: Vec<i32> = partitions.map(|partition| partition.current_leader.leader_id).collect();
    ids.retain(|&id| id >= 0);
    ids.sort_unstable();
    ids.dedup();
    let state = call.machine.state();
    let nodes = ids.into_iter().filter_map(|id| state.nodes.get(&id));
    nodes
        .map(|node| NodeEndpoint {
            node_id: node.id,
            host: node.host.clone(),
            port: i32::from(node.port),
            ..Default::default()
        })
        .collect()
}
