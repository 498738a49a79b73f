//! LeaveGroup (13): members leave a classic group. KIP-345 (several at once, static ones by their names).

use milena_messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::call::Call;

pub(super) const API: Api = Api::new(ApiKey::LeaveGroup, |call, reader| call.answer(reader, handle));

/// From this version on a request names several members, and each has a code of its own.
const SEVERAL_FROM: i16 = 3;

fn handle(call: &Call<'_>, mut request: LeaveGroupRequest) -> LeaveGroupResponse {
    if call.envelope.version < SEVERAL_FROM {
        let member_id = request.member_id.clone();
        request.members = vec![MemberIdentity { member_id, ..Default::default() }];
    }
    let left = call
        .check_member(&request.group_id)
        .and_then(|()| call.parts.groups(call.now).leave(&request, call.now));
    match left {
        Err(error_code) => LeaveGroupResponse { error_code, ..Default::default() },
        Ok(members) if call.envelope.version >= SEVERAL_FROM => {
            LeaveGroupResponse { members, ..Default::default() }
        }
        Ok(members) => {
            let error_code = members.first().map_or(ErrorCode::NONE, |member| member.error_code);
            LeaveGroupResponse { error_code, ..Default::default() }
        }
    }
}
