//! CreateAcls (30): adds access control lists. KIP-140, KIP-290 (prefixes).

use milena_messages::create_acls::{AclCreation, AclCreationResult, CreateAclsRequest, CreateAclsResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::create_topics::Denial;
use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Acl, Acls, CLUSTER, Entry, Operation, Pattern, Permission, Resource};
use crate::call::Call;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::CreateAcls, |call, reader| call.answer(reader, handle))
};

/// Kafka's words where there is no authorizer.
pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";

fn handle(call: &Call<'_>, request: CreateAclsRequest) -> CreateAclsResponse {
    let count = request.creations.len();
    let all = |code: ErrorCode, reason: &str| vec![Err((code, reason.to_owned())); count];
    let outcomes = match (call.check_cluster(Operation::Alter), call.parts.acls_mut()) {
        (Err(code), _) => all(code, code.description()),
        (Ok(()), None) => all(ErrorCode::SECURITY_DISABLED, NO_AUTHORIZER),
        (Ok(()), Some(mut acls)) => create(&mut acls, &request.creations),
    };
    let results = outcomes.into_iter().map(|outcome| {
        let (error_code, reason) = outcome.err().unzip();
        AclCreationResult {
            error_code: error_code.unwrap_or(ErrorCode::NONE),
            error_message: reason.map(Into::into),
            ..Default::default()
        }
    });
    CreateAclsResponse { results: results.collect(), ..Default::default() }
}

fn create(acls: &mut Acls, creations: &[AclCreation]) -> Vec<Result<(), Denial>> {
    let has_room = acls.has_room();
    let mut wanted = Vec::new();
    let mut outcomes = Vec::new();
    for creation in creations {
        outcomes.push(match read(creation) {
            Ok(_) if !has_room => {
                Err((ErrorCode::POLICY_VIOLATION, "This broker keeps no more ACLs.".to_owned()))
            }
            Ok(acl) => {
                wanted.push(acl);
                Ok(())
            }
            Err(reason) => Err((ErrorCode::INVALID_REQUEST, reason)),
        });
    }
    if let Err(error) = acls.add(wanted) {
        let failed = (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string());
        outcomes
            .iter_mut()
            .filter(|outcome| outcome.is_ok())
            .for_each(|outcome| *outcome = Err(failed.clone()));
    }
    outcomes
}

/// The longest name, principal or host in an ACL. Kafka has no limit.
const NAME_BYTES_MAX: usize = 1024;

/// The ACL that is wanted. The error is a sentence for the client.
fn read(wanted: &AclCreation) -> Result<Acl, String> {
    let unknown = |what: &str, number: i8| format!("Invalid {what} {number}");
    let resource = Resource::numbered(wanted.resource_type);
    let resource = resource.ok_or_else(|| unknown("resourceType", wanted.resource_type))?;
    let pattern = Pattern::numbered(wanted.resource_pattern_type);
    let pattern = pattern.ok_or_else(|| unknown("patternType", wanted.resource_pattern_type))?;
    let operation = Operation::numbered(wanted.operation);
    let operation = operation.ok_or_else(|| unknown("operation", wanted.operation))?;
    let permission = Permission::numbered(wanted.permission_type);
    let permission = permission.ok_or_else(|| unknown("permissionType", wanted.permission_type))?;
    if wanted.resource_name.is_empty() {
        return Err("Invalid empty resource name".to_owned());
    }
    if resource == Resource::Cluster && wanted.resource_name != CLUSTER {
        return Err(format!("The only valid name for the CLUSTER resource is {CLUSTER}"));
    }
    // Kafka takes an empty type and an empty name, too.
    if !wanted.principal.contains(':') {
        return Err("The principal must have the form principalType:principalName".to_owned());
    }
    if wanted.host.is_empty() {
        return Err("Invalid empty host".to_owned());
    }
    let texts = [&wanted.resource_name, &wanted.principal, &wanted.host];
    if texts.iter().any(|text| text.len() > NAME_BYTES_MAX) {
        return Err(format!("A name in the ACL has more than {NAME_BYTES_MAX} bytes"));
    }
    let [name, principal, host] = texts.map(ToString::to_string);
    Ok(Acl { resource, pattern, name, entry: Entry { principal, host, operation, permission } })
}
