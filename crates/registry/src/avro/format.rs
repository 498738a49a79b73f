//! Avro as a format of records.

use serde::{Deserialize, Serialize};

use super::{AvroSchema, AvroValue};
use crate::framing::MessageIndexes;
use crate::{Decode, Encode, Format, Reference, Schema, SerdeError};

/// Avro, with schemas of a registry: values are types of serde's, or [`AvroValue`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct Avro;

impl Format for Avro {
    type Compiled = AvroSchema;

    fn compile(&self, schema: &Schema, others: &[(Reference, Schema)]) -> Result<AvroSchema, SerdeError> {
        AvroSchema::compile(schema, others)
    }

    fn record_name(&self, compiled: &AvroSchema) -> Result<String, SerdeError> {
        let name = compiled.name().map(str::to_owned);
        name.ok_or_else(|| SerdeError::schema("the Avro schema has no name: it is no record, enum or fixed"))
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Avro {
    #[inline]
    fn encode(&self, compiled: &AvroSchema, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        compiled.write(value, into)
    }
}

impl<'de, T: Deserialize<'de>> Decode<'de, T> for Avro {
    #[inline]
    fn decode(
        &self,
        compiled: &AvroSchema,
        _indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<T, SerdeError> {
        compiled.read(body)
    }
}

impl Encode<AvroValue> for Avro {
    fn encode(&self, compiled: &AvroSchema, value: &AvroValue, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        compiled.write_value(value, into)
    }
}

impl<'de> Decode<'de, AvroValue> for Avro {
    fn decode(
        &self,
        compiled: &AvroSchema,
        _indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<AvroValue, SerdeError> {
        compiled.read_value(body)
    }
}
