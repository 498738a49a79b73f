//! Who is at the other end of a connection: the identity that requests are handled under.
//!
//! ```text
//!  connect(node, address) ─▶ Peer ─▶ handle(&mut peer, …) ─▶ ApiVersions: the client's software (KIP-511)
//! ```
//!
//! The connection's owner keeps it as long as the connection lives. The machine keeps no list of peers: what must be
//! found from elsewhere later, such as a group's member, is kept by its own part under its own id.
//! It must not know sockets or requests.

use std::fmt;
use std::net::SocketAddr;

use milena_wire::Str;

/// A connection to a node, as the machine sees it: see [`Machine::connect`](crate::Machine::connect).
///
/// It learns from the requests that come over the connection, so each connection has its own. Authentication will keep
/// the principal here.
#[derive(Debug)]
pub struct Peer {
    connection: u64,
    node: i32,
    address: SocketAddr,
    software: Option<Software>,
}

/// What the client says that it is (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Software {
    name: Str,
    version: Str,
}

/// Bytes of a software's name and version that are kept: they are as long as a client likes.
const SOFTWARE_BYTES_MAX: usize = 100;

impl Peer {
    pub(crate) fn new(connection: u64, node: i32, address: SocketAddr) -> Self {
        Self { connection, node, address, software: None }
    }

    /// A number that no other connection of this machine has or had.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The node that the connection leads to.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// Where the client connects from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Name and version of the client's software; `None` until an ApiVersions request of version 3 or later says it.
    pub fn software(&self) -> Option<(&str, &str)> {
        self.software.as_ref().map(|software| (software.name.as_str(), software.version.as_str()))
    }

    /// Notes what the client says that it is: letters, digits, dots and dashes.
    pub(crate) fn set_software(&mut self, name: &str, version: &str) {
        // A copy: a slice of the request would keep all of its frame.
        let kept = |text: &str| Str::from(text.get(..SOFTWARE_BYTES_MAX).unwrap_or(text));
        self.software = Some(Software { name: kept(name), version: kept(version) });
    }

    /// The same peer for a thread that handles one request of it, and gives it back for the next one.
    pub(crate) fn lend(&self) -> Self {
        Self { software: self.software.clone(), ..*self }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match self.software() {
            Some((name, version)) => write!(f, " ({name} {version})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_takes_little_memory() {
        let mut peer = Peer::new(7, 1, SocketAddr::from(([127, 0, 0, 1], 4000)));
        assert_eq!(peer.to_string(), "127.0.0.1:4000");
        peer.set_software(&"x".repeat(1 << 20), "1.0");
        assert_eq!(peer.software(), Some(("x".repeat(100).as_str(), "1.0")));
        peer.set_software("librdkafka", "2.11.0");
        assert_eq!(peer.lend().to_string(), "127.0.0.1:4000 (librdkafka 2.11.0)");
    }
}
