//! DeleteRecords (21): has partitions start at a later offset. KIP-107.

use milena_messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::topic::Topic;

/// Asks for all records that consumers may read.
const HIGH_WATERMARK: i64 = -1;

pub(super) const API: Api = Api::new(ApiKey::DeleteRecords, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = call.parts.state().topic(&wanted.name).cloned();
        let allowed = call.check(Operation::Delete, Resource::Topic, &wanted.name);
        let answer = |wanted: &DeleteRecordsPartition| {
            let deleted = allowed.and_then(|()| delete(call, topic.as_deref(), wanted));
            let (error_code, low_watermark) =
                deleted.map_or_else(|code| (code, -1), |start| (ErrorCode::NONE, start));
            let partition_index = wanted.partition_index;
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code, ..Default::default() }
        };
        let partitions = wanted.partitions.iter().map(answer).collect();
        DeleteRecordsTopicResult { name: wanted.name, partitions, ..Default::default() }
    });
    DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }
}

/// Deletes a partition's records before an offset. Returns where its log starts then.
fn delete(call: &Call<'_>, topic: Option<&Topic>, wanted: &DeleteRecordsPartition) -> Result<i64, ErrorCode> {
    let found = topic.and_then(|topic| Some((topic, topic.partition(wanted.partition_index)?)));
    let (topic, partition) = found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut state = partition.lock();
    state.check_leader(call.peer.node(), None)?;
    if topic.rules.is_compacted && !topic.rules.is_trimmed {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    state.delete_to((wanted.offset != HIGH_WATERMARK).then_some(wanted.offset))
}
