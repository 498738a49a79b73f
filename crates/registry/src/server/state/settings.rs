//! Changes of configs and modes.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::delete::key_text;
use super::scope::not_in;
use super::{Change, Mode, State};
use crate::server::entity::RuleSet;
use crate::server::fault::Fault;
use crate::server::formats::level;
use crate::server::record::{ClearSubjectValue, Config, Key, ModeValue, Record};
use crate::server::subject::Subject;

/// A field as a request changes it: one that is absent stays, one that is null goes.
fn changed<T: DeserializeOwned>(
    request: &Map<String, Value>,
    name: &str,
    old: Option<T>,
) -> Result<Option<T>, Fault> {
    match request.get(name) {
        None => Ok(old),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| Fault::unprocessable(&format!("The field {name} cannot be read: {error}"))),
    }
}

impl State {
    /// Changes the config of a subject, of a context or, for None, of the default context. The answer is the new config.
    ///
    /// # Errors
    /// When a value is wrong, or the mode does not allow it.
    pub(in crate::server) fn set_config(
        &self,
        subject: &Option<String>,
        request: &Map<String, Value>,
    ) -> Result<Change<Config>, Fault> {
        let old = self.configs.get(subject).cloned().unwrap_or_default();
        let level = match request.get("compatibility") {
            None => old.compatibility_level,
            Some(Value::Null) => None,
            Some(value) => {
                let level = value.as_str().and_then(level).ok_or_else(Fault::invalid_level)?;
                Some(level.name().into())
            }
        };
        let config = Config {
            subject: subject.clone(),
            alias: changed(request, "alias", old.alias)?,
            alias_for_deks: changed(request, "aliasForDeks", old.alias_for_deks)?,
            normalize: changed(request, "normalize", old.normalize)?,
            validate_fields: changed(request, "validateFields", old.validate_fields)?,
            validate_new_schemas: changed(request, "validateNewSchemas", old.validate_new_schemas)?,
            validate_rules: changed(request, "validateRules", old.validate_rules)?,
            compatibility_level: level,
            compatibility_policy: changed(request, "compatibilityPolicy", old.compatibility_policy)?,
            compatibility_group: changed(request, "compatibilityGroup", old.compatibility_group)?,
            default_metadata: changed(request, "defaultMetadata", old.default_metadata)?,
            override_metadata: changed(request, "overrideMetadata", old.override_metadata)?,
            default_rule_set: changed(request, "defaultRuleSet", old.default_rule_set)?,
            override_rule_set: changed(request, "overrideRuleSet", old.override_rule_set)?,
            unknown: old.unknown,
        };
        for rules in [&config.default_rule_set, &config.override_rule_set].into_iter().flatten() {
            RuleSet::check(rules).map_err(Fault::invalid_rules)?;
        }
        self.check_settings(subject)?;
        let records = vec![Record::new(&Key::config(subject), Some(&config))];
        Ok(Change { answer: Config { subject: None, unknown: Map::new(), ..config }, records })
    }

    /// Takes back a config. The answer is what it was.
    ///
    /// # Errors
    /// When there is none, or the mode does not allow it.
    pub(in crate::server) fn delete_config(&self, subject: &Option<String>) -> Result<Change<Config>, Fault> {
        let Some(old) = self.config(subject) else {
            return Err(Fault::subject_not_found(subject.as_deref().unwrap_or_default()));
        };
        self.check_settings(subject)?;
        let is_set = self.configs.contains_key(subject);
        let records = is_set.then(|| Record::tombstone(&Key::config(subject)));
        Ok(Change { answer: old, records: records.into_iter().collect() })
    }

    fn check_settings(&self, subject: &Option<String>) -> Result<(), Fault> {
        match self.mode_in_scope(subject) {
            Mode::ReadOnly | Mode::ReadOnlyOverride => {
                Err(not_in(subject.as_deref().unwrap_or_default(), "is in read-only mode"))
            }
            _ => Ok(()),
        }
    }

    /// Sets the mode of a subject, of a context or, for None, of the default context. `mode` None takes it back.
    ///
    /// # Errors
    /// When there are schemas in what should be imported, unless `force`.
    pub(in crate::server) fn set_mode(
        &self,
        subject: &Option<String>,
        mode: Option<Mode>,
        force: bool,
    ) -> Result<Change<()>, Fault> {
        let scope = subject.as_deref().map(Subject::parse);
        if mode == Some(Mode::Forward) && !scope.as_ref().is_some_and(Subject::is_global_context) {
            return Err(Fault::forward_is_global());
        }
        let mut records = Vec::new();
        let starts_import = mode == Some(Mode::Import) && self.mode_in_scope(subject) != Mode::Import;
        if starts_import && !force {
            if self.has_subjects(subject.as_deref(), false) {
                return Err(Fault::not_permitted("Cannot import since found existing subjects"));
            }
            // An import starts from nothing, so what is only hidden goes for good.
            records.push(self.note_of_ids());
            let is_in = |name: &str| scope.as_ref().is_none_or(|scope| scope.covers(name));
            for stored in self.all().filter(|stored| is_in(&stored.value.subject)) {
                let (subject, version) = (&stored.value.subject, stored.value.version);
                if self.referring(subject, version, true).next().is_some() {
                    return Err(Fault::reference_exists(&key_text(subject, version)));
                }
                records.push(Record::tombstone(&stored.value.key()));
            }
            let key = Key::ClearSubject { subject: subject.clone(), magic: 0 };
            records.push(Record::new(&key, Some(&ClearSubjectValue { subject: subject.clone() })));
        }
        let value = mode.map(|mode| ModeValue { subject: subject.clone(), mode: mode.name().into() });
        records.push(Record::new(&Key::mode(subject), value.as_ref()));
        Ok(Change { answer: (), records })
    }

    /// Takes back a mode, and with `recursive` those of all subjects of the context. The answer is what it was.
    ///
    /// # Errors
    /// When there is none.
    pub(in crate::server) fn delete_mode(
        &self,
        subject: &Option<String>,
        recursive: bool,
    ) -> Result<Change<Option<Mode>>, Fault> {
        let old = self.mode(subject);
        if old.is_none() && !recursive {
            return Err(Fault::subject_not_found(subject.as_deref().unwrap_or_default()));
        }
        let scope = Subject::parse(subject.as_deref().unwrap_or_default());
        let is_gone = |name: &Option<String>| {
            let is_below = || scope.name.is_empty() && name.as_deref().is_some_and(|name| scope.covers(name));
            name == subject || (recursive && is_below())
        };
        let gone = self.modes.keys().filter(|name| is_gone(name));
        let records = gone.map(|name| Record::tombstone(&Key::mode(name))).collect();
        Ok(Change { answer: old, records })
    }
}
