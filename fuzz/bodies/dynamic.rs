//! Any text as the JSON of a value, and any bytes as a value, with schemas of both formats.

use std::sync::OnceLock;

use milena_registry::{DynamicSchema, Schema};

const AVRO: &[&str] = &[
    r#"["null","boolean","long","float","string",{"type":"fixed","name":"F","size":3},{"type":"enum","name":"E","symbols":["a","b"]},{"type":"array","items":"int"},{"type":"map","values":"double"}]"#,
    r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"next","type":["null","A"],"default":null},{"name":"all","type":{"type":"array","items":"A"},"default":[]},{"name":"b","type":["bytes","int"]}]}"#,
];
const PROTOBUF: &str = r#"
syntax = "proto3";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
message All {
  bool a = 1; int32 b = 2; sint64 c = 3; fixed32 d = 4; float f = 6; double g = 7; string h = 8; bytes i = 9; Kind j = 10;
  repeated sint32 k = 11; map<string, All> m = 13; map<int32, bytes> n = 14; All o = 15; oneof p { string q = 16; All r = 17; }
  optional int32 t = 19; google.protobuf.Timestamp u = 20; google.protobuf.Struct v = 21;
  enum Kind { NONE = 0; ONE = 1; }
}
"#;

fn schemas() -> &'static [DynamicSchema] {
    static SCHEMAS: OnceLock<Vec<DynamicSchema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let all = AVRO.iter().map(|text| Schema::avro(*text)).chain([Schema::protobuf(PROTOBUF)]);
        all.map(|schema| DynamicSchema::compile(&schema, &[]).expect("a schema")).collect()
    })
}

/// The first byte chooses a schema, and whether text or bytes follow.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let Some(schema) = schemas().get(usize::from(choice >> 1)) else { return };
    let text = match choice & 1 {
        0 => std::str::from_utf8(rest).ok().map(str::to_owned),
        _ => schema.decode(None, rest).ok().map(|value| value.json().to_owned()),
    };
    let Some(text) = text else { return };
    let mut body = Vec::new();
    if schema.encode(None, &text, &mut body).is_err() {
        return;
    }
    // What is read is written to the same bytes.
    let Ok(value) = schema.decode(None, &body) else { return };
    let mut again = Vec::new();
    if schema.encode(None, value.json(), &mut again).is_ok() {
        assert_eq!(body, again, "{value}");
    }
}
