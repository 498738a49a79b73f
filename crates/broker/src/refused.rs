//! Reasons to refuse a request or a connection without an answer.

use std::fmt;

use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{DecodeError, EncodeError};

/// Why a request gets no answer. The connection must be closed.
#[derive(Debug)]
pub struct Refused(Refusal);

#[derive(Debug)]
pub(crate) enum Refusal {
    UnknownKey(i16),
    UnservedKey(ApiKey),
    UnsupportedVersion(ApiKey, i16),
    Malformed(DecodeError),
    Unencodable(ApiKey, EncodeError),
    UnknownNode(i32),
    UnknownListener(usize),
    NodeDown(i32),
    /// The client has not authenticated.
    Unauthenticated(ApiKey),
    /// The client had to authenticate again before.
    SessionExpired(ApiKey),
    /// A Produce request with acks=0 failed.
    Unacknowledged(ErrorCode),
}

impl Refused {
    /// Whether the client asked for an API or a version that this broker does not serve. The machine has logged it
    /// already.
    pub(crate) fn is_unserved(&self) -> bool {
        self.0.is_unserved()
    }

    /// Whether the client had to authenticate before.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        matches!(self.0, Refusal::Unauthenticated(_) | Refusal::SessionExpired(_))
    }
}

impl Refusal {
    pub(crate) fn is_unserved(&self) -> bool {
        matches!(self, Self::UnknownKey(_) | Self::UnservedKey(_) | Self::UnsupportedVersion(..))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self(Refusal::Malformed(error))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(f, "API key {key} does not exist"),
            Self::UnservedKey(key) => write!(f, "{key} is not implemented by this broker yet"),
            Self::UnsupportedVersion(key, version) => {
                write!(f, "{key} version {version} is not supported by this broker")
            }
            Self::Malformed(error) => write!(f, "malformed request: {error}"),
            Self::Unencodable(key, error) => write!(f, "cannot encode the response to {key}: {error}"),
            Self::UnknownNode(node) => write!(f, "there is no node {node}"),
            Self::UnknownListener(listener) => write!(f, "there is no listener {listener}"),
            Self::NodeDown(node) => write!(f, "node {node} is down"),
            Self::Unauthenticated(key) => write!(f, "{key} came before the client had authenticated"),
            Self::SessionExpired(key) => {
                write!(f, "{key} came after the end of the session; the client had to authenticate again")
            }
            Self::Unacknowledged(code) => {
                write!(f, "a Produce request with acks=0 failed with {code}")
            }
        }
    }
}

impl std::error::Error for Refused {}
