//! Reads what [`Tls`] names, and makes of it the configuration for connections. It is read again when a file has changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::certificate::{Certificate, Validity};
use super::provider::provider;
use super::store::{self, Identity, Source};
use super::verify::Verifier;
use super::{Checks, Own, Roots, Store, Tls, pem};
use crate::{Address, Error};

/// How long the certificates are valid that a client uses, and whether a changed file could not be used.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TlsState {
    /// The client's own certificate, if it has one.
    pub own: Option<Validity>,
    /// The certificates that brokers have shown last, by address.
    pub brokers: BTreeMap<Address, Validity>,
    /// Why a file that has changed is not used, if the last change could not be.
    pub reload_error: Option<Error>,
}

/// What a client's connections are made with.
#[derive(Debug)]
pub(crate) struct Material {
    tls: Tls,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    ready: Ready,
    /// What the files were like when they were read last.
    stamps: Vec<Stamp>,
    state: TlsState,
    /// The open connections, by address.
    open: BTreeMap<Address, usize>,
}

/// A connection to a broker that is open.
#[derive(Debug)]
pub(super) struct Open {
    material: Arc<Material>,
    address: Address,
}

impl Drop for Open {
    fn drop(&mut self) {
        let open = &mut self.material.current().open;
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A configuration, and whether it shows a certificate.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) config: Arc<ClientConfig>,
    pub(super) own: Option<Validity>,
}

/// What shows that a file has changed.
type Stamp = Option<(SystemTime, u64)>;

/// The certificates of this many brokers are remembered. When there are more, the old ones are forgotten.
const BROKERS_MAX: usize = 1024;

impl Material {
    pub(crate) fn new(tls: Tls) -> Result<Self, Error> {
        // The stamps are taken first: a change while the files are read is noticed the next time.
        let stamps = tls.stamps();
        let ready = tls.load()?;
        let state = TlsState { own: ready.own, ..TlsState::default() };
        Ok(Self { tls, current: Mutex::new(Current { ready, stamps, state, open: BTreeMap::new() }) })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration for a new connection.
    pub(super) fn ready(&self) -> Ready {
        let stamps = self.tls.stamps();
        let current = &mut *self.current();
        if current.stamps != stamps {
            current.stamps = stamps;
            match self.tls.load() {
                Ok(ready) => {
                    tracing::info!(target: "milena", "files of TLS have changed; new connections use them");
                    current.state.own = ready.own;
                    current.state.reload_error = None;
                    current.ready = ready;
                }
                Err(error) => {
                    tracing::warn!(
                        target: "milena",
                        "files of TLS have changed and cannot be used, so the earlier ones stay in use: {error}"
                    );
                    current.state.reload_error = Some(error);
                }
            }
        }
        current.ready.clone()
    }

    /// A connection to a broker is open, which has shown this certificate.
    pub(super) fn opened(self: &Arc<Self>, address: &Address, certificate: Option<&[u8]>) -> Open {
        let current = &mut *self.current();
        *current.open.entry(address.clone()).or_default() += 1;
        if let Some(Ok(Certificate { validity, .. })) = certificate.map(Certificate::read) {
            let brokers = &mut current.state.brokers;
            if brokers.len() >= BROKERS_MAX && !brokers.contains_key(address) {
                brokers.clear();
            }
            brokers.insert(address.clone(), validity);
        }
        Open { material: Arc::clone(self), address: address.clone() }
    }

    /// The client's own certificate as its file is now, and those of the brokers to which connections are open. What a broker has
    /// shown on a connection that has ended, such as that to a bootstrap server, says nothing of what it would show now.
    pub(crate) fn in_use(&self) -> (Option<Validity>, Vec<Validity>) {
        // Without a new connection nobody else would look.
        let own = self.ready().own;
        let current = self.current();
        let of_open = current.open.keys().filter_map(|address| current.state.brokers.get(address));
        (own, of_open.copied().collect())
    }

    pub(crate) fn state(&self) -> TlsState {
        self.current().state.clone()
    }
}

impl Tls {
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let roots = match &self.roots {
            Roots::System => None,
            Roots::Given(store) => Some(&store.source),
        };
        let (first, second) = match &self.own {
            Own::None => (None, None),
            Own::Store(store) => (Some(&store.source), None),
            Own::Parts(chain, key) => (Some(chain), Some(key)),
        };
        [roots, first, second].into_iter().flatten().chain(&self.revocation_lists)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = self.sources().filter_map(|source| match source {
            Source::File(path) => Some(path),
            Source::Memory(_) => None,
        });
        let stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.map(|path| stamp(path)).collect()
    }

    /// Reads everything. The error names what could not be used.
    fn load(&self) -> Result<Ready, Error> {
        let wrong = |doing: &str, why: String| Error::caller(doing, why);
        let provider = provider().map_err(|why| wrong("setting up TLS", why))?;
        let versions: &[&SupportedProtocolVersion] = match self.versions {
            [true, true] => &[&version::TLS13, &version::TLS12],
            [false, true] => &[&version::TLS13],
            [true, false] => &[&version::TLS12],
            [false, false] => {
                return Err(wrong("setting up TLS", "no TLS version is both old and new enough".into()));
            }
        };
        let roots = match self.checks {
            Checks::Nothing => Vec::new(),
            _ => self.roots.load()?,
        };
        let webpki = match self.checks {
            Checks::Nothing => None,
            _ => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.iter().cloned());
                let lists = self.lists()?;
                let builder =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
                let built = builder.with_crls(lists).build();
                Some(built.map_err(|error| wrong("setting up the roots of TLS", error.to_string()))?)
            }
        };
        let verifier = Verifier { webpki, roots, checks: self.checks, provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| wrong("setting up TLS", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let (mut config, own) = match self.own.load(self.key_password.as_ref())? {
            None => (builder.with_no_client_auth(), None),
            Some((Identity { chain, key }, name)) => {
                let doing = format!("reading the client's certificate from {name}");
                let own = chain.first().and_then(|own| Certificate::read(own).ok());
                let own = own.map(|own| own.validity);
                let chain = chain.into_iter().map(CertificateDer::from).collect();
                let key =
                    PrivateKeyDer::try_from(&key[..]).map_err(|why| wrong(&doing, why.into()))?.clone_key();
                let config = builder.with_client_auth_cert(chain, key);
                let config = config.map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        wrong(&doing, "the private key does not belong to the certificate".into())
                    }
                    other => wrong(&doing, format!("the private key cannot be used: {other}")),
                })?;
                (config, own)
            }
        };
        if !self.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Ready { config: Arc::new(config), own })
    }

    fn lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let mut lists = Vec::new();
        for source in &self.revocation_lists {
            let wrong =
                |why| Error::caller(format!("reading the revocation lists in {}", source.name()), why);
            let text = source.read().map_err(wrong)?;
            let blocks = pem::blocks(&text).map_err(wrong)?;
            let found = blocks.iter().filter(|block| block.label == "X509 CRL");
            let before = lists.len();
            lists.extend(found.map(|block| CertificateRevocationListDer::from(block.der.to_vec())));
            if lists.len() == before {
                return Err(wrong("it has no revocation list in PEM".into()));
            }
        }
        Ok(lists)
    }
}

impl Roots {
    fn load(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let store = match self {
            Self::System => return system_roots(),
            Self::Given(store) => store,
        };
        let wrong =
            |why| Error::caller(format!("reading the roots of TLS from {}", store.source.name()), why);
        let mut roots = Vec::new();
        for part in store.source.parts().map_err(wrong)? {
            let bytes = part.read().map_err(wrong)?;
            let entries = store::read(&bytes, store.form, store.password.as_ref(), None);
            match entries {
                Ok(entries) => roots.extend(entries.certificates.into_iter().map(CertificateDer::from)),
                // A directory may hold other files.
                Err(_) if store.source.is_directory() => {}
                Err(why) => return Err(wrong(why)),
            }
        }
        // What cannot be read as a certificate would be skipped without a word.
        let is_root = |der: &CertificateDer<'_>| rustls::server::ParsedCertificate::try_from(der).is_ok();
        match roots.iter().filter(|der| is_root(der)).count() {
            0 if roots.is_empty() => Err(wrong("it has no certificates".into())),
            0 => Err(wrong("none of its certificates can be read".into())),
            _ => Ok(roots),
        }
    }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let mut why =
            String::from("it has none; install a package such as ca-certificates, or name the roots");
        for error in found.errors.iter().take(3) {
            why = format!("{why}; {error}");
        }
        return Err(Error::caller("reading the system's roots for TLS", why));
    }
    Ok(found.certs)
}

impl Own {
    /// The key and its certificates, and where they come from.
    fn load(&self, key_password: Option<&crate::Secret>) -> Result<Option<(Identity, String)>, Error> {
        let wrong = |source: &Source, why: String| {
            Error::caller(format!("reading the client's certificate from {}", source.name()), why)
        };
        match self {
            Self::None => Ok(None),
            Self::Store(Store { source, form, password }) => {
                let bytes = source.read().map_err(|why| wrong(source, why))?;
                let entries = store::read(&bytes, *form, password.as_ref(), key_password);
                let mut identities = entries.map_err(|why| wrong(source, why))?.identities;
                match (identities.pop(), identities.len()) {
                    (Some(identity), 0) if identity.chain.is_empty() => {
                        Err(wrong(source, "it has a private key and no certificate for it".into()))
                    }
                    (Some(identity), 0) => Ok(Some((identity, source.name()))),
                    (Some(_), more) => Err(wrong(
                        source,
                        format!("it has {} private keys, and only one can be used", more + 1),
                    )),
                    (None, _) => Err(wrong(source, "it has no private key that can be read".into())),
                }
            }
            Self::Parts(chain, key) => {
                let of = |source: &Source| {
                    let bytes = source.read().map_err(|why| wrong(source, why))?;
                    store::read(&bytes, None, None, key_password).map_err(|why| wrong(source, why))
                };
                let certificates = of(chain)?.certificates;
                if certificates.is_empty() {
                    return Err(wrong(chain, "it has no certificate".into()));
                }
                let identity = of(key)?.identities.pop();
                let identity = identity.ok_or_else(|| wrong(key, "it has no private key".into()))?;
                Ok(Some((Identity { chain: certificates, ..identity }, chain.name())))
            }
        }
    }
}
