//! AddOffsetsToTxn (25): the offsets of a group become part of a transaction. KIP-98.
//!
//! In Kafka they are a partition of the offsets topic, and this request adds that partition.

use milena_messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::groups::transactional::partition_of;
use crate::transactions::{Identity, OFFSETS_TOPIC};

pub(super) const API: Api = Api::new(ApiKey::AddOffsetsToTxn, |call, reader| call.answer(reader, handle));

/// From this version on, clients understand PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

fn handle(call: &Call<'_>, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let error_code = match add(call, &request) {
        Ok(()) => ErrorCode::NONE,
        Err(code) => call.before_fenced(code, FENCED_FROM),
    };
    AddOffsetsToTxnResponse { error_code, ..Default::default() }
}

fn add(call: &Call<'_>, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let id = &request.transactional_id;
    call.check(Operation::Write, Resource::TransactionalId, id)?;
    call.check(Operation::Read, Resource::Group, &request.group_id)?;
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    call.check_transaction_coordinator(id)?;
    let identity = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let partition = (OFFSETS_TOPIC, partition_of(&request.group_id));
    call.parts.transactions(call.now).add(id, identity, std::iter::once(partition), call.now)
}
