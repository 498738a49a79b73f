//! Records with schemas through the binary: what `consume` shows, `produce` writes again to the same bytes.

mod harness;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Cluster, Process, Run, assert_fails};
use serde_json::{Value, json};

/// `milena dev`.
struct Dev {
    /// Killed when dropped.
    _process: Process,
    bootstrap: String,
    url: String,
}

impl Dev {
    fn start(topics: &[&str]) -> Self {
        let mut args = vec!["dev", "--port", "0", "--registry-port", "0"];
        topics.iter().for_each(|topic| args.extend(["--topic", topic]));
        let mut process = Process::spawn(&args, "");
        let (bootstrap, url) = (process.stdout_line(), process.stdout_line());
        Self { _process: process, bootstrap, url }
    }

    fn run(&self, args: &[&str], stdin: impl Into<Vec<u8>>) -> Run {
        Process::spawn(&[args, &["-b", &self.bootstrap]].concat(), stdin).wait()
    }

    /// With the registry, expecting success.
    fn ok(&self, args: &[&str], stdin: impl Into<Vec<u8>>) -> String {
        let run = self.run(&[args, &["--registry", &self.url]].concat(), stdin);
        assert_eq!(run.code, Some(0), "milena {args:?}: {}", run.stderr);
        String::from_utf8(run.stdout).expect("text")
    }

    /// What is in a topic, as it is.
    fn raw(&self, topic: &str) -> Vec<Value> {
        let run = self.run(&["consume", topic, "-e", "--json"], "");
        let text = String::from_utf8(run.stdout).expect("text");
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().and_then(|line| line.remove("topic"))));
        lines
    }

    /// What is in a topic, decoded.
    fn decoded(&self, topic: &str) -> (String, Vec<Value>) {
        let text = self.ok(&["consume", topic, "-e", "--json"], "");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (text, lines)
    }

    /// Registers a schema. Its id.
    fn register(&self, subject: &str, body: &Value) -> u64 {
        let address = self.url.strip_prefix("http://").expect("a URL");
        let mut stream = TcpStream::connect(address).expect("connects");
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "POST /subjects/{subject}/versions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("is written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let answer: Value = serde_json::from_str(body).expect("JSON");
        answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }
}

const CUSTOMER: &str =
    r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},
    {"name":"to","type":["null","Customer"]},{"name":"raw","type":"bytes"},{"name":"rates","type":{"type":"map","values":"double"}}]}"#;
const MONEY: &str = r#"syntax = "proto3"; package common; message Money { int64 cents = 1; }"#;
const SHOP: &str = r#"syntax = "proto3"; package shop; import "common/money.proto"; message Customer { string name = 1; }
message Order { int64 id = 1; common.Money price = 2; message Line { string sku = 1; map<string, int32> by = 2; } }"#;
const NAME: &str = r#"{"type":"string","minLength":2}"#;
const PERSON: &str =
    r##"{"title":"Person","type":"object","properties":{"name":{"$ref":"name.json"}},"required":["name"]}"##;

fn references(name: &str, subject: &str) -> Value {
    json!([{"name": name, "subject": subject, "version": 1}])
}

/// One subject of each format, each with a reference.
fn register_all(dev: &Dev) -> [u64; 3] {
    dev.register("customer", &json!({"schema": CUSTOMER}));
    dev.register("money", &json!({"schema": MONEY, "schemaType": "PROTOBUF"}));
    dev.register("name", &json!({"schema": NAME, "schemaType": "JSON"}));
    [
        dev.register("order", &json!({"schema": ORDER, "references": references("shop.Customer", "customer")})),
        dev.register(
            "line",
            &json!({"schema": SHOP, "schemaType": "PROTOBUF", "references": references("common/money.proto", "money")}),
        ),
        dev.register(
            "person",
            &json!({"schema": PERSON, "schemaType": "JSON", "references": references("name.json", "name")}),
        ),
    ]
}

#[test]
fn records_of_all_formats_make_the_round_trip_byte_for_byte() {
    let dev = Dev::start(&["a", "b"]);
    let [order, line, person] = register_all(&dev);
    let orders = concat!(
        r#"{"id":7,"to":{"shop.Customer":{"name":"Ada"}},"raw":"\u0000ÿ","rates":{"b":0.1,"a":"NaN"}}"#,
        "\n",
        r#"{"id":-9007199254740993,"to":null,"raw":"","rates":{}}"#,
        "\n",
    );
    for framing in ["v0", "v1"] {
        let write = |schema: &str, more: &[&str], lines: &str| {
            let args = ["produce", "a", "-q", "--value-schema", schema, "--schema-framing", framing];
            dev.ok(&[&args[..], more].concat(), lines);
        };
        write("order", &["-H", "trace=7f"], orders);
        write(
            &format!("id:{line}"),
            &["--value-message", "shop.Order.Line"],
            r#"{"sku":"x","by":{"b":1,"a":0}}"#,
        );
        write("line@1", &["--value-message", "shop.Order"], r#"{"price":{"cents":"150"}}"#);
        write("person@latest", &[], r#"{"name": "Ada", "age": 1.10}"#);
        // Keys by a schema, and a tombstone, whose key has one.
        let keyed = ["--key-schema", "order", "-K", "\t", "--null", "~"];
        write(
            "person",
            &keyed,
            "{\"id\":1,\"to\":null,\"raw\":\"\",\"rates\":{}}\t{\"name\":\"Bo\"}\n{\"id\":2,\"to\":null,\"raw\":\"\",\"rates\":{}}\t~\n",
        );
    }
    let (text, lines) = dev.decoded("a");
    assert_eq!(lines.len(), 14);
    let note = |id: u64, kind: &str| json!({"id": id, "framing": "v0", "type": kind});
    assert_eq!(
        lines[0]["value"],
        json!({"id": 7, "to": {"shop.Customer": {"name": "Ada"}}, "raw": "\0ÿ", "rates": {"a": "NaN", "b": 0.1}})
    );
    assert_eq!((&lines[0]["value_schema"], &lines[0]["key"]), (&note(order, "AVRO"), &Value::Null));
    assert!(text.contains(r#""rates":{"b":0.1,"a":"NaN"}"#) && text.contains("-9007199254740993"), "{text}");
    let mut message = note(line, "PROTOBUF");
    message["message"] = "shop.Order.Line".into();
    assert_eq!(
        (&lines[2]["value"], &lines[2]["value_schema"]),
        (&json!({"sku": "x", "by": {"a": 0, "b": 1}}), &message)
    );
    assert_eq!(
        (&lines[4]["value_schema"], &lines[5]["key_schema"]),
        (&note(person, "JSON"), &note(order, "AVRO"))
    );
    assert!(text.contains(r#""value":{"name": "Ada", "age": 1.10},"#), "{text}");
    assert_eq!(
        (&lines[6]["value"], &lines[6]["value_schema"], &lines[6]["key"]["id"]),
        (&Value::Null, &Value::Null, &json!(2))
    );
    let in_header = &lines[7]["value_schema"];
    assert!(
        in_header["guid"].is_string() && in_header["framing"] == "v1" && in_header["id"].is_null(),
        "{in_header}"
    );
    assert!(lines.iter().all(|line| line["value_raw"].is_null() && line["value_note"].is_null()), "{text}");

    dev.ok(&["produce", "b", "--json", "-q"], text.as_str());
    let (a, b) = (dev.raw("a"), dev.raw("b"));
    assert_eq!(a, b);
    // The raw form has the framing, and the value is not there.
    assert!(
        a[0]["value_base64"].is_string()
            || a[0]["value"].as_str().is_some_and(|value| value.starts_with('\0'))
    );

    // Text forms and filters see what is decoded.
    let names = dev.ok(&["consume", "a", "-e", "-f", "%s %S\\n", "--grep", "^\\{\"name\":\"Bo\"\\}$"], "");
    assert_eq!(names, "{\"name\":\"Bo\"} 13\n".repeat(2));
    let raw = dev.ok(&["consume", "a", "-e", "-c", "1", "--decode", "none", "-f", "%S"], "");
    assert_ne!(raw, "0");
}

#[test]
fn what_names_no_schema_or_an_unknown_one_is_told_and_the_rest_is_decoded() {
    let dev = Dev::start(&["a", "b"]);
    let id = dev.register("a-value", &json!({"schema": "\"long\""}));
    assert_eq!(id, 1);
    let input = [
        r#"{"value":"plain text","key":"k"}"#,
        r#"{"value_base64":"/wD/"}"#,
        r#"{"value_base64":"AAAAAAFI"}"#,
        r#"{"value_base64":"AAAAAAFISA=="}"#,
        r#"{"value_base64":"AAAAAAlI"}"#,
        r#"{"value":null}"#,
    ]
    .join("\n");
    let produced = dev.run(&["produce", "a", "--json", "-q"], input);
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    let run = dev.run(&["consume", "a", "-e", "--json", "--registry", &dev.url], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["value"], &lines[0]["key"]), (&json!("plain text"), &json!("k")));
    assert_eq!(lines[1]["value_base64"], "/wD/");
    assert_eq!(lines[1]["value_note"], "the value names no schema: it begins with byte 0xff");
    assert_eq!(lines[2]["value"], 36);
    assert_eq!(lines[3]["value_note"], "Avro: 1 bytes are left over: it was written with another schema");
    let unknown = lines[4]["value_note"].as_str().expect("a note");
    assert!(
        unknown.starts_with("looking up schema 9: ") && lines[4]["value_base64"] == "AAAAAAlI",
        "{unknown}"
    );
    assert!(lines[5]["value"].is_null() && lines[5]["value_note"].is_null());
    assert!(run.stderr.contains("3 values were not decoded"), "{}", run.stderr);
    assert!(run.stderr.contains("1: the value names no schema: it begins with byte 0xff"), "{}", run.stderr);
    // All of it can be written again as it was.
    dev.ok(&["produce", "b", "--json", "-q"], text);
    assert_eq!(dev.raw("a"), dev.raw("b"));
    // Without a registry nothing changes.
    assert_eq!(dev.raw("a")[2]["value"], "\0\0\0\0\u{1}H");
}

#[test]
fn bytes_that_are_not_as_we_write_them_are_kept_as_long_as_the_value_is() {
    let dev = Dev::start(&["a", "b", "c"]);
    dev.register("a-value", &json!({"schema": r#"{"type":"array","items":"int"}"#}));
    // One array in two blocks.
    dev.run(&["produce", "a", "--json", "-q"], r#"{"value_base64":"AAAAAAECAgICAA=="}"#);
    let (text, lines) = dev.decoded("a");
    assert_eq!((&lines[0]["value"], &lines[0]["value_raw"]), (&json!([1, 1]), &json!("AAAAAAECAgICAA==")));
    dev.ok(&["produce", "b", "--json", "-q"], text.replace("[1,1]", "[1, 1]"));
    assert_eq!(dev.raw("b"), dev.raw("a"));
    dev.ok(&["produce", "c", "--json", "-q"], text.replace("[1,1]", "[1,2]"));
    assert_eq!(dev.decoded("c").1[0]["value"], json!([1, 2]));
    let run = dev.run(&["produce", "c", "--json"], text);
    assert_fails(&run, 2, "line 1: value_schema needs a schema registry");
}

#[test]
fn a_line_that_does_not_fit_is_named_with_the_place() {
    let dev = Dev::start(&["a"]);
    dev.register("a-value", &json!({"schema": r#"{"type":"record","name":"A","fields":[{"name":"of","type":{"type":"array","items":"int"}}]}"#}));
    let write = |args: &[&str], lines: &str| {
        dev.run(&[&["produce", "a", "--registry", &dev.url], args].concat(), lines)
    };
    let run = write(&["--value-schema", "a-value"], "{\"of\":[1]}\n{\"of\":[1,\"secret\"]}\n{\"of\":[2]}\n");
    assert_fails(&run, 3, "line 2: value: Avro: at /of/1: a text does not fit int");
    assert!(run.stderr.contains("1 record acknowledged") && !run.stderr.contains("secret"), "{}", run.stderr);
    let run = write(&["--value-schema", "a-value", "--json"], r#"{"value":{}}"#);
    assert_fails(&run, 2, "line 1: value: Avro: \"A\" needs field \"of\", which has no default");
    assert_fails(&write(&["--value-schema", "none"], ""), 4, "none");
    assert_fails(&write(&["--value-schema", "id:77"], ""), 4, "77");
    let run = dev.run(&["produce", "a", "--value-schema", "a-value"], "");
    assert_fails(&run, 2, "no schema registry is named");
}

#[test]
fn a_schema_in_a_file_is_looked_up_and_registered_only_if_that_is_asked_for() {
    let dev = Dev::start(&["a"]);
    let folder = tempfile::tempdir().expect("made");
    let file = folder.path().join("a.avsc");
    std::fs::write(
        &file,
        r#"{"type":"record","name":"A","namespace":"x","fields":[{"name":"id","type":"int"}]}"#,
    )
    .expect("written");
    let file = file.to_str().expect("text");
    let args = [
        "produce",
        "a",
        "-q",
        "--value-schema",
        file,
        "--registry",
        &dev.url,
        "--subject-name",
        "topic-record",
    ];
    let run = dev.run(&args, r#"{"id":1}"#);
    assert_fails(&run, 4, "a-x.A");
    let run = dev.run(&[&args[..], &["--auto-register"]].concat(), r#"{"id":1}"#);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(dev.run(&args, r#"{"id":2}"#).code, Some(0));
    let (_, lines) = dev.decoded("a");
    assert_eq!((&lines[0]["value"], &lines[1]["value"]), (&json!({"id": 1}), &json!({"id": 2})));
    assert_eq!(lines[0]["value_schema"], lines[1]["value_schema"]);
}

#[test]
fn values_without_framing_are_read_and_written_by_a_schema_in_a_file() {
    let cluster = Cluster::start(&["--topic", "a", "--topic", "b"]);
    let folder = tempfile::tempdir().expect("made");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    write("common/money.proto", MONEY);
    let (shop, key) = (write("shop.proto", SHOP), write("key.avsc", "\"string\""));
    let schemas = ["--value-schema", &shop, "--value-message", "shop.Order", "--key-schema", &key];
    let produce = [&["produce", "a", "-q", "-K", " "], &schemas[..]].concat();
    cluster.ok(&produce, r#""seven" {"id":"7","price":{"cents":"150"}}"#);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let raw = cluster.ok(&["consume", "a", "-e", "-f", "%k|%s"], "");
    assert_eq!(raw, b"\nseven|\x08\x07\x12\x03\x08\x96\x01");
    let shown = text(cluster.ok(&[&["consume", "a", "-e", "-K", " "], &schemas[..]].concat(), ""));
    assert_eq!(shown, "\"seven\" {\"id\":\"7\",\"price\":{\"cents\":\"150\"}}\n");
    let keyed = text(cluster.ok(&[&["consume", "a", "-e", "--key", "seven"], &schemas[..]].concat(), ""));
    assert_eq!(keyed.lines().count(), 1);
    let json = cluster.ok(&[&["consume", "a", "-e", "--json"], &schemas[..]].concat(), "");
    cluster.ok(&[&["produce", "b", "--json", "-q"], &schemas[..]].concat(), json);
    let values = |topic| cluster.ok(&["consume", topic, "-e", "-K", "|"], "");
    assert_eq!(values("a"), values("b"));
    let run =
        cluster.run(&["consume", "a", "-e", "--value-schema", &shop, "--value-message", "shop.None"], "");
    assert_fails(&run, 2, "the Protobuf schema has no message \"shop.None\"");
}

#[test]
fn while_the_registry_is_down_known_schemas_go_on_and_the_rest_is_kept() {
    let cluster = Cluster::start(&["--topic", "a"]);
    let mut registry = cluster.spawn_open(&["registry", "--listen", "127.0.0.1:0"]);
    let url = registry.stdout_line();
    let produce = |framed: &[u8]| {
        use std::fmt::Write as _;
        let escaped = framed.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\u{byte:04x}");
            text
        });
        cluster.ok(&["produce", "a", "--json", "-q"], format!("{{\"value\":\"{escaped}\"}}"));
    };
    let folder = tempfile::tempdir().expect("made");
    let file = folder.path().join("a.avsc");
    std::fs::write(&file, "\"int\"").expect("written");
    let file = file.to_str().expect("text");
    cluster.ok(&["produce", "a", "-q", "--registry", &url, "--auto-register", "--value-schema", file], "7");
    let mut consumer = cluster.spawn_open(&["consume", "a", "--json", "--registry", &url]);
    assert!(consumer.stdout_line().contains(r#""value":7,"#));
    registry.interrupt();
    assert_eq!(registry.wait().code, Some(0));
    produce(b"\0\0\0\0\x01\x10");
    assert!(consumer.stdout_line().contains(r#""value":8,"#));
    produce(b"\0\0\0\0\x02\x10");
    let line = consumer.stdout_line();
    assert!(line.contains(r#""value_base64":"AAAAAAIQ","value_note":"looking up schema 2: "#), "{line}");
    produce(b"\0\0\0\0\x01\x12");
    assert!(consumer.stdout_line().contains(r#""value":9,"#));
    consumer.interrupt();
    let run = consumer.wait();
    assert!(run.stderr.contains("1 value was not decoded"), "{}", run.stderr);
}
