//! EndTxn (26): a transaction is committed or aborted. KIP-98; from version 5 the producer's epoch is raised, and the answer has
//! it (KIP-890).

use milena_messages::end_txn::{EndTxnRequest, EndTxnResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::init_producer_id::with_producer_id;
use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::transactions::{End, Identity};

pub(super) const API: Api = Api::new(ApiKey::EndTxn, |call, reader| call.answer(reader, handle));

/// From this version on the epoch is raised.
const RAISES_FROM: i16 = 5;
/// From this version on, clients understand PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

fn handle(call: &Call<'_>, request: EndTxnRequest) -> EndTxnResponse {
    let raises_epoch = call.envelope.version >= RAISES_FROM;
    let none = EndTxnResponse { producer_id: -1, producer_epoch: -1, ..Default::default() };
    match end(call, &request, raises_epoch) {
        Ok(Identity { producer_id, epoch }) if raises_epoch => {
            EndTxnResponse { producer_id, producer_epoch: epoch, ..none }
        }
        Ok(_) => none,
        Err(code) => EndTxnResponse { error_code: call.before_fenced(code, FENCED_FROM), ..none },
    }
}

fn end(call: &Call<'_>, request: &EndTxnRequest, raises_epoch: bool) -> Result<Identity, ErrorCode> {
    let id = &request.transactional_id;
    call.check(Operation::Write, Resource::TransactionalId, id)?;
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    call.check_transaction_coordinator(id)?;
    let identity = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let next = with_producer_id(call, |fresh| {
        let end = End { identity, is_commit: request.committed, raises_epoch, fresh };
        call.parts.transactions(call.now).end(id, &end, call.now)
    });
    // As in Kafka the answer does not depend on the markers.
    call.parts.end_transactions(call.now);
    next
}
