//! DescribeProducers (61): the idempotent and transactional producers that partitions remember. KIP-664.

use milena_messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::topic::Topic;

pub(super) const API: Api = Api {
    is_repeatable: true,
    // A partition remembers up to twenty thousand producers.
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::DescribeProducers, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = call.parts.state().topic(&wanted.name).cloned();
        let allowed = call.check(Operation::Read, Resource::Topic, &wanted.name);
        let describe = |index| match allowed.and_then(|()| producers(call, topic.as_deref(), index)) {
            Ok(active_producers) => {
                PartitionResponse { partition_index: index, active_producers, ..Default::default() }
            }
            Err(error_code) => PartitionResponse {
                partition_index: index,
                error_code,
                error_message: Some(Str::from_static(error_code.description())),
                ..Default::default()
            },
        };
        let partitions = wanted.partition_indexes.iter().copied().map(describe).collect();
        TopicResponse { name: wanted.name, partitions, ..Default::default() }
    });
    DescribeProducersResponse { topics: topics.collect(), ..Default::default() }
}

fn producers(call: &Call<'_>, topic: Option<&Topic>, index: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let partition = topic.and_then(|topic| topic.partition(index));
    let state = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.lock();
    state.check_held(call.peer.node())?;
    let described = state.describe_producers().map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.unwrap_or(-1),
        ..Default::default()
    });
    Ok(described.collect())
}
