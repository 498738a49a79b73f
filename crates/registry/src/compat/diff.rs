//! What differs between two schemas, part by part.

use std::collections::{HashMap, HashSet};

use super::{Parsed, Schema, avro, json, proto};

/// A part of a schema that another schema has not, or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    path: String,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    pub(super) fn new(path: String, before: Option<String>, after: Option<String>) -> Self {
        Self { path, before, after }
    }

    /// Where it is: `shop.Order.id` (a field of a named type, or an enum's symbol) in Avro, `#/Order/3` (message and field number, or
    /// an enum's constant) in Protobuf, `#/properties/id` in JSON Schema.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the first schema says there; none if the second one has added it.
    #[must_use]
    pub fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// What the second schema says there; none if it has removed it.
    #[must_use]
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }
}

/// What differs between two schemas: what was removed or changed in the order of the first one, then what was added in the order of the
/// second one. Avro's types of references count as if they were written out; imports of Protobuf and `$ref`s of JSON Schema are
/// compared by their names. Whether a difference matters is for [`check`](super::check) to say.
///
/// ```
/// use milena_registry::compat::{Format, Schema, diff};
///
/// let old = r#"syntax = "proto3"; message Order { int32 id = 1; string note = 2; }"#;
/// let new = r#"syntax = "proto3"; message Order { int64 id = 1; bool paid = 3; }"#;
/// let old = Schema::parse(Format::Protobuf, old, &[])?;
/// let new = Schema::parse(Format::Protobuf, new, &[])?;
/// let found: Vec<_> = diff(&old, &new).iter().map(|change| {
///     format!("{}: {:?} -> {:?}", change.path(), change.before(), change.after())
/// }).collect();
/// assert_eq!(found, [
///     r##"#/Order/1: Some("int32 id") -> Some("int64 id")"##,
///     r##"#/Order/2: Some("string note") -> None"##,
///     r##"#/Order/3: None -> Some("bool paid")"##,
/// ]);
/// # Ok::<(), milena_registry::compat::SchemaError>(())
/// ```
#[must_use]
pub fn diff(before: &Schema, after: &Schema) -> Vec<Change> {
    match (&before.parsed, &after.parsed) {
        (Parsed::Avro(before), Parsed::Avro(after)) => parts(&avro::outline(before), &avro::outline(after)),
        (Parsed::Protobuf(before), Parsed::Protobuf(after)) => {
            parts(&proto::outline(before), &proto::outline(after))
        }
        (Parsed::Json(before), Parsed::Json(after)) => json::diff(before, after),
        _ => {
            let name = |schema: &Schema| Some(schema.format().name().to_owned());
            vec![Change::new("format".into(), name(before), name(after))]
        }
    }
}

/// A schema as a list: the path of each part, and what is said there.
pub(super) type Outline = Vec<(String, String)>;

fn parts(before: &Outline, after: &Outline) -> Vec<Change> {
    let map = |outline: &Outline| -> HashMap<String, String> { outline.iter().cloned().collect() };
    let (old, new) = (map(before), map(after));
    let mut changes = Vec::new();
    let mut met = HashSet::new();
    for (path, text) in before.iter().filter(|(path, _)| met.insert(path.as_str())) {
        let now = new.get(path);
        if now != Some(text) {
            changes.push(Change::new(path.clone(), Some(text.clone()), now.cloned()));
        }
    }
    for (path, text) in after.iter().filter(|(path, _)| !old.contains_key(path)) {
        if met.insert(path.as_str()) {
            changes.push(Change::new(path.clone(), None, Some(text.clone())));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::Format;

    #[track_caller]
    fn check(format: Format, before: &str, after: &str, expected: &[&str]) {
        let read = |text| Schema::parse(format, text, &[]).expect("a schema");
        let (before, after) = (read(before), read(after));
        let text = |change: &Change| {
            let side = |text: Option<&str>| text.unwrap_or("-").to_owned();
            format!("{}: {} -> {}", change.path(), side(change.before()), side(change.after()))
        };
        let found: Vec<_> = diff(&before, &after).iter().map(text).collect();
        assert_eq!(found, expected);
        assert!(diff(&before, &before).is_empty() && diff(&after, &after).is_empty());
        assert_eq!(diff(&after, &before).len(), found.len());
    }

    #[test]
    fn avros_types_are_compared_by_their_names_and_fields() {
        check(
            Format::Avro,
            r#"{"type":"record","name":"Order","namespace":"shop","fields":[
                {"name":"id","type":"int"},
                {"name":"gone","type":["null","string"],"default":null},
                {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
                {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID"]}},
                {"name":"next","type":["null","Order"],"default":null},
                {"name":"hash","type":{"type":"fixed","name":"Md5","size":16}},
                {"name":"many","type":{"type":"array","items":"int"}}]}"#,
            r#"{"type":"record","name":"Order","namespace":"shop","doc":"An order","fields":[
                {"name":"id","type":"long"},
                {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"aliases":["when"]},
                {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","SENT"],"default":"NEW"}},
                {"name":"next","type":["null","Order"],"default":null},
                {"name":"hash","type":{"type":"fixed","name":"Md5","size":20}},
                {"name":"many","type":{"type":"map","values":["null","bytes"]}},
                {"name":"note","type":"string","default":""}]}"#,
            &[
                r#"shop.Order: record -> record, doc "An order""#,
                "shop.Order.id: int -> long",
                "shop.Order.gone: null or string, default null -> -",
                r#"shop.Order.at: long, logicalType "timestamp-millis" -> long, logicalType "timestamp-micros", alias when"#,
                "shop.Order.many: array of int -> map of (null or bytes)",
                "shop.State: enum -> enum, default NEW",
                "shop.State.PAID: symbol -> -",
                "shop.Md5: fixed, 16 bytes -> fixed, 20 bytes",
                r#"shop.Order.note: - -> string, default """#,
                "shop.State.SENT: - -> symbol",
            ],
        );
        check(Format::Avro, r#""int""#, r#"{"type":"array","items":"int"}"#, &["/: int -> array of int"]);
    }

    #[test]
    fn protobufs_fields_are_compared_by_their_numbers() {
        check(
            Format::Protobuf,
            r#"syntax = "proto3"; package shop; import "a.proto";
               message Order { int32 id = 1; reserved 9; oneof pay { string card = 2; } message Line { int32 n = 1; }
                   repeated Line lines = 4; map<string, int32> counts = 5; }
               enum State { NEW = 0; PAID = 1; }
               service Shop { rpc Buy (Order) returns (Order); }"#,
            r#"syntax = "proto3"; package shop;
               message Order { int32 ident = 1; reserved 9, 10 to 12; string card = 2; message Line { int64 n = 1; }
                   repeated Line lines = 4 [deprecated = true]; map<string, int32> counts = 5; }
               enum State { NEW = 0; PAID = 2; SENT = 3; }
               service Shop { rpc Buy (Order) returns (stream Order); }"#,
            &[
                r#"import "a.proto": import -> -"#,
                "#/Order reserved: 9 -> 9, 10 to 12",
                "#/Order/1: int32 id -> int32 ident",
                "#/Order/4: repeated Line lines -> repeated Line lines [deprecated = true]",
                "#/Order/2: string card, in oneof pay -> string card",
                "#/Order/oneof pay: oneof -> -",
                "#/Order.Line/1: int32 n -> int64 n",
                "#/State/PAID: 1 -> 2",
                "#/Shop/Buy: (Order) returns (Order) -> (Order) returns (stream Order)",
                "#/State/SENT: - -> 3",
            ],
        );
    }

    #[test]
    fn json_schemas_are_compared_member_by_member() {
        check(
            Format::Json,
            r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"gone":{"type":"string"}},
                "anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
            r#"{"required":["id","note"],"type":"object","properties":{"id":{"type":"number","minimum":0},
                "a/b~":{"type":"string"}},"anyOf":[{"required":["a"]},{"required":["c"]}]}"#,
            &[
                r##"#/required: ["id"] -> ["id","note"]"##,
                r##"#/properties/id/type: "integer" -> "number""##,
                "#/properties/id/minimum: - -> 0",
                r##"#/properties/gone: {"type":"string"} -> -"##,
                r##"#/properties/a~1b~0: - -> {"type":"string"}"##,
                r##"#/anyOf/1/required: ["b"] -> ["c"]"##,
            ],
        );
        check(Format::Json, "true", "{}", &["#: true -> {}"]);
    }
}
