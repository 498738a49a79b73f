//! Metadata (3): nodes, topics, leaders. KIP-516 (topic ids), KIP-430 (authorized operations), KIP-487 (creating
//! topics by asking for them), KIP-1102 (top-level error).

use std::collections::BTreeSet;

use milena_messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;

use super::row::{Api, HEAVY_BYTES};
use crate::acls::{CLUSTER, Operation, Resource};
use crate::call::Call;
use crate::configs::Overrides;
use crate::partition::Partition;
use crate::state::State;
use crate::topic::{self, Topic};

/// The operations on a topic that a cluster without authorization allows, as bits of Kafka's `AclOperation`: read,
/// write, create, delete, alter, describe, describe configs, alter configs.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// The same for the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent
/// write.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The client did not ask for the operations.
pub(super) const OPERATIONS_OMITTED: i32 = i32::MIN;

pub(super) const API: Api = Api {
    is_heavy: |parts, bytes| bytes > HEAVY_BYTES || parts.state().partition_count() > HEAVY_PARTITIONS,
    is_repeatable: true,
    ..Api::new(ApiKey::Metadata, |call, reader| call.answer(reader, handle))
};

/// Describing a cluster with more partitions takes milliseconds.
const HEAVY_PARTITIONS: usize = 2000;

fn handle(call: &Call<'_>, request: MetadataRequest) -> MetadataResponse {
    // In version 0 an empty list asks for all topics; later null does.
    let wanted = request.topics.filter(|topics| call.envelope.version > 0 || !topics.is_empty());
    if request.allow_auto_topic_creation {
        create_missing(call, wanted.as_deref().unwrap_or_default());
    }
    let state = call.parts.state();
    let is_visible = |name: &str| call.may(Operation::Describe, Resource::Topic, name);
    let mut topics: Vec<MetadataResponseTopic> = match wanted {
        Some(wanted) => {
            let answer = |topic| answer_for(call, &state, topic, request.allow_auto_topic_creation);
            once_each(wanted).map(answer).collect()
        }
        // A client does not learn of topics that it may not see.
        None => {
            let visible = state.topics().filter(|topic| is_visible(&topic.name));
            visible.map(|topic| describe(&state, topic)).collect()
        }
    };
    if request.include_topic_authorized_operations {
        // Kafka answers them for a name that does not exist, too, but not for an unknown id.
        for topic in topics.iter_mut().filter(|topic| topic.error_code != TOPIC_DENIED) {
            if let Some(name) = &topic.name {
                topic.topic_authorized_operations = call.allowed(TOPIC_OPERATIONS, Resource::Topic, name);
            }
        }
    }
    let listener = call.peer.listener();
    let brokers = state.live_nodes().map(|node| MetadataResponseBroker {
        node_id: node.id,
        host: node.endpoint(listener).host.clone(),
        port: i32::from(node.endpoint(listener).port),
        rack: node.rack.clone(),
        ..Default::default()
    });
    let asked = request.include_cluster_authorized_operations;
    let cluster_authorized_operations = if asked { cluster_operations(call) } else { OPERATIONS_OMITTED };
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(state.cluster_id.clone()),
        controller_id: state.controller().unwrap_or(-1),
        topics,
        cluster_authorized_operations,
        ..Default::default()
    }
}

const TOPIC_DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

/// The operations on the cluster that the client may do; none if it may not describe the cluster.
pub(super) fn cluster_operations(call: &Call<'_>) -> i32 {
    match call.check_cluster(Operation::Describe) {
        Ok(()) => call.allowed(CLUSTER_OPERATIONS, Resource::Cluster, CLUSTER),
        Err(_) => 0,
    }
}

/// Whether the client may create a topic of this name.
fn may_create(call: &Call<'_>, name: &str) -> bool {
    call.check_cluster(Operation::Create).is_ok() || call.may(Operation::Create, Resource::Topic, name)
}

/// The most topics that one request creates: other requests wait meanwhile. A client that asks for more topics asks
/// again, as it does for every topic that it does not find.
const CREATED_MAX: usize = 100;

/// Creates the topics that are asked for by name and do not exist (`auto.create.topics.enable`).
fn create_missing(call: &Call<'_>, wanted: &[MetadataRequestTopic]) {
    let settings = call.parts.settings();
    if !settings.auto_create_topics {
        return;
    }
    let mut created = 0;
    for name in wanted.iter().filter_map(|topic| topic.name.as_ref()) {
        if call.parts.state().topic(name).is_some() || topic::check_name(name).is_err() {
            continue;
        }
        if !call.may(Operation::Describe, Resource::Topic, name) || !may_create(call, name) {
            continue;
        }
        let mut state = call.parts.state_mut();
        // Another request may have created it since it was looked up above.
        let is_taken = state.collision(name).is_some();
        if is_taken || !state.has_room(settings.partitions_default as usize) {
            continue;
        }
        if created == CREATED_MAX {
            return;
        }
        created += 1;
        let replication = (settings.replication_default.max(1) as usize).min(state.live_nodes().count());
        let assignment = state.assignment(settings.partitions_default, replication);
        if let Err(error) = state.create_topic(name, Overrides::new(), assignment) {
            tracing::error!(topic = %name, %error, "cannot create a topic");
        }
    }
}

/// A topic that the request names twice is answered once.
fn once_each(wanted: Vec<MetadataRequestTopic>) -> impl Iterator<Item = MetadataRequestTopic> {
    let mut seen = BTreeSet::new();
    wanted.into_iter().filter(move |topic| seen.insert((topic.name.clone(), topic.topic_id)))
}

fn answer_for(
    call: &Call<'_>,
    state: &State,
    wanted: MetadataRequestTopic,
    creates: bool,
) -> MetadataResponseTopic {
    let by_id = state.topic_by_id(wanted.topic_id).filter(|_| wanted.name.is_none());
    if let Some(name) = wanted.name.as_ref().or(by_id.map(|topic| &topic.name)) {
        let is_visible = call.may(Operation::Describe, Resource::Topic, name);
        let is_missing = state.topic(name).is_none() && creates && state.settings().auto_create_topics;
        if !is_visible || is_missing && !may_create(call, name) {
            // An id does not tell the name, and a name does not tell the id.
            return MetadataResponseTopic {
                error_code: TOPIC_DENIED,
                topic_id: if wanted.name.is_some() { Uuid::ZERO } else { wanted.topic_id },
                name: wanted.name,
                topic_authorized_operations: OPERATIONS_OMITTED,
                ..Default::default()
            };
        }
    }
    let (found, error_code) = match &wanted.name {
        Some(name) if topic::check_name(name).is_err() => (None, ErrorCode::INVALID_TOPIC_EXCEPTION),
        Some(name) => (state.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => (state.topic_by_id(wanted.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
    };
    match found {
        Some(topic) => describe(state, topic),
        None => MetadataResponseTopic {
            error_code,
            name: wanted.name,
            topic_id: wanted.topic_id,
            topic_authorized_operations: OPERATIONS_OMITTED,
            ..Default::default()
        },
    }
}

fn describe(state: &State, topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        partitions: topic.partitions.iter().map(|partition| describe_partition(state, partition)).collect(),
        topic_authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

fn describe_partition(state: &State, partition: &Partition) -> MetadataResponsePartition {
    let placement = partition.lock().placement().clone();
    MetadataResponsePartition {
        error_code: placement.leader.map_or(ErrorCode::LEADER_NOT_AVAILABLE, |_| ErrorCode::NONE),
        partition_index: partition.index,
        leader_id: placement.leader.unwrap_or(-1),
        leader_epoch: placement.leader_epoch,
        offline_replicas: state.offline(&placement.replicas),
        replica_nodes: placement.replicas,
        isr_nodes: placement.isr,
        ..Default::default()
    }
}
