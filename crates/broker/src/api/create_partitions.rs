//! CreatePartitions (37): more partitions for topics. KIP-195.

use std::collections::BTreeMap;

use milena_messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use milena_messages::{ApiKey, ErrorCode};

use super::create_topics::{Denial, check_replicas, check_room};
use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::state::State;

pub(super) const API: Api = Api::new(ApiKey::CreatePartitions, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut state = call.parts.state_mut();
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.as_str()).or_default() += 1;
    }
    let results = request.topics.iter().filter_map(|wanted| {
        // As in Kafka, a topic that is named twice is refused and answered once.
        let outcome = match named.remove(wanted.name.as_str())? {
            _ if !call.may(Operation::Alter, Resource::Topic, &wanted.name) => {
                let reason = "The topic authorization is failed.".to_owned();
                Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, reason))
            }
            1 => add(&mut state, wanted, request.validate_only),
            _ => Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned())),
        };
        let (error_code, error_message) = match outcome {
            Ok(()) => (ErrorCode::NONE, None),
            Err((code, reason)) => (code, Some(reason.into())),
        };
        let name = wanted.name.clone();
        Some(CreatePartitionsTopicResult { name, error_code, error_message, ..Default::default() })
    });
    CreatePartitionsResponse { results: results.collect(), ..Default::default() }
}

fn add(state: &mut State, wanted: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Denial> {
    let Some(topic) = state.topic(&wanted.name).cloned() else {
        return Err((
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic.".to_owned(),
        ));
    };
    let current = topic.partitions.len() as i32;
    if wanted.count == current {
        let reason = format!("Topic already has {current} partition(s).");
        return Err((ErrorCode::INVALID_PARTITIONS, reason));
    }
    if wanted.count < current {
        let reason = format!(
            "The topic {} currently has {current} partition(s); {} would not be an increase.",
            wanted.name, wanted.count
        );
        return Err((ErrorCode::INVALID_PARTITIONS, reason));
    }
    let added = wanted.count - current;
    check_room(state, added as usize)?;
    let replication = topic.partitions[0].lock().placement().replicas.len();
    let assignment = match &wanted.assignments {
        Some(assignments) if assignments.len() != added as usize => {
            let reason = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason));
        }
        Some(assignments) => {
            let assignment: Vec<Vec<i32>> =
                assignments.iter().map(|assignment| assignment.broker_ids.clone()).collect();
            check_replicas(state, &assignment, Some(replication))?;
            assignment
        }
        None => {
            let nodes = state.live_nodes().count();
            state.assignment(added, replication.min(nodes))
        }
    };
    if validate_only {
        return Ok(());
    }
    state
        .add_partitions(&wanted.name, assignment)
        .map_err(|error| (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))
}
