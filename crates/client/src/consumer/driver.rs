//! The consumer's task. It carries events between queues, machine and connections; the machine decides.
//!
//! ```text
//!  commands (assign, seek, pause, taken) ─┐                  ┌─▶ fetch, look up ─▶ Requests
//!  landed (answers) ──────────────────────┼─▶ core::Source ──┼─▶ batches, positions, stops ─▶ Queue ─▶ Ready
//!  metadata, time ────────────────────────┘                  └─▶ partitions that end early ─▶ Ends
//! ```
//!
//! One task per consumer, however many partitions were taken from it. It is woken by a command, by the memory of a
//! fetched batch that the application has dropped, by a request that has landed, by new metadata, and by the machine's
//! timer. At each turn it first gives the machine every input that is there, commands before answers, and then does
//! what the machine says. It wakes the task in [`Consumer::next`](crate::Consumer::next) or the reader of the one
//! partition that got something, the links, and the client's control task when metadata looks outdated. It ends when
//! the consumer and all partitions taken from it were dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use milena_core::metadata::Snapshot;
use milena_core::source::{
    Epoch, Event, Fetch, Flow, LaneId, Lookup, Position, ROOM_MIN, Slot, Source, Validation,
};
use milena_core::{Failure, Instant};
use milena_messages::fetch::FetchRequest;
use milena_messages::list_offsets::ListOffsetsRequest;
use milena_messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use tokio::sync::watch;

use super::commands::{Command, Commands, FinishedBefore};
use super::ends::{End, Ends};
use super::group::{Group, GroupTag};
use super::held::Memory;
use super::memory::Watch;
use super::queue::{Queue, Queued, Ready};
use super::shared::Shared;
use crate::brokers::address_of;
use crate::budget::Reservation;
use crate::connection::{Answer, Reused, Typed};
use crate::coordinator::Coordinator;
use crate::report::report;
use crate::requests::{Landed, RequestKind, Requests, Role};
use crate::{Client, Error};

/// The kinds of requests that a consumer sends.
pub(super) enum Tag {
    Fetch(Fetching),
    LookUp(LookingUp),
    Validate(Validating),
    Group(GroupTag),
}

/// A fetch, and the memory for its answer. The machine knows it by its lane and number.
pub(super) struct Fetching {
    lane: LaneId,
    number: u64,
    reservation: Reservation,
}

/// A look-up of offsets, which the machine knows by this number.
pub(super) struct LookingUp {
    number: u64,
}

/// A validation of positions, which the machine knows by this number.
pub(super) struct Validating {
    number: u64,
}

impl RequestKind for Fetching {
    type Request = FetchRequest;

    fn answer_bytes_expected(&self) -> usize {
        self.reservation.bytes()
    }
}

impl RequestKind for LookingUp {
    type Request = ListOffsetsRequest;
}

impl RequestKind for Validating {
    type Request = OffsetForLeaderEpochRequest;
}

impl From<Fetching> for Tag {
    fn from(fetching: Fetching) -> Self {
        Self::Fetch(fetching)
    }
}

impl From<LookingUp> for Tag {
    fn from(looking_up: LookingUp) -> Self {
        Self::LookUp(looking_up)
    }
}

impl From<Validating> for Tag {
    fn from(validating: Validating) -> Self {
        Self::Validate(validating)
    }
}

/// Looking for batches to copy takes some nanoseconds for each partition, and one that no reader has taken for this long
/// stays.
const COMPACTION_INTERVAL: Duration = Duration::from_millis(200);
/// Copying more at a time would hold up answers and heartbeats for more than a millisecond.
const COMPACTED_BYTES_MAX: usize = 2 << 20;

pub(super) struct Driver {
    client: Client,
    source: Source,
    pub(super) commands: Arc<Commands>,
    pub(super) ready: Arc<Ready>,
    /// Gone when the consumer and all partitions taken from it were dropped.
    pub(super) shared: Weak<Shared>,
    /// By slot.
    queues: Vec<Option<Arc<Queue>>>,
    pub(super) requests: Requests<Tag>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Whether partitions were assigned whose leaders the machine does not know yet.
    is_unrouted: bool,
    ends: Ends,
    /// As it was told last.
    flow: Flow,
    watch: Watch,
    /// When batches may be copied out of responses again.
    compacts_at: Instant,
    /// None for a consumer that reads by position, and while the group has its turn.
    group: Option<Box<Group>>,
}

impl Drop for Driver {
    /// The runtime may end while tasks on other runtimes wait for batches.
    fn drop(&mut self) {
        self.end_queues();
    }
}

impl Driver {
    pub(super) fn new(
        client: Client,
        source: Source,
        commands: Arc<Commands>,
        ready: Arc<Ready>,
        shared: Weak<Shared>,
        group: Option<Box<Group>>,
        watch: Watch,
    ) -> Self {
        Self {
            requests: Requests::new(&client),
            snapshot: client.watch_snapshot(),
            watch,
            compacts_at: Instant::ORIGIN,
            client,
            source,
            commands,
            ready,
            shared,
            queues: Vec::new(),
            is_unrouted: false,
            ends: Ends::new(),
            flow: Flow::default(),
            group,
        }
    }

    /// Runs until the consumer and all partitions taken from it were dropped, or until a member has closed.
    pub(super) async fn run(mut self) {
        let landed = self.take_turns().await;
        self.end_queues();
        self.group = None;
        self.end_sessions(landed).await;
    }

    /// Wakes all readers, those of partitions that were assigned only now included. They fail.
    fn end_queues(&mut self) {
        // First, so that a call which leaves a command after they were taken sees it and does not wait for an answer.
        self.ready.note_over();
        let mut commands = Vec::new();
        self.commands.take(&mut commands);
        self.queues.extend(commands.into_iter().filter_map(|command| match command {
            Command::Assign { queue, .. } => Some(Some(queue)),
            _ => None,
        }));
        self.ready.end(self.queues.drain(..).flatten().collect::<Vec<_>>().iter());
        self.watch.end(self.now());
    }

    /// Ends the fetch sessions at the brokers, when the application waits for nothing any more. The requests go to the links,
    /// which write them and end. Their answers are not waited for, only those that open a session, which come by the
    /// deadlines of their requests. `landed` is one that was there when the last turn ended: it does not come again.
    async fn end_sessions(&mut self, mut landed: Option<Landed<Tag>>) {
        loop {
            let now = self.now();
            while let Some(last) = self.source.poll_session_close(now) {
                self.fetch(last);
            }
            if !self.source.is_opening_sessions() {
                return;
            }
            let Landed { tag, outcome, .. } = match landed.take() {
                Some(landed) => landed,
                None => self.requests.landed().await,
            };
            if let Tag::Fetch(fetching) = tag {
                let answer = fetching.response(outcome);
                self.source.handle_fetched_at_end(fetching.lane, fetching.number, answer);
            }
        }
    }

    /// Works until the consumer is gone. Answers with what had landed by then and was not looked at.
    async fn take_turns(&mut self) -> Option<Landed<Tag>> {
        let arrived = Arc::clone(&self.commands.arrived);
        let mut commands = Vec::new();
        loop {
            let watch_at = self.watch.poll_timeout();
            let of_group = self.group.as_ref().and_then(|group| group.poll_timeout());
            let of_source = self.source.poll_timeout(self.now());
            let wake = [of_source, of_group].into_iter().flatten().fold(watch_at, Instant::min);
            let mut landed = None;
            tokio::select! {
                // Whichever wakes the task, every input that is there is taken in below. Only the answers about ends
                // are taken here alone, so they come first; they are rare.
                biased;
                Some(ends) = self.ends.answered() => self.handle_ends(&ends),
                Some(found) = found_coordinator(&mut self.group) => self.handle_coordinator(found),
                first = self.requests.landed() => landed = Some(first),
                () = arrived.notified() => {}
                Ok(()) = self.snapshot.changed() => self.handle_metadata(),
                () = self.client.0.clock.sleep_until(Some(wake)) => {}
            }
            if self.snapshot.has_changed().unwrap_or(false) {
                self.handle_metadata();
            }
            // Commands before answers: batches of a partition that was sought or unassigned are dropped then, not
            // queued.
            self.commands.take(&mut commands);
            for command in commands.drain(..) {
                if self.handle_command(command) {
                    return landed;
                }
            }
            while let Some(next) = landed.take().or_else(|| self.requests.try_landed()) {
                self.handle_landed(next);
            }
            if self.act() {
                return None;
            }
        }
    }

    fn handle_coordinator(&mut self, found: Result<Coordinator, Failure>) {
        let now = self.now();
        if let Some(group) = &mut self.group {
            group.handle_coordinator(found, now);
        }
    }

    fn now(&self) -> Instant {
        self.client.0.clock.now()
    }

    /// Answers whether the consumer is gone.
    fn handle_command(&mut self, command: Command) -> bool {
        match command {
            Command::Released => {
                let now = self.now();
                let Some(group) = &mut self.group else { return true };
                group.handle_dropped(now);
            }
            Command::Assign { queue, epoch, position } => match (&mut self.group, position) {
                (Some(group), _) => group.handle_assign(queue, epoch, position),
                (None, Some(position)) => self.assign(&queue, epoch, position),
                (None, None) => {}
            },
            Command::Seek { queue, epoch, position, before } => {
                self.seek(&queue, epoch, position, &before);
            }
            Command::Halt { queue, epoch } => {
                self.with_slot(&queue, |source, slot| source.halt(slot, epoch));
            }
            Command::Unassign { queue, epoch } => {
                self.unassign(&queue, epoch);
                let now = self.now();
                if let Some(group) = &mut self.group {
                    group.handle_unassign(&queue, now);
                }
            }
            Command::Parked { queue } => {
                queue.gate.heard();
                self.look_at_gate(&queue);
            }
            Command::Resumed { queue } => self.look_at_gate(&queue),
            Command::Own { queue } => {
                self.with_slot(&queue, |source, slot| source.set_own_reader(slot, queue.is_taken()));
            }
            Command::Awaited { queue } => {
                self.with_slot(&queue, Source::handle_awaited);
            }
            Command::Taken { queue, epoch, amount } => {
                self.with_slot(&queue, |source, slot| source.handle_taken(slot, epoch, amount));
                if let Some(group) = &mut self.group {
                    group.note_progress(&queue);
                }
            }
            Command::Group(command) => {
                let now = self.now();
                if let Some(group) = &mut self.group {
                    group.handle_command(command, now);
                }
            }
        }
        false
    }

    fn assign(&mut self, queue: &Arc<Queue>, epoch: Epoch, position: Position) {
        let slot = self.source.assign(&queue.topic, queue.partition, epoch, position);
        queue.set_slot(slot);
        let index = slot.0 as usize;
        if self.queues.len() <= index {
            self.queues.resize(index + 1, None);
        }
        self.queues[index] = Some(Arc::clone(queue));
        self.is_unrouted = true;
        self.look_at_gate(queue);
    }

    /// Leaves the partition out of fetches while it is paused.
    fn look_at_gate(&mut self, queue: &Arc<Queue>) {
        // Only for the partition's present assignment: `hold` would set the bit of a later one.
        self.with_slot(queue, |source, slot| source.set_paused(slot, queue.gate.hold()));
    }

    /// As [`look_at_gate`](Self::look_at_gate), for a partition of which something has arrived.
    fn hold_if_paused(&mut self, slot: Slot) {
        if let Some(queue) = self.queue(slot)
            && queue.gate.hold()
        {
            self.source.set_paused(slot, true);
        }
    }

    fn seek(&mut self, queue: &Arc<Queue>, epoch: Epoch, position: Position, before: &FinishedBefore) {
        let now = self.now();
        if let Some(group) = &mut self.group {
            if !group.handle_seek(queue, epoch, position, before, now) {
                return;
            }
            if queue.slot().is_none() {
                // The group could not say where to begin, and the application does.
                return self.begin(queue, epoch, position);
            }
        }
        self.with_slot(queue, |source, slot| source.seek(slot, epoch, position));
        self.look_at_gate(queue);
    }

    /// Reads a partition that the group has assigned.
    pub(super) fn begin(&mut self, queue: &Arc<Queue>, epoch: Epoch, position: Position) {
        self.assign(queue, epoch, position);
        self.with_slot(queue, |source, slot| source.set_own_reader(slot, queue.is_taken()));
        if let (Some(offset), Some(slot)) = (position.offset(), queue.slot()) {
            self.with_queue(slot, epoch, |inner| inner.pass(offset));
        }
    }

    /// What was fetched of a partition is not handed out, because of `error`. It stays at its position until it is sought.
    pub(super) fn refuse(&mut self, queue: &Arc<Queue>, error: Error) {
        let Some(shared) = self.shared.upgrade() else { return };
        let (epoch, position) = {
            let inner = queue.inner();
            (inner.epoch, inner.position)
        };
        let Some(epoch) = position.and_then(|offset| queue.stop(&shared.epochs, epoch, offset, &error))
        else {
            return;
        };
        self.with_slot(queue, |source, slot| source.halt(slot, epoch));
        self.stop(queue, epoch, error);
    }

    /// A partition that the group has assigned cannot be read.
    pub(super) fn stop(&self, queue: &Arc<Queue>, epoch: Epoch, error: Error) {
        let mut inner = queue.inner();
        if inner.epoch == epoch {
            inner.stop(error, false);
            drop(inner);
            self.ready.list(queue);
        }
    }

    /// Hands out the batches of a partition up to `offset`.
    pub(super) fn open(&self, queue: &Arc<Queue>, offset: i64) {
        queue.set_open_until(offset);
        self.ready.list(queue);
    }

    pub(super) fn unassign(&mut self, queue: &Arc<Queue>, epoch: Epoch) {
        self.with_slot(queue, |source, slot| source.unassign(slot, epoch));
        self.forget(queue);
    }

    /// Empties the partition's slot, unless another partition has it already.
    fn forget(&mut self, queue: &Arc<Queue>) {
        let place = queue.slot().and_then(|slot| self.queues.get_mut(slot.0 as usize));
        if let Some(place) =
            place.filter(|known| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, queue)))
        {
            *place = None;
        }
    }

    /// Changes what the machine does with the partition, unless it is not assigned any more: another partition may
    /// have its slot then.
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
        if let Some(group) = &mut self.group {
            group.handle_metadata(&snapshot, now);
        }
        let coordinator = self.group.as_ref().and_then(|group| group.coordinator_address());
        self.requests.retain_links(&snapshot, coordinator);
    }

    fn handle_landed(&mut self, landed: Landed<Tag>) {
        let Landed { tag, outcome, rest, .. } = landed;
        if let Some(spent) = self.requests.spent::<Reused<FetchRequest>>(rest) {
            self.source.recycle_request(spent.typed.request);
        }
        match tag {
            Tag::Fetch(fetching) => self.handle_fetched(fetching, outcome),
            Tag::LookUp(looking_up) => {
                let now = self.now();
                self.source.handle_lookup(looking_up.number, looking_up.response(outcome), now);
            }
            Tag::Validate(validating) => {
                let now = self.now();
                self.source.handle_validation(validating.number, validating.response(outcome), now);
            }
            Tag::Group(tag) => {
                let now = self.now();
                if let Some(group) = &mut self.group {
                    group.handle_landed(tag, outcome, now);
                }
            }
        }
    }

    fn handle_fetched(&mut self, fetching: Fetching, outcome: Result<Answer, Failure>) {
        let now = self.now();
        let (bytes, began) = outcome.as_ref().map_or((0, now), |answer| (answer.memory_bytes, answer.began));
        let course = outcome.as_ref().ok().map(|answer| answer.course);
        let answer = fetching.response_into(outcome, self.source.lists());
        let Fetching { lane, number, mut reservation } = fetching;
        self.source.handle_fetched(lane, number, answer, began, self.ready.idle_since(), now);
        let has_batches = self.source.event_count() > 0;
        if let (Some(metrics), Some(course), true) = (&self.client.0.metrics, course, has_batches) {
            metrics.consuming.note_fetched(&course, began, bytes);
        }
        // The reservation was for what was expected. Now it is for what the answer takes, until its last batch is
        // dropped.
        reservation.resize(bytes + self.source.event_count() * Queued::PLACE_BYTES);
        let frame = Arc::new(Memory::new(reservation, &self.commands.arrived).since(now));
        self.deliver(Some(&frame));
    }

    /// Puts what the machine has for the application into the partitions' queues. Batches are parts of `frame`.
    fn deliver(&mut self, frame: Option<&Arc<Memory>>) {
        let now = self.now();
        while let Some(event) = self.source.poll_event() {
            match event {
                Event::Batch { slot, epoch, batch, from, high_watermark } => {
                    let Some(frame) = frame else { continue };
                    // Before the batch is listed, which would make a command of it.
                    self.hold_if_paused(slot);
                    let mut queued = Queued::new(batch, from, high_watermark, frame);
                    let fetched = &queued.fetched;
                    // The group is told first: once the batch is in its queue, it may be marked as done.
                    let finished = self
                        .with_group(slot, |group, queue| group.handle_delivered(queue, epoch, fetched, now));
                    queued.fetched.finished = finished.flatten();
                    let ahead = || self.source.batches_ahead(slot);
                    self.with_queue(slot, epoch, |inner| inner.push(queued, ahead));
                }
                Event::Passed { slot, epoch, offset } => {
                    self.with_group(slot, |group, queue| group.handle_passed(queue, epoch, offset, now));
                    self.with_queue(slot, epoch, |inner| inner.pass(offset));
                }
                Event::Positioned { slot, epoch, offset } => {
                    self.with_group(slot, |group, queue| group.handle_positioned(queue, epoch, offset, now));
                    self.with_queue(slot, epoch, |inner| inner.pass(offset));
                }
                Event::AtEnd { slot, epoch, offset } => self.handle_end(slot, epoch, offset),
                Event::Truncated { slot, epoch, offset, position, leader_epoch } => {
                    let Some(queue) = self.queue(slot).cloned() else { continue };
                    tracing::warn!(
                        target: "milena",
                        "an unclean election has cut off partition {} of topic {:?}: it was read up to offset \
                         {position}, in leader epoch {leader_epoch}, and the log differs from offset {offset} on; \
                         reading goes on there",
                        queue.partition,
                        queue.topic,
                    );
                    self.handle_truncated(slot, epoch, &queue, offset);
                }
                Event::Stopped { slot, epoch, offset, failure } => {
                    let Some(queue) = self.queue(slot) else { continue };
                    let at = offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
                    let doing =
                        format!("reading partition {} of topic {:?}{at}", queue.partition, queue.topic);
                    let failure = self.client.named(failure);
                    let error = Error::with_maybe_written(doing, failure, false);
                    self.with_queue(slot, epoch, |inner| inner.stop(error, false));
                }
            }
        }
    }

    /// The log differs from what was fetched from `offset` on: as after a seek, what was fetched is dropped, and reading
    /// goes on at the position, or at `offset` if the application has read further.
    fn handle_truncated(&mut self, slot: Slot, epoch: Epoch, queue: &Queue, offset: i64) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some((epoch, offset)) = shared.truncate(queue, epoch, offset) {
            self.source.seek(slot, epoch, Position::Offset(offset));
            let now = self.now();
            self.with_group(slot, |group, queue| group.handle_truncated(queue, epoch, offset, now));
        }
    }

    /// Everything of the partition up to its end at `offset` was read. If it was to be read further, it may have been
    /// made again or have lost its last records, so that the broker is asked where it ends.
    fn handle_end(&mut self, slot: Slot, epoch: Epoch, offset: i64) {
        // A partition that was sought to an offset after the one up to which it is read has waited for the broker to
        // say that the offset exists. It does, so that nothing is left to read.
        self.with_queue(slot, epoch, |inner| inner.note_end(offset));
        let Some(queue) = self.queue(slot).cloned() else { return };
        if queue.inner().epoch == epoch && queue.until().is_some_and(|until| offset < until) {
            self.ends.doubt(slot, queue);
        }
    }

    /// These partitions end before the offset up to which they were to be read: they are read up to their ends.
    fn handle_ends(&self, ends: &[End]) {
        let Some(shared) = self.shared.upgrade() else { return };
        for End { queue, until, offset } in ends {
            queue.lower_until(*until, *offset);
            shared.finish_if_read(queue);
        }
    }

    fn queue(&self, slot: Slot) -> Option<&Arc<Queue>> {
        self.queues.get(slot.0 as usize)?.as_ref()
    }

    /// Tells the group of its partition in `slot`, if there is a group. Answers with what it says.
    fn with_group<T>(&mut self, slot: Slot, tell: impl FnOnce(&mut Group, &Queue) -> T) -> Option<T> {
        let queue = self.queues.get(slot.0 as usize).and_then(Option::as_ref);
        Some(tell(self.group.as_mut()?, queue?))
    }

    /// Changes a partition's queue, unless the partition was sought since `epoch`, and wakes its reader if there is
    /// something for it.
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

    /// Does what the machines say, until they say nothing more. Answers whether a member has closed.
    fn act(&mut self) -> bool {
        let now = self.now();
        // The group first, because it assigns and takes back what the fetch machine reads.
        if let Some(mut group) = self.group.take() {
            let is_closed = group.act(self, now);
            self.group = Some(group);
            if is_closed {
                return true;
            }
        }
        // Once for all partitions that were assigned in this turn, because a look-up of leaders goes through every
        // partition.
        if std::mem::take(&mut self.is_unrouted) {
            let snapshot = self.client.snapshot();
            self.source.handle_metadata(&snapshot, now);
        }
        self.source.handle_timeout(now);
        if let Some(shared) = self.shared.upgrade() {
            self.watch.handle_timeout(now, &shared);
        }
        self.deliver(None);
        self.ends.ask(|| self.shared.upgrade().map(|shared| shared.asking()));
        while let Some(lookup) = self.source.poll_lookup(now, self.client.0.clock.unix_ms()) {
            self.look_up(lookup);
        }
        while let Some(validation) = self.source.poll_validation(now) {
            self.validate(validation);
        }
        self.compact(now);
        loop {
            let room = self.room();
            let Some(fetch) = self.source.poll_fetch(now, room) else { break };
            self.fetch(fetch);
        }
        let flow = self.source.flow();
        if std::mem::replace(&mut self.flow, flow) != flow
            && let Some(shared) = self.shared.upgrade()
        {
            shared.set_flow(flow);
        }
        if self.source.poll_metadata_wanted() {
            self.client.metadata_is_outdated();
        }
        while let Some(notice) = self.source.poll_notice() {
            report(&notice);
        }
        self.client.learn_leaders(self.source.poll_hints());
        false
    }

    /// How many bytes one more fetch may bring: of a share of the budget, as much as is free.
    fn room(&self) -> usize {
        self.share().min(self.client.0.fetch_budget.available())
    }

    /// The budget is shared evenly by the brokers and the batches that wait to be read.
    fn share(&self) -> usize {
        let brokers = self.snapshot.borrow().brokers.len();
        (self.client.0.fetch_budget.bytes_max() / (brokers + 1)).max(ROOM_MIN)
    }

    /// While less than a share of the budget is free: leaves paused partitions out of fetches, of which the driver is not told
    /// otherwise until something of them arrives; each of them would bring a whole batch more. And copies batches that stay in
    /// their queues, as those of paused partitions do, out of responses of which most was taken. Otherwise a small batch holds as
    /// much of the budget as the whole response, and other partitions are fetched in small pieces for as long as it stays.
    fn compact(&mut self, now: Instant) {
        if now < self.compacts_at || self.client.0.fetch_budget.available() >= self.share() {
            return;
        }
        self.compacts_at = now + COMPACTION_INTERVAL;
        for slot in 0..self.queues.len() {
            self.hold_if_paused(Slot(slot as u32));
        }
        let reserve = |bytes, arrived| {
            let reservation = self.client.0.fetch_budget.reserve_beyond(bytes);
            Arc::new(Memory::new(reservation, &self.commands.arrived).since(arrived))
        };
        let mut copied = Vec::new();
        let mut left = COMPACTED_BYTES_MAX;
        for queue in self.queues.iter().flatten() {
            let of_queue = queue.inner().compact(left, reserve);
            left = left.saturating_sub(of_queue.iter().map(|queued| queued.claim.bytes()).sum());
            copied.extend(of_queue);
            if left == 0 {
                break;
            }
        }
        if !copied.is_empty() {
            // Outside the queues' locks, because freeing memory wakes tasks.
            drop(copied);
            // Otherwise the pool would keep the responses' buffers for some seconds beside the copies. The first call only notes
            // which buffers are idle.
            (0..2).for_each(|_| self.client.0.pool.trim());
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let Fetch { lane, number, request, version_max, bytes_expected, deadline } = fetch;
        // The machine asks for no more than is free, or for ROOM_MIN if less is: otherwise a reader without records
        // would wait for memory that is held for other readers. So this may exceed the budget.
        let reservation = self.client.0.fetch_budget.reserve_beyond(bytes_expected);
        let fetching = Fetching { lane, number, reservation };
        let to = address_of(&self.client.snapshot(), lane.broker);
        let request = Reused { typed: Typed { request, version_max }, empty: |_| () };
        self.requests.send(Role::Fetch(lane.lane), to, request, deadline, fetching);
    }

    fn look_up(&mut self, lookup: Lookup) {
        let Lookup { broker, number, request, deadline } = lookup;
        let to = address_of(&self.client.snapshot(), broker);
        let request = Typed { request, version_max: i16::MAX };
        self.requests.send(Role::LookUp, to, request, deadline, LookingUp { number });
    }

    fn validate(&mut self, validation: Validation) {
        let Validation { broker, number, request, deadline } = validation;
        let to = address_of(&self.client.snapshot(), broker);
        let request = Typed { request, version_max: i16::MAX };
        self.requests.send(Role::LookUp, to, request, deadline, Validating { number });
    }
}

/// The answer to a group's look-up of its coordinator; none when nothing is asked.
///
/// # Cancel safety
/// Dropped, nothing was answered.
async fn found_coordinator(group: &mut Option<Box<Group>>) -> Option<Result<Coordinator, Failure>> {
    group.as_mut()?.found_coordinator().await
}
