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

mod turn;

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

use super::consumer::Partitions;
use super::migration::{self, Moved};
use super::reply::Reply;
use super::room::{self, PLACE};
use super::topics::Topics;
use super::{CONSUMER, Groups};
use crate::now::Now;
pub(super) use turn::{MEMBER_ID_REQUIRED_FROM, Turn};

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
        if !self.take_room(room::of_join(&joiner.request, &joiner.client_id)) {
            return denied(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if self.is_consumer_with_members(&id) {
            return match self.join_consumer(&joiner, now) {
                Ok(answer) => reply.put(answer),
                Err(code) => denied(code),
            };
        }
        let is_new = match self.make_classic(&id) {
            Ok(is_new) => is_new,
            Err(code) => return denied(code),
        };
        if self.ensure(&id).is_none() {
            return denied(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let mut turn = self.classic_turn(&id, now).expect("it was just made");
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
        if !self.take_room(room::of_sync(request)) {
            // As Kafka answers when the assignments do not fit into a batch.
            return denied(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        match self.turn(&request.group_id, now).map(|(turn, _)| turn) {
            None => denied(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(super::Turn::Classic(mut turn)) => turn.sync(request, reply).unwrap_or_else(denied),
            Some(super::Turn::Consumer(mut turn)) => {
                turn.sync_classic(request).map_or_else(denied, |answer| reply.put(answer));
            }
        }
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> ErrorCode {
        if request.group_id.is_empty() {
            return ErrorCode::INVALID_GROUP_ID;
        }
        let mut turn = match self.turn(&request.group_id, now).map(|(turn, _)| turn) {
            None => return ErrorCode::UNKNOWN_MEMBER_ID,
            Some(super::Turn::Consumer(mut turn)) => {
                return turn.heartbeat_classic(request).err().unwrap_or(ErrorCode::NONE);
            }
            Some(super::Turn::Classic(turn)) => turn,
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
        if self.is_consumer_with_members(&request.group_id) {
            return self.leave_consumer(request, now);
        }
        let mut turn = self.classic_turn(&request.group_id, now);
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

    /// The stable group that one of the consumer protocol becomes, and what is to be written of it. Its members have what
    /// they were to have there.
    pub(super) fn from_consumer(
        generation: i32,
        moved: Vec<(Moved, Partitions)>,
        topics: &Topics,
        now: Now,
    ) -> Self {
        let mut group = Self {
            state: State::Stable,
            since_ms: Some(now.unix_ms),
            generation,
            protocol_type: Some(Str::from_static(CONSUMER)),
            ..Self::default()
        };
        let mut targets = BTreeMap::new();
        for (moved, target) in moved {
            if let Some(instance_id) = &moved.instance_id {
                group.statics.insert(instance_id.clone(), moved.id.clone());
            }
            let member = Member {
                instance_id: moved.instance_id,
                client_id: moved.client_id,
                client_host: moved.client_host,
                rebalance_timeout: milliseconds(moved.rebalance_timeout_ms),
                session_timeout: milliseconds(moved.session_timeout_ms),
                protocols: moved.protocols,
                assignment: Bytes::new(),
                is_new: false,
                join: None,
                sync: None,
            };
            targets.insert(moved.id.clone(), target);
            group.members.insert(moved.id, member);
        }
        group.protocol = group.select_protocol();
        group.subscribed = group.find_subscribed();
        for (id, member) in &mut group.members {
            let metadata = member.metadata(group.protocol.as_ref());
            member.assignment = migration::assignment(&targets[id], &metadata, topics).unwrap_or_default();
        }
        group.written = Some(group.record(&group.assignments()));
        group
    }

    /// The generation and the members, on their way to the consumer protocol. `None` before the first rebalance is done.
    pub(super) fn moving(&self) -> Option<(i32, Vec<Moved>)> {
        let protocol = self.protocol.as_ref()?;
        let moved = |(id, member): (&Str, &Member)| Moved {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout.as_millis() as i32,
            session_timeout_ms: member.session_timeout.as_millis() as i32,
            protocols: member.protocols.clone(),
            metadata: member.metadata(Some(protocol)),
            assignment: member.assignment.clone(),
        };
        Some((self.generation, self.members.iter().map(moved).collect()))
    }

    /// What its members take in memory.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| {
            let offered = member.protocols.iter().map(|(name, metadata)| PLACE + name.len() + metadata.len());
            room::MEMBER + 4 * id.len() + offered.sum::<usize>() + member.assignment.len()
        });
        let pending = self.pending.iter().map(|id| PLACE + 2 * id.len());
        members.chain(pending).sum()
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Answers all requests that wait with this code.
    pub(super) fn dismiss(&mut self, error_code: ErrorCode) {
        for (id, member) in &mut self.members {
            if let Some(join) = member.join.take() {
                join.put(refused_join(id.clone(), error_code));
            }
            if let Some(sync) = member.sync.take() {
                sync.put(SyncGroupResponse { error_code, ..Default::default() });
            }
        }
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
pub(super) fn protocols(offered: &[JoinGroupRequestProtocol]) -> Vec<(Str, Bytes)> {
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
