//! Protobuf by prost and by descriptors.

use std::time::Duration;

use milena_registry::framing::{self, Part};
use milena_registry::{
    DynamicMessage, DynamicProtobuf, Protobuf, RecordEncoder, ReflectMessage as _, RegistrySerde, Schema,
    SchemaRegistry, SerdeErrorKind, SubjectName,
};
use serde_json::json;

use crate::fake::patient;
use crate::memory::Registry;

/// The message that is used is neither the first of the file nor of the first level.
const SHOP: &str = r#"
syntax = "proto3";
package shop;
import "common/money.proto";
import "google/protobuf/timestamp.proto";
message Customer { string name = 1; }
message Order {
  int64 id = 1;
  common.Money price = 2;
  google.protobuf.Timestamp at = 3;
  message Line { string sku = 1; repeated Line parts = 2; }
}
"#;
const MONEY: &str = r#"syntax = "proto3"; package common; message Money { int64 cents = 1; }"#;

#[derive(Clone, PartialEq, prost::Message)]
struct Customer {
    #[prost(string, tag = "1")]
    name: String,
}

impl prost::Name for Customer {
    const NAME: &'static str = "Customer";
    const PACKAGE: &'static str = "shop";
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    sku: String,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<Line>,
}

impl prost::Name for Line {
    const NAME: &'static str = "Order.Line";
    const PACKAGE: &'static str = "shop";
}

fn client_of(registry: &Registry) -> SchemaRegistry {
    patient([&registry.fake.url]).retries(0).latest_ttl(Duration::ZERO).build().expect("an address")
}

async fn registry() -> Registry {
    let registry = Registry::start().await;
    registry.put("money", json!({"schema": MONEY, "schemaType": "PROTOBUF"}));
    let references = json!([{"name": "common/money.proto", "subject": "money", "version": 1}]);
    registry.put("lines-value", json!({"schema": SHOP, "schemaType": "PROTOBUF", "references": references}));
    registry
}

/// A value as it is in a record.
async fn written<T: ?Sized, S: RecordEncoder<T>>(serde: &S, value: &T) -> Vec<u8> {
    let writer = serde.writer("lines", Part::Value).await.expect("a writer");
    let mut payload = Vec::new();
    serde.encode(&writer, value, &mut payload).expect("it fits");
    payload
}

#[tokio::test]
async fn messages_are_named_by_their_indexes() {
    let registry = registry().await;
    let client = client_of(&registry);
    let line = Line { sku: "x".into(), parts: vec![Line::default()] };
    let lines = RegistrySerde::new(&client, Protobuf::of::<Line>()).use_latest_version(true);
    let payload = written(&lines, &line).await;
    // Two indexes, 1 and 0, then the message.
    assert_eq!(payload, b"\0\0\0\0\x02\x04\x02\0\x0a\x01x\x12\0");
    assert_eq!(lines.read::<Line>(Part::Value, &payload, &[]).await.expect("it was written"), line);

    let customer = Customer { name: "Ada".into() };
    let customers = RegistrySerde::new(&client, Protobuf::new()).use_latest_version(true);
    let payload = written(&customers, &customer).await;
    assert_eq!(payload, b"\0\0\0\0\x02\0\x0a\x03Ada");
    assert_eq!(
        customers.read::<Customer>(Part::Value, &payload, &[]).await.expect("it was written"),
        customer
    );
    // Read as another message it would be one without fields.
    let error = customers.read::<Line>(Part::Value, &payload, &[]).await.expect_err("a customer");
    let expected = "Protobuf: the message is a shop.Customer, and the type a shop.Order.Line";
    assert_eq!((error.kind(), error.to_string().as_str()), (SerdeErrorKind::Data, expected));
    let error =
        customers.read::<Customer>(Part::Value, b"\0\0\0\0\x02\x02\x0e", &[]).await.expect_err("none");
    assert_eq!(error.to_string(), "Protobuf: the message indexes are those of no message of the schema");
    let error =
        customers.read::<Customer>(Part::Value, b"\0\0\0\0\x02\0\x0a\x09A", &[]).await.expect_err("cut off");
    assert!(error.to_string().starts_with("Protobuf: "), "{error}");
}

#[tokio::test]
async fn messages_can_be_read_by_their_descriptors() {
    let registry = registry().await;
    let client = client_of(&registry);
    let serde = RegistrySerde::new(&client, DynamicProtobuf::message("shop.Order")).use_latest_version(true);
    // Index 1, and an order with its price and its time, which are of imported files.
    let payload = b"\0\0\0\0\x02\x02\x02\x08\x07\x12\x03\x08\x96\x01\x1a\x02\x08\x05";
    let order: DynamicMessage = serde.read(Part::Value, payload, &[]).await.expect("it can be read");
    assert_eq!(order.descriptor().full_name(), "shop.Order");
    assert_eq!(order.get_field_by_name("id").and_then(|id| id.as_i64()), Some(7));
    let price = order.get_field_by_name("price").expect("a price");
    let cents = price
        .as_message()
        .and_then(|price| price.get_field_by_name("cents").and_then(|cents| cents.as_i64()));
    assert_eq!(cents, Some(150));
    assert_eq!(written(&serde, &order).await, payload);
    // Deep nesting is refused, not followed.
    let mut nested = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x12];
        let mut length = nested.len();
        while length >= 0x80 {
            outer.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    let payload = [b"\0\0\0\0\x02\x04\x02\0".as_slice(), &nested].concat();
    assert!(serde.read::<DynamicMessage>(Part::Value, &payload, &[]).await.is_err());
}

#[tokio::test]
async fn a_schema_can_be_a_descriptor_in_base64_and_the_record_names_the_subject() {
    let registry = Registry::start().await;
    // What confluent-kafka for Python registers: a FileDescriptorProto with the message Customer.
    let descriptor =
        b"\x0a\x0ashop.proto\x12\x04shop\"\x18\x0a\x08Customer\x12\x0c\x0a\x04name\x18\x01 \x01(\x09b\x06proto3";
    let text = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(descriptor)
    };
    let client = client_of(&registry);
    let serde = RegistrySerde::new(&client, Protobuf::of::<Customer>())
        .schema(Schema::protobuf(text))
        .subject_name(SubjectName::TopicRecord)
        .auto_register(true);
    let payload = written(&serde, &Customer { name: "Ada".into() }).await;
    assert_eq!(payload, b"\0\0\0\0\x01\0\x0a\x03Ada");
    assert_eq!(registry.fake.asked()[0].path, "/subjects/lines-shop.Customer/versions");
    let framed = framing::read(Part::Value, &payload, []).expect("a schema");
    assert_eq!(framed.message().expect("indexes").1, b"\x0a\x03Ada");
}

#[tokio::test]
async fn schemas_that_cannot_be_used_say_why() {
    let registry = Registry::start().await;
    let client = client_of(&registry);
    let check = async |schema: Schema, expected: &str| {
        let serde = RegistrySerde::new(&client, Protobuf::of::<Line>()).schema(schema).auto_register(true);
        let writer = RecordEncoder::<Line>::writer(&serde, "lines", Part::Value).await;
        let error = writer.map(drop).expect_err("it cannot be used");
        assert_eq!(error.kind(), SerdeErrorKind::Schema);
        assert!(error.to_string().starts_with(expected), "{error}");
    };
    check(Schema::avro("\"int\""), "the schema is AVRO, and Protobuf is expected").await;
    check(Schema::protobuf("syntax = ;"), "the Protobuf schema cannot be used: ").await;
    let unknown = "syntax = \"proto3\"; import \"a.proto\"; message A {}";
    check(Schema::protobuf(unknown), "the Protobuf schema cannot be used: ").await;
    let other = "syntax = \"proto3\"; message A {}";
    check(Schema::protobuf(other), "the Protobuf schema has no message \"shop.Order.Line\"").await;
    let empty = format!("syntax = \"proto3\"; {}", "message A { ".repeat(2000));
    check(Schema::protobuf(empty), "the Protobuf schema cannot be used: ").await;
}
