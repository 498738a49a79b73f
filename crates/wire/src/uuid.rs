//! Kafka's 128-bit identifiers: topic ids, cluster ids, member ids.

use std::fmt;
use std::str::FromStr;

/// A 128-bit identifier, written as Kafka writes it: URL-safe base64 without padding, 22 characters.
///
/// ```
/// use milena_wire::Uuid;
/// let id = Uuid::from_bytes([7; 16]);
/// assert_eq!(id.to_string(), "BwcHBwcHBwcHBwcHBwcHBw");
/// assert_eq!("BwcHBwcHBwcHBwcHBwcHBw".parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zero: "no id" wherever the protocol has one.
    pub const ZERO: Self = Self([0; 16]);

    /// From its 16 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether this is the "no id" value.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        let mut text = [0_u8; 22];
        for (index, slot) in text.iter_mut().enumerate() {
            // 22 sextets are 132 bits: the last one holds two bits of the id above four of padding.
            let sextet = if index < 21 { number >> (122 - 6 * index) } else { number << 4 };
            *slot = ALPHABET[(sextet & 63) as usize];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a Kafka uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a uuid is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut number = 0_u128;
        for (index, byte) in text.bytes().enumerate() {
            let sextet = ALPHABET.iter().position(|&a| a == byte).ok_or(ParseUuidError)? as u128;
            if index < 21 {
                number = number << 6 | sextet;
            } else if sextet & 15 == 0 {
                number = number << 2 | sextet >> 4;
            } else {
                return Err(ParseUuidError);
            }
        }
        Ok(Self(number.to_be_bytes()))
    }
}
