//! Backslash escapes in delimiters, markers and format strings, as kcat reads them.
//!
//! `\n \r \t` are newline, return and tab, `\xN` and `\xNN` a byte in hexadecimal, `\0…` a byte in octal, `\1…\9…` a byte
//! in decimal. Any other character after a backslash stands for itself (`\\`, `\%`).
//!
//! It differs from kcat in two ways on purpose: a byte above 255 is refused instead of cut to eight bits, and `\x` takes
//! at most two digits (kcat takes every hexadecimal digit that follows, so that `\x1face` is one byte there).

/// Appends `text` to `bytes` with its escapes resolved.
pub(crate) fn unescape_into(text: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let Some(escaped) = rest.chars().next() else {
            return Err("a backslash at the end has nothing to escape; write \\\\ for a backslash".into());
        };
        let used = match escaped {
            'n' => push(bytes, b'\n'),
            'r' => push(bytes, b'\r'),
            't' => push(bytes, b'\t'),
            'x' => 1 + number(&rest[1..], 16, 2, bytes)?,
            '0' => number(rest, 8, 4, bytes)?,
            '1'..='9' => number(rest, 10, 3, bytes)?,
            other => {
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                other.len_utf8()
            }
        };
        rest = &rest[used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(())
}

/// The bytes of `text` with its escapes resolved.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    unescape_into(text, &mut bytes)?;
    Ok(bytes)
}

fn push(bytes: &mut Vec<u8>, byte: u8) -> usize {
    bytes.push(byte);
    1
}

/// Parses up to `digits_max` digits of `radix` at the start of `text` as one byte; returns the number of digits.
fn number(text: &str, radix: u32, digits_max: usize, bytes: &mut Vec<u8>) -> Result<usize, String> {
    let digits = text.chars().take(digits_max).take_while(|c| c.is_digit(radix)).count();
    if digits == 0 {
        return Err("\\x needs one or two hexadecimal digits, as in \\x1f".into());
    }
    let value = u32::from_str_radix(&text[..digits], radix).map_err(|e| e.to_string())?;
    let byte =
        u8::try_from(value).map_err(|_| format!("\\{} is more than one byte holds", &text[..digits]))?;
    bytes.push(byte);
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_bytes() {
        let table: &[(&str, &[u8])] = &[
            ("", b""),
            ("plain", b"plain"),
            (r"a\tb\n\r", b"a\tb\n\r"),
            (r"\x41\x7\xfF", b"A\x07\xff"),
            (r"\x1face", b"\x1face"),
            (r"\0", b"\0"),
            (r"\0101!", b"A!"),
            (r"\65\9x", b"A\tx"),
            (r"\\n\%\é", "\\n%é".as_bytes()),
            ("ünï", "ünï".as_bytes()),
        ];
        for (text, bytes) in table {
            assert_eq!(unescape(text).as_deref(), Ok(*bytes), "{text}");
        }
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for text in [r"\", r"a\", r"\x", r"\xg", r"\999", r"\0777"] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }
}
