//! A member of a group whose coordinator assigns (KIP-848): one request, ConsumerGroupHeartbeat, joins, reports and leaves.
//!
//! ```text
//!           answered          to give up
//!  Joining ─────────▶ Stable ───────────▶ Yielding
//!   ▲                  ▲  take what is new    │
//!   │ fenced           └────── released ──────┘
//!   └── epoch 0, everything lost
//! ```
//!
//! The coordinator names a target. The member first gives up what is not in it, then takes what is new, and reports what it owns
//! in the next heartbeat, which goes out at once. A heartbeat has only what changed since the last one; after one without a good
//! answer it has everything, because it is not known what arrived.
//!
//! It is a table: [`next`] names every pair of state and event, and a test compares all of it with a snapshot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;

use super::liveness::{Late, Liveness};
use super::terms::{
    Ask, Event, Goodbye, Kind, MemberIdentity, Protocol, Request, Response, Settings, Subscription,
    TopicPartition, Wanted, earliest, fault_of_assignment, millis, str_of,
};
use super::verdict::{self, Verdict};
use crate::backoff::Retry;
use crate::coordinator::Coordinator;
use crate::metadata::Snapshot;
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, Notice, Rng};

/// The consumer protocol's machine. [`Membership`](super::Membership) has the contract.
#[derive(Debug)]
pub(super) struct Consumer {
    settings: Arc<Settings>,
    rng: Rng,
    state: State,
    subscription: Subscription,
    snapshot: Arc<Snapshot>,
    coordinator: Coordinator,
    liveness: Liveness,
    /// Chosen here, and kept for the member's lifetime.
    member_id: Arc<str>,
    /// None while the member has to join, which is epoch 0 on the wire.
    epoch: Option<i32>,
    /// What the coordinator wants the member to own. None if it has not said since the member joined.
    target: Option<BTreeSet<Owned>>,
    /// What the application reads, those of `yielding` included. Each of their topics is in `names`.
    owned: BTreeSet<Owned>,
    /// The partitions of each Revoke event that was not answered by a release, oldest first.
    yielding: VecDeque<BTreeSet<Owned>>,
    names: BTreeMap<Uuid, Arc<str>>,
    /// Whether something of the target is to be taken when the heartbeat on its way is answered.
    takes_later: bool,
    /// Ids that the coordinator assigned and the metadata does not have.
    unnamed: BTreeSet<Uuid>,
    told: Told,
    beat: Option<Asked>,
    /// The delay after heartbeats that failed.
    retry: Retry,
    interval: Duration,
    beat_at: Instant,
    /// When the last heartbeat went out.
    asked_at: Instant,
    /// How many answers in a row brought an assignment.
    assigned_in_a_row: u32,
    /// When the coordinator is known to have restarted the session.
    alive_at: Instant,
    /// Since when the place of this instance is taken.
    unreleased_since: Option<Instant>,
    /// Whether it may be this member that has the place: a join of it was not refused for that.
    may_have_place: bool,
    goodbye: Option<Leaving>,
    how: Goodbye,
    /// Why the classic protocol has to take over.
    unsupported: Option<Failure>,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    wanted: Option<Wanted>,
    next_number: u64,
}

/// A partition by its topic's id: a topic that is deleted and made again is another one.
type Owned = (Uuid, i32);

/// What the last heartbeats told the coordinator. None is told with the next one.
#[derive(Debug, Default)]
struct Told {
    subscription: Option<Subscription>,
    owned: Option<BTreeSet<Owned>>,
}

/// A heartbeat on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    broker: BrokerId,
    at: Instant,
    /// Whether it had epoch 0.
    is_join: bool,
    /// Whether it says what the member owns.
    reports: bool,
}

/// The heartbeat that leaves. It goes out once.
#[derive(Debug)]
struct Leaving {
    epoch: i32,
    asked: Option<Asked>,
    /// After this the session's end is left to do it.
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no subscription.
    Out,
    /// The member left because the application took no batch.
    Away,
    /// The heartbeat with epoch 0 is to go out, or on its way.
    Joining,
    /// It owns what it can of its target.
    Stable,
    /// The application finishes partitions that are not in the target.
    Yielding,
    /// As `Yielding`, but then the member leaves, because there is no subscription.
    Quitting,
    /// As `Yielding`, but then the member leaves for good.
    Closing,
    /// Nothing happens any more.
    Closed,
    /// The coordinator refused the member. A new subscription tries again.
    Failed,
    /// The coordinator does not have this protocol: the classic protocol takes over.
    Unsupported,
}

/// What happened. `yields`: the member owns partitions that it has to give up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    /// There is a subscription.
    Subscribed,
    /// There is none.
    Unsubscribed { yields: bool },
    /// The coordinator has the member.
    Joined,
    /// There is a target, or names for more of it.
    Targeted { yields: bool },
    /// All that was to be given up is given up.
    Released,
    /// The coordinator does not have the member any more, or not in this epoch.
    Expelled,
    /// The coordinator was silent for the session timeout.
    Expired,
    /// Trying again is in vain.
    Refused,
    /// The coordinator does not have this protocol, and the member may use the other one.
    Foreign,
    /// The application took no batch for `max_poll_interval`.
    Stalled,
    /// The application took a batch or asked for one.
    Progress,
    /// The consumer closes.
    Close { yields: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Action {
    #[default]
    Nothing,
    /// Give out what is new in the target.
    Take,
    /// Take back what is not in the target.
    Yield,
    /// Take everything back.
    YieldAll,
    /// Compare with the target, which may be a newer one.
    Reconcile,
    /// What is owned is lost.
    Lose,
    /// What is owned is lost; leave the group.
    LoseAndLeave,
    /// What is owned is lost; tell why the member does not go on.
    Fail,
    /// What is owned is lost; hand over.
    HandOver,
    /// Leave the group.
    Leave,
}

/// The member epoch of a static member that leaves for a while.
const AWAY: i32 = -2;
/// Until the coordinator says its own: `group.consumer.heartbeat.interval.ms`.
const INTERVAL: Duration = Duration::from_secs(5);
/// A coordinator that asks for more frequent heartbeats than this is not obeyed.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// After this many answers in a row that bring an assignment, the next one is acknowledged only after [`NEWS_WAIT`]: a
/// coordinator that assigns in each answer would otherwise be asked as fast as it answers.
const ASSIGNED_MAX: u32 = 8;
/// See [`ASSIGNED_MAX`].
const NEWS_WAIT: Duration = Duration::from_secs(1);
/// Why a coordinator refuses a member that wants this protocol and no other.
const IS_OFF: &str =
    "the coordinator does not have the consumer protocol (KIP-848), which is on by default from Kafka 4.0 on";

impl Consumer {
    pub(super) fn new(settings: Arc<Settings>, mut rng: Rng) -> Self {
        let member_id = random_id(&mut rng);
        Self {
            liveness: Liveness::new(settings.max_poll_interval),
            settings,
            rng,
            state: State::Out,
            subscription: Subscription::default(),
            snapshot: Arc::default(),
            coordinator: Coordinator::of_group(),
            member_id,
            epoch: None,
            target: None,
            owned: BTreeSet::new(),
            yielding: VecDeque::new(),
            names: BTreeMap::new(),
            takes_later: false,
            unnamed: BTreeSet::new(),
            told: Told::default(),
            beat: None,
            retry: Retry::default(),
            interval: INTERVAL,
            beat_at: Instant::ORIGIN,
            asked_at: Instant::ORIGIN,
            assigned_in_a_row: 0,
            alive_at: Instant::ORIGIN,
            unreleased_since: None,
            may_have_place: false,
            goodbye: None,
            how: Goodbye::Usual,
            unsupported: None,
            events: VecDeque::new(),
            notices: VecDeque::new(),
            wanted: None,
            next_number: 0,
        }
    }

    /// Begins with the events that the other protocol's machine left, and numbers its requests after that one's.
    pub(super) fn take_over(&mut self, events: impl Iterator<Item = Event>, next_number: u64) {
        self.events.extend(events);
        self.next_number = next_number;
    }

    pub(super) fn handle_subscription(&mut self, subscription: Subscription, now: Instant) {
        if subscription == self.subscription && self.state != State::Failed {
            return;
        }
        self.subscription = subscription;
        if self.subscription.is_empty() {
            self.step(Happened::Unsubscribed { yields: !self.owned.is_empty() }, None, now);
            return;
        }
        if matches!(self.state, State::Out | State::Away | State::Failed) {
            self.liveness.progress(now);
        }
        self.step(Happened::Subscribed, None, now);
    }

    pub(super) fn handle_metadata(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        self.snapshot = Arc::clone(snapshot);
        if !self.unnamed.is_empty() {
            self.reconcile(now);
        }
    }

    pub(super) fn handle_coordinator(&mut self, answer: Result<BrokerId, Failure>, now: Instant) {
        let found = answer.as_ref().ok().copied();
        match self.coordinator.handle(answer, now, &self.settings.backoff, &mut self.rng) {
            Ok(notice) => self.notices.extend(notice),
            Err(failure) => {
                self.goodbye = None;
                self.step(Happened::Refused, Some(&failure), now);
            }
        }
        if let Some(found) = found
            && let Some(beat) = self.beat.take_if(|beat| beat.broker != found)
        {
            self.went_unanswered(beat);
            // What went to another broker will not be answered by the coordinator.
            self.told = Told::default();
            self.beat_at = now;
        }
    }

    /// Answers to requests that were given up are ignored.
    pub(super) fn handle_response(&mut self, number: u64, response: &Response, now: Instant) {
        let Response::Consumer(response) = response else { return };
        if self.take_goodbye(number) {
            return;
        }
        let Some(asked) = self.beat.take_if(|beat| beat.number == number) else { return };
        let code = response.error_code;
        self.may_have_place |= asked.is_join && code != ErrorCode::UNRELEASED_INSTANCE_ID;
        if code == ErrorCode::NONE {
            self.handle_answered(asked, response, now);
            return;
        }
        self.told = Told::default();
        let failure = Failure::answer(code, response.error_message.as_deref());
        let failure = failure.of(ApiKey::ConsumerGroupHeartbeat).on(Resource::Group, &self.settings.group_id);
        match verdict::consumer(Kind::Heartbeat, code) {
            Verdict::Moved => {
                self.coordinator.lost(asked.broker);
                self.try_again(&failure, true, now);
            }
            Verdict::Expelled { .. } => self.expel(&failure, now),
            // It was a member of the group, which is gone since, or has become a classic one without it. It joins again, which
            // makes it, or makes it a group of this protocol again.
            Verdict::Unsupported if code == ErrorCode::GROUP_ID_NOT_FOUND && !asked.is_join => {
                self.expel(&failure, now);
            }
            Verdict::Unsupported => self.unsupported(&failure, now),
            Verdict::Refused => self.step(Happened::Refused, Some(&failure), now),
            Verdict::Again | Verdict::Done | Verdict::Named | Verdict::Rebalance => {
                if code == ErrorCode::UNRELEASED_INSTANCE_ID && self.is_held_for_long(now) {
                    self.step(Happened::Refused, Some(&failure), now);
                    return;
                }
                // The coordinator does not look whose place it is: a member whose last join was not answered, or that the
                // coordinator fenced, is refused its own. It says that it is away, which only the member that has the place can.
                if code == ErrorCode::UNRELEASED_INSTANCE_ID && self.may_have_place {
                    let until = now + self.settings.request_timeout;
                    self.goodbye = Some(Leaving { epoch: AWAY, asked: None, until });
                }
                self.try_again(&failure, true, now);
            }
        }
    }

    /// Whether the instance before this one still has its place although its session must have ended: it is alive.
    fn is_held_for_long(&mut self, now: Instant) -> bool {
        let since = *self.unreleased_since.get_or_insert(now);
        now - since > self.settings.session_timeout * 2
    }

    fn handle_answered(&mut self, asked: Asked, response: &ConsumerGroupHeartbeatResponse, now: Instant) {
        // Epochs of members begin with 1. Leaves are answered with negative ones, and have numbers of their own.
        let of_epoch = (response.member_epoch <= 0)
            .then(|| format!("it answers a heartbeat with epoch {}", response.member_epoch));
        let topics = response.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
        let assigned = topics.flat_map(|topic| topic.partitions.iter().copied());
        if let Some(reason) = of_epoch.or_else(|| fault_of_assignment(assigned)) {
            self.told = Told::default();
            let failure =
                Failure::Malformed { peer: "the group's coordinator".into(), reason: reason.into() };
            return self.try_again(&failure, false, now);
        }
        // Coordinators of version 0 may choose the id.
        if let Some(id) = response.member_id.as_deref().filter(|id| !id.is_empty()) {
            self.member_id = Arc::from(id);
        }
        self.epoch = Some(response.member_epoch);
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default();
        self.interval = Duration::from_millis(interval).clamp(INTERVAL_MIN, self.settings.session_timeout);
        self.beat_at = asked.at + self.interval;
        self.alive_at = self.alive_at.max(asked.at);
        // Not by joining alone: a coordinator that fences each member it has let in is asked with backoffs.
        if !asked.is_join {
            self.retry.succeeded();
        }
        self.unreleased_since = None;
        let brings = u32::from(response.assignment.is_some());
        self.assigned_in_a_row = self.assigned_in_a_row.saturating_add(1) * brings;
        self.step(Happened::Joined, None, now);
        if let Some(assignment) = &response.assignment {
            self.target = Some(target(assignment));
            // Each assignment is acknowledged, even if nothing is to be done for it: the coordinator waits for it to go on.
            self.told.owned = None;
        }
        if response.assignment.is_some() || std::mem::take(&mut self.takes_later) {
            self.reconcile(now);
        }
    }

    /// Compares what is owned with the target.
    fn reconcile(&mut self, now: Instant) {
        let Some(target) = &self.target else { return };
        let yields = !self.owned.is_subset(target);
        self.step(Happened::Targeted { yields }, None, now);
    }

    /// Takes what is new in the target and has a name. The rest waits for the metadata.
    fn take(&mut self) {
        // A heartbeat on its way that says what is owned without them would give them away: the coordinator may have a newer
        // target by then, and believes that they are free.
        self.takes_later = self.beat.is_some_and(|beat| beat.reports);
        if self.takes_later {
            return;
        }
        let Some(target) = &self.target else { return };
        let added: Vec<_> = target.difference(&self.owned).copied().collect();
        let is_missing = |id: &Uuid| !self.names.contains_key(id);
        let missing: BTreeSet<_> = added.iter().map(|(id, _)| *id).filter(is_missing).collect();
        if !missing.is_empty() {
            let named =
                self.snapshot.topics.values().flatten().filter_map(|topic| topic.id.zip(Some(&topic.name)));
            self.names.extend(
                named.filter(|(id, _)| missing.contains(id)).map(|(id, name)| (id, Arc::clone(name))),
            );
        }
        let unnamed: BTreeSet<_> = missing.into_iter().filter(|id| !self.names.contains_key(id)).collect();
        // A topic that was made again has two ids under one name. What is read by the old one is given up first.
        let readers: BTreeMap<_, _> = self.owned.iter().map(|(id, _)| (self.names.get(id), *id)).collect();
        let is_read = |(id, partition): &Owned| {
            let reader = readers.get(&self.names.get(id)).filter(|reader| *reader != id);
            reader.is_some_and(|reader| self.owned.contains(&(*reader, *partition)))
        };
        let is_new = |of: &Owned| !unnamed.contains(&of.0) && !is_read(of);
        let added: BTreeSet<_> = added.into_iter().filter(is_new).collect();
        self.set_unnamed(unnamed);
        // Names of topics that are gone are forgotten, so that the map does not grow.
        let kept: BTreeSet<_> = self.owned.iter().chain(&added).map(|(id, _)| *id).collect();
        self.names.retain(|id, _| kept.contains(id));
        let is_first = self.told.owned.is_none() && self.owned.is_empty() && self.unnamed.is_empty();
        self.owned.extend(added.iter().copied());
        if !added.is_empty() || is_first {
            let partitions = self.named(&added);
            self.events.push_back(Event::Assign { partitions });
        }
    }

    fn set_unnamed(&mut self, unnamed: BTreeSet<Uuid>) {
        if self.unnamed != unnamed {
            self.unnamed.clone_from(&unnamed);
            self.wanted = Some(Wanted { topics: BTreeSet::new(), ids: unnamed });
        }
    }

    fn named(&self, partitions: &BTreeSet<Owned>) -> BTreeSet<TopicPartition> {
        let named = |(id, partition): &Owned| Some(TopicPartition::new(self.names.get(id)?, *partition));
        partitions.iter().filter_map(named).collect()
    }

    fn expel(&mut self, failure: &Failure, now: Instant) {
        // At once the first time, so that a member that was only late is back soon.
        if self.retry.failures() == 0 {
            self.retry.failed_but_try_at_once();
        } else {
            self.retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        }
        self.step(Happened::Expelled, Some(failure), now);
    }

    fn unsupported(&mut self, failure: &Failure, now: Instant) {
        let may_hand_over = self.settings.protocol == Protocol::Automatic;
        if may_hand_over {
            return self.step(Happened::Foreign, Some(failure), now);
        }
        // Brokers answer so from 3.7 on: they know the request, and have the protocol turned off.
        let is_off = failure.code() == Some(ErrorCode::UNSUPPORTED_VERSION);
        let told = || Failure::answer(ErrorCode::UNSUPPORTED_VERSION, Some(IS_OFF));
        self.step(Happened::Refused, Some(&if is_off { told() } else { failure.clone() }), now);
    }

    /// A commit was refused. The driver tells it here, so that the member joins again at once and does not go on reading what
    /// it can no longer commit.
    pub(super) fn handle_commit_refused(&mut self, code: ErrorCode, epoch: i32, now: Instant) {
        let failure = Failure::answer(code, None);
        match code {
            ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::GROUP_ID_NOT_FOUND
                if self.epoch == Some(epoch) =>
            {
                self.expel(&failure, now);
            }
            ErrorCode::FENCED_INSTANCE_ID => self.step(Happened::Refused, Some(&failure), now),
            // The epoch has risen, and the next heartbeat's answer says it. The commit is tried again under that one.
            ErrorCode::STALE_MEMBER_EPOCH if self.epoch == Some(epoch) => self.beat_at = now,
            _ => {}
        }
    }

    /// The request with this number has no answer: the connection was lost, or its deadline passed.
    pub(super) fn handle_lost(&mut self, number: u64, failure: &Failure, now: Instant) {
        // KIP-848: a leave is not sent again.
        if self.take_goodbye(number) {
            return;
        }
        let Some(asked) = self.beat.take_if(|beat| beat.number == number) else { return };
        self.went_unanswered(asked);
        self.told = Told::default();
        if matches!(failure, Failure::NoCommonVersion { .. }) {
            self.unsupported(failure, now);
            return;
        }
        // After a timeout too: a coordinator that is silent may have been replaced.
        self.coordinator.lost(asked.broker);
        self.try_again(failure, false, now);
    }

    /// A join that is not answered may have arrived. Then the place of its instance is this member's for one session more, which is
    /// no sign that another one is alive.
    fn went_unanswered(&mut self, asked: Asked) {
        if asked.is_join {
            self.may_have_place = true;
            self.unreleased_since = None;
        }
    }

    fn take_goodbye(&mut self, number: u64) -> bool {
        let is_it = |goodbye: &mut Leaving| goodbye.asked.is_some_and(|asked| asked.number == number);
        self.goodbye.take_if(is_it).is_some()
    }

    fn try_again(&mut self, failure: &Failure, may_pass: bool, now: Instant) {
        let at = self.retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        if !may_pass && !self.retry.may_pass(failure) {
            self.step(Happened::Refused, Some(failure), now);
            return;
        }
        self.beat_at = at;
        if self.retry.is_notable(failure) {
            let doing =
                if self.epoch.is_none() { "joining the group" } else { "sending a heartbeat to the group" };
            let failures = self.retry.failures();
            self.notices.push_back(Notice { doing: doing.into(), failure: failure.clone(), failures });
        }
    }

    /// The driver has finished the partitions of the oldest Revoke event.
    pub(super) fn handle_released(&mut self, now: Instant) {
        // After everything was lost there is no barrier.
        let Some(released) = self.yielding.pop_front() else { return };
        self.owned.retain(|owned| !released.contains(owned));
        if !self.yielding.is_empty() {
            return;
        }
        self.step(Happened::Released, None, now);
    }

    pub(super) fn handle_progress(&mut self, now: Instant) {
        self.liveness.progress(now);
        self.step(Happened::Progress, None, now);
    }

    pub(super) fn handle_waiting(&mut self, is_waiting: bool, now: Instant) {
        self.liveness.set_waiting(is_waiting, now);
        if is_waiting {
            self.step(Happened::Progress, None, now);
        }
    }

    pub(super) fn handle_close(&mut self, how: Goodbye, now: Instant) {
        self.how = how;
        self.step(Happened::Close { yields: !self.owned.is_empty() }, None, now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.session_end().is_some_and(|end| end <= now) {
            let after = self.settings.session_timeout;
            let failure = Failure::TimedOut { peer: "the group's coordinator".into(), after, sent: true };
            self.step(Happened::Expired, Some(&failure), now);
        }
        if self.goodbye.as_ref().is_some_and(|goodbye| goodbye.until <= now) {
            self.goodbye = None;
        }
        if self.is_watched() {
            match self.liveness.poll(now) {
                None => {}
                Some(Late::Half(since)) => self.events.push_back(Event::Slow { since }),
                Some(Late::Full(since)) => {
                    let failure = super::stalled(since, self.settings.max_poll_interval);
                    self.step(Happened::Stalled, Some(&failure), now);
                    self.events.push_back(Event::Left(failure));
                }
            }
        }
    }

    /// Whether the application's progress counts.
    fn is_watched(&self) -> bool {
        matches!(self.state, State::Joining | State::Stable | State::Yielding)
    }

    /// Whether it sends heartbeats.
    fn beats(&self) -> bool {
        self.is_watched() || (matches!(self.state, State::Quitting | State::Closing) && self.epoch.is_some())
    }

    fn session_end(&self) -> Option<Instant> {
        (self.beats() && self.epoch.is_some()).then(|| self.alive_at + self.settings.session_timeout)
    }

    fn needs_coordinator(&self) -> bool {
        self.goodbye.is_some() || self.beats()
    }

    /// Whether the coordinator has to hear something before the interval ends. What is being given up is still owned.
    fn has_news(&self) -> bool {
        match self.state {
            State::Joining => true,
            State::Stable => {
                self.told.subscription.as_ref() != Some(&self.subscription)
                    || self.told.owned.as_ref() != Some(&self.owned)
            }
            State::Yielding => self.told.subscription.as_ref() != Some(&self.subscription),
            _ => false,
        }
    }

    /// When the next heartbeat is due, if none is on its way.
    fn due_at(&self) -> Option<Instant> {
        if self.beat.is_some() || !self.beats() {
            return None;
        }
        let mut not_before = self.retry.not_before().unwrap_or(Instant::ORIGIN);
        if self.assigned_in_a_row > ASSIGNED_MAX {
            not_before = not_before.max(self.asked_at + NEWS_WAIT);
        }
        Some(if self.has_news() { not_before } else { self.beat_at.max(not_before) })
    }

    pub(super) fn poll_coordinator_wanted(&mut self, now: Instant) -> bool {
        self.needs_coordinator() && self.coordinator.poll_wanted(now)
    }

    pub(super) fn poll_metadata_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Why the classic protocol has to take over, and the number that its requests go on from.
    pub(super) fn poll_unsupported(&mut self) -> Option<(Failure, u64)> {
        self.unsupported.take().zip(Some(self.next_number))
    }

    pub(super) fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        let broker = self.coordinator.broker()?;
        // Before a heartbeat that joins again under the same id.
        if self.goodbye.as_ref().is_some_and(|goodbye| goodbye.asked.is_none()) {
            let asked = self.number(broker, now);
            let goodbye = self.goodbye.as_mut()?;
            goodbye.asked = Some(asked);
            let (epoch, deadline) = (goodbye.epoch, goodbye.until);
            let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..self.bare() };
            return Some(ask(asked, Kind::Leave, request, deadline));
        }
        if self.due_at().is_none_or(|at| at > now) {
            return None;
        }
        let asked = self.number(broker, now);
        self.beat_at = now + self.interval;
        self.asked_at = now;
        let request = self.heartbeat();
        self.beat = Some(Asked { reports: request.topic_partitions.is_some(), ..asked });
        // A silent coordinator leaves half of the session to find the next one.
        let patience = self.settings.request_timeout.min(self.settings.session_timeout / 2);
        Some(ask(asked, Kind::Heartbeat, request, now + patience))
    }

    fn number(&mut self, broker: BrokerId, at: Instant) -> Asked {
        self.next_number += 1;
        Asked { number: self.next_number, broker, at, is_join: self.epoch.is_none(), reports: false }
    }

    /// The fields that every heartbeat has.
    fn bare(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: (&*self.settings.group_id).into(),
            member_id: (&*self.member_id).into(),
            member_epoch: self.epoch.unwrap_or(0),
            instance_id: str_of(self.settings.instance_id.as_ref()),
            ..Default::default()
        }
    }

    fn heartbeat(&mut self) -> ConsumerGroupHeartbeatRequest {
        let mut request = self.bare();
        let told = self.told.subscription.as_ref();
        if told.is_none() {
            request.rebalance_timeout_ms = millis(self.settings.rebalance_timeout);
            request.rack_id = str_of(self.settings.rack.as_ref());
            request.server_assignor = str_of(self.settings.server_assignor.as_ref());
        }
        if told.is_none_or(|told| told.topics != self.subscription.topics) {
            let topics = self.subscription.topics.iter().map(|topic| (&**topic).into()).collect();
            request.subscribed_topic_names = Some(topics);
        }
        let told_pattern = told.and_then(|told| told.pattern.as_ref());
        if told_pattern != self.subscription.pattern.as_ref() {
            // An empty pattern takes the last one back.
            request.subscribed_topic_regex =
                Some(self.subscription.pattern.as_deref().unwrap_or_default().into());
        }
        // In the barrier and before the target is reached nothing is reported but at a new beginning, when everything is.
        let is_settled = self.state == State::Stable || told.is_none();
        if is_settled && self.told.owned.as_ref() != Some(&self.owned) {
            request.topic_partitions = Some(by_topic(&self.owned));
            self.told.owned = Some(self.owned.clone());
        }
        self.told.subscription = Some(self.subscription.clone());
        request
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_known = self.coordinator.broker().is_some();
        earliest([
            self.session_end(),
            self.is_watched().then(|| self.liveness.poll_timeout()).flatten(),
            self.needs_coordinator().then(|| self.coordinator.poll_timeout()).flatten(),
            self.due_at().filter(|_| is_known),
            self.goodbye.as_ref().map(|goodbye| goodbye.until),
        ])
    }

    pub(super) fn identity(&self) -> Option<MemberIdentity> {
        let generation_or_epoch = self.epoch?;
        let instance_id = self.settings.instance_id.clone();
        Some(MemberIdentity { member_id: Arc::clone(&self.member_id), generation_or_epoch, instance_id })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed && self.goodbye.is_none()
    }

    /// Moves on and does what follows. `failure` is why, for those events that have a cause.
    fn step(&mut self, happened: Happened, failure: Option<&Failure>, now: Instant) {
        let (state, action) = next(self.state, happened);
        self.state = state;
        match action {
            Action::Nothing => {}
            Action::Take => self.take(),
            Action::Yield => {
                let target = self.target.clone().unwrap_or_default();
                let gone = self.owned.difference(&target).copied().collect();
                self.revoke(gone, now);
            }
            Action::YieldAll => {
                let gone = self.owned.clone();
                self.revoke(gone, now);
            }
            Action::Reconcile => self.reconcile(now),
            Action::Lose => self.lose(failure),
            Action::LoseAndLeave => {
                let is_in = self.is_in();
                self.lose(failure);
                self.leave(is_in, now);
            }
            Action::Fail => {
                self.lose(failure);
                self.events.extend(failure.cloned().map(Event::Failed));
            }
            Action::HandOver => {
                self.lose(failure);
                self.unsupported = failure.cloned();
            }
            Action::Leave => {
                let is_in = self.is_in();
                self.lose(None);
                self.leave(is_in, now);
            }
        }
    }

    /// Takes back those of `gone` that are not being taken back already.
    fn revoke(&mut self, mut gone: BTreeSet<Owned>, now: Instant) {
        gone.retain(|gone| !self.yielding.iter().any(|yielding| yielding.contains(gone)));
        if gone.is_empty() {
            return;
        }
        // The coordinator counts from its answer on, and has to hear of the release before the time is over.
        let spare = (self.interval * 2).min(self.settings.rebalance_timeout / 2);
        let deadline = now + self.settings.rebalance_timeout.saturating_sub(spare);
        self.events.push_back(Event::Revoke { partitions: self.named(&gone), deadline });
        self.yielding.push_back(gone);
    }

    fn lose(&mut self, failure: Option<&Failure>) {
        let owned = std::mem::take(&mut self.owned);
        if let Some(failure) = failure.filter(|_| !owned.is_empty()) {
            let partitions = self.named(&owned);
            self.events.push_back(Event::Lost { partitions, failure: failure.clone() });
        }
        self.yielding.clear();
        self.names.clear();
        self.set_unnamed(BTreeSet::new());
        self.epoch = None;
        self.takes_later = false;
        self.target = None;
        self.told = Told::default();
        self.beat = None;
        self.unreleased_since = None;
    }

    /// Whether the coordinator may have the member: it has joined, or may be about to.
    fn is_in(&self) -> bool {
        self.epoch.is_some() || self.beat.is_some()
    }

    fn leave(&mut self, is_in: bool, now: Instant) {
        let is_static = self.settings.instance_id.is_some();
        let epoch = match self.how {
            // A static member says that it will be back, and keeps its partitions until its session ends.
            Goodbye::Usual | Goodbye::Stay if is_static => Some(AWAY),
            Goodbye::Usual | Goodbye::Leave => Some(-1),
            Goodbye::Stay => None,
        };
        self.retry.succeeded();
        if let Some(epoch) = epoch.filter(|_| is_in) {
            let until = now + self.settings.request_timeout;
            self.goodbye = Some(Leaving { epoch, asked: None, until });
        }
    }
}

fn ask(asked: Asked, kind: Kind, request: ConsumerGroupHeartbeatRequest, deadline: Instant) -> Ask {
    Ask { number: asked.number, broker: asked.broker, kind, request: Request::Consumer(request), deadline }
}

fn target(assignment: &Assignment) -> BTreeSet<Owned> {
    let topics = assignment.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
}

fn by_topic(owned: &BTreeSet<Owned>) -> Vec<ConsumerGroupHeartbeatRequestTopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in owned {
        topics.entry(*id).or_default().push(*partition);
    }
    let topic = |(topic_id, partitions)| ConsumerGroupHeartbeatRequestTopicPartitions {
        topic_id,
        partitions,
        ..Default::default()
    };
    topics.into_iter().map(topic).collect()
}

/// A random id in the form of Kafka's: 22 characters of URL-safe base 64.
fn random_id(rng: &mut Rng) -> Arc<str> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    Uuid::from_bytes(bytes).to_string().into()
}

/// The next state and what to do. Every pair is named, so that a new state or event does not compile before its row is written.
fn next(state: State, happened: Happened) -> (State, Action) {
    use Happened::{
        Close, Expelled, Expired, Foreign, Joined, Progress, Refused, Released, Stalled, Subscribed,
        Targeted, Unsubscribed,
    };
    let nothing = (state, Action::Nothing);
    match (state, happened) {
        (State::Out, Subscribed) => (State::Joining, Action::Nothing),
        (State::Out, Close { .. }) => (State::Closed, Action::Nothing),
        (
            State::Out,
            Unsubscribed { .. } | Joined | Targeted { .. } | Released | Expelled | Expired | Refused | Foreign
            | Stalled | Progress,
        ) => nothing,

        (State::Away, Subscribed | Progress) => (State::Joining, Action::Nothing),
        (State::Away, Unsubscribed { .. }) => (State::Out, Action::Nothing),
        (State::Away, Close { .. }) => (State::Closed, Action::Nothing),
        (
            State::Away,
            Joined | Targeted { .. } | Released | Expelled | Expired | Refused | Foreign | Stalled,
        ) => nothing,

        // Taking batches again does not try again: what was refused stays so until somebody changes something.
        (State::Failed, Subscribed) => (State::Joining, Action::Nothing),
        (State::Failed, Unsubscribed { .. }) => (State::Out, Action::Nothing),
        (State::Failed, Close { .. }) => (State::Closed, Action::Nothing),
        (
            State::Failed,
            Joined | Targeted { .. } | Released | Expelled | Expired | Refused | Foreign | Stalled | Progress,
        ) => nothing,

        (State::Joining, Joined) => (State::Stable, Action::Nothing),
        (State::Stable, Targeted { yields: false }) => (State::Stable, Action::Take),
        (State::Stable, Targeted { yields: true }) => (State::Yielding, Action::Yield),
        (State::Yielding, Released) => (State::Stable, Action::Reconcile),

        (State::Joining | State::Stable | State::Yielding, Expelled | Expired) => (State::Joining, Action::Lose),
        (State::Joining | State::Stable | State::Yielding, Refused) => (State::Failed, Action::Fail),
        // A broker that is downgraded, or the next coordinator in a rolling upgrade, may lack the protocol later too.
        (State::Joining | State::Stable | State::Yielding, Foreign) => (State::Unsupported, Action::HandOver),
        (State::Joining | State::Stable | State::Yielding, Stalled) => (State::Away, Action::LoseAndLeave),
        (State::Joining | State::Stable | State::Yielding, Unsubscribed { yields: true }) => {
            (State::Quitting, Action::YieldAll)
        }
        (State::Joining | State::Stable | State::Yielding, Unsubscribed { yields: false }) => {
            (State::Out, Action::Leave)
        }
        (State::Joining | State::Stable | State::Yielding | State::Quitting, Close { yields: true }) => {
            (State::Closing, Action::YieldAll)
        }
        (State::Joining | State::Stable | State::Yielding | State::Quitting, Close { yields: false }) => {
            (State::Closed, Action::Leave)
        }

        // A changed subscription goes out with the next heartbeat.
        (State::Joining, Subscribed | Targeted { .. } | Released | Progress)
        | (State::Stable, Subscribed | Joined | Released | Progress)
        // A newer target is looked at after the release.
        | (State::Yielding, Subscribed | Joined | Targeted { .. } | Progress) => nothing,

        (State::Quitting, Released) => (State::Out, Action::Leave),
        // It stays in the group after all. What is being given up is assigned anew.
        (State::Quitting, Subscribed) => (State::Yielding, Action::Nothing),
        (State::Quitting, Expelled | Expired | Refused | Foreign) => (State::Out, Action::Lose),
        (
            State::Quitting,
            Unsubscribed { .. } | Joined | Targeted { .. } | Stalled | Progress,
        ) => nothing,

        (State::Closing, Released) => (State::Closed, Action::Leave),
        (State::Closing, Expelled | Expired | Refused | Foreign) => (State::Closed, Action::Lose),
        (
            State::Closing,
            Subscribed | Unsubscribed { .. } | Joined | Targeted { .. } | Stalled | Progress | Close { .. },
        ) => nothing,

        (
            State::Closed | State::Unsupported,
            Subscribed | Unsubscribed { .. } | Joined | Targeted { .. } | Released | Expelled | Expired | Refused
            | Foreign | Stalled | Progress | Close { .. },
        ) => nothing,
    }
}

#[cfg(test)]
mod tests;
