//! Milena beside what others have made. One test program, so that each Kafka cluster is started once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod admin;
mod answers;
mod client;
mod conformance;
mod console;
mod mutants;
mod partners;
mod programs;
