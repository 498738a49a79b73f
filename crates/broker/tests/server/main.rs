//! The broker on real sockets: clients that behave, and strangers that do not.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

mod client;
mod hostile;
mod listeners;
mod nodes;
mod order;
mod quotas;
mod tls;
