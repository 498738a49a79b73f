//! The properties that name an issuer of tokens, as Java and librdkafka name them, and what they say together.
//!
//! ```text
//! token.endpoint.url   file:… ─▶ TokenFile
//!                      http…  ─▶ grant ─▶ JwtBearer           assertion: file, or signed
//!                                    └─▶ ClientCredentials   file > signed > secret (KIP-1258)
//! ```

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::jaas::Entry;
use super::tls::TlsProperties;
use crate::{Proxy, Sasl};

/// What they say. Each of them is set on its own, in any order.
#[derive(Clone, Default)]
pub(super) struct OauthProperties {
    /// By their names in Java, or in librdkafka if Java has none.
    given: BTreeMap<&'static str, Zeroizing<String>>,
    /// Whom to trust as the issuer (librdkafka's `https.ca.*`).
    #[cfg_attr(not(feature = "oauth"), allow(dead_code, reason = "only tokens that are fetched need it"))]
    pub(super) tls: TlsProperties,
}

/// Names only: many values are secrets.
impl fmt::Debug for OauthProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

/// What other properties say that matters here.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "oauth"), allow(dead_code, reason = "only tokens that are fetched need it"))]
pub(super) struct Surroundings<'a> {
    /// `allow_plaintext_credentials`.
    pub(super) allows_plaintext: bool,
    pub(super) proxy: Option<&'a Proxy>,
    /// The token endpoints that the program allows; none if it allows all.
    pub(super) endpoints: Option<&'a [String]>,
}

pub(super) const URL: &str = "sasl.oauthbearer.token.endpoint.url";
pub(super) const METHOD: &str = "sasl.oauthbearer.method";
pub(super) const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";
pub(super) const GRANT: &str = "sasl.oauthbearer.grant.type";
pub(super) const CLIENT_ID: &str = "sasl.oauthbearer.client.credentials.client.id";
pub(super) const CLIENT_SECRET: &str = "sasl.oauthbearer.client.credentials.client.secret";
pub(super) const SCOPE: &str = "sasl.oauthbearer.scope";
pub(super) const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
pub(super) const URLENCODE: &str = "sasl.oauthbearer.header.urlencode";
pub(super) const ASSERTION_FILE: &str = "sasl.oauthbearer.assertion.file";
pub(super) const KEY_FILE: &str = "sasl.oauthbearer.assertion.private.key.file";
pub(super) const KEY_PEM: &str = "sasl.oauthbearer.assertion.private.key.pem";
pub(super) const KEY_PASSPHRASE: &str = "sasl.oauthbearer.assertion.private.key.passphrase";
pub(super) const TEMPLATE: &str = "sasl.oauthbearer.assertion.template.file";
pub(super) const ALGORITHM: &str = "sasl.oauthbearer.assertion.algorithm";
pub(super) const CLAIM_AUD: &str = "sasl.oauthbearer.assertion.claim.aud";
pub(super) const CLAIM_ISS: &str = "sasl.oauthbearer.assertion.claim.iss";
pub(super) const CLAIM_SUB: &str = "sasl.oauthbearer.assertion.claim.sub";
pub(super) const CLAIM_EXP: &str = "sasl.oauthbearer.assertion.claim.exp.seconds";
pub(super) const CLAIM_NBF: &str = "sasl.oauthbearer.assertion.claim.nbf.seconds";
pub(super) const CLAIM_JTI: &str = "sasl.oauthbearer.assertion.claim.jti.include";
pub(super) const CONNECT_TIMEOUT: &str = "sasl.login.connect.timeout.ms";
pub(super) const READ_TIMEOUT: &str = "sasl.login.read.timeout.ms";
pub(super) const BACKOFF: &str = "sasl.login.retry.backoff.ms";
pub(super) const BACKOFF_MAX: &str = "sasl.login.retry.backoff.max.ms";

/// Properties that say how an issuer is reached, and do not ask for one.
const MANNER: [&str; 4] = [CONNECT_TIMEOUT, READ_TIMEOUT, BACKOFF, BACKOFF_MAX];

impl OauthProperties {
    pub(super) fn set(&mut self, name: &'static str, text: &str) -> Result<(), String> {
        if self.given.insert(name, Zeroizing::new(text.to_owned())).is_some() {
            return Err(format!("it is given twice, by two names: that of Java is {name}"));
        }
        Ok(())
    }

    /// Whether they ask for an issuer. Without one, `sasl.oauthbearer.method` may be librdkafka's `default`.
    pub(super) fn ask(&self, jaas: Option<&Entry>) -> bool {
        let asks = |(name, text): (&&str, &Zeroizing<String>)| {
            let is_default = *name == METHOD && text.eq_ignore_ascii_case("default");
            !MANNER.contains(name) && !is_default
        };
        let names_client = |entry: &Entry| {
            entry.options().any(|(name, _)| ["clientId", "clientSecret", "scope"].contains(&name))
        };
        self.given.iter().any(asks) || jaas.is_some_and(names_client)
    }

    #[cfg(not(feature = "oauth"))]
    pub(super) fn sasl(self, _: Option<&Entry>, _: &Surroundings<'_>) -> Result<Sasl, String> {
        Err("this build cannot fetch tokens of OAuth 2; build with the feature \"oauth\"".into())
    }

    #[cfg(feature = "oauth")]
    pub(super) fn sasl(self, jaas: Option<&Entry>, surroundings: &Surroundings<'_>) -> Result<Sasl, String> {
        built::Builder::new(self, jaas)?.sasl(surroundings)
    }
}

#[cfg(feature = "oauth")]
mod built {
    use std::time::Duration;

    use super::super::kind::{Flag, Kind as _};
    use super::super::secret::secret;
    use super::{
        ALGORITHM, ASSERTION_FILE, BACKOFF, BACKOFF_MAX, BTreeMap, CLAIM_AUD, CLAIM_EXP, CLAIM_ISS,
        CLAIM_JTI, CLAIM_NBF, CLAIM_SUB, CLIENT_ID, CLIENT_SECRET, CONNECT_TIMEOUT, EXTENSIONS, Entry, GRANT,
        KEY_FILE, KEY_PASSPHRASE, KEY_PEM, MANNER, METHOD, OauthProperties, READ_TIMEOUT, RETRIEVER, SCOPE,
        Sasl, Surroundings, TEMPLATE, TlsProperties, URL, URLENCODE, Zeroizing,
    };
    use crate::http::Url;
    use crate::oauth::{Assertion, ClientCredentials, Endpoint, JwtBearer, SigningAlgorithm, TokenFile};

    /// Takes what is given, so that what is left has no effect.
    pub(super) struct Builder {
        given: BTreeMap<&'static str, Zeroizing<String>>,
        tls: TlsProperties,
        extensions: Vec<(String, String)>,
    }

    /// How tokens are got.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Grant {
        ClientCredentials,
        JwtBearer,
        File,
    }

    const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

    impl Grant {
        fn name(self) -> &'static str {
            match self {
                Self::ClientCredentials => "the grant client_credentials",
                Self::JwtBearer => "the grant JWT bearer",
                Self::File => "tokens from a file",
            }
        }
    }

    impl Builder {
        /// With the options of `sasl.jaas.config`.
        pub(super) fn new(oauth: OauthProperties, jaas: Option<&Entry>) -> Result<Self, String> {
            let OauthProperties { given, tls } = oauth;
            let mut this = Self { given, tls, extensions: Vec::new() };
            if let Some(entry) = jaas {
                entry.is_of("OAuthBearerLoginModule", "OAUTHBEARER")?;
                for (name, value) in entry.options() {
                    let property = match (name, name.strip_prefix("extension_")) {
                        ("clientId", _) => CLIENT_ID,
                        ("clientSecret", _) => CLIENT_SECRET,
                        ("scope", _) => SCOPE,
                        (_, Some(extension)) => {
                            this.extensions.push((extension.to_owned(), value.to_owned()));
                            continue;
                        }
                        _ => return Err(entry.unknown(name)),
                    };
                    if this.given.insert(property, Zeroizing::new(value.to_owned())).is_some() {
                        return Err(format!("{property} is given, and so is {name} in sasl.jaas.config"));
                    }
                }
            }
            for pair in this.text(EXTENSIONS).unwrap_or_default().split(',').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("{EXTENSIONS} is not NAME=VALUE, separated by commas"))?;
                this.extensions.push((name.trim().to_owned(), value.to_owned()));
            }
            Ok(this)
        }

        fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
            self.given.remove(name)
        }

        /// A text that is no secret.
        fn text(&mut self, name: &str) -> Option<String> {
            self.take(name).map(|text| text.to_string())
        }

        fn flag(&mut self, name: &str) -> Result<bool, String> {
            self.take(name).map_or(Ok(false), |text| Flag.read(&text).map_err(|why| format!("{name}: {why}")))
        }

        fn number(&mut self, name: &str, least: u64) -> Result<Option<u64>, String> {
            let Some(text) = self.take(name) else { return Ok(None) };
            let number = text.parse().ok().filter(|number| (least..=u64::from(u32::MAX)).contains(number));
            number.map(Some).ok_or_else(|| format!("{name}: {:?} is not a number from {least} on", &**text))
        }

        fn millis(&mut self, name: &str, least: u64) -> Result<Option<Duration>, String> {
            Ok(self.number(name, least)?.map(Duration::from_millis))
        }

        pub(super) fn sasl(mut self, surroundings: &Surroundings<'_>) -> Result<Sasl, String> {
            let url = self.text(URL).ok_or_else(|| format!("{URL} is missing"))?;
            let grant = self.grant(&url)?;
            allowed(&url, surroundings.endpoints)?;
            let sasl = match grant {
                Grant::File => {
                    MANNER.iter().for_each(|name| drop(self.take(name)));
                    let file = TokenFile::new(path(&url)?);
                    let extensions = std::mem::take(&mut self.extensions).into_iter();
                    Sasl::oauth_bearer(
                        extensions.fold(file, |file, (name, value)| file.extension(name, value)),
                    )
                }
                Grant::ClientCredentials => Sasl::oauth_bearer(self.client_credentials(&url, surroundings)?),
                Grant::JwtBearer => Sasl::oauth_bearer(self.jwt_bearer(&url, surroundings)?),
            };
            match self.given.keys().next() {
                None => Ok(sasl),
                Some(name) => Err(format!("{name} has no effect with {}", grant.name())),
            }
        }

        /// The way to get tokens that the URL and the names of classes or grants say.
        fn grant(&mut self, url: &str) -> Result<Grant, String> {
            let is_file = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
            if let Some(method) = self.text(METHOD).filter(|method| !method.eq_ignore_ascii_case("oidc")) {
                return Err(format!("{METHOD} is {method:?}, and {URL} needs oidc"));
            }
            let class = self.text(RETRIEVER);
            let class = class.as_deref().map(|class| class.rsplit('.').next().unwrap_or_default());
            let by_class = match class {
                None | Some("DefaultJwtRetriever") => None,
                Some("ClientCredentialsJwtRetriever") => Some(Grant::ClientCredentials),
                Some("JwtBearerJwtRetriever") => Some(Grant::JwtBearer),
                Some("FileJwtRetriever") => Some(Grant::File),
                Some(_) => {
                    return Err(format!(
                        "{RETRIEVER} names a Java class, which Milena cannot run; it knows DefaultJwtRetriever, \
                         ClientCredentialsJwtRetriever, JwtBearerJwtRetriever and FileJwtRetriever"
                    ));
                }
            };
            let by_grant = match self.text(GRANT).as_deref() {
                None => None,
                Some("client_credentials") => Some(Grant::ClientCredentials),
                Some(JWT_BEARER) => Some(Grant::JwtBearer),
                Some(_) => return Err(format!("{GRANT} is neither client_credentials nor {JWT_BEARER}")),
            };
            let said = match (by_class, by_grant) {
                (Some(class), Some(grant)) if class != grant => {
                    return Err(format!("{RETRIEVER} and {GRANT} contradict each other"));
                }
                (class, grant) => class.or(grant),
            };
            match (said, is_file) {
                (None | Some(Grant::File), true) => Ok(Grant::File),
                (None, false) => Ok(Grant::ClientCredentials),
                (Some(Grant::File), false) => {
                    Err(format!("{URL} must begin with file: for FileJwtRetriever"))
                }
                (Some(grant), true) => {
                    Err(format!("{URL} names a file, and {} needs https://", grant.name()))
                }
                (Some(grant), false) => Ok(grant),
            }
        }

        fn endpoint(&mut self, url: &str, surroundings: &Surroundings<'_>) -> Result<Endpoint, String> {
            let mut endpoint = Endpoint::new(url).tls(self.tls.tls()?);
            if let Some(proxy) = surroundings.proxy {
                endpoint = endpoint.proxy(proxy.clone());
            }
            if surroundings.allows_plaintext {
                endpoint = endpoint.allow_loopback_http();
            }
            if let Some(timeout) = self.millis(CONNECT_TIMEOUT, 1)? {
                endpoint = endpoint.connect_timeout(timeout);
            }
            if let Some(timeout) = self.millis(READ_TIMEOUT, 1)? {
                endpoint = endpoint.timeout(timeout);
            }
            let (min, max) = (self.millis(BACKOFF, 0)?, self.millis(BACKOFF_MAX, 0)?);
            if min.is_some() || max.is_some() {
                let min = min.unwrap_or(crate::http::BACKOFF.min);
                endpoint = endpoint.retry_backoff(min, max.unwrap_or(crate::http::BACKOFF.max).max(min));
            }
            endpoint.check().map_err(|error| format!("{URL}: {error}"))?;
            Ok(endpoint)
        }

        fn client_credentials(
            &mut self,
            url: &str,
            surroundings: &Surroundings<'_>,
        ) -> Result<ClientCredentials, String> {
            let endpoint = self.endpoint(url, surroundings)?;
            let id = self.text(CLIENT_ID);
            let is_encoded = self.flag(URLENCODE)?;
            let mut tokens = if self.names_assertion() {
                // KIP-1258: an assertion goes before a secret.
                self.take(CLIENT_SECRET);
                let tokens = ClientCredentials::with_assertion(endpoint, self.assertion()?);
                id.map_or(tokens.clone(), |id| tokens.client_id(id))
            } else {
                let id =
                    id.ok_or_else(|| format!("{CLIENT_ID} is missing, or clientId in sasl.jaas.config"))?;
                let secret_text = self.take(CLIENT_SECRET).ok_or_else(|| {
                    format!(
                        "{CLIENT_SECRET} is missing, or clientSecret in sasl.jaas.config, or an assertion"
                    )
                })?;
                let secret = secret(&secret_text).map_err(|why| format!("{CLIENT_SECRET}: {why}"))?;
                ClientCredentials::new(endpoint, id, secret).header_urlencode(is_encoded)
            };
            if let Some(scope) = self.text(SCOPE) {
                tokens = tokens.scope(scope);
            }
            let extensions = std::mem::take(&mut self.extensions).into_iter();
            Ok(extensions.fold(tokens, |tokens, (name, value)| tokens.extension(name, value)))
        }

        fn jwt_bearer(&mut self, url: &str, surroundings: &Surroundings<'_>) -> Result<JwtBearer, String> {
            let endpoint = self.endpoint(url, surroundings)?;
            if !self.names_assertion() {
                return Err(format!("the grant JWT bearer needs {ASSERTION_FILE} or {KEY_FILE}"));
            }
            let mut tokens = JwtBearer::new(endpoint, self.assertion()?);
            if let Some(scope) = self.text(SCOPE) {
                tokens = tokens.scope(scope);
            }
            let extensions = std::mem::take(&mut self.extensions).into_iter();
            Ok(extensions.fold(tokens, |tokens, (name, value)| tokens.extension(name, value)))
        }

        fn names_assertion(&self) -> bool {
            [ASSERTION_FILE, KEY_FILE, KEY_PEM].iter().any(|name| self.given.contains_key(name))
        }

        /// The assertion: one from a file goes before one that is signed here.
        fn assertion(&mut self) -> Result<Assertion, String> {
            if let Some(path) = self.text(ASSERTION_FILE) {
                const OF_SIGNED: [&str; 11] = [
                    KEY_FILE,
                    KEY_PEM,
                    KEY_PASSPHRASE,
                    TEMPLATE,
                    ALGORITHM,
                    CLAIM_AUD,
                    CLAIM_ISS,
                    CLAIM_SUB,
                    CLAIM_EXP,
                    CLAIM_NBF,
                    CLAIM_JTI,
                ];
                OF_SIGNED.iter().for_each(|name| drop(self.take(name)));
                return Ok(Assertion::from_file(path));
            }
            let mut assertion = match (self.text(KEY_FILE), self.take(KEY_PEM)) {
                (Some(_), Some(_)) => return Err(format!("{KEY_FILE} and {KEY_PEM} are both given")),
                (Some(path), None) => Assertion::signed_by_file(path),
                (None, pem) => {
                    let pem = secret(&pem.unwrap_or_default()).map_err(|why| format!("{KEY_PEM}: {why}"))?;
                    Assertion::signed(pem)
                }
            };
            if let Some(passphrase) = self.take(KEY_PASSPHRASE) {
                let passphrase = secret(&passphrase).map_err(|why| format!("{KEY_PASSPHRASE}: {why}"))?;
                assertion = assertion.passphrase(passphrase);
            }
            if let Some(algorithm) = self.text(ALGORITHM) {
                assertion = assertion.algorithm(match algorithm.to_ascii_uppercase().as_str() {
                    "RS256" => SigningAlgorithm::Rs256,
                    "ES256" => SigningAlgorithm::Es256,
                    _ => return Err(format!("{ALGORITHM}: {algorithm:?} is not one of RS256, ES256")),
                });
            }
            if let Some(path) = self.text(TEMPLATE) {
                assertion = assertion.template_file(path);
            }
            for (name, claim) in [(CLAIM_AUD, "aud"), (CLAIM_ISS, "iss"), (CLAIM_SUB, "sub")] {
                if let Some(value) = self.text(name) {
                    assertion = assertion.claim(claim, value);
                }
            }
            if let Some(seconds) = self.number(CLAIM_EXP, 0)? {
                assertion = assertion.lifetime(Duration::from_secs(seconds));
            }
            if let Some(seconds) = self.number(CLAIM_NBF, 0)? {
                assertion = assertion.not_before(Duration::from_secs(seconds));
            }
            if self.flag(CLAIM_JTI)? {
                assertion = assertion.with_jwt_id();
            }
            Ok(assertion)
        }
    }

    /// The path in a URL of a file: `file:///PATH`, or `file:/PATH` as Java writes it.
    fn path(url: &str) -> Result<String, String> {
        let path = &url[5..];
        let path = match path.strip_prefix("//") {
            None => path,
            Some(rest) => rest.strip_prefix("localhost").filter(|rest| rest.starts_with('/')).unwrap_or(rest),
        };
        if !path.starts_with('/') || path.contains('%') {
            return Err(format!("{URL} is not file:///PATH with an absolute path without % escapes"));
        }
        Ok(path.to_owned())
    }

    /// Refuses an endpoint that the program does not allow.
    fn allowed(url: &str, endpoints: Option<&[String]>) -> Result<(), String> {
        let Some(endpoints) = endpoints else { return Ok(()) };
        let is_same = |allowed: &String| match (url.parse::<Url>(), allowed.parse::<Url>()) {
            (Ok(url), Ok(allowed)) => url == allowed,
            _ => url == allowed,
        };
        if endpoints.iter().any(is_same) {
            return Ok(());
        }
        Err(format!("{URL} is none that the program allows (Properties::allow_token_endpoints)"))
    }
}
