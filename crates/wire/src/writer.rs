//! Writes messages into one growing buffer. Payloads are linked, not copied, and sent with a vectored write.
//!
//! ```text
//!  head:  [ fields │ fields │ fields ]        links: (at, Bytes), ascending
//!                  ▲        ▲
//!                record   record              wire order: head up to a link, the link, head up to the next, …
//!                batch    batch
//! ```

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::{EncodeError, EncodeReason, Str, TaggedFields, Uuid, varint};

/// Shorter payloads are copied, because a slice of their own in the vectored write costs more than the copy.
const LINK_BYTES_MIN: usize = 512;

/// An encoder for one or more frames.
///
/// ```
/// use milena_wire::Writer;
///
/// let mut writer = Writer::new();
/// let mark = writer.begin_frame();
/// writer.i32(7);
/// writer.string(&"ok".into(), "Example.Name")?;
/// writer.end_frame(mark, "Example")?;
/// assert_eq!(writer.finish().to_vec(), [0, 0, 0, 8, 0, 0, 0, 7, 0, 2, b'o', b'k']);
/// # Ok::<(), milena_wire::EncodeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    head: Vec<u8>,
    links: Vec<(usize, Bytes)>,
    linked_bytes: usize,
    flexible: bool,
    // Inside a tagged field all payloads are copied: its size is written before it, after which the content moves.
    in_tagged: bool,
}

/// The start of a frame, for [`Writer::end_frame`].
#[derive(Debug)]
#[must_use]
pub struct FrameMark {
    head: usize,
    links: usize,
    linked_bytes: usize,
}

/// The start of a struct's tagged fields, for [`Writer::end_tagged_fields`].
#[derive(Debug)]
#[must_use]
pub struct TagsMark {
    at: usize,
    count: usize,
    tag_min: u32,
}

impl Writer {
    /// An empty writer with classic lengths.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether lengths that follow are in the flexible form (KIP-482).
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes written so far, linked ones included.
    pub fn len(&self) -> usize {
        self.head.len() + self.linked_bytes
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a frame: room for its 32-bit size.
    pub fn begin_frame(&mut self) -> FrameMark {
        let mark =
            FrameMark { head: self.head.len(), links: self.links.len(), linked_bytes: self.linked_bytes };
        self.head.extend_from_slice(&[0; 4]);
        mark
    }

    /// Ends a frame: writes its size.
    ///
    /// # Errors
    /// When it is larger than 2 GiB; the frame is then taken back.
    pub fn end_frame(&mut self, mark: FrameMark, field: &'static str) -> Result<(), EncodeError> {
        let size = (self.head.len() - mark.head - 4) + (self.linked_bytes - mark.linked_bytes);
        match i32::try_from(size) {
            Ok(size) => {
                self.head[mark.head..mark.head + 4].copy_from_slice(&size.to_be_bytes());
                Ok(())
            }
            Err(_) => {
                self.cancel_frame(mark);
                Err(too_long(field, size, i32::MAX as usize))
            }
        }
    }

    /// Removes everything since `mark`, for a message that failed half way.
    #[expect(clippy::needless_pass_by_value, reason = "a mark is used once")]
    pub fn cancel_frame(&mut self, mark: FrameMark) {
        self.head.truncate(mark.head);
        self.links.truncate(mark.links);
        self.linked_bytes = mark.linked_bytes;
        self.in_tagged = false;
    }

    /// The written bytes, ready to be sent.
    pub fn finish(self) -> WireFrame {
        WireFrame {
            remaining: self.len(),
            head: self.head,
            links: self.links,
            head_at: 0,
            link_index: 0,
            link_at: 0,
        }
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        self.head.push(u8::from(value));
    }

    /// Writes an int8.
    pub fn i8(&mut self, value: i8) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes an int16.
    pub fn i16(&mut self, value: i16) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a uint16.
    pub fn u16(&mut self, value: u16) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes an int32.
    pub fn i32(&mut self, value: i32) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a uint32.
    pub fn u32(&mut self, value: u32) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes an int64.
    pub fn i64(&mut self, value: i64) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a float64.
    pub fn f64(&mut self, value: f64) {
        self.head.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a uuid.
    pub fn uuid(&mut self, value: Uuid) {
        self.head.extend_from_slice(value.as_bytes());
    }

    /// Writes an unsigned varint.
    pub fn unsigned_varint(&mut self, value: u32) {
        varint::put_u32(&mut self.head, value);
    }

    /// Writes a string.
    ///
    /// # Errors
    /// When it is longer than its length field can say (32 767 bytes in both forms: Kafka checks so too).
    pub fn string(&mut self, value: &Str, field: &'static str) -> Result<(), EncodeError> {
        self.nullable_string(Some(value), field)
    }

    /// Writes a string or null.
    ///
    /// # Errors
    /// When it is too long.
    pub fn nullable_string(&mut self, value: Option<&Str>, field: &'static str) -> Result<(), EncodeError> {
        if !self.flexible {
            return self.nullable_string_classic(value, field);
        }
        self.compact_length(value.map(Str::len), i16::MAX as usize, field)?;
        self.head.extend_from_slice(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }

    /// Writes a string or null with a 16-bit length, whatever the form of the other lengths.
    ///
    /// # Errors
    /// When it is too long.
    pub fn nullable_string_classic(
        &mut self,
        value: Option<&Str>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let Some(text) = value else {
            self.i16(-1);
            return Ok(());
        };
        let length = i16::try_from(text.len()).map_err(|_| too_long(field, text.len(), i16::MAX as usize))?;
        self.i16(length);
        self.head.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When they are longer than 2 GiB.
    pub fn bytes(&mut self, value: &Bytes, field: &'static str) -> Result<(), EncodeError> {
        self.nullable_bytes(Some(value), field)
    }

    /// Writes bytes or null; also the form of `records`. Long ones are linked.
    ///
    /// # Errors
    /// When they are longer than 2 GiB.
    pub fn nullable_bytes(&mut self, value: Option<&Bytes>, field: &'static str) -> Result<(), EncodeError> {
        self.length(value.map(Bytes::len), field)?;
        if let Some(bytes) = value {
            self.payload(bytes);
        }
        Ok(())
    }

    /// Writes an array. `element` gets `field` for its own errors, so that this type's methods can stand for it:
    /// `Writer::string`.
    ///
    /// # Errors
    /// As `element` fails.
    pub fn array_of<T>(
        &mut self,
        elements: &[T],
        field: &'static str,
        element: impl FnMut(&mut Self, &T, &'static str) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.nullable_array_of(Some(elements), field, element)
    }

    /// Writes an array or null.
    ///
    /// # Errors
    /// As `element` fails.
    pub fn nullable_array_of<T>(
        &mut self,
        elements: Option<&[T]>,
        field: &'static str,
        mut element: impl FnMut(&mut Self, &T, &'static str) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(elements.map(<[T]>::len), field)?;
        for value in elements.unwrap_or_default() {
            element(self, value, field)?;
        }
        Ok(())
    }

    /// Writes the presence byte of a nullable struct.
    pub fn presence(&mut self, present: bool) {
        self.i8(if present { 1 } else { -1 });
    }

    /// Starts the tagged fields of a flexible struct (KIP-482): [`tagged_field`](Self::tagged_field) for each that is
    /// set, by ascending tag, then [`end_tagged_fields`](Self::end_tagged_fields).
    pub fn begin_tagged_fields(&mut self) -> TagsMark {
        let at = self.head.len();
        self.head.push(0);
        TagsMark { at, count: 0, tag_min: 0 }
    }

    /// Writes one tagged field: tag, size, content.
    ///
    /// # Errors
    /// As `content` fails.
    pub fn tagged_field(
        &mut self,
        mark: &mut TagsMark,
        tag: u32,
        content: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        debug_assert!(tag >= mark.tag_min, "tags ascend");
        mark.count += 1;
        mark.tag_min = tag + 1;
        varint::put_u32(&mut self.head, tag);
        let start = self.head.len();
        let outer = std::mem::replace(&mut self.in_tagged, true);
        let result = content(self);
        self.in_tagged = outer;
        result?;
        // The size is before the content, and its length depends on the content. So write it after the content, then rotate.
        let end = self.head.len();
        varint::put_u64(&mut self.head, (end - start) as u64);
        let size_bytes = self.head.len() - end;
        self.head[start..].rotate_right(size_bytes);
        Ok(())
    }

    /// Ends the tagged fields of a struct with the `unknown` ones, which are written unchanged.
    ///
    /// # Errors
    /// When their tags do not ascend from above the known ones.
    #[expect(clippy::needless_pass_by_value, reason = "a mark is used once")]
    pub fn end_tagged_fields(
        &mut self,
        mark: TagsMark,
        unknown: &TaggedFields,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let count = mark.count + unknown.len();
        if count == 0 {
            return Ok(());
        }
        // Nothing since the mark is linked, so its bytes can still move.
        let end = self.head.len();
        varint::put_u64(&mut self.head, count as u64);
        let count_bytes = self.head.len() - end;
        self.head[mark.at..].rotate_right(count_bytes);
        self.head.remove(mark.at + count_bytes);
        let mut tag_min = u64::from(mark.tag_min);
        for (tag, bytes) in unknown {
            if u64::from(*tag) < tag_min {
                return Err(EncodeError::new(field, EncodeReason::TagOrder(*tag)));
            }
            tag_min = u64::from(*tag) + 1;
            varint::put_u32(&mut self.head, *tag);
            varint::put_u64(&mut self.head, bytes.len() as u64);
            self.payload(bytes);
        }
        Ok(())
    }

    /// Writes the tagged fields of a struct that knows none at `version`; nothing in versions that are not flexible.
    ///
    /// # Errors
    /// When some are set and the version is not flexible, or their tags do not ascend.
    pub fn unknown_tagged_fields(
        &mut self,
        unknown: &TaggedFields,
        field: &'static str,
        version: i16,
    ) -> Result<(), EncodeError> {
        if self.flexible {
            let mark = self.begin_tagged_fields();
            return self.end_tagged_fields(mark, unknown, field);
        }
        if unknown.is_empty() {
            return Ok(());
        }
        Err(EncodeError::new(field, EncodeReason::UnsupportedField(version)))
    }

    /// Writes bytes without a length; long ones are linked.
    pub fn payload(&mut self, bytes: &Bytes) {
        if self.in_tagged || bytes.len() < LINK_BYTES_MIN {
            self.head.extend_from_slice(bytes);
        } else {
            self.links.push((self.head.len(), bytes.clone()));
            self.linked_bytes += bytes.len();
        }
    }

    fn length(&mut self, length: Option<usize>, field: &'static str) -> Result<(), EncodeError> {
        if self.flexible {
            return self.compact_length(length, i32::MAX as usize - 1, field);
        }
        let announced = match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| too_long(field, length, i32::MAX as usize))?,
        };
        self.i32(announced);
        Ok(())
    }

    fn compact_length(
        &mut self,
        length: Option<usize>,
        limit: usize,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match length {
            Some(length) if length > limit => Err(too_long(field, length, limit)),
            _ => {
                varint::put_u64(&mut self.head, length.map_or(0, |length| length as u64 + 1));
                Ok(())
            }
        }
    }
}

#[cold]
fn too_long(field: &'static str, length: usize, limit: usize) -> EncodeError {
    EncodeError::new(field, EncodeReason::TooLong { length, limit })
}

/// Encoded frames to send: a [`Buf`] whose chunks are the fields' buffer and the linked payloads in turn.
#[derive(Debug)]
pub struct WireFrame {
    head: Vec<u8>,
    links: Vec<(usize, Bytes)>,
    head_at: usize,
    link_index: usize,
    link_at: usize,
    remaining: usize,
}

impl WireFrame {
    /// Bytes left to send.
    pub fn len(&self) -> usize {
        self.remaining
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// The bytes that are freed with the frame: the fields' buffer, and linked payloads without another owner.
    pub fn own_bytes(&self) -> usize {
        let links = self.links.iter().map(|(_, bytes)| bytes);
        self.head.capacity() + links.filter(|bytes| bytes.is_unique()).map(Bytes::len).sum::<usize>()
    }

    /// The bytes that are left, copied into one vector (for tests and for storing, not for sending).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.remaining);
        self.for_each_chunk(|chunk| {
            out.extend_from_slice(chunk);
            true
        });
        out
    }

    /// An empty writer with this frame's memory, so that the next frame allocates nothing. Linked payloads are released.
    ///
    /// ```
    /// let mut writer = milena_wire::Writer::new();
    /// writer.i32(7);
    /// let mut writer = writer.finish().into_writer();
    /// writer.i32(8);
    /// assert_eq!(writer.finish().to_vec(), [0, 0, 0, 8]);
    /// ```
    pub fn into_writer(mut self) -> Writer {
        self.head.clear();
        self.links.clear();
        Writer { head: self.head, links: self.links, ..Writer::default() }
    }

    fn for_each_chunk<'a>(&'a self, mut visit: impl FnMut(&'a [u8]) -> bool) {
        let mut head_at = self.head_at;
        let mut link_at = self.link_at;
        for (at, bytes) in &self.links[self.link_index..] {
            if *at > head_at && !visit(&self.head[head_at..*at]) {
                return;
            }
            head_at = *at;
            if !visit(&bytes[link_at..]) {
                return;
            }
            link_at = 0;
        }
        if self.head.len() > head_at {
            visit(&self.head[head_at..]);
        }
    }
}

impl Buf for WireFrame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        let mut first: &[u8] = &[];
        self.for_each_chunk(|chunk| {
            first = chunk;
            false
        });
        first
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        if slices.is_empty() {
            return 0;
        }
        self.for_each_chunk(|chunk| {
            slices[filled] = IoSlice::new(chunk);
            filled += 1;
            filled < slices.len()
        });
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advance past the end of the frame");
        self.remaining -= count;
        while count > 0 {
            let head_end = self.links.get(self.link_index).map_or(self.head.len(), |link| link.0);
            let in_head = count.min(head_end - self.head_at);
            self.head_at += in_head;
            count -= in_head;
            let Some((_, bytes)) = self.links.get_mut(self.link_index) else { break };
            if self.head_at < head_end {
                break;
            }
            let in_link = count.min(bytes.len() - self.link_at);
            self.link_at += in_link;
            count -= in_link;
            if self.link_at == bytes.len() {
                // It is sent, so release its memory as early as possible.
                *bytes = Bytes::new();
                self.link_at = 0;
                self.link_index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    #[test]
    fn a_frame_owns_its_fields_and_the_payloads_that_nobody_else_holds() {
        let shared = long(b'a', 700_000);
        let mut writer = Writer::new();
        writer.payload(&shared);
        writer.payload(&long(b'b', 5000));
        writer.payload(&long(b'c', 100));
        let frame = writer.finish();
        let owned = 5100;
        assert!((owned..owned + 1000).contains(&frame.own_bytes()), "{}", frame.own_bytes());
        drop(shared);
        assert!(frame.own_bytes() >= 700_000 + owned);
    }

    #[test]
    fn linked_payloads_come_out_in_place_however_the_writes_fall() {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        writer.i16(1);
        writer.bytes(&long(b'a', 600), "A").expect("fits");
        writer.bytes(&long(b'b', 700), "B").expect("fits");
        writer.i8(2);
        writer.end_frame(mark, "Frame").expect("fits");
        let whole = writer.finish();
        let expected = whole.to_vec();
        assert_eq!(expected.len(), 4 + 2 + 4 + 600 + 4 + 700 + 1);
        assert_eq!(expected[..4], (expected.len() as i32 - 4).to_be_bytes());
        for step in [1, 3, 599, 604, 1000, 5000] {
            let mut writer = Writer::new();
            writer.payload(&Bytes::copy_from_slice(&expected[..10]));
            writer.payload(&long(b'a', 600));
            writer.i32(700);
            writer.payload(&long(b'b', 700));
            writer.i8(2);
            let mut frame = writer.finish();
            let mut sent = Vec::new();
            while frame.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = frame.chunks_vectored(&mut slices);
                let flat: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
                assert!(flat.starts_with(frame.chunk()));
                let count = step.min(flat.len());
                sent.extend_from_slice(&flat[..count]);
                frame.advance(count);
            }
            assert_eq!(sent, expected, "step {step}");
        }
    }

    #[test]
    fn a_cancelled_frame_leaves_no_trace() {
        let mut writer = Writer::new();
        writer.i32(1);
        let mark = writer.begin_frame();
        writer.payload(&long(0, 1000));
        writer.cancel_frame(mark);
        assert_eq!(writer.finish().to_vec(), [0, 0, 0, 1]);
    }

    #[test]
    fn a_tagged_field_is_preceded_by_its_size() {
        let mut writer = Writer::new();
        let mut mark = writer.begin_tagged_fields();
        writer
            .tagged_field(&mut mark, 3, |writer| {
                writer.payload(&long(9, 600));
                Ok(())
            })
            .expect("fits");
        writer.end_tagged_fields(mark, &TaggedFields::new(), "Tags").expect("fits");
        let bytes = writer.finish().to_vec();
        assert_eq!(bytes[..4], [1, 3, 0xd8, 4]);
        assert_eq!(bytes[4..], [9; 600]);
    }

    #[test]
    fn unknown_tagged_fields_follow_the_known_ones() {
        let write = |unknown: &TaggedFields| {
            let mut writer = Writer::new();
            let mut mark = writer.begin_tagged_fields();
            writer.tagged_field(&mut mark, 1, |writer| {
                writer.i8(7);
                Ok(())
            })?;
            writer.end_tagged_fields(mark, unknown, "Tags")?;
            Ok::<_, EncodeError>(writer.finish().to_vec())
        };
        assert_eq!(write(&vec![(2, Bytes::from_static(b"x"))]), Ok(vec![2, 1, 1, 7, 2, 1, b'x']));
        let refused = |tag| Err(EncodeError::new("Tags", EncodeReason::TagOrder(tag)));
        assert_eq!(write(&vec![(1, Bytes::new())]), refused(1));
        assert_eq!(write(&vec![(3, Bytes::new()), (2, Bytes::new())]), refused(2));
        let many: TaggedFields = (2..302).map(|tag| (tag, long(1, 600))).collect();
        let bytes = write(&many).expect("ascending");
        assert_eq!(bytes[..6], [0xad, 2, 1, 1, 7, 2]);
        assert_eq!(bytes.len(), 5 + 300 * 602 + 126 + 174 * 2);
    }

    #[test]
    fn a_version_without_tagged_fields_refuses_them() {
        let mut writer = Writer::new();
        writer.unknown_tagged_fields(&TaggedFields::new(), "Tags", 3).expect("none are set");
        let error = writer.unknown_tagged_fields(&vec![(0, Bytes::new())], "Tags", 3).unwrap_err();
        assert_eq!(error, EncodeError::new("Tags", EncodeReason::UnsupportedField(3)));
        assert!(writer.is_empty());
    }
}
