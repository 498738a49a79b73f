//! What registries and schemas fail with.

use std::fmt;
use std::sync::Arc;

use milena::{ConnectError, Obstacle};

/// An error of a registry or of its client. It says what was asked, of which registry, and what it answered; no secret is in it.
/// Cloning is cheap: callers that waited for one answer get the same error.
#[derive(Clone)]
pub struct RegistryError(Arc<Inner>);

struct Inner {
    kind: RegistryErrorKind,
    status: Option<u16>,
    code: Option<u32>,
    text: Box<str>,
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// The subject, version or schema does not exist (404; 40401 to 40407 and others).
    NotFound,
    /// The schema is not compatible with earlier ones (409; 40901).
    Incompatible,
    /// The registry does not take the schema or the request (400, 422; 42201 and others).
    Invalid,
    /// The registry wants other credentials, or they do not have the right (401, 403).
    Unauthorized,
    /// The registry cannot be reached, is overloaded or has a fault. It may pass.
    Unavailable,
    /// The registry answers what cannot be understood, or too much.
    Garbage,
    /// The client's own settings are wrong, such as an address or a certificate.
    Configuration,
    /// The schema has rules that this client does not carry out, or needs something else that it does not know.
    Unsupported,
}

impl RegistryError {
    pub(crate) fn new(kind: RegistryErrorKind, text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner { kind, status: None, code: None, text: text.into() }))
    }

    pub(crate) fn answered(
        kind: RegistryErrorKind,
        status: u16,
        code: Option<u32>,
        text: impl Into<Box<str>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, status: Some(status), code, text: text.into() }))
    }

    /// The error of a request that got no answer. `error` names the address.
    pub(crate) fn unanswered(doing: &str, error: &ConnectError) -> Self {
        let kind = match error.obstacle() {
            Obstacle::Network | Obstacle::Name => RegistryErrorKind::Unavailable,
            Obstacle::Peer => RegistryErrorKind::Garbage,
            Obstacle::Credentials => RegistryErrorKind::Unauthorized,
            _ => RegistryErrorKind::Configuration,
        };
        Self::new(kind, format!("{doing}: {error}"))
    }

    /// What it means.
    pub fn kind(&self) -> RegistryErrorKind {
        self.0.kind
    }

    /// The registry's `error_code`, such as 40401 (no such subject), if it gave one.
    pub fn code(&self) -> Option<u32> {
        self.0.code
    }

    /// The status of the registry's answer, such as 404, if it answered.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Whether the subject, the version or the schema does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == RegistryErrorKind::NotFound
    }

    /// Whether the schema is not compatible with those before it.
    pub fn is_incompatible(&self) -> bool {
        self.0.kind == RegistryErrorKind::Incompatible
    }

    /// Whether the same call may succeed later: the registry cannot be reached, or has a fault.
    pub fn is_retriable(&self) -> bool {
        self.0.kind == RegistryErrorKind::Unavailable
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, status, code, text } = &*self.0;
        f.debug_struct("RegistryError")
            .field("kind", kind)
            .field("status", status)
            .field("code", code)
            .field("text", text)
            .finish()
    }
}

impl std::error::Error for RegistryError {}
