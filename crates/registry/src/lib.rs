//! Schemas of Kafka records: how records name their schema, a client of schema registries, and typed records.
//!
//! A record that was written with a schema registry does not carry its schema, but the number of it. [`framing`] reads and
//! writes this number in all forms that are in use, [`SchemaRegistry`] knows what it stands for, and a [`RegistrySerde`] writes and
//! reads values of Rust's types with it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 1)?;
//! # let client = milena::Client::connect(cluster.bootstrap()).await?;
//! use milena::Record;
//! use milena_registry::framing::SchemaId;
//! use milena_registry::{Avro, RegistrySerde, Schema, SchemaRegistry, TypedBatch as _, TypedTopic as _};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct Order<'a> {
//!     id: i64,
//!     item: &'a str,
//! }
//!
//! let schema = Schema::avro(
//!     r#"{"type": "record", "name": "Order", "fields": [
//!         {"name": "id", "type": "long"}, {"name": "item", "type": "string"}]}"#,
//! );
//! let registry = SchemaRegistry::offline(); // SchemaRegistry::new("https://registry.example")?
//! # registry.remember(SchemaId::Id(1), schema.clone());
//! # let use_it = |serde: RegistrySerde<Avro>| serde.use_id(1);
//! let serde = RegistrySerde::new(&registry, Avro).schema(schema);
//! # let serde = use_it(serde);
//!
//! let producer = client.producer().build().await?;
//! let orders = producer.topic("orders").await?.typed::<Order<'_>, _>(serde.clone());
//! orders.send(Record::new().key("7"), &Order { id: 7, item: "ink" }).await?;
//!
//! let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
//! while let Some(batch) = consumer.next().await? {
//!     for order in batch.typed::<Order<'_>, _>(&serde).await {
//!         assert_eq!(order.value?, Some(Order { id: 7, item: "ink" })); // its text is a part of the batch
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "avro")]
mod avro;
mod client;
pub mod compat;
mod convert;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
mod dynamic;
mod error;
pub mod framing;
#[cfg(feature = "json-schema")]
mod json_schema;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
mod json_text;
#[cfg(feature = "protobuf")]
mod protobuf;
mod serdes;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "avro")]
pub use avro::{Avro, AvroSchema, AvroValue};
pub use client::{
    Association, CompatibilityCheck, CompatibilityLevel, Deletion, Mode, NewAssociation, Reference,
    RegisteredSchema, Schema, SchemaRegistry, SchemaRegistryBuilder, SchemaType, Version,
};
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
pub use dynamic::{Dynamic, DynamicSchema, DynamicValue};
pub use error::{RegistryError, RegistryErrorKind};
#[cfg(feature = "json-schema")]
pub use json_schema::{JsonSchema, JsonSchemaValidator};
#[cfg(feature = "protobuf")]
pub use prost_reflect::{DynamicMessage, ReflectMessage};
#[cfg(feature = "protobuf")]
pub use protobuf::{DynamicProtobuf, Protobuf, ProtobufSchema};
pub use serdes::{
    Decode, DecodeError, Encode, Format, Json, Prepare, Raw, RecordDecoder, RecordEncoder, RegistrySerde,
    SchemaMemory, SchemaWriter, SerdeError, SerdeErrorKind, SubjectName, TypedBatch, TypedError,
    TypedProducer, TypedRecord, TypedRecords, TypedTopic, WhileDown,
};
