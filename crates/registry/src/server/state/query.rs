//! Questions: they change nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{State, Stored};
use crate::framing::Guid;
use crate::server::subject::{ALL_CONTEXTS, DEFAULT_CONTEXT, Subject, within};

/// What a list says of deleted versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Deleted {
    Hidden,
    Included,
    Only,
    /// They are included with the number negated.
    Negative,
}

impl Deleted {
    fn shows(self, deleted: bool) -> bool {
        match self {
            Self::Hidden => !deleted,
            Self::Only => deleted,
            Self::Included | Self::Negative => true,
        }
    }
}

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Page {
    pub(in crate::server) offset: usize,
    pub(in crate::server) limit: usize,
}

impl Page {
    pub(in crate::server) fn of<T>(self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        all.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

/// Whether a subject's name starts with a prefix, which may name a context or all contexts.
fn starts(prefix: &str, subject: &str) -> bool {
    match prefix.strip_prefix(ALL_CONTEXTS) {
        Some(rest) => Subject::parse(subject).name.starts_with(rest),
        None => {
            let in_default = !prefix.starts_with(":.");
            subject.starts_with(prefix) && (!in_default || Subject::parse(subject).is_in_default_context())
        }
    }
}

impl State {
    /// The names of subjects, sorted. A subject counts as deleted if all of its versions are.
    pub(in crate::server) fn subjects(&self, prefix: &str, deleted: Deleted) -> Vec<&str> {
        let all = self.subjects.iter().filter(|(name, _)| starts(prefix, name));
        let shown =
            all.filter(|(_, versions)| deleted.shows(versions.values().all(|stored| stored.value.deleted)));
        shown.map(|(name, _)| name.as_str()).collect()
    }

    /// The numbers of a subject's versions. None if there is no such subject.
    pub(in crate::server) fn version_numbers(&self, subject: &str, deleted: Deleted) -> Option<Vec<i32>> {
        // One that has only deleted versions is there for who asks for these.
        let any = if deleted == Deleted::Negative { Deleted::Hidden } else { deleted };
        if !self.has_subjects(Some(subject), any != Deleted::Hidden) {
            return None;
        }
        let shown = self.versions(subject).filter(|stored| deleted.shows(stored.value.deleted));
        let number = |stored: &Stored| {
            let is_negative = deleted == Deleted::Negative && stored.value.deleted;
            if is_negative { -stored.value.version } else { stored.value.version }
        };
        Some(shown.map(number).collect())
    }

    /// Whether there is a version of this subject, or of a subject of this context.
    pub(in crate::server) fn is_known(&self, subject: &str, deleted: bool) -> bool {
        self.has_subjects(Some(subject), deleted)
    }

    /// A version of a subject; -1 is the latest. A subject without a context that is not in the default one is looked for in the
    /// other contexts.
    pub(in crate::server) fn version_anywhere(
        &self,
        subject: &str,
        version: i32,
        deleted: bool,
    ) -> Option<&Stored> {
        self.anywhere(subject).find_map(|name| self.version(&name, version, deleted))
    }

    /// A version of exactly this subject; -1 is the latest.
    pub(in crate::server) fn version_here(&self, subject: &str, version: i32) -> Option<&Stored> {
        self.version(subject, version, false)
    }

    /// The names under which a subject may be meant: its own, and if it is in the default context those in all contexts.
    pub(in crate::server) fn anywhere<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = String> + 'a {
        let place = Subject::parse(subject);
        let others = self.contexts.iter().filter(move |_| place.is_in_default_context());
        let name = |context: &String| format!(":{context}:{}", Subject::parse(subject).name);
        [subject.to_owned()].into_iter().chain(others.map(name))
    }

    /// The schema with an id. `subject` says in which context; if it has a name, one registered there is preferred.
    pub(in crate::server) fn by_id(&self, id: i32, subject: Option<&str>) -> Option<&Stored> {
        let place = Subject::parse(subject.unwrap_or_default());
        if !place.name.is_empty() {
            let name = place.qualified();
            let own = self.anywhere(&name).find_map(|name| {
                let places = self.ids.get(&Subject::parse(&name).context)?.places.get(&id)?;
                let (_, version) = places.iter().rfind(|(at, _)| *at == name)?;
                self.subjects.get(&name)?.get(version)
            });
            if own.is_some() || !place.is_in_default_context() {
                return own;
            }
        }
        self.by_id_in(&place.context, id)
    }

    /// Where the schema with an id is registered. None if there is no such schema.
    pub(in crate::server) fn places_of(
        &self,
        id: i32,
        subject: Option<&str>,
        deleted: bool,
    ) -> Option<Vec<(&str, i32)>> {
        let context = Subject::parse(&self.by_id(id, subject)?.value.subject).context;
        let places = self.ids.get(&context)?.places.get(&id)?;
        let is_shown =
            |(subject, version): &&(String, i32)| self.version(subject, *version, deleted).is_some();
        Some(places.iter().filter(is_shown).map(|(subject, version)| (subject.as_str(), *version)).collect())
    }

    /// The greatest id of the context of this schema.
    pub(in crate::server) fn greatest_id(&self, subject: &str) -> i32 {
        self.ids.get(&Subject::parse(subject).context).map_or(1, |ids| ids.greatest)
    }

    /// The schema with a GUID: in the default context, or in the first one that has it.
    pub(in crate::server) fn by_guid(&self, guid: Guid) -> Option<&Stored> {
        let (context, id) = self.ids_of(guid).into_iter().next()?;
        self.by_id_in(context, id)
    }

    /// The ids of a GUID with their contexts, the default context first.
    pub(in crate::server) fn ids_of(&self, guid: Guid) -> Vec<(&str, i32)> {
        // "." sorts before all other contexts, which start with it.
        let ids = self.ids.iter().filter_map(|(context, ids)| Some((context, ids.by_guid.get(&guid)?)));
        ids.flat_map(|(context, same)| same.iter().map(|id| (context.as_str(), *id))).collect()
    }

    /// Versions of all subjects with this prefix, by name and version.
    pub(in crate::server) fn schemas(&self, prefix: &str, deleted: bool, latest_only: bool) -> Vec<&Stored> {
        let mut found = Vec::new();
        for (_, versions) in self.subjects.iter().filter(|(name, _)| starts(prefix, name)) {
            let mut shown = versions.values().filter(|stored| deleted || !stored.value.deleted);
            if latest_only {
                found.extend(shown.next_back());
            } else {
                found.extend(shown);
            }
        }
        found
    }

    /// The subjects that are aliases of another one, by that one's name.
    pub(in crate::server) fn aliases(&self) -> BTreeMap<String, Vec<&str>> {
        let mut aliases = BTreeMap::<String, Vec<&str>>::new();
        for (subject, config) in &self.configs {
            if let (Some(subject), Some(alias)) = (subject, &config.alias) {
                aliases.entry(within(subject, alias)).or_default().push(subject);
            }
        }
        aliases
    }

    /// The subject that this name stands for.
    pub(in crate::server) fn behind_alias(&self, subject: &str) -> String {
        let alias = self.configs.get(&Some(subject.to_owned())).and_then(|config| config.alias.as_deref());
        match alias.filter(|alias| !alias.is_empty()) {
            Some(alias) => within(subject, alias),
            None => subject.to_owned(),
        }
    }

    /// The names of contexts, the default one first.
    pub(in crate::server) fn contexts(&self) -> impl Iterator<Item = &str> {
        [DEFAULT_CONTEXT].into_iter().chain(self.contexts.iter().map(String::as_str))
    }

    /// The newest version of a subject whose metadata have all these properties.
    pub(in crate::server) fn latest_with(
        &self,
        subject: &str,
        properties: &BTreeMap<&str, &str>,
        deleted: bool,
    ) -> Option<&Stored> {
        self.versions(subject).rfind(|stored| {
            let has_all = |metadata: &crate::server::entity::Metadata| {
                properties
                    .iter()
                    .all(|(name, value)| metadata.properties.get(*name).is_some_and(|has| has == value))
            };
            (deleted || !stored.value.deleted) && stored.value.metadata.as_ref().is_some_and(has_all)
        })
    }

    /// The ids of the schemas that refer to a version.
    pub(in crate::server) fn referenced_by(&self, subject: &str, version: i32, deleted: bool) -> Vec<i32> {
        let users = self.referring(subject, version, deleted);
        let ids: BTreeSet<_> =
            users.map(|stored| (Subject::parse(&stored.value.subject).context, stored.value.id)).collect();
        ids.into_iter().map(|(_, id)| id).collect()
    }
}
