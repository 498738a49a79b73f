//! Finds, checks and opens the batches in a `records` field, one by one. The magic tells record batches from the messages of
//! older message sets.

use std::fmt;

use bytes::Bytes;

use super::header::{BatchHeader, CRC_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC_AT, truncated};
use super::records::{Layout, Memory, RecordBatch};
use crate::codec::{Compression, Decompressor};
use crate::message_set::MessageSet;
use crate::pool::Pool;
use crate::{DecodeError, DecodeReason, Limits, message_set};

/// The batches in the `records` of a fetch response or produce request.
///
/// A broker may cut the last batch off (KIP-74), which ends the iteration; [`partial`](Self::partial) returns that batch. An
/// error ends it too, because no batch after it can be found.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, Batches};
/// use milena_wire::pool::Pool;
///
/// let mut builder = BatchBuilder::new(&Pool::default());
/// builder.append(0, None, Some(b"value"), &[])?;
/// let whole = builder.seal().into_bytes();
/// let records = [&whole[..], &whole[..70]].concat();
///
/// let mut batches = Batches::new(records.into());
/// let first = batches.next().expect("one whole batch")?;
/// assert_eq!(first.bytes(), &whole);
/// assert!(batches.next().is_none());
/// assert_eq!(batches.partial().expect("cut off").needed, Some(whole.len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Batches {
    rest: Bytes,
    at: usize,
    failed: bool,
}

/// A batch that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialBatch {
    /// How many of its bytes are there.
    pub bytes: usize,
    /// How many bytes the whole batch has, if its length field is there.
    pub needed: Option<usize>,
}

impl Batches {
    /// The batches in `records`.
    pub fn new(records: Bytes) -> Self {
        Self { rest: records, at: 0, failed: false }
    }

    /// The batch that is cut off at the end, after the iteration has ended.
    ///
    /// If it was the only batch, a fetch with a larger `partition_max_bytes` gets it.
    pub fn partial(&self) -> Option<PartialBatch> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let needed = self.announced().map(|length| length as usize + LENGTH_PREFIX_BYTES);
        Some(PartialBatch { bytes: self.rest.len(), needed })
    }

    /// The length field of the next batch, if it is there and not negative.
    fn announced(&self) -> Option<u32> {
        let length = i32::from_be_bytes(*self.rest.get(8..)?.first_chunk()?);
        u32::try_from(length).ok()
    }

    fn is_cut_off(&self) -> bool {
        match self.announced() {
            Some(length) => self.rest.len() < length as usize + LENGTH_PREFIX_BYTES,
            // The length field is cut off, or it is negative, which is an error.
            None => self.rest.len() < LENGTH_PREFIX_BYTES,
        }
    }

    fn read(&mut self) -> Result<RawBatch, DecodeError> {
        // A length that is too small for a batch is an error; a batch that is cut off is not.
        let header = BatchHeader::parse(&self.rest)?;
        let bytes = self.rest.split_to(header.bytes);
        self.at += header.bytes;
        Ok(RawBatch { header, bytes })
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() || self.is_cut_off() {
            return None;
        }
        let at = self.at;
        Some(self.read().map_err(|error| {
            self.failed = true;
            error.at_base(at)
        }))
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches(at byte {}, {} left)", self.at, self.rest.len())
    }
}

/// A batch as it arrived: its header is parsed, and its records are not.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, RawBatch};
/// use milena_wire::pool::Pool;
/// # let mut builder = BatchBuilder::new(&Pool::default());
/// # builder.append(0, None, Some(b"value"), &[])?;
///
/// let mut bytes = builder.seal().into_bytes().to_vec();
/// let raw = RawBatch::parse(&bytes.clone().into())?;
/// raw.check_crc()?;
///
/// *bytes.last_mut().expect("is not empty") ^= 1;
/// let error = RawBatch::parse(&bytes.into())?.check_crc().unwrap_err();
/// assert!(error.to_string().starts_with("RecordBatch.CRC at byte 17: checksum mismatch"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RawBatch {
    /// The header.
    pub header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// The batch at the start of `bytes`.
    ///
    /// # Errors
    /// When there is no whole batch.
    pub fn parse(bytes: &Bytes) -> Result<Self, DecodeError> {
        let header = BatchHeader::parse(bytes)?;
        let remaining = bytes.len();
        if remaining < header.bytes {
            let reason = DecodeReason::Truncated { needed: header.bytes, remaining };
            return Err(DecodeError::new("RecordBatch", 0, reason));
        }
        Ok(Self { header, bytes: bytes.slice(..header.bytes) })
    }

    /// All of its bytes, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the stored checksum with that of the batch's bytes.
    ///
    /// # Errors
    /// [`DecodeReason::ChecksumMismatch`].
    pub fn check_crc(&self) -> Result<(), DecodeError> {
        let stored = self.header.crc;
        let (at, computed) = if self.header.magic == 2 {
            (MAGIC_AT + 1, crc32c::crc32c(&self.bytes[CRC_FROM..]))
        } else {
            (message_set::CRC_AT, message_set::crc(&self.bytes))
        };
        if stored == computed {
            return Ok(());
        }
        Err(DecodeError::new("RecordBatch.CRC", at, DecodeReason::ChecksumMismatch { stored, computed }))
    }

    /// Makes the records readable. Shares the batch's bytes if they are not compressed, and decompresses them into a buffer
    /// from `pool` if they are.
    ///
    /// The checksum is not verified: call [`check_crc`](Self::check_crc) first.
    ///
    /// # Errors
    /// When the codec is unknown or not built in, the compressed bytes are malformed, or they hold more than
    /// [`Limits::decompressed_bytes_max`].
    pub fn decompress(
        &self,
        decompressor: &mut Decompressor,
        pool: &Pool,
        limits: &Limits,
    ) -> Result<RecordBatch, DecodeError> {
        if self.header.magic < 2 {
            return self.open_message(decompressor, pool, limits);
        }
        let compression = self.header.attributes.compression()?;
        let records = self.bytes.slice(HEADER_BYTES..);
        if compression == Compression::None {
            return Ok(RecordBatch::new(
                self.header,
                Memory::Frame(records),
                Layout::V2 { at: HEADER_BYTES },
            ));
        }
        let records = decompressor
            .decompress_pooled(compression, 2, &records, pool, limits.decompressed_bytes_max)
            .map_err(|error| error.at_base(HEADER_BYTES))?;
        Ok(RecordBatch::new(self.header, Memory::Decompressed(records), Layout::V2 { at: 0 }))
    }

    /// Makes the records of one message of magic 0 or 1 readable: the message, or those in its compressed value.
    fn open_message(
        &self,
        decompressor: &mut Decompressor,
        pool: &Pool,
        limits: &Limits,
    ) -> Result<RecordBatch, DecodeError> {
        let header = self.header;
        let compression = header.attributes.compression()?;
        if compression == Compression::None {
            let layout = Layout::MessageSet(MessageSet::outer(&header));
            return Ok(RecordBatch::new(header, Memory::Frame(self.bytes.clone()), layout));
        }
        let value = message_set::compressed_value(&self.bytes, compression)?;
        let limit = limits.decompressed_bytes_max;
        let records = decompressor.decompress_pooled(compression, header.magic as i8, value, pool, limit)?;
        let layout = Layout::MessageSet(MessageSet::inner(&header, &records)?);
        Ok(RecordBatch::new(header, Memory::Decompressed(records), layout))
    }
}

impl BatchHeader {
    /// Parses the header at the start of `bytes`, which need not contain the records.
    ///
    /// # Errors
    /// When the header is cut off, its magic is unknown, or its fields have impossible values.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.get(MAGIC_AT) {
            Some(2) => Self::parse_v2(bytes),
            Some(0 | 1) => message_set::parse_header(bytes),
            Some(&magic) => Err(DecodeError::new(
                "RecordBatch.Magic",
                MAGIC_AT,
                DecodeReason::UnsupportedVersion(i16::from(magic)),
            )),
            None => Err(truncated(bytes, MAGIC_AT + 1)),
        }
    }
}

impl fmt::Debug for RawBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBatch").field("header", &self.header).finish_non_exhaustive()
    }
}
