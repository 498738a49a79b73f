//! Schemas that were written to exhaust a checker: each is refused or checked within bounds.

#![expect(clippy::unwrap_used, reason = "a test")]

use milena_registry::compat::{Format, Level, SCHEMA_BYTES_MAX, Schema, SchemaError, check};

fn avro(text: &str) -> Result<Schema, SchemaError> {
    Schema::parse(Format::Avro, text, &[])
}

fn nested(open: &str, close: &str, middle: &str, depth: usize) -> String {
    format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn a_schema_that_is_too_large_is_refused_before_it_is_read() {
    let error = avro(&" ".repeat(SCHEMA_BYTES_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("1048577 bytes, and 1048576 are allowed"), "{error}");
}

#[test]
fn avro_that_is_nested_too_deeply_is_refused() {
    let (open, close) = (r#"{"type":"array","items":"#, "}");
    avro(&nested(open, close, "\"int\"", 200)).unwrap();
    let error = avro(&nested(open, close, "\"int\"", 50_000 / 3)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than"), "{error}");
}

/// Each of `count` records holds a union of all records. Without memory of pairs the walk would take count to the power of
/// its depth.
fn web(count: usize, last: &str) -> Schema {
    let all: Vec<String> = (0..count).map(|n| format!("\"R{n}\"")).collect();
    let all = all.join(",");
    let records: Vec<String> = (0..count)
        .map(|n| {
            let field = |name: &str| format!(r#"{{"name":"{name}","type":[{all}]}}"#);
            format!(
                r#"{{"type":"record","name":"R{n}","fields":[{},{},{{"name":"v","type":"{last}"}}]}}"#,
                field("a"),
                field("b")
            )
        })
        .collect();
    avro(&format!("[{}]", records.join(","))).unwrap()
}

#[test]
fn unions_of_recursive_records_are_compared_once_per_pair() {
    check(Level::FullTransitive, &web(20, "int"), &[web(20, "int")]).unwrap();
    check(Level::Backward, &web(20, "long"), &[web(20, "int")]).unwrap();
    check(Level::Backward, &web(20, "string"), &[web(20, "int")]).unwrap_err();
}

#[test]
fn work_beyond_the_limit_ends_the_check() {
    let found = check(Level::Full, &web(120, "long"), &[web(120, "int")]).unwrap_err();
    assert!(found.iter().all(|found| found.kind().name() == "TOO_COMPLEX"), "{found:?}");
}

#[test]
fn a_long_chain_of_references_takes_no_stack() {
    // The first record refers to the second one, and so on; the last one has no fields.
    let chain = |count: usize| {
        let record =
            |n: usize, fields: &str| format!(r#"{{"type":"record","name":"R{n}","fields":[{fields}]}}"#);
        let field = |name: &str, r#type: &str| format!(r#"{{"name":"{name}","type":{type}}}"#);
        let records = (0..count).map(|n| {
            let next = field("next", &format!(r#""R{}""#, n + 1));
            field(&format!("f{n}"), &record(n, if n + 1 < count { &next } else { "" }))
        });
        let fields: Vec<String> = records.collect();
        avro(&format!(r#"{{"type":"record","name":"Root","fields":[{}]}}"#, fields.join(","))).unwrap()
    };
    check(Level::Backward, &chain(5_000), &[chain(5_000)]).unwrap();
}

#[test]
fn findings_are_bounded() {
    let record = |extra: usize| {
        let fields: Vec<String> = (0..extra).map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#)).collect();
        avro(&format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","))).unwrap()
    };
    assert_eq!(check(Level::Backward, &record(5_000), &[record(0)]).unwrap_err().len(), 100);
}

#[test]
fn a_default_that_never_ends_is_refused() {
    let error =
        avro(r#"{"type":"record","name":"R","fields":[{"name":"f","type":"R","default":{}}]}"#).unwrap_err();
    assert!(error.to_string().contains("the default {} of field 'f' of 'R'"), "{error}");
}

fn json(text: &str) -> Result<Schema, SchemaError> {
    Schema::parse(Format::Json, text, &[])
}

fn protobuf(text: &str) -> Result<Schema, SchemaError> {
    Schema::parse(Format::Protobuf, text, &[])
}

#[test]
fn json_that_is_nested_too_deeply_is_refused() {
    let (open, close) = (r#"{"not":"#, "}");
    json(&nested(open, close, "{}", 200)).unwrap();
    let error = json(&nested(open, close, "{}", 100_000)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than"), "{error}");
}

#[test]
fn protobuf_that_is_nested_too_deeply_is_refused() {
    let syntax = "syntax = \"proto3\";";
    let messages = |depth| format!("{syntax} {}", nested("message M { ", "}", "", depth));
    protobuf(&messages(60)).unwrap();
    let error = protobuf(&messages(50_000)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than"), "{error}");
    let values = |depth| format!("{syntax} option (o) = {};", nested("{ a: ", "}", "1", depth));
    protobuf(&values(60)).unwrap();
    let error = protobuf(&values(50_000)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than"), "{error}");
}

/// Each of `count` definitions is one of all definitions.
fn tangle(count: usize, last: &str) -> Schema {
    let refs: Vec<String> = (0..count).map(|n| format!(r##"{{"$ref":"#/definitions/d{n}"}}"##)).collect();
    let refs = refs.join(",");
    let definitions: Vec<String> = (0..count)
        .map(|n| {
            let properties =
                format!(r#"{{"k":{{"const":{n}}},"in":{{"oneOf":[{refs}]}},"v":{{"type":"{last}"}}}}"#);
            format!(r#""d{n}":{{"type":"object","properties":{properties}}}"#)
        })
        .collect();
    json(&format!(r##"{{"$ref":"#/definitions/d0","definitions":{{{}}}}}"##, definitions.join(","))).unwrap()
}

#[test]
fn definitions_that_refer_to_all_others_are_compared_once_per_pair() {
    check(Level::Full, &tangle(20, "integer"), &[tangle(20, "integer")]).unwrap();
    check(Level::Backward, &tangle(20, "number"), &[tangle(20, "integer")]).unwrap();
    check(Level::Backward, &tangle(20, "string"), &[tangle(20, "integer")]).unwrap_err();
}

#[test]
fn references_that_refer_to_themselves_say_nothing() {
    let ring = r##"{"$ref":"#/definitions/a","definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}}}"##;
    let ring = || json(ring).unwrap();
    check(Level::Full, &ring(), &[ring()]).unwrap();
}

#[test]
fn names_that_would_grow_with_every_level_are_refused() {
    let long = "n".repeat(600);
    let error = avro(&format!(r#"{{"type":"fixed","name":"F","namespace":"{long}","size":1}}"#)).unwrap_err();
    assert!(error.to_string().contains("more than 512 bytes"), "{error}");
    let error = protobuf(&format!("syntax = \"proto3\"; package {long};")).unwrap_err();
    assert!(error.to_string().contains("600 bytes"), "{error}");
    let error = json(&format!(r#"{{"$ref":"{long}"}}"#)).unwrap_err();
    assert!(error.to_string().contains("more than 512 bytes"), "{error}");
}

#[test]
fn patterns_times_properties_are_bounded() {
    let patterns: Vec<String> = (0..3_000).map(|n| format!(r#""(a{{1,9}}){{1,9}}{n}":{{}}"#)).collect();
    let properties: Vec<String> = (0..3_000).map(|n| format!(r#""p{n}":{{"type":"string"}}"#)).collect();
    let new = json(&format!(r#"{{"patternProperties":{{{}}}}}"#, patterns.join(","))).unwrap();
    let old = json(&format!(r#"{{"properties":{{{}}}}}"#, properties.join(","))).unwrap();
    let found = check(Level::Backward, &new, &[old]).unwrap_err();
    assert_eq!(found[0].kind().name(), "TOO_COMPLEX");
}

#[test]
fn another_format_is_incompatible() {
    let found = check(Level::Full, &avro("\"int\"").unwrap(), &[json("{}").unwrap()]).unwrap_err();
    assert_eq!(found[0].kind().name(), "SCHEMA_TYPE_CHANGED");
    check(Level::None, &avro("\"int\"").unwrap(), &[json("{}").unwrap()]).unwrap();
    check(Level::FullTransitive, &avro("\"int\"").unwrap(), &[]).unwrap();
}
