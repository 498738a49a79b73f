//! Registries that are down for a while.

use std::time::Duration;

use milena::{Client, Record};
use milena_broker::Broker;
use milena_registry::framing::Part;
use milena_registry::{
    Avro, RegistrySerde, Schema, SerdeError, SerdeErrorKind, TypedBatch as _, TypedTopic as _, WhileDown,
};
use serde_json::json;

use crate::fake::patient;
use crate::memory::Registry;

const TEXT: &str = r#""string""#;
const PAYLOAD: &[u8] = b"\0\0\0\0\x01\x06ink";
/// The registry's client makes four attempts at a call.
const ATTEMPTS: usize = 4;

fn serde_of(registry: &Registry) -> RegistrySerde<Avro> {
    let client = patient([&registry.fake.url]).build().expect("an address");
    RegistrySerde::new(&client, Avro).schema(Schema::avro(TEXT))
}

/// Waits until, since it was asked `before` times, a call has failed with all its attempts, and the next one has begun.
async fn is_asked_again(registry: &Registry, before: usize) {
    while registry.fake.count() <= before + ATTEMPTS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn read(serde: RegistrySerde<Avro>) -> Result<String, SerdeError> {
    serde.read(Part::Value, PAYLOAD, &[]).await
}

#[tokio::test]
async fn a_value_waits_for_the_registry_if_that_is_wanted_and_fails_otherwise() {
    let registry = Registry::start().await;
    registry.put("orders-value", json!({"schema": TEXT}));
    registry.set_down(true);
    let failed = read(serde_of(&registry)).await.expect_err("it is down");
    assert!(failed.is_retriable() && registry.fake.count() == ATTEMPTS, "{failed}");

    let serde = serde_of(&registry).while_down(WhileDown::Wait);
    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(read(serde.clone()))).collect();
    let dropped = tokio::spawn(read(serde.clone()));
    is_asked_again(&registry, ATTEMPTS).await;
    assert!(waiting.iter().all(|one| !one.is_finished()));
    dropped.abort();
    registry.set_down(false);
    for one in waiting {
        assert_eq!(one.await.expect("no panic").expect("it is back"), "ink");
    }
    registry.set_down(true);
    assert_eq!(read(serde).await.expect("it is known"), "ink");
}

#[tokio::test]
async fn what_the_registry_says_is_not_waited_for() {
    let registry = Registry::start().await;
    let error = read(serde_of(&registry).while_down(WhileDown::Wait)).await.expect_err("there is none");
    assert!(error.registry().is_some_and(milena_registry::RegistryError::is_not_found), "{error}");
    let serde = serde_of(&registry).while_down(WhileDown::Wait);
    let error = serde.read::<String>(Part::Value, b"no schema", &[]).await.expect_err("it names none");
    assert_eq!(error.kind(), SerdeErrorKind::Framing);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_on_both_sides_and_none_is_lost() {
    let cluster = Broker::builder().start().await.expect("a broker");
    cluster.create_topic("orders", 1).expect("a topic");
    let client = Client::connect(cluster.bootstrap()).await.expect("a client");
    let registry = Registry::start().await;
    registry.put("orders-value", json!({"schema": TEXT}));
    registry.set_down(true);

    let producer = client.producer().build().await.expect("a producer");
    let serde = serde_of(&registry).while_down(WhileDown::Wait);
    let writing = tokio::spawn(async move {
        let orders = producer.topic("orders").await.expect("a topic").typed::<str, _>(serde);
        for item in ["ink", "pen"] {
            orders.send(Record::new(), item).await.expect("written");
        }
    });
    is_asked_again(&registry, 0).await;
    assert!(!writing.is_finished());
    registry.set_down(false);
    writing.await.expect("no panic");

    registry.set_down(true);
    let asked = registry.fake.count();
    let serde = serde_of(&registry).while_down(WhileDown::Wait);
    // In a task of its own, as programs read.
    let reading = tokio::spawn(async move {
        let mut consumer = client.consumer_direct().topic("orders").until_end().build().await.expect("built");
        let mut items = Vec::new();
        while let Some(batch) = consumer.next().await.expect("a batch") {
            for item in batch.typed::<String, _>(&serde).await {
                items.push(item.value.expect("it was waited for").expect("a value"));
            }
        }
        items
    });
    is_asked_again(&registry, asked).await;
    assert!(!reading.is_finished());
    registry.set_down(false);
    assert_eq!(reading.await.expect("no panic"), ["ink", "pen"]);
}
