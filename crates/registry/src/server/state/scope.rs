//! Which config and which mode hold for a subject: its own, that of its context, that of all contexts, or the default.

use super::State;
use crate::server::entity::{Metadata, RuleSet};
use crate::server::fault::Fault;
use crate::server::formats::{Level, level};
use crate::server::record::Config;
use crate::server::subject::Subject;

/// What may be done with subjects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) enum Mode {
    #[default]
    ReadWrite,
    ReadOnly,
    ReadOnlyOverride,
    /// Schemas are registered with ids and versions that they had elsewhere.
    Import,
    /// Another registry registers schemas.
    Forward,
}

impl Mode {
    const ALL: [(Self, &'static str); 5] = [
        (Self::ReadWrite, "READWRITE"),
        (Self::ReadOnly, "READONLY"),
        (Self::ReadOnlyOverride, "READONLY_OVERRIDE"),
        (Self::Import, "IMPORT"),
        (Self::Forward, "FORWARD"),
    ];

    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(mode, _)| mode)
    }

    pub(in crate::server) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| name)
    }

    pub(super) fn is_import_or_forward(self) -> bool {
        matches!(self, Self::Import | Self::Forward)
    }

    fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadOnlyOverride)
    }
}

const LEVEL_BY_DEFAULT: Level = Level::Backward;

impl Config {
    fn by_default() -> Self {
        Self { compatibility_level: Some(LEVEL_BY_DEFAULT.name().into()), ..Self::default() }
    }

    /// As it is shown: without the subject, and with a level.
    fn shown(&self) -> Self {
        let level = self.compatibility_level.clone().or_else(|| Self::by_default().compatibility_level);
        Self { subject: None, compatibility_level: level, unknown: serde_json::Map::new(), ..self.clone() }
    }

    pub(super) fn level(&self) -> Level {
        self.compatibility_level.as_deref().and_then(level).unwrap_or(LEVEL_BY_DEFAULT)
    }

    pub(super) fn normalizes(&self) -> bool {
        self.normalize == Some(true)
    }

    /// Whether it adds to schemas that are registered.
    pub(super) fn has_defaults(&self) -> bool {
        self.default_metadata.is_some()
            || self.override_metadata.is_some()
            || self.default_rule_set.is_some()
            || self.override_rule_set.is_some()
    }

    /// This config of a subject, with what only `all` says.
    fn over(self, all: &Self) -> Self {
        let (old, new) = (all, &self);
        Self {
            normalize: new.normalize.or(old.normalize),
            validate_fields: new.validate_fields.or(old.validate_fields),
            validate_new_schemas: new.validate_new_schemas.or(old.validate_new_schemas),
            validate_rules: new.validate_rules.or(old.validate_rules),
            compatibility_policy: new
                .compatibility_policy
                .clone()
                .or_else(|| old.compatibility_policy.clone()),
            compatibility_group: new.compatibility_group.clone().or_else(|| old.compatibility_group.clone()),
            default_metadata: Metadata::merged(old.default_metadata.as_ref(), new.default_metadata.as_ref()),
            override_metadata: Metadata::merged(
                old.override_metadata.as_ref(),
                new.override_metadata.as_ref(),
            ),
            default_rule_set: RuleSet::merged(old.default_rule_set.as_ref(), new.default_rule_set.as_ref()),
            override_rule_set: RuleSet::merged(
                old.override_rule_set.as_ref(),
                new.override_rule_set.as_ref(),
            ),
            ..self
        }
    }
}

/// The names under which settings for a subject may stand after its own.
fn scopes(subject: &Option<String>) -> [Option<String>; 2] {
    let context = subject.as_deref().map(|subject| Subject::parse(subject).prefix());
    [context.filter(|context| !context.is_empty()), Some(Subject::global_context())]
}

impl State {
    /// The config of a subject or context itself. For the default context and that of all contexts there always is one.
    pub(in crate::server) fn config(&self, subject: &Option<String>) -> Option<Config> {
        if let Some(config) = self.configs.get(subject) {
            return Some(config.shown());
        }
        let has_one = subject.as_deref().is_none_or(|subject| Subject::parse(subject).is_global_context());
        has_one.then(Config::by_default)
    }

    /// The config that holds for a subject.
    pub(in crate::server) fn config_in_scope(&self, subject: &Option<String>) -> Config {
        if let Some(own) = self.configs.get(subject) {
            let all = self.config(&None).unwrap_or_default();
            return if subject.is_some() { own.shown().over(&all) } else { own.shown() };
        }
        let found = scopes(subject).into_iter().find_map(|scope| self.configs.get(&scope));
        found.map_or_else(Config::by_default, Config::shown)
    }

    /// The mode of a subject or context itself.
    pub(in crate::server) fn mode(&self, subject: &Option<String>) -> Option<Mode> {
        if let Some(mode) = self.modes.get(subject) {
            return Some(*mode);
        }
        let has_one = subject.as_deref().is_none_or(|subject| Subject::parse(subject).is_global_context());
        has_one.then(Mode::default)
    }

    /// The mode that holds for a subject.
    pub(in crate::server) fn mode_in_scope(&self, subject: &Option<String>) -> Mode {
        let own = self.modes.get(subject);
        own.or_else(|| scopes(subject).iter().find_map(|scope| self.modes.get(scope)))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn check_may_write(&self, subject: &str) -> Result<(), Fault> {
        if self.mode_in_scope(&Some(subject.into())).is_read_only() {
            return Err(not_in(subject, "is in read-only mode"));
        }
        Ok(())
    }
}

/// The mode of a subject does not allow it.
pub(super) fn not_in(subject: &str, why: &str) -> Fault {
    let context = Subject::parse(subject).prefix();
    Fault::not_permitted(format!("Subject {subject} in context {context} {why}"))
}
