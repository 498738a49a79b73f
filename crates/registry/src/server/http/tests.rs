//! Peers that do not behave, over sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Answers with what it was asked.
struct Echo;

impl Service for Echo {
    async fn answer(self: Arc<Self>, request: Request) -> Result<Answer, Fault> {
        if request.path == ["large"] {
            return Ok(Answer { status: 200, body: vec![b'a'; 64 << 20], records: Vec::new() });
        }
        let body = format!("{:?} {:?}", request.method, request.path).into_bytes();
        Ok(Answer { status: 200, body, records: Vec::new() })
    }
}

struct Served {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn served(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = watch::channel(false);
    Served { address, stop, task: tokio::spawn(serve(listener, Arc::new(Echo), limits, stopped)) }
}

/// Whatever happens, a test ends.
const PATIENCE: Duration = Duration::from_secs(60);

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connects")
    }

    /// All that comes back until the server closes.
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may answer and close before all is written.
        let _ = stream.write_all(request).await;
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    // A connection that is reset has said what it had to say.
    let _ = read;
    String::from_utf8_lossy(&answer).into_owned()
}

fn impatient() -> Limits {
    let moment = Duration::from_millis(50);
    Limits { connections: 2, body_bytes: 1000, head: moment, body: moment, write: moment }
}

fn post(body: &str, headers: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn requests_of_a_connection_are_answered_in_turn() {
    let server = served(Limits::default()).await;
    let twice =
        b"GET /a%2Fb HTTP/1.1\r\nhost: a\r\n\r\nDELETE /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = server.ask(twice).await;
    assert!(answer.contains("Get [\"a/b\"]") && answer.ends_with("Delete [\"c\"]"), "{answer}");
    assert!(answer.contains("content-type: application/vnd.schemaregistry.v1+json"), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = served(Limits { body_bytes: 1000, ..Limits::default() }).await;
    let large = "a".repeat(1001);
    let chunked = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = [chunked.as_slice(), b"fff\r\n", &vec![b'a'; 0xfff], b"\r\n0\r\n\r\n"].concat();
    let many_headers = "a: b\r\n".repeat(1000);
    let long_header = format!("a: {}\r\n", "b".repeat(100_000));
    for (request, status) in [
        (b"\x16\x03\x01\x02\xff garbage\r\n\r\n".to_vec(), "400"),
        (b"GET /% HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(), "400"),
        (b"PATCH /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(), "405"),
        (b"GET /a HTTP/1.1\r\nhost: a\r\naccept: text/html\r\nconnection: close\r\n\r\n".to_vec(), "406"),
        (b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n".to_vec(), "413"),
        (post(&large, ""), "413"),
        (chunks, "413"),
        (post("{}", "content-type: text/plain\r\n"), "415"),
        (post("{}", "content-type: application/json; charset=utf-8\r\n"), "200"),
        (post("{}", ""), "200"),
        (post("", &many_headers), "431"),
        (post("", &long_header), "431"),
    ] {
        let answer = server.ask(&request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
    }
}

#[tokio::test]
async fn the_wanted_type_is_answered() {
    let server = served(Limits::default()).await;
    for (accept, kind) in [
        ("application/json", "application/json"),
        (
            "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json",
            CONFLUENT_JSON,
        ),
        ("text/html, application/json;q=0.9", "application/json"),
        ("text/html, */*;q=0.1", CONFLUENT_JSON),
    ] {
        let request = format!("GET /a HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        let answer = server.ask(request.as_bytes()).await;
        assert!(answer.contains(&format!("content-type: {kind}\r\n")), "{accept}: {answer}");
    }
}

#[tokio::test]
async fn who_dawdles_is_closed() {
    let server = served(impatient()).await;
    // Without a head, in the middle of a head, between requests, in the middle of a body.
    for part in [
        &b""[..],
        b"GET /a HTTP/1.1\r\nhost: ",
        b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(part).await.expect("is written");
        rest(&mut stream).await;
    }
}

#[tokio::test]
async fn who_does_not_read_is_closed() {
    let server = served(impatient()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .expect("is written");
    // Both connections that there may be are taken; a third one is served when one of them is given up.
    let mut second = server.connect().await;
    second
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .expect("is written");
    let answer = timeout(PATIENCE, server.ask(b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    assert!(answer.await.expect("is served").contains("Get [\"a\"]"));
}

#[tokio::test]
async fn a_stop_ends_idle_connections() {
    let server = served(Limits::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("is written");
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.send_replace(true);
    rest(&mut idle).await;
    timeout(PATIENCE, server.task).await.expect("ends").expect("ends well");
    assert!(TcpStream::connect(server.address).await.is_err(), "it still listens");
}
