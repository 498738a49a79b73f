//! Milena's decisions, without I/O: a connection's phases and handshake, in-flight matching, metadata and routing, batching
//! and sequences, transactions, fetch sessions and positions, backoff.
//!
//! Where time, order or uncertainty decide correctness there is a machine. Its driver calls `handle_x(input, now)` to tell what
//! happened, `poll_y(now)` to ask what to do next, and `poll_timeout()` to ask when to poll again although nothing happened.
//! After any `handle_*` it polls until nothing is left to do, in the order that the machine's type gives. The same inputs at the
//! same times give the same outputs.
//!
//! This crate must not know tasks, sockets, clocks or unseeded randomness. Time and seeds are arguments.

pub mod backoff;
mod busy_wait;
pub mod calls;
mod coordinator;
pub mod failure;
pub mod framing;
pub mod group;
mod handshake;
mod id;
mod inflight;
mod kind;
mod label;
pub mod lifecycle;
pub mod metadata;
pub mod partitioner;
pub mod producer;
pub mod rights;
mod rng;
mod round_trip;
pub mod sasl;
mod secret;
pub mod source;
#[cfg(test)]
mod table;
pub mod telemetry;
pub mod throttle;
mod time;
pub mod transaction;
mod versions;

pub use backoff::Backoff;
pub use busy_wait::BusyWait;
pub use failure::{Cause, Failure, Notice, Obstacle};
pub use handshake::{Handshake, HandshakeKind, HandshakeRequest};
pub use id::{BrokerId, CorrelationId, LeaderEpoch, ProducerId, ProducerIdentity};
pub use inflight::{InFlight, UnexpectedResponse};
pub use kind::ErrorKind;
pub use lifecycle::Lifecycle;
pub use rng::Rng;
pub use round_trip::RoundTrip;
pub use secret::Secret;
pub use time::{Instant, millis_since_epoch};
pub use versions::{BrokerVersions, Features, NoCommonVersion};
