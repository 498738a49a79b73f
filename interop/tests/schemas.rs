//! Clients of registries, ours and confluent-kafka's for Python, with a real one, Apicurio's, and with ours: the same questions.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::Duration;

use milena::{Client, Record};
use milena_broker::Broker;
use milena_interop::{partner, real};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Pipeline, Record as Taken, Retry};
use milena_registry::framing::{Part, SchemaId, write_prefix};
use milena_registry::server::Server;
use milena_registry::{
    Avro, CompatibilityLevel, Decode, Deletion, DynamicMessage, DynamicProtobuf, Encode, Format, JsonSchema,
    RecordEncoder, Reference, ReflectMessage as _, RegistryError, RegistryErrorKind, RegistrySerde, Schema,
    SchemaRegistry, SchemaType, TypedTopic as _, Version,
};
use serde::{Deserialize, Serialize};
use xtask::apicurio::Apicurio;

const ORDER: &str =
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}"#;
const ORDER_2: &str = concat!(
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},"#,
    r#"{"name":"note","type":["null","string"],"default":null}]}"#
);
const ORDER_BROKEN: &str =
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"}]}"#;

/// The registry that all tests share: each has its own subjects.
pub(crate) fn registry() -> Option<&'static Apicurio> {
    static REGISTRY: OnceLock<Option<Apicurio>> = OnceLock::new();
    let started = REGISTRY.get_or_init(|| {
        if let Some(program) = xtask::kafka::missing_program() {
            real::skip(&format!("Apicurio Registry cannot be started: {program} is not installed"));
            return None;
        }
        Some(Apicurio::start().expect("Apicurio Registry starts"))
    });
    started.as_ref()
}

fn client() -> Option<SchemaRegistry> {
    registry().map(|registry| SchemaRegistry::new(registry.url()).expect("an address"))
}

/// Our registry on our broker.
pub(crate) struct Ours {
    _cluster: milena_broker::Cluster,
    server: Server,
}

impl Ours {
    pub(crate) async fn start() -> Self {
        let cluster = Broker::builder().start().await.expect("a cluster");
        let client = Client::connect(cluster.bootstrap()).await.expect("a client");
        let server = Server::builder(&client).port(0).start().await.expect("a registry");
        Self { _cluster: cluster, server }
    }

    pub(crate) fn client(&self) -> SchemaRegistry {
        SchemaRegistry::new(self.url()).expect("an address")
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

#[tokio::test]
async fn schemas_are_registered_found_and_deleted_at_apicurio() {
    let Some(client) = client() else { return };
    schemas_are_registered_found_and_deleted(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_registered_found_and_deleted_at_ours() {
    let ours = Ours::start().await;
    schemas_are_registered_found_and_deleted(&ours.client()).await;
}

async fn schemas_are_registered_found_and_deleted(client: &SchemaRegistry) {
    let subject = "lifecycle/of orders-value";
    let absent = client.latest(subject).await.expect_err("there is none");
    assert!(absent.is_not_found() && absent.code() == Some(40401), "{absent:?}");
    let absent = client.schema(SchemaId::Id(999_999)).await.expect_err("there is none");
    assert!(absent.is_not_found() && absent.code() == Some(40403), "{absent:?}");

    let (first, second) = (Schema::avro(ORDER), Schema::avro(ORDER_2));
    let registered = client.register(subject, &first).await.expect("registered");
    let again = client.register(subject, &first).await.expect("it is there");
    assert_eq!(registered.id, again.id);
    let newer = client.register(subject, &second).await.expect("registered");
    assert_ne!(registered.id, newer.id);

    let found = client.schema(SchemaId::Id(registered.id)).await.expect("a schema");
    assert_eq!((found.kind(), found.text()), (&SchemaType::Avro, ORDER));
    let latest = client.latest(subject).await.expect("a version");
    assert_eq!((latest.id, latest.version, latest.subject.as_str()), (newer.id, 2, subject));
    assert_eq!(client.version(subject, 1).await.expect("a version").id, registered.id);
    assert_eq!(client.lookup(subject, &first).await.expect("a version").version, 1);
    let unknown = client.lookup(subject, &Schema::avro(ORDER_BROKEN)).await.expect_err("it is not there");
    assert!(unknown.is_not_found(), "{unknown:?}");
    assert_eq!(client.versions(subject).await.expect("versions"), [1, 2]);
    let of_id = client.versions_of_id(newer.id).await.expect("versions");
    // Other tests may have registered the same schema.
    assert!(of_id.contains(&(subject.to_owned(), 2)), "{of_id:?}");
    assert!(client.subjects("lifecycle", false).await.expect("subjects").contains(&subject.to_owned()));
    let types = client.schema_types().await.expect("types");
    assert!(types.contains(&"AVRO".to_owned()), "{types:?}");
    assert!(!client.contexts().await.expect("contexts").is_empty());

    let invalid = client.register(subject, &Schema::avro("{\"type\":")).await.expect_err("no schema");
    assert_eq!((invalid.kind(), invalid.code()), (RegistryErrorKind::Invalid, Some(42201)), "{invalid:?}");

    assert_eq!(client.delete_version(subject, 1, Deletion::Soft).await.expect("deleted"), 1);
    let early =
        client.delete_subject(subject, Deletion::Permanent).await.expect_err("it is not deleted softly");
    assert_eq!(early.code(), Some(40405), "{early:?}");
    client.delete_subject(subject, Deletion::Soft).await.expect("deleted");
    client.delete_subject(subject, Deletion::Permanent).await.expect("deleted");
    assert!(client.latest(subject).await.expect_err("it is gone").is_not_found());
    client.schema(SchemaId::Id(registered.id)).await.expect("what is known stays known");
}

#[tokio::test]
async fn changes_that_break_readers_are_refused_by_apicurio() {
    let Some(client) = client() else { return };
    changes_that_break_readers_are_refused(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_break_readers_are_refused_by_ours() {
    let ours = Ours::start().await;
    changes_that_break_readers_are_refused(&ours.client()).await;
}

async fn changes_that_break_readers_are_refused(client: &SchemaRegistry) {
    let subject = "compatibility-value";
    client.register(subject, &Schema::avro(ORDER)).await.expect("registered");
    client.set_compatibility(Some(subject), CompatibilityLevel::Backward).await.expect("set");
    assert_eq!(client.compatibility(Some(subject)).await.expect("a level"), CompatibilityLevel::Backward);
    let check = async |schema: &str| {
        let schema = Schema::avro(schema);
        let latest =
            client.check_compatibility(subject, Some(Version::Latest), &schema).await.expect("checked");
        let all = client.check_compatibility(subject, None, &schema).await.expect("checked");
        assert_eq!(latest.is_compatible, all.is_compatible);
        all
    };
    assert!(check(ORDER_2).await.is_compatible);
    let broken = check(ORDER_BROKEN).await;
    assert!(!broken.is_compatible && !broken.messages.is_empty(), "{broken:?}");
    let refused = client.register(subject, &Schema::avro(ORDER_BROKEN)).await.expect_err("refused");
    assert!(refused.is_incompatible(), "{refused:?}");
    client.reset_compatibility(subject).await.expect("reset");
}

#[tokio::test]
async fn references_are_resolved_at_apicurio() {
    let Some(client) = client() else { return };
    references_are_resolved(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_resolved_at_ours() {
    let ours = Ours::start().await;
    references_are_resolved(&ours.client()).await;
}

async fn references_are_resolved(client: &SchemaRegistry) {
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","fields":[{"name":"name","type":"string"}]}"#;
    client.register("references-customer", &Schema::avro(customer)).await.expect("registered");
    let order = r#"{"type":"record","name":"Sale","namespace":"shop","fields":[{"name":"to","type":"shop.Customer"}]}"#;
    let order = Schema::avro(order).reference(Reference::new("shop.Customer", "references-customer", 1));
    let registered = client.register("references-order", &order).await.expect("registered");
    let found = client.schema(SchemaId::Id(registered.id)).await.expect("a schema");
    assert_eq!(found.references(), order.references());
    let resolved = client.resolve(&found).await.expect("resolved");
    assert_eq!(resolved.len(), 1);
    assert_eq!((resolved[0].0.name.as_str(), resolved[0].1.text()), ("shop.Customer", customer));
    assert_eq!(client.referenced_by("references-customer", 1).await.expect("ids").len(), 1);
}

#[tokio::test]
async fn routes_that_apicurio_does_not_have_say_so() {
    let Some(client) = client() else { return };
    let error = client.mode(None).await.expect_err("it has no modes");
    assert!(error.is_not_found() && error.code().is_none(), "{error:?}");
    let none = client.associated_subject("-", "orders", Part::Value).await;
    assert_eq!(none.expect("it has no associations"), None);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Order {
    id: i64,
    item: String,
}

/// Writes a value with one serde, and reads it with another that knows nothing but the registry.
async fn round<F, T: PartialEq + Debug>(url: &str, format: F, schema: Schema, topic: &str, value: &T)
where
    F: Format + Clone + Encode<T> + for<'de> Decode<'de, T>,
{
    let client = SchemaRegistry::new(url).expect("an address");
    let writing = RegistrySerde::new(&client, format.clone()).schema(schema);
    let refused = RecordEncoder::<T>::writer(&writing, topic, Part::Value)
        .await
        .map(drop)
        .expect_err("it is not there");
    assert!(refused.registry().is_some_and(RegistryError::is_not_found), "{refused}");
    let writing = writing.auto_register(true);
    let writer = RecordEncoder::<T>::writer(&writing, topic, Part::Value).await.expect("it is registered");
    let mut payload = Vec::new();
    writing.encode(&writer, value, &mut payload).expect("it fits");

    let other = SchemaRegistry::new(url).expect("an address");
    let reading = RegistrySerde::new(&other, format.clone());
    assert_eq!(reading.read::<T>(Part::Value, &payload, &[]).await.expect("it was written"), *value);
    // What is registered is found now, also without registering.
    let latest = RegistrySerde::new(&other, format).use_latest_version(true);
    let writer = RecordEncoder::<T>::writer(&latest, topic, Part::Value).await.expect("it is there");
    let mut again = Vec::new();
    latest.encode(&writer, value, &mut again).expect("it fits");
    assert_eq!(again, payload);
}

#[tokio::test]
async fn values_of_all_formats_go_through_apicurio() {
    let Some(registry) = registry() else { return };
    values_of_all_formats_go_through(&registry.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_all_formats_go_through_ours() {
    let ours = Ours::start().await;
    values_of_all_formats_go_through(&ours.server.url()).await;
}

async fn values_of_all_formats_go_through(url: &str) {
    let client = SchemaRegistry::new(url).expect("an address");
    let order = Order { id: 7, item: "ink".into() };
    let avro = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"}]}"#;
    round(url, Avro, Schema::avro(avro), "typed-avro", &order).await;
    let json = r#"{"title":"Order","type":"object","properties":{"id":{"type":"integer"},"item":{"type":"string"}}}"#;
    round(url, JsonSchema::new(), Schema::json(json), "typed-json", &order).await;

    let money = r#"syntax = "proto3"; package common; message Money { int64 cents = 1; }"#;
    client.register("common-money", &Schema::protobuf(money)).await.expect("registered");
    let shop = r#"syntax = "proto3"; package shop; import "common/money.proto";
        message First { int64 id = 1; } message Order { int64 id = 1; common.Money price = 2; }"#;
    let shop = Schema::protobuf(shop).reference(Reference::new("common/money.proto", "common-money", 1));
    client.register("typed-any-value", &shop).await.expect("registered");
    let serde = RegistrySerde::new(&client, DynamicProtobuf::message("shop.Order")).use_latest_version(true);
    let writer =
        RecordEncoder::<DynamicMessage>::writer(&serde, "typed-any", Part::Value).await.expect("a writer");
    // An order with the id 7 and a price of 150 cents.
    let latest = client.latest("typed-any-value").await.expect("it is there");
    let mut payload = Vec::new();
    write_prefix(latest.id, Some(&[1]), &mut payload);
    payload.extend_from_slice(b"\x08\x07\x12\x03\x08\x96\x01");
    let order: DynamicMessage = serde.read(Part::Value, &payload, &[]).await.expect("an order");
    let mut again = Vec::new();
    serde.encode(&writer, &order, &mut again).expect("it fits");
    assert_eq!(again, payload);
    assert_eq!(order.descriptor().full_name(), "shop.Order");
}

#[tokio::test]
async fn a_pipeline_puts_records_aside_that_cannot_be_decoded() {
    let Some(registry) = client() else { return };
    let cluster = Broker::builder().start().await.expect("a broker");
    cluster.create_topic("orders", 1).expect("a topic");
    let client = Client::connect(cluster.bootstrap()).await.expect("a client");
    let avro = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"}]}"#;
    let serde = RegistrySerde::new(&registry, Avro).schema(Schema::avro(avro)).auto_register(true);
    let producer = client.producer().build().await.expect("a producer");
    let orders = producer.topic("orders").await.expect("a topic").typed::<Order, _>(serde.clone());
    let order = |id| Order { id, item: "ink".into() };
    orders.send(Record::new(), &order(1)).await.expect("written");
    producer.send(Record::to("orders").value("no schema")).await.expect("written");
    producer.send(Record::to("orders").value(b"\0\x7f\xff\xff\xffx")).await.expect("written");
    orders.send(Record::new(), &order(2)).await.expect("written");

    let (charged, mut charges) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |record: Taken| {
        let (serde, charged) = (serde.clone(), charged.clone());
        async move {
            let headers: Vec<_> = record.headers().collect();
            let value = record.value().unwrap_or_default();
            // While the registry is down, a record that needs it is tried again; one that cannot be read is put aside.
            let order: Order = serde.read(Part::Value, value, &headers).await.map_err(|error| match error
                .is_retriable()
            {
                true => Failure::retriable(error),
                false => Failure::poison(error),
            })?;
            charged.send(order.id).map_err(Failure::fatal)
        }
    };
    let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .order(milena_pipeline::Order::Partition)
        .retry(Retry::fixed(Duration::from_millis(1)).attempts(2))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
        .run(handler, async { while charges.recv().await != Some(2) {} })
        .await
        .expect("the pipeline goes on");
    assert_eq!((report.finished, report.dead, report.retries), (4, 2, 0), "{report:?}");
    let mut letters =
        client.consumer_direct().topic("orders.dlq").until_end().build().await.expect("a consumer");
    let mut values = Vec::new();
    while let Some(batch) = letters.next().await.expect("a batch") {
        values.extend(batch.iter().map(|letter| letter.value().expect("a value").to_vec()));
    }
    assert_eq!(values, [&b"no schema"[..], b"\0\x7f\xff\xff\xffx"]);
}

/// What confluent-kafka's client for Python is answered, by the names of the questions.
fn asked_by_python(url: &str, questions: &str) -> BTreeMap<String, String> {
    let mut python = partner::python("registry_client").expect("its packages");
    let output = python.args([url, questions]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let answer =
        |line: &str| line.split_once('\t').map(|(name, answer)| (name.to_owned(), answer.to_owned()));
    lines.lines().filter_map(answer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn confluents_client_is_answered_by_ours_as_by_apicurio() {
    if !partner::are_here(&["python3"]) {
        return;
    }
    let ours = Ours::start().await;
    let url = ours.server.url();
    let own = tokio::task::spawn_blocking(move || asked_by_python(&url, "common")).await.expect("ends");
    for (question, answer) in [
        ("latest of none", "refused 404 40401"),
        ("id of none", "refused 404 40403"),
        ("register", "id1"),
        ("register again", "id1"),
        ("register second", "id2"),
        ("invalid", "refused 422 42201"),
        ("third", "refused 404 40402"),
        ("register incompatible", "refused 409 40901"),
        ("subjects of id", "['python-other', 'python/of orders-value']"),
        ("delete for good too early", "refused 404 40405"),
    ] {
        assert_eq!(own.get(question).map(String::as_str), Some(answer), "{question}");
    }
    let Some(apicurio) = registry() else { return };
    let url = apicurio.url();
    let theirs = tokio::task::spawn_blocking(move || asked_by_python(&url, "common")).await.expect("ends");
    let differences: Vec<_> = own
        .iter()
        .filter(|(question, answer)| {
            theirs.get(*question) != Some(answer) && !DIFFERENT.contains(&question.as_str())
        })
        .map(|(question, answer)| (question, answer, theirs.get(question)))
        .collect();
    assert!(differences.is_empty() && own.len() == theirs.len(), "{differences:#?}");
}

/// Questions that Apicurio answers in another way than Confluent's registry: with status 409 for 40405, with 409 for 40901, and it has
/// no route for the subjects of an id.
const DIFFERENT: &[&str] = &["delete for good too early", "register incompatible", "subjects of id"];

#[tokio::test(flavor = "multi_thread")]
async fn confluents_client_finds_modes_contexts_guids_and_associations_at_ours() {
    if !partner::are_here(&["python3"]) {
        return;
    }
    let ours = Ours::start().await;
    let url = ours.server.url();
    let said = tokio::task::spawn_blocking(move || asked_by_python(&url, "confluent")).await.expect("ends");
    for (question, answer) in [
        ("guid", "095d71cf-1255-6b9d-5e33-0ad575b3df5d"),
        ("by guid", "\"string\""),
        ("global mode", "READWRITE"),
        ("own mode", "refused 404 40409"),
        ("set mode", "READONLY"),
        ("register read only", "refused 422 42205"),
        ("delete mode", "READONLY"),
        ("import too late", "refused 422 42205"),
        ("level by default", "BACKWARD"),
        ("set config", "major"),
        ("delete config", "major"),
        ("config of none", "refused 404 40408"),
        ("register metadata", "2"),
        ("latest with metadata", "2"),
        ("latest with other", "refused 404 40403"),
        ("register in context", "1"),
        ("contexts", "['.', '.eu']"),
        ("subjects of context", "[':.eu:more-value']"),
        ("versions of id", "[('more-value', 1)]"),
        ("with deleted", "[1, 2]"),
        ("associate", "['more-value']"),
        ("associations", "['more-value']"),
        ("associations after", "[]"),
    ] {
        assert_eq!(said.get(question).map(String::as_str), Some(answer), "{question}: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn confluents_serializer_of_protobuf_registers_descriptors_at_ours() {
    if !partner::are_here(&["python3"]) {
        return;
    }
    let ours = Ours::start().await;
    let url = ours.server.url();
    let said = tokio::task::spawn_blocking(move || asked_by_python(&url, "protobuf")).await.expect("ends");
    let text = "syntax = \"proto3\"; package shop; import \"money.proto\"; message Order { .common.Money price = 1; }";
    for (question, answer) in [
        ("written", "000a020807"),
        ("read", "7"),
        ("subjects", "['money.proto', 'pb-value']"),
        ("text", text),
        ("serialized", "shop Order money.proto"),
    ] {
        assert_eq!(said.get(question).map(String::as_str), Some(answer), "{question}: {said:#?}");
    }
}
