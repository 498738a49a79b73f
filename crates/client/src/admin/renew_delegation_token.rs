//! `RenewDelegationToken`: lengthens the life of a delegation token.

use std::time::Duration;

use milena_core::calls::{RENEW_DELEGATION_TOKEN, Row};
use milena_core::{Failure, Secret};
use milena_messages::renew_delegation_token::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use super::Admin;
use super::delegation_tokens::millis;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct RenewToken;

impl ApiCall for RenewToken {
    const ROW: &'static Row = &RENEW_DELEGATION_TOKEN;
    type Request = RenewDelegationTokenRequest;
    /// The HMAC, and for how long.
    type Item = (Secret, i64);
    type Key = ();
    type Found = i64;

    fn key(&self, _: &(Secret, i64)) {}

    fn request(&self, tokens: &[&(Secret, i64)]) -> RenewDelegationTokenRequest {
        let (hmac, renew_period_ms) = tokens[0];
        let hmac = hmac.expose().to_vec().into();
        RenewDelegationTokenRequest { hmac, renew_period_ms: *renew_period_ms, ..Default::default() }
    }

    fn answers(&self, response: RenewDelegationTokenResponse) -> Answers<(), i64> {
        let renewed = Failure::check(response.error_code, None);
        vec![((), renewed.map(|()| response.expiry_timestamp_ms))]
    }
}

impl Admin {
    /// Lengthens the life of the delegation token with this HMAC: it ends `period` from now, or after the brokers'
    /// `delegation.token.expiry.time.ms` (a day unless it was set) if none is given, but never after its greatest lifetime. Only its
    /// owner and its renewers may do it. Returns when it ends, in milliseconds since 1970.
    ///
    /// # Errors
    /// When there is no such token, it has ended, this principal may not renew it, or no broker answers; [`Error::maybe_written`]
    /// tells whether it may have been renewed all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn renew_delegation_token(
        &self,
        hmac: &Secret,
        period: Option<Duration>,
    ) -> Result<i64, Error> {
        let renewed = self.call_one(&RenewToken, (hmac.clone(), millis(period))).await;
        renewed.map_err(|failure| Error::new("renewing a delegation token", failure))
    }
}
