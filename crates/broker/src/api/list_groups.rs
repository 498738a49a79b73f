//! ListGroups (16): the groups that this node coordinates. KIP-518 (states), KIP-848 (types).

use milena_messages::ApiKey;
use milena_messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;

pub(super) const API: Api = Api {
    // The answer has every group, whatever the size of the request.
    is_heavy: |_, _| true,
    is_repeatable: true,
    ..Api::new(ApiKey::ListGroups, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let lower = |filter: &[milena_wire::Str]| -> Vec<String> {
        filter.iter().map(|name| name.trim().to_lowercase()).collect()
    };
    let (states, types) = (lower(&request.states_filter), lower(&request.types_filter));
    let is_wanted = |filter: &[String], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let mut groups: Vec<ListedGroup> = call.parts.groups(call.now).list().collect();
    groups.retain(|group| is_wanted(&states, &group.group_state) && is_wanted(&types, &group.group_type));
    // Who may describe the cluster sees all groups.
    if call.check_cluster(Operation::Describe).is_err() {
        groups.retain(|group| call.may(Operation::Describe, Resource::Group, &group.group_id));
    }
    groups.retain(|group| call.check_coordinator(&group.group_id).is_ok());
    ListGroupsResponse { groups, ..Default::default() }
}
