//! Milena's client and its broker together, on virtual time, from a seed.
//!
//! ```text
//!  client ── Runtime ──▶ Sim: tasks, timers, clocks
//!    └────── Connect ──▶ Stream ═ latency, pieces, cuts ═▶ Cluster ──▶ the broker's Machine
//! ```
//!
//! Nothing here does I/O or reads a clock, so the same seed plays the same round: every byte, every outcome, every
//! nanosecond. Minutes of timeouts and retries pass in milliseconds. `tests/client` plays whole clients, `tests/core` plays
//! core's machines alone, which is faster by far. `cargo xtask sim` plays as many seeds as it is told to.
//!
//! The broker's machine stands in for Kafka, so what a simulation proves holds for Kafka as far as the broker behaves
//! as Kafka does; the interop tests are there to show that it does.

mod cluster;
mod executor;
pub mod operator;
pub mod seeds;
mod stream;
mod trace;

pub use cluster::{Cluster, Faults, Gate};
pub use executor::{Joined, STEPS_MAX, Sim, Sleep, Stuck, TIME_MAX, up_to};
pub use operator::{Logged, Operator};
pub use stream::Stream;
pub use trace::Trace;
