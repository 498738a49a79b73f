//! DescribeGroups (15): state and members of classic groups. KIP-1043 (a group that does not exist is an error).

use milena_messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeGroups, |call, reader| call.answer(reader, handle))
};

/// From this version on a group that does not exist is an error.
const NOT_FOUND_FROM: i16 = 6;

/// The operations on a group, each with a bit of Kafka's AclOperation: Read, Delete, Describe, DescribeConfigs,
/// AlterConfigs.
pub(super) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

fn handle(call: &Call<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let describe = |group_id: Str| {
        let allowed = call.check(Operation::Describe, Resource::Group, &group_id);
        let checked = allowed.and_then(|()| call.check_coordinator(&group_id));
        let mut group = match checked {
            Err(error_code) => DescribedGroup { group_id, error_code, ..Default::default() },
            Ok(()) => {
                let found = call.parts.groups(call.now).describe(&group_id);
                found.unwrap_or_else(|why| missing(call, group_id, why))
            }
        };
        if request.include_authorized_operations && group.error_code.is_none() {
            group.authorized_operations = call.allowed(GROUP_OPERATIONS, Resource::Group, &group.group_id);
        }
        group
    };
    let groups = request.groups.into_iter().map(describe).collect();
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn missing(call: &Call<'_>, group_id: Str, why: String) -> DescribedGroup {
    let group_state = Str::from_static("Dead");
    if call.envelope.version < NOT_FOUND_FROM {
        return DescribedGroup { group_id, group_state, ..Default::default() };
    }
    let error_message = Some(why.into());
    let error_code = ErrorCode::GROUP_ID_NOT_FOUND;
    DescribedGroup { group_id, group_state, error_code, error_message, ..Default::default() }
}
