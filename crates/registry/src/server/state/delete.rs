//! Deleting versions and subjects: softly, so that they are hidden and their ids still decode records, and then for good.

use super::{Change, State};
use crate::server::fault::Fault;
use crate::server::record::{DeleteSubjectValue, Key, Record};
use crate::server::subject::Subject;

impl State {
    /// Deletes a version; -1 is the latest. The answer is its number.
    ///
    /// # Errors
    /// When it is not there, others refer to it, or the mode does not allow it.
    pub(in crate::server) fn delete_version(
        &self,
        subject: &str,
        version: i32,
        permanent: bool,
    ) -> Result<Change<i32>, Fault> {
        let Some(stored) = self.version(subject, version, true) else {
            return Err(if self.has_subjects(Some(subject), true) {
                Fault::version_not_found(version)
            } else {
                Fault::subject_not_found(subject)
            });
        };
        let version = stored.value.version;
        if stored.value.deleted && !permanent {
            return Err(Fault::version_soft_deleted(subject, version));
        }
        self.check_may_write(subject)?;
        let is_last_live = self.live(subject).all(|other| other.value.version == version);
        if !permanent && is_last_live && self.has_association(subject) {
            return Err(Fault::no_active_version(subject));
        }
        if self.referring(subject, version, permanent).next().is_some() {
            return Err(Fault::reference_exists(&key_text(subject, version)));
        }
        if !permanent {
            let mut value = stored.value.clone();
            value.deleted = true;
            return Ok(Change { answer: version, records: vec![Record::new(&value.key(), Some(&value))] });
        }
        if !stored.value.deleted {
            return Err(Fault::version_not_soft_deleted(subject, version));
        }
        let mut records = vec![self.note_of_ids(), Record::tombstone(&stored.value.key())];
        if self.versions(subject).count() == 1 {
            records.extend(self.settings_gone(subject));
        }
        Ok(Change { answer: version, records })
    }

    /// Deletes all versions of a subject. The answer is their numbers.
    ///
    /// # Errors
    /// When it is not there, others refer to it, or the mode does not allow it.
    pub(in crate::server) fn delete_subject(
        &self,
        subject: &str,
        permanent: bool,
    ) -> Result<Change<Vec<i32>>, Fault> {
        if self.versions(subject).next().is_none() {
            return Err(Fault::subject_not_found(subject));
        }
        if !permanent && self.latest(subject).is_none() {
            return Err(Fault::subject_soft_deleted(subject));
        }
        self.check_may_write(subject)?;
        if self.has_association(subject) {
            return Err(Fault::association_of_subject_exists(subject));
        }
        let mut versions = Vec::new();
        for stored in self.versions(subject).filter(|stored| permanent || !stored.value.deleted) {
            let version = stored.value.version;
            if self.referring(subject, version, permanent).any(|other| other.value.subject != subject) {
                return Err(Fault::reference_exists(&key_text(subject, version)));
            }
            if permanent && !stored.value.deleted {
                return Err(Fault::subject_not_soft_deleted(subject));
            }
            versions.push(version);
        }
        let records = if permanent {
            // The newest first, because later versions may refer to earlier ones.
            let gone =
                versions.iter().rev().map(|version| Record::tombstone(&Key::schema(subject, *version)));
            [self.note_of_ids()].into_iter().chain(gone).chain(self.settings_gone(subject)).collect()
        } else {
            let key = Key::DeleteSubject { subject: subject.into(), magic: 0 };
            let version = versions.last().copied().unwrap_or_default();
            vec![Record::new(&key, Some(&DeleteSubjectValue { subject: subject.into(), version }))]
        };
        Ok(Change { answer: versions, records })
    }

    /// The records that take back the settings of a subject that is no more.
    fn settings_gone(&self, subject: &str) -> Vec<Record> {
        let scope = Some(subject.to_owned());
        let mode = self.modes.get(&scope).map(|_| Record::tombstone(&Key::mode(&scope)));
        let config = self.configs.get(&scope).map(|_| Record::tombstone(&Key::config(&scope)));
        mode.into_iter().chain(config).collect()
    }

    /// Deletes a context without subjects.
    ///
    /// # Errors
    /// When it has subjects.
    pub(in crate::server) fn delete_context(&self, prefix: &str) -> Result<Change<()>, Fault> {
        let context = Subject::parse(prefix).context;
        if self.has_subjects(Some(prefix), true) || prefix.is_empty() {
            return Err(Fault::context_not_empty(&context));
        }
        let records = if self.contexts.contains(&context) {
            vec![Record::tombstone(&Key::context(&context))]
        } else {
            Vec::new()
        };
        Ok(Change { answer: (), records })
    }
}

/// A version as Confluent's registry names it in errors.
pub(super) fn key_text(subject: &str, version: i32) -> String {
    format!("{{magic=1,keytype=SCHEMA,subject={subject},version={version}}}")
}
