//! InitProducerId (22): ids for idempotent producers. KIP-98, KIP-360.
//!
//! Transactions are not served yet. A transactional producer gets an error code that clients do not retry.

use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::call::Call;

pub(super) const API: Api = Api::new(ApiKey::InitProducerId, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let denied = |error_code| InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    match &request.transactional_id {
        Some(id) if id.is_empty() => return denied(ErrorCode::INVALID_REQUEST),
        Some(_) => {
            call.tell_unserved("transactions are not implemented yet");
            return denied(ErrorCode::UNSUPPORTED_VERSION);
        }
        None => {}
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return denied(ErrorCode::INVALID_REQUEST);
    }
    // Without a transactional id no producer can be resumed, so Kafka answers a new id whatever id the request names
    // (KIP-360).
    match call.parts.state_mut().new_producer_id() {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::error!(%error, "cannot reserve producer ids");
            denied(ErrorCode::KAFKA_STORAGE_ERROR)
        }
    }
}
