//! `CreateDelegationToken`: creates a delegation token.

use milena_core::calls::{CREATE_DELEGATION_TOKEN, Row};
use milena_core::{Failure, Secret};
use milena_messages::create_delegation_token::{
    CreatableRenewers, CreateDelegationTokenRequest, CreateDelegationTokenResponse,
};

use super::delegation_tokens::{joined, millis, principal};
use super::{Admin, DelegationToken, NewDelegationToken};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct CreateToken;

impl ApiCall for CreateToken {
    const ROW: &'static Row = &CREATE_DELEGATION_TOKEN;
    type Request = CreateDelegationTokenRequest;
    type Item = CreateDelegationTokenRequest;
    type Key = ();
    type Found = DelegationToken;

    fn key(&self, _: &CreateDelegationTokenRequest) {}

    fn request(&self, tokens: &[&CreateDelegationTokenRequest]) -> CreateDelegationTokenRequest {
        tokens[0].clone()
    }

    fn answers(&self, response: CreateDelegationTokenResponse) -> Answers<(), DelegationToken> {
        let created = Failure::check(response.error_code, None);
        vec![((), created.map(|()| token(&response)))]
    }
}

fn token(of: &CreateDelegationTokenResponse) -> DelegationToken {
    let requester = (&*of.token_requester_principal_type, &*of.token_requester_principal_name);
    DelegationToken {
        token_id: of.token_id.to_string(),
        hmac: Secret::from(of.hmac.to_vec()),
        owner: joined(&of.principal_type, &of.principal_name),
        requester: Some(requester)
            .filter(|(_, name)| !name.is_empty())
            .map(|(kind, name)| joined(kind, name)),
        renewers: Vec::new(),
        issued_ms: of.issue_timestamp_ms,
        expires_ms: of.expiry_timestamp_ms,
        max_ms: of.max_timestamp_ms,
    }
}

impl Admin {
    /// Creates a delegation token, with which other programs can log in as its owner without knowing its password (KIP-48).
    ///
    /// Kafka gives tokens only to who logged in by SASL or a client certificate, and not to who logged in by a token.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena_broker::{Broker, Listener};
    /// # let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    /// # let cluster = broker.delegation_token_key("a key").start().await?;
    /// # let bootstrap = cluster.bootstrap();
    /// # let sasl = milena::Sasl::scram_sha_256("alice", "pencil");
    /// # let client = milena::Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
    /// use std::time::Duration;
    ///
    /// use milena::{Client, NewDelegationToken, Sasl};
    ///
    /// let token = NewDelegationToken::new().renewer("User:scheduler").max_lifetime(Duration::from_secs(3600));
    /// let token = client.admin().create_delegation_token(token).await?;
    /// // Another program logs in with it.
    /// let sasl = Sasl::scram_sha_256_from(token.login());
    /// let other = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
    /// # other.admin().topics().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a principal has no type and name, the brokers have no `delegation.token.secret.key`
    /// ([`ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED`](crate::ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED)), this connection may not ask
    /// for tokens ([`ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED`](crate::ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)), this
    /// principal may not create tokens for that owner, or no broker answers; [`Error::maybe_written`] tells whether one may have been
    /// created all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_delegation_token(&self, token: NewDelegationToken) -> Result<DelegationToken, Error> {
        const DOING: &str = "creating a delegation token";
        let request = request(&token).map_err(|why| Error::caller(DOING, why))?;
        let created = self.call_one(&CreateToken, request).await;
        let created = created.map_err(|failure| {
            let of = token.owner.as_ref().map(|owner| format!(" for {owner}")).unwrap_or_default();
            Error::new(format!("{DOING}{of}"), failure)
        })?;
        Ok(DelegationToken { renewers: token.renewers, ..created })
    }
}

fn request(token: &NewDelegationToken) -> Result<CreateDelegationTokenRequest, String> {
    let owner = token.owner.as_deref().map(principal).transpose()?;
    let (owner_principal_type, owner_principal_name) =
        owner.map(|(kind, name)| (kind.into(), name.into())).unzip();
    let renewer = |text: &String| {
        let (kind, name) = principal(text)?;
        let (principal_type, principal_name) = (kind.into(), name.into());
        Ok(CreatableRenewers { principal_type, principal_name, ..Default::default() })
    };
    Ok(CreateDelegationTokenRequest {
        owner_principal_type,
        owner_principal_name,
        renewers: token.renewers.iter().map(renewer).collect::<Result<_, String>>()?,
        max_lifetime_ms: millis(token.max_lifetime),
        ..Default::default()
    })
}
