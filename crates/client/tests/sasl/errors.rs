//! What users are told when authentication fails: the cause, within a second, after one attempt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milena::{Address, Connect, Connecting, ErrorCode, ErrorKind, Fault, Resolving, Tcp};
use milena_broker::{Broker, Cluster, Listener, SaslMechanism};

use super::*;

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

async fn guarded() -> Cluster {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    broker.sasl_mechanisms([SaslMechanism::Plain, SaslMechanism::ScramSha256]).start().await.expect("started")
}

/// The error of a client that connects to `cluster` with `sasl`, without what it was doing and where.
async fn error_of(cluster: &Cluster, sasl: Option<Sasl>) -> (Error, String) {
    error_after(cluster, sasl, 1).await
}

/// The same, after this many connections.
async fn error_after(cluster: &Cluster, sasl: Option<Sasl>, connections: usize) -> (Error, String) {
    let connector = Counting::default();
    let mut builder = Client::builder().bootstrap(cluster.bootstrap()).connector(connector.clone());
    if let Some(sasl) = sasl {
        builder = builder.sasl(sasl);
    }
    let error = tokio::time::timeout(SOON, builder.connect()).await.expect("soon").expect_err("refused");
    // Long enough for a storm to show.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(connector.0.load(Ordering::Relaxed), connections, "{error}");
    let (text, address) = (error.to_string(), cluster.bootstrap());
    let told = text.strip_prefix(&format!("connecting to {address}: ")).expect("it says what was done");
    (error.clone(), told.replace(address, "b:1"))
}

#[tokio::test]
async fn each_mistake_has_its_text() {
    let cluster = guarded().await;
    let check = async |sasl: Sasl, code: Option<ErrorCode>, expected: &str| {
        let (error, told) = error_of(&cluster, Some(sasl)).await;
        assert_eq!(told, expected);
        assert_eq!(
            (error.kind(), error.code(), error.fault()),
            (ErrorKind::Authentication, code, Fault::Caller)
        );
        assert!(error.is_authentication() && !error.is_retriable() && !error.maybe_written(), "{error}");
    };
    let failed = Some(ErrorCode::SASL_AUTHENTICATION_FAILED);
    check(
        Sasl::plain("alice", "pen").allow_plaintext(),
        failed,
        "cannot authenticate with PLAIN to b:1: the broker refused the credentials of user \"alice\": Authentication failed: \
         Invalid username or password",
    )
    .await;
    for user in ["alice", "mallory"] {
        let expected = format!(
            "cannot authenticate with SCRAM-SHA-256 to b:1: the broker refused the credentials of user {user:?}: \
             Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256"
        );
        check(Sasl::scram_sha_256(user, "pen"), failed, &expected).await;
    }
    check(
        Sasl::scram_sha_512("alice", "pencil"),
        Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM),
        "cannot authenticate with SCRAM-SHA-512 to b:1: the broker has not enabled this mechanism; it has PLAIN, \
         SCRAM-SHA-256",
    )
    .await;
}

#[tokio::test]
async fn credentials_that_cannot_be_sent_are_refused_without_a_connection() {
    let cluster = guarded().await;
    let connector = Counting::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(connector.clone());
    let error = builder.sasl(Sasl::scram_sha_256("", "pencil")).connect().await.expect_err("refused");
    assert!(error.to_string().ends_with(": the user name is empty"), "{error}");
    assert!(error.is_authentication() && connector.0.load(Ordering::Relaxed) == 0, "{error}");
}

#[tokio::test]
async fn a_listener_without_sasl_is_named() {
    let cluster = Broker::builder().start().await.expect("started");
    let (error, told) = error_of(&cluster, Some(Sasl::scram_sha_256("alice", "pencil"))).await;
    assert_eq!(
        told,
        "cannot authenticate with SCRAM-SHA-256 to b:1: this listener has no SASL: its security protocol is PLAINTEXT or SSL"
    );
    assert!(error.is_authentication() && !error.is_retriable());
    assert_eq!(error.code(), Some(ErrorCode::ILLEGAL_SASL_STATE));
}

#[tokio::test]
async fn a_client_without_credentials_is_told_that_the_broker_requires_them() {
    // The broker ends the first connection without a word. The second one asks.
    let (error, told) = error_after(&guarded().await, None, 2).await;
    assert_eq!(
        told,
        "cannot authenticate to b:1: this listener requires SASL, and the client has no credentials; it has PLAIN, \
         SCRAM-SHA-256: set security.protocol to SASL_SSL or SASL_PLAINTEXT, and sasl.mechanism, sasl.username and \
         sasl.password (ClientBuilder::sasl)"
    );
    assert!(error.is_authentication() && !error.is_retriable() && !error.maybe_written(), "{error}");
    assert_eq!((error.code(), error.fault()), (Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM), Fault::Caller));
}

#[tokio::test]
async fn passwords_and_tokens_are_not_sent_in_plain_text_unless_that_is_allowed() {
    let cluster = guarded().await;
    let connect = |sasl| Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect();
    let error = connect(Sasl::plain("alice", "pencil")).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "connecting: PLAIN would send the password over a connection that is not encrypted: use TLS \
         (security.protocol=SASL_SSL) or SCRAM, or allow it with allow_plaintext_credentials=true (Sasl::allow_plaintext)"
    );
    assert_eq!(error.fault(), Fault::Caller);
    let token = || async { panic!("no token is fetched") };
    let error = connect(Sasl::oauth_bearer(token)).await.expect_err("refused").to_string();
    assert!(
        error.contains("OAUTHBEARER would send the token over a connection that is not encrypted"),
        "{error}"
    );
    connect(Sasl::plain("alice", "pencil").allow_plaintext()).await.expect("allowed");
}

#[tokio::test]
async fn one_broker_that_refuses_is_enough() {
    let (one, other) = (guarded().await, guarded().await);
    let connector = Counting::default();
    let bootstrap = format!("{},{}", one.bootstrap(), other.bootstrap());
    let builder = Client::builder().bootstrap(&bootstrap).connector(connector.clone());
    let error = builder.sasl(Sasl::scram_sha_256("alice", "pen")).connect().await.expect_err("refused");
    assert!(error.is_authentication(), "{error}");
    assert_eq!(
        connector.0.load(Ordering::Relaxed),
        1,
        "each attempt may count towards the locking of the account"
    );
}
