//! A batch's records, readable: decompressed where they were compressed, parsed while iterating.

use std::fmt;

use bytes::Bytes;

use super::header::{BatchHeader, TimestampType};
use super::record::{Cursor, Record, read_body};
use crate::message_set::MessageSet;
use crate::{DecodeError, DecodeReason};

/// A batch whose records can be read.
///
/// It holds their memory: the frame they came in, or a pooled buffer when they were compressed. Iterating borrows from
/// it and allocates nothing.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    header: BatchHeader,
    records: Bytes,
    layout: Layout,
}

#[derive(Debug, Clone)]
pub(crate) enum Layout {
    /// Record after record; the first is that many bytes behind the start of what errors count from.
    V2 { at: usize },
    /// Messages of magic 0 or 1.
    MessageSet(MessageSet),
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: u32,
    /// Its offset; when not even that can be read, the first it can have.
    pub offset: i64,
    /// What is wrong. Offsets of bytes count from the start of the batch, or of its decompressed records.
    pub error: DecodeError,
}

/// What [`RecordBatch::verify`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Records in the batch.
    pub record_count: u32,
    /// The greatest timestamp, or [`NO_TIMESTAMP`](super::NO_TIMESTAMP).
    pub max_timestamp: i64,
    /// The offset of the first record with that timestamp.
    pub max_timestamp_offset: i64,
}

impl RecordBatch {
    pub(crate) fn new(header: BatchHeader, records: Bytes, layout: Layout) -> Self {
        Self { header, records, layout }
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the records, decompressed.
    pub fn records_bytes(&self) -> usize {
        self.records.len()
    }

    /// The records, in order. A record that cannot be read is an error in its place; the next ones follow if its
    /// length can be believed.
    #[inline]
    pub fn records(&self) -> Records<'_> {
        let header = &self.header;
        let append_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let (at, message_set) = match &self.layout {
            Layout::V2 { at } => (*at, None),
            Layout::MessageSet(set) => (0, Some(set)),
        };
        Records {
            cursor: Cursor { rest: &self.records, end: at + self.records.len() },
            index: 0,
            record_count: header.record_count,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            append_time: append_time.then_some(header.max_timestamp),
            next_offset: header.base_offset,
            message_set,
            ended: false,
        }
    }

    /// The records from `offset` on: a fetch answers with whole batches, whose first records may lie before the offset
    /// asked for.
    pub fn records_from(&self, offset: i64) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
        self.records().skip_while(move |record| record.as_ref().is_ok_and(|record| record.offset < offset))
    }

    /// A key or value of one of this batch's records as [`Bytes`] that share the batch's memory and keep all of it
    /// alive.
    ///
    /// # Panics
    /// When `slice` is not from this batch.
    pub fn share(&self, slice: &[u8]) -> Bytes {
        self.records.slice_ref(slice)
    }

    /// Reads everything, as a broker does before it appends a produced batch: every record and header is well formed,
    /// there are as many as announced, and their offsets count up from the base offset without a gap.
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
            let wrong = |error| RecordError { index, offset: record.offset, error };
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
        Err(RecordError { index: contents.record_count, offset: self.header.base_offset + count, error })
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
#[derive(Debug, Clone)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    index: u32,
    record_count: u32,
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
    // The least offset the next record can have, for the error that names it.
    next_offset: i64,
    message_set: Option<&'a MessageSet>,
    ended: bool,
}

impl<'a> Records<'a> {
    #[inline(always)]
    fn read(&mut self) -> Result<Record<'a>, DecodeError> {
        let length = match self.cursor.varint("Record.Length") {
            Ok(length) if length >= 0 => length as usize,
            Ok(length) => return Err(self.end_with(self.cursor.negative("Record.Length", length))),
            Err(error) => return Err(self.end_with(error)),
        };
        let at = self.cursor.at();
        let body = match self.cursor.take(length, "Record") {
            Ok(body) => body,
            Err(error) => return Err(self.end_with(error)),
        };
        // The length can be believed, so the next record can be found whatever is wrong with this one.
        let record = read_body(Cursor { rest: body, end: at + length })?;
        if record.offset < 0 || record.offset > self.last_offset_delta {
            let reason = DecodeReason::Invalid("offset is not among the batch's");
            return Err(DecodeError::new("Record.OffsetDelta", at, reason));
        }
        let offset = self.base_offset + i64::from(record.offset);
        let timestamp = match self.append_time {
            None => self.base_timestamp.wrapping_add(record.timestamp),
            Some(time) => time,
        };
        self.next_offset = offset + 1;
        Ok(Record::new(offset, timestamp, record.key, record.value, record.headers))
    }

    #[cold]
    fn end_with(&mut self, error: DecodeError) -> DecodeError {
        self.ended = true;
        error
    }

    /// After the last record announced: nothing may be left.
    #[cold]
    fn finish(&mut self) -> Option<Result<Record<'a>, RecordError>> {
        if std::mem::replace(&mut self.ended, true) || self.cursor.rest.is_empty() {
            return None;
        }
        let reason = DecodeReason::TrailingBytes(self.cursor.rest.len());
        let error = DecodeError::new("RecordBatch.Records", self.cursor.at(), reason);
        Some(Err(RecordError { index: self.index, offset: self.next_offset, error }))
    }

    #[cold]
    fn next_message(&mut self, set: &MessageSet) -> Option<Result<Record<'a>, RecordError>> {
        if self.ended || self.cursor.rest.is_empty() {
            return None;
        }
        let at = self.cursor.at();
        let result = set.read(&mut self.cursor.rest).map_err(|error| {
            self.ended = true;
            RecordError { index: self.index, offset: self.next_offset, error: error.at_base(at) }
        });
        self.index += 1;
        if let Ok(record) = &result {
            self.next_offset = record.offset.saturating_add(1);
        }
        Some(result)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(set) = self.message_set {
            return self.next_message(set);
        }
        if self.index == self.record_count || self.ended {
            return self.finish();
        }
        let index = self.index;
        self.index += 1;
        match self.read() {
            Ok(record) => Some(Ok(record)),
            Err(error) => Some(Err(RecordError { index, offset: self.next_offset, error })),
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
