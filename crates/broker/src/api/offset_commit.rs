//! OffsetCommit (8): a group's offsets are committed. KIP-320 (leader epochs), KIP-848 (topic ids in version 10).

use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::groups::offsets::Commit;

pub(super) const API: Api = Api::new(ApiKey::OffsetCommit, |call, reader| call.answer(reader, handle));

/// From this version on topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;

fn handle(call: &Call<'_>, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    // The offsets of partitions that exist, and where their codes go.
    let (mut commits, mut places) = (Vec::new(), Vec::new());
    let denied = call.check(Operation::Read, Resource::Group, &request.group_id).err();
    let state = call.parts.state();
    for topic in std::mem::take(&mut request.topics) {
        let by_id = call.envelope.version >= TOPIC_IDS_FROM;
        let (found, unknown) = match by_id {
            true => (state.topic_by_id(topic.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
            false => (state.topic(&topic.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let name = found.map_or(&topic.name, |found| &found.name);
        // An id that no topic has tells nothing.
        let is_void = by_id && found.is_none();
        let allowed = if is_void { Ok(()) } else { call.check(Operation::Read, Resource::Topic, name) };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let partition_index = partition.partition_index;
            let exists = found.map(|topic| topic.partition(partition_index).is_some());
            let exists = exists.filter(|_| allowed.is_ok());
            let error_code = match exists {
                None if allowed.is_err() => Resource::Topic.denial(),
                None => unknown,
                Some(false) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(true) => ErrorCode::NONE,
            };
            if let (Some(topic), Some(true)) = (found, exists) {
                places.push((topics.len(), partitions.len()));
                commits.push(Commit {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partition: partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata,
                });
            }
            partitions.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
                ..Default::default()
            });
        }
        let name = if by_id { Str::default() } else { topic.name };
        topics.push(OffsetCommitResponseTopic {
            name,
            topic_id: topic.topic_id,
            partitions,
            ..Default::default()
        });
    }
    drop(state);
    if let Some(code) = denied {
        let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| partition.error_code = code);
        return OffsetCommitResponse { topics, ..Default::default() };
    }
    if commits.is_empty() {
        return OffsetCommitResponse { topics, ..Default::default() };
    }
    let committed = call.check_coordinator(&request.group_id).and_then(|()| {
        call.parts.groups(call.now).commit(&request, call.envelope.version, commits, call.now)
    });
    for (index, (topic, partition)) in places.into_iter().enumerate() {
        topics[topic].partitions[partition].error_code = match &committed {
            Ok(codes) => codes[index],
            Err(code) => *code,
        };
    }
    OffsetCommitResponse { topics, ..Default::default() }
}
