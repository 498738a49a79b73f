//! JSON Schema, with schemas of a registry.

mod complexity;

use std::fmt;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::framing::MessageIndexes;
use crate::json_text::one_line;
use crate::{Decode, Encode, Format, Reference, Schema, SchemaType, SerdeError};

/// JSON that is checked against a JSON Schema, when it is written and when it is read. Nothing is fetched: what a schema refers to is in
/// the registry.
///
/// Checking is work that the schema's author decides on, so it is bounded: a schema that tries more than 10,000 others for one value is
/// refused, and so are one that needs itself for the same value, one of more than 2,000 patterns, and a value and a schema that are
/// too deeply nested together. A pattern that backtracks without end does not match.
#[derive(Debug, Clone, Copy)]
pub struct JsonSchema {
    is_checked_when_read: bool,
}

/// A JSON Schema with what it refers to, ready to check values.
pub struct JsonSchemaValidator {
    validator: Validator,
    /// Schemas that are nested in each other at one value.
    depth: usize,
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
    pub(crate) fn compile(schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self, SerdeError> {
        let own = parsed(schema)?;
        let mut known = Vec::new();
        for (reference, other) in others {
            known.push((reference.name.clone().into_boxed_str(), parsed(other)?));
        }
        let title = own.get("title").and_then(Value::as_str).map(Into::into);
        let complexity = complexity::of(&own, &known).map_err(|why| invalid(&why))?;
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACK_MAX)
            .size_limit((PATTERNS_BYTES_MAX / complexity.patterns.max(1)).min(PATTERN_BYTES_MAX));
        let options = jsonschema::options().with_retriever(Known(known)).with_pattern_options(patterns);
        let validator = options.build(&own).map_err(|error| invalid(&error))?;
        Ok(Self { validator, depth: complexity.depth, title })
    }

    /// JSON as it was written, on one line. Whether it fits the schema is not checked.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn read_json(&self, body: &[u8]) -> Result<String, SerdeError> {
        let _: Value = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
        // serde_json has checked it.
        Ok(one_line(&String::from_utf8_lossy(body)))
    }

    /// Appends JSON as it is written here, if it fits the schema.
    ///
    /// # Errors
    /// When it is no JSON, or does not fit. The error names the place, as a JSON pointer, and the rule, and not the value.
    pub fn write_json(&self, json: &str, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.check(&serde_json::from_str(json).map_err(|error| wrong(&error))?)?;
        into.extend_from_slice(json.trim_ascii().as_bytes());
        Ok(())
    }

    pub(crate) fn record_name(&self) -> Result<String, SerdeError> {
        let title = self.title.as_deref().map(str::to_owned);
        title.ok_or_else(|| SerdeError::schema("the JSON Schema has no title, which would name the record"))
    }

    fn check(&self, value: &Value) -> Result<(), SerdeError> {
        let levels_max = NESTED_MAX / self.depth.max(1);
        if levels_max < JSON_LEVELS_MAX && is_deeper(value, levels_max) {
            let why = format!(
                "JSON Schema: the value is nested more than {levels_max} levels deep, and the schema {} at each",
                self.depth
            );
            return Err(SerdeError::data(why));
        }
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
        JsonSchemaValidator::compile(schema, others)
    }

    fn record_name(&self, compiled: &JsonSchemaValidator) -> Result<String, SerdeError> {
        compiled.record_name()
    }
}

impl<T: Serialize + ?Sized> Encode<T> for JsonSchema {
    fn encode(
        &self,
        compiled: &JsonSchemaValidator,
        value: &T,
        into: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        compiled.check(&serde_json::to_value(value).map_err(|error| wrong(&error))?)?;
        serde_json::to_writer(into, value).map_err(|error| wrong(&error))
    }
}

impl<'de, T: Deserialize<'de>> Decode<'de, T> for JsonSchema {
    fn decode(
        &self,
        compiled: &JsonSchemaValidator,
        _indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<T, SerdeError> {
        if self.is_checked_when_read {
            compiled.check(&serde_json::from_slice(body).map_err(|error| wrong(&error))?)?;
        }
        serde_json::from_slice(body).map_err(|error| wrong(&error))
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

fn wrong(error: &serde_json::Error) -> SerdeError {
    SerdeError::data(format!("JSON: {error}"))
}

fn invalid(why: &dyn fmt::Display) -> SerdeError {
    // It may repeat a pattern of a megabyte.
    let why = milena::http::cleaned(&why.to_string(), 500);
    SerdeError::schema(format!("the JSON Schema cannot be used: {why}"))
}

/// Whether a value is nested more than this deep. It goes no deeper itself.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_deeper = |part: &Value| levels == 0 || is_deeper(part, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(is_deeper),
        Value::Object(members) => members.values().any(is_deeper),
        _ => false,
    }
}

/// The validator recurses into the value, and at each level into the schema. A thread of tokio's has 2 MiB for that.
const NESTED_MAX: usize = 1_500;
/// serde_json reads no deeper values.
const JSON_LEVELS_MAX: usize = 128;
/// Steps back that a pattern may take in one text.
const BACKTRACK_MAX: usize = 100_000;
/// What a compiled pattern may take, and all of a schema.
const PATTERN_BYTES_MAX: usize = 4 << 20;
const PATTERNS_BYTES_MAX: usize = 64 << 20;

impl fmt::Debug for JsonSchemaValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSchemaValidator").field("title", &self.title).finish_non_exhaustive()
    }
}
