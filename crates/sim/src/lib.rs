//! Milena's client and its broker together, on virtual time, from a seed.
//!
//! ```text
//!  client ── Runtime ──▶ Sim: tasks, timers, clocks
//!    └────── Connect ──▶ Stream ═ latency, pieces, cuts ═▶ Cluster ──▶ the broker's Machine
//! ```
//!
//! Nothing here does I/O or depends on the system's clock, so the same seed plays the same round: the same bytes and
//! outcomes at the same nanoseconds. Minutes of timeouts and retries pass in milliseconds. `tests/client` plays whole clients.
//! `tests/core` plays core's machines without the client around them, which takes a tenth of the time. `cargo xtask sim`
//! plays N seeds.
//!
//! The broker's machine stands in for Kafka. What a simulation shows is true of Kafka only where the broker behaves as Kafka
//! does; the interop tests compare the two.

mod cluster;
mod executor;
pub mod operator;
pub mod seeds;
mod stream;
mod trace;

pub use cluster::{Cluster, Faults, Gate};
pub use executor::{Joined, STEPS_MAX, Sim, Sleep, Stuck, TIME_MAX, up_to};
pub use operator::{Logged, Operator};
pub use trace::Trace;
