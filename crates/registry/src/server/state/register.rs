//! Registering schemas, looking them up and checking them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::scope::not_in;
use super::{Change, Mode, State, Stored};
use crate::server::entity::{AVRO, Content, Metadata, Reference, RuleSet, VERSION_PROPERTY, or_default};
use crate::server::fault::Fault;
use crate::server::formats::{Formats, Source};
use crate::server::record::{Config, ContextValue, Key, Record, SchemaValue, TENANT};
use crate::server::subject::{Subject, within};

/// A schema as a client sends it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::server) struct RegisterRequest {
    /// None or 0: the next. -1: the next, noted in the metadata.
    pub(in crate::server) version: Option<i32>,
    /// Only in the mode IMPORT.
    pub(in crate::server) id: Option<i32>,
    pub(in crate::server) schema_type: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::server) references: Vec<Reference>,
    pub(in crate::server) metadata: Option<Metadata>,
    /// Misspelled rules would be records in clear text.
    #[serde(alias = "rule_set", alias = "ruleset")]
    pub(in crate::server) rule_set: Option<RuleSet>,
    /// None: the text of the version before.
    pub(in crate::server) schema: Option<String>,
}

impl RegisterRequest {
    fn content(&self) -> Content {
        Content {
            kind: self.schema_type.clone().unwrap_or_else(|| AVRO.into()),
            text: self.schema.clone().unwrap_or_default(),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            rule_set: self.rule_set.clone(),
        }
    }

    fn version(&self) -> i32 {
        self.version.unwrap_or(0)
    }

    fn id(&self) -> Option<i32> {
        self.id.filter(|id| *id >= 0)
    }
}

/// A schema may need at most this many others, also indirectly.
const NEEDED_MAX: usize = 1000;
/// A chain of schemas that need each other is at most this long.
const NEEDED_DEPTH_MAX: usize = 64;

impl State {
    /// Registers a schema under a subject, or finds that it is.
    ///
    /// # Errors
    /// When the schema is wrong or may not follow the versions before, or the mode does not allow it.
    pub(in crate::server) fn register(
        &self,
        formats: &dyn Formats,
        subject: &str,
        request: &RegisterRequest,
        normalize: bool,
        force: bool,
    ) -> Result<Change<Stored>, Fault> {
        let scope = Some(subject.to_owned());
        let (config, mode) = (self.config_in_scope(&scope), self.mode_in_scope(&scope));
        let normalize = normalize || config.normalizes();
        if let Some(found) = self.registered_already(formats, subject, request, normalize, &config)? {
            return Ok(Change::none(found.clone()));
        }
        self.check_mode(subject, request, mode)?;

        let next_version =
            self.versions(subject).next_back().map_or(Some(1), |last| last.value.version.checked_add(1));
        let next_version = next_version.ok_or_else(|| Fault::store("all versions are used"))?;
        let mut content = request.content();
        if !mode.is_import_or_forward() {
            self.fill_in(subject, &mut content, request.version(), Some(next_version), &config)?;
        }
        // Only an import says which id a schema has.
        let wanted_id = request.id().filter(|_| mode == Mode::Import);
        let source =
            self.canonicalize(formats, subject, &mut content, normalize && !mode.is_import_or_forward())?;
        self.check_targets(subject, &content)?;

        let context = Subject::parse(subject).context;
        let known_id = self.id_of(&context, &content).filter(|known| wanted_id.is_none_or(|id| id == *known));
        if request.version() == 0 {
            let of_same_id = known_id.and_then(|id| self.live(subject).rfind(|stored| stored.value.id == id));
            if let Some(found) = of_same_id {
                return Ok(Change::none(found.clone()));
            }
            let id = known_id.or(wanted_id);
            let found = self.find(formats, subject, &content, false);
            if let Some(found) = found.filter(|found| id.is_none_or(|id| id == found.value.id)) {
                return Ok(Change::none(found.clone()));
            }
        }
        if !mode.is_import_or_forward() && !force {
            let problems = self.problems(formats, subject, &source, &content, &config, self.live(subject));
            if !problems.is_empty() {
                return Err(Fault::incompatible(subject, &problems));
            }
        }
        let version = if request.version() <= 0 { next_version } else { request.version() };
        if version != next_version && !mode.is_import_or_forward() {
            return Err(Fault::invalid_schema("Version is not one more than previous version"));
        }
        let id = match known_id.or(wanted_id) {
            Some(id) => {
                self.check_same(&context, subject, id, &content)?;
                id
            }
            None => self.next_id(&context).ok_or_else(|| Fault::store("all ids are used"))?,
        };
        Ok(self.registration(subject, version, id, content))
    }

    /// The records that register a schema.
    fn registration(&self, subject: &str, version: i32, id: i32, content: Content) -> Change<Stored> {
        let mut records = Vec::new();
        let place = Subject::parse(subject);
        if !place.is_in_default_context() && !self.contexts.contains(&place.context) {
            let value = ContextValue { tenant: TENANT.into(), context: place.context.clone() };
            records.push(Record::new(&Key::context(&place.context), Some(&value)));
        }
        // The new version replaces deleted ones with the same schema.
        let replaced = self.versions(subject).filter(|old| {
            old.value.deleted && old.value.id == id && old.value.version < version
                // References name a version, so one that is referred to stays.
                && self.referring(subject, old.value.version, true).next().is_none()
        });
        records.extend(replaced.map(|old| Record::tombstone(&old.value.key())));
        let guid = content.guid();
        let value = SchemaValue {
            subject: subject.into(),
            version,
            id,
            md5: None,
            schema_type: content.kind,
            references: content.references,
            metadata: content.metadata,
            rule_set: content.rule_set,
            schema: content.text,
            deleted: false,
            unknown: serde_json::Map::new(),
        };
        records.push(Record::new(&value.key(), Some(&value)));
        Change { answer: Stored { value, guid, written_ms: None }, records }
    }

    /// The version that a request for registration means, if it is there already. It is answered in every mode.
    fn registered_already(
        &self,
        formats: &dyn Formats,
        subject: &str,
        request: &RegisterRequest,
        normalize: bool,
        config: &Config,
    ) -> Result<Option<&Stored>, Fault> {
        if config.has_defaults() || request.schema.as_deref().is_none_or(|text| text.trim().is_empty()) {
            return Ok(None);
        }
        let mut content = request.content();
        self.canonicalize(formats, subject, &mut content, normalize)?;
        let is_latest = request.version() == -1;
        let found = if is_latest {
            self.latest(subject).filter(|latest| self.is_meant(formats, &content, latest))
        } else {
            self.find(formats, subject, &content, false)
        };
        let Some(found) = found else { return Ok(None) };
        if request.version() == 0 || is_latest {
            let same_id = request.id().is_none_or(|id| id == found.value.id);
            return Ok(same_id.then_some(found));
        }
        let asked = self.version(subject, request.version(), false);
        let is_asked = |asked: &&Stored| {
            Some(asked.value.id) == request.id()
                && found.value.id == asked.value.id
                && asked.guid == found.guid
        };
        Ok(asked.filter(is_asked))
    }

    fn check_mode(&self, subject: &str, request: &RegisterRequest, mode: Mode) -> Result<(), Fault> {
        self.check_may_write(subject)?;
        match request.id() {
            Some(_) if !mode.is_import_or_forward() => Err(not_in(subject, "is not in import mode")),
            None if mode != Mode::ReadWrite => Err(not_in(subject, "is not in read-write mode")),
            _ => Ok(()),
        }
    }

    /// No schema refers to one that a topic alone owns.
    fn check_targets(&self, subject: &str, content: &Content) -> Result<(), Fault> {
        for reference in &content.references {
            if self.has_strong_association(&within(subject, &reference.subject)) {
                let message = format!(
                    "Subject '{}' has a strong association and cannot be referenced",
                    reference.subject
                );
                return Err(Fault::not_permitted(message));
            }
        }
        Ok(())
    }

    /// An id is not given to another schema.
    fn check_same(&self, context: &str, subject: &str, id: i32, content: &Content) -> Result<(), Fault> {
        match self.by_id_in(context, id) {
            Some(other) if other.value.content() != *content => {
                let context = Subject::parse(subject).prefix();
                let message =
                    format!("Overwrite new schema with id {id} in context {context} is not permitted.");
                Err(Fault::not_permitted(message))
            }
            _ => Ok(()),
        }
    }

    /// Completes a schema from the version before and from the config.
    fn fill_in(
        &self,
        subject: &str,
        content: &mut Content,
        asked_version: i32,
        next_version: Option<i32>,
        config: &Config,
    ) -> Result<(), Fault> {
        let previous = self.latest(subject).map(|stored| &stored.value);
        if content.text.trim().is_empty() {
            let previous = previous.ok_or_else(|| Fault::invalid_schema("Empty schema"))?;
            content.text.clone_from(&previous.schema);
            content.kind.clone_from(&previous.schema_type);
            content.references.clone_from(&previous.references);
        }
        let own =
            content.metadata.as_ref().or_else(|| previous.and_then(|previous| previous.metadata.as_ref()));
        let merged = Metadata::merged(config.default_metadata.as_ref(), own);
        let mut metadata = Metadata::merged(merged.as_ref(), config.override_metadata.as_ref());
        let own =
            content.rule_set.as_ref().or_else(|| previous.and_then(|previous| previous.rule_set.as_ref()));
        let merged = RuleSet::merged(config.default_rule_set.as_ref(), own);
        let rule_set = RuleSet::merged(merged.as_ref(), config.override_rule_set.as_ref());
        let has_version = metadata.as_ref().is_some_and(|metadata| metadata.version().is_some());
        if let Some(version) = next_version.filter(|_| asked_version != 0 || has_version) {
            let properties = &mut metadata.get_or_insert_default().properties;
            properties.insert(VERSION_PROPERTY.into(), version.to_string());
        }
        if metadata.is_some() || rule_set.is_some() {
            content.metadata = metadata;
            content.rule_set = rule_set;
        }
        Ok(())
    }

    /// Brings a schema into the form in which it is stored.
    fn canonicalize(
        &self,
        formats: &dyn Formats,
        subject: &str,
        content: &mut Content,
        normalize: bool,
    ) -> Result<Source, Fault> {
        if content.text.trim().is_empty() {
            return Err(Fault::invalid_schema("Empty schema"));
        }
        let wrong = |kind: &str, why: String| {
            Fault::invalid_schema(format!("Invalid schema of type {kind}, details: {why}"))
        };
        if !formats.kinds().contains(&content.kind.as_str()) {
            return Err(Fault::invalid_schema(format!("Invalid schema type {}", content.kind)));
        }
        for reference in &mut content.references {
            // What is the latest now may not be it tomorrow.
            if reference.version == -1
                && let Some(latest) = self.latest(&within(subject, &reference.subject))
            {
                reference.version = latest.value.version;
            }
        }
        let mut source = self.source(subject, content).map_err(|why| wrong(&content.kind, why))?;
        let parsed = formats.parse(&source).map_err(|why| wrong(&content.kind, why))?;
        content.text = if normalize { parsed.normalized } else { parsed.canonical };
        source.text.clone_from(&content.text);
        Ok(source)
    }

    /// A schema with those that it needs.
    ///
    /// # Errors
    /// When one of them is not there, or there are too many.
    pub(in crate::server) fn source(&self, subject: &str, content: &Content) -> Result<Source, String> {
        let mut needed = Needed { state: self, names: BTreeSet::new(), found: Vec::new() };
        needed.add(subject, &content.references, 0)?;
        Ok(Source { kind: content.kind.clone(), text: content.text.clone(), needed: needed.found })
    }

    /// The newest version of a subject that has this content.
    fn find(
        &self,
        formats: &dyn Formats,
        subject: &str,
        content: &Content,
        deleted: bool,
    ) -> Option<&Stored> {
        self.versions(subject)
            .rfind(|stored| (deleted || !stored.value.deleted) && self.is_meant(formats, content, stored))
    }

    fn is_meant(&self, formats: &dyn Formats, content: &Content, stored: &Stored) -> bool {
        let mut other = stored.value.content();
        if content.means(&other) {
            return true;
        }
        if content.kind != other.kind || content.text == other.text {
            return false;
        }
        // Another registry, or an import, may have stored another spelling.
        let is_read = self.canonicalize(formats, &stored.value.subject, &mut other, false).is_ok();
        is_read && content.means(&other)
    }

    /// The version of a subject that has this schema.
    ///
    /// # Errors
    /// When the schema is wrong.
    pub(in crate::server) fn look_up(
        &self,
        formats: &dyn Formats,
        subject: &str,
        request: &RegisterRequest,
        normalize: bool,
        deleted: bool,
    ) -> Result<Option<&Stored>, Fault> {
        let config = self.config_in_scope(&Some(subject.into()));
        let normalize = normalize || config.normalizes();
        let mut content = request.content();
        self.canonicalize(formats, subject, &mut content, normalize)?;
        if let Some(found) = self.find(formats, subject, &content, deleted) {
            return Ok(Some(found));
        }
        // Registration would have completed it, so it is looked up completed, too.
        let mut filled = content.clone();
        self.fill_in(subject, &mut filled, 0, None, &config)?;
        if filled == content {
            return Ok(None);
        }
        Ok(self.find(formats, subject, &filled, deleted))
    }

    /// Why a schema may not follow versions of a subject; empty if it may. `against` None means all versions.
    ///
    /// # Errors
    /// When the schema is wrong.
    pub(in crate::server) fn check_compatibility(
        &self,
        formats: &dyn Formats,
        subject: &str,
        request: &RegisterRequest,
        normalize: bool,
        against: Option<&Stored>,
    ) -> Result<Vec<String>, Fault> {
        let config = self.config_in_scope(&Some(subject.into()));
        let mut content = request.content();
        let source = self.canonicalize(formats, subject, &mut content, normalize || config.normalizes())?;
        Ok(match against {
            Some(one) => self.problems(formats, subject, &source, &content, &config, [one].into_iter()),
            None => self.problems(formats, subject, &source, &content, &config, self.live(subject)),
        })
    }

    /// `older` are in order, oldest first.
    fn problems<'a>(
        &self,
        formats: &dyn Formats,
        subject: &str,
        source: &Source,
        content: &Content,
        config: &Config,
        older: impl Iterator<Item = &'a Stored>,
    ) -> Vec<String> {
        let group_of = |metadata: &Option<Metadata>, name: &String| {
            metadata.as_ref().and_then(|metadata| metadata.properties.get(name).cloned())
        };
        let older = older.filter(|stored| {
            // Versions of different groups need not be compatible.
            config.compatibility_group.as_ref().is_none_or(|name| {
                group_of(&stored.value.metadata, name) == group_of(&content.metadata, name)
            })
        });
        // One whose references are gone cannot be compared.
        let older: Vec<_> = older.filter_map(|old| self.source(subject, &old.value.content()).ok()).collect();
        let mut problems = formats.incompatibilities(config.level(), source, &older);
        if !problems.is_empty() {
            let validates = config.validate_fields == Some(true);
            let level = config.level().name();
            problems.push(format!("{{validateFields: '{validates}', compatibility: '{level}'}}"));
        }
        problems
    }
}

/// Collects the schemas that a schema needs.
struct Needed<'a> {
    state: &'a State,
    names: BTreeSet<String>,
    found: Vec<(String, String)>,
}

impl Needed<'_> {
    fn add(&mut self, parent: &str, references: &[Reference], depth: usize) -> Result<(), String> {
        if depth > NEEDED_DEPTH_MAX {
            return Err(format!("schemas refer to each other more than {NEEDED_DEPTH_MAX} deep"));
        }
        for reference in references {
            if !self.names.insert(reference.name.clone()) {
                continue;
            }
            if self.names.len() > NEEDED_MAX {
                return Err(format!("it needs more than {NEEDED_MAX} other schemas"));
            }
            let subject = within(parent, &reference.subject);
            let Some(stored) = self.state.version(&subject, reference.version, true) else {
                return Err(format!(
                    "No schema reference found for subject \"{subject}\" and version {}",
                    reference.version
                ));
            };
            self.add(&subject, &stored.value.references, depth + 1)?;
            self.found.push((reference.name.clone(), stored.value.schema.clone()));
        }
        Ok(())
    }
}
