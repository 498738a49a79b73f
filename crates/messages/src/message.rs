//! What every generated message can do.

use std::ops::RangeInclusive;

use milena_wire::{DecodeError, EncodeError, Reader, Writer};

use crate::ApiKey;

/// A message with versions.
pub trait Message: Default {
    /// The schema's name.
    const NAME: &'static str;

    /// Every version that can be encoded and decoded.
    const VERSIONS: RangeInclusive<i16>;

    /// Writes the message as `version` has it.
    ///
    /// # Errors
    /// When `version` is not one of [`VERSIONS`](Self::VERSIONS), when a field is set that it lacks and that must not
    /// be lost, when a field is null that it does not allow to be, or when a value is longer than its length can say.
    /// The writer then holds part of the message.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Reads the message as `version` has it. What follows it is left in the reader.
    ///
    /// # Errors
    /// When `version` is not one of [`VERSIONS`](Self::VERSIONS), or the bytes do not follow the schema.
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// How long the broker delays the connection for a quota, in milliseconds (KIP-219); zero for messages that do not
    /// say so.
    fn throttle_time_ms(&self) -> i32 {
        0
    }

    /// Says how long the broker delays the connection for a quota, in milliseconds. It has no effect on messages that do
    /// not say so, and versions that lack the field leave it out.
    fn set_throttle_time_ms(&mut self, _throttle_time_ms: i32) {}
}

/// A message that asks for another.
pub trait Request: Message {
    /// Its key.
    const KEY: ApiKey;

    /// Its answer, in the same version.
    type Response: Message;
}
