//! Who the client says it is, and that no secret is shown.

use milena::oauth::{ClientCredentials, Endpoint};
use milena_broker::Issuer;
use milena_registry::framing::SchemaId;
use milena_registry::{RegistryErrorKind, SchemaRegistry};

use crate::fake::{Fake, Reply, patient};

fn ok() -> Reply {
    Reply::Json(200, r#"{"schema":"\"string\""}"#.into())
}

#[tokio::test]
async fn users_and_tokens_are_sent_and_not_shown() {
    let fake = Fake::always(ok()).await;
    let builder = patient([&fake.url]).basic("alice", "hunter2").header("target-sr-cluster", "lsrc-hunter2");
    assert!(!format!("{builder:?}").contains("hunter2"));
    let client = builder.build().expect("an address");
    client.schema(SchemaId::Id(7)).await.expect("a schema");
    let head = fake.asked()[0].head.clone();
    // The base64 of alice:hunter2.
    assert!(head.contains("authorization: Basic YWxpY2U6aHVudGVyMg=="), "{head}");
    assert!(head.contains("target-sr-cluster: lsrc-hunter2"), "{head}");
    assert!(!format!("{client:?}").contains("hunter2"));

    let client = patient([&fake.url]).bearer("t0ken").build().expect("an address");
    client.schema(SchemaId::Id(7)).await.expect("a schema");
    assert!(fake.asked()[1].head.contains("authorization: Bearer t0ken"));
    let error = patient([&fake.url]).basic("a:b", "c").build().expect_err("a colon");
    assert_eq!(error.kind(), RegistryErrorKind::Configuration);
}

#[tokio::test]
async fn errors_show_neither_users_nor_passwords_nor_queries() {
    let refused =
        SchemaRegistry::new("https://alice:hunter2@registry/").expect_err("a password in the address");
    let fake = Fake::always(Reply::Json(401, String::new())).await;
    let client = patient([&format!("{}/?key=hunter2", fake.url)]).basic("alice", "hunter2").build();
    let failed = client.expect("an address").schema_in_context_of(SchemaId::Id(7), "hunter2").await;
    for error in [refused, failed.expect_err("refused")] {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_its_life() {
    let issuer = Issuer::builder().client("billing", "hunter2").start().await.expect("an issuer");
    let fake = Fake::always(ok()).await;
    let endpoint = Endpoint::new(issuer.token_url()).allow_loopback_http();
    let tokens = ClientCredentials::new(endpoint, "billing", "hunter2");
    let client = patient([&fake.url]).tokens(tokens).build().expect("an address");
    for id in 1..=5 {
        client.schema(SchemaId::Id(id)).await.expect("a schema");
    }
    assert_eq!((issuer.issued(), fake.count()), (1, 5));
    let heads: Vec<_> = fake.asked().into_iter().map(|asked| asked.head).collect();
    assert!(heads.iter().all(|head| head.contains("authorization: Bearer ey")), "{heads:?}");

    let endpoint = Endpoint::new(issuer.token_url()).allow_loopback_http();
    let tokens = ClientCredentials::new(endpoint, "billing", "wrong");
    let client = patient([&fake.url]).tokens(tokens).build().expect("an address");
    let error = client.schema(SchemaId::Id(1)).await.expect_err("refused");
    assert_eq!(error.kind(), RegistryErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("invalid_client") && fake.count() == 5, "{error}");
}
