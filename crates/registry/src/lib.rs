//! Schemas of Kafka records: how records name their schema, a client of schema registries, and typed records.
//!
//! A record that was written with a schema registry does not carry its schema, but the number of it. [`framing`] reads and
//! writes this number in all forms that are in use, and [`SchemaRegistry`] knows what it stands for.

mod client;
mod error;
pub mod framing;

pub use client::{
    Association, CompatibilityCheck, CompatibilityLevel, Deletion, Mode, NewAssociation, Reference,
    RegisteredSchema, Schema, SchemaRegistry, SchemaRegistryBuilder, SchemaType, Version,
};
pub use error::{RegistryError, RegistryErrorKind};
