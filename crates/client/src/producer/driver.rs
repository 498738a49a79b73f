//! The producer's task: carries events between accumulators, machine and connections, and decides nothing.
//!
//! ```text
//!  inbox (opened, filled, flush) ─┐                    ┌─▶ close: take from accumulators ─▶ Sealer
//!  sealed ────────────────────────┼─▶ core::Producer ──┼─▶ transmit ─▶ Links
//!  landed (answers) ──────────────┤                    ├─▶ settled ─▶ BatchState, deliveries
//!  metadata, time ────────────────┘                    └─▶ flushed
//! ```

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_core::metadata::{Destination, Snapshot};
use milena_core::producer::{
    Acks, FlushId, Order, Producer as Machine, RequestId, Settled, Ticket, Transmit,
};
use milena_core::{Failure, Instant};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::accumulator::{Accumulator, OpenBatch};
use super::seal::{Backlog, Parcel, Sealer};
use super::topics::Topics;
use crate::client::{address_of, report};
use crate::connection::{Answer, Call, Claim, Landing, Links, Reply, Typed};
use crate::{Client, Error};

/// What handles tell the driver.
pub(super) enum Event {
    /// Partitions that are new, in the order of their slots.
    Register(Vec<Arc<Accumulator>>),
    /// A batch was opened in this accumulator.
    Opened(u32),
    /// A batch was filled in this accumulator.
    Filled(u32),
    Flush(oneshot::Sender<()>),
    /// Nobody can produce any more.
    Released,
}

/// Where handles leave events. They come once per batch, so a mutex is cheap.
#[derive(Default)]
pub(super) struct Inbox {
    left: Mutex<Left>,
    arrived: Notify,
}

#[derive(Default)]
struct Left {
    events: Vec<Event>,
    /// Nobody takes them any more.
    is_closed: bool,
}

impl Inbox {
    /// Leaves an event; dropped, if the driver has ended.
    pub(super) fn push(&self, event: Event) {
        {
            let mut left = self.left();
            if left.is_closed {
                return;
            }
            left.events.push(event);
        }
        self.arrived.notify_one();
    }

    pub(super) fn take(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.left().events, events);
    }

    fn close(&self) {
        let events = {
            let mut left = self.left();
            left.is_closed = true;
            std::mem::take(&mut left.events)
        };
        drop(events);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Failures of records whose senders wait for no delivery; [`flush`](super::Producer::flush) tells.
#[derive(Default)]
pub(super) struct PostFailures(Mutex<Option<(u64, Error)>>);

impl PostFailures {
    fn note(&self, records: u32, error: Error) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = failures.get_or_insert((0, error));
        *count += u64::from(records);
    }

    /// How many there were since the last call, and the first one's error.
    pub(super) fn take(&self) -> Option<(u64, Error)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What became of a request.
type Landed = (u64, Result<Answer, Failure>);
type AskingIdentity = Pin<Box<dyn Future<Output = Result<InitProducerIdResponse, Failure>> + Send>>;

pub(super) struct Driver {
    pub(super) client: Client,
    acks: Acks,
    pub(super) machine: Machine<Parcel>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) topics: Arc<Topics>,
    pub(super) failures: Arc<PostFailures>,
    pub(super) sealer: Sealer,
    pub(super) sealed: mpsc::UnboundedReceiver<(Ticket, Parcel)>,
    pub(super) links: Links,
    accumulators: Vec<Arc<Accumulator>>,
    landed: mpsc::UnboundedReceiver<Landed>,
    land: Landing,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    asking: Option<AskingIdentity>,
    /// Requests that were handed to links.
    sent: FxHashMap<RequestId, Sent>,
    flushing: Vec<(FlushId, oneshot::Sender<()>)>,
    is_released: bool,
    events: Vec<Event>,
    taken: Vec<OpenBatch>,
}

/// A request that was handed to a link.
struct Sent {
    claim: Claim,
    peer: Arc<str>,
}

impl Sent {
    fn without_a_connection(&self) -> Failure {
        Failure::unreachable(Arc::clone(&self.peer), "no connection was there in time")
    }
}

/// A driver's parts that its producer knows as well.
pub(super) struct Parts {
    pub(super) inbox: Arc<Inbox>,
    pub(super) topics: Arc<Topics>,
    pub(super) failures: Arc<PostFailures>,
    pub(super) backlog: Arc<Backlog>,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        acks: Acks,
        machine: Machine<Parcel>,
        parts: &Parts,
        sealer: Sealer,
        sealed: mpsc::UnboundedReceiver<(Ticket, Parcel)>,
    ) -> Self {
        // Answers in flight are bounded by the machine, and nothing else comes through here.
        let (land, landed) = mpsc::unbounded_channel();
        Self {
            links: client.new_links(),
            snapshot: client.watch_snapshot(),
            client,
            acks,
            machine,
            inbox: Arc::clone(&parts.inbox),
            topics: Arc::clone(&parts.topics),
            failures: Arc::clone(&parts.failures),
            sealer,
            sealed,
            accumulators: Vec::new(),
            landed,
            land,
            asking: None,
            sent: FxHashMap::default(),
            flushing: Vec::new(),
            is_released: false,
            events: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Runs until nobody can produce any more and everything is settled.
    pub(super) async fn run(mut self) {
        while !(self.is_released && self.machine.outstanding() == 0) {
            let wake = self.machine.poll_timeout();
            tokio::select! {
                // Whichever comes first, all that is there is taken in below. Only the identity has no other turn, and it
                // comes rarely.
                biased;
                answer = answered(&mut self.asking) => {
                    self.asking = None;
                    self.machine.handle_identity(answer, self.now());
                }
                () = self.inbox.arrived.notified() => {}
                Some(landed) = self.landed.recv() => self.handle_landed(landed),
                Some(sealed) = self.sealed.recv() => self.handle_sealed(sealed),
                Ok(()) = self.snapshot.changed() => self.handle_metadata(),
                () = self.client.0.clock.sleep_until(wake) => {}
            }
            // Everything that is ready goes in before anything is decided.
            while let Ok(landed) = self.landed.try_recv() {
                self.handle_landed(landed);
            }
            while let Ok(sealed) = self.sealed.try_recv() {
                self.handle_sealed(sealed);
            }
            if self.snapshot.has_changed().unwrap_or(false) {
                self.handle_metadata();
            }
            self.handle_events();
            self.machine.handle_timeout(self.now());
            self.act();
        }
    }

    fn now(&self) -> Instant {
        self.client.0.clock.now()
    }

    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.inbox.take(&mut events);
        self.register(&mut events);
        let now = self.now();
        for event in events.drain(..) {
            match event {
                // That was done before all else.
                Event::Register(_) => {}
                Event::Opened(slot) => {
                    self.machine.handle_opened(self.accumulators[slot as usize].slot, now);
                }
                Event::Filled(slot) => self.collect(slot as usize, false),
                Event::Flush(done) => self.flushing.push((self.machine.handle_flush(), done)),
                Event::Released => self.is_released = true,
            }
        }
        self.events = events;
    }

    /// Takes in the partitions that are new, and looks up who leads them once for all: that goes through every partition.
    fn register(&mut self, events: &mut [Event]) {
        let before = self.accumulators.len();
        for event in events {
            let Event::Register(added) = event else { continue };
            for accumulator in added.drain(..) {
                let slot = self.machine.register(Arc::clone(&accumulator.topic), accumulator.partition);
                debug_assert_eq!(slot, accumulator.slot, "slots are given out in the order of registration");
                self.accumulators.push(accumulator);
            }
        }
        if self.accumulators.len() > before {
            let snapshot = self.client.snapshot();
            self.machine.handle_metadata(&snapshot, self.now());
        }
    }

    /// Takes what is closed in an accumulator to be sealed, the open batch too with `close`.
    fn collect(&mut self, index: usize, close: bool) {
        let slot = self.accumulators[index].slot;
        let mut taken = std::mem::take(&mut self.taken);
        let is_emptied = self.accumulators[index].take(close, &mut taken);
        let now = self.now();
        for batch in taken.drain(..) {
            let ticket = self.machine.handle_closed(slot, now);
            if let Some((ticket, parcel)) = self.sealer.seal(ticket, batch) {
                self.machine.handle_sealed(ticket, parcel, now);
            }
        }
        self.taken = taken;
        if is_emptied && close {
            self.machine.handle_emptied(slot);
        }
    }

    fn handle_sealed(&mut self, (ticket, parcel): (Ticket, Parcel)) {
        self.sealer.finished();
        self.machine.handle_sealed(ticket, parcel, self.now());
    }

    fn handle_landed(&mut self, landed: Landed) {
        let (number, outcome) = landed;
        let (id, now) = (RequestId(number), self.now());
        // What was recalled has been told already.
        let Some(sent) = self.sent.remove(&id) else { return };
        let decoded = match outcome {
            // The broker answers nothing: this only tells that it was written.
            Ok(_) if self.acks == Acks::None => return self.machine.handle_written(id, now),
            Ok(answer) => answer.decode(),
            Err(failure) => Err(failure),
        };
        match decoded {
            Ok(response) => self.machine.handle_response(id, &response, now),
            Err(failure) => self.machine.handle_lost(id, &failure, sent.claim.has_begun(), now),
        }
    }

    fn handle_metadata(&mut self) {
        let snapshot = Arc::clone(&self.snapshot.borrow_and_update());
        for name in self.topics.names() {
            if let Ok(topic) = snapshot.topic(&name) {
                self.topics.learn(topic, None, |broker| snapshot.brokers.contains_key(&broker));
            }
        }
        self.machine.handle_metadata(&snapshot, self.now());
        self.links.retain(|address| {
            snapshot
                .brokers
                .values()
                .any(|broker| (&*broker.host, broker.port) == (address.host(), address.port()))
        });
    }

    /// Does what the machine says until it says nothing more.
    fn act(&mut self) {
        while let Some(order) = self.machine.poll_order(self.now()) {
            match order {
                Order::Close(slot) => self.collect(slot.0 as usize, true),
                Order::Split(ticket, parcel) => self.split(ticket, parcel),
                Order::Recall(id) => self.recall(id),
                Order::Transmit(transmit) => self.transmit(transmit),
            }
        }
        if let Some(request) = self.machine.poll_identity(self.now()) {
            self.asking = Some(self.ask_identity(request));
        }
        while let Some(settled) = self.machine.poll_settled() {
            self.settle(settled);
        }
        if let Some(upto) = self.machine.poll_flushed() {
            for (_, done) in self.flushing.extract_if(.., |(id, _)| *id <= upto) {
                // Whoever flushed may have gone away.
                let _ = done.send(());
            }
        }
        if self.machine.poll_metadata_wanted() {
            self.client.metadata_is_outdated();
        }
        while let Some(notice) = self.machine.poll_notice() {
            report(&notice);
        }
        self.client.learn_leaders(self.machine.poll_hints());
    }

    fn split(&mut self, ticket: Ticket, parcel: Parcel) {
        self.accumulators[ticket.slot().0 as usize].lower_bytes_max(parcel.split_bytes_max());
        let shared = &self.client.0;
        let pieces = self.sealer.split(parcel, &shared.pool, &shared.produce_budget);
        self.machine.handle_split(ticket, pieces, self.now());
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { id, broker, request, version_max, is_answered, deadline } = transmit;
        let reply = Reply::to(&self.land, id.0);
        let timeout = deadline - self.now();
        let call = Call::new(Typed { request, version_max }, deadline, timeout, reply);
        let call = if is_answered { call } else { call.unanswered() };
        let claim = call.claim();
        match address_of(&self.client.snapshot(), broker) {
            Ok(address) => {
                let link = self.links.to(&address);
                self.sent.insert(id, Sent { claim, peer: link.peer() });
                link.send(call);
            }
            Err(failure) => {
                self.sent.insert(id, Sent { claim, peer: Arc::from(format!("broker {broker}")) });
                call.refuse(failure);
            }
        }
    }

    /// Takes a request back, unless a connection has begun with it.
    fn recall(&mut self, id: RequestId) {
        let now = self.now();
        match self.sent.get(&id) {
            Some(sent) if sent.claim.recall() => {
                let failure = sent.without_a_connection();
                self.sent.remove(&id);
                self.machine.handle_lost(id, &failure, false, now);
            }
            _ => self.machine.handle_begun(id, now),
        }
    }

    fn ask_identity(&self, request: InitProducerIdRequest) -> AskingIdentity {
        let client = self.client.clone();
        Box::pin(async move {
            // A broker that is silent is soon not the only one asked.
            let deadline = client.0.clock.after(client.0.settings.client.connect_timeout);
            client.ask(&Destination::Any, &request, deadline).await
        })
    }

    fn settle(&self, settled: Settled<Parcel>) {
        let Settled { batch, outcome, .. } = settled;
        if let Some(error) = batch.promise.settle(outcome)
            && batch.posted > 0
        {
            self.failures.note(batch.posted, error);
        }
    }
}

/// The runtime ends, and this with it: whoever waits is told, and whoever comes later too.
impl Drop for Driver {
    fn drop(&mut self) {
        self.inbox.close();
        self.topics.close();
        for accumulator in self.topics.accumulators() {
            accumulator.take(true, &mut self.taken);
        }
        // A machine that panicked is not asked; each batch says for itself that it may have been written.
        if !std::thread::panicking() {
            let now = self.now();
            for (id, sent) in self.sent.drain().filter(|(_, sent)| sent.claim.recall()) {
                self.machine.handle_lost(id, &sent.without_a_connection(), false, now);
            }
            self.machine.handle_close(&Failure::Closed);
            while let Some(settled) = self.machine.poll_settled() {
                self.settle(settled);
            }
        }
    }
}

async fn answered(asking: &mut Option<AskingIdentity>) -> Result<InitProducerIdResponse, Failure> {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => std::future::pending().await,
    }
}
