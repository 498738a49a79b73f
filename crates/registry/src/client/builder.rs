//! How a client of registries is set up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use milena::http::{Http, HttpSettings, Url};
use milena::{ProvideToken, Proxy, Secret, Tls};

use super::attempts::Policy;
use super::auth::{Auth, Authorization};
use super::cache::Limits;
use super::clock::Clock;
use super::flight::Known;
use super::rest::Rest;
use super::{Inner, SchemaRegistry};
use crate::{RegistryError, RegistryErrorKind};

/// Sets a [`SchemaRegistry`] up.
#[must_use = "nothing is set up before `build`"]
pub struct SchemaRegistryBuilder {
    urls: Vec<String>,
    settings: HttpSettings,
    auth: Auth,
    wrong: Option<&'static str>,
    headers: Vec<(&'static str, Secret)>,
    policy: Policy,
    timeout: Duration,
    entries_max: usize,
    bytes_max: usize,
    latest_ttl: Duration,
    absent_ttl: Duration,
    normalizes: bool,
}

/// Several attempts fit in the time for a call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl SchemaRegistryBuilder {
    pub(super) fn new(urls: Vec<String>) -> Self {
        let settings = HttpSettings::default()
            .http_to_loopback()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        Self {
            urls,
            settings: settings.body_bytes_max(4 << 20),
            auth: Auth::None,
            wrong: None,
            headers: Vec::new(),
            policy: Policy { retries: 3, wait: Duration::from_secs(1), wait_max: Duration::from_secs(20) },
            timeout: Duration::from_secs(30),
            entries_max: 1000,
            bytes_max: 64 << 20,
            latest_ttl: Duration::from_secs(60),
            absent_ttl: Duration::from_secs(60),
            normalizes: false,
        }
    }

    /// Authenticates with a user and a password, such as the key and the secret of Confluent Cloud. (Java:
    /// `basic.auth.user.info`.)
    pub fn basic(mut self, user: &str, password: impl Into<Secret>) -> Self {
        match Auth::basic(user, &password.into()) {
            Ok(auth) => self.auth = auth,
            Err(why) => self.wrong = Some(why),
        }
        self
    }

    /// Authenticates with a token that does not change. (Java: `bearer.auth.token`.)
    pub fn bearer(mut self, token: impl Into<Secret>) -> Self {
        self.auth = Auth::bearer(&token.into());
        self
    }

    /// Authenticates with tokens of OAuth 2, such as `ClientCredentials` of `milena::oauth`, which its feature `oauth` adds. One token
    /// is fetched per lifetime, and again when 75 to 80 % of its life have passed. Confluent Cloud wants the headers
    /// `target-sr-cluster` and `confluent-identity-pool-id` besides: see [`header`](Self::header).
    pub fn tokens(mut self, provider: impl ProvideToken + 'static) -> Self {
        self.auth = Auth::Tokens(Arc::new(provider));
        self
    }

    /// Sends this header with each request. The name is lower-case; the value is not printed.
    pub fn header(mut self, name: &'static str, value: impl Into<Secret>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whom to trust, and which certificate to show. Default: the system's roots, and none.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings = self.settings.tls(tls);
        self
    }

    /// Connects through this proxy. Default: the one of the environment; `http` addresses are always connected to directly.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.settings = self.settings.proxy(proxy);
        self
    }

    /// Lets requests go to this host without TLS. They may go to this machine without it anyway. Anyone on the way reads passwords
    /// and tokens, and can answer with other schemas.
    pub fn http_to(mut self, host: impl Into<Box<str>>) -> Self {
        self.settings = self.settings.http_to(host);
        self
    }

    /// How long a call may take, with all its attempts. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one attempt may take, from connecting to the last byte. Default 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.timeout(timeout).connect_timeout(timeout.min(CONNECT_TIMEOUT));
        self
    }

    /// The longest answer, in bytes. Default 4 MiB.
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.settings = self.settings.body_bytes_max(bytes);
        self
    }

    /// How many rounds over all addresses follow the first one, when they fail for a reason that may pass. Default 3. (Java:
    /// `max.retries`.)
    pub fn retries(mut self, retries: u32) -> Self {
        self.policy.retries = retries;
        self
    }

    /// The longest wait before the second round, and before any. The waits are a random part of it ("full jitter"), which doubles.
    /// Default 1 s and 20 s. (Java: `retries.wait.ms`, `retries.max.wait.ms`.)
    pub fn retry_wait(mut self, first: Duration, max: Duration) -> Self {
        (self.policy.wait, self.policy.wait_max) = (first, max);
        self
    }

    /// How many schemas are remembered at most, of each kind of question. Default 1000, and 64 MiB.
    pub fn remembered_max(mut self, schemas: usize, bytes: usize) -> Self {
        (self.entries_max, self.bytes_max) = (schemas, bytes);
        self
    }

    /// How long it is believed which version of a subject is the latest, and which subject a topic has. Default 60 s. What an id or a
    /// GUID stands for never changes. (Java: `latest.cache.ttl.sec`, without end.)
    pub fn latest_ttl(mut self, ttl: Duration) -> Self {
        self.latest_ttl = ttl;
        self
    }

    /// How long it is believed that an id, a subject or a version does not exist. Default 60 s.
    pub fn absent_ttl(mut self, ttl: Duration) -> Self {
        self.absent_ttl = ttl;
        self
    }

    /// Asks the registry to normalize the schemas that are registered, looked up or checked: the same schema in another order or form is
    /// then the same to it. Default: no. (Java: `normalize.schemas`.)
    pub fn normalize(mut self, normalizes: bool) -> Self {
        self.normalizes = normalizes;
        self
    }

    /// Sets the client up. Nothing is asked.
    ///
    /// # Errors
    /// When an address is none, or a user's name cannot be sent.
    pub fn build(self) -> Result<SchemaRegistry, RegistryError> {
        let wrong = |why: String| RegistryError::new(RegistryErrorKind::Configuration, why);
        if let Some(why) = self.wrong {
            return Err(wrong(why.into()));
        }
        let urls = self.urls.iter().map(|url| {
            // Its own error does not repeat the text, which may have a secret in it.
            url.trim()
                .parse::<Url>()
                .map_err(|why| wrong(format!("the address of the schema registry: {why}")))
        });
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let forever = Limits {
            entries_max: self.entries_max,
            bytes_max: self.bytes_max,
            ttl: None,
            absent_ttl: self.absent_ttl,
        };
        let for_a_while = Limits { ttl: Some(self.latest_ttl), ..forever };
        let rest = Rest {
            urls,
            preferred: AtomicUsize::new(0),
            http: Http::new(self.settings),
            authorization: Authorization::new(self.auth, REQUEST_TIMEOUT),
            headers: self.headers,
            policy: self.policy,
            timeout: self.timeout,
        };
        Ok(SchemaRegistry(Arc::new(Inner {
            rest: Arc::new(rest),
            clock: Clock::start(),
            normalizes: self.normalizes,
            schemas: Known::new(forever),
            versions: Known::new(forever),
            latest: Known::new(for_a_while),
            registered: Known::new(forever),
            subjects: Known::new(for_a_while),
        })))
    }
}

impl fmt::Debug for SchemaRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses that cannot be parsed may have a password in them.
        f.debug_struct("SchemaRegistryBuilder").field("urls", &self.urls.len()).finish_non_exhaustive()
    }
}
