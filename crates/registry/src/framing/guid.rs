//! Names of 128 bits.

use std::fmt;
use std::str::FromStr;

/// A GUID or UUID: 16 bytes, written as `89791762-2336-4186-9674-299b90a802e2`.
///
/// ```
/// use milena_registry::framing::Guid;
///
/// let guid: Guid = "89791762-2336-4186-9674-299B90A802E2".parse()?;
/// assert_eq!(guid.to_string(), "89791762-2336-4186-9674-299b90a802e2");
/// assert!("89791762".parse::<Guid>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The GUID of these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Guid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "it is no GUID: 32 hexadecimal digits, as in 89791762-2336-4186-9674-299b90a802e2".to_owned();
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        let mut at = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(wrong());
                }
                at += 1;
            }
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(text[at]).ok_or_else(wrong)?, digit(text[at + 1]).ok_or_else(wrong)?);
            *byte = high << 4 | low;
            at += 2;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
