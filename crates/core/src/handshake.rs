//! The first exchange on a connection: which versions does this broker speak?
//!
//! ```text
//!  ask at our newest version ──▶ answered ─▶ done
//!         │
//!         └─▶ UNSUPPORTED_VERSION ─▶ ask again at the newest the broker named, or 0 ─▶ answered ─▶ done
//! ```

use bytes::Bytes;
use milena_messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::{ErrorCode, Message};
use milena_wire::{DecodeError, Reader, Str};

use crate::{BrokerVersions, Failure};

/// The exchange, for one connection.
#[derive(Debug)]
pub struct Handshake {
    version: i16,
    downgraded: bool,
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

impl Handshake {
    /// Begins at the newest version we speak.
    pub fn new() -> Self {
        Self { version: *ApiVersionsRequest::VERSIONS.end(), downgraded: false }
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

    /// An answer came: the frame behind its header.
    ///
    /// # Errors
    /// When the answer is malformed, or the broker refuses to say.
    pub fn handle_response(&mut self, peer: &str, body: &Bytes) -> Result<Step, Failure> {
        let response = self.decode(body).map_err(|error| Failure::Malformed {
            peer: peer.into(),
            reason: format!("its ApiVersions answer does not decode: {error}").into(),
        })?;
        match response.error_code {
            ErrorCode::NONE => Ok(Step::Done(BrokerVersions::new(&response.api_keys))),
            ErrorCode::UNSUPPORTED_VERSION if !self.downgraded => {
                self.downgraded = true;
                let range = response.api_keys.iter().find(|range| range.api_key == 18);
                // Strictly below what was refused, so that a broker which lies about itself ends the exchange.
                self.version = range.map_or(0, |range| range.max_version).clamp(0, self.version - 1);
                Ok(Step::Again)
            }
            code => Err(Failure::answer(code, Some("the broker refuses to name the versions it speaks"))),
        }
    }

    /// A broker that does not know the version answers in version 0 (KIP-511), whatever was asked.
    fn decode(&self, body: &Bytes) -> Result<ApiVersionsResponse, DecodeError> {
        let code = ErrorCode::from_i16(Reader::new(body).i16("ApiVersionsResponse.ErrorCode")?);
        let version = if code == ErrorCode::UNSUPPORTED_VERSION { 0 } else { self.version };
        ApiVersionsResponse::decode(&mut Reader::new(body), version)
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
        assert_eq!(handshake.handle_response("b:1", &answer).expect("again"), Step::Again);
        let failure = handshake.handle_response("b:1", &answer).expect_err("refused");
        assert_eq!(failure.code(), Some(ErrorCode::UNSUPPORTED_VERSION));
    }

    #[test]
    fn garbage_is_an_error_that_names_the_peer() {
        let failure =
            Handshake::new().handle_response("b:1", &Bytes::from_static(&[0])).expect_err("garbage");
        assert!(failure.to_string().starts_with("b:1 does not follow the Kafka protocol"), "{failure}");
    }
}
