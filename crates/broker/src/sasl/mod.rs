//! How a connection comes by its principal: the server's half of SASL (KIP-43, KIP-152, KIP-368). It has no sockets, no
//! clock and no dice of its own.
//!
//! ```text
//!  Handshake ─ SaslHandshake ─▶ Exchange ─ tokens ─▶ Open ─ SaslHandshake ─▶ Exchange …      (re-authentication)
//!      └───────────────────────────┴─▶ Ended: the answer says why, and the connection closes
//! ```
//!
//! A listener without SASL begins at Open. Before Open only ApiVersions, SaslHandshake and SaslAuthenticate are answered.

mod mechanism;
mod oauth;
mod plain;
mod scram;

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::ApiKey;
use milena_wire::Str;

pub use mechanism::{SaslMechanism, UnknownMechanism};
use oauth::Oauth;
use scram::Scram;
pub(crate) use scram::{Credential, ITERATIONS_MAX, ITERATIONS_MIN};

use crate::now::Now;
use crate::refused::Refusal;
use crate::users::Users;

/// Who a connection speaks for, and what it may ask now.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    stage: Stage,
    has_sasl: bool,
    principal: Str,
    /// The mechanism of the last authentication.
    mechanism: Option<SaslMechanism>,
    /// Whether that was by a delegation token.
    is_by_token: bool,
    /// When the client must have authenticated again.
    expires: Option<Instant>,
    /// When the last re-authentication began.
    renewed: Option<Instant>,
}

#[derive(Debug, Clone)]
enum Stage {
    /// All requests are answered.
    Open,
    /// SaslHandshake comes next, or one ApiVersions before it.
    Handshake { has_versions: bool },
    /// Tokens of a mechanism come next, in requests or, after SaslHandshake v0, as they are.
    Exchange { mechanism: SaslMechanism, exchange: Exchange, is_raw: bool },
    /// A client that authenticates again chose another mechanism than before. Its first token is refused.
    OtherMechanism(String),
    /// Authentication has failed.
    Ended(String),
}

/// The exchange of one mechanism.
#[derive(Debug, Clone)]
enum Exchange {
    Plain,
    Scram(Scram),
    Oauth(Oauth),
}

/// The outcome of a token.
#[derive(Debug)]
enum Step {
    /// The exchange goes on with this token.
    Challenge(Vec<u8>),
    /// The client is this user; the last token is for the client. Its credential may end at a time (ms since 1970), and may
    /// be a delegation token.
    Done { user: String, token: Vec<u8>, expires_ms: Option<i64>, by_token: bool },
}

/// Why a client is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// The words for the client.
    pub(crate) message: String,
    /// The words for the log. They may tell more.
    pub(crate) reason: String,
}

/// The answer to a token.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) token: Bytes,
    /// How long the session lasts; zero for ever, or while the exchange goes on.
    pub(crate) lifetime: Duration,
}

/// The outcome of SaslHandshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Tokens come next.
    Begun,
    /// The mechanism is not enabled.
    Unsupported,
    /// It is not the time for it. The connection goes on.
    NotNow,
    /// It is not the time for it, and the connection ends.
    Illegal,
}

/// The principal of a client that is not authenticated.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// The longest session, a year: a token may name any time.
const LIFETIME_MS_MAX: i64 = 365 * 24 * 3600 * 1000;

/// A client may begin to authenticate again this long after the last time it began.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// The session of a connection to a listener without SASL.
    pub(crate) fn open() -> Self {
        Self {
            stage: Stage::Open,
            has_sasl: false,
            principal: Str::from_static(ANONYMOUS),
            mechanism: None,
            is_by_token: false,
            expires: None,
            renewed: None,
        }
    }

    /// The session of a connection to a listener with SASL.
    pub(crate) fn guarded() -> Self {
        Self { stage: Stage::Handshake { has_versions: false }, has_sasl: true, ..Self::open() }
    }

    /// Makes the client's requests those of the user whom its certificate names, unless SASL names one.
    pub(crate) fn certify(&mut self, name: &str) {
        if !self.has_sasl {
            self.principal = format!("User:{name}").into();
        }
    }

    pub(crate) fn principal(&self) -> &Str {
        &self.principal
    }

    /// Whether the client has ever authenticated, or need not.
    pub(crate) fn is_admitted(&self) -> bool {
        !self.has_sasl || self.mechanism.is_some()
    }

    /// Whether the client may ask for delegation tokens and see them: one that has shown who it is, and not by such a token.
    pub(crate) fn may_have_tokens(&self) -> bool {
        !self.is_by_token && (self.has_sasl || self.principal != ANONYMOUS)
    }

    /// Why authentication has failed, if it has. The connection must be closed.
    pub(crate) fn ended(&self) -> Option<&str> {
        match &self.stage {
            Stage::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the next frame is a token without a header.
    pub(crate) fn takes_raw_token(&self) -> bool {
        matches!(self.stage, Stage::Exchange { is_raw: true, .. })
    }

    /// Whether a request of this kind may be handled now.
    pub(crate) fn admit(&self, key: ApiKey, now: Now) -> Result<(), Refusal> {
        let is_of_sasl = matches!(key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        match &self.stage {
            Stage::Open => match self.expires.is_none_or(|expires| now.instant <= expires) {
                true => Ok(()),
                // It is never too late to authenticate again.
                false if key == ApiKey::SaslHandshake => Ok(()),
                false => Err(Refusal::SessionExpired(key)),
            },
            Stage::Handshake { .. } if key == ApiKey::SaslHandshake => Ok(()),
            Stage::Handshake { has_versions: false } if key == ApiKey::ApiVersions => Ok(()),
            // They are answered with an error there.
            Stage::Exchange { .. } | Stage::OtherMechanism(_) if is_of_sasl || key == ApiKey::ApiVersions => {
                Ok(())
            }
            _ => Err(Refusal::Unauthenticated(key)),
        }
    }

    /// Notes that ApiVersions is answered. Returns whether it may be: before authentication once, and not within it.
    pub(crate) fn answer_versions(&mut self) -> bool {
        match &mut self.stage {
            Stage::Open => true,
            Stage::Handshake { has_versions } => !std::mem::replace(has_versions, true),
            Stage::Exchange { .. } | Stage::OtherMechanism(_) | Stage::Ended(_) => false,
        }
    }

    /// Begins to authenticate, for the first time or again.
    pub(crate) fn begin(&mut self, name: &str, version: i16, users: &mut Users, now: Now) -> Handshake {
        match self.stage {
            Stage::Handshake { .. } => {}
            // A session without an end cannot be renewed, as in Kafka.
            Stage::Open if self.has_sasl && self.expires.is_some() => {
                let next = self.renewed.map(|renewed| renewed + RENEWAL_INTERVAL);
                if next.is_some_and(|next| now.instant < next) {
                    return Handshake::NotNow;
                }
                self.renewed = Some(now.instant);
            }
            Stage::Open => return Handshake::NotNow,
            Stage::Exchange { .. } | Stage::OtherMechanism(_) | Stage::Ended(_) => return Handshake::Illegal,
        }
        let Some(mechanism) = users.mechanism(name) else { return Handshake::Unsupported };
        self.stage = match self.mechanism {
            Some(before) if before != mechanism => Stage::OtherMechanism(format!(
                "SASL mechanism '{mechanism}' requested by client is not supported for re-authentication of mechanism \
                 '{before}'"
            )),
            _ => {
                let exchange = match mechanism {
                    SaslMechanism::Plain => Exchange::Plain,
                    SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
                        Exchange::Scram(Scram::new(mechanism))
                    }
                    SaslMechanism::OauthBearer => Exchange::Oauth(Oauth::default()),
                };
                Stage::Exchange { mechanism, exchange, is_raw: version == 0 }
            }
        };
        Handshake::Begun
    }

    /// Whether tokens are expected.
    pub(crate) fn is_exchanging(&self) -> bool {
        matches!(self.stage, Stage::Exchange { .. } | Stage::OtherMechanism(_))
    }

    /// Takes a token of the client. `lifetime_max` is the longest that a session may last (`connections.max.reauth.ms`);
    /// zero is for ever.
    pub(crate) fn step(
        &mut self,
        token: &[u8],
        users: &mut Users,
        lifetime_max: Duration,
        now: Now,
    ) -> Result<Reply, Denial> {
        let (mechanism, step) = match &mut self.stage {
            Stage::Exchange { mechanism, exchange, .. } => (*mechanism, exchange.step(token, users, now)),
            Stage::OtherMechanism(message) => return Err(Denial::told(std::mem::take(message))),
            Stage::Open | Stage::Handshake { .. } | Stage::Ended(_) => {
                return Err(Denial::told("a token was not expected".to_owned()));
            }
        };
        let step = step.map_err(|failure| self.denial(failure, mechanism))?;
        let (user, token, expires_ms, by_token) = match step {
            Step::Challenge(token) => return Ok(Reply { token: token.into(), lifetime: Duration::ZERO }),
            Step::Done { user, token, expires_ms, by_token } => (user, token, expires_ms, by_token),
        };
        let principal = format!("User:{user}");
        if self.mechanism.is_some() && self.principal != principal.as_str() {
            let dotted = |principal: &str| principal.replacen(':', ".", 1);
            return Err(Denial::told(format!(
                "Cannot change principals during re-authentication from {}: {}",
                dotted(&self.principal),
                dotted(&principal)
            )));
        }
        self.stage = Stage::Open;
        self.principal = principal.into();
        self.mechanism = Some(mechanism);
        self.is_by_token = by_token;
        let of_credential =
            expires_ms.map(|expires| expires.saturating_sub(now.unix_ms).clamp(0, LIFETIME_MS_MAX));
        let of_credential = of_credential.map(|lifetime| Duration::from_millis(lifetime as u64));
        let of_settings = (!lifetime_max.is_zero()).then_some(lifetime_max);
        let lifetime = of_credential.into_iter().chain(of_settings).min();
        self.expires = lifetime.map(|lifetime| now.instant + lifetime);
        Ok(Reply { token: token.into(), lifetime: lifetime.unwrap_or_default() })
    }

    /// Ends the session, because authentication has failed.
    pub(crate) fn end(&mut self, reason: String) {
        self.stage = Stage::Ended(reason);
    }

    /// What a client and the log are told of a failure. A client is not told whether a user exists.
    fn denial(&self, failure: Failure, mechanism: SaslMechanism) -> Denial {
        match failure {
            Failure::Told(message) => Denial::told(message.to_owned()),
            Failure::Explained { message, reason } => Denial { message, reason },
            Failure::Hidden(reason) => {
                let what = if self.mechanism.is_some() { "re-authentication" } else { "authentication" };
                let message = format!(
                    "Authentication failed during {what} due to invalid credentials with SASL mechanism {mechanism}"
                );
                Denial { reason: format!("{message}: {reason}"), message }
            }
        }
    }
}

impl Denial {
    fn told(message: String) -> Self {
        Self { reason: message.clone(), message }
    }
}

/// Why an exchange fails.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// The client gets these words, which are Kafka's.
    Told(&'static str),
    /// The client gets these words, and the log others.
    Explained { message: String, reason: String },
    /// Only the log gets these words.
    Hidden(&'static str),
}

/// Kafka's words when a client asks to act as another user.
const OTHER_AUTHORIZATION_ID: Failure = Failure::Told(
    "Authentication failed: Client requested an authorization id that is different from username",
);

impl Exchange {
    fn step(&mut self, token: &[u8], users: &mut Users, now: Now) -> Result<Step, Failure> {
        match self {
            Self::Oauth(oauth) => oauth.step(token, users, now),
            Self::Plain => plain::check(token, users),
            Self::Scram(scram) => scram.step(token, users, now),
        }
    }
}
