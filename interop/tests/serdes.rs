//! What our serdes write is read by those of other projects: Confluent's for Python. What theirs write is read by ours in
//! `crates/registry/tests/serdes/golden.rs`.

use std::io::Write as _;
use std::process::Stdio;

use milena_interop::partner;
use milena_registry::framing::{Part, write_prefix};
use milena_registry::{
    Avro, DynamicMessage, DynamicProtobuf, Encode, Format, JsonSchema, RecordEncoder, Reference,
    RegistrySerde, Schema, SchemaRegistry,
};
use serde_json::{Value, json};

use crate::schemas::Ours;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"},
    {"name":"note","type":["null","string"],"default":null},{"name":"prices","type":{"type":"array","items":"double"}}]}"#;
const CUSTOMER: &str =
    r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
const SALE: &str = r#"{"type":"record","name":"Sale","namespace":"shop","fields":[{"name":"id","type":"int"},{"name":"to","type":"shop.Customer"}]}"#;
const ORDER_JSON: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"Order","type":"object",
    "properties":{"id":{"type":"integer"},"item":{"type":"string"}}}"#;
const CUSTOMER_JSON: &str = r#"{"title":"Customer","type":"object","properties":{"name":{"type":"string"}}}"#;
const SALE_JSON: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"Sale","type":"object",
    "properties":{"to":{"$ref":"customer.json"}}}"#;
const MONEY: &str = r#"syntax = "proto3"; package common; message Money { int64 cents = 1; }"#;
const SHOP: &str = r#"syntax = "proto3"; package shop; import "money.proto"; message Customer { string name = 1; }
    message Order { message Line { string sku = 1; } common.Money price = 1; }"#;

/// Records that were written, and what is in each.
#[derive(Default)]
struct Written {
    lines: Vec<Value>,
    values: Vec<Value>,
}

impl Written {
    /// Writes the value with its schema's id before it, and with its GUID in a header.
    async fn add<F, T>(&mut self, client: &SchemaRegistry, format: F, case: &Case<'_>, value: &T)
    where
        F: Format + Clone + Encode<T>,
    {
        for in_header in [false, true] {
            let serde =
                RegistrySerde::new(client, format.clone()).use_latest_version(true).in_header(in_header);
            let writer = RecordEncoder::<T>::writer(&serde, case.topic, Part::Value).await.expect("a writer");
            let mut payload = Vec::new();
            serde.encode(&writer, value, &mut payload).expect("it fits");
            let header = RecordEncoder::<T>::header(&serde, &writer);
            assert_eq!(header.is_some(), in_header);
            let headers = header.iter().map(|header| {
                (header.name().expect("a name").to_owned(), hex(header.value.unwrap_or_default()))
            });
            let headers: std::collections::BTreeMap<_, _> = headers.collect();
            self.lines.push(json!({
                "format": case.format, "topic": case.topic, "message": case.message, "payload": hex(&payload), "headers": headers,
            }));
            self.values.push(case.value.clone());
        }
    }
}

struct Case<'a> {
    format: &'a str,
    topic: &'a str,
    message: Option<&'a str>,
    value: Value,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prints what Confluent's deserializers read.
fn read_by_python(url: &str, lines: &[Value]) -> Vec<Value> {
    let mut python = partner::python("serdes_reader").expect("its packages");
    let mut child = python
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    for line in lines {
        writeln!(stdin, "{line}").expect("it reads");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn confluents_deserializers_read_what_ours_write() {
    if !partner::are_here(&["python3"]) {
        return;
    }
    let ours = Ours::start().await;
    let client = ours.client();
    for (subject, schema) in [
        ("avro-order-value", Schema::avro(ORDER)),
        ("customer", Schema::avro(CUSTOMER)),
        ("avro-sale-value", Schema::avro(SALE).reference(Reference::new("shop.Customer", "customer", 1))),
        ("json-order-value", Schema::json(ORDER_JSON)),
        ("customer.json", Schema::json(CUSTOMER_JSON)),
        (
            "json-sale-value",
            Schema::json(SALE_JSON).reference(Reference::new("customer.json", "customer.json", 1)),
        ),
        ("money.proto", Schema::protobuf(MONEY)),
        ("protobuf-value", Schema::protobuf(SHOP).reference(Reference::new("money.proto", "money.proto", 1))),
    ] {
        client.register(subject, &schema).await.unwrap_or_else(|why| panic!("{subject}: {why}"));
    }

    // Bodies of six bytes or more: confluent-kafka 2.16.1 takes no shorter payload, also if the GUID is in a header, so it cannot read all
    // that it writes.
    let mut written = Written::default();
    for (topic, value) in [
        ("avro-order", json!({"id": -300, "item": "ink", "note": "früh", "prices": [1.5, -2.0]})),
        ("avro-order", json!({"id": 7, "item": "pen", "note": null, "prices": []})),
        ("avro-sale", json!({"id": 7, "to": {"name": "Ada Lovelace"}})),
    ] {
        let case = Case { format: "AVRO", topic, message: None, value };
        written.add(&client, Avro, &case, &case.value).await;
    }
    for (topic, value) in
        [("json-order", json!({"id": 7, "item": "ink"})), ("json-sale", json!({"to": {"name": "Ada"}}))]
    {
        let case = Case { format: "JSON", topic, message: None, value };
        written.add(&client, JsonSchema::new(), &case, &case.value).await;
    }
    let id = client.latest("protobuf-value").await.expect("it is there").id;
    for (message, indexes, body, value) in [
        ("shop.Customer", &[0][..], &b"\x0a\x0cAda Lovelace"[..], json!({"name": "Ada Lovelace"})),
        (
            "shop.Order",
            &[1],
            b"\x0a\x07\x08\x80\xa0\x94\xa5\x8d\x1d",
            json!({"price": {"cents": "1000000000000"}}),
        ),
        ("shop.Order.Line", &[1, 0], b"\x0a\x04ink7", json!({"sku": "ink7"})),
    ] {
        let format = DynamicProtobuf::message(message);
        let mut payload = Vec::new();
        write_prefix(id, Some(indexes), &mut payload);
        payload.extend_from_slice(body);
        let serde = RegistrySerde::new(&client, format.clone());
        let read: DynamicMessage = serde.read(Part::Value, &payload, &[]).await.expect("a message");
        let case = Case { format: "PROTOBUF", topic: "protobuf", message: Some(message), value };
        written.add(&client, format, &case, &read).await;
    }

    let url = ours.url();
    let (lines, values) = (written.lines, written.values);
    assert_eq!(lines.len(), 16);
    let shown = lines.clone();
    let read = tokio::task::spawn_blocking(move || read_by_python(&url, &lines)).await.expect("it ends");
    for ((line, read), value) in shown.iter().zip(&read).zip(&values) {
        assert_eq!(read, value, "{line}");
    }
    assert_eq!(read.len(), values.len());
}
