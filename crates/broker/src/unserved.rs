//! Warnings about requests that this broker cannot serve. Each is logged once, because a client that tries again and
//! again would fill the log.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use crate::peer::Peer;

/// The warnings that were logged already.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    told: Mutex<BTreeSet<String>>,
}

/// After this many different warnings no more are logged, so that clients cannot fill the memory either.
const TOLD_MAX: usize = 1000;

impl Unserved {
    /// Warns that a client asked for something, once for each client id and request: `what` says why it is not served.
    pub(crate) fn tell(&self, what: &dyn fmt::Display, client: Option<&str>, peer: &Peer) {
        let client = client.unwrap_or("no client id");
        let mut told = crate::lock(&self.told);
        if told.len() < TOLD_MAX && told.insert(format!("{what} {client}")) {
            tracing::warn!(client, %peer, "a client asked for something that this broker does not serve: {what}");
        }
    }
}
