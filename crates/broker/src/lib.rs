//! An embedded Kafka broker, which any Kafka client can use: for development, tests and demos.
//!
//! ```
//! use milena_broker::Broker;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
//! let cluster = Broker::builder().nodes(3).start().await?;
//! cluster.create_topic("orders", 6)?;
//! // Any Kafka client can use it now: the addresses are in `bootstrap`.
//! assert_eq!(cluster.bootstrap().split(',').count(), 3);
//! cluster.shutdown().await
//! # }
//! ```
//!
//! ```text
//!  sockets ─▶ server ─▶ machine (no clock, no I/O but files) ─▶ api/* ─▶ parts: state, sessions ─▶ partition ─▶ log
//! ```
//!
//! - One process has one or more nodes, each with a port of its own, on the loopback interface by default.
//! - Data is in memory, or on disk in Kafka's segment format ([`Builder::data_dir`]), where `kill -9` loses no
//!   acknowledged record.
//! - All nodes share one log per partition, so replication is instant and leaders move on command
//!   ([`Cluster::move_leader`], [`Cluster::stop_node`]).
//! - Every API that ApiVersions advertises is implemented, in every version that Kafka 4.4 has. Share groups are not
//!   implemented yet: a client that asks for them gets an error, and the log says so once. Topic configs without an effect
//!   are refused.
//! - Clients log in by SASL where a listener wants it ([`Builder::listener`], [`Builder::user`]): PLAIN, SCRAM-SHA-256,
//!   SCRAM-SHA-512 and OAUTHBEARER ([`OauthValidator`], and an [`Issuer`] that gives tokens). Listeners speak TLS ([`Tls`]), where certificates of clients can give their principals, and an
//!   [`Authority`] makes certificates at the start.
//! - Users may ask for delegation tokens, if there is a key for them ([`Builder::delegation_token_key`]).
//! - Clients have quotas, which Kafka's requests set: bytes produced and fetched, time of requests, connections of an address. A
//!   client above its quota is told how long to wait, and nothing more is read of its connection until then (KIP-219).
//! - Clients push their metrics if a CLIENT_METRICS resource asks for them (KIP-714), and
//!   [`Cluster::client_metrics`] shows what they have pushed.
//! - Clients may do what ACLs allow, if there is an [`Authorizer`]: with Kafka's rules and error codes.
//! - Transactions follow both protocols of Kafka, that of 4.x (KIP-890, `transaction.version` 2) and the one before
//!   ([`Builder::transaction_version`], [`Cluster::set_transaction_version`]). Their coordinators move on command
//!   ([`Cluster::move_transaction_coordinator`]), and their markers may be late ([`Builder::transaction_marker_delay`]).
//! - Records are kept as long as their topic says (`retention.ms`, `retention.bytes`), by default 7 days by their
//!   timestamps, and until a client deletes them (DeleteRecords). Topics with `cleanup.policy=compact` keep the newest
//!   record of each key. Clients alter the configs of topics and brokers while it runs.
//! - It takes or refuses a batch as Kafka does, with the same error code and record errors (KIP-467). A batch that
//!   Kafka takes and readers could not read is refused, too.
//! - Peers that send garbage or vanish do it no harm: it takes memory for bytes that arrived, never for a size that a
//!   peer announced.
//!
//! It is not for production. It shares the wire format and the messages with Milena's client, and nothing else: a
//! broker to test against must not have the client's bugs.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests have a clock"))]

mod aborted;
mod acls;
mod api;
mod builder;
mod call;
mod catalog;
mod check;
mod cleaner;
mod cluster;
mod configs;
mod entropy;
mod envelope;
mod epochs;
mod error;
mod groups;
mod hash;
mod issuer;
mod journal;
mod kept;
mod listener;
mod locked;
mod log;
mod machine;
mod now;
mod oauth;
mod offer;
mod parked;
mod partition;
mod parts;
mod pattern;
mod peer;
mod producers;
mod quotas;
mod random;
mod refused;
mod sasl;
mod secret;
mod server;
mod sessions;
mod state;
mod storage;
mod telemetry;
mod timers;
mod tls;
mod tokens;
mod topic;
mod transactions;
mod unserved;
mod users;
mod waiter;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use acls::Authorizer;
pub use builder::{Broker, Builder, MigrationPolicy};
pub use cluster::{Cluster, Stats};
pub use error::Error;
pub use groups::ExpiredMember;
pub use issuer::{Issuer, IssuerBuilder, IssuerFault, JwtKey};
pub use listener::Listener;
pub use machine::{Answer, Machine};
pub use now::Now;
pub use oauth::OauthValidator;
pub use parked::Parked;
pub use peer::Peer;
pub use refused::Refused;
pub use sasl::{SaslMechanism, UnknownMechanism};
pub use telemetry::{ClientMetric, ClientMetricValue, ClientMetrics};
pub use tls::{Authority, Identity, Tls};

/// Locks a mutex, also after a thread panicked while it held the lock: the content is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
