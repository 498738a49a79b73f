//! Records of any format as JSON, and JSON as records: which format it is follows from the schema.
//!
//! ```text
//! bytes ─▶ framing ─▶ schema of the registry ─▶ Avro │ Protobuf │ JSON Schema ─▶ JSON text
//! JSON text ─▶ the same schema ─▶ the same bytes
//! ```

use std::fmt;

use crate::framing::{self, Framing, MessageIndexes, Part, SchemaId};
use crate::{Decode, Encode, Format, Reference, RegistrySerde, Schema, SchemaType, SerdeError};

/// Avro, Protobuf or JSON Schema, whichever a schema is: values are JSON, as texts. For programs that do not know what they read and
/// write, such as tools.
///
/// - Avro's JSON is that of [`AvroSchema::json_of`](crate::AvroSchema::json_of).
/// - Protobuf's is ProtoJSON: [`ProtobufSchema::read_json`](crate::ProtobufSchema::read_json).
/// - JSON is as it was written, on one line. It is checked against its schema when it is written, and not when it is read.
///
/// What was read and is written again has the same bytes, if it was written as Confluent's serializers write it. Bytes can say the same
/// thing in other ways (Avro's arrays in several blocks, unknown fields of Protobuf's, JSON with line breaks), which
/// [`RegistrySerde::restores`] tells.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena_registry::framing::{Part, SchemaId};
/// use milena_registry::{Dynamic, DynamicValue, RecordEncoder, RegistrySerde, Schema, SchemaRegistry};
///
/// let registry = SchemaRegistry::offline(); // SchemaRegistry::new("http://localhost:8081")?
/// let order = r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}"#;
/// registry.remember(SchemaId::Id(7), Schema::avro(order));
///
/// let serde = RegistrySerde::new(&registry, Dynamic::new()).use_id(7);
/// let value: DynamicValue = serde.read(Part::Value, b"\0\0\0\0\x07\x0e", &[]).await?;
/// assert_eq!(value.json(), r#"{"id":7}"#);
///
/// let writer = RecordEncoder::<str>::writer(&serde, "orders", Part::Value).await?;
/// let mut payload = Vec::new();
/// serde.encode(&writer, r#"{"id": 8}"#, &mut payload)?;
/// assert_eq!(payload, b"\0\0\0\0\x07\x10");
/// let error = serde.encode(&writer, r#"{"id": "8"}"#, &mut payload).unwrap_err();
/// assert_eq!(error.to_string(), "Avro: at /id: a text does not fit long");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dynamic {
    message: Option<Box<str>>,
}

/// A schema of any format, ready to read and write JSON with.
#[derive(Debug)]
pub struct DynamicSchema(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(feature = "avro")]
    Avro(crate::AvroSchema),
    #[cfg(feature = "protobuf")]
    Protobuf(crate::ProtobufSchema),
    #[cfg(feature = "json-schema")]
    Json(crate::JsonSchemaValidator),
}

/// What is in a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DynamicValue {
    json: Box<str>,
    message: Option<Box<str>>,
}

impl Dynamic {
    /// Reads any record. Of a schema of Protobuf's, the first message is written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes Protobuf's messages of this full name, such as `shop.Order`. Other formats have no use for it.
    pub fn message(name: impl Into<Box<str>>) -> Self {
        Self { message: Some(name.into()) }
    }
}

impl DynamicValue {
    /// A value of this JSON. `message` is the full name of the message, if the schema is Protobuf and it is not the first one of the file.
    pub fn new(json: impl Into<Box<str>>, message: Option<impl Into<Box<str>>>) -> Self {
        Self { json: json.into(), message: message.map(Into::into) }
    }

    /// The value as JSON, on one line.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The full name of the message, if the schema is Protobuf.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl fmt::Display for DynamicValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

impl DynamicSchema {
    /// Makes a schema ready. `others` are the schemas that it refers to, and those that they refer to, each before those that use it.
    ///
    /// # Errors
    /// When the schema is not valid, or of a format that this build does not have.
    pub fn compile(schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self, SerdeError> {
        match schema.kind() {
            #[cfg(feature = "avro")]
            SchemaType::Avro => crate::AvroSchema::compile(schema, others).map(Kind::Avro).map(Self),
            #[cfg(feature = "protobuf")]
            SchemaType::Protobuf => {
                crate::ProtobufSchema::compile(schema, others).map(Kind::Protobuf).map(Self)
            }
            #[cfg(feature = "json-schema")]
            SchemaType::Json => crate::JsonSchemaValidator::compile(schema, others).map(Kind::Json).map(Self),
            other => {
                Err(SerdeError::schema(format!("the schema is {other}, which this program does not read")))
            }
        }
    }

    /// The language that it is written in.
    pub fn kind(&self) -> SchemaType {
        match &self.0 {
            #[cfg(feature = "avro")]
            Kind::Avro(_) => SchemaType::Avro,
            #[cfg(feature = "protobuf")]
            Kind::Protobuf(_) => SchemaType::Protobuf,
            #[cfg(feature = "json-schema")]
            Kind::Json(_) => SchemaType::Json,
        }
    }

    /// Reads a body, which has no framing. `message` is the full name of the message, if the schema is Protobuf and it is not the first
    /// one of the file.
    ///
    /// # Errors
    /// When the bytes do not fit the schema.
    pub fn decode(&self, message: Option<&str>, body: &[u8]) -> Result<DynamicValue, SerdeError> {
        let _ = message;
        match &self.0 {
            #[cfg(feature = "avro")]
            Kind::Avro(schema) => Ok(DynamicValue::plain(schema.json_of(&schema.read_value(body)?)?)),
            #[cfg(feature = "protobuf")]
            Kind::Protobuf(schema) => {
                let message = schema.named(message)?;
                Ok(DynamicValue::new(schema.json_of(&message, body)?, Some(message.full_name())))
            }
            #[cfg(feature = "json-schema")]
            Kind::Json(schema) => schema.read_json(body).map(DynamicValue::plain),
        }
    }

    /// Appends the bytes of a value that is given as JSON, without framing. `message` as for [`decode`](Self::decode).
    ///
    /// # Errors
    /// When it does not fit the schema. The error names the place, as a JSON pointer, and not the value.
    pub fn encode(&self, message: Option<&str>, json: &str, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let _ = message;
        match &self.0 {
            #[cfg(feature = "avro")]
            Kind::Avro(schema) => schema.write_value(&schema.value_of_json(json)?, into),
            #[cfg(feature = "protobuf")]
            Kind::Protobuf(schema) => schema.bytes_of(schema.named(message)?, json, into),
            #[cfg(feature = "json-schema")]
            Kind::Json(schema) => schema.write_json(json, into),
        }
    }

    #[allow(irrefutable_let_patterns, reason = "Protobuf may be the only format of this build")]
    fn decode_indexed(
        &self,
        indexes: Option<MessageIndexes<'_>>,
        body: &[u8],
    ) -> Result<DynamicValue, SerdeError> {
        #[cfg(feature = "protobuf")]
        if let Kind::Protobuf(schema) = &self.0 {
            return schema.with(indexes, |message| {
                Ok(DynamicValue::new(schema.json_of(message, body)?, Some(message.full_name())))
            });
        }
        let _ = indexes;
        self.decode(None, body)
    }

    /// The way to the message in its file, which only Protobuf has.
    #[allow(irrefutable_let_patterns, reason = "Protobuf may be the only format of this build")]
    fn indexes(&self, message: Option<&str>) -> Result<Option<Vec<u32>>, SerdeError> {
        #[cfg(feature = "protobuf")]
        if let Kind::Protobuf(schema) = &self.0 {
            return schema.indexes_of(message).map(Some);
        }
        let _ = message;
        Ok(None)
    }
}

impl DynamicValue {
    #[cfg(any(feature = "avro", feature = "json-schema"))]
    fn plain(json: String) -> Self {
        Self { json: json.into(), message: None }
    }
}

impl Format for Dynamic {
    type Compiled = DynamicSchema;

    fn compile(&self, schema: &Schema, others: &[(Reference, Schema)]) -> Result<DynamicSchema, SerdeError> {
        DynamicSchema::compile(schema, others)
    }

    fn has_indexes(&self, compiled: &DynamicSchema) -> bool {
        compiled.kind() == SchemaType::Protobuf
    }

    fn record_name(&self, compiled: &DynamicSchema) -> Result<String, SerdeError> {
        match &compiled.0 {
            #[cfg(feature = "avro")]
            Kind::Avro(schema) => crate::Avro.record_name(schema),
            #[cfg(feature = "protobuf")]
            Kind::Protobuf(schema) => Ok(schema.named(self.message.as_deref())?.full_name().to_owned()),
            #[cfg(feature = "json-schema")]
            Kind::Json(schema) => schema.record_name(),
        }
    }

    fn indexes(&self, compiled: &DynamicSchema) -> Result<Option<Vec<u32>>, SerdeError> {
        compiled.indexes(self.message.as_deref())
    }
}

impl Encode<str> for Dynamic {
    fn encode(&self, compiled: &DynamicSchema, json: &str, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        compiled.encode(self.message.as_deref(), json, into)
    }
}

impl<'de> Decode<'de, DynamicValue> for Dynamic {
    fn decode(
        &self,
        compiled: &DynamicSchema,
        indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<DynamicValue, SerdeError> {
        compiled.decode_indexed(indexes, body)
    }
}

impl RegistrySerde<Dynamic> {
    /// Writes a value as a record had it: in this framing and with this schema, which must be [loaded](Self::load). The payload is appended;
    /// the answer is the name and the value of a header that the record needs besides.
    ///
    /// # Errors
    /// When the schema is not loaded, has rules, or the value does not fit it; when the framing has no place for such an id.
    pub fn write_as(
        &self,
        part: Part,
        framing: Framing,
        schema: SchemaId,
        value: &DynamicValue,
        into: &mut Vec<u8>,
    ) -> Result<Option<(&'static str, Vec<u8>)>, SerdeError> {
        self.check_rules_of(schema)?;
        self.rewrite(part, framing, schema, value, into)
    }

    /// Whether [`write_as`](Self::write_as) makes this payload of the value, so that the payload itself need not be kept.
    pub fn restores(
        &self,
        part: Part,
        framing: Framing,
        schema: SchemaId,
        value: &DynamicValue,
        payload: &[u8],
    ) -> bool {
        let mut written = Vec::new();
        self.rewrite(part, framing, schema, value, &mut written).is_ok() && written == payload
    }

    fn rewrite(
        &self,
        part: Part,
        framing: Framing,
        schema: SchemaId,
        value: &DynamicValue,
        into: &mut Vec<u8>,
    ) -> Result<Option<(&'static str, Vec<u8>)>, SerdeError> {
        let compiled = self.loaded_schema(schema)?;
        let indexes = compiled.indexes(value.message())?;
        let begin = into.len();
        let header = framing::write(framing, part, schema, indexes.as_deref(), into)?;
        let encoded = compiled.encode(value.message(), value.json(), into);
        if let Err(error) = encoded {
            into.truncate(begin);
            return Err(error);
        }
        Ok(header)
    }
}
