//! Avro: schemas, and data in its binary encoding.
//!
//! ```text
//! JSON ─▶ schema (nodes, names resolved, defaults encoded) ─┬─▶ de, ser: types of serde, directly from and to bytes
//!                                                           └─▶ value: data whose schema is known at run time only
//!                                  bytes ─▶ reader (bounds) ┘          ▲
//!                                                              json ◀──┘ text, by Avro's JSON encoding
//! ```
//!
//! Everything here is a function of bytes. Nothing is allocated because of a length that the bytes announce; how deep data is
//! nested, and how many items take no bytes, is bounded.

mod de;
mod format;
mod json;
mod reader;
mod scalars;
mod schema;
mod ser;
#[cfg(test)]
mod tests;
mod value;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::format::Avro;
pub use self::schema::AvroSchema;
pub use self::value::AvroValue;

use self::reader::Reader;
use crate::SerdeError;
use crate::json_text::Place;

impl AvroSchema {
    /// Reads a value of a type of serde's from bytes that were written with this schema. Fields are found by their names, so the type
    /// may lack some, or have others that have a default; numbers fit if their value does. What is text or bytes can be borrowed.
    ///
    /// A union is an `Option`, if its other branch is null, or an enum whose variants have the names of its branches.
    ///
    /// ```
    /// use milena_registry::AvroSchema;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, PartialEq, Debug)]
    /// struct Order<'a> {
    ///     id: i64,
    ///     note: Option<&'a str>,
    /// }
    ///
    /// let schema = AvroSchema::parse(
    ///     r#"{"type": "record", "name": "Order", "fields": [
    ///         {"name": "id", "type": "long"},
    ///         {"name": "note", "type": ["null", "string"], "default": null}]}"#,
    /// )?;
    /// let mut bytes = Vec::new();
    /// schema.write(&Order { id: 7, note: Some("soon") }, &mut bytes)?;
    /// assert_eq!(bytes, b"\x0e\x02\x08soon");
    /// assert_eq!(schema.read::<Order<'_>>(&bytes)?, Order { id: 7, note: Some("soon") });
    /// assert!(schema.read::<Order<'_>>(b"\x0e\x02\x08so").is_err());
    /// # Ok::<(), milena_registry::SerdeError>(())
    /// ```
    ///
    /// # Errors
    /// When the bytes are not such data, or the type does not fit.
    #[inline]
    pub fn read<'de, T: Deserialize<'de>>(&self, bytes: &'de [u8]) -> Result<T, SerdeError> {
        let mut reader = Reader::new(bytes);
        let value = T::deserialize(de::Datum::new(self, &mut reader))?;
        reader.finish()?;
        Ok(value)
    }

    /// As [`read`](Self::read), for a type that borrows nothing.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_owned<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        self.read(bytes)
    }

    /// Appends a value of a type of serde's, in this schema's encoding. Fields are found by their names; one that the type does not
    /// have needs a default in the schema.
    ///
    /// # Errors
    /// When the value does not fit the schema. What was appended before is taken away.
    #[inline]
    pub fn write<T: Serialize + ?Sized>(&self, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let begin = into.len();
        let written = value.serialize(ser::Datum::new(self, into));
        if written.is_err() {
            into.truncate(begin);
        }
        written
    }

    /// Reads data whose type is not known before.
    ///
    /// # Errors
    /// When the bytes are not such data.
    pub fn read_value(&self, bytes: &[u8]) -> Result<AvroValue, SerdeError> {
        let mut reader = Reader::new(bytes);
        let value = value::read(self, self.root(), &mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// Appends data whose type is not known before.
    ///
    /// # Errors
    /// When it does not fit the schema. What was appended before is taken away.
    pub fn write_value(&self, value: &AvroValue, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let begin = into.len();
        let written = value::write(self, self.root(), value, into);
        if written.is_err() {
            into.truncate(begin);
        }
        written
    }

    /// Data as JSON on one line, in the encoding that Avro's specification defines: a union is `null` or `{"BRANCH": VALUE}`, bytes and
    /// fixed have a character U+0000 to U+00FF for each byte, logical types are what they are made of, and numbers that JSON does not
    /// have are `"NaN"`, `"Infinity"` and `"-Infinity"`.
    ///
    /// ```
    /// use milena_registry::AvroSchema;
    ///
    /// let schema = AvroSchema::parse(
    ///     r#"{"type": "record", "name": "Order", "fields": [
    ///         {"name": "id", "type": "long"},
    ///         {"name": "note", "type": ["null", "string"], "default": null}]}"#,
    /// )?;
    /// let value = schema.read_value(b"\x0e\x02\x08soon")?;
    /// let json = schema.json_of(&value)?;
    /// assert_eq!(json, r#"{"id":7,"note":{"string":"soon"}}"#);
    /// assert_eq!(schema.value_of_json(&json)?, value);
    /// // Where one branch only can be meant it need not be named.
    /// assert_eq!(schema.value_of_json(r#"{"id": 7, "note": "soon"}"#)?, value);
    /// let error = schema.value_of_json(r#"{"id": "seven"}"#).unwrap_err();
    /// assert_eq!(error.to_string(), "Avro: at /id: a text does not fit long");
    /// # Ok::<(), milena_registry::SerdeError>(())
    /// ```
    ///
    /// # Errors
    /// When the data does not fit the schema, or would be nested more than 100 levels deep.
    pub fn json_of(&self, value: &AvroValue) -> Result<String, SerdeError> {
        let mut text = String::new();
        json::write(self, self.root(), value, 0, &mut text)?;
        Ok(text)
    }

    /// Reads data from the JSON that [`json_of`](Self::json_of) writes. Besides, fields that have a default may be left out, and a branch
    /// of a union need not be named where one only can be meant. An object with one field that has the name of a branch is that branch.
    ///
    /// # Errors
    /// When the text is no JSON, or does not fit the schema. The error names the place, as a JSON pointer, and not the value.
    pub fn value_of_json(&self, text: &str) -> Result<AvroValue, SerdeError> {
        let parsed =
            serde_json::from_str(text).map_err(|error| wrong(format_args!("it is no JSON: {error}")))?;
        json::read(self, self.root(), parsed, &Place::root())
    }
}

/// An error of data that does not fit.
fn wrong(why: impl std::fmt::Display) -> SerdeError {
    SerdeError::data(format!("Avro: {why}"))
}
