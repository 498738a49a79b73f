//! Schemas and values that were written to exhaust a reader or a writer: each is refused, or taken within bounds of memory, stack and
//! work. A stack that overflows ends the test program.

#![cfg(all(feature = "json-schema", feature = "protobuf"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use milena_registry::{
    Decode as _, DynamicProtobuf, Encode as _, Format as _, JsonSchema, ProtobufSchema, Reference, Schema,
    SerdeError,
};
use serde_json::{Value, json};

/// Compiles the schema, and reads the value with it.
fn read_json(schema: &str, value: &str) -> Result<Value, SerdeError> {
    let format = JsonSchema::new();
    let compiled = format.compile(&Schema::json(schema), &[])?;
    format.decode(&compiled, None, value.as_bytes())
}

fn refused(result: Result<impl Sized, SerdeError>, expected: &str) {
    let error = result.map(drop).expect_err(expected).to_string();
    assert!(error.contains(expected) && error.len() < 1_000, "{error}");
}

/// Each definition names the next one twice, or once.
fn chain(count: usize, next: impl Fn(Value) -> Value) -> String {
    let mut defs = serde_json::Map::new();
    for level in 0..count {
        defs.insert(format!("a{level}"), next(json!({"$ref": format!("#/$defs/a{}", level + 1)})));
    }
    defs.insert(format!("a{count}"), json!({"type": "string"}));
    json!({"$ref": "#/$defs/a0", "$defs": defs}).to_string()
}

#[test]
fn json_schemas_whose_work_doubles_with_each_level_are_refused() {
    let tried = "more than 10000 have to be tried";
    refused(read_json(&chain(30, |next| json!({"anyOf": [next, next]})), "1"), tried);
    refused(read_json(&chain(30, |next| json!({"allOf": [next], "not": next})), "1"), tried);
    read_json(&chain(8, |next| json!({"anyOf": [next, next]})), "\"a\"").expect("it fits");
}

#[test]
fn json_schemas_that_need_themselves_for_the_same_value_are_refused() {
    refused(read_json(r##"{"$ref":"#"}"##, "1"), "without end");
    refused(read_json(r##"{"$dynamicAnchor":"a","anyOf":[{"$dynamicRef":"#a"}]}"##, "1"), "without end");
    // Not for a part of it.
    read_json(
        r##"{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##,
        r#"{"next":{"next":{}}}"#,
    )
    .expect("it fits");
}

#[test]
fn json_schemas_and_values_are_nested_within_the_stack() {
    refused(read_json(&chain(20_000, |next| next), "1"), "more than 100 schemas are nested");
    // At each level of the value the schema is nested as deep as it may be, or as deep as people nest it.
    let nested = |levels: usize| {
        let mut schema: Value =
            serde_json::from_str(&chain(levels, |next| json!({"allOf": [next]}))).unwrap();
        schema["$defs"][format!("a{levels}")] =
            json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/a0"}});
        schema.to_string()
    };
    let value = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    refused(read_json(&nested(40), &value(120)), "the value is nested more than");
    read_json(&nested(40), &value(17)).expect("it fits");
    read_json(&nested(4), &value(120)).expect("it fits");
    refused(read_json("{}", &value(200)), "recursion limit");
}

#[test]
fn patterns_of_json_schemas_are_bounded() {
    let text = format!("\"{}b\"", "a".repeat(40));
    refused(read_json(r#"{"pattern":"^(a+)+$"}"#, &text), "does not fit");
    refused(read_json(r#"{"pattern":"^(?=(a+)+$)(a*)*\\1b"}"#, &text), "does not fit");
    refused(read_json(r#"{"pattern":"((((\\p{L}{100}){100}){100}){100}){100}"}"#, "\"a\""), "cannot be used");
    refused(read_json(&json!({"pattern": "(".repeat(20_000)}).to_string(), "\"a\""), "cannot be used");
    let many: serde_json::Map<String, Value> = (0..2_001).map(|n| (format!("^{n}$"), json!({}))).collect();
    refused(read_json(&json!({"patternProperties": many}).to_string(), "{}"), "more than 2000 patterns");
    // Many patterns have less room each.
    let large: serde_json::Map<String, Value> =
        (0..500).map(|n| (format!("^\\p{{L}}{{60}}{n}$"), json!({}))).collect();
    let schema = json!({"patternProperties": large}).to_string();
    let measured = allocation_counter::measure(|| drop(read_json(&schema, "{}")));
    assert!(measured.bytes_max < 256 << 20, "{}", measured.bytes_max);
}

fn compiled(text: &str, others: &[(String, String)]) -> Result<ProtobufSchema, SerdeError> {
    let others: Vec<_> = others
        .iter()
        .map(|(name, text)| (Reference::new(name.clone(), "s", 1), Schema::protobuf(text.as_str())))
        .collect();
    DynamicProtobuf::new().compile(&Schema::protobuf(text), &others)
}

#[test]
fn protobuf_files_are_nested_within_the_stack() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    refused(compiled(&format!("syntax = \"proto3\"; {}", deep("message A {", "}")), &[]), "100 levels");
    // The value of an option is read when the file is complete.
    let option = "import \"google/protobuf/descriptor.proto\"; message T { T a = 1; }
        extend google.protobuf.FileOptions { T x = 50000; } option (x) = ";
    refused(compiled(&format!("syntax = \"proto3\"; {option} {};", deep("{ a: ", "}")), &[]), "100 levels");
    refused(compiled(&format!("syntax = \"proto3\"; {option} {};", deep("{ a <", ">}")), &[]), "100 levels");
    compiled(&format!("syntax = \"proto3\"; {option} {{ a: {{ a <> }} }};"), &[]).expect("a file");
}

#[test]
fn a_descriptor_has_no_options_to_read() {
    use base64::Engine as _;
    use prost::Message as _;
    use prost_reflect::prost_types::{
        FileDescriptorProto, FileOptions, UninterpretedOption, uninterpreted_option::NamePart,
    };
    let file = compiled("syntax = \"proto3\"; message A { int32 a = 1; }", &[]).expect("a file");
    let mut file: FileDescriptorProto =
        file.pool().files().last().expect("one").file_descriptor_proto().clone();
    let name = vec![NamePart { name_part: "java_package".into(), is_extension: false }];
    let aggregate_value = Some("{ a: ".repeat(100_000));
    let option = UninterpretedOption { name, aggregate_value, ..UninterpretedOption::default() };
    file.options = Some(FileOptions { uninterpreted_option: vec![option], ..FileOptions::default() });
    let text = base64::engine::general_purpose::STANDARD.encode(file.encode_to_vec());
    compiled(&text, &[]).expect("its options are left out");
}

#[test]
fn imports_are_bounded_and_circles_are_found() {
    let import = |name: &str| format!("syntax = \"proto3\"; import public \"{name}\";");
    // Each file's message has one of the next file in it.
    let file = |n: usize| {
        format!("syntax = \"proto3\"; import \"f{n}.proto\"; message M{} {{ M{n} next = 1; }}", n - 1)
    };
    let chain = |count: usize| -> Vec<_> {
        let last = (format!("f{count}.proto"), format!("syntax = \"proto3\"; message M{count} {{}}"));
        (1..count).map(|n| (format!("f{n}.proto"), file(n + 1))).chain([last]).collect()
    };
    compiled(&file(1), &chain(50)).expect("a file");
    refused(compiled(&file(1), &chain(999)), "imports are nested more than 64 levels");
    let circle = [("a.proto".to_owned(), import("b.proto")), ("b.proto".to_owned(), import("a.proto"))];
    refused(compiled(&import("a.proto"), &circle), "import cycle");
    refused(compiled(&import("milena/root.proto"), &[]), "import cycle");
    refused(compiled(&import("absent.proto"), &[]), "absent.proto");
}

#[test]
fn files_of_confluents_are_known() {
    let text = r#"syntax = "proto3";
        import "confluent/meta.proto"; import "confluent/type/decimal.proto";
        message Order { option (confluent.message_meta).doc = "one"; confluent.type.Decimal price = 1 [(confluent.field_meta) = {
            tags: "PII", params: [{key: "precision", value: "8"}] }]; }"#;
    let format = DynamicProtobuf::new();
    let compiled = compiled(text, &[]).expect("a file");
    let order = compiled.pool().get_message_by_name("Order").expect("a message");
    let mut message = milena_registry::DynamicMessage::new(order.clone());
    let price = order.get_field_by_name("price").expect("a field");
    let decimal = price.kind().as_message().expect("a message").clone();
    let mut value = milena_registry::DynamicMessage::new(decimal);
    value.set_field_by_name("scale", prost_reflect::Value::I32(2));
    message.set_field(&price, prost_reflect::Value::Message(value));
    let mut bytes = Vec::new();
    format.encode(&compiled, &message, &mut bytes).expect("it fits");
    assert_eq!(bytes, [0x0a, 2, 0x18, 2]);
    // A reference of that name counts first.
    let own = [("confluent/type/decimal.proto".to_owned(), "syntax = \"proto3\"; message Own {}".to_owned())];
    let other = r#"syntax = "proto3"; import "confluent/type/decimal.proto"; message A { Own a = 1; }"#;
    DynamicProtobuf::new()
        .compile(
            &Schema::protobuf(other),
            &[(Reference::new(own[0].0.clone(), "s", 1), Schema::protobuf(own[0].1.as_str()))],
        )
        .expect("a file");
}
