//! An issuer of tokens for tests and development: a small OAuth 2 server that shares nothing with Milena's client.
//!
//! ```text
//!  socket ─▶ web (HTTP/1.1, a request per connection) ─▶ faults ─▶ grants ─▶ key: a signed token
//!                                                      └▶ /jwks ─▶ the public keys
//!  OauthValidator ◀─ the same keys, after each rotation
//! ```

mod grants;
mod key;
mod web;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::key::JwtKey;
use crate::error::Error;
use crate::lock;
use crate::oauth::{Keys, OauthValidator};
use crate::secret::Secret;
use crate::tls::Tls;

/// An issuer of tokens, for tests and development. It gives signed JSON Web Tokens for the grants `client_credentials`,
/// `refresh_token` and `urn:ietf:params:oauth:grant-type:jwt-bearer`, and does wrong when it is told to. It listens on a
/// loopback address until it is dropped.
///
/// ```
/// use std::time::Duration;
///
/// use milena_broker::{Broker, Issuer, IssuerFault, Listener};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// let issuer = Issuer::builder().client("billing", "hunter2").lifetime(Duration::from_secs(60)).start().await?;
/// let broker = Broker::builder().listener(Listener::sasl_plaintext()).oauth(issuer.validator()?);
/// let cluster = broker.start().await?;
/// // Clients get tokens from `issuer.token_url()` and log in with them. The next two requests fail:
/// issuer.fail(IssuerFault::Status(503), 2);
/// assert_eq!(issuer.requests(), 0);
/// cluster.shutdown().await
/// # }
/// ```
#[derive(Debug)]
pub struct Issuer {
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// Builds an [`Issuer`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it starts"]
pub struct IssuerBuilder {
    clients: BTreeMap<String, Registered>,
    lifetime: Option<Duration>,
    audience: Option<String>,
    tls: Option<Tls>,
    is_rs256: bool,
    keeps_refresh_tokens: bool,
    has_refresh_tokens: bool,
}

/// What an issuer does wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssuerFault {
    /// It answers with this status and no body.
    Status(u16),
    /// It refuses with status 400, this code and this description.
    Refuse(&'static str, &'static str),
    /// It answers as it should, after this time.
    Slow(Duration),
    /// It never answers.
    Hang,
    /// It closes the connection in place of an answer.
    Disconnect,
    /// It does what it is asked, and its answer is lost: it closes the connection.
    Lose,
    /// It answers with this body and status 200.
    Body(&'static str),
    /// It answers with a body of this many bytes.
    Huge(usize),
    /// It redirects to this address.
    Redirect(&'static str),
}

/// A client that may ask for tokens.
#[derive(Debug, Default)]
struct Registered {
    secret: Option<Secret>,
    /// The keys of its assertions.
    keys: Option<Keys>,
}

/// What the server and the handle share.
#[derive(Debug)]
struct State {
    url: String,
    clients: BTreeMap<String, Registered>,
    audience: Option<String>,
    is_rs256: bool,
    keeps_refresh_tokens: bool,
    has_refresh_tokens: bool,
    requests: AtomicUsize,
    issued: AtomicUsize,
    changing: Mutex<Changing>,
}

#[derive(Debug)]
struct Changing {
    lifetime: Duration,
    clock_offset_seconds: i64,
    /// The one that signs comes last.
    keys: Vec<JwtKey>,
    /// Those that were made from these keys.
    validators: Vec<OauthValidator>,
    faults: VecDeque<(IssuerFault, usize)>,
    /// Refresh tokens that are valid, and the client of each.
    refresh_tokens: BTreeMap<String, String>,
    /// Ids of assertions that were taken.
    taken: BTreeSet<String>,
    last_form: Vec<(String, String)>,
}

/// How long a token lives unless the builder says otherwise.
const LIFETIME: Duration = Duration::from_secs(300);

impl IssuerBuilder {
    /// Knows this client by its secret.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        self.clients.entry(id.into()).or_default().secret = Some(Secret::from(secret.into()));
        self
    }

    /// Knows this client by assertions that are signed with one of these keys, a JSON Web Key Set: as proof of who it is, and
    /// for the grant JWT bearer. [`JwtKey::jwks`] makes one.
    ///
    /// # Errors
    /// When the text is not such a set.
    pub fn client_keys(mut self, id: impl Into<String>, jwks: &str) -> Result<Self, Error> {
        self.clients.entry(id.into()).or_default().keys = Some(Keys::parse(jwks).map_err(Error::refused)?);
        Ok(self)
    }

    /// Tokens live this long. Default 5 minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Tokens are meant for this audience. Default: they name none.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Speaks TLS. Default: plain HTTP.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Signs with RS256. Default: ES256, whose keys are made faster.
    pub fn rs256(mut self) -> Self {
        self.is_rs256 = true;
        self
    }

    /// Gives a refresh token with each access token, also for client credentials. Default: for the grant `refresh_token` only.
    pub fn with_refresh_tokens(mut self) -> Self {
        self.has_refresh_tokens = true;
        self
    }

    /// Takes a refresh token again and again. Default: it gives a new one each time and takes the one before no more.
    pub fn keep_refresh_tokens(mut self) -> Self {
        self.keeps_refresh_tokens = true;
        self
    }

    /// Listens on a port of 127.0.0.1. It needs tokio with I/O and time.
    ///
    /// # Errors
    /// When there is no port, the certificate cannot be used, or the system has no random bytes.
    pub async fn start(self) -> Result<Issuer, Error> {
        let io = |error| Error::io("the issuer cannot listen", error);
        let acceptor = self.tls.as_ref().map(Tls::config).transpose()?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.map_err(io)?;
        let at = listener.local_addr().map_err(io)?;
        let key = JwtKey::of(self.is_rs256)?;
        let state = Arc::new(State {
            url: format!("{}://{at}", if acceptor.is_some() { "https" } else { "http" }),
            clients: self.clients,
            audience: self.audience,
            is_rs256: self.is_rs256,
            keeps_refresh_tokens: self.keeps_refresh_tokens,
            has_refresh_tokens: self.has_refresh_tokens,
            requests: AtomicUsize::new(0),
            issued: AtomicUsize::new(0),
            changing: Mutex::new(Changing {
                lifetime: self.lifetime.unwrap_or(LIFETIME),
                clock_offset_seconds: 0,
                keys: vec![key],
                validators: Vec::new(),
                faults: VecDeque::new(),
                refresh_tokens: BTreeMap::new(),
                taken: BTreeSet::new(),
                last_form: Vec::new(),
            }),
        });
        let task = tokio::spawn(web::serve(listener, acceptor, Arc::clone(&state)));
        Ok(Issuer { state, task })
    }
}

impl Issuer {
    /// Begins to build an issuer.
    pub fn builder() -> IssuerBuilder {
        IssuerBuilder::default()
    }

    /// The name of the issuer, which its tokens have as `iss`: its address, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Where it gives tokens.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.state.url)
    }

    /// Where it tells its public keys.
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.state.url)
    }

    /// Its public keys: a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        self.state.jwks()
    }

    /// Rules for a broker that takes the tokens of this issuer. They follow when the keys are [rotated](Self::rotate_keys).
    ///
    /// # Errors
    /// None at present.
    pub fn validator(&self) -> Result<OauthValidator, Error> {
        let validator = OauthValidator::jwks(&self.jwks())?.issuer(self.url());
        let validator = match &self.state.audience {
            Some(audience) => validator.audience(audience.as_str()),
            None => validator,
        };
        lock(&self.state.changing).validators.push(validator.clone());
        Ok(validator)
    }

    /// A token for `subject`, without a request.
    ///
    /// # Panics
    /// When the system has no random bytes.
    pub fn token(&self, subject: &str) -> String {
        self.state.signed(subject, None)
    }

    /// A refresh token for `client`, as if a user had logged in.
    pub fn refresh_token(&self, client: &str) -> String {
        self.state.new_refresh_token(client)
    }

    /// How many requests for tokens came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many tokens it gave.
    pub fn issued(&self) -> usize {
        self.state.issued.load(Ordering::SeqCst)
    }

    /// The form of the last request for a token that it could read.
    pub fn last_form(&self) -> Vec<(String, String)> {
        lock(&self.state.changing).last_form.clone()
    }

    /// Does this wrong with the next `count` requests for tokens, after what it was told before.
    pub fn fail(&self, fault: IssuerFault, count: usize) {
        lock(&self.state.changing).faults.push_back((fault, count));
    }

    /// Does nothing wrong any more.
    pub fn recover(&self) {
        lock(&self.state.changing).faults.clear();
    }

    /// The next tokens live this long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        lock(&self.state.changing).lifetime = lifetime;
    }

    /// Its clock goes ahead of the machine's by this many seconds, or after it if the number is negative.
    pub fn set_clock_offset(&self, seconds: i64) {
        lock(&self.state.changing).clock_offset_seconds = seconds;
    }

    /// Signs with a new key from now on. The keys before stay in the [set](Self::jwks).
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn rotate_keys(&self) -> Result<(), Error> {
        let key = JwtKey::of(self.state.is_rs256)?;
        lock(&self.state.changing).keys.push(key);
        self.state.follow()
    }

    /// Signs with a new key from now on, and takes the keys before out of the set: their tokens are not valid any more.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn replace_keys(&self) -> Result<(), Error> {
        let key = JwtKey::of(self.state.is_rs256)?;
        lock(&self.state.changing).keys = vec![key];
        self.state.follow()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn jwks(&self) -> String {
        let keys: Vec<Value> = lock(&self.changing).keys.iter().map(JwtKey::public).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Tells validators the present keys.
    fn follow(&self) -> Result<(), Error> {
        let jwks = self.jwks();
        lock(&self.changing).validators.iter().try_for_each(|validator| validator.set_jwks(&jwks))
    }

    /// The issuer's time, in seconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "tokens are valid by the clock")]
    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let offset = lock(&self.changing).clock_offset_seconds;
        i64::try_from(now).unwrap_or(i64::MAX).saturating_add(offset)
    }

    /// A token for `subject`.
    fn signed(&self, subject: &str, scope: Option<&str>) -> String {
        let now = self.now();
        let changing = lock(&self.changing);
        let lifetime = i64::try_from(changing.lifetime.as_secs()).unwrap_or(i64::MAX);
        let mut claims = json!({
            "iss": self.url,
            "sub": subject,
            "iat": now,
            "exp": now.saturating_add(lifetime),
            "jti": key::random_text(),
        });
        if let Some(audience) = &self.audience {
            claims["aud"] = audience.as_str().into();
        }
        if let Some(scope) = scope {
            claims["scope"] = scope.into();
        }
        changing.keys.last().expect("there is a key").sign(&json!({}), &claims)
    }

    fn new_refresh_token(&self, client: &str) -> String {
        let token = key::random_text();
        lock(&self.changing).refresh_tokens.insert(token.clone(), client.to_owned());
        token
    }

    /// What to do wrong with a request.
    fn next_fault(&self) -> Option<IssuerFault> {
        let faults = &mut lock(&self.changing).faults;
        while let Some((fault, left)) = faults.front_mut() {
            if *left > 0 {
                *left -= 1;
                return Some(fault.clone());
            }
            faults.pop_front();
        }
        None
    }
}
