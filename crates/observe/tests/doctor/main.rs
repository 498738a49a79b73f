//! Faults that are injected into the embedded broker and its clients, and what the doctor says of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod brokers;
mod members;
mod records;
mod world;
