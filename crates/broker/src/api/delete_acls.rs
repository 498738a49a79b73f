//! DeleteAcls (31): removes the access control lists that match filters. KIP-140, KIP-290 (prefixes).

use milena_messages::delete_acls::{
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use super::create_acls::NO_AUTHORIZER;
use super::create_topics::Denial;
use super::describe_acls::UNKNOWN;
use super::row::{Api, COSTLY_ELEMENTS_MAX};
use crate::acls::{Acl, Acls, Filter, Operation};
use crate::call::Call;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    // Each filter may match every ACL.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::DeleteAcls, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let filters = request.filters;
    let all = |code: ErrorCode, reason: &str| vec![Err((code, reason.to_owned())); filters.len()];
    let outcomes = match (call.check_cluster(Operation::Alter), call.parts.acls_mut()) {
        (Err(code), _) => all(code, code.description()),
        (Ok(()), None) => all(ErrorCode::SECURITY_DISABLED, NO_AUTHORIZER),
        (Ok(()), Some(mut acls)) => delete(&mut acls, &filters),
    };
    let results = outcomes.into_iter().map(|outcome| match outcome {
        Ok(acls) => DeleteAclsFilterResult {
            error_message: None,
            matching_acls: acls.into_iter().map(matching).collect(),
            ..Default::default()
        },
        Err((error_code, reason)) => {
            DeleteAclsFilterResult { error_code, error_message: Some(reason.into()), ..Default::default() }
        }
    });
    DeleteAclsResponse { filter_results: results.collect(), ..Default::default() }
}

/// The most filters of a request: each goes through all ACLs.
const FILTERS_MAX: usize = 1000;

fn delete(acls: &mut Acls, filters: &[DeleteAclsFilter]) -> Vec<Result<Vec<Acl>, Denial>> {
    let invalid = |reason: &str| Err((ErrorCode::INVALID_REQUEST, reason.to_owned()));
    if filters.len() > FILTERS_MAX {
        return vec![invalid("The request has too many filters."); filters.len()];
    }
    let read = |wanted: &DeleteAclsFilter| {
        let DeleteAclsFilter {
            resource_type_filter, pattern_type_filter, operation, permission_type, ..
        } = *wanted;
        Filter::read(
            [resource_type_filter, pattern_type_filter, operation, permission_type],
            wanted.resource_name_filter.as_deref(),
            wanted.principal_filter.as_deref(),
            wanted.host_filter.as_deref(),
        )
    };
    let known: Vec<Option<Filter>> = filters.iter().map(read).collect();
    let readable: Vec<Filter> = known.iter().flatten().cloned().collect();
    let mut removed = acls.remove(&readable).map(Vec::into_iter);
    let outcomes = known.iter().map(|filter| match (filter, &mut removed) {
        (None, _) => invalid(UNKNOWN),
        (Some(_), Ok(removed)) => Ok(removed.next().unwrap_or_default()),
        (Some(_), Err(error)) => Err((ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())),
    });
    outcomes.collect()
}

fn matching(acl: Acl) -> DeleteAclsMatchingAcl {
    let Acl { resource, pattern, name, entry } = acl;
    DeleteAclsMatchingAcl {
        error_message: None,
        resource_type: resource.number(),
        resource_name: name.into(),
        pattern_type: pattern.number(),
        principal: entry.principal.into(),
        host: entry.host.into(),
        operation: entry.operation.number(),
        permission_type: entry.permission.number(),
        ..Default::default()
    }
}
