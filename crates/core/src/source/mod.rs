//! Reading assigned partitions: positions, what to fetch from which broker, and what an answer means.
//!
//! ```text
//!  assign, seek, pause ─▶ ┌────────┐ ── list offsets, fetch ─▶ connections
//!  metadata ────────────▶ │ Source │ ◀─ answers ───────────────┘
//!  bytes taken ─────────▶ └────────┘ ── batches, still compressed ─▶ per-partition queues
//! ```
//!
//! The rules it keeps:
//! - The next fetch can go out as soon as the batch headers of the last answer were read. Nothing waits for decoding.
//! - Fetches are incremental (KIP-227): a request names only the partitions that changed since the last one.
//! - An assignment, a seek or a leader's move touches only its own partition: its epoch fences answers to older
//!   requests.
//! - A paused partition, or one whose buffer is full, is left out of the next fetch. What was fetched of it stays.
//! - A partition that has records at its broker, room in the budget and a reader that will take them is in a request
//!   that is on its way. It waits for no other partition's long poll, and its reader for no other reader.
//! - Positions advance by batch: past compacted gaps and control batches, and never past a batch that was not whole.
//! - After a change of leaders nothing is fetched before the new leader has said that its log has the last record that
//!   was read (KIP-320).
//! - A replica that is nearer than the leader is fetched from if the leader says so (KIP-392). No error of such a
//!   replica moves a position: the leader is asked then.
//!
//! Where each partition stands is `state.rs`; which replica is fetched, `follower.rs`; which of a broker's two
//! connections fetches it, `lane.rs`; which partitions a broker remembers (KIP-227), `session.rs`; how much one fetch
//! asks for, `appetite.rs`; what an answer means, `answer.rs`; whether a log was cut off, `validation.rs`.

mod aborted;
mod answer;
mod appetite;
mod buffer;
mod follower;
mod lane;
mod partition;
mod session;
mod slots;
mod state;
mod terms;
#[cfg(test)]
mod tests;
mod validation;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use milena_messages::fetch::{FetchRequest, FetchResponse};
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Lists;

pub use self::answer::amount_of;
use self::buffer::Total;
pub use self::buffer::{Amount, Flow, Stops, Watermarks};
use self::lane::{InFlight, LONG, Lane};
use self::partition::{Partition, Reader};
use self::session::{FINAL, INITIAL, Limits, Sent};
use self::slots::Slots;
use self::state::{Input, State, Tell};
pub use self::terms::{Epoch, Event, Fetch, LANES, LaneId, Lookup, Position, Settings, Slot, Validation};
use self::verdict::{Verdict, verdict};
use crate::backoff::Retry;
use crate::metadata::{LeaderHint, Snapshot};
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, LeaderEpoch, Notice, Rng};

/// The consumer's machine for reading assigned partitions: the [module](self) has the rules that it keeps.
///
/// # A turn
///
/// 1. Tell it what the application did: [`assign`](Self::assign), [`seek`](Self::seek), [`halt`](Self::halt),
///    [`unassign`](Self::unassign), [`set_paused`](Self::set_paused), [`set_own_reader`](Self::set_own_reader),
///    [`handle_taken`](Self::handle_taken). These come first: a seek, for example, makes an answer worthless that
///    has arrived and was not looked at.
/// 2. Tell it what arrived: [`handle_fetched`](Self::handle_fetched), [`handle_lookup`](Self::handle_lookup),
///    [`handle_validation`](Self::handle_validation), [`handle_metadata`](Self::handle_metadata). After each `handle_fetched` drain [`poll_event`](Self::poll_event):
///    its batches are slices of that answer's frame, and the caller counts the frame's memory for as long as they live.
/// 3. [`handle_timeout`](Self::handle_timeout), and `poll_event` again: a topic that has been missing for long stops.
/// 4. [`poll_lookup`](Self::poll_lookup), [`poll_validation`](Self::poll_validation) and
///    [`poll_fetch`](Self::poll_fetch), each until there is none. Each fetch
///    takes memory, so there is less `room` for the next one.
/// 5. [`poll_metadata_wanted`](Self::poll_metadata_wanted), [`poll_notice`](Self::poll_notice) and
///    [`poll_hints`](Self::poll_hints), in any order.
///
/// Then sleep until something happens, or until [`poll_timeout`](Self::poll_timeout), which any of these calls may
/// change. These are several polls because they take different arguments: events belong to a frame, fetches need room.
///
/// # Inputs
///
/// Every [`Fetch`] is answered by `handle_fetched` with its lane and number, every [`Lookup`] by `handle_lookup` and
/// every [`Validation`] by `handle_validation`, once, by its deadline; a lane fetches nothing until then. Answers with
/// other numbers are ignored.
///
/// A [`Slot`] may be used from `assign` to `unassign`. Afterwards it may be given to another partition. The [`Epoch`]s
/// of one source come from one counter that only grows, and no two assignments or seeks have the same one. Two tasks'
/// orders may arrive in another order than they were given: one that is older than the partition's epoch is ignored.
///
/// # Time
///
/// `now` is never before the `now` of the last `handle_timeout`. A partition whose backoff ends is looked at once: with
/// an earlier `now` it would not be ready yet, and nothing would look at it again.
///
/// # Between calls
///
/// A lane has at most one fetch in flight, so a broker has at most two ([`LANES`]). What a fetch asks of a partition is
/// remembered with the partition's epoch: an answer under another epoch, or for another offset, changes nothing. The
/// position of a partition is after the last batch that was given out as an [`Event`].
///
/// # Cost
///
/// An answer takes time by the partitions that it names; with [`Settings::tells_ends`], by all partitions of its lane.
/// A fetch takes time by the partitions that changed since the lane's last one. `handle_metadata` goes through all
/// partitions, `poll_lookup` and `poll_validation` through those whose position is not known or validated yet,
/// `poll_timeout` through all lanes. While
/// memory is short, `poll_fetch` goes through the partitions with a reader of their own that wait for records, once
/// after each change; and once when memory becomes short, and when it is no longer short.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    rng: Rng,
    /// By slot.
    partitions: Vec<Partition>,
    slots: Slots,
    lanes: BTreeMap<LaneId, Lane>,
    /// The lane that fetched last: all other lanes are served before it.
    last_lane: Option<LaneId>,
    /// Partitions whose offset is to be looked up or validated, or is being looked up or validated.
    unresolved: BTreeSet<Slot>,
    /// Lookups and validations in flight, and what each asks about.
    lookups: BTreeMap<u64, Vec<(Slot, Epoch)>>,
    /// The brokers that are up.
    brokers: BTreeSet<BrokerId>,
    /// When followers are left again, so that their leaders may name nearer ones.
    leases: BTreeSet<(Instant, Slot)>,
    /// Leaders that have named followers which could not be used, and until when they are not told our rack.
    distrusted: BTreeMap<BrokerId, Instant>,
    /// How many partitions have a reader of their own.
    own_readers: usize,
    /// Whether memory was short when the last fetch was asked for.
    is_short: bool,
    /// Partitions whose own reader waits, because they have nothing for it to take.
    own_awaited: BTreeSet<Slot>,
    /// The first partition of which the last ration has brought something.
    last_rationed: Slot,
    /// Every one of `own_awaited` that is to be fetched is asked for by a fetch in flight. False until that was looked at, and
    /// again after any change.
    is_fed: bool,
    /// Partitions that have a reader of their own that does not wait, and are not full.
    own_unawaited: BTreeSet<Slot>,
    /// Partitions that failed, and when each may be tried again.
    delayed: BTreeSet<(Instant, Slot)>,
    /// What is buffered of all partitions.
    total: Total,
    missing: BTreeMap<Slot, Missing>,
    events: VecDeque<Event>,
    hints: Vec<LeaderHint>,
    notices: VecDeque<Notice>,
    metadata_wanted: bool,
    next_number: u64,
    /// The `now` of the last `handle_timeout`.
    passed_at: Instant,
    /// How long the application has waited, in all, for answers that brought all that was asked for: what it waits for
    /// other answers says nothing about our fetches.
    idle: Duration,
    /// Waiting up to this time is in `idle`.
    idle_until: Instant,
    /// The memory of the lists in requests and responses.
    lists: Lists,
}

/// No fetch is given less room than this, in bytes.
pub const ROOM_MIN: usize = 64 << 10;

/// Without events there is room for this many at most.
const EVENTS_KEPT: usize = 512;
/// The last version of FetchRequest that names topics by name; later ones use ids (KIP-516).
const FETCH_BY_NAME: i16 = 12;
/// A topic that no broker knows may be being deleted and made again. After this long its partitions stop.
const MISSING_MAX: Duration = Duration::from_secs(15);
/// At first the metadata is wanted again after this time for a partition that is missing.
const MISSING_ASK_MIN: Duration = Duration::from_millis(50);
/// No broker's throttle holds longer than this.
const THROTTLE_MAX: Duration = Duration::from_secs(60);

impl Source {
    /// A source without partitions.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            partitions: Vec::new(),
            slots: Slots::default(),
            lanes: BTreeMap::new(),
            last_lane: None,
            unresolved: BTreeSet::new(),
            lookups: BTreeMap::new(),
            brokers: BTreeSet::new(),
            leases: BTreeSet::new(),
            distrusted: BTreeMap::new(),
            own_readers: 0,
            is_short: false,
            own_awaited: BTreeSet::new(),
            last_rationed: Slot(0),
            is_fed: false,
            own_unawaited: BTreeSet::new(),
            delayed: BTreeSet::new(),
            total: Total::default(),
            missing: BTreeMap::new(),
            events: VecDeque::new(),
            hints: Vec::new(),
            notices: VecDeque::new(),
            metadata_wanted: false,
            next_number: 0,
            lists: Lists::default(),
            passed_at: Instant::ORIGIN,
            idle: Duration::ZERO,
            idle_until: Instant::ORIGIN,
        }
    }

    /// Adds a partition, to be read from `position`, which has passed [`Position::check`]. It is fetched once
    /// [`handle_metadata`](Self::handle_metadata) has said which broker leads it.
    pub fn assign(&mut self, topic: &Arc<str>, index: i32, epoch: Epoch, position: Position) -> Slot {
        if self.slots.are_many_leaving() {
            self.collect_slots();
        }
        let slot = self.slots.assign(topic, index, &mut self.partitions);
        let partition = self.at(slot);
        partition.is_paused = false;
        // While it was not assigned, the topic may have been deleted and made again. That does not concern this
        // assignment.
        partition.topic_id = None;
        partition.follower = None;
        self.set_position(slot, epoch, position);
        slot
    }

    /// Reads `slot` from `position`. Answers to requests from before `epoch` do not count.
    pub fn seek(&mut self, slot: Slot, epoch: Epoch, position: Position) {
        self.assigned(slot);
        self.set_position(slot, epoch, position);
    }

    fn set_position(&mut self, slot: Slot, epoch: Epoch, position: Position) {
        debug_assert!(position.check().is_ok(), "{position:?} is checked where the application gives it");
        if epoch < self.at(slot).epoch {
            // Two tasks seek, and their orders came the wrong way round.
            return;
        }
        let partition = self.at(slot);
        partition.epoch = epoch;
        partition.retry = Retry::default();
        partition.buffer.clear();
        self.step(slot, Input::Sought(position));
        self.step_led(slot);
        self.hasten(slot);
    }

    /// Does not read `slot` until [`seek`](Self::seek).
    pub fn halt(&mut self, slot: Slot, epoch: Epoch) {
        if epoch >= self.assigned(slot).epoch {
            self.quit(slot, epoch, Input::Halted);
        }
    }

    /// Gives `slot` up. It may soon be another partition's. An order that is older than the partition's epoch is
    /// ignored.
    pub fn unassign(&mut self, slot: Slot, epoch: Epoch) {
        if epoch < self.assigned(slot).epoch {
            return;
        }
        self.set_own_reader(slot, false);
        self.quit(slot, epoch, Input::Unassigned);
        self.missing.remove(&slot);
        self.slots.leave(slot);
    }

    fn quit(&mut self, slot: Slot, epoch: Epoch, input: Input) {
        let partition = self.at(slot);
        partition.epoch = epoch;
        partition.buffer.clear();
        self.step(slot, input);
        self.touch(slot);
    }

    /// Stops fetching `slot`, or goes on. Batches that were fetched stay where they are.
    pub fn set_paused(&mut self, slot: Slot, is_paused: bool) {
        if std::mem::replace(&mut self.assigned(slot).is_paused, is_paused) != is_paused {
            self.hasten(slot);
        }
    }

    /// Tells whether `slot` has a reader of its own, or is read in turns with others.
    pub fn set_own_reader(&mut self, slot: Slot, has_own_reader: bool) {
        let partition = self.assigned(slot);
        let reader = if has_own_reader { Reader::Own } else { Reader::Shared };
        let was_own = std::mem::replace(&mut partition.reader, reader) == Reader::Own;
        // Another reader has not asked yet; and without one, nobody would say that an empty partition is awaited.
        partition.is_awaited = false;
        partition.buffer.release();
        self.own_readers += usize::from(has_own_reader);
        self.own_readers -= usize::from(was_own);
        self.hasten(slot);
    }

    /// The partition's own reader has found nothing since it took the last batch, and waits. While memory is short, only
    /// then is it given more.
    pub fn handle_awaited(&mut self, slot: Slot) {
        let partition = self.assigned(slot);
        partition.is_awaited = true;
        if partition.buffer.release() {
            self.hasten(slot);
        } else {
            self.recount(slot);
        }
    }

    /// The application took this much of `slot` out of its buffer: the [`amount_of`] each batch.
    pub fn handle_taken(&mut self, slot: Slot, epoch: Epoch, amount: Amount) {
        let watermarks = self.settings.partition_watermarks;
        let partition = self.assigned(slot);
        partition.is_awaited = false;
        if partition.epoch != epoch {
            return self.recount(slot);
        }
        if partition.buffer.take(amount, &watermarks) {
            self.hasten(slot);
        } else {
            self.recount(slot);
        }
    }

    /// The metadata has changed.
    pub fn handle_metadata(&mut self, snapshot: &Snapshot, now: Instant) {
        self.brokers = snapshot.brokers.keys().copied().collect();
        let mut leaders = BTreeSet::new();
        for index in 0..self.partitions.len() {
            let slot = Slot(index as u32);
            let partition = &mut self.partitions[index];
            if partition.state == State::Unassigned {
                continue;
            }
            let (leader, epoch, id) = match snapshot.partition(&partition.topic, partition.index) {
                Ok((topic, found)) => {
                    self.missing.remove(&slot);
                    (found.leader, found.leader_epoch, topic.id)
                }
                Err(_) => {
                    if let Some(failure) = missing(snapshot, partition) {
                        let is_topic_known = snapshot.topic(&partition.topic).is_ok();
                        let ask_at = is_topic_known.then_some(now);
                        self.missing.entry(slot).or_insert(Missing { since: now, failure, ask_at });
                    }
                    (None, partition.leader_epoch, partition.topic_id)
                }
            };
            leaders.extend(leader);
            let is_follower_gone =
                partition.follower.is_some_and(|follower| !self.brokers.contains(&follower));
            // A lower epoch may be the truth. `Snapshot::merge` has decided that, so any other epoch is news here.
            let is_known =
                (partition.leader, partition.leader_epoch, partition.topic_id) == (leader, epoch, id);
            if is_known && !is_follower_gone {
                continue;
            }
            let is_moved = partition.leader != leader;
            let is_remade = partition.topic_id.is_some() && id.is_some() && partition.topic_id != id;
            if let Some(id) = id {
                self.slots.set_id(&partition.topic, partition.topic_id, id);
            }
            partition.retry.hurry();
            self.relocate(slot, |partition| {
                partition.leader = leader;
                partition.leader_epoch = epoch;
                partition.topic_id = id;
                // The new leader decides which follower is near.
                if is_moved || is_follower_gone {
                    partition.follower = None;
                }
            });
            if is_remade {
                self.handle_remade(slot);
            }
            self.step_led(slot);
            self.hasten(slot);
        }
        self.drop_lanes(|broker| snapshot.brokers.contains_key(&broker) || leaders.contains(&broker));
    }

    /// Lets `change` decide anew from where `slot` is fetched.
    fn relocate(&mut self, slot: Slot, change: impl FnOnce(&mut Partition)) {
        let partition = self.at(slot);
        let (old, source) = (partition.lane(), partition.source());
        change(partition);
        if partition.source() != source {
            partition.lane = LONG;
        }
        // The session of where it was fetched before still has the partition, which its next fetch must forget.
        if let Some(lane) = old.and_then(|old| self.lanes.get_mut(&old)) {
            lane.session.touch(slot);
        }
        self.hasten(slot);
    }

    /// The topic of `slot` was deleted and made again: no offset of the old topic means anything in the new one.
    fn handle_remade(&mut self, slot: Slot) {
        // Nor does an answer about the old topic.
        self.forget_asked(slot);
        let partition = &mut self.partitions[slot.0 as usize];
        partition.batch_bytes = 0;
        partition.end = None;
        let why = partition.state.next().map(|next| {
            format!(
                "the topic was deleted and made again, and offset {next} was one of the topic that is gone"
            )
        });
        let failure = Failure::answer(ErrorCode::OFFSET_OUT_OF_RANGE, why.as_deref());
        self.stop_on(slot, Input::Remade(self.settings.reset), failure);
    }

    /// Answers about `slot` that are on their way do not count any more.
    fn forget_asked(&mut self, slot: Slot) {
        self.lookups.values_mut().for_each(|asked| asked.retain(|(asked, _)| *asked != slot));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        debug_assert!(now >= self.passed_at, "time does not go back");
        self.passed_at = now;
        while let Some(slot) = self.total.changed.pop() {
            let Partition { buffer, full_since, .. } = &mut self.partitions[slot.0 as usize];
            self.total.note(full_since, buffer.is_above_watermark(), now);
        }
        self.total.look(&self.settings.watermarks, now);
        let is_gone = |(_, missing): &(&Slot, &Missing)| missing.since + MISSING_MAX <= now;
        let gone: Vec<_> = self.missing.iter().filter(is_gone).map(|(slot, _)| *slot).collect();
        for slot in gone {
            if let Some(Missing { failure, .. }) = self.missing.remove(&slot) {
                self.stop(slot, failure);
            }
        }
        let backoff = self.settings.backoff.min.max(MISSING_ASK_MIN);
        for missing in self.missing.values_mut().filter(|missing| missing.ask_at.is_some_and(|at| at <= now))
        {
            missing.ask_at = Some(now + (now - missing.since).max(backoff));
            self.metadata_wanted = true;
        }
        while let Some((at, slot)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, slot));
            self.hasten(slot);
        }
        self.end_leases(now);
    }

    /// A lookup was answered, or failed.
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
            // It was sought, or its slot given to another partition, since it was asked about.
            if self.at(slot).epoch != epoch {
                continue;
            }
            let partition = self.at(slot);
            let found = answers.get(&(&*partition.topic, partition.index));
            let outcome = match (found, &failure) {
                (Some(found), _) => {
                    let place = (found.offset, LeaderEpoch::known(found.leader_epoch));
                    let refused = |code| Failure::answer(code, None).of(ApiKey::ListOffsets);
                    found
                        .error_code
                        .ok()
                        .map(|()| place)
                        .map_err(|code| refused(code).on(Resource::Topic, &partition.topic))
                }
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Err(unmentioned()),
            };
            self.resolve(slot, outcome, now);
        }
    }

    fn resolve(&mut self, slot: Slot, outcome: Result<(i64, Option<LeaderEpoch>), Failure>, now: Instant) {
        match outcome {
            Ok((offset, _)) if offset < 0 => {
                let is_beginning = self.at(slot).state == State::LookingUp { position: Position::Earliest };
                self.step(slot, Input::NotFound);
                if is_beginning {
                    // Every log has a beginning. A broker that tells none is not asked again as fast as it answers.
                    self.delay(slot, now);
                }
            }
            Ok((offset, read_in)) => {
                if let Tell::Positioned(offset) = self.step(slot, Input::Found(offset, read_in)) {
                    let partition = self.at(slot);
                    partition.retry.succeeded();
                    let epoch = partition.epoch;
                    self.events.push_back(Event::Positioned { slot, epoch, offset });
                    self.hasten(slot);
                }
            }
            Err(failure) => {
                self.step(slot, Input::Unanswered);
                self.handle_partition_failure(slot, failure, now);
            }
        }
    }

    /// A partition cannot be read now. It is tried again after a backoff, or it stops if that is in vain.
    fn handle_partition_failure(&mut self, slot: Slot, failure: Failure, now: Instant) {
        let backoff = self.settings.backoff;
        let partition = &mut self.partitions[slot.0 as usize];
        let at = partition.retry.failed_by(&failure, now, &backoff, &mut self.rng);
        self.delayed.insert((at, slot));
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

    /// Leaves `slot` alone for a backoff.
    pub(super) fn delay(&mut self, slot: Slot, now: Instant) {
        let retry = &mut self.partitions[slot.0 as usize].retry;
        let at = retry.failed(now, &self.settings.backoff, &mut self.rng);
        self.delayed.insert((at, slot));
    }

    /// A partition cannot be read, and the application must decide what to do.
    fn stop(&mut self, slot: Slot, failure: Failure) {
        self.stop_on(slot, Input::Failed, failure);
    }

    /// Moves `slot` to its next state. If that is to stop, the application is told `failure`.
    fn stop_on(&mut self, slot: Slot, input: Input, failure: Failure) {
        let (offset, epoch) = (self.at(slot).state.next(), self.at(slot).epoch);
        if self.step(slot, input) == Tell::Stopped {
            self.events.push_back(Event::Stopped { slot, epoch, offset, failure });
            self.touch(slot);
        }
    }

    /// Moves `slot` to its next state, and keeps `unresolved` in step.
    fn step(&mut self, slot: Slot, input: Input) -> Tell {
        let partition = &mut self.partitions[slot.0 as usize];
        let (state, tell) = state::next(partition.state, input);
        match (partition.state.is_unresolved(), state.is_unresolved()) {
            (false, true) => drop(self.unresolved.insert(slot)),
            (true, false) => drop(self.unresolved.remove(&slot)),
            (false, false) | (true, true) => {}
        }
        partition.state = state;
        tell
    }

    /// The next request for offsets: it asks one broker about all partitions that are due there. `unix_ms` is the time
    /// of day in milliseconds since 1970, which [`Position::Ago`] counts from.
    pub fn poll_lookup(&mut self, now: Instant, unix_ms: i64) -> Option<Lookup> {
        debug_assert!(now >= self.passed_at, "what time made possible would not be possible yet");
        let is_due = |state| matches!(state, State::Unresolved { .. });
        let broker = self.leader_to_ask(is_due, now)?;
        let mut topics: BTreeMap<Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
        let mut asked = Vec::new();
        for slot in &self.unresolved {
            let partition = &mut self.partitions[slot.0 as usize];
            let State::Unresolved { position } = partition.state else { continue };
            if partition.leader != Some(broker) || !partition.retry.is_ready(now) {
                continue;
            }
            // Not by `step`: it stays in `unresolved`, which this loop goes through.
            (partition.state, _) = state::next(partition.state, Input::Asked);
            topics.entry(Arc::clone(&partition.topic)).or_default().push(ListOffsetsPartition {
                partition_index: partition.index,
                current_leader_epoch: partition.leader_epoch.map_or(-1, |epoch| epoch.0),
                timestamp: timestamp_of(position, unix_ms),
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

    /// The leader of a partition whose state `is_due` accepts, and that may be asked about now.
    fn leader_to_ask(&self, is_due: impl Fn(State) -> bool, now: Instant) -> Option<BrokerId> {
        self.unresolved.iter().find_map(|slot| {
            let partition = &self.partitions[slot.0 as usize];
            partition.leader.filter(|_| is_due(partition.state) && partition.retry.is_ready(now))
        })
    }

    /// The next fetch to send, when there is memory for an answer of `room` bytes. Lanes take turns. However little
    /// room there is, a reader that has nothing is given [`ROOM_MIN`]: the batches that hold the memory may be those of
    /// paused partitions or of another consumer, which may never take them.
    pub fn poll_fetch(&mut self, now: Instant, room: usize) -> Option<Fetch> {
        debug_assert!(now >= self.passed_at, "what time made possible would not be possible yet");
        // What is buffered of all partitions limits fetches as free memory does.
        let room = if self.total.is_full() { 0 } else { room };
        let is_short = room < ROOM_MIN;
        if is_short {
            self.hold_back();
        }
        let own_bytes = is_short.then(|| self.own_bytes());
        if std::mem::replace(&mut self.is_short, is_short) != is_short {
            self.limit_own(own_bytes);
        }
        let Self { lanes, partitions, settings, last_lane, lists, .. } = self;
        let limits = Limits { settings, own_bytes };
        let mut ask = |(id, lane): (&LaneId, &mut Lane)| {
            let bytes_max = lane.room(room, now)?;
            let (sent, request, has_ids) = lane.session.request(*id, partitions, &limits, lists, now)?;
            Some((*id, sent, request, has_ids, bytes_max))
        };
        let last = last_lane.unwrap_or(LaneId { broker: BrokerId(i32::MIN), lane: 0 });
        let next = lanes.range_mut((Bound::Excluded(last), Bound::Unbounded)).find_map(&mut ask);
        let next = next.or_else(|| lanes.range_mut(..=last).find_map(&mut ask));
        if let Some((id, sent, request, has_ids, bytes_max)) = next {
            // A lane that always has something to fetch would leave no room to lanes after it.
            self.last_lane = Some(id);
            return Some(self.fetch(id, sent, request, has_ids, bytes_max, now));
        }
        let (id, sent, request, has_ids) = if is_short { self.ration(now) } else { None }?;
        Some(self.fetch(id, sent, request, has_ids, ROOM_MIN, now))
    }

    fn fetch(
        &mut self,
        id: LaneId,
        sent: Sent,
        mut request: FetchRequest,
        has_ids: bool,
        bytes_max: usize,
        now: Instant,
    ) -> Fetch {
        let number = self.number();
        let wait = self.wait(id);
        let settings = &self.settings;
        let lane = self.lanes.entry(id).or_default();
        let asked = lane.appetite.ask_at_most(bytes_max, settings.fetch_bytes_max);
        let bytes_expected = lane.appetite.expect(asked).min(bytes_max);
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        request.replica_id = -1;
        request.max_wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // While memory is short, less is asked for than the broker would wait for, and of readers of their own even less.
        let answered_max = match (self.is_short, self.own_readers > 0) {
            (true, true) => 1,
            (true, false) => asked,
            (false, _) => usize::MAX,
        };
        request.min_bytes = size(settings.fetch_bytes_min.min(answered_max));
        request.max_bytes = size(asked);
        request.isolation_level = i8::from(settings.read_committed);
        if self.distrusted.get(&id.broker).is_none_or(|until| *until <= now) {
            request.rack_id = settings.rack.clone();
        }
        let is_ration = request.session_epoch == FINAL;
        let opens_session = request.session_epoch == INITIAL;
        lane.in_flight = Some(InFlight { number, sent, is_ration, opens_session, asked, at: now });
        let latest = *<FetchRequest as milena_messages::Message>::VERSIONS.end();
        let version_max = if has_ids { latest } else { latest.min(FETCH_BY_NAME) };
        let deadline = now + settings.request_timeout + wait;
        Fetch { lane: id, number, request, version_max, bytes_expected, deadline }
    }

    /// Ends the fetch sessions that brokers keep (KIP-227), for a source that fetches nothing more: one request for each, until
    /// there is none. Otherwise a broker keeps a session until it needs the room, and has no room for new consumers before
    /// the session is two minutes old. The answers to these requests need not be handed back. While
    /// [`is_opening_sessions`](Self::is_opening_sessions), hand the answers to
    /// [`handle_fetched_at_end`](Self::handle_fetched_at_end), and poll this again.
    pub fn poll_session_close(&mut self, now: Instant) -> Option<Fetch> {
        let closing = |(id, lane): (&LaneId, &mut Lane)| Some((*id, lane.session.close()?));
        let (lane, request) = self.lanes.iter_mut().find_map(closing)?;
        let settings = &self.settings;
        let request = FetchRequest { replica_id: -1, ..request };
        let version_max = *<FetchRequest as milena_messages::Message>::VERSIONS.end();
        // The broker may hold the fetch before it for `fetch_wait`.
        let deadline = now + settings.request_timeout + settings.fetch_wait;
        Some(Fetch { lane, number: self.number(), request, version_max, bytes_expected: 0, deadline })
    }

    /// Whether a fetch in flight opens a session, whose id is in the answer.
    pub fn is_opening_sessions(&self) -> bool {
        self.lanes
            .values()
            .filter_map(|lane| lane.in_flight.as_ref())
            .any(|in_flight| in_flight.opens_session)
    }

    /// As [`handle_fetched`](Self::handle_fetched), after [`poll_session_close`](Self::poll_session_close): of the answer only
    /// the session that it opens counts.
    pub fn handle_fetched_at_end(&mut self, id: LaneId, number: u64, answer: Result<FetchResponse, Failure>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let in_flight = lane.in_flight.take_if(|in_flight| in_flight.number == number);
        if let (Some(InFlight { opens_session: true, .. }), Ok(response)) = (in_flight, answer) {
            lane.session.handle_opened(response.session_id);
        }
    }

    /// The memory of lists, to decode answers with.
    pub fn lists(&mut self) -> &mut Lists {
        &mut self.lists
    }

    /// Keeps the lists of a request that was sent.
    pub fn recycle_request(&mut self, request: FetchRequest) {
        session::recycle(request, &mut self.lists);
    }

    /// How many events there are for [`poll_event`](Self::poll_event).
    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    /// How many batches of `slot` the next events tell of before anything else.
    pub fn batches_ahead(&self, slot: Slot) -> usize {
        let is_of = |event: &&Event| matches!(event, Event::Batch { slot: of, .. } if *of == slot);
        self.events.iter().take_while(is_of).count()
    }

    /// What is buffered, and how often and for how long fetching has stopped for this reason.
    pub fn flow(&self) -> Flow {
        self.total.flow
    }

    /// The next thing to tell the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > EVENTS_KEPT {
            // An answer of thousands of small batches leaves room for thousands.
            self.events = VecDeque::new();
        }
        event
    }

    /// Something that has failed several times and is still being tried, for people to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether a failure makes the metadata look outdated. It is told once.
    pub fn poll_metadata_wanted(&mut self) -> bool {
        std::mem::take(&mut self.metadata_wanted)
    }

    /// New leaders that answers have named (KIP-951), to be merged into the metadata.
    pub fn poll_hints(&mut self) -> Vec<LeaderHint> {
        std::mem::take(&mut self.hints)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, and to poll: a backoff or a throttle ends.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.values().flat_map(|lane| [lane.retry.not_before(), lane.muted_until]);
        let lanes = lanes.flatten().filter(|at| *at > now);
        let missing = self.missing.values().map(|missing| {
            let end = missing.since + MISSING_MAX;
            missing.ask_at.map_or(end, |at| at.min(end))
        });
        let lease = self.leases.first().map(|(at, _)| *at);
        lanes.chain(self.delayed.first().map(|(at, _)| *at)).chain(missing).chain(lease).min()
    }

    fn at(&mut self, slot: Slot) -> &mut Partition {
        &mut self.partitions[slot.0 as usize]
    }

    /// The partition that an order of the application names.
    fn assigned(&mut self, slot: Slot) -> &mut Partition {
        let partition = self.at(slot);
        debug_assert!(
            partition.state != State::Unassigned,
            "{slot:?} was given back, and may be another partition's"
        );
        partition
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A partition that the brokers do not know.
#[derive(Debug)]
struct Missing {
    since: Instant,
    failure: Failure,
    /// When to want the metadata again, if its topic is known. A member of a group may be given a partition that was added
    /// after its metadata was asked for. None without the topic, which is asked for until it is there.
    ask_at: Option<Instant>,
}

/// Why the brokers do not know a partition. None while they were not asked about its topic, or may not have heard of it
/// yet.
fn missing(snapshot: &Snapshot, partition: &Partition) -> Option<Failure> {
    let Partition { topic, index, .. } = partition;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    match snapshot.topics.get(topic)? {
        Ok(found) if found.partitions.is_empty() => None,
        Ok(found) => {
            let count = found.partitions.len();
            let why = format!("the topic has {count} partitions, and no partition {index}");
            Some(Failure::answer(unknown, Some(&why)))
        }
        Err(code) if [unknown, ErrorCode::UNKNOWN_TOPIC_ID].contains(code) => {
            let seconds = MISSING_MAX.as_secs();
            let why = format!("the topic was deleted: no broker has known it for {seconds} s");
            Some(Failure::answer(unknown, Some(&why)))
        }
        Err(code) => (!code.is_retriable())
            .then(|| Failure::answer(*code, None).of(ApiKey::Fetch).on(Resource::Topic, topic)),
    }
}

fn unmentioned() -> Failure {
    Failure::NoRoute("the broker's answer does not mention the partition".into())
}

/// `Timestamp` of a ListOffsetsRequest: −1 is the end, −2 the beginning.
fn timestamp_of(position: Position, unix_ms: i64) -> i64 {
    match position {
        Position::Earliest => -2,
        Position::Latest | Position::BeforeEnd(_) | Position::Offset(_) | Position::OffsetInEpoch { .. } => {
            -1
        }
        Position::TimestampMs(at) => at,
        // No record is older than 1970, and negative numbers have other meanings.
        Position::Ago(time) => {
            unix_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).max(0)
        }
    }
}
