//! Avro's primitives, within bounds.

use super::wrong;
use crate::SerdeError;

/// What is left to read.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    bytes: &'de [u8],
    depth: u32,
    /// Values that may still be read.
    values: usize,
}

/// Data is nested at most this deep: records in records, items of arrays, branches of unions.
pub(super) const DEPTH_MAX: u32 = 128;
/// Values that take no bytes, such as items of an array of nulls, would be without end. Data of `n` bytes has at most this many values,
/// and eight for each byte.
const VALUES_MIN: usize = 100_000;
const VALUES_PER_BYTE: usize = 8;
/// A name of 512 bytes, the longest one, counts as four values: a byte of data still pays for its field.
const NAME_BYTES_PER_VALUE: usize = 128;

impl<'de> Reader<'de> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            bytes,
            depth: 0,
            values: VALUES_MIN.saturating_add(bytes.len().saturating_mul(VALUES_PER_BYTE)),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(super) fn finish(&self) -> Result<(), SerdeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => {
                Err(wrong(format_args!("{left} bytes are left over: it was written with another schema")))
            }
        }
    }

    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), SerdeError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(wrong(format_args!("the data is nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(())
    }

    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'de [u8], SerdeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else { return Err(cut_off()) };
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk() else { return Err(cut_off()) };
        self.bytes = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, SerdeError> {
        match self.chunk()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(wrong(format_args!("{other} is no boolean"))),
        }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, SerdeError> {
        // Most numbers are small.
        if let Some((&byte, rest)) = self.bytes.split_first()
            && byte < 0x80
        {
            self.bytes = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let mut value = 0u64;
        for (at, &byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                if at == 9 && byte > 1 {
                    break;
                }
                self.bytes = &self.bytes[at + 1..];
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        if self.bytes.len() < 10 { Err(cut_off()) } else { Err(wrong("a number has more than 64 bits")) }
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, SerdeError> {
        i32::try_from(self.long()?).map_err(|_| wrong("an int has more than 32 bits"))
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f32, SerdeError> {
        self.chunk().map(f32::from_le_bytes)
    }

    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, SerdeError> {
        self.chunk().map(f64::from_le_bytes)
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], SerdeError> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| wrong(format_args!("a length is {length}")))?;
        self.take(length)
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'de str, SerdeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| wrong("a string is not UTF-8"))
    }

    /// An index into `count` branches or symbols.
    #[inline]
    pub(super) fn index(&mut self, count: usize, what: &str) -> Result<usize, SerdeError> {
        let index = self.long()?;
        match usize::try_from(index) {
            Ok(known) if known < count => Ok(known),
            _ => Err(wrong(format_args!("there is no {what} {index}, but {count} of them"))),
        }
    }

    /// The number of items of the next block of an array or a map, zero after the last one.
    #[inline]
    pub(super) fn block(&mut self) -> Result<u64, SerdeError> {
        let count = self.long()?;
        if count < 0 {
            // The block's size, for readers that leave it out.
            let _size = self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    /// A name of the schema's is about to be in a value: data may repeat it as often as it has values.
    #[inline]
    pub(super) fn charge_name(&mut self, name: &str) -> Result<(), SerdeError> {
        self.charge(name.len() / NAME_BYTES_PER_VALUE)
    }

    /// `count` values are about to be read.
    #[inline]
    pub(super) fn charge(&mut self, count: usize) -> Result<(), SerdeError> {
        let left = self.values.checked_sub(count);
        self.values = left.ok_or_else(|| wrong("too many values take no bytes"))?;
        Ok(())
    }
}

#[cold]
fn cut_off() -> SerdeError {
    wrong("the data is cut off")
}

pub(super) fn write_long(value: i64, into: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        into.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

pub(super) fn write_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    write_long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), into);
    into.extend_from_slice(bytes);
}

pub(super) fn write_count(count: usize, into: &mut Vec<u8>) {
    write_long(i64::try_from(count).unwrap_or(i64::MAX), into);
}
