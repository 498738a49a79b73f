//! FindCoordinator (10): the node that coordinates a group or a transactional id. KIP-699 (several keys at once).

use milena_messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::state::State;

/// The types of keys. Share groups have type 2 and are not served.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::FindCoordinator, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if !(GROUP..=TRANSACTION).contains(&request.key_type) {
        call.tell_unserved("share groups are not implemented yet");
    }
    let state = call.parts.state();
    if call.envelope.version >= 4 {
        let find = |key| coordinator(call, &state, request.key_type, key);
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = coordinator(call, &state, request.key_type, request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

fn coordinator(call: &Call<'_>, state: &State, key_type: i8, key: Str) -> Coordinator {
    let denied = |key, error_code: ErrorCode| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(Str::from_static(error_code.description())),
        ..Default::default()
    };
    let resource = if key_type == TRANSACTION { Resource::TransactionalId } else { Resource::Group };
    if (GROUP..=TRANSACTION).contains(&key_type)
        && let Err(code) = call.check(Operation::Describe, resource, &key)
    {
        return denied(key, code);
    }
    let found = match key_type {
        GROUP => state.coordinator(&key),
        TRANSACTION => state.transaction_coordinator(&key),
        _ => return denied(key, ErrorCode::INVALID_REQUEST),
    };
    let Some(node) = found else {
        return denied(key, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    };
    let listener = call.peer.listener();
    Coordinator {
        key,
        node_id: node.id,
        host: node.endpoint(listener).host.clone(),
        port: i32::from(node.endpoint(listener).port),
        error_message: Some(Str::default()),
        ..Default::default()
    }
}
