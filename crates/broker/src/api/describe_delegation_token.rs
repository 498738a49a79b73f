//! DescribeDelegationToken (41): the tokens of some owners, with their secrets, as far as the client may see them. KIP-48,
//! KIP-373 (version 3: who asked for them).

use std::collections::BTreeSet;

use milena_messages::describe_delegation_token::{
    DescribeDelegationTokenRequest, DescribeDelegationTokenResponse, DescribedDelegationToken,
    DescribedDelegationTokenRenewer,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::tokens::{Facts, Principal, Token};

pub(super) const API: Api = Api {
    is_repeatable: true,
    // The answer may have ten thousand tokens.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::DescribeDelegationToken, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeDelegationTokenRequest) -> DescribeDelegationTokenResponse {
    let failed = |error_code| DescribeDelegationTokenResponse { error_code, ..Default::default() };
    if let Err(code) = call.check_tokens() {
        return failed(code);
    }
    let users = call.parts.users();
    if !users.tokens.is_enabled() {
        return failed(ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED);
    }
    let owner = |owner: milena_messages::describe_delegation_token::DescribeDelegationTokenOwner| {
        Principal::new(&owner.principal_type, &owner.principal_name)
    };
    let owners: Option<BTreeSet<Principal>> =
        request.owners.map(|owners| owners.into_iter().map(owner).collect());
    let who = Principal::parse(call.peer.principal());
    let is_asked = |facts: &Facts| match &owners {
        None => true,
        Some(owners) => {
            owners.contains(&facts.owner) || facts.renewers.iter().any(|who| owners.contains(who))
        }
    };
    let is_visible = |facts: &Facts| {
        facts.is_of(&who)
            || call.may(Operation::Describe, Resource::DelegationToken, &facts.id)
            || call.may(Operation::DescribeTokens, Resource::User, &facts.owner.to_string())
    };
    let seen = users.tokens.iter().filter(|token| is_asked(&token.facts) && is_visible(&token.facts));
    let tokens = seen.map(|token| described(token, call.envelope.version)).collect();
    DescribeDelegationTokenResponse { tokens, ..Default::default() }
}

fn described(token: &Token, version: i16) -> DescribedDelegationToken {
    let Facts { id, owner, requester, renewers, issued_ms, expires_ms, max_ms } = &token.facts;
    let renewer = |renewer: &Principal| DescribedDelegationTokenRenewer {
        principal_type: renewer.kind.as_str().into(),
        principal_name: renewer.name.as_str().into(),
        ..Default::default()
    };
    let mut described = DescribedDelegationToken {
        principal_type: owner.kind.as_str().into(),
        principal_name: owner.name.as_str().into(),
        issue_timestamp: *issued_ms,
        expiry_timestamp: *expires_ms,
        max_timestamp: *max_ms,
        token_id: id.as_str().into(),
        hmac: token.hmac.bytes().to_vec().into(),
        renewers: renewers.iter().map(renewer).collect(),
        ..Default::default()
    };
    if version >= 3 {
        described.token_requester_principal_type = requester.kind.as_str().into();
        described.token_requester_principal_name = requester.name.as_str().into();
    }
    described
}
