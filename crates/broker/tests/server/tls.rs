//! Listeners with TLS: who gets in, and that nobody else costs anything.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use milena_broker::{Authority, Authorizer, Broker, Builder, Cluster, Identity, Listener, Tls};
use milena_messages::ErrorCode;
use milena_messages::create_acls::{AclCreation, CreateAclsRequest};
use milena_messages::metadata::MetadataRequest;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::client::{Client, PRODUCE, batch, eventually, outcome, produce, start};

fn server(authority: &Authority) -> Tls {
    Tls::of(&authority.server(["localhost", "127.0.0.1"]).expect("made"))
}

fn builder(tls: Tls) -> Builder {
    Broker::builder().listener(Listener::ssl(tls))
}

/// A client that trusts `authority`.
fn config(authority: &Authority, own: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a certificate");
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::from_pem_slice(own.certificate_pem().as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(own.key_pem().as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![chain], key).expect("they fit")
        }
    })
}

async fn connect(cluster: &Cluster, config: Arc<ClientConfig>) -> std::io::Result<Client> {
    Client::tls(cluster.addresses()[&1], config).await
}

#[tokio::test]
async fn records_go_through_both_versions_of_tls() {
    let authority = Authority::new().expect("made");
    for tls in [server(&authority).only_1_2(), server(&authority).only_1_3(), server(&authority)] {
        let cluster = start(builder(tls)).await;
        cluster.create_topic("t", 1).expect("created");
        let mut client = connect(&cluster, config(&authority, None)).await.expect("trusted");
        let value: Vec<u8> = (0..900_000_u32).map(|n| n as u8).collect();
        for _ in 0..5 {
            let offset = client.produce("t", 0, &value).await;
            let records = client.fetch("t", 0, offset).await.records.expect("records");
            assert!(records.windows(1000).any(|part| part == &value[..1000]));
        }
        cluster.shutdown().await.expect("ends");
    }
}

#[tokio::test]
async fn a_cluster_that_is_loaded_from_pem_is_the_same() {
    let authority = Authority::new().expect("made");
    let identity = authority.server(["127.0.0.1"]).expect("made");
    let tls = Tls::pem(identity.certificate_pem(), identity.key_pem()).expect("read");
    let cluster = start(builder(tls)).await;
    let mut client = connect(&cluster, config(&authority, None)).await.expect("trusted");
    client.ask(12, &MetadataRequest::default()).await;
    for (chain, key) in [("", identity.key_pem().as_str()), (&identity.certificate_pem(), ""), ("x", "y")] {
        assert!(Tls::pem(chain, key).is_err());
    }
    let other = authority.server(["127.0.0.1"]).expect("made");
    let tls = Tls::pem(identity.certificate_pem(), other.key_pem()).expect("read");
    let refused = builder(tls).start().await.expect_err("the key is another one").to_string();
    assert!(refused.starts_with("TLS cannot be set up: "), "{refused}");
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authority_are_sent_away_with_a_reason() {
    let (authority, other) = (Authority::new().expect("made"), Authority::new().expect("made"));
    let tls = server(&authority).require_clients(authority.certificate_pem()).expect("read");
    let cluster = start(builder(tls)).await;
    let alice = authority.client("CN=alice,OU=dev,O=Org").expect("made");
    let mut client = connect(&cluster, config(&authority, Some(&alice))).await.expect("let in");
    client.ask(12, &MetadataRequest::default()).await;
    let past = (SystemTime::now() - Duration::from_secs(7200), SystemTime::now() - Duration::from_secs(3600));
    let mallory = other.client("CN=alice").expect("made");
    let refused = async |own: Option<&Identity>| {
        // In TLS 1.3 the client has finished its handshake before it learns that it is refused.
        let mut client = connect(&cluster, config(&authority, own)).await.expect("not yet refused");
        client.try_send_bytes(&crate::client::frame(1, 12, &MetadataRequest::default())).await.expect("sent");
        client.read_error().await
    };
    let reason = refused(None).await;
    assert!(reason.contains("CertificateRequired"), "{reason}");
    let reason = refused(Some(&mallory)).await;
    assert!(reason.contains("UnknownCA") || reason.contains("DecryptError"), "{reason}");
    eventually("they are counted", || cluster.stats().tls_failed == 2).await;
    let late = Authority::new().expect("made").valid(past.0, past.1);
    let tls = server(&late).require_clients(late.certificate_pem()).expect("read");
    let cluster = start(builder(tls)).await;
    let error = connect(&cluster, config(&late, None)).await.map(|_| ()).expect_err("expired");
    assert!(error.to_string().contains("certificate expired"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_no_rule_maps_ends_the_connection() {
    let authority = Authority::new().expect("made");
    let tls = server(&authority).request_clients(authority.certificate_pem()).expect("read");
    let tls = tls.principal_rules("RULE:^CN=([a-z]+),.*$/$1/").expect("read");
    let cluster = start(builder(tls)).await;
    let mapped = authority.client("CN=alice,O=Org").expect("made");
    for own in [None, Some(&mapped)] {
        let mut client = connect(&cluster, config(&authority, own)).await.expect("let in");
        client.ask(12, &MetadataRequest::default()).await;
    }
    let unmapped = authority.client("CN=alice2,O=Org").expect("made");
    let mut client = connect(&cluster, config(&authority, Some(&unmapped))).await.expect("let in");
    client.read_to_end().await;
    eventually("it is counted", || cluster.stats().unauthenticated == 1).await;
}

#[tokio::test]
async fn passwords_go_through_tls() {
    let authority = Authority::new().expect("made");
    let listener = Listener::sasl_ssl(server(&authority));
    let cluster = start(Broker::builder().listener(listener).user("alice", "secret")).await;
    assert!(cluster.bootstrap_of("SASL_SSL").is_some());
    let mut client = connect(&cluster, config(&authority, None)).await.expect("trusted");
    client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
    let auth_bytes = "\0alice\0secret".into();
    let answer = client.ask(2, &SaslAuthenticateRequest { auth_bytes, ..Default::default() }).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    client.ask(12, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn the_wrong_protocol_ends_at_once() {
    let authority = Authority::new().expect("made");
    let cluster = start(builder(server(&authority)).listener(Listener::plaintext())).await;
    let mut client = Client::of(&cluster).await;
    client.send(1, 12, &MetadataRequest::default()).await;
    let alert = client.read_to_end().await;
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:?}");
    eventually("it is counted", || cluster.stats().tls_failed == 1).await;
    let plain = cluster.bootstrap_of("PLAINTEXT").expect("there is one").parse().expect("an address");
    let error = Client::tls(plain, config(&authority, None)).await.map(|_| ());
    error.expect_err("no TLS there");
    eventually("it is counted", || cluster.stats().strangers == 1).await;
}

#[tokio::test]
async fn peers_that_stall_in_the_handshake_are_hung_up_on() {
    let authority = Authority::new().expect("made");
    let builder = builder(server(&authority)).stall_timeout(Duration::from_millis(500));
    let cluster = start(builder).await;
    cluster.create_topic("good", 1).expect("created");
    let mut strangers = Vec::new();
    for index in 0..200 {
        let mut stranger = Client::of(&cluster).await;
        // Nothing, or the beginning of a ClientHello that announces 16 KiB.
        let begun = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &[0; 4000]].concat();
        stranger.send_bytes(&begun[..(index % 3) * 2000]).await;
        strangers.push(stranger);
    }
    let mut client = connect(&cluster, config(&authority, None)).await.expect("trusted");
    for _ in 0..20 {
        client.produce("good", 0, &[7; 10_000]).await;
    }
    eventually("all are gone", || cluster.stats().timed_out == 200).await;
    for mut stranger in strangers {
        stranger.read_to_end().await;
    }
    client.produce("good", 0, &[7; 10_000]).await;
}

#[tokio::test]
async fn acls_are_about_the_principal_of_the_certificate() {
    let authority = Authority::new().expect("made");
    let tls = server(&authority).require_clients(authority.certificate_pem()).expect("read");
    let tls = tls.principal_rules("RULE:^CN=([a-z]+),.*$/$1/,DEFAULT").expect("read");
    let authorizer = Authorizer::new().super_user("User:admin");
    let cluster = start(builder(tls).authorizer(authorizer)).await;
    cluster.create_topic("t", 1).expect("created");
    let client = async |subject: &str| {
        let own = authority.client(subject).expect("made");
        connect(&cluster, config(&authority, Some(&own))).await.expect("let in")
    };
    let write = async |client: &mut Client| {
        let answer = client.ask(PRODUCE, &produce("t", 0, batch(b"x"))).await;
        outcome(&answer).0
    };
    let mut admin = client("CN=admin,O=Org").await;
    let mut alice = client("CN=alice,O=Org").await;
    // No rule shortens this one.
    let mut other = client("CN=Alice,O=Org").await;
    assert_eq!(write(&mut admin).await, ErrorCode::NONE, "a super user");
    let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    assert_eq!((write(&mut alice).await, write(&mut other).await), (denied, denied));
    let allow = |principal: &str| AclCreation {
        resource_type: 2,
        resource_name: "t".into(),
        resource_pattern_type: 3,
        principal: principal.into(),
        host: "127.0.0.1".into(),
        operation: 4,
        permission_type: 3,
        ..Default::default()
    };
    let request = CreateAclsRequest { creations: vec![allow("User:alice")], ..Default::default() };
    let answer = alice.ask(3, &request).await;
    assert_eq!(answer.results[0].error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!(admin.ask(3, &request).await.results[0].error_code, ErrorCode::NONE);
    assert_eq!((write(&mut alice).await, write(&mut other).await), (ErrorCode::NONE, denied));
    let request = CreateAclsRequest { creations: vec![allow("User:CN=Alice,O=Org")], ..Default::default() };
    assert_eq!(admin.ask(3, &request).await.results[0].error_code, ErrorCode::NONE);
    assert_eq!(write(&mut other).await, ErrorCode::NONE);
}
