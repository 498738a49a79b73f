//! Heartbeat (12): a member of a classic group says that it lives, and learns of rebalances.

use milena_messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::call::Call;

pub(super) const API: Api = Api::new(ApiKey::Heartbeat, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let checked = call.check_member(&request.group_id);
    let error_code: ErrorCode = match checked {
        Ok(()) => call.parts.groups(call.now).heartbeat(&request, call.now),
        Err(code) => code,
    };
    HeartbeatResponse { error_code, ..Default::default() }
}
