//! Format strings, as kcat has them: `%t [%p] at %o: %k = %s\n`.
//!
//! A format string is parsed once. Writing a record appends to an output buffer and allocates nothing. This file does not
//! know where records come from or where the bytes go.

use std::io::Write as _;

use crate::escape::unescape_into;
use crate::view::View;

/// The tokens, for `consume --help`.
pub(crate) const HELP: &str = "\
Format string:
  %t  topic                      %k  key
  %p  partition                  %K  key's length, -1 for null
  %o  offset                     %s  value (also %v)
  %T  timestamp (ms, UTC)        %S  value's length, -1 for null
  %h  headers as a=b,c=d         %R  value's length as 4 bytes, big endian
  %%  a percent sign             \\n \\r \\t \\xNN  newline, return, tab, any byte";

/// A parsed format string.
#[derive(Debug, PartialEq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
    /// What is written for a null key, value or header value; empty by default, as in kcat.
    null: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
    Key,
    KeyLength,
    Value,
    ValueLength,
    ValueLengthBinary,
}

impl Format {
    pub(crate) fn parse(text: &str, null: Vec<u8>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_literal(&mut pieces, &rest[..at])?;
            let Some(token) = rest[at + 1..].chars().next() else {
                return Err("the % at the end has no letter after it; write %% for a percent sign".into());
            };
            match token {
                '%' => push_literal(&mut pieces, "%")?,
                token => pieces.push(Piece::from_token(token)?),
            }
            rest = &rest[at + 1 + token.len_utf8()..];
        }
        push_literal(&mut pieces, rest)?;
        Ok(Self { pieces, null })
    }

    /// The default format: the key and its delimiter if there is one, then the value and the record delimiter.
    pub(crate) fn delimited(key_delimiter: Option<Vec<u8>>, delimiter: Vec<u8>, null: Vec<u8>) -> Self {
        let mut pieces = Vec::new();
        if let Some(key_delimiter) = key_delimiter {
            pieces.extend([Piece::Key, Piece::Literal(key_delimiter)]);
        }
        pieces.extend([Piece::Value, Piece::Literal(delimiter)]);
        Self { pieces, null }
    }

    /// Whether the format shows headers.
    pub(crate) fn wants_headers(&self) -> bool {
        self.pieces.contains(&Piece::Headers)
    }

    pub(crate) fn write(&self, record: &View<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Piece::Partition => push_number(out, record.partition.into()),
                Piece::Offset => push_number(out, record.offset),
                Piece::Timestamp => push_number(out, record.timestamp),
                Piece::Headers => self.push_headers(out, record),
                Piece::Key => out.extend_from_slice(record.key_shown().unwrap_or(&self.null)),
                Piece::KeyLength => push_number(out, length(record.key_shown())),
                Piece::Value => out.extend_from_slice(record.value_shown().unwrap_or(&self.null)),
                Piece::ValueLength => push_number(out, length(record.value_shown())),
                // A record's length fits 32 bits, and null is -1 in either width.
                Piece::ValueLengthBinary => {
                    out.extend_from_slice(&(length(record.value_shown()) as i32).to_be_bytes());
                }
            }
        }
    }

    fn push_headers(&self, out: &mut Vec<u8>, record: &View<'_>) {
        for (i, (name, value)) in record.headers.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value.unwrap_or(&self.null));
        }
    }
}

impl Piece {
    fn from_token(token: char) -> Result<Self, String> {
        Ok(match token {
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'T' => Self::Timestamp,
            'h' => Self::Headers,
            'k' => Self::Key,
            'K' => Self::KeyLength,
            's' | 'v' => Self::Value,
            'S' => Self::ValueLength,
            'R' => Self::ValueLengthBinary,
            other => {
                return Err(format!(
                    "%{other} is not a format token (the tokens are %t %p %o %T %h %k %K %s %S %R %%)"
                ));
            }
        })
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if let Some(Piece::Literal(bytes)) = pieces.last_mut() {
        return unescape_into(text, bytes);
    }
    let mut bytes = Vec::new();
    unescape_into(text, &mut bytes)?;
    pieces.push(Piece::Literal(bytes));
    Ok(())
}

fn push_number(out: &mut Vec<u8>, number: i64) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{number}");
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |b| b.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: View<'static> = View {
        topic: "orders",
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_123,
        key: Some(b"k1"),
        value: Some(b"hello"),
        headers: &[(b"a", Some(b"b")), (b"empty", Some(b"")), (b"null", None), (b"a", Some(b"c"))],
        key_seen: None,
        value_seen: None,
    };

    fn render(format: &str, null: &str, record: &View<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format, null.into()).unwrap().write(record, &mut out);
        out
    }

    #[test]
    fn tokens_are_kcats() {
        let table: &[(&str, &[u8])] = &[
            ("", b""),
            ("%t", b"orders"),
            ("%p", b"3"),
            ("%o", b"42"),
            ("%k", b"k1"),
            ("%K", b"2"),
            ("%s", b"hello"),
            ("%v", b"hello"),
            ("%S", b"5"),
            ("%R", b"\0\0\0\x05"),
            ("%T", b"1700000000123"),
            ("%h", b"a=b,empty=,null=,a=c"),
            ("%%", b"%"),
            (r"100%%\n", b"100%\n"),
            (r"%k\t%s\x00", b"k1\thello\0"),
            // kcat's own example.
            (r"Topic %t [%p] at offset %o: key %k: %s\n", b"Topic orders [3] at offset 42: key k1: hello\n"),
            ("é%o→", "é42→".as_bytes()),
        ];
        for (format, expect) in table {
            assert_eq!(render(format, "", &RECORD), *expect, "{format}");
        }
    }

    #[test]
    fn null_is_kept_apart_from_empty() {
        let null = View { key: None, value: None, ..RECORD };
        let empty = View { key: Some(b""), value: Some(b""), ..RECORD };
        assert_eq!(render("%k|%s|%K|%S", "NULL", &null), b"NULL|NULL|-1|-1");
        assert_eq!(render("%k|%s|%K|%S", "NULL", &empty), b"||0|0");
        assert_eq!(render("%k|%s|%K|%S", "", &null), b"||-1|-1");
        assert_eq!(render("%R", "", &null), b"\xff\xff\xff\xff");
        assert_eq!(render("%h", "NULL", &RECORD), b"a=b,empty=,null=NULL,a=c");
    }

    #[test]
    fn a_wrong_format_is_named() {
        for (format, says) in [("%", "%%"), ("%q", "%q"), ("100% sure", "% "), (r"\x", "hexadecimal")] {
            let error = Format::parse(format, Vec::new()).unwrap_err();
            assert!(error.contains(says), "{format}: {error}");
        }
    }

    #[test]
    fn without_a_format_values_are_lines() {
        let mut out = Vec::new();
        Format::delimited(None, b"\n".to_vec(), Vec::new()).write(&RECORD, &mut out);
        Format::delimited(Some(b":".to_vec()), b"\0".to_vec(), Vec::new()).write(&RECORD, &mut out);
        assert_eq!(out, b"hello\nk1:hello\0");
    }
}
