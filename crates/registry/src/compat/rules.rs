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
        if !matches!(set, Value::Object(_) | Value::Null) {
            return Err(invalid("it is no object"));
        }
        let mut rules = Rules::default();
        for list in ["migrationRules", "domainRules", "encodingRules"] {
            let found = match set.get(list) {
                None | Some(Value::Null) => continue,
                Some(found) => found.as_array().ok_or_else(|| invalid(&format!("{list} is no list")))?,
            };
            for rule in found {
                rules
                    .add(list == "migrationRules", rule)
                    .map_err(|error| invalid(&format!("{list}: {error}")))?;
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
        let into = if ENCRYPTION.contains(&text("type")) {
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

const ENCRYPTION: [&str; 2] = ["ENCRYPT", "ENCRYPT_PAYLOAD"];

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
    }

    #[test]
    fn what_is_no_rule_set_is_refused() {
        for text in ["", "[]", "1", r#"{"domainRules": 1}"#, r#"{"domainRules": [1]}"#] {
            Rules::parse(text).expect_err(text);
        }
        for text in ["{}", "null", r#"{"domainRules": null}"#] {
            assert_eq!(Rules::parse(text).expect(text), Rules::default());
        }
    }
}
