//! What a client says when TLS does not come about: golden texts, each final, and no storm of connections.

use std::net::SocketAddr;
use std::time::Duration;

use milena::{ClientBuilder, Error, ErrorKind, Fault, Tls, TlsVersion};
use milena_broker::Broker;
use rcgen::date_time_ymd;
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::{Dir, revocation_list};
use crate::server::{Authority, Clients, Server, Signed, client, refused, server_config};

/// Checks the text of an error, in which ports and the time of day are left out, and that it will not be tried again.
fn golden(error: &Error, at: SocketAddr, expected: &str) {
    let text = error.to_string().replace(&at.port().to_string(), "PORT");
    // "this machine's clock says 2026-11-29 01:32 UTC"
    let text = match text.split_once("clock says ") {
        Some((before, after)) => format!("{before}clock says NOW{}", &after["2026-11-29 01:32 UTC".len()..]),
        None => text,
    };
    assert_eq!(text, expected);
    assert!(!error.is_retriable(), "{error}");
}

/// The error of a client that meets this certificate.
async fn of_server(signed: &Signed, tls: Tls, expected: &str) {
    let server = Server::start(server_config(signed, &Clients::Anonymous, ALL_VERSIONS)).await;
    let error = refused(server.client(), Some(tls)).await;
    golden(&error, server.at, expected);
    assert_eq!(server.accepted(), 1, "it is not tried again");
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_is_named_with_its_reason() {
    let authority = Authority::new("Right");
    let roots = || Tls::roots_from_pem(authority.pem.clone());
    let expired = authority.sign(&["localhost"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
    });
    of_server(
        &expired,
        roots(),
        "connecting to localhost:PORT: cannot reach localhost:PORT: a certificate of localhost expired on 2021-02-03 \
         00:00 UTC; this machine's clock says NOW",
    )
    .await;
    let early = authority.sign(&["localhost"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2999, 1, 1), date_time_ymd(3000, 1, 1));
    });
    of_server(
        &early,
        roots(),
        "connecting to localhost:PORT: cannot reach localhost:PORT: a certificate of localhost is not valid before \
         2999-01-01 00:00 UTC; this machine's clock says NOW",
    )
    .await;
    let of_others = authority.sign(&["kafka-1.example", "*.kafka.example", "10.0.0.1"], |_| {});
    of_server(
        &of_others,
        roots(),
        "connecting to localhost:PORT: cannot reach localhost:PORT: the certificate of the broker is not for localhost \
         but for kafka-1.example, *.kafka.example, 10.0.0.1",
    )
    .await;
    let nameless = authority.sign(&[], |_| {});
    of_server(
        &nameless,
        roots(),
        "connecting to localhost:PORT: cannot reach localhost:PORT: the certificate of the broker is not for localhost: \
         it has no alternative names",
    )
    .await;
    let of_stranger = Authority::new("Stranger").sign(&["localhost"], |_| {});
    of_server(
        &of_stranger,
        roots(),
        "connecting to localhost:PORT: cannot reach localhost:PORT: the certificate of localhost is signed by \
         CN=Stranger, which is not among the trusted roots",
    )
    .await;
}

#[tokio::test]
async fn checks_are_off_only_by_name() {
    let authority = Authority::new("Right");
    let of_others = authority.sign(&["kafka-1.example"], |_| {});
    let stranger = Authority::new("Stranger").sign(&["kafka-1.example"], |_| {});
    let check = async |signed: &Signed, tls: Tls, expected: bool| {
        let server = Server::start(server_config(signed, &Clients::Anonymous, ALL_VERSIONS)).await;
        let connected = server.client().tls(tls).connect().await;
        assert_eq!(connected.is_ok(), expected, "{:?}", connected.err());
    };
    let roots = || Tls::roots_from_pem(authority.pem.clone());
    check(&of_others, roots(), false).await;
    check(&of_others, roots().danger_without_host_name_check(), true).await;
    check(&stranger, roots().danger_without_host_name_check(), false).await;
    check(&stranger, roots().danger_without_certificate_check(), true).await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::new("Right");
    let signed = authority.sign(&["localhost"], |params| params.serial_number = Some(7.into()));
    let list = revocation_list(&authority, 7);
    let dir = Dir::new("revoked");
    let path = dir.write("crl.pem", &list);
    of_server(
        &signed,
        Tls::roots_from_pem(authority.pem.clone()).revocation_lists(&path),
        "connecting to localhost:PORT: cannot reach localhost:PORT: the certificate of localhost is revoked",
    )
    .await;
}

#[tokio::test]
async fn a_broker_that_wants_another_client_certificate_is_understood() {
    let (authority, other) = (Authority::new("Right"), Authority::new("Other"));
    let signed = authority.sign(&["localhost"], |_| {});
    let check = async |version, own: Option<Signed>, expected: &str| {
        let server = Server::start(server_config(&signed, &Clients::SignedBy(&authority), &[version])).await;
        let tls = Tls::roots_from_pem(authority.pem.clone());
        let tls = match own {
            Some(own) => tls.client_certificate(own.pem, own.key_pem),
            None => tls,
        };
        let error = refused(server.client(), Some(tls)).await;
        let expected = format!("connecting to localhost:PORT: cannot reach localhost:PORT: {expected}");
        golden(&error, server.at, &expected);
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert_eq!(server.accepted(), 1, "it is not tried again");
    };
    let expired = || {
        authority.sign(&["client"], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
        })
    };
    check(
        &TLS13,
        None,
        "localhost requires a client certificate, and the client has none (TLS alert certificate_required)",
    )
    .await;
    for version in [&TLS12, &TLS13] {
        check(
            version,
            Some(other.sign(&["client"], |_| {})),
            "localhost refuses the client's certificate: the broker does not trust the authority that signed it",
        )
        .await;
        check(version, Some(expired()), "localhost refuses the client's certificate: it has expired").await;
    }
}

#[tokio::test]
async fn versions_that_do_not_meet_are_told() {
    let authority = Authority::new("Right");
    let signed = authority.sign(&["localhost"], |_| {});
    let server = Server::start(server_config(&signed, &Clients::Anonymous, &[&TLS12])).await;
    let tls = Tls::roots_from_pem(authority.pem.clone()).min_version(TlsVersion::Tls13);
    golden(
        &refused(server.client(), Some(tls)).await,
        server.at,
        "connecting to localhost:PORT: cannot reach localhost:PORT: localhost supports none of the client's TLS versions \
         (TLS alert protocol_version)",
    );
}

#[tokio::test]
async fn tls_and_plain_text_that_meet_are_recognised() {
    let authority = Authority::new("Right");
    let roots = || Tls::roots_from_pem(authority.pem.clone());
    let cluster = Broker::builder().start().await.expect("started");
    let at = cluster.bootstrap().parse().expect("an address");
    golden(
        &refused(client(at), Some(roots())).await,
        at,
        "connecting to localhost:PORT: cannot reach localhost:PORT: the broker speaks plain text on this port, and the \
         client was told to use TLS",
    );
    let signed = authority.sign(&["localhost"], |_| {});
    let server = Server::start(server_config(&signed, &Clients::Anonymous, ALL_VERSIONS)).await;
    golden(
        &refused(server.client(), None).await,
        server.at,
        "connecting to localhost:PORT: cannot reach localhost:PORT: the peer speaks TLS on this port, and the client was \
         told to use plain text",
    );
    assert_eq!(server.accepted(), 1, "it is not tried again");
    for (answer, says) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the peer speaks HTTP without TLS: this is not a Kafka port",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the peer speaks SSH: this is not a Kafka port"),
        (
            b"\0\0\0\x0a1234567890",
            "the peer does not speak TLS on this port: its answer begins with the bytes 00 00 00 0a 31 32 33 34",
        ),
    ] {
        let at = answering(answer).await;
        let expected = format!("connecting to localhost:PORT: cannot reach localhost:PORT: {says}");
        golden(&refused(client(at), Some(roots())).await, at, &expected);
    }
}

/// A server that answers every connection with `answer`.
async fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                // Until the client closes it.
                let _ = stream.read(&mut [0; 4096]).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_handshake_is_given_up_and_may_be_tried_again() {
    let at = answering(b"").await;
    let authority = Authority::new("Right");
    let within = |builder: ClientBuilder| builder.connect_timeout(Duration::from_millis(500));
    let error = refused(within(client(at)), Some(Tls::roots_from_pem(authority.pem))).await;
    let text = error.to_string();
    assert!(text.contains("the TLS handshake was not completed within 450ms"), "{text}");
    assert!(error.is_retriable(), "{error}");
    assert_eq!(error.fault(), Fault::Network);
}
