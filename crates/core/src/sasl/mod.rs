//! SASL: the exchange in which a client proves who it is, one file per mechanism.
//!
//! ```text
//!  Credentials ─▶ Exchange::new ─ first() ─▶ broker ─ challenge ─▶ handle() ─┬─▶ Send: the next message
//!                                                                            ├─▶ Work, then handle_worked()
//!                                                                            └─▶ Done
//! ```
//!
//! An exchange must not know how its messages travel: [`Handshake`](crate::Handshake) puts them into SaslAuthenticate requests.

mod bearer;
mod custom;
mod keeper;
mod msk;
mod scram;
mod sigv4;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use self::bearer::Bearer;
use self::custom::Stepper;
pub use self::custom::{Custom, CustomExchange, CustomMechanism, CustomStep, Stepped};
pub use self::keeper::{TokenKeeper, Use};
use self::msk::Msk;
pub use self::msk::{AwsKeys, VALID_SECONDS};
use self::scram::Scram;
pub use self::scram::{Derivation, Hash, SaltedPassword};
pub use self::sigv4::percent_encode;
use crate::failure::Obstacle;
use crate::{Instant, Secret};

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// The password itself (RFC 4616).
    Plain,
    /// A proof that the client knows the password (RFC 5802, RFC 7677).
    Scram(Hash),
    /// A token of OAuth 2 (RFC 7628, KIP-255).
    OauthBearer,
    /// A signed request to AWS, for Amazon's MSK.
    AwsMskIam,
    /// Another one, which the application brings along.
    Custom {
        /// Its name.
        name: &'static str,
        /// Whether it sends something that others could use.
        sends_secret: bool,
    },
}

impl Mechanism {
    /// All mechanisms that are here.
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::Scram(Hash::Sha256),
        Self::Scram(Hash::Sha512),
        Self::OauthBearer,
        Self::AwsMskIam,
    ];

    /// Its name in the protocol and in `sasl.mechanism`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::AwsMskIam => "AWS_MSK_IAM",
            Self::Custom { name, .. } => name,
        }
    }

    /// Whether the secret itself is sent, or what can be used in its place for a while, so that everybody on the way can read it
    /// unless the connection is encrypted.
    pub fn sends_secret(self) -> bool {
        match self {
            Self::Plain | Self::OauthBearer | Self::AwsMskIam => true,
            Self::Scram(_) => false,
            Self::Custom { sends_secret, .. } => sends_secret,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who a client says it is, and how it proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password, for [`Mechanism::Plain`] and [`Mechanism::Scram`].
    Password(Password),
    /// A token, for [`Mechanism::OauthBearer`].
    Token(Token),
    /// Keys of AWS, for [`Mechanism::AwsMskIam`].
    Aws(AwsKeys),
    /// What a mechanism of the application's knows.
    Custom(Custom),
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// The hash of SCRAM, or none for PLAIN.
    pub scram: Option<Hash>,
    /// The user.
    pub user: Arc<str>,
    /// The password.
    pub password: Secret,
    /// Whether the two are the id and the HMAC of a delegation token (KIP-48), which brokers look up elsewhere.
    pub is_delegation_token: bool,
}

/// A token of OAuth 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token as it is sent.
    pub value: Secret,
    /// SASL extensions (KIP-342).
    pub extensions: Vec<(String, String)>,
    /// Whom it stands for, if that is known.
    pub principal: Option<Arc<str>>,
    /// When it was fetched.
    pub since: Instant,
    /// When it ends.
    pub until: Instant,
}

impl Token {
    /// Whether it has so little of its life left that no session is to begin with it: less than 20 %.
    pub fn is_old(&self, now: Instant) -> bool {
        const LEFT_MIN: u32 = 5;
        self.until - now < (self.until - self.since) / LEFT_MIN
    }
}

impl Credentials {
    /// The mechanism that they are for.
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Password(Password { scram: None, .. }) => Mechanism::Plain,
            Self::Password(Password { scram: Some(hash), .. }) => Mechanism::Scram(*hash),
            Self::Token(_) => Mechanism::OauthBearer,
            Self::Aws(_) => Mechanism::AwsMskIam,
            Self::Custom(Custom(of)) => {
                Mechanism::Custom { name: of.name(), sends_secret: of.sends_secret() }
            }
        }
    }

    /// When they end by themselves.
    pub fn until(&self) -> Option<Instant> {
        match self {
            Self::Password(_) | Self::Custom(_) => None,
            Self::Token(token) => Some(token.until),
            Self::Aws(keys) => keys.until,
        }
    }

    /// Whether a session that began with `earlier` can go on with these. A broker refuses to change the principal or the
    /// mechanism of a session (KIP-368). The principal of a token may be unknown; then it is taken to be the same.
    pub fn may_follow(&self, earlier: &Self) -> bool {
        let is_same = match (self, earlier) {
            (Self::Password(this), Self::Password(that)) => this.user == that.user,
            (Self::Token(this), Self::Token(that)) => {
                this.principal.is_none() || that.principal.is_none() || this.principal == that.principal
            }
            // A role has other keys each time, and their principal is not known here.
            (Self::Aws(_), Self::Aws(_)) => true,
            (Self::Custom(this), Self::Custom(that)) => this == that,
            _ => false,
        };
        is_same && self.mechanism() == earlier.mechanism()
    }

    /// Refuses what a mechanism cannot carry.
    ///
    /// Kafka's brokers and Java's client compare users and passwords by their bytes in UTF-8 and do not prepare them
    /// (SASLprep, RFC 4013). Neither does this client, so that the same password works with all of them. What SASLprep forbids
    /// and no one can type, control characters, is refused.
    ///
    /// # Errors
    /// The reason, without the secret.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Password(of) => {
                if of.user.is_empty() {
                    return Err("the user name is empty".into());
                }
                if of.is_delegation_token && of.scram.is_none() {
                    let user = &of.user;
                    return Err(format!(
                        "the delegation token {user:?} is for SCRAM; PLAIN would send it to the broker"
                    ));
                }
                let Ok(password) = std::str::from_utf8(of.password.expose()) else {
                    return Err(format!("the password of user {:?} is not UTF-8", of.user));
                };
                if password.is_empty() {
                    return Err(format!("the password of user {:?} is empty", of.user));
                }
                let is_wrong = |text: &str| text.chars().any(char::is_control);
                if is_wrong(&of.user) {
                    return Err(format!("the user name {:?} has a control character", of.user));
                }
                if is_wrong(password) {
                    let why = "has a control character, such as a line's end that was read from a file";
                    return Err(format!("the password of user {:?} {why}", of.user));
                }
                Ok(())
            }
            Self::Token(token) => bearer::check(token),
            Self::Aws(keys) => keys.check(),
            Self::Custom(_) => Ok(()),
        }
    }

    /// The principal that brokers make of them unless they are told otherwise, as in `User:alice`. A delegation token does not
    /// tell its owner.
    pub fn principal(&self) -> Option<Arc<str>> {
        let name = match self {
            Self::Password(of) if of.is_delegation_token => return None,
            Self::Password(of) => &of.user,
            Self::Token(token) => token.principal.as_ref()?,
            // Brokers name the role of the keys, which the client does not know, or what their mechanism tells them.
            Self::Aws(_) | Self::Custom(_) => return None,
        };
        Some(format!("User:{name}").into())
    }

    /// Whose they are, for errors: `the credentials of user "alice"`.
    fn whose(&self) -> String {
        match self {
            Self::Password(of) if of.is_delegation_token => format!("the delegation token {:?}", of.user),
            Self::Password(of) => format!("the credentials of user {:?}", of.user),
            Self::Token(Token { principal: Some(principal), .. }) => format!("the token of {principal:?}"),
            Self::Token(_) => "the token".into(),
            Self::Aws(keys) => format!("the AWS access key {:?}", keys.access_key),
            Self::Custom(Custom(of)) => format!("the client's {} login", of.name()),
        }
    }

    /// A text of the peer's, for an error: short, on one line, and without the secret.
    pub(crate) fn quoted(&self, text: &str) -> String {
        printable(&self.hidden(text))
    }

    /// A text of the peer's without the secret.
    fn hidden(&self, text: &str) -> String {
        let (secret, other) = match self {
            Self::Password(of) => (&of.password, None),
            Self::Token(token) => (&token.value, None),
            Self::Aws(keys) => (&keys.secret, keys.session_token.as_ref()),
            // The mechanism alone knows what is secret.
            Self::Custom(_) => return text.to_owned(),
        };
        let text = secret.hide_in(text);
        other.map_or(text.clone(), |other| other.hide_in(&text))
    }
}

/// The most of a peer's text that an error repeats.
const QUOTED_BYTES_MAX: usize = 512;

/// A peer's text on one line, and not too long.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= QUOTED_BYTES_MAX {
            shown.push('…');
            break;
        }
        shown.push(if character.is_control() { ' ' } else { character });
    }
    shown.trim().to_owned()
}

/// The unpredictable part of an exchange. It must be another one each time.
pub type Nonce = [u8; 24];

/// What is another one in each exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// For SCRAM.
    pub nonce: Nonce,
    /// The time of day in seconds since 1970, for signatures that are good for some minutes.
    pub unix_seconds: i64,
}

/// One exchange. The client speaks first.
#[derive(Debug)]
pub struct Exchange {
    credentials: Arc<Credentials>,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    Scram(Scram),
    Bearer(Bearer),
    Msk(Msk),
    Custom(Stepper),
}

/// What follows from a broker's challenge.
#[derive(Debug)]
pub enum Turn {
    /// This message goes to the broker.
    Send(Bytes),
    /// This work takes milliseconds or more, and may block. It is run elsewhere, and its result handed to
    /// [`Exchange::handle_worked`].
    Work(Work),
    /// The client has nothing more to say, and trusts the broker.
    Done,
}

/// Work that takes too long for a task which moves bytes.
#[derive(Debug)]
pub enum Work {
    /// A key is derived from a password, which takes milliseconds, or a second if the broker asks for many iterations.
    Derive(Derivation),
    /// A mechanism of the application's takes a step.
    Step(CustomStep),
}

/// What came of work.
#[derive(Debug)]
pub enum Worked {
    /// The key.
    Key(SaltedPassword),
    /// What the mechanism said.
    Stepped(Stepped),
}

impl Work {
    /// Does the work.
    pub fn run(self) -> Worked {
        match self {
            Self::Derive(derivation) => Worked::Key(derivation.run()),
            Self::Step(step) => Worked::Stepped(step.run()),
        }
    }
}

/// Why an exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the credentials were refused, or the broker is not trusted.
    pub obstacle: Obstacle,
    /// The reason, a clause.
    pub reason: String,
}

impl Refusal {
    fn of_credentials(reason: impl Into<String>) -> Self {
        Self { obstacle: Obstacle::Credentials, reason: reason.into() }
    }

    fn of_peer(reason: impl Into<String>) -> Self {
        Self { obstacle: Obstacle::Peer, reason: reason.into() }
    }
}

impl Exchange {
    /// Begins an exchange with the broker at `host`, which is a name or an address without a port.
    pub fn new(credentials: Arc<Credentials>, host: &Arc<str>, fresh: &Fresh) -> Self {
        let state = match &*credentials {
            Credentials::Password(Password { scram: Some(hash), .. }) => {
                State::Scram(Scram::new(*hash, &fresh.nonce))
            }
            Credentials::Password(_) => State::Plain,
            Credentials::Token(_) => State::Bearer(Bearer::default()),
            Credentials::Aws(_) => State::Msk(Msk::new(host, fresh.unix_seconds)),
            Credentials::Custom(_) => State::Custom(Stepper::new(host)),
        };
        Self { credentials, state }
    }

    /// The credentials.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The client's first message, or the work that makes it.
    pub fn first(&self) -> Turn {
        if let (State::Custom(stepper), Credentials::Custom(Custom(mechanism))) =
            (&self.state, &*self.credentials)
        {
            return Turn::Work(Work::Step(stepper.begin(mechanism)));
        }
        Turn::Send(match (&self.state, &*self.credentials) {
            (State::Scram(scram), Credentials::Password(of)) => scram.first(of),
            (_, Credentials::Password(of)) => {
                secret_bytes([b"\0", of.user.as_bytes(), b"\0", of.password.expose()].into_iter())
            }
            (_, Credentials::Token(token)) => bearer::first(token),
            (State::Msk(msk), Credentials::Aws(keys)) => msk.first(keys),
            // `new` gives each kind of credentials the state of its mechanism.
            (_, Credentials::Aws(_) | Credentials::Custom(_)) => Bytes::new(),
        })
    }

    /// The broker's answer to the last message.
    ///
    /// # Errors
    /// When the broker refuses, cannot be trusted, or says what no broker would.
    pub fn handle(&mut self, challenge: &[u8]) -> Result<Turn, Refusal> {
        if matches!(&self.state, State::Bearer(bearer) if bearer.told().is_some()) {
            // A broker that goes on after it has refused the token has accepted nothing.
            return Err(Refusal::of_credentials(self.refusal(None)));
        }
        match (&mut self.state, &*self.credentials) {
            (State::Scram(scram), Credentials::Password(of)) => scram.handle(of, challenge),
            (State::Bearer(bearer), credentials) => Ok(bearer.handle(credentials, challenge)),
            (State::Msk(msk), credentials) => msk.handle(credentials, challenge),
            (State::Custom(stepper), _) => stepper.handle(challenge).map(|step| Turn::Work(Work::Step(step))),
            // A broker has nothing to add.
            _ => Ok(Turn::Done),
        }
    }

    /// The result of the work that [`Turn::Work`] asked for. Answers with what follows, or with none if no such work was asked
    /// for.
    ///
    /// # Errors
    /// When the application's mechanism refuses to go on.
    pub fn handle_worked(&mut self, worked: Worked) -> Result<Option<Turn>, Refusal> {
        Ok(match (&mut self.state, worked) {
            (State::Scram(scram), Worked::Key(salted)) => scram.handle_derived(&salted).map(Turn::Send),
            (State::Custom(stepper), Worked::Stepped(stepped)) => {
                Some(stepper.handle_stepped(stepped)?.map_or(Turn::Done, Turn::Send))
            }
            _ => None,
        })
    }

    /// Whether a refusal says that the broker has too much to do, and nothing about the credentials. MSK limits how often
    /// clients log in by AWS_MSK_IAM.
    pub(crate) fn is_throttled(&self, message: Option<&str>) -> bool {
        matches!(self.state, State::Msk(_)) && message.is_some_and(|text| text.contains("Too many connects"))
    }

    /// Why the broker refused the credentials, in its own words if it had any.
    pub(crate) fn refusal(&self, message: Option<&str>) -> String {
        let whose = self.credentials.whose();
        // A broker of OAUTHBEARER has told its reason before, and repeats it in other words.
        let told = match &self.state {
            State::Bearer(bearer) => bearer.told().map(str::to_owned),
            State::Plain | State::Scram(_) | State::Msk(_) | State::Custom(_) => None,
        };
        let told = told.or_else(|| message.filter(|text| !text.is_empty()).map(str::to_owned));
        match told {
            Some(told) => {
                let told = self.credentials.quoted(&told);
                format!("the broker refused {whose}: {}", told.trim_end_matches('.'))
            }
            None => format!("the broker refused {whose}"),
        }
    }
}

/// The parts as bytes whose memory is overwritten when they are dropped.
fn secret_bytes<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    // The vector must not grow: that would leave its first memory behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(parts.clone().map(<[u8]>::len).sum()));
    parts.for_each(|part| bytes.extend_from_slice(part));
    Bytes::from_owner(bytes)
}
