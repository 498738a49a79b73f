//! `value_schema` in JSON lines: how a record names its schema.

use milena_registry::SchemaType;
use milena_registry::framing::{Framing, Guid, SchemaId};
use serde::{Deserialize, Serialize};

/// What a record said of its schema, or is to say. One of the ids is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    global_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    glue_id: Option<String>,
    framing: Form,
    /// The format, for whoever reads the line.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The full name of the message, which Protobuf has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// The framings by the names that lines have for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    V0,
    V1,
    Apicurio,
    ApicurioHeader,
    Glue,
}

const FORMS: [(Form, Framing); 5] = [
    (Form::V0, Framing::ConfluentPrefix),
    (Form::V1, Framing::ConfluentHeader),
    (Form::Apicurio, Framing::ApicurioPrefix),
    (Form::ApicurioHeader, Framing::ApicurioHeader),
    (Form::Glue, Framing::Glue),
];

impl Note {
    /// None if there is no name for the framing or the id.
    pub(super) fn of(
        framing: Framing,
        schema: SchemaId,
        kind: &SchemaType,
        message: Option<&str>,
    ) -> Option<Self> {
        let (form, _) = FORMS.into_iter().find(|(_, of)| *of == framing)?;
        let mut note = Self {
            id: None,
            guid: None,
            global_id: None,
            content_id: None,
            glue_id: None,
            framing: form,
            kind: Some(kind.name().to_owned()),
            message: message.map(str::to_owned),
        };
        match schema {
            SchemaId::Id(id) => note.id = Some(id),
            SchemaId::Guid(guid) => note.guid = Some(guid.to_string()),
            SchemaId::GlobalId(id) => note.global_id = Some(id),
            SchemaId::ContentId(id) => note.content_id = Some(id),
            SchemaId::Glue(guid) => note.glue_id = Some(guid.to_string()),
            _ => return None,
        }
        Some(note)
    }

    /// The framing and the schema.
    pub(super) fn names(&self) -> Result<(Framing, SchemaId), String> {
        let guid = |text: &String| text.parse::<Guid>();
        let ids = [
            self.id.map(|id| Ok(SchemaId::Id(id))),
            self.guid.as_ref().map(|text| guid(text).map(SchemaId::Guid)),
            self.global_id.map(|id| Ok(SchemaId::GlobalId(id))),
            self.content_id.map(|id| Ok(SchemaId::ContentId(id))),
            self.glue_id.as_ref().map(|text| guid(text).map(SchemaId::Glue)),
        ];
        let mut ids = ids.into_iter().flatten();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            return Err("it needs one of id, guid, global_id, content_id and glue_id".into());
        };
        let framing = FORMS.into_iter().find(|(form, _)| *form == self.framing).map(|(_, framing)| framing);
        Ok((framing.ok_or("its framing is not known")?, id?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let guid: Guid = "89791762-2336-4186-9674-299b90a802e2".parse().expect("a GUID");
        for (framing, id, text) in [
            (Framing::ConfluentPrefix, SchemaId::Id(7), r#"{"id":7,"framing":"v0","type":"AVRO"}"#),
            (
                Framing::ConfluentHeader,
                SchemaId::Guid(guid),
                r#"{"guid":"89791762-2336-4186-9674-299b90a802e2","framing":"v1","type":"AVRO"}"#,
            ),
            (
                Framing::ApicurioHeader,
                SchemaId::ContentId(3),
                r#"{"content_id":3,"framing":"apicurio-header","type":"AVRO"}"#,
            ),
        ] {
            let note = Note::of(framing, id, &SchemaType::Avro, None).expect("a note");
            assert_eq!(serde_json::to_string(&note).expect("JSON"), text);
            let read: Note = serde_json::from_str(text).expect("a note");
            assert_eq!(read.names(), Ok((framing, id)));
        }
        for wrong in [
            r#"{"framing":"v0"}"#,
            r#"{"id":1,"global_id":1,"framing":"v0"}"#,
            r#"{"guid":"x","framing":"v1"}"#,
        ] {
            assert!(serde_json::from_str::<Note>(wrong).expect("a note").names().is_err(), "{wrong}");
        }
    }
}
