//! Fetches tokens of OAuth 2 for [`Sasl::oauth_bearer`](crate::Sasl::oauth_bearer) (KIP-768, KIP-1139, KIP-1258).
//!
//! ```text
//! ClientCredentials ─┐                       ┌─ ClientCredentials::with_assertion, JwtBearer: Assertion (jwt)
//! JwtBearer ─────────┼─▶ Endpoint ─▶ answer ─┤
//! RefreshToken ──────┘   (http)              └─▶ Token ─▶ sasl::Holder: one fetch per client and lifetime
//! TokenFile ─────────────────────────────────────▶
//! ```
//!
//! Each of these types is a [`ProvideToken`](crate::ProvideToken). A client asks it when the first connection is made, and
//! again when 75 to 80 % of the token's life have passed, however many connections there are. If the issuer is down then, the
//! token is used until it ends. After that callers get the issuer's error within a second, and so it is if the issuer hangs: once a
//! fetch has failed, nobody waits longer than half a second for the next one, which goes on meanwhile. Only the first fetch of a client
//! is waited for as long as the endpoint's timeouts allow. The issuer is asked after 100 ms to 10 s, however many callers there are.
//!
//! What the issuer refuses (`invalid_client`, `invalid_grant`) is final: the calls that wait fail with the issuer's words, whose
//! [kind](crate::Error::kind) is [`Authentication`](crate::ErrorKind::Authentication).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use milena::oauth::{ClientCredentials, Endpoint};
//! use milena::{Client, Sasl};
//! # use milena_broker::{Broker, Issuer, Listener};
//! # let issuer = Issuer::builder().client("billing", "hunter2").start().await?;
//! # let broker = Broker::builder().listener(Listener::sasl_plaintext()).oauth(issuer.validator()?);
//! # let cluster = broker.start().await?;
//! # let bootstrap = cluster.bootstrap();
//! # let url = issuer.token_url();
//!
//! let endpoint = Endpoint::new(url).allow_loopback_http(); // https://issuer.example/oauth2/token needs no permission
//! let sasl = Sasl::oauth_bearer(ClientCredentials::new(endpoint, "billing", "hunter2").scope("kafka"));
//! # let sasl = sasl.allow_plaintext();
//! let client = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
//! assert_eq!(issuer.issued(), 1);
//! # let endpoint = || Endpoint::new(issuer.token_url()).allow_loopback_http();
//!
//! let sasl = Sasl::oauth_bearer(ClientCredentials::new(endpoint(), "billing", "wrong"));
//! # let sasl = sasl.allow_plaintext();
//! let error = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await.unwrap_err();
//! assert!(error.is_authentication() && error.to_string().contains("invalid_client"));
//! # Ok(())
//! # }
//! ```

mod answer;
mod assertion;
mod credentials;
mod endpoint;
mod file;
mod form;
mod jwt;
mod refresh;

use std::time::SystemTime;

pub use self::answer::TokenAnswer;
pub use self::assertion::Assertion;
pub use self::credentials::{ClientCredentials, JwtBearer};
pub use self::endpoint::Endpoint;
pub use self::file::TokenFile;
pub use self::refresh::RefreshToken;
pub use crate::tls::SigningAlgorithm;

use milena_core::Obstacle;

use crate::ConnectError;

#[expect(
    clippy::disallowed_methods,
    reason = "tokens and assertions name the time of day, and a provider has no clock of the client's"
)]
fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// An error that somebody has to change a setting for.
fn misconfigured(why: impl Into<Box<str>>) -> ConnectError {
    ConnectError::new(Obstacle::Configuration, why)
}

/// Random bytes that nobody can foresee.
fn random<const BYTES: usize>() -> Result<[u8; BYTES], ConnectError> {
    let mut bytes = [0; BYTES];
    let failed = |error| misconfigured(format!("the system has no random numbers: {error}"));
    getrandom::fill(&mut bytes).map(|()| bytes).map_err(failed)
}
