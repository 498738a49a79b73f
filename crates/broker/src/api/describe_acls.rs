//! DescribeAcls (29): the access control lists that match a filter. KIP-140, KIP-290 (prefixes).

use milena_messages::describe_acls::{
    AclDescription, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use super::create_acls::NO_AUTHORIZER;
use super::create_topics::Denial;
use super::row::Api;
use crate::acls::{Acl, Filter, Operation};
use crate::call::Call;

pub(super) const API: Api = Api {
    // The answer may have every ACL, whatever the size of the request.
    is_heavy: |_, _| true,
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeAcls, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeAclsRequest) -> DescribeAclsResponse {
    match describe(call, &request) {
        Ok(acls) => {
            DescribeAclsResponse { error_message: None, resources: grouped(acls), ..Default::default() }
        }
        Err((error_code, reason)) => {
            DescribeAclsResponse { error_code, error_message: Some(reason.into()), ..Default::default() }
        }
    }
}

fn describe(call: &Call<'_>, request: &DescribeAclsRequest) -> Result<Vec<Acl>, Denial> {
    let denied = |code: ErrorCode| (code, code.description().to_owned());
    call.check_cluster(Operation::Describe).map_err(denied)?;
    let acls = call.parts.acls().ok_or((ErrorCode::SECURITY_DISABLED, NO_AUTHORIZER.to_owned()))?;
    let filter = Filter::read(
        [
            request.resource_type_filter,
            request.pattern_type_filter,
            request.operation,
            request.permission_type,
        ],
        request.resource_name_filter.as_deref(),
        request.principal_filter.as_deref(),
        request.host_filter.as_deref(),
    );
    let numbers = [
        request.resource_type_filter,
        request.pattern_type_filter,
        request.operation,
        request.permission_type,
    ];
    match filter {
        Some(filter) => Ok(acls.matching(&filter)),
        // Zero says that the client knows no name for it. Other numbers may be those of newer releases, and no ACL has them.
        None if numbers.contains(&0) => Err((ErrorCode::INVALID_REQUEST, UNKNOWN.to_owned())),
        None => Ok(Vec::new()),
    }
}

/// The words for a filter that has a number without a meaning.
pub(super) const UNKNOWN: &str = "The filter has an element that this broker does not know.";

/// The ACLs, those of one resource together. They come in the order of their resources.
fn grouped(acls: Vec<Acl>) -> Vec<DescribeAclsResource> {
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for Acl { resource, pattern, name, entry } in acls {
        let described = AclDescription {
            principal: entry.principal.into(),
            host: entry.host.into(),
            operation: entry.operation.number(),
            permission_type: entry.permission.number(),
            ..Default::default()
        };
        let (resource_type, pattern_type) = (resource.number(), pattern.number());
        match resources.last_mut() {
            Some(last)
                if last.resource_type == resource_type
                    && last.pattern_type == pattern_type
                    && last.resource_name == name.as_str() =>
            {
                last.acls.push(described);
            }
            _ => resources.push(DescribeAclsResource {
                resource_type,
                resource_name: name.into(),
                pattern_type,
                acls: vec![described],
                ..Default::default()
            }),
        }
    }
    resources
}
