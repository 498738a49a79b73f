//! Any bytes as the message indexes and the body of Protobuf's records, by descriptors.

use std::sync::OnceLock;

use milena_registry::framing::{self, Part};
use milena_registry::{
    Decode as _, DynamicMessage, DynamicProtobuf, Encode as _, Format as _, ProtobufSchema, Schema,
};

const FILE: &str = r#"
syntax = "proto3";
message First { int64 id = 1; }
message All {
  bool a = 1; int32 b = 2; sint64 c = 3; fixed32 d = 4; sfixed64 e = 5; float f = 6; double g = 7; string h = 8; bytes i = 9;
  Kind j = 10; repeated sint32 k = 11; repeated string l = 12; map<string, All> m = 13; map<int32, bytes> n = 14; All o = 15;
  oneof p { string q = 16; All r = 17; First s = 18; }
  optional int32 t = 19;
  message Inner { repeated All u = 1; repeated Inner v = 2; }
  enum Kind { NONE = 0; ONE = 1; }
}
"#;

fn schema() -> &'static ProtobufSchema {
    static SCHEMA: OnceLock<ProtobufSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| DynamicProtobuf::new().compile(&Schema::protobuf(FILE), &[]).expect("a file"))
}

/// What follows the id of a schema in a payload.
pub(crate) fn run(data: &[u8]) {
    let payload = [&[0, 0, 0, 0, 7], data].concat();
    let framed = framing::read(Part::Value, &payload, []).expect("an id");
    let Ok((indexes, body)) = framed.message() else { return };
    let format = DynamicProtobuf::new();
    let read: Result<DynamicMessage, _> = format.decode(schema(), Some(indexes), body);
    let Ok(message) = read else { return };
    // What is written is read to the same bytes. It may be another message than the one that this format writes.
    let mut written = Vec::new();
    if format.encode(schema(), &message, &mut written).is_ok() {
        let again: DynamicMessage = format.decode(schema(), None, &written).expect("it was written");
        let mut twice = Vec::new();
        format.encode(schema(), &again, &mut twice).expect("it was read");
        assert_eq!(written.len(), twice.len());
    }
}
