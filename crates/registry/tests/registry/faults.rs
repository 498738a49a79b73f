//! Registries that are slow, broken or hostile.

use std::time::Duration;

use milena_registry::framing::SchemaId;
use milena_registry::{Deletion, RegistryErrorKind, Schema, SchemaRegistry};

use crate::fake::{Fake, Reply, nowhere, patient};

const SCHEMA: &str = r#"{"schema":"\"string\""}"#;

fn ok() -> Reply {
    Reply::Json(200, SCHEMA.into())
}

#[tokio::test]
async fn what_cannot_be_an_answer_is_an_error_that_says_so() {
    let check = async |reply: Reply, kind: RegistryErrorKind, expected: &str| {
        let fake = Fake::always(reply).await;
        let client = patient([&fake.url]).retries(0).answer_bytes_max(10_000).build().expect("an address");
        let error = client.schema(SchemaId::Id(7)).await.expect_err("no schema");
        let expected = format!("looking up schema 7: {}/schemas/ids/7{expected}", fake.url);
        assert_eq!((error.kind(), error.to_string()), (kind, expected));
    };
    let garbage = RegistryErrorKind::Garbage;
    let said = ": the answer cannot be understood: expected value at line 1 column 1";
    check(Reply::Json(200, "<html>".into()), garbage, said).await;
    let said = ": the answer cannot be understood: missing field `schema` at line 1 column 2";
    check(Reply::Json(200, "{}".into()), garbage, said).await;
    let said = ": the answer cannot be understood: EOF while parsing a value at line 1 column 0";
    check(Reply::Json(204, String::new()), garbage, said).await;
    check(Reply::Endless, garbage, ": the answer has more than 10000 bytes").await;
    let said = ": the answer cannot be read as HTTP/1.1: invalid HTTP version parsed";
    check(Reply::Raw(b"SSH-2.0-x\r\n\r\n"), garbage, said).await;
    let redirect = b"HTTP/1.1 302 x\r\nlocation: https://a:hunter2@b/?c=hunter2\r\ncontent-length: 0\r\n\r\n";
    let said =
        ": the server redirects to https://b/ (302), and redirects are not followed: name the right address";
    check(Reply::Raw(redirect), RegistryErrorKind::Configuration, said).await;
    let nested = "[".repeat(9000);
    let said =
        ": the answer cannot be understood: invalid type: sequence, expected a string at line 1 column 1";
    // A struct may be an array in serde, whose first field is a text.
    check(Reply::Json(200, nested), garbage, said).await;
}

#[tokio::test]
async fn errors_have_the_registrys_code_and_words_without_control_characters() {
    let check = async |status: u16,
                       body: &str,
                       kind: RegistryErrorKind,
                       code: Option<u32>,
                       expected: &str| {
        let fake = Fake::always(Reply::Json(status, body.into())).await;
        let client = patient([&fake.url]).retries(0).build().expect("an address");
        let error = client.schema(SchemaId::Id(7)).await.expect_err("an error");
        assert_eq!((error.kind(), error.code(), error.status()), (kind, code, Some(status)), "{error}");
        let url = format!("{}/schemas/ids/7", fake.url);
        assert_eq!(error.to_string(), format!("looking up schema 7: {url} answers with status {expected}"));
    };
    let body = r#"{"error_code":40403,"message":"Schema 7\u001b[31m not\nfound"}"#;
    check(404, body, RegistryErrorKind::NotFound, Some(40403), "404, code 40403: Schema 7 [31m not found")
        .await;
    check(
        404,
        r#"{"error_code":0,"message":"no route"}"#,
        RegistryErrorKind::NotFound,
        None,
        "404: no route",
    )
    .await;
    check(422, r#"{"error_code":42201}"#, RegistryErrorKind::Invalid, Some(42201), "422, code 42201").await;
    check(409, r#"{"error_code":40901}"#, RegistryErrorKind::Incompatible, Some(40901), "409, code 40901")
        .await;
    check(409, r#"{"error_code":409}"#, RegistryErrorKind::Incompatible, Some(409), "409, code 409").await;
    check(409, r#"{"error_code":40405}"#, RegistryErrorKind::Invalid, Some(40405), "409, code 40405").await;
    let expected = "401; the registry wants other credentials";
    check(401, "<html>", RegistryErrorKind::Unauthorized, None, expected).await;
    check(403, "", RegistryErrorKind::Unauthorized, None, "403; the credentials do not have the right").await;
    check(503, "", RegistryErrorKind::Unavailable, None, "503").await;
    check(500, r#"{"error_code":50003}"#, RegistryErrorKind::Unavailable, Some(50003), "500, code 50003")
        .await;
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_is_final_is_not() {
    let check = async |first: Reply, is_again: bool| {
        let fake = Fake::start({
            let count = std::sync::atomic::AtomicU32::new(0);
            move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 | 1 => first.clone(),
                _ => ok(),
            }
        })
        .await;
        let answer = fake.client().schema(SchemaId::Id(7)).await;
        assert_eq!(
            (answer.is_ok(), fake.count()),
            if is_again { (true, 3) } else { (false, 1) },
            "{answer:?}"
        );
    };
    for status in [408, 425, 429, 500, 502, 503, 504] {
        check(Reply::Json(status, String::new()), true).await;
    }
    check(Reply::Gone, true).await;
    check(Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), true).await;
    for status in [400, 401, 403, 404, 409, 422] {
        check(Reply::Json(status, String::new()), false).await;
    }
    check(Reply::Json(200, "x".into()), false).await;
}

#[tokio::test]
async fn attempts_end() {
    let fake = Fake::always(Reply::Json(503, String::new())).await;
    let error = fake.client().schema(SchemaId::Id(7)).await.expect_err("it is down");
    assert!(error.is_retriable() && fake.count() == 4, "{error} after {} attempts", fake.count());

    let fake = Fake::always(Reply::Silence).await;
    let client = patient([&fake.url]).timeout(Duration::from_millis(50)).build().expect("an address");
    let error = client.schema(SchemaId::Id(7)).await.expect_err("it says nothing");
    let expected = format!("looking up schema 7: {}: there is no answer within 50ms", fake.url.clone() + "/");
    assert_eq!((error.is_retriable(), error.to_string()), (true, expected));
    let client =
        patient([&fake.url]).request_timeout(Duration::from_millis(20)).retries(1).build().expect("one");
    let error = client.schema(SchemaId::Id(7)).await.expect_err("it says nothing");
    assert!(error.to_string().ends_with("no complete answer came within 20ms"), "{error}");
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn another_address_is_asked_at_once_and_first_the_next_time() {
    let (down, fake) = (nowhere().await, Fake::always(ok()).await);
    let faulty = Fake::always(Reply::Json(502, String::new())).await;
    let client = SchemaRegistry::builder([&down, &faulty.url, &fake.url])
        // A wait would be longer than the test.
        .retry_wait(Duration::from_secs(3600), Duration::from_secs(3600))
        .build()
        .expect("addresses");
    for id in 1..=3 {
        client.schema(SchemaId::Id(id)).await.expect("a schema");
    }
    assert_eq!((faulty.count(), fake.count()), (1, 3));
}

#[tokio::test]
async fn deleting_is_not_repeated_after_a_lost_connection() {
    let fake = Fake::always(Reply::Gone).await;
    let error = fake.client().delete_subject("orders-value", Deletion::Soft).await.expect_err("it is gone");
    assert!(error.is_retriable() && fake.count() == 1, "{error}");
    // The registry says itself that it did nothing.
    let fake = Fake::always(Reply::Json(503, String::new())).await;
    fake.client().delete_subject("orders-value", Deletion::Soft).await.expect_err("it is down");
    assert_eq!(fake.count(), 4);
    // Nothing was sent where there is no connection.
    let fake = Fake::always(Reply::Json(200, "[1]".into())).await;
    let client = patient([&nowhere().await, &fake.url]).build().expect("addresses");
    let deleted =
        client.delete_subject("orders-value", Deletion::Soft).await.expect("the second address is up");
    assert_eq!((deleted, fake.count()), (vec![1], 1));
}

#[tokio::test]
async fn ids_that_are_none_are_refused() {
    let fake = Fake::always(Reply::Json(200, r#"{"id":-1}"#.into())).await;
    let error = fake.client().register("s", &Schema::avro("\"int\"")).await.expect_err("no id");
    let expected = "registering a schema under subject \"s\": the registry names schema -1, which is no id";
    assert_eq!((error.kind(), error.to_string().as_str()), (RegistryErrorKind::Garbage, expected));
}

#[tokio::test]
async fn references_that_turn_in_circles_or_have_no_end_do_not_hang() {
    // Each schema refers to the next version.
    let fake = Fake::start(|asked| {
        let version: i32 = asked.path.rsplit('/').next().and_then(|tail| tail.split('?').next()?.parse().ok()).expect("one");
        let next = version + 1;
        Reply::Json(
            200,
            format!(
                r#"{{"id":{version},"subject":"s","version":{version},"schema":"x","references":[{{"name":"n{next}","subject":"s","version":{next}}}]}}"#
            ),
        )
    })
    .await;
    let schema = Schema::avro("x").reference(milena_registry::Reference::new("n", "s", 1));
    let error = fake.client().resolve(&schema).await.expect_err("it has no end");
    assert_eq!(error.kind(), RegistryErrorKind::Unsupported);
    assert!(fake.count() <= 65, "{}", fake.count());

    let fake = Fake::always(Reply::Json(
        200,
        r#"{"id":1,"subject":"s","version":1,"schema":"x","references":[{"name":"n","subject":"s","version":1}]}"#.into(),
    ))
    .await;
    let resolved = fake.client().resolve(&schema).await.expect("one schema");
    assert_eq!((resolved.len(), fake.count()), (1, 1));
}

#[tokio::test]
async fn answers_about_something_else_are_refused() {
    use milena_registry::framing::Guid;
    let check = async |body: &str, expected: &str| {
        let fake = Fake::always(Reply::Json(200, body.into())).await;
        let client = fake.client();
        let by_id = client.schema(SchemaId::Id(7)).await.map(drop);
        let by_guid = client.schema(SchemaId::Guid(Guid::from_bytes([7; 16]))).await.map(drop);
        let by_version = client.version("s", 7).await.map(drop);
        let refused: Vec<_> = [by_id, by_guid, by_version].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].kind() == RegistryErrorKind::Garbage && refused[0].to_string().ends_with(expected),
            "{refused:?}"
        );
        assert_eq!(client.known(SchemaId::Id(7)).is_some(), !expected.ends_with("schema 8"));
    };
    let guid = |byte: u8| Guid::from_bytes([byte; 16]);
    let said = "looking up schema 7: the registry answers with schema 8";
    check(&format!(r#"{{"schema":"x","id":8,"guid":"{}","version":7}}"#, guid(7)), said).await;
    let said = format!("the registry answers with schema {}", guid(8));
    check(&format!(r#"{{"schema":"x","id":7,"guid":"{}","version":7}}"#, guid(8)), &said).await;
    let said = "looking up version 7 of subject \"s\": the registry answers with version 8";
    check(&format!(r#"{{"schema":"x","id":7,"guid":"{}","version":8}}"#, guid(7)), said).await;
}

#[tokio::test]
async fn references_are_bounded_in_bytes_and_in_time_and_count_once_by_name() {
    use milena_registry::Reference;
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let fake =
        Fake::start(move |_| Reply::Json(200, serde_json::json!({"id": 1, "schema": large}).to_string()))
            .await;
    let all = (1..=20)
        .fold(Schema::avro("x"), |schema, n| schema.reference(Reference::new(format!("n{n}"), "s", n)));
    let error = fake.client().resolve(&all).await.expect_err("20 MiB");
    assert_eq!(error.kind(), RegistryErrorKind::Unsupported, "{error}");
    assert!(fake.count() <= 17, "{}", fake.count());

    let fake = Fake::always(Reply::Silence).await;
    let client = patient([&fake.url]).timeout(Duration::from_millis(50)).build().expect("an address");
    assert!(client.resolve(&all).await.expect_err("it says nothing").is_retriable());

    // The first of two versions counts: both would define the same type.
    let fake = Fake::always(Reply::Json(200, r#"{"id":1,"schema":"x"}"#.into())).await;
    let twice =
        Schema::avro("x").reference(Reference::new("n", "s", 1)).reference(Reference::new("n", "s", 2));
    let resolved = fake.client().resolve(&twice).await.expect("one schema");
    assert_eq!((resolved.len(), resolved[0].0.version, fake.count()), (1, 1, 1));
}
