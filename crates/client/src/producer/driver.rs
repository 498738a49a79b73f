//! The producer's task. It carries events between accumulators, machine and connections; the machine decides.
//!
//! ```text
//!  inbox (opened, filled, flush) ─┐                    ┌─▶ close: take from accumulators ─▶ Sealer
//!  sealed ────────────────────────┼─▶ core::Producer ──┼─▶ transmit, recall ─▶ Requests
//!  landed (answers) ──────────────┤                    ├─▶ settled ─▶ BatchState, deliveries
//!  metadata, time ────────────────┘                    └─▶ flushed
//! ```
//!
//! One task per producer. It is woken by an event in the inbox, by a batch that a compressing thread has sealed, by a
//! request that has landed, by new metadata, and by the machine's timer. At each turn it first gives the machine every
//! input that is there, and only then does what the machine says: so a batch that was filled while an answer arrived
//! leaves in the next request. It wakes the tasks that wait for deliveries and flushes, the links, and the client's
//! control task when metadata looks outdated. It ends when the last handle was dropped and every record is settled.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use milena_core::metadata::Snapshot;
use milena_core::producer::{
    FlushId, Loss, Order, Outcome, Producer as Machine, RequestId, SealedBatch as _, Settled, Slot, Ticket,
    Times, Transmit,
};
use milena_core::{BrokerId, Failure, Instant, throttle};
use milena_messages::ApiKey;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::produce::ProduceRequest;
use milena_wire::batch::BatchHeader;
use tokio::sync::{mpsc, oneshot, watch};

use super::accumulator::{Accumulator, Memory, OpenBatch};
use super::inbox::{Event, Inbox};
use super::interceptor::{Interceptor, SettledBatch, tell_settled};
use super::seal::{Backlog, Parcel, Sealer};
use super::topics::Topics;
use super::transacting::{Found, Transacting, TransactionTag};
use super::unconfirmed::Unconfirmed;
use crate::brokers::address_of;
use crate::connection::{Alarm, Reused, Typed};
use crate::metrics::{Contents, Counting, ProducedTopic};
use crate::report::report;
use crate::requests::{Landed, RequestKind, Requests, Role};
use crate::trace::time_of_day;
use crate::{Client, ConfigResource, Error};

/// Failures of posted records, which have no delivery; [`flush`](super::Producer::flush) tells them.
#[derive(Default)]
pub(super) struct PostFailures(Mutex<Option<(u64, Error)>>);

impl PostFailures {
    fn note(&self, records: u32, error: Error) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = failures.get_or_insert((0, error));
        *count += u64::from(records);
    }

    /// How many records have failed since the last call, and the error of the first.
    pub(super) fn take(&self) -> Option<(u64, Error)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The kinds of requests that a producer sends.
pub(super) enum Tag {
    Produce(Produce),
    Identity(AskIdentity),
    Transaction(TransactionTag),
    Confirm(Confirm),
}

/// Batches to write.
pub(super) struct Produce {
    id: RequestId,
    /// False with `acks=0`: the broker sends no response, and the request lands when it has been written to the socket.
    is_answered: bool,
    /// How many batches it carries.
    batches: u64,
}

/// The question for a producer id.
pub(super) struct AskIdentity;

/// A question to a broker, whose answer shows that it has read what was sent before: see [`Unconfirmed`].
pub(super) struct Confirm {
    broker: BrokerId,
}

impl RequestKind for Confirm {
    type Request = ApiVersionsRequest;
}

impl From<Confirm> for Tag {
    fn from(confirm: Confirm) -> Self {
        Self::Confirm(confirm)
    }
}

impl RequestKind for Produce {
    type Request = ProduceRequest;

    fn is_answered(&self) -> bool {
        self.is_answered
    }

    fn is_quick(&self) -> bool {
        true
    }

    fn keeps_answer(&self) -> bool {
        false
    }
}

impl RequestKind for AskIdentity {
    type Request = InitProducerIdRequest;
}

impl From<Produce> for Tag {
    fn from(produce: Produce) -> Self {
        Self::Produce(produce)
    }
}

impl From<AskIdentity> for Tag {
    fn from(identity: AskIdentity) -> Self {
        Self::Identity(identity)
    }
}

pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) machine: Machine<Parcel>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) topics: Arc<Topics>,
    pub(super) failures: Arc<PostFailures>,
    pub(super) sealer: Sealer,
    pub(super) sealed: mpsc::UnboundedReceiver<(Ticket, Parcel)>,
    pub(super) requests: Requests<Tag>,
    /// By slot.
    pub(super) accumulators: Vec<Arc<Accumulator>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    metrics: Option<Arc<Counting>>,
    /// By slot, if there are metrics.
    counted: Vec<ProducedTopic>,
    flushing: Vec<Flushing>,
    /// The last flush whose batches are settled.
    flushed: Option<FlushId>,
    /// What brokers may not have read, with `acks=0`.
    unconfirmed: Unconfirmed,
    /// Brokers whose answer to the question for this was lost in this turn.
    unheard: Vec<(BrokerId, Failure)>,
    /// The transactions of a transactional producer.
    transacting: Option<Box<Transacting>>,
    /// Whether the last handle was dropped.
    is_released: bool,
    /// Empty between turns, as `taken` is: they keep their memory.
    events: Vec<Event>,
    taken: Vec<OpenBatch>,
}

/// A flush or a purge that is not complete.
struct Flushing {
    id: FlushId,
    is_purge: bool,
    done: oneshot::Sender<()>,
}

/// The parts of a driver that its producer's handles share with it.
pub(super) struct Parts {
    pub(super) inbox: Arc<Inbox>,
    pub(super) topics: Arc<Topics>,
    pub(super) failures: Arc<PostFailures>,
    pub(super) backlog: Arc<Backlog>,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        machine: Machine<Parcel>,
        parts: &Parts,
        sealer: Sealer,
        sealed: mpsc::UnboundedReceiver<(Ticket, Parcel)>,
        transacting: Option<Box<Transacting>>,
        interceptors: Vec<Arc<dyn Interceptor>>,
    ) -> Self {
        let metrics = client.0.metrics.clone();
        Self {
            requests: Requests::new(&client),
            snapshot: client.watch_snapshot(),
            client,
            machine,
            inbox: Arc::clone(&parts.inbox),
            topics: Arc::clone(&parts.topics),
            failures: Arc::clone(&parts.failures),
            sealer,
            sealed,
            accumulators: Vec::new(),
            interceptors,
            metrics,
            counted: Vec::new(),
            flushing: Vec::new(),
            transacting,
            flushed: None,
            unconfirmed: Unconfirmed::default(),
            unheard: Vec::new(),
            is_released: false,
            events: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Runs until the last handle was dropped and every record is settled.
    pub(super) async fn run(mut self) {
        let (inbox, clock) = (Arc::clone(&self.inbox), self.client.0.clock.clone());
        // These go on waiting from turn to turn, because to begin and to give up waiting takes locks of the runtime.
        let mut arrived = pin!(inbox.arrived.notified());
        let mut changed = pin!(changed(self.snapshot.clone()));
        let mut alarm = Alarm::new(clock);
        while !self.is_done() {
            let of_transaction = self.transacting.as_deref().and_then(Transacting::poll_timeout);
            let wake = [self.machine.poll_timeout(), of_transaction].into_iter().flatten().min();
            // Whichever wakes the task, every input that is there is taken in below. Only the question for the producer id is
            // answered here alone, so that it comes first.
            poll_fn(|cx| {
                if let Poll::Ready(landed) = self.requests.poll_landed(cx) {
                    self.handle_landed(landed);
                    return Poll::Ready(());
                }
                if arrived.as_mut().poll(cx).is_ready() {
                    arrived.set(inbox.arrived.notified());
                    return Poll::Ready(());
                }
                if self.sealer.is_busy()
                    && let Poll::Ready(Some(sealed)) = self.sealed.poll_recv(cx)
                {
                    self.handle_sealed(sealed);
                    return Poll::Ready(());
                }
                if let Poll::Ready(snapshot) = changed.as_mut().poll(cx) {
                    changed.set(self::changed(snapshot));
                    return Poll::Ready(());
                }
                let found = pin!(Transacting::found_coordinator(&mut self.transacting)).poll(cx);
                if let Poll::Ready(Some(found)) = found {
                    self.handle_coordinator(found);
                    return Poll::Ready(());
                }
                wake.map_or(Poll::Pending, |at| alarm.poll_at(cx, at))
            })
            .await;
            // Every input goes in before the machine is asked what to do. An answer may make room for a batch that was
            // filled meanwhile, and both leave in one request then.
            while let Some(landed) = self.requests.try_landed() {
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

    fn is_done(&self) -> bool {
        let is_ended = |of: &Transacting| of.is_ended(self.now());
        self.is_released
            && self.machine.outstanding() == 0
            && self.unconfirmed.is_empty()
            && self.transacting.as_deref().is_none_or(is_ended)
    }

    fn now(&self) -> Instant {
        self.client.0.clock.now()
    }

    /// Does what the producer's handles and accumulators have left in the inbox.
    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.inbox.take(&mut events);
        // New partitions first, because events name slots.
        if events.iter().any(|event| matches!(event, Event::Registered)) {
            self.register();
        }
        let now = self.now();
        for event in events.drain(..) {
            match event {
                // The partitions were taken in above.
                Event::Registered => {}
                Event::Opened(slot) => self.machine.handle_opened(Slot(slot), now),
                Event::Waited(slot, began) => self.machine.handle_waited(Slot(slot), began, now),
                Event::Filled(slot) => self.collect(slot as usize, false),
                Event::Flush(done) => {
                    let id = self.machine.handle_flush();
                    self.flushing.push(Flushing { id, is_purge: false, done });
                }
                Event::Purge(done) => {
                    let id = self.machine.handle_abandon(now);
                    self.flushing.push(Flushing { id, is_purge: true, done });
                }
                Event::Transaction(command) => {
                    if let Some(transacting) = &mut self.transacting {
                        transacting.handle_command(command, &mut self.machine, now);
                    }
                }
                Event::Released => {
                    self.is_released = true;
                    if let Some(transacting) = &mut self.transacting {
                        transacting.handle_released(now);
                    }
                }
            }
        }
        self.events = events;
    }

    /// Takes in the partitions that are new. Their leaders are looked up once for all of them, because a look-up goes
    /// through every partition of the producer.
    fn register(&mut self) {
        let added = self.topics.take_added();
        if added.is_empty() {
            return;
        }
        for accumulator in added {
            let slot = self.machine.register(Arc::clone(&accumulator.topic), accumulator.partition);
            debug_assert_eq!(slot, accumulator.slot, "slots are given out in the order of registration");
            if let Some(metrics) = &self.metrics {
                self.counted.push(metrics.producing.topic(&accumulator.topic));
            }
            self.accumulators.push(accumulator);
        }
        let snapshot = self.client.snapshot();
        self.machine.handle_metadata(&snapshot, self.now());
    }

    /// Takes the closed batches of an accumulator and has them sealed; with `close`, the open batch too.
    fn collect(&mut self, index: usize, close: bool) {
        let slot = self.accumulators[index].slot;
        let mut taken = std::mem::take(&mut self.taken);
        let is_emptied = self.accumulators[index].take(close, &mut taken);
        let now = self.now();
        for batch in taken.drain(..) {
            let ticket = self.machine.handle_closed(slot, now);
            let codec = self.accumulators[index].profile.codec;
            if let Some((ticket, parcel)) = self.sealer.seal(ticket, batch, codec) {
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
        // Only compressed batches come here.
        let (before, after) = parcel.sizes();
        self.accumulators[ticket.slot().0 as usize].profile.note_sealed(before, after);
        self.machine.handle_sealed(ticket, parcel, self.now());
    }

    fn handle_landed(&mut self, landed: Landed<Tag>) {
        let Landed { tag, outcome, has_begun, rest } = landed;
        let now = self.now();
        if let Some(spent) = self.requests.spent::<Reused<ProduceRequest>>(rest) {
            self.machine.recycle_request(spent.typed.request);
        }
        if let (Some(metrics), Tag::Produce(produce), Ok(answer)) = (&self.metrics, &tag, &outcome) {
            metrics.producing.note_landed(produce.batches, produce.is_answered, answer);
        }
        match tag {
            // The broker does not answer with acks=0. Landing means that the request was written to the socket, no
            // more.
            Tag::Produce(Produce { id, is_answered: false, .. }) if outcome.is_ok() => {
                self.unconfirmed.note_written(id);
                self.machine.handle_written(id, now);
            }
            Tag::Produce(produce) => match produce.response_into(outcome, self.machine.lists()) {
                Ok(response) => {
                    if let (Some(metrics), 1..) = (&self.metrics, response.throttle_time_ms) {
                        let throttle = Duration::from_millis(response.throttle_time_ms.unsigned_abs().into());
                        metrics.connections.note_throttle(ApiKey::Produce, throttle.min(throttle::MAX));
                    }
                    self.machine.handle_response(produce.id, &response, now);
                    self.machine.recycle_response(response);
                }
                Err(failure) => {
                    self.unconfirmed.note_failed(produce.id);
                    self.machine.handle_lost(produce.id, &failure, has_begun, now);
                }
            },
            Tag::Confirm(confirm) => match confirm.response(outcome) {
                Ok(_) => self.unconfirmed.handle_answer(confirm.broker),
                // What was written before it may land after it.
                Err(failure) => self.unheard.push((confirm.broker, failure)),
            },
            Tag::Identity(question) => self.machine.handle_identity(question.response(outcome), now),
            Tag::Transaction(tag) => {
                if let Some(transacting) = &mut self.transacting {
                    transacting.handle_landed(tag, outcome, has_begun, now);
                }
            }
        }
    }

    fn handle_coordinator(&mut self, found: Found) {
        let now = self.now();
        if let Some(transacting) = &mut self.transacting {
            transacting.handle_coordinator(found, now);
        }
    }

    fn handle_metadata(&mut self) {
        let snapshot = Arc::clone(&self.snapshot.borrow_and_update());
        for name in self.topics.names() {
            if let Ok(topic) = snapshot.topic(&name) {
                self.topics.learn(topic, None, &snapshot);
            }
        }
        self.machine.handle_metadata(&snapshot, self.now());
        self.requests.retain_links(&snapshot, None);
    }

    /// Does what the machines say, until they say nothing more.
    fn act(&mut self) {
        loop {
            self.act_on_records();
            let Some(mut transacting) = self.transacting.take() else { return };
            let goes_on = transacting.act(self, self.now());
            self.transacting = Some(transacting);
            if !goes_on {
                return;
            }
        }
    }

    fn act_on_records(&mut self) {
        while let Some(order) = self.machine.poll_order(self.now()) {
            match order {
                Order::Close(slot) => self.collect(slot.0 as usize, true),
                Order::Split(ticket, parcel) => self.split(ticket, parcel),
                Order::Recall(id) => self.recall(id),
                Order::Transmit(transmit) => self.transmit(transmit),
            }
        }
        if let Some(request) = self.machine.poll_identity(self.now()) {
            self.ask_identity(request);
        }
        while let Some(settled) = self.machine.poll_settled() {
            self.settle(settled);
        }
        while let Some(failure) = self.machine.poll_retry() {
            if let Some(metrics) = &self.metrics {
                metrics.producing.note_retry(&failure);
            }
        }
        self.confirm();
        self.flushed = self.machine.poll_flushed().or(self.flushed);
        let (flushed, is_confirmed) = (self.flushed, self.unconfirmed.is_empty());
        // A purge waits for no broker.
        let is_complete = |of: &mut Flushing| Some(of.id) <= flushed && (is_confirmed || of.is_purge);
        for Flushing { done, .. } in self.flushing.extract_if(.., is_complete) {
            // The future of the flush may have been dropped.
            let _ = done.send(());
        }
        if self.machine.poll_metadata_wanted() {
            self.client.metadata_is_outdated();
        }
        while let Some(notice) = self.machine.poll_notice() {
            report(&notice);
        }
        while let Some(loss) = self.machine.poll_loss() {
            let Loss { topic, partition, acknowledged, log_start } = loss;
            tracing::error!(
                target: "milena",
                "partition {partition} of topic {topic:?} has lost records that it had acknowledged: the last one of this \
                 producer had offset {acknowledged}, and the log, which begins at {log_start}, has none of them"
            );
        }
        self.client.learn_leaders(self.machine.poll_hints());
    }

    /// Sends the records of a batch that its broker refuses for its size as smaller batches.
    fn split(&mut self, ticket: Ticket, parcel: Parcel) {
        // The partition's next batches are smaller too, or each of them would be refused first.
        let accumulator = &self.accumulators[ticket.slot().0 as usize];
        accumulator.lower_bytes_max(parcel.split_bytes_max());
        self.ask_for_limit(accumulator);
        let memory = Memory {
            pool: self.client.0.pool.clone(),
            budget: self.client.0.produce_budget.clone(),
            is_transactional: self.transacting.is_some(),
        };
        let pieces = Sealer::split(parcel, accumulator.profile.codec, &memory);
        self.machine.handle_split(ticket, pieces, self.now());
    }

    /// Asks for the topic's `max.message.bytes`, so that its next batches are as large as it takes. If that fails, for lack of
    /// rights for example, batches are halved until they are taken.
    fn ask_for_limit(&self, accumulator: &Accumulator) {
        let profile = Arc::clone(&accumulator.profile);
        if !profile.begin_asking() {
            return;
        }
        let (admin, topic) = (self.client.admin(), ConfigResource::Topic(accumulator.topic.to_string()));
        self.client.0.runtime.spawn(async move {
            let entries = admin.describe_configs(&topic).await.unwrap_or_default();
            let limit = entries.iter().find(|entry| entry.name == "max.message.bytes");
            profile.learn_limit(limit.and_then(|entry| entry.value.as_deref()?.parse().ok()));
        });
    }

    /// With `acks=0`, finds out what brokers have read.
    fn confirm(&mut self) {
        for (broker, failure) in std::mem::take(&mut self.unheard) {
            let records = self.unconfirmed.handle_lost(broker);
            if records > 0 {
                let doing = format!("writing {records} records to broker {broker} without acknowledgement");
                let error = Error::with_maybe_written(doing, failure, true);
                tracing::warn!(target: "milena", "{error}");
                self.failures.note(records, error);
            }
        }
        while let Some(broker) = self.unconfirmed.poll_ask() {
            let to = address_of(&self.client.snapshot(), broker);
            let request = ApiVersionsRequest {
                client_software_name: "milena".into(),
                client_software_version: env!("CARGO_PKG_VERSION").into(),
                ..Default::default()
            };
            let deadline = self.client.0.clock.after(self.client.0.settings.client.request_timeout);
            let request = Typed { request, version_max: i16::MAX };
            self.requests.send(Role::Produce, to, request, deadline, Confirm { broker });
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { id, broker, request, version_max, is_answered, deadline } = transmit;
        if !is_answered {
            self.unconfirmed.note_sent(broker, id, record_count(&request));
        }
        let batches = request.topic_data.iter().map(|topic| topic.partition_data.len() as u64).sum();
        let to = address_of(&self.client.snapshot(), broker);
        // The batches belong to their parcels, which may be settled before the answer comes.
        let empty = |request: &mut ProduceRequest| {
            let topics = request.topic_data.iter_mut();
            topics.flat_map(|topic| &mut topic.partition_data).for_each(|data| data.records = None);
        };
        let request = Reused { typed: Typed { request, version_max }, empty };
        self.requests.send(Role::Produce, to, request, deadline, Produce { id, is_answered, batches });
    }

    /// Takes a request back, unless a connection has begun with it.
    fn recall(&mut self, id: RequestId) {
        let is_it = |tag: &Tag| matches!(tag, Tag::Produce(produce) if produce.id == id);
        match self.requests.recall(is_it) {
            Some(landed) => self.handle_landed(landed),
            None => self.machine.handle_begun(id, self.now()),
        }
    }

    fn ask_identity(&mut self, request: InitProducerIdRequest) {
        // This bounds the time for one broker; the next one is asked when it is silent for a second.
        let deadline = self.client.0.clock.after(self.client.0.settings.client.connect_timeout);
        self.requests.ask_any(Typed { request, version_max: i16::MAX }, deadline, AskIdentity);
    }

    fn settle(&self, settled: Settled<Parcel>) {
        let Settled { slot, mut batch, outcome, times } = settled;
        let accumulator = &self.accumulators[slot.0 as usize];
        accumulator.sticky.settled(accumulator.partition);
        let base_offset = match outcome {
            Outcome::Written { base_offset, .. } => base_offset,
            Outcome::Failed { .. } => None,
        };
        let outcome = match outcome {
            Outcome::Failed { failure, maybe_written, records } => {
                Outcome::Failed { failure: self.client.named(failure), maybe_written, records }
            }
            written => written,
        };
        if let Some(metrics) = &self.metrics {
            let (now, records) = (self.now(), u64::from(batch.record_count().unsigned_abs()));
            match &outcome {
                Outcome::Written { .. } => {
                    let (uncompressed_bytes, bytes) = batch.sizes();
                    let contents = Contents { records, bytes, uncompressed_bytes };
                    metrics.producing.note_written(&self.counted[slot.0 as usize], contents, times, now);
                }
                Outcome::Failed { failure, .. } => {
                    metrics.producing.note_failed(&accumulator.topic, records, failure, times, now);
                }
            }
        }
        let error = batch.promise.settle(outcome);
        if !self.interceptors.is_empty() || self.client.0.trace.is_some() {
            self.tell(accumulator, &batch, times, error.as_ref().map_or(Ok(base_offset), Err));
        }
        if let Some(error) = error.filter(|_| batch.posted > 0) {
            self.failures.note(batch.posted, error);
        }
    }
}

impl Driver {
    /// Tells interceptors and hooks of a batch that is settled.
    #[cold]
    fn tell(
        &self,
        accumulator: &Accumulator,
        batch: &Parcel,
        times: Option<Times>,
        result: Result<Option<i64>, &Error>,
    ) {
        let (Accumulator { topic, partition, .. }, snapshot) = (accumulator, self.client.snapshot());
        let partitions = snapshot.topic(topic).map_or(&[][..], |topic| &topic.partitions);
        let leader = partitions.iter().find(|known| known.index == *partition).and_then(|known| known.leader);
        let leader = leader.and_then(|leader| snapshot.brokers.get(&leader));
        let (clock, now) = (&self.client.0.clock, self.now());
        let (bytes, compressed_bytes) = batch.sizes();
        let settled = SettledBatch {
            topic,
            partition: *partition,
            records: batch.record_count().cast_unsigned(),
            bytes,
            compressed_bytes,
            result,
            client_id: &self.client.0.settings.client.client_id,
            broker: leader.map(|broker| (&*broker.host, broker.port)),
            began: time_of_day(clock, times.and_then(|times| times.sent).unwrap_or(now)),
            ended: time_of_day(clock, now),
            contexts: batch.contexts.all(),
        };
        tell_settled(&self.interceptors, &settled);
        if let Some(trace) = &self.client.0.trace {
            trace.tell(|hooks| hooks.sent(&settled));
        }
    }
}

/// How many records a request carries, as the headers of its batches say.
fn record_count(request: &ProduceRequest) -> u32 {
    let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let batches = batches.filter_map(|partition| partition.records.as_deref());
    batches.filter_map(|batch| BatchHeader::parse(batch).ok()).map(|header| header.record_count).sum()
}

/// Waits for a new snapshot, and gives the receiver back. When the client's control task has ended there is none.
async fn changed(mut snapshot: watch::Receiver<Arc<Snapshot>>) -> watch::Receiver<Arc<Snapshot>> {
    if snapshot.changed().await.is_err() {
        pending::<()>().await;
    }
    snapshot
}

/// Usually everything is settled by now. But the runtime may end while tasks on other runtimes wait for deliveries:
/// those fail, and so do later calls.
impl Drop for Driver {
    fn drop(&mut self) {
        self.inbox.close();
        self.topics.close();
        for accumulator in self.topics.accumulators() {
            accumulator.take(true, &mut self.taken);
        }
        // A machine that has panicked may be in any state. Without it each batch settles itself when it is dropped, as
        // maybe written if it was handed to a connection.
        if !std::thread::panicking() {
            // A request that no connection has begun with was certainly not written.
            for landed in self.requests.recall_all() {
                self.handle_landed(landed);
            }
            self.machine.handle_close(&Failure::Closed);
            while let Some(settled) = self.machine.poll_settled() {
                self.settle(settled);
            }
        }
    }
}
