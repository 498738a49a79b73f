//! JSON that is checked against its schema.

use std::time::Duration;

use milena_registry::framing::Part;
use milena_registry::{JsonSchema, RecordEncoder, RegistrySerde, Schema, SerdeErrorKind, SubjectName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::fake::patient;
use crate::memory::Registry;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Order<'a> {
    id: i64,
    item: &'a str,
}

fn order_schema() -> String {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "integer", "minimum": 1}, "item": {"$ref": "item.json"}},
        "required": ["id"],
    })
    .to_string()
}

async fn serde() -> (Registry, RegistrySerde<JsonSchema>) {
    let registry = Registry::start().await;
    registry.put("items", json!({"schema": r#"{"type":"string","maxLength":3}"#, "schemaType": "JSON"}));
    let references = json!([{"name": "item.json", "subject": "items", "version": 1}]);
    registry.put(
        "orders-value",
        json!({"schema": order_schema(), "schemaType": "JSON", "references": references}),
    );
    let client =
        patient([&registry.fake.url]).retries(0).latest_ttl(Duration::ZERO).build().expect("an address");
    let serde = RegistrySerde::new(&client, JsonSchema::new()).use_latest_version(true);
    (registry, serde)
}

#[tokio::test]
async fn what_does_not_fit_is_neither_written_nor_read_and_not_shown() {
    let (_registry, serde) = serde().await;
    let writer = RecordEncoder::<Order<'_>>::writer(&serde, "orders", Part::Value).await.expect("a writer");
    let write = |order: &Order<'_>| {
        let mut payload = Vec::new();
        serde.encode(&writer, order, &mut payload).map(|()| payload.clone()).map_err(|error| {
            assert!(payload.is_empty());
            (error.kind(), error.to_string())
        })
    };
    let ink = Order { id: 7, item: "ink" };
    let payload = write(&ink).expect("it fits");
    assert_eq!(payload, b"\0\0\0\0\x02{\"id\":7,\"item\":\"ink\"}");
    assert_eq!(serde.read::<Order<'_>>(Part::Value, &payload, &[]).await.expect("it fits"), ink);

    let expected = "JSON Schema: \"/id\" does not fit \"/properties/id/minimum\" of the schema".to_owned();
    assert_eq!(write(&Order { id: 0, item: "ink" }), Err((SerdeErrorKind::Data, expected.clone())));
    let payload = b"\0\0\0\0\x02{\"id\":0,\"item\":\"ink\"}";
    let error = serde.read::<Order<'_>>(Part::Value, payload, &[]).await.expect_err("it does not fit");
    assert_eq!(error.to_string(), expected);
    // What is referred to counts, and the value is not shown.
    let (_, said) = write(&Order { id: 7, item: "hunter2" }).expect_err("it is too long");
    assert!(said.starts_with("JSON Schema: \"/item\" does not fit ") && !said.contains("hunter2"), "{said}");

    let lax = RegistrySerde::new(serde.registry(), JsonSchema::new().check_when_read(false));
    lax.read::<Order<'_>>(Part::Value, payload, &[]).await.expect("it is JSON");
    let error = lax.read::<Order<'_>>(Part::Value, b"\0\0\0\0\x02{", &[]).await.expect_err("it is none");
    assert_eq!(error.kind(), SerdeErrorKind::Data);
}

#[tokio::test]
async fn the_title_names_the_record_and_nothing_is_fetched() {
    let (registry, serde) = serde().await;
    let own = |text: &str| {
        let schema = Schema::json(text);
        RegistrySerde::new(serde.registry(), JsonSchema::new())
            .schema(schema)
            .subject_name(SubjectName::Record)
            .auto_register(true)
    };
    let writer = async |serde: &RegistrySerde<JsonSchema>| {
        RecordEncoder::<Order<'_>>::writer(serde, "orders", Part::Value).await.map(drop)
    };
    writer(&own(r#"{"title":"Order","type":"object"}"#)).await.expect("a writer");
    assert!(registry.fake.asked().iter().any(|asked| asked.path == "/subjects/Order/versions"));
    let error = writer(&own(r#"{"type":"object"}"#)).await.expect_err("it has no title");
    assert!(error.to_string().contains("no title"), "{error}");
    let address = format!("{}/elsewhere.json", registry.fake.url);
    let error =
        writer(&own(&json!({"title": "A", "$ref": address}).to_string())).await.expect_err("not known");
    assert!(error.to_string().contains("none of its references"), "{error}");
    let error = writer(&own(r#"{"title":"A","$ref":"file:///etc/passwd"}"#)).await.expect_err("not known");
    assert!(error.to_string().contains("none of its references"), "{error}");
    assert!(registry.fake.asked().iter().all(|asked| !asked.path.contains("elsewhere")));
    let error = writer(&own("{")).await.expect_err("no JSON");
    assert!(error.to_string().starts_with("the JSON Schema cannot be used: "), "{error}");
}
