//! A cursor over compressed bytes, for the codecs' framing.

use crate::{DecodeError, DecodeReason};

/// Compressed bytes and how far they were read.
#[derive(Debug, Clone)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// A cursor at the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The bytes that are left.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// An error for `field`, which ends or would start at the current position.
    #[cold]
    pub(super) fn error(&self, field: &'static str, reason: DecodeReason) -> DecodeError {
        DecodeError::new(field, self.at, reason)
    }

    /// Reads `count` bytes.
    pub(super) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let taken = self.rest().get(..count).ok_or_else(|| {
            self.error(field, DecodeReason::Truncated { needed: count, remaining: self.rest().len() })
        })?;
        self.at += count;
        Ok(taken)
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// Reads a little-endian uint32.
    pub(super) fn le_u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Reads a little-endian uint64.
    pub(super) fn le_u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Reads the checksum `computed` over bytes before.
    pub(super) fn checksum(&mut self, computed: u32, field: &'static str) -> Result<(), DecodeError> {
        let at = self.at;
        let stored = self.le_u32(field)?;
        if stored == computed {
            return Ok(());
        }
        Err(DecodeError::new(field, at, DecodeReason::ChecksumMismatch { stored, computed }))
    }
}
