//! What clients asked for that this broker does not have. Each is told to the log once: a client that tries again and
//! again would fill it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use crate::peer::Peer;

/// The warnings that the log has had already.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    told: Mutex<BTreeSet<String>>,
}

/// Warnings that are remembered. After this many pairs of client and API nothing more is told.
const TOLD_MAX: usize = 1000;

impl Unserved {
    /// Warns, once for each client id, that a client asked for `what`.
    pub(crate) fn tell(&self, what: &dyn fmt::Display, client: Option<&str>, peer: &Peer) {
        let client = client.unwrap_or("no client id");
        let mut told = crate::lock(&self.told);
        if told.len() < TOLD_MAX && told.insert(format!("{what} {client}")) {
            tracing::warn!(client, %peer, "a client asks for what this broker does not have: {what}");
        }
    }
}
