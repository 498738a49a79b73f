//! TLS: what the user chooses, what is read for it, and the connections.
//!
//! ```text
//! Tls (settings) ─▶ material: stores ─▶ ClientConfig, anew when a file changes
//!                      store ─▶ pem, pkcs12, jks (der, cipher)
//! TlsConnector: a byte stream of another connector ─▶ handshake ─▶ TlsStream
//!                                                     verify, refusal (why not)
//! ```

mod certificate;
mod cipher;
mod connector;
mod der;
mod jks;
mod material;
mod pem;
mod pkcs12;
mod provider;
mod refusal;
#[cfg(feature = "oauth")]
mod signing;
mod store;
mod stream;
mod verify;

use std::path::PathBuf;

pub use self::certificate::Validity;
pub(crate) use self::connector::TlsConnector;
pub(crate) use self::material::Material;
pub use self::material::TlsState;
#[cfg(feature = "oauth")]
pub use self::signing::SigningAlgorithm;
#[cfg(feature = "oauth")]
pub(crate) use self::signing::{private_key, sign};
pub(crate) use self::store::Form;
use self::store::Source;
use crate::{Error, Secret};

/// TLS to the brokers: whom to trust, which certificate to show, and which versions to speak.
///
/// The certificate of a broker must be signed by a trusted root, and be for the host that the client connects to. Files are
/// looked at again for every new connection. When one has changed, new connections use it and open ones stay; when the new
/// one cannot be used, the old one stays in use, and a warning of the `tracing` target `milena` says why, as does
/// [`Client::tls`](crate::Client::tls).
///
/// The files may be PEM, PKCS#12 or JKS, which is recognised. The cryptography is that of the provider that the process has
/// installed with rustls' `CryptoProvider::install_default`, or else of a feature of this crate: `graviola` (the default,
/// Rust and assembly only), `ring` or `aws-lc-rs` (both need a C compiler).
///
/// ```no_run
/// # async fn example() -> Result<(), milena::Error> {
/// use milena::{Client, Tls};
///
/// let tls = Tls::roots_from_file("/etc/kafka/ca.pem").client_certificate_files("/etc/kafka/me.pem", "/etc/kafka/me.key");
/// let client = Client::builder().bootstrap("kafka-1:9093").tls(tls).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is used by `ClientBuilder::tls`"]
pub struct Tls {
    roots: Roots,
    own: Own,
    key_password: Option<Secret>,
    revocation_lists: Vec<Source>,
    versions: [bool; 2],
    checks: Checks,
    resumes: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

#[derive(Debug, Clone)]
enum Roots {
    System,
    Given(Store),
}

/// A store of certificates, and of keys.
#[derive(Debug, Clone)]
struct Store {
    source: Source,
    form: Option<Form>,
    password: Option<Secret>,
}

/// The certificate that the client shows.
#[derive(Debug, Clone)]
enum Own {
    None,
    Store(Store),
    /// A certificate chain and a key, apart.
    Parts(Source, Source),
}

/// What is checked of a broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    All,
    NoHostName,
    Nothing,
}

impl Store {
    fn new(source: Source) -> Self {
        Self { source, form: None, password: None }
    }
}

impl Tls {
    fn new(roots: Roots) -> Self {
        Self {
            roots,
            own: Own::None,
            key_password: None,
            revocation_lists: Vec::new(),
            versions: [true, true],
            checks: Checks::All,
            resumes: true,
        }
    }

    /// Trusts the roots that the operating system trusts. On Unix the environment's `SSL_CERT_FILE` and `SSL_CERT_DIR` name
    /// others. (librdkafka: `ssl.ca.location=probe`.)
    pub fn system_roots() -> Self {
        Self::new(Roots::System)
    }

    /// Trusts these roots only, in PEM. (Java: `ssl.truststore.certificates`; librdkafka: `ssl.ca.pem`.)
    pub fn roots_from_pem(pem: impl Into<Vec<u8>>) -> Self {
        Self::new(Roots::Given(Store::new(Source::Memory(Secret::from(pem.into())))))
    }

    /// Trusts only the roots in this file: PEM, PKCS#12, JKS or one certificate in DER. All files of a directory are read. (Java:
    /// `ssl.truststore.location`; librdkafka: `ssl.ca.location`.)
    pub fn roots_from_file(path: impl Into<PathBuf>) -> Self {
        Self::new(Roots::Given(Store::new(Source::File(path.into()))))
    }

    /// Sets the password of the store of roots. PKCS#12 mostly needs one; JKS is not checked for damage without one. (Java:
    /// `ssl.truststore.password`.)
    pub fn roots_password(mut self, password: impl Into<Secret>) -> Self {
        if let Roots::Given(store) = &mut self.roots {
            store.password = Some(password.into());
        }
        self
    }

    /// Shows this certificate to brokers that ask for one, followed by those of the authorities between it and the root, in
    /// PEM. The key is PKCS#8, which may be encrypted, PKCS#1 or SEC1. (Java: `ssl.keystore.certificate.chain` and
    /// `ssl.keystore.key`; librdkafka: `ssl.certificate.pem` and `ssl.key.pem`.)
    pub fn client_certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Secret>) -> Self {
        let chain = Source::Memory(Secret::from(chain_pem.into()));
        self.own = Own::Parts(chain, Source::Memory(key_pem.into()));
        self
    }

    /// As [`client_certificate`](Self::client_certificate), from files. (librdkafka: `ssl.certificate.location` and
    /// `ssl.key.location`.)
    pub fn client_certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.own = Own::Parts(Source::File(chain.into()), Source::File(key.into()));
        self
    }

    /// Shows the certificate in this file to brokers that ask for one: PKCS#12, JKS, or PEM with the key and its
    /// certificates. It must have one key. (Java and librdkafka: `ssl.keystore.location` and `ssl.keystore.password`.)
    pub fn client_store(mut self, path: impl Into<PathBuf>, password: Option<Secret>) -> Self {
        self.own = Own::Store(Store { source: Source::File(path.into()), form: None, password });
        self
    }

    /// As [`client_store`](Self::client_store), of a store that is not in a file: one that a vault gave, for example.
    ///
    /// ```
    /// use milena::Tls;
    ///
    /// let from_a_vault = b"not a store".to_vec();
    /// let tls = Tls::roots_from_file("/etc/kafka/ca.pem").client_store_from_bytes(from_a_vault, Some("changeit".into()));
    /// assert!(tls.check().is_err());
    /// ```
    pub fn client_store_from_bytes(mut self, store: impl Into<Secret>, password: Option<Secret>) -> Self {
        self.own = Own::Store(Store { source: Source::Memory(store.into()), form: None, password });
        self
    }

    /// Sets the password of the client's private key, if it is not that of its store. (Java and librdkafka:
    /// `ssl.key.password`.)
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// Refuses brokers whose certificate is on one of the revocation lists in this file, in PEM. The lists must be those of
    /// the authorities of all certificates up to the root: a certificate for which there is no list is refused too.
    /// (librdkafka: `ssl.crl.location`.)
    pub fn revocation_lists(mut self, path: impl Into<PathBuf>) -> Self {
        self.revocation_lists.push(Source::File(path.into()));
        self
    }

    /// Speaks this version or a newer one. Default: TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.versions[0] &= version == TlsVersion::Tls12;
        self
    }

    /// Speaks this version or an older one. Default: TLS 1.3.
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.versions[1] &= version == TlsVersion::Tls13;
        self
    }

    /// Refuses a store of roots that has another form.
    pub(crate) fn with_roots_form(mut self, form: Option<Form>) -> Self {
        if let Roots::Given(store) = &mut self.roots {
            store.form = form;
        }
        self
    }

    /// Refuses a store of the client's key that has another form.
    pub(crate) fn with_own_form(mut self, form: Option<Form>) -> Self {
        if let Own::Store(store) = &mut self.own {
            store.form = form;
        }
        self
    }

    /// Makes a full handshake for each connection. By default a connection continues the session of an earlier one to the
    /// same broker, which saves both sides the signatures.
    pub fn without_session_resumption(mut self) -> Self {
        self.resumes = false;
        self
    }

    /// Accepts a certificate that is for another host than the one that the client connects to. Whoever has any certificate
    /// that a trusted root has signed can then read and change everything. (Java: an empty
    /// `ssl.endpoint.identification.algorithm`; librdkafka: `none`.)
    pub fn danger_without_host_name_check(mut self) -> Self {
        self.checks = Checks::NoHostName;
        self
    }

    /// Accepts every certificate. Whoever is on the way to the broker can then read and change everything. (librdkafka:
    /// `enable.ssl.certificate.verification=false`.)
    pub fn danger_without_certificate_check(mut self) -> Self {
        self.checks = Checks::Nothing;
        self
    }

    /// Reads everything that is needed, as connecting does, and says what is wrong with it. Blocks for as long as reading
    /// takes.
    ///
    /// ```
    /// let error = milena::Tls::roots_from_pem("no certificate").check().unwrap_err();
    /// assert!(error.to_string().contains("it is neither PEM nor PKCS#12 nor JKS"), "{error}");
    /// ```
    ///
    /// # Errors
    /// When a file cannot be read, a store or a key cannot be used, a password is wrong, or this build or processor has no
    /// cryptography for TLS.
    pub fn check(&self) -> Result<(), Error> {
        Material::new(self.clone()).map(drop)
    }
}
