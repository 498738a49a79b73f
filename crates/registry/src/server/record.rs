//! Records of the topic in which a registry keeps its state, as Confluent's registry writes and reads them: keys and values are JSON
//! whose fields have this order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entity::{AVRO, Content, Metadata, Reference, RuleSet, or_default};

/// A change of the state: what the record with this key says now, or that it says nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Record {
    pub(super) fn new(key: &Key, value: Option<&impl Serialize>) -> Self {
        let json = |error: serde_json::Error| format!("{{\"unwritable\":\"{error}\"}}").into_bytes();
        Self {
            key: serde_json::to_vec(key).unwrap_or_else(json),
            value: value.map(|value| serde_json::to_vec(value).unwrap_or_else(json)),
        }
    }

    /// The record that takes back what the key says.
    pub(super) fn tombstone(key: &Key) -> Self {
        Self::new(key, None::<&()>)
    }
}

/// The key of a record. `subject` of a config or a mode is absent for the default context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keytype")]
pub(super) enum Key {
    #[serde(rename = "SCHEMA")]
    Schema { subject: String, version: i32, magic: i32 },
    #[serde(rename = "CONFIG")]
    Config {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: i32,
    },
    #[serde(rename = "MODE")]
    Mode {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: i32,
    },
    #[serde(rename = "DELETE_SUBJECT")]
    DeleteSubject { subject: String, magic: i32 },
    #[serde(rename = "CLEAR_SUBJECT")]
    ClearSubject {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: i32,
    },
    #[serde(rename = "CONTEXT")]
    Context { tenant: String, context: String },
    #[serde(rename = "ASSOC")]
    Association(AssociationKey),
    #[serde(rename = "NOOP")]
    Noop { magic: i32 },
}

/// The only tenant of a registry that is not a cloud's.
pub(super) const TENANT: &str = "default";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssociationKey {
    pub(super) tenant: String,
    pub(super) resource_name: String,
    pub(super) resource_namespace: String,
    pub(super) resource_type: String,
    pub(super) association_type: String,
    pub(super) subject: String,
    pub(super) magic: i32,
}

impl Key {
    pub(super) fn schema(subject: &str, version: i32) -> Self {
        Self::Schema { subject: subject.into(), version, magic: 1 }
    }

    pub(super) fn config(subject: &Option<String>) -> Self {
        Self::Config { subject: subject.clone(), magic: 0 }
    }

    pub(super) fn mode(subject: &Option<String>) -> Self {
        Self::Mode { subject: subject.clone(), magic: 0 }
    }

    pub(super) fn context(context: &str) -> Self {
        Self::Context { tenant: TENANT.into(), context: context.into() }
    }
}

/// The value of a version of a subject's schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaValue {
    pub(super) subject: String,
    pub(super) version: i32,
    pub(super) id: i32,
    /// The hash in base64, where metadata are encrypted and it cannot be computed from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) md5: Option<String>,
    #[serde(default = "avro", deserialize_with = "or_avro")]
    pub(super) schema_type: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule_set: Option<RuleSet>,
    pub(super) schema: String,
    #[serde(default)]
    pub(super) deleted: bool,
    /// Fields that another registry wrote, and that are written back when a version is deleted.
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

fn avro() -> String {
    AVRO.into()
}

fn or_avro<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(|kind| kind.unwrap_or_else(avro))
}

impl SchemaValue {
    pub(super) fn content(&self) -> Content {
        Content {
            kind: self.schema_type.clone(),
            text: self.schema.clone(),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            rule_set: self.rule_set.clone(),
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::schema(&self.subject, self.version)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ModeValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    pub(super) mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeleteSubjectValue {
    pub(super) subject: String,
    pub(super) version: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClearSubjectValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContextValue {
    pub(super) tenant: String,
    pub(super) context: String,
}

/// The value of a NOOP. Confluent's registry writes none and reads none. Ours notes the greatest id of each context in it when a
/// schema is deleted for good: compaction removes the schema's record, and its id must not come to mean another schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NoopValue {
    #[serde(default)]
    pub(super) max_ids: std::collections::BTreeMap<String, i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssociationValue {
    pub(super) subject: String,
    pub(super) guid: String,
    #[serde(default)]
    pub(super) tenant: String,
    pub(super) resource_name: String,
    pub(super) resource_namespace: String,
    #[serde(default)]
    pub(super) resource_id: String,
    pub(super) resource_type: String,
    pub(super) association_type: String,
    /// STRONG or WEAK.
    pub(super) lifecycle: String,
    #[serde(default)]
    pub(super) frozen: bool,
}

impl AssociationValue {
    pub(super) fn key(&self) -> AssociationKey {
        AssociationKey {
            tenant: TENANT.into(),
            resource_name: self.resource_name.clone(),
            resource_namespace: self.resource_namespace.clone(),
            resource_type: self.resource_type.clone(),
            association_type: self.association_type.clone(),
            subject: self.subject.clone(),
            magic: 0,
        }
    }
}

/// The settings of a subject, a context or all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alias_for_deks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) normalize: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) validate_fields: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) validate_new_schemas: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) validate_rules: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compatibility_level: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compatibility_policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compatibility_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default_metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) override_metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default_rule_set: Option<RuleSet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) override_rule_set: Option<RuleSet>,
    /// Fields that another registry wrote, and that stay when the config is changed.
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &Key, json: &str) {
        assert_eq!(serde_json::to_string(key).unwrap(), json);
        assert_eq!(&serde_json::from_str::<Key>(json).unwrap(), key);
    }

    #[test]
    fn keys_are_written_as_confluent_writes_them() {
        check(
            &Key::schema("a-value", 2),
            r#"{"keytype":"SCHEMA","subject":"a-value","version":2,"magic":1}"#,
        );
        check(&Key::config(&None), r#"{"keytype":"CONFIG","magic":0}"#);
        check(&Key::config(&Some("a".into())), r#"{"keytype":"CONFIG","subject":"a","magic":0}"#);
        check(&Key::mode(&Some("a".into())), r#"{"keytype":"MODE","subject":"a","magic":0}"#);
        check(&Key::Noop { magic: 0 }, r#"{"keytype":"NOOP","magic":0}"#);
        check(&Key::context(".eu"), r#"{"keytype":"CONTEXT","tenant":"default","context":".eu"}"#);
        let delete = Key::DeleteSubject { subject: "a".into(), magic: 0 };
        check(&delete, r#"{"keytype":"DELETE_SUBJECT","subject":"a","magic":0}"#);
        // Confluent's reads a config's subject that is null, too.
        let null = serde_json::from_str::<Key>(r#"{"keytype":"CONFIG","subject":null,"magic":0}"#).unwrap();
        assert_eq!(null, Key::config(&None));
        assert!(serde_json::from_str::<Key>(r#"{"keytype":"DEK","subject":"a"}"#).is_err());
    }

    #[test]
    fn values_are_written_as_confluent_writes_them() {
        let json = r#"{"subject":"a","version":1,"id":3,"schemaType":"AVRO","references":[{"name":"b","subject":"c","version":1}],"metadata":{"properties":{"owner":"x"}},"ruleSet":{"domainRules":[{"name":"r","kind":"CONDITION","mode":"WRITE","type":"CEL","expr":"true","disabled":false}]},"schema":"\"string\"","deleted":false}"#;
        let value: SchemaValue = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
    }

    #[test]
    fn old_values_have_no_type_and_unknown_fields_stay() {
        let json = r#"{"subject":"a","version":1,"id":3,"schema":"\"string\"","deleted":true,"offset":7}"#;
        let value: SchemaValue = serde_json::from_str(json).unwrap();
        assert_eq!((value.schema_type.as_str(), value.deleted), ("AVRO", true));
        let written = serde_json::to_string(&value).unwrap();
        assert!(written.ends_with(r#""deleted":true,"offset":7}"#), "{written}");
    }
}
