//! DescribeLogDirs (35): the directory of a node and the size of each replica there. KIP-113, KIP-827 (sizes of volumes).
//!
//! A node here has one directory. The standard library does not tell how large a volume is, so that stays unknown (-1), as it does at
//! brokers before Kafka 3.3.

use std::collections::BTreeMap;

use milena_messages::ApiKey;
use milena_messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use milena_wire::Str;

use super::row::{Api, HEAVY_BYTES};
use crate::acls::{CLUSTER, Operation, Resource};
use crate::call::Call;
use crate::topic::Topic;

pub(super) const API: Api = Api {
    is_heavy: |parts, bytes| bytes > HEAVY_BYTES || parts.state().partition_count() > HEAVY_PARTITIONS,
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeLogDirs, |call, reader| call.answer(reader, handle))
};

/// Adding up the logs of more partitions takes milliseconds.
const HEAVY_PARTITIONS: usize = 1000;

/// The directory of a node whose logs are in memory.
const IN_MEMORY: &str = "memory";

fn handle(call: &Call<'_>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    if let Err(error_code) = call.check(Operation::Describe, Resource::Cluster, CLUSTER) {
        // Before version 3 the answer has no code, and Kafka's is empty then.
        return DescribeLogDirsResponse { error_code, ..Default::default() };
    }
    let state = call.parts.state();
    let node = call.peer.node();
    let topics = match request.topics {
        None => state.topics().filter_map(|topic| describe(topic, node, |_| true)).collect(),
        Some(asked) => {
            let known = |(name, wanted): (Str, Vec<i32>)| {
                describe(state.topic(&name)?, node, |index| wanted.binary_search(&index).is_ok())
            };
            by_topic(asked).into_iter().filter_map(known).collect()
        }
    };
    let log_dir = state.directory().map_or_else(|| Str::from_static(IN_MEMORY), Str::from);
    let result =
        DescribeLogDirsResult { log_dir, topics, total_bytes: -1, usable_bytes: -1, ..Default::default() };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

/// The partitions that are asked for, in order and each once, however often a request names them.
fn by_topic(asked: Vec<DescribableLogDirTopic>) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for topic in asked {
        topics.entry(topic.topic).or_default().extend(topic.partitions);
    }
    for partitions in topics.values_mut() {
        partitions.sort_unstable();
    }
    topics
}

/// The replicas that the node has of a topic; none if it has none.
fn describe(topic: &Topic, node: i32, is_wanted: impl Fn(i32) -> bool) -> Option<DescribeLogDirsTopic> {
    let mut partitions = Vec::new();
    for partition in topic.partitions.iter().filter(|partition| is_wanted(partition.index)) {
        let state = partition.lock();
        if state.check_held(node).is_err() {
            continue;
        }
        partitions.push(DescribeLogDirsPartition {
            partition_index: partition.index,
            partition_size: i64::try_from(state.log_bytes()).unwrap_or(i64::MAX),
            // All nodes share one log, so that no replica is behind.
            offset_lag: 0,
            is_future_key: false,
            ..Default::default()
        });
    }
    (!partitions.is_empty()).then(|| DescribeLogDirsTopic {
        name: topic.name.clone(),
        partitions,
        ..Default::default()
    })
}
