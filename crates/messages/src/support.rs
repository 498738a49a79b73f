//! What generated code calls besides the reader and the writer.

use milena_wire::{DecodeError, DecodeReason, EncodeError, EncodeReason, Reader};

use crate::Message;

/// Fails when the schema has no such version.
pub(crate) fn check_decode<M: Message>(r: &Reader<'_>, version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(r.error(M::NAME, DecodeReason::UnsupportedVersion(version)))
}

/// Fails when the schema has no such version.
pub(crate) fn check_encode<M: Message>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(EncodeError::new(M::NAME, EncodeReason::UnsupportedVersion(version)))
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
