//! A group in the hands of the coordinator: what changes its members and its state, and whom that wakes.
//!
//! Everything that waits is answered through its [`Reply`]; everything that may run out is in the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::group_metadata_record::GroupMetadataValue;
use milena_messages::join_group::JoinGroupResponse;
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_wire::Str;

use super::super::reply::Reply;
use super::super::{Due, NEW_MEMBER_JOIN_TIMEOUT, Shared};
use super::{Classic, Joiner, Member, State, milliseconds, owned, protocols, refused_join};
use crate::now::Now;

/// A group in the hands of the coordinator.
#[derive(Debug)]
pub(in crate::groups) struct Turn<'a> {
    id: &'a Str,
    pub(super) group: &'a mut Classic,
    shared: &'a mut Shared,
    now: Now,
}

/// From this version on a new member must join twice: the first answer brings its member id (KIP-394).
pub(in crate::groups) const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader can be told to skip the assignment (KIP-814).
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
impl Turn<'_> {
    pub(in crate::groups) fn new<'a>(
        id: &'a Str,
        group: &'a mut Classic,
        shared: &'a mut Shared,
        now: Now,
    ) -> Turn<'a> {
        Turn { id, group, shared, now }
    }

    pub(in crate::groups) fn group(&self) -> &Classic {
        self.group
    }

    pub(super) fn join(&mut self, joiner: Joiner) {
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
    pub(super) fn sync(
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

    pub(super) fn leave(&mut self, member_id: &Str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
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
    pub(in crate::groups) fn rebalance(&mut self) {
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
    pub(in crate::groups) fn rebalance_is_due(&mut self) {
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

    pub(super) fn complete_if_all_joined(&mut self) {
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
            self.expire(&member_id);
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
    pub(in crate::groups) fn expire_sync(&mut self) {
        let is_waiting = matches!(self.group.state, State::Completing | State::Stable);
        if !is_waiting || self.group.unsynced.is_empty() {
            return;
        }
        for member_id in self.group.unsynced.clone() {
            self.expire(&member_id);
        }
        self.prepare();
    }

    /// A member was silent for its whole session.
    pub(in crate::groups) fn expire_session(&mut self, member_id: &Str) {
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
        self.expire(member_id);
        match self.group.state {
            State::Stable | State::Completing => self.prepare(),
            State::Preparing if self.group.have_all_joined() => self.complete(),
            State::Preparing | State::Empty => {}
        }
    }

    /// Sends all waiting requests away. The group is then as the last record has it.
    pub(in crate::groups) fn reload(&mut self) {
        self.group.dismiss(ErrorCode::NOT_COORDINATOR);
        self.shared.cancel_classic(self.id, self.group);
        *self.group = self.group.written.take().map_or_else(Classic::default, Classic::from_record);
        self.start_sessions();
    }

    /// Starts the sessions of members that were read from a record.
    pub(in crate::groups) fn start_sessions(&mut self) {
        for member_id in self.group.ids() {
            self.renew(&member_id);
        }
    }

    /// The member's session begins anew.
    pub(in crate::groups) fn renew(&mut self, member_id: &Str) {
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

    /// Removes a member without its doing.
    fn expire(&mut self, member_id: &Str) {
        if let Some(member) = self.group.members.get(member_id) {
            self.shared.note_expired(self.id, member_id, &member.client_id);
        }
        self.remove(member_id);
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
    pub(in crate::groups) fn write_empty(&mut self) -> bool {
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
