//! Values of Rust's types as keys and values of records.
//!
//! ```text
//!  producer.topic("orders").await?.typed(serde) ─▶ RecordEncoder ─┐                      ┌─▶ Format: Avro, Protobuf, JSON Schema
//!                                                                 ├─▶ RegistrySerde ─────┤
//!  batch.typed(&serde).await ───────────────────▶ RecordDecoder ──┘   (ids, framing)     └─▶ SchemaRegistry
//!                                                                 └─▶ Json, Raw: without schemas
//! ```

mod error;
mod format;
mod naming;
mod outage;
mod plain;
mod registry;
mod typed;

pub use self::error::{SerdeError, SerdeErrorKind};
pub use self::format::{Decode, Encode, Format, Prepare, RecordDecoder, RecordEncoder};
pub use self::naming::SubjectName;
pub use self::outage::WhileDown;
pub use self::plain::{Json, Raw};
pub use self::registry::{RegistrySerde, SchemaMemory, SchemaWriter};
pub use self::typed::{
    DecodeError, TypedBatch, TypedError, TypedProducer, TypedRecord, TypedRecords, TypedTopic,
};
