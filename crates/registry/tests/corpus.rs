//! Every committed fuzz input, through the body of its target, and changed ones. No input may take more memory than its target is
//! allowed for its length.
//!
//! `MILENA_FUZZ_RUNS=10000000 cargo test --release -p milena-registry --all-features --test corpus` is the long form;
//! `MILENA_FUZZ_SEED` makes other inputs, and `MILENA_FUZZ_FROM` leaves out the runs before it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

#[cfg(feature = "avro")]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/avro.rs"]
mod avro;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_avro.rs"]
mod compat_avro;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_json.rs"]
mod compat_json;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_protobuf.rs"]
mod compat_protobuf;
#[cfg(all(feature = "avro", feature = "protobuf"))]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/dynamic.rs"]
mod dynamic;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_apicurio.rs"]
mod framing_apicurio;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_confluent.rs"]
mod framing_confluent;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_glue.rs"]
mod framing_glue;
#[cfg(feature = "json-schema")]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/json_schema.rs"]
mod json_schema;
#[path = "corpus/mutation.rs"]
mod mutation;
#[cfg(feature = "protobuf")]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/protobuf.rs"]
mod protobuf;

use mutation::{Dice, mutated};

struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// Words of the format, with two blanks or a line between them, which are put into inputs.
    tokens: &'static str,
    /// An input may take at most this much memory at a time,
    bytes_max: u64,
    /// and this much for each of its bytes.
    per_byte: u64,
}

/// Prints the input that a body panics with.
struct Tried<'a>(u64, &'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("run {}: {:?}\n{}", self.0, self.1, String::from_utf8_lossy(self.1));
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn replay(target: &Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).expect("is there") {
        let input = fs::read(entry.expect("is readable").path()).expect("is readable");
        // Not measured: what is made once is made here.
        let tried = Tried(0, &input);
        (target.run)(&input);
        drop(tried);
        inputs.push(input);
    }
    inputs.sort();
    let (runs, seed) = (setting("MILENA_FUZZ_RUNS", 5_000), setting("MILENA_FUZZ_SEED", 1));
    let tokens: Vec<&str> = target
        .tokens
        .split('\n')
        .flat_map(|line| line.split("  "))
        .filter(|token| !token.is_empty())
        .collect();
    let mut most = (0, 0);
    for run in setting("MILENA_FUZZ_FROM", 0)..runs {
        let input = mutated(&mut Dice::of_run(seed, run), &inputs, &tokens);
        let tried = Tried(run, &input);
        let taken = allocation_counter::measure(|| (target.run)(&input)).bytes_max;
        let length = input.len() as u64;
        assert!(taken <= target.bytes_max + length * target.per_byte, "{length} bytes take {taken}");
        drop(tried);
        most = most.max((taken, length));
        if run % (1 << 20) == (1 << 20) - 1 {
            // Not captured: if the program is ended by the system, this says where.
            let _ = writeln!(std::io::stderr(), "{}: {} runs, at most {most:?} bytes", target.name, run + 1);
        }
    }
    println!("{}: {runs} runs, at most {} bytes, of an input of {}", target.name, most.0, most.1);
}

const JSON_TOKENS: &str = r##""  {  }  [  ]  ,  :  null  true  \u0000  \ud800  {"type":  "$ref":"#"  "#/$defs/a"  {"$ref":"#"},
"$defs":  "definitions":  "properties":  "patternProperties":  "additionalProperties":  "items":
"allOf":[  "anyOf":[  "oneOf":[  "not":  "if":  "then":  "enum":[  "const":  "pattern":"(a+)+$",
"format":"date",  "$id":"a",  "$anchor":"a",  "$dynamicRef":"#a",  "unevaluatedProperties":
"uniqueItems":true,  "multipleOf":0.1,  "required":["a"],  "minimum":1,"##;
const AVRO_TOKENS: &str = r##""  {  }  [  ]  ,  :  null  "null"  "int"  "string"  "bytes"  "A"  {"type":
"type":"array","items":  "type":"map","values":  "type":"record","name":"A","fields":[
"type":"enum","name":"E","symbols":["a"]  "type":"fixed","name":"F","size":  "default":
"default":{},  "namespace":"n",  "aliases":["B"],
"logicalType":"decimal","precision":4,"scale":2,  {"name":"f","type":"A"},
{"name":"g","type":["null","A"]},"##;
const PROTO_TOKENS: &str = r##"syntax="proto2";  syntax = "proto3";  package a.b;  import "a.proto";
import public "google/protobuf/any.proto";  message A {  message   enum E { A = 0;  }  {  ;  =  1
oneof o {  map<string, A> m = 1;  repeated   optional   required   group G = 1 {
reserved 1 to max;  reserved "a";  extensions 1 to 3;  extend A {  option (a).b = { c: 1 };
[deprecated = true]  [default = inf]  service S { rpc R (stream A) returns (A); }  A a = 1;
.a.b.A  int32 b = 2;  536870911  -1  /*  //  \x  '  ""##;

#[cfg(feature = "avro")]
#[test]
fn avro_inputs() {
    replay(&Target {
        name: "avro",
        run: avro::run,
        tokens: AVRO_TOKENS,
        bytes_max: 32 << 20,
        per_byte: 2_000,
    });
}

#[test]
fn compat_avro_inputs() {
    replay(&Target {
        name: "compat_avro",
        run: compat_avro::run,
        tokens: AVRO_TOKENS,
        bytes_max: 1 << 20,
        per_byte: 1_000,
    });
}

#[test]
fn compat_json_inputs() {
    replay(&Target {
        name: "compat_json",
        run: compat_json::run,
        tokens: JSON_TOKENS,
        bytes_max: 1 << 20,
        per_byte: 1_000,
    });
}

#[test]
fn compat_protobuf_inputs() {
    replay(&Target {
        name: "compat_protobuf",
        run: compat_protobuf::run,
        tokens: PROTO_TOKENS,
        bytes_max: 1 << 20,
        per_byte: 1_000,
    });
}

#[cfg(all(feature = "avro", feature = "protobuf"))]
#[test]
fn dynamic_inputs() {
    replay(&Target {
        name: "dynamic",
        run: dynamic::run,
        tokens: JSON_TOKENS,
        bytes_max: 64 << 20,
        per_byte: 4_000,
    });
}

#[test]
fn framing_apicurio_inputs() {
    replay(&Target {
        name: "framing_apicurio",
        run: framing_apicurio::run,
        tokens: "",
        bytes_max: 1 << 10,
        per_byte: 4,
    });
}

#[test]
fn framing_confluent_inputs() {
    replay(&Target {
        name: "framing_confluent",
        run: framing_confluent::run,
        tokens: "",
        // It may be one of Glue's, which is decompressed to 64 KiB.
        bytes_max: 1 << 20,
        per_byte: 4,
    });
}

#[test]
fn framing_glue_inputs() {
    replay(&Target {
        name: "framing_glue",
        run: framing_glue::run,
        tokens: "",
        bytes_max: 1 << 20,
        per_byte: 4,
    });
}

#[cfg(feature = "json-schema")]
#[test]
fn json_schema_inputs() {
    replay(&Target {
        name: "json_schema",
        run: json_schema::run,
        tokens: JSON_TOKENS,
        bytes_max: 4 << 20,
        per_byte: 2_000,
    });
}

#[cfg(feature = "protobuf")]
#[test]
fn protobuf_inputs() {
    replay(&Target { name: "protobuf", run: protobuf::run, tokens: "", bytes_max: 1 << 20, per_byte: 1_000 });
}
