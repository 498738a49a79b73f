//! The rules that a registry keeps with a schema: which of them a client has to obey before it reads or writes.

use super::SchemaError;
use super::value::Value;

/// What the `ruleSet` of a schema asks of clients, as far as a client that runs no rules has to know it.
///
/// ```
/// use milena_registry::compat::Rules;
///
/// let rules = Rules::parse(
///     r#"{"domainRules": [{"name": "card", "kind": "TRANSFORM", "mode": "WRITEREAD", "type": "ENCRYPT", "tags": ["PII"]}]}"#,
/// )?;
/// // Records of this schema must not be written in clear.
/// assert_eq!(rules.encryption(), ["card"]);
/// assert!(rules.migrations().is_empty());
/// # Ok::<(), milena_registry::compat::SchemaError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    migrations: Vec<String>,
    encryption: Vec<String>,
    others: Vec<String>,
}

impl Rules {
    /// Reads the JSON of a `ruleSet`.
    ///
    /// # Errors
    /// When it is no JSON, or no object of lists of rules.
    pub fn parse(rule_set: &str) -> Result<Rules, SchemaError> {
        let invalid = |error: &str| SchemaError::new(format!("invalid ruleSet: {error}"));
        if rule_set.len() > super::SCHEMA_BYTES_MAX {
            return Err(invalid(&format!(
                "{} bytes, and {} are allowed",
                rule_set.len(),
                super::SCHEMA_BYTES_MAX
            )));
        }
        let set = Value::parse(rule_set).map_err(|error| invalid(&error))?;
        let lists = match &set {
            Value::Null => &[][..],
            set => set.as_object().ok_or_else(|| invalid("it is no object"))?,
        };
        let mut rules = Rules::default();
        for (name, found) in lists {
            let is_list = ["migrationRules", "domainRules", "encodingRules"].contains(&name.as_str());
            let found = match found {
                Value::Null => continue,
                found => match found.as_array() {
                    Some(found) => found,
                    None if is_list => return Err(invalid(&format!("{name} is no list"))),
                    None if found.as_object().is_some() => {
                        return Err(invalid(&format!("{name} is not known")));
                    }
                    // Such as `enableAt`.
                    None => continue,
                },
            };
            // A list that is not known has rules, too, as far as anybody can tell.
            for rule in found {
                rules
                    .add(name == "migrationRules", rule)
                    .map_err(|error| invalid(&format!("{name}: {error}")))?;
            }
        }
        Ok(rules)
    }

    fn add(&mut self, migration: bool, rule: &Value) -> Result<(), String> {
        if rule.as_object().is_none() {
            return Err("a rule is no object".to_owned());
        }
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").to_owned();
        // Encryption counts in every list, so that a rule in an unexpected one does not lead to clear text.
        let kind = text("type").trim().to_ascii_uppercase();
        let into = if kind.starts_with(ENCRYPTION) {
            &mut self.encryption
        } else if migration {
            &mut self.migrations
        } else {
            &mut self.others
        };
        if rule.get("disabled") != Some(&Value::Bool(true)) {
            into.push(name);
        }
        Ok(())
    }

    /// Names of the rules that turn records of one version into those of another. With such rules, versions may be
    /// incompatible on purpose, and a reader that does not run them cannot read the records of other versions.
    #[must_use]
    pub fn migrations(&self) -> &[String] {
        &self.migrations
    }

    /// Names of the rules that encrypt fields or whole records (`ENCRYPT`, `ENCRYPT_PAYLOAD`). A writer that does not run
    /// them must not write.
    #[must_use]
    pub fn encryption(&self) -> &[String] {
        &self.encryption
    }

    /// Names of all other rules that are in force: conditions and transformations.
    #[must_use]
    pub fn others(&self) -> &[String] {
        &self.others
    }
}

/// `ENCRYPT` and `ENCRYPT_PAYLOAD`, and what may be called so later.
const ENCRYPTION: &str = "ENCRYPT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_apart_by_list_and_type() {
        let rules = Rules::parse(
            r#"{
                "migrationRules": [
                    {"name": "up", "kind": "TRANSFORM", "mode": "UPGRADE", "type": "JSONATA"},
                    {"name": "off", "kind": "TRANSFORM", "mode": "DOWNGRADE", "type": "JSONATA", "disabled": true}
                ],
                "domainRules": [
                    {"name": "check", "kind": "CONDITION", "mode": "WRITE", "type": "CEL"},
                    {"name": "fields", "kind": "TRANSFORM", "mode": "WRITEREAD", "type": "ENCRYPT"}
                ],
                "encodingRules": [{"name": "whole", "kind": "TRANSFORM", "mode": "WRITEREAD", "type": "ENCRYPT_PAYLOAD"}]
            }"#,
        )
        .expect("a ruleSet");
        assert_eq!(rules.migrations(), ["up"]);
        assert_eq!(rules.encryption(), ["fields", "whole"]);
        assert_eq!(rules.others(), ["check"]);
    }

    #[test]
    fn encryption_is_seen_in_every_list_and_without_a_name() {
        let rules = Rules::parse(r#"{"migrationRules": [{"type": "ENCRYPT"}]}"#).expect("a ruleSet");
        assert_eq!(rules.encryption(), [""]);
        // Other spellings, and lists of a later version.
        for text in [
            r#"{"domainRules": [{"name": "r", "type": "encrypt"}]}"#,
            r#"{"encodingRules": [{"name": "r", "type": "ENCRYPT_HEADERS", "disabled": "true"}]}"#,
            r#"{"domain_rules": [{"name": "r", "type": "ENCRYPT"}], "enableAt": "2026-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(Rules::parse(text).expect(text).encryption(), ["r"], "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_set_is_refused() {
        for text in
            ["", "[]", "1", r#"{"domainRules": 1}"#, r#"{"domainRules": [1]}"#, r#"{"rules": {"a": {}}}"#]
        {
            Rules::parse(text).expect_err(text);
        }
        for text in ["{}", "null", r#"{"domainRules": null}"#] {
            assert_eq!(Rules::parse(text).expect(text), Rules::default());
        }
    }
}
