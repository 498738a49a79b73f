//! A group of the consumer protocol: ConsumerGroupHeartbeat (KIP-848). The coordinator assigns, and members move to what
//! they are to have one by one.
//!
//! ```text
//!  a subscription or a topic changes ─▶ group epoch + 1
//!        ─▶ an assignor makes the target assignment of that epoch
//!        ─▶ each heartbeat takes its member one step further (reconcile.rs):
//!
//!            gives up what it is not to have            its former owners have it no more
//!  Stable ──────────▶ Unrevoked ──────────▶ (Unreleased) ──────────▶ Stable, in the target's epoch
//! ```
//!
//! `Consumer` is the state. It follows from the group's records alone: whoever changes it makes [`Change`]s, writes them and
//! has the group [`take`](Consumer::take) them, as reading the journal does. The rules and the codes are those of Kafka's
//! GroupMetadataManager.

mod assignor;
mod change;
mod classic;
mod heartbeat;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::consumer_group_current_member_assignment_record::{
    ConsumerGroupCurrentMemberAssignmentValue, TopicPartitions,
};
use milena_messages::consumer_group_describe::{self, DescribedGroup};
use milena_messages::consumer_group_member_metadata_record::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue,
};
use milena_messages::consumer_group_metadata_record::ConsumerGroupMetadataValue;
use milena_messages::consumer_group_regular_expression_record::ConsumerGroupRegularExpressionValue;
use milena_messages::consumer_group_target_assignment_member_record::{
    ConsumerGroupTargetAssignmentMemberValue, TopicPartition,
};
use milena_messages::consumer_group_target_assignment_metadata_record::ConsumerGroupTargetAssignmentMetadataValue;
use milena_wire::{Str, Uuid};

use super::classic::owned;
use super::room::{self, PLACE};
use super::topics::Topics;
use assignor::Assignor;
pub(super) use change::Change;
pub(super) use classic::Downgrade;
pub(crate) use heartbeat::{Beat, Refusal};
pub(super) use heartbeat::{Turn, check};

/// What a group of the consumer protocol is.
#[derive(Debug)]
pub(crate) struct Consumer {
    epoch: i32,
    /// Tells when a topic that somebody subscribes to has changed.
    metadata_hash: i64,
    /// The epoch for which the targets were made, and when.
    target_epoch: i32,
    target_time_ms: i64,
    members: BTreeMap<Str, Member>,
    targets: BTreeMap<Str, Partitions>,
    /// The member id of each static member, by its group instance id.
    statics: BTreeMap<Str, Str>,
    /// The partitions that members have or still give up, with the member's epoch. None of them is given to another.
    owners: BTreeMap<(Uuid, i32), i32>,
    /// The patterns in subscriptions whose topics are known.
    patterns: BTreeMap<Str, Resolved>,
    /// The version of the topics with which the metadata hash was compared last. It is not written.
    seen: Option<u64>,
}

/// A set of partitions.
pub(super) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions that a member has, each with the epoch in which the member got it.
type Held = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// A member and how far it has come.
#[derive(Debug, Clone, PartialEq)]
struct Member {
    instance_id: Option<Str>,
    rack_id: Option<Str>,
    client_id: Str,
    client_host: Str,
    rebalance_timeout_ms: i32,
    topics: BTreeSet<Str>,
    /// Empty when the member subscribes by names only.
    pattern: Str,
    assignor: Option<Str>,
    /// What a member of the classic protocol has offered.
    classic: Option<ClassicMemberMetadata>,
    epoch: i32,
    previous_epoch: i32,
    state: MemberState,
    assigned: Held,
    revoking: Held,
}

/// Where a member is on its way to its target. The numbers are those of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum MemberState {
    #[default]
    Stable = 0,
    /// It is asked to give partitions up.
    Unrevoked = 1,
    /// It waits for partitions that other members still have.
    Unreleased = 2,
}

/// The topics that matched a pattern.
#[derive(Debug)]
struct Resolved {
    topics: BTreeSet<Str>,
    /// The version of the topics; 0 for those that were read from the journal.
    version: u64,
    time_ms: i64,
}

/// The epochs of a new group: that of its targets is as high, although there are none.
const FIRST_EPOCH: i32 = 1;
/// The epoch of a static member that has left for a while.
const AWAY: i32 = -2;

impl Default for Consumer {
    fn default() -> Self {
        Self {
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            target_epoch: FIRST_EPOCH,
            target_time_ms: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            statics: BTreeMap::new(),
            owners: BTreeMap::new(),
            patterns: BTreeMap::new(),
            seen: None,
        }
    }
}

impl Default for Member {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: Str::default(),
            client_host: Str::default(),
            rebalance_timeout_ms: -1,
            topics: BTreeSet::new(),
            pattern: Str::default(),
            assignor: None,
            classic: None,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Held::new(),
            revoking: Held::new(),
        }
    }
}

impl Consumer {
    /// The `client.id` of a member.
    pub(super) fn client_id(&self, member: &str) -> Option<Str> {
        self.members.get(member).map(|member| member.client_id.clone())
    }

    /// What its members take in memory.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| {
            let names: usize = member.topics.iter().map(|name| PLACE + name.len()).sum();
            let classic = member.classic.iter().flat_map(|classic| &classic.supported_protocols);
            let offered: usize =
                classic.map(|offered| PLACE + offered.name.len() + offered.metadata.len()).sum();
            let texts = 4 * (id.len() + member.client_id.len()) + member.pattern.len();
            room::MEMBER + texts + names + offered
        });
        members.sum()
    }

    /// Changes the group as a record says.
    pub(super) fn take(&mut self, change: &Change) {
        match change {
            Change::Epoch(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Change::Epoch(None) => *self = Self::default(),
            Change::Member(id, value) => self.take_member(id, value.as_deref()),
            Change::Current(id, value) => self.take_current(id, value.as_ref()),
            Change::Target(id, Some(value)) => {
                let topics = value.topic_partitions.iter();
                let partitions =
                    topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()));
                self.targets.insert(id.clone(), partitions.collect());
            }
            Change::Target(id, None) => {
                self.targets.remove(id);
            }
            Change::TargetEpoch(value) => {
                let value = value.clone().unwrap_or_default();
                self.target_epoch = value.assignment_epoch;
                self.target_time_ms = value.assignment_timestamp;
            }
            Change::Pattern(pattern, Some(value)) => {
                let resolved = Resolved {
                    topics: value.topics.iter().map(owned).collect(),
                    version: value.version as u64,
                    time_ms: value.timestamp,
                };
                self.patterns.insert(pattern.clone(), resolved);
            }
            Change::Pattern(pattern, None) => {
                self.patterns.remove(pattern);
            }
        }
    }

    fn take_member(&mut self, id: &Str, value: Option<&ConsumerGroupMemberMetadataValue>) {
        let before = self.members.get(id).and_then(|member| member.instance_id.clone());
        if let Some(instance_id) = before {
            self.statics.remove(&instance_id);
        }
        let Some(value) = value else {
            self.take_current(id, None);
            self.members.remove(id);
            return;
        };
        let member = self.members.entry(id.clone()).or_default();
        member.take_metadata(value);
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), id.clone());
        }
    }

    fn take_current(&mut self, id: &Str, value: Option<&ConsumerGroupCurrentMemberAssignmentValue>) {
        let member = match value {
            None => self.members.get_mut(id),
            Some(_) => Some(self.members.entry(id.clone()).or_default()),
        };
        let Some(member) = member else { return };
        for partition in member.held() {
            // Another member may have it by now, in a higher epoch.
            if self.owners.get(&partition) == Some(&member.epoch) {
                self.owners.remove(&partition);
            }
        }
        let none = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: -1,
            previous_member_epoch: -1,
            ..Default::default()
        };
        member.take_current(value.unwrap_or(&none));
        for partition in member.held() {
            self.owners.insert(partition, member.epoch);
        }
    }

    /// The records from which the group is made again.
    pub(super) fn changes(&self) -> Vec<Change> {
        let members = self.members.iter();
        let mut changes: Vec<Change> =
            members.clone().map(|(id, member)| member.metadata_change(id)).collect();
        changes.extend(self.patterns.iter().map(|(pattern, resolved)| resolved.change(pattern)));
        changes.push(epoch_change(self.epoch, self.metadata_hash));
        changes.extend(self.targets.iter().map(|(id, partitions)| target_change(id, partitions)));
        changes.push(target_epoch_change(self.target_epoch, self.target_time_ms));
        changes.extend(members.map(|(id, member)| member.current_change(id)));
        changes
    }

    /// The records that end the group.
    pub(super) fn tombstones(&self) -> Vec<Change> {
        let members = self.members.keys();
        let mut changes: Vec<Change> = members.clone().map(|id| Change::Current(id.clone(), None)).collect();
        changes.extend(members.clone().map(|id| Change::Target(id.clone(), None)));
        changes.push(Change::TargetEpoch(None));
        changes.extend(members.map(|id| Change::Member(id.clone(), None)));
        changes.extend(self.patterns.keys().map(|pattern| Change::Pattern(pattern.clone(), None)));
        changes.push(Change::Epoch(None));
        changes
    }

    /// The group was read from the journal: the versions of topics in it are of another process.
    pub(super) fn settle(&mut self) {
        self.patterns.values_mut().for_each(|resolved| resolved.version = 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn member_ids(&self) -> impl Iterator<Item = &Str> {
        self.members.keys()
    }

    /// Kafka's name of the group's state.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().any(|member| !member.is_reconciled(self.target_epoch)) {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    /// Whether offsets of the topic are in use.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.topics_of(member).any(|name| name == topic))
    }

    /// Whether a member may commit for each of the partitions. Up to a partition's own epoch an older epoch is good
    /// enough: it was the member's all along (KIP-1251).
    pub(super) fn check_commit(
        &self,
        member_id: &str,
        epoch: i32,
        version: i16,
        partitions: impl Iterator<Item = (Uuid, i32)>,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let is_classic = member.classic.is_some();
        if !is_classic && version < MEMBER_EPOCHS_FROM {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let is_stale = |(topic, partition): (Uuid, i32)| {
            let held = [&member.assigned, &member.revoking];
            let since = held.into_iter().find_map(|held| held.get(&topic)?.get(&partition));
            since.is_none_or(|&since| epoch < since)
        };
        let mut partitions = partitions;
        let is_bad = epoch > member.epoch || epoch < member.epoch && partitions.any(is_stale);
        if is_bad { Err(member.stale()) } else { Ok(()) }
    }

    /// Whether a member may fetch offsets. Administrators name none.
    pub(super) fn check_fetch(&self, member_id: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.members.get(id)).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if epoch == member.epoch { Ok(()) } else { Err(member.stale()) }
    }

    /// The names of topics that a member subscribes to, by name and by pattern. A topic may come twice.
    fn topics_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a Str> {
        let matching = self.patterns.get(&member.pattern).map(|resolved| &resolved.topics);
        member.topics.iter().chain(matching.into_iter().flatten())
    }

    /// The group as ConsumerGroupDescribe shows it.
    pub(super) fn describe(&self, group_id: Str, topics: &Topics) -> DescribedGroup {
        let assignment = |partitions: &mut dyn Iterator<Item = (Uuid, i32)>| {
            let mut by_topic: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
            partitions.for_each(|(topic, partition)| by_topic.entry(topic).or_default().push(partition));
            let named = by_topic.into_iter().filter_map(|(topic_id, partitions)| {
                let topic_name = topics.name(topic_id)?.clone();
                Some(consumer_group_describe::TopicPartitions {
                    topic_id,
                    topic_name,
                    partitions,
                    ..Default::default()
                })
            });
            let topic_partitions = named.collect();
            consumer_group_describe::Assignment { topic_partitions, ..Default::default() }
        };
        let member = |(id, member): (&Str, &Member)| consumer_group_describe::Member {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_topic_names: member.topics.iter().cloned().collect(),
            subscribed_topic_regex: Some(member.pattern.clone()),
            assignment: assignment(&mut member.held()),
            target_assignment: assignment(&mut self.targets.get(id).into_iter().flat_map(each)),
            member_type: i8::from(member.classic.is_none()),
            ..Default::default()
        };
        DescribedGroup {
            group_id,
            group_state: Str::from_static(self.state()),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor_name: Str::from_static(self.assignor(self.members.values()).name()),
            members: self.members.iter().map(member).collect(),
            ..Default::default()
        }
    }

    /// The assignor that most of these members ask for.
    fn assignor<'a>(&self, members: impl Iterator<Item = &'a Member>) -> Assignor {
        let mut votes = [0_usize; Assignor::ALL.len()];
        for wanted in members.filter_map(|member| Assignor::named(member.assignor.as_ref()?)) {
            votes[Assignor::ALL.iter().position(|assignor| *assignor == wanted).unwrap_or_default()] += 1;
        }
        let best = (0..votes.len()).rev().max_by_key(|&place| votes[place]);
        Assignor::ALL[best.unwrap_or_default()]
    }
}

/// Members of this protocol commit with their epochs from this version of OffsetCommit on.
const MEMBER_EPOCHS_FROM: i16 = 9;

impl Member {
    fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// The partitions that nobody else may have.
    fn held(&self) -> impl Iterator<Item = (Uuid, i32)> {
        let partitions = [&self.assigned, &self.revoking].into_iter().flatten();
        partitions.flat_map(|(&topic, held)| held.keys().map(move |&partition| (topic, partition)))
    }

    /// The code for an epoch that is not the member's.
    fn stale(&self) -> ErrorCode {
        match self.classic {
            Some(_) => ErrorCode::ILLEGAL_GENERATION,
            None => ErrorCode::STALE_MEMBER_EPOCH,
        }
    }

    fn take_metadata(&mut self, value: &ConsumerGroupMemberMetadataValue) {
        self.instance_id = value.instance_id.as_ref().map(owned);
        self.rack_id = value.rack_id.as_ref().map(owned);
        self.client_id = owned(&value.client_id);
        self.client_host = owned(&value.client_host);
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.topics = value.subscribed_topic_names.iter().map(owned).collect();
        self.pattern = value.subscribed_topic_regex.as_ref().map(owned).unwrap_or_default();
        self.assignor = value.server_assignor.as_ref().map(owned);
        self.classic = value.classic_member_metadata.as_ref().map(owned_classic);
    }

    fn take_current(&mut self, value: &ConsumerGroupCurrentMemberAssignmentValue) {
        let held = |topics: &[TopicPartitions]| -> Held {
            let epoch = |epochs: Option<&Vec<i32>>, place: usize| {
                epochs.and_then(|epochs| epochs.get(place)).copied().unwrap_or(value.member_epoch)
            };
            let partitions = |topic: &TopicPartitions| {
                let partitions = topic.partitions.iter().enumerate();
                let epochs = topic.assignment_epochs.as_ref();
                partitions.map(|(place, &partition)| (partition, epoch(epochs, place))).collect()
            };
            topics.iter().map(|topic| (topic.topic_id, partitions(topic))).collect()
        };
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = match value.state {
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Stable,
        };
        self.assigned = held(&value.assigned_partitions);
        self.revoking = held(&value.partitions_pending_revocation);
    }

    fn metadata_change(&self, id: &Str) -> Change {
        let value = ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.iter().cloned().collect(),
            subscribed_topic_regex: Some(self.pattern.clone()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.clone(),
            ..Default::default()
        };
        Change::Member(id.clone(), Some(Box::new(value)))
    }

    fn current_change(&self, id: &Str) -> Change {
        let topics = |held: &Held| {
            let topic = |(&topic_id, held): (&Uuid, &BTreeMap<i32, i32>)| TopicPartitions {
                topic_id,
                partitions: held.keys().copied().collect(),
                assignment_epochs: Some(held.values().copied().collect()),
                ..Default::default()
            };
            held.iter().map(topic).collect()
        };
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state as i8,
            assigned_partitions: topics(&self.assigned),
            partitions_pending_revocation: topics(&self.revoking),
            ..Default::default()
        };
        Change::Current(id.clone(), Some(value))
    }
}

impl Resolved {
    fn change(&self, pattern: &Str) -> Change {
        let value = ConsumerGroupRegularExpressionValue {
            topics: self.topics.iter().cloned().collect(),
            version: self.version as i64,
            timestamp: self.time_ms,
            ..Default::default()
        };
        Change::Pattern(pattern.clone(), Some(value))
    }
}

fn epoch_change(epoch: i32, metadata_hash: i64) -> Change {
    Change::Epoch(Some(ConsumerGroupMetadataValue { epoch, metadata_hash, ..Default::default() }))
}

fn target_change(id: &Str, partitions: &Partitions) -> Change {
    let topic = |(&topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartition {
        topic_id,
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    let topic_partitions = partitions.iter().map(topic).collect();
    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() };
    Change::Target(id.clone(), Some(value))
}

fn target_epoch_change(assignment_epoch: i32, assignment_timestamp: i64) -> Change {
    Change::TargetEpoch(Some(ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch,
        assignment_timestamp,
        ..Default::default()
    }))
}

fn owned_classic(value: &ClassicMemberMetadata) -> ClassicMemberMetadata {
    let protocol = |protocol: &ClassicProtocol| ClassicProtocol {
        name: owned(&protocol.name),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
        ..Default::default()
    };
    let supported_protocols = value.supported_protocols.iter().map(protocol).collect();
    ClassicMemberMetadata { supported_protocols, ..value.clone() }
}

/// All partitions of a set.
fn each(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> {
    partitions
        .iter()
        .flat_map(|(&topic, partitions)| partitions.iter().map(move |&partition| (topic, partition)))
}
