//! How a client authenticates with SASL: the mechanisms, and where passwords and tokens come from.
//!
//! ```text
//!  ProvideLogin ─┐
//!                ├─▶ Holder (one per client; one fetch of a token at a time) ─▶ connections ─▶ core::Handshake
//!  ProvideToken ─┘ (and aws::ProvideCredentials)
//! ```

mod custom;
mod holder;
mod nonces;
#[cfg(feature = "http")]
mod tokens;
mod unsecured;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use milena_core::Secret;
use milena_core::sasl::{CustomMechanism, Hash, Mechanism};

use self::custom::Brought;
pub use self::custom::{SaslExchange, SaslMechanism, SaslStep};
pub(crate) use self::holder::{Assistance, Assisting, Holder};
pub(crate) use self::nonces::Nonces;
#[cfg(feature = "http")]
pub use self::tokens::Tokens;
pub(crate) use self::unsecured::Unsecured;
use crate::ConnectError;

/// How a client authenticates, and with what; see [`ClientBuilder::sasl`](crate::ClientBuilder::sasl).
///
/// - [`scram_sha_256`](Self::scram_sha_256) and [`scram_sha_512`](Self::scram_sha_512) prove that the client knows a password.
///   The broker proves the same, and nobody learns the password. A [delegation token](Login::delegation_token) works this way.
/// - [`plain`](Self::plain) sends a password, and [`oauth_bearer`](Self::oauth_bearer) a token of OAuth 2. Both are refused
///   on connections that are not encrypted, unless [`allow_plaintext`](Self::allow_plaintext) allows it.
///
/// Each new connection authenticates with what the provider has at that time. When a broker limits how long a session lives
/// (`connections.max.reauth.ms`), or a token ends, the connection authenticates again in time (KIP-368), without losing a
/// request. A broker that refuses the credentials is not asked again for the same request: it fails with an error whose
/// [kind](crate::Error::kind) is [`Authentication`](crate::ErrorKind::Authentication). Later requests try again after a delay
/// of 1 s to 30 s, or sooner if the credentials have changed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use milena_broker::Listener;
/// # let cluster = milena_broker::Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil").start().await?;
/// # let bootstrap = cluster.bootstrap();
/// use milena::{Client, Sasl};
///
/// let sasl = Sasl::scram_sha_512("alice", "pencil"); // a password of a vault rather than of the program's text
/// let client = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
///
/// let error = Client::builder().bootstrap(bootstrap).sasl(Sasl::scram_sha_512("alice", "pen")).connect().await.unwrap_err();
/// assert!(error.is_authentication());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sasl {
    source: Source,
    allows_plaintext: bool,
}

#[derive(Clone)]
enum Source {
    Logins {
        scram: Option<Hash>,
        provider: Arc<dyn ProvideLogin>,
    },
    Tokens(Arc<dyn ProvideToken>),
    Custom(Arc<dyn CustomMechanism>),
    #[cfg(feature = "aws-msk-iam")]
    Aws(Arc<dyn crate::aws::ProvideCredentials>),
}

/// The future that a provider returns.
pub type Providing<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

/// Where the user and the password come from, if they can change while the client runs. Functions that return a future
/// implement it, and so does [`Login`], which never changes.
///
/// It is asked once for each connection and each renewal of a session, so it should remember what takes long to find.
pub trait ProvideLogin: Send + Sync {
    /// The present user and password. An error whose [obstacle](crate::Obstacle) is final fails the requests that wait for
    /// the connection for good; after another one they fail with an error that is retriable, and producers and consumers try again. The client drops the future after the connect timeout.
    fn login(&self) -> Providing<Login>;
}

/// Where tokens of OAuth 2 come from. Functions that return a future implement it, and so do the grants of the module `oauth`,
/// which the feature `oauth` adds.
///
/// One token is fetched per client and lifetime, however many connections need it: when the first connection is made, and
/// again when 75 to 80 % of its life have passed. If that fails, it is tried again after 100 ms to 10 s, and the present
/// token is used until it ends.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use milena::{ConnectError, Obstacle, Sasl, Token};
///
/// let sasl = Sasl::oauth_bearer(|| async {
///     let token = std::fs::read_to_string("/run/secrets/kafka-token");
///     let token = token.map_err(|error| ConnectError::new(Obstacle::Network, error.to_string()))?;
///     Ok(Token::new(token.trim(), Duration::from_secs(300)))
/// });
/// assert_eq!(sasl.mechanism(), "OAUTHBEARER");
/// # Ok(())
/// # }
/// ```
pub trait ProvideToken: Send + Sync {
    /// Fetches a token. If the issuer refuses, the error's [obstacle](crate::Obstacle) should be
    /// [`Credentials`](crate::Obstacle::Credentials); if it is down, [`Network`](crate::Obstacle::Network). The client drops
    /// the future after the connect timeout.
    fn token(&self) -> Providing<Token>;

    /// Whether another token is there than the one that was given last, so that new connections take it and do not go on with
    /// the earlier one. It is asked for each new connection, and must be quick. Default: no.
    fn has_changed(&self) -> bool {
        false
    }
}

/// A user and a password.
#[derive(Debug, Clone)]
pub struct Login {
    user: Arc<str>,
    password: Secret,
    is_delegation_token: bool,
}

/// A token of OAuth 2, as it was just issued.
#[derive(Debug, Clone)]
pub struct Token {
    value: Secret,
    lifetime: Duration,
    extensions: Vec<(String, String)>,
    principal: Option<Arc<str>>,
}

impl Login {
    /// A user and a password.
    pub fn new(user: impl Into<Arc<str>>, password: impl Into<Secret>) -> Self {
        Self { user: user.into(), password: password.into(), is_delegation_token: false }
    }

    /// A delegation token (KIP-48): its id and its HMAC in base64. It works with SCRAM only. In Java: `tokenauth=true` in
    /// `sasl.jaas.config`.
    pub fn delegation_token(id: impl Into<Arc<str>>, hmac: impl Into<Secret>) -> Self {
        Self { is_delegation_token: true, ..Self::new(id, hmac) }
    }
}

impl Token {
    /// A token that ends after `lifetime`, counted from when its request began.
    pub fn new(value: impl Into<Secret>, lifetime: Duration) -> Self {
        Self { value: value.into(), lifetime, extensions: Vec::new(), principal: None }
    }

    /// How long it lives, counted from when its request began.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The same with a SASL extension (KIP-342), such as `logicalCluster`. A name has letters only.
    #[must_use]
    pub fn with_extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// The same, which says whom it stands for. Errors name it, and a token of another principal gets new connections.
    #[must_use]
    pub fn with_principal(self, principal: impl Into<Arc<str>>) -> Self {
        Self { principal: Some(principal.into()), ..self }
    }
}

impl Sasl {
    /// PLAIN: the password itself is sent.
    pub fn plain(user: impl Into<Arc<str>>, password: impl Into<Secret>) -> Self {
        Self::plain_from(Login::new(user, password))
    }

    /// SCRAM-SHA-256.
    pub fn scram_sha_256(user: impl Into<Arc<str>>, password: impl Into<Secret>) -> Self {
        Self::scram_sha_256_from(Login::new(user, password))
    }

    /// SCRAM-SHA-512.
    pub fn scram_sha_512(user: impl Into<Arc<str>>, password: impl Into<Secret>) -> Self {
        Self::scram_sha_512_from(Login::new(user, password))
    }

    /// PLAIN, with a user and a password that may change.
    pub fn plain_from(provider: impl ProvideLogin + 'static) -> Self {
        Self::logins(None, provider)
    }

    /// SCRAM-SHA-256, with a user and a password that may change.
    pub fn scram_sha_256_from(provider: impl ProvideLogin + 'static) -> Self {
        Self::logins(Some(Hash::Sha256), provider)
    }

    /// SCRAM-SHA-512, with a user and a password that may change.
    pub fn scram_sha_512_from(provider: impl ProvideLogin + 'static) -> Self {
        Self::logins(Some(Hash::Sha512), provider)
    }

    /// OAUTHBEARER: a token is sent.
    pub fn oauth_bearer(provider: impl ProvideToken + 'static) -> Self {
        Self { source: Source::Tokens(Arc::new(provider)), allows_plaintext: false }
    }

    /// A mechanism that this crate does not have, such as GSSAPI.
    ///
    /// ```
    /// use milena::{ConnectError, Obstacle, Sasl, SaslExchange, SaslMechanism, SaslStep};
    ///
    /// /// EXTERNAL (RFC 4422): the connection itself, such as a client certificate, says who the client is.
    /// struct External;
    ///
    /// impl SaslMechanism for External {
    ///     fn name(&self) -> &'static str {
    ///         "EXTERNAL"
    ///     }
    ///     fn begin(&self, _host: &str) -> Result<(Box<dyn SaslExchange>, Vec<u8>), ConnectError> {
    ///         Ok((Box::new(External), Vec::new()))
    ///     }
    /// }
    ///
    /// impl SaslExchange for External {
    ///     fn step(&mut self, challenge: &[u8]) -> Result<SaslStep, ConnectError> {
    ///         match challenge {
    ///             b"" => Ok(SaslStep::Done),
    ///             _ => Err(ConnectError::new(Obstacle::Peer, "EXTERNAL has no challenges")),
    ///         }
    ///     }
    /// }
    ///
    /// assert_eq!(Sasl::custom(External).mechanism(), "EXTERNAL");
    /// ```
    pub fn custom(mechanism: impl SaslMechanism + 'static) -> Self {
        Self { source: Source::Custom(Arc::new(Brought(Arc::new(mechanism)))), allows_plaintext: false }
    }

    #[cfg(feature = "aws-msk-iam")]
    pub(crate) fn of_aws(provider: Arc<dyn crate::aws::ProvideCredentials>) -> Self {
        Self { source: Source::Aws(provider), allows_plaintext: false }
    }

    fn logins(scram: Option<Hash>, provider: impl ProvideLogin + 'static) -> Self {
        Self { source: Source::Logins { scram, provider: Arc::new(provider) }, allows_plaintext: false }
    }

    /// Allows passwords and tokens on connections that are not encrypted. Everybody on the way can read and use them.
    #[must_use]
    pub fn allow_plaintext(self) -> Self {
        Self { allows_plaintext: true, ..self }
    }

    /// The mechanism's name, such as `SCRAM-SHA-256`.
    pub fn mechanism(&self) -> &'static str {
        self.kind().name()
    }

    fn kind(&self) -> Mechanism {
        match &self.source {
            Source::Logins { scram: None, .. } => Mechanism::Plain,
            Source::Logins { scram: Some(hash), .. } => Mechanism::Scram(*hash),
            Source::Tokens(_) => Mechanism::OauthBearer,
            Source::Custom(of) => Mechanism::Custom { name: of.name(), sends_secret: of.sends_secret() },
            #[cfg(feature = "aws-msk-iam")]
            Source::Aws(_) => Mechanism::AwsMskIam,
        }
    }

    /// Refuses to send a secret over a connection that is not encrypted, unless that is allowed.
    pub(crate) fn check_transport(&self, is_encrypted: bool) -> Result<(), String> {
        if is_encrypted || self.allows_plaintext || !self.kind().sends_secret() {
            return Ok(());
        }
        let what = match self.kind() {
            Mechanism::Plain => "the password",
            Mechanism::AwsMskIam => "the signed request, which is as good as a password for 15 minutes,",
            Mechanism::Custom { .. } => "a secret",
            _ => "the token",
        };
        Err(format!(
            "{} would send {what} over a connection that is not encrypted: use TLS (security.protocol=SASL_SSL) or \
             SCRAM, or allow it with allow_plaintext_credentials=true (Sasl::allow_plaintext)",
            self.mechanism()
        ))
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl").field("mechanism", &self.mechanism()).finish_non_exhaustive()
    }
}

impl ProvideLogin for Login {
    fn login(&self) -> Providing<Login> {
        let login = self.clone();
        Box::pin(async move { Ok(login) })
    }
}

impl<F, P> ProvideLogin for F
where
    F: Fn() -> P + Send + Sync,
    P: Future<Output = Result<Login, ConnectError>> + Send + 'static,
{
    fn login(&self) -> Providing<Login> {
        Box::pin(self())
    }
}

impl<F, P> ProvideToken for F
where
    F: Fn() -> P + Send + Sync,
    P: Future<Output = Result<Token, ConnectError>> + Send + 'static,
{
    fn token(&self) -> Providing<Token> {
        Box::pin(self())
    }
}
