//! Clients that fetch their tokens from an issuer: each grant, and what an issuer does wrong.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod canary;
#[path = "../sasl/everything.rs"]
mod everything;
mod flows;
mod lifetimes;
mod properties;
mod trouble;

use std::time::Duration;

use milena::oauth::{ClientCredentials, Endpoint};
use milena::{Client, ConnectError, Error, ProvideToken, Sasl, Tls, Token};
use milena_broker::{Authority, Broker, Cluster, Issuer, IssuerBuilder, Listener};

/// Nothing here takes this long. What does has hung.
const PATIENCE: Duration = Duration::from_secs(60);
const ID: &str = "billing";
const SECRET: &str = "hunter2-of-the-client";

/// An issuer over TLS, a broker over TLS that takes its tokens, and the authority of both certificates.
struct World {
    issuer: Issuer,
    cluster: Cluster,
    authority: Authority,
}

impl World {
    async fn start(issuer: IssuerBuilder) -> Self {
        Self::with_nodes(issuer, 3).await
    }

    async fn with_nodes(issuer: IssuerBuilder, nodes: u16) -> Self {
        let authority = Authority::new().expect("an authority");
        let identity = authority.server(["127.0.0.1", "localhost"]).expect("a certificate");
        let tls = milena_broker::Tls::of(&identity);
        let issuer = issuer.client(ID, SECRET).tls(tls.clone()).start().await.expect("started");
        let broker = Broker::builder().nodes(nodes).listener(Listener::sasl_ssl(tls));
        let broker = broker.oauth(issuer.validator().expect("keys"));
        let cluster = broker.start().await.expect("started");
        Self { issuer, cluster, authority }
    }

    fn tls(&self) -> Tls {
        Tls::roots_from_pem(self.authority.certificate_pem())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.issuer.token_url()).tls(self.tls())
    }

    fn credentials(&self) -> ClientCredentials {
        ClientCredentials::new(self.endpoint(), ID, SECRET)
    }

    async fn connect(&self, tokens: impl ProvideToken + 'static) -> Result<Client, Error> {
        let builder = Client::builder().bootstrap(self.cluster.bootstrap()).tls(self.tls());
        builder.sasl(Sasl::oauth_bearer(tokens)).connect().await
    }

    /// What the issuer was told last under this name.
    fn told(&self, name: &str) -> Option<String> {
        self.issuer.last_form().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

async fn ask(client: &Client) -> Result<(), Error> {
    client.admin().topics().await.map(drop)
}

/// The error of a fetch.
async fn fails(tokens: &impl ProvideToken) -> ConnectError {
    let token = tokio::time::timeout(PATIENCE, tokens.token()).await.expect("an end");
    token.map(|_: Token| ()).expect_err("no token")
}
