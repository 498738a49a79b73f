//! The consumer's task: carries events between queues, machine and connections, and decides nothing.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use milena_core::metadata::Snapshot;
use milena_core::source::{Epoch, Event, Fetch, LANES, LaneId, Lookup, Position, ROOM_MIN, Slot, Source};
use milena_core::{Failure, Instant};
use tokio::sync::{Notify, mpsc, watch};

use super::queue::{Frame, Queue, Queued, Ready};
use super::shared::Shared;
use crate::budget::Reservation;
use crate::client::{address_of, report};
use crate::connection::{Answer, Call, Landing, Links, Reply, Typed};
use crate::{Client, Error, OffsetAt};

/// What the consumer tells the driver. Whether a partition is paused or taken its queue says itself: two tasks may change
/// that, and their commands come the wrong way round.
pub(super) enum Command {
    Assign { queue: Arc<Queue>, epoch: Epoch, position: Position },
    Seek { queue: Arc<Queue>, epoch: Epoch, position: Position },
    Halt { queue: Arc<Queue>, epoch: Epoch },
    Unassign { queue: Arc<Queue>, epoch: Epoch },
    Pause { queue: Arc<Queue> },
    Own { queue: Arc<Queue> },
    Taken { queue: Arc<Queue>, epoch: Epoch, bytes: usize },
    Released,
}

/// Where the consumer leaves commands: a few per batch at most.
#[derive(Default)]
pub(super) struct Commands {
    queue: Mutex<Vec<Command>>,
    /// Also told when memory was freed.
    pub(super) arrived: Arc<Notify>,
}

impl Commands {
    pub(super) fn push(&self, command: Command) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.arrived.notify_one();
    }

    fn take(&self, commands: &mut Vec<Command>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), commands);
    }
}

/// What became of a request.
type Landed = (u64, Result<Answer, Failure>);
type AskingEnds = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A fetch under way, and the memory for its answer.
struct Fetching {
    lane: LaneId,
    number: u64,
    reservation: Reservation,
}

pub(super) struct Driver {
    client: Client,
    source: Source,
    commands: Arc<Commands>,
    ready: Arc<Ready>,
    /// Gone when nobody reads any more.
    shared: Weak<Shared>,
    /// By slot.
    queues: Vec<Option<Arc<Queue>>>,
    fetch_links: [Links; LANES as usize],
    /// A fetch waits at the broker for records, and what else is asked must not wait behind it.
    lookup_links: Links,
    landed: mpsc::UnboundedReceiver<Landed>,
    land: Landing,
    /// One per lane. Other requests that land are lookups.
    fetching: Vec<Fetching>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    fetch_bytes_max: usize,
    /// Partitions were assigned whose leaders the machine does not know yet.
    is_unrouted: bool,
    /// Partitions that end before where they are to be read to.
    doubted: BTreeMap<Slot, Arc<Queue>>,
    /// The question where such partitions end, while it is being asked.
    asking: Option<AskingEnds>,
}

impl Drop for Driver {
    /// Its runtime may end before the consumer does, and nobody is to wait for what no longer comes.
    fn drop(&mut self) {
        let mut commands = Vec::new();
        self.commands.take(&mut commands);
        self.queues.extend(commands.into_iter().filter_map(|command| match command {
            Command::Assign { queue, .. } => Some(Some(queue)),
            _ => None,
        }));
        self.ready.end(self.queues.iter().flatten());
    }
}

impl Driver {
    pub(super) fn new(
        client: Client,
        source: Source,
        commands: Arc<Commands>,
        ready: Arc<Ready>,
        shared: Weak<Shared>,
        fetch_bytes_max: usize,
    ) -> Self {
        // Bounded by the machine: one fetch per broker, one lookup per partition.
        let (land, landed) = mpsc::unbounded_channel();
        Self {
            fetch_links: std::array::from_fn(|_| client.new_links()),
            lookup_links: client.new_links(),
            snapshot: client.watch_snapshot(),
            client,
            source,
            commands,
            ready,
            shared,
            queues: Vec::new(),
            landed,
            land,
            fetching: Vec::new(),
            fetch_bytes_max,
            is_unrouted: false,
            doubted: BTreeMap::new(),
            asking: None,
        }
    }

    /// Runs until the consumer is gone.
    pub(super) async fn run(mut self) {
        let arrived = Arc::clone(&self.commands.arrived);
        let mut commands = Vec::new();
        loop {
            let wake = self.source.poll_timeout(self.now());
            let mut landed = None;
            tokio::select! {
                // Whichever comes first, all that is there is taken in below. Only the question has no other turn, and it
                // is rare.
                biased;
                () = asked(&mut self.asking) => self.asking = None,
                () = arrived.notified() => {}
                Some(first) = self.landed.recv() => landed = Some(first),
                Ok(()) = self.snapshot.changed() => self.handle_metadata(),
                () = self.client.0.clock.sleep_until(wake) => {}
            }
            if self.snapshot.has_changed().unwrap_or(false) {
                self.handle_metadata();
            }
            // What the application did comes before what it waits for.
            self.commands.take(&mut commands);
            for command in commands.drain(..) {
                if self.handle_command(command) {
                    return;
                }
            }
            while let Some(next) = landed.take().or_else(|| self.landed.try_recv().ok()) {
                self.handle_landed(next);
            }
            self.act();
        }
    }

    fn now(&self) -> Instant {
        self.client.0.clock.now()
    }

    /// Answers whether that was the end.
    fn handle_command(&mut self, command: Command) -> bool {
        match command {
            Command::Released => return true,
            Command::Assign { queue, epoch, position } => self.assign(queue, epoch, position),
            Command::Seek { queue, epoch, position } => {
                self.with_slot(&queue, |source, slot| source.seek(slot, epoch, position));
            }
            Command::Halt { queue, epoch } => {
                self.with_slot(&queue, |source, slot| source.halt(slot, epoch));
            }
            Command::Unassign { queue, epoch } => {
                self.with_slot(&queue, |source, slot| source.unassign(slot, epoch));
                self.forget(&queue);
            }
            Command::Pause { queue } => {
                self.with_slot(&queue, |source, slot| source.set_paused(slot, queue.is_paused()));
            }
            Command::Own { queue } => {
                self.with_slot(&queue, |source, slot| source.set_own_reader(slot, queue.is_taken()));
            }
            Command::Taken { queue, epoch, bytes } => {
                self.with_slot(&queue, |source, slot| source.handle_taken(slot, epoch, bytes));
            }
        }
        false
    }

    fn assign(&mut self, queue: Arc<Queue>, epoch: Epoch, position: Position) {
        let slot = self.source.assign(&queue.topic, queue.partition, epoch, position);
        queue.set_slot(slot);
        let index = slot.0 as usize;
        if self.queues.len() <= index {
            self.queues.resize(index + 1, None);
        }
        self.queues[index] = Some(queue);
        self.is_unrouted = true;
    }

    fn forget(&mut self, queue: &Arc<Queue>) {
        let place = queue.slot().and_then(|slot| self.queues.get_mut(slot.0 as usize));
        if let Some(place) =
            place.filter(|known| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, queue)))
        {
            *place = None;
        }
    }

    /// Changes what the machine does with the partition, unless it is not assigned any more: its slot may be another's.
    fn with_slot(&mut self, queue: &Arc<Queue>, change: impl FnOnce(&mut Source, Slot)) {
        let Some(slot) = queue.slot() else { return };
        let known = self.queues.get(slot.0 as usize).and_then(Option::as_ref);
        if known.is_some_and(|known| Arc::ptr_eq(known, queue)) {
            change(&mut self.source, slot);
        }
    }

    fn handle_metadata(&mut self) {
        let snapshot = Arc::clone(&self.snapshot.borrow_and_update());
        let now = self.now();
        self.source.handle_metadata(&snapshot, now);
        if let Some(shared) = self.shared.upgrade() {
            shared.follow(&snapshot);
        }
        let is_current = |address: &crate::Address| {
            snapshot
                .brokers
                .values()
                .any(|broker| (&*broker.host, broker.port) == (address.host(), address.port()))
        };
        self.fetch_links.iter().for_each(|links| links.retain(is_current));
        self.lookup_links.retain(is_current);
    }

    fn handle_landed(&mut self, (number, outcome): Landed) {
        let now = self.now();
        let Some(fetch) = self.fetching.iter().position(|fetch| fetch.number == number) else {
            let answer = outcome.and_then(|answer| answer.decode());
            return self.source.handle_lookup(number, answer, now);
        };
        let Fetching { lane, mut reservation, .. } = self.fetching.swap_remove(fetch);
        let bytes = outcome.as_ref().map_or(0, |answer| answer.body.len());
        reservation.resize(bytes);
        let began = outcome.as_ref().map_or(now, |answer| answer.began);
        let answer = outcome.and_then(|answer| answer.decode());
        self.source.handle_fetched(lane, number, answer, began, self.ready.idle_since(), now);
        let freed = Arc::clone(&self.commands.arrived);
        let frame = Arc::new(Frame { reservation: Some(reservation), freed });
        self.deliver(Some(&frame));
    }

    /// Hands on what the machine has for the application. Batches all come from `frame`.
    fn deliver(&mut self, frame: Option<&Arc<Frame>>) {
        while let Some(event) = self.source.poll_event() {
            match event {
                Event::Batch { slot, epoch, batch, from, high_watermark } => {
                    let Some(frame) = frame else { continue };
                    let queued =
                        Queued { batch, from, passed: None, high_watermark, frame: Arc::clone(frame) };
                    self.with_queue(slot, epoch, |inner| inner.batches.push_back(queued));
                }
                Event::Passed { slot, epoch, offset } | Event::Positioned { slot, epoch, offset } => {
                    self.with_queue(slot, epoch, |inner| inner.pass(offset));
                }
                Event::AtEnd { slot, epoch, offset } => self.handle_end(slot, epoch, offset),
                Event::Stopped { slot, epoch, offset, failure } => {
                    let Some(queue) = self.queue(slot) else { continue };
                    let at = offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
                    let doing =
                        format!("reading partition {} of topic {:?}{at}", queue.partition, queue.topic);
                    let error = Error::with_maybe_written(doing, failure, false);
                    self.with_queue(slot, epoch, |inner| inner.stop(error, false));
                }
            }
        }
    }

    /// The partition ends at `offset`, where it is read. If it was to be read further, its end is asked for anew: it may
    /// have been made again, or have lost its last records.
    fn handle_end(&mut self, slot: Slot, epoch: Epoch, offset: i64) {
        // A position behind the end that was told is one that exists: everything was read.
        self.with_queue(slot, epoch, |_| {});
        let Some(queue) = self.queue(slot).cloned() else { return };
        if queue.inner().epoch == epoch && queue.until().is_some_and(|until| offset < until) {
            self.doubted.insert(slot, queue);
        }
    }

    /// Asks for the ends that are in doubt, unless that is being done.
    fn ask_for_ends(&mut self) {
        if self.doubted.is_empty() || self.asking.is_some() {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let doubted = std::mem::take(&mut self.doubted).into_values();
        let doubted = doubted.filter_map(|queue| queue.until().map(|until| (queue, until)));
        let doubted: Vec<_> = doubted.filter(|(queue, _)| !queue.is_read()).collect();
        let partitions: Vec<_> =
            doubted.iter().map(|(queue, _)| (queue.topic.to_string(), queue.partition)).collect();
        if partitions.is_empty() {
            return;
        }
        // It keeps the consumer for no longer than this: nobody may read any more when the answer comes.
        let (admin, shared) = (shared.asking(), Weak::clone(&self.shared));
        self.asking = Some(Box::pin(async move {
            // What fails is asked again: the partition still ends too early.
            let Ok(ends) = admin.list_offsets(partitions, OffsetAt::Latest).await else { return };
            let Some(shared) = shared.upgrade() else { return };
            for ((queue, until), (_, end)) in doubted.iter().zip(ends) {
                if let Ok(Some(end)) = end
                    && end < *until
                {
                    queue.lower_until(*until, end);
                    shared.finish_if_read(queue);
                }
            }
        }));
    }

    fn queue(&self, slot: Slot) -> Option<&Arc<Queue>> {
        self.queues.get(slot.0 as usize)?.as_ref()
    }

    /// Changes a partition's queue, unless it was sought meanwhile.
    fn with_queue(&self, slot: Slot, epoch: Epoch, change: impl FnOnce(&mut super::queue::Inner)) {
        let Some(queue) = self.queue(slot) else { return };
        let mut inner = queue.inner();
        if inner.epoch == epoch {
            change(&mut inner);
            drop(inner);
            if queue.until().is_some()
                && let Some(shared) = self.shared.upgrade()
            {
                shared.finish_if_read(queue);
            }
            self.ready.list(queue);
        }
    }

    fn act(&mut self) {
        let now = self.now();
        if std::mem::take(&mut self.is_unrouted) {
            let snapshot = self.client.snapshot();
            self.source.handle_metadata(&snapshot, now);
        }
        self.source.handle_timeout(now);
        self.deliver(None);
        self.ask_for_ends();
        while let Some(lookup) = self.source.poll_lookup(now) {
            self.look_up(lookup);
        }
        loop {
            let room = self.room();
            let Some(fetch) = self.source.poll_fetch(now, room) else { break };
            self.fetch(fetch);
        }
        if self.source.poll_metadata_wanted() {
            self.client.metadata_is_outdated();
        }
        while let Some(notice) = self.source.poll_notice() {
            report(&notice);
        }
        self.client.learn_leaders(self.source.poll_hints());
    }

    /// What one more fetch may bring: an even share for each broker and one for what waits to be read, as far as it is
    /// there.
    fn room(&self) -> usize {
        let budget = &self.client.0.fetch_budget;
        let brokers = self.snapshot.borrow().brokers.len();
        let share = budget.bytes_max() / (brokers + 1);
        share.min(self.fetch_bytes_max).max(ROOM_MIN).min(budget.available())
    }

    fn fetch(&mut self, fetch: Fetch) {
        let Fetch { lane, number, request, version_max, bytes_expected: bytes, deadline } = fetch;
        let reservation = self.client.0.fetch_budget.reserve_beyond(bytes);
        self.fetching.push(Fetching { lane, number, reservation });
        let reply = Reply::to(&self.land, number);
        let call = Call::new(Typed { request, version_max }, deadline, deadline - self.now(), reply);
        match address_of(&self.client.snapshot(), lane.broker) {
            Ok(address) => self.fetch_links[usize::from(lane.lane)].to(&address).send(call.expecting(bytes)),
            Err(failure) => call.refuse(failure),
        }
    }

    fn look_up(&self, lookup: Lookup) {
        let Lookup { broker, number, request, deadline } = lookup;
        let reply = Reply::to(&self.land, number);
        let call =
            Call::new(Typed { request, version_max: i16::MAX }, deadline, deadline - self.now(), reply);
        match address_of(&self.client.snapshot(), broker) {
            Ok(address) => self.lookup_links.to(&address).send(call),
            Err(failure) => call.refuse(failure),
        }
    }
}

async fn asked(asking: &mut Option<AskingEnds>) {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => std::future::pending().await,
    }
}
