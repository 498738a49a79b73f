//! The issuer's sockets: a request per connection, and its answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{IssuerFault, State, grants};

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// The header `Authorization`.
    pub(super) authorization: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) location: Option<&'static str>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), location: None }
    }
}

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 512 * 1024;
/// A peer that sends its request more slowly is left.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves connections until the task is dropped.
pub(super) async fn serve(listener: TcpListener, config: Option<Arc<ServerConfig>>, state: Arc<State>) {
    let acceptor = config.map(TlsAcceptor::from);
    // They end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            // What becomes of a connection is the client's business.
            let _ = match acceptor {
                None => connection(stream, &state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => connection(stream, &state).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
}

async fn connection(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    let request = timeout(REQUEST_TIMEOUT, read(&mut stream)).await.unwrap_or(Ok(None))?;
    let Some(request) = request else { return Ok(()) };
    let Some(answer) = answer(state, &request).await else { return Ok(()) };
    let location = answer.location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n{location}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        answer.status,
        if answer.status < 300 { "OK" } else { "Refused" },
        answer.body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.body.as_bytes()).await?;
    stream.shutdown().await
}

/// The answer, or none if the connection is closed without one.
async fn answer(state: &State, request: &Request) -> Option<Answer> {
    if request.path == "/jwks" && request.method == "GET" {
        return Some(Answer::new(200, state.jwks()));
    }
    if request.path != "/token" {
        return Some(Answer::new(404, ""));
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    match state.next_fault() {
        Some(IssuerFault::Status(status)) => return Some(Answer::new(status, "")),
        Some(IssuerFault::Refuse(code, description)) => return Some(grants::refused(400, code, description)),
        Some(IssuerFault::Slow(time)) => tokio::time::sleep(time).await,
        Some(IssuerFault::Hang) => std::future::pending().await,
        Some(IssuerFault::Disconnect) => return None,
        Some(IssuerFault::Lose) => {
            grants::answer(state, request);
            return None;
        }
        Some(IssuerFault::Body(body)) => return Some(Answer::new(200, body)),
        Some(IssuerFault::Huge(bytes)) => return Some(Answer::new(200, "x".repeat(bytes))),
        Some(IssuerFault::Redirect(to)) => {
            return Some(Answer { status: 302, body: String::new(), location: Some(to) });
        }
        None => {}
    }
    if request.method != "POST" {
        return Some(Answer::new(405, ""));
    }
    Some(grants::answer(state, request))
}

/// Reads a request; none if it is no request, or too long.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let Some((mut request, length)) = parse(&bytes[..end]) else { return Ok(None) };
            if length > REQUEST_BYTES_MAX {
                return Ok(None);
            }
            if bytes.len() >= end + 4 + length {
                request.body = bytes[end + 4..end + 4 + length].to_vec();
                return Ok(Some(request));
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await? {
            0 => return Ok(None),
            _ if bytes.len() > REQUEST_BYTES_MAX => return Ok(None),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// A request's head, and the length of its body.
fn parse(head: &[u8]) -> Option<(Request, usize)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (mut authorization, mut length) = (None, 0);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let path = target.split('?').next().unwrap_or_default();
    Some((Request { method: method.into(), path: path.into(), authorization, body: Vec::new() }, length))
}
