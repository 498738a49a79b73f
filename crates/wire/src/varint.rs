//! Variable-length integers: unsigned LEB128, and zigzag for the signed ones (protobuf's forms, as Kafka uses them).
//!
//! Bench: `wire`.

/// A variable-length integer that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// The input ends inside it.
    Truncated,
    /// It has more bits than its type.
    Overflow,
}

/// Maps signed onto unsigned so that small magnitudes stay short: 0, −1, 1, −2 become 0, 1, 2, 3.
#[inline]
pub const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// [`zigzag32`] for 64 bits.
#[inline]
pub const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag32`].
#[inline]
pub const fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// The inverse of [`zigzag64`].
#[inline]
pub const fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Encoded length of an unsigned 32-bit varint: 1 to 5 bytes.
#[inline]
pub const fn len_u32(value: u32) -> usize {
    // (bits + 6) / 7, with 0 taking one byte.
    ((38 - (value | 1).leading_zeros()) / 7) as usize
}

/// Encoded length of an unsigned 64-bit varint: 1 to 10 bytes.
#[inline]
pub const fn len_u64(value: u64) -> usize {
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Encoded length of a zigzag 32-bit varint.
#[inline]
pub const fn len_i32(value: i32) -> usize {
    len_u32(zigzag32(value))
}

/// Encoded length of a zigzag 64-bit varint.
#[inline]
pub const fn len_i64(value: i64) -> usize {
    len_u64(zigzag64(value))
}

/// Appends an unsigned 32-bit varint.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    put_u64(out, u64::from(value));
}

/// Appends an unsigned 64-bit varint.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag 32-bit varint.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_u32(out, zigzag32(value));
}

/// Appends a zigzag 64-bit varint.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag64(value));
}

/// Reads an unsigned 32-bit varint at the start of `input`: the value and its length in bytes.
///
/// # Errors
/// When the input ends inside it, or when it has more than 32 bits.
#[inline]
pub fn get_u32(input: &[u8]) -> Result<(u32, usize), VarintError> {
    match input {
        [first, ..] if *first < 0x80 => Ok((u32::from(*first), 1)),
        [first, second, ..] if *second < 0x80 => Ok((u32::from(*first & 0x7f) | u32::from(*second) << 7, 2)),
        _ => get_u32_long(input),
    }
}

#[cold]
fn get_u32_long(input: &[u8]) -> Result<(u32, usize), VarintError> {
    let (value, length) = get_bits(input, 5)?;
    u32::try_from(value).map(|value| (value, length)).map_err(|_| VarintError::Overflow)
}

/// Reads an unsigned 64-bit varint at the start of `input`: the value and its length in bytes.
///
/// # Errors
/// When the input ends inside it, or when it has more than 64 bits.
#[inline]
pub fn get_u64(input: &[u8]) -> Result<(u64, usize), VarintError> {
    match input {
        [first, ..] if *first < 0x80 => Ok((u64::from(*first), 1)),
        [first, second, ..] if *second < 0x80 => Ok((u64::from(*first & 0x7f) | u64::from(*second) << 7, 2)),
        _ => get_bits(input, 10),
    }
}

fn get_bits(input: &[u8], length_max: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0_u64;
    for (index, &byte) in input.iter().take(length_max).enumerate() {
        // The tenth byte has room for one bit only.
        if index == 9 && byte > 1 {
            return Err(VarintError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(if input.len() < length_max { VarintError::Truncated } else { VarintError::Overflow })
}

/// Reads a zigzag 32-bit varint at the start of `input`.
///
/// # Errors
/// As [`get_u32`].
#[inline]
pub fn get_i32(input: &[u8]) -> Result<(i32, usize), VarintError> {
    get_u32(input).map(|(value, length)| (unzigzag32(value), length))
}

/// Reads a zigzag 64-bit varint at the start of `input`.
///
/// # Errors
/// As [`get_u64`].
#[inline]
pub fn get_i64(input: &[u8]) -> Result<(i64, usize), VarintError> {
    get_u64(input).map(|(value, length)| (unzigzag64(value), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_its_length_is_foretold() {
        for bit in 0..64 {
            for value in [1_u64 << bit, (1 << bit) - 1, !0 << bit] {
                let mut out = Vec::new();
                put_u64(&mut out, value);
                assert_eq!((get_u64(&out), len_u64(value)), (Ok((value, out.len())), out.len()), "{value}");
                let signed = value as i64;
                out.clear();
                put_i64(&mut out, signed);
                assert_eq!(
                    (get_i64(&out), len_i64(signed)),
                    (Ok((signed, out.len())), out.len()),
                    "{signed}"
                );
                let narrow = value as i32;
                out.clear();
                put_i32(&mut out, narrow);
                assert_eq!(
                    (get_i32(&out), len_i32(narrow)),
                    (Ok((narrow, out.len())), out.len()),
                    "{narrow}"
                );
            }
        }
    }

    #[test]
    fn too_short_and_too_long_are_told_apart() {
        assert_eq!(get_u32(&[]), Err(VarintError::Truncated));
        assert_eq!(get_u32(&[0x80, 0x80]), Err(VarintError::Truncated));
        assert_eq!(get_u32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(VarintError::Overflow));
        assert_eq!(get_u32(&[0x80; 5]), Err(VarintError::Overflow));
        assert_eq!(
            get_u64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(VarintError::Overflow)
        );
        assert_eq!(get_u64(&[0x80; 10]), Err(VarintError::Overflow));
        assert_eq!(get_u64(&[0x80; 9]), Err(VarintError::Truncated));
    }
}
