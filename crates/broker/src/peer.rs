//! The client at the other end of a connection. Its requests are handled under this identity.
//!
//! ```text
//!  connect(node, address) ─▶ Peer ─▶ handle(&mut peer, …) ─▶ ApiVersions: the client's software (KIP-511)
//! ```
//!
//! The connection's owner keeps the peer as long as the connection lives. The machine has no list of peers: a part that
//! must find a client later, as a group finds its members, keeps it under an id of its own. This file must not know
//! sockets or requests.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use milena_wire::Str;

use crate::offer::Offer;
use crate::quotas::{self, Client};
use crate::sasl::Session;

/// A connection to a node, as the machine sees it: see [`Machine::connect`](crate::Machine::connect).
///
/// Each connection has its own, because a peer learns from the connection's requests. The principal is kept here.
#[derive(Debug)]
pub struct Peer {
    connection: u64,
    node: i32,
    listener: usize,
    address: SocketAddr,
    software: Option<Software>,
    /// What its node offered when it connected.
    offer: Arc<Offer>,
    session: Session,
    /// The client id of its last request, as long as there are quotas.
    client_id: Option<Str>,
    muted_until: Option<Instant>,
}

/// Where a connection comes in, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) node: i32,
    pub(crate) listener: usize,
    pub(crate) address: SocketAddr,
}

/// The client's software, by its own account (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Software {
    name: Str,
    version: Str,
}

/// At most this many bytes of a software's name and of its version are kept. A client may send names of any length.
const SOFTWARE_BYTES_MAX: usize = 100;

impl Peer {
    pub(crate) fn new(connection: u64, entry: Entry, offer: Arc<Offer>, session: Session) -> Self {
        let Entry { node, listener, address } = entry;
        Self {
            connection,
            node,
            listener,
            address,
            software: None,
            offer,
            session,
            client_id: None,
            muted_until: None,
        }
    }

    /// What its node offers to it.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// A number that no other connection of this machine has or had.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The node that the client connected to.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// The index of the listener that the client connected to, in the order in which the builder got them.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// The principal that the client's requests are made as, such as `User:alice`; `User:ANONYMOUS` without
    /// authentication.
    pub fn principal(&self) -> &str {
        self.session.principal()
    }

    /// Why authentication has failed, if it has. The owner must close the connection when the last answer is sent.
    pub fn denied(&self) -> Option<&str> {
        self.session.ended()
    }

    /// Until when nothing more may be read of the connection: the client is above a quota (KIP-219). The owner sends the answer
    /// first, and then waits.
    pub fn muted_until(&self) -> Option<Instant> {
        self.muted_until
    }

    pub(crate) fn mute(&mut self, until: Option<Instant>) {
        self.muted_until = until;
    }

    /// Notes the client id of a request, by which quotas are found.
    pub(crate) fn note_client_id(&mut self, id: Option<&Str>) {
        let id = id.map(|id| quotas::brief(id, quotas::NAME_BYTES_MAX));
        if self.client_id.as_deref() != id.as_deref() {
            // A copy, because a slice of the request would keep the whole frame in memory.
            self.client_id = id.map(|id| Str::from(&*id));
        }
    }

    /// The client, as quotas know it.
    pub(crate) fn client(&self) -> Client<'_> {
        let principal = self.principal();
        let user = principal.split_once(':').map_or(principal, |(_, name)| name);
        Client { user, id: self.client_id.as_deref().unwrap_or_default() }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Where the client connects from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Name and version of the client's software; `None` until an ApiVersions request of version 3 or later says it.
    pub fn software(&self) -> Option<(&str, &str)> {
        self.software.as_ref().map(|software| (software.name.as_str(), software.version.as_str()))
    }

    /// Remembers the client's software. Name and version have letters, digits, dots and dashes only.
    pub(crate) fn set_software(&mut self, name: &str, version: &str) {
        // A copy, because a slice of the request would keep the whole frame in memory.
        let kept = |text: &str| Str::from(text.get(..SOFTWARE_BYTES_MAX).unwrap_or(text));
        self.software = Some(Software { name: kept(name), version: kept(version) });
    }

    /// The same peer for another thread, which handles one request and returns the peer. It replaces this one then.
    pub(crate) fn lend(&self) -> Self {
        let (software, session, client_id) =
            (self.software.clone(), self.session.clone(), self.client_id.clone());
        Self { software, client_id, offer: Arc::clone(&self.offer), session, ..*self }
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
        let entry = Entry { node: 1, listener: 0, address: SocketAddr::from(([127, 0, 0, 1], 4000)) };
        let mut peer = Peer::new(7, entry, Arc::default(), Session::open());
        assert_eq!(peer.to_string(), "127.0.0.1:4000");
        peer.set_software(&"x".repeat(1 << 20), "1.0");
        assert_eq!(peer.software(), Some(("x".repeat(100).as_str(), "1.0")));
        peer.set_software("librdkafka", "2.11.0");
        assert_eq!(peer.lend().to_string(), "127.0.0.1:4000 (librdkafka 2.11.0)");
        let longest = "x".repeat(quotas::NAME_BYTES_MAX);
        peer.note_client_id(Some(&Str::from(longest.as_str())));
        assert_eq!(peer.client().id, longest, "it may have a quota");
        peer.note_client_id(Some(&Str::from("x".repeat(30_000).as_str())));
        assert_eq!(peer.client().id.len(), 43);
    }
}
