//! Every way in, by every provider of cryptography, on real Kafka and on the embedded broker.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use milena_broker::{Authority, Broker, Listener, OauthValidator, Tls};
use milena_interop::embedded::Embedded;
use milena_interop::real::{self, OLD};
use milena_interop::ways::{self, Certificates, Listeners};
use xtask::kafka::{Cluster, NEWEST, process};

const PROVIDERS: [&str; 3] = ["graviola", "ring", "aws-lc-rs"];

/// Logs in by all ways, in a process for each provider.
fn log_in(broker: &str, listeners: &Listeners, certificates: &Certificates) {
    let ways = ways::all(listeners, certificates);
    let text: String = ways.iter().map(|(_, properties)| format!("{properties}\n\n")).collect();
    let text = text.replace("\n\n\n", "\n\n");
    for provider in PROVIDERS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_way"));
        command.arg(provider);
        let output = process::run(command, Some(text.as_bytes()), Duration::from_secs(300)).unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.lines().count(), ways.len(), "{broker}, {provider}: {said}{errors}");
        for ((way, _), said) in ways.iter().zip(said.lines()) {
            assert_eq!(said, "ok", "{broker}, {provider}, {way}");
        }
    }
}

#[test]
fn every_way_in_works_on_the_embedded_broker() {
    let authority = Authority::new().unwrap();
    let identity = authority.server(["localhost", "127.0.0.1"]).unwrap();
    let own = authority.client("CN=alice").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let trust = write("authority.pem", &authority.certificate_pem());
    let certificate = write("own.pem", &own.certificate_pem());
    let key = write("own.key", &own.key_pem());
    let with_clients = Tls::of(&identity).require_clients(authority.certificate_pem()).unwrap();
    let builder = Broker::builder()
        .listener(Listener::sasl_plaintext())
        .listener(Listener::sasl_ssl(Tls::of(&identity)))
        .listener(Listener::ssl(with_clients))
        .user("alice", "pencil")
        .oauth(OauthValidator::unsecured());
    let cluster = Embedded::build(builder);
    let address = |name| cluster.bootstrap_of(name).to_owned();
    let listeners = Listeners {
        sasl_plaintext: address("SASL_PLAINTEXT"),
        sasl_ssl: address("SASL_SSL"),
        ssl: address("SSL"),
    };
    let certificates = Certificates {
        trust: format!("ssl.ca.location={trust}\n"),
        own: format!("ssl.certificate.location={certificate}\nssl.key.location={key}\n"),
    };
    log_in("embedded", &listeners, &certificates);
}

/// A broker of that release, with all ways in beside its usual one.
fn on_kafka(version: &str) {
    let store = |name: &str| {
        let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/client/tests/tls/stores");
        stores.join(name).display().to_string()
    };
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let [sasl, secure, certificate] = [free(), free(), free()];
    let jaas = "org.apache.kafka.common.security";
    let listeners =
        format!("SASL://127.0.0.1:{sasl},SECURE://127.0.0.1:{secure},SSL://127.0.0.1:{certificate}");
    let mut settings = vec![
        format!("listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},{listeners}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},{listeners}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SECURE:SASL_SSL,SSL:SSL"
            .into(),
        format!("ssl.keystore.location={}", store("java.p12")),
        "ssl.keystore.password=changeit".into(),
        "ssl.key.password=changeit".into(),
        format!("ssl.truststore.location={}", store("java-trust.p12")),
        "ssl.truststore.password=changeit".into(),
        "listener.name.ssl.ssl.client.auth=required".into(),
        "listener.name.secure.ssl.client.auth=none".into(),
    ];
    for (mechanism, module) in [
        ("plain", "plain.PlainLoginModule required user_alice=\"pencil\""),
        ("scram-sha-256", "scram.ScramLoginModule required"),
        ("scram-sha-512", "scram.ScramLoginModule required"),
        ("oauthbearer", "oauthbearer.OAuthBearerLoginModule required"),
    ] {
        settings.push(format!("listener.name.secure.{mechanism}.sasl.jaas.config={jaas}.{module};"));
    }
    let kafka = Cluster::start_with(1, version, &settings).unwrap();
    let address = |port: u16| format!("127.0.0.1:{port}");
    let listeners =
        Listeners { sasl_plaintext: address(sasl), sasl_ssl: address(secure), ssl: address(certificate) };
    let certificates = Certificates {
        trust: format!(
            "ssl.truststore.location={}\nssl.truststore.password=changeit\n",
            store("java-trust.jks")
        ),
        own: format!("ssl.keystore.location={}\nssl.keystore.password=changeit\n", store("java.p12")),
    };
    log_in(kafka.version(), &listeners, &certificates);
}

#[test]
fn every_way_in_works_on_the_newest_kafka_and_on_3_9() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    for version in [NEWEST, OLD] {
        on_kafka(version);
    }
}
