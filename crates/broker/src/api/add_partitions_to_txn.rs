//! AddPartitionsToTxn (24): partitions become part of a transaction. KIP-98; from version 4 among brokers, for several
//! transactions at once, and to ask whether they are part of it (KIP-890).

use milena_messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::transactions::Identity;

pub(super) const API: Api = Api::new(ApiKey::AddPartitionsToTxn, |call, reader| call.answer(reader, handle));

/// From this version on a request is about several transactions.
const SEVERAL_FROM: i16 = 4;
/// From this version on, clients understand PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

fn handle(call: &Call<'_>, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    if call.envelope.version >= SEVERAL_FROM {
        let results = request.transactions.into_iter().map(|transaction| AddPartitionsToTxnResult {
            topic_results: add(call, &transaction),
            transactional_id: transaction.transactional_id,
            ..Default::default()
        });
        return AddPartitionsToTxnResponse {
            results_by_transaction: results.collect(),
            ..Default::default()
        };
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        topics: request.v3_and_below_topics,
        ..Default::default()
    };
    let results_by_topic_v3_and_below = add(call, &transaction);
    AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() }
}

/// Adds all partitions of a transaction, or none: if one does not exist, the other ones are not attempted.
fn add(call: &Call<'_>, transaction: &AddPartitionsToTxnTransaction) -> Vec<AddPartitionsToTxnTopicResult> {
    let (id, topics) = (&transaction.transactional_id, &transaction.topics);
    let exists = |topic: &AddPartitionsToTxnTopic, index: i32| {
        call.parts.state().topic(&topic.name).is_some_and(|topic| topic.partition(index).is_some())
    };
    if let Err(code) = call.check(Operation::Write, Resource::TransactionalId, id) {
        return results(topics, |_, _| code);
    }
    let denied =
        |topic: &AddPartitionsToTxnTopic| call.check(Operation::Write, Resource::Topic, &topic.name).err();
    if topics.iter().any(|topic| denied(topic).is_some()) {
        return results(topics, |topic, index| match denied(topic) {
            Some(code) => code,
            None if exists(topic, index) => ErrorCode::OPERATION_NOT_ATTEMPTED,
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        });
    }
    let is_missing =
        |topic: &AddPartitionsToTxnTopic| topic.partitions.iter().any(|&index| !exists(topic, index));
    if topics.iter().any(is_missing) {
        return results(topics, |topic, index| match exists(topic, index) {
            true => ErrorCode::OPERATION_NOT_ATTEMPTED,
            false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        });
    }
    let identity = Identity { producer_id: transaction.producer_id, epoch: transaction.producer_epoch };
    let checked = match id.is_empty() {
        true => Err(ErrorCode::INVALID_REQUEST),
        false => call.check_transaction_coordinator(id),
    };
    let code = |result: Result<(), ErrorCode>| match result {
        Ok(()) => ErrorCode::NONE,
        Err(code) => call.before_fenced(code, FENCED_FROM),
    };
    let mut transactions = call.parts.transactions(call.now);
    if transaction.verify_only && checked.is_ok() {
        return results(topics, |topic, index| code(transactions.verify(id, identity, &topic.name, index)));
    }
    let partitions = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|&partition| (topic.name.as_str(), partition)));
    let code = code(checked.and_then(|()| transactions.add(id, identity, partitions, call.now)));
    results(topics, |_, _| code)
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&AddPartitionsToTxnTopic, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let result = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|&partition_index| AddPartitionsToTxnPartitionResult {
            partition_index,
            partition_error_code: code(topic, partition_index),
            ..Default::default()
        });
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: partitions.collect(),
            ..Default::default()
        }
    };
    topics.iter().map(result).collect()
}
