//! What a schema is made of, as requests, answers and the topic write it in JSON. Fields that are empty are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::compat::Identity;
use crate::framing::Guid;

/// The type of a schema whose type is not said.
pub(super) const AVRO: &str = "AVRO";
/// The property of metadata in which a registry notes the version of the schema, if it was asked to.
pub(super) const VERSION_PROPERTY: &str = "confluent:version";

/// A name by which a schema uses a version of another subject's schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Reference {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) subject: String,
    /// -1 is the latest.
    #[serde(default = "latest")]
    pub(super) version: i32,
}

fn latest() -> i32 {
    -1
}

/// What is said about a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, BTreeSet<String>>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) properties: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) sensitive: BTreeSet<String>,
}

impl Metadata {
    /// `newer` over `older`: keys of `newer` replace those of `older`.
    pub(super) fn merged(older: Option<&Self>, newer: Option<&Self>) -> Option<Self> {
        let (Some(older), Some(newer)) = (older, newer) else { return newer.or(older).cloned() };
        let mut merged = older.clone();
        merged.tags.extend(newer.tags.clone());
        merged.properties.extend(newer.properties.clone());
        merged.sensitive.extend(newer.sensitive.iter().cloned());
        Some(merged)
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.properties.get(VERSION_PROPERTY).map(String::as_str)
    }

    fn without_version(&self) -> Option<Self> {
        let mut rest = self.clone();
        rest.properties.remove(VERSION_PROPERTY);
        (rest != Self::default()).then_some(rest)
    }
}

/// What clients do with records on their way. A registry keeps rules, and applies none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuleSet {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) migration_rules: Vec<Rule>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) domain_rules: Vec<Rule>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) encoding_rules: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) enable_at: Option<String>,
    /// Of a later version of the API: kept where the topic has them, refused in requests. A list that was lost would be records in
    /// clear text.
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind_of_rule: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    params: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_success: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_failure: Option<String>,
    #[serde(default)]
    disabled: bool,
}

/// The longest name of a rule.
const RULE_NAME_MAX: usize = 64;

impl Rule {
    fn check(&self, modes: &[&str], which: &str) -> Result<(), String> {
        let name = self.name.as_deref().ok_or("Missing rule name")?;
        let is_start = |c: char| c.is_alphabetic() || c == '_';
        let is_later = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let mut characters = name.chars();
        match characters.next() {
            None => return Err("Empty rule name".into()),
            Some(first) if !is_start(first) => {
                return Err(format!("Illegal initial character in rule name: {name}"));
            }
            Some(_) if !characters.all(is_later) => {
                return Err(format!("Illegal character in rule name: {name}"));
            }
            Some(_) if name.len() > RULE_NAME_MAX => return Err("Rule name too long".into()),
            Some(_) => {}
        }
        if self.kind_of_rule.is_none() {
            return Err("Missing rule type".into());
        }
        if let Some(kind) = self.kind.as_deref()
            && !["TRANSFORM", "CONDITION"].contains(&kind)
        {
            return Err(format!("Rule '{name}' has the unknown kind '{kind}'"));
        }
        let mode = self.mode.as_deref().unwrap_or_default();
        if !modes.contains(&mode) {
            return Err(format!("{which} rules can only be {}", modes.join(", ")));
        }
        let has_two = |action: &Option<String>| action.as_deref().is_some_and(|action| action.contains(','));
        if !["WRITEREAD", "UPDOWN"].contains(&mode)
            && (has_two(&self.on_success) || has_two(&self.on_failure))
        {
            return Err("Multiple actions only valid with WRITEREAD and UPDOWN".into());
        }
        Ok(())
    }
}

impl RuleSet {
    /// # Errors
    /// What is wrong with a rule.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(name) = self.unknown.keys().next() {
            return Err(format!("Unknown field of a rule set: '{}'", name.escape_debug()));
        }
        let mut names = BTreeSet::new();
        let on_records: &[&str] = &["WRITE", "READ", "WRITEREAD"];
        for (rules, modes, which) in [
            (&self.migration_rules, &["UPGRADE", "DOWNGRADE", "UPDOWN"][..], "Migration"),
            (&self.domain_rules, on_records, "Domain"),
            (&self.encoding_rules, on_records, "Encoding"),
        ] {
            for rule in rules {
                rule.check(modes, which)?;
                if !names.insert(&rule.name) {
                    let name = rule.name.as_deref().unwrap_or_default();
                    return Err(format!("Found rule with duplicate name '{name}'"));
                }
            }
        }
        Ok(())
    }

    /// `newer` over `older`: rules of `newer` replace those of `older` with the same name.
    pub(super) fn merged(older: Option<&Self>, newer: Option<&Self>) -> Option<Self> {
        let (Some(older), Some(newer)) = (older, newer) else { return newer.or(older).cloned() };
        let merge = |older: &[Rule], newer: &[Rule]| {
            let is_replaced = |old: &Rule| newer.iter().any(|new| new.name == old.name);
            let kept = older.iter().filter(|old| !is_replaced(old));
            kept.chain(newer).cloned().collect()
        };
        Some(Self {
            migration_rules: merge(&older.migration_rules, &newer.migration_rules),
            domain_rules: merge(&older.domain_rules, &newer.domain_rules),
            encoding_rules: merge(&older.encoding_rules, &newer.encoding_rules),
            enable_at: newer.enable_at.clone().or_else(|| older.enable_at.clone()),
            unknown: older.unknown.clone().into_iter().chain(newer.unknown.clone()).collect(),
        })
    }

    pub(super) fn has_type(&self, kind: &str) -> bool {
        let rules = self.migration_rules.iter().chain(&self.domain_rules).chain(&self.encoding_rules);
        rules.into_iter().any(|rule| rule.kind_of_rule.as_deref() == Some(kind))
    }
}

/// All by which a registry tells schemas apart: equal contents have the same id in a context, and the same GUID everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: String,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    pub(super) metadata: Option<Metadata>,
    pub(super) rule_set: Option<RuleSet>,
}

impl Content {
    /// What Confluent's registry computes, so that a GUID is the same in both.
    pub(super) fn guid(&self) -> Guid {
        // They are structs with text as keys, so it cannot fail.
        let metadata =
            self.metadata.as_ref().map(|metadata| serde_json::to_string(metadata).unwrap_or_default());
        let rules = self.rule_set.as_ref().map(|rules| serde_json::to_string(rules).unwrap_or_default());
        let mut identity = Identity::new(&self.text);
        for Reference { name, subject, version } in &self.references {
            identity = identity.reference(name, subject, *version);
        }
        if let Some(metadata) = &metadata {
            identity = identity.metadata(metadata);
        }
        if let Some(rules) = &rules {
            identity = identity.rule_set(rules);
        }
        identity.guid_of_own()
    }

    /// Whether someone who looks for `self` means `stored`. The version that a registry noted in the metadata does not count if only
    /// one of them has it.
    pub(super) fn means(&self, stored: &Self) -> bool {
        let rest = |content: &Self| content.metadata.as_ref().and_then(Metadata::without_version);
        let versions = [self, stored].map(|one| one.metadata.as_ref().and_then(Metadata::version));
        let same_metadata = match versions {
            [Some(_), Some(_)] | [None, None] => self.metadata == stored.metadata,
            _ => rest(self) == rest(stored),
        };
        same_metadata
            && self.kind == stored.kind
            && self.text == stored.text
            && self.references == stored.references
            && self.rule_set == stored.rule_set
    }
}

/// Java's clients write null for fields that they leave empty.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        Content { kind: AVRO.into(), text: text.into(), ..Content::default() }
    }

    #[test]
    fn a_guid_is_the_hash_of_the_content() {
        // What Confluent's registry says for this schema.
        assert_eq!(content("\"string\"").guid().to_string(), "095d71cf-1255-6b9d-5e33-0ad575b3df5d");
        // And what its classes say of rules that leave their kind and mode out, which are TRANSFORM and WRITEREAD.
        let rules = r#"{"domainRules":[{"name":"card","kind":"TRANSFORM","type":"ENCRYPT","tags":["PII","A"],
            "params":{"z":"1","k":"2"},"onFailure":"ERROR"}],
            "migrationRules":[{"name":"up","mode":"UPGRADE","type":"JSONATA","expr":"$","disabled":true}]}"#;
        let metadata =
            r#"{"tags":{"b":["y","x"],"a":["PII"]},"properties":{"owner":"shop","k":"v"},"sensitive":["k"]}"#;
        let ruled = Content {
            metadata: Some(serde_json::from_str(metadata).expect("metadata")),
            rule_set: Some(serde_json::from_str(rules).expect("rules")),
            ..content("\"int\"")
        };
        assert_eq!(ruled.guid().to_string(), "24535f02-00ba-67e1-7be4-fcf11a4724d6");
    }

    #[test]
    fn everything_but_the_type_counts_in_a_guid() {
        let metadata = |text| Some(serde_json::from_str::<Metadata>(text).unwrap());
        let rules = |text| Some(serde_json::from_str::<RuleSet>(text).unwrap());
        let plain = content("1");
        let others = [
            content("2"),
            Content {
                references: vec![Reference { name: "a".into(), subject: "b".into(), version: 1 }],
                ..plain.clone()
            },
            Content {
                references: vec![Reference { name: "a".into(), subject: "b".into(), version: 2 }],
                ..plain.clone()
            },
            Content { metadata: metadata("{}"), ..plain.clone() },
            Content { metadata: metadata(r#"{"tags":{"a":["b"]}}"#), ..plain.clone() },
            Content { metadata: metadata(r#"{"properties":{"a":"c"}}"#), ..plain.clone() },
            Content { rule_set: rules(r#"{"domainRules":[{"name":"a"}]}"#), ..plain.clone() },
            Content { rule_set: rules(r#"{"domainRules":[{"name":"a","disabled":true}]}"#), ..plain.clone() },
        ];
        let guids: BTreeSet<_> = others.iter().chain([&plain]).map(Content::guid).collect();
        assert_eq!(guids.len(), others.len() + 1);
        assert_eq!(Content { kind: "JSON".into(), ..plain.clone() }.guid(), plain.guid());
    }

    #[test]
    fn a_noted_version_does_not_hide_a_schema() {
        let noted = |version: &str| {
            let properties = BTreeMap::from([(VERSION_PROPERTY.to_owned(), version.to_owned())]);
            Content { metadata: Some(Metadata { properties, ..Metadata::default() }), ..content("1") }
        };
        assert!(content("1").means(&noted("3")) && noted("3").means(&content("1")));
        assert!(noted("3").means(&noted("3")) && !noted("3").means(&noted("4")));
    }

    #[test]
    fn rules_are_checked() {
        let check = |text: &str| serde_json::from_str::<RuleSet>(text).map(|rules| rules.check()).unwrap();
        let rule = |name: &str, mode: &str| format!(r#"{{"name":"{name}","type":"CEL","mode":"{mode}"}}"#);
        let domain = |rules: &[String]| {
            check(&format!(r#"{{"domainRules":[{}],"migrationRules":null}}"#, rules.join(",")))
        };
        assert_eq!(domain(&[rule("a", "WRITE"), rule("b-1", "READ")]), Ok(()));
        for (rules, wrong) in [
            (vec![rule("a", "WRITE"), rule("a", "READ")], "duplicate"),
            (vec![rule("", "WRITE")], "Empty"),
            (vec![rule("1a", "WRITE")], "initial"),
            (vec![rule("a b", "WRITE")], "Illegal character"),
            (vec![rule("a", "UPGRADE")], "can only be"),
            (vec![r#"{"name":"a","mode":"READ"}"#.to_owned()], "type"),
        ] {
            let error = domain(&rules).expect_err("refused");
            assert!(error.contains(wrong), "{error}");
        }
    }
}
