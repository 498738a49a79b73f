//! Records as JSON lines, which `consume --json` writes and `produce --json` reads without loss.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[{"key":"h","value":"x"}]}
//! ```
//!
//! - A string is its UTF-8 bytes, `null` is null and `""` is empty. Null and empty are different in Kafka.
//! - Bytes that are not UTF-8 are written as `key_base64` or `value_base64` instead of `key` or `value`.
//! - In a line to be produced, a value that is an object, array, number or boolean is sent as its JSON text, as written.
//!   `value` must be there, because a forgotten field must not become a tombstone; unknown fields are refused for the same
//!   reason. `topic` and `offset` are ignored, so that a consumed line can be produced as it is.
//! - `value_schema` says by which schema a value is, which is then decoded; see [`crate::schemas`].
//! - Headers are a list, because Kafka's headers have an order and may repeat names.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::offsets::parse_time;
use crate::schemas::{Note, Seen};
use crate::view::View;

/// The fields, for both `--help` texts.
pub(crate) const HELP: &str = "\
JSON lines:
  {\"topic\":\"t\",\"partition\":0,\"offset\":7,\"timestamp\":1700000000000,
   \"key\":\"k\",\"value\":\"v\",\"headers\":[{\"key\":\"h\",\"value\":\"x\"}]}    (on one line)
  null is null and \"\" is empty. Bytes that are not UTF-8 are in key_base64 or value_base64.";

/// Appends `record` as one line with its newline.
pub(crate) fn write_line(record: &View<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    push_string(out, record.topic);
    // Writing into a Vec cannot fail.
    let _ = write!(
        out,
        ",\"partition\":{},\"offset\":{},\"timestamp\":{},",
        record.partition, record.offset, record.timestamp
    );
    push_half(out, "key", record.key, record.key_seen);
    out.push(b',');
    push_half(out, "value", record.value, record.value_seen);
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":[");
        for (i, (key, value)) in record.headers.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
            push_bytes(out, "key", Some(key));
            out.push(b',');
            push_bytes(out, "value", *value);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}\n");
}

fn push_half(out: &mut Vec<u8>, field: &str, bytes: Option<&[u8]>, seen: Option<&Seen>) {
    match (seen, bytes) {
        (None, _) => push_bytes(out, field, bytes),
        (Some(Seen::Decoded { json, note, is_exact }), _) => {
            let _ = write!(out, "\"{field}\":{json}");
            if let Some(note) = note {
                let _ = write!(out, ",\"{field}_schema\":{note}");
            }
            if let (false, Some(raw)) = (is_exact, bytes) {
                let _ = write!(out, ",\"{field}_raw\":\"{}\"", BASE64.encode(raw));
            }
        }
        (Some(Seen::Failed(why)), bytes) => {
            let _ = write!(
                out,
                "\"{field}_base64\":\"{}\",\"{field}_note\":",
                BASE64.encode(bytes.unwrap_or_default())
            );
            push_string(out, why);
        }
    }
}

fn push_bytes(out: &mut Vec<u8>, field: &str, bytes: Option<&[u8]>) {
    let _ = write!(out, "\"{field}");
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            push_string(out, text);
        }
        Some((bytes, Err(_))) => {
            let _ = write!(out, "_base64\":\"{}\"", BASE64.encode(bytes));
        }
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serializes, and writing into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Bytes, or null.
pub(crate) type Payload<'a> = Option<Cow<'a, [u8]>>;
/// A name and a value.
pub(crate) type Header<'a> = (Cow<'a, [u8]>, Payload<'a>);

/// A line to be produced. Strings without escapes are borrowed from it.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) key: Payload<'a>,
    pub(crate) value: Payload<'a>,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) partition: Option<i32>,
    /// Milliseconds since the epoch.
    pub(crate) timestamp: Option<i64>,
    /// The key as it is in the input.
    pub(crate) key_half: Half<'a>,
    /// The value as it is in the input.
    pub(crate) value_half: Half<'a>,
}

/// What the input says of a key or a value, for those that have a schema.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Half<'a> {
    /// The JSON; none if bytes are given, or nothing.
    pub(crate) json: Option<&'a str>,
    pub(crate) schema: Option<Note>,
    /// The bytes of the record that was decoded.
    pub(crate) raw: Option<Vec<u8>>,
}

impl<'a> Line<'a> {
    /// # Errors
    ///
    /// The error names the field.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, String> {
        let text =
            std::str::from_utf8(text).map_err(|e| format!("it is not UTF-8 at byte {}", e.valid_up_to()))?;
        let Object(fields): Object<Fields<'a>> = serde_json::from_str(text).map_err(|e| json_error(&e))?;
        if fields.key.is_some() && fields.key_base64.is_some() {
            return Err("key and key_base64 are both given".into());
        }
        let key_half = half("key", fields.key, fields.key_schema, fields.key_raw)?;
        let value_half = half("value", fields.value, fields.value_schema, fields.value_raw)?;
        let value = one_of("value", fields.value, fields.value_base64)?
            .ok_or("value is missing (write \"value\":null for a tombstone)")?;
        Ok(Self {
            key_half,
            value_half,
            key: one_of("key", fields.key, fields.key_base64)?.flatten(),
            value,
            headers: fields.headers.map_or(Ok(Vec::new()), headers)?,
            partition: fields.partition,
            timestamp: fields.timestamp.map_or(Ok(None), timestamp)?,
        })
    }
}

fn half<'a>(
    name: &str,
    json: Option<&'a RawValue>,
    schema: Option<Note>,
    raw: Option<Cow<'a, str>>,
) -> Result<Half<'a>, String> {
    let raw = raw.map(|raw| BASE64.decode(raw.as_bytes()));
    let raw = raw.transpose().map_err(|error| format!("{name}_raw is not base64: {error}"))?;
    Ok(Half { json: json.map(RawValue::get), schema, raw })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    key_schema: Option<Note>,
    #[serde(default, borrow)]
    key_raw: Option<Cow<'a, str>>,
    #[serde(default, rename = "key_note")]
    _key_note: serde::de::IgnoredAny,
    #[serde(default, borrow, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    value_schema: Option<Note>,
    #[serde(default, borrow)]
    value_raw: Option<Cow<'a, str>>,
    #[serde(default, rename = "value_note")]
    _value_note: serde::de::IgnoredAny,
    #[serde(default, borrow)]
    headers: Option<Headers<'a>>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default, borrow, deserialize_with = "present")]
    timestamp: Option<&'a RawValue>,
    #[serde(default, rename = "topic")]
    _topic: serde::de::IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: serde::de::IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFields<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value_base64: Option<Cow<'a, str>>,
}

type Headers<'a> = Vec<Object<HeaderFields<'a>>>;

/// Accepts an object only. A derived struct alone would also accept an array of its fields' values.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Distinguishes a field that is `null` from a field that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The payload in `name` or `name_base64`; `None` if both are missing.
fn one_of<'a>(
    name: &str,
    raw: Option<&'a RawValue>,
    base64: Option<Cow<'a, str>>,
) -> Result<Option<Payload<'a>>, String> {
    match (raw, base64) {
        (None, None) => Ok(None),
        (Some(raw), None) => payload(name, raw.get()).map(Some),
        (None, Some(text)) => match BASE64.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Some(Some(bytes.into()))),
            Err(error) => Err(format!("{name}_base64 is not base64: {error}")),
        },
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 are both given")),
    }
}

/// The payload of a JSON value: a string's characters, null, or any other value as its JSON text.
fn payload<'a>(name: &str, raw: &'a str) -> Result<Payload<'a>, String> {
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => {
            let text: BorrowedText<'a> =
                serde_json::from_str(raw).map_err(|e| format!("{name}: {}", json_error(&e)))?;
            Ok(Some(match text.0 {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            }))
        }
        other => Ok(Some(other.into())),
    }
}

#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

fn headers(fields: Headers<'_>) -> Result<Vec<Header<'_>>, String> {
    let mut headers = Vec::with_capacity(fields.len());
    for Object(header) in fields {
        let key = one_of("key", header.key, header.key_base64)
            .map_err(|e| format!("headers: {e}"))?
            .flatten()
            .ok_or("headers: every header needs a key")?;
        let value = one_of("value", header.value, header.value_base64)
            .map_err(|e| format!("headers: {e}"))?
            .ok_or("headers: every header needs a value (null is one)")?;
        headers.push((key, value));
    }
    Ok(headers)
}

fn timestamp(raw: &RawValue) -> Result<Option<i64>, String> {
    if raw.get() == "null" {
        return Ok(None);
    }
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => parse_time(&text).map_err(|e| format!("timestamp: {e}")),
        Err(_) => raw.get().parse().map_err(|_| {
            format!("timestamp: {} is neither milliseconds since the epoch nor a date in quotes", raw.get())
        }),
    }
    .map(Some)
}

/// serde_json names a line and a column of its input. Our input is one line, so only the column is useful.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn view(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> View<'static> {
        View {
            topic: "t",
            partition: 1,
            offset: 2,
            timestamp: 3,
            key,
            value,
            headers: &[],
            key_seen: None,
            value_seen: None,
        }
    }

    fn write(record: &View<'_>) -> String {
        let mut out = Vec::new();
        write_line(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line() {
        let headers: &[(&[u8], Option<&[u8]>)] =
            &[(b"a", Some(b"1")), (b"a", None), (b"\xff", Some(b"\xfe")), (b"", Some(b""))];
        let record = View { headers, ..view(Some(b"k\n\"\xc3\xa9"), Some(b"\xff\x00")) };
        assert_eq!(
            write(&record),
            concat!(
                r#"{"topic":"t","partition":1,"offset":2,"timestamp":3,"key":"k\n\"é","value_base64":"/wA=","#,
                r#""headers":[{"key":"a","value":"1"},{"key":"a","value":null},"#,
                r#"{"key_base64":"/w==","value_base64":"/g=="},{"key":"","value":""}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn null_and_empty_are_two_things() {
        assert!(write(&view(None, Some(b""))).contains(r#""key":null,"value":"""#));
        let line = Line::parse(br#"{"key":"","value":null}"#).unwrap();
        assert_eq!((line.key, line.value), (Some(Cow::Borrowed(&b""[..])), None));
    }

    #[test]
    fn a_value_may_be_json_itself() {
        for value in [r#"{"id": 1, "x":[1.50]}"#, "[1]", "3.10", "true", "-0"] {
            let text = format!(r#"{{"value":{value},"key":17}}"#);
            let line = Line::parse(text.as_bytes()).unwrap();
            assert_eq!(line.value.as_deref(), Some(value.as_bytes()));
            assert_eq!(line.key.as_deref(), Some(&b"17"[..]));
        }
    }

    #[test]
    fn a_timestamp_is_a_number_or_a_date() {
        for (text, expect) in [
            ("1700000000000", Some(1_700_000_000_000)),
            ("null", None),
            (r#""2023-11-14T22:13:20Z""#, Some(1_700_000_000_000)),
        ] {
            let line = format!(r#"{{"value":"","timestamp":{text}}}"#);
            assert_eq!(Line::parse(line.as_bytes()).unwrap().timestamp, expect, "{text}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (line, says) in [
            ("", "EOF"),
            ("[1]", "invalid type"),
            ("{}", "value is missing"),
            (r#"{"key":"k"}"#, "value is missing"),
            (r#"{"value":"v","kee":"k"}"#, "unknown field `kee`"),
            (r#"{"value":"v","value":"w"}"#, "duplicate field"),
            (r#"{"value":"v","value_base64":"AA=="}"#, "both"),
            (r#"{"key":null,"key_base64":"AA==","value":"v"}"#, "both"),
            (r#"{"value_base64":"?"}"#, "value_base64 is not base64"),
            (r#"{"value":"v","partition":"1"}"#, "invalid type"),
            (r#"{"value":"v","timestamp":1.5}"#, "timestamp"),
            (r#"{"value":"v","timestamp":"yesterday"}"#, "timestamp"),
            (r#"{"value":"v","headers":[{"value":"x"}]}"#, "needs a key"),
            (r#"{"value":"v","headers":[{"key":"x"}]}"#, "needs a value"),
            (r#"{"value":"v","headers":[{"key":null,"value":"x"}]}"#, "needs a key"),
            (r#"{"value":"v","headers":[["k","v"]]}"#, "expected an object"),
            (r#"{"value":"\ud800"}"#, "value: "),
            (r#"{"value":"v"} x"#, "trailing"),
        ] {
            let error = Line::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
        assert!(Line::parse(b"{\"value\":\"\xff\"}").unwrap_err().contains("UTF-8"));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![vec(any::<u8>(), 0..40), any::<String>().prop_map(String::into_bytes)]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            topic: String,
            partition: i32,
            offset: i64,
            timestamp: i64,
            key in option::of(bytes()),
            value in option::of(bytes()),
            headers in vec((bytes(), option::of(bytes())), 0..4),
        ) {
            let borrowed: Vec<_> = headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
            let (key, value) = (key.as_deref(), value.as_deref());
            let (key_seen, value_seen) = (None, None);
            let record =
                View { topic: &topic, partition, offset, timestamp, key, value, headers: &borrowed, key_seen, value_seen };
            let text = write(&record);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let line = Line::parse(text.trim_end_matches('\n').as_bytes()).unwrap();
            prop_assert_eq!(line.key.as_deref(), key);
            prop_assert_eq!(line.value.as_deref(), value);
            prop_assert_eq!(line.partition, Some(partition));
            prop_assert_eq!(line.timestamp, Some(timestamp));
            let back: Vec<_> = line.headers.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
            prop_assert_eq!(back, borrowed);
        }
    }
}
