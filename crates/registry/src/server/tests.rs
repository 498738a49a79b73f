//! The whole registry on the embedded broker.

use std::io::{Read as _, Write as _};

use milena_broker::Broker;
use serde_json::{Value, json};

use super::state::tests::Plain;
use super::*;

async fn cluster() -> (milena_broker::Cluster, Client) {
    let cluster = Broker::builder().start().await.expect("a cluster");
    let client = Client::connect(cluster.bootstrap()).await.expect("a client");
    (cluster, client)
}

async fn started(client: &Client) -> Server {
    Server::builder(client).port(0).start_with(Arc::new(Plain)).await.expect("a registry")
}

impl Server {
    async fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let address = self.address();
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("connects");
            stream.write_all(request.as_bytes()).expect("is written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        });
        let answer = asked.await.expect("ends");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn register(&self, subject: &str, v: i64) -> (u16, Value) {
        let body = json!({ "schema": json!({ "v": v }).to_string() });
        self.ask("POST", &format!("/subjects/{subject}/versions"), &body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_starts_again_has_its_schemas() {
    let (_cluster, client) = cluster().await;
    let registry = started(&client).await;
    assert_eq!(registry.register("a", 1).await.1["id"], 1);
    assert_eq!(registry.register("a", 2).await.1["id"], 2);
    assert_eq!(registry.register("a", 1).await.1["id"], 1);
    assert_eq!(registry.register("a", 0).await.0, 409);
    assert_eq!(registry.ask("PUT", "/config/b", &json!({ "compatibility": "NONE" })).await.0, 200);
    assert_eq!(registry.ask("DELETE", "/subjects/a/versions/2", &Value::Null).await, (200, json!(2)));
    assert_eq!(
        registry.ask("DELETE", "/subjects/a/versions/2?permanent=true", &Value::Null).await,
        (200, json!(2))
    );
    let before = registry.ask("GET", "/subjects/a/versions/1", &Value::Null).await;
    assert!(before.1["ts"].as_i64() > Some(1_600_000_000_000), "{before:?}");
    registry.close().await.expect("ends");

    let registry = started(&client).await;
    assert_eq!(registry.ask("GET", "/subjects/a/versions/1", &Value::Null).await, before);
    assert_eq!(
        registry.ask("GET", "/config/b", &Value::Null).await.1,
        json!({ "compatibilityLevel": "NONE" })
    );
    assert_eq!(registry.register("a", 3).await.1["id"], 3);
    assert_eq!(registry.ask("GET", "/v1/metadata/version", &Value::Null).await.0, 200);
    assert_eq!(registry.ask("GET", "/nowhere", &Value::Null).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_registry_takes_over() {
    let (_cluster, client) = cluster().await;
    let first = started(&client).await;
    first.register("a", 1).await;
    let second = started(&client).await;
    assert_eq!(second.register("a", 2).await.1["id"], 2);
    let (status, refused) = first.register("a", 3).await;
    assert_eq!((status, &refused["error_code"]), (500, &json!(50004)));
    // What it knows may be old, so it says nothing more.
    assert_eq!(first.ask("GET", "/subjects", &Value::Null).await.0, 500);
    assert_eq!(second.register("a", 3).await.1["id"], 3);
    assert_eq!(second.ask("GET", "/subjects/a/versions", &Value::Null).await.1, json!([1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_writes_is_seen_at_the_next_write() {
    let (_cluster, client) = cluster().await;
    let registry = started(&client).await;
    registry.register("a", 1).await;
    let producer = client.producer().build().await.expect("a producer");
    for (key, value) in [
        (r#"{"keytype":"NOOP","magic":0}"#, None),
        (
            r#"{"keytype":"SCHEMA","subject":"other","version":1,"magic":1}"#,
            Some(r#"{"subject":"other","version":1,"id":17,"schema":"{\"v\":9}","deleted":false}"#),
        ),
        ("garbage", Some("garbage")),
    ] {
        let record = milena::Record::to(TOPIC).key(key).value_or_null(value.map(str::as_bytes));
        producer.send(record).await.expect("is written");
    }
    registry.register("a", 2).await;
    assert_eq!(registry.ask("GET", "/schemas/ids/17", &Value::Null).await.1["schema"], "{\"v\":9}");
    assert_eq!(registry.register("a", 3).await.1["id"], 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_register_one_schema_get_one_id() {
    let (_cluster, client) = cluster().await;
    let registry = Arc::new(started(&client).await);
    let asked: Vec<_> = (0..32)
        .map(|at| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.register(&format!("s{}", at % 4), 1).await })
        })
        .collect();
    for one in asked {
        let (status, answer) = one.await.expect("ends");
        assert_eq!((status, &answer["id"], &answer["version"]), (200, &json!(1), &json!(1)), "{answer}");
    }
    let topic = client.consumer_direct().topic(TOPIC).until_end().build().await;
    let mut records = 0;
    let mut topic = topic.expect("a consumer");
    while let Some(batch) = topic.next().await.expect("is read") {
        records += batch.iter().count();
    }
    assert_eq!(records, 4, "one record for each subject");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_no_record_holds_is_refused() {
    let (_cluster, client) = cluster().await;
    let registry = Server::builder(&client).port(0).body_bytes_max(4 << 20).start_with(Arc::new(Plain)).await;
    let registry = registry.expect("a registry");
    let body = json!({ "schema": json!({ "v": 1, "doc": "a".repeat(2 << 20) }).to_string() });
    let (status, refused) = registry.ask("POST", "/subjects/a/versions", &body).await;
    assert_eq!((status, &refused["error_code"]), (422, &json!(42209)));
    assert_eq!(registry.register("a", 1).await.1["id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_would_lose_schemas_are_refused() {
    let (_cluster, client) = cluster().await;
    let admin = client.admin();
    admin
        .create_topic(milena::NewTopic::new("two").partitions(2).config("cleanup.policy", "compact"))
        .await
        .unwrap();
    admin.create_topic(milena::NewTopic::new("short").partitions(1)).await.unwrap();
    for (topic, why) in [("two", "2 partitions"), ("short", "cleanup.policy=delete")] {
        let error = Server::builder(&client)
            .port(0)
            .topic(topic)
            .start_with(Arc::new(Plain))
            .await
            .expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
    }
    let open = Server::builder(&client).host([0, 0, 0, 0]).port(0).start_with(Arc::new(Plain)).await;
    assert!(open.expect_err("refused").is_setting());
    let taken = started(&client).await;
    let port = taken.address().port();
    let again = Server::builder(&client).port(port).start_with(Arc::new(Plain)).await;
    assert!(again.expect_err("refused").is_io());
    // A port that is taken has not cost the registry there its topic.
    assert_eq!(taken.register("a", 1).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_and_protobuf_are_read_and_compared() {
    let (_cluster, client) = cluster().await;
    let registry = Server::builder(&client).port(0).start().await.expect("a registry");
    let record = |fields: &str| format!(r#"{{ "type": "record", "name": "a.B", "fields": [{fields}] }}"#);
    let avro = |fields: &str| json!({ "schema": record(fields) });
    let first = avro(r#"{ "name": "x", "type": "int" }"#);
    let (status, answer) = registry.ask("POST", "/subjects/a/versions", &first).await;
    assert_eq!((status, &answer["schemaType"]), (200, &json!("AVRO")));
    let text = r#"{"type":"record","name":"B","namespace":"a","fields":[{"name":"x","type":"int"}]}"#;
    assert_eq!(answer["schema"], text);
    let wider = avro(r#"{ "name": "x", "type": "long" }"#);
    assert_eq!(registry.ask("POST", "/subjects/a/versions", &wider).await.1["version"], 2);
    let other = avro(r#"{ "name": "x", "type": "string" }"#);
    let (status, refused) = registry.ask("POST", "/subjects/a/versions", &other).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(status == 409 && message.contains("TYPE_MISMATCH") && message.contains("BACKWARD"), "{message}");
    let proto = |text: &str, references: Value| json!({ "schemaType": "PROTOBUF", "schema": text, "references": references });
    let money = proto("syntax = \"proto3\"; message Money { int64 cents = 1; }", json!([]));
    assert_eq!(registry.ask("POST", "/subjects/money/versions", &money).await.0, 200);
    let order = "syntax = \"proto3\"; import \"money.proto\"; message Order { Money price = 1; }";
    assert_eq!(registry.ask("POST", "/subjects/order/versions", &proto(order, json!([]))).await.0, 422);
    let reference = json!([{ "name": "money.proto", "subject": "money", "version": 1 }]);
    assert_eq!(registry.ask("POST", "/subjects/order/versions", &proto(order, reference)).await.0, 200);
    // A subject keeps its format.
    assert_eq!(registry.ask("POST", "/subjects/a/versions", &money).await.0, 409);
}
