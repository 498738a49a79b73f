//! Requests over HTTP/1.1 to servers that are no brokers: issuers of tokens, metadata services, registries, receivers of alerts.
//!
//! ```text
//! Request ─▶ where it may go (url) ─▶ TCP or a proxy ─▶ our TLS ─▶ hyper (io) ─▶ Response, within bounds
//!                                                   Attempts (attempts): whether and when to try again
//! ```
//!
//! It is small, and meant for the few requests that Milena's own crates make: one request goes over one connection, bodies are in
//! memory, and redirects are errors. TLS is that of the client ([`Tls`]). What an answer means is the caller's business.
//!
//! Requests go to `https` addresses. `http` has to be allowed, [to this machine](HttpSettings::http_to_loopback) or [to hosts by
//! name](HttpSettings::http_to).
//!
//! ```
//! use milena::http::{Http, HttpSettings, Request};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = format!("http://{}/health", listener.local_addr()?);
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await.unwrap();
//! #     let _ = stream.read(&mut [0; 1024]).await;
//! #     let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup").await;
//! # });
//! let http = Http::new(HttpSettings::default().http_to_loopback());
//! let response = http.send(&Request::get(address.parse()?)).await?; // "http://localhost:8080/health"
//! assert_eq!((response.status(), response.body()), (200, &b"up"[..]));
//! # Ok(())
//! # }
//! ```

#[cfg(any(feature = "oauth", test))]
mod attempts;
mod io;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::HeaderMap;
use milena_core::{Instant, Obstacle};
use zeroize::Zeroizing;

#[cfg(feature = "oauth")]
pub(crate) use self::attempts::{Attempts, BACKOFF};
use self::io::HyperIo;
pub use self::url::Url;
use crate::clock::Clock;
use crate::connect::{Connect as _, Connector, Transport};
use crate::runtime::Executor;
#[doc(hidden)]
pub use crate::sasl::Tokens;
use crate::tls::{Material, TlsConnector};
use crate::{Address, ConnectError, Proxy, Secret, Tcp, Tls};

/// How requests are made.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Whom to trust. Default: the system's roots.
    pub(crate) tls: Tls,
    /// The way to servers. Default: what the environment says.
    pub(crate) route: Route,
    /// Where requests may go without TLS. Default: nowhere.
    pub(crate) plain: Plain,
    /// How long connecting may take, the handshake of TLS included. Java: `sasl.login.connect.timeout.ms`. Default 10 s.
    pub(crate) connect_timeout: Duration,
    /// How long a request may take, from connecting to the last byte of the answer. Default 10 s.
    pub(crate) timeout: Duration,
    /// The longest body of an answer. Default 1 MiB.
    pub(crate) body_bytes_max: usize,
}

/// The way to servers. Addresses that plain HTTP may go to are always connected to directly.
#[derive(Debug, Clone, Default)]
pub(crate) enum Route {
    /// The proxy that `HTTPS_PROXY` or `ALL_PROXY` names, except for the hosts of `NO_PROXY` and for loopback addresses.
    #[default]
    Environment,
    /// Through this one.
    Proxy(Proxy),
}

/// Where requests may go without TLS.
#[derive(Debug, Clone, Default)]
pub(crate) enum Plain {
    #[default]
    Nowhere,
    /// To this machine.
    Loopback,
    /// To this machine, and to these addresses, which never leave its link: those of metadata services.
    #[cfg(any(feature = "aws-msk-iam", test))]
    LoopbackAnd(&'static [IpAddr]),
    /// To this machine, and to the hosts of these names.
    LoopbackAndHosts(Vec<Box<str>>),
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            tls: Tls::system_roots(),
            route: Route::default(),
            plain: Plain::default(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            body_bytes_max: 1 << 20,
        }
    }
}

impl HttpSettings {
    /// Whom to trust. Default: the system's roots.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Connects through this proxy. Default: the one that `HTTPS_PROXY` or `ALL_PROXY` names, except for the hosts of `NO_PROXY` and
    /// for loopback addresses. `http` addresses are always connected to directly.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::Proxy(proxy);
        self
    }

    /// Lets requests go to this machine without TLS.
    pub fn http_to_loopback(mut self) -> Self {
        if matches!(self.plain, Plain::Nowhere) {
            self.plain = Plain::Loopback;
        }
        self
    }

    /// Lets requests go to this host without TLS, and to this machine. `host` is written as in the URL. Anyone on the way reads such
    /// a request, and can answer it.
    pub fn http_to(mut self, host: impl Into<Box<str>>) -> Self {
        let host = host.into();
        match &mut self.plain {
            Plain::LoopbackAndHosts(hosts) => hosts.push(host),
            plain => *plain = Plain::LoopbackAndHosts(vec![host]),
        }
        self
    }

    /// How long connecting may take, the handshake of TLS included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take, from connecting to the last byte of the answer. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest body of an answer. Default 1 MiB.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }
}

/// Makes requests.
#[derive(Debug)]
pub struct Http {
    settings: HttpSettings,
    /// What TLS reads, when the first request needs it.
    material: Mutex<Option<Arc<Material>>>,
}

/// A request. Neither its headers' values nor its body are printed.
#[derive(Debug, Clone)]
pub struct Request {
    method: hyper::Method,
    url: Url,
    headers: Vec<(&'static str, Secret)>,
    body: Option<Secret>,
}

/// An answer. Its body is overwritten in memory when it is dropped.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// The head of an answer, which hyper reads into one buffer, has at most this many bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

impl Request {
    /// A GET request.
    pub fn get(url: Url) -> Self {
        Self { method: hyper::Method::GET, url, headers: Vec::new(), body: None }
    }

    /// A PUT request without a body, such as the one that AWS' metadata service gives session tokens for.
    pub fn put(url: Url) -> Self {
        Self { method: hyper::Method::PUT, ..Self::get(url) }
    }

    /// A POST request with this body.
    pub fn post(url: Url, content_type: &'static str, body: impl Into<Secret>) -> Self {
        let headers = vec![("content-type", Secret::from(content_type))];
        Self { method: hyper::Method::POST, url, headers, body: Some(body.into()) }
    }

    /// A PUT request with this body.
    pub fn put_body(url: Url, content_type: &'static str, body: impl Into<Secret>) -> Self {
        Self { method: hyper::Method::PUT, ..Self::post(url, content_type, body) }
    }

    /// A DELETE request.
    pub fn delete(url: Url) -> Self {
        Self { method: hyper::Method::DELETE, ..Self::get(url) }
    }

    /// The same with a header. The name is lower-case; the value is not printed.
    pub fn header(mut self, name: &'static str, value: impl Into<Secret>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Response {
    /// The status, for example 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of a header, if it is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the same request may get another answer soon: the server is overloaded, starting, or has a fault.
    pub fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..)
    }
}

/// An address that a server names, without what may be secret: the user, the query and the fragment.
fn without_secrets(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("//") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}//{host}{path}")
}

/// What a server said, without control characters, and cut to a length: for errors. It is public for Milena's other crates.
#[doc(hidden)]
pub fn cleaned(text: &str, characters_max: usize) -> String {
    let is_hidden = |character: char| {
        // Also what turns the direction of text, or is not seen.
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut characters = text.chars().map(|character| if is_hidden(character) { ' ' } else { character });
    let mut cleaned: String = characters.by_ref().take(characters_max).collect();
    if characters.next().is_some() {
        cleaned.push('…');
    }
    cleaned.trim().to_owned()
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body_bytes = self.body.len();
        f.debug_struct("Response").field("status", &self.status).field("body_bytes", &body_bytes).finish()
    }
}

impl Http {
    /// Nothing is connected or read before the first request.
    pub fn new(settings: HttpSettings) -> Self {
        Self { settings, material: Mutex::new(None) }
    }

    /// Makes the request and reads the answer, whatever its status says. It needs tokio's I/O.
    ///
    /// # Errors
    /// When there is no answer within the bounds, with the URL and the reason; the obstacle says whether to try again. A
    /// redirect is an error: whoever answers could send what is secret in the request elsewhere.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed.
    pub async fn send(&self, request: &Request) -> Result<Response, ConnectError> {
        let url = &request.url;
        let failed = |error: ConnectError| {
            let said = ConnectError::new(error.obstacle(), format!("{url}: {error}"));
            if error.is_unsent() { said.unsent() } else { said }
        };
        let runtime = Executor::current();
        let runtime = runtime.map_err(|why| ConnectError::new(Obstacle::Configuration, why.to_string()))?;
        let clock = Clock::start(&runtime);
        let (timeout, until) = (self.settings.timeout, clock.after(self.settings.timeout));
        let answered = clock.timeout_at(until, Box::pin(self.answered(request, &clock, until)));
        let late = || network(format!("no complete answer came within {timeout:?}"));
        let response = answered.await.unwrap_or_else(|| Err(late())).map_err(failed)?;
        if let 300..400 = response.status {
            let to = response.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.map(|to| format!(" to {}", cleaned(&without_secrets(to), 200)));
            let why = format!("the server redirects{} ({})", to.unwrap_or_default(), response.status);
            let why = format!("{why}, and redirects are not followed: name the right address");
            return Err(failed(ConnectError::new(Obstacle::Configuration, why)));
        }
        Ok(response)
    }

    async fn answered(
        &self,
        request: &Request,
        clock: &Clock,
        until: Instant,
    ) -> Result<Response, ConnectError> {
        let prepared = self.prepared(request)?;
        let connect_timeout = self.settings.connect_timeout;
        let connect_until = clock.after(connect_timeout).min(until);
        let connected = clock.timeout_at(connect_until, self.connected(&request.url, clock, connect_until));
        let late = || network(format!("no connection was made within {connect_timeout:?}"));
        // A request that changes something can be made again after these errors, and after no other ones.
        let stream = connected.await.unwrap_or_else(|| Err(late())).map_err(ConnectError::unsent)?;

        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let handshake = builder.handshake(HyperIo(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        // The connection makes progress while the answer is read, in this task.
        let mut connection = pin!(connection);
        let mut exchange = pin!(async {
            let response = sender.send_request(prepared).await.map_err(|error| self.broken(&error))?;
            self.read(response).await
        });
        tokio::select! {
            biased;
            response = &mut exchange => response,
            // What was read before the connection ended is still there.
            _ = &mut connection => exchange.await,
        }
    }

    /// The request as hyper takes it.
    fn prepared(&self, request: &Request) -> Result<hyper::Request<Full<Bytes>>, ConnectError> {
        let wrong = |what: &str| ConnectError::new(Obstacle::Configuration, format!("{what} cannot be sent"));
        let Request { method, url, headers, body } = request;
        let body = body.as_ref().map(|body| Bytes::copy_from_slice(body.expose()));
        let mut prepared = hyper::Request::builder()
            .method(method)
            .uri(url.target())
            .header(HOST, url.authority())
            .header(USER_AGENT, concat!("milena/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.expose());
            let mut value = value.map_err(|_| wrong(&format!("the header {name}")))?;
            value.set_sensitive(true);
            prepared = prepared.header(*name, value);
        }
        if let Some(body) = &body {
            prepared = prepared.header(CONTENT_LENGTH, body.len());
        }
        prepared.body(Full::new(body.unwrap_or_default())).map_err(|_| wrong("the address"))
    }

    /// A connection for the request, encrypted unless it may be plain.
    async fn connected(
        &self,
        url: &Url,
        clock: &Clock,
        until: Instant,
    ) -> Result<Box<dyn Transport>, ConnectError> {
        let address = Address::new(url.host(), url.port());
        let tcp = Tcp::default();
        if !url.is_encrypted() {
            let found = tcp.resolve(&address).await?;
            let plain = &self.settings.plain;
            let is_allowed = |at: &SocketAddr| plain.allows(at.ip()) || plain.allows_host(url.host());
            let allowed = found.into_iter().filter(is_allowed).collect();
            let refused =
                "http is allowed to a loopback address only, and only where it is asked for; use https";
            return tried(&(Arc::new(tcp) as Connector), &address, allowed, clock, until)
                .await
                .unwrap_or_else(|| Err(ConnectError::new(Obstacle::Configuration, refused)));
        }
        let proxy = match &self.settings.route {
            Route::Proxy(proxy) => Some(proxy.clone().with_tcp(tcp)),
            Route::Environment if url.is_loopback() => None,
            Route::Environment => Proxy::from_env_for_https()
                .map_err(|error| ConnectError::new(Obstacle::Configuration, error.to_string()))?,
        };
        let inner: Connector = match proxy {
            Some(proxy) => Arc::new(proxy),
            None => Arc::new(tcp),
        };
        let material = self.material()?;
        let found = inner.resolve(&address).await?;
        let connector: Connector = Arc::new(TlsConnector::to_servers(inner, material, clock.clone()));
        match tried(&connector, &address, found, clock, until).await {
            Some(tried) => tried,
            // The proxy looks the name up.
            None => connector.connect_within(&address, None, left(clock, until)).await,
        }
    }

    fn material(&self) -> Result<Arc<Material>, ConnectError> {
        let mut material = self.material.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(material) = &*material {
            return Ok(Arc::clone(material));
        }
        let read = Material::new(self.settings.tls.clone());
        let read = read.map_err(|error| ConnectError::new(Obstacle::Configuration, error.to_string()))?;
        Ok(Arc::clone(material.insert(Arc::new(read))))
    }

    async fn read(&self, response: hyper::Response<Incoming>) -> Result<Response, ConnectError> {
        let limit = self.settings.body_bytes_max;
        let (head, mut incoming) = response.into_parts();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            if body.len() + data.len() > limit {
                let why = format!("the answer has more than {limit} bytes");
                return Err(ConnectError::new(Obstacle::Peer, why));
            }
            body.extend_from_slice(data);
        }
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// An error of hyper's.
    fn broken(&self, error: &hyper::Error) -> ConnectError {
        // The stream's own errors, such as an alert of TLS that comes late, say what is the matter.
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(refused) = cause.downcast_ref::<std::io::Error>().and_then(|error| {
                let inner = error.get_ref()?;
                inner.downcast_ref::<ConnectError>()
            }) {
                return refused.clone();
            }
            source = cause.source();
        }
        if error.is_parse() {
            return ConnectError::new(
                Obstacle::Peer,
                format!("the answer cannot be read as HTTP/1.1: {error}"),
            );
        }
        if error.is_incomplete_message() {
            return network("the server closed the connection before its answer was complete".into());
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        network(format!("{error}{cause}"))
    }
}

fn network(why: String) -> ConnectError {
    ConnectError::new(Obstacle::Network, why)
}

/// The time until `until`.
fn left(clock: &Clock, until: Instant) -> Duration {
    let now = clock.now();
    if until > now { until - now } else { Duration::ZERO }
}

/// A connection to the first of the addresses that can be connected to, each of which gets a part of the time that is left.
/// None if there is no address.
async fn tried(
    connector: &Connector,
    address: &Address,
    found: Vec<SocketAddr>,
    clock: &Clock,
    until: Instant,
) -> Option<Result<Box<dyn Transport>, ConnectError>> {
    let mut last = None;
    let count = found.len();
    for (index, at) in found.into_iter().enumerate() {
        let within = left(clock, until) / u32::try_from(count - index).unwrap_or(u32::MAX);
        let connecting = connector.connect_within(address, Some(at), within);
        match clock.timeout_at(clock.after(within), connecting).await {
            Some(Ok(stream)) => return Some(Ok(stream)),
            // Another address has the same certificate.
            Some(Err(error)) if error.obstacle().is_final() => return Some(Err(error)),
            Some(Err(error)) => last = Some(error),
            None => last = Some(network(format!("{at} does not answer"))),
        }
    }
    last.map(|error| Err(ConnectError::new(error.obstacle(), format!("it cannot be reached: {error}"))))
}

impl Plain {
    fn allows(&self, ip: IpAddr) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Loopback | Self::LoopbackAndHosts(_) => ip.is_loopback(),
            #[cfg(any(feature = "aws-msk-iam", test))]
            Self::LoopbackAnd(named) => ip.is_loopback() || named.contains(&ip),
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        match self {
            Self::LoopbackAndHosts(hosts) => hosts.iter().any(|named| named.eq_ignore_ascii_case(host)),
            _ => false,
        }
    }
}
