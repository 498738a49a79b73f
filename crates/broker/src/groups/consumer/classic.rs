//! Members of the classic protocol in a group of the consumer protocol. They never wait for each other: a join is answered
//! with the member's epoch as a generation, a sync with what the member has, and a heartbeat tells them to join again when
//! there is something new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::consumer_group_member_metadata_record::{ClassicMemberMetadata, ClassicProtocol};
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_wire::{Str, Uuid};

use super::heartbeat::Turn;
use super::{Consumer, Held, Member, MemberState, Partitions, each};
use crate::groups::classic::{Joiner, MEMBER_ID_REQUIRED_FROM, owned};
use crate::groups::migration::{self, Moved};
use crate::groups::topics::Topics;
use crate::groups::{CONSUMER, Due};

/// The last member of the consumer protocol was replaced: the group becomes a classic one.
#[derive(Debug)]
pub(in crate::groups) struct Downgrade {
    pub(in crate::groups) generation: i32,
    pub(in crate::groups) moved: Vec<(Moved, Partitions)>,
    /// Whether the target assignment is outdated, so that the members must agree on a new one.
    pub(in crate::groups) rebalances: bool,
}

impl Consumer {
    /// The group that a classic one of this generation becomes. `None` when what its members say or have cannot be read.
    pub(in crate::groups) fn from_classic(
        generation: i32,
        members: &[Moved],
        topics: &Topics,
    ) -> Option<Self> {
        let mut group = Self { epoch: generation, target_epoch: generation, ..Self::default() };
        for moved in members {
            let subscription = migration::subscription(&moved.metadata)?;
            let partitions = migration::assigned(&moved.assignment, topics)?;
            let mut member = Member {
                instance_id: moved.instance_id.clone(),
                rack_id: subscription.rack_id.as_ref().map(owned),
                client_id: moved.client_id.clone(),
                client_host: moved.client_host.clone(),
                rebalance_timeout_ms: moved.rebalance_timeout_ms,
                topics: subscription.topics.iter().map(owned).collect(),
                classic: Some(metadata(moved.session_timeout_ms, &moved.protocols)),
                epoch: generation,
                previous_epoch: generation,
                ..Member::default()
            };
            for (topic, partition) in each(&partitions) {
                member.assigned.entry(topic).or_default().insert(partition, generation);
            }
            group.take(&member.metadata_change(&moved.id));
            group.take(&super::target_change(&moved.id, &partitions));
            group.take(&member.current_change(&moved.id));
        }
        let names: BTreeSet<&Str> = group.members.values().flat_map(|member| &member.topics).collect();
        group.metadata_hash = topics.hash(names.into_iter());
        Some(group)
    }

    pub(in crate::groups) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(in crate::groups) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether all members but these speak the classic protocol.
    pub(in crate::groups) fn is_classic_without(&self, members: &[Str]) -> bool {
        self.members.iter().all(|(id, member)| member.classic.is_some() || members.contains(id))
    }

    /// The members but these, on their way to the classic protocol, with what they are to have.
    pub(in crate::groups) fn moving(&self, without: &[Str]) -> Vec<(Moved, Partitions)> {
        let stay = self.members.iter().filter(|(id, _)| !without.contains(id));
        stay.filter_map(|(id, member)| {
            Some((member.moved(id)?, self.targets.get(id).cloned().unwrap_or_default()))
        })
        .collect()
    }

    /// The id of the member that LeaveGroup names.
    pub(in crate::groups) fn named(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> Result<Str, ErrorCode> {
        let found = match instance_id {
            None => self.members.get_key_value(member_id).map(|(id, _)| id),
            Some(instance_id) => self.statics.get(instance_id),
        };
        let found = found.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        // An administrator names a static member by its group instance id alone.
        if member_id.is_empty() && instance_id.is_some() || found == member_id {
            return Ok(found.clone());
        }
        Err(ErrorCode::FENCED_INSTANCE_ID)
    }

    /// A member that speaks the classic protocol.
    fn classic_member(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(Str, &Member, &ClassicMemberMetadata), ErrorCode> {
        // Only LeaveGroup may leave the member id out.
        if member_id.is_empty() {
            return Err(if instance_id.is_some_and(|instance_id| self.statics.contains_key(instance_id)) {
                ErrorCode::FENCED_INSTANCE_ID
            } else {
                ErrorCode::UNKNOWN_MEMBER_ID
            });
        }
        let id = self.named(member_id, instance_id)?;
        let member = &self.members[&id];
        let classic = member.classic.as_ref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch != generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok((id, member, classic))
    }

    /// Whether a member of the classic protocol with these protocols can be in the group.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        let classics = || self.members.values().filter_map(|member| member.classic.as_ref());
        let all_offer = |name: &Str| {
            classics().all(|classic| classic.supported_protocols.iter().any(|offered| offered.name == *name))
        };
        request.protocol_type == CONSUMER
            && request.protocols.iter().any(|protocol| all_offer(&protocol.name))
    }

    /// Whether some other member has a partition that this one waits for.
    fn waits_for_others(&self, id: &Str, member: &Member) -> bool {
        let has = |(topic, partition): &(Uuid, i32)| {
            member.assigned.get(topic).is_some_and(|held| held.contains_key(partition))
        };
        let target = self.targets.get(id).into_iter().flat_map(each);
        target.into_iter().any(|partition| !has(&partition) && self.owners.contains_key(&partition))
    }
}

impl Turn<'_> {
    /// A member of the classic protocol joins.
    pub(in crate::groups) fn join_classic(
        &mut self,
        joiner: &Joiner,
        may_downgrade: bool,
    ) -> Result<(JoinGroupResponse, Option<Downgrade>), ErrorCode> {
        let request = &joiner.request;
        let (is_new, instance_id) = (request.member_id.is_empty(), request.group_instance_id.as_ref());
        let id = if is_new { self.new_id() } else { owned(&request.member_id) };
        self.check_room(&id, instance_id).map_err(|refusal| refusal.code)?;
        if !self.group().supports(request) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if is_new && instance_id.is_none() && joiner.version >= MEMBER_ID_REQUIRED_FROM {
            let error_code = ErrorCode::MEMBER_ID_REQUIRED;
            let answer =
                JoinGroupResponse { member_id: id, error_code, protocol_name: None, ..Default::default() };
            return Ok((answer, None));
        }
        let holder = instance_id.and_then(|instance_id| self.group().statics.get(instance_id)).cloned();
        let (before, replaced) = match (instance_id, &holder) {
            (None, _) | (Some(_), None) if instance_id.is_none() || is_new => {
                (self.group().members.get(&id).cloned().unwrap_or_default(), None)
            }
            (_, None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            (_, Some(holder)) if is_new => {
                let former = self.group().members[holder].clone();
                (Member { epoch: 0, previous_epoch: 0, ..former }, Some(holder.clone()))
            }
            (_, Some(holder)) if *holder != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
            (_, Some(holder)) => (self.group().members[holder].clone(), None),
        };
        let metadata = request.protocols.first().map(|protocol| &protocol.metadata);
        let subscription =
            metadata.and_then(migration::subscription).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let mut after = before.clone();
        after.instance_id = instance_id.map(owned).or(after.instance_id);
        after.rack_id = subscription.rack_id.as_ref().map(owned).or(after.rack_id);
        if request.rebalance_timeout_ms != -1 {
            after.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        after.topics = subscription.topics.iter().map(owned).collect();
        after.pattern = Str::default();
        after.client_id = owned(&joiner.client_id);
        after.client_host = Str::from(joiner.client_host.as_str());
        let protocols: Vec<(Str, Bytes)> = crate::groups::classic::protocols(&request.protocols);
        after.classic = Some(self::metadata(request.session_timeout_ms, &protocols));
        let mut owned_partitions = Partitions::new();
        for topic in &subscription.owned_partitions {
            if let Some(fact) = self.topics().get(&topic.topic) {
                owned_partitions.entry(fact.id).or_default().extend(topic.partitions.iter().copied());
            }
        }
        // The last member that spoke the consumer protocol is back with the other one.
        let downgrades = may_downgrade
            && holder.as_ref().is_some_and(|holder| {
                self.group().members[holder].classic.is_none()
                    && self.group().is_classic_without(std::slice::from_ref(holder))
            });
        let (generation, target_epoch, joins_at) =
            (self.group().epoch, self.group().target_epoch, before.epoch);
        let plan = self.plan(id.clone(), before, &after, replaced, Some(&owned_partitions));
        let plan = plan.map_err(|refusal| refusal.code)?;
        let mut epoch = plan.epoch();
        self.enact(Vec::new(), plan).map_err(|refusal| refusal.code)?;
        let downgrade = downgrades.then(|| {
            // An assignment that is outdated is made anew by the members.
            let rebalances = target_epoch < self.group().epoch;
            Downgrade { generation, moved: self.group().moving(&[]), rebalances }
        });
        if downgrade.as_ref().is_some_and(|downgrade| downgrade.rebalances) {
            epoch = joins_at;
        }
        let answer = JoinGroupResponse {
            member_id: id.clone(),
            generation_id: epoch,
            protocol_type: Some(Str::from_static(CONSUMER)),
            protocol_name: protocols.into_iter().next().map(|(name, _)| name),
            ..Default::default()
        };
        self.cancel_due(Due::Rejoin, &id);
        let timeout = Duration::from_millis(request.rebalance_timeout_ms.max(0) as u64);
        self.set_due(Due::Resync, &id, timeout);
        Ok((answer, downgrade))
    }

    /// A member of the classic protocol fetches what it has.
    pub(in crate::groups) fn sync_classic(
        &mut self,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let (member_id, instance_id) = (&request.member_id, request.group_instance_id.as_ref());
        let (id, member, classic) =
            self.group().classic_member(member_id, instance_id, request.generation_id)?;
        let Some(protocol) = classic.supported_protocols.first() else {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        };
        if request.protocol_type.as_ref().is_some_and(|said| *said != CONSUMER)
            || request.protocol_name.as_ref().is_some_and(|said| *said != protocol.name)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        // One that is to give up partitions has joined already, and finishes that first.
        if self.group().epoch > member.epoch && member.state != MemberState::Unrevoked {
            let timeout = member.rebalance_timeout();
            self.await_join(&id, timeout);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let assignment =
            migration::assignment(&partitions(&member.assigned), &protocol.metadata, self.topics());
        let assignment = assignment.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        self.cancel_due(Due::Resync, &id);
        self.renew(&id);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..Default::default()
        })
    }

    /// A member of the classic protocol says that it lives.
    pub(in crate::groups) fn heartbeat_classic(
        &mut self,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        let (member_id, instance_id) = (&request.member_id, request.group_instance_id.as_ref());
        let (id, member, _) = self.group().classic_member(member_id, instance_id, request.generation_id)?;
        let has_news = member.epoch < self.group().target_epoch
            || match member.state {
                MemberState::Stable => false,
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !self.group().waits_for_others(&id, member),
            };
        let timeout = member.rebalance_timeout();
        self.renew(&id);
        if has_news {
            self.await_join(&id, timeout);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// A member that was told to join again must do so in time.
    fn await_join(&mut self, id: &Str, timeout: Duration) {
        if !self.has_due(Due::Rejoin, id) {
            self.set_due(Due::Rejoin, id, timeout);
        }
    }
}

impl Member {
    fn moved(&self, id: &Str) -> Option<Moved> {
        let classic = self.classic.as_ref()?;
        let protocols = classic.supported_protocols.iter();
        Some(Moved {
            id: id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: protocols.map(|protocol| (protocol.name.clone(), protocol.metadata.clone())).collect(),
            metadata: Bytes::new(),
            assignment: Bytes::new(),
        })
    }
}

fn metadata(session_timeout_ms: i32, protocols: &[(Str, Bytes)]) -> ClassicMemberMetadata {
    let protocol = |(name, metadata): &(Str, Bytes)| ClassicProtocol {
        name: name.clone(),
        metadata: metadata.clone(),
        ..Default::default()
    };
    let supported_protocols = protocols.iter().map(protocol).collect();
    ClassicMemberMetadata { session_timeout_ms, supported_protocols, ..Default::default() }
}

fn partitions(held: &Held) -> Partitions {
    let topic = |(&topic, held): (&Uuid, &BTreeMap<i32, i32>)| (topic, held.keys().copied().collect());
    held.iter().map(topic).collect()
}
