//! Requests to a server that answers what a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use milena_broker::{Authority, Identity};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that reads a request's head, and its body if it says how long that is, and answers with the same bytes each
/// time. Without bytes it does not answer.
struct Server {
    at: SocketAddr,
    requests: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("bound");
        let (requests, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let acceptor = identity.map(|identity| {
            let chain = CertificateDer::from_pem_slice(identity.certificate_pem().as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).expect("PEM");
            let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()));
            let config =
                config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
            TlsAcceptor::from(Arc::new(config.with_single_cert(vec![chain], key).expect("a certificate")))
        });
        let (answer, counted, seen) = (answer.into(), Arc::clone(&requests), Arc::clone(&last));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, counted, seen, acceptor) =
                    (answer.clone(), Arc::clone(&counted), Arc::clone(&seen), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &answer, &counted, &seen).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            serve(stream, &answer, &counted, &seen).await;
                        }
                    }
                });
            }
        });
        Self { at, requests, last }
    }

    fn url(&self, scheme: &str, path: &str) -> Url {
        format!("{scheme}://{}{path}", self.at).parse().expect("a URL")
    }

    fn last(&self) -> String {
        self.last.lock().expect("no panic").clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    counted: &AtomicUsize,
    seen: &Mutex<String>,
) {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.map_or(0, |length| length.parse().expect("a number")) <= body.len() {
                *seen.lock().expect("no panic") = text;
                break;
            }
        }
        let mut part = [0; 1024];
        let Ok(count @ 1..) = stream.read(&mut part).await else { return };
        request.extend_from_slice(&part[..count]);
    }
    counted.fetch_add(1, Ordering::Relaxed);
    if answer.is_empty() {
        return std::future::pending().await;
    }
    // The client may have had enough of it.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-told: yes\r\n\r\n{body}", body.len())
}

fn plain() -> HttpSettings {
    HttpSettings { plain: Plain::Loopback, ..HttpSettings::default() }
}

async fn fails(settings: HttpSettings, request: &Request) -> (Obstacle, String) {
    let error = Http::new(settings).send(request).await.expect_err("it fails");
    (error.obstacle(), error.to_string())
}

#[tokio::test]
async fn a_request_says_what_it_was_given_and_the_answer_comes_back() {
    let server = Server::start(ok("answer"), None).await;
    let http = Http::new(plain());
    let request =
        Request::post(server.url("http", "/token?x=1"), "application/x-www-form-urlencoded", "a=b&c=d");
    let response = http.send(&request.header("authorization", "Basic eA==")).await.expect("an answer");
    assert_eq!((response.status(), response.body()), (200, b"answer".as_slice()));
    assert_eq!((response.header("x-told"), response.may_pass()), (Some("yes"), false));
    let last = server.last();
    assert!(last.starts_with("POST /token?x=1 HTTP/1.1\r\n"), "{last}");
    for line in
        [format!("host: {}", server.at), "authorization: Basic eA==".into(), "connection: close".into()]
    {
        assert!(last.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {last}");
    }
    assert!(last.ends_with("\r\n\r\na=b&c=d"), "{last}");
    let response = http.send(&Request::get(server.url("http", "/"))).await.expect("an answer");
    assert_eq!(response.body(), b"answer");
    assert!(server.last().starts_with("GET / HTTP/1.1\r\n"));
    http.send(&Request::put(server.url("http", "/latest"))).await.expect("an answer");
    assert!(server.last().starts_with("PUT /latest HTTP/1.1\r\n"));
}

#[tokio::test]
async fn plain_http_is_for_named_addresses_only() {
    let server = Server::start(ok(""), None).await;
    let request = Request::get(server.url("http", "/token?hunter2"));
    let (obstacle, why) = fails(HttpSettings::default(), &request).await;
    let url = format!("http://{}/token", server.at);
    assert_eq!(
        (obstacle, why),
        (
            Obstacle::Configuration,
            format!(
                "{url}: http is allowed to a loopback address only, and only where it is asked for; use https"
            )
        )
    );
    let elsewhere = Request::get("http://192.0.2.1:80/".parse().expect("a URL"));
    let (obstacle, why) = fails(plain(), &elsewhere).await;
    assert!(obstacle == Obstacle::Configuration && why.contains("use https"), "{why}");
    assert_eq!(server.requests.load(Ordering::Relaxed), 0);
    // A host that is named is tried; nothing listens there.
    let named = HttpSettings::default().http_to("127.0.0.1").http_to("LOCALHOST");
    assert!(named.plain.allows_host("localhost") && !named.plain.allows_host("localhost.example"));
    Http::new(named.http_to_loopback()).send(&request).await.expect("an answer");
    const NAMED: &[IpAddr] = &[IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254))];
    assert!(Plain::LoopbackAnd(NAMED).allows(NAMED[0]) && !Plain::Loopback.allows(NAMED[0]));
}

#[tokio::test]
async fn answers_are_bounded() {
    let check = async |answer: Vec<u8>, expected: &str| {
        let server = Server::start(answer, None).await;
        let settings = HttpSettings { body_bytes_max: 1000, ..plain() };
        let (obstacle, why) = fails(settings, &Request::get(server.url("http", "/a"))).await;
        assert_eq!((obstacle, why), (Obstacle::Peer, format!("http://{}/a: {expected}", server.at)));
    };
    let long = "the answer has more than 1000 bytes";
    check(ok(&"x".repeat(1001)).into(), long).await;
    // Without a length it ends with the connection, which it does not.
    check([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 100_000]].concat(), long).await;
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    check(head.into(), "the answer cannot be read as HTTP/1.1: message head is too large").await;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    check(many.into(), "the answer cannot be read as HTTP/1.1: message head is too large").await;
    check(
        b"SSH-2.0-x\r\n\r\n".to_vec(),
        "the answer cannot be read as HTTP/1.1: invalid HTTP version parsed",
    )
    .await;
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx", None).await;
    let (obstacle, why) = fails(plain(), &Request::get(server.url("http", "/"))).await;
    assert_eq!(obstacle, Obstacle::Network, "{why}");
}

#[tokio::test]
async fn a_redirect_is_refused_and_named() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: https://me:hunter2@elsewhere/token#hunter2\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(answer, None).await;
    let (obstacle, why) = fails(plain(), &Request::get(server.url("http", "/"))).await;
    let expected = format!(
        "http://{}/: the server redirects to https://elsewhere/token (302), and redirects are not followed: name the right \
         address",
        server.at
    );
    assert_eq!((obstacle, why), (Obstacle::Configuration, expected));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = Server::start("", None).await;
    let settings = HttpSettings { timeout: Duration::from_millis(50), ..plain() };
    let (obstacle, why) = fails(settings, &Request::get(server.url("http", "/"))).await;
    let expected = format!("http://{}/: no complete answer came within 50ms", server.at);
    assert_eq!((obstacle, why), (Obstacle::Network, expected));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    drop(listener);
    let request = Request::get(format!("http://{at}/").parse().expect("a URL"));
    let (obstacle, why) = fails(plain(), &request).await;
    assert!(
        obstacle == Obstacle::Network && why.contains("it cannot be reached: Connection refused"),
        "{why}"
    );
}

#[tokio::test]
async fn certificates_of_servers_are_checked() {
    let authority = Authority::new().expect("an authority");
    let identity = authority.server(["127.0.0.1"]).expect("a certificate");
    let server = Server::start(ok("answer"), Some(&identity)).await;
    let trusting = |tls: Tls| HttpSettings { tls, ..HttpSettings::default() };
    let request = Request::get(server.url("https", "/"));
    let http = Http::new(trusting(Tls::roots_from_pem(authority.certificate_pem())));
    assert_eq!(http.send(&request).await.expect("an answer").body(), b"answer");

    let other = Authority::new().expect("an authority");
    let (obstacle, why) = fails(trusting(Tls::roots_from_pem(other.certificate_pem())), &request).await;
    assert_eq!(obstacle, Obstacle::Certificate, "{why}");
    assert!(why.contains("the certificate of 127.0.0.1"), "{why}");

    let misnamed = authority.server(["elsewhere"]).expect("a certificate");
    let server = Server::start(ok("answer"), Some(&misnamed)).await;
    let request = Request::get(server.url("https", "/"));
    let (obstacle, why) = fails(trusting(Tls::roots_from_pem(authority.certificate_pem())), &request).await;
    assert_eq!(obstacle, Obstacle::Certificate, "{why}");
    assert!(why.contains("the certificate of the server is not for 127.0.0.1 but for elsewhere"), "{why}");

    let server = Server::start(ok("answer"), None).await;
    let request = Request::get(server.url("https", "/"));
    let settings = trusting(Tls::roots_from_pem(authority.certificate_pem()));
    let settings = HttpSettings { connect_timeout: Duration::from_millis(100), ..settings };
    let (obstacle, why) = fails(settings, &request).await;
    assert_eq!(obstacle, Obstacle::Network, "{why}");
}

#[tokio::test]
async fn a_proxy_is_asked_for_servers_over_tls() {
    let proxy = Server::start("HTTP/1.1 502 no way\r\n\r\n", None).await;
    let route = Route::Proxy(Proxy::parse(&format!("http://{}", proxy.at)).expect("a proxy"));
    let settings = HttpSettings { tls: Tls::roots_from_pem(root()), route, ..HttpSettings::default() };
    let (obstacle, why) =
        fails(settings, &Request::get("https://issuer.test/".parse().expect("a URL"))).await;
    let expected =
        format!("https://issuer.test/: the proxy {} cannot connect to it: HTTP/1.1 502 no way", proxy.at);
    assert_eq!((obstacle, why), (Obstacle::Network, expected));
    assert!(proxy.last().starts_with("CONNECT issuer.test:443 HTTP/1.1\r\n"), "{}", proxy.last());
}

fn root() -> String {
    Authority::new().expect("an authority").certificate_pem()
}

#[test]
fn what_a_server_says_is_cleaned() {
    assert_eq!(cleaned("a\u{1b}[31mb\nc\u{202e}d", 100), "a [31mb c d");
    assert_eq!(cleaned(&"x".repeat(300), 200), format!("{}…", "x".repeat(200)));
}
