//! The way to one broker for one role: connects when there is something to send, and again after a loss, but never
//! faster than the backoff allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_core::backoff::Retry;
use milena_core::{Backoff, Failure, Rng};
use milena_wire::Str;
use milena_wire::pool::Pool;
use tokio::sync::mpsc;

use super::call::Call;
use super::dial::{Peers, dial};
use super::stream::{Connection, End};
use crate::Address;
use crate::clock::{Clock, sleep_until};
use crate::connect::Connector;
use crate::runtime::Runtime;

/// What all links of a client share.
#[derive(Clone)]
pub(crate) struct LinkSettings {
    /// Where the links' tasks run: a link is shared, and the runtime of the caller who needs it first may end before it.
    pub(crate) runtime: Runtime,
    pub(crate) connector: Connector,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) client_id: Str,
    /// For connecting and the handshake together (KIP-601).
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) frame_bytes_max: usize,
    pub(crate) peers: Arc<Peers>,
}

/// A handle to the task that keeps the way to one broker. The task ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    peer: Arc<str>,
}

/// Calls that wait for a connection. Beyond it callers are told so at once; each has few under way.
const QUEUE: usize = 256;

impl Link {
    fn open(settings: LinkSettings, address: Address, rng: Rng) -> Self {
        let (sender, calls) = mpsc::channel(QUEUE);
        let peer: Arc<str> = Arc::from(address.to_string());
        let link = Self { calls: sender, peer: Arc::clone(&peer) };
        let runtime = settings.runtime.clone();
        runtime.spawn_here(Task { settings, address, peer, calls, retry: Retry::default(), rng }.run());
        link
    }

    /// Whom it leads to.
    pub(crate) fn peer(&self) -> Arc<str> {
        Arc::clone(&self.peer)
    }

    /// Hands `call` over. Its reply tells what becomes of it.
    pub(crate) fn send(&self, call: Call) {
        let (call, failure) = match self.calls.try_send(call) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(call)) => {
                (call, Failure::unreachable(self.peer(), "too many requests are waiting for it"))
            }
            // A link whose task ended alone is replaced, so the client's runtime has ended, and the task with it.
            Err(mpsc::error::TrySendError::Closed(call)) => (call, Failure::Closed),
        };
        call.reply.send(Err(failure));
    }
}

struct Task {
    settings: LinkSettings,
    address: Address,
    peer: Arc<str>,
    calls: mpsc::Receiver<Call>,
    retry: Retry,
    rng: Rng,
}

impl Task {
    async fn run(mut self) {
        // Nothing to send, no connection.
        while let Some(first) = self.calls.recv().await {
            if let Some(at) = self.retry.not_before() {
                sleep_until(self.settings.clock, Some(at)).await;
            }
            match dial(&self.settings, &self.address, &self.peer).await {
                Ok(connection) => self.serve(connection, first).await,
                Err(failure) => {
                    self.note_failure();
                    self.refuse(first, &failure);
                }
            }
        }
    }

    async fn serve(&mut self, connection: Connection, first: Call) {
        let since = self.settings.clock.now();
        match connection.run(first, &mut self.calls).await {
            End::Released | End::Idle => self.retry.succeeded(),
            End::Broken => {
                // One that worked for a while is no sign that the next one will not.
                if self.settings.clock.now() - since > self.settings.backoff.max {
                    self.retry.succeeded();
                }
                self.note_failure();
            }
        }
    }

    fn note_failure(&mut self) {
        self.retry.failed(self.settings.clock.now(), &self.settings.backoff, &mut self.rng);
    }

    /// Whoever waits for this connection learns why there is none.
    fn refuse(&mut self, first: Call, failure: &Failure) {
        first.reply.send(Err(failure.clone().with_sent(false)));
        while let Ok(call) = self.calls.try_recv() {
            call.reply.send(Err(failure.clone().with_sent(false)));
        }
    }
}

/// The links of one role, by address.
pub(crate) struct Links {
    settings: LinkSettings,
    open: Mutex<Open>,
}

struct Open {
    links: HashMap<Address, Link>,
    rng: Rng,
    /// Who answered last what anybody could have answered.
    best: Option<Address>,
}

impl Links {
    pub(crate) fn new(settings: LinkSettings, rng: Rng) -> Self {
        Self { settings, open: Mutex::new(Open { links: HashMap::new(), rng, best: None }) }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to `address`. Opens no connection yet.
    pub(crate) fn to(&self, address: &Address) -> Link {
        let open = &mut *self.open();
        // A task that has ended serves nobody any more.
        if let Some(link) = open.links.get(address).filter(|link| !link.calls.is_closed()) {
            return link.clone();
        }
        let link = Link::open(self.settings.clone(), address.clone(), Rng::seeded(open.rng.next_u64()));
        open.links.insert(address.clone(), link.clone());
        link
    }

    /// Lets go of links to addresses nobody listens on any more.
    pub(crate) fn retain(&self, is_current: impl Fn(&Address) -> bool) {
        self.open().links.retain(|address, _| is_current(address));
    }

    /// What is known of addresses.
    pub(crate) fn peers(&self) -> &Peers {
        &self.settings.peers
    }

    /// `address` answered what anybody could have answered.
    pub(crate) fn note_answer(&self, address: Address) {
        self.open().best = Some(address);
    }

    /// `addresses` in their order, but whoever answered last comes first: its connection is open, and it was not silent.
    pub(crate) fn best_first(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let best = self.open().best.clone();
        if let Some(index) = addresses.iter().position(|address| best.as_ref() == Some(address)) {
            addresses[..=index].rotate_right(1);
        }
        addresses
    }
}
