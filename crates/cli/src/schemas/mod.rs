//! Keys and values by their schemas: what `consume` shows and `produce` writes.
//!
//! ```text
//! record ─▶ reading: its schema, of a registry or a file ─▶ Seen ─▶ filters, formats, JSON lines
//! JSON lines, with the note of their schema ─▶ writing ─▶ the same record
//! ```

mod local;
mod name;
mod note;
mod reading;
mod writing;

pub(crate) use self::name::{type_of, versioned};
pub(crate) use self::note::Note;
pub(crate) use self::reading::{Decoder, ReadOptions, Seen};
pub(crate) use self::writing::{Encoder, WriteOptions};

use milena_registry::SerdeError;

use crate::exit::Failure;

/// What records and lines look like, for both `--help` texts.
pub(crate) const HELP: &str = "\
JSON lines of values with a schema:
  {\"value\":{\"id\":7},\"value_schema\":{\"id\":3,\"framing\":\"v0\",\"type\":\"AVRO\"}}   (and other fields)
  value is decoded. value_schema says by which schema, and how the record names it; for Protobuf
  also which message it is. produce --json encodes it by that schema. If its bytes would differ
  from those of the record, they are in value_raw, which counts as long as value is not changed.
  A value that cannot be decoded is in value_base64, and value_note says why. Keys are alike.
  Avro is in Avro's JSON encoding: a union is null or {\"string\":\"x\"}, and bytes have a character
  for each byte. Protobuf is in ProtoJSON.";

/// The failure of a command for that of a value.
fn failure(error: &SerdeError) -> Failure {
    match error.registry() {
        Some(error) => Failure::from(error.clone()),
        None => Failure::usage(error.to_string()),
    }
}
