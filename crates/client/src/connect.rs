//! How to get a byte stream to a broker. TCP here; tests and other transports bring their own.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Address;

/// A connection to a broker: anything that reads and writes bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What [`Connect::connect`] returns.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections. Called once per connection, so what it allocates does not matter.
pub trait Connect: Send + Sync {
    /// Connects to `address`. It is dropped when it takes longer than the client's connect timeout.
    fn connect(&self, address: &Address) -> Connecting;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect(&self, address: &Address) -> Connecting {
        let address = address.clone();
        Box::pin(async move {
            // Tries each address the name resolves to (KIP-302), and resolves anew for every connection, so that a
            // broker that moved is found.
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            // Batching is ours; Nagle's would only add its delay to it.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// The transport a client uses.
pub(crate) type Connector = Arc<dyn Connect>;
