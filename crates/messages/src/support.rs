//! What generated code calls besides the reader and the writer.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use milena_wire::{DecodeError, DecodeReason, EncodeError, EncodeReason, Reader, Writer};

/// Fails when the schema has no such version.
pub(crate) fn check_decode(
    r: &Reader<'_>,
    version: i16,
    versions: RangeInclusive<i16>,
    name: &'static str,
) -> Result<(), DecodeError> {
    if versions.contains(&version) {
        return Ok(());
    }
    Err(r.error(name, DecodeReason::UnsupportedVersion(version)))
}

/// Fails when the schema has no such version.
pub(crate) fn check_encode(
    version: i16,
    versions: RangeInclusive<i16>,
    name: &'static str,
) -> Result<(), EncodeError> {
    if versions.contains(&version) {
        return Ok(());
    }
    Err(EncodeError::new(name, EncodeReason::UnsupportedVersion(version)))
}

/// A field is set that `version` lacks and that the receiver must not miss.
#[cold]
pub(crate) fn unsupported(field: &'static str, version: i16) -> EncodeError {
    EncodeError::new(field, EncodeReason::UnsupportedField(version))
}

/// Null in a version that has none for this field.
#[cold]
pub(crate) fn null(field: &'static str) -> EncodeError {
    EncodeError::new(field, EncodeReason::UnexpectedNull)
}

/// Bytes that debug output shows the length of and nothing else.
pub(crate) struct Opaque<'a>(pub(crate) Option<&'a Bytes>);

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
            None => f.write_str("null"),
        }
    }
}

/// Writers of array elements: one function for all arrays of a type.
macro_rules! elements {
    ($($method:ident: $kind:ty,)*) => {$(
        pub(crate) fn $method(w: &mut Writer, value: &$kind, _: &'static str) -> Result<(), EncodeError> {
            w.$method(*value);
            Ok(())
        }
    )*};
}

elements! {
    i8: i8,
    i16: i16,
    i32: i32,
    i64: i64,
}
