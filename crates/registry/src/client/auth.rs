//! What a registry is told about who asks.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use milena::http::Tokens;
use milena::{ConnectError, ProvideToken, Secret};
use tokio::sync::OnceCell;

/// How the client authenticates itself, beside a certificate.
#[derive(Clone, Default)]
pub(super) enum Auth {
    #[default]
    None,
    /// The whole value of the header.
    Fixed(Secret),
    Tokens(Arc<dyn ProvideToken>),
}

impl Auth {
    pub(super) fn basic(user: &str, password: &Secret) -> Result<Self, &'static str> {
        if user.contains(':') {
            return Err("the user's name has a colon, which basic authentication cannot have");
        }
        let pair = Secret::from([user.as_bytes(), b":", password.expose()].concat());
        Ok(Self::Fixed(Secret::from(format!("Basic {}", STANDARD.encode(pair.expose())))))
    }

    pub(super) fn bearer(token: &Secret) -> Self {
        Self::Fixed(Secret::from([b"Bearer ", token.expose()].concat()))
    }
}

/// The header's value, which may be a token that is kept until it is about to end.
pub(super) struct Authorization {
    auth: Auth,
    timeout: Duration,
    tokens: OnceCell<Tokens>,
}

impl Authorization {
    pub(super) fn new(auth: Auth, timeout: Duration) -> Self {
        Self { auth, timeout, tokens: OnceCell::new() }
    }

    pub(super) async fn value(&self) -> Result<Option<Secret>, ConnectError> {
        match &self.auth {
            Auth::None => Ok(None),
            Auth::Fixed(value) => Ok(Some(value.clone())),
            Auth::Tokens(provider) => {
                let start = || async { Tokens::start(Arc::clone(provider), self.timeout) };
                let token = self.tokens.get_or_try_init(start).await?.token().await?;
                Ok(Some(Secret::from([b"Bearer ", token.expose()].concat())))
            }
        }
    }
}
