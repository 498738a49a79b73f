//! A member of a classic group: the members elect a leader among them, which assigns the partitions.
//!
//! ```text
//!           joined          synced
//!  Joining ───────▶ Syncing ──────▶ Stable
//!   ▲  │ as leader     ▲               │ the generation ends
//!   │  └▶ Assigning ───┘               ▼
//!   └───────────── released ──────── Yielding
//! ```
//!
//! An eager member gives all its partitions up before it joins again. A cooperative member (KIP-429) joins with what it owns,
//! learns what it has to give up, gives that up, and joins once more.
//!
//! It is a table: [`next`] names every pair of state and event, and a test compares all of it with a snapshot. It must not know
//! what the assignors' bytes say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity as Leaver};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use milena_messages::{ApiKey, ErrorCode};

use super::liveness::{Late, Liveness};
use super::terms::{
    Ask, Assignor, Claim, Event, Goodbye, Kind, Member, MemberIdentity, Protocol, Request, Response,
    Settings, Subscription, TopicPartition, Wanted, earliest, fault_of_assignment, millis, str_of,
};
use super::verdict::{self, Verdict};
use crate::backoff::Retry;
use crate::coordinator::Coordinator;
use crate::metadata::Snapshot;
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, Notice, Rng};

/// The classic protocol's machine. [`Membership`](super::Membership) has the contract.
#[derive(Debug)]
pub(super) struct Classic {
    settings: Arc<Settings>,
    rng: Rng,
    state: State,
    subscription: Subscription,
    /// The topics that the last JoinGroup named.
    joined_topics: BTreeSet<Arc<str>>,
    snapshot: Arc<Snapshot>,
    coordinator: Coordinator,
    liveness: Liveness,
    /// Empty until the coordinator gave one.
    member_id: Arc<str>,
    /// None while the member is in no generation.
    generation: Option<i32>,
    /// The assignor that the group agreed on.
    assignor: Option<Arc<dyn Assignor>>,
    /// What the leader knows of the group. None for other members.
    lead: Option<Lead>,
    /// What the application reads, those of `yielding` included.
    owned: BTreeSet<TopicPartition>,
    /// The partitions of each Revoke event that was not answered by a release, oldest first.
    yielding: VecDeque<BTreeSet<TopicPartition>>,
    /// Those of `last` that the subscription has.
    target: BTreeSet<TopicPartition>,
    /// The assignment of the last SyncGroup, and its generation.
    last: BTreeSet<TopicPartition>,
    last_generation: Option<i32>,
    /// Not before this is the next JoinGroup sent: [`REJOIN_WAIT_MAX`].
    join_at: Instant,
    /// JoinGroup or SyncGroup.
    asked: Option<Asked>,
    owed: Owed,
    /// The delay of the next one.
    retry: Retry,
    beat: Option<Asked>,
    beat_retry: Retry,
    beat_at: Instant,
    /// When the coordinator is known to have restarted the session.
    alive_at: Instant,
    goodbye: Option<Leaving>,
    /// A JoinGroup without a member id that was given up. The id in its answer has to leave.
    nameless: Option<Asked>,
    /// Whether it has been a member of the group.
    has_joined: bool,
    /// Why the consumer protocol has to take over.
    unsupported: Option<Failure>,
    how: Goodbye,
    /// Why the member joins again, for the coordinator's log (KIP-800).
    reason: &'static str,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    /// The last [`Wanted`] that was told.
    interest: Wanted,
    wanted: Option<Wanted>,
    next_number: u64,
}

/// What only the leader knows.
#[derive(Debug)]
struct Lead {
    members: Vec<Member>,
    /// All that members subscribe to, and the number of partitions that the assignment in force is for. None if another leader
    /// made it, and the topic's metadata is not there yet.
    counts: BTreeMap<Arc<str>, Option<usize>>,
    assignments: Vec<(Arc<str>, Bytes)>,
    /// When the leader assigns although metadata is missing.
    until: Instant,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    kind: Kind,
    broker: BrokerId,
    at: Instant,
    /// The generation when it went out. An answer about another generation is old.
    generation: Option<i32>,
    /// Whether it went out without a member id.
    is_nameless: bool,
}

/// A LeaveGroup that is to go out, or on its way.
#[derive(Debug)]
struct Leaving {
    request: LeaveGroupRequest,
    asked: Option<Asked>,
    retry: Retry,
    /// After this the session's end is left to do it.
    until: Instant,
}

/// What the member has yet to do for the rebalance that it has joined. It does so also while it gives its partitions up to leave:
/// between the answers to JoinGroup and the leader's SyncGroup the coordinator refuses commits (REBALANCE_IN_PROGRESS), so a
/// leader that did not assign any more could not commit what is done either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// JoinGroup went out and is not answered, so that the group may be in a generation that the member does not know.
    Join,
    /// The member leads and has to assign.
    Assign,
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no subscription.
    Out,
    /// The member left because the application took no batch.
    Away,
    /// JoinGroup is to go out, or on its way.
    Joining,
    /// The leader waits for the metadata of what members subscribe to.
    Assigning,
    /// SyncGroup is to go out, or on its way.
    Syncing,
    /// It has an assignment.
    Stable,
    /// The application finishes partitions that are given up. Then the member joins again.
    Yielding,
    /// As `Yielding`, but then the member leaves, because there is no subscription.
    Quitting,
    /// As `Yielding`, but then the member leaves for good.
    Closing,
    /// Nothing happens any more.
    Closed,
    /// The coordinator refused the member. A new subscription tries again.
    Failed,
}

/// What happened. `yields`: the member owns partitions that it has to give up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    /// There is a subscription.
    Subscribed,
    /// There is none.
    Unsubscribed { yields: bool },
    /// JoinGroup was answered: the member syncs.
    Joined,
    /// JoinGroup was answered: the member is the leader and has to assign.
    Elected,
    /// The leader has assigned.
    Assigned,
    /// SyncGroup was answered.
    Synced { yields: bool },
    /// The generation ends: the coordinator says so, the subscription changed, or the leader sees other partitions.
    Ended { yields: bool },
    /// All that was to be given up is given up.
    Released,
    /// The coordinator does not have the member any more, or not in this generation.
    Expelled,
    /// The coordinator was silent for the session timeout.
    Expired,
    /// Trying again is in vain.
    Refused,
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
    /// Assign, as soon as the metadata is there.
    Assign,
    /// Give out what is new in the assignment, and take back what is not in it.
    Take,
    /// Take back what the next generation may not find here.
    Yield,
    /// Take everything back.
    YieldAll,
    /// What is owned is lost.
    Lose,
    /// What is owned is lost; leave the group.
    LoseAndLeave,
    /// What is owned is lost; tell why the member does not go on.
    Fail,
    /// Leave the group.
    Leave,
}

/// JoinGroup is answered when the rebalance timeout ends, so it may take a little longer than that.
const JOIN_SLACK: Duration = Duration::from_secs(5);
/// A cooperative member that has to give partitions up joins again after this part of the heartbeat interval, and after
/// REJOIN_WAIT_MAX at most. JoinGroup ends the generation: members whose SyncGroup comes a moment later would get nothing, and
/// what was given up would have no owner for one more heartbeat. The time is not lost, because the group waits for the
/// heartbeats of its other members.
const REJOIN_WAIT_PART: u32 = 20;
const REJOIN_WAIT_MAX: Duration = Duration::from_millis(100);

impl Classic {
    pub(super) fn new(settings: Arc<Settings>, rng: Rng) -> Self {
        Self {
            liveness: Liveness::new(settings.max_poll_interval),
            settings,
            rng,
            state: State::Out,
            subscription: Subscription::default(),
            joined_topics: BTreeSet::new(),
            snapshot: Arc::default(),
            coordinator: Coordinator::of_group(),
            member_id: "".into(),
            generation: None,
            assignor: None,
            lead: None,
            owned: BTreeSet::new(),
            yielding: VecDeque::new(),
            target: BTreeSet::new(),
            last: BTreeSet::new(),
            last_generation: None,
            join_at: Instant::ORIGIN,
            asked: None,
            owed: Owed::Nothing,
            retry: Retry::default(),
            beat: None,
            beat_retry: Retry::default(),
            beat_at: Instant::ORIGIN,
            alive_at: Instant::ORIGIN,
            goodbye: None,
            nameless: None,
            has_joined: false,
            unsupported: None,
            how: Goodbye::Usual,
            reason: "",
            events: VecDeque::new(),
            notices: VecDeque::new(),
            interest: Wanted::default(),
            wanted: None,
            next_number: 0,
        }
    }

    /// Begins with the events that another protocol's machine left, and numbers its requests after that one's.
    pub(super) fn take_over(&mut self, events: impl Iterator<Item = Event>, next_number: u64) {
        self.events.extend(events);
        self.next_number = next_number;
    }

    /// Why the consumer protocol has to take over, and the number that its requests go on from.
    pub(super) fn poll_unsupported(&mut self) -> Option<(Failure, u64)> {
        self.unsupported.take().zip(Some(self.next_number))
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
        self.rejoin_if_resubscribed(now);
    }

    /// A subscription that changed during a rebalance is told in the next one: a JoinGroup on its way cannot be changed, and
    /// giving it up would leave a second member behind if it has no member id yet.
    fn rejoin_if_resubscribed(&mut self, now: Instant) {
        if self.state == State::Stable && self.joined_topics != self.subscription.topics {
            self.end_generation("the subscription changed", now);
        }
    }

    fn end_generation(&mut self, reason: &'static str, now: Instant) {
        self.reason = reason;
        self.step(Happened::Ended { yields: !self.to_yield().is_empty() }, None, now);
    }

    /// What has to be given up before the next generation: everything if the member is eager (all its assignors have to be
    /// cooperative for it to be so), else what it subscribes to no longer.
    fn to_yield(&self) -> BTreeSet<TopicPartition> {
        let is_cooperative = self.settings.assignors.iter().all(|assignor| assignor.is_cooperative());
        let is_unwanted = |owned: &&TopicPartition| !self.subscription.topics.contains(&owned.topic);
        self.owned.iter().filter(|owned| !is_cooperative || is_unwanted(owned)).cloned().collect()
    }

    pub(super) fn handle_metadata(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        self.snapshot = Arc::clone(snapshot);
        if self.owed == Owed::Assign {
            self.try_assign(now);
        }
        self.rejoin_if_partitions_changed(now);
    }

    fn rejoin_if_partitions_changed(&mut self, now: Instant) {
        if self.state == State::Stable && self.have_partitions_changed() {
            self.end_generation("the partitions of a topic changed", now);
        }
    }

    /// Whether the leader's assignment is for other numbers of partitions than the metadata has. A topic that is missing from it
    /// says nothing: it may be back a moment later.
    fn have_partitions_changed(&mut self) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let mut is_changed = false;
        for (topic, count) in &mut lead.counts {
            let Some(found) = count_of(&self.snapshot, topic) else { continue };
            is_changed |= *count.get_or_insert(found) != found;
        }
        is_changed
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
        let Some(found) = found else { return };
        // What went to another broker will not be answered by the coordinator.
        let is_old = |asked: &Asked| asked.broker != found;
        self.asked.take_if(|asked| is_old(asked));
        if self.beat.take_if(|beat| is_old(beat)).is_some() {
            self.beat_at = now;
        }
        if let Some(goodbye) = &mut self.goodbye {
            goodbye.asked.take_if(|asked| is_old(asked));
        }
    }

    /// Answers to requests that were given up are ignored.
    pub(super) fn handle_response(&mut self, number: u64, response: Response, now: Instant) {
        if self.nameless.take_if(|asked| asked.number == number).is_some() {
            if let Response::Join(response) = response {
                // KIP-394: the coordinator waits for a member that it gave an id, so that id leaves.
                self.say_goodbye(&response.member_id, self.how, now);
            }
            return;
        }
        let Some(asked) = self.take_asked(number) else { return };
        let code = match &response {
            Response::Join(response) => response.error_code,
            Response::Sync(response) => response.error_code,
            Response::Heartbeat(response) => response.error_code,
            Response::Leave(response) => response.error_code,
            Response::Consumer(response) => response.error_code,
        };
        match verdict::classic(asked.kind, code) {
            Verdict::Done => self.handle_done(asked, response, now),
            Verdict::Named => {
                if let Response::Join(response) = response {
                    self.handle_named(asked, &response.member_id, now);
                }
            }
            other => self.handle_code(asked, other, code, now),
        }
    }

    /// The coordinator gave the member this id. It is used at once, unless the member had one already, which no coordinator
    /// asks for twice.
    fn handle_named(&mut self, asked: Asked, id: &str, now: Instant) {
        if id.is_empty() {
            self.try_again(asked.kind, &malformed("it asks for a member id and gives none"), false, now);
            return;
        }
        self.member_id = Arc::from(id);
        if !asked.is_nameless {
            self.try_again(asked.kind, &Failure::answer(ErrorCode::MEMBER_ID_REQUIRED, None), true, now);
        }
    }

    fn handle_done(&mut self, asked: Asked, response: Response, now: Instant) {
        match response {
            Response::Join(response) => self.handle_joined(&response, now),
            Response::Sync(response) => self.handle_synced(&response, now),
            Response::Heartbeat(_) => {
                self.alive(asked.at);
                // Not when SyncGroup is answered: a coordinator that ends each generation at once is asked with backoffs.
                if self.state == State::Stable {
                    self.retry.succeeded();
                }
            }
            Response::Leave(_) => self.goodbye = None,
            Response::Consumer(_) => {}
        }
    }

    fn handle_code(&mut self, asked: Asked, verdict: Verdict, code: ErrorCode, now: Instant) {
        // All requests of a member need the same right.
        let failure =
            Failure::answer(code, None).of(ApiKey::JoinGroup).on(Resource::Group, &self.settings.group_id);
        match verdict {
            Verdict::Again | Verdict::Done | Verdict::Named => {
                self.try_again(asked.kind, &failure, true, now);
            }
            Verdict::Moved => {
                self.coordinator.lost(asked.broker);
                self.try_again(asked.kind, &failure, true, now);
            }
            Verdict::Rebalance => {
                // The coordinator has the member, so the session goes on.
                self.alive(asked.at);
                // Brokers before 2.5 answer so to a heartbeat between JoinGroup and SyncGroup too. If it is meant,
                // SyncGroup is answered in the same way.
                if asked.kind == Kind::Sync {
                    self.owed = Owed::Nothing;
                    self.fail_once(&failure, now);
                }
                if asked.kind == Kind::Sync || self.state == State::Stable {
                    self.end_generation("the group rebalances", now);
                }
            }
            Verdict::Expelled { forgets_id } => {
                if asked.kind == Kind::Heartbeat && self.is_crossed(asked.generation, forgets_id) {
                    return;
                }
                self.expel(forgets_id, &failure, now);
            }
            // The group took this member before, so that its assignors were right. It has changed its protocol since.
            Verdict::Unsupported if self.has_joined && self.settings.protocol == Protocol::Automatic => {
                self.unsupported = Some(failure.clone());
                self.expel(true, &failure, now);
            }
            Verdict::Unsupported | Verdict::Refused => self.step(Happened::Refused, Some(&failure), now),
        }
    }

    /// Whether a request of `generation` was overtaken by a JoinGroup, so that its refusal says nothing. JoinGroup has a
    /// connection of its own: the generation may have ended although its answer is still on its way.
    fn is_crossed(&self, generation: Option<i32>, forgets_id: bool) -> bool {
        let is_joining = self.state == State::Joining || self.owed == Owed::Join;
        generation != self.generation || (is_joining && !forgets_id)
    }

    fn expel(&mut self, forgets_id: bool, failure: &Failure, now: Instant) {
        if forgets_id {
            self.member_id = "".into();
        }
        self.reason = "the coordinator removed the member";
        self.fail_once(failure, now);
        self.step(Happened::Expelled, Some(failure), now);
    }

    /// The generation ended. The member joins again at once the first time, so that one that was only late is back soon.
    fn fail_once(&mut self, failure: &Failure, now: Instant) {
        if self.retry.failures() == 0 {
            self.retry.failed_but_try_at_once();
        } else {
            self.retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        }
    }

    /// A commit was refused. The driver tells it here, so that the member joins again at once and does not go on reading what
    /// it can no longer commit.
    pub(super) fn handle_commit_refused(&mut self, code: ErrorCode, generation: i32, now: Instant) {
        let failure = Failure::answer(code, None);
        match verdict::classic(Kind::Heartbeat, code) {
            Verdict::Expelled { forgets_id } if !self.is_crossed(Some(generation), forgets_id) => {
                self.expel(forgets_id, &failure, now);
            }
            Verdict::Rebalance if self.state == State::Stable && self.generation == Some(generation) => {
                self.fail_once(&failure, now);
                self.end_generation("the group rebalances", now);
            }
            Verdict::Refused if code == ErrorCode::FENCED_INSTANCE_ID => {
                self.step(Happened::Refused, Some(&failure), now);
            }
            _ => {}
        }
    }

    /// The request with this number has no answer: the connection was lost, or its deadline passed.
    pub(super) fn handle_lost(&mut self, number: u64, failure: &Failure, now: Instant) {
        if self.nameless.take_if(|asked| asked.number == number).is_some() {
            return;
        }
        let Some(asked) = self.take_asked(number) else { return };
        // After a timeout too: a coordinator that is silent may have been replaced.
        self.coordinator.lost(asked.broker);
        self.try_again(asked.kind, failure, false, now);
    }

    /// `may_pass`: the verdict is that the same request may succeed. Of a failure without an answer the failure says it.
    fn try_again(&mut self, kind: Kind, failure: &Failure, may_pass: bool, now: Instant) {
        let retry = match (kind, &mut self.goodbye) {
            (Kind::Heartbeat, _) => &mut self.beat_retry,
            (Kind::Leave, Some(goodbye)) => &mut goodbye.retry,
            (Kind::Leave, None) => return,
            (Kind::Join | Kind::Sync, _) => &mut self.retry,
        };
        let at = retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        let may_pass = may_pass || retry.may_pass(failure);
        if retry.is_notable(failure) && may_pass {
            let failures = retry.failures();
            let doing = match kind {
                Kind::Join => "joining the group",
                Kind::Sync => "asking for the group's assignment",
                Kind::Heartbeat => "sending a heartbeat to the group",
                Kind::Leave => "leaving the group",
            };
            self.notices.push_back(Notice { doing: doing.into(), failure: failure.clone(), failures });
        }
        match kind {
            Kind::Heartbeat if may_pass => self.beat_at = at,
            Kind::Leave if !may_pass => self.goodbye = None,
            _ if !may_pass => self.step(Happened::Refused, Some(failure), now),
            _ => {}
        }
    }

    fn take_asked(&mut self, number: u64) -> Option<Asked> {
        let is_it = |asked: &mut Asked| asked.number == number;
        let goodbye = self.goodbye.as_mut().map(|goodbye| &mut goodbye.asked);
        self.asked
            .take_if(is_it)
            .or_else(|| self.beat.take_if(is_it))
            .or_else(|| goodbye.and_then(|asked| asked.take_if(is_it)))
    }

    fn alive(&mut self, at: Instant) {
        self.alive_at = self.alive_at.max(at);
        self.beat_retry.succeeded();
    }

    fn handle_joined(&mut self, response: &JoinGroupResponse, now: Instant) {
        if response.generation_id < 0 || response.member_id.is_empty() {
            let reason = format!(
                "it let the member {:?} join in generation {}",
                response.member_id, response.generation_id
            );
            return self.try_again(Kind::Join, &malformed(&reason), false, now);
        }
        let agreed = response.protocol_name.as_deref().unwrap_or_default();
        let assignor = self.settings.assignors.iter().find(|assignor| assignor.name() == agreed);
        let Some(assignor) = assignor.cloned() else {
            let reason = format!("the group agreed on the assignor {agreed:?}, which was not offered");
            return self.step(Happened::Refused, Some(&malformed(&reason)), now);
        };
        self.member_id = Arc::from(&*response.member_id);
        self.generation = Some(response.generation_id);
        self.has_joined = true;
        // The answer waited for other members, so the session begins with its end and not with the request.
        self.alive(now);
        self.beat_at = now + self.heartbeat_interval();
        self.lead = None;
        self.assignor = Some(Arc::clone(&assignor));
        self.owed = Owed::Sync;
        if response.leader != response.member_id {
            self.set_wanted(Wanted::default());
            self.step(Happened::Joined, None, now);
            return;
        }
        let members: Vec<_> = response.members.iter().map(member).collect();
        let topics = match assignor.topics(&members) {
            Ok(topics) => topics,
            Err(failure) => return self.give_up_leading(&failure, now),
        };
        let is_strange = |topic: &&Arc<str>| !self.subscription.topics.contains(*topic);
        let strange: BTreeSet<_> = topics.iter().filter(is_strange).cloned().collect();
        self.set_wanted(Wanted { topics: strange, ids: BTreeSet::new() });
        // Others wait for the leader, so it does not wait for ever.
        let until = now + self.settings.request_timeout.min(self.settings.rebalance_timeout / 2);
        let counts = topics.into_iter().map(|topic| (topic, None)).collect();
        self.lead = Some(Lead { members, counts, assignments: Vec::new(), until });
        // KIP-814: the assignment before a static leader's restart is in force. It still watches the partitions.
        if response.skip_assignment {
            return self.step(Happened::Joined, None, now);
        }
        self.owed = Owed::Assign;
        self.step(Happened::Elected, None, now);
        // A member that gives everything up to leave is in no state that does it.
        if self.owed == Owed::Assign && self.state != State::Assigning {
            self.try_assign(now);
        }
    }

    fn set_wanted(&mut self, wanted: Wanted) {
        if self.interest != wanted {
            self.interest.clone_from(&wanted);
            self.wanted = Some(wanted);
        }
    }

    /// Without a leader the others would wait for its session to end.
    fn give_up_leading(&mut self, failure: &Failure, now: Instant) {
        let id = Arc::clone(&self.member_id);
        self.say_goodbye(&id, Goodbye::Leave, now);
        self.step(Happened::Refused, Some(failure), now);
    }

    fn try_assign(&mut self, now: Instant) {
        let (Some(lead), Some(assignor)) = (&mut self.lead, &self.assignor) else { return };
        let is_known = lead.counts.keys().all(|topic| is_described(&self.snapshot, topic));
        if !is_known && now < lead.until {
            return;
        }
        for (topic, count) in &mut lead.counts {
            *count = Some(count_of(&self.snapshot, topic).unwrap_or_default());
        }
        match assignor.assign(&lead.members, &self.snapshot) {
            Ok(assignments) => {
                lead.assignments = assignments;
                self.owed = Owed::Sync;
                self.step(Happened::Assigned, None, now);
            }
            Err(failure) => self.give_up_leading(&failure, now),
        }
    }

    fn handle_synced(&mut self, response: &SyncGroupResponse, now: Instant) {
        self.owed = Owed::Nothing;
        // While the member gives everything up to leave, it takes nothing any more.
        let Some(assignor) = self.assignor.as_ref().filter(|_| self.state == State::Syncing) else {
            return self.alive(now);
        };
        // SyncGroupResponse v5+. Another assignor's bytes may read as partitions that nobody gave to this member.
        if let Some(other) = response.protocol_name.as_deref().filter(|name| *name != assignor.name()) {
            let reason = format!("it assigns by {other:?}, and the group agreed on {:?}", assignor.name());
            return self.give_up_leading(&malformed(&reason), now);
        }
        let mut assigned = match assignor.decode(&response.assignment) {
            Ok(assigned) => assigned,
            Err(failure) => return self.give_up_leading(&failure, now),
        };
        if let Some(reason) = fault_of_assignment(assigned.iter().map(|assigned| assigned.partition)) {
            let failure = Failure::Malformed { peer: "the group's leader".into(), reason: reason.into() };
            return self.give_up_leading(&failure, now);
        }
        self.alive(now);
        if let Some(lead) = &mut self.lead {
            lead.assignments.clear();
            lead.members.clear();
        }
        self.last.clone_from(&assigned);
        self.last_generation = self.generation;
        // The subscription may have changed since the member joined. What it dropped is not read for a moment first.
        assigned.retain(|assigned| self.subscription.topics.contains(&assigned.topic));
        let yields = !self.owned.is_subset(&assigned);
        if yields {
            self.join_at = now + (self.heartbeat_interval() / REJOIN_WAIT_PART).min(REJOIN_WAIT_MAX);
        }
        self.target = assigned;
        self.step(Happened::Synced { yields }, None, now);
        self.rejoin_if_resubscribed(now);
        self.rejoin_if_partitions_changed(now);
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
            self.reason = "the coordinator was silent for the session timeout";
            self.step(Happened::Expired, Some(&failure), now);
        }
        if self.owed == Owed::Assign {
            self.try_assign(now);
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
        matches!(
            self.state,
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding
        )
    }

    /// Whether it is in a generation, so that it sends heartbeats and has a session that can end.
    fn is_member(&self) -> bool {
        let is_in = self.is_watched() || matches!(self.state, State::Quitting | State::Closing);
        self.generation.is_some() && is_in
    }

    fn session_end(&self) -> Option<Instant> {
        self.is_member().then(|| self.alive_at + self.settings.session_timeout)
    }

    fn heartbeat_interval(&self) -> Duration {
        self.settings.heartbeat_interval.min(self.settings.session_timeout / 3)
    }

    fn needs_coordinator(&self) -> bool {
        self.goodbye.is_some() || self.state == State::Joining || self.is_member()
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

    pub(super) fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        let broker = self.coordinator.broker()?;
        if self.goodbye.as_ref().is_some_and(|leave| leave.asked.is_none() && leave.retry.is_ready(now)) {
            let asked = self.number(Kind::Leave, broker, now);
            let goodbye = self.goodbye.as_mut()?;
            goodbye.asked = Some(asked);
            let request = Request::Leave(goodbye.request.clone());
            return Some(ask(asked, request, goodbye.until));
        }
        if self.is_member() && self.beat.is_none() && self.beat_at <= now {
            let asked = self.number(Kind::Heartbeat, broker, now);
            self.beat = Some(asked);
            self.beat_at = now + self.heartbeat_interval();
            // A silent coordinator leaves half of the session to find the next one.
            let patience = self.settings.request_timeout.min(self.settings.session_timeout / 2);
            return Some(ask(asked, self.heartbeat(), now + patience));
        }
        if self.asked.is_some() || self.ask_at().is_some_and(|at| at > now) {
            return None;
        }
        let kind = self.kind_to_ask()?;
        let request = if kind == Kind::Join { self.join() } else { self.sync() };
        if kind == Kind::Join {
            self.owed = Owed::Join;
        }
        let asked = self.number(kind, broker, now);
        self.asked = Some(asked);
        // The coordinator answers SyncGroup when the leader has synced, for which the leader has the rebalance timeout
        // (KAFKA-13310).
        Some(ask(asked, request, now + self.settings.rebalance_timeout + JOIN_SLACK))
    }

    /// Whether JoinGroup or SyncGroup is the next request of the rebalance.
    fn kind_to_ask(&self) -> Option<Kind> {
        match (self.state, self.owed) {
            (State::Joining, _) => Some(Kind::Join),
            (State::Syncing, _) => Some(Kind::Sync),
            (State::Yielding | State::Quitting | State::Closing, Owed::Join) => Some(Kind::Join),
            (State::Yielding | State::Quitting | State::Closing, Owed::Sync) => Some(Kind::Sync),
            _ => None,
        }
    }

    /// Not before this is JoinGroup or SyncGroup sent.
    fn ask_at(&self) -> Option<Instant> {
        let join_at = (self.state == State::Joining).then_some(self.join_at);
        join_at.max(self.retry.not_before())
    }

    fn number(&mut self, kind: Kind, broker: BrokerId, at: Instant) -> Asked {
        self.next_number += 1;
        let is_nameless = self.member_id.is_empty();
        Asked { number: self.next_number, kind, broker, at, generation: self.generation, is_nameless }
    }

    fn join(&mut self) -> Request {
        self.joined_topics.clone_from(&self.subscription.topics);
        let claim = Claim {
            topics: &self.joined_topics,
            owned: &self.owned,
            last: &self.last,
            generation: self.last_generation,
            rack: self.settings.rack.as_deref(),
        };
        let protocol = |assignor: &Arc<dyn Assignor>| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: assignor.metadata(&claim),
            ..Default::default()
        };
        Request::Join(JoinGroupRequest {
            group_id: (&*self.settings.group_id).into(),
            session_timeout_ms: millis(self.settings.session_timeout),
            rebalance_timeout_ms: millis(self.settings.rebalance_timeout),
            member_id: (&*self.member_id).into(),
            group_instance_id: str_of(self.settings.instance_id.as_ref()),
            protocol_type: "consumer".into(),
            protocols: self.settings.assignors.iter().map(protocol).collect(),
            reason: (!self.reason.is_empty()).then(|| self.reason.into()),
            ..Default::default()
        })
    }

    fn sync(&self) -> Request {
        let assignments = self.lead.as_ref().map(|lead| &*lead.assignments).unwrap_or_default();
        let assignment = |(member, assignment): &(Arc<str>, Bytes)| SyncGroupRequestAssignment {
            member_id: (&**member).into(),
            assignment: assignment.clone(),
            ..Default::default()
        };
        Request::Sync(SyncGroupRequest {
            group_id: (&*self.settings.group_id).into(),
            generation_id: self.generation.unwrap_or(-1),
            member_id: (&*self.member_id).into(),
            group_instance_id: str_of(self.settings.instance_id.as_ref()),
            protocol_type: Some("consumer".into()),
            protocol_name: self.assignor.as_ref().map(|assignor| assignor.name().into()),
            assignments: assignments.iter().map(assignment).collect(),
            ..Default::default()
        })
    }

    fn heartbeat(&self) -> Request {
        Request::Heartbeat(HeartbeatRequest {
            group_id: (&*self.settings.group_id).into(),
            generation_id: self.generation.unwrap_or(-1),
            member_id: (&*self.member_id).into(),
            group_instance_id: str_of(self.settings.instance_id.as_ref()),
            ..Default::default()
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_known = self.coordinator.broker().is_some();
        let asks = self.asked.is_none() && self.kind_to_ask().is_some();
        let leaves = self.goodbye.as_ref().filter(|goodbye| goodbye.asked.is_none() && is_known);
        earliest([
            self.session_end(),
            self.is_watched().then(|| self.liveness.poll_timeout()).flatten(),
            self.needs_coordinator().then(|| self.coordinator.poll_timeout()).flatten(),
            (is_known && self.beat.is_none() && self.is_member()).then_some(self.beat_at),
            (is_known && asks).then(|| self.ask_at()).flatten(),
            leaves.and_then(|goodbye| goodbye.retry.not_before()),
            self.goodbye.as_ref().map(|goodbye| goodbye.until),
            self.lead.as_ref().filter(|_| self.owed == Owed::Assign).map(|lead| lead.until),
        ])
    }

    pub(super) fn identity(&self) -> Option<MemberIdentity> {
        let generation_or_epoch = self.generation?;
        let instance_id = self.settings.instance_id.clone();
        Some(MemberIdentity { member_id: Arc::clone(&self.member_id), generation_or_epoch, instance_id })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed && self.goodbye.is_none() && self.nameless.is_none()
    }

    /// Moves on and does what follows. `failure` is why, for those events that have a cause.
    fn step(&mut self, happened: Happened, failure: Option<&Failure>, now: Instant) {
        let (state, action) = next(self.state, happened);
        self.state = state;
        match action {
            Action::Nothing => {}
            Action::Assign => self.try_assign(now),
            Action::Take => {
                let gone = self.owned.difference(&self.target).cloned().collect();
                self.revoke(gone, now);
                let partitions: BTreeSet<_> = self.target.difference(&self.owned).cloned().collect();
                self.owned.extend(partitions.iter().cloned());
                self.events.push_back(Event::Assign { partitions });
            }
            Action::Yield => {
                let gone = self.to_yield();
                self.revoke(gone, now);
            }
            Action::YieldAll => {
                let gone = self.owned.clone();
                self.revoke(gone, now);
            }
            Action::Lose => self.lose(failure),
            Action::LoseAndLeave => {
                self.lose(failure);
                self.leave(now);
            }
            Action::Fail => {
                self.lose(failure);
                self.member_id = "".into();
                self.events.extend(failure.cloned().map(Event::Failed));
            }
            Action::Leave => self.leave(now),
        }
    }

    /// Takes back those of `gone` that are not being taken back already.
    fn revoke(&mut self, mut gone: BTreeSet<TopicPartition>, now: Instant) {
        gone.retain(|gone| !self.yielding.iter().any(|yielding| yielding.contains(gone)));
        if gone.is_empty() {
            return;
        }
        // The rebalance began up to a heartbeat ago, and JoinGroup has to arrive before it ends.
        let spare = (self.heartbeat_interval() * 2).min(self.settings.rebalance_timeout / 2);
        let deadline = now + self.settings.rebalance_timeout.saturating_sub(spare);
        self.events.push_back(Event::Revoke { partitions: gone.clone(), deadline });
        self.yielding.push_back(gone);
    }

    fn lose(&mut self, failure: Option<&Failure>) {
        let partitions = std::mem::take(&mut self.owned);
        if let Some(failure) = failure.filter(|_| !partitions.is_empty()) {
            self.events.push_back(Event::Lost { partitions, failure: failure.clone() });
        }
        self.yielding.clear();
        self.last.clear();
        self.last_generation = None;
        self.forget_generation();
    }

    /// What was asked in this generation says nothing of the next one.
    fn forget_generation(&mut self) {
        self.generation = None;
        self.owed = Owed::Nothing;
        self.join_at = Instant::ORIGIN;
        self.lead = None;
        self.beat = None;
        self.beat_retry.succeeded();
        self.set_wanted(Wanted::default());
        if let Some(asked) = self.asked.take().filter(|asked| asked.is_nameless) {
            self.nameless = Some(asked);
        }
    }

    fn leave(&mut self, now: Instant) {
        let id = std::mem::replace(&mut self.member_id, "".into());
        self.say_goodbye(&id, self.how, now);
        self.forget_generation();
        self.last.clear();
        self.last_generation = None;
        self.retry.succeeded();
    }

    fn say_goodbye(&mut self, id: &str, how: Goodbye, now: Instant) {
        // A static member keeps its partitions until it is back (KIP-345).
        let leaves = match how {
            Goodbye::Usual => self.settings.instance_id.is_none(),
            Goodbye::Leave => true,
            Goodbye::Stay => false,
        };
        if id.is_empty() || !leaves {
            return;
        }
        let leaver = Leaver {
            member_id: id.into(),
            group_instance_id: str_of(self.settings.instance_id.as_ref()),
            reason: Some("the consumer leaves".into()),
            ..Default::default()
        };
        let request = LeaveGroupRequest {
            group_id: (&*self.settings.group_id).into(),
            members: vec![leaver],
            ..Default::default()
        };
        let until = now + self.settings.request_timeout;
        self.goodbye = Some(Leaving { request, asked: None, retry: Retry::default(), until });
    }
}

fn ask(asked: Asked, request: Request, deadline: Instant) -> Ask {
    Ask { number: asked.number, broker: asked.broker, kind: asked.kind, request, deadline }
}

fn malformed(reason: &str) -> Failure {
    Failure::Malformed { peer: "the group's coordinator".into(), reason: reason.into() }
}

fn member(member: &milena_messages::join_group::JoinGroupResponseMember) -> Member {
    Member {
        id: Arc::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(Arc::from),
        // Copied, because a slice would keep the whole answer in memory.
        metadata: Bytes::copy_from_slice(&member.metadata),
    }
}

/// How many partitions a topic has. None if the metadata does not say.
fn count_of(snapshot: &Snapshot, topic: &str) -> Option<usize> {
    let topic = snapshot.topics.get(topic)?.as_ref().ok()?;
    (!topic.partitions.is_empty()).then_some(topic.partitions.len())
}

/// Whether the metadata says how many partitions a topic has, or that there is no such topic for us.
fn is_described(snapshot: &Snapshot, topic: &str) -> bool {
    match snapshot.topics.get(topic) {
        None => false,
        Some(Ok(topic)) => !topic.partitions.is_empty(),
        Some(Err(code)) => *code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION || !code.is_retriable(),
    }
}

/// The next state and what to do. Every pair is named, so that a new state or event does not compile before its row is written.
fn next(state: State, happened: Happened) -> (State, Action) {
    use Happened::{
        Assigned, Close, Elected, Ended, Expelled, Expired, Joined, Progress, Refused, Released, Stalled,
        Subscribed, Synced, Unsubscribed,
    };
    let nothing = (state, Action::Nothing);
    match (state, happened) {
        (State::Out, Subscribed) => (State::Joining, Action::Nothing),
        (State::Out, Close { .. }) => (State::Closed, Action::Leave),
        (
            State::Out,
            Unsubscribed { .. } | Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Released | Expelled
            | Expired | Refused | Stalled | Progress,
        ) => nothing,

        (State::Away, Subscribed | Progress) => (State::Joining, Action::Nothing),
        (State::Away, Unsubscribed { .. }) => (State::Out, Action::Nothing),
        (State::Away, Close { .. }) => (State::Closed, Action::Leave),
        (
            State::Away,
            Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Released | Expelled | Expired | Refused
            | Stalled,
        ) => nothing,

        // Taking batches again does not try again: what was refused stays so until somebody changes something.
        (State::Failed, Subscribed) => (State::Joining, Action::Nothing),
        (State::Failed, Unsubscribed { .. }) => (State::Out, Action::Nothing),
        (State::Failed, Close { .. }) => (State::Closed, Action::Nothing),
        (
            State::Failed,
            Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Released | Expelled | Expired | Refused
            | Stalled | Progress,
        ) => nothing,

        (State::Joining, Joined) => (State::Syncing, Action::Nothing),
        (State::Joining, Elected) => (State::Assigning, Action::Assign),
        (State::Assigning, Assigned) => (State::Syncing, Action::Nothing),
        (State::Syncing, Synced { yields: false }) => (State::Stable, Action::Take),
        // KIP-429: what moves is given up now, and assigned in the next generation.
        (State::Syncing, Synced { yields: true }) => (State::Yielding, Action::Take),
        (State::Syncing | State::Stable, Ended { yields: false }) => (State::Joining, Action::Nothing),
        (State::Syncing | State::Stable, Ended { yields: true }) => (State::Yielding, Action::Yield),
        (State::Yielding, Released) => (State::Joining, Action::Nothing),

        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding,
            Expelled | Expired,
        ) => (State::Joining, Action::Lose),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding,
            Refused,
        ) => (State::Failed, Action::Fail),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding,
            Stalled,
        ) => (State::Away, Action::LoseAndLeave),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding,
            Unsubscribed { yields: true },
        ) => (State::Quitting, Action::YieldAll),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding,
            Unsubscribed { yields: false },
        ) => (State::Out, Action::Leave),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding | State::Quitting,
            Close { yields: true },
        ) => (State::Closing, Action::YieldAll),
        (
            State::Joining | State::Assigning | State::Syncing | State::Stable | State::Yielding | State::Quitting,
            Close { yields: false },
        ) => (State::Closed, Action::Leave),

        // A rebalance ends in `Stable`, which compares the subscription with the one it joined with. Only JoinGroup can say
        // that the group rebalances before SyncGroup has gone out, and its answer is `Joined` or a retry.
        (
            State::Joining,
            Subscribed | Assigned | Synced { .. } | Ended { .. } | Released | Progress,
        )
        | (
            State::Assigning,
            Subscribed | Joined | Elected | Synced { .. } | Ended { .. } | Released | Progress,
        )
        | (State::Syncing, Subscribed | Joined | Elected | Assigned | Released | Progress)
        | (
            State::Stable,
            Subscribed | Joined | Elected | Assigned | Synced { .. } | Released | Progress,
        )
        // It joins again anyway.
        | (
            State::Yielding,
            Subscribed | Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Progress,
        ) => nothing,

        (State::Quitting, Released) => (State::Out, Action::Leave),
        // It stays in the group after all, and joins again with nothing owned.
        (State::Quitting, Subscribed) => (State::Yielding, Action::Nothing),
        (State::Quitting, Expelled | Expired | Refused) => (State::Out, Action::Lose),
        (
            State::Quitting,
            Unsubscribed { .. } | Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Stalled | Progress,
        ) => nothing,

        (State::Closing, Released) => (State::Closed, Action::Leave),
        (State::Closing, Expelled | Expired | Refused) => (State::Closed, Action::Lose),
        (
            State::Closing,
            Subscribed | Unsubscribed { .. } | Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Stalled
            | Progress | Close { .. },
        ) => nothing,

        (
            State::Closed,
            Subscribed | Unsubscribed { .. } | Joined | Elected | Assigned | Synced { .. } | Ended { .. } | Released
            | Expelled | Expired | Refused | Stalled | Progress | Close { .. },
        ) => nothing,
    }
}

#[cfg(test)]
mod tests;
