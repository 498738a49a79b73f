//! Values as records: the serdes with the embedded broker and a registry that the tests control.

#[allow(dead_code, reason = "shared with the tests of the registry's client")]
#[path = "../registry/fake.rs"]
mod fake;

#[cfg(feature = "avro")]
mod avro;
#[cfg(all(feature = "avro", feature = "json-schema", feature = "protobuf"))]
mod dynamic;
#[cfg(all(feature = "avro", feature = "json-schema", feature = "protobuf"))]
mod golden;
#[cfg(feature = "json-schema")]
mod json_schema;
#[allow(dead_code, reason = "not every format's tests use all of it")]
mod memory;
#[cfg(feature = "avro")]
mod outage;
#[cfg(feature = "protobuf")]
mod protobuf;
