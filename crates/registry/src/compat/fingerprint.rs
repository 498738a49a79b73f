//! What a schema is called whatever registry has it: its GUID, as Confluent's registry makes it.

use md5::{Digest as _, Md5};

use super::value::{Object, Value, utf16};
use super::{SCHEMA_BYTES_MAX, SchemaError};
use crate::framing::Guid;

/// All that makes a schema itself, for its fingerprint.
///
/// ```
/// use milena_registry::compat::Identity;
///
/// let guid = Identity::new("\"int\"").guid()?;
/// assert_eq!(guid.to_string(), "ef524ea1-b91e-7317-3d93-8ade36c1db32");
/// let guid = Identity::new("\"int\"").reference("shop.A", "a-value", 3).guid()?;
/// assert_eq!(guid.to_string(), "1c48cbc4-5072-2002-cc63-70938b3e5c25");
/// # Ok::<(), milena_registry::compat::SchemaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Identity<'a> {
    text: &'a str,
    references: Vec<(&'a str, &'a str, i32)>,
    metadata: Option<&'a str>,
    rule_set: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// The identity of a text: [`Schema::canonical`](super::Schema::canonical), or
    /// [`Schema::normalized`](super::Schema::normalized) where the registry normalizes.
    #[must_use]
    pub fn new(text: &'a str) -> Identity<'a> {
        Identity { text, references: Vec::new(), metadata: None, rule_set: None }
    }

    /// Adds a reference, in the order in which they are registered.
    #[must_use]
    pub fn reference(mut self, name: &'a str, subject: &'a str, version: i32) -> Identity<'a> {
        self.references.push((name, subject, version));
        self
    }

    /// Sets the JSON of the schema's `metadata`.
    #[must_use]
    pub fn metadata(mut self, json: &'a str) -> Identity<'a> {
        self.metadata = Some(json);
        self
    }

    /// Sets the JSON of the schema's `ruleSet`.
    #[must_use]
    pub fn rule_set(mut self, json: &'a str) -> Identity<'a> {
        self.rule_set = Some(json);
        self
    }

    /// The GUID that Confluent's registry gives this schema. MD5 is what it takes; nothing may rest on it being hard to forge.
    ///
    /// # Errors
    /// When the metadata or the rules are no JSON objects, or have more than [`SCHEMA_BYTES_MAX`] bytes.
    pub fn guid(&self) -> Result<Guid, SchemaError> {
        let metadata = object("metadata", self.metadata)?;
        Ok(self.hashed(metadata.as_ref(), object("ruleSet", self.rule_set)?.as_ref()))
    }

    /// As [`guid`](Self::guid), for metadata and rules that were written from what they were read into: they are objects, and as long
    /// as they are.
    #[cfg(feature = "server")]
    pub(crate) fn guid_of_own(&self) -> Guid {
        let object = |json: Option<&str>| json.and_then(|json| Value::parse(json).ok());
        self.hashed(object(self.metadata).as_ref(), object(self.rule_set).as_ref())
    }

    fn hashed(&self, metadata: Option<&Value>, rules: Option<&Value>) -> Guid {
        let mut hash = Md5::new();
        hash.update(self.text);
        for (name, subject, version) in &self.references {
            hash.update(name);
            hash.update(subject);
            hash.update(version.to_be_bytes());
        }
        if let Some(metadata) = metadata {
            hash.update([1]);
            for (tag, names) in sorted(metadata, "tags") {
                hash.update(&tag);
                strings(&names).iter().for_each(|name| hash.update(name));
            }
            for (name, value) in sorted(metadata, "properties") {
                hash.update(&name);
                hash.update(value.as_str().unwrap_or_default());
            }
            let sensitive = metadata.get("sensitive").map(strings).unwrap_or_default();
            sensitive.iter().for_each(|name| hash.update(name));
        }
        if let Some(rules) = rules {
            hash.update([1]);
            for list in ["migrationRules", "domainRules", "encodingRules"] {
                for found in rules.get(list).and_then(Value::as_array).into_iter().flatten() {
                    rule(&mut hash, found);
                }
            }
            hash.update(rules.get("enableAt").and_then(Value::as_str).unwrap_or_default());
        }
        Guid::from_bytes(hash.finalize().into())
    }
}

fn rule(hash: &mut Md5, rule: &Value) {
    let text = |name: &str| rule.get(name).and_then(Value::as_str);
    hash.update(text("name").unwrap_or_default());
    hash.update(text("doc").unwrap_or_default());
    hash.update(text("kind").unwrap_or("TRANSFORM"));
    hash.update(text("mode").unwrap_or("WRITEREAD"));
    hash.update(text("type").unwrap_or_default());
    rule.get("tags").map(strings).unwrap_or_default().iter().for_each(|tag| hash.update(tag));
    for (name, value) in sorted(rule, "params") {
        hash.update(&name);
        hash.update(value.as_str().unwrap_or_default());
    }
    for name in ["expr", "onSuccess", "onFailure"] {
        hash.update(text(name).unwrap_or_default());
    }
    if rule.get("disabled") == Some(&Value::Bool(true)) {
        hash.update([1]);
    }
}

fn object(what: &str, json: Option<&str>) -> Result<Option<Value>, SchemaError> {
    let Some(json) = json else { return Ok(None) };
    let invalid = |error: &str| SchemaError::new(format!("invalid {what}: {error}"));
    if json.len() > SCHEMA_BYTES_MAX {
        return Err(invalid(&format!("{} bytes, and {SCHEMA_BYTES_MAX} are allowed", json.len())));
    }
    match Value::parse(json).map_err(|error| invalid(&error))? {
        Value::Null => Ok(None),
        found @ Value::Object(_) => Ok(Some(found)),
        _ => Err(invalid("it is no object")),
    }
}

/// The members of an object inside another one, by name.
fn sorted(value: &Value, name: &str) -> Object {
    let mut members = value.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    members.sort_by(|a, b| utf16(&a.0).cmp(utf16(&b.0)));
    members
}

/// A set of strings, in order.
fn strings(list: &Value) -> Vec<String> {
    let mut found: Vec<String> =
        list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    found.sort_by(|a, b| utf16(a).cmp(utf16(b)));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_confluents() {
        let metadata =
            r#"{"tags":{"b":["y","x"],"a":["PII"]},"properties":{"owner":"shop","k":"v"},"sensitive":["k"]}"#;
        let rules = r#"{"domainRules":[{"name":"card","kind":"TRANSFORM","type":"ENCRYPT","tags":["PII","A"],
            "params":{"z":"1","k":"2"},"onFailure":"ERROR"}],
            "migrationRules":[{"name":"up","mode":"UPGRADE","type":"JSONATA","expr":"$","disabled":true}]}"#;
        let plain = Identity::new("\"int\"");
        let ruled = Identity::new("\"int\"").metadata(metadata).rule_set(rules);
        let object = Identity::new(r#"{"type":"string"}"#);
        for (identity, alone, referring) in [
            (plain, "ef524ea1-b91e-7317-3d93-8ade36c1db32", "1c48cbc4-5072-2002-cc63-70938b3e5c25"),
            (object, "2809284b-6e54-d0d3-4017-715ffe5636bd", "d65d0c21-aed6-9231-137e-90648f0fd20b"),
            (ruled, "24535f02-00ba-67e1-7be4-fcf11a4724d6", "a22cbaf1-e1e9-11d0-df30-e9c29ee60148"),
        ] {
            assert_eq!(identity.guid().expect("a GUID").to_string(), alone);
            let identity = identity.reference("shop.A", "a-value", 3);
            assert_eq!(identity.guid().expect("a GUID").to_string(), referring);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let error = Identity::new("\"int\"").metadata("[]").guid().expect_err("a list");
        assert_eq!(error.to_string(), "invalid metadata: it is no object");
        assert_eq!(Identity::new("x").rule_set("null").guid(), Identity::new("x").guid());
    }
}
