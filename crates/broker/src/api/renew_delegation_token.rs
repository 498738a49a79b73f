//! RenewDelegationToken (39): has a token last longer, up to its longest life. KIP-48.

use milena_messages::ApiKey;
use milena_messages::renew_delegation_token::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use super::create_delegation_token::NO_TIME;
use super::row::Api;
use crate::call::Call;
use crate::tokens::Principal;

pub(super) const API: Api = Api {
    // All tokens are compared, and their file is written anew.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::RenewDelegationToken, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: RenewDelegationTokenRequest) -> RenewDelegationTokenResponse {
    if let Err(error_code) = call.check_tokens() {
        return RenewDelegationTokenResponse {
            error_code,
            expiry_timestamp_ms: NO_TIME,
            ..Default::default()
        };
    }
    let who = Principal::parse(call.peer.principal());
    let (period, now) = (request.renew_period_ms, call.now.unix_ms);
    match call.parts.users().tokens.renew(&request.hmac, &who, period, now) {
        Ok(expiry_timestamp_ms) => RenewDelegationTokenResponse { expiry_timestamp_ms, ..Default::default() },
        Err(error_code) => RenewDelegationTokenResponse { error_code, ..Default::default() },
    }
}
