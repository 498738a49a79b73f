//! Pipelines on the embedded broker, as programs use them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod alerting;
mod basics;
mod circuit;
mod exactly_once;
mod failing;
mod gaps;
mod hostile;
mod metrics;
mod ordered;
mod rebalancing;
mod retrying;
mod together;
mod world;
