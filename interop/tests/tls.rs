//! TLS with real Kafka: stores that Java reads, both versions, and what the client says when it is not let in.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use milena::{Client, Error, ErrorKind, NewTopic, Record};
use milena_interop::real::{self, OLD};
use tokio::time::timeout;
use xtask::kafka::{Cluster, NEWEST};

/// Each wait ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stores that keytool has made, for `localhost` and 127.0.0.1.
fn store(name: &str) -> String {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/client/tests/tls/stores");
    stores.join(name).display().to_string()
}

/// Properties of a client that trusts the broker and shows no certificate.
fn properties(port: &str, enabled: &str) -> Vec<(&'static str, String)> {
    vec![
        ("bootstrap.servers", format!("127.0.0.1:{port}")),
        ("security.protocol", "SSL".into()),
        ("ssl.truststore.location", store("java-trust.jks")),
        ("ssl.truststore.password", "changeit".into()),
        ("ssl.enabled.protocols", enabled.into()),
    ]
}

async fn connect(properties: Vec<(&'static str, String)>) -> Result<Client, Error> {
    let builder = Client::from_properties(properties).unwrap();
    timeout(PATIENCE, builder.connect()).await.expect("in time")
}

async fn works(client: &Client, name: &str) {
    let topic = NewTopic::new(name).partitions(3);
    client.admin().create_topics([topic]).await.unwrap().remove(0).1.unwrap();
    let mut producer = client.transactional(name).build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    for index in 0..300_u16 {
        let value = vec![index as u8; usize::from(index) * 10];
        transaction.post(Record::to(name).value(value)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let mut consumer = client.consumer(name).subscribe([name]).build().await.unwrap();
    let mut seen = 0;
    while seen < 300 {
        seen += consumer.next().await.unwrap().expect("subscribed").iter().count();
    }
    consumer.close().await.unwrap();
}

async fn meets(version: &str) {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port().to_string();
    let settings = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},SSL://127.0.0.1:{port}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SSL://127.0.0.1:{port}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL".into(),
        format!("ssl.keystore.location={}", store("java.p12")),
        "ssl.keystore.password=changeit".into(),
        "ssl.key.password=changeit".into(),
        format!("ssl.truststore.location={}", store("java-trust.p12")),
        "ssl.truststore.password=changeit".into(),
        "ssl.client.auth=required".into(),
    ];
    let kafka = Cluster::start_with(1, version, &settings).unwrap();
    let bootstrap = kafka.bootstrap();
    let plain = bootstrap.rsplit(':').next().unwrap();
    for enabled in ["TLSv1.2", "TLSv1.3"] {
        let mut with_certificate = properties(&port, enabled);
        with_certificate.push(("ssl.keystore.location", store("java.p12")));
        with_certificate.push(("ssl.keystore.password", "changeit".into()));
        let client = connect(with_certificate).await.unwrap();
        timeout(PATIENCE, works(&client, enabled)).await.expect("in time");

        for (properties, says, kind) in [
            (
                properties(&port, enabled),
                "requires a client certificate, and the client has none",
                ErrorKind::Authentication,
            ),
            (properties(plain, enabled), "the broker speaks plain text on this port", ErrorKind::Protocol),
            (
                vec![("bootstrap.servers", format!("127.0.0.1:{port}"))],
                "the peer speaks TLS on this port",
                ErrorKind::Protocol,
            ),
        ] {
            let error = connect(properties).await.expect_err("refused");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!((error.kind(), error.is_retriable()), (kind, false), "{error}");
        }
    }
}

#[tokio::test]
async fn kafkas_tls_is_used_and_its_refusals_are_understood() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    for version in [NEWEST, OLD] {
        meets(version).await;
    }
}
