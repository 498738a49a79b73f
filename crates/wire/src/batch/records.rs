//! A batch's readable records: decompressed if they were compressed, and parsed while iterating.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;

use super::header::{BatchHeader, TimestampType};
use super::record::{Cursor, Deltas, Record, read_body, read_offset, read_usual};
use crate::message_set::MessageSet;
use crate::pool::PooledBuffer;
use crate::{DecodeError, DecodeReason};

/// A batch whose records can be read.
///
/// It owns their memory: the frame in which they arrived, or a pooled buffer if they were compressed. Iterating borrows from it
/// and allocates nothing.
///
/// ```
/// # use milena_wire::{Limits, batch::{BatchBuilder, RawBatch}, codec::Decompressor, pool::Pool};
/// # let pool = Pool::default();
/// # let mut builder = BatchBuilder::new(&pool);
/// # for value in [b"first", b"other", b"third"] {
/// #     builder.append(1_700_000_000_000, None, Some(value), &[])?;
/// # }
/// # let raw = RawBatch::parse(&builder.seal().into_bytes())?;
/// let batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
/// let mut kept = Vec::new();
/// for record in batch.records_from(1) {
///     match record {
///         Ok(record) => kept.push(record.value.unwrap_or_default().to_vec()),
///         // This record cannot be read, but the records after it can.
///         Err(error) => eprintln!("{error}, continuing at {}", error.resume_offset),
///     }
/// }
/// assert_eq!(kept, [b"other", b"third"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordBatch {
    header: BatchHeader,
    records: Memory,
    layout: Layout,
}

/// The memory of the records.
pub(crate) enum Memory {
    /// In the frame in which they arrived.
    Frame(Bytes),
    /// In a buffer of their own.
    Decompressed(PooledBuffer),
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) => bytes,
            Self::Decompressed(buffer) => buffer,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Layout {
    /// Records of magic 2. The first is this many bytes after the start of the input from which errors count.
    V2 { at: usize },
    /// Messages of magic 0 or 1.
    MessageSet(MessageSet),
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: u32,
    /// Its offset, or the least offset that it can have if the offset cannot be read.
    pub offset: i64,
    /// The offset at which reading can continue: after this record, or after the batch if the records after it cannot be found
    /// either.
    pub resume_offset: i64,
    /// The error. Its byte offsets count from the start of the batch, or of its decompressed records.
    pub error: DecodeError,
}

/// The result of [`RecordBatch::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The number of records in the batch.
    pub record_count: u32,
    /// The greatest timestamp, or [`NO_TIMESTAMP`](super::NO_TIMESTAMP).
    pub max_timestamp: i64,
    /// The offset of the first record with that timestamp.
    pub max_timestamp_offset: i64,
}

impl RecordBatch {
    pub(crate) fn new(header: BatchHeader, records: Memory, layout: Layout) -> Self {
        Self { header, records, layout }
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the records after decompression.
    pub fn records_bytes(&self) -> usize {
        self.records.len()
    }

    /// The memory that the batch has of its own, in bytes: the capacity of the buffer that it was decompressed into, or 0 if it
    /// shares the frame in which it arrived.
    pub fn own_bytes(&self) -> usize {
        match &self.records {
            Memory::Frame(_) => 0,
            Memory::Decompressed(buffer) => buffer.capacity(),
        }
    }

    /// Copies the records out of the frame in which they arrived, so that the batch does not keep the frame in memory. Does
    /// nothing if they were decompressed.
    ///
    /// ```
    /// # use milena_wire::{Limits, batch::{BatchBuilder, RawBatch}, codec::Decompressor, pool::Pool};
    /// let pool = Pool::default();
    /// let mut builder = BatchBuilder::new(&pool);
    /// builder.append(1_700_000_000_000, None, Some(b"value"), &[])?;
    /// let raw = RawBatch::parse(&builder.seal().into_bytes())?;
    /// let mut batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
    /// drop(raw);
    /// batch.copy_out();
    /// assert_eq!(pool.stats().bytes_out, 0);
    /// assert_eq!(batch.records().next().expect("one")?.value, Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn copy_out(&mut self) {
        if let Memory::Frame(bytes) = &mut self.records {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    /// Where the records are.
    pub(super) fn memory(&self) -> &[u8] {
        &self.records
    }

    /// The records, in order. A record that cannot be read is an error; the records after it follow if its length is valid.
    #[inline]
    pub fn records(&self) -> Records<'_> {
        self.records_from(i64::MIN)
    }

    /// The records from `offset` on. A fetch returns whole batches, whose first records may be before the requested offset.
    /// A record before it that cannot be read is left out too, unless the records after it cannot be found either.
    #[inline]
    pub fn records_from(&self, offset: i64) -> Records<'_> {
        let header = &self.header;
        let (area_at, message_set) = match &self.layout {
            Layout::V2 { at } => (*at, None),
            Layout::MessageSet(set) => (0, Some(set)),
        };
        let (base_timestamp, timestamp_mask) = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => (header.base_timestamp, !0),
            TimestampType::LogAppendTime => (header.max_timestamp, 0),
        };
        Records {
            area: &self.records,
            at: 0,
            // The number of messages is not announced: they end with their bytes.
            remaining: if message_set.is_none() { header.record_count } else { 0 },
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            usual_offset_delta: header.last_offset_delta,
            left_out: &[],
            base_timestamp,
            timestamp_mask,
            next_offset: header.base_offset,
            index: 0,
            from: offset,
            area_at,
            message_set,
            ended: false,
        }
    }

    /// The records from `offset` on that are between two places, which iterations of this batch had reached. Without a
    /// second place they go on to the end. So a batch is read in parts, and none of them passes over the records of
    /// those before it.
    pub fn records_between(
        &self,
        from: RecordsPlace,
        until: Option<RecordsPlace>,
        offset: i64,
    ) -> Records<'_> {
        let mut records = self.records_from(offset);
        if let Some(until) = until {
            records.area = records.area.get(..until.at).unwrap_or(records.area);
            records.remaining = records.remaining.min(until.index);
        }
        records.at = from.at.min(records.area.len());
        records.remaining = records.remaining.saturating_sub(from.index);
        records.index = from.index;
        records.next_offset = records.next_offset.max(from.next_offset);
        records
    }

    /// Reads all records, as a broker does before it appends a produced batch of magic 2. Checks that every record and header is
    /// well formed, that there are as many records as announced and at least one, and that their offsets count up from the
    /// base offset without a gap.
    ///
    /// ```
    /// # use milena_wire::{Limits, batch::{BatchBuilder, RawBatch}, codec::Decompressor, pool::Pool};
    /// # let pool = Pool::default();
    /// # let mut builder = BatchBuilder::new(&pool);
    /// # builder.append(5, None, None, &[])?;
    /// # builder.append(9, None, None, &[])?;
    /// # let raw = RawBatch::parse(&builder.seal().into_bytes())?;
    /// raw.check_crc()?;
    /// let contents = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?.verify()?;
    /// assert_eq!((contents.record_count, contents.max_timestamp, contents.max_timestamp_offset), (2, 9, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// For the first record that is wrong.
    pub fn verify(&self) -> Result<Contents, RecordError> {
        let mut contents = Contents {
            record_count: 0,
            max_timestamp: super::NO_TIMESTAMP,
            max_timestamp_offset: self.header.base_offset,
        };
        for record in self.records() {
            let record = record?;
            let index = contents.record_count;
            let offset = record.offset;
            let wrong = |error| RecordError { index, offset, resume_offset: offset + 1, error };
            if record.offset != self.header.base_offset + i64::from(index) {
                let reason = DecodeReason::Invalid("offsets of a produced batch must count up by one");
                return Err(wrong(DecodeError::new("Record.OffsetDelta", 0, reason)));
            }
            record.headers().try_for_each(|header| header.map(drop)).map_err(wrong)?;
            if index == 0 || record.timestamp > contents.max_timestamp {
                contents.max_timestamp = record.timestamp;
                contents.max_timestamp_offset = record.offset;
            }
            contents.record_count += 1;
        }
        self.verify_count(contents)
    }

    fn verify_count(&self, contents: Contents) -> Result<Contents, RecordError> {
        let count = i64::from(contents.record_count);
        if count == i64::from(self.header.last_offset_delta) + 1 {
            return Ok(contents);
        }
        let reason = DecodeReason::Invalid("last offset delta is not that of the last record");
        let error = DecodeError::new("RecordBatch.LastOffsetDelta", 23, reason);
        Err(RecordError {
            index: contents.record_count,
            offset: self.header.base_offset + count,
            resume_offset: self.header.next_offset(),
            error,
        })
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.records.len();
        f.debug_struct("RecordBatch").field("header", &self.header).field("records_bytes", &bytes).finish()
    }
}

impl<'a> IntoIterator for &'a RecordBatch {
    type Item = Result<Record<'a>, RecordError>;
    type IntoIter = Records<'a>;

    #[inline]
    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// The records of a [`RecordBatch`].
#[derive(Clone)]
pub struct Records<'a> {
    area: &'a [u8],
    at: usize,
    remaining: u32,
    base_offset: i64,
    last_offset_delta: i32,
    // Records after this one are looked at more closely: they may be left out.
    usual_offset_delta: i32,
    // Offsets to leave out, ascending, from the next record on.
    left_out: &'a [Range<i64>],
    base_timestamp: i64,
    // 0 if the append time is the timestamp of all records; then their deltas do not count.
    timestamp_mask: i64,
    // The least offset the next record can have, for the error that names it.
    next_offset: i64,
    // The next record's.
    index: u32,
    // Records before this offset are left out.
    from: i64,
    // The start of the area in the input from which errors count.
    area_at: usize,
    message_set: Option<&'a MessageSet>,
    ended: bool,
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} read, at byte {} of {})", self.index, self.at, self.area.len())
    }
}

/// How far an iteration of a batch has come: see [`Records::place`]. The default is the batch's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordsPlace {
    at: usize,
    index: u32,
    next_offset: i64,
}

impl RecordsPlace {
    /// The bytes of the records before it.
    pub fn bytes(self) -> usize {
        self.at
    }
}

type Item<'a> = Result<Record<'a>, RecordError>;

impl<'a> Iterator for Records<'a> {
    type Item = Item<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Item<'a>> {
        while self.remaining > 0
            && let Some((deltas, end)) = read_usual(self.area, self.at, self.area_at)
            && deltas.offset <= self.usual_offset_delta
        {
            self.at = end;
            let record = self.record(deltas);
            if record.offset >= self.from {
                return Some(Ok(record));
            }
        }
        // By value, so that a loop keeps its iterator in registers.
        let (records, item) = self.clone().next_unusual();
        *self = records;
        item
    }
}

impl<'a> Records<'a> {
    /// Leaves out the records at these offsets, which ascend and do not overlap. It costs records that are not left out nothing.
    #[must_use]
    pub fn leaving_out(mut self, offsets: &'a [Range<i64>]) -> Self {
        let next = self.from.max(self.next_offset);
        self.left_out = &offsets[offsets.partition_point(|left_out| left_out.end <= next)..];
        self.is_left_out(next);
        self
    }

    /// Whether the record at `offset`, which is the next one, is left out.
    fn is_left_out(&mut self, offset: i64) -> bool {
        let passed = self.left_out.iter().take_while(|left_out| left_out.end <= offset).count();
        self.left_out = &self.left_out[passed..];
        let Some(next) = self.left_out.first() else {
            self.usual_offset_delta = self.last_offset_delta;
            return offset < self.from;
        };
        let usual = next.start.saturating_sub(self.base_offset).saturating_sub(1);
        let usual = usual.clamp(-1, i64::from(self.last_offset_delta));
        self.usual_offset_delta = i32::try_from(usual).unwrap_or(-1);
        offset < self.from || offset >= next.start
    }

    /// How far the iteration has come. [`RecordBatch::records_between`] of the same batch goes on from there.
    pub fn place(&self) -> RecordsPlace {
        RecordsPlace { at: self.at, index: self.index, next_offset: self.next_offset }
    }

    /// Whether a record was met after which no other can be found.
    pub fn is_broken(&self) -> bool {
        self.ended
    }

    #[inline(always)]
    fn record(&mut self, deltas: Deltas<'a>) -> Record<'a> {
        let offset = self.base_offset + i64::from(deltas.offset);
        let timestamp = self.base_timestamp.wrapping_add(deltas.timestamp & self.timestamp_mask);
        self.next_offset = offset + 1;
        self.remaining -= 1;
        self.index += 1;
        Record::new(offset, timestamp, deltas.key, deltas.value, deltas.headers)
    }

    /// The end, a message, or a record that is unusual or wrong.
    #[cold]
    #[inline(never)]
    fn next_unusual(mut self) -> (Self, Option<Item<'a>>) {
        loop {
            let item = self.read_any();
            let is_left_out = match &item {
                Some(Ok(record)) => self.is_left_out(record.offset),
                Some(Err(error)) => !self.ended && self.is_left_out(error.offset),
                None => false,
            };
            if !is_left_out {
                return (self, item);
            }
        }
    }

    fn read_any(&mut self) -> Option<Item<'a>> {
        if self.ended || (self.remaining == 0 && self.at == self.area.len()) {
            return None;
        }
        let (index, offset) = (self.index, self.next_offset);
        Some(match self.message_set {
            Some(set) => self.read_message(set),
            None if self.remaining == 0 => {
                let reason = DecodeReason::TrailingBytes(self.area.len() - self.at);
                let error = DecodeError::new("RecordBatch.Records", self.area_at + self.at, reason);
                Err(self.end(index, offset, error))
            }
            None => self.read_record(),
        })
    }

    fn read_record(&mut self) -> Item<'a> {
        let (index, offset) = (self.index, self.next_offset);
        let mut cursor = Cursor { rest: &self.area[self.at..], end: self.area_at + self.area.len() };
        let body = match cursor.framed() {
            Ok(body) => body,
            Err(error) => return Err(self.end(index, offset, error)),
        };
        // The length can be believed, so the next record can be found whatever is wrong with this one.
        self.at = self.area.len() - cursor.rest.len();
        match read_body(body, self.last_offset_delta) {
            Ok(deltas) => Ok(self.record(deltas)),
            Err(error) => {
                let known = read_offset(body, self.last_offset_delta)
                    .map(|delta| self.base_offset + i64::from(delta));
                let offset = known.unwrap_or(offset);
                self.next_offset = offset.saturating_add(1);
                self.remaining -= 1;
                self.index += 1;
                Err(RecordError { index, offset, resume_offset: self.next_offset, error })
            }
        }
    }

    /// An error after which no record can be found.
    fn end(&mut self, index: u32, offset: i64, error: DecodeError) -> RecordError {
        self.ended = true;
        RecordError { index, offset, resume_offset: self.end_offset(), error }
    }

    fn end_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    fn read_message(&mut self, set: &MessageSet) -> Item<'a> {
        let (index, offset) = (self.index, self.next_offset);
        let mut rest = &self.area[self.at..];
        match set.read(&mut rest) {
            Ok(record) => {
                self.at = self.area.len() - rest.len();
                self.index += 1;
                self.next_offset = record.offset.saturating_add(1);
                Ok(record)
            }
            Err(error) => Err(self.end(index, offset, error.at_base(self.at))),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of its batch, offset {} or later: {}", self.index, self.offset, self.error)
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
