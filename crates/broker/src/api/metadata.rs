//! Metadata (3): nodes, topics, leaders. KIP-516 (topic ids), KIP-430 (authorized operations), KIP-487 (creating
//! topics by asking for them), KIP-1102 (top-level error).

use std::collections::BTreeSet;

use milena_messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::{Api, HEAVY_BYTES};
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
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

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
    let mut topics: Vec<MetadataResponseTopic> = match wanted {
        Some(wanted) => once_each(wanted).map(|topic| answer_for(&state, topic)).collect(),
        None => state.topics().map(|topic| describe(&state, topic)).collect(),
    };
    if request.include_topic_authorized_operations {
        // Kafka answers them for a name that does not exist, too, but not for an unknown id.
        let named = topics.iter_mut().filter(|topic| topic.name.is_some());
        named.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
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
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(state.cluster_id.clone()),
        controller_id: state.controller().unwrap_or(-1),
        topics,
        cluster_authorized_operations: if asked { CLUSTER_OPERATIONS } else { OPERATIONS_OMITTED },
        ..Default::default()
    }
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

fn answer_for(state: &State, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
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
