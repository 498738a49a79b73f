//! InitProducerId (22): ids for idempotent and transactional producers. KIP-98, KIP-360, KIP-890.

use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::transactions::{Identity, Init, Refusal};

pub(super) const API: Api = Api::new(ApiKey::InitProducerId, |call, reader| call.answer(reader, handle));

/// From this version on, clients understand PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

fn handle(call: &Call<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match identity(call, &request) {
        Ok(Identity { producer_id, epoch }) => {
            InitProducerIdResponse { producer_id, producer_epoch: epoch, ..Default::default() }
        }
        Err(code) => InitProducerIdResponse {
            error_code: call.before_fenced(code, FENCED_FROM),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

fn identity(call: &Call<'_>, request: &InitProducerIdRequest) -> Result<Identity, ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let Some(id) = &request.transactional_id else {
        // Without a transactional id no producer can be resumed, so Kafka answers a new id whatever id the request names
        // (KIP-360).
        let may = call.check_cluster(Operation::IdempotentWrite).is_ok();
        if !may && !call.may_any(Operation::Write, Resource::Topic) {
            return Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        }
        return Ok(Identity { producer_id: new_producer_id(call)?, epoch: 0 });
    };
    call.check(Operation::Write, Resource::TransactionalId, id)?;
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if !call.parts.transactions(call.now).allows_timeout(request.transaction_timeout_ms) {
        return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    }
    call.check_transaction_coordinator(id)?;
    let expected = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let expected = (expected.producer_id != -1).then_some(expected);
    let answer = with_producer_id(call, |fresh| {
        let init = Init { timeout_ms: request.transaction_timeout_ms, expected, fresh };
        call.parts.transactions(call.now).init(id, &init, call.now)
    });
    // A transaction that was open is aborted now.
    call.parts.end_transactions(call.now);
    answer
}

/// Tries something, and again with a new producer id if it needs one: that comes from another part than the coordinator.
pub(super) fn with_producer_id<T>(
    call: &Call<'_>,
    mut attempt: impl FnMut(Option<i64>) -> Result<T, Refusal>,
) -> Result<T, ErrorCode> {
    let mut fresh = None;
    loop {
        match attempt(fresh) {
            Ok(done) => return Ok(done),
            Err(Refusal::Code(code)) => return Err(code),
            Err(Refusal::NeedsProducerId) => fresh = Some(new_producer_id(call)?),
        }
    }
}

fn new_producer_id(call: &Call<'_>) -> Result<i64, ErrorCode> {
    call.parts.state_mut().new_producer_id().map_err(|error| {
        tracing::error!(%error, "cannot reserve producer ids");
        ErrorCode::KAFKA_STORAGE_ERROR
    })
}
