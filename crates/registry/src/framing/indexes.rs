//! Which message of a Protobuf file a body is.

use super::FramingError;

/// The way to a message in a Protobuf file: the index of a message of the file, then of one that is declared in it, and so on. They
/// are borrowed from the record, and were checked.
///
/// On the wire they are a count and that many indexes, all of them zigzag varints. The first message of the file, `[0]`, is a single
/// zero.
#[derive(Debug, Clone, Copy)]
pub struct MessageIndexes<'a>(&'a [u8]);

/// Messages are nested at most this deep. Protobuf's own compiler refuses deeper files (32 levels).
pub const INDEXES_MAX: usize = 64;

impl<'a> MessageIndexes<'a> {
    /// Reads and checks the indexes that `bytes` begin with; also what follows them.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FramingError> {
        // Nearly every file's first message is the one that is meant.
        if let Some((0, rest)) = bytes.split_first() {
            return Ok((Self(&bytes[..1]), rest));
        }
        let (count, mut rest) = varint(bytes).ok_or(FramingError::BadIndexes)?;
        if usize::try_from(count).map_or(true, |count| count > INDEXES_MAX) {
            return Err(FramingError::BadIndexes);
        }
        for _ in 0..count {
            (_, rest) = varint(rest).ok_or(FramingError::BadIndexes)?;
        }
        Ok((Self(&bytes[..bytes.len() - rest.len()]), rest))
    }

    /// The indexes, outermost first. There is at least one.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        let (count, rest) = varint(self.0).unwrap_or((0, &[]));
        let mut rest = if count == 0 { &[0][..] } else { rest };
        std::iter::from_fn(move || {
            let (index, next) = varint(rest)?;
            rest = next;
            Some(index)
        })
    }

    /// Appends indexes as Confluent's serializers write them.
    pub(super) fn write(indexes: &[u32], into: &mut Vec<u8>) {
        if indexes == [0] {
            return into.push(0);
        }
        write_varint(u32::try_from(indexes.len()).unwrap_or(u32::MAX), into);
        for index in indexes {
            write_varint(*index, into);
        }
    }
}

impl PartialEq for MessageIndexes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.iter().eq(other.iter())
    }
}

impl Eq for MessageIndexes<'_> {}

/// A zigzag varint of at most 5 bytes that is not negative, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // An odd number stands for a negative one.
            let value = if value & 1 == 0 { u32::try_from(value >> 1).ok()? } else { return None };
            return (value <= i32::MAX.unsigned_abs()).then_some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn write_varint(value: u32, into: &mut Vec<u8>) {
    let mut left = u64::from(value) << 1;
    while left >= 0x80 {
        into.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}
