//! What the answer to a fetch means: which batches the application gets, how far each partition has come, and what each
//! error does. Of a batch only the header is read.

use std::sync::Arc;
use std::time::Duration;

use milena_messages::fetch::{FetchResponse, PartitionData};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::batch::{Batches, RawBatch};

use super::aborted::Aborted;
use super::appetite::Arrival;
use super::buffer::Amount;
use super::lane::InFlight;
use super::session::Member;
use super::state::Input;
use super::verdict::{Verdict, verdict};
use super::{Event, LaneId, Slot, Source};
use crate::metadata::{Endpoints, LeaderHint};
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, LeaderEpoch, Notice};

impl Source {
    /// Fetch `number` of `lane` was answered, or failed. `began` is when the first bytes of the answer were there.
    /// `idle_since` is the time since which the application has found nothing to read, or [`Instant::NEVER`] while it
    /// has something to do.
    pub fn handle_fetched(
        &mut self,
        id: LaneId,
        number: u64,
        answer: Result<FetchResponse, Failure>,
        began: Instant,
        idle_since: Instant,
        now: Instant,
    ) {
        debug_assert!(began <= now, "an answer begins before it is there");
        // Whether the application waits for this answer, or has other batches to take. Batches of partitions that are
        // paused or full do not count, as they are not taken soon.
        let is_awaited = self.lanes.values().all(|lane| lane.buffered_bytes == 0);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(in_flight) = lane.in_flight.take_if(|in_flight| in_flight.number == number) else { return };
        self.is_fed = false;
        match answer {
            Err(failure) => {
                // The broker may have acted on the request, and its session is then not what we believe it to be.
                lane.reset(&in_flight, true);
                self.handle_lane_failure(id, &failure, now);
            }
            Ok(response) if response.error_code != ErrorCode::NONE => {
                lane.mute(response.throttle_time_ms, now);
                // KIP-227: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH and similar errors concern the
                // session. A full request begins another one.
                lane.reset(&in_flight, response.error_code != ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
                if lane.retry.failures() > 0 {
                    lane.retry.failed(now, &self.settings.backoff, &mut self.rng);
                } else {
                    // Once is normal: brokers drop sessions when they need the room for others. The full request goes
                    // out at once, and only a second failure in a row waits.
                    lane.retry.failed_but_try_at_once();
                }
            }
            Ok(response) => {
                lane.mute(response.throttle_time_ms, now);
                lane.retry.succeeded();
                let (bytes, batch_bytes) = sizes(&response);
                lane.empty_answers = if bytes == 0 { lane.empty_answers.saturating_add(1) } else { 0 };
                lane.appetite.handle_answer(bytes, batch_bytes);
                // How long a large answer took tells what the way to the broker can carry. A small one only tells that
                // the broker has no more records.
                if bytes >= in_flight.asked / 4 * 3 {
                    // Time in which the application had other batches to work on was not spent waiting for this one.
                    let wait = if is_awaited { began - in_flight.at.max(idle_since) } else { Duration::ZERO };
                    if is_awaited {
                        self.idle += began - idle_since.max(self.idle_until);
                        self.idle_until = began;
                    }
                    let arrival = Arrival { wait, transfer: now - began, at: now, idle: self.idle };
                    lane.appetite.handle_full(&arrival, self.settings.fetch_bytes_max);
                } else {
                    lane.appetite.handle_short();
                }
                // Only an answer proves that the broker heard what the request told it.
                if !in_flight.is_ration {
                    lane.session.commit(&in_flight.sent, response.session_id);
                }
                self.handle_partitions(id, &in_flight, &response, now);
                if self.settings.tells_ends {
                    self.tell_ends(id, &in_flight);
                }
                self.hint_leaders(&response);
                self.recycle_response(response);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.session.recycle(in_flight.sent);
        }
        self.settle(id.broker, now);
    }

    fn recycle_response(&mut self, mut response: FetchResponse) {
        for mut topic in response.responses.drain(..) {
            let aborted = topic.partitions.drain(..).filter_map(|data| data.aborted_transactions);
            aborted.for_each(|aborted| self.lists.give(aborted));
            self.lists.give(topic.partitions);
        }
        self.lists.give(response.responses);
    }

    fn handle_partitions(
        &mut self,
        id: LaneId,
        in_flight: &InFlight,
        response: &FetchResponse,
        now: Instant,
    ) {
        let mut is_first_served = in_flight.is_ration;
        for topic in &response.responses {
            for data in &topic.partitions {
                let Some(lane) = self.lanes.get(&id) else { return };
                let slot = self.slots.find(&topic.topic, topic.topic_id, data.partition_index);
                // A partition that this fetch did not ask for is ignored.
                let Some((slot, member)) = slot.and_then(|slot| Some((slot, lane.asked(in_flight, slot)?)))
                else {
                    continue;
                };
                if is_first_served && data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                    self.last_rationed = slot;
                    is_first_served = false;
                }
                let end = self.end(data);
                let partition = self.at(slot);
                partition.end = end;
                // Otherwise it was sought since, or the other lane has brought the same batches first.
                if partition.is_at(member.epoch, member.offset) {
                    self.handle_partition(id.broker, slot, member, data, now);
                }
                // The other lane may have a fetch in flight that asks for it at its old offset, and brings nothing new.
                self.hasten(slot);
            }
        }
    }

    /// The end of the partition for our isolation level, if the answer is no error and says it.
    fn end(&self, data: &PartitionData) -> Option<i64> {
        let is_stable = self.settings.read_committed && data.last_stable_offset >= 0;
        let end = if is_stable { data.last_stable_offset } else { data.high_watermark };
        (data.error_code == ErrorCode::NONE && end >= 0).then_some(end)
    }

    /// Tells which partitions of the fetch are at their ends. In a session an answer leaves a partition out when
    /// nothing has changed since the last one, so this goes through all that the fetch asked for.
    fn tell_ends(&mut self, id: LaneId, in_flight: &InFlight) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let slots = if in_flight.is_ration { in_flight.sent.slots() } else { lane.session.slots() };
        for slot in slots {
            let Some(Member { offset, epoch, .. }) = lane.asked(in_flight, slot) else { continue };
            let partition = &self.partitions[slot.0 as usize];
            if partition.is_at(epoch, offset) && partition.end.is_some_and(|end| end <= offset) {
                self.events.push_back(Event::AtEnd { slot, epoch, offset });
            }
        }
    }

    fn handle_partition(
        &mut self,
        broker: BrokerId,
        slot: Slot,
        member: Member,
        data: &PartitionData,
        now: Instant,
    ) {
        let partition = self.at(slot);
        let (is_leader, is_follower) = (partition.leader == Some(broker), partition.follower == Some(broker));
        match verdict(data.error_code) {
            Verdict::Fetched => {
                let named = BrokerId::known(data.preferred_read_replica);
                if let Some(named) = named.filter(|named| *named != broker && is_leader) {
                    self.refer(slot, named, now);
                }
                self.take_batches(slot, member, data, now);
            }
            // It lags behind the leader, or has no replica any more. Only the leader knows whether the position exists.
            _ if is_follower => self.leave_follower(slot, now),
            // It is fetched from elsewhere by now.
            _ if !is_leader => {}
            Verdict::OutOfRange => {
                let failure = Failure::answer(data.error_code, None);
                self.stop_on(slot, Input::OutOfRange(self.settings.reset), failure);
            }
            Verdict::Again | Verdict::Stop => {
                let failure = Failure::answer(data.error_code, None).of(ApiKey::Fetch);
                let failure = failure.on(Resource::Topic, &self.at(slot).topic);
                self.handle_partition_failure(slot, failure, now);
            }
        }
    }

    /// Reads the headers of the batches that came, and gives those on that the application is to see.
    fn take_batches(&mut self, slot: Slot, member: Member, data: &PartitionData, now: Instant) {
        let Some(records) = data.records.clone().filter(|records| !records.is_empty()) else {
            let partition = self.at(slot);
            partition.retry.succeeded();
            if data.high_watermark > member.offset {
                // There are records, but their first batch is larger than the limit and not the first of the answer,
                // and Kafka leaves it out (KIP-74). The limit must not stay a multiple of the size of earlier batches.
                partition.batch_bytes = 0;
            }
            return;
        };
        let mut batches = Batches::new(records);
        let mut aborted =
            self.settings.read_committed.then(|| Aborted::new(data.aborted_transactions.as_deref()));
        let mut next = member.offset;
        let mut read_in = None;
        let watermarks = self.settings.partition_watermarks;
        let (mut amount, mut shown, mut smallest, mut largest) = (Amount::default(), next, usize::MAX, 0);
        for batch in &mut batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    // The batches before it are good, and the position stays after them.
                    self.at(slot).buffer.fill(amount, &watermarks);
                    self.step(slot, Input::Advanced(next, read_in));
                    let reason =
                        format!("a record batch at or after offset {next} cannot be read: {error}").into();
                    return self.stop(slot, Failure::Malformed { peer: Arc::from("the broker"), reason });
                }
            };
            (smallest, largest) = (smallest.min(batch.bytes().len()), largest.max(batch.bytes().len()));
            let header = batch.header;
            let end =
                header.base_offset.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1);
            // Brokers send whole batches, so the first one may begin before the position. A batch that also ends before
            // it has nothing new.
            if end <= next {
                continue;
            }
            let from = std::mem::replace(&mut next, end);
            read_in = header.partition_leader_epoch.map(LeaderEpoch);
            if aborted.as_mut().is_some_and(|aborted| aborted.covers(&batch, end)) {
                continue;
            }
            // Control batches are the brokers' own records. Compaction leaves the header of a batch without records
            // when it was its producer's last one.
            if header.attributes.is_control() || (header.magic == 2 && header.record_count == 0) {
                continue;
            }
            amount.add(amount_of(&batch));
            let epoch = member.epoch;
            self.events.push_back(Event::Batch {
                slot,
                epoch,
                batch,
                from,
                high_watermark: data.high_watermark,
            });
            shown = next;
        }
        let needed = batches.partial().and_then(|partial| partial.needed);
        if next == member.offset {
            let batch_bytes = &mut self.at(slot).batch_bytes;
            *batch_bytes = needed.unwrap_or(*batch_bytes);
            return self.handle_no_progress(slot, needed, now);
        }
        self.step(slot, Input::Advanced(next, read_in));
        if shown < next {
            // A reader to an end offset would wait for ever if the last batch before it is the marker of a transaction.
            self.events.push_back(Event::Passed { slot, epoch: member.epoch, offset: next });
        }
        let partition = self.at(slot);
        partition.retry.succeeded();
        let largest = largest.max(needed.unwrap_or(0));
        // Where batches differ in size, no multiple of one of them fits better than the limit itself.
        partition.batch_bytes = if largest - smallest <= largest / 16 { largest } else { 0 };
        partition.buffer.fill(amount, &watermarks);
    }

    /// Bytes came, and no batch from the position on. Brokers send a first batch whole whatever its size (KIP-74), so
    /// this is not normal. The partition waits for a backoff, or it would ask for the same bytes as fast as they come.
    fn handle_no_progress(&mut self, slot: Slot, needed: Option<usize>, now: Instant) {
        let partition_bytes_max = self.settings.partition_bytes_max;
        match needed.filter(|needed| *needed > partition_bytes_max) {
            Some(needed) => {
                let why = format!(
                    "the next record batch takes {needed} bytes and the broker sends only {partition_bytes_max}: \
                     raise fetch_partition_bytes_max"
                );
                self.stop(slot, Failure::Caller(why.into()));
            }
            None => self.delay(slot, now),
        }
    }

    fn handle_lane_failure(&mut self, id: LaneId, failure: &Failure, now: Instant) {
        let backoff = self.settings.backoff;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.retry.failed_by(failure, now, &backoff, &mut self.rng);
        self.metadata_wanted = true;
        self.leave_followers_at(id.broker, now);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.retry.may_pass(failure) {
            if lane.retry.is_notable(failure) {
                self.notices.push_back(Notice {
                    doing: format!("fetching from broker {}", id.broker).into(),
                    failure: failure.clone(),
                    failures: lane.retry.failures(),
                });
            }
            return;
        }
        // There is no version in common, or the broker breaks the protocol again and again: it is not asked any more.
        for index in 0..self.partitions.len() {
            if self.partitions[index].source() == Some(id.broker) {
                self.stop(Slot(index as u32), failure.clone());
            }
        }
    }

    /// Notes the leaders that the answer names (KIP-951, FetchResponse v16+).
    fn hint_leaders(&mut self, response: &FetchResponse) {
        let nodes = response.node_endpoints.iter();
        let endpoints = Endpoints::of(nodes.map(|node| (node.node_id, &*node.host, node.port)));
        for topic in &response.responses {
            for data in &topic.partitions {
                let current = &data.current_leader;
                let Some((leader, epoch)) = LeaderHint::named(current.leader_id, current.leader_epoch) else {
                    continue;
                };
                let slot = self.slots.find(&topic.topic, topic.topic_id, data.partition_index);
                let Some(slot) = slot else { continue };
                self.hints.push(LeaderHint {
                    topic: Arc::clone(&self.partitions[slot.0 as usize].topic),
                    partition: data.partition_index,
                    leader,
                    epoch,
                    endpoint: endpoints.at(leader),
                });
            }
        }
    }
}

/// What a batch adds to its partition's buffer, and what it takes from there when the application takes it.
pub fn amount_of(batch: &RawBatch) -> Amount {
    let header = &batch.header;
    // Message sets of before Kafka 0.11 do not say how many records they have.
    let records = match header.magic {
        2 => header.record_count as usize,
        _ => usize::try_from(header.last_offset_delta).unwrap_or(0) + 1,
    };
    Amount { bytes: batch.bytes().len(), records }
}

/// The bytes of all records, and the bytes of the largest among the first batches of the partitions.
fn sizes(response: &FetchResponse) -> (usize, usize) {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let records = partitions.filter_map(|partition| partition.records.as_ref());
    records.fold((0, 0), |(bytes, largest), records| {
        let first = Batches::new(records.clone()).next().and_then(Result::ok);
        (bytes + records.len(), largest.max(first.map_or(0, |batch| batch.bytes().len())))
    })
}

#[cfg(test)]
mod tests {
    use milena_messages::fetch::FetchableTopicResponse;
    use milena_wire::batch::{BatchBuilder, ControlRecord, end_transaction};
    use milena_wire::pool::Pool;

    use super::super::{Position, Settings, Watermarks};
    use super::*;
    use crate::metadata::tests::snapshot;
    use crate::source::Epoch;
    use crate::{Backoff, Rng};

    fn settings() -> Settings {
        Settings {
            fetch_bytes_max: 1 << 20,
            partition_bytes_max: 1 << 20,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            partition_watermarks: Watermarks::new(1 << 20, usize::MAX, 50),
            watermarks: Watermarks::NONE,
            reset: None,
            rack: milena_wire::Str::default(),
            read_committed: false,
            tells_ends: false,
            request_timeout: Duration::from_secs(30),
            backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
        }
    }

    fn at(base_offset: i64, batch: &[u8]) -> Vec<u8> {
        [&base_offset.to_be_bytes(), &batch[8..]].concat()
    }

    #[test]
    fn batches_that_the_application_does_not_see_are_passed() {
        let pool = Pool::default();
        let mut records = BatchBuilder::new(&pool);
        records.append(0, None, Some(b"record"), &[]).expect("room");
        let records = at(0, &records.seal().into_bytes());
        let marker = at(
            1,
            &end_transaction(&pool, ControlRecord::Commit { coordinator_epoch: 0 }, 0, 1, 0).into_bytes(),
        );
        let check = |from: i64, bytes: Vec<u8>, expected: &[&str]| {
            let mut source = Source::new(settings(), Rng::seeded(1));
            source.assign(&"t".into(), 0, Epoch(0), Position::Offset(from));
            source.handle_metadata(&snapshot("t", &[(1, 0)]), Instant::ORIGIN);
            let fetch = source.poll_fetch(Instant::ORIGIN, 1 << 20).expect("a fetch");
            let partition =
                PartitionData { records: Some(bytes.into()), high_watermark: 2, ..Default::default() };
            let topic = FetchableTopicResponse {
                topic: "t".into(),
                partitions: vec![partition],
                ..Default::default()
            };
            let answer = FetchResponse { responses: vec![topic], ..Default::default() };
            source.handle_fetched(
                fetch.lane,
                fetch.number,
                Ok(answer),
                Instant::ORIGIN,
                Instant::ORIGIN,
                Instant::ORIGIN,
            );
            let events = std::iter::from_fn(|| source.poll_event()).map(|event| match event {
                Event::Batch { from, .. } => format!("batch from {from}"),
                Event::Passed { offset, .. } => format!("passed to {offset}"),
                other => format!("{other:?}"),
            });
            assert_eq!(events.collect::<Vec<_>>(), expected);
        };
        check(0, records.clone(), &["batch from 0"]);
        check(0, [records, marker.clone()].concat(), &["batch from 0", "passed to 2"]);
        check(1, marker, &["passed to 2"]);
    }
}
