//! The cluster as a machine, on virtual time: frames in, frames out, nothing else.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

mod acls;
mod again;
mod compaction;
mod configs;
mod fetch;
mod groups;
mod groups_consumer;
mod groups_mixed;
mod groups_offsets;
mod mutations;
mod offsets;
mod peers;
mod produce;
mod quotas;
mod retention;
mod rig;
mod sasl;
mod sessions;
mod telemetry;
mod time;
mod tokens;
mod topics;
mod transactions;
mod transactions_offsets;
mod versions;
