//! DescribeUserScramCredentials (50): who can log in by SCRAM, and by which hashes. KIP-554.

use std::collections::BTreeMap;

use milena_messages::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult, UserName,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::Api;
use crate::acls::Operation;
use crate::call::Call;
use crate::users::Users;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeUserScramCredentials, |call, reader| call.answer(reader, handle))
};

fn handle(
    call: &Call<'_>,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if let Err(error_code) = call.check_cluster(Operation::Describe) {
        let error_message = Some(Str::from_static(error_code.description()));
        let denied = |user: UserName| DescribeUserScramCredentialsResult {
            user: user.name,
            error_code,
            error_message: error_message.clone(),
            ..Default::default()
        };
        let results = request.users.unwrap_or_default().into_iter().map(denied).collect();
        return DescribeUserScramCredentialsResponse {
            error_code,
            error_message,
            results,
            ..Default::default()
        };
    }
    let users = call.parts.users();
    let results = match request.users.filter(|asked| !asked.is_empty()) {
        None => users.names().map(|name| describe(&users, Str::from(name))).collect(),
        Some(asked) => {
            let mut counts: BTreeMap<Str, usize> = BTreeMap::new();
            asked.into_iter().for_each(|user| *counts.entry(user.name).or_default() += 1);
            let described = counts.into_iter().map(|(name, count)| match count {
                1 => describe(&users, name),
                _ => {
                    let what =
                        "Cannot describe SCRAM credentials for the same user twice in a single request";
                    failed(ErrorCode::DUPLICATE_RESOURCE, what, name)
                }
            });
            described.collect()
        }
    };
    DescribeUserScramCredentialsResponse { error_message: None, results, ..Default::default() }
}

fn describe(users: &Users, user: Str) -> DescribeUserScramCredentialsResult {
    let Some(credentials) = users.describe(&user) else {
        let what = "Attempt to describe a user credential that does not exist";
        return failed(ErrorCode::RESOURCE_NOT_FOUND, what, user);
    };
    let info = |(hash, iterations): (crate::hash::Hash, u32)| CredentialInfo {
        mechanism: hash.mechanism(),
        iterations: iterations as i32,
        ..Default::default()
    };
    let credential_infos = credentials.into_iter().map(info).collect();
    DescribeUserScramCredentialsResult { user, error_message: None, credential_infos, ..Default::default() }
}

fn failed(error_code: ErrorCode, what: &str, user: Str) -> DescribeUserScramCredentialsResult {
    let error_message = Some(format!("{what}: {user}").into());
    DescribeUserScramCredentialsResult { user, error_code, error_message, ..Default::default() }
}
