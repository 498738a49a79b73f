//! Random bytes that must be secret: nonces and salts. They are HMAC-SHA-256 of a counter under a key. The key comes from
//! the operating system when a cluster starts on sockets, and from the seed when a simulator makes the machine.

use crate::hash::Hash;
use crate::secret::Secret;

/// A source of random bytes.
#[derive(Debug, Clone)]
pub(crate) struct Entropy {
    key: Secret,
    count: u64,
}

impl Entropy {
    pub(crate) fn new(key: Vec<u8>) -> Self {
        Self { key: key.into(), count: 0 }
    }

    /// A source for a simulation.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::new(seed.to_be_bytes().to_vec())
    }

    /// Thirty-two bytes that were never given out before.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        self.count += 1;
        Hash::Sha256.hmac(self.key.bytes(), &[b"next", &self.count.to_be_bytes()])
    }

    /// Thirty-two bytes that are always the same for `what`, and that only this cluster can know.
    pub(crate) fn fixed(&self, what: &[&[u8]]) -> Vec<u8> {
        let parts: Vec<&[u8]> = [&b"fixed"[..]].into_iter().chain(what.iter().copied()).collect();
        Hash::Sha256.hmac(self.key.bytes(), &parts)
    }
}
