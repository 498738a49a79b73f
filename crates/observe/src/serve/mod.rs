//! Serves metrics over HTTP/1.1, for Prometheus to scrape.
//!
//! It answers `GET /metrics` (and `HEAD`), and `GET /-/healthy`. Whoever connects may be hostile: a head has at most 8 KiB and
//! 10 seconds, an answer 30 seconds, there are at most 32 connections, and each carries one request.

mod request;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use milena::metrics::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::request::{Method, Request};
use crate::exposition::{Encoding, Format};

/// Something that has metrics.
pub trait Expose: Send + Sync + 'static {
    /// The metrics as they stand, in this format and packed. It is called for each scrape, on a thread on which it may take long, and
    /// at most twice at the same time.
    fn expose(&self, format: Format, encoding: Encoding) -> Arc<[u8]>;
}

impl Expose for Registry {
    fn expose(&self, format: Format, encoding: Encoding) -> Arc<[u8]> {
        encoding.pack(format.write(&self.snapshot())).into()
    }
}

/// A server of metrics. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const CONNECTIONS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 << 10;

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    head: Duration,
    answer: Duration,
}

const TIMES: Times = Times { head: Duration::from_secs(10), answer: Duration::from_secs(30) };
/// After an error of the system, such as too many open files, accepting waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves metrics at an address, such as `127.0.0.1:9464`, until the result is dropped. It tells everyone who can connect, so the
/// address should not be one that strangers reach.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::metrics::Registry;
///
/// let registry = Registry::new(); // which a client was given by `Client::builder().metrics(&registry)`
/// let server = milena_observe::serve("127.0.0.1:0", registry).await?;
/// println!("http://{}/metrics", server.address());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When it cannot listen there.
///
/// # Panics
/// When it is not called on a tokio runtime.
///
/// # Cancel safety
/// Dropped, it does not listen.
pub async fn serve(address: impl ToSocketAddrs, metrics: impl Expose) -> io::Result<Server> {
    serve_within(TIMES, TcpListener::bind(address).await?, metrics)
}

fn serve_within(times: Times, listener: TcpListener, metrics: impl Expose) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let source = Source { metrics: Arc::new(metrics), turns: Arc::new(Semaphore::new(WRITING_MAX)) };
    Ok(Server { address, task: tokio::spawn(accept(times, listener, source)) })
}

/// What answers are made of.
#[derive(Clone)]
struct Source {
    metrics: Arc<dyn Expose>,
    turns: Arc<Semaphore>,
}

/// Each answer that is being written takes memory for all metrics.
const WRITING_MAX: usize = 2;

impl Source {
    /// The metrics. None if writing them panicked.
    async fn write(&self, format: Format, encoding: Encoding) -> Option<Arc<[u8]>> {
        let _turn = self.turns.acquire().await.ok()?;
        let metrics = Arc::clone(&self.metrics);
        // It may take many milliseconds, which the tasks of the program should not wait for.
        tokio::task::spawn_blocking(move || metrics.expose(format, encoding)).await.ok()
    }
}

async fn accept(times: Times, listener: TcpListener, source: Source) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // When all are taken, the next ones wait in the system's queue, which has its own limit.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let source = source.clone();
        connections.spawn(async move {
            let _permit = permit;
            answer_one(times, stream, &source).await;
        });
    }
}

async fn answer_one(times: Times, mut stream: TcpStream, source: &Source) {
    let Ok(Some(head)) = timeout(times.head, read_head(&mut stream)).await else { return };
    let answer = answer(&head, source).await;
    // Whoever does not read gets no more time.
    let _ = timeout(times.answer, send(&mut stream, &answer)).await;
}

/// The bytes up to the empty line, or what fits. None if the peer went away before.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    let mut limited = stream.take(HEAD_BYTES_MAX as u64);
    while !request::is_whole(&head) {
        match limited.read_buf(&mut head).await {
            Ok(1..) => {}
            _ if head.len() >= HEAD_BYTES_MAX => break,
            _ => return None,
        }
    }
    Some(head)
}

struct Answer {
    head: String,
    body: Option<Arc<[u8]>>,
}

async fn answer(head: &[u8], source: &Source) -> Answer {
    let plain = "text/plain; charset=utf-8";
    let refusal = |status: &str, text: &str| Answer::new(status, plain, text.as_bytes().into(), true);
    if !request::is_whole(head) {
        return refusal("431 Request Header Fields Too Large", "the head of a request has 8 KiB at most\n");
    }
    let Some(request) = Request::read(head) else {
        return refusal("400 Bad Request", "this is no request of HTTP/1.1\n");
    };
    let has_body = match request.method {
        Method::Get => true,
        Method::Head => false,
        Method::Other => return refusal("405 Method Not Allowed", "only GET and HEAD are known\n"),
    };
    match request.path {
        "/metrics" => {
            let format = Format::accepted(request.accept);
            let encoding = Encoding::accepted(request.accept_encoding);
            match source.write(format, encoding).await {
                Some(body) => Answer::new("200 OK", format.content_type(), body, has_body).packed(encoding),
                None => refusal("500 Internal Server Error", "writing the metrics failed\n"),
            }
        }
        "/-/healthy" => Answer::new("200 OK", plain, b"up\n"[..].into(), has_body),
        "/" => Answer::new("200 OK", plain, b"metrics are at /metrics\n"[..].into(), has_body),
        _ => Answer::new("404 Not Found", plain, b"metrics are at /metrics\n"[..].into(), has_body),
    }
}

impl Answer {
    fn new(status: &str, content_type: &str, body: Arc<[u8]>, has_body: bool) -> Self {
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        );
        Self { head, body: has_body.then_some(body) }
    }

    /// Tells how the body is packed.
    fn packed(mut self, encoding: Encoding) -> Self {
        let end = self.head.len() - "\r\n".len();
        self.head.insert_str(end, "Vary: Accept, Accept-Encoding\r\n");
        if let Some(name) = encoding.name() {
            self.head.insert_str(end, &format!("Content-Encoding: {name}\r\n"));
        }
        self
    }
}

async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    stream.write_all(answer.head.as_bytes()).await?;
    if let Some(body) = &answer.body {
        stream.write_all(body).await?;
    }
    stream.shutdown().await?;
    // Bytes that were not read would reset the connection, and take the answer with them.
    let mut rest = stream.take(64 << 10);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
