//! Any bytes as a value that is read with a JSON Schema, and any text as a schema.

use std::sync::OnceLock;

use milena_registry::{Decode as _, Encode as _, Format as _, JsonSchema, JsonSchemaValidator, Schema};

const SCHEMAS: &[&str] = &[
    r##"{"type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"type":"string","pattern":"^(a|b)+$","maxLength":5},
        "next":{"$ref":"#"}},"patternProperties":{"^x":{"type":"number","multipleOf":0.01}},"additionalProperties":false}"##,
    r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"a":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/a"},
        "uniqueItems":true},{"enum":[1,null,"x"]}]}},"oneOf":[{"$ref":"#/$defs/a"},{"required":["k"],"unevaluatedProperties":false,
        "properties":{"k":{"not":{"type":"null"}}}}]}"##,
    r##"{"$schema":"http://json-schema.org/draft-04/schema#","definitions":{"d":{"format":"date-time"}},"items":[{"$ref":"#/definitions/d"}],
        "additionalItems":{"if":true,"dependencies":{"a":["b"]}}}"##,
];

fn compiled() -> &'static [JsonSchemaValidator] {
    static COMPILED: OnceLock<Vec<JsonSchemaValidator>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compile = |text: &&str| JsonSchema::new().compile(&Schema::json(*text), &[]).expect("a schema");
        SCHEMAS.iter().map(compile).collect()
    })
}

/// The first byte chooses a schema, or the text of one follows, which ends with a byte of 255.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let own;
    let (schema, bytes) = match compiled().get(usize::from(choice)) {
        Some(schema) => (schema, rest),
        None => {
            let end = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
            let (text, bytes) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            let Ok(text) = std::str::from_utf8(text) else { return };
            let Ok(schema) = JsonSchema::new().compile(&Schema::json(text), &[]) else { return };
            own = schema;
            (&own, bytes)
        }
    };
    let format = JsonSchema::new();
    let Ok(value) = format.decode(schema, None, bytes) else { return };
    let value: serde_json::Value = value;
    // What was read fits, so it can be written.
    let mut written = Vec::new();
    format.encode(schema, &value, &mut written).expect("it was read");
    let again: serde_json::Value = format.decode(schema, None, &written).expect("it was written");
    assert_eq!(again, value);
}
