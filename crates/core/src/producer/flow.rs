//! How batches move: from the lists of a sink into flight, back after a failure, and out when they are settled.
//!
//! ```text
//!  stir ─▶ waiting ─ sort_stirred ─▶ ready ─ launch ─▶ in flight ─ handle_answer ─▶ settled
//!             ▲                                           │
//!             └────────────── stir ◀─── land ◀────────────┘ handle_landed: it comes back
//! ```
//!
//! Every partition that something happened to passes through [`land`](Producer::land), which puts what came back in
//! order, closes a gap, settles what is overdue and lists the partition again. It must not know why a request goes out
//! when it does: [`Producer::poll_order`] decides that.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use milena_messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Lists;

use super::partition::{Closed, Content, Doubt, Flight, Listed, Partition};
use super::sink::Sink;
use super::verdict::{Verdict, verdict};
use super::{
    Begun, Carried, FlushId, Flushes, GivenUp, Loss, Outcome, Producer, Request, RequestId, SEARCHED_MAX,
    SealedBatch, Settled, Slot, Ticket, Timer, Times,
};
use crate::metadata::{Endpoints, LeaderHint};
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, Notice};

impl<B: SealedBatch> Producer<B> {
    pub(super) fn at(&mut self, slot: Slot) -> &mut Partition<B> {
        &mut self.partitions[slot.0 as usize]
    }

    pub(super) fn sink(&mut self, broker: BrokerId) -> &mut Sink {
        self.sinks.entry(broker).or_default()
    }

    /// Lists `slot` at its leader, to be looked at with the next order. A partition is in at most one list of its
    /// leader, and `listed` says in which: listed twice it would be in one request twice, one answer would settle one
    /// of its two batches, and the other one would be in flight for ever.
    pub(super) fn stir(&mut self, slot: Slot) {
        let partition = self.at(slot);
        let Some(leader) = partition.leader.filter(|_| partition.has_data()) else { return };
        if partition.listed == Listed::No {
            partition.listed = Listed::Waiting;
            self.sink(leader).waiting.push_back(slot);
        }
        self.stirred.insert(leader);
    }

    pub(super) fn stir_all(&mut self) {
        for index in 0..self.partitions.len() {
            self.stir(Slot(index as u32));
        }
    }

    /// Looks at the partitions that wait at each stirred sink. One whose oldest batch can go becomes ready. One whose
    /// open batch should go is to be closed. One whose open batch may still grow stays. One that is blocked, by a
    /// backoff or by its batches in flight, leaves the list until something stirs it.
    pub(super) fn sort_stirred(&mut self, now: Instant) {
        if !self.identity.is_settled() || self.is_doomed() {
            return;
        }
        let Self { stirred, sinks, partitions, closes, settings, .. } = self;
        stirred.retain(|broker| {
            let Some(sink) = sinks.get_mut(broker).filter(|sink| sink.is_open(settings.in_flight_max, now))
            else {
                return false;
            };
            // Nagle's rule: a batch leaves at once while its broker has nothing to do, and grows while it is busy. That
            // is decided once for all partitions of the broker, so that they share the first request.
            let is_idle = sink.is_idle();
            for _ in 0..sink.waiting.len() {
                let Some(slot) = sink.waiting.pop_front() else { break };
                let partition = &mut partitions[slot.0 as usize];
                debug_assert_eq!((partition.leader, partition.listed), (Some(*broker), Listed::Waiting));
                partition.listed = Listed::No;
                if !partition.may_fly(*broker, flights_max(settings), now) {
                    continue;
                }
                // It waits until it is in the transaction, which stirs it, and its open batch grows meanwhile.
                if !partition.is_in_transaction() {
                    continue;
                }
                // A batch that is still being sealed stirs its partition when it comes.
                if partition.has_sealed() {
                    partition.listed = Listed::Ready;
                    sink.ready.push_back(slot);
                } else if let Some(open) = partition.opens.front().filter(|_| partition.queue.is_empty()) {
                    if is_idle || partition.flushing || open.since + settings.linger <= now {
                        closes.push_back(slot);
                    } else {
                        partition.listed = Listed::Waiting;
                        sink.waiting.push_back(slot);
                    }
                }
            }
            // `next_transmit` takes from the sinks that stay.
            !sink.ready.is_empty()
        });
    }

    /// Takes the oldest batch of `slot` into flight, and answers with the bytes to send.
    pub(super) fn launch(
        &mut self,
        slot: Slot,
        id: RequestId,
        broker: BrokerId,
        now: Instant,
    ) -> Option<Bytes> {
        let identity = self.identity.known();
        let partition = &mut self.partitions[slot.0 as usize];
        // Answers find their batch by partition and request.
        debug_assert!(partition.flights.iter().all(|flight| flight.request != id.0), "twice in a request");
        let mut closed = partition.queue.pop_front_if(|closed| closed.content.is_ready())?;
        let Closed { content: Content::Ready(batch), sequence, .. } = &mut closed else { return None };
        let count = batch.record_count();
        let stamp = identity.map(|current| partition.assign(sequence, count, current));
        let bytes = batch.stamped(stamp);
        let ordinal = closed.sequence.map(|sequence| sequence.ordinal);
        closed.times.sent_last = Some(now);
        if closed.times.sent.is_none() {
            closed.times.sent = Some(now);
            if let Some((sink, sealed)) = self.sinks.get(&broker).zip(closed.times.sealed) {
                let times = &mut closed.times;
                times.throttled = sink.muted.within(sealed, now);
                times.throttled_open = sink.muted.within(times.opened, times.closed);
            }
        }
        let flight = Flight { request: id.0, broker, ordinal, closed: Some(closed), returned: false };
        partition.flights.push_back(flight);
        Some(bytes)
    }

    pub(super) fn end_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.sink(request.broker).in_flight -= 1;
        self.stirred.insert(request.broker);
        Some(request)
    }

    /// A request to `broker` was lost. Answers whether the next one may succeed.
    pub(super) fn note_lost(&mut self, broker: BrokerId, failure: &Failure, now: Instant) -> bool {
        let backoff = self.settings.backoff;
        let retry = &mut self.sinks.entry(broker).or_default().retry;
        // A lost connection takes all its requests with it. That is one failure, or five requests would wait for the
        // backoff of the fifth failure in a row.
        if retry.is_ready(now) {
            let again = retry.failed_by(failure, now, &backoff, &mut self.rng);
            self.timers.push(Reverse((again, Timer::Sink(broker))));
            if retry.is_notable(failure) {
                self.notices.push_back(Notice {
                    doing: format!("producing to broker {broker}").into(),
                    failure: failure.clone(),
                    failures: retry.failures(),
                });
            }
        }
        retry.may_pass(failure)
    }

    /// The answer for the batch of `slot` in flight with request `id`. `appended_in` is the log that has it, if it was
    /// appended.
    pub(super) fn handle_answer(
        &mut self,
        slot: Slot,
        id: RequestId,
        appended_in: Doubt,
        answer: &PartitionProduceResponse,
        now: Instant,
    ) {
        let topic = Arc::clone(&self.partitions[slot.0 as usize].topic);
        let failure = || {
            let failure = Failure::answer(answer.error_code, answer.error_message.as_deref());
            failure.of(ApiKey::Produce).on(Resource::Topic, &topic)
        };
        let doubt = |uncertain: bool| if uncertain { appended_in } else { Doubt::Unwritten };
        match verdict(answer.error_code, self.settings.acks) {
            Verdict::Written => {
                let outcome = Outcome::Written {
                    base_offset: (answer.base_offset >= 0).then_some(answer.base_offset),
                    log_append_time_ms: (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms),
                };
                self.settle_flight(slot, id, outcome);
            }
            Verdict::WrittenBefore => {
                let outcome = Outcome::Written { base_offset: None, log_append_time_ms: None };
                self.settle_flight(slot, id, outcome);
            }
            Verdict::Again { moved, uncertain } => {
                self.metadata_wanted |= moved;
                self.handle_landed(slot, id, &failure(), doubt(uncertain), now);
            }
            Verdict::Gap => {
                // For a batch that is not the oldest in flight it only means that one before it failed. That one will
                // be sent first, and then this one fits.
                if answer.error_code == ErrorCode::UNKNOWN_PRODUCER_ID {
                    self.note_loss(slot, answer.log_start_offset);
                }
                let partition = self.at(slot);
                if partition.flights.front().is_some_and(|oldest| oldest.request == id.0) {
                    partition.note_gap();
                }
                self.handle_landed(slot, id, &failure(), Doubt::Unwritten, now);
            }
            Verdict::TooLarge => self.handle_too_large(slot, id, failure()),
            Verdict::Refused { uncertain } => {
                let records = answer.record_errors.iter().map(|record| {
                    (record.batch_index, record.batch_index_error_message.as_deref().map(Arc::from))
                });
                self.refuse(slot, id, failure(), doubt(uncertain), records.collect());
            }
        }
    }

    /// The broker has no batch of this producer in the log of `slot`, which begins at `log_start`. If retention has taken the
    /// last one that was acknowledged, the log begins after it. Otherwise it was lost (KIP-360), for example by an election of
    /// a leader that was not in sync.
    fn note_loss(&mut self, slot: Slot, log_start: i64) {
        let partition = &mut self.partitions[slot.0 as usize];
        // Brokers before ProduceResponse v5 do not tell where the log begins.
        if let Some(acknowledged) = partition.acknowledged.filter(|last| (0..=*last).contains(&log_start)) {
            partition.acknowledged = None;
            let topic = Arc::clone(&partition.topic);
            self.losses.push_back(Loss { topic, partition: partition.index, acknowledged, log_start });
        }
    }

    /// The batch of `slot` in flight with request `id` came back without success. It will be sent again, unless the
    /// broker breaks the protocol again and again.
    pub(super) fn handle_landed(
        &mut self,
        slot: Slot,
        id: RequestId,
        failure: &Failure,
        doubt: Doubt,
        now: Instant,
    ) {
        let backoff = self.settings.backoff;
        let partition = &mut self.partitions[slot.0 as usize];
        let Some(flight) = partition.flights.iter_mut().find(|flight| flight.request == id.0) else { return };
        flight.returned = true;
        if let Some(closed) = &mut flight.closed {
            closed.doubt.note(doubt);
            closed.last_failure = Some(failure.clone());
            self.retries.push_back(failure.clone());
        }
        // Batches in flight together fail together, and that is one failure for the backoff.
        if partition.retry.is_ready(now) {
            let again = partition.retry.failed_by(failure, now, &backoff, &mut self.rng);
            self.timers.push(Reverse((again, Timer::Slot(slot))));
            // A failure without a code is one of the connection, which `note_lost` tells once for all its partitions.
            if partition.retry.is_notable(failure) && failure.code().is_some() {
                let doing =
                    format!("writing to partition {} of topic {:?}", partition.index, partition.topic);
                let failures = partition.retry.failures();
                self.notices.push_back(Notice { doing: doing.into(), failure: failure.clone(), failures });
            }
        }
        if failure.is_unusable() && !partition.retry.may_pass(failure) {
            self.refuse(slot, id, failure.clone(), doubt, Vec::new());
        }
    }

    /// The batch of `slot` in flight with request `id` is refused for its size. If it has several records it is split,
    /// as in Java's client (KAFKA-3995), once the batches in flight after it have landed.
    fn handle_too_large(&mut self, slot: Slot, id: RequestId, failure: Failure) {
        let mut flights = self.at(slot).flights.iter_mut();
        let flight = flights.find(|flight| flight.request == id.0);
        let is_one = |closed: &Closed<B>| closed.content.batch().is_none_or(|batch| batch.record_count() < 2);
        match flight {
            Some(Flight { closed: Some(closed), returned, .. }) if !is_one(closed) => {
                *returned = true;
                closed.content.mark_too_large();
                closed.last_failure = Some(failure);
            }
            _ => self.refuse(slot, id, failure, Doubt::Unwritten, Vec::new()),
        }
    }

    /// Gives batches that are too large to the driver, which splits them. Each leaves its place in the queue, and its
    /// pieces take that place, so nothing after it is sent before them.
    fn give_to_split(&mut self, slot: Slot) {
        for closed in &mut self.partitions[slot.0 as usize].queue {
            if let Some(batch) = closed.content.take_too_large() {
                let (number, generation) = (closed.ticket, closed.generation);
                self.splits.push_back((Ticket { slot, number, generation, sink: None }, batch));
            }
        }
    }

    /// Puts the pieces of a batch where it was. They share its sequences: the batch was never appended, and sequences
    /// that nothing uses would be a gap.
    pub(super) fn insert_pieces(
        &mut self,
        slot: Slot,
        place: usize,
        whole: &Closed<B>,
        pieces: Vec<B>,
        now: Instant,
    ) {
        let mut sequence = whole.sequence;
        if sequence.is_some() {
            self.at(slot).count_pieces(place, pieces.len());
        }
        for (index, batch) in pieces.into_iter().enumerate() {
            if index > 0 {
                self.flushes.enter_again(whole.generation);
            }
            let next = sequence.map(|sequence| sequence.after(batch.record_count()));
            let piece = Closed {
                ticket: self.next_ticket,
                opened: whole.opened,
                times: Times { sealed: Some(now), sent: None, sent_last: None, ..whole.times },
                generation: whole.generation,
                content: Content::Ready(batch),
                sequence,
                doubt: whole.doubt,
                last_failure: whole.last_failure.clone(),
            };
            self.next_ticket += 1;
            sequence = next;
            self.at(slot).queue.insert(place + index, piece);
        }
    }

    /// The batch of `slot` in flight with request `id` was written.
    pub(super) fn settle_flight(&mut self, slot: Slot, id: RequestId, outcome: Outcome) {
        let partition = self.at(slot);
        let Some(index) = partition.flights.iter().position(|flight| flight.request == id.0) else { return };
        partition.prove();
        partition.retry.succeeded();
        if let Outcome::Written { base_offset: Some(base), .. } = outcome {
            let closed = partition.flights[index].closed.as_ref();
            let records =
                closed.and_then(|closed| closed.content.batch()).map_or(1, SealedBatch::record_count);
            partition.acknowledged =
                partition.acknowledged.max(Some(base.saturating_add(i64::from(records) - 1)));
        }
        if let Some(closed) = partition.flights.remove(index).and_then(|flight| flight.closed) {
            let outcome = match outcome {
                // For a batch that it had already a broker gives its greatest timestamp as the time of append,
                // whichever time the topic uses (`UnifiedLog.append`). That is no time of append.
                Outcome::Written { base_offset, log_append_time_ms }
                    if closed.doubt.maybe_written()
                        && closed.content.batch().map(SealedBatch::max_timestamp_ms)
                            == log_append_time_ms =>
                {
                    Outcome::Written { base_offset, log_append_time_ms: None }
                }
                outcome => outcome,
            };
            self.settle(slot, closed, outcome);
        }
    }

    /// The batch of `slot` in flight with request `id` is given up.
    pub(super) fn refuse(
        &mut self,
        slot: Slot,
        id: RequestId,
        failure: Failure,
        doubt: Doubt,
        records: Vec<(i32, Option<Arc<str>>)>,
    ) {
        let partition = self.at(slot);
        let Some(index) = partition.flights.iter().position(|flight| flight.request == id.0) else { return };
        partition.note_gap();
        if let Some(mut closed) = partition.flights.remove(index).and_then(|flight| flight.closed) {
            closed.doubt.note(doubt);
            let maybe_written = closed.doubt.maybe_written();
            self.settle(slot, closed, Outcome::Failed { failure, maybe_written, records });
        }
    }

    pub(super) fn land_all(&mut self, mut carried: Vec<Carried>, now: Instant) {
        for Carried { slot, .. } in carried.drain(..) {
            self.land(slot, now);
        }
        self.spare_carried = carried;
    }

    /// After a batch of `slot` landed, or its leader changed: what came back goes to its place, a gap is closed, what
    /// is overdue is settled, and the partition is listed again.
    pub(super) fn land(&mut self, slot: Slot, now: Instant) {
        self.at(slot).gather_returned();
        if let Some(doom) = self.span.as_ref().and_then(|span| span.doom.clone()) {
            self.fail_queue(slot, &doom);
        }
        self.give_to_split(slot);
        // Not before the last batch in flight has landed: its answer belongs to the old identity.
        if self.at(slot).has_gap() && self.at(slot).flights.is_empty() {
            self.close_gap(slot);
        }
        self.expire(slot, now);
        self.stir(slot);
    }

    /// Starts the partition's sequences at zero under another identity (KIP-360). Batches that may be in the log under
    /// the old one would be appended a second time, so they fail as maybe written.
    fn close_gap(&mut self, slot: Slot) {
        let old = self.at(slot).identity();
        self.note_gap_in_span(slot);
        let doubtful = self.at(slot).restart_sequences();
        for closed in doubtful {
            let code = closed.last_failure.as_ref().and_then(Failure::code);
            self.settle(slot, closed, failed(Failure::SequenceLost { code }, true));
        }
        if let Some(old) = old {
            self.identity.handle_gap(old);
        }
    }

    pub(super) fn settle(&mut self, slot: Slot, closed: Closed<B>, outcome: Outcome) {
        let outcome = self.outcome_in_span(outcome, closed.sequence.is_some());
        match closed.content {
            Content::Ready(batch) | Content::TooLarge(batch) => {
                self.flushes.leave(closed.generation);
                self.settled.push_back(Settled { slot, batch, outcome, times: Some(closed.times) });
            }
            // It is being sealed or split. It is settled when it comes back, and a flush waits for it.
            Content::Away => drop(self.unsealed.insert(closed.ticket, outcome)),
        }
    }

    /// Settles the batches of `slot` whose delivery timeout has ended. They are in three places: in flight, queued, and
    /// open.
    pub(super) fn expire(&mut self, slot: Slot, now: Instant) {
        let timeout = self.settings.delivery_timeout;
        let Self { partitions, requests, recalls, purged, span, .. } = self;
        let partition = &mut partitions[slot.0 as usize];
        let is_purged = |generation: u64| purged.is_some_and(|upto| generation <= upto);
        let is_any_overdue = partition.deadline(timeout).is_some_and(|deadline| deadline <= now);
        if !is_any_overdue && !partition.oldest_generation().is_some_and(is_purged) {
            return self.arm_deadline(slot, now);
        }
        let is_over = |closed: &Closed<B>| closed.opened + timeout <= now || is_purged(closed.generation);
        // For a batch that never met a broker the reason is that there was no leader to send it to.
        let unrouted = partition.unrouted.clone();
        let waited_for = (!partition.is_in_transaction())
            .then_some("the coordinator to add the partition to the transaction (AddPartitionsToTxn)");
        let unadded = waited_for.and(span.as_ref().and_then(|span| span.unadded.clone()));
        let mut expired = Vec::new();
        for flight in &mut partition.flights {
            let id = RequestId(flight.request);
            if !flight.closed.as_ref().is_some_and(is_over) {
                continue;
            }
            // A request that no connection has begun with is taken back, so that its records are not said to be maybe
            // written. `handle_lost` or `handle_begun` comes back here.
            if let Some(request) = requests.get_mut(&id).filter(|request| request.begun != Begun::Yes) {
                if request.begun == Begun::Unknown {
                    request.begun = Begun::Asked;
                    recalls.push_back(id);
                }
                continue;
            }
            // Its place stays. Whether the broker appends it decides about the sequences after it, and its own sequence
            // must not go to the next batch, which the broker would take for a duplicate and drop.
            if let Some(mut closed) = flight.closed.take() {
                if !flight.returned {
                    closed.doubt.note(Doubt::Somewhere);
                }
                expired.push(closed);
            }
        }
        // A sequence that no batch will ever have again is a gap.
        let mut gap = false;
        while let Some(closed) = partition.queue.pop_front_if(|closed| is_over(closed)) {
            gap |= closed.sequence.is_some();
            expired.push(closed);
        }
        if gap {
            partition.note_gap();
        }
        let close = partition.opens.front().is_some_and(|open| open.since + timeout <= now);
        if close {
            // The accumulator holds it. It is closed to come here, and is settled as overdue when it is sealed.
            self.closes.push_back(slot);
        }
        for closed in expired {
            let last = closed.last_failure.clone().or(unadded.clone()).or(unrouted.clone()).map(Box::new);
            let maybe_written = closed.doubt.maybe_written();
            let failure = match self.is_purged(closed.generation) {
                true => Failure::Purged,
                false => Failure::Undelivered { after: timeout, waited_for, last },
            };
            self.settle(slot, closed, failed(failure, maybe_written));
        }
        if self.at(slot).has_gap() && self.at(slot).flights.is_empty() {
            self.close_gap(slot);
        }
        self.arm_deadline(slot, now);
    }

    /// Arms the timer that ends the linger of the oldest open batch. There is one per partition: under load most
    /// batches leave before their linger ends, and each would leave a timer in the heap.
    pub(super) fn arm_linger(&mut self, slot: Slot, now: Instant) {
        let linger = self.settings.linger;
        let partition = self.at(slot);
        // The timer of an earlier batch fires first, and arms the next one.
        if partition.linger_armed.is_some() {
            return;
        }
        // A batch that has lingered long enough waits for its broker or a backoff, and these stir the partition.
        let ends = partition.opens.front().map(|open| open.since + linger).filter(|ends| *ends > now);
        partition.linger_armed = ends;
        if let Some(ends) = ends {
            self.timers.push(Reverse((ends, Timer::Linger(slot))));
        }
    }

    /// Arms the timer for the delivery timeout of the partition's oldest record. There is one per partition.
    pub(super) fn arm_deadline(&mut self, slot: Slot, now: Instant) {
        let timeout = self.settings.delivery_timeout;
        let partition = self.at(slot);
        // A batch that is overdue and not settled is with the accumulator, the sealer or a connection, and was asked
        // for.
        let deadline = partition.deadline(timeout).filter(|deadline| *deadline > now);
        if deadline.is_none() || partition.deadline_armed.is_some_and(|armed| Some(armed) <= deadline) {
            return;
        }
        partition.deadline_armed = deadline;
        if let Some(deadline) = deadline {
            self.timers.push(Reverse((deadline, Timer::Slot(slot))));
        }
    }

    /// Fails everything that is not in flight. Batches opened up to `upto` are closed now, and fail as they come.
    pub(super) fn give_up(&mut self, failure: Failure, upto: Instant) {
        for index in 0..self.partitions.len() {
            let slot = Slot(index as u32);
            if !self.partitions[index].opens.is_empty() {
                self.closes.push_back(slot);
            }
            self.fail_queue(slot, &failure);
            // Nothing of it is in flight whose landing would close the gap, and its next batch would wait for ever.
            if self.partitions[index].has_gap() && self.partitions[index].flights.is_empty() {
                self.close_gap(slot);
            }
        }
        // A refusal that comes after the end changes nothing: what comes late fails all the same.
        if self.given_up.as_ref().is_none_or(|given_up| given_up.upto < upto) {
            self.given_up = Some(GivenUp { upto, failure });
        }
    }

    /// Fails the batches of `slot` that are closed and not in flight.
    fn fail_queue(&mut self, slot: Slot, failure: &Failure) {
        while let Some(closed) = self.at(slot).queue.pop_front() {
            let maybe_written = closed.doubt.maybe_written();
            if closed.sequence.is_some() {
                self.at(slot).note_gap();
            }
            self.settle(slot, closed, failed(failure.clone(), maybe_written));
        }
    }

    /// Notes a failure that holds up every batch, so that those whose delivery timeout ends meanwhile name it.
    pub(super) fn remember(&mut self, failure: &Failure) {
        for partition in &mut self.partitions {
            for closed in &mut partition.queue {
                closed.last_failure = Some(failure.clone());
            }
        }
    }

    /// The leader that the answer for `slot` names (KIP-951, ProduceResponse v10+).
    pub(super) fn hint_leader(
        &mut self,
        slot: Slot,
        answer: &PartitionProduceResponse,
        endpoints: &Endpoints,
    ) {
        let current = &answer.current_leader;
        let Some((leader, epoch)) = LeaderHint::named(current.leader_id, current.leader_epoch) else {
            return;
        };
        let Partition { topic, index, .. } = &self.partitions[slot.0 as usize];
        self.hints.push(LeaderHint {
            topic: Arc::clone(topic),
            partition: *index,
            leader,
            epoch,
            endpoint: endpoints.at(leader),
        });
    }
}

impl Request {
    /// Brokers answer in any order, as they collect answers in a hash map. The partitions of a large request are sorted
    /// by what the answer names them by, so that [`find`](Self::find) need not go through all of them for each.
    pub(super) fn prepare<B>(&mut self, partitions: &[Partition<B>], response: &ProduceResponse) {
        if self.carried.len() <= SEARCHED_MAX {
            return;
        }
        let at = |carried: &Carried| &partitions[carried.slot.0 as usize];
        if response.responses.first().is_some_and(|topic| topic.name.is_empty()) {
            self.carried.sort_unstable_by_key(|carried| (carried.topic_id, at(carried).index));
        } else {
            let order = |one: &Carried, other: &Carried| {
                let (one, other) = (at(one), at(other));
                (&*one.topic, one.index).cmp(&(&*other.topic, other.index))
            };
            self.carried.sort_unstable_by(order);
        }
    }

    /// The place in `carried` of the partition of `topic` with this index. It is most likely at `next`.
    pub(super) fn find<B>(
        &self,
        next: usize,
        partitions: &[Partition<B>],
        topic: &TopicProduceResponse,
        index: i32,
    ) -> Option<usize> {
        let order = |carried: &Carried| {
            let partition = &partitions[carried.slot.0 as usize];
            let by_topic = match topic.name.is_empty() {
                true => carried.topic_id.cmp(&Some(topic.topic_id)),
                false => (*partition.topic).cmp(&*topic.name),
            };
            by_topic.then(partition.index.cmp(&index))
        };
        if self.carried.len() > SEARCHED_MAX {
            return self.carried.binary_search_by(order).ok();
        }
        let mut places = (next..self.carried.len()).chain(0..next.min(self.carried.len()));
        places.find(|at| order(&self.carried[*at]).is_eq())
    }
}

/// Without idempotence a retry could be overtaken by the next batch, so only one is in flight per partition.
pub(super) fn flights_max(settings: &super::Settings) -> usize {
    if settings.idempotent { settings.in_flight_max } else { 1 }
}

pub(super) fn failed(failure: Failure, maybe_written: bool) -> Outcome {
    Outcome::Failed { failure, maybe_written, records: Vec::new() }
}

/// Adds a partition under its topic. If the request has the topic, it is at `place`: searching it among thousands of
/// topics for each partition would take a second.
pub(super) fn add_partition<B>(
    request: &mut ProduceRequest,
    place: &mut usize,
    partition: &Partition<B>,
    records: Bytes,
    lists: &mut Lists,
) {
    let data = PartitionProduceData { index: partition.index, records: Some(records), ..Default::default() };
    // In a new request the place is still that of an earlier one.
    match request.topic_data.get_mut(*place).filter(|topic| topic.name == partition.topic_name) {
        Some(topic) => topic.partition_data.push(data),
        None => {
            *place = request.topic_data.len();
            let mut partition_data = lists.take();
            partition_data.push(data);
            request.topic_data.push(TopicProduceData {
                name: partition.topic_name.clone(),
                topic_id: partition.topic_id.unwrap_or_default(),
                partition_data,
                ..Default::default()
            });
        }
    }
}

impl Flushes {
    /// A batch is opened. Answers with its generation.
    pub(super) fn enter(&mut self) -> u64 {
        if let Some(count) = self.outstanding.back_mut() {
            *count += 1;
        }
        self.first + self.outstanding.len() as u64 - 1
    }

    /// A batch of `generation` is split, and there is one more.
    pub(super) fn enter_again(&mut self, generation: u64) {
        if let Some(count) = self.outstanding.get_mut((generation - self.first) as usize) {
            *count += 1;
        }
    }

    /// A batch of `generation` is settled.
    pub(super) fn leave(&mut self, generation: u64) {
        if let Some(count) = self.outstanding.get_mut((generation - self.first) as usize) {
            *count -= 1;
        }
    }

    /// A flush begins: batches that are opened from now on belong to the next generation.
    pub(super) fn end_generation(&mut self) -> FlushId {
        self.outstanding.push_back(0);
        FlushId(self.first + self.outstanding.len() as u64 - 2)
    }

    /// The latest flush all of whose batches are settled, and those of every flush before it. It is told once.
    pub(super) fn completed(&mut self) -> Option<FlushId> {
        let mut completed = None;
        while self.outstanding.len() > 1 && self.outstanding.front() == Some(&0) {
            self.outstanding.pop_front();
            completed = Some(FlushId(self.first));
            self.first += 1;
        }
        completed
    }
}
