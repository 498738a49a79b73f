//! The way to one broker for one role: connects when there is something to send, and again after a loss, but never
//! faster than the backoff allows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_core::backoff::Retry;
use milena_core::{Backoff, Failure, Instant, Rng};
use milena_wire::Str;
use milena_wire::pool::Pool;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::call::Call;
use super::dial::{Peers, dial};
use super::stream::{Connection, End};
use crate::Address;
use crate::clock::Clock;
use crate::connect::Connector;
use crate::runtime::Executor;

/// What all links of a client share.
#[derive(Clone)]
pub(crate) struct LinkSettings {
    /// Where the links' tasks run: a link is shared, and the runtime of the caller who needs it first may end before it.
    pub(crate) runtime: Executor,
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
/// A broker that was silent or failed is asked after the other brokers for this long. Then it may have recovered, and
/// finding out that it has not costs one caller a second.
const SET_BACK_FOR: Duration = Duration::from_secs(60);

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
                self.settings.clock.sleep_until(Some(at)).await;
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
    links: FxHashMap<Address, Link>,
    rng: Rng,
    /// Brokers that were silent or failed when any broker could have answered, and when that was. They are few: each is
    /// the address of a link, and they go with the links.
    set_back: FxHashMap<Address, Instant>,
}

impl Links {
    pub(crate) fn new(settings: LinkSettings, rng: Rng) -> Self {
        Self {
            settings,
            open: Mutex::new(Open { links: FxHashMap::default(), rng, set_back: FxHashMap::default() }),
        }
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
        let open = &mut *self.open();
        open.links.retain(|address, _| is_current(address));
        open.set_back.retain(|address, _| is_current(address));
    }

    /// What is known of addresses.
    pub(crate) fn peers(&self) -> &Peers {
        &self.settings.peers
    }

    /// The broker at `address` answered what any broker could have answered.
    pub(crate) fn note_answer(&self, address: &Address) {
        self.open().set_back.remove(address);
    }

    /// The broker at `address` was silent, or failed, when any broker could have answered.
    pub(crate) fn note_failure(&self, address: Address) {
        let now = self.settings.clock.now();
        self.open().set_back.insert(address, now);
    }

    /// `addresses` in their order, but brokers that were silent or failed within [`SET_BACK_FOR`] come last. No broker is
    /// preferred because it answered: its answer may be an error, or old, and another broker may know better.
    pub(crate) fn in_turn(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let now = self.settings.clock.now();
        let open = &mut *self.open();
        open.set_back.retain(|_, since| now - *since < SET_BACK_FOR);
        addresses.sort_by_key(|address| open.set_back.contains_key(address));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Tcp;

    fn links() -> Links {
        let runtime = Executor::current().expect("a runtime");
        let settings = LinkSettings {
            clock: Clock::start(&runtime),
            runtime,
            connector: Arc::new(Tcp),
            pool: Pool::default(),
            client_id: Str::from("test"),
            connect_timeout: Duration::from_secs(1),
            backoff: Backoff { min: Duration::ZERO, max: Duration::ZERO },
            frame_bytes_max: 1 << 20,
            peers: Arc::default(),
        };
        Links::new(settings, Rng::seeded(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_was_silent_comes_last_until_it_answers_or_a_minute_has_passed() {
        let links = links();
        let addresses = Address::parse_list("a:1,b:1,c:1").expect("addresses");
        let check = |order: [usize; 3]| {
            assert_eq!(links.in_turn(addresses.clone()), order.map(|index| addresses[index].clone()));
        };
        links.note_answer(&addresses[2]);
        check([0, 1, 2]);
        links.note_failure(addresses[0].clone());
        check([1, 2, 0]);
        links.note_answer(&addresses[0]);
        check([0, 1, 2]);
        links.note_failure(addresses[1].clone());
        check([0, 2, 1]);
        tokio::time::advance(SET_BACK_FOR).await;
        check([0, 1, 2]);
        links.note_failure(addresses[1].clone());
        links.retain(|address| *address != addresses[1]);
        assert!(links.open().set_back.is_empty(), "it goes with its link");
    }

    #[tokio::test]
    async fn a_link_whose_task_has_ended_is_replaced() {
        let links = links();
        let address = Address::parse_list("a:1").expect("an address").remove(0);
        let (calls, ended) = mpsc::channel(1);
        drop(ended);
        links.open().links.insert(address.clone(), Link { calls, peer: Arc::from("a:1") });
        assert!(!links.to(&address).calls.is_closed());
    }
}
