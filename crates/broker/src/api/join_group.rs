//! JoinGroup (11): a member joins a classic group and waits for the generation. KIP-345, KIP-394, KIP-814.

use std::sync::Arc;

use milena_messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{Reader, Str};

use super::row::Api;
use crate::call::{Call, Outcome};
use crate::groups::classic::Joiner;
use crate::groups::reply::Reply;
use crate::parked::{ParkedReply, Waiting};
use crate::refused::Refused;

pub(super) const API: Api = Api::new(ApiKey::JoinGroup, respond);

/// The answer of older versions has no null for the name of the protocol.
const NULL_PROTOCOL_FROM: i16 = 7;

fn respond(call: &mut Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    let mut request: JoinGroupRequest = call.decode(reader)?;
    if call.envelope.version == 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let reply = Reply::new();
    match call.check_member(&request.group_id) {
        Err(error_code) => {
            let (member_id, protocol_name) = (request.member_id, None);
            reply.put(JoinGroupResponse { error_code, member_id, protocol_name, ..Default::default() });
        }
        Ok(()) => {
            let joiner = Joiner {
                request,
                version: call.envelope.version,
                client_id: call.client_id.clone().unwrap_or_default(),
                client_host: format!("/{}", call.peer.address().ip()),
                reply: Arc::clone(&reply),
            };
            call.parts.groups(call.now).join(joiner, call.now);
        }
    }
    resume(call, ParkedReply::new(reply, call.now))
}

/// Answers if the reply has come; parks the request otherwise.
pub(super) fn resume(
    call: &mut Call<'_>,
    parked: ParkedReply<JoinGroupResponse>,
) -> Result<Outcome, Refused> {
    let Some(mut response) = parked.reply.take() else {
        return Ok(Outcome::Parked(Waiting::Join(parked.again(call.now))));
    };
    if call.envelope.version < NULL_PROTOCOL_FROM && response.protocol_name.is_none() {
        response.protocol_name = Some(Str::default());
    }
    debug_assert!(response.error_code != ErrorCode::NONE || response.generation_id > 0);
    call.reply(response)
}
