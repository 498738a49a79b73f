//! CreateTopics (19). KIP-464 (default partitions and replication), KIP-525 (configs in the response), KIP-516 (ids).

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::describe_configs::{topic_chain, value_of};
use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::configs::{self, Overrides};
use crate::state::{PARTITIONS_MAX, State};
use crate::topic::{self, Topic};

/// An error code and a sentence, as admin responses have them.
pub(super) type Denial = (ErrorCode, String);

/// A topic that may be created.
struct Plan {
    overrides: Overrides,
    /// The replicas of each partition, the preferred leader first.
    assignment: Vec<Vec<i32>>,
}

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::CreateTopics, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.as_str()).or_default() += 1;
    }
    let may_create_all = call.check_cluster(Operation::Create).is_ok();
    let mut state = call.parts.state_mut();
    let mut results = Vec::with_capacity(named.len());
    let mut prepared = Vec::new();
    for wanted in &request.topics {
        // As in Kafka, a topic that is named twice is refused and answered once.
        let created = match named.remove(wanted.name.as_str()) {
            None => continue,
            _ if !may_create_all && !call.may(Operation::Create, Resource::Topic, &wanted.name) => {
                Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".to_owned()))
            }
            Some(1) if request.validate_only => {
                plan(&mut state, wanted).map(|plan| described(&state, wanted, &plan))
            }
            Some(1) => create(&mut state, wanted, &mut prepared),
            Some(_) => Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned())),
        };
        let mut result = created.unwrap_or_else(|denial| denied(&wanted.name, denial));
        // The configs are a secret of their own.
        if result.error_code.is_none()
            && let Err(code) = call.check(Operation::DescribeConfigs, Resource::Topic, &wanted.name)
        {
            (result.topic_config_error_code, result.configs) = (code, None);
            (result.num_partitions, result.replication_factor) = (-1, -1);
        }
        results.push(result);
    }
    if let Err(error) = state.save_prepared(&prepared) {
        let reason = error.to_string();
        for result in results.iter_mut().filter(|result| result.error_code.is_none()) {
            *result = denied(&result.name, (ErrorCode::KAFKA_STORAGE_ERROR, reason.clone()));
        }
    }
    CreateTopicsResponse { topics: results, ..Default::default() }
}

/// Creates a topic but does not save it: one write saves all topics of a request.
fn create(
    state: &mut State,
    wanted: &CreatableTopic,
    prepared: &mut Vec<Arc<Topic>>,
) -> Result<CreatableTopicResult, Denial> {
    let plan = plan(state, wanted)?;
    let mut result = described(state, wanted, &plan);
    let topic = state.prepare_topic(&wanted.name, plan.overrides, plan.assignment);
    let topic = topic.map_err(|error| (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))?;
    result.topic_id = topic.id;
    prepared.push(topic);
    Ok(result)
}

/// The answer for a topic as it is planned, without its id.
fn described(state: &State, wanted: &CreatableTopic, plan: &Plan) -> CreatableTopicResult {
    CreatableTopicResult {
        name: wanted.name.clone(),
        num_partitions: plan.assignment.len() as i32,
        replication_factor: plan.assignment[0].len() as i16,
        error_message: None,
        configs: Some(describe(state, &plan.overrides)),
        ..Default::default()
    }
}

fn plan(state: &mut State, wanted: &CreatableTopic) -> Result<Plan, Denial> {
    topic::check_name(&wanted.name).map_err(|reason| (ErrorCode::INVALID_TOPIC_EXCEPTION, reason))?;
    if state.topic(&wanted.name).is_some() {
        return Err((ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{}' already exists.", wanted.name)));
    }
    if let Some(other) = state.collision(&wanted.name) {
        let reason = format!("Topic '{}' collides with existing topic: {other}", wanted.name);
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, reason));
    }
    let overrides = overrides(wanted).map_err(|reason| (ErrorCode::INVALID_CONFIG, reason))?;
    let assignment =
        if wanted.assignments.is_empty() { assign(state, wanted)? } else { assigned(state, wanted)? };
    Ok(Plan { overrides, assignment })
}

/// The configs that the client wants, as they are kept.
fn overrides(wanted: &CreatableTopic) -> Result<Overrides, String> {
    let mut overrides = Overrides::new();
    for config in &wanted.configs {
        let Some(value) = &config.value else {
            return Err(format!("Null value not supported for topic configs: {}", config.name));
        };
        overrides.insert(config.name.to_string(), value.to_string());
    }
    configs::check(&overrides)
}

/// The broker's own assignment. −1 in the request asks for the broker's defaults.
fn assign(state: &mut State, wanted: &CreatableTopic) -> Result<Vec<Vec<i32>>, Denial> {
    let settings = state.settings();
    let or_default = |asked: i32, default: i32| if asked == -1 { default } else { asked };
    let partitions = or_default(wanted.num_partitions, settings.partitions_default);
    let replication =
        or_default(i32::from(wanted.replication_factor), i32::from(settings.replication_default));
    if partitions < 1 {
        let reason = "Number of partitions was set to an invalid non-positive value.";
        return Err((ErrorCode::INVALID_PARTITIONS, reason.to_owned()));
    }
    check_room(state, partitions as usize)?;
    if replication < 1 {
        let reason = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, reason.to_owned()));
    }
    let nodes = state.live_nodes().count();
    if replication as usize > nodes {
        let reason = format!(
            "Unable to replicate the partition {replication} time(s): The target replication factor of \
             {replication} cannot be reached because only {nodes} broker(s) are registered."
        );
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, reason));
    }
    Ok(state.assignment(partitions, replication as usize))
}

/// The client's assignment, which must have every partition from 0 on.
fn assigned(state: &State, wanted: &CreatableTopic) -> Result<Vec<Vec<i32>>, Denial> {
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        let reason = "A manual partition assignment was specified, but numPartitions or replicationFactor was \
                      not set to -1.";
        return Err((ErrorCode::INVALID_REQUEST, reason.to_owned()));
    }
    let mut partitions: Vec<&CreatableReplicaAssignment> = wanted.assignments.iter().collect();
    partitions.sort_by_key(|partition| partition.partition_index);
    if partitions.iter().zip(0..).any(|(partition, index)| partition.partition_index != index) {
        let reason = "partitions should be a consecutive 0-based integer sequence";
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason.to_owned()));
    }
    let assignment: Vec<Vec<i32>> =
        partitions.into_iter().map(|partition| partition.broker_ids.clone()).collect();
    check_room(state, assignment.len())?;
    check_replicas(state, &assignment, None)?;
    Ok(assignment)
}

/// Refuses more partitions than the cluster may have.
pub(super) fn check_room(state: &State, count: usize) -> Result<(), Denial> {
    if state.has_room(count) {
        return Ok(());
    }
    let reason = format!("This cluster can have at most {PARTITIONS_MAX} partitions.");
    Err((ErrorCode::INVALID_PARTITIONS, reason))
}

/// Checks a client's assignment. Every partition needs the same number of replicas, as many as the topic's other partitions have
/// if there are some, at least one, on different nodes that exist, and one of them must be up.
pub(super) fn check_replicas(
    state: &State,
    assignment: &[Vec<i32>],
    of_others: Option<usize>,
) -> Result<(), Denial> {
    let count = of_others.or_else(|| assignment.first().map(Vec::len)).unwrap_or_default();
    let check = |replicas: &[i32]| {
        if replicas.is_empty() {
            return Err("The manual partition assignment includes an empty replica list.".to_owned());
        }
        for (index, node) in replicas.iter().enumerate() {
            if !state.nodes.contains_key(node) {
                return Err(format!(
                    "The manual partition assignment includes broker {node}, but no such broker is registered."
                ));
            }
            if replicas[..index].contains(node) {
                return Err(format!(
                    "The manual partition assignment includes the broker {node} more than once."
                ));
            }
        }
        if replicas.len() != count {
            return Err(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
                 previous partitions, which have {count} replica(s).",
                replicas.len()
            ));
        }
        if state.offline(replicas).len() == replicas.len() {
            return Err(
                "All brokers specified in the manual partition assignment are fenced or in controlled \
                        shutdown."
                    .to_owned(),
            );
        }
        Ok(())
    };
    let checked = assignment.iter().try_for_each(|replicas| check(replicas));
    checked.map_err(|reason| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason))
}

/// Every config that the new topic has (KIP-525).
fn describe(state: &State, overrides: &Overrides) -> Vec<CreatableTopicConfigs> {
    let effective = |definition: &'static configs::Definition| {
        let chain = topic_chain(state.configs(), definition, overrides);
        let (config_source, value) = value_of(&chain, definition.default);
        CreatableTopicConfigs {
            name: Str::from_static(definition.name),
            value: Some(value),
            config_source,
            ..Default::default()
        }
    };
    configs::TOPIC.iter().map(effective).collect()
}

fn denied(name: &Str, (error_code, message): Denial) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.clone(),
        error_code,
        error_message: Some(message.into()),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..Default::default()
    }
}
