//! CreateDelegationToken (38): issues a token by which a client logs in as its owner. KIP-48, KIP-373 (version 3: tokens for
//! other users).

use milena_messages::create_delegation_token::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::tokens::{NAME_BYTES_MAX, Principal, RENEWER_BYTES_MAX, RENEWERS_MAX, USER};

pub(super) const API: Api = Api {
    // The file of all tokens is written anew.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::CreateDelegationToken, |call, reader| call.answer(reader, handle))
};

/// The times in an answer that the broker has given before it asked its controller, as Kafka's brokers do.
pub(super) const NO_TIME: i64 = -1;

fn handle(call: &Call<'_>, request: CreateDelegationTokenRequest) -> CreateDelegationTokenResponse {
    let requester = Principal::parse(call.peer.principal());
    let name = request.owner_principal_name.as_deref().unwrap_or_default();
    let owner = match (name, request.owner_principal_type.as_deref()) {
        ("", _) => requester.clone(),
        (name, kind) => Principal::new(kind.unwrap_or(USER), name),
    };
    let mut response = CreateDelegationTokenResponse {
        principal_type: owner.kind.as_str().into(),
        principal_name: owner.name.as_str().into(),
        ..Default::default()
    };
    if call.envelope.version >= 3 {
        response.token_requester_principal_type = requester.kind.as_str().into();
        response.token_requester_principal_name = requester.name.as_str().into();
    }
    if let Err(code) = check(call, &request, &owner, &requester) {
        response.error_code = code;
        response.issue_timestamp_ms = NO_TIME;
        response.expiry_timestamp_ms = NO_TIME;
        response.max_timestamp_ms = NO_TIME;
        return response;
    }
    let renewers = request.renewers.iter();
    let renewers =
        renewers.map(|renewer| Principal::new(&renewer.principal_type, &renewer.principal_name)).collect();
    let mut users = call.parts.users();
    let id = users.token_id();
    let parties = [owner, requester];
    match users.tokens.create(id, parties, renewers, request.max_lifetime_ms, call.now.unix_ms) {
        Ok(token) => {
            response.issue_timestamp_ms = token.facts.issued_ms;
            response.expiry_timestamp_ms = token.facts.expires_ms;
            response.max_timestamp_ms = token.facts.max_ms;
            response.token_id = token.facts.id.into();
            response.hmac = token.hmac.bytes().to_vec().into();
        }
        Err(code) => response.error_code = code,
    }
    response
}

fn check(
    call: &Call<'_>,
    request: &CreateDelegationTokenRequest,
    owner: &Principal,
    requester: &Principal,
) -> Result<(), ErrorCode> {
    call.check_tokens()?;
    if owner != requester && !call.may(Operation::CreateTokens, Resource::User, &owner.to_string()) {
        return Err(ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED);
    }
    if request.renewers.iter().any(|renewer| renewer.principal_type != USER) {
        return Err(ErrorCode::INVALID_PRINCIPAL_TYPE);
    }
    let is_long = [owner, requester].iter().any(|who| who.kind.len().max(who.name.len()) > NAME_BYTES_MAX)
        || request.renewers.iter().any(|renewer| renewer.principal_name.len() > RENEWER_BYTES_MAX);
    match is_long || request.renewers.len() > RENEWERS_MAX {
        true => Err(ErrorCode::POLICY_VIOLATION),
        false => Ok(()),
    }
}
