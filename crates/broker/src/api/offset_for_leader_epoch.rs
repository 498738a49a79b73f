//! OffsetForLeaderEpoch (23): the end of a leader epoch, so that a client notices when the log was cut off. KIP-101,
//! KIP-320.

use milena_messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::topic::Topic;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::OffsetForLeaderEpoch, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    // Brokers may ask for every topic.
    let is_broker = call.parts.has_acls() && call.check_cluster(Operation::ClusterAction).is_ok();
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = call.parts.state().topic(&wanted.topic).cloned();
        let allowed = match is_broker {
            true => Ok(()),
            false => call.check(Operation::Describe, Resource::Topic, &wanted.topic),
        };
        let topic = allowed.map(|()| topic.as_deref());
        let partitions = wanted.partitions.iter().map(|partition| end_of(call, topic, partition));
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult { topic: wanted.topic, partitions, ..Default::default() }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}

fn end_of(
    call: &Call<'_>,
    topic: Result<Option<&Topic>, ErrorCode>,
    wanted: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let found = topic.and_then(|topic| look_up(call, topic, wanted));
    let (error_code, end) = found.map_or_else(|code| (code, None), |end| (ErrorCode::NONE, end));
    // For an unknown epoch Kafka answers −1 and −1.
    let (leader_epoch, end_offset) = end.unwrap_or((-1, -1));
    EpochEndOffset { error_code, partition: wanted.partition, leader_epoch, end_offset, ..Default::default() }
}

fn look_up(
    call: &Call<'_>,
    topic: Option<&Topic>,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    let partition = topic.and_then(|topic| topic.partition(wanted.partition));
    let state = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.lock();
    let current = (wanted.current_leader_epoch >= 0).then_some(wanted.current_leader_epoch);
    state.check_leader(call.peer.node(), current)?;
    Ok(state.epochs().end_of(wanted.leader_epoch, state.log_end()))
}
