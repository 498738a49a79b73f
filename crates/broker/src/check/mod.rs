//! Checks whether a batch that a producer sent may go into a log, by the rules of Kafka's `ProduceRequest` and
//! `LogValidator`, with the errors of single records (KIP-467).
//!
//! ```text
//!  records ─▶ refusal of the whole request │ Outline: there is one batch, its bytes are found
//!  Outline ─▶ size, checksum, header ─▶ [decompress] ─▶ walk over the records ─▶ Checked
//! ```
//!
//! The order of the checks is Kafka's, because it decides which code a batch with two faults gets. One thing differs: a
//! batch that Kafka takes and our own reader could not read is refused. `interop/tests/mutants` compares the two. It
//! must not know partitions.

mod codec;
mod records;

use std::borrow::Cow;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_wire::Str;
use milena_wire::batch::{Attributes, BatchHeader, HEADER_BYTES, NO_TIMESTAMP, TimestampType};
use milena_wire::codec::Compression;

use crate::log::Entry;
use crate::producers::Stamp;
use codec::{BATCH_BYTES_MAX, REQUEST_BYTES_MAX, USUAL_BYTES_MAX};
pub(crate) use codec::{Decompressors, Opened};
use records::{Flaw, Frame, Seen, Walked, walk};

/// A batch that passed all checks; this type is the proof of it.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    header: BatchHeader,
    stamp: Option<Stamp>,
    bytes: &'a [u8],
    /// The greatest timestamp of its records, which need not be the one in its header.
    max_timestamp: i64,
}

/// The rules of a topic for its batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// `max.message.bytes`.
    pub(crate) batch_bytes_max: usize,
    /// `max.decompressed.message.bytes`.
    pub(crate) record_bytes_max: usize,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
    pub(crate) now_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_max_ms: i64,
    /// `message.timestamp.type=LogAppendTime`: the timestamps of producers are not checked.
    pub(crate) stamps_append_time: bool,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub(crate) is_compacted: bool,
}

/// A batch that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
    /// How much of the request fails, and whether the answer has the log's start.
    pub(crate) scope: Scope,
    /// The records that are to blame, and why (KIP-467).
    pub(crate) records: Vec<(i32, Str)>,
}

/// The extent of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The whole request: Kafka notices the fault before it handles any partition.
    Request,
    /// The batch.
    Batch,
    /// The batch. Kafka notices the fault in the log, and its answer then has the log's start.
    Log,
}

impl Rejected {
    /// A rejection with a code and no message.
    pub(crate) fn code(code: ErrorCode) -> Self {
        rejected(code, "")
    }
}

/// The rejection of a request whose transactional batches are of several producers.
pub(crate) fn several_producers() -> Rejected {
    let code = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    of_request(rejected(code, "the transactional batches of a request are of one producer"))
}

/// The rejection of a batch that its transaction does not have.
pub(crate) fn not_in_transaction(code: ErrorCode) -> Rejected {
    rejected(code, "the transaction coordinator did not let the batch into its producer's transaction")
}

/// The rejection of a batch with acks=all when fewer replicas are in sync than `min.insync.replicas` asks for.
pub(crate) fn too_few_replicas() -> Rejected {
    of_log(rejected(
        ErrorCode::NOT_ENOUGH_REPLICAS,
        "fewer replicas are in sync than min.insync.replicas asks for",
    ))
}

/// One batch of a request, which was found but not checked yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outline<'a> {
    bytes: &'a [u8],
}

/// The memory and the limits for checking the batches of one request.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    decompressors: &'a Decompressors,
    bytes_left: usize,
    is_exhausted: bool,
}

/// Checks the first batch of a partition for faults that fail the whole request.
pub(crate) fn check_request(records: Option<&Bytes>, has_transactional_id: bool) -> Result<(), Rejected> {
    let bytes: &[u8] = records.map_or(&[], |records| records);
    let Some(size) = next_batch(bytes).map_err(of_request)? else { return Ok(()) };
    if bytes[MAGIC_AT] == 2 && attributes(&bytes[..size]).is_transactional() && !has_transactional_id {
        let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return Err(of_request(rejected(
            code,
            "a transactional batch needs a request with a transactional id",
        )));
    }
    Ok(())
}

/// The size of the batch at the start of `bytes`, if all of it is there.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, Rejected> {
    let Some(&length) = bytes.get(8..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let length = i32::from_be_bytes(length);
    if length < LENGTH_MIN {
        return Err(corrupt(format!("a batch length of {length} is less than any batch has")));
    }
    let Some(&magic) = bytes.get(MAGIC_AT) else { return Ok(None) };
    if magic > 2 {
        return Err(corrupt(format!("there are no batches of magic {}", magic as i8)));
    }
    if length > i32::MAX - LENGTH_PREFIX_BYTES as i32 {
        let failed = rejected(ErrorCode::UNKNOWN_SERVER_ERROR, "a batch length is more than any batch has");
        return Err(of_request(failed));
    }
    let size = length as usize + LENGTH_PREFIX_BYTES;
    Ok((bytes.len() >= size).then_some(size))
}

fn attributes(batch: &[u8]) -> Attributes {
    Attributes::from_bits(i16::from_be_bytes([batch[CRC_FROM], batch[CRC_FROM + 1]]))
}

impl<'a> Outline<'a> {
    /// Finds the batch in the `records` of one partition of a Produce request (v3+). There must be exactly one; an
    /// incomplete one after it is ignored.
    pub(crate) fn find(records: Option<&'a Bytes>, version: i16) -> Result<Self, Rejected> {
        let bytes: &[u8] = records.map_or(&[], |records| records);
        let Some(size) = next_batch(bytes)? else {
            return Err(invalid("a produce request must hold exactly one record batch, and this holds none"));
        };
        let (batch, rest) = bytes.split_at(size);
        if batch[MAGIC_AT] != 2 {
            return Err(invalid("only record batches of magic 2 are accepted (Produce v3+)"));
        }
        // KIP-110
        if version < 7 && attributes(batch).compression() == Ok(Compression::Zstd) {
            let code = ErrorCode::UNSUPPORTED_COMPRESSION_TYPE;
            return Err(rejected(code, "zstd needs Produce v7 or later"));
        }
        if next_batch(rest)?.is_some() {
            return Err(invalid("a produce request must hold exactly one record batch, and this holds more"));
        }
        if size < PRODUCER_END {
            let failed =
                rejected(ErrorCode::UNKNOWN_SERVER_ERROR, "a batch ends before its producer's id does");
            return Err(of_request(failed));
        }
        Ok(Self { bytes: batch })
    }

    /// Whether it is compressed, so that checking it costs more than its size suggests.
    pub(crate) fn is_compressed(&self) -> bool {
        attributes(self.bytes).compression() != Ok(Compression::None)
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The stamp of its producer, if it says that it is in a transaction.
    pub(crate) fn transactional(&self) -> Option<Stamp> {
        Stamp::of(&BatchHeader::parse(self.bytes).ok()?).filter(|stamp| stamp.is_transactional)
    }
}

impl<'a> Checker<'a> {
    /// A checker for the batches of one request. A light one decompresses little before it is exhausted.
    pub(crate) fn new(decompressors: &'a Decompressors, is_light: bool) -> Self {
        let bytes_left = if is_light { USUAL_BYTES_MAX } else { REQUEST_BYTES_MAX };
        Self { decompressors, bytes_left, is_exhausted: false }
    }

    /// Whether a batch was rejected because it holds more, once decompressed, than the checker may still decompress.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Judges a batch.
    pub(crate) fn check<'b>(&mut self, batch: Outline<'b>, rules: &Rules) -> Result<Checked<'b>, Rejected> {
        let bytes = batch.bytes;
        if bytes[..8] != [0; 8] {
            return Err(inconsistent("a producer's batch begins at offset 0"));
        }
        if bytes.len() > rules.batch_bytes_max {
            let message = format!(
                "the batch has {} bytes, the topic's limit is {}",
                bytes.len(),
                rules.batch_bytes_max
            );
            return Err(rejected(ErrorCode::MESSAGE_TOO_LARGE, message));
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt(format!("a batch of {} bytes has no whole header", bytes.len())));
        };
        let stored = u32::from_be_bytes([head[17], head[18], head[19], head[20]]);
        let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
        if computed != stored {
            return Err(corrupt(format!("checksum is {stored:#010x}, its bytes have {computed:#010x}")));
        }
        let Ok(compression) = attributes(bytes).compression() else {
            return Err(of_log(rejected(ErrorCode::UNKNOWN_SERVER_ERROR, "unknown compression codec")));
        };
        let header = check_header(head)?;
        let walked = self.check_records(&header, compression, &bytes[HEADER_BYTES..], rules)?;
        if bytes.len() as u64 > rules.segment_bytes {
            let message =
                format!("the batch has {} bytes, a segment at most {}", bytes.len(), rules.segment_bytes);
            return Err(rejected(ErrorCode::RECORD_LIST_TOO_LARGE, message));
        }
        if header.producer.is_some_and(|producer| producer.producer_epoch < -1) {
            let message = "a producer's epoch is not below -1";
            return Err(of_log(rejected(ErrorCode::INVALID_PRODUCER_EPOCH, message)));
        }
        // Last, because Kafka does not check it at all.
        if let Some(message) = walked.oddity {
            return Err(inconsistent(message));
        }
        Ok(Checked { header, stamp: Stamp::of(&header), bytes, max_timestamp: walked.max_timestamp })
    }

    /// Checks each record.
    fn check_records(
        &mut self,
        header: &BatchHeader,
        compression: Compression,
        payload: &[u8],
        rules: &Rules,
    ) -> Result<Walked, Rejected> {
        let is_compressed = compression != Compression::None;
        let walked = if is_compressed {
            let limit = BATCH_BYTES_MAX.min(self.bytes_left);
            let look = |opened, records: &[u8]| {
                (look(header, records, Some(opened), rules), records.len(), opened == Opened::TooLarge)
            };
            let (walked, bytes, is_too_large) = self.decompressors.open(compression, payload, limit, look);
            self.bytes_left -= bytes;
            self.is_exhausted |= is_too_large;
            walked?
        } else {
            look(header, payload, None, rules)?
        };
        if is_compressed && !walked.is_in_order {
            // Kafka would have to write the batch anew, and fails because it skipped the keys and values.
            let message = "the records of a compressed batch have the offsets 0, 1, 2 and so on";
            return Err(of_log(rejected(ErrorCode::UNKNOWN_SERVER_ERROR, message)));
        }
        Ok(walked)
    }
}

/// Parses a header whose base offset is 0 and whose checksum is right.
fn check_header(head: &[u8; HEADER_BYTES]) -> Result<BatchHeader, Rejected> {
    let int = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (last_offset_delta, record_count) = (int(23), int(57));
    if last_offset_delta < 0
        || record_count <= 0
        || i64::from(record_count) != i64::from(last_offset_delta) + 1
    {
        return Err(inconsistent("the record count and the last offset delta do not agree"));
    }
    let header = BatchHeader::parse(head).map_err(|error| corrupt(error.to_string()))?;
    if header.is_control() {
        return Err(inconsistent("clients may not write control records"));
    }
    if header.producer.is_some_and(|producer| producer.base_sequence.is_none()) {
        return Err(inconsistent("a batch with a producer id needs a sequence"));
    }
    Ok(header)
}

/// Walks over the records of a batch, decompressed if need be.
fn look(
    header: &BatchHeader,
    records: &[u8],
    opened: Option<Opened>,
    rules: &Rules,
) -> Result<Walked, Rejected> {
    let is_stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    let frame = Frame {
        count: header.record_count,
        base_timestamp: header.base_timestamp,
        append_time: is_stamped.then_some(header.max_timestamp),
        is_compressed: opened.is_some(),
        record_bytes_max: rules.record_bytes_max,
    };
    let mut errors = RecordErrors::default();
    let walked = walk(records, frame, |index, seen| {
        if rules.is_compacted && !seen.has_key {
            errors.add(index, ErrorCode::INVALID_RECORD, "a record in a compacted topic needs a key");
        } else if let Some(message) = rules.timestamp_error(seen, is_stamped) {
            errors.add(index, ErrorCode::INVALID_TIMESTAMP, message);
        }
    });
    match (walked, opened) {
        (Err(Flaw::Invalid(message)), _) => Err(inconsistent(message)),
        (Err(Flaw::Unforeseen(message)), _) => {
            Err(of_log(rejected(ErrorCode::UNKNOWN_SERVER_ERROR, message)))
        }
        (_, Some(Opened::Broken)) => {
            let message = "the records do not decompress";
            Err(of_log(rejected(ErrorCode::UNKNOWN_SERVER_ERROR, message)))
        }
        (_, Some(Opened::TooLarge)) => {
            let message = "the batch holds more once decompressed than this broker looks at";
            Err(rejected(ErrorCode::MESSAGE_TOO_LARGE, message))
        }
        (Err(Flaw::Ended), _) => Err(inconsistent("the batch ends before its last record does")),
        (Ok((_, rest)), _) if !rest.is_empty() => Err(inconsistent("bytes are left after the last record")),
        (Ok((mut walked, _)), opened) => {
            errors.finish()?;
            if opened == Some(Opened::Followed) {
                walked.oddity = Some("another lz4 frame comes after the last record");
            }
            Ok(walked)
        }
    }
}

impl Rules {
    /// The fault of a record's timestamp, if it has one. The arithmetic wraps, as Kafka's does.
    fn timestamp_error(&self, seen: Seen, is_stamped: bool) -> Option<&'static str> {
        if !self.stamps_append_time && seen.timestamp != NO_TIMESTAMP {
            let age = self.now_ms.wrapping_sub(seen.timestamp);
            if age > self.timestamp_before_max_ms {
                return Some("the timestamp is further back than message.timestamp.before.max.ms allows");
            }
            if age.wrapping_neg() > self.timestamp_after_max_ms {
                return Some("the timestamp is further ahead than message.timestamp.after.max.ms allows");
            }
            return None;
        }
        is_stamped.then_some("a producer does not say that the broker set the time (LogAppendTime)")
    }
}

/// The records of a batch that are refused.
#[derive(Debug, Default)]
struct RecordErrors {
    records: Vec<(i32, Str)>,
    code: Option<ErrorCode>,
}

impl RecordErrors {
    #[cold]
    fn add(&mut self, index: usize, code: ErrorCode, message: &'static str) {
        if self.code != Some(ErrorCode::INVALID_TIMESTAMP) {
            self.code = Some(code);
        }
        if self.records.len() < RECORD_ERRORS_MAX {
            self.records.push((index as i32, Str::from_static(message)));
        }
    }

    fn finish(self) -> Result<(), Rejected> {
        let Some(code) = self.code else { return Ok(()) };
        let count = self.records.len();
        let message = format!("{count} records are refused, and so the whole batch is");
        Err(Rejected { records: self.records, ..of_log(rejected(code, message)) })
    }
}

impl<'a> Checked<'a> {
    /// Its stamp, if its producer is idempotent.
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
        let (timestamp_type, max_timestamp) = match append_time {
            Some(time) => (TimestampType::LogAppendTime, time),
            None => (TimestampType::CreateTime, self.max_timestamp),
        };
        if (header.attributes.timestamp_type(), header.max_timestamp) != (timestamp_type, max_timestamp) {
            // Kafka drops the attributes that it does not know here, and in no other case.
            let named = Attributes::from_bits(header.attributes.bits() & NAMED_ATTRIBUTES);
            header.attributes = named.with_timestamp_type(timestamp_type);
            header.max_timestamp = max_timestamp;
            head[21..23].copy_from_slice(&header.attributes.bits().to_be_bytes());
            head[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
            header.crc = crc32c::crc32c_append(crc32c::crc32c(&head[CRC_FROM..]), records);
            head[17..21].copy_from_slice(&header.crc.to_be_bytes());
        }
        Entry { header, head, records }
    }
}

/// A batch's offset and length, which its length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;

/// The bytes that the shortest message of any format has after its length.
const LENGTH_MIN: i32 = 14;

const MAGIC_AT: usize = 16;

/// The position in a batch where the bytes begin that its checksum covers.
const CRC_FROM: usize = 21;

/// The position in a batch where the producer id ends. Kafka reads it before it checks a batch's size.
const PRODUCER_END: usize = 51;

/// Compression, timestamp type, transactional, control, delete horizon.
const NAMED_ATTRIBUTES: i16 = 0b111_1111;

/// The most record errors in the answer for one batch. A batch of a megabyte could have a hundred thousand.
const RECORD_ERRORS_MAX: usize = 10_000;

#[cold]
fn rejected(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Rejected {
    Rejected { code, message: message.into(), scope: Scope::Batch, records: Vec::new() }
}

fn of_request(rejected: Rejected) -> Rejected {
    Rejected { scope: Scope::Request, ..rejected }
}

fn of_log(rejected: Rejected) -> Rejected {
    Rejected { scope: Scope::Log, ..rejected }
}

#[cold]
fn invalid(message: &'static str) -> Rejected {
    rejected(ErrorCode::INVALID_RECORD, message)
}

#[cold]
fn inconsistent(message: &'static str) -> Rejected {
    of_log(invalid(message))
}

#[cold]
fn corrupt(message: String) -> Rejected {
    rejected(ErrorCode::CORRUPT_MESSAGE, message)
}
