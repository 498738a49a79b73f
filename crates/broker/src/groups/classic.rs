//! A group of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. KIP-62, KIP-345 (static members),
//! KIP-394 (member ids), KIP-814 (a static leader that comes back skips the assignment).
//!
//! ```text
//!            join                  all have joined            the leader's sync
//!  Empty ──────────▶ Preparing ───────────────────▶ Completing ──────────────▶ Stable
//!    ▲                 │   ▲        or time is up       │                         │
//!    └─────────────────┘   └────────────────────────────┴─────────────────────────┘
//!      no member is left        a join that changes something, a member that leaves or is silent
//! ```
//!
//! `Classic` is the state, `Turn` the state with what is needed to change it. Members that wait have a [`Reply`], whose
//! answer wakes the parked request. The rules and the codes are those of Kafka's GroupMetadataManager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use milena_messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use milena_messages::group_metadata_record::{GroupMetadataValue, MemberMetadata};
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use milena_messages::leave_group::{LeaveGroupRequest, MemberResponse};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_messages::{ErrorCode, Message};
use milena_wire::{Reader, Str};

use super::reply::Reply;
use super::{Due, Groups, NEW_MEMBER_JOIN_TIMEOUT, Shared};
use crate::now::Now;

/// What a group of the classic protocol is.
#[derive(Debug, Default)]
pub(crate) struct Classic {
    state: State,
    /// The state before this one. The first rebalance of an empty group waits for its delay, whoever joins.
    previous: State,
    /// When the group came into its state, in milliseconds since 1970. `None` when that was not recorded.
    since_ms: Option<i64>,
    generation: i32,
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// The member id of each static member, by its group instance id.
    statics: BTreeMap<Str, Str>,
    /// The ids that were given to members that have not joined with them yet (KIP-394).
    pending: BTreeSet<Str>,
    /// The members that have not fetched the assignment of this generation.
    unsynced: BTreeSet<Str>,
    /// The first rebalance: whether a member came since its delay began, and how long it may be put off further.
    has_newcomer: bool,
    delay_left: Duration,
    /// The topics that the members subscribe to; `None` when that is not known.
    subscribed: Option<BTreeSet<Str>>,
    /// The last record that was written of the group.
    written: Option<GroupMetadataValue>,
}

/// The states of Kafka's classic groups. A dead group is none at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

#[derive(Debug)]
struct Member {
    instance_id: Option<Str>,
    client_id: Str,
    client_host: Str,
    rebalance_timeout: Duration,
    session_timeout: Duration,
    /// Name and metadata of the assignors that the member offers, best first.
    protocols: Vec<(Str, Bytes)>,
    assignment: Bytes,
    /// Whether it has never been in a generation.
    is_new: bool,
    join: Option<Arc<Reply<JoinGroupResponse>>>,
    sync: Option<Arc<Reply<SyncGroupResponse>>>,
}

/// A JoinGroup request and where it comes from.
#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) request: JoinGroupRequest,
    pub(crate) version: i16,
    pub(crate) client_id: Str,
    pub(crate) client_host: String,
    pub(crate) reply: Arc<Reply<JoinGroupResponse>>,
}

/// A group in the hands of the coordinator.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    id: &'a Str,
    group: &'a mut Classic,
    shared: &'a mut Shared,
    now: Now,
}

/// From this version on a new member must join twice: the first answer brings its member id (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader can be told to skip the assignment (KIP-814).
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

impl State {
    /// Kafka's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Groups {
    /// A member joins. Its reply gets the answer, at once or when the rebalance is done.
    pub(crate) fn join(&mut self, joiner: Joiner, now: Now) {
        let (reply, member_id) = (Arc::clone(&joiner.reply), joiner.request.member_id.clone());
        let denied = |code| reply.put(refused_join(member_id.clone(), code));
        let (id, settings) = (joiner.request.group_id.clone(), &self.shared.settings);
        if id.is_empty() {
            return denied(ErrorCode::INVALID_GROUP_ID);
        }
        let session_timeout = milliseconds(joiner.request.session_timeout_ms);
        if joiner.request.session_timeout_ms < 0
            || !(settings.session_timeout_min..=settings.session_timeout_max).contains(&session_timeout)
        {
            return denied(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        if !member_id.is_empty() && self.get(&id).is_none() {
            return denied(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let Some(is_new) = self.ensure(&id) else { return denied(ErrorCode::COORDINATOR_NOT_AVAILABLE) };
        let (mut turn, _) = self.turn(&id, now).expect("it was just made");
        // Kafka writes that a group exists before its first generation.
        if is_new && !turn.write_empty() {
            self.groups.remove(id.as_str());
            return denied(ErrorCode::NOT_COORDINATOR);
        }
        turn.join(joiner);
    }

    /// A member fetches its assignment; the leader brings the assignments of all.
    pub(crate) fn sync(
        &mut self,
        request: &SyncGroupRequest,
        reply: &Arc<Reply<SyncGroupResponse>>,
        now: Now,
    ) {
        let denied = |code| reply.put(SyncGroupResponse { error_code: code, ..Default::default() });
        if request.group_id.is_empty() {
            return denied(ErrorCode::INVALID_GROUP_ID);
        }
        match self.turn(&request.group_id, now) {
            None => denied(ErrorCode::UNKNOWN_MEMBER_ID),
            Some((mut turn, _)) => turn.sync(request, reply).unwrap_or_else(denied),
        }
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> ErrorCode {
        if request.group_id.is_empty() {
            return ErrorCode::INVALID_GROUP_ID;
        }
        let Some((mut turn, _)) = self.turn(&request.group_id, now) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
        let found = turn.group.check(&request.member_id, request.group_instance_id.as_ref());
        if let Err(code) = found {
            return code;
        }
        if request.generation_id != turn.group.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        turn.renew(&request.member_id);
        match turn.group.state {
            State::Preparing => ErrorCode::REBALANCE_IN_PROGRESS,
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::Completing | State::Stable => ErrorCode::NONE,
        }
    }

    /// Members leave, each with an answer of its own. The error is one for the whole request.
    pub(crate) fn leave(
        &mut self,
        request: &LeaveGroupRequest,
        now: Now,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let mut turn = self.turn(&request.group_id, now).map(|(turn, _)| turn);
        let mut leave = |member: &milena_messages::leave_group::MemberIdentity| MemberResponse {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error_code: match &mut turn {
                None => ErrorCode::UNKNOWN_MEMBER_ID,
                Some(turn) => {
                    let left = turn.leave(&member.member_id, member.group_instance_id.as_ref());
                    left.err().unwrap_or(ErrorCode::NONE)
                }
            },
            ..Default::default()
        };
        let left: Vec<MemberResponse> = request.members.iter().map(&mut leave).collect();
        if let Some(turn) = &mut turn
            && left.iter().any(|member| member.error_code.is_none())
        {
            match turn.group.state {
                State::Stable | State::Completing => turn.rebalance(),
                State::Preparing => turn.complete_if_all_joined(),
                State::Empty => {}
            }
        }
        Ok(left)
    }
}

impl Turn<'_> {
    pub(super) fn new<'a>(id: &'a Str, group: &'a mut Classic, shared: &'a mut Shared, now: Now) -> Turn<'a> {
        Turn { id, group, shared, now }
    }

    pub(super) fn group(&self) -> &Classic {
        self.group
    }

    pub(super) fn id(&self) -> &Str {
        self.id
    }

    pub(super) fn shared(&mut self) -> &mut Shared {
        self.shared
    }

    fn join(&mut self, joiner: Joiner) {
        let member_id = joiner.request.member_id.clone();
        if !self.group.has_room_for(&member_id, self.shared.settings.members_max) {
            self.remove(&member_id);
            joiner.deny(Str::default(), ErrorCode::GROUP_MAX_SIZE_REACHED);
        } else if !self.group.supports(&joiner.request) {
            joiner.deny(member_id, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        } else if member_id.is_empty() {
            self.join_new(joiner);
        } else {
            self.join_again(joiner);
        }
    }

    /// Someone joins who has no member id.
    fn join_new(&mut self, joiner: Joiner) {
        let instance_id = joiner.request.group_instance_id.as_ref();
        let prefix = instance_id.unwrap_or(&joiner.client_id).clone();
        let member_id = self.new_member_id(&prefix);
        let before = instance_id.and_then(|id| self.group.statics.get(id)).cloned();
        match before {
            Some(before) => self.replace(&joiner, &before, &member_id),
            None if instance_id.is_none() && joiner.version >= MEMBER_ID_REQUIRED_FROM => {
                self.group.pending.insert(member_id.clone());
                let timeout = milliseconds(joiner.request.session_timeout_ms);
                self.start_session(&member_id, timeout);
                joiner.deny(member_id, ErrorCode::MEMBER_ID_REQUIRED);
            }
            None => self.add(joiner, &member_id),
        }
    }

    /// Someone joins under a member id.
    fn join_again(&mut self, joiner: Joiner) {
        let (member_id, instance_id) =
            (joiner.request.member_id.clone(), joiner.request.group_instance_id.clone());
        if instance_id.is_none() && self.group.pending.contains(&member_id) {
            // The key of the set is a copy; the request's would keep its frame in memory.
            let member_id = self.group.pending.take(&member_id).expect("it is there");
            return self.add(joiner, &member_id);
        }
        if let Err(code) = self.group.check(&member_id, instance_id.as_ref()) {
            return joiner.deny(member_id, code);
        }
        let member = &self.group.members[&member_id];
        let is_same = member.offers(&joiner.request.protocols);
        let is_leader = self.group.leader.as_ref() == Some(&member_id);
        match self.group.state {
            // It may have missed the answer to its first join of this generation.
            State::Completing if is_same => joiner.reply.put(self.group.joined(&member_id)),
            // Only the leader can have a rebalance by joining again: something that it watches may have changed.
            State::Stable if is_same && !is_leader => {
                let answer = JoinGroupResponse { members: Vec::new(), ..self.group.joined(&member_id) };
                joiner.reply.put(answer);
            }
            State::Preparing | State::Completing | State::Stable => {
                self.group.update(&member_id, &joiner.request, Some(joiner.reply));
                self.rebalance();
            }
            State::Empty => joiner.deny(member_id, ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn add(&mut self, joiner: Joiner, member_id: &Str) {
        if self.group.state == State::Preparing && self.group.previous == State::Empty {
            self.group.has_newcomer = true;
        }
        let Joiner { request, client_id, client_host, reply, .. } = joiner;
        let instance_id = request.group_instance_id.as_ref().map(owned);
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(owned(&request.protocol_type));
        }
        if let Some(instance_id) = &instance_id {
            self.group.statics.insert(instance_id.clone(), member_id.clone());
        }
        let member = Member {
            instance_id,
            client_id: owned(&client_id),
            client_host: client_host.into(),
            rebalance_timeout: milliseconds(request.rebalance_timeout_ms),
            session_timeout: milliseconds(request.session_timeout_ms),
            protocols: protocols(&request.protocols),
            assignment: Bytes::new(),
            is_new: true,
            join: Some(reply),
            sync: None,
        };
        self.group.leader.get_or_insert_with(|| member_id.clone());
        self.group.pending.remove(member_id);
        self.group.members.insert(member_id.clone(), member);
        self.start_session(member_id, NEW_MEMBER_JOIN_TIMEOUT);
        self.rebalance();
    }

    /// A static member comes back without its member id: it takes its old place under a new one.
    fn replace(&mut self, joiner: &Joiner, before: &Str, member_id: &Str) {
        let leader = self.group.leader.clone();
        let mut member = self.group.members.remove(before).expect("a static member is a member");
        self.cancel_session(before);
        // Whoever waits under the old id is another process with the same name.
        if let Some(join) = member.join.take() {
            join.put(refused_join(before.clone(), ErrorCode::FENCED_INSTANCE_ID));
        }
        if let Some(sync) = member.sync.take() {
            sync.put(SyncGroupResponse { error_code: ErrorCode::FENCED_INSTANCE_ID, ..Default::default() });
        }
        if leader.as_ref() == Some(before) {
            self.group.leader = Some(member_id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            self.group.statics.insert(instance_id.clone(), member_id.clone());
        }
        member.is_new = false;
        self.group.unsynced.remove(before);
        self.group.members.insert(member_id.clone(), member);
        self.group.update(member_id, &joiner.request, Some(Arc::clone(&joiner.reply)));
        self.renew(member_id);
        match self.group.state {
            State::Stable if self.group.protocol == self.group.select_protocol() => {
                self.rejoin_without_rebalance(joiner, member_id, before, leader);
            }
            State::Stable | State::Completing => self.prepare(),
            State::Preparing => self.complete_if_all_joined(),
            State::Empty => joiner.deny(Str::default(), ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// A static member is back, and nothing else has changed: it goes on with its assignment.
    fn rejoin_without_rebalance(
        &mut self,
        joiner: &Joiner,
        member_id: &Str,
        before: &Str,
        leader: Option<Str>,
    ) {
        let value = self.group.record(&self.group.assignments());
        if !self.write(value) {
            let mut member = self.group.members.remove(member_id).expect("it was just put in");
            member.join = None;
            if let Some(instance_id) = &member.instance_id {
                self.group.statics.insert(instance_id.clone(), before.clone());
            }
            self.group.members.insert(before.clone(), member);
            self.group.leader = leader;
            self.cancel_session(member_id);
            self.renew(before);
            return joiner.deny(Str::default(), ErrorCode::NOT_COORDINATOR);
        }
        let mut answer = self.group.joined(member_id);
        let is_leader = self.group.leader.as_ref() == Some(member_id);
        if joiner.version >= SKIPS_ASSIGNMENT_FROM {
            answer.skip_assignment = is_leader;
        } else {
            // An older client that finds itself the leader would assign anew, and the others would not hear of it. It is
            // told that its former self leads.
            answer.members = Vec::new();
            answer.leader = leader.unwrap_or_default();
        }
        if let Some(member) = self.group.members.get_mut(member_id) {
            member.join = None;
        }
        joiner.reply.put(answer);
    }

    /// The error is the answer.
    fn sync(
        &mut self,
        request: &SyncGroupRequest,
        reply: &Arc<Reply<SyncGroupResponse>>,
    ) -> Result<(), ErrorCode> {
        let member_id = &request.member_id;
        self.group.check(member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.group.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |said: &Option<Str>, is: &Option<Str>| said.is_some() && is.is_some() && said != is;
        if differs(&request.protocol_type, &self.group.protocol_type)
            || differs(&request.protocol_name, &self.group.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.group.state {
            State::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::Preparing => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Completing | State::Stable => {}
        }
        self.group.unsynced.remove(member_id);
        if self.group.unsynced.is_empty() {
            self.shared.queue.cancel(&Due::Sync(self.id.clone()));
        }
        if self.group.state == State::Stable {
            reply.put(self.group.synced(self.group.members[member_id].assignment.clone()));
            return Ok(());
        }
        if let Some(member) = self.group.members.get_mut(member_id) {
            member.sync = Some(Arc::clone(reply));
        }
        if self.group.leader.as_ref() == Some(member_id) {
            self.assign(request);
        }
        Ok(())
    }

    /// The leader has brought the assignments.
    fn assign(&mut self, request: &SyncGroupRequest) {
        let brought = |member_id: &Str| {
            let of_member = request.assignments.iter().rfind(|brought| brought.member_id == *member_id);
            of_member.map_or(Bytes::new(), |brought| Bytes::copy_from_slice(&brought.assignment))
        };
        let assignments: BTreeMap<Str, Bytes> =
            self.group.members.keys().map(|member_id| (member_id.clone(), brought(member_id))).collect();
        let value = self.group.record(&assignments);
        if !self.write(value) {
            self.fail_syncs(ErrorCode::NOT_COORDINATOR);
            return self.rebalance();
        }
        for (member_id, assignment) in assignments {
            if let Some(member) = self.group.members.get_mut(&member_id) {
                member.assignment = assignment;
            }
        }
        for member_id in self.group.ids() {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            let assignment = member.assignment.clone();
            if let Some(sync) = member.sync.take() {
                sync.put(self.group.synced(assignment));
                self.renew(&member_id);
            }
        }
        self.enter(State::Stable);
    }

    fn leave(&mut self, member_id: &Str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if self.group.pending.contains(member_id) {
            self.remove(member_id);
            return Ok(());
        }
        let leaves = if member_id.is_empty() {
            // An administrator names a static member by its group instance id.
            let found = instance_id.and_then(|instance_id| self.group.statics.get(instance_id));
            found.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?.clone()
        } else {
            self.group.check(member_id, instance_id)?;
            member_id.clone()
        };
        self.turn_away(&leaves);
        self.remove(&leaves);
        Ok(())
    }

    /// A rebalance begins, if none is being prepared; otherwise it may be that all have joined it now.
    fn rebalance(&mut self) {
        match self.group.state {
            State::Preparing => self.complete_if_all_joined(),
            State::Empty | State::Completing | State::Stable => self.prepare(),
        }
    }

    /// A rebalance begins.
    fn prepare(&mut self) {
        if self.group.state == State::Completing {
            self.fail_syncs(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.group.unsynced.clear();
        self.shared.queue.cancel(&Due::Sync(self.id.clone()));
        let is_first = self.group.state == State::Empty;
        self.enter(State::Preparing);
        let delay = self.shared.settings.initial_rebalance_delay;
        if !is_first {
            if self.group.have_all_joined() {
                return self.complete();
            }
            return self.wait_for_joins(self.group.rebalance_timeout());
        }
        self.group.has_newcomer = false;
        self.group.delay_left = self.group.rebalance_timeout().saturating_sub(delay);
        if delay.is_zero() { self.complete() } else { self.wait_for_joins(delay) }
    }

    fn wait_for_joins(&mut self, time: Duration) {
        self.shared.set(Due::Join(self.id.clone()), self.now.instant + time);
    }

    /// The time to join is over. The first rebalance is put off as long as members keep coming.
    pub(super) fn rebalance_is_due(&mut self) {
        let group = &mut *self.group;
        if group.state != State::Preparing {
            return;
        }
        let delay = self.shared.settings.initial_rebalance_delay;
        if group.previous == State::Empty && group.has_newcomer && !group.delay_left.is_zero() {
            group.has_newcomer = false;
            let wait = delay.min(group.delay_left);
            group.delay_left = group.delay_left.saturating_sub(delay);
            return self.wait_for_joins(wait);
        }
        self.complete();
    }

    fn complete_if_all_joined(&mut self) {
        let group = &self.group;
        // The first rebalance waits for its delay, whoever has joined.
        if group.state == State::Preparing && group.previous != State::Empty && group.have_all_joined() {
            self.complete();
        }
    }

    /// The members that have joined are the next generation.
    fn complete(&mut self) {
        self.shared.queue.cancel(&Due::Join(self.id.clone()));
        // Static members stay until their session ends: they may be starting anew (KIP-345).
        let is_late = |member: &Member| member.join.is_none() && member.instance_id.is_none();
        let late: Vec<Str> = self
            .group
            .members
            .iter()
            .filter(|(_, member)| is_late(member))
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in late {
            self.remove(&member_id);
        }
        if !self.group.members.is_empty() && !self.group.elect_joined_leader() {
            return self.wait_for_joins(self.group.rebalance_timeout());
        }
        self.group.generation = self.group.generation.wrapping_add(1);
        self.group.unsynced.clear();
        if self.group.members.is_empty() {
            self.group.protocol = None;
            self.group.subscribed = self.group.find_subscribed();
            self.enter(State::Empty);
            let value = self.group.record(&BTreeMap::new());
            if !self.write(value) {
                tracing::warn!(group = %self.id, "cannot write that a group is empty");
            }
            return;
        }
        self.group.protocol = self.group.select_protocol();
        self.group.subscribed = self.group.find_subscribed();
        self.enter(State::Completing);
        for member_id in self.group.ids() {
            let answer = self.group.joined(&member_id);
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            member.is_new = false;
            if let Some(join) = member.join.take() {
                join.put(answer);
            }
            self.group.unsynced.insert(member_id.clone());
            self.renew(&member_id);
        }
        let at = self.now.instant + self.group.rebalance_timeout();
        self.shared.set(Due::Sync(self.id.clone()), at);
    }

    /// Members that have not fetched their assignment in time leave.
    pub(super) fn expire_sync(&mut self) {
        let is_waiting = matches!(self.group.state, State::Completing | State::Stable);
        if !is_waiting || self.group.unsynced.is_empty() {
            return;
        }
        for member_id in self.group.unsynced.clone() {
            self.remove(&member_id);
        }
        self.prepare();
    }

    /// A member was silent for its whole session.
    pub(super) fn expire_session(&mut self, member_id: &Str) {
        if self.group.pending.contains(member_id) {
            self.remove(member_id);
            if self.group.state == State::Preparing && self.group.have_all_joined() {
                self.complete();
            }
            return;
        }
        let Some(member) = self.group.members.get(member_id) else { return };
        // A member whose request waits is alive, but a new one may have vanished without a word.
        if !member.is_new && (member.join.is_some() || member.sync.is_some()) {
            return;
        }
        self.turn_away(member_id);
        self.remove(member_id);
        match self.group.state {
            State::Stable | State::Completing => self.prepare(),
            State::Preparing if self.group.have_all_joined() => self.complete(),
            State::Preparing | State::Empty => {}
        }
    }

    /// Sends all waiting requests away. The group is then as the last record has it.
    pub(super) fn reload(&mut self) {
        let answers = self.group.members.values_mut().map(|member| (member.join.take(), member.sync.take()));
        for (join, sync) in answers {
            let error_code = ErrorCode::NOT_COORDINATOR;
            if let Some(join) = join {
                join.put(refused_join(Str::default(), error_code));
            }
            if let Some(sync) = sync {
                sync.put(SyncGroupResponse { error_code, ..Default::default() });
            }
        }
        self.shared.cancel_all(self.id, self.group);
        *self.group = self.group.written.take().map_or_else(Classic::default, Classic::from_record);
        self.start_sessions();
    }

    /// Starts the sessions of members that were read from a record.
    pub(super) fn start_sessions(&mut self) {
        for member_id in self.group.ids() {
            self.renew(&member_id);
        }
    }

    /// The member's session begins anew.
    pub(super) fn renew(&mut self, member_id: &Str) {
        if let Some((member_id, member)) = self.group.members.get_key_value(member_id) {
            let (member_id, timeout) = (member_id.clone(), member.session_timeout);
            self.start_session(&member_id, timeout);
        }
    }

    fn start_session(&mut self, member_id: &Str, timeout: Duration) {
        let due = Due::Session(self.id.clone(), member_id.clone());
        self.shared.set(due, self.now.instant + timeout);
    }

    fn cancel_session(&mut self, member_id: &Str) {
        self.shared.queue.cancel(&Due::Session(self.id.clone(), member_id.clone()));
    }

    /// Answers the join that a member waits for: it is no member any more.
    fn turn_away(&mut self, member_id: &Str) {
        let join = self.group.members.get_mut(member_id).and_then(|member| member.join.take());
        if let Some(join) = join {
            join.put(refused_join(Str::default(), ErrorCode::UNKNOWN_MEMBER_ID));
        }
    }

    /// Takes a member out, or an id that was given to none yet.
    fn remove(&mut self, member_id: &Str) {
        self.cancel_session(member_id);
        let group = &mut *self.group;
        if let Some(member) = group.members.remove(member_id) {
            if let Some(instance_id) = &member.instance_id {
                group.statics.remove(instance_id);
            }
            if let Some(sync) = member.sync {
                sync.put(SyncGroupResponse {
                    error_code: ErrorCode::UNKNOWN_MEMBER_ID,
                    ..Default::default()
                });
            }
        }
        if group.leader.as_ref() == Some(member_id) {
            group.leader = group.members.keys().next().cloned();
        }
        group.pending.remove(member_id);
        group.unsynced.remove(member_id);
    }

    /// Assignments that were about to be handed out are void.
    fn fail_syncs(&mut self, error_code: ErrorCode) {
        for member_id in self.group.ids() {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            member.assignment = Bytes::new();
            if let Some(sync) = member.sync.take() {
                sync.put(SyncGroupResponse { error_code, ..Default::default() });
                self.renew(&member_id);
            }
        }
    }

    fn enter(&mut self, state: State) {
        self.group.previous = self.group.state;
        self.group.state = state;
        self.group.since_ms = Some(self.now.unix_ms);
    }

    fn write(&mut self, value: GroupMetadataValue) -> bool {
        let is_written = self.shared.write_group(self.id, value.clone());
        if is_written {
            self.group.written = Some(value);
        }
        is_written
    }

    /// Writes that the group exists and has no members.
    pub(super) fn write_empty(&mut self) -> bool {
        self.write(GroupMetadataValue { protocol: None, leader: None, ..Default::default() })
    }

    /// A member id in Kafka's form, with a random part in Java's form of uuids.
    fn new_member_id(&mut self, prefix: &Str) -> Str {
        loop {
            let id = self.shared.random.uuid();
            let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            let id = Str::from(format!("{prefix}-{a}-{b}-{c}-{d}-{e}"));
            // A broker that is started again with the same seed draws the ids again that stored members have.
            if !self.group.members.contains_key(&id) && !self.group.pending.contains(&id) {
                return id;
            }
        }
    }
}

impl Classic {
    /// The group that a record tells of.
    pub(super) fn from_record(value: GroupMetadataValue) -> Self {
        let protocol = value.protocol.as_ref().map(owned);
        let mut group = Self {
            state: if value.members.is_empty() { State::Empty } else { State::Stable },
            since_ms: (value.current_state_timestamp != -1).then_some(value.current_state_timestamp),
            generation: value.generation,
            protocol_type: Some(owned(&value.protocol_type)).filter(|name| !name.is_empty()),
            protocol: protocol.clone(),
            leader: value.leader.as_ref().map(owned),
            ..Self::default()
        };
        for member in &value.members {
            let (member_id, instance_id) =
                (owned(&member.member_id), member.group_instance_id.as_ref().map(owned));
            if let Some(instance_id) = &instance_id {
                group.statics.insert(instance_id.clone(), member_id.clone());
            }
            let name = protocol.clone().unwrap_or_default();
            let rebalance_timeout = match member.rebalance_timeout {
                -1 => member.session_timeout,
                timeout => timeout,
            };
            let member = Member {
                instance_id,
                client_id: owned(&member.client_id),
                client_host: owned(&member.client_host),
                rebalance_timeout: milliseconds(rebalance_timeout),
                session_timeout: milliseconds(member.session_timeout),
                protocols: vec![(name, Bytes::copy_from_slice(&member.subscription))],
                assignment: Bytes::copy_from_slice(&member.assignment),
                is_new: false,
                join: None,
                sync: None,
            };
            group.members.insert(member_id, member);
        }
        group.subscribed = group.find_subscribed();
        group.written = Some(value);
        group
    }

    /// What is written of the group when its members have these assignments.
    fn record(&self, assignments: &BTreeMap<Str, Bytes>) -> GroupMetadataValue {
        let member = |(member_id, member): (&Str, &Member)| MemberMetadata {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout.as_millis() as i32,
            session_timeout: member.session_timeout.as_millis() as i32,
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: assignments.get(member_id).cloned().unwrap_or_default(),
            ..Default::default()
        };
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since_ms.unwrap_or(-1),
            members: self.members.iter().map(member).collect(),
            ..Default::default()
        }
    }

    pub(super) fn written(&self) -> Option<&GroupMetadataValue> {
        self.written.as_ref()
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|name| name == CONSUMER)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// When the group came into its state.
    pub(super) fn since_ms(&self) -> Option<i64> {
        self.since_ms
    }

    /// The topics that the members subscribe to, if that is known.
    pub(super) fn subscribed(&self) -> Option<&BTreeSet<Str>> {
        self.subscribed.as_ref()
    }

    /// Whether offsets of the topic are in use. A consumer group whose subscription cannot be read may use any.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// The ids of members and those that were given out.
    pub(super) fn member_ids(&self) -> impl Iterator<Item = &Str> {
        self.members.keys().chain(&self.pending)
    }

    fn ids(&self) -> Vec<Str> {
        self.members.keys().cloned().collect()
    }

    /// Whether the member id is one of this group, and belongs to the static member that is named.
    pub(super) fn check(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            let current = self.statics.get(instance_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if current != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    fn has_room_for(&self, member_id: &str, members_max: usize) -> bool {
        let waits = |member: &Member| member.join.is_some();
        let is_pending = self.pending.contains(member_id);
        // Kafka has no limit for the ids that were given out. Each costs memory.
        if !is_pending && self.pending.len() >= members_max {
            return false;
        }
        match self.state {
            State::Empty => true,
            State::Preparing => {
                self.members.get(member_id).is_some_and(waits)
                    || self.members.values().filter(|member| waits(member)).count() < members_max
            }
            State::Completing | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < members_max
            }
        }
    }

    /// Whether a member with these protocols can be in the group.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let all_offer = |name: &Str| {
            let offers = |member: &Member| member.protocols.iter().any(|(offered, _)| offered == name);
            self.members.values().all(offers)
        };
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| all_offer(&protocol.name))
    }

    fn update(
        &mut self,
        member_id: &Str,
        request: &JoinGroupRequest,
        join: Option<Arc<Reply<JoinGroupResponse>>>,
    ) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.protocols = protocols(&request.protocols);
            member.rebalance_timeout = milliseconds(request.rebalance_timeout_ms);
            member.session_timeout = milliseconds(request.session_timeout_ms);
            member.join = join;
        }
    }

    fn have_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    /// The longest of the members' rebalance timeouts.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Makes sure that the leader is among those who have joined. False when none has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &Str| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(elected) = self.members.keys().find(|id| has_joined(id)).cloned() else { return false };
        self.leader = Some(elected);
        true
    }

    /// The protocol that most members like best among those that all of them offer. Of equals it is the first by name.
    fn select_protocol(&self) -> Option<Str> {
        let first = self.members.values().next()?;
        let all_offer = |name: &Str| {
            self.members.values().all(|member| member.protocols.iter().any(|(offered, _)| offered == name))
        };
        let candidates: BTreeSet<&Str> =
            first.protocols.iter().map(|(name, _)| name).filter(|name| all_offer(name)).collect();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let best = member.protocols.iter().map(|(name, _)| name).find(|name| candidates.contains(name));
            *votes.entry(best?).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The topics in the members' subscriptions; `None` when they are not consumers or the metadata cannot be read.
    fn find_subscribed(&self) -> Option<BTreeSet<Str>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(Some(self.protocol.as_ref()?));
            let mut reader = Reader::new(&metadata);
            // All versions begin with what version 0 has.
            reader.i16("ConsumerProtocolSubscription.Version").ok()?;
            let subscription = ConsumerProtocolSubscription::decode(&mut reader, 0).ok()?;
            topics.extend(subscription.topics.iter().map(owned));
        }
        Some(topics)
    }

    /// The answer to a member's join in this generation.
    fn joined(&self, member_id: &Str) -> JoinGroupResponse {
        let is_leader = self.leader.as_ref() == Some(member_id);
        let member = |(member_id, member): (&Str, &Member)| JoinGroupResponseMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
            ..Default::default()
        };
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if is_leader { self.members.iter().map(member).collect() } else { Vec::new() },
            ..Default::default()
        }
    }

    fn synced(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..Default::default()
        }
    }

    fn assignments(&self) -> BTreeMap<Str, Bytes> {
        self.members.iter().map(|(id, member)| (id.clone(), member.assignment.clone())).collect()
    }

    /// The group as DescribeGroups shows it. Metadata is shown in a stable group only.
    pub(super) fn describe(&self, group_id: Str) -> DescribedGroup {
        let shown = self.protocol.as_ref().filter(|_| self.state == State::Stable);
        let member = |(member_id, member): (&Str, &Member)| DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: shown.map_or(Bytes::new(), |protocol| member.metadata(Some(protocol))),
            member_assignment: member.assignment.clone(),
            ..Default::default()
        };
        DescribedGroup {
            group_id,
            group_state: Str::from_static(self.state.name()),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: shown.cloned().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
            ..Default::default()
        }
    }
}

impl Member {
    fn metadata(&self, protocol: Option<&Str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(name) == protocol);
        found.map_or(Bytes::new(), |(_, metadata)| metadata.clone())
    }

    /// Whether these are the protocols that the member has offered before.
    fn offers(&self, protocols: &[JoinGroupRequestProtocol]) -> bool {
        self.protocols.len() == protocols.len()
            && self
                .protocols
                .iter()
                .zip(protocols)
                .all(|((name, metadata), offered)| *name == offered.name && *metadata == offered.metadata)
    }
}

impl Joiner {
    fn deny(&self, member_id: Str, error_code: ErrorCode) {
        self.reply.put(refused_join(member_id, error_code));
    }
}

fn refused_join(member_id: Str, error_code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { member_id, error_code, protocol_name: None, ..Default::default() }
}

/// Copies of a request's protocols. Slices would keep the whole frame in memory.
fn protocols(offered: &[JoinGroupRequestProtocol]) -> Vec<(Str, Bytes)> {
    let copy = |offered: &JoinGroupRequestProtocol| {
        (owned(&offered.name), Bytes::copy_from_slice(&offered.metadata))
    };
    offered.iter().map(copy).collect()
}

/// A copy that keeps no frame in memory.
pub(super) fn owned(text: &Str) -> Str {
    Str::from(text.as_str())
}

fn milliseconds(count: i32) -> Duration {
    Duration::from_millis(count.max(0) as u64)
}
