use serde::{Deserialize, Serialize};

use super::schema::Node;
use super::*;

fn schema(json: &str) -> AvroSchema {
    AvroSchema::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
    {"name": "tags", "type": {"type": "map", "values": "int"}},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "price", "type": "double"}]}}},
    {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 4}},
    {"name": "payload", "type": "bytes"},
    {"name": "next", "type": ["null", "Order"], "default": null}]}"#;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Order {
    id: i64,
    note: Option<String>,
    state: State,
    tags: std::collections::BTreeMap<String, i32>,
    lines: Vec<Line>,
    digest: [u8; 4],
    payload: Vec<u8>,
    next: Option<Box<Order>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Copy)]
enum State {
    #[serde(rename = "NEW")]
    New,
    #[serde(rename = "PAID")]
    Paid,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Line {
    sku: String,
    price: f64,
}

fn order() -> Order {
    Order {
        id: -300,
        note: Some("früh".into()),
        state: State::Paid,
        tags: [("a".to_owned(), 1), ("b".to_owned(), -2)].into(),
        lines: vec![Line { sku: "x".into(), price: 1.5 }],
        digest: [1, 2, 3, 4],
        payload: vec![0, 255],
        next: Some(Box::new(Order {
            id: 1,
            note: None,
            state: State::New,
            tags: [].into(),
            lines: vec![],
            digest: [0; 4],
            payload: vec![],
            next: None,
        })),
    }
}

/// The bytes are fastavro's, `schemaless_writer`, which confluent-kafka's serializer uses.
const ORDER_BYTES: &str =
    "d704020a6672c3bc68020402610202620300020278000000000000f83f00010203040400ff020200000000000000000000";

#[test]
fn data_is_that_of_other_writers() {
    let schema = schema(ORDER);
    assert_eq!(schema.name(), Some("shop.Order"));
    let mut bytes = Vec::new();
    schema.write(&order(), &mut bytes).expect("it fits");
    assert_eq!(hex(&bytes), ORDER_BYTES);
    assert_eq!(schema.read::<Order>(&bytes).expect("it was written"), order());
    let value = schema.read_value(&bytes).expect("it was written");
    let mut again = Vec::new();
    schema.write_value(&value, &mut again).expect("it fits");
    assert_eq!(again, bytes);
    let AvroValue::Record(fields) = value else { panic!("{value:?}") };
    assert_eq!(fields[1], ("note".into(), AvroValue::Union(1, Box::new(AvroValue::String("früh".into())))));
    assert_eq!(fields[2].1, AvroValue::Enum("PAID".into()));
}

#[test]
fn a_type_may_have_other_fields_in_another_order() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Less<'a> {
        note: Option<&'a str>,
        id: i128,
        #[serde(default)]
        unknown: u8,
    }
    let schema = schema(ORDER);
    let mut bytes = Vec::new();
    schema.write(&order(), &mut bytes).expect("it fits");
    let less: Less<'_> = schema.read(&bytes).expect("it has the fields");
    assert_eq!(less, Less { note: Some("früh"), id: -300, unknown: 0 });

    let two = AvroSchema::parse(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"string","default":"x"},
            {"name":"c","type":{"type":"array","items":"int"},"default":[1,2]}]}"#,
    )
    .expect("a schema");
    let write = |value: &serde_json::Value| {
        let mut bytes = Vec::new();
        two.write(value, &mut bytes).map(|()| hex(&bytes)).map_err(|error| (error.to_string(), bytes.len()))
    };
    assert_eq!(
        write(&serde_json::json!({"b": "y", "a": 1})).expect("it fits"),
        "0202790402 0400".replace(' ', "")
    );
    assert_eq!(write(&serde_json::json!({"a": 1})).expect("it fits"), "02027804020400");
    let said = "Avro: \"R\" needs field \"a\", which has no default".to_owned();
    assert_eq!(write(&serde_json::json!({"b": "y"})), Err((said, 0)));
    let said = "Avro: \"R\" has no field \"d\"".to_owned();
    assert_eq!(write(&serde_json::json!({"a": 1, "d": 1})), Err((said, 0)));
    let said = "Avro: field \"a\" of \"R\": Avro: an integer of 64 bits does not fit int".to_owned();
    assert_eq!(write(&serde_json::json!({"a": 1_u64 << 40})), Err((said, 0)));
}

#[test]
fn unions_are_options_and_enums() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Of {
        Null,
        Boolean(bool),
        Int(i32),
        String(String),
        A { x: i32 },
        B(B),
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct B {
        y: i32,
    }
    let union = schema(
        r#"["null", "boolean", "int", "string", {"type":"record","name":"ns.A","fields":[{"name":"x","type":"int"}]},
            {"type":"record","name":"ns.B","fields":[{"name":"y","type":"int"}]}]"#,
    );
    let check = |of: Of, expected: &str| {
        let mut bytes = Vec::new();
        union.write(&of, &mut bytes).unwrap_or_else(|error| panic!("{of:?}: {error}"));
        assert_eq!(hex(&bytes), expected, "{of:?}");
        assert_eq!(union.read::<Of>(&bytes).expect("it was written"), of);
    };
    check(Of::Null, "00");
    check(Of::Boolean(true), "0201");
    check(Of::Int(-1), "0401");
    check(Of::String("x".into()), "060278");
    check(Of::A { x: 1 }, "0802");
    check(Of::B(B { y: 1 }), "0a02");
    let mut bytes = Vec::new();
    union.write(&Some(B { y: 2 }), &mut bytes).expect("it has the name of a branch");
    assert_eq!(union.read::<Option<B>>(&bytes).expect("a record"), Some(B { y: 2 }));
    // An optional enum: the branch is no variant.
    let optional = schema(r#"["null", {"type":"enum","name":"State","symbols":["NEW","PAID"]}]"#);
    let mut bytes = Vec::new();
    optional.write(&Some(State::Paid), &mut bytes).expect("it fits");
    assert_eq!(
        (hex(&bytes), optional.read::<Option<State>>(&bytes).expect("one")),
        ("0202".into(), Some(State::Paid))
    );
}

#[test]
fn hostile_data_is_refused_without_memory_or_time() {
    let refused = |json: &str, bytes: &[u8], expected: &str| {
        let schema = schema(json);
        let typed = schema.read::<serde::de::IgnoredAny>(bytes).map(drop).expect_err(json);
        assert_eq!(typed.to_string(), format!("Avro: {expected}"), "{json}");
        assert_eq!(schema.read_value(bytes).map(drop).expect_err(json).to_string(), typed.to_string());
        assert!(schema.read::<serde_json::Value>(bytes).is_err());
    };
    refused("\"string\"", &[0xfe, 0xff, 0xff, 0xff, 0x0f], "the data is cut off");
    refused("\"bytes\"", &[1], "a length is -1");
    refused("\"long\"", &[0xff; 11], "a number has more than 64 bits");
    refused("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x20], "an int has more than 32 bits");
    refused("\"boolean\"", &[2], "2 is no boolean");
    refused("[\"null\"]", &[2], "there is no branch of a union 1, but 1 of them");
    refused("\"null\"", &[0], "1 bytes are left over: it was written with another schema");
    let nulls = r#"{"type":"array","items":"null"}"#;
    refused(
        nulls,
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0],
        "too many values take no bytes",
    );
    let endless = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}"#;
    let error = schema(endless).read_value(&[]).expect_err("it has no end");
    assert_eq!(error.to_string(), "Avro: the data is nested more than 128 levels deep");
    assert!(schema(endless).read::<serde_json::Value>(&[]).is_err());
    let list = r#"{"type":"record","name":"A","fields":[{"name":"a","type":["null","A"]}]}"#;
    assert!(schema(list).read::<serde_json::Value>(&[2; 100_000]).is_err());
    assert!(schema(list).read::<serde::de::IgnoredAny>(&[2; 100_000]).is_err());
    let text = schema("\"string\"").read::<String>(&[2, 0xff]).expect_err("no UTF-8");
    assert_eq!(text.to_string(), "Avro: a string is not UTF-8");
}

#[test]
fn schemas_that_cannot_be_used_say_why() {
    let check = |json: &str, expected: &str| {
        let error = AvroSchema::parse(json).expect_err(json);
        assert_eq!(error.to_string(), format!("the Avro schema cannot be used: {expected}"));
    };
    check("7", "a type is neither a text nor an array nor an object");
    check("\"Order\"", "there is no type \"Order\"");
    check("{}", "a type has no \"type\"");
    check(r#"["int", ["null"]]"#, "a union has a union as a branch");
    check(r#"["int", "int"]"#, "a union has two branches of one type");
    check(r#"{"type":"array"}"#, "array has no \"items\"");
    check(r#"{"type":"fixed","name":"F","size":-1}"#, "the size of a fixed is not from 0 to 16777216");
    check(r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "field \"a\" of \"R\" has no type");
    check(
        r#"["null",{"type":"enum","name":"E","symbols":[]},{"type":"enum","name":"E","symbols":[]}]"#,
        "\"E\" is defined twice",
    );
    assert!(AvroSchema::parse(&"[".repeat(100_000)).is_err());
    // Each default can be tried in two branches, and so can each in it.
    let mut json = "\"null\"".to_owned();
    let mut default = "null".to_owned();
    for level in 0..25 {
        let branch = |letter: char| {
            format!(r#"{{"type":"record","name":"{letter}{level}","fields":[{{"name":"f","type":"x"}}]}}"#)
        };
        let of = branch('a').replace("\"x\"", &json);
        let or = branch('b').replace("\"x\"", if level == 0 { "\"null\"" } else { "\"never\"" });
        json = if level == 0 { format!("[{of},{or}]") } else { of };
        default = format!(r#"{{"f":{default}}}"#);
    }
    let json = format!(
        r#"{{"type":"record","name":"R","fields":[{{"name":"r","type":{json},"default":{default}}}]}}"#
    );
    assert!(AvroSchema::parse(&json).is_ok());
}

#[test]
fn names_of_other_schemas_are_known() {
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
    let order =
        r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"of","type":"Customer"}]}"#;
    assert!(AvroSchema::parse(order).is_err());
    let schema = AvroSchema::parse_with(order, &[customer]).expect("it is known");
    let mut bytes = Vec::new();
    schema.write(&serde_json::json!({"of": {"name": "Ada"}}), &mut bytes).expect("it fits");
    assert_eq!(bytes, b"\x06Ada");
}

#[test]
fn hostile_schemas_take_neither_memory_nor_time() {
    let refused = |json: &str, expected: &str| {
        let error = AvroSchema::parse(json).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let long = "n".repeat(513);
    let enumeration =
        |name: &str, symbol: &str| format!(r#"{{"type":"enum","name":"{name}","symbols":["{symbol}"]}}"#);
    refused(&enumeration(&long, "a"), "… has more than 512 bytes");
    refused(&enumeration("E", &long), "… has more than 512 bytes");
    refused(
        &format!(r#"{{"type":"record","name":"R","fields":[{{"name":"{long}","type":"null"}}]}}"#),
        "… has more than 512 bytes",
    );
    // Fields of a known type add no node, and would be compared with each other.
    let many = |count: usize| {
        let fields: Vec<String> = (0..count).map(|n| format!(r#"{{"name":"f{n}","type":"E"}}"#)).collect();
        let first = format!(r#"{{"name":"e","type":{}}}"#, enumeration("E", "a"));
        format!(r#"{{"type":"record","name":"R","fields":[{first},{}]}}"#, fields.join(","))
    };
    refused(&many(1 << 16), "it has more than 65536 fields");
    assert!(AvroSchema::parse(&many((1 << 16) - 1)).is_ok());
    // The default of each of these fields would have that of the first one in it.
    let wide = format!(
        r#"{{"type":"record","name":"R","fields":[
            {{"name":"one","type":{{"type":"record","name":"One","fields":[{{"name":"t","type":"string","default":"{}"}}]}},"default":{{}}}},
            {}]}}"#,
        "x".repeat(100_000),
        (0..1000)
            .map(|n| format!(r#"{{"name":"f{n}","type":"One","default":{{}}}}"#))
            .collect::<Vec<_>>()
            .join(",")
    );
    let schema = schema(&wide);
    let Node::Record { fields, .. } = schema.node(schema.root()) else { panic!("a record") };
    let bytes = || fields.iter().filter_map(|field| field.default.as_ref()).map(Vec::len);
    assert!((1..=10).contains(&bytes().count()) && bytes().sum::<usize>() <= 1 << 20);
}

#[test]
fn names_in_values_are_paid_for() {
    // A record of nothing, whose field has a long name, as often as an array likes.
    let name = "n".repeat(512);
    let json = format!(
        r#"{{"type":"array","items":{{"type":"record","name":"R","fields":[{{"name":"{name}","type":"null"}}]}}}}"#
    );
    let endless = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    let array = schema(&json);
    let refused = |bytes: u64, error: SerdeError| {
        assert_eq!(error.to_string(), "Avro: too many values take no bytes");
        assert!(bytes < 48 << 20, "{bytes}");
    };
    let mut error = None;
    let measured = allocation_counter::measure(|| error = array.read_value(&endless).err());
    refused(measured.bytes_max, error.take().expect("it has no end"));
    let measured = allocation_counter::measure(|| error = array.read::<serde_json::Value>(&endless).err());
    refused(measured.bytes_max, error.take().expect("it has no end"));
}
