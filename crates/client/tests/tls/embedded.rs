//! The embedded broker's own TLS: everything that a program does, set up from properties.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena::metrics::Registry;
use milena::metrics::families::CERTIFICATE_EXPIRY;
use milena::{Client, ErrorKind, NewTopic, Position, Record};
use milena_broker::{Authority, Broker, Cluster, Identity, Listener, Tls};

use crate::certificates::Dir;

fn identity(made: Result<Identity, impl std::fmt::Debug>) -> Identity {
    made.expect("made")
}

/// Writes the files that properties name.
fn files(dir: &Dir, authority: &Authority, own: &Identity) {
    dir.write("ca.pem", authority.certificate_pem());
    dir.write("own.pem", own.certificate_pem());
    dir.write("own.key", own.key_pem());
}

fn properties(cluster: &Cluster, dir: &Dir, enabled: &str) -> Vec<(&'static str, String)> {
    let path = |name| dir.path().join(name).display().to_string();
    vec![
        ("bootstrap.servers", format!("SSL://{}", cluster.bootstrap().replace(',', ",ssl://"))),
        ("security.protocol", "SSL".into()),
        ("ssl.truststore.location", path("ca.pem")),
        ("ssl.truststore.type", "PEM".into()),
        ("ssl.certificate.location", path("own.pem")),
        ("ssl.key.location", path("own.key")),
        ("ssl.enabled.protocols", enabled.into()),
    ]
}

#[tokio::test]
async fn produce_group_transaction_and_admin_work_with_client_certificates_and_both_versions() {
    let authority = Authority::new().expect("made");
    let own = identity(authority.client("CN=billing"));
    let dir = Dir::new("embedded");
    files(&dir, &authority, &own);
    for enabled in ["TLSv1.2", "TLSv1.3"] {
        let tls = Tls::of(&identity(authority.server(["127.0.0.1"])));
        let tls = tls.require_clients(authority.certificate_pem()).expect("read");
        let cluster = Broker::builder().nodes(3).listener(Listener::ssl(tls)).start().await.expect("started");
        let builder = Client::from_properties(properties(&cluster, &dir, enabled)).expect("taken");
        let client = builder.connect().await.expect("connected");
        let topic = NewTopic::new("t").partitions(6);
        client.admin().create_topics([topic]).await.expect("asked").remove(0).1.expect("created");

        let mut producer = client.transactional("id").build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        for index in 0..60 {
            let value = format!("{index}").into_bytes();
            transaction.post(Record::to("t").value(value)).await.expect("taken");
        }
        transaction.commit().await.expect("committed");

        let mut consumer = client.consumer("g").subscribe(["t"]).build().await.expect("built");
        let mut seen = 0;
        while seen < 60 {
            seen += consumer.next().await.expect("read").expect("a batch").iter().count();
        }
        consumer.close().await.expect("closed");
        assert_eq!(client.tls().expect("TLS").brokers.len(), 3, "each broker has shown its certificate");

        let mut direct =
            client.consumer_direct().assign([("t", 0)], Position::Earliest).build().await.expect("built");
        direct.next().await.expect("read");
        cluster.shutdown().await.expect("ends");
    }
}

#[tokio::test]
async fn a_broker_that_requires_certificates_refuses_a_client_without_one_and_it_knows_why() {
    let authority = Authority::new().expect("made");
    for (enabled, alert) in
        [("TLSv1.3", "certificate_required"), ("TLSv1.2", "requires a client certificate")]
    {
        let tls = Tls::of(&identity(authority.server(["127.0.0.1"])));
        let tls = tls.require_clients(authority.certificate_pem()).expect("read");
        let cluster = Broker::builder().listener(Listener::ssl(tls)).start().await.expect("started");
        let dir = Dir::new(enabled);
        files(&dir, &authority, &identity(authority.client("CN=a")));
        let mut properties = properties(&cluster, &dir, enabled);
        properties.retain(|(name, _)| !name.contains("key") && !name.contains("certificate."));
        let builder = Client::from_properties(properties).expect("taken");
        let error = builder.connect().await.expect_err("refused");
        assert!(error.to_string().contains(alert), "{error}");
        assert!(!error.is_retriable(), "{error}");
        assert!(
            matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Protocol),
            "{:?}",
            error.kind()
        );
    }
}

#[tokio::test]
async fn sasl_over_tls_is_set_up_from_properties_and_plain_needs_no_permission_there() {
    let authority = Authority::new().expect("made");
    let dir = Dir::new("sasl-ssl");
    dir.write("ca.pem", authority.certificate_pem());
    let tls = Tls::of(&identity(authority.server(["127.0.0.1"])));
    let builder = Broker::builder().listener(Listener::sasl_ssl(tls)).user("alice", "pencil");
    let cluster = builder.start().await.expect("started");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let properties = |password: &str| {
            [
                ("bootstrap.servers", format!("SASL_SSL://{}", cluster.bootstrap())),
                ("security.protocol", "SASL_SSL".into()),
                ("ssl.ca.location", dir.path().join("ca.pem").display().to_string()),
                ("sasl.mechanism", mechanism.into()),
                ("sasl.username", "alice".into()),
                ("sasl.password", password.into()),
            ]
        };
        let builder = Client::from_properties(properties("pencil")).expect("taken");
        let client = builder.connect().await.expect("connected");
        client.admin().topics().await.expect("listed");
        let builder = Client::from_properties(properties("hunter2")).expect("taken");
        let error = builder.connect().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        assert!(!error.is_retriable() && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn the_certificate_that_expires_first_is_measured_as_long_as_it_is_in_use() {
    let days = |count: u64| Duration::from_hours(24 * count);
    let from = SystemTime::now() - days(1);
    let mut authority = Authority::new().expect("made");
    let mut until = |count| {
        // Certificates know whole seconds.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let until = UNIX_EPOCH + Duration::from_secs(since) + days(count);
        let made = std::mem::replace(&mut authority, Authority::new().expect("made"));
        authority = made.valid(from, until);
        (authority.server(["127.0.0.1"]), authority.client("CN=billing"), authority.certificate_pem(), until)
    };
    let seconds = |at: SystemTime| Some(at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64());
    let (server, own, root, expires) = until(30);
    let dir = Dir::new("expiry");
    let put = |own: &Identity, version: u64| {
        for (name, text) in [("own.pem", own.certificate_pem()), ("own.key", own.key_pem())] {
            let path = dir.write(name, text);
            let file = std::fs::File::options().write(true).open(path).expect("there");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000 + version)).expect("set");
        }
    };
    put(&identity(own), 1);
    let tls = Tls::of(&identity(server)).require_clients(&root).expect("read");
    let cluster = Broker::builder().listener(Listener::ssl(tls)).start().await.expect("started");
    let registry = Registry::new();
    let files = ["own.pem", "own.key"].map(|name| dir.path().join(name));
    let [chain, key] = &files;
    let tls = milena::Tls::roots_from_pem(root).client_certificate_files(chain, key);
    let client = Client::builder().bootstrap(cluster.bootstrap()).tls(tls).metrics(&registry);
    let client = client.connect().await.expect("connected");
    client.admin().topics().await.expect("listed");
    let expiry = |of| registry.snapshot().value(&CERTIFICATE_EXPIRY, &[of]);
    assert_eq!((expiry("client"), expiry("broker")), (seconds(expires), seconds(expires)));

    // The client's own one is renewed while no new connection is made.
    let (_, own, _, renewed) = until(90);
    put(&identity(own), 2);
    assert_eq!((expiry("client"), expiry("broker")), (seconds(renewed), seconds(expires)));

    // Of a broker that is gone nothing is known.
    cluster.shutdown().await.expect("ends");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while expiry("broker").is_some() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", registry.snapshot());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(expiry("client"), seconds(renewed));
    assert_eq!(client.tls().expect("TLS").brokers.len(), 1, "what it has shown is known all the same");
}
