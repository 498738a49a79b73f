//! Message sets of magic 0 and 1, which Kafka wrote before 0.11 and still serves from old segments. They are read, and never
//! written.
//!
//! ```text
//!  offset 8 │ size 4 │ crc 4 │ magic 1 │ attributes 1 │ timestamp 8 (magic 1) │ key length 4, key │ value length 4, value
//! ```
//!
//! The value of a compressed message is a message set of the same magic. In magic 1 the inner offsets count from 0, and the outer
//! offset is that of the last inner message (KIP-31); in magic 0 the inner offsets are the real ones. If the outer message's
//! timestamp is the append time, it applies to the inner messages too (KIP-32).

use crate::batch::header::{batch_bytes, check_offset, truncated};
use crate::batch::record::{Headers, Record};
use crate::batch::{Attributes, BatchHeader, NO_TIMESTAMP, TimestampType};
use crate::codec::Compression;
use crate::{DecodeError, DecodeReason};

pub(crate) const CRC_AT: usize = 12;
const CRC_FROM: usize = 16;
/// Compression and timestamp type. Other bits have no meaning before magic 2.
const ATTRIBUTES_MASK: i16 = 0b1111;

/// How to read the messages of one set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageSet {
    magic: u8,
    /// The offset from which those of an inner set count.
    base_offset: i64,
    /// The outer message's append time.
    append_time: Option<i64>,
    /// Whether the messages are inside a compressed one.
    inner: bool,
}

/// The checksum of a message.
pub(crate) fn crc(message: &[u8]) -> u32 {
    crc32fast::hash(&message[CRC_FROM..])
}

/// A message's header as a batch header.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<BatchHeader, DecodeError> {
    let message = Message::parse_head(bytes)?;
    check_offset(message.offset, "Message.Offset")?;
    Ok(BatchHeader {
        base_offset: message.offset,
        bytes: message.bytes,
        partition_leader_epoch: None,
        magic: message.magic,
        crc: message.crc,
        attributes: message.attributes,
        last_offset_delta: 0,
        base_timestamp: message.timestamp,
        max_timestamp: message.timestamp,
        producer: None,
        record_count: u32::from(message.attributes.compression() == Ok(Compression::None)),
    })
}

/// The value of a compressed message, `bytes`: a message set, compressed.
pub(crate) fn compressed_value(bytes: &[u8], compression: Compression) -> Result<&[u8], DecodeError> {
    if compression == Compression::Zstd {
        let reason = DecodeReason::Invalid("zstd needs a record batch (KIP-110)");
        return Err(DecodeError::new("Message.Attributes", CRC_FROM + 1, reason));
    }
    let (_, content) = Message::parse(bytes)?;
    content.value.ok_or_else(|| DecodeError::new("Message.Value", bytes.len(), DecodeReason::UnexpectedNull))
}

/// The number to add to the inner offsets.
fn inner_base_offset(header: &BatchHeader, inner: &[u8]) -> Result<i64, DecodeError> {
    let mut last = None;
    let mut at = 0;
    while at < inner.len() {
        let message = Message::parse_head(&inner[at..]).map_err(|error| error.at_base(at))?;
        last = Some(message.offset);
        at = at.saturating_add(message.bytes);
    }
    let invalid = |what| DecodeError::new("Message.Offset", 0, DecodeReason::Invalid(what));
    let last = last.ok_or_else(|| invalid("compressed message holds none"))?;
    // Some librdkafka versions wrote an outer offset of 0 around absolute inner offsets.
    if header.magic == 0 || header.base_offset == 0 {
        return Ok(0);
    }
    match header.base_offset.checked_sub(last) {
        Some(base) if last >= 0 && base >= 0 => Ok(base),
        _ => Err(invalid("outer offset is less than the last inner one")),
    }
}

impl MessageSet {
    /// The set of this one message, which is not compressed.
    pub(crate) fn outer(header: &BatchHeader) -> Self {
        Self { magic: header.magic, base_offset: 0, append_time: None, inner: false }
    }

    /// The set in the compressed value of the message with this header; `inner` is that value, decompressed.
    pub(crate) fn inner(header: &BatchHeader, inner: &[u8]) -> Result<Self, DecodeError> {
        let base_offset = inner_base_offset(header, inner)?;
        let is_appended = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let append_time = is_appended.then_some(header.max_timestamp);
        Ok(Self { magic: header.magic, base_offset, append_time, inner: true })
    }

    /// Splits the next message off `rest`.
    pub(crate) fn read<'a>(&self, rest: &mut &'a [u8]) -> Result<Record<'a>, DecodeError> {
        let (message, content) = Message::parse(rest)?;
        self.check(&message, &rest[..message.bytes])?;
        // The offset must not be negative or exceed 64 bits, alone or with its base.
        check_offset(message.offset, "Message.Offset")?;
        let offset = self.base_offset.saturating_add(message.offset);
        check_offset(offset, "Message.Offset")?;
        *rest = &rest[message.bytes..];
        let timestamp = self.append_time.unwrap_or(message.timestamp);
        Ok(Record::new(offset, timestamp, content.key, content.value, Headers::NONE))
    }

    fn check(&self, message: &Message, bytes: &[u8]) -> Result<(), DecodeError> {
        if !self.inner {
            return Ok(());
        }
        if message.magic != self.magic {
            let reason = DecodeReason::Invalid("inner message has another magic than the outer one");
            return Err(DecodeError::new("Message.Magic", CRC_FROM, reason));
        }
        if message.attributes.compression() != Ok(Compression::None) {
            let reason = DecodeReason::Invalid("inner message is compressed again");
            return Err(DecodeError::new("Message.Attributes", CRC_FROM + 1, reason));
        }
        let (stored, computed) = (message.crc, crc(bytes));
        if stored != computed {
            let reason = DecodeReason::ChecksumMismatch { stored, computed };
            return Err(DecodeError::new("Message.Crc", CRC_AT, reason));
        }
        Ok(())
    }
}

/// A message's fields before its key.
struct Message {
    offset: i64,
    bytes: usize,
    crc: u32,
    magic: u8,
    attributes: Attributes,
    timestamp: i64,
}

struct Content<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl Message {
    fn parse_head(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let offset = i64::from_be_bytes(cursor.array("Message.Offset")?);
        let size = i32::from_be_bytes(cursor.array("Message.MessageSize")?);
        let crc = u32::from_be_bytes(cursor.array("Message.Crc")?);
        let [magic, attributes] = cursor.array("Message.Magic")?;
        if magic > 1 {
            let reason = DecodeReason::UnsupportedVersion(i16::from(magic));
            return Err(DecodeError::new("Message.Magic", CRC_FROM, reason));
        }
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            _ => i64::from_be_bytes(cursor.array("Message.Timestamp")?),
        };
        // Two length fields follow.
        let bytes = batch_bytes(size, cursor.at + 8, "Message.MessageSize")?;
        let attributes = Attributes::from_bits(i16::from(attributes) & ATTRIBUTES_MASK);
        Ok(Self { offset, bytes, crc, magic, attributes, timestamp })
    }

    /// The head, and key and value, of the whole message at the start of `bytes`.
    fn parse(bytes: &[u8]) -> Result<(Self, Content<'_>), DecodeError> {
        let message = Self::parse_head(bytes)?;
        let whole = bytes.get(..message.bytes).ok_or_else(|| truncated(bytes, message.bytes))?;
        let head_bytes = if message.magic == 0 { CRC_FROM + 2 } else { CRC_FROM + 10 };
        let mut cursor = Cursor { bytes: whole, at: head_bytes };
        let content =
            Content { key: cursor.nullable("Message.Key")?, value: cursor.nullable("Message.Value")? };
        match whole.len() - cursor.at {
            0 => Ok((message, content)),
            count => Err(DecodeError::new("Message", cursor.at, DecodeReason::TrailingBytes(count))),
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let remaining = self.bytes.len() - self.at;
        if length > remaining {
            let reason = DecodeReason::Truncated { needed: length, remaining };
            return Err(DecodeError::new(field, self.at, reason));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let at = self.at;
        let length = i32::from_be_bytes(self.array(field)?);
        match usize::try_from(length) {
            Ok(length) => self.take(length, field).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::new(field, at, DecodeReason::NegativeLength(i64::from(length)))),
        }
    }
}
