//! HTTP/1.1 around the routes. Whoever connects may be hostile, so everything has a limit: heads, bodies, times, connections.

mod io;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method as HttpMethod, Request as HttpRequest, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::Answer;
use super::fault::Fault;
use super::request::{Method, Request};

/// How much peers may want.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) body_bytes: usize,
    /// For the head of a request, and between requests of a connection.
    pub(super) head: Duration,
    /// For the body of a request.
    pub(super) body: Duration,
    /// For a part of an answer to be taken.
    pub(super) write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            // As large as a record may be.
            body_bytes: 1 << 20,
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// The head of a request, with its headers, has at most this many bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// After an error of the system, such as too many open files, accepting waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers requests.
pub(super) trait Service: Send + Sync + 'static {
    fn answer(self: Arc<Self>, request: Request) -> impl Future<Output = Result<Answer, Fault>> + Send;
}

/// Serves until `stop` is true or gone. Then requests in work are answered, and connections closed.
pub(super) async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // When all are taken, the next ones wait in the system's queue, which has its own limit.
        let taken = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            taken = taken => taken,
        };
        let Ok(permit) = permit else { break };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (service, stop) = (Arc::clone(&service), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            carry(stream, service, limits, stop).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The requests of a connection.
async fn carry<S: Service>(
    stream: TcpStream,
    service: Arc<S>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are short, and written at once.
    let _ = stream.set_nodelay(true);
    let socket = io::Socket::new(stream, limits.write);
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(respond(&service, request, limits).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(io::Tokio)
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(socket, respond);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a peer leaves is its own affair.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Confluent's type of content. Clients that want to know compare it with this text.
const CONFLUENT_JSON: &str = "application/vnd.schemaregistry.v1+json";
const TYPES: [&str; 3] = [CONFLUENT_JSON, "application/vnd.schemaregistry+json", "application/json"];

async fn respond<S: Service>(
    service: &Arc<S>,
    request: HttpRequest<Incoming>,
    limits: Limits,
) -> Response<Full<Bytes>> {
    let Some(content_type) = accepted(request.headers()) else {
        return plain(StatusCode::NOT_ACCEPTABLE, "HTTP 406 Not Acceptable", CONFLUENT_JSON);
    };
    let is_head = request.method() == HttpMethod::HEAD;
    let answered = match read(request, limits).await {
        Ok(request) => {
            Arc::clone(service).answer(request).await.unwrap_or_else(|fault| Answer::refusal(&fault))
        }
        Err(refused) => return plain(refused.0, refused.1, content_type),
    };
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = if is_head { Vec::new() } else { answered.body };
    response(status, content_type, body)
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    }
    response
}

/// A refusal of a request that the routes do not see.
fn plain(status: StatusCode, message: &str, content_type: &'static str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error_code": status.as_u16(), "message": message });
    let mut response = response(status, content_type, body.to_string().into_bytes());
    // What the peer still sends is not read.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

struct Refused(StatusCode, &'static str);

/// Reads a request within the limits.
async fn read(request: HttpRequest<Incoming>, limits: Limits) -> Result<Request, Refused> {
    let method = match *request.method() {
        HttpMethod::GET | HttpMethod::HEAD => Method::Get,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::DELETE => Method::Delete,
        _ => return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "HTTP 405 Method Not Allowed")),
    };
    let has_body = matches!(method, Method::Post | Method::Put);
    if has_body && !is_json(request.headers()) {
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "HTTP 415 Unsupported Media Type"));
    }
    let (head, body) = request.into_parts();
    let too_large = Refused(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than this registry takes");
    let most = limits.body_bytes;
    if body.size_hint().lower() > most as u64 {
        return Err(too_large);
    }
    let body = match timeout(limits.body, collect(body, most)).await {
        Err(_) => return Err(Refused(StatusCode::REQUEST_TIMEOUT, "The body did not come in time")),
        Ok(Err(Uncollected::TooLarge)) => return Err(too_large),
        Ok(Err(Uncollected::Broken)) => return Err(Refused(StatusCode::BAD_REQUEST, "The body is broken")),
        Ok(Ok(body)) => body,
    };
    let query = head.uri.query().unwrap_or_default();
    Request::new(method, head.uri.path(), query, body)
        .map_err(|_| Refused(StatusCode::BAD_REQUEST, "HTTP 400 Bad Request: the target cannot be read"))
}

enum Uncollected {
    TooLarge,
    Broken,
}

/// The whole body, which grows as it arrives: a length that a peer announces reserves nothing.
async fn collect(mut body: Incoming, most: usize) -> Result<Vec<u8>, Uncollected> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Uncollected::Broken) };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Uncollected::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Whether a body may be read as JSON. Clients that say nothing mean it.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    TYPES.iter().chain(&["application/octet-stream"]).any(|known| kind.eq_ignore_ascii_case(known))
}

/// The type in which the peer wants the answer. None if it wants one that there is not.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let wanted = || accept.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
    if wanted().any(|one| ["*/*", "application/*", ""].contains(&one)) {
        return Some(CONFLUENT_JSON);
    }
    TYPES.into_iter().find(|known| wanted().any(|one| one.eq_ignore_ascii_case(known)))
}
