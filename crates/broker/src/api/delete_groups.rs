//! DeleteGroups (42): ends groups that have no members, with their offsets. KIP-229.

use std::collections::BTreeSet;

use milena_messages::ApiKey;
use milena_messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use milena_wire::Str;

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api::new(ApiKey::DeleteGroups, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let delete = |group_id: Str| {
        let allowed = call.check(Operation::Delete, Resource::Group, &group_id);
        let checked = allowed.and_then(|()| call.check_coordinator(&group_id));
        let error_code = match checked {
            Ok(()) => call.parts.groups(call.now).delete(&group_id),
            Err(code) => code,
        };
        DeletableGroupResult { group_id, error_code, ..Default::default() }
    };
    // Kafka deletes a group that is named twice once, and answers for it once.
    let mut seen = BTreeSet::new();
    let names = request.groups_names.into_iter().filter(|name| seen.insert(name.clone()));
    let results = names.map(delete).collect();
    DeleteGroupsResponse { results, ..Default::default() }
}
