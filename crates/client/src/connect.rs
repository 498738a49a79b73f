//! Transports: they make the byte streams to brokers. TCP is here; users and tests may bring others.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use milena_core::Failure;
pub use milena_core::Obstacle;
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

    /// Connects to `address`: at `at`, which is one of the socket addresses that [`resolve`](Self::resolve) returned, if it
    /// returned any. The client drops the future when it takes longer than the connect timeout, or when another address was
    /// faster.
    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting;
}

/// Why a transport made no connection.
///
/// ```
/// use milena::{ConnectError, Obstacle};
///
/// let error = ConnectError::new(Obstacle::Configuration, "the proxy has no address");
/// assert!(error.obstacle().is_final()); // it is not tried again: callers get the error at once
/// ```
#[derive(Debug)]
pub struct ConnectError {
    obstacle: Obstacle,
    reason: Box<str>,
}

impl ConnectError {
    /// An error with this reason. The obstacle says whether to try again, and whose fault it is.
    pub fn new(obstacle: Obstacle, reason: impl Into<Box<str>>) -> Self {
        Self { obstacle, reason: reason.into() }
    }

    /// What stands in the way.
    pub fn obstacle(&self) -> Obstacle {
        self.obstacle
    }

    pub(crate) fn into_failure(self, peer: &Arc<str>) -> Failure {
        let Self { obstacle, reason } = self;
        Failure::Unreachable { peer: Arc::clone(peer), obstacle, reason: reason.into() }
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

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

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

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let address = address.clone();
        Box::pin(async move {
            let stream = match at {
                Some(at) => TcpStream::connect(at).await?,
                None => TcpStream::connect((address.host(), address.port())).await?,
            };
            // The client batches its writes itself. Nagle's algorithm would only delay them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

/// The transport a client uses.
pub(crate) type Connector = Arc<dyn Connect>;
