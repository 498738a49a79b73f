//! What stands between a client and its work, found layer by layer.
//!
//! ```text
//!  probe (I/O, no judgement) ─▶ Seen ─▶ diagnose (pure, a function per layer) ─▶ findings ─▶ the command prints them
//! ```

pub(crate) mod diagnose;
pub(crate) mod probe;
pub(crate) mod seen;

use serde::Serialize;

/// The layers, from the bottom up. What fails in one keeps those above it from being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layer {
    Configuration,
    Dns,
    Proxy,
    Tcp,
    Tls,
    Sasl,
    Protocol,
    Brokers,
    Topic,
    Acl,
    Group,
    Transactions,
    Clock,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// It works, and will not for long, or not for everything.
    Warn,
    Fail,
    /// It was not looked at.
    Skip,
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) layer: Layer,
    pub(crate) status: Status,
    /// What was looked at, and what was seen.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) fix: Option<String>,
}

impl Layer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Sasl => "sasl",
            Self::Protocol => "protocol",
            Self::Brokers => "brokers",
            Self::Topic => "topic",
            Self::Acl => "acl",
            Self::Group => "group",
            Self::Transactions => "transactions",
            Self::Clock => "clock",
        }
    }
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

impl Finding {
    fn new(layer: Layer, status: Status, detail: impl Into<String>) -> Self {
        Self { layer, status, detail: detail.into(), fix: None }
    }

    fn ok(layer: Layer, detail: impl Into<String>) -> Self {
        Self::new(layer, Status::Ok, detail)
    }

    fn warn(layer: Layer, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(layer, Status::Warn, detail) }
    }

    fn fail(layer: Layer, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(layer, Status::Fail, detail) }
    }

    fn skip(layer: Layer, detail: impl Into<String>) -> Self {
        Self::new(layer, Status::Skip, detail)
    }
}
