//! ConsumerGroupDescribe (69): state, members and assignments of groups of the consumer protocol. KIP-848.

use milena_messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::describe_groups::GROUP_OPERATIONS;
use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    is_repeatable: true,
    ..Api::new(ApiKey::ConsumerGroupDescribe, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let describe = |group_id: Str| {
        let allowed = call.check(Operation::Describe, Resource::Group, &group_id);
        if let Err(error_code) = allowed.and_then(|()| call.check_coordinator(&group_id)) {
            return DescribedGroup { group_id, error_code, ..Default::default() };
        }
        let described = call.parts.groups_with_topics(call.now).describe_consumer(&group_id);
        let mut group = described.unwrap_or_else(|why| DescribedGroup {
            group_id,
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(why.into()),
            ..Default::default()
        });
        if request.include_authorized_operations && group.error_code.is_none() {
            group.authorized_operations = call.allowed(GROUP_OPERATIONS, Resource::Group, &group.group_id);
        }
        group
    };
    let groups = request.group_ids.into_iter().map(describe).collect();
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}
