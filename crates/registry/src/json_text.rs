//! JSON as text, taken apart by whoever knows what it should be.
//!
//! A parsed tree would lose what records need: the order of a map's entries, entries that come twice, and digits of numbers. The parts
//! of a value are therefore texts of their own, which are looked at once the schema says what they are.

#[cfg(any(feature = "avro", feature = "protobuf"))]
use std::fmt::{self, Write as _};

#[cfg(feature = "avro")]
pub(crate) use self::parts::{Entries, Place};

/// JSON that is written here is nested at most this deep: parsers, such as serde_json, take no more than 127 levels, and the value may
/// be a part of something.
#[cfg(any(feature = "avro", feature = "protobuf"))]
pub(crate) const LEVELS_MAX: u32 = 100;

/// What a reader that knows the schema takes a value apart with.
#[cfg(feature = "avro")]
mod parts {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::pointer_name;

    /// The fields of an object, in the order of the text.
    pub(crate) struct Entries<'a>(pub(crate) Vec<(String, &'a RawValue)>);

    impl<'de> Deserialize<'de> for Entries<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Fields;

            impl<'de> Visitor<'de> for Fields {
                type Value = Entries<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                    let mut entries = Vec::new();
                    while let Some(entry) = map.next_entry()? {
                        entries.push(entry);
                    }
                    Ok(Entries(entries))
                }
            }

            deserializer.deserialize_map(Fields)
        }
    }

    /// Where in a value something is. It is shown as a JSON pointer.
    #[derive(Clone, Copy)]
    pub(crate) struct Place<'a> {
        outer: Option<&'a Place<'a>>,
        step: Step<'a>,
        pub(crate) depth: u32,
    }

    #[derive(Clone, Copy)]
    enum Step<'a> {
        Root,
        Name(&'a str),
        Index(usize),
    }

    impl<'a> Place<'a> {
        pub(crate) fn root() -> Self {
            Self { outer: None, step: Step::Root, depth: 0 }
        }

        pub(crate) fn name<'b>(&'b self, name: &'b str) -> Place<'b> {
            Place { outer: Some(self), step: Step::Name(name), depth: self.depth + 1 }
        }

        pub(crate) fn index(&self, index: usize) -> Place<'_> {
            Place { outer: Some(self), step: Step::Index(index), depth: self.depth + 1 }
        }
    }

    impl fmt::Display for Place<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if let Some(outer) = self.outer {
                outer.fmt(f)?;
            }
            match self.step {
                Step::Root => Ok(()),
                Step::Name(name) => pointer_name(f, name),
                Step::Index(index) => write!(f, "/{index}"),
            }
        }
    }
}

/// Names are those of a schema nearly always. The keys of maps are data, and may be long.
#[cfg(any(feature = "avro", feature = "protobuf"))]
fn pointer_name(f: &mut impl fmt::Write, name: &str) -> fmt::Result {
    const SHOWN_MAX: usize = 100;
    f.write_char('/')?;
    for character in name[..name.floor_char_boundary(SHOWN_MAX)].chars() {
        match character {
            '~' => f.write_str("~0")?,
            '/' => f.write_str("~1")?,
            control if control.is_control() => write!(f, "{}", control.escape_default())?,
            other => f.write_char(other)?,
        }
    }
    Ok(())
}

/// Appends a text in quotation marks.
#[cfg(any(feature = "avro", feature = "protobuf"))]
pub(crate) fn push_string(text: &str, into: &mut String) {
    into.push('"');
    for character in text.chars() {
        match character {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            control if control < ' ' => {
                // Writing into a String cannot fail.
                let _ = write!(into, "\\u{:04x}", u32::from(control));
            }
            other => into.push(other),
        }
    }
    into.push('"');
}

/// Appends a number. What is no number in JSON is a text: `"NaN"`, `"Infinity"`, `"-Infinity"`.
#[cfg(any(feature = "avro", feature = "protobuf"))]
pub(crate) fn push_float(value: f64, shortest: impl fmt::Debug, into: &mut String) {
    let text = match value {
        value if value.is_nan() => "\"NaN\"",
        f64::INFINITY => "\"Infinity\"",
        f64::NEG_INFINITY => "\"-Infinity\"",
        // The fewest digits that are read back to the same number.
        _ => {
            // Writing into a String cannot fail.
            let _ = write!(into, "{shortest:?}");
            return;
        }
    };
    into.push_str(text);
}

/// JSON on one line, with everything else as it is: numbers keep their digits, and objects their order. `text` is JSON.
#[cfg(feature = "json-schema")]
pub(crate) fn one_line(text: &str) -> String {
    let text = text.trim_ascii();
    if !text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return text.to_owned();
    }
    let (mut line, mut is_in_string, mut is_escaped) = (String::with_capacity(text.len()), false, false);
    for character in text.chars() {
        if is_in_string {
            is_in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            is_in_string = character == '"';
        }
        line.push(character);
    }
    line
}

/// What serde says of JSON that does not fit, without the value: that is data, and may be a secret.
#[cfg(feature = "protobuf")]
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if text.starts_with("unrecognized enum value") {
        return "the enum has no such constant".to_owned();
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = text.strip_prefix(kind) {
            return match rest.rsplit_once(", expected ") {
                Some((_, expected)) => format!("expected {expected}"),
                None => kind.trim_end_matches(": ").to_owned(),
            };
        }
    }
    text.to_owned()
}

/// The place at which the JSON of `text` was, when it had been read up to this line and column (from 1, in bytes). It is shown as a JSON
/// pointer.
#[cfg(feature = "protobuf")]
pub(crate) fn place_at(text: &str, line: usize, column: usize) -> String {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let end = text.floor_char_boundary((before + column).min(text.len()));
    // Open objects with the name that was read last, and open arrays with an index.
    let mut open: Vec<Result<String, usize>> = Vec::new();
    let mut rest = text[..end].char_indices();
    let mut last_string = None;
    while let Some((at, character)) = rest.next() {
        match character {
            '{' => open.push(Ok(String::new())),
            '[' => open.push(Err(0)),
            // The place of an object that has just been read is its own.
            '}' | ']' => drop(open.pop()),
            ',' => {
                if let Some(Err(index)) = open.last_mut() {
                    *index += 1;
                }
            }
            ':' => {
                if let (Some(Ok(name)), Some(read)) = (open.last_mut(), last_string.take()) {
                    *name = read;
                }
            }
            '"' => {
                let mut is_escaped = false;
                let close = rest.find(|(_, character)| {
                    let is_close = *character == '"' && !is_escaped;
                    is_escaped = *character == '\\' && !is_escaped;
                    is_close
                });
                let Some((close, _)) = close else { break };
                last_string = serde_json::from_str(&text[at..=close]).ok();
            }
            _ => {}
        }
    }
    let mut pointer = String::new();
    for step in open {
        // Writing into a String cannot fail.
        let _ = match step {
            Ok(name) if name.is_empty() => Ok(()),
            Ok(name) => pointer_name(&mut pointer, &name),
            Err(index) => write!(pointer, "/{index}"),
        };
    }
    pointer
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "json-schema")]
    use super::one_line;
    #[cfg(feature = "protobuf")]
    use super::place_at;

    #[cfg(feature = "json-schema")]
    #[test]
    fn lines_are_joined_outside_of_texts() {
        for (text, line) in [
            ("{\"a\": 1.50}", "{\"a\": 1.50}"),
            (" {\"a\":1}\n", "{\"a\":1}"),
            ("{\n  \"a b\\\"\\\\\": [ 1,\r\n 2e400 ]\n}", "{\"a b\\\"\\\\\":[1,2e400]}"),
        ] {
            assert_eq!(one_line(text), line);
        }
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn places_are_found_by_how_far_the_text_was_read() {
        let text = "{\"a\": {\"b/\\\"\": [1, {\"c\": \"d\"}]},\n \"e\": 5}";
        let check = |piece: &str, pointer: &str| {
            let end = text.find(piece).expect("it is there") + piece.len();
            let line = text[..end].matches('\n').count() + 1;
            let column = end - text[..end].rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(place_at(text, line, column), pointer, "{piece}");
        };
        check("[1", "/a/b~1\"/0");
        check("\"d\"", "/a/b~1\"/1/c");
        check("\"d\"}]}", "/a");
        check("\"e\": 5", "/e");
        assert_eq!(place_at(text, 9, 9), "");
    }
}
