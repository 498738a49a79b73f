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
//! Servers that do not know a version of ApiVersions hang up on it (Event Hubs on 4), so what a handshake has learned about
//! the version outlives its connection. Each answer and each end lowers the version: a server sees a few attempts at most.

use bytes::Bytes;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::{ErrorCode, Message};
use milena_wire::{DecodeError, Reader, Str};

use crate::{BrokerVersions, Failure, Features};

/// The handshake of one connection.
///
/// The driver sends what [`poll_request`](Self::poll_request) returns, hands the answer to
/// [`handle_answer`](Self::handle_answer), and asks for the next request, until [`is_done`](Self::is_done). Only one request
/// is out at a time, because each depends on the answer to the one before. If the connection ends first, the driver hands the
/// cause to [`handle_failure`](Self::handle_failure), which answers with the handshake for the next connection or with the
/// error that ends the attempt.
///
/// SASL goes here, as two more kinds of request between the versions and the end: `SaslHandshake` names the mechanism, and
/// `SaslAuthenticate` carries the rounds of its exchange. The answer to the last round gives the session's lifetime, and a
/// re-authentication (KIP-368) starts again at `SaslHandshake` on the live connection; [`Lifecycle`](crate::Lifecycle) says
/// when.
#[derive(Debug, Clone)]
pub struct Handshake {
    step: Step,
    /// The version of ApiVersions that the peer is asked at, and answered at once it is done.
    version: i16,
    /// The last answer did not decode.
    is_undecodable: bool,
    versions: BrokerVersions,
    features: Features,
}

/// What the handshake does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A request of this kind is to be sent.
    Ask(HandshakeKind),
    /// A request of this kind was sent, and its answer is to come.
    Await(HandshakeKind),
    /// The peer may be asked anything.
    Done,
}

/// The kinds of request that a handshake sends. An answer comes back with the kind of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeKind {
    /// Which versions of which requests the peer speaks.
    Versions,
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
}

/// How the client introduces itself (KIP-511). Brokers accept letters, digits, `.` and `-`.
const SOFTWARE_NAME: Str = Str::from_static("milena");
const SOFTWARE_VERSION: Str = Str::from_static(env!("CARGO_PKG_VERSION"));
/// The versions at which a server is asked next if it hangs up: the first version that tells the client's name, known to
/// everything that calls itself Kafka 2.4; then 0, which every server knows.
const LOWER: [i16; 2] = [3, 0];

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
        }
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
        Some(match kind {
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

    /// The answer to the request of this kind came: `body` is the frame after its header.
    ///
    /// # Errors
    /// When the answer is malformed, or the broker refuses. The connection is of no use then.
    pub fn handle_answer(&mut self, peer: &str, kind: HandshakeKind, body: &Bytes) -> Result<(), Failure> {
        debug_assert_eq!(self.step, Step::Await(kind), "an answer comes once, to the request that is out");
        match kind {
            HandshakeKind::Versions => self.handle_versions(peer, body),
        }
    }

    fn handle_versions(&mut self, peer: &str, body: &Bytes) -> Result<(), Failure> {
        let malformed = |error: DecodeError| Failure::Malformed {
            peer: peer.into(),
            reason: format!("its ApiVersions answer does not decode: {error}").into(),
        };
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
        let is_about_version = self.is_undecodable || matches!(failure, Failure::Lost { .. });
        let lower = LOWER.into_iter().find(|lower| *lower < self.version);
        if let Some(lower) = lower.filter(|_| is_about_version) {
            return Ok(Self::at(lower));
        }
        Err(match failure {
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

impl HandshakeRequest {
    /// Its kind.
    pub fn kind(&self) -> HandshakeKind {
        match self {
            Self::Versions { .. } => HandshakeKind::Versions,
        }
    }
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
        assert_eq!(handshake.versions().range(milena_messages::ApiKey::ApiVersions), Some(0..=2));
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
        let late = Failure::TimedOut { peer: "b:1".into(), after: std::time::Duration::ZERO, sent: true };
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
}
