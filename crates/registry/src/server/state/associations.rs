//! Which subjects belong to which topics.
//!
//! A strong association is made with the topic, owns its subject and cannot be changed; a weak one says which subject a topic uses,
//! and several topics may use one.

use serde::{Deserialize, Serialize};

use super::{Association, Change, Mode, RegisterRequest, State, Stored};
use crate::server::entity::or_default;
use crate::server::fault::Fault;
use crate::server::formats::Formats;
use crate::server::record::{AssociationValue, Key, Record, TENANT};
use crate::server::subject::{normalized, within};

/// A resource, and the subjects that it should be associated with.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::server) struct AssociationRequest {
    pub(in crate::server) resource_name: Option<String>,
    pub(in crate::server) resource_namespace: Option<String>,
    pub(in crate::server) resource_id: Option<String>,
    pub(in crate::server) resource_type: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::server) associations: Vec<Asked>,
}

/// An association as it is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::server) struct Asked {
    subject: Option<String>,
    association_type: Option<String>,
    lifecycle: Option<String>,
    frozen: Option<bool>,
    schema: Option<RegisterRequest>,
    normalize: Option<bool>,
}

/// An association that is there now, with the schema that was registered for it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) struct Associated {
    pub(in crate::server) value: AssociationValue,
    pub(in crate::server) schema: Option<Stored>,
}

/// The only type of resource that there is.
pub(in crate::server) const TOPIC: &str = "topic";
const STRONG: &str = "STRONG";
const WEAK: &str = "WEAK";

/// Which associations a question is about. What is empty does not restrict.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Filter {
    pub(in crate::server) resource_type: Option<String>,
    pub(in crate::server) association_types: Vec<String>,
    pub(in crate::server) lifecycle: Option<String>,
}

impl Filter {
    fn shows(&self, association: &Association) -> bool {
        let value = &association.value;
        let is_same = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|asked| asked == has);
        is_same(&self.resource_type, &value.resource_type)
            && is_same(&self.lifecycle, &value.lifecycle)
            && (self.association_types.is_empty() || self.association_types.contains(&value.association_type))
    }
}

/// An association as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Shown<'a> {
    subject: &'a str,
    guid: &'a str,
    resource_name: &'a str,
    resource_namespace: &'a str,
    resource_id: &'a str,
    resource_type: &'a str,
    association_type: &'a str,
    lifecycle: &'a str,
    frozen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_ts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_ts: Option<i64>,
}

impl Association {
    pub(in crate::server) fn shown(&self) -> Shown<'_> {
        let value = &self.value;
        Shown {
            subject: &value.subject,
            guid: &value.guid,
            resource_name: &value.resource_name,
            resource_namespace: &value.resource_namespace,
            resource_id: &value.resource_id,
            resource_type: &value.resource_type,
            association_type: &value.association_type,
            lifecycle: &value.lifecycle,
            frozen: value.frozen,
            create_ts: self.created_ms,
            update_ts: self.updated_ms,
        }
    }
}

impl AssociationRequest {
    /// # Errors
    /// When a property is missing or wrong.
    fn check(&self) -> Result<(), Fault> {
        for (name, value) in [
            ("resourceName", &self.resource_name),
            ("resourceNamespace", &self.resource_namespace),
            ("resourceId", &self.resource_id),
        ] {
            if value.as_deref().unwrap_or_default().is_empty() {
                return Err(Fault::invalid_association(name, "cannot be null or empty"));
            }
        }
        if self.resource_type.as_deref().is_some_and(|kind| !kind.is_empty() && kind != TOPIC) {
            return Err(Fault::invalid_association("resourceType", "must be 'topic'"));
        }
        if self.associations.is_empty() {
            return Err(Fault::invalid_association("associations", "cannot be null or empty"));
        }
        for (at, asked) in self.associations.iter().enumerate() {
            if !["key", "value"].contains(&asked.association_type()) {
                return Err(Fault::invalid_association("associationType", "must be either 'key' or 'value'"));
            }
            let is_same = |other: &Asked| other.association_type() == asked.association_type();
            if self.associations[..at].iter().any(is_same) {
                return Err(Fault::invalid_association(
                    "associationType",
                    "may only appear once per request",
                ));
            }
            if asked.lifecycle.as_deref().is_some_and(|lifecycle| ![STRONG, WEAK].contains(&lifecycle)) {
                return Err(Fault::invalid_association("lifecycle", "must be either 'STRONG' or 'WEAK'"));
            }
        }
        Ok(())
    }
}

impl Asked {
    fn association_type(&self) -> &str {
        self.association_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("value")
    }
}

impl State {
    pub(super) fn has_association(&self, subject: &str) -> bool {
        self.associations.values().any(|association| association.is_of(subject))
    }

    pub(super) fn has_strong_association(&self, subject: &str) -> bool {
        let mut all = self.associations.values();
        all.any(|association| association.is_of(subject) && association.value.lifecycle == STRONG)
    }

    pub(in crate::server) fn associations_of_subject(
        &self,
        subject: &str,
        filter: &Filter,
    ) -> Vec<&Association> {
        self.associations.values().filter(|one| one.is_of(subject) && filter.shows(one)).collect()
    }

    pub(in crate::server) fn associations_of_id(&self, id: &str, filter: &Filter) -> Vec<&Association> {
        self.associations.values().filter(|one| one.value.resource_id == id && filter.shows(one)).collect()
    }

    /// The namespace `-` is any.
    pub(in crate::server) fn associations_of_name(
        &self,
        namespace: &str,
        name: &str,
        filter: &Filter,
    ) -> Vec<&Association> {
        let is_meant = |one: &&Association| {
            one.value.resource_name == name
                && (namespace == "-" || one.value.resource_namespace == namespace)
                && filter.shows(one)
        };
        self.associations.values().filter(is_meant).collect()
    }

    /// Associates a resource with subjects, and registers the schemas that come with it. `is_create` if the resource is new.
    ///
    /// # Errors
    /// When a property is wrong, or what is there does not allow it.
    pub(in crate::server) fn associate(
        &self,
        formats: &dyn Formats,
        context: &str,
        request: &AssociationRequest,
        is_create: bool,
        dry_run: bool,
    ) -> Result<Change<Vec<Associated>>, Fault> {
        request.check()?;
        // Each step sees what the ones before it have changed.
        let mut next = self.clone();
        let (mut answer, mut records) = (Vec::new(), Vec::new());
        for asked in &request.associations {
            let change = next.associate_one(formats, context, request, asked, is_create)?;
            for record in &change.records {
                next.apply(record, None).map_err(|why| Fault::store(&why))?;
            }
            answer.extend(change.answer);
            records.extend(change.records);
        }
        Ok(if dry_run { Change::none(Vec::new()) } else { Change { answer, records } })
    }

    fn associate_one(
        &self,
        formats: &dyn Formats,
        context: &str,
        request: &AssociationRequest,
        asked: &Asked,
        is_create: bool,
    ) -> Result<Change<Option<Associated>>, Fault> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, namespace, id) =
            (text(&request.resource_name), text(&request.resource_namespace), text(&request.resource_id));
        let kind = asked.association_type();
        let own_subject = format!(":.{namespace}:{name}-{kind}");
        let filter = Filter { association_types: vec![kind.into()], ..Filter::default() };
        let old = self.associations_of_id(&id, &filter).into_iter().next();

        let lifecycle = match (asked.lifecycle.as_deref(), old) {
            (Some(lifecycle), _) => lifecycle,
            (None, Some(old)) => old.value.lifecycle.as_str(),
            (None, None) if asked.schema.is_some() => STRONG,
            (None, None) => WEAK,
        };
        let is_strong = lifecycle == STRONG;
        let subject = match (asked.subject.as_deref().filter(|subject| !subject.is_empty()), old) {
            (Some(subject), _) => self.behind_alias(&within(context, subject)),
            (None, Some(old)) => old.value.subject.clone(),
            (None, None) if is_strong => own_subject.clone(),
            (None, None) => {
                return Err(Fault::invalid_association("subject", "must be provided for WEAK associations"));
            }
        };
        let subject = normalized(&subject);
        self.check_may_write(&subject)?;

        let frozen = asked.frozen.unwrap_or(is_strong);
        if frozen != is_strong {
            let why = format!("association with lifecycle of {lifecycle} cannot be frozen={frozen}");
            return Err(Fault::invalid_association("frozen", &why));
        }
        if is_strong && subject != own_subject {
            let why = format!("frozen associations must use subject '{own_subject}'");
            return Err(Fault::invalid_association("subject", &why));
        }
        if !is_strong && subject == own_subject {
            let why = format!("WEAK associations cannot use subject '{own_subject}'");
            return Err(Fault::invalid_association("subject", &why));
        }
        if !is_strong && asked.schema.is_some() {
            return Err(Fault::invalid_association("lifecycle", "cannot be WEAK when schema is provided"));
        }

        let value = AssociationValue {
            subject: subject.clone(),
            guid: String::new(),
            tenant: TENANT.into(),
            resource_name: name,
            resource_namespace: namespace,
            resource_id: id,
            resource_type: TOPIC.into(),
            association_type: kind.into(),
            lifecycle: lifecycle.into(),
            frozen,
        };
        if let Some(old) = old {
            return self.associate_again(formats, old, &value, asked, is_create);
        }
        self.check_new(&value, asked, is_create)?;
        self.check_others(&value)?;
        let schema = match &asked.schema {
            Some(schema) => {
                let normalize = asked.normalize == Some(true);
                Some(self.register(formats, &subject, schema, normalize, false)?)
            }
            None if self.latest(&subject).is_none() => return Err(Fault::no_active_version(&subject)),
            None => None,
        };
        let (schema, mut records) = schema.map(|change| (change.answer, change.records)).unzip();
        let value = AssociationValue { guid: guid_of(&value), ..value };
        let records: &mut Vec<Record> = records.get_or_insert_default();
        records.push(Record::new(&Key::Association(value.key()), Some(&value)));
        Ok(Change { answer: Some(Associated { value, schema }), records: std::mem::take(records) })
    }

    /// What a request says of an association that is there.
    fn associate_again(
        &self,
        formats: &dyn Formats,
        old: &Association,
        value: &AssociationValue,
        asked: &Asked,
        is_create: bool,
    ) -> Result<Change<Option<Associated>>, Fault> {
        let old = &old.value;
        let is_same = (&old.subject, &old.lifecycle) == (&value.subject, &value.lifecycle);
        let has_schema = match &asked.schema {
            Some(schema) => {
                self.look_up(formats, &old.subject, schema, asked.normalize == Some(true), false)?.is_some()
            }
            None => true,
        };
        if is_same && has_schema {
            return Ok(Change::none(None));
        }
        if is_create {
            return Err(Fault::association_of_resource_exists(&old.association_type, &old.resource_name));
        }
        if old.subject != value.subject {
            let why = format!(
                "subject of association cannot be changed from '{}' to '{}'",
                old.subject, value.subject
            );
            return Err(Fault::invalid_association("subject", &why));
        }
        // Between WEAK and STRONG the subject would have to change, so what is left is a strong one with another schema.
        Err(Fault::association_is_frozen(&old.association_type, &old.subject))
    }

    fn check_new(&self, value: &AssociationValue, asked: &Asked, is_create: bool) -> Result<(), Fault> {
        let is_import = self.mode_in_scope(&Some(value.subject.clone())) == Mode::Import;
        let invalid = |property: &str, why: &str| Err(Fault::invalid_association(property, why));
        if asked.schema.is_some() {
            if !is_create {
                return invalid(
                    "schema",
                    "cannot be provided when adding an association to an existing topic",
                );
            }
            if is_import {
                return invalid("schema", "cannot be provided while the subject is in IMPORT mode");
            }
        }
        if value.lifecycle != STRONG || is_import {
            return Ok(());
        }
        if !is_create {
            return invalid(
                "lifecycle",
                "cannot be STRONG when creating an association; STRONG associations must be created with the topic",
            );
        }
        if asked.schema.is_none() {
            return invalid("schema", "schema must be provided when creating a frozen association");
        }
        if self.latest(&value.subject).is_some_and(|latest| latest.value.version != 1) {
            return invalid(
                "frozen",
                "cannot create a frozen association when schemas already exist in the subject",
            );
        }
        Ok(())
    }

    /// Whether the other associations of the subject allow this one.
    fn check_others(&self, value: &AssociationValue) -> Result<(), Fault> {
        let subject = &value.subject;
        if value.lifecycle != STRONG {
            return if self.has_strong_association(subject) {
                Err(Fault::strong_association_exists(subject))
            } else {
                Ok(())
            };
        }
        if self.has_association(subject) {
            return Err(Fault::association_of_subject_exists(subject));
        }
        let is_referred_to = self
            .versions(subject)
            .any(|stored| self.referring(subject, stored.value.version, false).next().is_some());
        if is_referred_to { Err(Fault::reference_exists(subject)) } else { Ok(()) }
    }

    /// Takes back associations of a resource. With `cascade`, subjects that the resource owned are deleted for good.
    ///
    /// # Errors
    /// When there are none, or the mode does not allow it.
    pub(in crate::server) fn dissociate(
        &self,
        id: &str,
        filter: &Filter,
        cascade: bool,
        dry_run: bool,
    ) -> Result<Change<()>, Fault> {
        let gone = self.associations_of_id(id, filter);
        if gone.is_empty() {
            return Err(Fault::no_association(id));
        }
        for association in &gone {
            self.check_may_write(&association.value.subject)?;
            if association.value.frozen && !cascade {
                let value = &association.value;
                return Err(Fault::association_is_frozen(&value.association_type, &value.subject));
            }
        }
        if dry_run {
            return Ok(Change::none(()));
        }
        let mut next = self.clone();
        let mut records = Vec::new();
        let mut take = |next: &mut Self, more: Vec<Record>| -> Result<(), Fault> {
            for record in more {
                next.apply(&record, None).map_err(|why| Fault::store(&why))?;
                records.push(record);
            }
            Ok(())
        };
        for association in gone {
            let value = &association.value;
            take(&mut next, vec![Record::tombstone(&Key::Association(value.key()))])?;
            let is_import = next.mode_in_scope(&Some(value.subject.clone())) == Mode::Import;
            if cascade && value.lifecycle == STRONG && !is_import {
                for permanent in [false, true] {
                    let change = next.delete_subject(&value.subject, permanent)?;
                    take(&mut next, change.records)?;
                }
            }
        }
        Ok(Change { answer: (), records })
    }
}

impl Association {
    fn is_of(&self, subject: &str) -> bool {
        normalized(&self.value.subject) == subject
    }
}

/// A GUID that follows from what is associated. Confluent's registry rolls dice.
fn guid_of(value: &AssociationValue) -> String {
    let text = serde_json::to_string(&value.key()).unwrap_or_default() + &value.resource_id;
    crate::server::entity::Content { text, ..Default::default() }.guid().to_string()
}
