//! TLS against the embedded broker, whose connections a server of rustls encrypts.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod acceptance;
mod certificates;
mod embedded;
mod refusals;
mod reload;
mod server;
mod stores;
mod traffic;
