//! Why connections end: the reasons are logged and counted. Also: which other protocol a peer speaks.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::peer::Peer;
use crate::refused::Refused;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Hangup {
    /// The peer closed it between two requests.
    Done,
    /// The peer closed it within a request.
    CutOff { bytes: usize },
    /// Reading from it or writing to it failed.
    Io(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// The TLS handshake did not end in time.
    SlowHandshake,
    /// The peer speaks another protocol than Kafka's.
    Stranger(&'static str),
    /// A frame announces a size that no frame may have.
    FrameSize(i32),
    /// A request that cannot be answered.
    Refused(Refused),
    /// Authentication has failed. The client was told before.
    Denied(String),
    /// There was no request for too long.
    Idle,
    /// A request did not arrive whole in time.
    SlowRequest { bytes: usize },
    /// A response was not read in time.
    SlowReader { bytes: usize },
    /// Memory was short, and this connection had held some without progress for longer than the other ones.
    Shed,
    /// Too many connections.
    Full,
    /// Too many connections from this address.
    FullOfAddress,
    /// Too many connections from this address whose clients have not authenticated.
    FullOfGuests,
    /// The address connects more often than its quota allows.
    TooOften,
}

/// The number of connections that ended, for the reasons that are counted.
#[derive(Debug, Default)]
pub(crate) struct Hangups {
    pub(crate) malformed: AtomicU64,
    pub(crate) strangers: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) unauthenticated: AtomicU64,
    pub(crate) tls: AtomicU64,
    pub(crate) full: AtomicU64,
}

impl Hangups {
    /// Counts and logs the end of a connection.
    pub(crate) fn note(&self, peer: &Peer, reason: &Hangup) {
        let (connection, node) = (peer.connection(), peer.node());
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match reason {
            Hangup::Done | Hangup::Idle => {
                tracing::debug!(connection, node, %peer, %reason, "connection closed");
                return;
            }
            Hangup::CutOff { .. } | Hangup::Io(_) => {
                tracing::debug!(connection, node, %peer, %reason, "connection lost");
                return;
            }
            Hangup::Refused(refused) if refused.is_unserved() => {
                count(&self.malformed);
                tracing::debug!(connection, node, %peer, %reason, "connection closed");
                return;
            }
            Hangup::Denied(_) => count(&self.unauthenticated),
            Hangup::Refused(refused) if refused.is_unauthenticated() => count(&self.unauthenticated),
            Hangup::Stranger(_) => count(&self.strangers),
            Hangup::FrameSize(_) | Hangup::Refused(_) => count(&self.malformed),
            Hangup::Tls(_) => count(&self.tls),
            Hangup::SlowHandshake | Hangup::SlowRequest { .. } | Hangup::SlowReader { .. } => {
                count(&self.timed_out);
            }
            Hangup::Shed => count(&self.shed),
            Hangup::Full | Hangup::FullOfAddress | Hangup::FullOfGuests | Hangup::TooOften => {
                count(&self.full);
            }
        }
        tracing::warn!(connection, node, %peer, %reason, "connection closed");
    }
}

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("closed by the client"),
            Self::CutOff { bytes } => write!(f, "closed by the client after {bytes} bytes of a request"),
            Self::Io(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::SlowHandshake => f.write_str("the TLS handshake took too long"),
            Self::Stranger(protocol) => write!(f, "the peer speaks {protocol}, not Kafka's protocol"),
            Self::FrameSize(size) => write!(f, "a frame announces {size} bytes"),
            Self::Refused(refused) => refused.fmt(f),
            Self::Denied(reason) => f.write_str(reason),
            Self::Idle => f.write_str("there was no request for too long"),
            Self::SlowRequest { bytes } => write!(f, "a request stalled after {bytes} bytes"),
            Self::SlowReader { bytes } => write!(f, "the client left {bytes} bytes of a response unread"),
            Self::Shed => {
                f.write_str("the connection had stalled while other connections needed the memory it held")
            }
            Self::Full => f.write_str("too many connections"),
            Self::FullOfAddress => f.write_str("too many connections from this address"),
            Self::FullOfGuests => {
                f.write_str("too many connections from this address without authentication")
            }
            Self::TooOften => f.write_str("this address connects more often than its quota allows"),
        }
    }
}

impl From<io::Error> for Hangup {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The protocol of a peer whose first bytes are not Kafka's, if it is a known one.
pub(super) fn recognise(first: [u8; 4]) -> Option<&'static str> {
    match &first {
        [0x16, 0x03, ..] => Some("TLS"),
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" => Some("HTTP"),
        b"PRI " => Some("HTTP/2"),
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}

/// The answer for a person who points a browser or `curl` at a broker.
pub(super) const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 45\r\n\r\nThis port speaks Kafka's protocol, not HTTP.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(HTTP_ANSWER).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
