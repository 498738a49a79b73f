//! Each error of security in one place, as a user meets it with the embedded broker: its text, how soon it comes, after how many
//! connections, and that it is final.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use milena::{
    Acl, AclOperation, AclResource, Address, Client, ClientBuilder, Connect, Connecting, Error, ErrorCode,
    ErrorKind, NewTopic, Position, Record, Resolving, Sasl, Tcp, Tls, Token,
};
use milena_broker::{Authority, Authorizer, Broker, Cluster, Identity, Listener, SaslMechanism};
use tokio::time::timeout;

/// An error comes within this time. An idle machine needs a tenth of it.
const SOON: Duration = Duration::from_secs(5);
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

/// What a client of `cluster` meets that is set up so. It makes `connections`, and no more after the error.
async fn meets(
    cluster: &Cluster,
    connections: usize,
    set_up: impl FnOnce(ClientBuilder) -> ClientBuilder,
    expected: &str,
) {
    let connector = Counting::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(connector.clone());
    let error = timeout(SOON, set_up(builder).connect()).await.expect("soon").expect_err("refused");
    tokio::time::sleep(WATCHED).await;
    assert_eq!(connector.0.load(Ordering::Relaxed), connections, "{error}");
    assert_eq!(told(&error, cluster), expected);
    assert!(error.is_authentication() || error.kind() == ErrorKind::Protocol, "{:?}: {error}", error.kind());
    assert!(!error.is_retriable() && !error.maybe_written(), "{error}");
}

/// The text of an error, without the port and the time of day.
fn told(error: &Error, cluster: &Cluster) -> String {
    let text = error.to_string().replace(cluster.bootstrap(), "b:1");
    // "this machine's clock says 2026-11-29 01:32 UTC"
    match text.split_once("clock says ") {
        Some((before, after)) => format!("{before}clock says NOW{}", &after["2026-11-29 01:32 UTC".len()..]),
        None => text,
    }
}

fn tls(identity: Result<Identity, milena_broker::Error>) -> milena_broker::Tls {
    milena_broker::Tls::of(&identity.expect("made"))
}

fn date(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

async fn with_tls(tls: milena_broker::Tls) -> Cluster {
    Broker::builder().listener(Listener::ssl(tls)).start().await.expect("started")
}

#[tokio::test]
async fn credentials_that_are_refused() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    let mechanisms = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::OauthBearer];
    let broker = broker.sasl_mechanisms(mechanisms).oauth(milena_broker::OauthValidator::unsecured());
    let cluster = broker.start().await.expect("started");
    let check = async |sasl: Sasl, expected: &str| {
        let expected =
            format!("connecting to b:1: cannot authenticate with {} to b:1: {expected}", sasl.mechanism());
        meets(&cluster, 1, |builder| builder.sasl(sasl), &expected).await;
    };
    // A wrong password and an unknown user look the same, so that nobody learns which users exist.
    for user in ["alice", "mallory"] {
        let refused = format!("the broker refused the credentials of user {user:?}: Authentication failed");
        check(
            Sasl::plain(user, "pen").allow_plaintext(),
            &format!("{refused}: Invalid username or password"),
        )
        .await;
        check(
            Sasl::scram_sha_256(user, "pen"),
            &format!(
                "{refused} during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256"
            ),
        )
        .await;
    }
    check(
        Sasl::scram_sha_512("alice", "pencil"),
        "the broker has not enabled this mechanism; it has PLAIN, SCRAM-SHA-256, OAUTHBEARER",
    )
    .await;
    let token = || async { Ok(Token::new("no.token.", Duration::from_secs(60))) };
    check(Sasl::oauth_bearer(token).allow_plaintext(), "the broker refused the token: invalid_token").await;
    meets(
        &cluster,
        2,
        |builder| builder,
        "connecting to b:1: cannot authenticate to b:1: this listener requires SASL, and the client has no credentials; it \
         has PLAIN, SCRAM-SHA-256, OAUTHBEARER: set security.protocol to SASL_SSL or SASL_PLAINTEXT, and sasl.mechanism, \
         sasl.username and sasl.password (ClientBuilder::sasl)",
    )
    .await;
    let open = Broker::builder().start().await.expect("started");
    meets(
        &open,
        1,
        |builder| builder.sasl(Sasl::scram_sha_256("alice", "pencil")),
        "connecting to b:1: cannot authenticate with SCRAM-SHA-256 to b:1: this listener has no SASL: its security protocol \
         is PLAINTEXT or SSL",
    )
    .await;
}

#[tokio::test]
async fn certificates_that_are_refused() {
    let authority = Authority::new().expect("made");
    let trusted = authority.certificate_pem();
    let check = async |cluster: Cluster, expected: &str| {
        let roots = Tls::roots_from_pem(trusted.clone());
        let expected = format!("connecting to b:1: cannot reach b:1: {expected}");
        meets(&cluster, 1, |builder| builder.tls(roots), &expected).await;
    };
    let expired = Authority::new().expect("made").valid(date(1_577_836_800), date(1_612_310_400));
    let trusted_expired = expired.certificate_pem();
    let cluster = with_tls(tls(expired.server(["127.0.0.1"]))).await;
    meets(
        &cluster,
        1,
        |builder| builder.tls(Tls::roots_from_pem(trusted_expired)),
        "connecting to b:1: cannot reach b:1: a certificate of 127.0.0.1 expired on 2021-02-03 00:00 UTC; this machine's \
         clock says NOW",
    )
    .await;
    let early = Authority::new().expect("made").valid(date(32_472_144_000), date(32_503_680_000));
    let trusted_early = early.certificate_pem();
    let cluster = with_tls(tls(early.server(["127.0.0.1"]))).await;
    meets(
        &cluster,
        1,
        |builder| builder.tls(Tls::roots_from_pem(trusted_early)),
        "connecting to b:1: cannot reach b:1: a certificate of 127.0.0.1 is not valid before 2999-01-01 00:00 UTC; this \
         machine's clock says NOW",
    )
    .await;
    check(
        with_tls(tls(authority.server(["kafka-1.example"]))).await,
        "the certificate of the broker is not for 127.0.0.1 but for kafka-1.example",
    )
    .await;
    let stranger = Authority::new().expect("made");
    check(with_tls(tls(stranger.server(["127.0.0.1"]))).await, "the signature of the certificate of 127.0.0.1 is wrong: a trusted root has the name of the authority that signed it, \
         and another key").await;
    let demanding =
        tls(authority.server(["127.0.0.1"])).require_clients(authority.certificate_pem()).expect("read");
    check(
        with_tls(demanding).await,
        "127.0.0.1 requires a client certificate, and the client has none (TLS alert certificate_required)",
    )
    .await;
}

#[tokio::test]
async fn protocols_that_do_not_meet() {
    let authority = Authority::new().expect("made");
    let cluster = with_tls(tls(authority.server(["127.0.0.1"]))).await;
    meets(
        &cluster,
        1,
        |builder| builder,
        "connecting to b:1: cannot reach b:1: the peer speaks TLS on this port, and the client was told to use plain text",
    )
    .await;
    let open = Broker::builder().start().await.expect("started");
    meets(
        &open,
        // The second one asks in plain text whether this is a broker.
        2,
        |builder| builder.tls(Tls::roots_from_pem(authority.certificate_pem())),
        "connecting to b:1: cannot reach b:1: the broker speaks plain text on this port, and the client was told to use TLS",
    )
    .await;
}

/// A refusal for want of a right comes once, is not tried again, and names operation, resource and principal as far as the client
/// knows them.
#[tokio::test]
async fn rights_that_are_missing() {
    let broker = Broker::builder()
        .listener(Listener::sasl_plaintext())
        .user("admin", "secret")
        .user("alice", "pencil");
    let broker = broker.authorizer(Authorizer::new().super_user("User:admin"));
    let cluster = broker.start().await.expect("started");
    cluster.create_topic("orders", 1).expect("made");
    let connector = Counting::default();
    let builder = || Client::builder().bootstrap(cluster.bootstrap());
    let admin =
        builder().sasl(Sasl::scram_sha_256("admin", "secret")).connect().await.expect("connected").admin();
    let alice = Sasl::scram_sha_256("alice", "pencil");
    let client = builder().connector(connector.clone()).sasl(alice).connect().await.expect("connected");
    let check = |error: Error, expected: &str| {
        assert_eq!(told(&error, &cluster), expected);
        assert_eq!(error.kind(), ErrorKind::Authorization);
        assert!(!error.is_retriable() && !error.maybe_written(), "{error}");
    };
    let send = async || client.producer().build().await?.send(Record::to("orders").value("x")).await;
    let refused = async || timeout(SOON, send()).await.expect("soon").expect_err("refused");
    let grant = async |operation, topic: &str| {
        let acl = Acl::allow("User:alice", operation, AclResource::topic(topic));
        admin.create_acls([acl]).await.expect("asked").remove(0).1.expect("granted");
    };
    let denied = "writing to topic \"orders\": TOPIC_AUTHORIZATION_FAILED: The principal may not do this with the topic; an \
                  administrator must grant User:alice Write on topic \"orders\"";
    check(refused().await, denied);
    // The client learns of a grant when it asks for the topic again.
    let refused_with = async |code| {
        let asked = async {
            loop {
                let error = refused().await;
                if error.code() == Some(code) {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(4 * SOON, asked).await.expect("learned")
    };
    grant(AclOperation::Describe, "orders").await;
    check(
        refused_with(ErrorCode::CLUSTER_AUTHORIZATION_FAILED).await,
        "writing to partition 0 of topic \"orders\": CLUSTER_AUTHORIZATION_FAILED: The principal may not do this with the cluster; an \
         administrator must grant User:alice Write on a topic, or IdempotentWrite on the cluster before Kafka 2.8",
    );
    grant(AclOperation::Write, "elsewhere").await;
    check(
        refused_with(ErrorCode::TOPIC_AUTHORIZATION_FAILED).await,
        &denied.replace("topic \"orders\": TOPIC", "partition 0 of topic \"orders\": TOPIC"),
    );
    let mut reader =
        client.consumer_direct().assign([("orders", 0)], Position::Earliest).build().await.expect("built");
    check(
        timeout(SOON, reader.next()).await.expect("soon").expect_err("refused"),
        "reading partition 0 of topic \"orders\" at offset 0: TOPIC_AUTHORIZATION_FAILED: The principal may not do this with the topic; \
         an administrator must grant User:alice Read on topic \"orders\"",
    );
    let mut member = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    check(
        timeout(SOON, member.next()).await.expect("soon").expect_err("refused"),
        "reading as a member of group \"billing\": GROUP_AUTHORIZATION_FAILED: The principal may not do this with the group; an \
         administrator must grant User:alice Read on group \"billing\"",
    );
    let made = client.admin().create_topic(NewTopic::new("other")).await;
    check(
        made.expect_err("refused"),
        "creating topic \"other\": TOPIC_AUTHORIZATION_FAILED: Authorization failed; an administrator must grant User:alice Create on the \
         topic",
    );
    let deleted = client.admin().delete_topics(["orders"]).await.expect("asked").remove(0).1;
    check(
        deleted.expect_err("refused"),
        "deleting topic \"orders\": TOPIC_AUTHORIZATION_FAILED: The principal may not do this with the topic; an administrator must grant \
         User:alice Delete on the topic",
    );
    let described = client.admin().list_scram_users().await;
    check(
        described.expect_err("refused"),
        "listing users: CLUSTER_AUTHORIZATION_FAILED: The principal may not do this with the cluster; an administrator must grant \
         User:alice Describe on the cluster",
    );
    drop((reader, member));
    let connections = connector.0.load(Ordering::Relaxed);
    tokio::time::sleep(WATCHED).await;
    assert_eq!(
        connector.0.load(Ordering::Relaxed),
        connections,
        "no connection is made because of a refusal"
    );
    assert!(connections <= 12, "{connections}: one per role at most");
}
