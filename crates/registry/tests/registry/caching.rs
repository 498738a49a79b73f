//! What is asked once, and what goes on without the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena_registry::Schema;
use milena_registry::framing::SchemaId;

use crate::fake::{Asked, Fake, Reply, patient};

/// Answers as a registry with one schema, while it is up.
async fn registry() -> (Fake, Arc<AtomicBool>) {
    let is_up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_up);
    let reply = move |asked: &Asked| match (seen.load(Ordering::Relaxed), asked.path.as_str()) {
        (false, _) => Reply::Json(503, String::new()),
        (_, path) if path.ends_with("/8") => {
            Reply::Json(404, r#"{"error_code":40403,"message":"no"}"#.into())
        }
        (_, path) if path.starts_with("/schemas") => Reply::Json(200, r#"{"schema":"\"string\""}"#.into()),
        _ => Reply::Json(200, r#"{"id":7,"subject":"s","version":1,"schema":"\"string\""}"#.into()),
    };
    (Fake::start(reply).await, is_up)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_who_need_one_id_make_one_request() {
    let (fake, _) = registry().await;
    let client = fake.client();
    let asking: Vec<_> = (0..10_000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(
                async move { client.schema(SchemaId::Id(7)).await.map(|schema| schema.text().len()) },
            )
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.expect("no panic").expect("a schema"), 8);
    }
    assert_eq!(fake.count(), 1);
    // Those who ask for what does not exist share the answer, too.
    for _ in 0..10 {
        assert!(client.schema(SchemaId::Id(8)).await.expect_err("none").is_not_found());
    }
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn a_caller_who_gives_up_takes_the_answer_from_no_other() {
    let (fake, _) = registry().await;
    let client = fake.client();
    {
        let mut first = Box::pin(client.schema(SchemaId::Id(7)));
        assert!(futures_poll(first.as_mut()).is_none());
    }
    client.schema(SchemaId::Id(7)).await.expect("a schema");
    assert_eq!(fake.count(), 1);
}

/// Polls once.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn what_is_known_goes_on_while_the_registry_is_down() {
    let (fake, is_up) = registry().await;
    let client = patient([&fake.url]).latest_ttl(Duration::ZERO).retries(0).build().expect("an address");
    let schema = Schema::avro("\"string\"");
    client.schema(SchemaId::Id(7)).await.expect("a schema");
    client.latest("s").await.expect("a version");
    client.version("s", 1).await.expect("a version");
    client.register("s", &schema).await.expect("registered");
    client.latest("s").await.expect("registering forgets the latest version");
    is_up.store(false, Ordering::Relaxed);
    client.schema(SchemaId::Id(7)).await.expect("it is known");
    assert!(client.known(SchemaId::Id(7)).is_some() && client.known(SchemaId::Id(9)).is_none());
    client.version("s", 1).await.expect("it is known");
    client.register("s", &schema).await.expect("it is known");
    let before = fake.count();
    client.latest("s").await.expect("the earlier answer");
    assert_eq!(fake.count(), before + 1, "the registry was asked first");
    let error = client.schema(SchemaId::Id(9)).await.expect_err("it is not known");
    assert!(error.is_retriable(), "{error}");
    is_up.store(true, Ordering::Relaxed);
    client.schema(SchemaId::Id(9)).await.expect("failures are not remembered");
}

#[tokio::test]
async fn what_changes_is_asked_again_after_its_time() {
    let (fake, _) = registry().await;
    let client = fake.client();
    for _ in 0..3 {
        client.latest("s").await.expect("a version");
    }
    assert_eq!(fake.count(), 1);
    let client =
        patient([&fake.url]).latest_ttl(Duration::ZERO).absent_ttl(Duration::ZERO).build().expect("one");
    for _ in 0..3 {
        client.latest("s").await.expect("a version");
        client.schema(SchemaId::Id(8)).await.expect_err("none");
    }
    assert_eq!(fake.count(), 7);
}

#[tokio::test]
async fn schemas_are_remembered_within_bounds() {
    let (fake, _) = registry().await;
    let client = patient([&fake.url]).remembered_max(2, 1 << 20).build().expect("an address");
    for id in [1, 2, 3, 2, 3, 1] {
        client.schema(SchemaId::Id(id)).await.expect("a schema");
    }
    assert_eq!(fake.count(), 4);
}

#[tokio::test]
async fn what_was_not_there_is_there_once_it_is_registered() {
    let is_there = AtomicBool::new(false);
    let fake = Fake::start(move |asked| match asked.path.as_str() {
        "/subjects/s/versions" => {
            is_there.store(true, Ordering::Relaxed);
            Reply::Json(200, r#"{"id":7}"#.into())
        }
        _ if is_there.load(Ordering::Relaxed) => {
            Reply::Json(200, r#"{"id":7,"subject":"s","version":1,"schema":"\"int\""}"#.into())
        }
        _ => Reply::Json(404, r#"{"error_code":40403}"#.into()),
    })
    .await;
    let (client, schema) = (fake.client(), Schema::avro("\"int\""));
    for _ in 0..2 {
        assert!(client.lookup("s", &schema).await.expect_err("it is not there").is_not_found());
        assert!(client.latest("s").await.expect_err("it is not there").is_not_found());
    }
    assert_eq!(fake.count(), 2);
    client.register("s", &schema).await.expect("registered");
    assert_eq!(client.lookup("s", &schema).await.expect("it is there").version, 1);
    assert_eq!(client.latest("s").await.expect("it is there").id, 7);
}
