//! The bytes of a connection: as they are, or in TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::hangup::Hangup;

/// How the connections of a listener begin.
#[derive(Clone)]
pub(crate) struct Acceptor(pub(crate) tokio_rustls::TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a handshake may take. The limit for stalled requests holds too if it is shorter.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to read why its handshake failed.
const FAREWELL: Duration = Duration::from_secs(1);

/// rustls takes no more bytes before the system has taken those that it has.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// The most bytes of a client that are thrown away meanwhile.
const FAREWELL_BYTES: u64 = 64 * 1024;

impl Acceptor {
    /// Does the handshake. rustls takes no more than 64 KiB for the messages of a peer, and its time is limited.
    pub(super) async fn accept(&self, stream: TcpStream, stall_timeout: Duration) -> Result<Stream, Hangup> {
        let accept = self.0.accept(stream).into_fallible();
        match timeout(HANDSHAKE_TIMEOUT.min(stall_timeout), accept).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err((error, stream))) => {
                let _ = timeout(FAREWELL, say_farewell(stream)).await;
                Err(Hangup::Tls(error))
            }
            Err(_) => Err(Hangup::SlowHandshake),
        }
    }
}

/// Waits until the peer has read the alert and closes the connection. If it is closed while bytes of the peer are unread,
/// the system resets it, and the peer never reads the alert.
async fn say_farewell(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await;
}

impl Stream {
    /// The socket.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The most bytes of an answer that are copied before the system takes them. In TLS they are encrypted first.
    pub(super) fn copied_bytes_max(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(_) => TLS_BUFFER_BYTES,
        }
    }

    /// Whether bytes that were written may not be with the system yet. In TLS the last record may not.
    pub(super) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Says in TLS that no more bytes follow.
    pub(super) async fn end(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = timeout(FAREWELL, stream.shutdown()).await;
        }
    }

    /// The client's certificate, which was verified, in DER.
    pub(super) fn client_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().1.peer_certificates()?.first()?.as_ref()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
