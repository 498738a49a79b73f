//! ConsumerGroupHeartbeat (68): a member joins a group whose coordinator assigns, stays in it and leaves it. KIP-848.

use milena_messages::ApiKey;
use milena_messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};

use milena_wire::Str;

use super::row::{Api, HEAVY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::groups::consumer::Beat;

pub(super) const API: Api = Api {
    // A heartbeat of a few bytes may have the whole group assigned anew.
    is_heavy: |parts, bytes| bytes > HEAVY_BYTES || parts.state().partition_count() > MANY_PARTITIONS,
    ..Api::new(ApiKey::ConsumerGroupHeartbeat, |call, reader| call.answer(reader, handle))
};

/// Assigning more partitions takes milliseconds.
const MANY_PARTITIONS: usize = 2000;

fn handle(call: &Call<'_>, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let mut subscribed = request.subscribed_topic_names.iter().flatten();
    let visible = |topic: &Str| call.check(Operation::Describe, Resource::Topic, topic);
    let checked = call
        .check(Operation::Read, Resource::Group, &request.group_id)
        .and_then(|()| subscribed.try_for_each(visible))
        .and_then(|()| call.check_coordinator(&request.group_id));
    if let Err(error_code) = checked {
        return ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
    }
    let beat = Beat {
        request: &request,
        client_id: call.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", call.peer.address().ip()),
    };
    let mut groups = call.parts.groups_with_topics(call.now);
    match groups.consumer_heartbeat(&beat, call.envelope.version, call.now) {
        Ok(response) => response,
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error_code: refusal.code,
            error_message: Some(refusal.message.into()),
            ..Default::default()
        },
    }
}
