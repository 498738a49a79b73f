//! A walk over a batch's records, which checks what Kafka checks.
//!
//! In a compressed batch that is little: Kafka skips through a stream, and does not compare the end of a record with
//! its length. If Kafka takes something that readers cannot read the walk notes it as an oddity, and the batch is
//! refused when nothing else is wrong.

use milena_wire::varint::{self, VarintError};

/// The result of a walk over records that Kafka would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walked {
    /// The greatest timestamp, or −1 if all are less.
    pub(super) max_timestamp: i64,
    /// Whether the records have the offsets 0, 1, 2 and so on.
    pub(super) is_in_order: bool,
    /// Something that readers cannot read.
    pub(super) oddity: Option<&'static str>,
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The bytes end inside a record.
    Ended,
    Invalid(&'static str),
    /// Something on which Kafka fails without an error of its own.
    Unforeseen(&'static str),
}

/// The parts of one record that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) timestamp: i64,
    pub(super) has_key: bool,
}

/// The facts about the batch that the walk needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) count: u32,
    pub(super) base_timestamp: i64,
    /// The timestamp of every record, if the batch says that the broker set it.
    pub(super) append_time: Option<i64>,
    pub(super) is_compressed: bool,
    /// The most bytes that a record of a compressed batch may have.
    pub(super) record_bytes_max: usize,
}

/// Walks over `count` records and calls `show` with each of them. Returns the result and the bytes after the records.
pub(super) fn walk(
    records: &[u8],
    frame: Frame,
    mut show: impl FnMut(usize, Seen),
) -> Result<(Walked, &[u8]), Flaw> {
    let mut cursor = Cursor { rest: records, oddity: None };
    let (mut max_timestamp, mut is_in_order) = (-1, true);
    for index in 0..frame.count {
        let record = cursor.record(frame)?;
        if record.offset_delta < 0 || record.offset_delta as u32 >= frame.count {
            cursor.oddity = Some("a record's offset is not among the batch's");
        }
        is_in_order &= record.offset_delta as u32 == index;
        let timestamp =
            frame.append_time.unwrap_or(frame.base_timestamp.wrapping_add(record.timestamp_delta));
        max_timestamp = max_timestamp.max(timestamp);
        show(index as usize, Seen { timestamp, has_key: record.has_key });
    }
    Ok((Walked { max_timestamp, is_in_order, oddity: cursor.oddity }, cursor.rest))
}

struct Cursor<'a> {
    rest: &'a [u8],
    oddity: Option<&'static str>,
}

struct Record {
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
}

impl Cursor<'_> {
    #[inline]
    fn record(&mut self, frame: Frame) -> Result<Record, Flaw> {
        let length = self.int().map_err(|flaw| match flaw {
            Flaw::Invalid(what) if !frame.is_compressed => Flaw::Unforeseen(what),
            flaw => flaw,
        })?;
        let Ok(length) = usize::try_from(length) else {
            return Err(Flaw::Invalid("a record's length is negative"));
        };
        let before = self.rest.len();
        if length > before && !frame.is_compressed {
            return Err(Flaw::Ended);
        }
        if frame.is_compressed && length > frame.record_bytes_max {
            return Err(Flaw::Invalid("a record is larger than max.decompressed.message.bytes allows"));
        }
        let record = self.fields()?;
        if before - self.rest.len() != length {
            let what = "a record's length is not that of its fields";
            if !frame.is_compressed {
                return Err(Flaw::Invalid(what));
            }
            self.oddity = Some(what);
        }
        Ok(record)
    }

    #[inline]
    fn fields(&mut self) -> Result<Record, Flaw> {
        let (_attributes, rest) = self.rest.split_first().ok_or(Flaw::Ended)?;
        let (timestamp_delta, length) = varint::get_i64(rest).map_err(flaw)?;
        self.rest = &rest[length..];
        let offset_delta = self.int()?;
        let has_key = self.skip_nullable()?;
        self.skip_nullable()?;
        let headers = self.int()?;
        if headers < 0 {
            return Err(Flaw::Invalid("a record's number of headers is negative"));
        }
        // Each header takes two bytes at least, so the bytes end soon if the number is too large.
        for _ in 0..headers {
            if !self.skip_nullable()? {
                return Err(Flaw::Invalid("a header has no name"));
            }
            self.skip_nullable()?;
        }
        Ok(Record { timestamp_delta, offset_delta, has_key })
    }

    /// Skips a length and its bytes. A negative length is null to Kafka, though only −1 should be.
    #[inline]
    fn skip_nullable(&mut self) -> Result<bool, Flaw> {
        let length = self.int()?;
        if length < -1 {
            self.oddity = Some("a length is below -1");
        }
        let Ok(length) = usize::try_from(length) else { return Ok(false) };
        self.rest = self.rest.get(length..).ok_or(Flaw::Ended)?;
        Ok(true)
    }

    #[inline]
    fn int(&mut self) -> Result<i32, Flaw> {
        let (value, length) = varint::get_i32(self.rest).map_err(flaw)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }
}

#[cold]
fn flaw(error: VarintError) -> Flaw {
    match error {
        VarintError::Truncated => Flaw::Ended,
        VarintError::Overflow => Flaw::Invalid("a variable-length integer is too long"),
    }
}

#[cfg(test)]
mod tests {
    use milena_wire::batch::{BatchBuilder, HEADER_BYTES, Header};
    use milena_wire::pool::Pool;

    use super::*;

    fn records() -> Vec<u8> {
        let mut builder = BatchBuilder::new(&Pool::default());
        let headers = [Header::new("name", Some(b"value")), Header::new("none", None)];
        builder.append(5, Some(b"key"), Some(b"value"), &headers).unwrap();
        builder.append(3, None, None, &[]).unwrap();
        builder.seal().into_bytes()[HEADER_BYTES..].to_vec()
    }

    const FRAME: Frame = Frame {
        count: 2,
        base_timestamp: 5,
        append_time: None,
        is_compressed: false,
        record_bytes_max: 1000,
    };

    #[test]
    fn sound_records_show_what_is_looked_at() {
        let (records, mut seen) = (records(), Vec::new());
        let found =
            walk(&records, FRAME, |index, record| seen.push((index, record.timestamp, record.has_key)));
        let walked = Walked { max_timestamp: 5, is_in_order: true, oddity: None };
        assert_eq!(found, Ok((walked, &[][..])));
        assert_eq!(seen, [(0, 5, true), (1, 3, false)]);
        let stamped = Frame { append_time: Some(99), ..FRAME };
        assert_eq!(walk(&records, stamped, |_, _| {}).map(|(walked, _)| walked.max_timestamp), Ok(99));
    }

    #[test]
    fn records_end_early_or_leave_something() {
        let whole = records();
        for end in 0..whole.len() {
            assert_eq!(walk(&whole[..end], FRAME, |_, _| {}), Err(Flaw::Ended), "{end} bytes");
        }
        let one = Frame { count: 1, ..FRAME };
        assert!(walk(&whole, one, |_, _| {}).is_ok_and(|(_, rest)| !rest.is_empty()));
    }

    #[test]
    fn no_changed_byte_brings_the_walk_down() {
        let whole = records();
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = value;
                for is_compressed in [false, true] {
                    let _ = walk(&changed, Frame { is_compressed, ..FRAME }, |_, _| {});
                }
            }
        }
    }
}
