//! Formats without schemas.

use milena::{Batch, Header};
use serde::{Deserialize, Serialize};

use super::format::{Prepare, RecordDecoder, RecordEncoder};
use crate::SerdeError;
use crate::framing::Part;

/// JSON without a schema. What is text may be borrowed, unless it has escapes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl<T: Serialize + ?Sized> RecordEncoder<T> for Json {
    type Writer = ();

    async fn writer(&self, _topic: &str, _part: Part) -> Result<(), SerdeError> {
        Ok(())
    }

    fn encode(&self, (): &(), value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let begin = into.len();
        serde_json::to_writer(&mut *into, value).map_err(|error| {
            into.truncate(begin);
            SerdeError::data(format!("JSON: {error}"))
        })
    }
}

impl Prepare for Json {
    async fn prepare(&self, _batch: &Batch, _part: Part) {}
}

impl<'a, T: Deserialize<'a>> RecordDecoder<'a, T> for Json {
    type Memory = ();

    #[inline]
    fn decode(
        &self,
        (): &mut (),
        _part: Part,
        payload: &'a [u8],
        _headers: impl Iterator<Item = Header<'a>>,
    ) -> Result<T, SerdeError> {
        serde_json::from_slice(payload).map_err(|error| SerdeError::data(format!("JSON: {error}")))
    }
}

impl<T: AsRef<[u8]> + ?Sized> RecordEncoder<T> for Raw {
    type Writer = ();

    async fn writer(&self, _topic: &str, _part: Part) -> Result<(), SerdeError> {
        Ok(())
    }

    fn encode(&self, (): &(), value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(value.as_ref());
        Ok(())
    }
}

impl Prepare for Raw {
    async fn prepare(&self, _batch: &Batch, _part: Part) {}
}

impl<'a, T: From<&'a [u8]>> RecordDecoder<'a, T> for Raw {
    type Memory = ();

    #[inline]
    fn decode(
        &self,
        (): &mut (),
        _part: Part,
        payload: &'a [u8],
        _headers: impl Iterator<Item = Header<'a>>,
    ) -> Result<T, SerdeError> {
        Ok(payload.into())
    }
}
