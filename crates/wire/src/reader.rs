//! Reads a message's fields from a frame. Strings and bytes are slices of the frame; nothing is copied.
//!
//! Every read is checked against the bytes that are left. So memory is allocated for bytes that arrived, and not for lengths
//! that they announce.

use bytes::Bytes;

use crate::varint::{self, VarintError};
use crate::{DecodeError, DecodeReason, Lists, Str, TaggedFields, Uuid};

/// A cursor over one frame.
///
/// It reads lengths in the classic or in the flexible form (KIP-482), as [`set_flexible`](Self::set_flexible) says.
/// Each method takes the schema path of the field, for the error.
///
/// ```
/// use bytes::Bytes;
/// use milena_wire::Reader;
///
/// let frame = Bytes::from_static(&[0, 0, 0, 7, 0, 2, b'o', b'k']);
/// let mut reader = Reader::new(&frame);
/// assert_eq!(reader.i32("Example.Id")?, 7);
/// assert_eq!(reader.string("Example.Name")?, "ok");
/// let error = reader.i16("Example.Missing").unwrap_err();
/// assert_eq!(error.to_string(), "Example.Missing at byte 8: needs 2 bytes, 0 are left");
/// # Ok::<(), milena_wire::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    flexible: bool,
    /// How many more elements arrays may have.
    elements_left: usize,
    /// Where arrays get their memory.
    lists: Option<&'a mut Lists>,
}

/// An announced array gets memory for at most N elements at once, and for the rest while they are read.
const ELEMENTS_AHEAD_MAX: usize = 1024;

/// The longest string, in bytes.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

impl<'a> Reader<'a> {
    /// A reader at the start of `frame`, with classic lengths.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0, flexible: false, elements_left: usize::MAX, lists: None }
    }

    /// The same reader, whose arrays get the memory that `lists` keeps.
    pub fn with_lists(self, lists: &'a mut Lists) -> Self {
        Self { lists: Some(lists), ..self }
    }

    /// Whether lengths that follow are in the flexible form.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Limits how many elements all arrays of the frame may have together, with tagged fields. Default: no limit.
    ///
    /// An element of one byte on the wire can take a hundred bytes in memory, so a reader of untrusted bytes needs this limit.
    pub fn set_elements_max(&mut self, elements: usize) {
        self.elements_left = elements;
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Fails if bytes are left.
    ///
    /// # Errors
    /// [`DecodeReason::TrailingBytes`].
    pub fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(self.error(field, DecodeReason::TrailingBytes(count))),
        }
    }

    /// An error for the field at the current position.
    #[cold]
    pub fn error(&self, field: &'static str, reason: DecodeReason) -> DecodeError {
        DecodeError::new(field, self.at, reason)
    }

    /// Reads a boolean: any byte but zero is true, as in Java.
    ///
    /// # Errors
    /// When no byte is left.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.array::<1>(field)? != [0])
    }

    /// Reads an int8.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.array(field).map(i8::from_be_bytes)
    }

    /// Reads an int16.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Reads a uint16.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Reads an int32.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Reads a uint32.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Reads an int64.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Reads a float64.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        self.array(field).map(f64::from_be_bytes)
    }

    /// Reads a uuid.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.array(field).map(Uuid::from_bytes)
    }

    /// Reads an unsigned varint.
    ///
    /// # Errors
    /// When it is cut off or longer than 32 bits.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match varint::get_u32(&self.frame[self.at..]) {
            Ok((value, length)) => {
                self.at += length;
                Ok(value)
            }
            Err(VarintError::Truncated) => {
                let remaining = self.remaining();
                Err(self.error(field, DecodeReason::Truncated { needed: remaining + 1, remaining }))
            }
            Err(VarintError::Overflow) => Err(self.error(field, DecodeReason::VarintOverflow)),
        }
    }

    /// Reads a string that must not be null.
    ///
    /// # Errors
    /// When it is null, cut off or not UTF-8.
    pub fn string(&mut self, field: &'static str) -> Result<Str, DecodeError> {
        self.nullable_string(field)?.ok_or_else(|| self.error(field, DecodeReason::UnexpectedNull))
    }

    /// Reads a string or null.
    ///
    /// # Errors
    /// When it is cut off, longer than 32 767 bytes or not UTF-8.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<Str>, DecodeError> {
        let length = if self.flexible { self.compact_length(field)? } else { self.short_length(field)? };
        // Kafka applies the classic limit to compact strings too, and so does the writer.
        if let Some(length) = length.filter(|length| *length > STRING_BYTES_MAX) {
            let reason = DecodeReason::TooLarge { announced: length as u64, limit: STRING_BYTES_MAX as u64 };
            return Err(self.error(field, reason));
        }
        length.map(|length| self.text(length, field)).transpose()
    }

    /// Reads a string or null with a 16-bit length, whatever the form of the other lengths (RequestHeader's ClientId).
    ///
    /// # Errors
    /// When it is cut off or not UTF-8.
    pub fn nullable_string_classic(&mut self, field: &'static str) -> Result<Option<Str>, DecodeError> {
        let length = self.short_length(field)?;
        length.map(|length| self.text(length, field)).transpose()
    }

    /// Reads bytes that must not be null.
    ///
    /// # Errors
    /// When they are null or cut off.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(field)?.ok_or_else(|| self.error(field, DecodeReason::UnexpectedNull))
    }

    /// Reads bytes or null; also the form of `records`.
    ///
    /// # Errors
    /// When they are cut off.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let length = if self.flexible { self.compact_length(field)? } else { self.long_length(field)? };
        length.map(|length| self.slice(length, field)).transpose()
    }

    /// Reads an array whose elements take at least `element_bytes_min` bytes each; null is an error.
    ///
    /// `element` gets `field` for its own errors, so that this type's methods can stand for it: `Reader::i32`.
    ///
    /// # Errors
    /// When it is null, when the bytes that remain cannot hold it, or as `element` fails.
    pub fn array_of<T: Send + Sync + 'static>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self, &'static str) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        match self.array_length(field, element_bytes_min)? {
            Some(count) => self.elements(count, field, element),
            None => Err(self.error(field, DecodeReason::UnexpectedNull)),
        }
    }

    /// Reads an array or null.
    ///
    /// # Errors
    /// When the bytes that remain cannot hold it, or as `element` fails.
    pub fn nullable_array_of<T: Send + Sync + 'static>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self, &'static str) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        match self.array_length(field, element_bytes_min)? {
            Some(count) => self.elements(count, field, element).map(Some),
            None => Ok(None),
        }
    }

    fn elements<T: Send + Sync + 'static>(
        &mut self,
        count: usize,
        field: &'static str,
        mut element: impl FnMut(&mut Self, &'static str) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut elements = self.lists.as_mut().map_or_else(Vec::new, |lists| lists.take());
        elements.reserve_exact(count.min(ELEMENTS_AHEAD_MAX));
        while elements.len() < count {
            if elements.len() == elements.capacity() {
                // Grow by doubling, but not beyond the announced count: an array has no spare memory.
                elements.reserve_exact(elements.len().min(count - elements.len()));
            }
            elements.push(element(self, field)?);
        }
        Ok(elements)
    }

    /// Reads the presence byte of a nullable struct: −1 is null, 1 is there.
    ///
    /// # Errors
    /// When no byte is left or it is another value.
    pub fn is_present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.i8(field)? {
            -1 => Ok(false),
            1 => Ok(true),
            _ => {
                self.at -= 1;
                Err(self.error(field, DecodeReason::Invalid("presence byte is neither -1 nor 1")))
            }
        }
    }

    /// Reads the tagged fields at the end of a flexible struct; a struct that is not flexible has none. `known` reads the content
    /// of a tag that it knows, and returns whether it did. The unknown fields are returned.
    ///
    /// # Errors
    /// When tags do not ascend, when a field is longer than what is left or does not fill its announced size, or as
    /// `known` fails.
    pub fn tagged_fields(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<TaggedFields, DecodeError> {
        if !self.flexible {
            return Ok(TaggedFields::new());
        }
        let count = self.unsigned_varint(field)? as usize;
        self.check_count(count, 2, field)?;
        let mut unknown = TaggedFields::new();
        let mut previous: Option<u32> = None;
        for _ in 0..count {
            let tag = self.unsigned_varint(field)?;
            if previous.is_some_and(|previous| previous >= tag) {
                return Err(self.error(field, DecodeReason::Invalid("tags are not in ascending order")));
            }
            previous = Some(tag);
            let size = self.unsigned_varint(field)? as usize;
            self.check_remaining(size, field)?;
            let end = self.at + size;
            if !known(self, tag)? {
                unknown.push((tag, self.slice(size, field)?));
            }
            if self.at != end {
                return Err(
                    self.error(field, DecodeReason::Invalid("tagged field does not fill its announced size"))
                );
            }
        }
        Ok(unknown)
    }

    /// Reads the tagged fields of a struct that knows none of them.
    ///
    /// # Errors
    /// As [`tagged_fields`](Self::tagged_fields).
    pub fn unknown_tagged_fields(&mut self, field: &'static str) -> Result<TaggedFields, DecodeError> {
        self.tagged_fields(field, |_, _| Ok(false))
    }

    /// Takes the next `length` bytes as a slice of the frame.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn slice(&mut self, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        self.check_remaining(length, field)?;
        let slice = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    fn text(&mut self, length: usize, field: &'static str) -> Result<Str, DecodeError> {
        let offset = self.at;
        Str::from_utf8(self.slice(length, field)?)
            .map_err(|_| DecodeError::new(field, offset, DecodeReason::NotUtf8))
    }

    fn array_length(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let count = if self.flexible { self.compact_length(field)? } else { self.long_length(field)? };
        if let Some(count) = count {
            self.check_count(count, element_bytes_min, field)?;
        }
        Ok(count)
    }

    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint(field)? as usize).checked_sub(1))
    }

    fn short_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = self.i16(field)?;
        self.length(i64::from(length), field)
    }

    fn long_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = self.i32(field)?;
        self.length(i64::from(length), field)
    }

    fn length(&self, length: i64, field: &'static str) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(field, DecodeReason::NegativeLength(length))),
        }
    }

    fn check_remaining(&self, needed: usize, field: &'static str) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(self.error(field, DecodeReason::Truncated { needed, remaining }));
        }
        Ok(())
    }

    fn check_count(
        &mut self,
        count: usize,
        element_bytes_min: usize,
        field: &'static str,
    ) -> Result<(), DecodeError> {
        let limit = (self.remaining() / element_bytes_min.max(1)).min(self.elements_left);
        if count > limit {
            return Err(
                self.error(field, DecodeReason::TooLarge { announced: count as u64, limit: limit as u64 })
            );
        }
        self.elements_left -= count;
        Ok(())
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let remaining = &self.frame[self.at..];
        let Some(bytes) = remaining.first_chunk::<N>() else {
            return Err(self.error(field, DecodeReason::Truncated { needed: N, remaining: remaining.len() }));
        };
        self.at += N;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Writer;

    #[test]
    fn a_string_is_as_long_as_kafka_lets_it_be() {
        for flexible in [false, true] {
            let mut writer = Writer::new();
            writer.set_flexible(flexible);
            writer.string(&"x".repeat(32_767).into(), "Name").expect("fits");
            writer.string(&"x".repeat(32_768).into(), "Name").unwrap_err();
            let frame = writer.finish().to_vec().into();
            let mut reader = Reader::new(&frame);
            reader.set_flexible(flexible);
            assert_eq!(reader.string("Name").map(|text| text.len()), Ok(32_767));
            reader.finish("Frame").expect("read whole");
        }
        let mut long = vec![0x81, 0x80, 2];
        long.resize(3 + 32_768, b'x');
        let frame = long.into();
        let mut reader = Reader::new(&frame);
        reader.set_flexible(true);
        let reason = DecodeReason::TooLarge { announced: 32_768, limit: 32_767 };
        assert_eq!(reader.string("Name"), Err(DecodeError::new("Name", 3, reason)));
    }

    #[test]
    fn elements_of_all_arrays_are_counted_together() {
        let frame = Bytes::from_static(&[0, 0, 0, 2, 0, 0, 0, 1, 7, 0, 0, 0, 1, 8]);
        let read = |elements_max| {
            let mut reader = Reader::new(&frame);
            reader.set_elements_max(elements_max);
            reader.array_of("Outer", 4, |reader, field| reader.array_of(field, 1, Reader::i8))
        };
        assert_eq!(read(4), Ok(vec![vec![7], vec![8]]));
        let reason = DecodeReason::TooLarge { announced: 1, limit: 0 };
        assert_eq!(read(3), Err(DecodeError::new("Outer", 13, reason)));
    }

    #[test]
    fn tagged_fields_are_kept_when_unknown_and_checked_when_known() {
        let read = |bytes: &'static [u8]| {
            let frame = Bytes::from_static(bytes);
            let mut reader = Reader::new(&frame);
            reader.set_flexible(true);
            let unknown = reader.tagged_fields("Tags", |reader, tag| match tag {
                1 => reader.i16("Known").map(|_| true),
                _ => Ok(false),
            })?;
            Ok::<_, DecodeError>(unknown)
        };
        assert_eq!(read(&[0]), Ok(vec![]));
        assert_eq!(read(&[2, 1, 2, 0, 7, 9, 1, b'x']), Ok(vec![(9, Bytes::from_static(b"x"))]));
        let reason = |bytes| read(bytes).map_err(|error| error.reason);
        let size = DecodeReason::Invalid("tagged field does not fill its announced size");
        assert_eq!(reason(&[1, 1, 3, 0, 7, 0]), Err(size.clone()));
        assert_eq!(reason(&[1, 1, 1, 0, 7]), Err(size));
        let order = DecodeReason::Invalid("tags are not in ascending order");
        assert_eq!(reason(&[2, 3, 0, 3, 0]), Err(order));
        assert_eq!(reason(&[1, 3, 2, 0]), Err(DecodeReason::Truncated { needed: 2, remaining: 1 }));
        assert_eq!(reason(&[9, 3, 0]), Err(DecodeReason::TooLarge { announced: 9, limit: 1 }));
    }
}
