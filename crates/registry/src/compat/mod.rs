//! Compatibility of schemas, checked locally: what a registry would answer, without one.
//!
//! [`Schema::parse`] reads a text of one of the three formats with the texts that it refers to. [`check`] compares a new
//! schema with the versions before it, at one of a registry's seven levels. Nothing here does I/O, and nothing is
//! trusted: texts, nesting and the work of a check are bounded.
//!
//! ```
//! use milena_registry::compat::{Format, Level, Schema, check};
//!
//! let old = r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "int"}]}"#;
//! let new = r#"{"type": "record", "name": "Order", "fields": [
//!     {"name": "id", "type": "long"},
//!     {"name": "note", "type": "string"}
//! ]}"#;
//! let old = Schema::parse(Format::Avro, old, &[])?;
//! let new = Schema::parse(Format::Avro, new, &[])?;
//!
//! let found = check(Level::Backward, &new, &[old]).unwrap_err();
//! assert_eq!(found.len(), 1);
//! assert_eq!(found[0].path(), "/fields/1");
//! assert_eq!(found[0].kind().name(), "READER_FIELD_MISSING_DEFAULT_VALUE");
//! assert!(found[0].to_string().ends_with("give the field a default"));
//! # Ok::<(), milena_registry::compat::SchemaError>(())
//! ```

mod avro;
mod diff;
mod fingerprint;
mod json;
mod kind;
mod pairs;
mod proto;
mod rules;
mod value;

use std::fmt;
use std::str::FromStr;

pub use self::diff::{Change, diff};
pub use self::fingerprint::Identity;
pub use self::kind::Kind;
use self::pairs::Finding;
pub use self::rules::Rules;

/// Bytes that the text of a schema may have. Schemas that people write are some hundred kilobytes at most.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Bytes that a schema and its references may have together.
pub const TOTAL_BYTES_MAX: usize = 8 << 20;

/// References that a schema may have, those of its references included.
pub const REFERENCES_MAX: usize = 1_000;

/// The languages in which schemas are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Avro's JSON form.
    Avro,
    /// A `.proto` text, proto2 or proto3.
    Protobuf,
    /// JSON Schema, draft-04 to 2020-12; draft-07 when `$schema` names none.
    Json,
}

impl Format {
    /// The name in a registry's requests, such as `AVRO`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Avro => "AVRO",
            Format::Protobuf => "PROTOBUF",
            Format::Json => "JSON",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = SchemaError;

    fn from_str(name: &str) -> Result<Format, SchemaError> {
        let known = [Format::Avro, Format::Protobuf, Format::Json];
        let found = known.into_iter().find(|format| format.name() == name);
        found
            .ok_or_else(|| SchemaError(format!("unknown schema format '{name}'; use AVRO, PROTOBUF or JSON")))
    }
}

/// How far a new schema has to agree with the ones before it. The names are a registry's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// Everything is allowed.
    None,
    /// The new schema reads what the latest one wrote. A registry's default.
    #[default]
    Backward,
    /// The new schema reads what each earlier one wrote.
    BackwardTransitive,
    /// The latest schema reads what the new one writes.
    Forward,
    /// Each earlier schema reads what the new one writes.
    ForwardTransitive,
    /// Both, with the latest schema.
    Full,
    /// Both, with each earlier schema.
    FullTransitive,
}

impl Level {
    /// Every level, from the weakest.
    pub const ALL: [Level; 7] = [
        Level::None,
        Level::Backward,
        Level::BackwardTransitive,
        Level::Forward,
        Level::ForwardTransitive,
        Level::Full,
        Level::FullTransitive,
    ];

    /// The name in a registry's requests, such as `BACKWARD_TRANSITIVE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::Forward => "FORWARD",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::Full => "FULL",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    fn transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }

    fn directions(self) -> &'static [Direction] {
        match self {
            Level::None => &[],
            Level::Backward | Level::BackwardTransitive => &[Direction::Backward],
            Level::Forward | Level::ForwardTransitive => &[Direction::Forward],
            Level::Full | Level::FullTransitive => &[Direction::Backward, Direction::Forward],
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = SchemaError;

    fn from_str(name: &str) -> Result<Level, SchemaError> {
        let found = Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names = Level::ALL.map(Level::name).join(", ");
            SchemaError(format!("unknown compatibility level '{name}'; use one of {names}"))
        })
    }
}

/// Which schema reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The new schema does not read what the old one wrote.
    Backward,
    /// The old schema does not read what the new one writes.
    Forward,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What the schema is called where it is referred to: an import's path in Protobuf, a URI in JSON Schema. Avro finds
    /// types by their own names, and this one only informs.
    pub name: String,
    /// The text of the schema.
    pub schema: String,
}

/// A schema that was read and is valid.
#[derive(Debug)]
pub struct Schema {
    parsed: Parsed,
}

#[derive(Debug)]
enum Parsed {
    Avro(Box<avro::Avro>),
    Protobuf(Box<proto::Proto>),
    Json(Box<json::JsonSchema>),
}

impl Schema {
    /// Reads a schema. `references` are all schemas that it needs, the needed before those that need them, as a registry
    /// resolves them.
    ///
    /// # Errors
    /// When the text or a reference is no valid schema, when a name or import is neither defined nor given as a reference,
    /// or when a limit is exceeded: [`SCHEMA_BYTES_MAX`], [`TOTAL_BYTES_MAX`], [`REFERENCES_MAX`], or nesting.
    pub fn parse(format: Format, text: &str, references: &[Reference]) -> Result<Schema, SchemaError> {
        if references.len() > REFERENCES_MAX {
            let count = references.len();
            return Err(SchemaError(format!(
                "a schema has {count} references, and {REFERENCES_MAX} are allowed"
            )));
        }
        let sizes =
            std::iter::once(text.len()).chain(references.iter().map(|reference| reference.schema.len()));
        let largest = sizes.clone().max().unwrap_or_default();
        if largest > SCHEMA_BYTES_MAX {
            return Err(SchemaError(format!(
                "a schema has {largest} bytes, and {SCHEMA_BYTES_MAX} are allowed"
            )));
        }
        let total: usize = sizes.sum();
        if total > TOTAL_BYTES_MAX {
            return Err(SchemaError(format!(
                "a schema and its references have {total} bytes together, and {TOTAL_BYTES_MAX} are allowed"
            )));
        }
        let parsed = match format {
            Format::Avro => {
                let texts: Vec<&str> = references.iter().map(|reference| reference.schema.as_str()).collect();
                avro::Avro::parse(text, &texts).map(|avro| Parsed::Avro(Box::new(avro)))
            }
            Format::Protobuf | Format::Json => {
                let texts: Vec<(&str, &str)> = references
                    .iter()
                    .map(|reference| (reference.name.as_str(), reference.schema.as_str()))
                    .collect();
                if format == Format::Protobuf {
                    proto::Proto::parse(text, &texts).map(|proto| Parsed::Protobuf(Box::new(proto)))
                } else {
                    json::JsonSchema::parse(text, &texts).map(|json| Parsed::Json(Box::new(json)))
                }
            }
        };
        let parsed = parsed.map_err(|error| invalid(format, &error))?;
        Ok(Schema { parsed })
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> Format {
        match &self.parsed {
            Parsed::Avro(_) => Format::Avro,
            Parsed::Protobuf(_) => Format::Protobuf,
            Parsed::Json(_) => Format::Json,
        }
    }

    /// The text that a registry stores and compares: two texts with one canonical form, the same references and the same
    /// rules are one schema and have one id.
    #[must_use]
    pub fn canonical(&self) -> String {
        match &self.parsed {
            Parsed::Avro(avro) => avro.canonical(),
            Parsed::Protobuf(proto) => proto.canonical(),
            Parsed::Json(json) => json.canonical(),
        }
    }

    /// The text that a registry stores when it is asked to normalize (`normalize=true`): more texts are one schema.
    #[must_use]
    pub fn normalized(&self) -> String {
        match &self.parsed {
            Parsed::Avro(avro) => avro.normalized(),
            Parsed::Protobuf(proto) => proto.normalized(),
            Parsed::Json(json) => json.normalized(),
        }
    }
}

fn invalid(format: Format, error: &str) -> SchemaError {
    SchemaError(format!("invalid {format} schema: {error}"))
}

/// Why a text is no schema, or a name is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError(String);

impl SchemaError {
    fn new(text: String) -> SchemaError {
        SchemaError(text)
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}

/// One thing that makes a schema incompatible with a version before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    kind: Kind,
    path: String,
    detail: String,
    direction: Direction,
    older: usize,
}

impl Incompatibility {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is, from the root of the schema that reads: `/fields/1` in Avro, `#/properties/id` in JSON Schema,
    /// `#/Order/3` (message and field number) in Protobuf.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What differs, as a phrase.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Which schema would have to read.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The place of the version in `older` that was compared.
    #[must_use]
    pub fn older(&self) -> usize {
        self.older
    }
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.direction {
            Direction::Backward => "the new schema does not read the old one's data",
            Direction::Forward => "the old schema does not read the new one's data",
        };
        write!(f, "{} at {}: {}: {}; {}", self.kind.name(), self.path, who, self.detail, self.kind.advice())
    }
}

/// Compares a new schema with the versions before it, the oldest first.
///
/// The levels that are not transitive look at the last of `older` only. Versions are compared from the latest one back, and
/// the first that is incompatible ends the check, as in Confluent's registry.
///
/// # Errors
/// What is incompatible, at most a hundred findings for each direction.
pub fn check(level: Level, new: &Schema, older: &[Schema]) -> Result<(), Vec<Incompatibility>> {
    let count = if level.transitive() { older.len() } else { 1 };
    for (place, old) in older.iter().enumerate().rev().take(count) {
        let mut found = Vec::new();
        for direction in level.directions() {
            let findings = match direction {
                Direction::Backward => reads(new, old),
                Direction::Forward => reads(old, new),
            };
            found.extend(findings.into_iter().map(|finding| Incompatibility {
                kind: finding.kind,
                path: finding.path,
                detail: finding.detail,
                direction: *direction,
                older: place,
            }));
        }
        if !found.is_empty() {
            return Err(found);
        }
    }
    Ok(())
}

/// What keeps `reader` from reading what `writer` wrote.
fn reads(reader: &Schema, writer: &Schema) -> Vec<Finding> {
    match (&reader.parsed, &writer.parsed) {
        (Parsed::Avro(reader), Parsed::Avro(writer)) => avro::check(reader, writer),
        (Parsed::Protobuf(reader), Parsed::Protobuf(writer)) => proto::check(reader, writer),
        (Parsed::Json(reader), Parsed::Json(writer)) => json::check(reader, writer),
        _ => {
            let detail = format!("{} does not read {}", reader.format(), writer.format());
            vec![Finding::new(Kind::FormatChanged, "/", detail)]
        }
    }
}
