//! AlterUserScramCredentials (51): gives users passwords for SCRAM, and takes them away. KIP-554.

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::Operation;
use crate::call::Call;
use crate::hash::Hash;
use crate::sasl::{Credential, ITERATIONS_MAX, ITERATIONS_MIN};
use crate::secret::Secret;
use crate::users::{Change, Users};

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::AlterUserScramCredentials, |call, reader| call.answer(reader, handle))
};

/// Why a user is not changed.
type Denial = (ErrorCode, &'static str);

fn handle(call: &Call<'_>, request: AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    if let Err(error_code) = call.check_cluster(Operation::Alter) {
        let names = request.deletions.into_iter().map(|deletion| deletion.name);
        let names: BTreeSet<Str> = names.chain(request.upsertions.into_iter().map(|one| one.name)).collect();
        let error_message = Some(Str::from_static(error_code.description()));
        let denied = |user| AlterUserScramCredentialsResult {
            user,
            error_code,
            error_message: error_message.clone(),
            ..Default::default()
        };
        let results = names.into_iter().map(denied).collect();
        return AlterUserScramCredentialsResponse { results, ..Default::default() };
    }
    let mut users = call.parts.users();
    let mut plans: BTreeMap<Str, Result<(Hash, Change), Denial>> = BTreeMap::new();
    let deletions = request.deletions.iter().map(|deletion| (&deletion.name, delete(&users, deletion)));
    let upsertions = request.upsertions.iter().map(|upsertion| (&upsertion.name, upsert(&users, upsertion)));
    for (name, plan) in deletions.chain(upsertions) {
        match plans.get_mut(name) {
            None => drop(plans.insert(name.clone(), plan)),
            Some(Err(_)) => {}
            Some(first) => *first = Err((ErrorCode::DUPLICATE_RESOURCE, TWICE)),
        }
    }
    let mut results = Vec::new();
    let mut changes = Vec::new();
    for (user, plan) in plans {
        let (error_code, error_message) = match plan {
            Ok((hash, change)) => {
                changes.push((user.to_string(), hash, change));
                (ErrorCode::NONE, None)
            }
            Err((code, message)) => (code, Some(Str::from_static(message))),
        };
        results.push(AlterUserScramCredentialsResult {
            user,
            error_code,
            error_message,
            ..Default::default()
        });
    }
    if let Err(error) = users.alter(changes) {
        tracing::error!(%error, "cannot keep the users");
        for result in results.iter_mut().filter(|result| result.error_code.is_none()) {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.error_message = Some(Str::from_static(ErrorCode::KAFKA_STORAGE_ERROR.description()));
        }
    }
    AlterUserScramCredentialsResponse { results, ..Default::default() }
}

const TWICE: &str = "A user credential cannot be altered twice in the same request";

fn check(name: &str, mechanism: i8) -> Result<Hash, Denial> {
    if name.is_empty() {
        return Err((ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty"));
    }
    Hash::of_mechanism(mechanism).ok_or((ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"))
}

fn delete(users: &Users, wanted: &ScramCredentialDeletion) -> Result<(Hash, Change), Denial> {
    let hash = check(&wanted.name, wanted.mechanism)?;
    let has = |known: Vec<(Hash, u32)>| known.iter().any(|(known, _)| *known == hash);
    match users.describe(&wanted.name).is_some_and(has) {
        true => Ok((hash, Change::Remove)),
        false => {
            let what = "Attempt to delete a user credential that does not exist";
            Err((ErrorCode::RESOURCE_NOT_FOUND, what))
        }
    }
}

fn upsert(users: &Users, wanted: &ScramCredentialUpsertion) -> Result<(Hash, Change), Denial> {
    let hash = check(&wanted.name, wanted.mechanism)?;
    let unacceptable = |what| Err((ErrorCode::UNACCEPTABLE_CREDENTIAL, what));
    let iterations = match u32::try_from(wanted.iterations) {
        Ok(iterations @ ITERATIONS_MIN..=ITERATIONS_MAX) => iterations,
        Ok(iterations) if iterations > ITERATIONS_MAX => return unacceptable("Too many iterations"),
        _ => return unacceptable("Too few iterations"),
    };
    if wanted.name.len() > NAME_BYTES_MAX || wanted.salt.len() > SALT_BYTES_MAX {
        return unacceptable("The name or the salt is too long");
    }
    if users.describe(&wanted.name).is_none() && !users.has_room() {
        return Err((ErrorCode::POLICY_VIOLATION, "This broker keeps no more users"));
    }
    let salted = Secret::from(wanted.salted_password.to_vec());
    let credential = Credential::of_salted(hash, &salted, wanted.salt.to_vec(), iterations);
    Ok((hash, Change::Set(credential)))
}

/// The longest name and the longest salt that are kept. Kafka has no limit.
const NAME_BYTES_MAX: usize = 1024;
const SALT_BYTES_MAX: usize = 1024;
