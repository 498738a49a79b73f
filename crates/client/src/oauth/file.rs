//! Tokens that something else writes to a file.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use milena_core::Obstacle;

use super::assertion::read;
use super::credentials::Asked;
use super::time_of_day;
use crate::sasl::{ProvideToken, Providing, Token};
use crate::{ConnectError, Secret};

/// Tokens from a file that something else keeps fresh: a projected token of Kubernetes, or an agent. The token is a JSON Web
/// Token, and lives until its claim `exp` says.
///
/// The file is looked at for each new connection, and read again when it has changed, and when 75 to 80 % of the token's life
/// have passed. Clones, and clients with clones of one [`Sasl`](crate::Sasl), share what they know of the file: the first one
/// that reads a change is the one that notices it, and the others go on with the token they have until those 75 to 80 % have
/// passed. Make one with [`new`](Self::new) for each client if each is to notice. (`sasl.oauthbearer.token.endpoint.url=file:///PATH`.)
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::oauth::TokenFile;
/// use milena::{Client, Sasl};
/// # use milena_broker::{Broker, Issuer, Listener};
/// # let issuer = Issuer::builder().start().await?;
/// # let broker = Broker::builder().listener(Listener::sasl_plaintext()).oauth(issuer.validator()?);
/// # let cluster = broker.start().await?;
/// # let bootstrap = cluster.bootstrap();
/// # let path = std::env::temp_dir().join(format!("milena-token-{}", std::process::id()));
///
/// std::fs::write(&path, issuer.token("billing"))?;
/// let sasl = Sasl::oauth_bearer(TokenFile::new(&path)); // /var/run/secrets/kafka/token
/// # let sasl = sasl.allow_plaintext();
/// let client = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    asked: Asked,
    /// What the file was like when it was read last, by any of the clones.
    stamp: Arc<Mutex<Option<Stamp>>>,
}

type Stamp = (SystemTime, u64);

impl TokenFile {
    /// Reads tokens from this file. White space around the token is left out.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), asked: Asked::default(), stamp: Arc::default() }
    }

    /// Sends a SASL extension (KIP-342) to the broker with the token. A name has letters only.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.asked.extensions.push((name.into(), value.into()));
        self
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn read(&self) -> Result<Token, ConnectError> {
        // The stamp is taken first: a change while the file is read is noticed the next time.
        let stamp = self.stamp();
        let text = read("the token", &self.path).map_err(|error| {
            // Whoever writes the file may be about to.
            ConnectError::new(Obstacle::Network, error.to_string())
        })?;
        let token = Token::from_jwt(Secret::from(text.trim_ascii().to_vec()), time_of_day());
        let token = token.map_err(|error| {
            ConnectError::new(error.obstacle(), format!("the token in {}: {error}", self.path.display()))
        })?;
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        Ok(self.asked.extended(token))
    }
}

impl ProvideToken for TokenFile {
    fn token(&self) -> Providing<Token> {
        let token = self.read();
        Box::pin(async move { token })
    }

    fn has_changed(&self) -> bool {
        let read = *self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is gone has no newer token.
        self.stamp().is_some_and(|stamp| read.is_some_and(|read| read != stamp))
    }
}
