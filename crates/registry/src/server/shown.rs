//! What answers show, in Confluent's JSON.

use serde::Serialize;

use super::entity::{Metadata, Reference, RuleSet};
use super::state::Stored;

/// A schema.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schema<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<i32>,
    pub(super) guid: String,
    pub(super) schema_type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) references: Vec<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule_set: Option<&'a RuleSet>,
    pub(super) schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_id: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ts: Option<i64>,
    pub(super) deleted: bool,
}

impl<'a> Schema<'a> {
    /// All that is known of a version.
    pub(super) fn of(stored: &'a Stored) -> Self {
        let value = &stored.value;
        Self {
            subject: Some(&value.subject),
            version: Some(value.version),
            id: Some(value.id),
            guid: stored.guid.to_string(),
            schema_type: &value.schema_type,
            references: value.references.clone(),
            metadata: value.metadata.as_ref(),
            rule_set: value.rule_set.as_ref(),
            schema: value.schema.clone(),
            max_id: None,
            aliases: Vec::new(),
            ts: stored.written_ms,
            deleted: value.deleted,
        }
    }

    /// What is the same wherever the schema is registered.
    pub(super) fn alone(stored: &'a Stored) -> Self {
        Self { subject: None, version: None, id: None, ..Self::of(stored) }
    }
}

#[derive(Serialize)]
pub(super) struct Compatible {
    pub(super) is_compatible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct ModeShown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct SubjectVersion<'a> {
    pub(super) subject: &'a str,
    pub(super) version: i32,
}

#[derive(Serialize)]
pub(super) struct ContextId<'a> {
    pub(super) context: &'a str,
    pub(super) id: i32,
}

#[derive(Serialize)]
pub(super) struct ErrorShown<'a> {
    pub(super) error_code: u32,
    pub(super) message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssociationInfo<'a> {
    pub(super) subject: &'a str,
    pub(super) association_type: &'a str,
    pub(super) lifecycle: &'a str,
    pub(super) frozen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<Schema<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Associations<'a> {
    pub(super) resource_name: &'a str,
    pub(super) resource_namespace: &'a str,
    pub(super) resource_id: &'a str,
    pub(super) resource_type: &'a str,
    pub(super) associations: Vec<AssociationInfo<'a>>,
}
