//! SyncGroup (14): the leader brings the assignments of a generation, and each member fetches its own.

use std::sync::Arc;

use milena_messages::ApiKey;
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_wire::Reader;

use super::row::Api;
use crate::call::{Call, Outcome};
use crate::groups::reply::Reply;
use crate::parked::{ParkedReply, Waiting};
use crate::refused::Refused;

pub(super) const API: Api = Api::new(ApiKey::SyncGroup, respond);

fn respond(call: &mut Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    let request: SyncGroupRequest = call.decode(reader)?;
    let reply = Reply::new();
    match call.check_member(&request.group_id) {
        Err(error_code) => reply.put(SyncGroupResponse { error_code, ..Default::default() }),
        Ok(()) => call.parts.groups(call.now).sync(&request, &Arc::clone(&reply), call.now),
    }
    resume(call, ParkedReply::new(reply, call.now))
}

/// Answers if the reply has come; parks the request otherwise.
pub(super) fn resume(
    call: &mut Call<'_>,
    parked: ParkedReply<SyncGroupResponse>,
) -> Result<Outcome, Refused> {
    match parked.reply.take() {
        Some(response) => call.reply(response),
        None => Ok(Outcome::Parked(Waiting::Sync(parked.again(call.now)))),
    }
}
