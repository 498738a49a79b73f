//! Where an issuer gives tokens, and how it is asked.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use milena_core::backoff::Backoff;
use milena_core::{Obstacle, Rng};

use super::answer::TokenAnswer;
use super::form::Form;
use super::{misconfigured, random};
use crate::clock::Clock;
use crate::http::{Attempts, BACKOFF, Http, HttpSettings, Plain, Request, Route, Url};
use crate::runtime::Executor;
use crate::{ConnectError, Proxy, Tls};

/// An issuer's token endpoint, and how it is reached.
///
/// Only this address is asked: a redirect is refused, so that nothing secret goes elsewhere. It must be `https`, and its
/// certificate is checked as that of a broker. An answer has at most 1 MiB and must be complete within the
/// [timeout](Self::timeout). An attempt that fails for a reason that may pass is made again: up to three in all begin within half
/// a second; what happens after that is up to the client, which has a token or not.
///
/// The environment's `HTTPS_PROXY` or `ALL_PROXY` is used, unless `NO_PROXY` excepts the host, or [`proxy`](Self::proxy) names
/// another one.
///
/// ```
/// use std::time::Duration;
///
/// use milena::Tls;
/// use milena::oauth::Endpoint;
///
/// let endpoint = Endpoint::new("https://issuer.example/oauth2/token")
///     .tls(Tls::roots_from_file("/etc/issuer-ca.pem"))
///     .timeout(Duration::from_secs(5));
/// assert!(endpoint.check().is_ok());
///
/// let error = Endpoint::new("http://issuer.example/oauth2/token").check().unwrap_err();
/// assert!(error.to_string().contains("use https"), "{error}");
/// ```
#[derive(Clone)]
pub struct Endpoint {
    url: Result<Url, String>,
    settings: HttpSettings,
    backoff: Backoff,
    http: Arc<OnceLock<Http>>,
}

/// How often an issuer is asked for one token, and within which time an attempt begins. An error must come within a second.
const ATTEMPTS: u32 = 3;
const ATTEMPTS_WITHIN: Duration = Duration::from_millis(500);
/// Shorter than the client's connect timeout, after which it drops the provider: errors are to name the issuer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(8);
const FORM: &str = "application/x-www-form-urlencoded";

impl Endpoint {
    /// The endpoint with this URL, such as `https://issuer.example/oauth2/token`. A URL that cannot be used is reported by
    /// [`check`](Self::check) and by each fetch. (Java and librdkafka: `sasl.oauthbearer.token.endpoint.url`.)
    pub fn new(url: impl AsRef<str>) -> Self {
        let (connect_timeout, timeout) = (CONNECT_TIMEOUT, TIMEOUT);
        let settings = HttpSettings { connect_timeout, timeout, ..HttpSettings::default() };
        Self { url: url.as_ref().parse(), settings, backoff: BACKOFF, http: Arc::default() }
    }

    fn with(mut self, set: impl FnOnce(&mut HttpSettings)) -> Self {
        set(&mut self.settings);
        self.http = Arc::default();
        self
    }

    /// Whom to trust as the issuer, and which certificate to show to it. Default: the system's roots, and none. (librdkafka:
    /// `https.ca.location`, `https.ca.pem`.)
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        self.with(|settings| settings.tls = tls)
    }

    /// Reaches the issuer through this proxy. Default: that of the environment.
    #[must_use]
    pub fn proxy(self, proxy: Proxy) -> Self {
        self.with(|settings| settings.route = Route::Proxy(proxy))
    }

    /// Allows `http` to an address of this machine, for tests and for agents that run beside the program. Passwords and
    /// tokens go over it in plain text. `http` to another machine is always refused.
    #[must_use]
    pub fn allow_loopback_http(self) -> Self {
        self.with(|settings| settings.plain = Plain::Loopback)
    }

    /// How long connecting may take, the handshake of TLS included. Default 5 s. (Java: `sasl.login.connect.timeout.ms`.)
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = timeout)
    }

    /// How long an attempt may take, from connecting to the answer's last byte. Default 8 s. The client gives a provider up
    /// after its [connect timeout](crate::ClientBuilder::connect_timeout), whose error does not name the issuer, so this should
    /// be less. (Java: `sasl.login.read.timeout.ms`.)
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// How long to wait before the second attempt, and the most before later ones. Default 100 ms and 10 s. (Java:
    /// `sasl.login.retry.backoff.ms`, `sasl.login.retry.backoff.max.ms`.)
    #[must_use]
    pub fn retry_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Backoff { min, max };
        self
    }

    /// Says what is wrong with the URL. Nothing is asked.
    ///
    /// # Errors
    /// When it is no URL of `https`, and not of `http` to this machine where that is allowed.
    pub fn check(&self) -> Result<(), ConnectError> {
        let url = self.url()?;
        let may_be_plain = matches!(self.settings.plain, Plain::Loopback) && url.is_loopback();
        if url.is_encrypted() || may_be_plain {
            return Ok(());
        }
        let why = if url.is_loopback() {
            "http to this machine must be allowed (Endpoint::allow_loopback_http, or allow_plaintext_credentials=true)"
        } else {
            "http would send what is secret in plain text; use https"
        };
        Err(misconfigured(format!("{url}: {why}")))
    }

    fn url(&self) -> Result<&Url, ConnectError> {
        self.url.as_ref().map_err(|why| misconfigured(format!("the token endpoint: {why}")))
    }

    /// Asks for a token. `form` makes the request anew for each attempt, because some parts of it may be used once only.
    pub(super) async fn ask(
        &self,
        form: impl Fn() -> Result<Form, ConnectError>,
    ) -> Result<TokenAnswer, ConnectError> {
        self.check()?;
        let url = self.url()?;
        let runtime = Executor::current().map_err(|why| misconfigured(why.to_string()))?;
        let clock = Clock::start(&runtime);
        let rng = Rng::seeded(u64::from_ne_bytes(random()?));
        let mut attempts = Attempts::new(self.backoff, ATTEMPTS, clock.after(ATTEMPTS_WITHIN), rng);
        loop {
            let form = form()?;
            let error = match self.asked(url, &form).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = if error.obstacle().is_final() { None } else { attempts.handle_failure(clock.now()) };
            let Some(at) = again else { return Err(error) };
            tracing::debug!(target: "milena", "a token could not be fetched: {error}; trying again");
            clock.sleep_until(Some(at)).await;
        }
    }

    /// Fetches the public keys of an issuer, if this is the address where it tells them: for programs that check tokens, such as
    /// `milena broker`. The text is as the issuer gave it.
    ///
    /// # Errors
    /// When there is no answer, or it is no success.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed.
    pub async fn fetch_keys(&self) -> Result<String, ConnectError> {
        self.check()?;
        let url = self.url()?;
        let http = self.http.get_or_init(|| Http::new(self.settings.clone()));
        let response = http.send(&Request::get(url.clone()).header("accept", "application/json")).await?;
        let status = response.status();
        if status != 200 {
            let obstacle = if response.may_pass() { Obstacle::Network } else { Obstacle::Configuration };
            return Err(ConnectError::new(obstacle, format!("{url}: it answers with status {status}")));
        }
        Ok(String::from_utf8_lossy(response.body()).into_owned())
    }

    async fn asked(&self, url: &Url, form: &Form) -> Result<TokenAnswer, ConnectError> {
        let http = self.http.get_or_init(|| Http::new(self.settings.clone()));
        let request = Request::post(url.clone(), FORM, form.encoded());
        let mut request = request.header("accept", "application/json").header("cache-control", "no-cache");
        if let Some(authorization) = &form.authorization {
            request = request.header("authorization", authorization.clone());
        }
        let response = http.send(&request).await?;
        let secrets: Vec<_> = form.secrets().collect();
        TokenAnswer::parse_hiding(response.status(), response.body(), &secrets)
            .map_err(|error| ConnectError::new(error.obstacle(), format!("{url}: {error}")))
    }
}

impl From<&str> for Endpoint {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for Endpoint {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Ok(url) => write!(f, "Endpoint({url})"),
            Err(why) => write!(f, "Endpoint({why})"),
        }
    }
}
