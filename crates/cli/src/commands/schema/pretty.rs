//! Schemas as people read them: JSON with a member on each line, in its own order. Protobuf is as it was written.

use milena_registry::{Schema, SchemaType};
use serde::de::IgnoredAny;

/// The text with a line's end.
pub(super) fn pretty(schema: &Schema) -> String {
    let text = schema.text();
    let is_json = matches!(schema.kind(), SchemaType::Avro | SchemaType::Json)
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        // A line of a schema that nests deeper than this would be mostly spaces.
        && deepest(text) <= NESTING_SAFE;
    let mut text = if is_json { indented(text) } else { text.trim_end().to_owned() };
    text.push('\n');
    text
}

/// Deeper schemas are shown as they are.
const NESTING_SAFE: usize = 100;

/// How many brackets are open at once at most, those in texts included.
fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// JSON with other spaces. Not by serde, which sorts members and rewrites numbers. Lists of texts and numbers stay on one line.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut depth = 0;
    let mut rest = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    // Whether each open bracket has its content on one line.
    let mut open: Vec<bool> = Vec::new();
    let mut at = 0;
    while let Some(character) = rest.next() {
        let here = at;
        at += character.len_utf8();
        match character {
            '"' => {
                out.push('"');
                let mut is_escaped = false;
                for inner in rest.by_ref() {
                    at += inner.len_utf8();
                    out.push(inner);
                    match inner {
                        _ if is_escaped => is_escaped = false,
                        '\\' => is_escaped = true,
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(character);
                let is_flat = is_flat(&text[here..]);
                open.push(is_flat);
                depth += 1;
                if !is_flat {
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                if open.pop() == Some(false) {
                    line(&mut out, depth);
                }
                out.push(character);
            }
            ',' if open.last() == Some(&true) => out.push_str(", "),
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

/// Whether a bracket opens nothing but a list without lists and objects, or an empty object.
fn is_flat(text: &str) -> bool {
    let mut characters = text.chars();
    let is_list = characters.next() == Some('[');
    let mut is_text = false;
    let mut is_escaped = false;
    for character in characters {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' if !is_list => return false,
            '"' => is_text = !is_text,
            _ if is_text => {}
            '}' | ']' => return true,
            '{' | '[' => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_order_and_its_numbers() {
        let text = r#" {"type":"record", "name" : "A\"{,","fields":[{"name":"b","type":["null","int"],"default":1.50},{}],"x":[],"y":{ }} "#;
        let expect = "{\n  \"type\": \"record\",\n  \"name\": \"A\\\"{,\",\n  \"fields\": [\n    {\n      \"name\": \"b\",\n      \
                      \"type\": [\"null\", \"int\"],\n      \"default\": 1.50\n    },\n    {}\n  ],\n  \"x\": [],\n  \"y\": {}\n}\n";
        let shown = pretty(&Schema::avro(text));
        assert_eq!(shown, expect);
        assert_eq!(pretty(&Schema::avro(&*shown)), shown);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&shown), value(text));
        assert_eq!(pretty(&Schema::avro("\"string\"")), "\"string\"\n");
        // What is no JSON stays as it is.
        assert_eq!(pretty(&Schema::json("{\"a\": [}")), "{\"a\": [}\n");
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(pretty(&Schema::json(&*deep)), deep + "\n");
        assert_eq!(pretty(&Schema::protobuf("message A {}\n\n")), "message A {}\n");
    }
}
