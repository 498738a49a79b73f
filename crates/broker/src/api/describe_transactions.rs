//! DescribeTransactions (65): the states of transactional ids, and the partitions of their transactions. KIP-664.

use milena_messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeTransactions, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let describe = |id: Str| match state(call, &id) {
        Ok(state) => TransactionState { transactional_id: id, ..state },
        Err(error_code) => TransactionState { transactional_id: id, error_code, ..Default::default() },
    };
    let transaction_states = request.transactional_ids.into_iter().map(describe).collect();
    DescribeTransactionsResponse { transaction_states, ..Default::default() }
}

fn state(call: &Call<'_>, id: &Str) -> Result<TransactionState, ErrorCode> {
    call.check(Operation::Describe, Resource::TransactionalId, id)?;
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    call.check_transaction_coordinator(id)?;
    let transactions = call.parts.transactions(call.now);
    let found = transactions.get(id).ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)?;
    // A client does not learn of topics that it may not see.
    let visible =
        found.partitions.iter().filter(|(topic, _)| call.may(Operation::Describe, Resource::Topic, topic));
    let topics = visible.map(|(topic, partitions)| TopicData {
        topic: topic.clone(),
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    });
    Ok(TransactionState {
        transaction_state: Str::from_static(found.state.name()),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.started_ms,
        producer_id: found.identity.producer_id,
        producer_epoch: found.identity.epoch,
        topics: topics.collect(),
        ..Default::default()
    })
}
