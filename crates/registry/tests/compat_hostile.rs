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
