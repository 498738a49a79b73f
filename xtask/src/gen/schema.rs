//! Kafka's message schemas as they are written: JSON with `//` comments. No judgement, no naming.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::versions::Versions;

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

/// One schema file.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) api_key: Option<i16>,
    pub(crate) listeners: Vec<String>,
    pub(crate) valid: Versions,
    pub(crate) flexible: Versions,
    pub(crate) latest_unstable: bool,
    pub(crate) fields: Vec<Field>,
    pub(crate) common: Vec<Common>,
}

/// A struct that several fields of one message share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

/// A field as the schema has it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// The element's type for arrays.
    pub(crate) type_name: String,
    pub(crate) is_array: bool,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tagged: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) default: Option<String>,
    /// Overrides the message's flexible versions (RequestHeader's ClientId alone).
    pub(crate) flexible: Option<Versions>,
    /// Fields of a struct defined in place.
    pub(crate) fields: Option<Vec<Field>>,
}

/// Properties that say nothing about bytes.
const FIELD_PROPERTIES_IGNORED: [&str; 4] = ["about", "entityType", "mapKey", "zeroCopy"];

impl Schema {
    /// Parses one schema file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(&without_comments(text)).context("not JSON")?;
        let name = string(&json, "name")?;
        Self::from_json(&json).with_context(|| format!("schema {name}"))
    }

    fn from_json(json: &Value) -> Result<Self> {
        let kind = match string(json, "type")?.as_str() {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "header" => Kind::Header,
            "data" => Kind::Data,
            "coordinator-key" => Kind::CoordinatorKey,
            "coordinator-value" => Kind::CoordinatorValue,
            other => bail!("unknown type {other:?}"),
        };
        let listeners = json.get("listeners").and_then(Value::as_array);
        let common = json.get("commonStructs").and_then(Value::as_array);
        Ok(Self {
            name: string(json, "name")?,
            kind,
            api_key: json.get("apiKey").and_then(Value::as_i64).map(i16::try_from).transpose()?,
            listeners: listeners.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect(),
            valid: versions(json, "validVersions")?.unwrap_or(Versions::NONE),
            flexible: versions(json, "flexibleVersions")?.unwrap_or(Versions::NONE),
            latest_unstable: boolean(json, "latestVersionUnstable")?,
            fields: fields(json)?.unwrap_or_default(),
            common: common.into_iter().flatten().map(Common::from_json).collect::<Result<_>>()?,
        })
    }
}

impl Common {
    fn from_json(json: &Value) -> Result<Self> {
        Ok(Self {
            name: string(json, "name")?,
            versions: versions(json, "versions")?.context("a common struct has versions")?,
            fields: fields(json)?.context("a common struct has fields")?,
        })
    }
}

impl Field {
    fn from_json(json: &Value) -> Result<Self> {
        let type_name = string(json, "type")?;
        let element = type_name.strip_prefix("[]");
        let tagged = versions(json, "taggedVersions")?.unwrap_or(Versions::NONE);
        // A tagged field may leave its versions to `taggedVersions`.
        let versions_own = versions(json, "versions")?;
        let tag = json.get("tag").and_then(Value::as_u64).map(u32::try_from).transpose()?;
        if tag.is_some() == tagged.is_empty() {
            bail!("tag and taggedVersions come together");
        }
        Ok(Self {
            name: string(json, "name")?,
            is_array: element.is_some(),
            type_name: element.unwrap_or(&type_name).to_owned(),
            versions: versions_own.unwrap_or(tagged),
            nullable: versions(json, "nullableVersions")?.unwrap_or(Versions::NONE),
            tagged,
            tag,
            ignorable: boolean(json, "ignorable")?,
            default: default(json),
            flexible: versions(json, "flexibleVersions")?,
            fields: fields(json)?,
        })
    }
}

fn fields(json: &Value) -> Result<Option<Vec<Field>>> {
    let Some(list) = json.get("fields").and_then(Value::as_array) else { return Ok(None) };
    let field = |json: &Value| {
        check_properties(json)?;
        Field::from_json(json).with_context(|| format!("field {}", json["name"]))
    };
    list.iter().map(field).collect::<Result<_>>().map(Some)
}

/// A property this generator has never seen may change the bytes: refuse it rather than guess.
fn check_properties(json: &Value) -> Result<()> {
    const READ: [&str; 10] = [
        "name",
        "type",
        "versions",
        "nullableVersions",
        "taggedVersions",
        "tag",
        "ignorable",
        "default",
        "flexibleVersions",
        "fields",
    ];
    for property in json.as_object().context("a field is an object")?.keys() {
        if !READ.contains(&property.as_str()) && !FIELD_PROPERTIES_IGNORED.contains(&property.as_str()) {
            bail!("unknown property {property:?}");
        }
    }
    Ok(())
}

fn string(json: &Value, property: &str) -> Result<String> {
    let value = json.get(property).and_then(Value::as_str);
    Ok(value.with_context(|| format!("no {property:?}"))?.to_owned())
}

fn versions(json: &Value, property: &str) -> Result<Option<Versions>> {
    json.get(property).and_then(Value::as_str).map(Versions::parse).transpose()
}

/// Schemas write booleans both bare and quoted.
fn boolean(json: &Value, property: &str) -> Result<bool> {
    match json.get(property) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) => text.parse().context("not a boolean"),
        Some(other) => bail!("{property} is {other}"),
    }
}

/// The default as text, for schemas write numbers both bare and quoted.
///
/// Null is `"null"`. A bare `null` is no default at all to Kafka's generator, whatever its author meant:
/// StreamsGroupCurrentMemberAssignmentValue's AssignmentEpochs is empty by default, not null.
fn default(json: &Value) -> Option<String> {
    match json.get("default")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Blanks `//` comments, outside strings, to the end of their lines.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let mut end = line.len();
        for (at, character) in line.char_indices() {
            match character {
                '"' if previous != '\\' => in_string = !in_string,
                '/' if !in_string && previous == '/' => {
                    end = at - 1;
                    break;
                }
                _ => {}
            }
            previous = character;
        }
        out.push_str(&line[..end]);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_slashes_in_strings_stay() {
        let text = "// a\n{ \"name\": \"http://x\", // b\n  \"tag\": 1 }";
        let json: Value = serde_json::from_str(&without_comments(text)).unwrap();
        assert_eq!(json, serde_json::json!({ "name": "http://x", "tag": 1 }));
    }

    #[test]
    fn a_bare_null_is_no_default() {
        let check =
            |json: Value, expect: Option<&str>| assert_eq!(default(&json).as_deref(), expect, "{json}");
        check(serde_json::json!({ "default": null }), None);
        check(serde_json::json!({ "default": "null" }), Some("null"));
        check(serde_json::json!({ "default": -1 }), Some("-1"));
        check(serde_json::json!({}), None);
    }

    #[test]
    fn an_unknown_property_is_refused() {
        let text = r#"{ "name": "X", "type": "data", "validVersions": "0", "fields": [
            { "name": "A", "type": "int8", "versions": "0+", "compressed": true } ] }"#;
        assert!(format!("{:#}", Schema::parse(text).unwrap_err()).contains("compressed"));
    }
}
