//! Logging in to Amazon MSK by IAM, and where the keys for it come from.
//!
//! ```text
//!  environment, web identity, profile, container, instance ─▶ Chain ─┐
//!                                                    your function ──┴─▶ Credentials ─┬─▶ Sasl::aws_msk_iam
//!                                                                                     └─▶ Tokens ─▶ Sasl::oauth_bearer
//! ```
//!
//! MSK takes a request to AWS that is signed with an access key, as the mechanism AWS_MSK_IAM (Amazon's client for Java speaks it) or
//! as a token of OAUTHBEARER (Amazon's signers for other languages make it). Both need TLS, and an IAM policy that allows
//! `kafka-cluster:Connect`.
//!
//! ```no_run
//! # async fn run() -> Result<(), milena::Error> {
//! use milena::{Client, Sasl, Tls, aws};
//!
//! let client = Client::builder()
//!     .bootstrap("b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com:9098")
//!     .tls(Tls::system_roots())
//!     .sasl(Sasl::aws_msk_iam(aws::Chain::default()))
//!     .connect()
//!     .await?;
//! # Ok(())
//! # }
//! ```

#![allow(unexpected_cfgs, reason = "cargo-fuzz sets `fuzzing`")]

mod answer;
mod chain;
mod environment;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod profile;
mod remote;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use milena_core::sasl::{AwsKeys, VALID_SECONDS};
use milena_core::{Instant, Obstacle, Secret, millis_since_epoch};

pub use self::chain::Chain;
use crate::sasl::{ProvideToken, Providing, Token};
use crate::{ConnectError, Sasl};

/// An access key of AWS, and what belongs to it.
///
/// ```
/// use milena::{Sasl, aws};
///
/// let keys = aws::Credentials::new("AKIDEXAMPLE", "a secret from a vault").with_region("eu-west-1");
/// assert_eq!(Sasl::aws_msk_iam(keys.clone()).mechanism(), "AWS_MSK_IAM");
/// assert!(!format!("{keys:?}").contains("vault"));
/// ```
#[derive(Debug, Clone)]
pub struct Credentials {
    access_key: Arc<str>,
    secret: Secret,
    session_token: Option<Secret>,
    region: Option<Arc<str>>,
    region_default: Option<Arc<str>>,
    lifetime: Option<Duration>,
}

/// Where AWS credentials come from. Functions that return a future implement it, and so do [`Chain`], and [`Credentials`],
/// which never change.
///
/// A client asks once for all its connections: when the first one is made, again when 75 to 80 % of the credentials' life have
/// passed, and every ten minutes if they have no end. If that fails, it is tried again after 100 ms to 10 s, and the present
/// credentials are used until they end.
///
/// ```
/// use std::time::Duration;
///
/// use milena::{ConnectError, Sasl, aws};
///
/// let sasl = Sasl::aws_msk_iam(|| async {
///     let keys = aws::Credentials::new("AKIDEXAMPLE", "from a vault"); // or the AWS SDK's provider
///     Ok::<_, ConnectError>(keys.with_session_token("...").with_lifetime(Duration::from_secs(3600)))
/// });
/// assert_eq!(sasl.mechanism(), "AWS_MSK_IAM");
/// ```
pub trait ProvideCredentials: Send + Sync {
    /// Gets credentials. If they are refused, the error's [obstacle](crate::Obstacle) should be
    /// [`Credentials`](crate::Obstacle::Credentials); if whoever has them is down, [`Network`](crate::Obstacle::Network). The client
    /// drops the future after the connect timeout.
    fn credentials(&self) -> Providing<Credentials>;
}

impl Credentials {
    /// An access key's id and its secret.
    pub fn new(access_key: impl Into<Arc<str>>, secret: impl Into<Secret>) -> Self {
        Self {
            access_key: access_key.into(),
            secret: secret.into(),
            session_token: None,
            region: None,
            region_default: None,
            lifetime: None,
        }
    }

    /// The same with the session token of temporary credentials.
    #[must_use]
    pub fn with_session_token(self, token: impl Into<Secret>) -> Self {
        Self { session_token: Some(token.into()), ..self }
    }

    /// The same for brokers in this region, such as `eu-west-1`. Default: the one in a broker's host name
    /// (`b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com`).
    #[must_use]
    pub fn with_region(self, region: impl Into<Arc<str>>) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// The same, which end after `lifetime`, counted from when they were asked for. Default: they do not end.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }

    /// The id of the access key.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// How long they live, if they end.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// As core signs with them. They were asked for at `since`.
    pub(crate) fn into_keys(self, since: Instant) -> Result<AwsKeys, ConnectError> {
        if self.lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            let why =
                format!("the AWS credentials of the access key {:?} have ended already", self.access_key);
            return Err(ConnectError::new(Obstacle::Credentials, why));
        }
        let Self { access_key, secret, session_token, region, region_default, lifetime } = self;
        let (user_agent, until) = (Arc::from(USER_AGENT), lifetime.map(|lifetime| since + lifetime));
        Ok(AwsKeys { access_key, secret, session_token, region, region_default, user_agent, until })
    }
}

/// How AWS's logs call this client.
const USER_AGENT: &str = concat!("milena/", env!("CARGO_PKG_VERSION"));

impl Sasl {
    /// AWS_MSK_IAM: a request that AWS credentials have signed, for Amazon MSK. Everybody who reads it can log in with it for 15
    /// minutes, so it is refused without TLS, as a token is.
    ///
    /// A broker lets a session live as long as the credentials do, and the client renews it with newer ones on the live
    /// connection. In Java: `sasl.mechanism=AWS_MSK_IAM` with `software.amazon.msk.auth.iam.IAMLoginModule`.
    pub fn aws_msk_iam(provider: impl ProvideCredentials + 'static) -> Self {
        Self::of_aws(Arc::new(provider))
    }
}

/// Tokens of OAUTHBEARER for Amazon MSK, as Amazon's `aws-msk-iam-sasl-signer` makes them: a signed request that is good for 15
/// minutes.
///
/// ```
/// use milena::{Sasl, aws};
///
/// let keys = aws::Credentials::new("AKIDEXAMPLE", "from a vault").with_region("eu-west-1");
/// let sasl = Sasl::oauth_bearer(aws::Tokens::new(keys));
/// assert_eq!(sasl.mechanism(), "OAUTHBEARER");
/// ```
#[derive(Clone)]
pub struct Tokens(Arc<dyn ProvideCredentials>);

impl Tokens {
    /// Tokens that are signed with what `provider` gives. It must know the region: from [`Credentials::with_region`],
    /// [`Chain::with_region`], or, with a chain, from `AWS_REGION` or the profile.
    pub fn new(provider: impl ProvideCredentials + 'static) -> Self {
        Self(Arc::new(provider))
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl ProvideToken for Tokens {
    fn token(&self) -> Providing<Token> {
        let provider = Arc::clone(&self.0);
        Box::pin(async move {
            let keys = provider.credentials().await?;
            let lifetime =
                keys.lifetime.unwrap_or(Duration::MAX).min(Duration::from_secs(VALID_SECONDS.into()));
            let keys = keys.into_keys(Instant::ORIGIN)?;
            let region = keys.region.as_ref().or(keys.region_default.as_ref()).ok_or_else(|| {
                let why = "a token for MSK is for one AWS region, and none is given: set AWS_REGION, or with_region";
                ConnectError::new(Obstacle::Configuration, why)
            })?;
            Ok(Token::new(keys.token(region, unix_seconds()), lifetime))
        })
    }
}

impl ProvideCredentials for Credentials {
    fn credentials(&self) -> Providing<Self> {
        let credentials = self.clone();
        Box::pin(async move { Ok(credentials) })
    }
}

impl<F, P> ProvideCredentials for F
where
    F: Fn() -> P + Send + Sync,
    P: Future<Output = Result<Credentials, ConnectError>> + Send + 'static,
{
    fn credentials(&self) -> Providing<Credentials> {
        Box::pin(self())
    }
}

/// The time of day, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "signatures and expiries name the time of day, and a provider has no clock of the client's"
)]
fn unix_seconds() -> i64 {
    millis_since_epoch(SystemTime::now()) / 1000
}
