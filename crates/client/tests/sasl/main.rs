//! Clients that authenticate: errors that name their cause, sessions that are renewed, tokens that are fetched once, secrets
//! that are printed nowhere.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod canary;
mod custom;
mod errors;
mod everything;
mod mechanisms;
#[cfg(feature = "aws-msk-iam")]
mod msk;
mod peer;
mod sessions;
mod tokens;

use std::time::Duration;

use milena::{Client, Error, Sasl};

use self::peer::Peer;

/// Nothing here takes this long. A call that does has hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// An error of authentication comes within this time.
const SOON: Duration = Duration::from_secs(1);

/// A client of the scripted brokers.
async fn connect(peer: &Peer, sasl: Sasl) -> Result<Client, Error> {
    Client::builder().bootstrap("a:1").connector(peer.clone()).sasl(sasl).seed(7).connect().await
}

/// Asks for the topics, which any broker answers.
async fn ask(client: &Client) -> Result<(), Error> {
    client.admin().topics().await.map(drop)
}
