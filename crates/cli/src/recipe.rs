//! Makes a record from a piece of input, as the options of `milena produce` say.

use std::borrow::Cow;

use crate::input::split_key;
use crate::json::{Half, Header, Line, Payload};

/// The options, which are the same for every record of a run.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// Each piece is a JSON object.
    pub(crate) json: bool,
    /// The partition of a JSON line is ignored.
    pub(crate) repartition: bool,
    pub(crate) key_delimiter: Option<Vec<u8>>,
    /// The key of records that have none.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Keys and values equal to it are sent as null.
    pub(crate) null: Option<Vec<u8>>,
    pub(crate) partition: Option<i32>,
    /// Keys are encoded by a schema.
    pub(crate) keys_are_json: bool,
    /// Values are encoded by a schema.
    pub(crate) values_are_json: bool,
}

impl Recipe {
    /// The record in `piece`, or `None` for a blank line between JSON lines.
    pub(crate) fn apply<'a>(&'a self, piece: &'a [u8]) -> Result<Option<Line<'a>>, String> {
        let mut line = if self.json {
            if piece.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
            let mut line = Line::parse(piece)?;
            if self.repartition {
                line.partition = None;
            }
            line
        } else {
            self.text(piece)?
        };
        if line.key.is_none() {
            line.key = self.key.as_deref().map(Cow::Borrowed);
            line.key_half.json = self.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        }
        line.partition = self.partition.or(line.partition);
        let ours = |(name, value): &'a (Vec<u8>, Option<Vec<u8>>)| -> Header<'a> {
            (Cow::Borrowed(name.as_slice()), value.as_deref().map(Cow::Borrowed))
        };
        line.headers.extend(self.headers.iter().map(ours));
        Ok(Some(line))
    }

    fn text<'a>(&self, piece: &'a [u8]) -> Result<Line<'a>, String> {
        let (key, value) = match &self.key_delimiter {
            Some(delimiter) => split_key(piece, delimiter),
            None => (None, piece),
        };
        let or_null = |bytes: &'a [u8]| -> Payload<'a> {
            if self.null.as_deref() == Some(bytes) { None } else { Some(Cow::Borrowed(bytes)) }
        };
        let (key, value) = (key.and_then(or_null), or_null(value));
        let half = |part: &str, is_json: bool, payload: &Payload<'a>| -> Result<Half<'a>, String> {
            let json = match payload {
                Some(Cow::Borrowed(bytes)) if is_json => std::str::from_utf8(bytes).map(Some),
                _ => Ok(None),
            };
            let json = json.map_err(|_| format!("the {part} is not UTF-8, and JSON is expected"))?;
            Ok(Half { json, ..Half::default() })
        };
        let (key_half, value_half) =
            (half("key", self.keys_are_json, &key)?, half("value", self.values_are_json, &value)?);
        Ok(Line { key, value, headers: Vec::new(), partition: None, timestamp: None, key_half, value_half })
    }
}

/// Parses `NAME=VALUE`; without `=` the value is null.
pub(crate) fn parse_header(text: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    match text.split_once('=') {
        Some((name, value)) => (name.into(), Some(value.into())),
        None => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recipe: &Recipe, piece: &str, key: Option<&str>, value: Option<&str>) {
        let line = recipe.apply(piece.as_bytes()).unwrap().unwrap();
        let text = |bytes: &Payload<'_>| bytes.as_ref().map(|b| String::from_utf8(b.to_vec()).unwrap());
        assert_eq!((text(&line.key).as_deref(), text(&line.value).as_deref()), (key, value), "{piece:?}");
    }

    #[test]
    fn keys_are_cut_off_and_markers_become_null() {
        let plain = Recipe::default();
        check(&plain, "k:v", None, Some("k:v"));
        check(&plain, "", None, Some(""));
        let keyed =
            Recipe { key_delimiter: Some(b":".to_vec()), null: Some(b"".to_vec()), ..Recipe::default() };
        check(&keyed, "k:v:w", Some("k"), Some("v:w"));
        check(&keyed, ":v", None, Some("v"));
        check(&keyed, "k:", Some("k"), None);
        check(&keyed, "v", None, Some("v"));
        let fixed =
            Recipe { key: Some(b"f".to_vec()), key_delimiter: Some(b":".to_vec()), ..Recipe::default() };
        check(&fixed, "k:v", Some("k"), Some("v"));
        check(&fixed, "v", Some("f"), Some("v"));
    }

    #[test]
    fn flags_add_to_json_lines() {
        let recipe = Recipe {
            json: true,
            headers: vec![parse_header("b=2=3"), parse_header("c")],
            partition: Some(7),
            ..Recipe::default()
        };
        let piece = br#"{"value":"v","partition":1,"headers":[{"key":"a","value":"1"}]}"#;
        let line = recipe.apply(piece).unwrap().unwrap();
        let headers: Vec<_> = line.headers.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
        assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (b"b", Some(b"2=3")), (b"c", None)]);
        assert_eq!(line.partition, Some(7));
        let recipe = Recipe { json: true, repartition: true, ..Recipe::default() };
        assert_eq!(recipe.apply(piece).unwrap().unwrap().partition, None);
    }

    #[test]
    fn blank_lines_are_records_in_text_and_nothing_in_json() {
        let json = Recipe { json: true, ..Recipe::default() };
        assert_eq!(json.apply(b" \r"), Ok(None));
        assert!(json.apply(b"x").is_err());
        check(&Recipe::default(), " ", None, Some(" "));
    }
}
