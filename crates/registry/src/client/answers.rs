//! What registries send and are sent, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{Reference, RegisteredSchema, Schema, SchemaType};
use crate::framing::{Guid, SchemaId};

/// A schema, without where it is registered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaAnswer {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    metadata: Option<Value>,
    // Other spellings than Confluent's are taken, too: rules that are missed would be clear text.
    #[serde(default, alias = "rule_set", alias = "ruleset", alias = "RuleSet")]
    rule_set: Option<Value>,
    /// Newer registries repeat what was asked for.
    #[serde(default)]
    id: Option<i64>,
    #[serde(default)]
    guid: Option<String>,
}

impl SchemaAnswer {
    /// The schema, if it is the one that was asked for.
    pub(super) fn of(self, asked: SchemaId) -> Result<Schema, String> {
        let id = self.id.filter(|id| matches!(asked, SchemaId::Id(asked) if i64::from(asked) != *id));
        if let Some(id) = id {
            return Err(format!("the registry answers with schema {id}"));
        }
        let guid = self.guid.as_deref().and_then(|guid| guid.parse::<Guid>().ok());
        match guid.filter(|guid| matches!(asked, SchemaId::Guid(asked) if asked != *guid)) {
            Some(guid) => Err(format!("the registry answers with schema {guid}")),
            None => Ok(self.schema()),
        }
    }

    pub(super) fn schema(self) -> Schema {
        let kind = self.schema_type.as_deref().map_or(SchemaType::Avro, SchemaType::named);
        let references = self.references.unwrap_or_default().into_iter();
        let mut schema = references.fold(Schema::new(kind, self.schema), Schema::reference);
        if let Some(metadata) = self.metadata.filter(|metadata| !metadata.is_null()) {
            schema = schema.metadata(&metadata);
        }
        if let Some(rules) = self.rule_set.filter(|rules| !rules.is_null()) {
            schema = schema.rules(&rules);
        }
        schema
    }
}

/// A version of a subject, or as much of it as the registry says: registering may answer with the id alone.
#[derive(Deserialize)]
pub(super) struct RegisteredAnswer {
    id: i64,
    #[serde(default)]
    guid: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    version: Option<u32>,
    #[serde(default)]
    schema: Option<String>,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default, rename = "ruleSet", alias = "rule_set", alias = "ruleset", alias = "RuleSet")]
    rule_set: Option<Value>,
}

impl RegisteredAnswer {
    /// The answer, which must be about this version if it says which one it is about.
    pub(super) fn of_version(self, asked: u32) -> Result<RegisteredSchema, String> {
        match self.version.filter(|version| *version != asked) {
            Some(version) => Err(format!("the registry answers with version {version}")),
            None => self.registered(None),
        }
    }

    /// The answer to `asked`, or to a question that had no schema.
    pub(super) fn registered(self, asked: Option<&Schema>) -> Result<RegisteredSchema, String> {
        let id = u32::try_from(self.id).ok().filter(|id| *id > 0 && i32::try_from(*id).is_ok());
        let id = id.ok_or_else(|| format!("the registry names schema {}, which is no id", self.id))?;
        // A GUID that is none is as good as none.
        let guid = self.guid.and_then(|guid| guid.parse::<Guid>().ok());
        let schema = match (self.schema, asked) {
            (Some(schema), _) => SchemaAnswer {
                schema,
                schema_type: self.schema_type,
                references: self.references,
                metadata: self.metadata,
                rule_set: self.rule_set,
                id: None,
                guid: None,
            }
            .schema(),
            (None, Some(asked)) => asked.clone(),
            (None, None) => return Err("the registry's answer has no schema".into()),
        };
        let (subject, version) = (self.subject.unwrap_or_default(), self.version.unwrap_or_default());
        Ok(RegisteredSchema { id, guid, subject, version, schema })
    }
}

/// A schema as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterBody<'a> {
    schema: &'a str,
    /// Registries that only know Avro do not know the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    references: &'a [Reference],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_set: Option<Value>,
}

impl RegisterBody<'_> {
    pub(super) fn of(schema: &Schema) -> String {
        let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
        let body = RegisterBody {
            schema: schema.text(),
            schema_type: Some(schema.kind()).filter(|kind| **kind != SchemaType::Avro).map(SchemaType::name),
            references: schema.references(),
            metadata: json(schema.metadata_json()),
            rule_set: json(schema.rules_json()),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// What a compatibility check answers. Apicurio gives one reason, Confluent's registry several messages.
#[derive(Deserialize)]
pub(super) struct CompatibilityAnswer {
    pub(super) is_compatible: bool,
    #[serde(default)]
    pub(super) messages: Option<Vec<String>>,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// Answers name the level in one way, and requests in another.
#[derive(Deserialize)]
pub(super) struct ConfigAnswer<T> {
    #[serde(rename = "compatibilityLevel", alias = "compatibility")]
    pub(super) level: T,
}

#[derive(Deserialize)]
pub(super) struct ModeAnswer<T> {
    pub(super) mode: T,
}

/// A subject and a version that have a schema.
#[derive(Deserialize)]
pub(super) struct SubjectVersion {
    pub(super) subject: String,
    pub(super) version: u32,
}
