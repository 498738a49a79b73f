//! What `milena produce` makes of JSON that has a schema.

use std::borrow::Cow;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use milena::Header;
use milena_registry::framing::{self, Part, SchemaId};
use milena_registry::{
    Dynamic, DynamicValue, RecordEncoder, RegistrySerde, SchemaRegistry, SchemaWriter, SerdeError,
    SubjectName,
};

use super::failure;
use super::local::{self, Local};
use super::name::{SchemaName, schema_name};
use crate::cluster::Resolved;
use crate::exit::Failure;
use crate::json::{Half, Line};
use crate::registry_options::RegistryOptions;

/// By which schemas keys and values are encoded.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Schemas")]
pub(crate) struct WriteOptions {
    /// Encode values, which are JSON, by this schema: SUBJECT (its latest version), SUBJECT@VERSION, id:NUMBER, or a file (.avsc,
    /// .proto, .json), which the registry must have
    #[arg(long, value_name = "SCHEMA", value_parser = schema_name)]
    value_schema: Option<SchemaName>,

    /// Encode keys, which are JSON, by this schema
    #[arg(long, value_name = "SCHEMA", value_parser = schema_name)]
    key_schema: Option<SchemaName>,

    /// The full name of the Protobuf message that values are, as in shop.Order. Default: the first one of the file
    #[arg(long, value_name = "NAME", requires = "value_schema")]
    value_message: Option<String>,

    /// The full name of the Protobuf message that keys are
    #[arg(long, value_name = "NAME", requires = "key_schema")]
    key_message: Option<String>,

    /// How records name the schema. Default: v0; none if the schema is a file and no registry is named
    #[arg(long, value_name = "FORM")]
    schema_framing: Option<Form>,

    /// Register the schema of a file, if the registry does not have it under the subject
    #[arg(long)]
    auto_register: bool,

    /// The subject that the schema of a file is under
    #[arg(long, value_name = "STRATEGY", default_value = "topic")]
    subject_name: Strategy,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// How records name the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// By its id, before the bytes
    V0,
    /// By its GUID, in a header
    V1,
    /// Not at all
    None,
}

/// How subjects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// TOPIC-key and TOPIC-value
    Topic,
    /// The name of the record
    Record,
    /// TOPIC-RECORD
    TopicRecord,
    /// The one that the registry associates with the topic, or else as topic
    Associated,
}

impl From<Strategy> for SubjectName {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Topic => Self::Topic,
            Strategy::Record => Self::Record,
            Strategy::TopicRecord => Self::TopicRecord,
            Strategy::Associated => Self::associated(),
        }
    }
}

/// Encodes keys and values of lines.
pub(crate) struct Encoder {
    key: Option<Writer>,
    value: Option<Writer>,
    /// For lines that say by which schema they are.
    registry: Option<RegistrySerde<Dynamic>>,
}

enum Writer {
    Registry { serde: RegistrySerde<Dynamic>, writer: Arc<SchemaWriter<Dynamic>> },
    Local(Local),
}

impl WriteOptions {
    /// Whether keys are JSON, and whether values are.
    pub(crate) fn is_json(&self) -> (bool, bool) {
        (self.key_schema.is_some(), self.value_schema.is_some())
    }

    /// Gets ready to write to a topic: schemas are looked up, so that a mistake is an error before the first line. `resolved` may name a
    /// registry.
    pub(crate) async fn encoder(&self, resolved: &Resolved, topic: &str) -> Result<Encoder, Failure> {
        let registry = match self.schema_framing {
            Some(Form::None) => None,
            _ => self.registry.client(resolved)?,
        };
        let writer = |part| self.writer(part, registry.as_ref(), resolved, topic);
        let (key, value) = (writer(Part::Key).await?, writer(Part::Value).await?);
        let registry = registry.map(|registry| RegistrySerde::new(&registry, Dynamic::new()));
        Ok(Encoder { key, value, registry })
    }

    async fn writer(
        &self,
        part: Part,
        registry: Option<&SchemaRegistry>,
        resolved: &Resolved,
        topic: &str,
    ) -> Result<Option<Writer>, Failure> {
        let (schema, message) = match part {
            Part::Key => (&self.key_schema, &self.key_message),
            Part::Value => (&self.value_schema, &self.value_message),
        };
        let Some(schema) = schema else { return Ok(None) };
        let required;
        let registry = match (schema, registry, self.schema_framing) {
            (_, Some(registry), _) => registry,
            (SchemaName::File(file), None, None | Some(Form::None)) if !self.auto_register => {
                return Local::open(file, message.as_deref()).map(|local| Some(Writer::Local(local)));
            }
            (_, None, Some(Form::None)) => {
                return Err(Failure::usage("--schema-framing none is for the schema of a file"));
            }
            // Says that none is named.
            (_, None, _) => {
                required = self.registry.required(resolved)?;
                &required
            }
        };
        let format = message.clone().map_or_else(Dynamic::new, Dynamic::message);
        let is_in_header = self.schema_framing == Some(Form::V1);
        let mut serde = RegistrySerde::new(registry, format).in_header(is_in_header);
        serde = match schema {
            SchemaName::File(file) => {
                let (schema, _) = local::read(file)?;
                serde.schema(schema).subject_name(self.subject_name.into()).auto_register(self.auto_register)
            }
            SchemaName::Subject(subject, version) => {
                serde.use_registered(registry.version(subject, *version).await?)
            }
            // The id alone does not say the GUID.
            SchemaName::Id(id) if is_in_header => {
                let versions = registry.versions_of_id(*id).await?;
                let (subject, version) = versions.first().ok_or_else(|| {
                    Failure::not_found(format!(
                        "schema {id} is the version of no subject, which would say its GUID"
                    ))
                })?;
                serde.use_registered(registry.version(subject, *version).await?)
            }
            SchemaName::Id(id) => serde.use_id(*id),
        };
        let writer =
            RecordEncoder::<str>::writer(&serde, topic, part).await.map_err(|error| failure(&error))?;
        Ok(Some(Writer::Registry { serde, writer }))
    }
}

impl Encoder {
    /// Encodes what has a schema.
    ///
    /// # Errors
    /// When it does not fit, with the place in it, or the registry cannot be asked.
    pub(crate) async fn encode(&self, line: &mut Line<'_>) -> Result<(), Failure> {
        for (part, writer) in [(Part::Key, &self.key), (Part::Value, &self.value)] {
            let half = std::mem::take(match part {
                Part::Key => &mut line.key_half,
                Part::Value => &mut line.value_half,
            });
            // A tombstone has no schema, unless its line names one: then null is a value.
            let is_null = match part {
                Part::Key => line.key.is_none(),
                Part::Value => line.value.is_none(),
            };
            let bytes = match (&half, writer) {
                (Half { schema: Some(_), .. }, _) => Some(self.by_note(part, &half, line).await?),
                (Half { json: Some(json), raw, .. }, Some(writer)) if !is_null || raw.is_some() => {
                    Some(writer.encode(part, json, raw.as_deref(), line)?)
                }
                (Half { raw: Some(_), .. }, None) => {
                    return Err(Failure::usage(format!(
                        "{part}_raw is for a {part} with a schema: add {part}_schema, or --{part}-schema"
                    )));
                }
                _ => None,
            };
            if let Some(bytes) = bytes {
                match part {
                    Part::Key => line.key = Some(Cow::Owned(bytes)),
                    Part::Value => line.value = Some(Cow::Owned(bytes)),
                }
            }
        }
        Ok(())
    }

    /// Encodes a value by the schema that its line names.
    async fn by_note(&self, part: Part, half: &Half<'_>, line: &mut Line<'_>) -> Result<Vec<u8>, Failure> {
        let usage = |why: String| Failure::usage(format!("{part}_schema: {why}"));
        let (Some(note), Some(json)) = (&half.schema, half.json) else {
            return Err(usage(format!("there is no {part} beside it")));
        };
        let Some(serde) = &self.registry else {
            return Err(Failure::usage(format!("{part}_schema needs a schema registry"))
                .hint("Name it with --registry URL, MILENA_REGISTRY, or schema.registry.url in a profile."));
        };
        let (framing, id) = note.names().map_err(usage)?;
        serde.load(id).await.map_err(|error| failure(&error))?;
        if let Some(raw) = &half.raw
            && is_same(serde, part, raw, &headers(line), id, json)
        {
            return Ok(raw.clone());
        }
        let value = DynamicValue::new(json, note.message.clone());
        let mut bytes = Vec::new();
        let header = serde
            .write_as(part, framing, id, &value, &mut bytes)
            .map_err(|error| failure(&error).at(&part.to_string()))?;
        if let Some((name, header)) = header {
            // A header that says the same in another way stays.
            let said = framing::read(part, &bytes, headers(line)).is_ok_and(|said| said.schema() == id);
            let read: Result<DynamicValue, SerdeError> = decoded(serde, part, &bytes, &headers(line));
            let is_said =
                said && read.is_ok_and(|read| note.message.is_none() || read.message() == value.message());
            if !is_said {
                line.headers.retain(|(other, _)| **other != *name.as_bytes());
                line.headers.push((Cow::Borrowed(name.as_bytes()), Some(Cow::Owned(header))));
            }
        }
        Ok(bytes)
    }
}

impl Writer {
    fn encode(
        &self,
        part: Part,
        json: &str,
        raw: Option<&[u8]>,
        line: &mut Line<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let at = |error: SerdeError| failure(&error).at(&part.to_string());
        match self {
            Self::Local(local) => {
                if let Some(raw) = raw
                    && local.decode(raw).is_ok_and(|value| is_same_json(value.json(), json))
                {
                    return Ok(raw.to_vec());
                }
                local.encode(json).map_err(at)
            }
            Self::Registry { serde, writer } => {
                let mut bytes = Vec::new();
                serde.encode(writer, json, &mut bytes).map_err(at)?;
                if let Some(Header { key, value }) = RecordEncoder::<str>::header(serde, writer) {
                    line.headers
                        .push((Cow::Owned(key.to_vec()), value.map(|value| Cow::Owned(value.to_vec()))));
                }
                Ok(bytes)
            }
        }
    }
}

fn headers<'l>(line: &'l Line<'_>) -> Vec<Header<'l>> {
    line.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
}

fn decoded(
    serde: &RegistrySerde<Dynamic>,
    part: Part,
    payload: &[u8],
    headers: &[Header<'_>],
) -> Result<DynamicValue, SerdeError> {
    use milena_registry::RecordDecoder as _;
    serde.decode(&mut milena_registry::SchemaMemory::default(), part, payload, headers.iter().copied())
}

/// Whether these bytes are what the line shows.
fn is_same(
    serde: &RegistrySerde<Dynamic>,
    part: Part,
    raw: &[u8],
    headers: &[Header<'_>],
    id: SchemaId,
    json: &str,
) -> bool {
    framing::read(part, raw, headers.iter().copied()).is_ok_and(|framed| framed.schema() == id)
        && decoded(serde, part, raw, headers).is_ok_and(|value| is_same_json(value.json(), json))
}

/// Whether two texts are the same JSON, whatever blanks they have.
fn is_same_json(one: &str, other: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || parsed(one).is_some_and(|one| Some(one) == parsed(other))
}
