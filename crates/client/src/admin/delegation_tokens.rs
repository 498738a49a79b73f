//! The public types of delegation tokens (KIP-48).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use milena_core::Secret;

use crate::Login;

/// A delegation token: who has its id and its HMAC can log in as its owner, by SCRAM, until it ends (KIP-48).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    /// Its id, which takes the place of a user's name.
    pub token_id: String,
    /// Its HMAC. [`login`](Self::login) makes a password of it.
    pub hmac: Secret,
    /// The principal for which it stands, as in `User:alice`.
    pub owner: String,
    /// The principal that asked for it. None if the broker does not tell, as before Kafka 3.3 (KIP-373).
    pub requester: Option<String>,
    /// The principals besides the owner that may renew it. A token that was just created does not tell them.
    pub renewers: Vec<String>,
    /// When it was created, in milliseconds since 1970.
    pub issued_ms: i64,
    /// When it ends unless it is renewed, in milliseconds since 1970.
    pub expires_ms: i64,
    /// When it ends in any case, in milliseconds since 1970.
    pub max_ms: i64,
}

/// A delegation token to be created. Default: owned by whoever asks, with no renewers besides, for as long as the brokers allow.
///
/// ```
/// use std::time::Duration;
///
/// use milena::NewDelegationToken;
///
/// let token = NewDelegationToken::new().renewer("User:scheduler").max_lifetime(Duration::from_secs(3600));
/// # assert_ne!(token, NewDelegationToken::new());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewDelegationToken {
    pub(super) owner: Option<String>,
    pub(super) renewers: Vec<String>,
    pub(super) max_lifetime: Option<Duration>,
}

impl DelegationToken {
    /// What a client logs in with, by SCRAM: for [`Sasl::scram_sha_256_from`](crate::Sasl::scram_sha_256_from) and
    /// [`Sasl::scram_sha_512_from`](crate::Sasl::scram_sha_512_from).
    pub fn login(&self) -> Login {
        Login::delegation_token(&*self.token_id, self.password())
    }

    /// The HMAC in base64, as Java's clients and other programs take it for the password.
    pub fn password(&self) -> Secret {
        Secret::from(BASE64.encode(self.hmac.expose()))
    }
}

impl NewDelegationToken {
    /// A token for whoever asks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The principal for which it stands, as in `User:alice`, if that is not who asks (KIP-373). It needs `CreateTokens` on that
    /// user.
    #[must_use]
    pub fn owner(self, principal: impl Into<String>) -> Self {
        Self { owner: Some(principal.into()), ..self }
    }

    /// A principal that may renew it too, as in `User:scheduler`; may be repeated.
    #[must_use]
    pub fn renewer(mut self, principal: impl Into<String>) -> Self {
        self.renewers.push(principal.into());
        self
    }

    /// How long it lives at most, renewed or not. Default: the brokers' `delegation.token.max.lifetime.ms`, which is a week unless
    /// it was set, and the most.
    #[must_use]
    pub fn max_lifetime(self, lifetime: Duration) -> Self {
        Self { max_lifetime: Some(lifetime), ..self }
    }
}

/// The type and the name of a principal, as in `User:alice`.
pub(super) fn principal(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok((kind, name)),
        _ => Err(format!("{text:?} is not a principal: write TYPE:NAME, as in User:alice")),
    }
}

/// A principal by its type and its name.
pub(super) fn joined(kind: &str, name: &str) -> String {
    format!("{kind}:{name}")
}

/// Milliseconds, or -1 for what the brokers choose.
pub(super) fn millis(duration: Option<Duration>) -> i64 {
    duration.map_or(-1, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_show_its_hmac() {
        let token = DelegationToken {
            token_id: "id".into(),
            hmac: Secret::from("hunter2"),
            owner: "User:alice".into(),
            requester: None,
            renewers: Vec::new(),
            issued_ms: 0,
            expires_ms: 1,
            max_ms: 2,
        };
        let shown = format!("{token:?} {:?} {:?}", token.password(), token.login());
        assert!(!shown.contains("hunter2") && !shown.contains(&BASE64.encode("hunter2")), "{shown}");
        assert_eq!(token.password().expose(), BASE64.encode("hunter2").as_bytes());
    }

    #[test]
    fn principals_have_a_type_and_a_name() {
        assert_eq!(principal("User:CN=a:b"), Ok(("User", "CN=a:b")));
        for text in ["", "alice", ":alice", "User:"] {
            assert!(principal(text).is_err(), "{text}");
        }
    }
}
