//! JSON Schema, with schemas of a registry.

use std::fmt;

use jsonschema::{Retrieve, Uri, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::framing::MessageIndexes;
use crate::{Decode, Encode, Format, Reference, Schema, SchemaType, SerdeError};

/// JSON that is checked against a JSON Schema, when it is written and when it is read. Nothing is fetched: what a schema refers to is in
/// the registry.
#[derive(Debug, Clone, Copy)]
pub struct JsonSchema {
    is_checked_when_read: bool,
}

/// A JSON Schema with what it refers to, ready to check values.
pub struct JsonSchemaValidator {
    validator: Validator,
    title: Option<Box<str>>,
}

impl JsonSchema {
    /// Checks what is written and what is read.
    pub fn new() -> Self {
        Self { is_checked_when_read: true }
    }

    /// Whether what is read is checked. Without it reading is as fast as that of JSON. Default: yes. (Java:
    /// `json.fail.invalid.schema`, for both directions.)
    #[must_use]
    pub fn check_when_read(mut self, is_checked: bool) -> Self {
        self.is_checked_when_read = is_checked;
        self
    }
}

impl Default for JsonSchema {
    fn default() -> Self {
        Self::new()
    }
}

impl JsonSchemaValidator {
    fn check(&self, value: &Value) -> Result<(), SerdeError> {
        self.validator.validate(value).map_err(|error| {
            // The value itself may be a secret.
            let (at, rule) = (error.instance_path().to_string(), error.schema_path().to_string());
            let at = if at.is_empty() { "the value".to_owned() } else { format!("{at:?}") };
            SerdeError::data(format!("JSON Schema: {at} does not fit {rule:?} of the schema"))
        })
    }
}

impl Format for JsonSchema {
    type Compiled = JsonSchemaValidator;

    fn compile(
        &self,
        schema: &Schema,
        others: &[(Reference, Schema)],
    ) -> Result<JsonSchemaValidator, SerdeError> {
        let own = parsed(schema)?;
        let mut known = Vec::new();
        for (reference, other) in others {
            known.push((reference.name.clone().into_boxed_str(), parsed(other)?));
        }
        let title = own.get("title").and_then(Value::as_str).map(Into::into);
        let options = jsonschema::options().with_retriever(Known(known));
        let validator = options.build(&own).map_err(|error| invalid(&error))?;
        Ok(JsonSchemaValidator { validator, title })
    }

    fn record_name(&self, compiled: &JsonSchemaValidator) -> Result<String, SerdeError> {
        let title = compiled.title.as_deref().map(str::to_owned);
        title.ok_or_else(|| SerdeError::schema("the JSON Schema has no title, which would name the record"))
    }
}

impl<T: Serialize + ?Sized> Encode<T> for JsonSchema {
    fn encode(
        &self,
        compiled: &JsonSchemaValidator,
        value: &T,
        into: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let wrong = |error: serde_json::Error| SerdeError::data(format!("JSON: {error}"));
        compiled.check(&serde_json::to_value(value).map_err(wrong)?)?;
        serde_json::to_writer(into, value).map_err(wrong)
    }
}

impl<'de, T: Deserialize<'de>> Decode<'de, T> for JsonSchema {
    fn decode(
        &self,
        compiled: &JsonSchemaValidator,
        _indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<T, SerdeError> {
        let wrong = |error: serde_json::Error| SerdeError::data(format!("JSON: {error}"));
        if self.is_checked_when_read {
            compiled.check(&serde_json::from_slice(body).map_err(wrong)?)?;
        }
        serde_json::from_slice(body).map_err(wrong)
    }
}

fn parsed(schema: &Schema) -> Result<Value, SerdeError> {
    if *schema.kind() != SchemaType::Json {
        return Err(SerdeError::schema(format!(
            "the schema is {}, and JSON Schema is expected",
            schema.kind()
        )));
    }
    serde_json::from_str(schema.text()).map_err(|error| invalid(&error))
}

/// The schemas that are referred to, by the names of the references: whole addresses, or the last part of one.
struct Known(Vec<(Box<str>, Value)>);

impl Retrieve for Known {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let uri = uri.as_str();
        let is_it = |name: &str| {
            // A name without a scheme is resolved against the base that the crate makes up.
            uri == name || uri.strip_suffix(name).is_some_and(|before| before.ends_with(['/', ':']))
        };
        match self.0.iter().find(|(name, _)| is_it(name)) {
            Some((_, schema)) => Ok(schema.clone()),
            None => Err(format!("the schema refers to {uri:?}, which is none of its references").into()),
        }
    }
}

fn invalid(why: &dyn fmt::Display) -> SerdeError {
    SerdeError::schema(format!("the JSON Schema cannot be used: {why}"))
}

impl fmt::Debug for JsonSchemaValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSchemaValidator").field("title", &self.title).finish_non_exhaustive()
    }
}
