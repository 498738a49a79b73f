//! Whether a batch that a producer sent may go into a log, as Kafka's `LogValidator` has it (KIP-467 messages).
//!
//! Per batch: size, checksum, header. Per record only a walk over the length prefixes of uncompressed batches, which
//! costs less than the checksum and keeps a client's broken encoding out of the log. It must not know partitions.

use std::borrow::Cow;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};
use milena_wire::codec::Compression;
use milena_wire::varint;

use crate::log::Entry;
use crate::producers::Stamp;

/// A batch that passed. That it did is what this type proves.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    header: BatchHeader,
    stamp: Option<Stamp>,
    bytes: &'a [u8],
}

/// What a topic accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// `max.message.bytes`.
    pub(crate) batch_bytes_max: usize,
    /// Now plus `message.timestamp.after.max.ms`; not looked at when the topic stamps its own time.
    pub(crate) timestamp_max: i64,
    /// Produce v7+ (KIP-110).
    pub(crate) zstd: bool,
}

/// A batch that did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
    /// Whether Kafka notices it only in the log, and then tells where that starts.
    pub(crate) is_of_log: bool,
}

/// Judges the `records` of one partition of a Produce request, which must be exactly one batch (Produce v3+).
pub(crate) fn check(records: Option<&Bytes>, rules: Rules) -> Result<Checked<'_>, Rejected> {
    let bytes: &[u8] = records.map_or(&[], |records| records);
    if bytes.is_empty() {
        return Err(invalid("a produce request must hold exactly one record batch, and this holds none"));
    }
    if bytes.get(16).is_some_and(|&magic| magic < 2) {
        return Err(invalid("only record batches of magic 2 are accepted (Produce v3+)"));
    }
    if announced(bytes).is_none_or(|announced| announced > bytes.len()) {
        return Err(invalid(
            "a produce request must hold exactly one record batch, and this holds a part of one",
        ));
    }
    let header = BatchHeader::parse(bytes).map_err(|error| corrupt(error.to_string()))?;
    if header.bytes > rules.batch_bytes_max {
        return Err(Rejected {
            code: ErrorCode::MESSAGE_TOO_LARGE,
            message: format!(
                "the batch has {} bytes, the topic's limit is {}",
                header.bytes, rules.batch_bytes_max
            )
            .into(),
            is_of_log: false,
        });
    }
    if header.bytes < bytes.len() {
        return Err(invalid("a produce request must hold exactly one record batch, and this holds more"));
    }
    let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
    if computed != header.crc {
        return Err(corrupt(format!("checksum is {:#010x}, its bytes have {computed:#010x}", header.crc)));
    }
    check_header(&header, rules)?;
    if header.attributes.compression() == Ok(Compression::None) {
        check_lengths(&bytes[HEADER_BYTES..], header.record_count)?;
    }
    Ok(Checked { header, stamp: Stamp::of(&header), bytes })
}

/// The size of the batch that `bytes` begins with, by its own account.
fn announced(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    usize::try_from(length).map_or(Some(0), |length| length.checked_add(LENGTH_PREFIX_BYTES))
}

fn check_header(header: &BatchHeader, rules: Rules) -> Result<(), Rejected> {
    if header.is_control() {
        return Err(inconsistent("clients may not write control records"));
    }
    if header.is_transactional() {
        let message = "transactions are not supported by this broker yet".into();
        return Err(Rejected { code: ErrorCode::INVALID_TXN_STATE, message, is_of_log: false });
    }
    if header.record_count == 0 || i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        return Err(inconsistent("the record count and the last offset delta do not agree"));
    }
    if header.base_offset != 0 {
        return Err(inconsistent("a producer's batch begins at offset 0"));
    }
    if header.producer.is_some_and(|producer| producer.base_sequence.is_none()) {
        return Err(inconsistent("a batch with a producer id needs a sequence"));
    }
    if header.producer.is_some_and(|producer| producer.producer_epoch < 0) {
        let message = "a batch with a producer id needs an epoch".into();
        return Err(Rejected { code: ErrorCode::INVALID_PRODUCER_EPOCH, message, is_of_log: true });
    }
    let unsupported = |message: &'static str| Rejected {
        code: ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        message: message.into(),
        is_of_log: false,
    };
    match header.attributes.compression() {
        Err(_) => return Err(unsupported("unknown compression codec")),
        Ok(Compression::Zstd) if !rules.zstd => return Err(unsupported("zstd needs Produce v7 or later")),
        Ok(_) => {}
    }
    if header.max_timestamp > rules.timestamp_max {
        let message =
            "a timestamp is further in the future than message.timestamp.after.max.ms allows".into();
        return Err(Rejected { code: ErrorCode::INVALID_TIMESTAMP, message, is_of_log: true });
    }
    Ok(())
}

/// Whether `records` are `count` length-prefixed pieces and nothing else.
fn check_lengths(mut records: &[u8], count: u32) -> Result<(), Rejected> {
    for _ in 0..count {
        let Ok((length, prefix)) = varint::get_i32(records) else {
            return Err(inconsistent("a record's length cannot be read"));
        };
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(prefix));
        let Some(rest) = end.and_then(|end| records.get(end..)) else {
            return Err(inconsistent("a record is longer than its batch"));
        };
        records = rest;
    }
    if records.is_empty() { Ok(()) } else { Err(inconsistent("bytes are left after the last record")) }
}

impl<'a> Checked<'a> {
    /// Its producer's side, when that is idempotent.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// Bytes it takes in a log.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as it goes into the log. `append_time` replaces its timestamps (`message.timestamp.type`).
    pub(crate) fn entry(&self, base_offset: i64, leader_epoch: i32, append_time: Option<i64>) -> Entry<'a> {
        let (head, records) = self.bytes.split_first_chunk().expect("a checked batch has a header");
        let (mut head, mut header): ([u8; HEADER_BYTES], _) = (*head, self.header);
        header.base_offset = base_offset;
        header.partition_leader_epoch = Some(leader_epoch);
        head[0..8].copy_from_slice(&base_offset.to_be_bytes());
        head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        if let Some(time) = append_time {
            header.attributes =
                header.attributes.with_timestamp_type(milena_wire::batch::TimestampType::LogAppendTime);
            header.max_timestamp = time;
            head[21..23].copy_from_slice(&header.attributes.bits().to_be_bytes());
            head[35..43].copy_from_slice(&time.to_be_bytes());
            header.crc = crc32c::crc32c_append(crc32c::crc32c(&head[CRC_FROM..]), records);
            head[17..21].copy_from_slice(&header.crc.to_be_bytes());
        }
        Entry { header, head, records }
    }
}

/// A batch's offset and length, which its length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;

/// Where in a batch the bytes begin that its checksum covers.
const CRC_FROM: usize = 21;

#[cold]
fn invalid(message: &'static str) -> Rejected {
    Rejected { code: ErrorCode::INVALID_RECORD, message: message.into(), is_of_log: false }
}

#[cold]
fn inconsistent(message: &'static str) -> Rejected {
    Rejected { is_of_log: true, ..invalid(message) }
}

#[cold]
fn corrupt(message: String) -> Rejected {
    Rejected { code: ErrorCode::CORRUPT_MESSAGE, message: message.into(), is_of_log: false }
}
