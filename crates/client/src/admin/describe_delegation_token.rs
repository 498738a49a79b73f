//! `DescribeDelegationToken`: the delegation tokens of a cluster.

use milena_core::calls::{DESCRIBE_DELEGATION_TOKEN, Row};
use milena_core::{Failure, Secret};
use milena_messages::describe_delegation_token::{
    DescribeDelegationTokenOwner, DescribeDelegationTokenRequest, DescribeDelegationTokenResponse,
    DescribedDelegationToken,
};

use super::delegation_tokens::{joined, principal};
use super::{Admin, DelegationToken};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeTokens;

impl ApiCall for DescribeTokens {
    const ROW: &'static Row = &DESCRIBE_DELEGATION_TOKEN;
    type Request = DescribeDelegationTokenRequest;
    /// There is one.
    type Item = DescribeDelegationTokenRequest;
    type Key = ();
    type Found = Vec<DelegationToken>;

    fn key(&self, _: &DescribeDelegationTokenRequest) {}

    fn request(&self, requests: &[&DescribeDelegationTokenRequest]) -> DescribeDelegationTokenRequest {
        requests[0].clone()
    }

    fn answers(&self, response: DescribeDelegationTokenResponse) -> Answers<(), Vec<DelegationToken>> {
        let found = Failure::check(response.error_code, None);
        vec![((), found.map(|()| response.tokens.iter().map(token).collect()))]
    }
}

fn token(of: &DescribedDelegationToken) -> DelegationToken {
    let requester = (&*of.token_requester_principal_type, &*of.token_requester_principal_name);
    let renewers = of.renewers.iter().map(|of| joined(&of.principal_type, &of.principal_name));
    DelegationToken {
        token_id: of.token_id.to_string(),
        hmac: Secret::from(of.hmac.to_vec()),
        owner: joined(&of.principal_type, &of.principal_name),
        requester: Some(requester)
            .filter(|(_, name)| !name.is_empty())
            .map(|(kind, name)| joined(kind, name)),
        renewers: renewers.collect(),
        issued_ms: of.issue_timestamp,
        expires_ms: of.expiry_timestamp,
        max_ms: of.max_timestamp,
    }
}

impl Admin {
    /// Lists the delegation tokens that these principals (as in `User:alice`) own or may renew, or all if none is given, sorted by
    /// owner and age. A principal
    /// sees the tokens that it owns or may renew, and those for which it has `Describe` on the token or `DescribeTokens` on the
    /// owner.
    ///
    /// # Errors
    /// When an owner has no type and name, the brokers have no `delegation.token.secret.key`, this connection may not ask for tokens,
    /// or no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_delegation_tokens<T: AsRef<str>>(
        &self,
        owners: impl IntoIterator<Item = T>,
    ) -> Result<Vec<DelegationToken>, Error> {
        const DOING: &str = "listing delegation tokens";
        let owner = |text: T| {
            let (kind, name) = principal(text.as_ref())?;
            let (principal_type, principal_name) = (kind.into(), name.into());
            Ok(DescribeDelegationTokenOwner { principal_type, principal_name, ..Default::default() })
        };
        let owners = owners.into_iter().map(owner).collect::<Result<Vec<_>, String>>();
        let owners =
            Some(owners.map_err(|why| Error::caller(DOING, why))?).filter(|owners| !owners.is_empty());
        let request = DescribeDelegationTokenRequest { owners, ..Default::default() };
        let found = self.call_one(&DescribeTokens, request).await;
        let mut found = found.map_err(|failure| Error::harmless(DOING, failure))?;
        found.sort_by(|one, other| {
            (&one.owner, one.issued_ms, &one.token_id).cmp(&(&other.owner, other.issued_ms, &other.token_id))
        });
        Ok(found)
    }
}
