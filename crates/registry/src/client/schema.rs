//! Schemas and what belongs to them, as registries know them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cache::Weigh;
use crate::compat::Rules;
use crate::framing::Guid;

/// The language that a schema is written in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SchemaType {
    /// Avro, which is what registries mean if they say nothing.
    #[default]
    Avro,
    /// Protobuf.
    Protobuf,
    /// JSON Schema.
    Json,
    /// Another one, by the name that the registry has for it.
    Other(Box<str>),
}

impl SchemaType {
    /// The name that registries have for it: `AVRO`, `PROTOBUF` or `JSON`.
    pub fn name(&self) -> &str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
            Self::Other(name) => name,
        }
    }

    /// The type of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "AVRO" => Self::Avro,
            "PROTOBUF" => Self::Protobuf,
            "JSON" => Self::Json,
            name => Self::Other(name.into()),
        }
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Another schema that a schema uses: a named type of Avro's, a file that Protobuf imports, a `$ref` of JSON Schema's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which the schema uses it.
    pub name: String,
    /// The subject that it is registered under.
    pub subject: String,
    /// The version within the subject.
    pub version: i32,
}

impl Reference {
    /// A reference by this name to a version of a subject.
    pub fn new(name: impl Into<String>, subject: impl Into<String>, version: i32) -> Self {
        Self { name: name.into(), subject: subject.into(), version }
    }
}

/// A schema: its text, what it refers to, and the rules of its data contract. Cloning is cheap.
///
/// ```
/// use milena_registry::{Reference, Schema, SchemaType};
///
/// let schema = Schema::avro(r#"{"type":"record","name":"Order","fields":[{"name":"of","type":"shop.Customer"}]}"#)
///     .reference(Reference::new("shop.Customer", "customers-value", 1));
/// assert_eq!((schema.kind(), schema.references().len()), (&SchemaType::Avro, 1));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Schema(Arc<Parts>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parts {
    kind: SchemaType,
    text: Box<str>,
    references: Vec<Reference>,
    /// JSON, as the registry gave it.
    metadata: Option<Box<str>>,
    rules: Option<Box<str>>,
    /// What of the rules matters to us.
    demands: Demands,
}

/// What the rules of a schema demand of whoever writes or reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Demands {
    encryption: Vec<String>,
    others: Vec<String>,
    migrations: Vec<String>,
    /// Why the rules cannot be read.
    unreadable: Option<Box<str>>,
}

impl Schema {
    /// A schema of this type.
    pub fn new(kind: SchemaType, text: impl Into<Box<str>>) -> Self {
        let (references, demands) = (Vec::new(), Demands::default());
        Self(Arc::new(Parts { kind, text: text.into(), references, metadata: None, rules: None, demands }))
    }

    /// A schema of Avro's, as JSON.
    pub fn avro(text: impl Into<Box<str>>) -> Self {
        Self::new(SchemaType::Avro, text)
    }

    /// A file of Protobuf's.
    pub fn protobuf(text: impl Into<Box<str>>) -> Self {
        Self::new(SchemaType::Protobuf, text)
    }

    /// A JSON Schema.
    pub fn json(text: impl Into<Box<str>>) -> Self {
        Self::new(SchemaType::Json, text)
    }

    /// The same, which refers to another one as well.
    #[must_use]
    pub fn reference(mut self, reference: Reference) -> Self {
        Arc::make_mut(&mut self.0).references.push(reference);
        self
    }

    /// The same with metadata, which is JSON: tags, properties and names of sensitive ones.
    #[must_use]
    pub fn metadata(mut self, metadata: &Value) -> Self {
        Arc::make_mut(&mut self.0).metadata = Some(metadata.to_string().into());
        self
    }

    /// The same with the rules of a data contract (`ruleSet`), which are JSON.
    #[must_use]
    pub fn rules(mut self, rules: &Value) -> Self {
        let (parts, rules) = (Arc::make_mut(&mut self.0), rules.to_string());
        (parts.demands, parts.rules) = (Demands::of(&rules), Some(rules.into()));
        self
    }

    /// The language.
    pub fn kind(&self) -> &SchemaType {
        &self.0.kind
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The schemas that it uses.
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// The metadata, as JSON.
    pub fn metadata_json(&self) -> Option<&str> {
        self.0.metadata.as_deref()
    }

    /// The rules, as JSON.
    pub fn rules_json(&self) -> Option<&str> {
        self.0.rules.as_deref()
    }

    /// The names of rules that encrypt fields or payloads, and are not disabled. Milena encrypts nothing, so such schemas are neither
    /// written nor read with. If the rules [cannot be read](Self::unreadable_rules), `ruleSet` is among the names: what is not
    /// understood may encrypt.
    pub fn encryption_rules(&self) -> &[String] {
        &self.0.demands.encryption
    }

    /// The names of the other rules for reading and writing that are not disabled. Milena carries none of them out, so it does not
    /// write with such a schema unless that is allowed.
    pub fn other_rules(&self) -> &[String] {
        &self.0.demands.others
    }

    /// The names of the migration rules that are not disabled. They say how what was written with another version is to be changed, and
    /// are not carried out.
    ///
    /// ```
    /// let rules = serde_json::json!({"migrationRules": [{"name": "split", "kind": "TRANSFORM", "type": "JSONATA", "mode": "UPGRADE"}]});
    /// let schema = milena_registry::Schema::avro("\"string\"").rules(&rules);
    /// assert_eq!(schema.migration_rules(), ["split"]);
    /// ```
    pub fn migration_rules(&self) -> &[String] {
        &self.0.demands.migrations
    }

    /// Why the rules cannot be read, if they cannot.
    pub fn unreadable_rules(&self) -> Option<&str> {
        self.0.demands.unreadable.as_deref()
    }
}

impl Demands {
    /// `rules` are JSON.
    fn of(rules: &str) -> Self {
        match Rules::parse(rules) {
            Ok(rules) => Self {
                encryption: rules.encryption().to_vec(),
                others: rules.others().to_vec(),
                migrations: rules.migrations().to_vec(),
                unreadable: None,
            },
            Err(why) => Self {
                encryption: vec!["ruleSet".to_owned()],
                unreadable: Some(why.to_string().into()),
                ..Self::default()
            },
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, text, references, .. } = &*self.0;
        f.debug_struct("Schema")
            .field("kind", kind)
            .field("text", text)
            .field("references", references)
            .finish_non_exhaustive()
    }
}

/// A schema as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// The id by which records name it.
    pub id: u32,
    /// The GUID, by which records name it in a header, if the registry gives GUIDs.
    pub guid: Option<Guid>,
    /// The subject, if the registry says it.
    pub subject: String,
    /// The version within the subject, or zero if the registry does not say it.
    pub version: u32,
    /// The schema.
    pub schema: Schema,
}

impl Weigh for Schema {
    fn bytes(&self) -> usize {
        let Parts { text, references, metadata, rules, .. } = &*self.0;
        let of = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let references: usize = references.iter().map(|it| it.name.len() + it.subject.len() + 64).sum();
        text.len() + references + of(metadata) + 2 * of(rules)
    }
}

impl Weigh for Arc<RegisteredSchema> {
    fn bytes(&self) -> usize {
        self.schema.bytes() + self.subject.len()
    }
}

impl Weigh for Arc<str> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Which changes of a subject's schemas are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CompatibilityLevel {
    /// All.
    None,
    /// The new schema can read what was written with the last one.
    Backward,
    /// The new schema can read what was written with any earlier one.
    BackwardTransitive,
    /// The last schema can read what is written with the new one.
    Forward,
    /// Every earlier schema can read what is written with the new one.
    ForwardTransitive,
    /// Backward and forward.
    Full,
    /// Backward and forward, for all earlier ones.
    FullTransitive,
}

/// What a registry takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Mode {
    /// Reading and registering.
    Readwrite,
    /// Reading.
    Readonly,
    /// As `Readonly`, and nothing overrides it.
    ReadonlyOverride,
    /// Registering with ids that the client chooses.
    Import,
    /// Forwards to another registry.
    Forward,
}

/// What a compatibility check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompatibilityCheck {
    /// Whether the schema may follow.
    pub is_compatible: bool,
    /// Why not, in the registry's words, if it says so.
    pub messages: Vec<String>,
}

/// A version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// The last one.
    Latest,
    /// The one of this number, from 1 on.
    Number(u32),
}

impl From<u32> for Version {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// How thoroughly something is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deletion {
    /// It is not listed any more, and records that name it can still be read.
    Soft,
    /// It is gone, and records that name it cannot be read. It must have been deleted softly before.
    Permanent,
}

/// The subject that holds the schemas of a topic's keys or values (Confluent's associations).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Association {
    /// The subject.
    pub subject: String,
    /// The registry's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// The topic's name.
    #[serde(default)]
    pub resource_name: String,
    /// The cluster's id, or `-`.
    #[serde(default)]
    pub resource_namespace: String,
    /// The topic's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// `topic`.
    #[serde(default)]
    pub resource_type: String,
    /// `key` or `value`.
    #[serde(default)]
    pub association_type: String,
    /// `STRONG` or `WEAK`: whether the subject is deleted with the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    /// Whether the schema may not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_encrypt_are_told_from_others() {
        let rules = serde_json::json!({
            "migrationRules": [{"name": "split", "kind": "TRANSFORM", "type": "JSONATA", "mode": "UPGRADE"}],
            "domainRules": [
                {"name": "pii", "kind": "TRANSFORM", "type": "ENCRYPT", "mode": "WRITEREAD", "tags": ["PII"]},
                {"name": "old", "kind": "TRANSFORM", "type": "ENCRYPT", "mode": "WRITEREAD", "disabled": true},
                {"name": "positive", "kind": "CONDITION", "type": "CEL", "mode": "WRITE"},
            ],
            "encodingRules": [{"name": "all", "kind": "TRANSFORM", "type": "ENCRYPT_PAYLOAD", "mode": "WRITEREAD"}],
        });
        let schema = Schema::avro("\"string\"").rules(&rules);
        assert_eq!(schema.encryption_rules(), ["pii", "all"]);
        assert_eq!(schema.other_rules(), ["positive"]);
        assert_eq!(schema.migration_rules(), ["split"]);
        assert!(Schema::avro("\"string\"").encryption_rules().is_empty());
        // What is not understood may encrypt.
        for rules in [
            serde_json::json!("x"),
            serde_json::json!([]),
            serde_json::json!({"domainRules": {"name": "pii"}}),
        ] {
            let schema = Schema::avro("\"string\"").rules(&rules);
            assert_eq!(schema.encryption_rules(), ["ruleSet"], "{rules}");
            assert!(schema.unreadable_rules().is_some_and(|why| why.starts_with("invalid ruleSet: ")));
        }
    }
}
