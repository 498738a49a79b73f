//! Values as JSON: what is read is written again to the same bytes, in all formats.

use std::fmt::Write as _;

use milena_registry::{AvroSchema, AvroValue, DynamicSchema, Schema};
use proptest::prelude::*;

fn compiled(schema: &Schema) -> DynamicSchema {
    DynamicSchema::compile(schema, &[]).expect("a schema")
}

/// The JSON of a body, which is written again to the same bytes.
fn round_trip(schema: &DynamicSchema, message: Option<&str>, body: &[u8]) -> String {
    let value = schema.decode(message, body).expect("it can be read");
    let mut written = Vec::new();
    schema.encode(value.message(), value.json(), &mut written).unwrap_or_else(|why| panic!("{value}: {why}"));
    assert_eq!(written, body, "{value}");
    assert!(!value.json().contains('\n'), "{value}");
    serde_json::from_str::<serde_json::Value>(value.json()).expect("other programs can read it");
    value.json().to_owned()
}

/// A schema, and a value of it.
fn avro() -> impl Strategy<Value = (String, AvroValue)> {
    let scalar = prop_oneof![
        Just(("\"null\"".to_owned(), AvroValue::Null)),
        any::<bool>().prop_map(|value| ("\"boolean\"".into(), AvroValue::Boolean(value))),
        any::<i32>().prop_map(|value| ("\"int\"".into(), AvroValue::Int(value))),
        any::<i64>().prop_map(|value| ("\"long\"".into(), AvroValue::Long(value))),
        floats_32().prop_map(|value| ("\"float\"".into(), AvroValue::Float(value))),
        floats_64().prop_map(|value| ("\"double\"".into(), AvroValue::Double(value))),
        any::<Vec<u8>>().prop_map(|value| {
            (r#"{"type":"bytes","logicalType":"decimal","precision":9}"#.into(), AvroValue::Bytes(value))
        }),
        ".*".prop_map(|value: String| ("\"string\"".into(), AvroValue::String(value))),
        any::<[u8; 3]>().prop_map(|value| {
            (r#"{"type":"fixed","name":"F","size":3}"#.into(), AvroValue::Fixed(value.to_vec()))
        }),
        any::<bool>().prop_map(|is_up| {
            let symbol = if is_up { "UP" } else { "DOWN" };
            (r#"{"type":"enum","name":"E","symbols":["UP","DOWN"]}"#.into(), AvroValue::Enum(symbol.into()))
        }),
    ];
    scalar.prop_recursive(5, 40, 4, |inner| {
        let copies = (inner.clone(), 0usize..4);
        prop_oneof![
            copies.prop_map(|((schema, value), count)| {
                (format!(r#"{{"type":"array","items":{schema}}}"#), AvroValue::Array(vec![value; count]))
            }),
            (inner.clone(), prop::collection::vec(".*", 0..4)).prop_map(|((schema, value), keys)| {
                // Keys may come twice, and in any order.
                let entries = keys.into_iter().map(|key| (key, value.clone())).collect();
                (format!(r#"{{"type":"map","values":{schema}}}"#), AvroValue::Map(entries))
            }),
            (inner.clone(), any::<bool>()).prop_filter_map(
                "a union in a union",
                |((schema, value), is_null)| {
                    let is_fit = !schema.starts_with('[') && schema != "\"null\"";
                    let value = match is_null {
                        true => AvroValue::Union(0, Box::new(AvroValue::Null)),
                        false => AvroValue::Union(1, Box::new(value)),
                    };
                    is_fit.then(|| (format!(r#"["null",{schema}]"#), value))
                }
            ),
            prop::collection::vec(inner, 0..4).prop_map(|all| {
                let (mut fields, mut values) = (String::new(), Vec::new());
                for (index, (schema, value)) in all.into_iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let _ = write!(fields, r#"{comma}{{"name":"f{index}","type":{schema}}}"#);
                    values.push((format!("f{index}"), value));
                }
                let schema = format!(r#"{{"type":"record","name":"R","namespace":"a","fields":[{fields}]}}"#);
                (schema, AvroValue::Record(values))
            }),
        ]
    })
}

/// With one NaN: JSON does not tell one from another.
fn floats_32() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_map(|value| if value.is_nan() { f32::NAN } else { value })
}

fn floats_64() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_map(|value| if value.is_nan() { f64::NAN } else { value })
}

/// Names may be defined once: further types of the same name get another one.
fn renamed(schema: &str) -> String {
    let mut renamed = String::new();
    for (index, part) in schema.split(r#""name":""#).enumerate() {
        match part.chars().next() {
            Some(kind @ ('F' | 'E' | 'R')) if index > 0 => {
                let _ = write!(renamed, r#""name":"{kind}{index}{}"#, &part[1..]);
            }
            _ if index > 0 => renamed += &format!(r#""name":"{part}"#),
            _ => renamed += part,
        }
    }
    renamed
}

proptest! {
    #[test]
    fn avro_makes_the_round_trip((schema, value) in avro()) {
        let schema = renamed(&schema);
        let parsed = AvroSchema::parse(&schema).expect("a schema");
        let mut body = Vec::new();
        parsed.write_value(&value, &mut body).expect("it fits");
        round_trip(&compiled(&Schema::avro(schema)), None, &body);
    }

    #[test]
    fn json_makes_the_round_trip(value in json()) {
        let schema = compiled(&Schema::json("true"));
        round_trip(&schema, None, value.to_string().as_bytes());
    }

    #[test]
    fn protobuf_makes_the_round_trip(value in protobuf()) {
        let schema = compiled(&Schema::protobuf(FILE));
        let mut body = Vec::new();
        schema.encode(Some("shop.All"), &value.to_string(), &mut body).expect("it fits");
        round_trip(&schema, Some("shop.All"), &body);
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::vec((".*", inner), 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

const FILE: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message All {
  bool a = 1; int32 b = 2; sint64 c = 3; fixed32 d = 4; sfixed64 e = 5; float f = 6; double g = 7; string h = 8; bytes i = 9;
  Kind j = 10; repeated sint32 k = 11; repeated string l = 12; map<string, All> m = 13; map<int32, bytes> n = 14; All o = 15;
  oneof p { string q = 16; All r = 17; }
  optional int32 t = 2000; google.protobuf.Timestamp at = 19; google.protobuf.Int64Value u = 20; google.protobuf.Struct v = 21;
  repeated int32 w = 22 [packed = false]; uint64 x = 23; map<bool, double> y = 24;
  enum Kind { NONE = 0; ONE = 1; }
}
"#;

fn protobuf() -> impl Strategy<Value = serde_json::Value> {
    let some = prop::collection::vec(any::<bool>(), 24);
    let numbers = (any::<i32>(), any::<i64>(), any::<u32>(), any::<u64>(), floats_32(), floats_64());
    let leaf = (some, numbers, ".*", any::<Vec<u8>>(), json(), -62_135_596_800i64..253_402_300_800).prop_map(
        |(some, (b, c, d, x, f, g), text, bytes, json, _)| {
            use base64::Engine as _;
            let float = |value: f64| match value {
                value if value.is_finite() => serde_json::json!(value),
                value if value.is_nan() => "NaN".into(),
                value => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            };
            let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
            let all = serde_json::json!({
                "a": true, "b": b, "c": c.to_string(), "d": d, "e": c.to_string(), "f": float(f.into()), "g": float(g),
                "h": text, "i": bytes, "j": if b > 0 { "ONE".into() } else { serde_json::json!(b) }, "k": [b, 0, -1],
                "l": [text, ""], "n": {"0": bytes, "-1": "", b.to_string(): bytes}, "q": text, "t": 0,
                "at": "2026-11-29T19:00:00.123Z", "u": "0", "v": {"json": json, "": null}, "w": [1, b], "x": x.to_string(),
                "y": {"true": 0.5, "false": 0},
            });
            let serde_json::Value::Object(all) = all else { unreachable!("it is one") };
            let entries = all.into_iter().zip(some).filter(|(_, is_there)| *is_there);
            serde_json::Value::Object(entries.map(|(entry, _)| entry).collect())
        },
    );
    leaf.prop_recursive(3, 12, 3, |inner| {
        (inner.clone(), prop::collection::vec((".*", inner), 0..3)).prop_map(|(mut outer, entries)| {
            if let Some((_, first)) = entries.first() {
                outer["o"] = first.clone();
            }
            outer["m"] = serde_json::Value::Object(entries.into_iter().collect());
            outer
        })
    })
}

#[test]
fn avros_json_is_that_of_its_specification() {
    let schema = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"note","type":["null","string","bytes",{"type":"record","name":"Money","fields":[{"name":"cents","type":"long"}]}]},
        {"name":"raw","type":{"type":"fixed","name":"Two","size":2}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"rate","type":["float","double"]}, {"name":"tags","type":{"type":"map","values":"int"}, "default": {}}]}"#;
    let schema = compiled(&Schema::avro(schema));
    let body = b"\x06\x96\x01\xff\x00\x02\x00\0\0\x80\x7f\0";
    let expected = r#"{"note":{"shop.Money":{"cents":75}},"raw":"ÿ\u0000","at":1,"rate":{"float":"Infinity"},"tags":{}}"#;
    assert_eq!(round_trip(&schema, None, body), expected);
    let same = |json: &str| {
        let mut written = Vec::new();
        schema.encode(None, json, &mut written).map(|()| written == body)
    };
    // A short name, a field with a default, and blanks.
    let short = "{\n\"rate\": {\"float\": \"Infinity\"}, \"note\": {\"Money\": {\"cents\": 75}}, \"raw\": \"\\u00ff\\u0000\", \"at\": 1}";
    assert!(same(short).expect("it fits"));
    // Objects fit one branch only.
    assert!(same(&short.replace("{\"Money\": {\"cents\": 75}}", "{\"cents\": 75}")).expect("it fits"));
    for (from, to, why) in [
        ("75", "7.5", "Avro: at /note/Money/cents: the number is none of long"),
        ("75", "null", "Avro: at /note/Money/cents: null does not fit long"),
        ("\"cents\"", "\"c/ts\"", "Avro: at /note/Money: \"shop.Money\" has no field \"c/ts\""),
        (
            "{\"cents\": 75}",
            "{}",
            "Avro: at /note/Money: \"shop.Money\" needs field \"cents\", which has no default",
        ),
        (
            "{\"float\": \"Infinity\"}",
            "1",
            "Avro: at /rate: it can be the branch \"float\" or \"double\" of a union: write {\"float\": VALUE} or {\"double\": VALUE}",
        ),
        (
            "{\"float\": \"Infinity\"}",
            "{\"float\": 1e39}",
            "Avro: at /rate/float: a number does not fit float",
        ),
        (
            "{\"float\": \"Infinity\"}",
            "true",
            "Avro: at /rate: a boolean does not fit a union of float, double",
        ),
        (
            "\\u0000",
            "",
            "Avro: at /raw: a text does not fit \"shop.Two\", which has 2 bytes: a character stands for a byte, U+0000 to U+00FF",
        ),
        ("\"at\": 1", "\"at\": 1, \"at\": 1", "Avro: field \"at\" of \"shop.Order\" comes twice"),
        (
            "\"at\": 1",
            "\"at\": 1, \"tags\": {\"a~b/\": {}}",
            "Avro: at /tags/a~0b~1: an object does not fit int",
        ),
        ("\"at\": 1", "\"at\":", "Avro: it is no JSON: expected value at line 2 column "),
    ] {
        let error = same(&short.replacen(from, to, 1)).expect_err(to);
        assert!(error.to_string().starts_with(why), "{to}: {error}");
    }
}

#[test]
fn protobufs_json_is_the_canonical_one_and_errors_name_the_place() {
    let schema = compiled(&Schema::protobuf(FILE));
    let json = r#"{"c":"-1","j":"ONE","k":[0,-1],"m":{"":{},"a":{"i":"/w=="},"b":{"m":{"c":{"b":-5}}}},"n":{"-3":"","4":"AA=="},"at":"2026-11-29T19:00:00Z","u":"0","t":0}"#;
    let mut body = Vec::new();
    schema.encode(Some("shop.All"), json, &mut body).expect("it fits");
    // Entries have their keys and values, though they are defaults.
    let empty = b"\x6a\x04\x0a\0\x12\0";
    assert!(body.windows(empty.len()).any(|bytes| bytes == empty), "{body:02x?}");
    assert_eq!(round_trip(&schema, None, &body), json);
    for (json, why) in [
        (r#"{"o": {"k": [1, "secret"]}}"#, "Protobuf: at /o/k/1: "),
        (r#"{"m": {"x/y": {"b": 1e99}}}"#, "Protobuf: at /m/x~1y/b: "),
        (r#"{"none": 1}"#, "Protobuf: unrecognized field name 'none'"),
        (r#"{"j": "TWO"}"#, "Protobuf: at /j: "),
        (r#"{"a": true"#, "Protobuf: at /a: EOF"),
        (r#"[]"#, "Protobuf: expected "),
    ] {
        let error = schema.encode(None, json, &mut Vec::new()).expect_err(json).to_string();
        assert!(error.starts_with(why) && !error.contains("secret"), "{error}");
    }
    let error = schema.encode(Some("shop.None"), "{}", &mut Vec::new()).expect_err("there is none");
    assert_eq!(error.to_string(), "the Protobuf schema has no message \"shop.None\"");
}

#[test]
fn json_keeps_its_digits_and_is_checked_when_it_is_written() {
    let schema = compiled(&Schema::json(r#"{"properties": {"id": {"type": "integer"}}}"#));
    let body = br#"{"id": 12345678901234567890123, "x": 1.10}"#;
    assert_eq!(round_trip(&schema, None, body).as_bytes(), body);
    let lines = schema.decode(None, b"{\n  \"id\": \"x\"\n}\n").expect("JSON");
    assert_eq!(lines.json(), r#"{"id":"x"}"#);
    let error = schema.encode(None, lines.json(), &mut Vec::new()).expect_err("it does not fit");
    assert_eq!(error.to_string(), "JSON Schema: \"/id\" does not fit \"/properties/id/type\" of the schema");
    assert!(schema.decode(None, b"{").is_err() && schema.decode(None, b"\"\xff\"").is_err());
}

#[test]
fn nesting_is_bounded_in_both_directions() {
    let node = r#"{"type":"record","name":"A","fields":[{"name":"a","type":["null","A"]}]}"#;
    let avro = compiled(&Schema::avro(node));
    let nested = |levels: usize| [vec![2; levels], vec![0]].concat();
    round_trip(&avro, None, &nested(49));
    let error = avro.decode(None, &nested(60)).expect_err("too deep");
    assert_eq!(error.to_string(), "Avro: the data as JSON is nested more than 100 levels deep");
    let json = |levels: usize| "{\"a\":".repeat(levels) + "null" + &"}".repeat(levels);
    assert!(avro.encode(None, &json(50), &mut Vec::new()).is_ok());
    assert!(avro.encode(None, &json(100_000), &mut Vec::new()).is_err());
    let list = compiled(&Schema::protobuf("syntax = \"proto3\"; message A { repeated A a = 1; }"));
    let json = |levels: usize| "{\"a\":[".repeat(levels) + &"]}".repeat(levels);
    assert!(list.encode(None, &json(100_000), &mut Vec::new()).is_err());
    let mut body = Vec::new();
    list.encode(None, &json(45), &mut body).expect("it fits");
    round_trip(&list, None, &body);
}
