//! `ExpireDelegationToken`: ends a delegation token, now or later.

use std::time::Duration;

use milena_core::calls::{EXPIRE_DELEGATION_TOKEN, Row};
use milena_core::{Failure, Secret};
use milena_messages::expire_delegation_token::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use super::Admin;
use super::delegation_tokens::millis;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct ExpireToken;

impl ApiCall for ExpireToken {
    const ROW: &'static Row = &EXPIRE_DELEGATION_TOKEN;
    type Request = ExpireDelegationTokenRequest;
    /// The HMAC, and after how long; -1 for now.
    type Item = (Secret, i64);
    type Key = ();
    type Found = i64;

    fn key(&self, _: &(Secret, i64)) {}

    fn request(&self, tokens: &[&(Secret, i64)]) -> ExpireDelegationTokenRequest {
        let (hmac, expiry_time_period_ms) = tokens[0];
        let (hmac, expiry_time_period_ms) = (hmac.expose().to_vec().into(), *expiry_time_period_ms);
        ExpireDelegationTokenRequest { hmac, expiry_time_period_ms, ..Default::default() }
    }

    fn answers(&self, response: ExpireDelegationTokenResponse) -> Answers<(), i64> {
        let expired = Failure::check(response.error_code, None);
        vec![((), expired.map(|()| response.expiry_timestamp_ms))]
    }
}

impl Admin {
    /// Sets when the delegation token with this HMAC ends: `after` that long from now, or at once if none is given, which removes it.
    /// Connections that logged in with it stay. Only its owner and its renewers may do it. Returns when it ends, in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// When there is no such token, it has ended, this principal may not end it, or no broker answers; [`Error::maybe_written`] tells
    /// whether it may have been changed all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn expire_delegation_token(
        &self,
        hmac: &Secret,
        after: Option<Duration>,
    ) -> Result<i64, Error> {
        let expired = self.call_one(&ExpireToken, (hmac.clone(), millis(after))).await;
        expired.map_err(|failure| Error::new("ending a delegation token", failure))
    }
}
