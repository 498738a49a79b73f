//! Kerberos for [Milena](milena): the SASL mechanism GSSAPI (RFC 4752), by MIT's library.
//!
//! It is a crate and a workspace of its own, because it needs a C library (`libgssapi_krb5`; to build, Debian's `libkrb5-dev`),
//! which Milena itself does not.
//!
//! ```no_run
//! # async fn run() -> Result<(), milena::Error> {
//! use milena::{Client, Sasl};
//! use milena_gssapi::Gssapi;
//!
//! let kerberos = Gssapi::new().keytab("alice@EXAMPLE.COM", "/etc/security/alice.keytab");
//! let client = Client::builder().bootstrap("kafka.example.com:9094").sasl(Sasl::custom(kerberos)).connect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The library reads `krb5.conf` (`KRB5_CONFIG`), finds the key distribution centre and keeps tickets. A broker's principal is
//! `kafka/HOST@REALM`, where `HOST` is the name that the client connects to: the one in the bootstrap list, and the ones that brokers
//! advertise. Where they are other names than in the principals, `client.dns.lookup=resolve_canonical_bootstrap_servers_only` may help.
//!
//! Kafka uses no security layer of GSSAPI: with SASL_PLAINTEXT records are neither encrypted nor protected. The exchange itself sends
//! nothing that others could use.

mod sys;

use std::path::PathBuf;

use milena::{ConnectError, Obstacle, SaslExchange, SaslMechanism, SaslStep};

use self::sys::{Context, Credentials, Failure, Kind, Name};

/// The mechanism, for [`Sasl::custom`](milena::Sasl::custom). Each exchange gets what the keytab or the cache of tickets has then.
#[derive(Debug, Clone)]
pub struct Gssapi {
    service: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// The library's default cache (`KRB5CCNAME`) or default keytab of clients (`KRB5_CLIENT_KTNAME`).
    Default,
    Keytab {
        principal: String,
        path: PathBuf,
    },
    Cache(String),
}

impl Default for Gssapi {
    fn default() -> Self {
        Self::new()
    }
}

impl Gssapi {
    /// With the tickets of the default cache, which `kinit` fills. The brokers' service is `kafka`.
    pub fn new() -> Self {
        Self { service: "kafka".into(), source: Source::Default }
    }

    /// With keys of `principal` in a keytab: tickets are got with them, and again when they end. In Java: `useKeyTab`, `keyTab` and
    /// `principal` of `Krb5LoginModule`. In librdkafka: `sasl.kerberos.keytab` and `sasl.kerberos.principal`.
    #[must_use]
    pub fn keytab(self, principal: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { source: Source::Keytab { principal: principal.into(), path: path.into() }, ..self }
    }

    /// With the tickets of this cache, such as `FILE:/tmp/krb5cc_1000`. Somebody else renews them.
    #[must_use]
    pub fn cache(self, name: impl Into<String>) -> Self {
        Self { source: Source::Cache(name.into()), ..self }
    }

    /// The first part of the brokers' principal. Default `kafka`. In Java and librdkafka: `sasl.kerberos.service.name`.
    #[must_use]
    pub fn service(self, name: impl Into<String>) -> Self {
        Self { service: name.into(), ..self }
    }

    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        match &self.source {
            Source::Default => Ok(None),
            Source::Cache(name) => Credentials::acquire(None, &[("ccache", name)]).map(Some),
            Source::Keytab { principal, path } => {
                let name = Name::new(principal, Kind::User)?;
                let path = path.to_str().ok_or_else(|| Failure(format!("the path {path:?} is not UTF-8")))?;
                // The library would say that there is no cache of tickets.
                std::fs::File::open(path)
                    .map_err(|error| Failure(format!("the keytab {path:?} cannot be read: {error}")))?;
                // The tickets stay in this process, in a cache of this principal's.
                let cache = format!("MEMORY:milena-{principal}");
                Credentials::acquire(Some(&name), &[("client_keytab", path), ("ccache", &cache)]).map(Some)
            }
        }
    }
}

/// Whether to try again follows from what cannot be reached. The library has codes of its own for that, and texts for people.
fn refused(failure: Failure) -> ConnectError {
    let is_network = ["Cannot contact any KDC", "Cannot find KDC", "Cannot resolve"]
        .iter()
        .any(|text| failure.0.contains(text));
    ConnectError::new(if is_network { Obstacle::Network } else { Obstacle::Credentials }, failure.0)
}

fn of_peer(failure: Failure) -> ConnectError {
    ConnectError::new(Obstacle::Peer, failure.0)
}

impl SaslMechanism for Gssapi {
    fn name(&self) -> &'static str {
        "GSSAPI"
    }

    fn sends_secret(&self) -> bool {
        false
    }

    fn begin(&self, host: &str) -> Result<(Box<dyn SaslExchange>, Vec<u8>), ConnectError> {
        let target = Name::new(&format!("{}@{host}", self.service), Kind::Service).map_err(refused)?;
        let mut context = Context::new(self.credentials().map_err(refused)?, target);
        let (token, is_established) = context.step(&[]).map_err(refused)?;
        let step = if is_established { Step::Layer } else { Step::Context };
        Ok((Box::new(Exchange { context, step }), token))
    }
}

struct Exchange {
    context: Context,
    step: Step,
}

/// What the broker says next.
enum Step {
    /// A token for the context.
    Context,
    /// Which security layers it has.
    Layer,
    /// Nothing: the exchange is done.
    End,
}

/// RFC 4752: no security layer.
const NO_LAYER: u8 = 1;

impl SaslExchange for Exchange {
    fn step(&mut self, challenge: &[u8]) -> Result<SaslStep, ConnectError> {
        match self.step {
            Step::Context => {
                let (token, is_established) = self.context.step(challenge).map_err(of_peer)?;
                if is_established {
                    self.step = Step::Layer;
                }
                // It may be empty, and is sent all the same: the broker speaks after it.
                Ok(SaslStep::Send(token))
            }
            Step::Layer => {
                let offer = self.context.unwrap(challenge).map_err(of_peer)?;
                let [layers, _, _, _] = offer[..] else {
                    let why = "its offer of security layers has not four bytes";
                    return Err(ConnectError::new(Obstacle::Peer, why));
                };
                if layers & NO_LAYER == 0 {
                    let why = "it demands a security layer of GSSAPI, which Kafka does not have";
                    return Err(ConnectError::new(Obstacle::Peer, why));
                }
                self.step = Step::End;
                // No layer, no buffer for one, and the principal's own name.
                self.context.wrap(&[NO_LAYER, 0, 0, 0]).map(SaslStep::Send).map_err(of_peer)
            }
            Step::End if challenge.is_empty() => Ok(SaslStep::Done),
            Step::End => Err(ConnectError::new(Obstacle::Peer, "it says more after the end of the exchange")),
        }
    }
}
