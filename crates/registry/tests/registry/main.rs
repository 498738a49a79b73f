//! The client of registries against a server that misbehaves as the test says.

mod authentication;
mod caching;
mod fake;
mod faults;
mod routes;
mod tls;
