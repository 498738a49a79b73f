//! TxnOffsetCommit (28): a group's offsets are committed when a transaction is. KIP-98, KIP-447 (the member and its generation),
//! KIP-890 (version 5 adds the group to the transaction), KIP-1319 (topic ids in version 6).

use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::groups::offsets::Commit;
use crate::groups::transactional::partition_of;
use crate::producers::Stamp;
use crate::transactions::{Identity, OFFSETS_TOPIC};

pub(super) const API: Api = Api::new(ApiKey::TxnOffsetCommit, |call, reader| call.answer(reader, handle));

/// The first version whose clients know TRANSACTION_ABORTABLE, the first one that adds the group to the transaction, and the
/// first one that names topics by their ids.
const ABORTABLE_FROM: i16 = 4;
const ADDS_FROM: i16 = 5;
const TOPIC_IDS_FROM: i16 = 6;

fn handle(call: &Call<'_>, mut request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    // The offsets of partitions that exist, and where their codes go.
    let (mut commits, mut places) = (Vec::new(), Vec::new());
    let id = &request.transactional_id;
    let denied = call
        .check(Operation::Write, Resource::TransactionalId, id)
        .and_then(|()| call.check(Operation::Read, Resource::Group, &request.group_id))
        .err();
    let state = call.parts.state();
    let by_id = call.envelope.version >= TOPIC_IDS_FROM;
    for topic in &mut request.topics {
        let (found, unknown) = match by_id {
            true => (state.topic_by_id(topic.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
            false => (state.topic(&topic.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let name = found.map_or(&topic.name, |found| &found.name);
        // An id that no topic has tells nothing.
        let is_void = by_id && found.is_none();
        let allowed = if is_void { Ok(()) } else { call.check(Operation::Read, Resource::Topic, name) };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &mut topic.partitions {
            let partition_index = partition.partition_index;
            let mut error_code = allowed.err().unwrap_or(unknown);
            if let Some(topic) = found.filter(|_| allowed.is_ok()) {
                error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                if topic.partition(partition_index).is_some() {
                    error_code = ErrorCode::NONE;
                    places.push((topics.len(), partitions.len()));
                    commits.push(Commit {
                        topic: topic.name.clone(),
                        topic_id: topic.id,
                        partition: partition_index,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata.clone(),
                    });
                }
            }
            partitions.push(TxnOffsetCommitResponsePartition {
                partition_index,
                error_code,
                ..Default::default()
            });
        }
        let name = if by_id { Str::default() } else { topic.name.clone() };
        let topic_id = topic.topic_id;
        topics.push(TxnOffsetCommitResponseTopic { name, topic_id, partitions, ..Default::default() });
    }
    drop(state);
    if let Some(code) = denied {
        let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| partition.error_code = code);
        return TxnOffsetCommitResponse { topics, ..Default::default() };
    }
    if commits.is_empty() {
        return TxnOffsetCommitResponse { topics, ..Default::default() };
    }
    let committed = commit(call, &request, commits);
    for (index, (topic, partition)) in places.into_iter().enumerate() {
        topics[topic].partitions[partition].error_code = match &committed {
            Ok(codes) => codes[index],
            Err(code) => *code,
        };
    }
    TxnOffsetCommitResponse { topics, ..Default::default() }
}

fn commit(
    call: &Call<'_>,
    request: &TxnOffsetCommitRequest,
    commits: Vec<Commit>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    call.check_coordinator(&request.group_id)?;
    let adds = call.envelope.version >= ADDS_FROM;
    let stamp = Stamp::of_offsets(request.producer_id, request.producer_epoch);
    let to_verify = call.parts.groups(call.now).begin_verification(&request.group_id, &stamp, adds);
    if to_verify.is_some() {
        verify(call, request, adds)?;
    }
    call.parts.groups(call.now).commit_in_transaction(request, to_verify, commits, call.now)
}

/// Asks the transaction coordinator whether the group is in the transaction, and has it added from version 5 on.
fn verify(call: &Call<'_>, request: &TxnOffsetCommitRequest, adds: bool) -> Result<(), ErrorCode> {
    let (id, partition) = (&request.transactional_id, partition_of(&request.group_id));
    let identity = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    if call.parts.state().transaction_coordinator(id).is_none() {
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    let mut transactions = call.parts.transactions(call.now);
    if transactions.is_loading(id, call.now) {
        return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    }
    let verified = match adds {
        true => transactions.add(id, identity, std::iter::once((OFFSETS_TOPIC, partition)), call.now),
        false => transactions.verify(id, identity, OFFSETS_TOPIC, partition),
    };
    verified.map_err(|code| match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if call.envelope.version < ABORTABLE_FROM => {
            ErrorCode::INVALID_TXN_STATE
        }
        code => code,
    })
}
