//! Kafka's requests, responses and payloads, generated from its schemas: what a client or a broker for clients speaks.
//!
//! ```
//! use milena_messages::{Message, metadata::MetadataRequest};
//! use milena_wire::{Reader, Writer};
//!
//! let request = MetadataRequest { allow_auto_topic_creation: false, ..Default::default() };
//! let mut writer = Writer::new();
//! request.encode(&mut writer, 12)?;
//! let bytes = writer.finish().to_vec().into();
//! assert_eq!(MetadataRequest::decode(&mut Reader::new(&bytes), 12)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - One module per API key, with its request and response, and one per payload that travels inside others
//!   ([`consumer_protocol_subscription`]) or lies in an internal topic ([`offset_commit_record`]).
//! - A field that a version lacks is left out when its schema calls it ignorable, and refused when it is set and the
//!   schema does not; decoding gives it its default, which is also what [`Default`] gives. So
//!   `FetchRequest { max_bytes, ..Default::default() }` encodes at every version.
//! - Tagged fields that this release has no name for are kept and written back (KIP-482).
//! - Strings, bytes and records are slices of the frame they were decoded from, and keep it alive.
//!
//! **Versions.** The schemas are those of Apache Kafka 4.4.0. They begin with the baseline of KIP-896, which brokers
//! from 2.1 on speak in every client API (a test compares), so no schema of an older release is needed. Left out: the
//! APIs that only brokers and controllers speak among themselves ([`ApiKey`] still names them) and KRaft's own control
//! records.
//!
//! This crate must not know retries or policy.

mod api_key;
mod error_code;
mod r#gen;
mod message;
mod support;

pub use api_key::ApiKey;
pub use error_code::{ErrorCode, Fault};
pub use r#gen::*;
pub use message::{Message, Request};
