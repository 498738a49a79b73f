//! An embedded Kafka broker: a real one, for development, tests and demos.
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
//!  sockets ─▶ server ─▶ machine (no I/O but the log's files, no clock) ─▶ api/* ─▶ state ─▶ partition ─▶ log
//! ```
//!
//! - One process, one or many nodes, each with a port of its own, on the loopback interface unless told otherwise.
//! - In memory, or on disk in Kafka's own segment format ([`Builder::data_dir`]); `kill -9` loses nothing acknowledged.
//! - All nodes share one log per partition, so replication is instant and leaders move on command
//!   ([`Cluster::move_leader`], [`Cluster::stop_node`]).
//! - What is advertised in ApiVersions is implemented, in every version Kafka 4.4 has. Groups, transactions,
//!   authentication, retention and compaction are not there yet: a client that asks for them is told so, and the log says
//!   it once. Topic configs without an effect are refused.
//! - A batch is taken or refused as Kafka does, with the same code and record errors (KIP-467); what readers could not read
//!   is refused where Kafka takes it, too.
//! - It stays up under strangers: memory is taken for what arrived, never for what was announced.
//!
//! It is not a production cluster. It depends on Milena's wire format and messages, and never on Milena's client: a
//! test partner must not share the client's bugs.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests have a clock"))]

mod api;
mod builder;
mod call;
mod catalog;
mod check;
mod cluster;
mod configs;
mod envelope;
mod epochs;
mod error;
mod log;
mod machine;
mod now;
mod parked;
mod partition;
mod parts;
mod peer;
mod producers;
mod random;
mod refused;
mod server;
mod sessions;
mod state;
mod storage;
mod timers;
mod topic;
mod unserved;
mod waiter;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use builder::{Broker, Builder};
pub use cluster::{Cluster, Stats};
pub use error::Error;
pub use machine::{Answer, Machine};
pub use now::Now;
pub use parked::Parked;
pub use peer::Peer;
pub use refused::Refused;

/// Locks a mutex whose content is whole even if a thread panicked while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
