//! ListTransactions (66): the transactional ids that a node coordinates. KIP-664, KIP-994 (by duration), KIP-1152 (by pattern).

use milena_messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::pattern::Pattern;
use crate::transactions::{State, Transaction};

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::ListTransactions, |call, reader| call.answer(reader, handle))
};

/// The states that Kafka knows and no id here is ever in.
const OTHER_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

fn handle(call: &Call<'_>, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let Ok(pattern) = pattern.map(Pattern::new).transpose() else {
        let error_code = ErrorCode::INVALID_REGULAR_EXPRESSION;
        return ListTransactionsResponse { error_code, ..Default::default() };
    };
    let is_known = |name: &Str| {
        State::ALL.iter().any(|state| *name == state.name()) || OTHER_STATES.contains(&name.as_str())
    };
    let is_wanted = |id: &str, transaction: &Transaction| {
        let producer_id = transaction.identity.producer_id;
        let duration_ms = call.now.unix_ms.saturating_sub(transaction.started_ms);
        (request.producer_id_filters.is_empty() || request.producer_id_filters.contains(&producer_id))
            && (request.state_filters.is_empty()
                || request.state_filters.iter().any(|name| *name == transaction.state.name()))
            && (request.duration_filter < 0 || duration_ms > request.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.matches(id))
    };
    let state = call.parts.state();
    let is_ours =
        |id: &str| state.transaction_coordinator(id).is_some_and(|node| node.id == call.peer.node());
    let transactions = call.parts.transactions(call.now);
    let listed = transactions.iter().filter(|(id, transaction)| is_ours(id) && is_wanted(id, transaction));
    let listed = listed.filter(|(id, _)| call.may(Operation::Describe, Resource::TransactionalId, id));
    let transaction_states = listed.map(|(id, transaction)| TransactionState {
        transactional_id: id.clone(),
        producer_id: transaction.identity.producer_id,
        transaction_state: Str::from_static(transaction.state.name()),
        ..Default::default()
    });
    ListTransactionsResponse {
        transaction_states: transaction_states.collect(),
        unknown_state_filters: request.state_filters.iter().filter(|name| !is_known(name)).cloned().collect(),
        ..Default::default()
    }
}
