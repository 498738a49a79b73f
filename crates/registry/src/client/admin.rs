//! What is asked of registries now and then: lists, levels, modes, associations, deleting. Nothing of it is remembered.

use std::sync::Arc;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::answers::{CompatibilityAnswer, ConfigAnswer, ModeAnswer, RegisterBody, SubjectVersion};
use super::rest::{Call, encoded};
use super::schema::{Association, CompatibilityCheck, CompatibilityLevel, Deletion, Mode, Schema, Version};
use super::{RegistryError, RegistryErrorKind, SchemaRegistry};
use crate::framing::Part;

/// A new association of a topic's keys or values with a subject.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewAssociation<'a> {
    /// The topic's name.
    pub resource_name: &'a str,
    /// The cluster's id, or `-` for all.
    pub resource_namespace: &'a str,
    /// The topic's id.
    pub resource_id: &'a str,
    #[serde(rename = "associations")]
    parts: Vec<NewPart<'a>>,
    resource_type: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewPart<'a> {
    subject: &'a str,
    association_type: &'static str,
}

impl<'a> NewAssociation<'a> {
    /// An association of this topic, whose parts are added with [`subject`](Self::subject).
    pub fn of_topic(resource_namespace: &'a str, resource_name: &'a str, resource_id: &'a str) -> Self {
        Self { resource_name, resource_namespace, resource_id, parts: Vec::new(), resource_type: "topic" }
    }

    /// The subject of the topic's keys or values.
    #[must_use]
    pub fn subject(mut self, part: Part, subject: &'a str) -> Self {
        let association_type = if part == Part::Key { "key" } else { "value" };
        self.parts.push(NewPart { subject, association_type });
        self
    }
}

/// Each call here fails when what it names does not exist, when the registry refuses it, or cannot be asked. A call that is dropped may
/// have been carried out.
impl SchemaRegistry {
    /// The types of schemas that the registry takes, such as `AVRO`.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn schema_types(&self) -> Result<Vec<String>, RegistryError> {
        self.ask(Call::get("/schemas/types", "listing the types of schemas")).await
    }

    /// The subjects that begin with `prefix`, which may be empty; also those that were deleted softly, if that is asked for.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn subjects(&self, prefix: &str, with_deleted: bool) -> Result<Vec<String>, RegistryError> {
        // Some registries do not know the parameter, and list all.
        let query =
            if prefix.is_empty() { String::new() } else { format!("&subjectPrefix={}", encoded(prefix)) };
        let call = Call::get(format!("/subjects?deleted={with_deleted}{query}"), "listing subjects");
        let mut subjects: Vec<String> = self.ask(call).await?;
        subjects.retain(|subject| subject.starts_with(prefix));
        Ok(subjects)
    }

    /// The versions of a subject.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let path = format!("/subjects/{}/versions", encoded(subject));
        self.ask(Call::get(path, format!("listing the versions of subject {subject:?}"))).await
    }

    /// The versions of a subject, also those that were deleted softly.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn versions_with_deleted(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let path = format!("/subjects/{}/versions?deleted=true", encoded(subject));
        self.ask(Call::get(path, format!("listing the versions of subject {subject:?}"))).await
    }

    /// The subjects and versions that have the schema of this id.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn versions_of_id(&self, id: u32) -> Result<Vec<(String, u32)>, RegistryError> {
        let call =
            Call::get(format!("/schemas/ids/{id}/versions"), format!("listing the versions of schema {id}"));
        let versions: Vec<SubjectVersion> = self.ask(call).await?;
        Ok(versions.into_iter().map(|SubjectVersion { subject, version }| (subject, version)).collect())
    }

    /// The ids of the schemas that refer to this version.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn referenced_by(
        &self,
        subject: &str,
        version: impl Into<Version>,
    ) -> Result<Vec<u32>, RegistryError> {
        let version = version.into();
        let path = format!("/subjects/{}/versions/{version}/referencedby", encoded(subject));
        let doing = format!("listing what refers to version {version} of subject {subject:?}");
        self.ask(Call::get(path, doing)).await
    }

    /// Whether this schema may follow in the subject: compared with one version, or with those that its level says.
    ///
    /// # Errors
    /// As all calls of this block. That it may not follow is no error.
    pub async fn check_compatibility(
        &self,
        subject: &str,
        version: Option<Version>,
        schema: &Schema,
    ) -> Result<CompatibilityCheck, RegistryError> {
        let version = version.map(|version| format!("/{version}")).unwrap_or_default();
        let query = if self.0.normalizes { "?verbose=true&normalize=true" } else { "?verbose=true" };
        let path = format!("/compatibility/subjects/{}/versions{version}{query}", encoded(subject));
        let doing = format!("checking a schema against subject {subject:?}");
        let answer: CompatibilityAnswer = self.ask(Call::post(path, RegisterBody::of(schema), doing)).await?;
        let mut messages = answer.messages.unwrap_or_default();
        messages.extend(answer.reason);
        Ok(CompatibilityCheck { is_compatible: answer.is_compatible, messages })
    }

    /// The compatibility level of a subject, or of all that have none of their own. The registry's is answered for a subject that has
    /// none.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn compatibility(&self, subject: Option<&str>) -> Result<CompatibilityLevel, RegistryError> {
        let (path, of) = scoped("/config", subject);
        let query = if subject.is_some() { "?defaultToGlobal=true" } else { "" };
        let call = Call::get(format!("{path}{query}"), format!("reading the compatibility level of {of}"));
        self.ask::<ConfigAnswer<CompatibilityLevel>>(call).await.map(|answer| answer.level)
    }

    /// Sets the compatibility level.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn set_compatibility(
        &self,
        subject: Option<&str>,
        level: CompatibilityLevel,
    ) -> Result<(), RegistryError> {
        let (path, of) = scoped("/config", subject);
        let body = json!({ "compatibility": level }).to_string();
        let call = Call::put(path, body, format!("setting the compatibility level of {of}"));
        self.ask::<IgnoredAny>(call).await.map(drop)
    }

    /// Takes the subject's own compatibility level away.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn reset_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let (path, of) = scoped("/config", Some(subject));
        self.ask::<IgnoredAny>(Call::delete(path, format!("taking the compatibility level of {of} away")))
            .await
            .map(drop)
    }

    /// The mode of a subject, or of the registry. The registry's is answered for a subject that has none.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn mode(&self, subject: Option<&str>) -> Result<Mode, RegistryError> {
        let (path, of) = scoped("/mode", subject);
        let query = if subject.is_some() { "?defaultToGlobal=true" } else { "" };
        let call = Call::get(format!("{path}{query}"), format!("reading the mode of {of}"));
        self.ask::<ModeAnswer<Mode>>(call).await.map(|answer| answer.mode)
    }

    /// Sets the mode. With `force` a subject that has schemas can be set to [`Mode::Import`].
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn set_mode(
        &self,
        subject: Option<&str>,
        mode: Mode,
        force: bool,
    ) -> Result<(), RegistryError> {
        let (path, of) = scoped("/mode", subject);
        let body = json!({ "mode": mode }).to_string();
        let call = Call::put(format!("{path}?force={force}"), body, format!("setting the mode of {of}"));
        self.ask::<IgnoredAny>(call).await.map(drop)
    }

    /// Takes the subject's own mode away.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn reset_mode(&self, subject: &str) -> Result<(), RegistryError> {
        let (path, of) = scoped("/mode", Some(subject));
        self.ask::<IgnoredAny>(Call::delete(path, format!("taking the mode of {of} away"))).await.map(drop)
    }

    /// The contexts, such as `.` and `.staging`.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn contexts(&self) -> Result<Vec<String>, RegistryError> {
        self.ask(Call::get("/contexts", "listing contexts")).await
    }

    /// Deletes a subject, and answers with its versions.
    ///
    /// # Errors
    /// As all calls of this block. After a lost connection it may have been carried out.
    pub async fn delete_subject(&self, subject: &str, deletion: Deletion) -> Result<Vec<u32>, RegistryError> {
        let path = format!("/subjects/{}{}", encoded(subject), deletion.query());
        let versions = self.ask(Call::delete(path, format!("deleting subject {subject:?}"))).await;
        self.forget_subject(subject);
        versions
    }

    /// Deletes a version of a subject.
    ///
    /// # Errors
    /// As all calls of this block. After a lost connection it may have been carried out.
    pub async fn delete_version(
        &self,
        subject: &str,
        version: impl Into<Version>,
        deletion: Deletion,
    ) -> Result<u32, RegistryError> {
        let version = version.into();
        let path = format!("/subjects/{}/versions/{version}{}", encoded(subject), deletion.query());
        let doing = format!("deleting version {version} of subject {subject:?}");
        let deleted = self.ask(Call::delete(path, doing)).await;
        self.forget_subject(subject);
        deleted
    }

    /// Forgets what changes with a subject. What its ids stand for stays: records that name them are still there.
    fn forget_subject(&self, subject: &str) {
        self.0.latest.forget_if(|known| **known == *subject);
        self.0.versions.forget_if(|(known, _)| **known == *subject);
        self.0.registered.forget_if(|(known, ..)| **known == *subject);
    }

    /// The associations of a topic's keys or values. `namespace` is the cluster's id, or `-`.
    ///
    /// # Errors
    /// As all calls of this block. Registries other than Confluent's newer ones do not have them.
    pub async fn associations(
        &self,
        namespace: &str,
        topic: &str,
        part: Part,
    ) -> Result<Vec<Association>, RegistryError> {
        self.ask(associations(namespace, topic, part)).await
    }

    /// Makes an association.
    ///
    /// # Errors
    /// As all calls of this block.
    pub async fn associate(&self, association: &NewAssociation<'_>) -> Result<(), RegistryError> {
        let doing = format!("associating topic {:?} with a subject", association.resource_name);
        let body = serde_json::to_string(association).unwrap_or_default();
        let done = self.ask::<IgnoredAny>(Call::post("/associations", body, doing)).await.map(drop);
        self.0.subjects.forget_if(|(_, topic, _)| **topic == *association.resource_name);
        done
    }

    /// Takes the association of a topic's keys or values away, by the topic's id; with `cascade` also the subject that belongs to it.
    ///
    /// # Errors
    /// As all calls of this block. After a lost connection it may have been carried out.
    pub async fn disassociate(&self, topic_id: &str, part: Part, cascade: bool) -> Result<(), RegistryError> {
        let path = format!(
            "/associations/resources/{}?resourceType=topic&associationType={part}&cascadeLifecycle={cascade}",
            encoded(topic_id)
        );
        let doing = format!("taking the association of topic id {topic_id:?} away");
        // It answers without a body.
        let (done, rest, clock) = (Call::delete(path, doing), &self.0.rest, &self.0.clock);
        let done = rest.done(&done, clock).await;
        self.0.subjects.forget_if(|_| true);
        done
    }

    /// The subject that is associated with a topic's keys or values. None if there is no association, or the registry knows none. It
    /// is remembered as long as the [latest version](Self::latest).
    ///
    /// # Errors
    /// When there are several, or the registry cannot be asked.
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn associated_subject(
        &self,
        namespace: &str,
        topic: &str,
        part: Part,
    ) -> Result<Option<Arc<str>>, RegistryError> {
        let key = (namespace.into(), topic.into(), part);
        let named = topic.to_owned();
        let fetching = self.fetch(associations(namespace, topic, part), Ok::<Vec<Association>, String>);
        let found = self.0.subjects.get(key, &self.0.clock, || async move {
            let none = || {
                let text = format!("the {part} of topic {named:?} is associated with no subject");
                RegistryError::new(RegistryErrorKind::NotFound, text)
            };
            match fetching.await?.as_slice() {
                [] => Err(none()),
                [one] => Ok(Arc::from(&*one.subject)),
                several => {
                    let count = several.len();
                    let text = format!("the {part} of topic {named:?} is associated with {count} subjects");
                    Err(RegistryError::new(RegistryErrorKind::Invalid, text))
                }
            }
        });
        match found.await {
            Ok(subject) => Ok(Some(subject)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn associations(namespace: &str, topic: &str, part: Part) -> Call {
    let path = format!(
        "/associations/resources/{}/{}?resourceType=topic&associationType={part}",
        encoded(namespace),
        encoded(topic)
    );
    Call::get(path, format!("looking up the subject of the {part} of topic {topic:?}"))
}

/// The path of a setting, and whose it is in words.
fn scoped(path: &str, subject: Option<&str>) -> (String, String) {
    match subject {
        Some(subject) => (format!("{path}/{}", encoded(subject)), format!("subject {subject:?}")),
        None => (path.to_owned(), "the registry".to_owned()),
    }
}

impl Deletion {
    fn query(self) -> &'static str {
        match self {
            Self::Soft => "",
            Self::Permanent => "?permanent=true",
        }
    }
}
