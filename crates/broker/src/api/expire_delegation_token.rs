//! ExpireDelegationToken (40): ends a token, at once or later. KIP-48.

use milena_messages::ApiKey;
use milena_messages::expire_delegation_token::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use super::create_delegation_token::NO_TIME;
use super::row::Api;
use crate::call::Call;
use crate::tokens::Principal;

pub(super) const API: Api = Api {
    // All tokens are compared, and their file is written anew.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::ExpireDelegationToken, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: ExpireDelegationTokenRequest) -> ExpireDelegationTokenResponse {
    if let Err(error_code) = call.check_tokens() {
        return ExpireDelegationTokenResponse {
            error_code,
            expiry_timestamp_ms: NO_TIME,
            ..Default::default()
        };
    }
    let who = Principal::parse(call.peer.principal());
    let (period, now) = (request.expiry_time_period_ms, call.now.unix_ms);
    match call.parts.users().tokens.expire(&request.hmac, &who, period, now) {
        Ok(expiry_timestamp_ms) => {
            ExpireDelegationTokenResponse { expiry_timestamp_ms, ..Default::default() }
        }
        Err(error_code) => ExpireDelegationTokenResponse { error_code, ..Default::default() },
    }
}
