//! The first exchange on a connection: which versions does this broker speak?
//!
//! ```text
//!  ask at our newest version ──▶ answered ─▶ done
//!         │
//!         ├─▶ UNSUPPORTED_VERSION ─▶ ask again at the newest the broker named, or 0 ─▶ answered ─▶ done
//!         │
//!         └─▶ hung up, or an answer that does not decode ─▶ connect again and ask at 3, then at 0
//! ```
//!
//! A handshake outlives its connection, because servers that do not know a version hang up on it (Event Hubs on 4). Each
//! answer and each end lowers the version, so that a few attempts are the most a server sees.

use bytes::Bytes;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::{ErrorCode, Message};
use milena_wire::{DecodeError, Reader, Str};

use crate::{BrokerVersions, Failure};

/// The exchange with one server, over as many connections as it takes.
///
/// After [`Step::Again`] the next [`request`](Self::request) goes out on the same connection. After a failure
/// [`handle_failure`](Self::handle_failure) tells whether it goes out on a new one.
#[derive(Debug)]
pub struct Handshake {
    version: i16,
    /// The last answer did not decode.
    is_undecodable: bool,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send [`Handshake::request`] again: the broker wants an older version.
    Again,
    /// The broker speaks these.
    Done(BrokerVersions),
}

/// How the client introduces itself (KIP-511). Brokers accept letters, digits, `.` and `-`.
const SOFTWARE_NAME: Str = Str::from_static("milena");
const SOFTWARE_VERSION: Str = Str::from_static(env!("CARGO_PKG_VERSION"));
/// What a server that hangs up is asked at next: the first version that tells the client's name, known to whatever calls
/// itself Kafka 2.4; then 0, which every server knows.
const LOWER: [i16; 2] = [3, 0];

impl Handshake {
    /// Begins at the newest version we speak.
    pub fn new() -> Self {
        Self::at(*ApiVersionsRequest::VERSIONS.end())
    }

    /// Begins at `version`, which the server answered before.
    pub fn at(version: i16) -> Self {
        let versions = ApiVersionsRequest::VERSIONS;
        Self { version: version.clamp(*versions.start(), *versions.end()), is_undecodable: false }
    }

    /// The version that is asked at; once it is done, the one that was answered.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether a newer version than this was asked at in vain.
    pub fn is_lowered(&self) -> bool {
        self.version < *ApiVersionsRequest::VERSIONS.end()
    }

    /// The request to send, and its version.
    pub fn request(&self) -> (ApiVersionsRequest, i16) {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME,
            client_software_version: SOFTWARE_VERSION,
            ..Default::default()
        };
        (request, self.version)
    }

    /// An answer came: the frame after its header.
    ///
    /// # Errors
    /// When the answer is malformed, or the broker refuses to say.
    pub fn handle_response(&mut self, peer: &str, body: &Bytes) -> Result<Step, Failure> {
        let malformed = |error: DecodeError| Failure::Malformed {
            peer: peer.into(),
            reason: format!("its ApiVersions answer does not decode: {error}").into(),
        };
        self.is_undecodable = true;
        let code = Reader::new(body).i16("ApiVersionsResponse.ErrorCode").map_err(malformed)?;
        if ErrorCode::from_i16(code) == ErrorCode::UNSUPPORTED_VERSION && self.version > 0 {
            self.is_undecodable = false;
            // A broker that does not know the version answers in version 0 (KIP-511) and names what it knows. Some put
            // the code in front of an answer of another version; to them version 0 is known as well.
            let named = ApiVersionsResponse::decode(&mut Reader::new(body), 0).ok();
            let named =
                named.and_then(|named| named.api_keys.iter().find(|range| range.api_key == 18).cloned());
            // Below what was refused, so that a broker which lies about itself ends the exchange.
            self.version = named.map_or(0, |range| range.max_version).clamp(0, self.version - 1);
            return Ok(Step::Again);
        }
        let response =
            ApiVersionsResponse::decode(&mut Reader::new(body), self.version).map_err(malformed)?;
        self.is_undecodable = false;
        match response.error_code {
            ErrorCode::NONE => Ok(Step::Done(BrokerVersions::new(&response.api_keys))),
            code => Err(Failure::answer(code, Some("the broker refuses to name the versions it speaks"))),
        }
    }

    /// The exchange failed. Whether it may succeed on a new connection, at the lower version that
    /// [`request`](Self::request) now has: when the server hung up on the request, or its answer did not decode.
    pub fn handle_failure(&mut self, failure: &Failure) -> bool {
        let is_about_version = self.is_undecodable || matches!(failure, Failure::Lost { .. });
        let lower = LOWER.into_iter().find(|lower| *lower < self.version);
        match lower.filter(|_| is_about_version) {
            Some(lower) => {
                *self = Self::at(lower);
                true
            }
            None => false,
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

    fn body(error_code: ErrorCode, max_version: Option<i16>, version: i16) -> Bytes {
        let range =
            max_version.map(|max_version| ApiVersion { api_key: 18, max_version, ..Default::default() });
        let response =
            ApiVersionsResponse { error_code, api_keys: range.into_iter().collect(), ..Default::default() };
        let mut writer = Writer::new();
        response.encode(&mut writer, version).expect("encodes");
        writer.finish().to_vec().into()
    }

    #[test]
    fn a_refused_version_is_asked_for_once_more_at_the_version_the_broker_named() {
        let newest = Handshake::new().version;
        for (named, expected) in
            [(Some(3), 3), (Some(0), 0), (Some(-4), 0), (None, 0), (Some(newest + 5), newest - 1)]
        {
            let mut handshake = Handshake::new();
            let answer = body(ErrorCode::UNSUPPORTED_VERSION, named, 0);
            assert_eq!(handshake.handle_response("b:1", &answer).expect("again"), Step::Again);
            assert_eq!(handshake.request().1, expected, "{named:?}");
            let answer = body(ErrorCode::NONE, Some(2), expected);
            assert!(matches!(handshake.handle_response("b:1", &answer), Ok(Step::Done(_))));
        }
    }

    #[test]
    fn a_broker_that_refuses_every_version_ends_the_exchange() {
        let mut handshake = Handshake::new();
        let answer = body(ErrorCode::UNSUPPORTED_VERSION, Some(100), 0);
        for version in (0..handshake.version).rev() {
            assert_eq!(handshake.handle_response("b:1", &answer).expect("again"), Step::Again);
            assert_eq!(handshake.version, version);
        }
        let failure = handshake.handle_response("b:1", &answer).expect_err("refused");
        assert_eq!(failure.code(), Some(ErrorCode::UNSUPPORTED_VERSION));
    }

    #[test]
    fn garbage_is_an_error_that_names_the_peer() {
        let failure =
            Handshake::new().handle_response("b:1", &Bytes::from_static(&[0])).expect_err("garbage");
        assert!(failure.to_string().starts_with("b:1 does not follow the Kafka protocol"), "{failure}");
    }

    #[test]
    fn code_35_in_any_form_leads_to_a_version_that_is_known() {
        // Alone; in version 1's form; in version 3's form, as librdkafka's mock cluster has it.
        let forms: [&[u8]; 3] =
            [&[0, 35], &[0, 35, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 35, 1, 0, 0x12, 0, 0, 0, 2, 0, 0, 0, 0, 0]];
        for form in forms {
            let mut handshake = Handshake::new();
            let step = handshake.handle_response("b:1", &Bytes::copy_from_slice(form)).expect("understood");
            assert_eq!((step, handshake.version), (Step::Again, 0), "{form:?}");
        }
    }

    #[test]
    fn a_server_that_hangs_up_or_answers_undecodably_is_asked_lower_a_few_times() {
        let lost = Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true };
        let mut handshake = Handshake::new();
        let mut asked = vec![handshake.version];
        while handshake.handle_failure(&lost) {
            asked.push(handshake.version);
        }
        assert_eq!(asked[1..], [3, 0]);
        let mut handshake = Handshake::new();
        let failure = handshake.handle_response("b:1", &Bytes::from_static(&[0, 0, 9])).expect_err("garbage");
        assert!(handshake.handle_failure(&failure) && handshake.version == 3);
        // What is not about the version is not asked again: silence, another protocol, a refusal.
        let late = Failure::TimedOut { peer: "b:1".into(), after: std::time::Duration::ZERO, sent: true };
        let tls = Failure::Malformed { peer: "b:1".into(), reason: "it speaks TLS".into() };
        assert!(!handshake.handle_failure(&late) && !handshake.handle_failure(&tls));
        let refused = body(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, None, 3);
        let failure = handshake.handle_response("b:1", &refused).expect_err("refused");
        assert!(!handshake.handle_failure(&failure));
    }
}
