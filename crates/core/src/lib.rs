//! Milena's decisions, without I/O: handshake, in-flight matching, metadata and routing, batching and sequences, fetch
//! sessions and positions, backoff.
//!
//! Where time, order or uncertainty decide correctness there is a machine: `handle_x(input, now)` tells it what
//! happened, `poll_y(now)` asks what to do, `poll_timeout()` when to come back. After any `handle_*`, drain every
//! `poll_*`. The same inputs at the same times give the same outputs.
//!
//! This crate must not know tasks, sockets, clocks or unseeded randomness: time and seeds are arguments.

pub mod backoff;
pub mod failure;
pub mod framing;
mod handshake;
mod id;
mod inflight;
mod kind;
mod lifecycle;
pub mod metadata;
pub mod partitioner;
pub mod producer;
mod rng;
pub mod source;
#[cfg(test)]
mod table;
mod time;
mod versions;

pub use backoff::Backoff;
pub use failure::{Failure, Notice, Obstacle};
pub use handshake::{Handshake, HandshakeKind, HandshakeRequest};
pub use id::{BrokerId, CorrelationId, LeaderEpoch, ProducerId, ProducerIdentity};
pub use inflight::{InFlight, UnexpectedResponse};
pub use kind::ErrorKind;
pub use lifecycle::{End, Lifecycle, Phase};
pub use rng::Rng;
pub use time::{Instant, millis_since_epoch};
pub use versions::{BrokerVersions, NoCommonVersion};
