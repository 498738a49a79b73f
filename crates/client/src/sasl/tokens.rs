//! Tokens for servers that are no brokers, such as schema registries, kept as those for brokers are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena_core::sasl::{Credentials, Use};
use milena_core::{Obstacle, Rng};

use super::{Holder, Nonces, ProvideToken, Sasl, Source};
use crate::clock::Clock;
use crate::runtime::Executor;
use crate::{ConnectError, Secret};

/// Keeps a token of OAuth 2: one is fetched per lifetime, and again when 75 to 80 % of it have passed, however many ask. It is public
/// for Milena's other crates.
pub struct Tokens(Holder);

impl Tokens {
    /// Tokens of this provider, each of which must come within `timeout`. The task that keeps the token is on the runtime of the
    /// caller.
    ///
    /// # Errors
    /// When the thread is on no tokio runtime, or the system has no random numbers.
    pub fn start(provider: Arc<dyn ProvideToken>, timeout: Duration) -> Result<Self, ConnectError> {
        let wrong = |why: String| ConnectError::new(Obstacle::Configuration, why);
        let runtime = Executor::current().map_err(|failure| wrong(failure.to_string()))?;
        let clock = Clock::start(&runtime);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| wrong(format!("the system has no random numbers: {error}")))?;
        let rng = Rng::seeded(u64::from_ne_bytes(seed));
        let sasl = Sasl { source: Source::Tokens(provider), allows_plaintext: false };
        Ok(Self(Holder::start(sasl, Nonces::System, &runtime, &clock, timeout, rng)))
    }

    /// The present token.
    ///
    /// # Errors
    /// When there is none, with the issuer's words.
    ///
    /// # Cancel safety
    /// Dropped, a fetch goes on for those who ask next.
    pub async fn token(&self) -> Result<Secret, ConnectError> {
        match &*self.0.credentials(Use::Connect).await? {
            Credentials::Token(token) => Ok(token.value.clone()),
            _ => Err(ConnectError::new(Obstacle::Configuration, "the provider gives no tokens")),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}
