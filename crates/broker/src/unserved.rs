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

/// So much of a client id is kept and logged. A client that has not authenticated may send one of 32 KiB.
const CLIENT_CHARS_MAX: usize = 100;

impl Unserved {
    /// Warns that a client asked for something, once for each client id and request: `what` says why it is not served.
    pub(crate) fn tell(&self, what: &dyn fmt::Display, client: Option<&str>, peer: &Peer) {
        let client: String = client.unwrap_or("no client id").chars().take(CLIENT_CHARS_MAX).collect();
        let mut told = crate::lock(&self.told);
        if told.len() < TOLD_MAX && told.insert(format!("{what} {client}")) {
            tracing::warn!(client, %peer, "a client asked for something that this broker does not serve: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::peer::Entry;
    use crate::sasl::Session;

    #[test]
    fn a_client_id_of_any_length_takes_little_memory() {
        let entry = Entry { node: 1, listener: 0, address: ([127, 0, 0, 1], 4000).into() };
        let peer = Peer::new(0, entry, Arc::default(), Session::open());
        let unserved = Unserved::default();
        for end in ["a", "b"] {
            unserved.tell(&"x", Some(&format!("{}{end}", "é".repeat(30_000))), &peer);
        }
        let told = crate::lock(&unserved.told);
        assert_eq!(told.len(), 1);
        assert!(told.iter().all(|text| text.len() < 300), "{told:?}");
    }
}
