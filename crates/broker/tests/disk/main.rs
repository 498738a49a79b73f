//! Data on disk outlives the process: clean stops, crashes, torn files, other brokers.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

mod compaction;
mod crash;
mod groups;
mod groups_consumer;
mod restart;
mod retention;
mod transactions;
