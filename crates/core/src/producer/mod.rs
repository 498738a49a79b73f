//! The idempotent producer's decisions: which batch goes to which broker, when, under which sequence, and whether it
//! was written.
//!
//! ```text
//!  accumulator ── opened ──▶ ┌──────────┐ ── close ──────────▶ accumulator
//!  sealer ────── sealed ───▶ │ Producer │ ── transmit ───────▶ connections
//!  connections ─ response ─▶ │          │ ── settled ────────▶ deliveries
//!  metadata ───── leader ──▶ └──────────┘ ── flushed ────────▶ callers of flush
//! ```
//!
//! The rules it keeps; how to call it stands on [`Producer`]:
//! - A batch keeps its sequence from its first transmission until it is settled, so the broker recognises a retry.
//! - Batches of a partition are transmitted in order. After a failure nothing more is sent until everything in flight
//!   has landed, and then all of it is sent again in order.
//! - A sequence that was given out is never given to another batch. Where one is missing for good, the partition starts
//!   at zero under a higher epoch (KIP-360). Batches that may have been appended under the old epoch are reported as
//!   maybe written and not sent again, because the broker would not recognise them.
//! - The delivery timeout bounds every record, whatever happens around it, and its error says whether the record may
//!   have been written.

mod flow;
mod identity;
mod partition;
mod sink;
mod span;
mod terms;
#[cfg(test)]
mod tests;
mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::Message as _;
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::produce::{ProduceRequest, ProduceResponse};
use milena_wire::{Lists, Str, Uuid};

use self::flow::{add_partition, failed, flights_max};
use self::identity::{Heard, Identity};
use self::partition::{Closed, Content, Doubt, Listed, Open, Partition};
use self::sink::{Sink, Stirred};
use self::span::Span;
pub use self::terms::{
    Acks, FlushId, Loss, Order, Outcome, RequestId, SealedBatch, Settings, Settled, Slot, Ticket, Times,
    Transmit,
};
use crate::metadata::{Endpoints, LeaderHint, Snapshot};
use crate::{BrokerId, Failure, Instant, Notice, Rng};

/// The last version of ProduceRequest that names topics by name; later ones use ids (KIP-516).
const PRODUCE_BY_NAME: i16 = 12;

/// The producer's machine: the [module](self) has the rules that it keeps.
///
/// # A turn
///
/// Tell it everything that has happened (`handle_*`), and last that time has passed
/// ([`handle_timeout`](Self::handle_timeout)). Then drain what it wants, in this order:
///
/// 1. [`poll_order`](Self::poll_order), until there is none. Each order is carried out before the next one is polled,
///    and answered if its answer is due at once, because the answer may change what the next order is.
/// 2. [`poll_identity`](Self::poll_identity).
/// 3. [`poll_settled`](Self::poll_settled), until there is none. Orders may settle batches, so they come first.
/// 4. [`poll_flushed`](Self::poll_flushed). A flush is complete when its last batch is settled. When it returns to its
///    caller the deliveries of its records must be ready, so settled batches come first.
/// 5. For a transactional producer, before the transaction machine is asked what to do:
///    [`poll_wanted`](Self::poll_wanted), [`poll_sent`](Self::poll_sent), [`poll_taken`](Self::poll_taken),
///    [`poll_unsure`](Self::poll_unsure) and [`poll_failed`](Self::poll_failed). After its events were carried out it says why
///    partitions are not added yet: [`handle_unadded`](Self::handle_unadded).
/// 6. [`poll_metadata_wanted`](Self::poll_metadata_wanted), [`poll_notice`](Self::poll_notice),
///    [`poll_loss`](Self::poll_loss), [`poll_retry`](Self::poll_retry) and [`poll_hints`](Self::poll_hints), in any order.
///
/// Then sleep until something happens, or until [`poll_timeout`](Self::poll_timeout), which any of these calls may
/// change.
///
/// # Inputs
///
/// | output | answered by, exactly once | when |
/// |---|---|---|
/// | [`Order::Close`] | [`handle_closed`](Self::handle_closed) for each batch, then [`handle_emptied`](Self::handle_emptied) | before the next poll |
/// | the [`Ticket`] of `handle_closed` | [`handle_sealed`](Self::handle_sealed) | when the batch is sealed |
/// | [`Order::Split`] | [`handle_split`](Self::handle_split) | when the batch is split |
/// | [`Order::Recall`] | [`handle_lost`](Self::handle_lost) or [`handle_begun`](Self::handle_begun) | before the next poll |
/// | [`Order::Transmit`] | [`handle_response`](Self::handle_response), [`handle_lost`](Self::handle_lost), or [`handle_written`](Self::handle_written) with `acks=0` | by its deadline |
/// | [`poll_identity`](Self::poll_identity) | [`handle_identity`](Self::handle_identity) | by a deadline of the caller's |
///
/// A batch that was closed and is never sealed, or a request that is never answered, is outstanding for ever. Answers
/// to requests that are over are ignored.
///
/// # Time
///
/// `now` is never before the `now` of the last `handle_timeout`. A timer fires once: with an earlier `now` the batch
/// that it fired for would not be due yet, and no timer would come for it again. Between two timeouts `now` need not
/// grow.
///
/// # Between calls
///
/// Every batch is in one place: open in the accumulator, closed and waiting, in flight, or settled and not polled. A
/// partition is in at most one list of its leader, and at most once in a request. At most
/// [`in_flight_max`](Settings::in_flight_max) requests are in flight to a broker. Of a partition one batch is in flight
/// until a broker has accepted one under the present identity.
///
/// # Cost
///
/// A call about a batch or an answer takes time by the partitions that it concerns and the batches that wait there, and
/// the logarithm of the number of timers. `handle_metadata`, `handle_flush`, `handle_close` and `handle_identity` go
/// through all partitions, and so does `poll_identity` while an identity is wanted. `poll_order` goes through the
/// partitions that wait for brokers about which something has changed.
#[derive(Debug)]
pub struct Producer<B> {
    settings: Settings,
    rng: Rng,
    identity: Identity,
    partitions: Vec<Partition<B>>,
    /// The number of each topic, in the order in which they were registered.
    topics: BTreeMap<Arc<str>, usize>,
    /// Where each topic was in the last request that named it, by its number.
    places: Vec<usize>,
    sinks: BTreeMap<BrokerId, Sink>,
    /// Sinks that are to be looked at: something has changed that may let a batch go.
    stirred: Stirred,
    requests: BTreeMap<RequestId, Request>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// The `now` of the last `handle_timeout`.
    fired_at: Instant,
    closes: VecDeque<Slot>,
    recalls: VecDeque<RequestId>,
    splits: VecDeque<(Ticket, B)>,
    settled: VecDeque<Settled<B>>,
    hints: Vec<LeaderHint>,
    notices: VecDeque<Notice>,
    metadata_wanted: bool,
    flushes: Flushes,
    next_request: u64,
    next_ticket: u64,
    /// An empty list for the next request, kept for its memory.
    spare_carried: Vec<Carried>,
    /// The memory of the lists in requests and responses.
    lists: Lists,
    /// Outcomes of batches that were given up while they were being sealed or split, by ticket.
    unsealed: BTreeMap<u64, Outcome>,
    given_up: Option<GivenUp>,
    /// The transaction, if the producer is transactional.
    span: Option<Span>,
    /// Batches of this generation of flushes and of those before are purged.
    purged: Option<u64>,
    losses: VecDeque<Loss>,
    /// Why batches are sent again, each once.
    retries: VecDeque<Failure>,
}

/// Why batches that were opened up to an instant fail as soon as they are closed.
#[derive(Debug)]
struct GivenUp {
    /// The time at which a producer id was refused, or [`Instant::NEVER`] once the producer is closed.
    upto: Instant,
    failure: Failure,
}

#[derive(Debug)]
struct Request {
    broker: BrokerId,
    carried: Vec<Carried>,
    begun: Begun,
}

/// Whether a connection has begun to write a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Unknown,
    /// Not known, and asked for with [`Order::Recall`].
    Asked,
    Yes,
}

/// A partition in a request.
#[derive(Debug, Clone, Copy)]
struct Carried {
    slot: Slot,
    /// The id that the request named the topic by. The topic may have been made again since, and the answer has this
    /// id.
    topic_id: Option<Uuid>,
    is_answered: bool,
}

/// In a request of up to this many partitions the one that an answer names is searched for from the first on.
const SEARCHED_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Slot(Slot),
    Linger(Slot),
    Sink(BrokerId),
}

/// How many batches are not settled, by generation. Each flush ends a generation, and is complete when all batches of
/// that generation and those before are settled.
#[derive(Debug, Default)]
struct Flushes {
    /// The generation that the first element of `outstanding` counts.
    first: u64,
    outstanding: VecDeque<usize>,
}

impl<B: SealedBatch> Producer<B> {
    /// A producer without partitions.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            identity: match &settings.transactional_id {
                Some(_) => Identity::awaited(),
                None => Identity::new(settings.idempotent),
            },
            span: settings.transactional_id.as_ref().map(|_| Span::new()),
            settings,
            rng,
            partitions: Vec::new(),
            topics: BTreeMap::new(),
            places: Vec::new(),
            sinks: BTreeMap::new(),
            stirred: Stirred::default(),
            requests: BTreeMap::new(),
            timers: BinaryHeap::new(),
            fired_at: Instant::ORIGIN,
            closes: VecDeque::new(),
            recalls: VecDeque::new(),
            splits: VecDeque::new(),
            settled: VecDeque::new(),
            hints: Vec::new(),
            notices: VecDeque::new(),
            metadata_wanted: false,
            flushes: Flushes { first: 0, outstanding: VecDeque::from([0]) },
            next_request: 0,
            next_ticket: 0,
            spare_carried: Vec::new(),
            lists: Lists::default(),
            unsealed: BTreeMap::new(),
            given_up: None,
            purged: None,
            losses: VecDeque::new(),
            retries: VecDeque::new(),
        }
    }

    /// Adds a partition. Nothing is sent before [`handle_metadata`](Self::handle_metadata) says which broker leads it.
    pub fn register(&mut self, topic: Arc<str>, index: i32) -> Slot {
        let slot = Slot(self.partitions.len() as u32);
        let number = *self.topics.entry(Arc::clone(&topic)).or_insert(self.places.len());
        if number == self.places.len() {
            self.places.push(0);
        }
        let mut partition = Partition::new(topic, number, index);
        if let Some(span) = &self.span {
            partition.admission = span.admission();
        }
        self.partitions.push(partition);
        slot
    }

    /// The accumulator opened a batch for `slot`. It is told once of each batch, in their order, and before any
    /// [`handle_flush`](Self::handle_flush) that is to wait for one of the batch's records.
    pub fn handle_opened(&mut self, slot: Slot, now: Instant) {
        if let Some(unheard) = self.at(slot).unheard.checked_sub(1) {
            // The accumulator tells of it late: the batch was filled and closed before.
            self.at(slot).unheard = unheard;
            return;
        }
        let generation = self.flushes.enter();
        self.at(slot).opens.push_back(Open { since: now, opened: now, generation });
        self.arm_linger(slot, now);
        self.arm_deadline(slot, now);
        self.want(slot);
        if self.is_doomed() {
            // Its records fail as soon as it is closed.
            self.closes.push_back(slot);
        }
        self.stir(slot);
    }

    /// The open batch of `slot` has got a record whose caller has waited since `began` for room: its delivery timeout counts
    /// from there. It is told after [`handle_opened`](Self::handle_opened) of the batch.
    ///
    /// Batches of a partition expire in their order, so the timeout of the batch before this one is a lower limit.
    pub fn handle_waited(&mut self, slot: Slot, began: Instant, now: Instant) {
        let partition = self.at(slot);
        // Batches that are closed and not told of yet are between this one and the end of the queue.
        if partition.unheard > 0 {
            return;
        }
        let of_queue = partition.queue.back().map(|closed| closed.opened);
        let of_flights = partition.flights.back().and_then(|flight| flight.closed.as_ref());
        let before_queue = of_flights.map_or(Instant::ORIGIN, |closed| closed.opened);
        let of_opens = partition.opens.len().checked_sub(2).map(|at| partition.opens[at].since);
        if let Some(open) = partition.opens.back_mut() {
            let floor = of_opens.or(of_queue).unwrap_or(before_queue);
            open.since = open.since.min(began.max(floor));
        } else {
            // It was closed before this was told.
            let floor = partition.queue.len().checked_sub(2).map(|at| partition.queue[at].opened);
            let Some(closed) = partition.queue.back_mut() else { return };
            closed.opened = closed.opened.min(began.max(floor.unwrap_or(before_queue)));
        }
        self.arm_deadline(slot, now);
    }

    /// The oldest open batch of `slot` was closed, and will be sealed. The ticket names it to
    /// [`handle_sealed`](Self::handle_sealed).
    pub fn handle_closed(&mut self, slot: Slot, now: Instant) -> Ticket {
        let number = self.next_ticket;
        self.next_ticket += 1;
        let open = match self.at(slot).opens.pop_front() {
            Some(open) => open,
            None => {
                self.at(slot).unheard += 1;
                Open { since: now, opened: now, generation: self.flushes.enter() }
            }
        };
        let generation = open.generation;
        let given_up = self.given_up.as_ref().filter(|given_up| open.since <= given_up.upto);
        if let Some(failure) = given_up.map(|given_up| given_up.failure.clone()) {
            // Its records wait for an outcome, which takes a sealed batch.
            let outcome = failed(failure, false);
            let outcome = self.outcome_in_span(outcome, false);
            self.unsealed.insert(number, outcome);
            return Ticket { slot, number, generation, sink: None };
        }
        if self.is_purged(generation) {
            let outcome = self.outcome_in_span(failed(Failure::Purged, false), false);
            self.unsealed.insert(number, outcome);
            return Ticket { slot, number, generation, sink: None };
        }
        let partition = self.at(slot);
        partition.queue.push_back(Closed {
            ticket: number,
            opened: open.since,
            times: Times::closed(open.opened, now),
            generation,
            content: Content::Away,
            sequence: None,
            doubt: Doubt::Unwritten,
            last_failure: None,
        });
        let sink = partition.leader;
        if let Some(leader) = sink {
            self.sink(leader).sealing += 1;
        }
        self.arm_deadline(slot, now);
        Ticket { slot, number, generation, sink }
    }

    /// The accumulator has no open batch for `slot`: [`Order::Close`] is carried out.
    pub fn handle_emptied(&mut self, slot: Slot) {
        debug_assert!(self.at(slot).opens.is_empty(), "each batch is told of once");
        self.at(slot).flushing = false;
    }

    /// The batch of `ticket` is ready.
    pub fn handle_sealed(&mut self, ticket: Ticket, batch: B, now: Instant) {
        let Ticket { slot, number, generation, sink } = ticket;
        if let Some(broker) = sink {
            self.sink(broker).sealing -= 1;
            self.stirred.insert(broker);
        }
        match self.at(slot).queue.iter_mut().find(|closed| closed.ticket == number) {
            Some(closed) => {
                closed.content = Content::Ready(batch);
                closed.times.sealed = Some(now);
            }
            None => {
                let outcome = self.take_unsealed(number);
                self.flushes.leave(generation);
                self.settled.push_back(Settled { slot, batch, outcome, times: None });
            }
        }
        self.expire(slot, now);
        self.stir(slot);
    }

    /// The batch of [`Order::Split`] was split: its pieces are in the order of its records. A single piece is the batch
    /// itself, which could not be split.
    pub fn handle_split(&mut self, ticket: Ticket, pieces: Vec<B>, now: Instant) {
        let Ticket { slot, number, generation, .. } = ticket;
        let queue = &mut self.at(slot).queue;
        let place = queue.iter().position(|closed| closed.ticket == number);
        let closed = place.and_then(|place| queue.remove(place));
        match (place, closed) {
            (Some(place), Some(closed)) if pieces.len() > 1 => {
                self.insert_pieces(slot, place, &closed, pieces, now);
            }
            (_, closed) => {
                let outcome = match closed {
                    Some(Closed { last_failure: Some(failure), doubt, sequence, .. }) => {
                        if sequence.is_some() {
                            self.at(slot).note_gap();
                        }
                        let outcome = failed(failure, doubt.maybe_written());
                        self.outcome_in_span(outcome, sequence.is_some())
                    }
                    _ => self.take_unsealed(number),
                };
                self.flushes.leave(generation);
                for batch in pieces {
                    self.settled.push_back(Settled { slot, batch, outcome: outcome.clone(), times: None });
                }
            }
        }
        self.land(slot, now);
    }

    /// The outcome of a batch that was given up while it was being sealed or split.
    fn take_unsealed(&mut self, ticket: u64) -> Outcome {
        let outcome = self.unsealed.remove(&ticket);
        debug_assert!(outcome.is_some(), "a ticket is good for one batch");
        outcome.unwrap_or_else(|| failed(Failure::Closed, true))
    }

    /// The metadata has changed.
    pub fn handle_metadata(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut left = BTreeSet::new();
        let mut changed = Vec::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            let before = partition.leader;
            if Self::route(partition, snapshot) || partition.has_gap() {
                changed.push(Slot(index as u32));
            }
            if partition.leader != before {
                partition.listed = Listed::No;
                left.extend(before);
            }
        }
        // Without this a partition that comes back to a broker before its old entry was met would be listed twice, and
        // be twice in one request. Each list is gone through once, however many partitions leave it.
        for broker in left {
            let Some(sink) = self.sinks.get_mut(&broker) else { continue };
            let stays = |slot: &Slot| self.partitions[slot.0 as usize].leader == Some(broker);
            sink.waiting.retain(stays);
            sink.ready.retain(stays);
        }
        for slot in changed {
            self.land(slot, now);
        }
    }

    /// Takes over what `snapshot` says of a partition. Answers whether its leader or leader epoch has changed.
    fn route(partition: &mut Partition<B>, snapshot: &Snapshot) -> bool {
        let found = snapshot.partition(&partition.topic, partition.index);
        let (leader, epoch) = match &found {
            Ok((_, found)) => (found.leader, found.leader_epoch),
            Err(_) => (None, partition.leader_epoch),
        };
        let failure = match found {
            Ok((topic, found)) => {
                // KIP-516: the topic was deleted and made again, and its new log has none of our sequences.
                if partition.topic_id.is_some() && topic.id.is_some() && partition.topic_id != topic.id {
                    partition.note_gap();
                    partition.acknowledged = None;
                }
                partition.topic_id = topic.id.or(partition.topic_id);
                found.leader.is_none().then(|| found.leaderless(&partition.topic))
            }
            Err(failure) => Some(failure),
        };
        partition.unrouted = failure;
        // A lower epoch may be the truth. `Snapshot::merge` has decided that, so any other epoch is news here.
        let changed = partition.leader != leader || partition.leader_epoch != epoch;
        partition.leader = leader;
        partition.leader_epoch = epoch;
        if changed {
            partition.retry.hurry();
        }
        changed
    }

    /// The answer to the request of [`poll_identity`](Self::poll_identity).
    pub fn handle_identity(&mut self, answer: Result<InitProducerIdResponse, Failure>, now: Instant) {
        let Self { identity, settings, rng, .. } = self;
        match identity.handle_answer(answer, now, &settings.backoff, rng) {
            Heard::Granted => {
                self.given_up.take_if(|given_up| given_up.upto != Instant::NEVER);
                self.stir_all();
            }
            Heard::Failed(failure, notice) => {
                self.remember(&failure);
                self.notices.extend(notice);
            }
            Heard::Refused(failure) => self.give_up(failure, now),
            Heard::Unasked => {}
        }
    }

    /// A request was answered.
    pub fn handle_response(&mut self, id: RequestId, response: &ProduceResponse, now: Instant) {
        let Some(mut request) = self.end_request(id) else { return };
        let throttle = Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap_or(0));
        // Partitions are listed again (`land_all`) only when the whole answer was taken in, with the broker's throttle.
        request.prepare(&self.partitions, response);
        let nodes = response.node_endpoints.iter();
        let endpoints = Endpoints::of(nodes.map(|node| (node.node_id, &*node.host, node.port)));
        let mut next = 0;
        for topic in &response.responses {
            // ProduceRequest v13+ names topics by id.
            let is_by_id = topic.name.is_empty();
            let appended_in = if is_by_id { Doubt::In(topic.topic_id) } else { Doubt::Somewhere };
            for answer in &topic.partition_responses {
                // A partition that we did not ask for, or that is answered twice, is ignored.
                let Some(at) = request.find(next, &self.partitions, topic, answer.index) else { continue };
                next = at + 1;
                let Carried { slot, is_answered, .. } = &mut request.carried[at];
                if std::mem::replace(is_answered, true) {
                    continue;
                }
                let slot = *slot;
                self.handle_answer(slot, id, appended_in, answer, now);
                self.hint_leader(slot, answer, &endpoints);
            }
        }
        // A broker that says nothing of a batch may have appended it.
        for Carried { slot, .. } in request.carried.iter().filter(|carried| !carried.is_answered) {
            let reason = Arc::from("the answer says nothing of a partition of the request");
            self.handle_landed(
                *slot,
                id,
                &Failure::Malformed { peer: Arc::from("broker"), reason },
                Doubt::Somewhere,
                now,
            );
        }
        // The broker answers, whatever it says of partitions: connections to it are worth while.
        let sink = self.sink(request.broker);
        sink.retry.succeeded();
        sink.mute(now, throttle);
        if let Some(until) = sink.muted_until {
            self.timers.push(Reverse((until, Timer::Sink(request.broker))));
        }
        self.land_all(request.carried, now);
    }

    /// The memory of lists, to decode responses with.
    pub fn lists(&mut self) -> &mut Lists {
        &mut self.lists
    }

    /// Keeps the lists of a response that was handled.
    pub fn recycle_response(&mut self, mut response: ProduceResponse) {
        for topic in response.responses.drain(..) {
            self.lists.give(topic.partition_responses);
        }
        self.lists.give(response.responses);
    }

    /// Keeps the lists of a request that was sent.
    pub fn recycle_request(&mut self, mut request: ProduceRequest) {
        for topic in request.topic_data.drain(..) {
            self.lists.give(topic.partition_data);
        }
        self.lists.give(request.topic_data);
    }

    /// A request that gets no answer (`acks=0`) was handed to the network.
    pub fn handle_written(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.end_request(id) else { return };
        for Carried { slot, .. } in &request.carried {
            let outcome = Outcome::Written { base_offset: None, log_append_time_ms: None };
            self.settle_flight(*slot, id, outcome);
        }
        self.land_all(request.carried, now);
    }

    /// A request failed without an answer. If no connection `has_begun` to write it, none of its batches is in a log.
    pub fn handle_lost(&mut self, id: RequestId, failure: &Failure, has_begun: bool, now: Instant) {
        let Some(request) = self.end_request(id) else { return };
        let may_pass = self.note_lost(request.broker, failure, now);
        let doubt = if has_begun && failure.may_have_acted() { Doubt::Somewhere } else { Doubt::Unwritten };
        for Carried { slot, .. } in &request.carried {
            if may_pass {
                self.handle_landed(*slot, id, failure, doubt, now);
            } else {
                self.refuse(*slot, id, failure.clone(), doubt, Vec::new());
            }
        }
        // The broker may be gone, and its partitions led by others.
        self.metadata_wanted = true;
        self.land_all(request.carried, now);
    }

    /// A connection has begun to write the request of [`Order::Recall`]: it cannot be taken back.
    pub fn handle_begun(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.begun = Begun::Yes;
        let slots: Vec<_> = request.carried.iter().map(|carried| carried.slot).collect();
        for slot in slots {
            self.expire(slot, now);
        }
    }

    /// Everything appended before this call is to be sent without waiting for linger. The flush is complete when
    /// [`poll_flushed`](Self::poll_flushed) names its id or a later one.
    pub fn handle_flush(&mut self) -> FlushId {
        let id = self.flushes.end_generation();
        for index in 0..self.partitions.len() {
            if !self.partitions[index].opens.is_empty() {
                self.partitions[index].flushing = true;
                self.stir(Slot(index as u32));
            }
        }
        id
    }

    /// Gives up every batch that was opened before this call: each fails as soon as it is known whether it may have been
    /// written, those that are open or being sealed when they come. Later batches are not concerned. It is complete when
    /// [`poll_flushed`](Self::poll_flushed) names its id or a later one.
    pub fn handle_abandon(&mut self, now: Instant) -> FlushId {
        let id = self.flushes.end_generation();
        self.purged = Some(id.0);
        for index in 0..self.partitions.len() {
            let slot = Slot(index as u32);
            if !self.partitions[index].opens.is_empty() {
                self.closes.push_back(slot);
            }
            self.expire(slot, now);
            self.stir(slot);
        }
        id
    }

    /// Whether batches of this generation of flushes are purged.
    fn is_purged(&self, generation: u64) -> bool {
        self.purged.is_some_and(|upto| generation <= upto)
    }

    /// Gives everything up: every batch fails with `failure`, those that are still open or being sealed as soon as they
    /// come. One in flight may have been written.
    pub fn handle_close(&mut self, failure: &Failure) {
        for index in 0..self.partitions.len() {
            while let Some(flight) = self.partitions[index].flights.pop_front() {
                if let Some(closed) = flight.closed {
                    let maybe_written = closed.doubt.maybe_written() || !flight.returned;
                    self.settle(Slot(index as u32), closed, failed(failure.clone(), maybe_written));
                }
            }
        }
        self.give_up(failure.clone(), Instant::NEVER);
    }

    /// The next order. None when there is nothing to do until something happens or time passes.
    pub fn poll_order(&mut self, now: Instant) -> Option<Order<B>> {
        debug_assert!(now >= self.fired_at, "what timers fired for would not be due");
        self.purge_if_doomed();
        // Looking goes through all partitions that wait, so what it found is given out before it is repeated.
        if self.closes.is_empty() {
            self.sort_stirred(now);
        }
        if let Some(slot) = self.closes.pop_front() {
            return Some(Order::Close(slot));
        }
        if let Some((ticket, batch)) = self.splits.pop_front() {
            return Some(Order::Split(ticket, batch));
        }
        if let Some(id) = self.recalls.pop_front() {
            return Some(Order::Recall(id));
        }
        // Partitions may be ready from before the identity was lost, and would go out without one.
        if self.identity.is_settled() && !self.is_doomed() { self.next_transmit(now) } else { None }
    }

    /// The next request: the oldest batch of each partition that is ready at one broker, as far as they fit.
    fn next_transmit(&mut self, now: Instant) -> Option<Order<B>> {
        let broker = *self
            .stirred
            .iter()
            .find(|broker| self.sinks.get(broker).is_some_and(|sink| !sink.ready.is_empty()))?;
        let mut carried = std::mem::take(&mut self.spare_carried);
        let mut request = ProduceRequest {
            acks: match self.settings.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: i32::try_from(self.settings.request_timeout.as_millis()).unwrap_or(i32::MAX),
            transactional_id: self.settings.transactional_id.as_deref().map(Str::from),
            topic_data: self.lists.take(),
            ..ProduceRequest::default()
        };
        let id = RequestId(self.next_request);
        let flights_max = flights_max(&self.settings);
        let (mut bytes, mut has_ids) = (0, true);
        while let Some(slot) = self.sink(broker).ready.pop_front() {
            debug_assert_eq!((self.at(slot).leader, self.at(slot).listed), (Some(broker), Listed::Ready));
            self.at(slot).listed = Listed::No;
            // It was ready when it was listed. An answer that came since may have failed its batches in flight.
            if !self.at(slot).may_fly(broker, flights_max, now) || !self.at(slot).has_sealed() {
                continue;
            }
            let size = self
                .at(slot)
                .queue
                .front()
                .and_then(|closed| closed.content.batch())
                .map_or(0, SealedBatch::bytes);
            if bytes > 0 && bytes + size > self.settings.request_bytes_max {
                // First in the next request, so that no partition waits for others for ever.
                self.at(slot).listed = Listed::Ready;
                self.sink(broker).ready.push_front(slot);
                break;
            }
            let Some(records) = self.launch(slot, id, broker, now) else { continue };
            bytes += size;
            let topic_id = self.at(slot).topic_id;
            has_ids &= topic_id.is_some();
            let partition = &self.partitions[slot.0 as usize];
            let place = &mut self.places[partition.topic_number];
            add_partition(&mut request, place, partition, records, &mut self.lists);
            carried.push(Carried { slot, topic_id, is_answered: false });
        }
        if carried.is_empty() {
            // Another broker may have something.
            self.spare_carried = carried;
            self.lists.give(request.topic_data);
            return self.poll_order(now);
        }
        self.next_request += 1;
        for Carried { slot, .. } in &carried {
            // The partition may have more batches, for the next request.
            self.stir(*slot);
        }
        self.sink(broker).in_flight += 1;
        self.requests.insert(id, Request { broker, carried, begun: Begun::Unknown });
        // KIP-516: later versions name topics by id alone, so one topic without an id decides for the whole request.
        let mut latest = *ProduceRequest::VERSIONS.end();
        if let Some(span) = &mut self.span {
            span.note_sent();
            latest = latest.min(span.version.produce_max());
        }
        Some(Order::Transmit(Transmit {
            id,
            broker,
            request,
            version_max: if has_ids { latest } else { latest.min(PRODUCE_BY_NAME) },
            is_answered: self.settings.acks != Acks::None,
            deadline: now + self.settings.request_timeout,
        }))
    }

    /// The request for a producer id, to be sent to any broker. Until it is answered there is no other.
    pub fn poll_identity(&mut self, now: Instant) -> Option<InitProducerIdRequest> {
        self.identity.handle_timeout(now);
        let partitions = &self.partitions;
        self.identity.poll_ask(|| partitions.iter().any(Partition::has_data))
    }

    /// The next batch that is settled.
    pub fn poll_settled(&mut self) -> Option<Settled<B>> {
        self.settled.pop_front()
    }

    /// The last flush that is complete. Every flush with a lower id is complete too.
    pub fn poll_flushed(&mut self) -> Option<FlushId> {
        debug_assert!(self.settled.is_empty(), "a flush returns after the deliveries of its records");
        self.flushes.completed()
    }

    /// Something that has failed several times and is still being tried, for people to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Records that were acknowledged and that are lost, as an answer has shown. Nothing can be done about them here.
    pub fn poll_loss(&mut self) -> Option<Loss> {
        self.losses.pop_front()
    }

    /// Why a batch came back without success, for each time that one did and was not given up at once.
    pub fn poll_retry(&mut self) -> Option<Failure> {
        self.retries.pop_front()
    }

    /// Whether a failure makes the metadata look outdated. It is told once.
    pub fn poll_metadata_wanted(&mut self) -> bool {
        std::mem::take(&mut self.metadata_wanted)
    }

    /// New leaders that answers have named (KIP-951), to be merged into the metadata.
    pub fn poll_hints(&mut self) -> Vec<LeaderHint> {
        std::mem::take(&mut self.hints)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(self.identity.poll_timeout()).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        debug_assert!(now >= self.fired_at, "time does not go back");
        self.fired_at = now;
        self.identity.handle_timeout(now);
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                // There is one timer per partition, so the next open batch is armed when this one fires.
                Timer::Linger(slot) => {
                    self.at(slot).linger_armed = None;
                    self.arm_linger(slot, now);
                    self.stir(slot);
                }
                // A delivery timeout or a backoff ended. A later deadline that is armed has a timer of its own in the
                // heap.
                Timer::Slot(slot) => {
                    let partition = self.at(slot);
                    partition.deadline_armed = partition.deadline_armed.filter(|armed| *armed > now);
                    self.expire(slot, now);
                    self.stir(slot);
                }
                Timer::Sink(broker) => {
                    self.stirred.insert(broker);
                }
            }
        }
    }

    /// The number of batches that are not settled: open, closed or in flight.
    pub fn outstanding(&self) -> usize {
        self.flushes.outstanding.iter().sum()
    }
}
