//! The state of a registry, and what it answers. It does no I/O and has no clock.
//!
//! ```text
//! request ─▶ a question: &State ─▶ answer
//!         ─▶ a change:   &State ─▶ answer + records ─▶ topic ─▶ apply ─▶ State
//!                                             topic at the start ─▶ apply ─┘
//! ```
//!
//! A change writes records and does not touch the state. `apply` is the only way in, at a start and later, so a registry that reads
//! its topic again has the state that it had.

mod associations;
mod delete;
#[cfg(test)]
mod property;
mod query;
mod register;
mod scope;
mod settings;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::entity::Content;
use super::record::{
    AssociationKey, AssociationValue, ClearSubjectValue, Config, ContextValue, DeleteSubjectValue, Key,
    ModeValue, NoopValue, Record, SchemaValue,
};
use super::subject::{DEFAULT_CONTEXT, Subject};
use crate::framing::Guid;

pub(super) use self::associations::{AssociationRequest, Filter as AssociationFilter, TOPIC};
pub(super) use self::query::{Deleted, Page};
pub(super) use self::register::RegisterRequest;
pub(super) use self::scope::Mode;

/// A version of a subject's schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) value: SchemaValue,
    pub(super) guid: Guid,
    /// When its record was written, in milliseconds since 1970, by the record's timestamp. None if the record has none.
    pub(super) written_ms: Option<i64>,
}

/// An association, with the times of its first and its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Association {
    pub(super) value: AssociationValue,
    pub(super) created_ms: Option<i64>,
    pub(super) updated_ms: Option<i64>,
}

/// The ids of a context.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ids {
    /// The greatest that was ever given.
    greatest: i32,
    /// Where the schema with an id is registered.
    places: BTreeMap<i32, BTreeSet<(String, i32)>>,
    /// More than one id if schemas were imported twice, or if schemas of different types have the same text.
    by_guid: BTreeMap<Guid, BTreeSet<i32>>,
}

/// The state of a registry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Versions by the subject's name with its context.
    subjects: BTreeMap<String, BTreeMap<i32, Stored>>,
    /// All contexts but the default one.
    contexts: BTreeSet<String>,
    ids: BTreeMap<String, Ids>,
    /// None is the default context.
    configs: BTreeMap<Option<String>, Config>,
    modes: BTreeMap<Option<String>, Mode>,
    associations: BTreeMap<AssociationKey, Association>,
}

/// An answer, and the records that make it true.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change<T> {
    pub(super) answer: T,
    pub(super) records: Vec<Record>,
}

impl<T> Change<T> {
    fn none(answer: T) -> Self {
        Self { answer, records: Vec::new() }
    }
}

impl State {
    /// Takes what a record of the topic says.
    ///
    /// # Errors
    /// Why the record says nothing to us. Such a record is left alone: another registry may know what to do with it.
    pub(super) fn apply(&mut self, record: &Record, timestamp_ms: Option<i64>) -> Result<(), String> {
        let key: Key = read("key", &record.key)?;
        let value = record.value.as_deref();
        match key {
            Key::Schema { subject, version, .. } => match value {
                Some(value) => self.put_schema(&subject, version, read("value", value)?, timestamp_ms)?,
                None => self.drop_schema(&subject, version),
            },
            Key::Config { subject, .. } => match value {
                Some(value) => {
                    let config = read("value", value)?;
                    self.configs.insert(subject, config);
                }
                None => {
                    self.configs.remove(&subject);
                }
            },
            Key::Mode { subject, .. } => match value {
                Some(value) => {
                    let ModeValue { mode, .. } = read("value", value)?;
                    let mode = Mode::parse(&mode).ok_or_else(|| format!("{mode} is no mode"))?;
                    self.modes.insert(subject, mode);
                }
                None => {
                    self.modes.remove(&subject);
                }
            },
            Key::DeleteSubject { .. } => {
                if let Some(value) = value {
                    let DeleteSubjectValue { subject, version } = read("value", value)?;
                    let versions = self.subjects.get_mut(&subject).into_iter();
                    let versions = versions.flat_map(|versions| versions.range_mut(..=version));
                    versions.for_each(|(_, stored)| stored.value.deleted = true);
                }
            }
            Key::ClearSubject { .. } => {
                if let Some(value) = value {
                    let ClearSubjectValue { subject } = read("value", value)?;
                    self.clear(subject.as_deref());
                }
            }
            Key::Context { context, .. } => match value {
                Some(value) => {
                    let ContextValue { context, .. } = read("value", value)?;
                    if context != DEFAULT_CONTEXT {
                        self.contexts.insert(context);
                    }
                }
                None => {
                    self.contexts.remove(&context);
                }
            },
            Key::Association(key) => match value {
                Some(value) => {
                    let value: AssociationValue = read("value", value)?;
                    let created = self.associations.get(&key).and_then(|old| old.created_ms).or(timestamp_ms);
                    let association = Association { value, created_ms: created, updated_ms: timestamp_ms };
                    self.associations.insert(key, association);
                }
                None => {
                    self.associations.remove(&key);
                }
            },
            Key::Noop { .. } => {
                // Whatever else stands in the value of a NOOP is not for us.
                let noop = value.and_then(|value| serde_json::from_slice::<NoopValue>(value).ok());
                for (context, id) in noop.unwrap_or_default().max_ids {
                    let ids = self.ids.entry(context).or_default();
                    ids.greatest = ids.greatest.max(id);
                }
            }
        }
        Ok(())
    }

    fn put_schema(
        &mut self,
        subject: &str,
        version: i32,
        mut value: SchemaValue,
        written_ms: Option<i64>,
    ) -> Result<(), String> {
        let content = value.content();
        let guid = match &value.md5 {
            Some(hash) => {
                let bytes = STANDARD.decode(hash).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                Guid::from_bytes(bytes.ok_or("its md5 is no 16 bytes in base64")?)
            }
            None => content.guid(),
        };
        let context = Subject::parse(subject).context;
        // A registry that was not alone may have given an id twice. Whoever decoded records by the first schema must go on to.
        if let Some(first) = self.by_id_in(&context, value.id)
            && first.value.schema != value.schema
            && (first.value.subject != subject || first.value.version != version)
        {
            return Err(format!("its id {} is that of another schema", value.id));
        }
        if version < 1 || value.id < 0 {
            return Err("its version or its id is negative".into());
        }
        self.drop_schema(subject, version);
        // The key says where it is.
        value.subject = subject.into();
        value.version = version;
        let ids = self.ids.entry(context.clone()).or_default();
        ids.greatest = ids.greatest.max(value.id);
        ids.places.entry(value.id).or_default().insert((subject.into(), version));
        ids.by_guid.entry(guid).or_default().insert(value.id);
        if context != DEFAULT_CONTEXT {
            self.contexts.insert(context);
        }
        let versions = self.subjects.entry(subject.into()).or_default();
        versions.insert(version, Stored { value, guid, written_ms });
        Ok(())
    }

    fn drop_schema(&mut self, subject: &str, version: i32) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(stored) = versions.remove(&version) else { return };
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(ids) = self.ids.get_mut(&Subject::parse(subject).context) else { return };
        let id = stored.value.id;
        if let Some(places) = ids.places.get_mut(&id) {
            places.remove(&(subject.to_owned(), version));
            if places.is_empty() {
                ids.places.remove(&id);
                if let Some(same) = ids.by_guid.get_mut(&stored.guid) {
                    same.remove(&id);
                    if same.is_empty() {
                        ids.by_guid.remove(&stored.guid);
                    }
                }
            }
        }
    }

    /// Forgets the deleted versions of a subject, a context or all.
    fn clear(&mut self, subject: Option<&str>) {
        let scope = subject.map(Subject::parse);
        let is_in = |name: &str| scope.as_ref().is_none_or(|scope| scope.covers(name));
        let deleted: Vec<_> = self
            .all()
            .filter(|stored| stored.value.deleted && is_in(&stored.value.subject))
            .map(|stored| (stored.value.subject.clone(), stored.value.version))
            .collect();
        for (subject, version) in deleted {
            self.drop_schema(&subject, version);
        }
    }

    /// All versions of all subjects.
    fn all(&self) -> impl Iterator<Item = &Stored> {
        self.subjects.values().flat_map(BTreeMap::values)
    }

    /// The versions of a subject, oldest first, with the deleted ones.
    fn versions(&self, subject: &str) -> impl DoubleEndedIterator<Item = &Stored> {
        self.subjects.get(subject).into_iter().flat_map(BTreeMap::values)
    }

    /// The versions of a subject, oldest first, without the deleted ones.
    fn live(&self, subject: &str) -> impl DoubleEndedIterator<Item = &Stored> {
        self.versions(subject).filter(|stored| !stored.value.deleted)
    }

    fn latest(&self, subject: &str) -> Option<&Stored> {
        self.live(subject).next_back()
    }

    /// A version of a subject; -1 is the latest that is not deleted.
    fn version(&self, subject: &str, version: i32, deleted: bool) -> Option<&Stored> {
        if version == -1 {
            return self.latest(subject);
        }
        let stored = self.subjects.get(subject)?.get(&version)?;
        (deleted || !stored.value.deleted).then_some(stored)
    }

    /// Whether there is a version of this subject, of a subject of this context, or, for None, any.
    fn has_subjects(&self, scope: Option<&str>, deleted: bool) -> bool {
        let scope = scope.map(Subject::parse);
        let is_in = |name: &str| scope.as_ref().is_none_or(|scope| scope.covers(name));
        self.all().any(|stored| (deleted || !stored.value.deleted) && is_in(&stored.value.subject))
    }

    fn by_id_in(&self, context: &str, id: i32) -> Option<&Stored> {
        let places = self.ids.get(context)?.places.get(&id)?;
        places.iter().find_map(|(subject, version)| self.subjects.get(subject)?.get(version))
    }

    /// The id that this content has in a context.
    fn id_of(&self, context: &str, content: &Content) -> Option<i32> {
        let same = self.ids.get(context)?.by_guid.get(&content.guid())?;
        let has_type = |id: &&i32| {
            self.by_id_in(context, **id).is_some_and(|stored| stored.value.schema_type == content.kind)
        };
        same.iter().find(has_type).copied()
    }

    fn next_id(&self, context: &str) -> Option<i32> {
        self.ids.get(context).map_or(0, |ids| ids.greatest).checked_add(1)
    }

    /// The record that keeps ids from coming again.
    fn note_of_ids(&self) -> Record {
        let max_ids = self.ids.iter().map(|(context, ids)| (context.clone(), ids.greatest)).collect();
        Record::new(&Key::Noop { magic: 0 }, Some(&NoopValue { max_ids }))
    }

    /// The versions that refer to this one.
    fn referring(&self, subject: &str, version: i32, deleted: bool) -> impl Iterator<Item = &Stored> {
        let refers = move |stored: &Stored| {
            stored.value.references.iter().any(|reference| {
                reference.version == version
                    && super::subject::within(&stored.value.subject, &reference.subject) == subject
            })
        };
        self.all().filter(move |stored| (deleted || !stored.value.deleted) && refers(stored))
    }
}

fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its {what} cannot be read: {error}"))
}
