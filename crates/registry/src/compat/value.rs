//! JSON as schemas need it: an object keeps the order of its members, and a number keeps its digits.
//!
//! Canonical forms of schemas are texts, so the order of members and the spelling of numbers matter. `serde_json` keeps
//! both only by features that would change it for every other crate of the workspace.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Nesting that a schema may have. Parsers recurse once per level, and so do the checks.
pub(super) const DEPTH_MAX: usize = 256;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// The digits as they were written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(Object),
}

/// The members of an object in the order in which they were written.
pub(super) type Object = Vec<(String, Value)>;

impl Value {
    /// Reads a text that holds one value.
    pub(super) fn parse(text: &str) -> Result<Value, String> {
        Value::read(Parser { text, at: 0, comments: false })
    }

    /// Reads a text in which comments may stand, as Avro's parser does.
    pub(super) fn parse_with_comments(text: &str) -> Result<Value, String> {
        Value::read(Parser { text, at: 0, comments: true })
    }

    fn read(mut parser: Parser<'_>) -> Result<Value, String> {
        let value = parser.value(0)?;
        parser.blank();
        if parser.at < parser.text.len() {
            return Err(parser.error("there is more after the value"));
        }
        Ok(value)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => get(members, name),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// A number without a fraction and an exponent.
    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// Whether the number is written without a fraction and an exponent.
    pub(super) fn is_integer(&self) -> bool {
        matches!(self, Value::Number(digits) if !digits.contains(['.', 'e', 'E']))
    }

    /// The same value with the members of each object in the order of their names.
    pub(super) fn sorted(&self) -> Value {
        match self {
            Value::Array(items) => Value::Array(items.iter().map(Value::sorted).collect()),
            Value::Object(members) => {
                let mut members: Object =
                    members.iter().map(|(name, value)| (name.clone(), value.sorted())).collect();
                members.sort_by(|a, b| utf16(&a.0).cmp(utf16(&b.0)));
                Value::Object(members)
            }
            other => other.clone(),
        }
    }

    /// Writes the value without spaces, with the escapes that Jackson writes.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(digits) => out.push_str(digits),
            Value::String(text) => quote(text, out),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    quote(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// The member with this name.
pub(super) fn get<'a>(members: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    members.iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Java orders strings by their UTF-16 units, and the sorted forms are Java's.
pub(super) fn utf16(text: &str) -> std::str::EncodeUtf16<'_> {
    text.encode_utf16()
}

/// Writes a string in quotes.
pub(super) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => write!(out, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    comments: bool,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> String {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("not JSON: {what} at line {line}, column {column}")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            }
            let rest = &self.text[self.at..];
            let end = match rest.get(..2) {
                Some("/*") if self.comments => rest.find("*/").map(|end| end + 2),
                Some("//") if self.comments => Some(rest.find('\n').unwrap_or(rest.len())),
                _ => None,
            };
            let Some(end) = end else { return };
            self.at += end;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek() != Some(byte) {
            return Err(self.error(&format!("'{}' is missing", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(self.error(&format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.blank();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("no value starts with this character")),
            None => Err(self.error("the text ends before a value")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, String> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("no value is written like this"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), String> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a digit is missing"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.text.as_bytes()[first] == b'0' && self.at > first + 1 {
            return Err(self.error("a number starts with 0"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(_) => return Err(self.error("a control character is not escaped")),
                None => return Err(self.error("a string has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let byte = self.peek().ok_or_else(|| self.error("a string has no end"))?;
        let c = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("no escape is written like this")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unit(&mut self) -> Result<u16, String> {
        let hex =
            self.text.get(self.at..self.at + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = hex.and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let unit = unit.ok_or_else(|| self.error("\\u needs four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            units.push(self.unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(c)) => Ok(c),
            _ => Err(self.error("half of a surrogate pair")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                self.expect(b']')?;
                return Ok(Value::Array(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut members: Object = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.error("the name of a member is missing"));
            }
            let name = self.string()?;
            self.blank();
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            // Jackson lets the last of two members with one name win, in the place of the first.
            match index.get(&name) {
                Some(at) => members[*at].1 = value,
                None => {
                    index.insert(name.clone(), members.len());
                    members.push((name, value));
                }
            }
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                self.expect(b'}')?;
                return Ok(Value::Object(members));
            }
        }
    }
}
