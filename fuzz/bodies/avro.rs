//! Any bytes as Avro's data, with schemas of all kinds, and any text as a schema.

use milena_registry::AvroSchema;

const SCHEMAS: &[&str] = &[
    r#"{"type":"array","items":"null"}"#,
    r#"{"type":"map","values":["null","long","double","string","bytes"]}"#,
    r#"{"type":"record","name":"A","fields":[{"name":"next","type":["null","A"]},{"name":"all","type":{"type":"array","items":"A"}}]}"#,
    r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}"#,
    r#"["null","boolean","int","long","float","double","string","bytes",{"type":"enum","name":"E","symbols":["a","b"]},{"type":"fixed","name":"F","size":3}]"#,
    r#"{"type":"array","items":{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"n","type":"null"},{"name":"m","type":{"type":"map","values":"null"}}]}}}"#,
];

/// The first byte chooses a schema, or the text of one follows, which ends with a byte of 255.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let (schema, bytes) = match SCHEMAS.get(usize::from(choice)) {
        Some(schema) => (AvroSchema::parse(schema).ok(), rest),
        None => {
            let end = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
            let (text, bytes) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            (std::str::from_utf8(text).ok().and_then(|text| AvroSchema::parse(text).ok()), bytes)
        }
    };
    let Some(schema) = schema else { return };
    // Types of serde's neither panic nor take more than the value does.
    let _ = schema.read::<serde_json::Value>(bytes);
    let Ok(value) = schema.read_value(bytes) else { return };
    let skipped = schema.read::<serde::de::IgnoredAny>(bytes);
    assert!(skipped.is_ok(), "what can be read can be left out: {:?}", skipped.err());
    let mut written = Vec::new();
    schema.write_value(&value, &mut written).expect("it was read");
    assert!(written.len() <= bytes.len(), "nothing is longer than it was");
    let mut again = Vec::new();
    let read = schema.read_value(&written).expect("it was written");
    schema.write_value(&read, &mut again).expect("it was read");
    // Not the values, because some numbers are not equal to themselves.
    assert_eq!(written, again);
}
