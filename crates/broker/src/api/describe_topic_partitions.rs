//! DescribeTopicPartitions (75): topics page by page, with eligible leader replicas. KIP-966.

use std::sync::Arc;

use milena_messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponseCursor,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::metadata::{OPERATIONS_OMITTED, TOPIC_OPERATIONS};
use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::partition::Partition;
use crate::state::State;
use crate::topic::{self, Topic};

/// Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeTopicPartitions, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let state = call.parts.state();
    let mut room = PARTITIONS_MAX.min(request.response_partition_limit.max(1) as usize);
    let start = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
    let mut names: Vec<Str> = match request.topics.as_slice() {
        [] => {
            let visible = |topic: &&Arc<Topic>| call.may(Operation::Describe, Resource::Topic, &topic.name);
            state.topics_from(start).filter(visible).map(|topic| topic.name.clone()).collect()
        }
        asked => asked.iter().map(|topic| topic.name.clone()).collect(),
    };
    names.retain(|name| name.as_str() >= start);
    names.sort_unstable();
    names.dedup();
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let first = match &request.cursor {
            Some(cursor) if cursor.topic_name == name => cursor.partition_index.max(0) as usize,
            _ => 0,
        };
        if room == 0 {
            response.next_cursor = Some(cursor(name, 0));
            break;
        }
        let described = describe(call, &state, &name, first, room);
        room -= described.partitions.len();
        let next = first + described.partitions.len();
        let is_cut = state.topic(&name).is_some_and(|topic| next < topic.partitions.len());
        response.topics.push(described);
        if is_cut {
            response.next_cursor = Some(cursor(name, next as i32));
            break;
        }
    }
    response
}

fn cursor(topic_name: Str, partition_index: i32) -> DescribeTopicPartitionsResponseCursor {
    DescribeTopicPartitionsResponseCursor { topic_name, partition_index, ..Default::default() }
}

fn describe(
    call: &Call<'_>,
    state: &State,
    name: &Str,
    first: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic {
    if let Err(error_code) = call.check(Operation::Describe, Resource::Topic, name) {
        return DescribeTopicPartitionsResponseTopic {
            error_code,
            name: Some(name.clone()),
            topic_authorized_operations: OPERATIONS_OMITTED,
            ..Default::default()
        };
    }
    let topic_authorized_operations = call.allowed(TOPIC_OPERATIONS, Resource::Topic, name);
    let Some(topic) = state.topic(name) else {
        let invalid = topic::check_name(name).is_err();
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        return DescribeTopicPartitionsResponseTopic {
            error_code: if invalid { ErrorCode::INVALID_TOPIC_EXCEPTION } else { unknown },
            name: Some(name.clone()),
            topic_authorized_operations,
            ..Default::default()
        };
    };
    let partitions = topic.partitions.iter().skip(first).take(count);
    DescribeTopicPartitionsResponseTopic {
        name: Some(name.clone()),
        topic_id: topic.id,
        partitions: partitions.map(|partition| describe_partition(state, partition)).collect(),
        topic_authorized_operations,
        ..Default::default()
    }
}

fn describe_partition(state: &State, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let placement = partition.lock().placement().clone();
    DescribeTopicPartitionsResponsePartition {
        error_code: placement.leader.map_or(ErrorCode::LEADER_NOT_AVAILABLE, |_| ErrorCode::NONE),
        partition_index: partition.index,
        leader_id: placement.leader.unwrap_or(-1),
        leader_epoch: placement.leader_epoch,
        offline_replicas: state.offline(&placement.replicas),
        replica_nodes: placement.replicas,
        isr_nodes: placement.isr,
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..Default::default()
    }
}
