//! Transports: they make the byte streams to brokers. TCP is here; users and tests may bring others.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use milena_core::Failure;
pub use milena_core::{Cause, Obstacle};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::Address;

/// A byte stream to a broker and back: a socket, or anything else that reads and writes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The future that [`Connect::connect`] returns.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, ConnectError>> + Send>>;

/// The future that [`Connect::resolve`] returns.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, ConnectError>> + Send>>;

/// The future that [`Connect::name_of`] returns.
pub type Naming = Pin<Box<dyn Future<Output = Result<Option<Arc<str>>, ConnectError>> + Send>>;

/// Makes connections. It is called once per connection, so its allocations do not count.
///
/// A name may stand for several hosts, and some of them may be dead. A transport that can connect to each of them returns
/// them from [`resolve`](Self::resolve). The client tries the next address when the one before has not become a working
/// connection within a quarter of a second, or sooner if there are many addresses and the connect timeout is short. It keeps
/// the first connection whose peer answers as a Kafka broker does, and tries the same address first the next time.
pub trait Connect: Send + Sync {
    /// The socket addresses that `address` stands for, best first. A transport that needs none, because a proxy resolves
    /// names, returns an empty list, which is the default.
    fn resolve(&self, address: &Address) -> Resolving {
        let _ = address;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The name that the address has in DNS, for [`DnsLookup::CanonicalBootstrap`](crate::DnsLookup::CanonicalBootstrap). `None`, which
    /// is the default, says that it has none.
    fn name_of(&self, ip: IpAddr) -> Naming {
        let _ = ip;
        Box::pin(async { Ok(None) })
    }

    /// Connects to `address`: at `at`, which is one of the socket addresses that [`resolve`](Self::resolve) returned, if it
    /// returned any. The client drops the future when it takes longer than the connect timeout, or when another address was
    /// faster.
    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting;

    /// As [`connect`](Self::connect), which is the default, and knows that the future will be dropped after `within`. A transport
    /// that ends a little sooner can say what took so long.
    fn connect_within(&self, address: &Address, at: Option<SocketAddr>, within: Duration) -> Connecting {
        let _ = within;
        self.connect(address, at)
    }

    /// Whether nobody between the client and the broker can read what is sent. Passwords and tokens are not sent over other
    /// connections unless that is allowed by name. False unless a transport says otherwise.
    fn is_encrypted(&self) -> bool {
        false
    }
}

/// Why a transport made no connection, or a provider has nothing to authenticate with.
///
/// ```
/// use milena::{ConnectError, Obstacle};
///
/// let error = ConnectError::new(Obstacle::Configuration, "the proxy has no address");
/// assert!(error.obstacle().is_final()); // it is not tried again: callers get the error at once
/// ```
#[derive(Debug, Clone)]
pub struct ConnectError {
    obstacle: Obstacle,
    cause: Option<Cause>,
    reason: Box<str>,
    /// Whether there was no connection to send anything over.
    is_unsent: bool,
}

impl ConnectError {
    /// An error with this reason. The obstacle says whether to try again, and whose fault it is.
    pub fn new(obstacle: Obstacle, reason: impl Into<Box<str>>) -> Self {
        Self { obstacle, cause: None, reason: reason.into(), is_unsent: false }
    }

    /// The same, which says what exactly stands in the way.
    #[must_use]
    pub fn with_cause(self, cause: Cause) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// What exactly stands in the way, where it is known.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// What stands in the way.
    pub fn obstacle(&self) -> Obstacle {
        self.obstacle
    }

    /// Whether it is certain that nothing of a request was sent. It is public for Milena's other crates.
    #[doc(hidden)]
    pub fn is_unsent(&self) -> bool {
        self.is_unsent
    }

    #[cfg(feature = "http")]
    pub(crate) fn unsent(self) -> Self {
        Self { is_unsent: true, ..self }
    }

    pub(crate) fn into_failure(self, peer: &Arc<str>) -> Failure {
        let Self { obstacle, cause, reason, .. } = self;
        Failure::Unreachable { peer: Arc::clone(peer), obstacle, cause, reason: reason.into() }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        let obstacle = match error.kind() {
            io::ErrorKind::InvalidInput => Obstacle::Configuration,
            _ => Obstacle::Network,
        };
        Self::new(obstacle, error.to_string())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConnectError {}

/// Plain TCP, which notices that a peer has vanished.
///
/// A host that loses its power or its network closes no connection. Two options of the socket tell:
/// - `SO_KEEPALIVE`, as Java's client sets it (`socket.keepalive.enable` of librdkafka): a connection on which nothing is sent
///   is probed after 30 s, or after the user timeout if that is shorter. So a request whose answer takes long, such as a
///   JoinGroup that waits for other members, does not wait out its own timeout.
/// - `TCP_USER_TIMEOUT` (RFC 5482), on Linux and Android: a connection whose peer acknowledges no byte for this long is broken.
///   See [`with_user_timeout`](Self::with_user_timeout).
///
/// In either case the connection fails, and the next one looks the name up again. A peer that is alive and answers nothing is
/// given up after the [request timeout](crate::ClientSettings::request_timeout).
#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    user_timeout: Duration,
}

/// A connection on which nothing is sent is probed after this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// When a probe gets no answer, the next one follows after this long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// No shorter time is taken: one lost packet is sent again after a good part of it.
const USER_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The system's limit.
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl Tcp {
    /// The same with `timeout` as `TCP_USER_TIMEOUT`: how long the peer may leave bytes, or a probe, unacknowledged. Less than
    /// 1 s is taken as 1 s. Default 30 s; a client that was given no connector takes its
    /// [request timeout](crate::ClientSettings::request_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = milena::Client::builder().connector(milena::Tcp::default().with_user_timeout(Duration::from_secs(5)));
    /// ```
    pub fn with_user_timeout(self, timeout: Duration) -> Self {
        Self { user_timeout: timeout.clamp(USER_TIMEOUT_MIN, USER_TIMEOUT_MAX) }
    }

    fn set_options(self, stream: &TcpStream) -> io::Result<()> {
        // The client batches its writes itself. Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let after = self.user_timeout.min(KEEPALIVE_AFTER);
        let keepalive = TcpKeepalive::new().with_time(after).with_interval(KEEPALIVE_INTERVAL.min(after));
        socket.set_tcp_keepalive(&keepalive)?;
        // With it, Linux does not count probes.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        Ok(())
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self { user_timeout: Duration::from_secs(30) }
    }
}

impl Connect for Tcp {
    /// Resolves anew for every connection, so that a broker that moved is found.
    fn resolve(&self, address: &Address) -> Resolving {
        let address = address.clone();
        Box::pin(async move {
            let unknown = |why: String| ConnectError::new(Obstacle::Name, why);
            let found = lookup_host((address.host(), address.port())).await;
            let found = found.map_err(|error| unknown(format!("the name does not resolve: {error}")))?;
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for found in found {
                if !addresses.contains(&found) {
                    addresses.push(found);
                }
            }
            if addresses.is_empty() {
                return Err(unknown("the name resolves to no address".into()));
            }
            Ok(addresses)
        })
    }

    /// Asks the system, as `getnameinfo` does. A thread waits for it.
    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's own look-up of names takes a thread in the same way"
    )]
    fn name_of(&self, ip: IpAddr) -> Naming {
        let looking = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&ip));
        Box::pin(async move { Ok(looking.await.ok().and_then(Result::ok).map(Arc::from)) })
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (tcp, address) = (*self, address.clone());
        Box::pin(async move {
            let stream = match at {
                Some(at) => TcpStream::connect(at).await?,
                None => TcpStream::connect((address.host(), address.port())).await?,
            };
            tcp.set_options(&stream)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

/// The transport a client uses.
pub(crate) type Connector = Arc<dyn Connect>;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    async fn a_socket_notices_a_peer_that_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let check = |tcp: Tcp, user_timeout: Duration, after, interval| {
            tcp.set_options(&stream).expect("set");
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().expect("read") && stream.nodelay().expect("read"));
            assert_eq!(socket.tcp_user_timeout().expect("read"), Some(user_timeout));
            let probes = [socket.tcp_keepalive_time(), socket.tcp_keepalive_interval()];
            assert_eq!(probes.map(|time| time.expect("read").as_secs()), [after, interval]);
        };
        let seconds = Duration::from_secs;
        check(Tcp::default(), seconds(30), 30, 10);
        check(Tcp::default().with_user_timeout(seconds(120)), seconds(120), 30, 10);
        check(Tcp::default().with_user_timeout(seconds(5)), seconds(5), 5, 5);
        check(Tcp::default().with_user_timeout(Duration::ZERO), seconds(1), 1, 1);
        check(Tcp::default().with_user_timeout(Duration::MAX), USER_TIMEOUT_MAX, 30, 10);
    }
}
