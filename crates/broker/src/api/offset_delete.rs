//! OffsetDelete (47): committed offsets of topics that a group does not subscribe to are deleted. KIP-496.

use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api::new(ApiKey::OffsetDelete, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let (mut wanted, mut places) = (Vec::new(), Vec::new());
    let state = call.parts.state();
    for topic in request.topics {
        let found = state.topic(&topic.name);
        let allowed = call.check(Operation::Read, Resource::Topic, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let partition_index = partition.partition_index;
            let mut error_code = allowed.err().unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            if allowed.is_ok() && found.is_some_and(|topic| topic.partition(partition_index).is_some()) {
                error_code = ErrorCode::NONE;
                places.push((topics.len(), partitions.len()));
                wanted.push((topic.name.clone(), partition_index));
            }
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    drop(state);
    let deleted = match request.group_id.is_empty() {
        true => Err(ErrorCode::INVALID_GROUP_ID),
        false => call
            .check(Operation::Delete, Resource::Group, &request.group_id)
            .and_then(|()| call.check_coordinator(&request.group_id))
            .and_then(|()| call.parts.groups(call.now).delete_offsets(&request.group_id, &wanted)),
    };
    match deleted {
        Err(error_code) => OffsetDeleteResponse { error_code, ..Default::default() },
        Ok(codes) => {
            for (code, (topic, partition)) in codes.into_iter().zip(places) {
                topics[topic].partitions[partition].error_code = code;
            }
            OffsetDeleteResponse { topics, ..Default::default() }
        }
    }
}
