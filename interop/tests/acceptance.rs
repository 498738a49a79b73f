//! Each error of security as real Kafka causes it: its text, how soon it comes, after how many connections, and that it is final.
//! `client/tests/tls/acceptance.rs` says the same of the embedded broker.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use milena::{
    Address, Client, ClientBuilder, Connect, Connecting, Error, ErrorKind, Resolving, Sasl, Tcp, Tls, Token,
};
use milena_broker::{Authority, Identity};
use milena_interop::real;
use tokio::time::timeout;
use xtask::kafka::{Cluster, NEWEST};

/// An error comes within this time. Kafka delays the end of a connection by 100 ms, and an idle machine needs little more.
const SOON: Duration = Duration::from_secs(10);
/// Retries come after 50 to 100 ms, so this shows them.
const WATCHED: Duration = Duration::from_millis(400);

/// TCP that counts connections.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Connect for Counting {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        self.0.fetch_add(1, Ordering::Relaxed);
        Tcp::default().connect(address, at)
    }
}

/// What a client meets that connects to `port`. It makes `connections`, and no more after the error.
async fn meets(
    port: &str,
    connections: usize,
    set_up: impl FnOnce(ClientBuilder) -> ClientBuilder,
    expected: &str,
) {
    let (connector, at) = (Counting::default(), format!("127.0.0.1:{port}"));
    let builder = Client::builder().bootstrap(&at).connector(connector.clone());
    let error = timeout(SOON, set_up(builder).connect()).await.expect("soon").expect_err("refused");
    tokio::time::sleep(WATCHED).await;
    assert_eq!(connector.0.load(Ordering::Relaxed), connections, "{error}");
    assert_eq!(told(&error, &at), format!("connecting to b:1: {expected}"));
    assert!(error.is_authentication() || error.kind() == ErrorKind::Protocol, "{:?}: {error}", error.kind());
    assert!(!error.is_retriable() && !error.maybe_written(), "{error}");
}

/// The text of an error, without the port and the time of day.
fn told(error: &Error, at: &str) -> String {
    let text = error.to_string().replace(at, "b:1");
    match text.split_once("clock says ") {
        Some((before, after)) => format!("{before}clock says NOW{}", &after["2026-11-29 01:32 UTC".len()..]),
        None => text,
    }
}

fn date(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Listeners with TLS, by name, and the ports that they have.
struct Listeners {
    ports: Vec<(&'static str, String)>,
    settings: Vec<String>,
}

impl Listeners {
    /// Each with its own certificate, in files of `dir`.
    fn new(dir: &Path, certificates: &[(&'static str, &Identity)]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        // They are held together, so that they differ.
        let held: Vec<_> = certificates.iter().map(|_| free()).collect();
        let mut this = Self { ports: Vec::new(), settings: Vec::new() };
        let (mut listeners, mut map) = (String::new(), String::new());
        for ((name, identity), held) in certificates.iter().zip(&held) {
            let port = held.local_addr().unwrap().port().to_string();
            let file = dir.join(format!("{name}.pem"));
            fs::write(&file, identity.key_pem() + &identity.certificate_pem()).unwrap();
            let of = format!("listener.name.{}.ssl", name.to_lowercase());
            this.settings.push(format!("{of}.keystore.type=PEM"));
            this.settings.push(format!("{of}.keystore.location={}", file.display()));
            listeners += &format!(",{name}://127.0.0.1:{port}");
            map += &format!(",{name}:SSL");
            this.ports.push((name, port));
        }
        let own = "PLAINTEXT://127.0.0.1:{broker},SASL://127.0.0.1:{sasl}";
        this.settings.push(format!("listeners={own},CONTROLLER://127.0.0.1:{{controller}}{listeners}"));
        this.settings.push(format!("advertised.listeners={own}{listeners}"));
        let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT";
        this.settings.push(format!("listener.security.protocol.map={protocols}{map}"));
        this
    }

    fn port(&self, name: &str) -> &str {
        &self.ports.iter().find(|(of, _)| *of == name).unwrap().1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_security_names_its_cause_on_real_kafka() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    let authority = || Authority::new().unwrap();
    let (trusted, stranger) = (authority(), authority());
    let expired = authority().valid(date(1_577_836_800), date(1_612_310_400));
    let early = authority().valid(date(32_472_144_000), date(32_503_680_000));
    let of = |authority: &Authority, name: &str| authority.server([name]).unwrap();
    let local = "127.0.0.1";
    let dir = tempfile::tempdir().unwrap();
    let mut listeners = Listeners::new(
        dir.path(),
        &[
            ("GOOD", &of(&trusted, local)),
            ("EXPIRED", &of(&expired, local)),
            ("EARLY", &of(&early, local)),
            ("OTHER", &of(&trusted, "kafka-1.example")),
            ("STRANGE", &of(&stranger, local)),
            ("DEMANDING", &of(&trusted, local)),
        ],
    );
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, trusted.certificate_pem()).unwrap();
    listeners.settings.push("listener.name.demanding.ssl.client.auth=required".into());
    listeners.settings.push("listener.name.demanding.ssl.truststore.type=PEM".into());
    listeners.settings.push(format!("listener.name.demanding.ssl.truststore.location={}", roots.display()));
    listeners
        .settings
        .push("listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER".into());
    let kafka = Cluster::start_with(1, NEWEST, &listeners.settings).expect("started");

    let (plain, sasl) = (kafka.bootstrap(), kafka.sasl_bootstrap());
    let [plain, sasl] = [&plain, &sasl].map(|at| at.rsplit(':').next().unwrap());
    let check = async |login: Sasl, expected: &str| {
        let expected = format!("cannot authenticate with {} to b:1: {expected}", login.mechanism());
        meets(sasl, 1, |builder| builder.sasl(login), &expected).await;
    };
    for user in ["alice", "mallory"] {
        let refused = format!("the broker refused the credentials of user {user:?}: Authentication failed");
        let wrong = Sasl::plain(user, "pen").allow_plaintext();
        check(wrong, &format!("{refused}: Invalid username or password")).await;
        let why = "during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";
        check(Sasl::scram_sha_256(user, "pen"), &format!("{refused} {why}")).await;
    }
    check(
        Sasl::scram_sha_512("alice", "pencil"),
        "the broker has not enabled this mechanism; it has PLAIN, SCRAM-SHA-256, OAUTHBEARER",
    )
    .await;
    let token = || async { Ok(Token::new("no.token.", Duration::from_secs(60))) };
    check(Sasl::oauth_bearer(token).allow_plaintext(), "the broker refused the token: invalid_token").await;
    meets(
        sasl,
        2,
        |builder| builder,
        "cannot authenticate to b:1: this listener requires SASL, and the client has no credentials; it has PLAIN, \
         SCRAM-SHA-256, OAUTHBEARER: set security.protocol to SASL_SSL or SASL_PLAINTEXT, and sasl.mechanism, sasl.username \
         and sasl.password (ClientBuilder::sasl)",
    )
    .await;
    meets(
        plain,
        1,
        |builder| builder.sasl(Sasl::scram_sha_256("alice", "pencil")),
        "cannot authenticate with SCRAM-SHA-256 to b:1: this listener has no SASL: its security protocol is PLAINTEXT or SSL",
    )
    .await;

    let check = async |listener: &str, authority: &Authority, expected: &str| {
        let roots = Tls::roots_from_pem(authority.certificate_pem());
        let expected = format!("cannot reach b:1: {expected}");
        meets(listeners.port(listener), 1, |builder| builder.tls(roots), &expected).await;
    };
    let clock = "this machine's clock says NOW";
    let expected = format!("a certificate of 127.0.0.1 expired on 2021-02-03 00:00 UTC; {clock}");
    check("EXPIRED", &expired, &expected).await;
    let expected = format!("a certificate of 127.0.0.1 is not valid before 2999-01-01 00:00 UTC; {clock}");
    check("EARLY", &early, &expected).await;
    check("OTHER", &trusted, "the certificate of the broker is not for 127.0.0.1 but for kafka-1.example")
        .await;
    check("STRANGE", &trusted, "the signature of the certificate of 127.0.0.1 is wrong: a trusted root has the name of the authority that signed it, \
         and another key").await;
    // Java does not send the alert that TLS 1.3 has for it.
    let expected =
        "127.0.0.1 requires a client certificate, and the client has none (TLS alert bad_certificate)";
    check("DEMANDING", &trusted, expected).await;
    let roots = Tls::roots_from_pem(trusted.certificate_pem());
    let expected =
        "cannot reach b:1: the broker speaks plain text on this port, and the client was told to use TLS";
    // The second connection asks in plain text whether this is a broker.
    meets(plain, 2, |builder| builder.tls(roots), expected).await;
    let expected =
        "cannot reach b:1: the peer speaks TLS on this port, and the client was told to use plain text";
    meets(listeners.port("GOOD"), 1, |builder| builder, expected).await;
}
