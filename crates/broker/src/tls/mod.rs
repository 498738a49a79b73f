//! TLS on listeners: the broker's certificate, and those of its clients. It must not know sockets.
//!
//! ```text
//!  Tls (PEM, or an Identity of an Authority made at start) ─▶ rustls' ServerConfig ─▶ server/stream.rs
//!  a client's certificate ─▶ subject.rs: its name as Java writes it ─▶ rules.rs: the principal
//! ```

mod authority;
mod rules;
mod subject;

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

pub(crate) use authority::pem;
pub use authority::{Authority, Identity};
pub(crate) use rules::Rules;
pub(crate) use subject::subject;

use crate::error::Error;

/// How a listener does TLS: its certificate, and what it wants of its clients' certificates.
///
/// ```
/// use milena_broker::{Authority, Broker, Listener, Tls};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// let authority = Authority::new()?;
/// let tls = Tls::of(&authority.server(["localhost", "127.0.0.1"])?);
/// let cluster = Broker::builder().listener(Listener::ssl(tls)).start().await?;
/// // Clients trust the broker by this certificate.
/// assert!(authority.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// cluster.shutdown().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tls {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    clients: ClientCertificates,
    versions: &'static [&'static SupportedProtocolVersion],
    rules: Rules,
}

/// Whether clients have certificates (`ssl.client.auth`).
#[derive(Debug, Clone)]
enum ClientCertificates {
    None,
    Requested(Arc<RootCertStore>),
    Required(Arc<RootCertStore>),
}

impl Tls {
    /// TLS with a certificate chain and its private key, both as PEM (`ssl.keystore.certificate.chain`,
    /// `ssl.keystore.key`). The broker's own certificate comes first. The key is not encrypted.
    ///
    /// # Errors
    /// When `chain` has no certificate, and when `key` has no private key.
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let chain = certificates(chain.as_ref(), "the certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|error| Error::refused(format!("there is no private key: {error}")))?;
        Ok(Self::new(chain, key))
    }

    /// TLS with a certificate that an [`Authority`] made.
    pub fn of(identity: &Identity) -> Self {
        let (chain, key) = identity.parts();
        Self::new(chain, key)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        let (key, clients, rules) = (Arc::new(key), ClientCertificates::None, Rules::default());
        Self { chain, key, clients, versions: rustls::ALL_VERSIONS, rules }
    }

    /// Takes connections of clients only that have a certificate of these authorities (`ssl.client.auth=required`,
    /// `ssl.truststore.certificates` as PEM). The subject of the certificate gives the principal.
    ///
    /// # Errors
    /// When `authorities` has no certificate.
    pub fn require_clients(mut self, authorities: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.clients = ClientCertificates::Required(roots(authorities.as_ref())?);
        Ok(self)
    }

    /// The same, and takes connections of clients without a certificate as well (`ssl.client.auth=requested`). Their
    /// principal is `User:ANONYMOUS`.
    ///
    /// # Errors
    /// When `authorities` has no certificate.
    pub fn request_clients(mut self, authorities: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.clients = ClientCertificates::Requested(roots(authorities.as_ref())?);
        Ok(self)
    }

    /// How the subject of a client's certificate gives the name of its principal (`ssl.principal.mapping.rules`): rules
    /// `RULE:pattern/replacement/` with `L` or `U` after it for lower or upper case, or `DEFAULT` for the whole name,
    /// separated by commas. The first rule that matches holds. A client that no rule matches is disconnected.
    /// Default: `DEFAULT`.
    ///
    /// # Errors
    /// When a rule cannot be read.
    pub fn principal_rules(mut self, rules: &str) -> Result<Self, Error> {
        self.rules = Rules::parse(rules).map_err(Error::refused)?;
        Ok(self)
    }

    /// Only TLS 1.2 (`ssl.enabled.protocols`). Default: TLS 1.2 and TLS 1.3.
    pub fn only_1_2(mut self) -> Self {
        self.versions = TLS_1_2;
        self
    }

    /// Only TLS 1.3 (`ssl.enabled.protocols`). Default: TLS 1.2 and TLS 1.3.
    pub fn only_1_3(mut self) -> Self {
        self.versions = TLS_1_3;
        self
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules.clone()
    }

    /// Whether clients without a certificate are sent away.
    pub(crate) fn authenticates(&self) -> bool {
        matches!(self.clients, ClientCertificates::Required(_))
    }

    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, Error> {
        let refused = |error: rustls::Error| Error::refused(format!("TLS cannot be set up: {error}"));
        let provider = Arc::new(rustls_graviola::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_protocol_versions(self.versions).map_err(refused)?;
        let verifier =
            |roots: &Arc<RootCertStore>, is_required| -> Result<Arc<dyn ClientCertVerifier>, Error> {
                let builder =
                    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider));
                let builder = if is_required { builder } else { builder.allow_unauthenticated() };
                builder.build().map_err(|error| Error::refused(format!("TLS cannot be set up: {error}")))
            };
        let config = match &self.clients {
            ClientCertificates::None => config.with_no_client_auth(),
            ClientCertificates::Requested(roots) => config.with_client_cert_verifier(verifier(roots, false)?),
            ClientCertificates::Required(roots) => config.with_client_cert_verifier(verifier(roots, true)?),
        };
        let config = config.with_single_cert(self.chain.clone(), self.key.clone_key()).map_err(refused)?;
        Ok(Arc::new(config))
    }
}

static TLS_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::refused(format!("{what} has no certificate"))),
        Err(error) => Err(Error::refused(format!("{what} is not PEM: {error}"))),
    }
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "the list of authorities")? {
        let refused = |error| Error::refused(format!("a certificate of an authority is not valid: {error}"));
        roots.add(certificate).map_err(refused)?;
    }
    Ok(Arc::new(roots))
}
