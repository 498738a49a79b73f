//! Answers about everything but records: versions, brokers, leaders, and the beginnings and ends of partitions.

use std::sync::atomic::Ordering;

use milena_messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use milena_messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use milena_messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use milena_messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{Str, Uuid};

use super::Sink;
use super::topics::Topic;

/// The APIs that are served, besides the floor's requests.
pub(super) const SERVED: [ApiKey; 15] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeCluster,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
];

pub(super) const HOST: Str = Str::from_static("127.0.0.1");
const CLUSTER: Str = Str::from_static("milena-bench-sink");

/// The value for authorized operations that were not asked for.
const OPERATIONS_OMITTED: i32 = i32::MIN;

pub(super) fn api_versions(_: &Sink, _: &ApiVersionsRequest) -> ApiVersionsResponse {
    ApiVersionsResponse { api_keys: SERVED.map(entry).to_vec(), ..Default::default() }
}

/// The answer to an unknown version of ApiVersions: the known versions, in version 0 (KIP-511).
pub(super) fn api_versions_downgrade() -> ApiVersionsResponse {
    let api_keys = vec![entry(ApiKey::ApiVersions)];
    ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION, api_keys, ..Default::default() }
}

fn entry(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    // librdkafka takes a missing Produce v0 for a broker without compression (KAFKA-18659).
    let min_version = if key == ApiKey::Produce { 0 } else { *versions.start() };
    ApiVersion { api_key: key.as_i16(), min_version, max_version: *versions.end(), ..Default::default() }
}

pub(super) fn metadata(sink: &Sink, request: &MetadataRequest) -> MetadataResponse {
    let brokers = sink.ports.iter().enumerate().map(|(node, port)| MetadataResponseBroker {
        node_id: node as i32,
        host: HOST,
        port: i32::from(*port),
        ..Default::default()
    });
    let topics = match &request.topics {
        None => sink.topics.all().iter().map(describe).collect(),
        Some(wanted) => wanted
            .iter()
            .map(|wanted| {
                let name = wanted.name.clone().unwrap_or_default();
                sink.topics.find(&name, wanted.topic_id).map_or_else(
                    || MetadataResponseTopic {
                        error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        name: Some(name.clone()),
                        topic_id: wanted.topic_id,
                        topic_authorized_operations: OPERATIONS_OMITTED,
                        ..Default::default()
                    },
                    describe,
                )
            })
            .collect(),
    };
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(CLUSTER),
        controller_id: 0,
        topics,
        cluster_authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partition = |(index, leader)| MetadataResponsePartition {
        partition_index: index,
        leader_id: leader,
        leader_epoch: 0,
        replica_nodes: vec![leader],
        isr_nodes: vec![leader],
        ..Default::default()
    };
    let leaders = topic.partitions.iter().map(|partition| partition.leader);
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        partitions: (0..).zip(leaders).map(partition).collect(),
        topic_authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

pub(super) fn describe_cluster(sink: &Sink, _: &DescribeClusterRequest) -> DescribeClusterResponse {
    let brokers = sink.ports.iter().enumerate().map(|(node, port)| DescribeClusterBroker {
        broker_id: node as i32,
        host: HOST,
        port: i32::from(*port),
        ..Default::default()
    });
    DescribeClusterResponse {
        cluster_id: CLUSTER,
        controller_id: 0,
        brokers: brokers.collect(),
        cluster_authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

/// Node 0 coordinates everything.
pub(super) fn find_coordinator(sink: &Sink, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let port = i32::from(sink.ports[0]);
    let coordinator =
        |key: &Str| Coordinator { key: key.clone(), node_id: 0, host: HOST, port, ..Default::default() };
    if request.coordinator_keys.is_empty() {
        return FindCoordinatorResponse { node_id: 0, host: HOST, port, ..Default::default() };
    }
    // From version 4 on, a request is about several keys.
    let coordinators = request.coordinator_keys.iter().map(coordinator).collect();
    FindCoordinatorResponse { coordinators, ..Default::default() }
}

pub(super) fn init_producer_id(sink: &Sink, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        let error_code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return InitProducerIdResponse { error_code, ..Default::default() };
    }
    let producer_id = sink.producers.fetch_add(1, Ordering::Relaxed);
    InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() }
}

pub(super) fn list_offsets(sink: &Sink, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|wanted| {
        let topic = sink.topics.find(&wanted.name, Uuid::ZERO);
        let partitions = wanted.partitions.iter().map(|wanted| list_offset(topic, wanted));
        ListOffsetsTopicResponse {
            name: wanted.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

/// −1 asks for the end. −2, and every time in the past, asks for the start.
fn list_offset(topic: Option<&Topic>, wanted: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let partition_index = wanted.partition_index;
    let partition =
        topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).and_then(|topic| topic.partition(partition_index));
    match partition {
        Ok(partition) => ListOffsetsPartitionResponse {
            partition_index,
            offset: if wanted.timestamp == -1 { partition.log().end } else { partition.start() },
            ..Default::default()
        },
        Err(error_code) => ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() },
    }
}

/// There is only one leader epoch.
pub(super) fn offset_for_leader_epoch(
    sink: &Sink,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|wanted| {
        let topic = sink.topics.find(&wanted.topic, Uuid::ZERO);
        let partitions = wanted.partitions.iter().map(|wanted| {
            let end = topic.and_then(|topic| topic.partition(wanted.partition).ok());
            EpochEndOffset {
                partition: wanted.partition,
                leader_epoch: 0,
                end_offset: end.map_or(-1, |partition| partition.log().end),
                ..Default::default()
            }
        });
        OffsetForLeaderTopicResult {
            topic: wanted.topic.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}
