//! Proxies between a client and the embedded broker.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milena::{Client, Error, ErrorKind, Position, Proxy, Record};
use milena_broker::{Broker, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a proxy was asked, and what it does.
#[derive(Clone)]
struct Rules {
    /// The bytes of the answer to a request for a connection, after which it ends.
    refusal: Option<&'static [u8]>,
    /// User and password.
    user: Option<(&'static str, &'static str)>,
    /// Where every connection goes.
    to: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn proxy(rules: &Rules, is_http: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let rules = rules.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let rules = rules.clone();
            tokio::spawn(async move {
                let is_open =
                    if is_http { http(&mut stream, &rules).await } else { socks5(&mut stream, &rules).await };
                if is_open.is_some() {
                    rules.asked.fetch_add(1, Ordering::Relaxed);
                    let mut broker = TcpStream::connect(rules.to).await.expect("connected");
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut broker).await;
                }
            });
        }
    });
    at
}

/// A name that only the proxy knows.
const NAME: &str = "kafka.internal";

async fn socks5(stream: &mut TcpStream, rules: &Rules) -> Option<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let mut methods = vec![0; usize::from(head[1])];
    stream.read_exact(&mut methods).await.ok()?;
    match rules.user {
        None => stream.write_all(&[5, 0]).await.ok()?,
        Some(_) if !methods.contains(&2) => {
            stream.write_all(&[5, 0xff]).await.ok()?;
            return None;
        }
        Some((name, password)) => {
            stream.write_all(&[5, 2]).await.ok()?;
            let mut sent = vec![0; 3 + name.len() + password.len()];
            stream.read_exact(&mut sent).await.ok()?;
            let expected =
                [&[1, name.len() as u8], name.as_bytes(), &[password.len() as u8], password.as_bytes()]
                    .concat();
            stream.write_all(&[1, u8::from(sent != expected)]).await.ok()?;
            if sent != expected {
                return None;
            }
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    assert_eq!(head[..3], [5, 1, 0]);
    let bytes = match head[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await.ok()?),
    };
    let mut host = vec![0; bytes + 2];
    stream.read_exact(&mut host).await.ok()?;
    let host = &host[..bytes];
    assert!(head[3] != 3 || host == NAME.as_bytes(), "{host:?}");
    if let Some(refusal) = rules.refusal {
        stream.write_all(refusal).await.ok()?;
        return None;
    }
    // A bound address of each form.
    let bound: &[u8] = match head[3] {
        1 => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        4 => &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => &[5, 0, 0, 3, 2, b'a', b'b', 0, 0],
    };
    stream.write_all(bound).await.ok()
}

async fn http(stream: &mut TcpStream, rules: &Rules) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("CONNECT ") && head.contains("\r\nHost: "), "{head}");
    let answer = match (rules.refusal, rules.user) {
        (Some(refusal), _) => refusal,
        // alice:pencil
        (None, Some(_)) if !head.contains("Proxy-Authorization: Basic YWxpY2U6cGVuY2ls\r\n") => {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
        }
        (None, _) => b"HTTP/1.1 200 Connection established\r\n\r\n",
    };
    stream.write_all(answer).await.ok()?;
    answer.starts_with(b"HTTP/1.1 200").then_some(())
}

async fn cluster() -> (Cluster, Rules) {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let to = cluster.bootstrap().parse().expect("an address");
    (cluster, Rules { refusal: None, user: None, to, asked: Arc::default() })
}

async fn connect(bootstrap: &str, proxy: Proxy) -> Result<Client, Error> {
    Client::builder().bootstrap(bootstrap).connector(proxy).connect().await
}

fn parse(url: &str) -> Proxy {
    Proxy::parse(url).expect("a proxy")
}

#[tokio::test]
async fn records_go_through_both_kinds_of_proxies_by_name_and_by_address() {
    for (scheme, is_http) in [("socks5", false), ("http", true)] {
        for user in [None, Some(("alice", "pencil"))] {
            for host in [NAME, "[::1]", "127.0.0.1"] {
                let (_cluster, mut rules) = cluster().await;
                rules.user = user;
                let at = proxy(&rules, is_http).await;
                let login = user.map_or("", |_| "alice:pencil@");
                let proxy = parse(&format!("{scheme}://{login}{at}"));
                let client = connect(&format!("{host}:9092"), proxy).await.expect("connected");
                let producer = client.producer().build().await.expect("built");
                producer.send(Record::to("t").value("v")).await.expect("written");
                let mut consumer = client
                    .consumer_direct()
                    .assign([("t", 0)], Position::Earliest)
                    .build()
                    .await
                    .expect("built");
                consumer.next().await.expect("read").expect("a batch");
                assert!(rules.asked.load(Ordering::Relaxed) > 1, "all connections go through it");
            }
        }
    }
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_and_is_final_if_it_stays() {
    let check = async |scheme: &str, login: &str, rules: &Rules, says: &str, kind: ErrorKind| {
        let at = proxy(rules, scheme == "http").await;
        let error = connect(&format!("{NAME}:9092"), parse(&format!("{scheme}://{login}{at}")))
            .await
            .expect_err("refused");
        let expected = format!("connecting to {NAME}:9092: cannot reach {NAME}:9092: the proxy {at} {says}");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.is_retriable(), kind == ErrorKind::Network, "{error}");
    };
    let (_cluster, open) = cluster().await;
    let closed = Rules { user: Some(("alice", "pencil")), ..open.clone() };
    for scheme in ["socks5", "http"] {
        let refuses = "refuses the user or the password";
        check(scheme, "alice:hunter@", &closed, refuses, ErrorKind::Authentication).await;
        check(scheme, "", &closed, "does not let anybody in with no password", ErrorKind::Authentication)
            .await;
    }
    let refusing = |refusal| Rules { refusal: Some(refusal), ..open.clone() };
    for (answer, says, kind) in [
        (&[5u8, 2, 0, 1, 0, 0, 0, 0, 0, 0][..], "does not allow connections to it", ErrorKind::InvalidInput),
        (
            &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
            "cannot connect to it: the host is unreachable, or its name is unknown",
            ErrorKind::Network,
        ),
        (
            &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
            "cannot connect to it: the connection was refused",
            ErrorKind::Network,
        ),
        (&[], "closed the connection", ErrorKind::Network),
    ] {
        check("socks5", "", &refusing(answer), says, kind).await;
    }
    for (answer, says, kind) in [
        (
            &b"HTTP/1.1 403 Forbidden\r\n\r\n"[..],
            "does not allow connections to it: HTTP/1.1 403 Forbidden",
            ErrorKind::InvalidInput,
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nServer: x\r\n\r\n",
            "cannot connect to it: HTTP/1.1 502 Bad Gateway",
            ErrorKind::Network,
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP", ErrorKind::Protocol),
    ] {
        check("http", "", &refusing(answer), says, kind).await;
    }
}

#[tokio::test]
async fn hosts_that_are_excepted_are_reached_without_the_proxy() {
    let (cluster, rules) = cluster().await;
    let at = proxy(&rules, false).await;
    let proxy = parse(&format!("socks5://{at}")).except("127.0.0.1");
    connect(cluster.bootstrap(), proxy).await.expect("connected");
    assert_eq!(rules.asked.load(Ordering::Relaxed), 0);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_goes_through_a_proxy_from_end_to_end() {
    use milena_broker::{Authority, Listener};

    let authority = Authority::new().expect("made");
    let identity = authority.server([NAME, "127.0.0.1"]).expect("made");
    let listener = Listener::ssl(milena_broker::Tls::of(&identity));
    let cluster = Broker::builder().listener(listener).start().await.expect("started");
    let to = cluster.bootstrap().parse().expect("an address");
    let rules = Rules { refusal: None, user: None, to, asked: Arc::default() };
    for (scheme, is_http) in [("socks5", false), ("http", true)] {
        let at = proxy(&rules, is_http).await;
        let client = Client::builder()
            .bootstrap(&format!("{NAME}:9093"))
            .connector(parse(&format!("{scheme}://{at}")))
            .tls(milena::Tls::roots_from_pem(authority.certificate_pem()))
            .connect()
            .await
            .expect("connected");
        client.admin().topics().await.expect("listed");
    }
}
