//! A member of a group, as the consumer's driver runs it; or a consumer that reads the partitions it is given and commits to a
//! group without being its member, which has no [`Membership`].
//!
//! ```text
//!  join, sync, heartbeat, leave ◀─ Membership ─ assign ─▶ Starting (hook, committed offset) ─▶ Source, Commits
//!                                            ├─ revoke ─▶ Barrier (batches put down, hook, commit) ─▶ given up
//!                                            └─ lost ───▶ given up at once
//!  marks of the application ─▶ Commits ─ commit, fetch offsets ─▶ coordinator
//! ```
//!
//! The machines decide; this carries out what they say, in the same turn as the driver serves the fetch machine: revoking,
//! assigning and fetching are one step. It must not know what an error code means.

mod committing;
mod measuring;
mod rebalancing;
mod telling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::commits::{
    Commits, Kind as CommitKind, NotCommitted, Request as CommitRequest, Settings as CommitSettings,
    StoredOffset, Ticket,
};
use milena_core::group::ledger;
use milena_core::group::{
    Ask, Event, Goodbye, MemberIdentity, Membership, Protocol, Request, Response, Settings as MemberSettings,
    Subscription, TopicPartition, Wanted, leave_by_id,
};
use milena_core::metadata::{Coordinated, Snapshot};
use milena_core::source::{Epoch, Position};
use milena_core::{BrokerId, Failure, Instant, LeaderEpoch};
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::leave_group::LeaveGroupRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::offset_commit::OffsetCommitRequest;
use milena_messages::offset_fetch::OffsetFetchRequest;
use milena_messages::sync_group::SyncGroupRequest;
use milena_wire::Uuid;

use self::rebalancing::Rebalancing;
use super::commands::{FinishedBefore, GroupCommand, Reply, Stored, Subscribed};
use super::driver::{Driver, Tag};
use super::handle::ConsumerHandle;
use super::hooks::{Hooks, Occasion, Partitions, Run};
use super::naming::Naming;
use super::queue::{Epochs, Fetched, Mark, Queue};
use super::shared::Shared;
use super::standing::Standing;
use crate::brokers::address_of;
use crate::connection::{Answer, ByVersion, Typed};
use crate::coordinator::Coordinator;
use crate::interest::Interest;
use crate::report::report;
use crate::requests::{RequestKind, Role};
use crate::runtime::Together;
use crate::telemetry::Enrolled;
use crate::trace::Committing;
use crate::{Address, Client, Error};

/// A member's request, which its machine knows by this number.
pub(super) struct Asking<R> {
    number: u64,
    request: PhantomData<fn() -> R>,
}

impl<R> Asking<R> {
    fn new(number: u64) -> Self {
        Self { number, request: PhantomData }
    }
}

impl<R: milena_messages::Request + Send + Sync + 'static> RequestKind for Asking<R> {
    type Request = R;
}

/// The kinds of requests that a member sends.
pub(super) enum GroupTag {
    Join(Asking<JoinGroupRequest>),
    Sync(Asking<SyncGroupRequest>),
    Heartbeat(Asking<HeartbeatRequest>),
    Leave(Asking<LeaveGroupRequest>),
    Consumer(Asking<ConsumerGroupHeartbeatRequest>),
    Commit(Asking<OffsetCommitRequest>),
    Lookup(Asking<OffsetFetchRequest>),
    Name(Asking<MetadataRequest>),
}

macro_rules! tags {
    ($($variant:ident: $request:ty,)+) => {
        $(impl From<Asking<$request>> for Tag {
            fn from(asking: Asking<$request>) -> Self {
                Self::Group(GroupTag::$variant(asking))
            }
        })+
    };
}

tags! {
    Join: JoinGroupRequest,
    Sync: SyncGroupRequest,
    Heartbeat: HeartbeatRequest,
    Leave: LeaveGroupRequest,
    Consumer: ConsumerGroupHeartbeatRequest,
    Commit: OffsetCommitRequest,
    Lookup: OffsetFetchRequest,
    Name: MetadataRequest,
}

/// The driver's part of a member.
pub(super) struct Group {
    id: Arc<str>,
    client: Client,
    standing: Arc<Standing>,
    epochs: Arc<Epochs>,
    handle: ConsumerHandle,
    hooks: Hooks,
    /// None outside of the group: the application assigns.
    membership: Option<Membership>,
    commits: Commits,
    /// The commit that is under way, if the client has hooks.
    committing: Option<Committing>,
    commit_settings: CommitSettings,
    /// Where to begin in a partition of which the group has committed nothing. None: it cannot be read until it is sought.
    reset: Option<Position>,
    coordinator: Option<Coordinator>,
    /// One look-up at most. It answers both machines.
    looking_up: Together<'static, Result<Coordinator, Failure>>,
    membership_waits: bool,
    /// What metrics say of the consumer, if they are pushed.
    enrolled: Option<Arc<Enrolled>>,
    /// What the commits were told last that the coordinator knows this member as.
    identity: Option<MemberIdentity>,
    /// The partitions that are assigned.
    owned: BTreeMap<TopicPartition, Arc<Queue>>,
    /// Partitions that the application has assigned, and that are being given up from before.
    assigning: Vec<Assigning>,
    /// Those of `owned` that are not read yet.
    starting: BTreeMap<TopicPartition, Starting>,
    /// Those of `owned` that were sought to a position whose offset is being looked up.
    seeking: BTreeSet<TopicPartition>,
    /// Partitions that are being given up, in the order in which the membership is told of their release.
    barriers: VecDeque<Barrier>,
    calls: BTreeMap<Ticket, Reply<()>>,
    questions: Vec<Question>,
    subscribed: Subscribed,
    naming: Naming,
    /// What other members of the group subscribe to.
    wanted: BTreeSet<Arc<str>>,
    interests: BTreeMap<Arc<str>, Interest>,
    closing: Option<Closing>,
    is_protocol_told: bool,
    has_progressed: bool,
    /// When what is marked is taken in, after the first mark.
    drain_at: Option<Instant>,
    marks: Vec<Mark>,
    /// With commits before delivery: partitions whose next batch waits for its commit, or may have to.
    gated: BTreeSet<TopicPartition>,
    /// The one that was committed last.
    last_gated: TopicPartition,
    /// Partitions with restored offsets of which it is not known yet whether the log has them.
    unchecked: BTreeSet<TopicPartition>,
    /// Partitions of which no batch is handed out, because too many runs of finished records wait for one that is not.
    full: BTreeSet<TopicPartition>,
    rebalancing: Rebalancing,
}

/// A partition that the application has assigned.
struct Assigning {
    queue: Arc<Queue>,
    epoch: Epoch,
    /// None: what the group has committed.
    position: Option<Position>,
}

/// A partition that was assigned and is not read yet.
struct Starting {
    queue: Arc<Queue>,
    epoch: Epoch,
    hook: Option<Run>,
    /// Where the application wants to begin.
    sought: Option<Position>,
    /// What the group has committed, once that is known.
    found: Option<Result<Option<StoredOffset>, Failure>>,
}

/// Partitions that the application finishes before they are given up.
struct Barrier {
    partitions: BTreeSet<TopicPartition>,
    hook: Option<Run>,
    /// When waiting for the application ends, so that there is time for the commit.
    finish_by: Instant,
    deadline: Instant,
    state: Releasing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Releasing {
    /// The application has batches of them in its hands, or its hook runs.
    Finishing,
    /// What is done is being committed.
    Committing(Ticket),
    Finished,
}

/// A call that asks what is committed.
struct Question {
    missing: BTreeSet<TopicPartition>,
    found: Stored,
    deadline: Instant,
    reply: Reply<Stored>,
}

/// The consumer is being closed.
struct Closing {
    deadline: Instant,
    /// Whether it was dropped: nothing can be marked as done any more, so that no batch is waited for.
    is_dropped: bool,
    calls: Vec<Reply<()>>,
    /// What partitions that were given up have left uncommitted.
    failure: Option<NotCommitted>,
}

/// What a member is made of.
pub(super) struct Setup {
    /// None for a consumer that is no member.
    pub(super) membership: Option<MemberSettings>,
    pub(super) commits: CommitSettings,
    pub(super) reset: Option<Position>,
    pub(super) hooks: Hooks,
    pub(super) subscribed: Subscribed,
}

impl Setup {
    pub(super) fn standing(&self) -> Standing {
        let is_member = self.membership.is_some();
        let commits = &self.commits;
        let is_automatic = commits.interval.is_some() || commits.is_before_delivery;
        let group = Arc::clone(&commits.group);
        Standing::new(group, commits.is_before_delivery, is_member, self.reset, is_automatic)
    }
}

/// How long a consumer that was dropped may take to commit what is done and to leave its group.
const DROPPED_FOR: Duration = Duration::from_secs(5);
/// Of the time in which partitions are to be given up, this much at most is kept for the commit.
const COMMIT_FOR: Duration = Duration::from_secs(5);

impl Group {
    pub(super) fn new(client: &Client, shared: &Arc<Shared>, standing: Arc<Standing>, setup: Setup) -> Self {
        let Setup { membership, commits: commit_settings, reset, hooks, subscribed } = setup;
        let mut group = Self {
            id: Arc::clone(&commit_settings.group),
            client: client.clone(),
            standing,
            epochs: Arc::clone(&shared.epochs),
            handle: ConsumerHandle::new(shared),
            hooks,
            membership: membership.map(|settings| Membership::new(settings, client.rng())),
            commits: Commits::new(commit_settings.clone(), client.rng()),
            committing: None,
            commit_settings,
            reset,
            coordinator: None,
            looking_up: Together::new(),
            membership_waits: false,
            enrolled: shared.enrolled.clone(),
            identity: None,
            owned: BTreeMap::new(),
            assigning: Vec::new(),
            starting: BTreeMap::new(),
            seeking: BTreeSet::new(),
            barriers: VecDeque::new(),
            calls: BTreeMap::new(),
            questions: Vec::new(),
            subscribed: Subscribed::default(),
            naming: Naming::new(),
            wanted: BTreeSet::new(),
            interests: BTreeMap::new(),
            closing: None,
            is_protocol_told: false,
            has_progressed: false,
            drain_at: None,
            marks: Vec::new(),
            gated: BTreeSet::new(),
            last_gated: TopicPartition::new(&Arc::from(""), 0),
            unchecked: BTreeSet::new(),
            full: BTreeSet::new(),
            rebalancing: Rebalancing::default(),
        };
        let now = client.0.clock.now();
        if let Some(membership) = &mut group.membership {
            membership.handle_metadata(&client.snapshot(), now);
            group.subscribe(subscribed, now);
        }
        group
    }

    // What the application does.

    pub(super) fn handle_command(&mut self, command: GroupCommand, now: Instant) {
        match command {
            GroupCommand::Commit { deadline, reply } => {
                self.drain(now);
                for ((topic, partition), offset) in self.standing.take_late() {
                    self.commits.handle_done_too_late(&TopicPartition { topic, partition }, offset);
                }
                let ticket = self.commits.commit(deadline, now);
                self.calls.insert(ticket, reply);
            }
            GroupCommand::CommitOffsets { offsets, deadline, reply } => {
                self.drain(now);
                let ticket = self.commits.commit_offsets(offsets, deadline, now);
                self.calls.insert(ticket, reply);
            }
            GroupCommand::Committed { partitions, deadline, reply } => {
                for partition in &partitions {
                    self.commits.look_up(partition.clone(), self.topic_id(&partition.topic));
                }
                let missing = partitions.into_iter().collect();
                self.questions.push(Question { missing, found: Vec::new(), deadline, reply });
            }
            GroupCommand::Offsets { given, of, reply } => {
                let offsets = self.offsets_in_transaction(given, &of, now);
                let _ = reply.send(offsets);
            }
            GroupCommand::Stored(offsets) => self.commits.handle_stored(&offsets, now),
            GroupCommand::NotStored(offsets, why) => self.commits.handle_not_stored(&offsets, &why),
            GroupCommand::Subscribe(subscribed) => {
                self.standing.joins();
                self.subscribe(subscribed, now);
            }
            GroupCommand::Rejoin => self.has_progressed = true,
            GroupCommand::Close { how, deadline, reply } => self.close(how, deadline, Some(reply), now),
        }
    }

    fn subscribe(&mut self, subscribed: Subscribed, now: Instant) {
        if self.commits.is_ended() && self.owned.is_empty() {
            // It was fenced and commits nothing any more, and this is a new beginning. No call waits for it.
            let stored = Commits::new(self.commit_settings.clone(), self.client.rng());
            self.commits = stored;
            self.identity = None;
        }
        self.naming.set_pattern(subscribed.pattern.clone(), now);
        self.subscribed = subscribed;
        self.tell_subscription(now);
    }

    /// Tells the membership what is subscribed to, with the topics that match the pattern as far as they are known.
    fn tell_subscription(&mut self, now: Instant) {
        self.take_interest();
        let Subscribed { topics, pattern } = &self.subscribed;
        let topics = topics.union(self.naming.matched()).cloned().collect();
        let pattern = pattern.as_ref().map(|pattern| Arc::clone(&pattern.text));
        if let Some(membership) = &mut self.membership {
            membership.handle_subscription(Subscription { topics, pattern }, now);
        }
    }

    /// The application has assigned a partition.
    pub(super) fn handle_assign(&mut self, queue: Arc<Queue>, epoch: Epoch, position: Option<Position>) {
        if self.commit_settings.is_before_delivery {
            queue.set_open_until(i64::MIN);
        }
        self.assigning.push(Assigning { queue, epoch, position });
        self.take_in_assigned();
    }

    /// Takes in what the application has assigned. Of a partition that is being given up, what was done is committed first, so
    /// that the offset that is looked up has it.
    fn take_in_assigned(&mut self) {
        let all = std::mem::take(&mut self.assigning);
        let (ready, wait) = all.into_iter().partition(|of| !self.owned.contains_key(&self::of(&of.queue)));
        self.assigning = wait;
        for Assigning { queue, epoch, position } in ready {
            let at = of(&queue);
            self.commits.look_up(at.clone(), self.topic_id(&at.topic));
            self.owned.insert(at.clone(), Arc::clone(&queue));
            self.starting.insert(at, Starting { queue, epoch, hook: None, sought: position, found: None });
        }
        self.take_interest();
    }

    /// The application has unassigned a partition, of which nothing is read any more: what is done is committed.
    pub(super) fn handle_unassign(&mut self, queue: &Arc<Queue>, now: Instant) {
        self.assigning.retain(|of| !Arc::ptr_eq(&of.queue, queue));
        let at = of(queue);
        if !self.owned.get(&at).is_some_and(|known| Arc::ptr_eq(known, queue)) {
            return;
        }
        self.starting.remove(&at);
        self.seeking.remove(&at);
        let deadline = now + self.commit_settings.request_timeout;
        let partitions = BTreeSet::from([at]);
        let state = Releasing::Finishing;
        self.barriers.push_back(Barrier { partitions, hook: None, finish_by: now, deadline, state });
    }

    /// The consumer was dropped: what is done is committed and the member leaves, within a bounded time.
    pub(super) fn handle_dropped(&mut self, now: Instant) {
        self.close(Goodbye::Usual, now + DROPPED_FOR, None, now);
        if let Some(closing) = &mut self.closing {
            closing.is_dropped = true;
        }
    }

    fn close(&mut self, how: Goodbye, deadline: Instant, reply: Option<Reply<()>>, now: Instant) {
        match &mut self.closing {
            Some(closing) => {
                closing.deadline = closing.deadline.min(deadline);
                closing.calls.extend(reply);
            }
            None => {
                let calls = reply.into_iter().collect();
                // What was lost before was told when it was lost. Closing tells what it leaves out itself.
                self.commits.take_left_out();
                self.closing = Some(Closing { deadline, is_dropped: false, calls, failure: None });
                if let Some(membership) = &mut self.membership {
                    membership.handle_close(how, now);
                }
            }
        }
        for barrier in &mut self.barriers {
            barrier.end_by(deadline, now);
            if let Releasing::Committing(_) = barrier.state {
                // Waits for the same commit, until the earlier deadline.
                let partitions: Vec<_> = barrier.partitions.iter().cloned().collect();
                barrier.state =
                    Releasing::Committing(self.commits.release(&partitions, barrier.deadline, now));
            }
        }
    }

    /// The application took a batch.
    pub(super) fn note_progress(&mut self, queue: &Queue) {
        self.has_progressed = true;
        if self.commit_settings.is_before_delivery {
            self.gated.insert(of(queue));
        }
    }

    /// The application sought. Answers whether the partition is to be read from there now.
    pub(super) fn handle_seek(
        &mut self,
        queue: &Arc<Queue>,
        epoch: Epoch,
        position: Position,
        before: &FinishedBefore,
        now: Instant,
    ) -> bool {
        let at = of(queue);
        if let Some(waiting) = self.assigning.iter_mut().find(|of| Arc::ptr_eq(&of.queue, queue)) {
            (waiting.epoch, waiting.position) = (epoch, Some(position));
            return false;
        }
        if queue.is_over() || !self.owned.get(&at).is_some_and(|known| Arc::ptr_eq(known, queue)) {
            return false;
        }
        match self.starting.get_mut(&at) {
            Some(starting) => {
                starting.epoch = epoch;
                starting.sought = Some(position);
                false
            }
            None => {
                self.sought(at, epoch, position, before, now);
                true
            }
        }
    }

    fn sought(
        &mut self,
        at: TopicPartition,
        epoch: Epoch,
        position: Position,
        before: &FinishedBefore,
        now: Instant,
    ) {
        // What was done up to now counts, although the application goes elsewhere.
        self.drain_one(&at, now);
        if !matches!(before, FinishedBefore::Stays) {
            self.commits.forget_restored(&at, now);
        }
        match position.offset() {
            Some(offset) => {
                self.seeking.remove(&at);
                if self.commits.ledger(&at).is_some() {
                    self.commits.seek(&at, epoch, offset, now);
                } else {
                    let id = self.topic_id(&at.topic);
                    self.commits.assign(&at, id, epoch, &StoredOffset::at(offset), false, now);
                }
                if let FinishedBefore::Anew(stored) = before {
                    self.commits.restore(&at, stored);
                    self.unchecked.insert(at);
                }
            }
            None => {
                self.seeking.insert(at);
            }
        }
    }

    // What the fetch machine says.

    /// A batch is put into the queue of its partition. Answers with what is finished by an earlier owner, if some of it is in the
    /// batch.
    pub(super) fn handle_delivered(
        &mut self,
        queue: &Queue,
        epoch: Epoch,
        batch: &Fetched,
        now: Instant,
    ) -> Option<ledger::Restored> {
        let at = of(queue);
        if self.commit_settings.is_before_delivery {
            self.gated.insert(at);
            return None;
        }
        if !self.unchecked.is_empty() && self.unchecked.remove(&at) {
            self.commits.check_restored(&at, batch.high_watermark, now);
        }
        let (first, end) = (batch.first_offset(), batch.end_offset());
        // Before the delivery, with which the last of it may be dropped.
        let restored =
            if self.commit_settings.keeps_finished { self.restored_in(&at, first..end) } else { None };
        let leader_epoch = batch.header().partition_leader_epoch.map(LeaderEpoch);
        self.commits.handle_delivered(&at, epoch, first..end, leader_epoch, now);
        restored
    }

    /// What was restored of a partition, if some of it is at these offsets.
    fn restored_in(&self, at: &TopicPartition, offsets: Range<i64>) -> Option<ledger::Restored> {
        let restored = self.commits.ledger(at)?.restored();
        let next = restored.partition_point(|run| run.end <= offsets.start);
        restored.get(next).is_some_and(|run| run.start < offsets.end).then(|| Arc::clone(restored))
    }

    pub(super) fn handle_passed(&mut self, queue: &Queue, epoch: Epoch, next: i64, now: Instant) {
        // With commits before delivery, what was passed is committed with the batch that it follows.
        if self.commit_settings.is_before_delivery && queue.inner().front().is_some() {
            return;
        }
        self.commits.handle_passed(&of(queue), epoch, next, now);
    }

    /// The offset of a position that was looked up is known.
    pub(super) fn handle_positioned(&mut self, queue: &Queue, epoch: Epoch, offset: i64, now: Instant) {
        let at = of(queue);
        if self.seeking.remove(&at) && self.commits.ledger(&at).is_some() {
            self.commits.seek(&at, epoch, offset, now);
        } else if self.commits.ledger(&at).is_some() {
            self.commits.reset(&at, epoch, offset, now);
        } else {
            let id = self.topic_id(&at.topic);
            self.commits.assign(&at, id, epoch, &StoredOffset::at(offset), false, now);
        }
    }

    /// Records that were read are gone, and reading goes on at `offset`: what is committed may have to go back.
    pub(super) fn handle_truncated(&mut self, queue: &Queue, epoch: Epoch, offset: i64, now: Instant) {
        self.commits.truncate(&of(queue), epoch, offset, now);
    }

    pub(super) fn handle_metadata(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.handle_metadata(snapshot, now);
        }
        for at in self.owned.keys() {
            if let Some(id) = snapshot.topic(&at.topic).ok().and_then(|topic| topic.id) {
                self.commits.set_topic_id(at, id);
            }
        }
    }

    /// Where the coordinator listens, which may be a broker that the metadata lacks.
    pub(super) fn coordinator_address(&self) -> Option<&Address> {
        self.coordinator.as_ref().map(|coordinator| &coordinator.address)
    }

    // What arrives.

    /// The answer to a look-up of the coordinator.
    ///
    /// # Cancel safety
    /// Dropped, nothing was answered.
    pub(super) fn found_coordinator(
        &mut self,
    ) -> impl Future<Output = Option<Result<Coordinator, Failure>>> + Send {
        self.looking_up.next()
    }

    pub(super) fn handle_coordinator(&mut self, found: Result<Coordinator, Failure>, now: Instant) {
        let answer = match found {
            Ok(coordinator) => {
                let broker = coordinator.broker;
                self.coordinator = Some(coordinator);
                Ok(broker)
            }
            Err(failure) => Err(failure),
        };
        if let Some(membership) = &mut self.membership
            && std::mem::take(&mut self.membership_waits)
        {
            membership.handle_coordinator(answer.clone(), now);
        }
        // The commits may not have asked; then the answer saves them a look-up, and a failure is none of theirs.
        self.commits.handle_coordinator(answer, now);
    }

    /// A request of this member's is no longer under way.
    pub(super) fn handle_landed(&mut self, tag: GroupTag, outcome: Result<Answer, Failure>, now: Instant) {
        self.count_landed(&tag, &outcome);
        let (number, response) = match tag {
            GroupTag::Join(of) => (of.number, of.response(outcome).map(Response::Join)),
            GroupTag::Sync(of) => (of.number, of.response(outcome).map(Response::Sync)),
            GroupTag::Heartbeat(of) => (of.number, of.response(outcome).map(Response::Heartbeat)),
            GroupTag::Leave(of) => (of.number, of.response(outcome).map(Response::Leave)),
            GroupTag::Consumer(of) => (of.number, of.response(outcome).map(Response::Consumer)),
            GroupTag::Commit(of) => {
                let answer = of.response(outcome);
                self.trace_committed(&answer, now);
                return match answer {
                    Ok(response) => {
                        self.count_refused(&response);
                        self.commits.handle_committed(&response, now);
                    }
                    Err(failure) => self.commits.handle_lost(CommitKind::Commit, &failure, now),
                };
            }
            GroupTag::Lookup(of) => {
                return match of.response(outcome) {
                    Ok(response) => self.commits.handle_offsets(&response, now),
                    Err(failure) => self.commits.handle_lost(CommitKind::Lookup, &failure, now),
                };
            }
            GroupTag::Name(of) => {
                let age_max = self.client.0.settings.client.metadata_age_max;
                self.naming.handle(of.response(outcome), age_max, now);
                if self.finds_topics() {
                    self.tell_subscription(now);
                } else {
                    self.take_interest();
                }
                return;
            }
        };
        let Some(membership) = &mut self.membership else { return };
        match response {
            Ok(response) => membership.handle_response(number, response, now),
            Err(failure) => membership.handle_lost(number, &failure, now),
        }
    }

    // The turn.

    /// When to have a turn although nothing happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let barriers = self.barriers.iter().map(|barrier| match barrier.state {
            Releasing::Finishing => barrier.finish_by,
            Releasing::Committing(_) | Releasing::Finished => barrier.deadline,
        });
        let questions = self.questions.iter().map(|question| question.deadline);
        let naming = self.naming.poll_timeout(self.finds_topics());
        let membership = self.membership.as_ref().and_then(Membership::poll_timeout);
        let machines = [membership, self.commits.poll_timeout(), naming, self.drain_at];
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        barriers.chain(questions).chain(machines.into_iter().flatten()).chain(closing).min()
    }

    /// Does what the machines say, until they say nothing more. Answers whether the member has closed.
    pub(super) fn act(&mut self, driver: &mut Driver, now: Instant) -> bool {
        self.drain_if_due(now);
        let has_progressed = std::mem::take(&mut self.has_progressed);
        match &mut self.membership {
            Some(membership) => {
                membership.handle_waiting(driver.ready.is_waited_for(), now);
                if has_progressed {
                    membership.handle_progress(now);
                }
                membership.handle_timeout(now);
            }
            None => self.give_up_all_if_closing(driver, now),
        }
        self.commits.handle_timeout(now);
        loop {
            let mut is_quiet = true;
            while let Some(event) = self.membership.as_mut().and_then(Membership::poll_event) {
                self.handle_event(event, driver, now);
                is_quiet = false;
            }
            let outside = || Some(MemberIdentity::outside());
            let identity = self.membership.as_ref().map_or_else(outside, Membership::identity);
            if identity != self.identity {
                self.identity.clone_from(&identity);
                if let (Some(enrolled), Some(member)) = (&self.enrolled, &identity) {
                    enrolled.note_member(&member.member_id, member.instance_id.as_deref());
                }
                self.commits.handle_identity(identity);
            }
            // What is known of commits counts before a barrier is over, so that closing can say what is not committed.
            is_quiet &= !self.handle_commit_events(driver, now);
            self.begin_ready(driver, now);
            self.commit_before_delivery(driver, now);
            is_quiet &= !self.release(driver, now);
            self.send(driver, now);
            is_quiet &= !self.handle_commit_events(driver, now);
            if is_quiet {
                break;
            }
        }
        self.let_out(driver);
        self.look_up_coordinator(now);
        let wanted = self.membership.as_mut().and_then(Membership::poll_metadata_wanted);
        if let Some(Wanted { topics, ids }) = wanted {
            self.wanted = topics;
            self.naming.set_ids(ids);
            self.take_interest();
        }
        if let Some(request) = self.naming.poll(self.finds_topics(), now) {
            let deadline = now + self.client.0.settings.client.request_timeout;
            let request = Typed { request, version_max: i16::MAX };
            driver.requests.ask_any(request, deadline, Asking::<MetadataRequest>::new(0));
        }
        if self.commits.poll_metadata_wanted() {
            self.client.metadata_is_outdated();
        }
        self.tell();
        self.expire_questions(now);
        self.is_closed(now)
    }

    /// A consumer that is no member gives up by itself what it was given.
    fn give_up_all_if_closing(&mut self, driver: &mut Driver, now: Instant) {
        let Some(closing) = &self.closing else { return };
        let deadline = closing.deadline;
        self.assigning.clear();
        let is_given_up =
            |at: &TopicPartition| self.barriers.iter().any(|barrier| barrier.partitions.contains(at));
        let left: BTreeSet<_> = self.owned.keys().filter(|at| !is_given_up(at)).cloned().collect();
        if !left.is_empty() {
            self.revoke(left, deadline, driver, now);
        }
    }

    fn handle_event(&mut self, event: Event, driver: &mut Driver, now: Instant) {
        self.measure_event(&event, now);
        match event {
            Event::Assign { partitions } => self.assign(&partitions, driver),
            Event::Revoke { partitions, deadline } => self.revoke(partitions, deadline, driver, now),
            Event::Lost { partitions, failure } => self.lose(&partitions, &failure, driver, now),
            Event::Slow { since } => {
                tracing::warn!(
                    target: "milena",
                    "group {}: the application has taken no batch for {since:?}; it leaves the group when \
                     max_poll_interval has passed",
                    self.id
                );
            }
            Event::Left(failure) => {
                let failure = self.client.named(failure);
                self.standing
                    .left(Error::harmless(format!("reading as a member of group {:?}", self.id), failure));
                driver.ready.arrived.notify_one();
            }
            Event::Failed(failure) => {
                let failure = self.client.named(failure);
                self.standing
                    .failed(Error::harmless(format!("reading as a member of group {:?}", self.id), failure));
                driver.ready.arrived.notify_one();
            }
        }
    }

    fn assign(&mut self, partitions: &BTreeSet<TopicPartition>, driver: &Driver) {
        if !std::mem::replace(&mut self.is_protocol_told, true) {
            let protocol = match self.membership.as_ref().map(Membership::protocol) {
                Some(Protocol::Classic) => "the classic protocol",
                _ => "the consumer protocol (KIP-848)",
            };
            tracing::info!(target: "milena", "group {}: joined by {protocol}", self.id);
        }
        let Some(shared) = driver.shared.upgrade() else { return };
        for at in partitions {
            let (queue, epoch) = shared.hold(&at.topic, at.partition);
            if self.commit_settings.is_before_delivery {
                queue.set_open_until(i64::MIN);
            }
            self.owned.insert(at.clone(), Arc::clone(&queue));
            self.commits.look_up(at.clone(), self.topic_id(&at.topic));
            let starting = Starting { queue, epoch, hook: None, sought: None, found: None };
            self.starting.insert(at.clone(), starting);
        }
        self.take_interest();
        // After the partitions are there, because the hook may seek in them.
        let run = self.run_hook(Occasion::Assigned, partitions, driver);
        for at in partitions {
            if let Some(starting) = self.starting.get_mut(at) {
                starting.hook.clone_from(&run);
            }
        }
    }

    fn run_hook(
        &mut self,
        occasion: Occasion,
        of: &BTreeSet<TopicPartition>,
        driver: &Driver,
    ) -> Option<Run> {
        if of.is_empty() {
            return None;
        }
        let partitions: Partitions = of.iter().map(|at| (at.topic.to_string(), at.partition)).collect();
        let (runtime, arrived) = (&self.client.0.runtime, &driver.commands.arrived);
        self.hooks.run(occasion, partitions, self.handle.clone(), runtime, arrived)
    }

    /// Begins to read the partitions of which it is known where they begin.
    fn begin_ready(&mut self, driver: &mut Driver, now: Instant) {
        let is_ready = |starting: &Starting| {
            starting.found.is_some() && starting.hook.as_ref().is_none_or(Run::is_finished)
        };
        let ready: Vec<_> =
            self.starting.iter().filter(|(_, of)| is_ready(of)).map(|(at, _)| at.clone()).collect();
        for at in ready {
            if let Some(starting) = self.starting.remove(&at) {
                self.begin(&at, starting, driver, now);
            }
        }
        self.measure_started(now);
    }

    fn begin(&mut self, at: &TopicPartition, starting: Starting, driver: &mut Driver, now: Instant) {
        let Starting { queue, epoch, sought, found, .. } = starting;
        let id = self.topic_id(&at.topic);
        let stored = match found {
            Some(Ok(stored)) => stored,
            Some(Err(failure)) if sought.is_none() => {
                let doing = format!("asking where group {:?} goes on in {at}", self.id);
                let failure = self.client.named(failure);
                return driver.stop(&queue, epoch, Error::harmless(doing, failure));
            }
            _ => None,
        };
        if let Some(stored) = &stored {
            self.commits.assign(at, id, epoch, stored, true, now);
            if self.commit_settings.keeps_finished {
                self.unchecked.insert(at.clone());
            }
        }
        if let Some(position) = sought {
            self.sought(at.clone(), epoch, position, &FinishedBefore::Forgotten, now);
        }
        let position = sought.or(stored.as_ref().map(position_of)).or(self.reset);
        let Some(position) = position else {
            let doing = format!("beginning to read {at} in group {:?}", self.id);
            let why = "the group has committed no offset of it, and the reset policy is to fail";
            return driver.stop(&queue, epoch, Error::caller(doing, why));
        };
        driver.begin(&queue, epoch, position);
    }

    /// Stops reading these partitions at once. What the application holds of them is finished, then they are given up.
    fn revoke(
        &mut self,
        partitions: BTreeSet<TopicPartition>,
        deadline: Instant,
        driver: &mut Driver,
        now: Instant,
    ) {
        for at in &partitions {
            self.stop_reading(at, driver, now);
        }
        let hook = self.run_hook(Occasion::Revoked, &partitions, driver);
        let mut barrier =
            Barrier { partitions, hook, finish_by: deadline, deadline, state: Releasing::Finishing };
        let close_by = self.closing.as_ref().map_or(deadline, |closing| closing.deadline);
        barrier.end_by(deadline.min(close_by), now);
        self.barriers.push_back(barrier);
    }

    fn stop_reading(&mut self, at: &TopicPartition, driver: &mut Driver, now: Instant) {
        self.starting.remove(at);
        self.seeking.remove(at);
        if let Some(queue) = self.owned.get(at) {
            let (epoch, position) = queue.end(&self.epochs);
            driver.unassign(queue, epoch);
            if let Some(position) = position.filter(|_| self.commit_settings.is_before_delivery) {
                // A batch that was committed and is not handed out is the next owner's.
                self.commits.take_back(at, epoch, position, now);
            }
        }
    }

    /// Goes on with the partitions that are being given up. Answers whether the membership was told of a release.
    fn release(&mut self, driver: &Driver, now: Instant) -> bool {
        let is_dropped = self.closing.as_ref().is_some_and(|closing| closing.is_dropped);
        // The application itself has ended them, whatever it holds of them.
        let is_unassigned = self.membership.is_none() && self.closing.is_none();
        for index in 0..self.barriers.len() {
            let barrier = &self.barriers[index];
            let is_put_down =
                |at: &TopicPartition| self.owned.get(at).is_none_or(|queue| queue.is_put_down());
            let next = match barrier.state {
                Releasing::Finishing => {
                    let is_hook_finished = barrier.hook.as_ref().is_none_or(Run::is_finished);
                    let is_finished = (is_hook_finished && barrier.partitions.iter().all(is_put_down))
                        || is_dropped
                        || is_unassigned;
                    if !is_finished && now < barrier.finish_by {
                        continue;
                    }
                    if !is_finished {
                        let held = barrier.partitions.iter().filter(|at| !is_put_down(at));
                        let held: Vec<_> = held.map(ToString::to_string).collect();
                        tracing::warn!(
                            target: "milena",
                            "group {}: partitions are given up although the application has not finished with them: {}",
                            self.id,
                            if held.is_empty() { "its on_revoked hook still runs".into() } else { held.join(", ") }
                        );
                    }
                    let partitions: Vec<_> = barrier.partitions.iter().cloned().collect();
                    let deadline = barrier.deadline;
                    for at in &partitions {
                        self.drain_one(at, now);
                    }
                    Releasing::Committing(self.commits.release(&partitions, deadline, now))
                }
                // It is settled then, which ends the barrier and tells what is not committed.
                Releasing::Committing(ticket) if now >= barrier.deadline => {
                    self.commits.stop_waiting(ticket, now);
                    continue;
                }
                Releasing::Committing(_) | Releasing::Finished => continue,
            };
            self.barriers[index].state = next;
        }
        let mut has_released = false;
        while self.barriers.front().is_some_and(|barrier| barrier.state == Releasing::Finished) {
            let Some(barrier) = self.barriers.pop_front() else { break };
            for at in &barrier.partitions {
                self.give_up(at, &Failure::Ended("the partition was given up"), driver);
            }
            self.take_in_assigned();
            if let Some(membership) = &mut self.membership {
                membership.handle_released(now);
            }
            self.measure_released(now);
            has_released = true;
        }
        has_released
    }

    fn give_up(&mut self, at: &TopicPartition, why: &Failure, driver: &Driver) {
        let stored = self.commits.stored(at);
        self.commits.give_up(at, why);
        self.unchecked.remove(at);
        let queue = self.owned.remove(at);
        if let Some(queue) = &queue {
            queue.end_marks(stored);
        }
        if self.questions.iter().any(|question| question.missing.contains(at)) {
            // A call asks what is committed of it, and need not own it.
            self.commits.look_up(at.clone(), self.topic_id(&at.topic));
        }
        if let (Some(queue), Some(shared)) = (queue, driver.shared.upgrade()) {
            shared.let_go(&queue);
        }
    }

    /// Other members may read these partitions already.
    fn lose(
        &mut self,
        partitions: &BTreeSet<TopicPartition>,
        failure: &Failure,
        driver: &mut Driver,
        now: Instant,
    ) {
        // What is marked by now counts as done and not committed.
        self.drain(now);
        for barrier in &self.barriers {
            if let Releasing::Committing(ticket) = barrier.state {
                self.commits.stop_waiting(ticket, now);
            }
        }
        self.handle_commit_events(driver, now);
        self.barriers.clear();
        let names: Vec<_> = partitions.iter().take(5).map(ToString::to_string).collect();
        let more = partitions.len() - names.len();
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::warn!(
            target: "milena",
            "group {}: lost {}{and_more}, of which nothing more is committed: {failure}",
            self.id,
            names.join(", ")
        );
        for at in partitions {
            self.stop_reading(at, driver, now);
            self.give_up(at, failure, driver);
        }
        self.take_interest();
        self.run_hook(Occasion::Lost, partitions, driver);
    }

    fn send(&mut self, driver: &mut Driver, now: Instant) {
        while let Some(ask) = self.membership.as_mut().and_then(|membership| membership.poll_request(now)) {
            self.measure_ask(&ask, now);
            self.send_ask(ask, driver);
        }
        while let Some(request) = self.commits.poll_request(now) {
            match request {
                CommitRequest::Commit { broker, request, version_max, deadline } => {
                    self.trace_commit(&request, now);
                    let request = Typed { request, version_max };
                    let to = self.address(broker);
                    driver.requests.send(
                        Role::Commit,
                        to,
                        request,
                        deadline,
                        Asking::<OffsetCommitRequest>::new(0),
                    );
                }
                CommitRequest::Lookup { broker, lookup, version_max, deadline } => {
                    let make = Box::new(move |version| lookup.request(version));
                    let request = ByVersion { make, version_max };
                    let to = self.address(broker);
                    driver.requests.send(
                        Role::Commit,
                        to,
                        request,
                        deadline,
                        Asking::<OffsetFetchRequest>::new(0),
                    );
                }
            }
        }
    }

    fn send_ask(&self, ask: Ask, driver: &mut Driver) {
        let Ask { number, broker, request, deadline, .. } = ask;
        let (to, requests) = (self.address(broker), &mut driver.requests);
        let version_max = i16::MAX;
        match request {
            Request::Join(request) => {
                let request = Typed { request, version_max };
                requests.send(Role::Join, to, request, deadline, Asking::<JoinGroupRequest>::new(number));
            }
            Request::Sync(request) => {
                let request = Typed { request, version_max };
                requests.send(Role::Join, to, request, deadline, Asking::<SyncGroupRequest>::new(number));
            }
            Request::Heartbeat(request) => {
                let request = Typed { request, version_max };
                requests.send(
                    Role::Coordinator,
                    to,
                    request,
                    deadline,
                    Asking::<HeartbeatRequest>::new(number),
                );
            }
            Request::Consumer(request) => {
                let request = Typed { request, version_max };
                requests.send(
                    Role::Coordinator,
                    to,
                    request,
                    deadline,
                    Asking::<ConsumerGroupHeartbeatRequest>::new(number),
                );
            }
            Request::Leave(request) => {
                // Older versions name one member.
                const FIRST_WITH_MEMBERS: i16 = 3;
                let make = Box::new(move |version| {
                    if version < FIRST_WITH_MEMBERS { leave_by_id(&request) } else { request.clone() }
                });
                let request = ByVersion { make, version_max };
                requests.send(
                    Role::Coordinator,
                    to,
                    request,
                    deadline,
                    Asking::<LeaveGroupRequest>::new(number),
                );
            }
        }
    }

    fn address(&self, broker: BrokerId) -> Result<Address, Failure> {
        match &self.coordinator {
            Some(coordinator) if coordinator.broker == broker => Ok(coordinator.address.clone()),
            _ => address_of(&self.client.snapshot(), broker),
        }
    }

    fn look_up_coordinator(&mut self, now: Instant) {
        let membership = self.membership.as_mut();
        self.membership_waits |= membership.is_some_and(|membership| membership.poll_coordinator_wanted(now));
        let is_wanted = self.commits.poll_coordinator_wanted(now) || self.membership_waits;
        if !is_wanted || !self.looking_up.is_empty() {
            return;
        }
        let (client, of) = (self.client.clone(), Coordinated::Group(Arc::clone(&self.id)));
        let deadline = now + client.0.settings.client.request_timeout;
        self.looking_up.push(async move { client.find_coordinator(of, deadline).await });
    }

    fn tell(&mut self) {
        let membership = &mut self.membership;
        let mut of_member = || membership.as_mut().and_then(Membership::poll_notice);
        while let Some(notice) = of_member().or_else(|| self.commits.poll_notice()) {
            report(&notice);
        }
        while let Some(warning) = self.commits.poll_warning() {
            tracing::warn!(target: "milena", "{warning}");
        }
        if let Some(failure) = self.membership.as_mut().and_then(Membership::poll_handed_over) {
            // The protocol of the next assignment is told again.
            self.is_protocol_told = false;
            tracing::debug!(target: "milena", "group {}: it changes its protocol: {failure}", self.id);
        }
    }

    /// Whether nothing is left to do. Then the calls that wait for it have their answers.
    fn is_closed(&mut self, now: Instant) -> bool {
        let Some(closing) = &mut self.closing else { return false };
        let has_left = self.membership.as_ref().is_none_or(Membership::is_closed);
        let is_closed = has_left && self.barriers.is_empty();
        if !is_closed && now < closing.deadline {
            return false;
        }
        let result = match closing.failure.take().or_else(|| self.commits.take_left_out()) {
            Some(error) => Err(Error::not_committed(error)),
            None if is_closed => Ok(()),
            None => {
                let peer = "the group's coordinator".into();
                let after = self.client.0.settings.client.request_timeout;
                let failure = Failure::TimedOut { peer, after, sent: true };
                Err(Error::harmless(format!("leaving group {:?}", self.id), failure))
            }
        };
        self.standing.closed();
        for reply in closing.calls.drain(..) {
            let _ = reply.send(result.clone());
        }
        true
    }

    // Metadata.

    /// Whether this member, and not its coordinator, finds the topics that match its pattern.
    fn finds_topics(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.protocol() == Protocol::Classic)
    }

    fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.client.snapshot().topic(topic).ok()?.id
    }

    /// Keeps in the metadata what is subscribed to, what other members subscribe to, and what is assigned.
    fn take_interest(&mut self) {
        let assigned = self.owned.keys().map(|at| &at.topic);
        let subscribed = self.subscribed.topics.iter().chain(self.naming.matched());
        let topics = subscribed.chain(&self.wanted).chain(self.naming.names()).chain(assigned);
        let topics: BTreeSet<_> = topics.cloned().collect();
        self.interests.retain(|topic, _| topics.contains(topic));
        for topic in topics {
            self.interests.entry(topic).or_insert_with_key(|topic| self.client.interest_in(topic));
        }
    }
}

impl Barrier {
    /// It ends by `deadline`, if not before.
    fn end_by(&mut self, deadline: Instant, now: Instant) {
        self.deadline = self.deadline.min(deadline);
        let spare = ((self.deadline - now) / 4).min(COMMIT_FOR);
        let patience = (self.deadline - now).saturating_sub(spare);
        self.finish_by = self.finish_by.min(now + patience);
    }
}

/// Where a committed offset says that reading goes on.
fn position_of(stored: &StoredOffset) -> Position {
    let offset = stored.offset;
    match stored.leader_epoch {
        Some(LeaderEpoch(leader_epoch)) => Position::OffsetInEpoch { offset, leader_epoch },
        None => Position::Offset(offset),
    }
}

fn of(queue: &Queue) -> TopicPartition {
    TopicPartition::new(&queue.topic, queue.partition)
}
