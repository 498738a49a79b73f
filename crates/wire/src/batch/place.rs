//! Where a record is in its batch, for handles that own their batch and so cannot borrow from it.

use super::record::{Cursor, Headers, Record};
use super::records::RecordBatch;

/// Where a record is in its [`RecordBatch`]. It borrows nothing, and [`RecordBatch::record_at`] shows the record without reading
/// those before it.
///
/// ```
/// # use milena_wire::{Limits, batch::{BatchBuilder, RawBatch}, codec::Decompressor, pool::Pool};
/// # let pool = Pool::default();
/// # let mut builder = BatchBuilder::new(&pool);
/// # builder.append(0, Some(b"key"), Some(b"value"), &[])?;
/// # let raw = RawBatch::parse(&builder.seal().into_bytes())?;
/// let batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
/// let places: Vec<_> = batch.records().flatten().filter_map(|record| batch.place_of(&record)).collect();
/// assert_eq!(batch.record_at(&places[0]).value, Some(&b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    offset: i64,
    timestamp: i64,
    key: Option<Span>,
    value: Option<Span>,
    headers: Span,
    header_count: u32,
    /// Where the record ends in the input from which errors count.
    end: usize,
}

/// A part of the batch's memory. A batch has less than 2 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    at: u32,
    bytes: u32,
}

impl Span {
    /// Where `part` is in `whole`. `None` if it is not a part of it.
    fn of(part: &[u8], whole: &[u8]) -> Option<Self> {
        if part.is_empty() {
            // It may be the empty slice of another memory, and its content is the same wherever it is.
            return Some(Self { at: 0, bytes: 0 });
        }
        let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
        let end = at.checked_add(part.len())?;
        let is_part = end <= whole.len();
        is_part.then_some(Self { at: at.try_into().ok()?, bytes: part.len().try_into().ok()? })
    }

    fn in_(self, whole: &[u8]) -> &[u8] {
        let at = self.at as usize;
        whole.get(at..at + self.bytes as usize).unwrap_or_default()
    }
}

impl RecordPlace {
    /// The record's offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

impl RecordBatch {
    /// Where `record` is. `None` if it is not a record of this batch.
    pub fn place_of(&self, record: &Record<'_>) -> Option<RecordPlace> {
        let memory = self.memory();
        let span = |part: Option<&[u8]>| match part {
            Some(part) => Span::of(part, memory).map(Some),
            None => Some(None),
        };
        let (cursor, header_count) = record.headers().parts();
        Some(RecordPlace {
            offset: record.offset,
            timestamp: record.timestamp,
            key: span(record.key)?,
            value: span(record.value)?,
            headers: Span::of(cursor.rest, memory)?,
            header_count,
            end: cursor.end,
        })
    }

    /// The record at `place`, which [`place_of`](Self::place_of) of this batch has returned. The place of another batch's record
    /// shows bytes that mean nothing.
    #[inline]
    pub fn record_at(&self, place: &RecordPlace) -> Record<'_> {
        let memory = self.memory();
        let RecordPlace { offset, timestamp, key, value, headers, header_count, end } = *place;
        let cursor = Cursor { rest: headers.in_(memory), end };
        let headers = Headers::from_parts(cursor, header_count);
        let part = |span: Option<Span>| span.map(|span| span.in_(memory));
        Record::new(offset, timestamp, part(key), part(value), headers)
    }
}
