//! What `milena consume` shows of keys and values that have a schema.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use milena::{Batch, RecordView};
use milena_registry::framing::{self, Part};
use milena_registry::{
    Dynamic, DynamicValue, Prepare as _, RecordDecoder as _, RegistrySerde, SchemaMemory, SerdeError,
};

use super::local::Local;
use super::note::Note;
use crate::cluster::Resolved;
use crate::exit::Failure;
use crate::output::tell;
use crate::registry_options::RegistryOptions;

/// Whether and how keys and values are decoded.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Schemas")]
pub(crate) struct ReadOptions {
    /// Which of keys and values to decode by the schemas that they name. Default: both if a schema registry is named, and else none
    #[arg(long, value_name = "WHAT")]
    decode: Option<What>,

    /// Decode values by the schema in this file (.avsc, .proto, .json). They are its bytes alone, and name no schema
    #[arg(long, value_name = "FILE")]
    value_schema: Option<PathBuf>,

    /// Decode keys by the schema in this file
    #[arg(long, value_name = "FILE")]
    key_schema: Option<PathBuf>,

    /// The full name of the message that values are, as in shop.Order. Default: the first one of the file
    #[arg(long, value_name = "NAME", requires = "value_schema")]
    value_message: Option<String>,

    /// The full name of the message that keys are
    #[arg(long, value_name = "NAME", requires = "key_schema")]
    key_message: Option<String>,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// What is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Keys and values
    Auto,
    /// Keys only
    Key,
    /// Values only
    Value,
    /// Neither
    None,
}

/// How a key or a value is shown, if it is not shown as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Decoded {
        /// On one line.
        json: Box<str>,
        /// JSON that says how the record names its schema, if it does.
        note: Option<String>,
        /// Whether the value is encoded to the same bytes.
        is_exact: bool,
    },
    /// It cannot be decoded.
    Failed(String),
}

impl Seen {
    /// The bytes that are shown for `raw`.
    pub(crate) fn shown<'a>(seen: Option<&'a Self>, raw: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match seen {
            Some(Self::Decoded { json, .. }) => Some(json.as_bytes()),
            _ => raw,
        }
    }
}

/// Decodes keys and values.
pub(crate) struct Decoder {
    key: Reader,
    value: Reader,
    /// Whether the raw form is wanted where it cannot be made again.
    keeps_raw: bool,
    /// Why keys and values could not be decoded, and how many each.
    failures: BTreeMap<(Part, String), u64>,
    failed: [u64; 2],
}

enum Reader {
    None,
    Registry(RegistrySerde<Dynamic>, SchemaMemory<Dynamic>),
    Local(Local),
}

/// A registry that is down is not asked for each batch.
const PAUSE: Duration = Duration::from_secs(10);
/// So many reasons are told, and the records of all.
const REASONS_MAX: usize = 5;

impl ReadOptions {
    /// The decoder; none if nothing is to be decoded. `resolved` may name a registry.
    pub(crate) fn decoder(&self, resolved: &Resolved, keeps_raw: bool) -> Result<Option<Decoder>, Failure> {
        let what = self.decode.unwrap_or(What::Auto);
        let registry = match what {
            What::None => None,
            What::Auto if self.decode.is_none() => self.registry.client(resolved)?,
            _ if self.value_schema.is_some() && self.key_schema.is_some() => {
                self.registry.client(resolved)?
            }
            _ => Some(self.registry.required(resolved)?),
        };
        let reader = |file: &Option<PathBuf>, message: &Option<String>, is_wanted: bool| {
            Ok::<_, Failure>(match (file, &registry) {
                (Some(file), _) => Reader::Local(Local::open(file, message.as_deref())?),
                (None, Some(registry)) if is_wanted => {
                    let serde = RegistrySerde::new(registry, Dynamic::new()).pause_after_failure(PAUSE);
                    Reader::Registry(serde, SchemaMemory::default())
                }
                _ => Reader::None,
            })
        };
        let key = reader(&self.key_schema, &self.key_message, matches!(what, What::Auto | What::Key))?;
        let value =
            reader(&self.value_schema, &self.value_message, matches!(what, What::Auto | What::Value))?;
        if let (Reader::None, Reader::None) = (&key, &value) {
            return Ok(None);
        }
        Ok(Some(Decoder { key, value, keeps_raw, failures: BTreeMap::new(), failed: [0; 2] }))
    }
}

impl Decoder {
    /// Gets the schemas that the records of a batch name.
    pub(crate) async fn prepare(&self, batch: &Batch) {
        for (part, reader) in [(Part::Key, &self.key), (Part::Value, &self.value)] {
            if let Reader::Registry(serde, _) = reader {
                serde.prepare(batch, part).await;
            }
        }
    }

    /// How the key or the value is shown; none if it is shown as it is.
    pub(crate) fn look(&mut self, record: &RecordView<'_>, part: Part) -> Option<Seen> {
        let (reader, payload) = match part {
            Part::Key => (&mut self.key, record.key()?),
            Part::Value => (&mut self.value, record.value()?),
        };
        match reader {
            Reader::None => None,
            Reader::Local(local) => Some(match local.decode(payload) {
                Ok(value) => Seen::Decoded {
                    is_exact: !self.keeps_raw || is_plain(local, &value, payload),
                    json: value.json().into(),
                    note: None,
                },
                Err(error) => Seen::Failed(error.to_string()),
            }),
            Reader::Registry(serde, memory) => {
                let headers = || record.headers();
                let Some(framed) = framing::detect(part, payload, headers()) else {
                    // Text is readable as it is.
                    let is_text = std::str::from_utf8(payload).is_ok();
                    let why = framing::read(part, payload, headers()).err()?;
                    return (!is_text).then(|| Seen::Failed(why.to_string()));
                };
                let read: Result<DynamicValue, SerdeError> = serde.decode(memory, part, payload, headers());
                let (framing, id) = (framed.framing(), framed.schema());
                Some(match read {
                    Ok(value) => {
                        let kind = serde.loaded_schema(id).ok().map(|schema| schema.kind());
                        let note = kind.and_then(|kind| Note::of(framing, id, &kind, value.message()));
                        let is_exact = !self.keeps_raw || serde.restores(part, framing, id, &value, payload);
                        let note = note.and_then(|note| serde_json::to_string(&note).ok());
                        Seen::Decoded { json: value.json().into(), note, is_exact }
                    }
                    Err(error) => Seen::Failed(error.to_string()),
                })
            }
        }
    }

    /// Counts a record that is written.
    pub(crate) fn count(&mut self, part: Part, seen: Option<&Seen>) {
        let Some(Seen::Failed(why)) = seen else { return };
        self.failed[usize::from(part == Part::Value)] += 1;
        let reason = (part, why.clone());
        // Reasons may be as many as records.
        if self.failures.len() < REASONS_MAX || self.failures.contains_key(&reason) {
            *self.failures.entry(reason).or_default() += 1;
        }
    }

    /// Writes to stderr how many could not be decoded, and why.
    pub(crate) fn tell(&self) {
        let [keys, values] = self.failed;
        let count = |count: u64, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            count => Some(format!("{count} {what}s")),
        };
        let counts: Vec<_> = [count(keys, "key"), count(values, "value")].into_iter().flatten().collect();
        if counts.is_empty() {
            return;
        }
        let is_one = keys + values == 1;
        let (were, are) = if is_one { ("was", "is") } else { ("were", "are") };
        tell(format_args!(
            "{} {were} not decoded, and {are} written as in the record:",
            counts.join(" and ")
        ));
        for ((_, why), count) in &self.failures {
            tell(format_args!("  {count}: {why}"));
        }
        let told: u64 = self.failures.values().sum();
        if told < keys + values {
            tell(format_args!("  {}: for other reasons", keys + values - told));
        }
    }
}

/// Whether a value without the note of a schema is written to the same bytes.
fn is_plain(local: &Local, value: &DynamicValue, payload: &[u8]) -> bool {
    // A line's null is a tombstone, if no schema is named.
    value.json() != "null" && local.encode(value.json()).is_ok_and(|written| written == payload)
}
