//! Reading assigned partitions: positions, what to fetch from whom, and what an answer means.
//!
//! ```text
//!  assign, seek, pause ─▶ ┌────────┐ ── list offsets, fetch ─▶ connections
//!  metadata ────────────▶ │ Source │ ◀─ answers ───────────────┘
//!  dropped (bytes) ─────▶ └────────┘ ── batches, still compressed ─▶ per-partition queues
//! ```
//!
//! The rules it keeps:
//! - The next fetch can go out as soon as the batch headers of the last answer were read; nothing waits for decoding.
//! - Fetches are incremental (KIP-227): a request names only the partitions that changed since the last one.
//! - An assignment, a seek or a move touches only its own partition: its epoch fences answers to older questions.
//! - A paused partition, or one whose buffer is full, is left out of the next fetch; what was fetched of it stays.
//! - Positions advance by batch: past compacted gaps and control batches, and never past a batch that was not whole.

mod aborted;
mod answer;
mod appetite;
mod partition;
mod session;
mod terms;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use milena_messages::fetch::FetchRequest;
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use milena_wire::Uuid;

use self::appetite::Appetite;
use self::partition::{Partition, State};
use self::session::Session;
pub use self::terms::{Epoch, Event, Fetch, LANES, LaneId, Lookup, Position, Settings, Slot};
use self::verdict::{Verdict, verdict};
use crate::backoff::Retry;
use crate::metadata::{LeaderHint, Snapshot};
use crate::{BrokerId, Failure, Instant, Notice, Rng};

/// See the [module](self).
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    rng: Rng,
    partitions: Vec<Partition>,
    names: Names,
    lanes: BTreeMap<LaneId, Lane>,
    /// The one that fetched last: the others are served before it.
    last_lane: Option<LaneId>,
    /// Partitions whose position is still to be looked up.
    unresolved: BTreeSet<Slot>,
    lookups: BTreeMap<u64, Vec<(Slot, Epoch)>>,
    events: VecDeque<Event>,
    hints: Vec<LeaderHint>,
    notices: VecDeque<Notice>,
    metadata_wanted: bool,
    next_number: u64,
    /// How long the application has waited for answers that were all that was asked for, up to when.
    idle: Duration,
    idle_until: Instant,
}

/// Partitions by the names that answers have for them.
#[derive(Debug, Default)]
struct Names {
    by_name: BTreeMap<Arc<str>, BTreeMap<i32, Slot>>,
    by_id: BTreeMap<Uuid, Arc<str>>,
}

impl Names {
    /// The partition; versions that name topics by id leave the name empty.
    fn find(&self, topic: &str, id: Uuid, index: i32) -> Option<Slot> {
        let topic = if topic.is_empty() { self.by_id.get(&id)? } else { topic };
        self.by_name.get(topic)?.get(&index).copied()
    }
}

/// A lane's session and the fetch in flight.
#[derive(Debug, Default)]
struct Lane {
    session: Session,
    appetite: Appetite,
    in_flight: Option<InFlight>,
    retry: Retry,
    muted_until: Option<Instant>,
    /// Of its partitions that are to be fetched: the application will take them, and more can wait until then.
    buffered_bytes: usize,
}

impl Lane {
    /// What its next answer may take, where there are `room` bytes; none when it is not its turn.
    fn room(&self, room: usize, now: Instant) -> Option<usize> {
        let is_muted = self.muted_until.is_some_and(|until| until > now);
        if self.in_flight.is_some() || is_muted || !self.retry.is_ready(now) {
            return None;
        }
        (room >= ROOM_MIN || self.buffered_bytes == 0).then_some(room.max(ROOM_MIN))
    }
}

/// A fetch in flight, and what was asked of each partition named in it.
#[derive(Debug)]
struct InFlight {
    number: u64,
    sent: session::Sent,
    asked: usize,
    at: Instant,
}

/// No fetch is given less room.
pub const ROOM_MIN: usize = 64 << 10;

/// The last version of FetchRequest that names topics by name; later ones use ids (KIP-516).
const FETCH_BY_NAME: i16 = 12;
/// No broker's throttle holds longer than this.
const THROTTLE_MAX: Duration = Duration::from_secs(60);

impl Source {
    /// A source without partitions.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            partitions: Vec::new(),
            names: Names::default(),
            lanes: BTreeMap::new(),
            last_lane: None,
            unresolved: BTreeSet::new(),
            lookups: BTreeMap::new(),
            events: VecDeque::new(),
            hints: Vec::new(),
            notices: VecDeque::new(),
            metadata_wanted: false,
            next_number: 0,
            idle: Duration::ZERO,
            idle_until: Instant::ORIGIN,
        }
    }

    /// Adds a partition, to be read from `position`, which has passed [`Position::check`]. [`handle_metadata`](Self::handle_metadata) says who leads it.
    pub fn assign(&mut self, topic: Arc<str>, index: i32, position: Position) -> Slot {
        let slot = Slot(self.partitions.len() as u32);
        self.names.by_name.entry(Arc::clone(&topic)).or_default().insert(index, slot);
        self.partitions.push(Partition::new(topic, index));
        self.seek(slot, Epoch::default(), position);
        slot
    }

    /// Reads `slot` from `position`; answers to what was asked before `epoch` do not count.
    pub fn seek(&mut self, slot: Slot, epoch: Epoch, position: Position) {
        debug_assert!(position.check().is_ok(), "{position:?} is checked where the application gives it");
        self.set_buffered(slot, 0);
        let partition = self.at(slot);
        partition.epoch = epoch;
        partition.retry = Retry::default();
        partition.is_full = false;
        partition.state = match position {
            Position::Offset(offset) => State::Fetching { next: offset },
            other => State::Unresolved { position: other, asked: false },
        };
        match position {
            Position::Offset(_) => drop(self.unresolved.remove(&slot)),
            _ => drop(self.unresolved.insert(slot)),
        }
        self.hasten(slot);
    }

    /// Reads `slot` no more.
    pub fn unassign(&mut self, slot: Slot, epoch: Epoch) {
        self.set_buffered(slot, 0);
        let partition = self.at(slot);
        partition.epoch = epoch;
        partition.state = State::Stopped;
        self.unresolved.remove(&slot);
        self.touch(slot);
    }

    /// Fetches `slot` no more, or again. What was fetched is not concerned.
    pub fn set_paused(&mut self, slot: Slot, is_paused: bool) {
        self.at(slot).is_paused = is_paused;
        self.hasten(slot);
    }

    /// The application took `bytes` of `slot` out of its buffer.
    pub fn handle_taken(&mut self, slot: Slot, epoch: Epoch, bytes: usize) {
        let low = self.settings.buffer_bytes_max / 2;
        if self.at(slot).epoch != epoch {
            return;
        }
        let left = self.at(slot).buffered_bytes.saturating_sub(bytes);
        self.set_buffered(slot, left);
        let partition = self.at(slot);
        if partition.is_full && partition.buffered_bytes <= low {
            partition.is_full = false;
            self.hasten(slot);
        }
    }

    /// The cluster looks like this now.
    pub fn handle_metadata(&mut self, snapshot: &Snapshot) {
        for index in 0..self.partitions.len() {
            let partition = &mut self.partitions[index];
            let (leader, epoch, id) = match snapshot.partition(&partition.topic, partition.index) {
                Ok((topic, found)) => (found.leader, found.leader_epoch, topic.id),
                Err(_) => (None, None, None),
            };
            if partition.leader == leader
                && partition.leader_epoch >= epoch
                && partition.topic_id == id.or(partition.topic_id)
            {
                continue;
            }
            let old = partition.lane();
            partition.leader = leader;
            partition.leader_epoch = epoch.or(partition.leader_epoch);
            partition.topic_id = id.or(partition.topic_id);
            if let Some(id) = id {
                self.names.by_id.insert(id, Arc::clone(&partition.topic));
            }
            partition.retry.hurry();
            let slot = Slot(index as u32);
            if let Some(lane) = old.and_then(|old| self.lanes.get_mut(&old)) {
                lane.session.touch(slot);
            }
            self.hasten(slot);
        }
    }

    /// The answer to a fetch.
    pub fn handle_lookup(&mut self, number: u64, answer: Result<ListOffsetsResponse, Failure>, now: Instant) {
        let Some(asked) = self.lookups.remove(&number) else { return };
        let (response, failure) = match answer {
            Ok(response) => (response, None),
            Err(failure) => (ListOffsetsResponse::default(), Some(failure)),
        };
        let answers = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|found| ((&*topic.name, found.partition_index), found))
        });
        let answers: BTreeMap<_, _> = answers.collect();
        for (slot, epoch) in asked {
            if self.at(slot).epoch != epoch {
                continue;
            }
            let partition = self.at(slot);
            let found = answers.get(&(&*partition.topic, partition.index));
            let outcome = match (found, &failure) {
                (Some(found), _) => {
                    found.error_code.ok().map(|()| found.offset).map_err(|code| Failure::answer(code, None))
                }
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => {
                    Err(Failure::NoRoute("the broker's answer does not mention the partition".into()))
                }
            };
            self.resolve(slot, outcome, now);
        }
    }

    fn resolve(&mut self, slot: Slot, outcome: Result<i64, Failure>, now: Instant) {
        let State::Unresolved { position, .. } = self.at(slot).state else { return };
        match outcome {
            // No record is that late: the end it is.
            Ok(offset) if offset < 0 => {
                let position =
                    if position == Position::Latest { Position::Earliest } else { Position::Latest };
                self.at(slot).state = State::Unresolved { position, asked: false };
            }
            Ok(offset) => {
                let offset = match position {
                    Position::BeforeEnd(count) => offset.saturating_sub(count).max(0),
                    _ => offset,
                };
                let clamp = matches!(position, Position::BeforeEnd(_));
                let partition = self.at(slot);
                partition.state = State::Fetching { next: offset };
                partition.clamp = clamp;
                partition.retry.succeeded();
                let epoch = partition.epoch;
                self.unresolved.remove(&slot);
                self.events.push_back(Event::Positioned { slot, epoch, offset });
                self.hasten(slot);
            }
            Err(failure) => {
                self.at(slot).state = State::Unresolved { position, asked: false };
                self.handle_partition_failure(slot, failure, now);
            }
        }
    }

    /// A partition cannot be read now: later, or not at all.
    fn handle_partition_failure(&mut self, slot: Slot, failure: Failure, now: Instant) {
        let backoff = self.settings.backoff;
        let partition = &mut self.partitions[slot.0 as usize];
        partition.retry.failed_by(&failure, now, &backoff, &mut self.rng);
        let is_temporary = match &failure {
            Failure::Answer { code, .. } => !matches!(verdict(*code), Verdict::Stop | Verdict::OutOfRange),
            other => partition.retry.may_pass(other),
        };
        if !is_temporary {
            return self.stop(slot, failure);
        }
        self.metadata_wanted = true;
        if partition.retry.is_notable(&failure) {
            let doing = format!("reading partition {} of topic {:?}", partition.index, partition.topic);
            self.notices.push_back(Notice {
                doing: doing.into(),
                failure,
                failures: partition.retry.failures(),
            });
        }
        self.touch(slot);
    }

    /// A partition cannot be read: the application must decide.
    fn stop(&mut self, slot: Slot, failure: Failure) {
        let partition = self.at(slot);
        let offset = partition.position();
        partition.state = State::Stopped;
        let epoch = partition.epoch;
        self.unresolved.remove(&slot);
        self.events.push_back(Event::Stopped { slot, epoch, offset, failure });
        self.touch(slot);
    }

    /// The next question for offsets to send.
    pub fn poll_lookup(&mut self, now: Instant) -> Option<Lookup> {
        let is_due = |partition: &Partition| {
            matches!(partition.state, State::Unresolved { asked: false, .. }) && partition.retry.is_ready(now)
        };
        let broker = self.unresolved.iter().find_map(|slot| {
            let partition = &self.partitions[slot.0 as usize];
            partition.leader.filter(|_| is_due(partition))
        })?;
        let mut topics: BTreeMap<Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
        let mut asked = Vec::new();
        for slot in &self.unresolved {
            let partition = &mut self.partitions[slot.0 as usize];
            let State::Unresolved { position, asked: false } = partition.state else { continue };
            if partition.leader != Some(broker) || !partition.retry.is_ready(now) {
                continue;
            }
            partition.state = State::Unresolved { position, asked: true };
            topics.entry(Arc::clone(&partition.topic)).or_default().push(ListOffsetsPartition {
                partition_index: partition.index,
                current_leader_epoch: partition.leader_epoch.map_or(-1, |epoch| epoch.0),
                timestamp: timestamp_of(position),
                ..Default::default()
            });
            asked.push((*slot, partition.epoch));
        }
        let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
            name: (&*name).into(),
            partitions,
            ..Default::default()
        });
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.settings.read_committed),
            topics: topics.collect(),
            ..Default::default()
        };
        let number = self.number();
        self.lookups.insert(number, asked);
        Some(Lookup { broker, number, request, deadline: now + self.settings.request_timeout })
    }

    /// The next fetch to send, where there is room for answers of `room` bytes. Lanes take turns. However little room
    /// there is, one that has nothing under way and nothing buffered gets [`ROOM_MIN`]: what holds the memory may never
    /// be taken.
    pub fn poll_fetch(&mut self, now: Instant, room: usize) -> Option<Fetch> {
        let Self { lanes, partitions, settings, last_lane, .. } = self;
        let mut ask = |(id, lane): (&LaneId, &mut Lane)| {
            let bytes_max = lane.room(room, now)?;
            let (sent, request, has_ids) = lane.session.request(*id, partitions, settings, now)?;
            let asked = lane.appetite.ask_at_most(bytes_max, settings.fetch_bytes_max);
            Some((*id, sent, request, has_ids, asked, lane.appetite.expect(asked).min(bytes_max)))
        };
        let last = last_lane.unwrap_or(LaneId { broker: BrokerId(i32::MIN), lane: 0 });
        let behind = lanes.range_mut((Bound::Excluded(last), Bound::Unbounded)).find_map(&mut ask);
        let (id, sent, mut request, has_ids, asked, expected) =
            behind.or_else(|| lanes.range_mut(..=last).find_map(&mut ask))?;
        *last_lane = Some(id);
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        request.replica_id = -1;
        request.max_wait_ms = i32::try_from(settings.fetch_wait.as_millis()).unwrap_or(i32::MAX);
        request.min_bytes = size(settings.fetch_bytes_min);
        request.max_bytes = size(asked);
        request.isolation_level = i8::from(settings.read_committed);
        let deadline = now + settings.request_timeout + settings.fetch_wait;
        let number = self.number();
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.in_flight = Some(InFlight { number, sent, asked, at: now });
        }
        let latest = *<FetchRequest as milena_messages::Message>::VERSIONS.end();
        let version_max = if has_ids { latest } else { latest.min(FETCH_BY_NAME) };
        Some(Fetch { lane: id, number, request, version_max, bytes_expected: expected, deadline })
    }

    /// What the application is to get.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What has failed several times and is still being tried.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether the metadata looks outdated.
    pub fn poll_metadata_wanted(&mut self) -> bool {
        std::mem::take(&mut self.metadata_wanted)
    }

    /// New leaders that answers named (KIP-951).
    pub fn poll_hints(&mut self) -> Vec<LeaderHint> {
        std::mem::take(&mut self.hints)
    }

    /// When something may become possible that is not now.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.values().flat_map(|lane| [lane.retry.not_before(), lane.muted_until]);
        // Only those that failed wait, and they are few.
        let partitions = self.lanes.values().flat_map(|lane| lane.session.delayed(&self.partitions));
        let unresolved =
            self.unresolved.iter().map(|slot| self.partitions[slot.0 as usize].retry.not_before());
        lanes.chain(partitions).chain(unresolved).flatten().filter(|at| *at > now).min()
    }

    fn set_buffered(&mut self, slot: Slot, bytes: usize) {
        self.at(slot).buffered_bytes = bytes;
        self.recount(slot);
    }

    /// What `slot` has buffered counts for the lane that is to fetch more of it.
    fn recount(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0 as usize];
        let lane = partition.lane().filter(|_| !partition.is_paused && !partition.is_full);
        let counted = lane.map(|lane| (lane, partition.buffered_bytes));
        if partition.counted == counted {
            return;
        }
        if let Some((id, bytes)) = std::mem::replace(&mut partition.counted, counted)
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.buffered_bytes -= bytes;
        }
        if let Some((id, bytes)) = counted {
            self.lanes.entry(id).or_default().buffered_bytes += bytes;
        }
    }

    fn at(&mut self, slot: Slot) -> &mut Partition {
        &mut self.partitions[slot.0 as usize]
    }

    /// What is wanted of `slot` may have changed.
    fn touch(&mut self, slot: Slot) {
        if let Some(lane) = self.at(slot).lane() {
            self.lanes.entry(lane).or_default().session.touch(slot);
        }
        self.recount(slot);
    }

    /// As [`touch`](Self::touch), and if its lane is busy with a fetch that says nothing of it, `slot` takes another.
    fn hasten(&mut self, slot: Slot) {
        self.touch(slot);
        let Some(id) = self.at(slot).lane() else { return };
        let partition = &self.partitions[slot.0 as usize];
        if self.lanes.get(&id).is_none_or(|lane| lane.in_flight.is_none() || lane.covers(slot, partition)) {
            return;
        }
        let is_idle = |lane: &u8| {
            self.lanes.get(&LaneId { lane: *lane, ..id }).is_none_or(|lane| lane.in_flight.is_none())
        };
        if let Some(lane) = (0..LANES).find(is_idle) {
            self.at(slot).lane = lane;
            self.touch(slot);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// ListOffsetsRequest.Topics.Partitions.Timestamp: negative ones have meanings of their own.
fn timestamp_of(position: Position) -> i64 {
    match position {
        Position::Earliest => -2,
        Position::Latest | Position::BeforeEnd(_) | Position::Offset(_) => -1,
        Position::TimestampMs(at) => at,
    }
}
