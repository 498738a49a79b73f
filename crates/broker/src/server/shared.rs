//! The things that all connections of a cluster share, and the slot that each connection takes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::hangup::Hangup;
use super::heavy::Heavy;
use super::{Acceptor, Budget, Hangups, ServerLimits};
use crate::machine::Machine;
use crate::now::Now;
use crate::tls::Rules;

/// The things that all connections of a cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) machine: Machine,
    pub(crate) limits: ServerLimits,
    /// The listeners with TLS, by their indices.
    pub(super) entrances: Vec<Option<Entrance>>,
    pub(crate) budget: Arc<Budget>,
    pub(super) heavy: Heavy,
    pub(crate) hangups: Hangups,
    pub(crate) connections: AtomicUsize,
    /// The connections of each address, whether their clients have authenticated or not.
    of_addresses: Mutex<BTreeMap<IpAddr, Counts>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// The connections of an address.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    all: usize,
    /// Those whose clients have yet to authenticate.
    guests: usize,
}

/// A listener with TLS.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) acceptor: Acceptor,
    /// How a client's certificate gives its principal.
    pub(crate) rules: Rules,
}

/// One connection of the most that there may be. It is given back on drop, also when the connection's task is
/// cancelled.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    address: IpAddr,
    /// Whether the client has yet to authenticate.
    is_guest: bool,
}

impl Shared {
    pub(crate) fn new(machine: Machine, limits: ServerLimits, entrances: Vec<Option<Entrance>>) -> Self {
        Self {
            machine,
            limits,
            entrances,
            budget: Budget::new(limits.buffer_bytes_max),
            heavy: Heavy::new(),
            hangups: Hangups::default(),
            connections: AtomicUsize::new(0),
            of_addresses: Mutex::default(),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Slot {
    /// Takes a slot, unless there are as many connections as there may be, in all or from this address. `is_guest` says whether
    /// the client must authenticate.
    pub(super) fn take(shared: &Arc<Shared>, address: IpAddr, is_guest: bool) -> Result<Self, Hangup> {
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let slot = Self { shared: Arc::clone(shared), address: address.to_canonical(), is_guest };
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        let of_address = slot.count(|counts| {
            counts.all += 1;
            counts.guests += usize::from(is_guest);
        });
        let limits = &shared.limits;
        match () {
            () if before >= limits.connections_max => Err(Hangup::Full),
            () if of_address.all > limits.connections_per_address_max => Err(Hangup::FullOfAddress),
            () if is_guest && of_address.guests > limits.guests_per_address_max => Err(Hangup::FullOfGuests),
            () => Ok(slot),
        }
    }

    /// The client has authenticated.
    pub(super) fn admit(&mut self) {
        if std::mem::take(&mut self.is_guest) {
            self.count(|counts| counts.guests -= 1);
        }
    }

    /// Changes the counts of the address's connections, and returns them.
    fn count(&self, change: impl FnOnce(&mut Counts)) -> Counts {
        let mut counts = crate::lock(&self.shared.of_addresses);
        let of_address = counts.entry(self.address).or_default();
        change(of_address);
        let changed = *of_address;
        if changed.all == 0 {
            counts.remove(&self.address);
        }
        changed
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.count(|counts| {
            counts.all -= 1;
            counts.guests -= usize::from(self.is_guest);
        });
    }
}

/// The time to pass to the machine.
#[expect(clippy::disallowed_methods, reason = "the server has the clock")]
pub(super) fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now().into_std(), unix_ms: since_1970.as_millis() as i64 }
}
