//! The formats that registries know, by the checks of [`compat`](crate::compat).

use super::formats::{Formats, Level, Parsed, Source};
use crate::compat::{Format, Reference, Schema, check};

/// Avro, JSON Schema and Protobuf.
pub(super) struct Native;

/// In the order in which Confluent's registry lists them.
const KINDS: [&str; 3] = ["JSON", "PROTOBUF", "AVRO"];

fn read(source: &Source) -> Result<Schema, String> {
    let format: Format = source.kind.parse().map_err(|_| format!("the type {} is not known", source.kind))?;
    let reference = |(name, text): &(String, String)| Reference { name: name.clone(), schema: text.clone() };
    let references: Vec<_> = source.needed.iter().map(reference).collect();
    Schema::parse(format, &source.text, &references).map_err(|error| error.to_string())
}

impl Formats for Native {
    fn kinds(&self) -> Vec<&'static str> {
        KINDS.into_iter().filter(|kind| kind.parse::<Format>().is_ok()).collect()
    }

    fn parse(&self, source: &Source) -> Result<Parsed, String> {
        let schema = read(source)?;
        Ok(Parsed { canonical: schema.canonical(), normalized: schema.normalized() })
    }

    #[cfg(feature = "protobuf")]
    fn serialized(&self, source: &Source) -> Option<String> {
        (source.kind == Format::Protobuf.name())
            .then(|| crate::ProtobufSchema::serialized(&source.text, &source.needed).ok())
            .flatten()
    }

    #[cfg(not(feature = "protobuf"))]
    fn serialized(&self, _: &Source) -> Option<String> {
        None
    }

    fn incompatibilities(&self, level: Level, new: &Source, older: &[Source]) -> Vec<String> {
        if level == Level::None {
            return Vec::new();
        }
        if let Some(other) = older.iter().rev().find(|old| old.kind != new.kind) {
            return vec![format!("the new schema is {}, and an earlier one is {}", new.kind, other.kind)];
        }
        let new = match read(new) {
            Ok(schema) => schema,
            Err(why) => return vec![why],
        };
        // An earlier version that cannot be read, which an import may have stored, cannot be compared.
        let older: Vec<_> = older.iter().filter_map(|old| read(old).ok()).collect();
        match check(level, &new, &older) {
            Ok(()) => Vec::new(),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        }
    }
}
