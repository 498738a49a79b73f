//! Listeners: the ways in to a node, each with a port and a security protocol of its own.

use std::fmt;

use crate::tls::Tls;

/// A way in to every node: its name, its port and its security protocol.
///
/// ```
/// use milena_broker::{Broker, Listener};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// let cluster = Broker::builder()
///     .listener(Listener::plaintext())
///     .listener(Listener::sasl_plaintext())
///     .user("alice", "secret")
///     .start()
///     .await?;
/// assert_ne!(cluster.bootstrap(), cluster.bootstrap_of("SASL_PLAINTEXT").expect("there is one"));
/// cluster.shutdown().await
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is given to `Builder::listener`"]
pub struct Listener {
    pub(crate) name: String,
    pub(crate) protocol: SecurityProtocol,
    pub(crate) first_port: Option<u16>,
    pub(crate) tls: Option<Tls>,
}

/// What protects a listener's connections, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Listener {
    /// Connections without encryption and authentication (`PLAINTEXT`).
    pub fn plaintext() -> Self {
        Self::new(SecurityProtocol::Plaintext, None)
    }

    /// Connections with TLS (`SSL`). Clients authenticate if `tls` wants certificates of them.
    pub fn ssl(tls: Tls) -> Self {
        Self::new(SecurityProtocol::Ssl, Some(tls))
    }

    /// Connections without encryption, whose clients authenticate by SASL (`SASL_PLAINTEXT`). Who can read the network can
    /// read the passwords of PLAIN.
    pub fn sasl_plaintext() -> Self {
        Self::new(SecurityProtocol::SaslPlaintext, None)
    }

    /// Connections with TLS, whose clients authenticate by SASL (`SASL_SSL`).
    pub fn sasl_ssl(tls: Tls) -> Self {
        Self::new(SecurityProtocol::SaslSsl, Some(tls))
    }

    /// Whether every client has to prove who it is.
    pub(crate) fn authenticates(&self) -> bool {
        self.protocol.has_sasl() || self.tls.as_ref().is_some_and(Tls::authenticates)
    }

    fn new(protocol: SecurityProtocol, tls: Option<Tls>) -> Self {
        Self { name: protocol.to_string(), protocol, first_port: None, tls }
    }

    /// Another name than that of the security protocol, as in Kafka's `listener.security.protocol.map`. Names differ.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The port of node 1. The next nodes have the next ports. Default: the first listener has that of
    /// [`Builder::port`](crate::Builder::port), and for the next ones the system chooses free ports.
    pub fn port(mut self, first: u16) -> Self {
        self.first_port = Some(first);
        self
    }
}

impl SecurityProtocol {
    pub(crate) fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}
