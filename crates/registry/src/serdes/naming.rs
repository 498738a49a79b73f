//! Under which subject the schemas of a topic are registered.

use crate::framing::Part;
use crate::{RegistryError, RegistryErrorKind, SchemaRegistry, SerdeError};

/// How the subject is named under which the schemas of a topic are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubjectName {
    /// `TOPIC-key` and `TOPIC-value`: a topic has records of one type. (Java: `TopicNameStrategy`.)
    #[default]
    Topic,
    /// The record's full name: topics share its schemas. (Java: `RecordNameStrategy`.)
    Record,
    /// `TOPIC-RECORD`: a topic has records of several types. (Java: `TopicRecordNameStrategy`.)
    TopicRecord,
    /// The subject that the registry associates with the topic, or the one of `fallback` if there is none. (Java:
    /// `AssociatedNameStrategy`.)
    Associated {
        /// The cluster's id, if associations are made by cluster. (Java: `kafka.cluster.id`.)
        cluster_id: Option<Box<str>>,
        /// What counts without an association. If there is nothing, it is an error.
        fallback: Option<Box<SubjectName>>,
    },
}

impl SubjectName {
    /// [`Associated`](Self::Associated) with [`Topic`](Self::Topic) as the fallback, as in Java.
    pub fn associated() -> Self {
        Self::Associated { cluster_id: None, fallback: Some(Box::new(Self::Topic)) }
    }

    /// The subject, if it does not have to be asked for. `record` names the record.
    fn local(
        &self,
        topic: &str,
        part: Part,
        record: impl FnOnce() -> Result<String, SerdeError>,
    ) -> Result<String, SerdeError> {
        match self {
            Self::Topic => Ok(format!("{topic}-{part}")),
            Self::Record => record(),
            Self::TopicRecord => Ok(format!("{topic}-{}", record()?)),
            Self::Associated { .. } => {
                Err(SerdeError::schema("an association has an association as its fallback"))
            }
        }
    }

    /// The subject of a topic's keys or values.
    pub(super) async fn subject(
        &self,
        registry: &SchemaRegistry,
        topic: &str,
        part: Part,
        record: impl FnOnce() -> Result<String, SerdeError>,
    ) -> Result<String, SerdeError> {
        let Self::Associated { cluster_id, fallback } = self else { return self.local(topic, part, record) };
        let namespace = cluster_id.as_deref().unwrap_or("-");
        match (registry.associated_subject(namespace, topic, part).await?, fallback) {
            (Some(subject), _) => Ok(subject.to_string()),
            (None, Some(fallback)) => fallback.local(topic, part, record),
            (None, None) => {
                let text = format!("the {part} of topic {topic:?} is associated with no subject");
                Err(RegistryError::new(RegistryErrorKind::NotFound, text).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_in_java() {
        let check = |name: SubjectName, expected: &str| {
            let named = name.local("orders", Part::Value, || Ok("shop.Order".into())).expect("a name");
            assert_eq!(named, expected, "{name:?}");
        };
        check(SubjectName::Topic, "orders-value");
        check(SubjectName::Record, "shop.Order");
        check(SubjectName::TopicRecord, "orders-shop.Order");
        assert!(SubjectName::associated().local("orders", Part::Key, || Ok("x".into())).is_err());
    }
}
