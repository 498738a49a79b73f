//! The exchange that a connection begins with: one request at a time, until the peer may be asked anything.
//!
//! ```text
//!  ask at our newest version ──▶ answered ─▶ done
//!         │
//!         ├─▶ UNSUPPORTED_VERSION ─▶ ask again at the newest the broker named, or 0 ─▶ answered ─▶ done
//!         │
//!         └─▶ hung up, or an answer that does not decode ─▶ connect again and ask at 3, then at 0
//! ```
//!
//! With credentials, SASL follows the versions (KIP-43, KIP-152):
//!
//! ```text
//!  SaslHandshake names the mechanism ─▶ SaslAuthenticate carries the exchange, one message a time ─▶ done
//!                                              └─▶ a key is derived elsewhere ─▶ the next message
//! ```
//!
//! A listener that requires SASL hangs up at the first request of a client without credentials, and says nothing. The handshake of the
//! next connection asks for a mechanism that no listener has, so the answer tells whether this one requires SASL, and what it has:
//!
//! ```text
//!  SaslHandshake ─▶ ILLEGAL_SASL_STATE: it has no SASL ─▶ done
//!         └─▶ UNSUPPORTED_SASL_MECHANISM, with the mechanisms that it has ─▶ an error that names them
//! ```
//!
//! Servers that do not know a version of ApiVersions hang up on it (Event Hubs on 4), so what a handshake has learned about
//! the version outlives its connection. Each answer and each end lowers the version: a server sees a few attempts at most.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use milena_messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use milena_messages::{ApiKey, ErrorCode, Message};
use milena_wire::{DecodeError, Reader, Str};

use crate::failure::Obstacle;
use crate::sasl::{Credentials, Exchange, Fresh, Refusal, Turn, Work, Worked};
use crate::{BrokerVersions, Failure, Features};

/// The handshake of one connection.
///
/// The driver sends what [`poll_request`](Self::poll_request) returns, hands the answer to
/// [`handle_answer`](Self::handle_answer), and asks for the next request, until [`is_done`](Self::is_done). Only one request
/// is out at a time, because each depends on the answer to the one before. If the connection ends first, the driver hands the
/// cause to [`handle_failure`](Self::handle_failure), which answers with the handshake for the next connection or with the
/// error that ends the attempt.
///
/// A broker that demands SASL is told the credentials after the versions: see [`authenticating`](Self::authenticating). The
/// driver then also asks [`poll_work`](Self::poll_work) after each answer. The answer to the last round gives the
/// session's lifetime, and a re-authentication (KIP-368) starts again at SaslHandshake on the live connection:
/// [`reauthenticate`](Self::reauthenticate). [`Lifecycle`](crate::Lifecycle) says when.
#[derive(Debug)]
pub struct Handshake {
    step: Step,
    /// The version of ApiVersions that the peer is asked at, and answered at once it is done.
    version: i16,
    /// The last answer did not decode.
    is_undecodable: bool,
    versions: BrokerVersions,
    features: Features,
    sasl: Option<Sasl>,
    /// Whether to ask if the listener requires SASL. It does not matter if there are credentials.
    asks_for_sasl: bool,
}

/// What the handshake knows of its SASL exchange.
#[derive(Debug)]
struct Sasl {
    /// The broker's name or address.
    host: Arc<str>,
    exchange: Exchange,
    /// The client's next message.
    message: Bytes,
    /// Work for somebody else.
    work: Option<Work>,
    /// How long the broker lets the session live.
    lifetime: Option<Duration>,
    /// A random number, so that connections made at the same time do not renew their sessions at the same time.
    spread: u8,
}

/// What the handshake does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A request of this kind is to be sent.
    Ask(HandshakeKind),
    /// A request of this kind was sent, and its answer is to come.
    Await(HandshakeKind),
    /// Work is being done elsewhere.
    Work,
    /// The peer may be asked anything.
    Done,
}

/// The kinds of request that a handshake sends. An answer comes back with the kind of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeKind {
    /// Which versions of which requests the peer speaks.
    Versions,
    /// Which SASL mechanism the client wants.
    Mechanism,
    /// A message of the mechanism's exchange.
    Authenticate,
}

/// A request that a handshake sends.
#[derive(Debug, Clone, PartialEq)]
pub enum HandshakeRequest {
    /// Which versions of which requests the peer speaks.
    Versions {
        /// The request.
        request: ApiVersionsRequest,
        /// The version to encode it at. No versions are agreed upon yet, so the handshake says which.
        version: i16,
    },
    /// Which SASL mechanism the client wants.
    Mechanism {
        /// The request.
        request: SaslHandshakeRequest,
        /// The version to encode it at.
        version: i16,
    },
    /// A message of the mechanism's exchange.
    Authenticate {
        /// The request. It holds a secret.
        request: SaslAuthenticateRequest,
        /// The version to encode it at.
        version: i16,
    },
}

/// How the client introduces itself (KIP-511). Brokers accept letters, digits, `.` and `-`.
const SOFTWARE_NAME: Str = Str::from_static("milena");
const SOFTWARE_VERSION: Str = Str::from_static(env!("CARGO_PKG_VERSION"));
/// The versions at which a server is asked next if it hangs up: the first version that tells the client's name, known to
/// everything that calls itself Kafka 2.4; then 0, which every server knows.
const LOWER: [i16; 2] = [3, 0];
/// With version 0 of SaslHandshake the exchange goes on without requests. Brokers before Kafka 1.0 know nothing else.
const SASL_HANDSHAKE: i16 = 1;
/// A mechanism that no listener has.
const NO_MECHANISM: Str = Str::from_static("NONE");
/// More mechanisms of a broker than these are not named in an error.
const MECHANISMS_NAMED_MAX: usize = 16;

impl Handshake {
    /// Begins at the newest version we speak.
    pub fn new() -> Self {
        Self::at(*ApiVersionsRequest::VERSIONS.end())
    }

    /// Begins at `version`, which the server answered before.
    pub fn at(version: i16) -> Self {
        let versions = ApiVersionsRequest::VERSIONS;
        Self {
            step: Step::Ask(HandshakeKind::Versions),
            version: version.clamp(*versions.start(), *versions.end()),
            is_undecodable: false,
            versions: BrokerVersions::default(),
            features: Features::default(),
            sasl: None,
            asks_for_sasl: false,
        }
    }

    /// The same, which asks whether the listener requires SASL if it has no credentials: the last connection ended at its first
    /// request.
    #[must_use]
    pub fn asking_for_sasl(self) -> Self {
        Self { asks_for_sasl: true, ..self }
    }

    /// The same, which authenticates to the broker at `host` with `credentials` before it is done.
    #[must_use]
    pub fn authenticating(self, credentials: Arc<Credentials>, host: &Arc<str>, fresh: &Fresh) -> Self {
        Self { sasl: Some(Sasl::new(credentials, Arc::clone(host), fresh)), ..self }
    }

    /// Begins again at SaslHandshake, on a connection whose handshake was done.
    pub fn reauthenticate(&mut self, credentials: Arc<Credentials>, fresh: &Fresh) {
        debug_assert!(self.is_done(), "one handshake at a time");
        let host = self.sasl.take().map_or_else(|| Arc::from(""), |earlier| earlier.host);
        self.sasl = Some(Sasl::new(credentials, host, fresh));
        self.step = Step::Ask(HandshakeKind::Mechanism);
    }

    /// What the peer was told last, if it demands SASL.
    pub fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.sasl.as_ref().map(|sasl| sasl.exchange.credentials())
    }

    /// How long the broker lets the session live, once the handshake is done. None if it sets no limit.
    pub fn session_lifetime(&self) -> Option<Duration> {
        self.sasl.as_ref().and_then(|sasl| sasl.lifetime)
    }

    /// The version of ApiVersions that the peer is asked at. Once the handshake is done, the peer has answered it.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the peer was asked at a newer version in vain.
    pub fn is_lowered(&self) -> bool {
        self.version < *ApiVersionsRequest::VERSIONS.end()
    }

    /// Whether the peer may be asked anything.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// The versions that the peer speaks. None before it has told.
    pub fn versions(&self) -> &BrokerVersions {
        &self.versions
    }

    /// The features that the peer's cluster has finalised, once the handshake is done.
    pub fn features(&self) -> Features {
        self.features
    }

    /// The request to send now. It is returned once; the next one follows from its answer.
    pub fn poll_request(&mut self) -> Option<HandshakeRequest> {
        let Step::Ask(kind) = self.step else { return None };
        self.step = Step::Await(kind);
        let sasl = self.sasl.as_mut();
        Some(match kind {
            HandshakeKind::Mechanism => {
                let mechanism = sasl.map_or(NO_MECHANISM, |sasl| {
                    Str::from_static(sasl.exchange.credentials().mechanism().name())
                });
                let request = SaslHandshakeRequest { mechanism };
                HandshakeRequest::Mechanism { request, version: SASL_HANDSHAKE }
            }
            HandshakeKind::Authenticate => {
                let auth_bytes = std::mem::take(&mut sasl?.message);
                let request = SaslAuthenticateRequest { auth_bytes, ..Default::default() };
                let version = self.versions.choose::<SaslAuthenticateRequest>(i16::MAX).unwrap_or_default();
                HandshakeRequest::Authenticate { request, version }
            }
            HandshakeKind::Versions => HandshakeRequest::Versions {
                request: ApiVersionsRequest {
                    client_software_name: SOFTWARE_NAME,
                    client_software_version: SOFTWARE_VERSION,
                    ..Default::default()
                },
                version: self.version,
            },
        })
    }

    /// A random number of this session, once there are credentials.
    pub(crate) fn spread(&self) -> u8 {
        self.sasl.as_ref().map_or(0, |sasl| sasl.spread)
    }

    /// Whether a request is to be sent now, or there is work for it.
    pub fn has_more(&self) -> bool {
        matches!(self.step, Step::Ask(_)) || self.sasl.as_ref().is_some_and(|sasl| sasl.work.is_some())
    }

    /// Work that takes too long for a task which moves bytes. It is returned once; its result goes to
    /// [`handle_worked`](Self::handle_worked).
    pub fn poll_work(&mut self) -> Option<Work> {
        self.sasl.as_mut()?.work.take()
    }

    /// The work is done.
    ///
    /// # Errors
    /// When the application's mechanism refuses to go on. The connection is of no use then.
    pub fn handle_worked(&mut self, peer: &str, worked: Worked) -> Result<(), Failure> {
        if let (Step::Work, Some(sasl)) = (self.step, &mut self.sasl) {
            let turn =
                sasl.exchange.handle_worked(worked).map_err(|refusal| sasl.failure(peer, None, refusal))?;
            if let Some(turn) = turn {
                self.step = sasl.take(turn);
            }
        }
        Ok(())
    }

    /// The answer to the request of this kind came: `body` is the frame after its header.
    ///
    /// # Errors
    /// When the answer is malformed, or the broker refuses. The connection is of no use then.
    pub fn handle_answer(&mut self, peer: &str, kind: HandshakeKind, body: &Bytes) -> Result<(), Failure> {
        debug_assert_eq!(self.step, Step::Await(kind), "an answer comes once, to the request that is out");
        match kind {
            HandshakeKind::Versions => {
                self.handle_versions(peer, body)?;
                match &self.sasl {
                    Some(sasl) if self.is_done() => {
                        self.step = Step::Ask(HandshakeKind::Mechanism);
                        sasl.check_versions(peer, &self.versions)
                    }
                    None if self.is_done() && self.asks_for_sasl => {
                        let range = self.versions.range(ApiKey::SaslHandshake);
                        if range.is_some_and(|range| range.contains(&SASL_HANDSHAKE)) {
                            self.step = Step::Ask(HandshakeKind::Mechanism);
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            HandshakeKind::Mechanism if self.sasl.is_none() => {
                requires_sasl(peer, body)?;
                self.step = Step::Done;
                Ok(())
            }
            HandshakeKind::Mechanism | HandshakeKind::Authenticate => {
                let Some(sasl) = &mut self.sasl else { return Ok(()) };
                self.step = if kind == HandshakeKind::Mechanism {
                    sasl.handle_mechanism(peer, body)?
                } else {
                    let version = self.versions.choose::<SaslAuthenticateRequest>(i16::MAX);
                    sasl.handle_authenticate(peer, body, version.unwrap_or_default())?
                };
                Ok(())
            }
        }
    }

    fn handle_versions(&mut self, peer: &str, body: &Bytes) -> Result<(), Failure> {
        let malformed = |error: DecodeError| undecodable(peer, "ApiVersions", &error);
        self.is_undecodable = true;
        let code = Reader::new(body).i16("ApiVersionsResponse.ErrorCode").map_err(malformed)?;
        if ErrorCode::from_i16(code) == ErrorCode::UNSUPPORTED_VERSION && self.version > 0 {
            self.is_undecodable = false;
            // A broker that does not know the version answers in version 0 (KIP-511) and names the versions it knows. Some
            // brokers put the code in front of an answer of another version; they know version 0 as well.
            let named = ApiVersionsResponse::decode(&mut Reader::new(body), 0).ok();
            let named =
                named.and_then(|named| named.api_keys.iter().find(|range| range.api_key == 18).cloned());
            // Below the version it refused, so that the exchange ends even if the broker's answer contradicts itself.
            self.version = named.map_or(0, |range| range.max_version).clamp(0, self.version - 1);
            self.step = Step::Ask(HandshakeKind::Versions);
            return Ok(());
        }
        let response =
            ApiVersionsResponse::decode(&mut Reader::new(body), self.version).map_err(malformed)?;
        self.is_undecodable = false;
        match response.error_code {
            ErrorCode::NONE => {
                self.versions = BrokerVersions::new(&response.api_keys);
                self.features = Features::of(&response);
                self.step = Step::Done;
                Ok(())
            }
            code => Err(Failure::answer(code, Some("the broker refuses to name the versions it speaks"))),
        }
    }

    /// The connection ended with `failure` before the handshake was done. Answers with the handshake for a new connection,
    /// which asks at a lower version, if the peer may have hung up because of the version or its answer did not decode.
    ///
    /// # Errors
    /// When a new connection would meet the same. The error is the one to tell to the callers that wait for the connection.
    /// Whether they should try again, and whose fault it is, follows from the broker's code, or from the
    /// [`Obstacle`](crate::Obstacle) if there was no answer.
    pub fn handle_failure(self, failure: Failure) -> Result<Self, Failure> {
        let is_of_versions =
            matches!(self.step, Step::Ask(HandshakeKind::Versions) | Step::Await(HandshakeKind::Versions));
        let is_about_version =
            is_of_versions && (self.is_undecodable || matches!(failure, Failure::Lost { .. }));
        let lower = LOWER.into_iter().find(|lower| *lower < self.version);
        if let Some(lower) = lower.filter(|_| is_about_version) {
            return Ok(Self { sasl: self.sasl, asks_for_sasl: self.asks_for_sasl, ..Self::at(lower) });
        }
        Err(match failure {
            Failure::Lost { peer, reason, .. } if !is_of_versions && self.sasl.is_none() => {
                Failure::unreachable(
                    peer,
                    format!(
                        "{reason} when it was asked whether it requires SASL; the client has no credentials"
                    ),
                )
            }
            Failure::Lost { peer, reason, .. } if !is_of_versions => {
                let mechanism = self.credentials().map_or("", |credentials| credentials.mechanism().name());
                Failure::unreachable(
                    peer,
                    format!("{reason} while the client authenticated with {mechanism}"),
                )
            }
            Failure::Lost { peer, reason, .. } => Failure::unreachable(
                peer,
                format!(
                    "{reason} before it answered the first request: it may expect TLS or SASL, or not be a Kafka broker"
                ),
            ),
            other => other,
        })
    }
}

/// The mechanisms that an answer names. What cannot be the name of one (RFC 4422) is not shown, nor what has the client's secret:
/// a broker could put anything there that it has learned.
fn enabled(response: &SaslHandshakeResponse, credentials: Option<&Credentials>) -> String {
    let is_of_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_name = |name: &str| (1..=20).contains(&name.len()) && name.bytes().all(is_of_name);
    let has_secret = |name: &str| credentials.is_some_and(|credentials| credentials.quoted(name) != name);
    let named = response.mechanisms.iter().map(|name| &**name).take(MECHANISMS_NAMED_MAX);
    let shown: Vec<_> = named.filter(|name| is_name(name) && !has_secret(name)).collect();
    match (shown.len(), response.mechanisms.len()) {
        (0, 1..) => "some whose names cannot be shown".to_owned(),
        (shown_count, count) if shown_count < count => format!("{} and others", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// Whether the listener requires SASL, by its answer to a client that has no credentials.
fn requires_sasl(peer: &str, body: &Bytes) -> Result<(), Failure> {
    let response = SaslHandshakeResponse::decode(&mut Reader::new(body), SASL_HANDSHAKE);
    let response = response.map_err(|error| undecodable(peer, "SaslHandshake", &error))?;
    if response.error_code != ErrorCode::UNSUPPORTED_SASL_MECHANISM {
        return Ok(());
    }
    let has = match &*enabled(&response, None) {
        "" => String::new(),
        enabled => format!("; it has {enabled}"),
    };
    Err(Failure::Unauthenticated {
        peer: peer.into(),
        mechanism: "",
        code: Some(response.error_code),
        obstacle: Obstacle::Configuration,
        reason: format!(
            "this listener requires SASL, and the client has no credentials{has}: set security.protocol to SASL_SSL or \
             SASL_PLAINTEXT, and sasl.mechanism, sasl.username and sasl.password (ClientBuilder::sasl)"
        )
        .into(),
    })
}

impl HandshakeRequest {
    /// Its kind.
    pub fn kind(&self) -> HandshakeKind {
        match self {
            Self::Versions { .. } => HandshakeKind::Versions,
            Self::Mechanism { .. } => HandshakeKind::Mechanism,
            Self::Authenticate { .. } => HandshakeKind::Authenticate,
        }
    }
}

impl Sasl {
    fn new(credentials: Arc<Credentials>, host: Arc<str>, fresh: &Fresh) -> Self {
        let (exchange, spread) = (Exchange::new(credentials, &host, fresh), fresh.nonce[0]);
        Self { host, exchange, message: Bytes::new(), work: None, lifetime: None, spread }
    }

    fn failure(&self, peer: &str, code: Option<ErrorCode>, refusal: Refusal) -> Failure {
        let mechanism = self.exchange.credentials().mechanism().name();
        let Refusal { obstacle, reason } = refusal;
        Failure::Unauthenticated { peer: peer.into(), mechanism, code, obstacle, reason: reason.into() }
    }

    /// The settings ask for something that the broker does not have.
    fn misconfigured(&self, peer: &str, code: Option<ErrorCode>, reason: impl Into<String>) -> Failure {
        self.failure(peer, code, Refusal { obstacle: Obstacle::Configuration, reason: reason.into() })
    }

    /// Refuses a broker that does not have the requests of SASL as they are since Kafka 1.0.
    fn check_versions(&self, peer: &str, versions: &BrokerVersions) -> Result<(), Failure> {
        let why = match versions.range(ApiKey::SaslHandshake) {
            None => "the broker has no SASL",
            Some(range) if !range.contains(&SASL_HANDSHAKE) => {
                "the broker has SASL as it was before Kafka 1.0, which this client does not speak"
            }
            Some(_) => match versions.choose::<SaslAuthenticateRequest>(i16::MAX) {
                Ok(_) => return Ok(()),
                Err(_) => "the broker has no version of SaslAuthenticate that this client speaks",
            },
        };
        Err(self.misconfigured(peer, None, why))
    }

    fn handle_mechanism(&mut self, peer: &str, body: &Bytes) -> Result<Step, Failure> {
        let response = SaslHandshakeResponse::decode(&mut Reader::new(body), SASL_HANDSHAKE);
        let response = response.map_err(|error| undecodable(peer, "SaslHandshake", &error))?;
        let code = Some(response.error_code);
        match response.error_code {
            ErrorCode::NONE => {
                let turn = self.exchange.first();
                Ok(self.take(turn))
            }
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let why = match &*enabled(&response, Some(self.exchange.credentials())) {
                    "" => "the broker has not enabled this mechanism, and names none that it has".to_owned(),
                    enabled => format!("the broker has not enabled this mechanism; it has {enabled}"),
                };
                Err(self.misconfigured(peer, code, why))
            }
            ErrorCode::ILLEGAL_SASL_STATE => {
                let why = "this listener has no SASL: its security protocol is PLAINTEXT or SSL";
                Err(self.misconfigured(peer, code, why))
            }
            other => {
                let why = format!("the broker refuses SASL with {}: {}", other.name(), other.description());
                Err(self.misconfigured(peer, code, why.trim_end_matches('.')))
            }
        }
    }

    fn handle_authenticate(&mut self, peer: &str, body: &Bytes, version: i16) -> Result<Step, Failure> {
        let response = SaslAuthenticateResponse::decode(&mut Reader::new(body), version);
        let response = response.map_err(|error| undecodable(peer, "SaslAuthenticate", &error))?;
        if response.error_code != ErrorCode::NONE {
            let code = response.error_code;
            let message = response.error_message.as_deref();
            let mut reason = self.exchange.refusal(message);
            if code != ErrorCode::SASL_AUTHENTICATION_FAILED {
                reason = format!("{reason} ({})", code.name());
            }
            if self.exchange.is_throttled(message) {
                return Err(Failure::unreachable(peer, reason));
            }
            return Err(self.failure(peer, Some(code), Refusal { obstacle: Obstacle::Credentials, reason }));
        }
        // The last answer has the one that counts.
        let lifetime = u64::try_from(response.session_lifetime_ms).unwrap_or_default();
        self.lifetime = (lifetime > 0).then(|| Duration::from_millis(lifetime));
        let turn = self.exchange.handle(&response.auth_bytes);
        let turn = turn.map_err(|refusal| self.failure(peer, None, refusal))?;
        Ok(self.take(turn))
    }

    /// What the handshake does next.
    fn take(&mut self, turn: Turn) -> Step {
        match turn {
            Turn::Send(message) => {
                self.message = message;
                Step::Ask(HandshakeKind::Authenticate)
            }
            Turn::Work(work) => {
                self.work = Some(work);
                Step::Work
            }
            Turn::Done => Step::Done,
        }
    }
}

fn undecodable(peer: &str, what: &str, error: &DecodeError) -> Failure {
    let reason = format!("its {what} answer does not decode: {error}");
    Failure::Malformed { peer: peer.into(), reason: reason.into() }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use milena_messages::api_versions::ApiVersion;
    use milena_wire::Writer;

    use super::*;
    use crate::Obstacle;

    fn fresh(byte: u8) -> Fresh {
        Fresh { nonce: [byte; 24], unix_seconds: 0 }
    }

    fn body(error_code: ErrorCode, max_version: Option<i16>, version: i16) -> Bytes {
        let range =
            max_version.map(|max_version| ApiVersion { api_key: 18, max_version, ..Default::default() });
        let response =
            ApiVersionsResponse { error_code, api_keys: range.into_iter().collect(), ..Default::default() };
        let mut writer = Writer::new();
        response.encode(&mut writer, version).expect("encodes");
        writer.finish().to_vec().into()
    }

    fn lost() -> Failure {
        Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true }
    }

    /// Sends the next request and answers it.
    fn answer(handshake: &mut Handshake, body: &Bytes) -> Result<(), Failure> {
        let request = handshake.poll_request().expect("a request");
        assert_eq!(handshake.poll_request(), None, "one request at a time");
        handshake.handle_answer("b:1", request.kind(), body)
    }

    #[test]
    fn the_first_answer_ends_the_exchange() {
        let mut handshake = Handshake::new();
        let newest = handshake.version;
        answer(&mut handshake, &body(ErrorCode::NONE, Some(2), newest)).expect("answered");
        assert!(handshake.is_done() && !handshake.is_lowered());
        assert_eq!(handshake.poll_request(), None);
        assert_eq!(handshake.versions().range(ApiKey::ApiVersions), Some(0..=2));
    }

    #[test]
    fn a_refused_version_is_asked_for_once_more_at_the_version_the_broker_named() {
        let newest = Handshake::new().version;
        for (named, expected) in
            [(Some(3), 3), (Some(0), 0), (Some(-4), 0), (None, 0), (Some(newest + 5), newest - 1)]
        {
            let mut handshake = Handshake::new();
            answer(&mut handshake, &body(ErrorCode::UNSUPPORTED_VERSION, named, 0)).expect("again");
            assert!(!handshake.is_done());
            assert_eq!(handshake.version, expected, "{named:?}");
            answer(&mut handshake, &body(ErrorCode::NONE, Some(2), expected)).expect("answered");
            assert!(handshake.is_done() && handshake.is_lowered());
        }
    }

    #[test]
    fn a_broker_that_refuses_every_version_ends_the_exchange() {
        let mut handshake = Handshake::new();
        let refused = body(ErrorCode::UNSUPPORTED_VERSION, Some(100), 0);
        for version in (0..handshake.version).rev() {
            answer(&mut handshake, &refused).expect("again");
            assert_eq!(handshake.version, version);
        }
        let failure = answer(&mut handshake, &refused).expect_err("refused");
        assert_eq!(failure.code(), Some(ErrorCode::UNSUPPORTED_VERSION));
    }

    #[test]
    fn garbage_is_an_error_that_names_the_peer() {
        let failure = answer(&mut Handshake::new(), &Bytes::from_static(&[0])).expect_err("garbage");
        assert!(failure.to_string().starts_with("b:1 does not follow the Kafka protocol"), "{failure}");
    }

    #[test]
    fn code_35_in_any_form_leads_to_a_version_that_is_known() {
        // Alone; in version 1's form; in version 3's form, as librdkafka's mock cluster has it.
        let forms: [&[u8]; 3] =
            [&[0, 35], &[0, 35, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 35, 1, 0, 0x12, 0, 0, 0, 2, 0, 0, 0, 0, 0]];
        for form in forms {
            let mut handshake = Handshake::new();
            answer(&mut handshake, &Bytes::copy_from_slice(form)).expect("understood");
            assert_eq!(
                (handshake.step, handshake.version),
                (Step::Ask(HandshakeKind::Versions), 0),
                "{form:?}"
            );
        }
    }

    #[test]
    fn a_server_that_hangs_up_or_answers_undecodably_is_asked_lower_a_few_times() {
        let mut handshake = Handshake::new();
        let mut asked = vec![handshake.version];
        let failure = loop {
            handshake.poll_request().expect("a request");
            match handshake.handle_failure(lost()) {
                Ok(lower) => handshake = lower,
                Err(failure) => break failure,
            }
            asked.push(handshake.version);
        };
        assert_eq!(asked[1..], [3, 0]);
        assert_eq!(failure.obstacle(), Some(Obstacle::Network), "it may be starting: {failure}");
        assert!(failure.to_string().contains("closed before it answered the first request"), "{failure}");
        let mut handshake = Handshake::new();
        let failure = answer(&mut handshake, &Bytes::from_static(&[0, 0, 9])).expect_err("garbage");
        assert_eq!(handshake.handle_failure(failure).expect("lower").version, 3);
    }

    #[test]
    fn a_failure_that_is_not_about_the_version_ends_the_attempt() {
        let late = Failure::TimedOut { peer: "b:1".into(), after: Duration::ZERO, sent: true };
        let tls = Failure::Malformed { peer: "b:1".into(), reason: "it speaks TLS".into() };
        for failure in [late, tls] {
            let (mut handshake, text) = (Handshake::new(), failure.to_string());
            handshake.poll_request().expect("a request");
            assert_eq!(handshake.handle_failure(failure).expect_err("ended").to_string(), text);
        }
        let mut handshake = Handshake::at(3);
        let refused = body(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, None, 3);
        let failure = answer(&mut handshake, &refused).expect_err("refused");
        let failure = handshake.handle_failure(failure).expect_err("ended");
        assert!(failure.is_final(), "{failure}");
    }

    fn credentials() -> Arc<Credentials> {
        let (user, password) = ("alice".into(), "pencil".into());
        let of = crate::sasl::Password { scram: None, user, password, is_delegation_token: false };
        Arc::new(Credentials::Password(of))
    }

    fn encoded(message: &impl Message, version: i16) -> Bytes {
        let mut writer = Writer::new();
        message.encode(&mut writer, version).expect("encodes");
        writer.finish().to_vec().into()
    }

    /// A handshake whose versions are answered: the broker has SaslHandshake to `mechanism`, and SaslAuthenticate to 2.
    fn told_versions(mechanism: Option<(i16, i16)>) -> (Handshake, Result<(), Failure>) {
        tell_versions(Handshake::new().authenticating(credentials(), &"b".into(), &fresh(1)), mechanism)
    }

    fn tell_versions(
        mut handshake: Handshake,
        mechanism: Option<(i16, i16)>,
    ) -> (Handshake, Result<(), Failure>) {
        let range = |api_key, (min_version, max_version)| ApiVersion {
            api_key,
            min_version,
            max_version,
            ..Default::default()
        };
        let mut api_keys = vec![range(36, (0, 2))];
        api_keys.extend(mechanism.map(|versions| range(17, versions)));
        let body = encoded(&ApiVersionsResponse { api_keys, ..Default::default() }, handshake.version);
        let outcome = answer(&mut handshake, &body);
        (handshake, outcome)
    }

    fn mechanism(error_code: ErrorCode, mechanisms: &[&'static str]) -> Bytes {
        let mechanisms = mechanisms.iter().map(|name| Str::from_static(name)).collect();
        encoded(&SaslHandshakeResponse { error_code, mechanisms }, 1)
    }

    fn authenticated(session_lifetime_ms: i64) -> Bytes {
        encoded(&SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() }, 2)
    }

    #[test]
    fn credentials_follow_the_versions_and_again_on_the_same_connection() {
        let (mut handshake, outcome) = told_versions(Some((0, 1)));
        outcome.expect("it has SASL");
        for (lifetime, expected) in [(60_000, Some(Duration::from_secs(60))), (0, None), (-1, None)] {
            assert!(!handshake.is_done() && handshake.has_more());
            let Some(HandshakeRequest::Mechanism { request, version: 1 }) = handshake.poll_request() else {
                panic!("the mechanism comes first")
            };
            assert_eq!(&*request.mechanism, "PLAIN");
            let enabled = mechanism(ErrorCode::NONE, &["PLAIN"]);
            handshake.handle_answer("b:1", HandshakeKind::Mechanism, &enabled).expect("enabled");
            let Some(HandshakeRequest::Authenticate { request, version: 2 }) = handshake.poll_request()
            else {
                panic!("the exchange follows")
            };
            assert_eq!(request.auth_bytes, "\0alice\0pencil".as_bytes());
            assert!(!format!("{request:?}").contains("pencil"));
            let accepted = authenticated(lifetime);
            handshake.handle_answer("b:1", HandshakeKind::Authenticate, &accepted).expect("accepted");
            assert!(handshake.is_done() && handshake.poll_request().is_none());
            assert_eq!(handshake.session_lifetime(), expected);
            handshake.reauthenticate(credentials(), &fresh(2));
        }
    }

    #[test]
    fn a_client_without_credentials_asks_whether_the_listener_requires_sasl_after_a_silent_end() {
        let asking = || {
            let (handshake, outcome) = tell_versions(Handshake::new().asking_for_sasl(), Some((0, 1)));
            outcome.expect("answered");
            assert!(!handshake.is_done());
            handshake
        };
        let mut handshake = asking();
        let enabled = mechanism(ErrorCode::UNSUPPORTED_SASL_MECHANISM, &["PLAIN", "GSSAPI"]);
        let failure = answer(&mut handshake, &enabled).expect_err("it has SASL");
        let failure = handshake.handle_failure(failure).expect_err("a new connection would meet the same");
        assert!(failure.is_authentication() && failure.is_final() && !failure.is_refusal_of_credentials());
        let says = "cannot authenticate to b:1: this listener requires SASL, and the client has no credentials; it has PLAIN, \
                    GSSAPI: set security.protocol";
        assert!(failure.to_string().starts_with(says), "{failure}");

        let mut handshake = asking();
        answer(&mut handshake, &mechanism(ErrorCode::ILLEGAL_SASL_STATE, &[])).expect("it has no SASL");
        assert!(handshake.is_done(), "the broker had another reason to hang up");

        let mut handshake = asking();
        handshake.poll_request().expect("a request");
        let failure = handshake.handle_failure(lost()).expect_err("not of the version");
        assert!(
            failure.is_retriable() && failure.to_string().contains("the client has no credentials"),
            "{failure}"
        );

        let (handshake, outcome) = tell_versions(Handshake::new().asking_for_sasl(), None);
        assert!(outcome.is_ok() && handshake.is_done(), "a broker without the request is not asked");
    }

    #[test]
    fn names_of_mechanisms_that_are_none_or_that_have_the_secret_are_not_shown() {
        let check = |names: &[&str], expected: &str| {
            let mechanisms = names.iter().map(|name| (*name).into()).collect();
            let response = SaslHandshakeResponse { mechanisms, ..Default::default() };
            let password = crate::sasl::Password {
                scram: None,
                user: "u".into(),
                password: "HUNTER2".into(),
                is_delegation_token: false,
            };
            assert_eq!(enabled(&response, Some(&Credentials::Password(password))), expected);
        };
        check(&["PLAIN", "AWS_MSK_IAM"], "PLAIN, AWS_MSK_IAM");
        check(&["PLAIN", "HUNTER2", "X-HUNTER2"], "PLAIN and others");
        check(&["hunter2", "\u{1b}[2J", "", "A-NAME-OF-21-LETTERS-"], "some whose names cannot be shown");
        check(&["A"; 20], &format!("{} and others", ["A"; 16].join(", ")));
        check(&[], "");
    }

    /// The failure after these answers to SaslHandshake and SaslAuthenticate.
    fn refused(answers: &[Bytes]) -> Failure {
        let (mut handshake, outcome) = told_versions(Some((0, 1)));
        outcome.expect("it has SASL");
        let outcome = answers.iter().try_for_each(|body| answer(&mut handshake, body));
        let failure = outcome.expect_err("refused");
        let failure = handshake.handle_failure(failure).expect_err("a new connection would meet the same");
        assert!(failure.is_authentication() && failure.is_final() && !failure.is_retriable(), "{failure}");
        assert!(!failure.is_fatal() && !failure.may_have_acted(), "{failure}");
        failure
    }

    #[test]
    fn a_refusal_is_final_and_names_its_cause() {
        let check = |answers: &[Bytes], code: ErrorCode, obstacle: Obstacle, expected: &str| {
            let failure = refused(answers);
            assert_eq!((failure.code(), failure.obstacle()), (Some(code), Some(obstacle)));
            assert_eq!(failure.to_string(), format!("cannot authenticate with PLAIN to b:1: {expected}"));
        };
        let code = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
        check(
            &[mechanism(code, &["SCRAM-SHA-256", "GSS\nAPI", "hunter2"])],
            code,
            Obstacle::Configuration,
            "the broker has not enabled this mechanism; it has SCRAM-SHA-256 and others",
        );
        check(
            &[mechanism(code, &[])],
            code,
            Obstacle::Configuration,
            "the broker has not enabled this mechanism, and names none that it has",
        );
        check(
            &[mechanism(ErrorCode::ILLEGAL_SASL_STATE, &[])],
            ErrorCode::ILLEGAL_SASL_STATE,
            Obstacle::Configuration,
            "this listener has no SASL: its security protocol is PLAINTEXT or SSL",
        );
        let failed = |error_code, message: &'static str| {
            let error_message = Some(Str::from_static(message));
            encoded(&SaslAuthenticateResponse { error_code, error_message, ..Default::default() }, 2)
        };
        let enabled = mechanism(ErrorCode::NONE, &["PLAIN"]);
        let code = ErrorCode::SASL_AUTHENTICATION_FAILED;
        check(
            &[enabled.clone(), failed(code, "Authentication failed: Invalid username or password.")],
            code,
            Obstacle::Credentials,
            "the broker refused the credentials of user \"alice\": Authentication failed: Invalid username or password",
        );
        check(
            &[enabled.clone(), failed(code, "not pencil")],
            code,
            Obstacle::Credentials,
            "the broker refused the credentials of user \"alice\": not ***",
        );
        check(
            &[enabled, failed(ErrorCode::ILLEGAL_SASL_STATE, "")],
            ErrorCode::ILLEGAL_SASL_STATE,
            Obstacle::Credentials,
            "the broker refused the credentials of user \"alice\" (ILLEGAL_SASL_STATE)",
        );
    }

    #[test]
    fn a_broker_without_the_requests_of_sasl_is_named() {
        for (versions, expected) in [
            (None, "the broker has no SASL"),
            (
                Some((0, 0)),
                "the broker has SASL as it was before Kafka 1.0, which this client does not speak",
            ),
        ] {
            let failure = told_versions(versions).1.expect_err("refused");
            assert_eq!(failure.to_string(), format!("cannot authenticate with PLAIN to b:1: {expected}"));
        }
    }

    #[test]
    fn a_connection_that_ends_within_sasl_is_not_about_the_version() {
        let (mut handshake, _) = told_versions(Some((0, 1)));
        handshake.poll_request().expect("a request");
        let failure = handshake.handle_failure(lost()).expect_err("no lower version");
        assert_eq!(failure.to_string(), "cannot reach b:1: closed while the client authenticated with PLAIN");
        assert!(failure.is_retriable(), "the broker may be stopping");
        let mut handshake = Handshake::new().authenticating(credentials(), &"b".into(), &fresh(1));
        handshake.poll_request().expect("a request");
        let lower = handshake.handle_failure(lost()).expect("a lower version");
        assert_eq!((lower.version, lower.credentials()), (3, Some(&credentials())));
    }

    #[test]
    fn a_key_is_derived_by_somebody_else() {
        let of = match &*credentials() {
            Credentials::Password(of) => of.clone(),
            _ => panic!("a password"),
        };
        let of = crate::sasl::Password { scram: Some(crate::sasl::Hash::Sha256), ..of };
        let (mut handshake, _) = told_versions(Some((0, 1)));
        handshake.step = Step::Done;
        handshake.reauthenticate(Arc::new(Credentials::Password(of)), &fresh(0));
        answer(&mut handshake, &mechanism(ErrorCode::NONE, &[])).expect("enabled");
        let nonce = "A".repeat(32);
        let salted = format!("r={nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").into();
        let salted = encoded(&SaslAuthenticateResponse { auth_bytes: salted, ..Default::default() }, 2);
        answer(&mut handshake, &salted).expect("understood");
        assert!(handshake.poll_request().is_none() && !handshake.is_done());
        let work = handshake.poll_work().expect("work");
        assert!(handshake.poll_work().is_none(), "it is returned once");
        handshake.handle_worked("b:1", work.run()).expect("a key");
        let Some(HandshakeRequest::Authenticate { request, .. }) = handshake.poll_request() else {
            panic!("the proof follows")
        };
        assert!(request.auth_bytes.starts_with(b"c=biws,r=AAAA"));
        let garbage = handshake.handle_answer("b:1", HandshakeKind::Authenticate, &authenticated(0));
        assert!(garbage.expect_err("no signature").to_string().contains("has no signature"));
    }
}
