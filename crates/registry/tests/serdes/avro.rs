//! Avro through the whole way: a producer, the embedded broker, a consumer.

use std::time::Duration;

use milena::{Client, Consumer, Position, Record};
use milena_broker::{Broker, Cluster};
use milena_registry::framing::Part;
use milena_registry::{
    Avro, AvroValue, RecordEncoder, RegistrySerde, Schema, SchemaRegistry, SerdeErrorKind, SubjectName,
    TypedBatch as _, TypedError, TypedTopic as _,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::fake::{Fake, Reply, patient};
use crate::memory::Registry;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"}]}"#;
const ORDER_2: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"},{"name":"count","type":"int","default":1}]}"#;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Copy)]
struct Order<'a> {
    id: i64,
    item: &'a str,
}

const INK: Order<'static> = Order { id: 7, item: "ink" };

async fn cluster() -> (Cluster, Client) {
    let cluster = Broker::builder().start().await.expect("a broker");
    cluster.create_topic("orders", 1).expect("a topic");
    let client = Client::connect(cluster.bootstrap()).await.expect("a client");
    (cluster, client)
}

fn client_of(registry: &Registry) -> SchemaRegistry {
    patient([&registry.fake.url])
        .retries(0)
        .absent_ttl(Duration::ZERO)
        .latest_ttl(Duration::ZERO)
        .build()
        .expect("one")
}

fn serde_of(registry: &Registry) -> RegistrySerde<Avro> {
    RegistrySerde::new(&client_of(registry), Avro).schema(Schema::avro(ORDER))
}

async fn consumer(client: &Client) -> Consumer {
    let partitions = [("orders", 0)];
    client.consumer_direct().assign(partitions, Position::Earliest).build().await.expect("a consumer")
}

#[tokio::test]
async fn values_are_written_and_read_with_the_registrys_schema() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let serde = serde_of(&registry).auto_register(true);
    let producer = client.producer().build().await.expect("a producer");
    let orders = producer.topic("orders").await.expect("a topic").typed::<Order<'_>, _>(serde.clone());
    for id in 0..100 {
        orders.post(Record::new().key("k"), &Order { id, ..INK }).await.expect("taken");
    }
    producer.flush().await.expect("written");
    producer.send(Record::to("orders").key("k")).await.expect("a tombstone");

    let mut consumer = consumer(&client).await;
    let reader = RegistrySerde::new(&client_of(&registry), Avro);
    let mut next = 0;
    while next <= 100 {
        let batch = consumer.next().await.expect("a batch").expect("it is assigned");
        for order in batch.typed::<Order<'_>, _>(&reader).await {
            assert_eq!(order.record.offset(), next);
            let expected = (next < 100).then_some(Order { id: next, ..INK });
            assert_eq!(order.value.expect("it can be read"), expected);
            next += 1;
        }
    }
    let asked = registry.fake.asked();
    let asked: Vec<_> = asked.iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(asked, ["POST /subjects/orders-value/versions", "GET /schemas/ids/1"]);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_by_its_offset_and_the_next_one_follows() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let serde = serde_of(&registry).auto_register(true);
    let producer = client.producer().build().await.expect("a producer");
    let orders = producer.topic("orders").await.expect("a topic").typed::<Order<'_>, _>(serde);
    orders.send(Record::new(), &INK).await.expect("written");
    for payload in [&b"{}"[..], b"\0\0\0\0\x63x", b"\0\0\0\0\x01\x0e\x64ink", b"\0\0\0\0\x01\x0e\x06ink "] {
        producer.send(Record::to("orders").value(payload)).await.expect("written");
    }
    orders.send(Record::new(), &INK).await.expect("written");

    let mut consumer = consumer(&client).await;
    let reader = RegistrySerde::new(&client_of(&registry), Avro);
    let mut told = Vec::new();
    while told.len() < 6 {
        let batch = consumer.next().await.expect("a batch").expect("it is assigned");
        for order in batch.typed::<Order<'_>, _>(&reader).await {
            told.push(match order.value {
                Ok(order) => format!("{order:?}"),
                Err(error) => {
                    assert_eq!(error.offset(), order.record.offset());
                    assert!(!error.is_retriable());
                    error.to_string()
                }
            });
        }
    }
    let at = |offset: usize, why: &str| {
        format!("the value at offset {offset} of partition 0 of topic \"orders\" cannot be read: {why}")
    };
    let ink = format!("{:?}", Some(INK));
    assert_eq!((&told[0], &told[5]), (&ink, &ink));
    assert_eq!(told[1], at(1, "the value names no schema: it begins with byte 0x7b"));
    assert!(told[2].starts_with(&at(2, "looking up schema 99: ")), "{}", told[2]);
    assert_eq!(told[3], at(3, "Avro: field \"item\" of \"shop.Order\": Avro: the data is cut off"));
    assert_eq!(told[4], at(4, "Avro: 1 bytes are left over: it was written with another schema"));
}

#[tokio::test]
async fn while_the_registry_is_down_what_is_known_is_read_and_the_rest_can_be_read_later() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let serde = serde_of(&registry).auto_register(true);
    let producer = client.producer().build().await.expect("a producer");
    let orders = producer.topic("orders").await.expect("a topic").typed::<Order<'_>, _>(serde.clone());
    orders.send(Record::new(), &INK).await.expect("written");
    registry.put("orders-value", json!({"schema": ORDER_2}));
    producer.send(Record::to("orders").value(b"\0\0\0\0\x02\x0e\x06ink\x02")).await.expect("written");
    let reader = RegistrySerde::new(&client_of(&registry), Avro);
    reader.read::<Order<'_>>(Part::Value, b"\0\0\0\0\x01\x0e\x06ink", &[]).await.expect("known from now on");
    registry.set_down(true);
    orders.send(Record::new(), &INK).await.expect("the schema is known");

    let mut consumer = consumer(&client).await;
    let mut batches = Vec::new();
    let mut retriable = Vec::new();
    while batches.iter().map(|batch: &milena::Batch| batch.iter().count()).sum::<usize>() < 3 {
        let batch = consumer.next().await.expect("a batch").expect("it is assigned");
        for order in batch.typed::<Order<'_>, _>(&reader).await {
            retriable.push(order.value.map(|value| value == Some(INK)).map_err(|error| error.is_retriable()));
        }
        batches.push(batch);
    }
    assert_eq!(retriable, [Ok(true), Err(true), Ok(true)]);
    registry.set_down(false);
    for batch in &batches {
        for order in batch.typed::<Order<'_>, _>(&reader).await {
            assert_eq!(order.value.expect("the registry is back"), Some(INK));
        }
    }
}

#[tokio::test]
async fn a_schema_that_is_not_registered_is_not_written_unless_that_is_asked_for() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let producer = client.producer().build().await.expect("a producer");
    let topic = producer.topic("orders").await.expect("a topic");
    let write = async |serde: RegistrySerde<Avro>| {
        let error = topic.clone().typed::<Order<'_>, _>(serde).send(Record::new(), &INK).await;
        match error {
            Ok(_) => Ok(()),
            Err(TypedError::Serde(error)) => Err((error.kind(), error.to_string())),
            Err(error) => panic!("{error}"),
        }
    };
    let (kind, said) = write(serde_of(&registry)).await.expect_err("it is not registered");
    assert_eq!(kind, SerdeErrorKind::Registry, "{said}");
    let none = RegistrySerde::new(&client_of(&registry), Avro);
    assert_eq!(write(none).await.expect_err("there is none").0, SerdeErrorKind::Schema);
    registry.put("orders-value", json!({"schema": ORDER}));
    write(serde_of(&registry)).await.expect("it is registered");
    // The latest version needs no schema of one's own, and is followed.
    let latest = RegistrySerde::new(&client_of(&registry), Avro).use_latest_version(true);
    write(latest.clone()).await.expect("it is there");
    registry.put("orders-value", json!({"schema": ORDER_2}));
    write(latest).await.expect("the field has a default");
    write(RegistrySerde::new(&client_of(&registry), Avro).use_id(1)).await.expect("it is there");

    let mut consumer = consumer(&client).await;
    let mut ids = Vec::new();
    while ids.len() < 4 {
        let batch = consumer.next().await.expect("a batch").expect("it is assigned");
        ids.extend(batch.iter().map(|record| record.value().expect("a value")[4]));
    }
    assert_eq!(ids, [1, 1, 2, 1]);
}

#[tokio::test]
async fn schemas_whose_rules_encrypt_are_refused_in_both_directions() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let encrypts = json!({"domainRules": [{"name": "pii", "kind": "TRANSFORM", "type": "ENCRYPT", "mode": "WRITEREAD"}]});
    let checks =
        json!({"domainRules": [{"name": "positive", "kind": "CONDITION", "type": "CEL", "mode": "WRITE"}]});
    registry.put("orders-value", json!({"schema": ORDER, "ruleSet": encrypts}));
    registry.put("checked-value", json!({"schema": ORDER, "ruleSet": checks}));
    let serde = RegistrySerde::new(&client_of(&registry), Avro).use_latest_version(true).ignore_rules();
    let producer = client.producer().build().await.expect("a producer");
    let topic = producer.topic("orders").await.expect("a topic");
    let refused =
        topic.typed::<Order<'_>, _>(serde.clone()).send(Record::new(), &INK).await.expect_err("it encrypts");
    let expected =
        "the schema's rule \"pii\" encrypts, which Milena does not do: nothing is written in clear text";
    assert_eq!(refused.to_string(), format!("the value cannot be written: {expected}"));
    let own = serde_of(&registry).schema(Schema::avro(ORDER).rules(&encrypts)).auto_register(true);
    let topic = producer.topic("orders").await.expect("a topic");
    let refused = topic.typed::<Order<'_>, _>(own).send(Record::new(), &INK).await.expect_err("it encrypts");
    assert!(refused.to_string().ends_with(expected), "{refused}");
    let refused =
        serde.read::<Order<'_>>(Part::Value, b"\0\0\0\0\x01\x0e\x06ink", &[]).await.expect_err("it encrypts");
    assert_eq!((refused.kind(), refused.to_string()), (SerdeErrorKind::Rules, expected.to_owned()));
    // Other rules are no reason not to read.
    let read =
        serde.read::<Order<'_>>(Part::Value, b"\0\0\0\0\x02\x0e\x06ink", &[]).await.expect("it only checks");
    assert_eq!(read, INK);
    let strict = RegistrySerde::new(&client_of(&registry), Avro).use_id(2);
    let topic = producer.topic("orders").await.expect("a topic");
    let refused =
        topic.typed::<Order<'_>, _>(strict.clone()).send(Record::new(), &INK).await.expect_err("it checks");
    assert!(refused.to_string().contains("\"positive\" would not be carried out"), "{refused}");
    let topic = producer.topic("orders").await.expect("a topic");
    topic
        .typed::<Order<'_>, _>(strict.ignore_rules())
        .send(Record::new(), &INK)
        .await
        .expect("it is allowed");
}

#[tokio::test]
async fn rules_that_a_registry_adds_when_it_registers_are_not_missed() {
    let fake = Fake::start(|asked| match asked.path.as_str() {
        // The id alone, as registries answered at first.
        "/subjects/orders-value/versions" => Reply::Json(200, r#"{"id":7}"#.into()),
        "/subjects/plain-value/versions" => Reply::Json(200, r#"{"id":8}"#.into()),
        "/schemas/ids/7" => {
            let rules = json!({"domainRules": [{"name": "pii", "type": "ENCRYPT"}]});
            Reply::Json(200, json!({"schema": ORDER, "ruleSet": rules}).to_string())
        }
        _ => Reply::Json(200, json!({"schema": ORDER}).to_string()),
    })
    .await;
    let serde = RegistrySerde::new(&fake.client(), Avro).schema(Schema::avro(ORDER)).auto_register(true);
    let writer = async |topic| RecordEncoder::<Order<'_>>::writer(&serde, topic, Part::Value).await.map(drop);
    writer("plain").await.expect("it has no rules");
    assert_eq!(writer("orders").await.expect_err("it encrypts").kind(), SerdeErrorKind::Rules);
}

#[tokio::test]
async fn the_schema_can_be_named_in_a_header_and_its_payload_is_the_body_alone() {
    let (_cluster, client) = cluster().await;
    let registry = Registry::start().await;
    let serde = serde_of(&registry).auto_register(true).in_header(true);
    let producer = client.producer().build().await.expect("a producer");
    let orders = producer.topic("orders").await.expect("a topic").typed::<Order<'_>, _>(serde.clone());
    orders.send(Record::new().header("trace", "7f"), &INK).await.expect("written");
    let mut consumer = consumer(&client).await;
    let batch = consumer.next().await.expect("a batch").expect("it is assigned");
    let record = batch.iter().next().expect("a record");
    assert_eq!(record.value(), Some(&b"\x0e\x06ink"[..]));
    let header = record.header("__value_schema_id").expect("it is there").expect("a value");
    assert_eq!((header.len(), header[0], header[16]), (17, 1, 1));
    let reader = RegistrySerde::new(&client_of(&registry), Avro);
    for order in batch.typed::<Order<'_>, _>(&reader).await {
        assert_eq!(order.value.expect("it can be read"), Some(INK));
    }
    assert!(registry.fake.asked().iter().any(|asked| asked.path.starts_with("/schemas/guids/")));
}

#[tokio::test]
async fn subjects_follow_the_strategy() {
    let registry = Registry::start().await;
    let check = async |name: SubjectName, topic: &str, expected: &str| {
        let serde = serde_of(&registry).subject_name(name).auto_register(true);
        let before = registry.fake.count();
        RecordEncoder::<Order<'_>>::writer(&serde, topic, Part::Value).await.expect("a writer");
        let asked = registry.fake.asked();
        let last = asked[before..].last().expect("one").path.clone();
        assert_eq!(last, format!("/subjects/{expected}/versions"));
    };
    check(SubjectName::Topic, "orders", "orders-value").await;
    check(SubjectName::Record, "orders", "shop.Order").await;
    check(SubjectName::TopicRecord, "orders", "orders-shop.Order").await;
    check(SubjectName::associated(), "associated", "shared").await;
    check(SubjectName::associated(), "orders", "orders-value").await;
    let strict = SubjectName::Associated { cluster_id: None, fallback: None };
    let serde = serde_of(&registry).subject_name(strict);
    let none = RecordEncoder::<Order<'_>>::writer(&serde, "orders", Part::Value).await;
    let error = none.map(drop).expect_err("there is no association");
    assert_eq!(error.to_string(), "the value of topic \"orders\" is associated with no subject");
}

#[tokio::test]
async fn references_are_resolved_and_types_need_not_be_known() {
    let registry = Registry::start().await;
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
    registry.put("customers", json!({"schema": customer}));
    let sale =
        r#"{"type":"record","name":"Sale","namespace":"shop","fields":[{"name":"to","type":"Customer"}]}"#;
    let references = json!([{"name": "shop.Customer", "subject": "customers", "version": 1}]);
    let id = registry.put("sales-value", json!({"schema": sale, "references": references}));
    assert_eq!(id, 2);
    let serde = RegistrySerde::new(&client_of(&registry), Avro);
    let value: AvroValue =
        serde.read(Part::Value, b"\0\0\0\0\x02\x06Ada", &[]).await.expect("it can be read");
    let ada = AvroValue::Record(vec![("name".into(), AvroValue::String("Ada".into()))]);
    assert_eq!(value, AvroValue::Record(vec![("to".into(), ada)]));
    let json: serde_json::Value =
        serde.read(Part::Value, b"\0\0\0\0\x02\x06Ada", &[]).await.expect("it can be read");
    assert_eq!(json, json!({"to": {"name": "Ada"}}));
}
