//! Each question as Confluent's API has it.

use milena_registry::framing::{Guid, Part, SchemaId};
use milena_registry::{
    CompatibilityLevel, Deletion, Mode, NewAssociation, Reference, Schema, SchemaRegistry, Version,
};

use crate::fake::{Fake, Reply};

/// Asks once, and compares what the registry got.
async fn check(answer: &str, expected: &str, ask: impl AsyncFnOnce(SchemaRegistry)) {
    let fake = Fake::always(Reply::Json(200, answer.into())).await;
    ask(fake.client()).await;
    let asked: Vec<_> = fake
        .asked()
        .into_iter()
        .map(|asked| format!("{} {} {}", asked.method, asked.path, asked.body).trim_end().to_owned())
        .collect();
    assert_eq!(asked, [expected]);
}

#[tokio::test]
async fn schemas_are_looked_up_by_id_guid_subject_and_version() {
    let guid: Guid = "89791762-2336-4186-9674-299b90a802e2".parse().expect("a GUID");
    let answer = r#"{"schema":"syntax","schemaType":"PROTOBUF","references":[{"name":"a.proto","subject":"a","version":2}]}"#;
    check(answer, "GET /schemas/ids/7", async |client| {
        let schema = client.schema(SchemaId::Id(7)).await.expect("a schema");
        let expected = Schema::protobuf("syntax").reference(Reference::new("a.proto", "a", 2));
        assert_eq!(schema, expected);
    })
    .await;
    check(answer, "GET /schemas/ids/7?subject=%3A.ctx%3Aa%2Fb", async |client| {
        client.schema_in_context_of(SchemaId::Id(7), ":.ctx:a/b").await.expect("a schema");
    })
    .await;
    check(answer, &format!("GET /schemas/guids/{guid}"), async |client| {
        client.schema(SchemaId::Guid(guid)).await.expect("a schema");
    })
    .await;
    let answer = format!(
        r#"{{"id":7,"guid":"{guid}","subject":"s","version":3,"schema":"\"int\"","unknown":[{{}}]}}"#
    );
    check(&answer, "GET /subjects/s/versions/latest", async |client| {
        let latest = client.version("s", Version::Latest).await.expect("a version");
        assert_eq!((latest.id, latest.guid, latest.version), (7, Some(guid), 3));
        assert_eq!((latest.subject.as_str(), latest.schema.clone()), ("s", Schema::avro("\"int\"")));
    })
    .await;
    check(&answer, "GET /subjects/s/versions/3?deleted=true", async |client| {
        client.version("s", 3).await.expect("a version");
    })
    .await;
    let body = r#"{"schema":"{}","schemaType":"JSON","references":[{"name":"a","subject":"b","version":1}],"ruleSet":{"domainRules":[]}}"#;
    let schema = Schema::json("{}")
        .reference(Reference::new("a", "b", 1))
        .rules(&serde_json::json!({"domainRules": []}));
    check(&answer, &format!("POST /subjects/s {body}"), async |client| {
        client.lookup("s", &schema).await.expect("a version");
    })
    .await;
    check(r#"{"id":7}"#, r#"POST /subjects/s/versions {"schema":"\"int\""}"#, async |client| {
        let registered = client.register("s", &Schema::avro("\"int\"")).await.expect("registered");
        assert_eq!((registered.id, registered.subject.as_str()), (7, "s"));
        assert_eq!(registered.schema, Schema::avro("\"int\""));
    })
    .await;
}

#[tokio::test]
async fn lists_levels_and_modes() {
    check(r#"["AVRO"]"#, "GET /schemas/types", async |client| {
        assert_eq!(client.schema_types().await.expect("types"), ["AVRO"]);
    })
    .await;
    check(r#"["a-value","b"]"#, "GET /subjects?deleted=true&subjectPrefix=a-", async |client| {
        assert_eq!(client.subjects("a-", true).await.expect("subjects"), ["a-value"]);
    })
    .await;
    check("[1,2]", "GET /subjects/s/versions", async |client| {
        assert_eq!(client.versions("s").await.expect("versions"), [1, 2]);
    })
    .await;
    check(r#"[{"subject":"s","version":1}]"#, "GET /schemas/ids/7/versions", async |client| {
        assert_eq!(client.versions_of_id(7).await.expect("versions"), [("s".to_owned(), 1)]);
    })
    .await;
    check("[7]", "GET /subjects/s/versions/1/referencedby", async |client| {
        assert_eq!(client.referenced_by("s", 1).await.expect("ids"), [7]);
    })
    .await;
    let answer = r#"{"is_compatible":false,"messages":["a"]}"#;
    let path = r#"POST /compatibility/subjects/s/versions/latest?verbose=true {"schema":"x"}"#;
    check(answer, path, async |client| {
        let check = client
            .check_compatibility("s", Some(Version::Latest), &Schema::avro("x"))
            .await
            .expect("checked");
        assert_eq!((check.is_compatible, check.messages), (false, vec!["a".to_owned()]));
    })
    .await;
    let path = r#"POST /compatibility/subjects/s/versions?verbose=true {"schema":"x"}"#;
    check(r#"{"is_compatible":true,"reason":null}"#, path, async |client| {
        let check = client.check_compatibility("s", None, &Schema::avro("x")).await.expect("checked");
        assert!(check.is_compatible && check.messages.is_empty());
    })
    .await;
    check(r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#, "GET /config", async |client| {
        assert_eq!(client.compatibility(None).await.expect("a level"), CompatibilityLevel::FullTransitive);
    })
    .await;
    check(r#"{"compatibilityLevel":"NONE"}"#, "GET /config/s?defaultToGlobal=true", async |client| {
        assert_eq!(client.compatibility(Some("s")).await.expect("a level"), CompatibilityLevel::None);
    })
    .await;
    check(r#"{"compatibility":"FORWARD"}"#, r#"PUT /config/s {"compatibility":"FORWARD"}"#, async |client| {
        client.set_compatibility(Some("s"), CompatibilityLevel::Forward).await.expect("set");
    })
    .await;
    check("{}", "DELETE /config/s", async |client| client.reset_compatibility("s").await.expect("reset"))
        .await;
    check(r#"{"mode":"READONLY"}"#, "GET /mode", async |client| {
        assert_eq!(client.mode(None).await.expect("a mode"), Mode::Readonly);
    })
    .await;
    check(r#"{"mode":"IMPORT"}"#, r#"PUT /mode/s?force=true {"mode":"IMPORT"}"#, async |client| {
        client.set_mode(Some("s"), Mode::Import, true).await.expect("set");
    })
    .await;
    check("{}", "DELETE /mode/s", async |client| client.reset_mode("s").await.expect("reset")).await;
    check(r#"["."]"#, "GET /contexts", async |client| {
        assert_eq!(client.contexts().await.expect("contexts"), ["."]);
    })
    .await;
}

#[tokio::test]
async fn deleting_and_associations() {
    check("[1,2]", "DELETE /subjects/s", async |client| {
        assert_eq!(client.delete_subject("s", Deletion::Soft).await.expect("deleted"), [1, 2]);
    })
    .await;
    check("2", "DELETE /subjects/s/versions/2?permanent=true", async |client| {
        assert_eq!(client.delete_version("s", 2, Deletion::Permanent).await.expect("deleted"), 2);
    })
    .await;
    let path = "GET /associations/resources/-/orders?resourceType=topic&associationType=value";
    check(r#"[{"subject":"billing.Order","associationType":"value"}]"#, path, async |client| {
        let found = client.associated_subject("-", "orders", Part::Value).await.expect("asked");
        assert_eq!(found.as_deref(), Some("billing.Order"));
        client.associated_subject("-", "orders", Part::Value).await.expect("it is remembered");
    })
    .await;
    check("[]", path, async |client| {
        assert_eq!(client.associated_subject("-", "orders", Part::Value).await.expect("asked"), None);
    })
    .await;
    check(r#"[{"subject":"a"},{"subject":"b"}]"#, path, async |client| {
        let error = client.associated_subject("-", "orders", Part::Value).await.expect_err("two subjects");
        assert_eq!(error.to_string(), "the value of topic \"orders\" is associated with 2 subjects");
    })
    .await;
    let body = concat!(
        r#"{"resourceName":"orders","resourceNamespace":"lkc-1","resourceId":"id-1","#,
        r#""associations":[{"subject":"s","associationType":"value"}],"resourceType":"topic"}"#
    );
    check("{}", &format!("POST /associations {body}"), async |client| {
        let association = NewAssociation::of_topic("lkc-1", "orders", "id-1").subject(Part::Value, "s");
        client.associate(&association).await.expect("associated");
    })
    .await;
    let path =
        "DELETE /associations/resources/id-1?resourceType=topic&associationType=key&cascadeLifecycle=true";
    check("", path, async |client| client.disassociate("id-1", Part::Key, true).await.expect("done")).await;
}

#[tokio::test]
async fn schemas_are_normalized_if_that_is_asked_for() {
    let fake =
        Fake::always(Reply::Json(200, r#"{"id":7,"version":1,"schema":"x","is_compatible":true}"#.into()))
            .await;
    let client = SchemaRegistry::builder([fake.url.clone()]).normalize(true).build().expect("an address");
    let schema = Schema::avro("x");
    client.register("s", &schema).await.expect("registered");
    client.lookup("s", &schema).await.expect("found");
    client.check_compatibility("s", None, &schema).await.expect("checked");
    let asked: Vec<_> = fake.asked().into_iter().map(|asked| asked.path).collect();
    let expected = [
        "/subjects/s/versions?normalize=true",
        "/subjects/s?normalize=true",
        "/compatibility/subjects/s/versions?verbose=true&normalize=true",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn rules_that_encrypt_are_seen_however_a_registry_spells_them() {
    for rules in [
        r#""ruleSet":{"domainRules":[{"name":"r","type":"ENCRYPT"}]}"#,
        r#""ruleSet":{"migrationRules":null,"encodingRules":[{"name":"r","type":"ENCRYPT_PAYLOAD","disabled":false}]}"#,
        r#""rule_set":{"domainRules":[{"name":"r","type":"encrypt"}]}"#,
        r#""ruleset":{"domain_rules":[{"name":"r","type":"ENCRYPT"}]}"#,
    ] {
        check(&format!(r#"{{"schema":"x",{rules}}}"#), "GET /schemas/ids/7", async |client| {
            let schema = client.schema(SchemaId::Id(7)).await.expect("a schema");
            assert_eq!(schema.encryption_rules(), ["r"], "{rules}");
        })
        .await;
        let answer = format!(r#"{{"id":7,"version":1,"schema":"x",{rules}}}"#);
        check(&answer, "GET /subjects/s/versions/latest", async |client| {
            let latest = client.latest("s").await.expect("a version");
            assert_eq!(latest.schema.encryption_rules(), ["r"], "{rules}");
        })
        .await;
    }
    // Rules that cannot be read are as good as encryption.
    for rules in [
        r#""ruleSet":"x""#,
        r#""ruleSet":{"domainRules":{"name":"r"}}"#,
        r#""ruleSet":{"domainRules":["r"]}"#,
    ] {
        check(&format!(r#"{{"schema":"x",{rules}}}"#), "GET /schemas/ids/7", async |client| {
            let schema = client.schema(SchemaId::Id(7)).await.expect("a schema");
            assert_eq!(schema.encryption_rules(), ["ruleSet"], "{rules}");
        })
        .await;
    }
}
