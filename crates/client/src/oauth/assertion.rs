//! Assertions: JSON Web Tokens by which a client proves to an issuer who it is (RFC 7523).

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::jwt::BASE64;
use super::{misconfigured, random, time_of_day};
use crate::tls::{SigningAlgorithm, private_key, sign};
use crate::{ConnectError, Secret};

/// A JSON Web Token by which a client proves to an issuer who it is: one that the client signs anew for each request, or one
/// that something else writes to a file. It is for [`ClientCredentials::with_assertion`](super::ClientCredentials::with_assertion)
/// and [`JwtBearer`](super::JwtBearer).
///
/// Files are read again for each request, so they may change.
///
/// ```
/// use std::time::Duration;
///
/// use milena::oauth::{Assertion, SigningAlgorithm};
///
/// let assertion = Assertion::signed_by_file("/etc/kafka/me.pem")
///     .algorithm(SigningAlgorithm::Es256)
///     .issuer("billing")
///     .subject("billing")
///     .audience("https://issuer.example/oauth2/token")
///     .lifetime(Duration::from_secs(60))
///     .with_jwt_id();
/// let error = assertion.check().unwrap_err();
/// assert!(error.to_string().starts_with("reading the private key from /etc/kafka/me.pem"), "{error}");
/// ```
#[derive(Clone)]
pub struct Assertion {
    source: Source,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Signed(Arc<Signed>),
}

/// An assertion that the client signs.
#[derive(Clone)]
struct Signed {
    key: Key,
    passphrase: Option<Secret>,
    algorithm: SigningAlgorithm,
    header: Vec<(&'static str, String)>,
    claims: Vec<(String, String)>,
    lifetime: Duration,
    not_before: Duration,
    has_id: bool,
    template: Option<PathBuf>,
}

#[derive(Clone)]
enum Key {
    Pem(Secret),
    File(PathBuf),
}

/// An assertion, a key or a template is shorter.
const FILE_BYTES_MAX: u64 = 256 << 10;

impl Assertion {
    /// The assertion in this file. (Java and librdkafka: `sasl.oauthbearer.assertion.file`.)
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self { source: Source::File(path.into()) }
    }

    /// An assertion that is signed with this private key, in PEM: PKCS#8, which may be encrypted, PKCS#1 or SEC1. (librdkafka:
    /// `sasl.oauthbearer.assertion.private.key.pem`.)
    pub fn signed(key: impl Into<Secret>) -> Self {
        Self::signed_by(Key::Pem(key.into()))
    }

    /// An assertion that is signed with the private key in this file, which is PEM or a PKCS#12 or JKS store. (Java and
    /// librdkafka: `sasl.oauthbearer.assertion.private.key.file`.)
    pub fn signed_by_file(key: impl Into<PathBuf>) -> Self {
        Self::signed_by(Key::File(key.into()))
    }

    fn signed_by(key: Key) -> Self {
        let signed = Signed {
            key,
            passphrase: None,
            algorithm: SigningAlgorithm::Rs256,
            header: Vec::new(),
            claims: Vec::new(),
            lifetime: Duration::from_secs(300),
            not_before: Duration::from_secs(60),
            has_id: false,
            template: None,
        };
        Self { source: Source::Signed(Arc::new(signed)) }
    }

    /// Changes what is signed. An assertion from a file stays as it is.
    fn with(mut self, set: impl FnOnce(&mut Signed)) -> Self {
        if let Source::Signed(signed) = &mut self.source {
            set(Arc::make_mut(signed));
        }
        self
    }

    /// The password of the private key. (`sasl.oauthbearer.assertion.private.key.passphrase`.)
    #[must_use]
    pub fn passphrase(self, passphrase: impl Into<Secret>) -> Self {
        self.with(|signed| signed.passphrase = Some(passphrase.into()))
    }

    /// How it is signed. Default RS256. (`sasl.oauthbearer.assertion.algorithm`.)
    #[must_use]
    pub fn algorithm(self, algorithm: SigningAlgorithm) -> Self {
        self.with(|signed| signed.algorithm = algorithm)
    }

    /// Sets the id of the key (`kid`), by which the issuer finds the public key.
    #[must_use]
    pub fn key_id(self, id: impl Into<String>) -> Self {
        self.with(|signed| signed.header.push(("kid", id.into())))
    }

    /// Sets a claim that is a text. A later one replaces an earlier one, and those of the [template](Self::template_file).
    #[must_use]
    pub fn claim(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|signed| signed.claims.push((name.into(), value.into())))
    }

    /// Sets the claim `iss`: who made the assertion. (`sasl.oauthbearer.assertion.claim.iss`.)
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer)
    }

    /// Sets the claim `sub`: whom it stands for. (`sasl.oauthbearer.assertion.claim.sub`.)
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject)
    }

    /// Sets the claim `aud`: whom it is meant for, which is mostly the token endpoint.
    /// (`sasl.oauthbearer.assertion.claim.aud`.)
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience)
    }

    /// How long it is valid: the claim `exp` after now. Default 5 minutes. (`sasl.oauthbearer.assertion.claim.exp.seconds`.)
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.with(|signed| signed.lifetime = lifetime)
    }

    /// How long before now it begins to be valid (claim `nbf`), because clocks differ. Default 1 minute.
    /// (`sasl.oauthbearer.assertion.claim.nbf.seconds`.)
    #[must_use]
    pub fn not_before(self, before_now: Duration) -> Self {
        self.with(|signed| signed.not_before = before_now)
    }

    /// Gives each assertion an id of its own (claim `jti`), so that an issuer can refuse to take one twice.
    /// (`sasl.oauthbearer.assertion.claim.jti.include`.)
    #[must_use]
    pub fn with_jwt_id(self) -> Self {
        self.with(|signed| signed.has_id = true)
    }

    /// Begins with the header and the claims in this file, which is JSON: `{"header": {…}, "payload": {…}}`, both of which
    /// may be left out. What is set here goes before them, and so do `alg`, `iat`, `exp`, `nbf` and `jti`. (Java:
    /// `sasl.oauthbearer.assertion.template.file`; librdkafka: `sasl.oauthbearer.assertion.jwt.template.file`.)
    #[must_use]
    pub fn template_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(|signed| signed.template = Some(path.into()))
    }

    /// Reads the files and makes an assertion, and says what is wrong. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When a file cannot be read, the key cannot be used, or the template is not JSON of its form.
    pub fn check(&self) -> Result<(), ConnectError> {
        self.made().map(drop)
    }

    /// An assertion.
    pub(super) fn made(&self) -> Result<Secret, ConnectError> {
        match &self.source {
            Source::Signed(signed) => signed.made(time_of_day()),
            Source::File(path) => {
                let text = read("the assertion", path)?;
                let text = text.trim_ascii();
                match text.is_empty() {
                    true => Err(misconfigured(format!("the assertion in {} is empty", path.display()))),
                    false => Ok(Secret::from(text.to_vec())),
                }
            }
        }
    }
}

impl Signed {
    fn made(&self, now: SystemTime) -> Result<Secret, ConnectError> {
        let (mut header, mut claims) = match &self.template {
            None => (Map::new(), Map::new()),
            Some(path) => template(path)?,
        };
        header.insert("alg".into(), self.algorithm.name().into());
        header.entry("typ").or_insert("JWT".into());
        for (name, value) in &self.header {
            header.insert((*name).into(), value.as_str().into());
        }
        for (name, value) in &self.claims {
            claims.insert(name.clone(), value.as_str().into());
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.insert("iat".into(), now.as_secs().into());
        claims.insert("exp".into(), now.saturating_add(self.lifetime).as_secs().into());
        claims.insert("nbf".into(), now.saturating_sub(self.not_before).as_secs().into());
        if self.has_id {
            claims.insert("jti".into(), BASE64.encode(random::<16>()?).into());
        }
        let part = |part: Object| BASE64.encode(Value::Object(part).to_string());
        let mut assertion = format!("{}.{}", part(header), part(claims));
        let (name, pem) = match &self.key {
            Key::Pem(pem) => ("the given bytes".to_owned(), Zeroizing::new(pem.expose().to_vec())),
            Key::File(path) => (path.display().to_string(), read("the private key", path)?),
        };
        let wrong = |why| misconfigured(format!("reading the private key from {name}: {why}"));
        let key = private_key(&pem, self.passphrase.as_ref()).map_err(wrong)?;
        let signature = sign(&key, self.algorithm, assertion.as_bytes());
        let signature =
            signature.map_err(|why| misconfigured(format!("signing with the key from {name}: {why}")))?;
        assertion.push('.');
        BASE64.encode_string(signature, &mut assertion);
        Ok(Secret::from(assertion))
    }
}

/// An object of JSON.
type Object = Map<String, Value>;

/// The header and the claims of a template.
fn template(path: &Path) -> Result<(Object, Object), ConnectError> {
    let wrong = |why: &str| misconfigured(format!("the template {}: {why}", path.display()));
    let text = read("the template", path)?;
    let Ok(Value::Object(mut parts)) = serde_json::from_slice(&text) else {
        return Err(wrong("it is not an object of JSON"));
    };
    let mut part = |name: &str| match parts.remove(name) {
        None => Ok(Map::new()),
        Some(Value::Object(part)) => Ok(part),
        Some(_) => Err(wrong("its header and payload must be objects of JSON")),
    };
    let (header, claims) = (part("header")?, part("payload")?);
    match parts.keys().next() {
        None => Ok((header, claims)),
        Some(_) => Err(wrong("it has other members than header and payload")),
    }
}

/// A file that is short. Errors name it, and nothing of its content.
pub(super) fn read(what: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
    let wrong = |why: String| misconfigured(format!("reading {what} from {}: {why}", path.display()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > FILE_BYTES_MAX => {
            Err(wrong(format!("it is longer than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(wrong(error.to_string())),
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::File(path) => f.debug_struct("Assertion").field("file", path).finish(),
            Source::Signed(signed) => {
                f.debug_struct("Assertion").field("algorithm", &signed.algorithm).finish_non_exhaustive()
            }
        }
    }
}
