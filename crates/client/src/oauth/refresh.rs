//! The grant `refresh_token` (RFC 6749, section 6).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::credentials::{Asked, asked};
use super::endpoint::Endpoint;
use super::form::Form;
use super::{misconfigured, time_of_day};
use crate::runtime::Executor;
use crate::sasl::{ProvideToken, Providing, Token};
use crate::{ConnectError, Obstacle, Secret};

/// The grant `refresh_token`: a token that somebody got for the client, by logging in elsewhere, is exchanged for access
/// tokens.
///
/// Issuers may give a new refresh token with each answer, and not take the one before again. The new one is used from then
/// on. It is kept in memory only: a program that starts again needs one that is still valid, which
/// [`current`](Self::current) tells.
///
/// Clones share the token, also those in several clients: one of them asks at a time, and the next one waits for its answer,
/// so that a token that may be used once is not sent twice.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::oauth::{Endpoint, RefreshToken};
/// use milena::{Client, Sasl};
/// # use milena_broker::{Broker, Issuer, Listener};
/// # let issuer = Issuer::builder().client("cli", "hunter2").start().await?;
/// # let broker = Broker::builder().listener(Listener::sasl_plaintext()).oauth(issuer.validator()?);
/// # let cluster = broker.start().await?;
/// # let (bootstrap, first) = (cluster.bootstrap(), issuer.refresh_token("cli"));
/// # let endpoint = Endpoint::new(issuer.token_url()).allow_loopback_http();
///
/// let tokens = RefreshToken::new(endpoint, &*first).client("cli", "hunter2");
/// let sasl = Sasl::oauth_bearer(tokens.clone());
/// # let sasl = sasl.allow_plaintext();
/// let client = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
/// assert_ne!(tokens.current().expose(), first.as_bytes());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RefreshToken {
    endpoint: Endpoint,
    client: Option<(String, Option<Secret>)>,
    is_header_encoded: bool,
    asked: Asked,
    /// Clones share it, so that one of them does not use what another has used up.
    current: Arc<Mutex<Secret>>,
    /// Held from reading the current token until the next one is stored.
    turn: Arc<tokio::sync::Mutex<()>>,
}

asked!(RefreshToken);

impl RefreshToken {
    /// Begins with this refresh token. The endpoint is a URL or an [`Endpoint`].
    pub fn new(endpoint: impl Into<Endpoint>, refresh_token: impl Into<Secret>) -> Self {
        Self {
            endpoint: endpoint.into(),
            client: None,
            is_header_encoded: false,
            asked: Asked::default(),
            current: Arc::new(Mutex::new(refresh_token.into())),
            turn: Arc::default(),
        }
    }

    /// Sends the client's id and secret as well, in the header `Authorization`.
    #[must_use]
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.client = Some((id.into(), Some(secret.into())));
        self
    }

    /// Sends the client's id as well, of a client that has no secret.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client = Some((id.into(), None));
        self
    }

    /// As [`ClientCredentials::header_urlencode`](super::ClientCredentials::header_urlencode).
    #[must_use]
    pub fn header_urlencode(mut self, is_encoded: bool) -> Self {
        self.is_header_encoded = is_encoded;
        self
    }

    /// The refresh token that is used next.
    pub fn current(&self) -> Secret {
        self.locked().clone()
    }

    /// A token for the current refresh token, whose turn it is.
    async fn exchanged(&self) -> Result<Token, ConnectError> {
        let form = || {
            let mut form = Form::of_grant("refresh_token");
            form.add("refresh_token", self.current());
            match &self.client {
                Some((id, Some(secret))) => form.authorize(id, secret, self.is_header_encoded)?,
                Some((id, None)) => form.add("client_id", id.as_str()),
                None => {}
            }
            self.asked.add_to(&mut form);
            Ok(form)
        };
        let answer = self.endpoint.ask(form).await?;
        if let Some(next) = answer.refresh_token() {
            *self.locked() = next.clone();
        }
        Ok(self.asked.extended(answer.into_token(time_of_day())?))
    }

    fn locked(&self) -> MutexGuard<'_, Secret> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideToken for RefreshToken {
    fn token(&self) -> Providing<Token> {
        let this = self.clone();
        Box::pin(async move {
            // In a task of its own, which the endpoint's timeouts end: if this future is dropped when the issuer has used the token up,
            // the next one is still kept.
            let runtime = Executor::current().map_err(|why| misconfigured(why.to_string()))?;
            let (reply, answer) = oneshot::channel();
            runtime.spawn_here(async move {
                let _turn = this.turn.lock().await;
                // Nobody waits for it any more, and nothing was sent.
                if !reply.is_closed() {
                    drop(reply.send(this.exchanged().await));
                }
            });
            let ended = |_| Err(ConnectError::new(Obstacle::Network, "the runtime of the request has ended"));
            answer.await.unwrap_or_else(ended)
        })
    }
}
