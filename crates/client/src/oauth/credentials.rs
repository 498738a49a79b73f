//! Grants in which the client speaks for itself: client credentials (RFC 6749) and JWT bearer (RFC 7523).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::assertion::Assertion;
use super::endpoint::Endpoint;
use super::form::{Form, encoded};
use super::{misconfigured, time_of_day};
use crate::sasl::{ProvideToken, Providing, Token};
use crate::{ConnectError, Secret};

/// The grant `client_credentials` (KIP-768): the client has an id, and proves it by a secret or by an assertion (KIP-1258).
///
/// ```no_run
/// # async fn example() -> Result<(), milena::Error> {
/// use milena::oauth::ClientCredentials;
/// use milena::{Client, Sasl, Tls};
///
/// let tokens = ClientCredentials::new("https://issuer.example/oauth2/token", "billing", "hunter2").scope("kafka");
/// let client = Client::builder()
///     .bootstrap("kafka-1:9093")
///     .tls(Tls::system_roots())
///     .sasl(Sasl::oauth_bearer(tokens))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    endpoint: Endpoint,
    proof: Proof,
    asked: Asked,
    is_header_encoded: bool,
}

/// How a client proves who it is.
#[derive(Debug, Clone)]
enum Proof {
    Secret { id: String, secret: Secret },
    Assertion { id: Option<String>, assertion: Assertion },
}

/// The grant `urn:ietf:params:oauth:grant-type:jwt-bearer` (KIP-1139): a signed assertion is exchanged for a token.
///
/// ```no_run
/// # async fn example() -> Result<(), milena::Error> {
/// use milena::oauth::{Assertion, JwtBearer};
/// use milena::{Client, Sasl, Tls};
///
/// let url = "https://issuer.example/oauth2/token";
/// let assertion = Assertion::signed_by_file("/etc/kafka/me.pem").issuer("me").subject("billing").audience(url);
/// let client = Client::builder()
///     .bootstrap("kafka-1:9093")
///     .tls(Tls::system_roots())
///     .sasl(Sasl::oauth_bearer(JwtBearer::new(url, assertion)))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct JwtBearer {
    endpoint: Endpoint,
    assertion: Assertion,
    asked: Asked,
}

/// What is asked of an issuer besides, and what goes to the broker with the token.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) scope: Option<String>,
    pub(super) parameters: Vec<(String, Secret)>,
    pub(super) extensions: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn add_to(&self, form: &mut Form) {
        if let Some(scope) = &self.scope {
            form.add("scope", scope.as_str());
        }
        for (name, value) in &self.parameters {
            form.add(name, value.clone());
        }
    }

    pub(super) fn extended(&self, token: Token) -> Token {
        let extensions = self.extensions.iter();
        extensions.fold(token, |token, (name, value)| token.with_extension(&**name, &**value))
    }
}

/// Methods that grants have in common.
macro_rules! asked {
    ($grant:ty) => {
        impl $grant {
            /// The scopes that the token shall have, separated by spaces. Default: those that the issuer gives.
            /// (`sasl.oauthbearer.scope`.)
            #[must_use]
            pub fn scope(mut self, scope: impl Into<String>) -> Self {
                self.asked.scope = Some(scope.into());
                self
            }

            /// Sends one more parameter, such as `audience` or `resource`, which some issuers want. Its value is not printed.
            #[must_use]
            pub fn parameter(mut self, name: impl Into<String>, value: impl Into<$crate::Secret>) -> Self {
                self.asked.parameters.push((name.into(), value.into()));
                self
            }

            /// Sends a SASL extension (KIP-342) to the broker with the token, such as `logicalCluster`. A name has letters
            /// only. (librdkafka: `sasl.oauthbearer.extensions`; Java: options `extension_NAME` in `sasl.jaas.config`.)
            #[must_use]
            pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                self.asked.extensions.push((name.into(), value.into()));
                self
            }
        }
    };
}
pub(super) use asked;

asked!(ClientCredentials);
asked!(JwtBearer);

impl ClientCredentials {
    /// With the client's id and secret. The endpoint is a URL or an [`Endpoint`]. (Java:
    /// `sasl.oauthbearer.client.credentials.client.id` and `.client.secret`, or `clientId` and `clientSecret` in
    /// `sasl.jaas.config`; librdkafka: `sasl.oauthbearer.client.id` and `.client.secret`.)
    pub fn new(endpoint: impl Into<Endpoint>, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        Self::proving(endpoint, Proof::Secret { id: id.into(), secret: secret.into() })
    }

    /// With an assertion in place of a secret (KIP-1258). (`sasl.oauthbearer.assertion.*` with the grant
    /// `client_credentials`.)
    pub fn with_assertion(endpoint: impl Into<Endpoint>, assertion: Assertion) -> Self {
        Self::proving(endpoint, Proof::Assertion { id: None, assertion })
    }

    fn proving(endpoint: impl Into<Endpoint>, proof: Proof) -> Self {
        Self { endpoint: endpoint.into(), proof, asked: Asked::default(), is_header_encoded: false }
    }

    /// Sends this client id with an assertion, for issuers that want both. It replaces the id that a secret is for.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        match &mut self.proof {
            Proof::Secret { id, .. } => *id = client_id.into(),
            Proof::Assertion { id, .. } => *id = Some(client_id.into()),
        }
        self
    }

    /// Encodes id and secret as forms are before they go into the header `Authorization`, as RFC 6749 wants it. Default: they
    /// are sent as they are, as Java's client does. (`sasl.oauthbearer.header.urlencode`, KIP-1025.)
    #[must_use]
    pub fn header_urlencode(mut self, is_encoded: bool) -> Self {
        self.is_header_encoded = is_encoded;
        self
    }

    fn form(&self) -> Result<Form, ConnectError> {
        let mut form = Form::of_grant("client_credentials");
        match &self.proof {
            Proof::Secret { id, secret } => form.authorize(id, secret, self.is_header_encoded)?,
            Proof::Assertion { id, assertion } => {
                form.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                form.add("client_assertion", assertion.made()?);
                if let Some(id) = id {
                    form.add("client_id", id.as_str());
                }
            }
        }
        self.asked.add_to(&mut form);
        Ok(form)
    }
}

impl Form {
    /// Adds the client's id and secret as HTTP's basic authentication.
    pub(super) fn authorize(
        &mut self,
        id: &str,
        secret: &Secret,
        is_encoded: bool,
    ) -> Result<(), ConnectError> {
        let (id, raw) = (id.as_bytes(), secret.expose());
        let pair = Zeroizing::new(match is_encoded {
            true => [&encoded(id)[..], b":", &encoded(raw)].concat(),
            // The issuer would take what follows the colon as the secret.
            false if id.contains(&b':') => {
                return Err(misconfigured(
                    "the client id has a colon, which needs sasl.oauthbearer.header.urlencode=true",
                ));
            }
            false => [id, b":", raw].concat(),
        });
        let header = Zeroizing::new(STANDARD.encode(&*pair));
        self.authorization = Some(Secret::from(["Basic ", &header].concat()));
        self.hidden.extend([secret.clone(), Secret::from(header.as_str())]);
        Ok(())
    }
}

impl JwtBearer {
    /// Exchanges the assertion for a token. The endpoint is a URL or an [`Endpoint`].
    pub fn new(endpoint: impl Into<Endpoint>, assertion: Assertion) -> Self {
        Self { endpoint: endpoint.into(), assertion, asked: Asked::default() }
    }

    fn form(&self) -> Result<Form, ConnectError> {
        let mut form = Form::of_grant("urn:ietf:params:oauth:grant-type:jwt-bearer");
        form.add("assertion", self.assertion.made()?);
        self.asked.add_to(&mut form);
        Ok(form)
    }
}

impl ProvideToken for ClientCredentials {
    fn token(&self) -> Providing<Token> {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.endpoint.ask(|| this.form()).await?;
            Ok(this.asked.extended(answer.into_token(time_of_day())?))
        })
    }
}

impl ProvideToken for JwtBearer {
    fn token(&self) -> Providing<Token> {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.endpoint.ask(|| this.form()).await?;
            Ok(this.asked.extended(answer.into_token(time_of_day())?))
        })
    }
}
