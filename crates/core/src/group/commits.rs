//! What a group's member commits, when, and what the coordinator's answers mean; and where its partitions begin.
//!
//! ```text
//!  delivered, done ─▶ ┌─────────┐ ── OffsetCommit, one at a time ─▶ coordinator
//!  commit, release ─▶ │ Commits │ ── OffsetFetch ────────────────▶
//!  identity ────────▶ └─────────┘ ── tickets settled, offsets found, rejoin ─▶ driver
//! ```
//!
//! The rules it keeps:
//! - A commit says what is finished at the moment its request is made, and never passes an unfinished record.
//! - One commit is in flight. One that is made again is made anew, with the newest offsets, so it cannot overtake a newer one.
//! - A committed offset only grows, unless the application itself commits an earlier one, goes back without automatic
//!   commits, or the position was reset because the committed offset does not exist any more.
//! - A call that waits for a commit gets an answer by its deadline, which names what is not committed and why.
//! - An answer that leaves a partition out, or that says "not stable yet", is never read as "no offset".
//!
//! With [`Settings::keeps_finished`] a commit says as well what is finished above its offset, and is due when only that has changed.
//!
//! What is done of a partition is `ledger.rs`; what each code means, `commits/verdict.rs`; lookups, `commits/lookup.rs`; how much a
//! broker takes beside an offset, `commits/fit.rs`.

mod fit;
mod keeping;
mod lookup;
mod terms;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use milena_messages::offset_fetch::OffsetFetchResponse;
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;

use self::fit::Fit;
pub use self::lookup::Lookup;
use self::lookup::Lookups;
pub use self::terms::{
    Event, INTERVAL, Kind, NotCommitted, Request, Settings, StoredOffset, Ticket, Uncommitted,
};
use self::verdict::{Verdict, is_unknown_topic, verdict};
use super::ledger::{Ledger, Marked};
use super::terms::{MemberIdentity, TopicPartition, earliest};
use crate::backoff::Retry;
use crate::calls::of_group_with_members;
use crate::rights::Resource;
use crate::source::Epoch;
use crate::{BrokerId, Failure, Instant, LeaderEpoch, Notice, Rng};

/// The machine of a consumer's commits: the [module](self) has the rules that it keeps.
///
/// # A turn
///
/// 1. Tell it what the application did: [`handle_done`](Self::handle_done) for the marks that wait, then
///    [`commit`](Self::commit), [`commit_offsets`](Self::commit_offsets), [`seek`](Self::seek). Marks come first, so that a
///    commit takes in what its caller has done before.
/// 2. Tell it what the group decided: [`handle_identity`](Self::handle_identity), [`look_up`](Self::look_up),
///    [`assign`](Self::assign), [`release`](Self::release), [`give_up`](Self::give_up).
/// 3. Tell it what arrived: [`handle_committed`](Self::handle_committed), [`handle_offsets`](Self::handle_offsets),
///    [`handle_lost`](Self::handle_lost), [`handle_coordinator`](Self::handle_coordinator).
/// 4. [`handle_timeout`](Self::handle_timeout).
/// 5. [`poll_request`](Self::poll_request) until there is none. It may find that a commit is not needed any more, which is an
///    event.
/// 6. [`poll_event`](Self::poll_event) until there is none, [`poll_coordinator_wanted`](Self::poll_coordinator_wanted),
///    [`poll_metadata_wanted`](Self::poll_metadata_wanted) and [`poll_notice`](Self::poll_notice), in any order.
///
/// Then sleep until something happens, or until [`poll_timeout`](Self::poll_timeout), which any of these calls may change.
///
/// # Inputs
///
/// Every [`Request`] is answered once, by its deadline. When a coordinator is wanted, `handle_coordinator` tells it or why
/// there is none. No request goes out without a coordinator and an identity: `handle_identity(None)` while the member has
/// none, and [`MemberIdentity::outside`] for a consumer that is in no group.
///
/// A partition is looked up, assigned with what was found, and given up; between these the [`Epoch`] of each input fences marks
/// and batches of before.
///
/// # Between calls
///
/// At most one commit and one lookup are in flight. Every ticket that was given out is settled once, with an [`Event`].
///
/// # Cost
///
/// A mark takes the logarithm of the number of partitions, and what [`Ledger`] says. A commit takes time by the partitions that
/// have progressed since the last one, and its answer by those times the tickets that wait for them.
#[derive(Debug)]
pub struct Commits {
    settings: Settings,
    rng: Rng,
    identity: Option<MemberIdentity>,
    coordinator: Option<BrokerId>,
    lookup_of_coordinator: CoordinatorLookup,
    coordinator_retry: Retry,
    partitions: BTreeMap<TopicPartition, Owned>,
    /// Partitions whose committable offset is not the stored one, and may be stored.
    unsaved: BTreeSet<TopicPartition>,
    /// What the next request commits.
    due: BTreeMap<TopicPartition, Due>,
    in_flight: Option<InFlight>,
    /// After a request that failed as a whole.
    retry: Retry,
    tickets: BTreeMap<Ticket, Waiting>,
    /// What was done of partitions that are gone, and is not committed. The next call that commits tells it.
    left_out: BTreeMap<TopicPartition, Uncommitted>,
    lookups: Lookups,
    /// The coordinator's quota holds requests back until then (KIP-219).
    throttled_until: Option<Instant>,
    /// When progress is committed by itself. None: there is none.
    interval_ends: Option<Instant>,
    is_closing: bool,
    /// Why nothing can be committed any more.
    ended: Option<Failure>,
    /// Why no request succeeds at present, for tickets whose deadline passes.
    last_failure: Option<Failure>,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    warnings: VecDeque<String>,
    is_metadata_wanted: bool,
    next: u64,
    /// How what is finished above an offset is stored.
    fit: Fit,
    /// The coordinator that this was found out for.
    fitted_for: Option<BrokerId>,
}

/// Whether the driver looks for the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CoordinatorLookup {
    Idle,
    Asked,
}

/// A partition that is assigned.
#[derive(Debug)]
struct Owned {
    /// Tells this assignment from an earlier one of the same partition.
    assignment: u64,
    topic_id: Option<Uuid>,
    ledger: Ledger,
    /// Whether something was marked as done since all that was done was stored.
    is_marked: bool,
    /// Whether the topic was deleted and made again, and reading goes on as if it had not been: nothing is committed.
    is_remade: bool,
    /// The offset that the group has stored, as far as we know.
    stored: Option<i64>,
    /// The [version](Ledger::runs_version) of what is stored beside it.
    stored_runs: u64,
    /// That of what was given to a transaction.
    given_runs: Option<u64>,
    /// Whether an offset below the stored one may be committed.
    may_go_back: bool,
    /// The last ticket that waits for its next commit.
    asked: Option<Ticket>,
    /// The offset that the coordinator refused: it is not tried again by itself.
    refused: Option<i64>,
    /// What was sent last and may be stored, although no answer says so.
    uncertain: Option<Item>,
    /// Whether the answer to a commit was lost, and no later one was answered well.
    was_lost: bool,
    /// Why the last attempt failed, if it did.
    failure: Option<Failure>,
    retry: Retry,
}

impl Owned {
    /// What is to be stored: what is done, or what may be stored already if that is more. A lower offset could move the committed
    /// one back, because a commit whose answer was lost may have been stored.
    fn target(&self) -> Target {
        let done = self.ledger.committable();
        match &self.uncertain {
            Some(item) if item.what.offset > done.offset => {
                Target { what: item.what.clone(), epoch: item.epoch, runs: item.runs, is_done: false }
            }
            _ => {
                let what =
                    StoredOffset { offset: done.offset, leader_epoch: done.leader_epoch, metadata: None };
                let (epoch, runs) = (self.ledger.epoch(), self.ledger.runs_version());
                Target { what, epoch, runs, is_done: true }
            }
        }
    }

    /// Whether `offset` is worth a commit.
    fn needs(&self, offset: i64) -> bool {
        match self.stored {
            None => true,
            Some(stored) if self.may_go_back => offset != stored,
            Some(stored) => offset > stored,
        }
    }

    /// Whether `target` is worth a commit, if what is finished above it is stored with it (`keeps`) or not.
    fn wants(&self, target: &Target, keeps: bool) -> bool {
        let has_other_runs =
            || keeps && self.stored == Some(target.what.offset) && self.stored_runs != target.runs;
        self.needs(target.what.offset) || has_other_runs()
    }

    /// The text for what is finished above `offset`.
    fn text(&self, offset: i64, fit: Fit) -> Option<Arc<str>> {
        fit.encode(offset, self.ledger.finished_above()).map(Arc::from)
    }
}

/// What is to be stored of a partition.
struct Target {
    /// Without metadata, unless it is what was sent before.
    what: StoredOffset,
    epoch: Epoch,
    /// The version of what is finished above it.
    runs: u64,
    /// Whether it is what is done, and not what may be stored already.
    is_done: bool,
}

#[derive(Debug, Clone)]
enum Due {
    /// What is done when the request is made.
    Done,
    /// What the application gave.
    Given(StoredOffset),
}

#[derive(Debug)]
struct InFlight {
    identity: MemberIdentity,
    items: BTreeMap<TopicPartition, Item>,
}

/// A partition in a request.
#[derive(Debug, Clone)]
struct Item {
    assignment: u64,
    epoch: Epoch,
    topic_id: Option<Uuid>,
    what: StoredOffset,
    /// The version of what is finished above it.
    runs: u64,
    /// How its metadata was made.
    fit: Fit,
    is_given: bool,
    /// Whether its metadata is what is finished above it.
    has_text_of_ours: bool,
    /// Tickets up to this one are settled by the answer.
    asked: Option<Ticket>,
    /// Whether the answer to an earlier attempt was lost.
    was_lost: bool,
}

/// A ticket that waits.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    deadline: Instant,
    /// Whether a call of the application waits for it, and not a partition that is given up.
    is_call: bool,
    /// Its partitions that are not settled, and the offsets that it wants stored.
    partitions: BTreeMap<TopicPartition, i64>,
    failed: Vec<Uncommitted>,
}

impl Waiting {
    fn new(deadline: Instant, now: Instant) -> Self {
        Self { since: now, deadline, is_call: false, partitions: BTreeMap::new(), failed: Vec::new() }
    }
}

/// A topic that the coordinator did not know this often in a row is taken for deleted. A topic may be missing from its metadata
/// for a moment.
const GONE_AFTER: u32 = 5;

/// One request commits this many partitions at most, and the next request the rest: the coordinator writes a request as one
/// batch, which must fit `max.message.bytes` of its topic (INVALID_COMMIT_OFFSET_SIZE). 1 MB holds 5 000 offsets with names of
/// 100 bytes.
const PARTITIONS_MAX: usize = 2_000;
/// One request has this many bytes of metadata at most, or that of one partition, for the same reason.
const METADATA_BYTES_MAX: usize = 512 << 10;
/// No coordinator's throttle holds longer than this.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
/// The last version of OffsetCommitRequest that names topics by name; later ones use ids (KIP-848).
const COMMIT_BY_NAME: i16 = 9;

impl Commits {
    /// A machine without partitions, coordinator or identity.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            identity: None,
            coordinator: None,
            lookup_of_coordinator: CoordinatorLookup::Idle,
            coordinator_retry: Retry::default(),
            partitions: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            due: BTreeMap::new(),
            in_flight: None,
            retry: Retry::default(),
            tickets: BTreeMap::new(),
            left_out: BTreeMap::new(),
            lookups: Lookups::default(),
            throttled_until: None,
            interval_ends: None,
            is_closing: false,
            ended: None,
            last_failure: None,
            events: VecDeque::new(),
            notices: VecDeque::new(),
            warnings: VecDeque::new(),
            is_metadata_wanted: false,
            next: 0,
            fit: Fit::default(),
            fitted_for: None,
        }
    }

    // What the group decides.

    /// Asks what the group has stored of a partition that is about to be assigned. [`Event::Found`] answers.
    pub fn look_up(&mut self, partition: TopicPartition, topic_id: Option<Uuid>) {
        if let Some(failure) = &self.ended {
            self.events.push_back(Event::Found(partition, Err(failure.clone())));
            return;
        }
        self.lookups.want(partition, topic_id);
    }

    /// A partition is read from `from.offset`. `is_stored`: that is the offset which [`Event::Found`] brought. What its metadata says
    /// is finished above it [is restored](Ledger::restored), if the settings say so.
    pub fn assign(
        &mut self,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        epoch: Epoch,
        from: &StoredOffset,
        is_stored: bool,
        now: Instant,
    ) {
        // Whoever asks what is committed of it still wants to know.
        self.disown(partition, &Failure::Ended("the partition was assigned anew"));
        let assignment = self.number();
        let is_before_delivery = self.settings.is_before_delivery;
        let mut ledger = Ledger::new(epoch, from.offset, from.leader_epoch, is_before_delivery);
        if is_stored {
            ledger.restore(self.finished_in(partition, from));
        }
        let owned = Owned {
            assignment,
            topic_id,
            stored_runs: ledger.runs_version(),
            given_runs: None,
            ledger,
            is_marked: false,
            is_remade: false,
            stored: is_stored.then_some(from.offset),
            may_go_back: false,
            asked: None,
            refused: None,
            uncertain: None,
            was_lost: false,
            failure: None,
            retry: Retry::default(),
        };
        self.partitions.insert(partition.clone(), owned);
        if is_stored {
            self.found_stored(partition, from.offset);
        }
        self.changed(partition, now);
    }

    /// The application sought. What it has of the records before `offset` and has not done holds the committed offset back as
    /// before. With automatic commits the committed offset stays where it is until work passes it. Without them the application
    /// may commit an earlier offset.
    pub fn seek(&mut self, partition: &TopicPartition, epoch: Epoch, offset: i64, now: Instant) {
        let may_go_back = self.settings.interval.is_none();
        let why = "the partition was sought elsewhere first";
        self.go_on(partition, epoch, may_go_back, why, now, |ledger| ledger.resume(epoch, offset));
    }

    /// The log was cut off at `offset`: the committed offset may have to go back. What the application has of the records before it
    /// counts as before.
    pub fn truncate(&mut self, partition: &TopicPartition, epoch: Epoch, offset: i64, now: Instant) {
        let why = "the log was cut off first";
        self.go_on(partition, epoch, true, why, now, |ledger| {
            ledger.forget_restored();
            ledger.resume(epoch, offset);
        });
    }

    /// The position was reset by the policy, because the offset does not exist: the committed offset may have to go back, and
    /// what was done before counts no more.
    pub fn reset(&mut self, partition: &TopicPartition, epoch: Epoch, offset: i64, now: Instant) {
        let why = "the position was reset first";
        self.go_on(partition, epoch, true, why, now, |ledger| ledger.restart(epoch, offset, None));
    }

    /// What was delivered from `offset` on, and counts as done because commits come before delivery, was not handed out and
    /// is not going to be: the partition is about to be released. Then `offset` is committed in its place, so that the next
    /// owner begins there.
    pub fn take_back(&mut self, partition: &TopicPartition, epoch: Epoch, offset: i64, now: Instant) {
        let is_ahead = |owned: &Owned| !owned.is_remade && owned.ledger.delivered() > offset;
        if self.partitions.get(partition).is_some_and(is_ahead) {
            let why = "the partition was given up first";
            self.go_on(partition, epoch, true, why, now, |ledger| ledger.resume(epoch, offset));
        }
    }

    /// The topic has this id now. If it had another one, it was made again: no offset that is stored means anything, and until
    /// reading goes on elsewhere, no offset that is done may be stored.
    pub fn set_topic_id(&mut self, partition: &TopicPartition, topic_id: Uuid) {
        self.lookups.set_topic_id(partition, topic_id);
        let Some(owned) = self.partitions.get_mut(partition) else { return };
        let old = owned.topic_id.replace(topic_id);
        if old.is_none_or(|old| old == topic_id) {
            return;
        }
        owned.stored = None;
        owned.uncertain = None;
        owned.may_go_back = true;
        owned.is_remade = true;
        owned.ledger.forget_restored();
        self.unsaved.remove(partition);
        if matches!(self.due.get(partition), Some(Due::Done)) {
            self.drop_due(partition, &remade());
        }
    }

    /// Reading goes on elsewhere, in another epoch.
    fn go_on(
        &mut self,
        partition: &TopicPartition,
        epoch: Epoch,
        may_go_back: bool,
        why: &'static str,
        now: Instant,
        change: impl FnOnce(&mut Ledger),
    ) {
        let Some(owned) = self.partitions.get_mut(partition) else { return };
        if epoch < owned.ledger.epoch() {
            return;
        }
        let is_remade = std::mem::take(&mut owned.is_remade);
        if is_remade {
            self.leave_out(partition, &remade());
        }
        let Some(owned) = self.partitions.get_mut(partition) else { return };
        change(&mut owned.ledger);
        owned.may_go_back |= may_go_back;
        owned.refused = None;
        if may_go_back {
            owned.uncertain = None;
            if owned.was_lost {
                owned.stored = None;
            }
        }
        // An offset that the application gave is committed all the same.
        if matches!(self.due.get(partition), Some(Due::Done)) {
            // One that may be stored already is made sure of first, for those that wait for it.
            let kept = owned.uncertain.as_ref().and_then(|item| item.asked);
            let asked = owned.asked.take();
            owned.asked = kept;
            if owned.uncertain.is_none() {
                self.due.remove(partition);
            }
            let in_flight = self.in_flight.as_ref().and_then(|of| of.items.get(partition)?.asked);
            self.settle_after(
                partition,
                kept.max(in_flight),
                asked,
                &Err(Failure::Caller(why.into())),
                false,
            );
        }
        self.changed(partition, now);
    }

    /// Commits what is done of partitions that the member is about to give up, if commits are automatic, and waits for commits
    /// that the application has asked for. When the ticket is settled, or its deadline has passed, they can be given up.
    pub fn release(&mut self, partitions: &[TopicPartition], deadline: Instant, now: Instant) -> Ticket {
        let takes_done = self.settings.interval.is_some() || self.settings.is_before_delivery;
        let (ticket, waiting) = self.ask(partitions, takes_done, deadline, now);
        self.wait(ticket, waiting)
    }

    /// As [`release`](Self::release), for all partitions, before the member leaves. Nothing is committed by itself afterwards.
    pub fn close(&mut self, deadline: Instant, now: Instant) -> Ticket {
        let takes_done = self.settings.interval.is_some() || self.settings.is_before_delivery;
        self.is_closing = true;
        self.interval_ends = None;
        let partitions: Vec<_> = self.partitions.keys().cloned().collect();
        let (ticket, waiting) = self.ask(&partitions, takes_done, deadline, now);
        self.wait(ticket, waiting)
    }

    /// The member has a partition no more. Commits of it that wait fail with `why`; one that is in flight is waited for.
    pub fn give_up(&mut self, partition: &TopicPartition, why: &Failure) {
        self.lookups.forget(partition);
        self.disown(partition, why);
    }

    fn disown(&mut self, partition: &TopicPartition, why: &Failure) {
        self.unsaved.remove(partition);
        if !self.drop_due(partition, why) {
            self.leave_out(partition, why);
        }
        self.partitions.remove(partition);
    }

    /// What is due of a partition is not committed. Tickets that wait for the request in flight go on waiting. Answers whether a
    /// call was told.
    fn drop_due(&mut self, partition: &TopicPartition, why: &Failure) -> bool {
        self.due.remove(partition);
        let asked = self.partitions.get_mut(partition).and_then(|owned| owned.asked.take());
        let in_flight = self.in_flight.as_ref().and_then(|of| of.items.get(partition)?.asked);
        self.settle_after(partition, in_flight, asked, &Err(why.clone()), false)
    }

    /// What was marked as done of a partition is not committed and will not be, unless the request in flight commits it.
    fn leave_out(&mut self, partition: &TopicPartition, why: &Failure) {
        let Some(owned) = self.partitions.get_mut(partition) else { return };
        let offset = owned.ledger.committable().offset;
        let in_flight = self.in_flight.as_ref().and_then(|of| of.items.get(partition));
        let in_flight = in_flight.filter(|item| item.assignment == owned.assignment);
        let is_decided = in_flight.is_none_or(|item| item.what.offset != offset || owned.is_remade);
        if std::mem::take(&mut owned.is_marked) && is_decided && owned.needs(offset) {
            let may_be_stored = owned.was_lost;
            self.note_left_out(partition, offset, why, may_be_stored);
        }
    }

    /// Something was marked as done after its partition had been given up, up to `offset`. The next call that commits tells it.
    pub fn handle_done_too_late(&mut self, partition: &TopicPartition, offset: i64) {
        let stored = self.partitions.get(partition).and_then(|owned| owned.stored);
        if stored.is_none_or(|stored| stored < offset) {
            let why = Failure::Ended("its partition was given up before it was done");
            self.note_left_out(partition, offset, &why, false);
        }
    }

    fn note_left_out(&mut self, partition: &TopicPartition, offset: i64, why: &Failure, may_be_stored: bool) {
        let of = Uncommitted { partition: partition.clone(), offset, failure: why.clone(), may_be_stored };
        self.left_out.insert(partition.clone(), of);
    }

    /// The group has stored `offset`, or more.
    fn found_stored(&mut self, partition: &TopicPartition, offset: i64) {
        if self.left_out.get(partition).is_some_and(|of| of.offset <= offset) {
            self.left_out.remove(partition);
        }
    }

    /// What was marked as done of partitions that were given up, and is not committed. Each is told once, here or by
    /// [`commit`](Self::commit).
    pub fn take_left_out(&mut self) -> Option<NotCommitted> {
        let partitions: Vec<_> = std::mem::take(&mut self.left_out).into_values().collect();
        let group = Arc::clone(&self.settings.group);
        (!partitions.is_empty()).then_some(NotCommitted { group, partitions })
    }

    /// As what the coordinator knows the member now. None: it knows it not, or not yet.
    pub fn handle_identity(&mut self, identity: Option<MemberIdentity>) {
        if identity.is_some() && identity != self.identity {
            // What was refused for the old identity may be taken now.
            self.retry.hurry();
            self.lookups.hurry();
        }
        self.identity = identity;
    }

    // What the application does.

    /// A batch is delivered, as [`Ledger::handle_delivered`] has it. Answers whether it may be: not if its partition was given
    /// up or sought since.
    pub fn handle_delivered(
        &mut self,
        partition: &TopicPartition,
        epoch: Epoch,
        offsets: Range<i64>,
        leader_epoch: Option<LeaderEpoch>,
        now: Instant,
    ) -> bool {
        let Some(owned) = self.partitions.get_mut(partition) else { return false };
        let before = owned.ledger.committable().offset;
        let is_current = owned.ledger.handle_delivered(epoch, offsets, leader_epoch);
        // Most batches change nothing that can be committed.
        if owned.ledger.committable().offset != before {
            self.changed(partition, now);
        }
        is_current
    }

    /// Reading goes on at `next`, as [`Ledger::handle_passed`] has it.
    pub fn handle_passed(&mut self, partition: &TopicPartition, epoch: Epoch, next: i64, now: Instant) {
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.ledger.handle_passed(epoch, next);
            self.changed(partition, now);
        }
    }

    /// Offsets are done, or hold no record, as [`Ledger::handle_done`] has it.
    pub fn handle_done(
        &mut self,
        partition: &TopicPartition,
        epoch: Epoch,
        offsets: Range<i64>,
        now: Instant,
    ) -> Marked {
        let Some(owned) = self.partitions.get_mut(partition) else { return Marked::Stale };
        let marked = owned.ledger.handle_done(epoch, offsets);
        if marked == Marked::New {
            owned.is_marked = true;
            self.changed(partition, now);
        }
        marked
    }

    /// Commits what is done now of all partitions. The ticket is settled when it is stored, or at `deadline`. It fails as well
    /// for what was done since the last call and cannot be committed any more, because its partition is gone.
    pub fn commit(&mut self, deadline: Instant, now: Instant) -> Ticket {
        let remade = self.partitions.iter().filter(|(_, owned)| owned.is_remade);
        let remade: Vec<_> = remade.map(|(partition, _)| partition.clone()).collect();
        for partition in remade {
            self.leave_out(&partition, &self::remade());
        }
        let mut partitions: BTreeSet<_> = self.unsaved.clone();
        partitions.extend(self.due.keys().cloned());
        partitions.extend(self.in_flight.iter().flat_map(|of| of.items.keys().cloned()));
        let partitions: Vec<_> = partitions.into_iter().collect();
        let (ticket, mut waiting) = self.ask(&partitions, true, deadline, now);
        waiting.is_call = true;
        waiting.failed.extend(std::mem::take(&mut self.left_out).into_values());
        self.wait(ticket, waiting)
    }

    /// Commits these offsets as they are, also if they are below committed ones. Of two commits of a partition that wait,
    /// the later one counts.
    pub fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, StoredOffset)>,
        deadline: Instant,
        now: Instant,
    ) -> Ticket {
        let ticket = Ticket(self.number());
        let mut waiting = Waiting::new(deadline, now);
        waiting.is_call = true;
        for (partition, what) in offsets {
            let failure = match (&self.ended, self.partitions.get(&partition)) {
                (Some(failure), _) => Some(failure.clone()),
                (None, None) => {
                    Some(Failure::Caller("the partition is not assigned to this consumer".into()))
                }
                (None, Some(_)) if what.offset < 0 => {
                    Some(Failure::Caller("an offset to commit is 0 or more".into()))
                }
                (None, Some(_)) => None,
            };
            if let Some(failure) = failure {
                let offset = what.offset;
                waiting.failed.push(Uncommitted { partition, offset, failure, may_be_stored: false });
                continue;
            }
            if let Some(owned) = self.partitions.get_mut(&partition) {
                owned.asked = Some(ticket);
            }
            waiting.partitions.insert(partition.clone(), what.offset);
            self.due.insert(partition, Due::Given(what));
        }
        self.wait(ticket, waiting)
    }

    /// What is done of all partitions and not stored, to be committed in a transaction.
    pub fn done(&mut self) -> Vec<(TopicPartition, StoredOffset)> {
        let fit = self.fit_of_runs();
        let of = |at: &TopicPartition| {
            let owned = self.partitions.get_mut(at)?;
            let Target { mut what, runs, is_done, .. } = owned.target();
            if is_done {
                what.metadata = owned.text(what.offset, fit);
            }
            owned.given_runs = Some(runs);
            Some((at.clone(), what))
        };
        self.unsaved.iter().filter_map(of).collect()
    }

    /// These offsets were stored with a transaction.
    pub fn handle_stored(&mut self, offsets: &[(TopicPartition, StoredOffset)], now: Instant) {
        for (partition, what) in offsets {
            let Some(owned) = self.partitions.get_mut(partition) else { continue };
            owned.stored = Some(what.offset);
            owned.stored_runs = owned.given_runs.take().unwrap_or_else(|| owned.ledger.runs_version());
            owned.is_marked &= owned.ledger.committable().offset > what.offset;
            self.found_stored(partition, what.offset);
            self.changed(partition, now);
        }
    }

    /// Whether the coordinator has refused what is done of a partition, so that it is not committed again by itself.
    pub fn is_refused(&self, partition: &TopicPartition) -> bool {
        let owned = self.partitions.get(partition);
        owned.is_some_and(|owned| owned.refused == Some(owned.target().what.offset))
    }

    /// The offset that the group has stored of a partition, as far as is known. With commits before delivery, a batch that ends
    /// at or below it may be delivered.
    pub fn stored(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.stored
    }

    /// Whether nothing is committed any more, because another instance has taken the member's place.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The account of a partition, if it is assigned.
    pub fn ledger(&self, partition: &TopicPartition) -> Option<&Ledger> {
        Some(&self.partitions.get(partition)?.ledger)
    }

    /// A ticket for these partitions: for what is done of them if `takes_done`, and for what is due or in flight.
    fn ask(
        &mut self,
        partitions: &[TopicPartition],
        takes_done: bool,
        deadline: Instant,
        now: Instant,
    ) -> (Ticket, Waiting) {
        let ticket = Ticket(self.number());
        let mut waiting = Waiting::new(deadline, now);
        for partition in partitions {
            if takes_done {
                self.make_due(partition);
            }
            let in_flight = self.in_flight.as_mut().and_then(|of| of.items.get_mut(partition));
            let offset = match (self.due.get(partition), in_flight, self.partitions.get_mut(partition)) {
                (Some(due), _, Some(owned)) => {
                    owned.asked = Some(ticket);
                    match due {
                        Due::Done => owned.target().what.offset,
                        Due::Given(what) => what.offset,
                    }
                }
                (_, Some(item), _) => {
                    item.asked = Some(ticket);
                    item.what.offset
                }
                (_, None, _) => continue,
            };
            waiting.partitions.insert(partition.clone(), offset);
        }
        if let Some(failure) = self.ended.clone() {
            self.due.clear();
            let all = std::mem::take(&mut waiting.partitions);
            waiting.failed.extend(all.into_iter().map(|(partition, offset)| Uncommitted {
                partition,
                offset,
                failure: failure.clone(),
                may_be_stored: false,
            }));
        }
        (ticket, waiting)
    }

    /// What is done of a partition is to be committed, unless it is stored or the request in flight does it.
    fn make_due(&mut self, partition: &TopicPartition) {
        let Some(owned) = self.partitions.get(partition).filter(|owned| !owned.is_remade) else { return };
        let (target, keeps) = (owned.target(), self.fit_of_runs() != Fit::NONE);
        let in_flight = self.in_flight.as_ref().and_then(|of| of.items.get(partition));
        let in_flight = in_flight.filter(|item| item.assignment == owned.assignment);
        let is_in_flight = in_flight.is_some_and(|item| {
            item.what.offset == target.what.offset && (!keeps || item.runs == target.runs)
        });
        // When the application goes back, the stored offset may be right now and wrong once the request has arrived.
        let goes_back = owned.may_go_back && in_flight.is_some() && !is_in_flight;
        if !self.unsaved.contains(partition) && !goes_back {
            return;
        }
        match self.due.get(partition) {
            None if is_in_flight => {}
            // An earlier offset that the application gave is what it wants now.
            Some(Due::Given(what)) if target.what.offset <= what.offset => {}
            _ => {
                self.due.insert(partition.clone(), Due::Done);
            }
        }
    }

    fn wait(&mut self, ticket: Ticket, waiting: Waiting) -> Ticket {
        self.tickets.insert(ticket, waiting);
        self.conclude(ticket);
        ticket
    }

    /// Settles a ticket whose partitions are all settled.
    fn conclude(&mut self, ticket: Ticket) {
        if !self.tickets.get(&ticket).is_some_and(|waiting| waiting.partitions.is_empty()) {
            return;
        }
        let Some(waiting) = self.tickets.remove(&ticket) else { return };
        let result = if waiting.failed.is_empty() {
            Ok(())
        } else {
            Err(NotCommitted { group: Arc::clone(&self.settings.group), partitions: waiting.failed })
        };
        self.events.push_back(Event::Settled(ticket, result));
    }

    /// A commit of a partition ended for all tickets up to `asked`.
    fn settle(&mut self, partition: &TopicPartition, item: &Item, result: &Result<(), Failure>) {
        let is_told = self.settle_after(partition, None, item.asked, result, item.was_lost);
        let is_gone = self.partitions.get(partition).is_none_or(|of| of.assignment != item.assignment);
        if let Err(failure) = result
            && is_gone
            && !is_told
            && !item.is_given
        {
            self.note_left_out(
                partition,
                item.what.offset,
                failure,
                item.was_lost || failure.may_have_acted(),
            );
        }
    }

    /// As [`settle`](Self::settle), for tickets after `first` only. Answers whether a call was told.
    fn settle_after(
        &mut self,
        partition: &TopicPartition,
        first: Option<Ticket>,
        asked: Option<Ticket>,
        result: &Result<(), Failure>,
        was_lost: bool,
    ) -> bool {
        let Some(asked) = asked.filter(|asked| first < Some(*asked)) else { return false };
        let mut is_told = false;
        let mut settled = Vec::new();
        let was_lost = was_lost || self.partitions.get(partition).is_some_and(|owned| owned.was_lost);
        let may_be_stored = was_lost || result.as_ref().is_err_and(Failure::may_have_acted);
        let after = first.map_or(Bound::Unbounded, Bound::Excluded);
        for (ticket, waiting) in self.tickets.range_mut((after, Bound::Included(asked))) {
            let Some(offset) = waiting.partitions.remove(partition) else { continue };
            is_told |= waiting.is_call;
            if let Err(failure) = result {
                let (partition, failure) = (partition.clone(), failure.clone());
                waiting.failed.push(Uncommitted { partition, offset, failure, may_be_stored });
            }
            settled.push(*ticket);
        }
        for ticket in settled {
            self.conclude(ticket);
        }
        is_told
    }

    /// A partition's ledger or stored offset has changed.
    fn changed(&mut self, partition: &TopicPartition, now: Instant) {
        let keeps = self.fit_of_runs() != Fit::NONE;
        let Some(owned) = self.partitions.get(partition) else { return };
        let target = owned.target();
        let offset = target.what.offset;
        if owned.is_remade {
            return;
        }
        if !owned.wants(&target, keeps) {
            self.unsaved.remove(partition);
            // A commit that was in flight has stored it, or more.
            if matches!(self.due.get(partition), Some(Due::Done)) {
                self.due.remove(partition);
                let asked = self.partitions.get_mut(partition).and_then(|owned| owned.asked.take());
                let in_flight = self.in_flight.as_ref().and_then(|of| of.items.get(partition)?.asked);
                self.settle_after(partition, in_flight, asked, &Ok(()), false);
            }
            return;
        }
        if !self.unsaved.contains(partition) {
            self.unsaved.insert(partition.clone());
        }
        let is_automatic = !self.is_closing && self.ended.is_none() && owned.refused != Some(offset);
        if let Some(interval) = self.settings.interval.filter(|_| is_automatic) {
            self.interval_ends.get_or_insert(now + interval);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // What arrives.

    /// The coordinator was looked up.
    pub fn handle_coordinator(&mut self, found: Result<BrokerId, Failure>, now: Instant) {
        self.lookup_of_coordinator = CoordinatorLookup::Idle;
        let failure = match found {
            Ok(broker) => {
                self.coordinator = Some(broker);
                if self.fitted_for.replace(broker) != Some(broker) {
                    self.fit = Fit::default();
                }
                self.coordinator_retry.succeeded();
                return;
            }
            Err(failure) => failure,
        };
        self.coordinator = None;
        let may_pass = self.coordinator_retry.may_pass(&failure);
        self.coordinator_retry.failed_by(&failure, now, &self.settings.backoff, &mut self.rng);
        if self.coordinator_retry.is_notable(&failure) {
            let failures = self.coordinator_retry.failures();
            self.notice("looking for the coordinator of group", &failure, failures);
        }
        self.last_failure = Some(failure.clone());
        if !may_pass {
            self.fail_due(&failure);
            self.fail_lookups(&failure);
        }
    }

    /// The commit in flight was answered.
    pub fn handle_committed(&mut self, response: &OffsetCommitResponse, now: Instant) {
        self.throttle(response.throttle_time_ms, now);
        let Some(in_flight) = self.in_flight.take() else { return };
        let mut codes = BTreeMap::new();
        for topic in &response.topics {
            for of in &topic.partitions {
                codes.insert((&*topic.name, topic.topic_id, of.partition_index), of.error_code);
            }
        }
        // The worst that was said of all partitions.
        let mut whole: Option<(Verdict, Failure)> = None;
        let mut notable: Vec<(TopicPartition, Failure, u32)> = Vec::new();
        let is_current = self.identity.as_ref() == Some(&in_flight.identity);
        for (partition, item) in in_flight.items {
            let by_name = codes.get(&(&*partition.topic, Uuid::ZERO, partition.partition));
            let by_id = || item.topic_id.and_then(|id| codes.get(&("", id, partition.partition)));
            let Some(code) = by_name.or_else(by_id).copied() else {
                let failure = Failure::incomplete();
                let may_pass = self.partitions.get(&partition).is_some_and(|of| of.retry.may_pass(&failure));
                let told = if may_pass {
                    self.again(&partition, item, &failure, true, now)
                } else {
                    self.refuse(&partition, &item, &failure, now)
                };
                notable.extend(told.map(|failures| (partition, failure, failures)));
                continue;
            };
            let failure = Failure::answer(code, None).of(ApiKey::OffsetCommit);
            let failure = failure.on(Resource::Topic, &partition.topic);
            let mut failure = failure.on(Resource::Group, &self.settings.group);
            if !in_flight.identity.is_member() {
                failure = of_group_with_members(failure);
            }
            let verdict = match verdict(code) {
                // The group has members, and this consumer is none of them.
                Verdict::Rejoin | Verdict::Overtaken | Verdict::Fenced | Verdict::AfterRebalance
                    if !in_flight.identity.is_member() =>
                {
                    Verdict::Refused
                }
                // The member has joined again since, or is about to: what it still owns is committed with its new identity.
                Verdict::Rejoin | Verdict::Overtaken | Verdict::Fenced if !is_current => {
                    Verdict::AfterRebalance
                }
                Verdict::Again if is_unknown_topic(code) && self.is_gone(&partition) => Verdict::Refused,
                verdict => verdict,
            };
            let told = match verdict {
                Verdict::Good => {
                    self.store(&partition, &item, now);
                    None
                }
                Verdict::Again => {
                    self.is_metadata_wanted |= code == ErrorCode::UNKNOWN_TOPIC_ID;
                    self.again(&partition, item, &failure, true, now)
                }
                Verdict::Reroute | Verdict::AfterRebalance | Verdict::Overtaken => {
                    self.again(&partition, item, &failure, false, now);
                    whole = Some((verdict, failure.clone()));
                    None
                }
                Verdict::Rejoin | Verdict::Fenced => {
                    self.settle(&partition, &item, &Err(failure.clone()));
                    whole = Some((verdict, failure.clone()));
                    None
                }
                Verdict::Refused
                    if code == ErrorCode::OFFSET_METADATA_TOO_LARGE
                        && item.has_text_of_ours
                        && let Some(text) = &item.what.metadata =>
                {
                    self.fit_less(&partition, item.fit, text.len());
                    self.again(&partition, item, &failure, false, now)
                }
                Verdict::Refused => self.refuse(&partition, &item, &failure, now),
            };
            notable.extend(told.map(|failures| (partition, failure, failures)));
        }
        // One warning for an answer: ten thousand partitions of a topic fail for the same reason.
        if let Some((partition, failure, failures)) = notable.first() {
            let doing = match notable.len() - 1 {
                0 => format!("committing {partition} in group"),
                more => format!("committing {partition} and {more} more partitions in group"),
            };
            self.notice(&doing, failure, *failures);
        }
        match whole {
            Some((verdict, failure)) => {
                self.retry.failed_by(&failure, now, &self.settings.backoff, &mut self.rng);
                if verdict == Verdict::AfterRebalance && !is_current && self.identity.is_some() {
                    self.retry.hurry();
                }
                if self.retry.is_notable(&failure) {
                    let failures = self.retry.failures();
                    self.notice("committing offsets of group", &failure, failures);
                }
                self.take_whole(verdict, failure);
            }
            None => {
                self.retry.succeeded();
                self.last_failure = None;
            }
        }
        let unsaved: Vec<_> = self.unsaved.iter().cloned().collect();
        for partition in unsaved {
            self.changed(&partition, now);
        }
    }

    /// The lookup in flight was answered.
    pub fn handle_offsets(&mut self, response: &OffsetFetchResponse, now: Instant) {
        self.throttle(response.throttle_time_ms, now);
        let identity = self.identity.as_ref();
        let heard =
            self.lookups.handle_response(response, identity, now, &self.settings.backoff, &mut self.rng);
        for (partition, found) in heard.found {
            self.events.push_back(Event::Found(partition, found));
        }
        if let Some((verdict, failure)) = heard.verdict {
            self.is_metadata_wanted |= failure.code() == Some(ErrorCode::UNKNOWN_TOPIC_ID);
            if self.lookups.retry().is_notable(&failure) {
                let failures = self.lookups.retry().failures();
                self.notice("asking for the committed offsets of group", &failure, failures);
            }
            self.take_whole(verdict, failure);
        }
    }

    fn throttle(&mut self, throttle_ms: i32, now: Instant) {
        let throttle = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0)).min(THROTTLE_MAX);
        if throttle > Duration::ZERO {
            self.throttled_until = self.throttled_until.max(Some(now + throttle));
        }
    }

    /// A request got no usable answer: the connection was lost, its deadline passed, or the answer cannot be read.
    pub fn handle_lost(&mut self, kind: Kind, failure: &Failure, now: Instant) {
        // The coordinator may have moved. A broker that is silent does not say so itself.
        self.coordinator = None;
        self.last_failure = Some(failure.clone());
        match kind {
            Kind::Lookup => {
                if !self.lookups.handle_lost(failure, now, &self.settings.backoff, &mut self.rng) {
                    self.fail_lookups(failure);
                }
            }
            Kind::Commit => {
                let Some(in_flight) = self.in_flight.take() else { return };
                let may_pass = self.retry.may_pass(failure);
                self.retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
                for (partition, item) in in_flight.items {
                    if may_pass {
                        self.again(&partition, item, failure, false, now);
                    } else {
                        self.refuse(&partition, &item, failure, now);
                    }
                }
                if self.retry.is_notable(failure) {
                    let failures = self.retry.failures();
                    self.notice("committing offsets of group", failure, failures);
                }
            }
        }
    }

    /// Commits progress whose interval has ended, and settles tickets whose deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.throttled_until = self.throttled_until.filter(|at| *at > now);
        if self.interval_ends.is_some_and(|at| at <= now) {
            self.interval_ends = None;
            let unsaved: Vec<_> = self.unsaved.iter().cloned().collect();
            for partition in unsaved {
                let is_refused = self
                    .partitions
                    .get(&partition)
                    .is_some_and(|of| of.refused == Some(of.target().what.offset));
                if !is_refused {
                    self.make_due(&partition);
                }
            }
        }
        let late: Vec<_> = self
            .tickets
            .iter()
            .filter(|(_, waiting)| waiting.deadline <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in late {
            self.stop_waiting(ticket, now);
        }
    }

    /// Settles a ticket that is not settled yet: its deadline has passed, or nothing waits for it any more.
    pub fn stop_waiting(&mut self, ticket: Ticket, now: Instant) {
        let Some(waiting) = self.tickets.get_mut(&ticket) else { return };
        let after = now.min(waiting.deadline) - waiting.since;
        for (partition, offset) in std::mem::take(&mut waiting.partitions) {
            let item = self.in_flight.as_ref().and_then(|of| of.items.get(&partition));
            let sent = item.is_some_and(|item| item.asked >= Some(ticket));
            let silence = || Failure::TimedOut { peer: "the group's coordinator".into(), after, sent };
            let of_partition = || self.partitions.get(&partition).and_then(|owned| owned.failure.clone());
            let last = if sent { None } else { self.last_failure.clone().or_else(of_partition) };
            let failure = last.unwrap_or_else(silence);
            let was_lost = self.partitions.get(&partition).is_some_and(|owned| owned.was_lost);
            let may_be_stored = was_lost || failure.may_have_acted();
            waiting.failed.push(Uncommitted { partition, offset, failure, may_be_stored });
        }
        self.conclude(ticket);
        // Its caller was told that nothing is committed, and without automatic commits no other attempt is made.
        let due: Vec<_> = self.due.keys().filter(|partition| !self.is_worth(partition)).cloned().collect();
        for partition in due {
            self.due.remove(&partition);
        }
    }

    /// Whether an attempt to commit a partition is worth another one: commits are automatic, or a call waits for it.
    fn is_worth(&self, partition: &TopicPartition) -> bool {
        self.settings.interval.is_some()
            || self.tickets.values().any(|waiting| waiting.partitions.contains_key(partition))
    }

    /// The group has stored an item.
    fn store(&mut self, partition: &TopicPartition, item: &Item, now: Instant) {
        if let Some(owned) = self.partitions.get_mut(partition).filter(|of| of.assignment == item.assignment)
        {
            if owned.topic_id == item.topic_id || item.topic_id.is_none() {
                owned.stored = Some(item.what.offset);
                owned.stored_runs = item.runs;
            }
            // What was in flight when the application sought says nothing about going back.
            owned.may_go_back &= item.epoch != owned.ledger.epoch();
            owned.refused = None;
            owned.uncertain = None;
            owned.was_lost = false;
            owned.failure = None;
            owned.retry.succeeded();
            if item.is_given {
                owned.ledger.handle_committed(item.epoch, item.what.offset);
            }
            owned.is_marked &= owned.needs(owned.ledger.committable().offset);
        }
        self.found_stored(partition, item.what.offset);
        self.settle(partition, item, &Ok(()));
        self.changed(partition, now);
    }

    /// An item is to be committed again, with what is done by then. Answers how often in a row the partition has failed, if
    /// people are to be told.
    fn again(
        &mut self,
        partition: &TopicPartition,
        item: Item,
        failure: &Failure,
        is_of_partition: bool,
        now: Instant,
    ) -> Option<u32> {
        let backoff = self.settings.backoff;
        let owned = self.partitions.get_mut(partition).filter(|of| of.assignment == item.assignment);
        let Some(owned) = owned else {
            self.settle(partition, &item, &Err(failure.clone()));
            return None;
        };
        // Automatic commits never go back without a reason, so they remember what may be stored. Others send what is wanted
        // now, whatever is stored.
        let is_automatic = self.settings.interval.is_some();
        let goes_back = !is_automatic || (owned.may_go_back && owned.ledger.epoch() != item.epoch);
        let is_uncertain = !goes_back && failure.may_have_acted();
        if failure.may_have_acted() {
            owned.was_lost = true;
            if goes_back {
                owned.stored = None;
            }
        }
        if !item.is_given && !is_uncertain && owned.ledger.epoch() != item.epoch {
            // What was done before a seek is not committed after it, except for what may be stored already.
            let kept = owned.uncertain.as_ref().map(|uncertain| uncertain.asked);
            if let Some(asked) = kept {
                owned.asked = owned.asked.max(asked);
                self.due.entry(partition.clone()).or_insert(Due::Done);
            }
            self.settle_after(partition, kept.flatten(), item.asked, &Err(failure.clone()), item.was_lost);
            self.changed(partition, now);
            return None;
        }
        if is_uncertain {
            owned.uncertain = Some(item.clone());
        }
        owned.failure = Some(failure.clone());
        let mut told = None;
        if is_of_partition {
            owned.retry.failed_by(failure, now, &backoff, &mut self.rng);
            told = owned.retry.is_notable(failure).then(|| owned.retry.failures());
        }
        // A newer commit of the partition counts in its place, and its answer settles both.
        owned.asked = owned.asked.max(item.asked);
        if self.is_worth(partition) {
            let metadata = item.what.metadata.filter(|_| !item.has_text_of_ours);
            let due =
                if item.is_given { Due::Given(StoredOffset { metadata, ..item.what }) } else { Due::Done };
            self.due.entry(partition.clone()).or_insert(due);
        }
        told
    }

    /// Whether a partition that is given up seems to have been deleted: the coordinator does not know its topic, and has not for
    /// several attempts. Then the rest of the group is not made to wait for this commit until the rebalance's deadline, as
    /// Java's client did (KAFKA-13310).
    fn is_gone(&self, partition: &TopicPartition) -> bool {
        let is_last = |waiting: &Waiting| !waiting.is_call && waiting.partitions.contains_key(partition);
        let failures = self.partitions.get(partition).map_or(0, |owned| owned.retry.failures());
        failures + 1 >= GONE_AFTER && self.tickets.values().any(is_last)
    }

    /// The coordinator refuses an item, or no request can reach it. Answers as [`again`](Self::again).
    fn refuse(
        &mut self,
        partition: &TopicPartition,
        item: &Item,
        failure: &Failure,
        now: Instant,
    ) -> Option<u32> {
        let backoff = self.settings.backoff;
        let mut told = None;
        if let Some(owned) = self.partitions.get_mut(partition).filter(|of| of.assignment == item.assignment)
        {
            owned.refused = Some(item.what.offset);
            owned.retry.failed_by(failure, now, &backoff, &mut self.rng);
            let failures = owned.retry.failures();
            // A call that waits gets the error. Without one, the log has it.
            let is_told = item.asked.is_none() && (failures == 1 || owned.retry.is_notable(failure));
            told = is_told.then_some(failures);
        }
        self.settle(partition, item, &Err(failure.clone()));
        told
    }

    /// An answer was about the request as a whole.
    fn take_whole(&mut self, verdict: Verdict, failure: Failure) {
        self.last_failure = Some(failure.clone());
        match verdict {
            Verdict::Good | Verdict::Again | Verdict::AfterRebalance | Verdict::Refused => {}
            Verdict::Reroute => self.coordinator = None,
            Verdict::Rejoin | Verdict::Overtaken => {
                if let Some(identity) = self.identity.take() {
                    let generation_or_epoch = identity.generation_or_epoch;
                    self.events.push_back(Event::Rejoin { failure, generation_or_epoch });
                }
            }
            Verdict::Fenced => {
                self.ended = Some(failure.clone());
                self.interval_ends = None;
                self.fail_due(&failure);
                self.fail_lookups(&failure);
                self.events.push_back(Event::Fenced(failure));
            }
        }
    }

    /// All that waits to be sent fails.
    fn fail_due(&mut self, failure: &Failure) {
        let due: Vec<_> = self.due.keys().cloned().collect();
        for partition in due {
            self.drop_due(&partition, failure);
        }
    }

    fn fail_lookups(&mut self, failure: &Failure) {
        for partition in self.lookups.abandon() {
            self.events.push_back(Event::Found(partition, Err(failure.clone())));
        }
    }

    fn notice(&mut self, doing: &str, failure: &Failure, failures: u32) {
        let doing = format!("{doing} {}", self.settings.group).into();
        self.notices.push_back(Notice { doing, failure: failure.clone(), failures });
    }

    // What to do.

    /// What the driver is to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The request to send now.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        let may_send = self.ended.is_none() && self.throttled_until.is_none_or(|at| at <= now);
        let broker = self.coordinator.filter(|_| may_send)?;
        let identity = self.identity.clone()?;
        let deadline = now + self.settings.request_timeout;
        // A commit first: the coordinator answers one connection in order, so a lookup after it sees what it stored.
        if let Some(request) = self.poll_commit(broker, &identity, deadline, now) {
            return Some(request);
        }
        let require_stable = self.settings.require_stable;
        let (lookup, version_max) =
            self.lookups.poll(&self.settings.group, &identity, require_stable, now)?;
        Some(Request::Lookup { broker, lookup, version_max, deadline })
    }

    fn poll_commit(
        &mut self,
        broker: BrokerId,
        identity: &MemberIdentity,
        deadline: Instant,
        now: Instant,
    ) -> Option<Request> {
        if self.in_flight.is_some() || self.due.is_empty() || !self.retry.is_ready(now) {
            return None;
        }
        let is_ready = |partition: &TopicPartition| {
            self.partitions.get(partition).is_some_and(|of| of.retry.is_ready(now))
        };
        let ready: Vec<_> = self.due.keys().filter(|partition| is_ready(partition)).cloned().collect();
        let (fit, mut metadata_bytes) = (self.fit_of_runs(), 0);
        let mut items = BTreeMap::new();
        for partition in ready {
            if items.len() == PARTITIONS_MAX || metadata_bytes >= METADATA_BYTES_MAX {
                break;
            }
            let (Some(due), Some(owned)) = (self.due.remove(&partition), self.partitions.get_mut(&partition))
            else {
                continue;
            };
            let asked = owned.asked.take();
            let (target, is_given) = match due {
                Due::Given(what) => {
                    let (epoch, runs) = (owned.ledger.epoch(), owned.ledger.runs_version());
                    // Of an earlier offset the application wants everything after it again.
                    let is_done = what.metadata.is_none() && what.offset >= owned.ledger.committable().offset;
                    (Target { what, epoch, runs, is_done }, true)
                }
                Due::Done => (owned.target(), false),
            };
            if !is_given && !owned.wants(&target, fit != Fit::NONE) {
                // A commit that the application gave has stored it, or more.
                self.settle_after(&partition, None, asked, &Ok(()), false);
                continue;
            }
            let Target { mut what, epoch, runs, is_done } = target;
            if is_done {
                what.metadata = owned.text(what.offset, fit);
            }
            metadata_bytes += what.metadata.as_ref().map_or(0, |text| text.len());
            let item = Item {
                assignment: owned.assignment,
                epoch,
                topic_id: owned.topic_id,
                what,
                runs,
                fit,
                is_given,
                has_text_of_ours: is_done || !is_given,
                asked,
                was_lost: owned.was_lost,
            };
            items.insert(partition, item);
        }
        if items.is_empty() {
            return None;
        }
        let (request, version_max) = commit_request(&self.settings.group, identity, &items);
        self.in_flight = Some(InFlight { identity: identity.clone(), items });
        Some(Request::Commit { broker, request, version_max, deadline })
    }

    /// Whether the coordinator is to be looked up, anew if it was before. Each time is told once, and answered by
    /// [`handle_coordinator`](Self::handle_coordinator).
    pub fn poll_coordinator_wanted(&mut self, now: Instant) -> bool {
        let is_wanted = self.coordinator.is_none() && self.has_work() && self.coordinator_retry.is_ready(now);
        if !is_wanted || self.lookup_of_coordinator == CoordinatorLookup::Asked {
            return false;
        }
        self.lookup_of_coordinator = CoordinatorLookup::Asked;
        true
    }

    fn has_work(&self) -> bool {
        self.ended.is_none() && (!self.due.is_empty() || self.lookups.is_wanted())
    }

    /// Whether the metadata should be asked for anew, because the coordinator does not know a topic's id. Each time is told once.
    pub fn poll_metadata_wanted(&mut self) -> bool {
        std::mem::take(&mut self.is_metadata_wanted)
    }

    /// Something to log as a warning, that is not being tried again.
    pub fn poll_warning(&mut self) -> Option<String> {
        self.warnings.pop_front()
    }

    /// A warning to log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and poll again, although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.tickets.values().map(|waiting| waiting.deadline).min();
        let mut next = earliest([self.interval_ends, deadlines]);
        let mut consider = |at: Option<Instant>| next = earliest([next, at]);
        if self.coordinator.is_none() {
            if self.has_work() && self.lookup_of_coordinator == CoordinatorLookup::Idle {
                consider(self.coordinator_retry.not_before());
            }
        } else if self.identity.is_some() {
            consider(self.lookups.not_before().max(self.throttled_until));
            if self.in_flight.is_none() && !self.due.is_empty() {
                let of_partitions = self.due.keys().filter_map(|partition| self.partitions.get(partition));
                let first = of_partitions.map(|of| of.retry.not_before()).min().flatten();
                consider(self.retry.not_before().max(first).max(self.throttled_until));
            }
        }
        next
    }
}

fn remade() -> Failure {
    Failure::Ended("the topic was deleted and made again")
}

/// The request for these items, and the latest version that can carry it.
fn commit_request(
    group: &Arc<str>,
    identity: &MemberIdentity,
    items: &BTreeMap<TopicPartition, Item>,
) -> (OffsetCommitRequest, i16) {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (at, item) in items {
        let partition = OffsetCommitRequestPartition {
            partition_index: at.partition,
            committed_offset: item.what.offset,
            committed_leader_epoch: item.what.leader_epoch.map_or(-1, |epoch| epoch.0),
            committed_metadata: Some(item.what.metadata.as_deref().unwrap_or_default().into()),
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| topic.name == *at.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: (&*at.topic).into(),
                topic_id: item.topic_id.unwrap_or(Uuid::ZERO),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    let has_ids = topics.iter().all(|topic| topic.topic_id != Uuid::ZERO);
    let request = OffsetCommitRequest {
        group_id: (&**group).into(),
        generation_id_or_member_epoch: identity.generation_or_epoch,
        member_id: (&*identity.member_id).into(),
        group_instance_id: identity.instance_id.as_deref().map(Into::into),
        topics,
        ..Default::default()
    };
    (request, if has_ids { i16::MAX } else { COMMIT_BY_NAME })
}
