//! Groups that change from one protocol to the other while they have members (`group.consumer.migration.policy`).
//!
//! ```text
//!  classic ──── a member joins with ConsumerGroupHeartbeat ───▶ consumer (its members stay and speak the classic protocol)
//!     ▲                                                            │
//!     └─── the last member leaves that speaks the consumer protocol┘
//! ```
//!
//! A member on its way is a [`Moved`]: what both kinds of groups know of it. What it has travels in the form that consumers
//! of the classic protocol have for it.

use std::collections::BTreeSet;

use bytes::Bytes;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use milena_messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use milena_messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use milena_messages::join_group::JoinGroupResponse;
use milena_messages::leave_group::{LeaveGroupRequest, MemberResponse};
use milena_messages::{ErrorCode, Message};
use milena_wire::{Reader, Str, Writer};

use super::classic::{self, Classic, Joiner};
use super::consumer::{self, Beat, Consumer, Partitions, Refusal};
use super::record::Record;
use super::topics::Topics;
use super::{Groups, Kind, Turn, of_consumer};
use crate::builder::MigrationPolicy;
use crate::now::Now;

/// A member on its way from one protocol to the other.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// Name and metadata of the assignors that it offers, best first.
    pub(super) protocols: Vec<(Str, Bytes)>,
    /// What it said of itself to the assignor that was chosen.
    pub(super) metadata: Bytes,
    pub(super) assignment: Bytes,
}

/// The newest version of what consumers of the classic protocol tell each other.
const PROTOCOL_VERSION_MAX: i16 = 3;

/// What a consumer of the classic protocol subscribes to and has.
pub(super) fn subscription(metadata: &Bytes) -> Option<ConsumerProtocolSubscription> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16("ConsumerProtocolSubscription.Version").ok().filter(|version| *version >= 0)?;
    // A newer version begins with all that this one has.
    ConsumerProtocolSubscription::decode(&mut reader, version.min(PROTOCOL_VERSION_MAX)).ok()
}

/// What the leader of a classic group has assigned to a member. `None` when it cannot be read, or when the assignor has
/// put data of its own beside it, which only an assignor of that kind understands.
pub(super) fn assigned(assignment: &Bytes, topics: &Topics) -> Option<Partitions> {
    if assignment.is_empty() {
        return Some(Partitions::new());
    }
    let mut reader = Reader::new(assignment);
    let version = reader.i16("ConsumerProtocolAssignment.Version").ok().filter(|version| *version >= 0)?;
    let assignment =
        ConsumerProtocolAssignment::decode(&mut reader, version.min(PROTOCOL_VERSION_MAX)).ok()?;
    if assignment.user_data.is_some_and(|data| !data.is_empty()) {
        return None;
    }
    let topic = |topic: &TopicPartition| {
        Some((topics.get(&topic.topic)?.id, topic.partitions.iter().copied().collect()))
    };
    Some(assignment.assigned_partitions.iter().filter_map(topic).collect())
}

/// An assignment in the form of the classic protocol, in the version in which the member speaks of itself.
pub(super) fn assignment(partitions: &Partitions, metadata: &Bytes, topics: &Topics) -> Option<Bytes> {
    let version = Reader::new(metadata).i16("ConsumerProtocolSubscription.Version").ok()?;
    let version = version.clamp(0, PROTOCOL_VERSION_MAX);
    let topic = |(id, partitions): (&milena_wire::Uuid, &BTreeSet<i32>)| {
        let (topic, partitions) = (topics.name(*id)?.clone(), partitions.iter().copied().collect());
        Some(TopicPartition { topic, partitions })
    };
    let assigned_partitions = partitions.iter().filter_map(topic).collect();
    let message = ConsumerProtocolAssignment { assigned_partitions, ..Default::default() };
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, version).ok()?;
    Some(writer.finish().to_vec().into())
}

impl Groups {
    /// A heartbeat of a member that joins. It makes the group if there is none, and makes a classic one a group of the
    /// consumer protocol.
    pub(super) fn consumer_join(
        &mut self,
        beat: &Beat<'_>,
        now: Now,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = &beat.request.group_id;
        let (mut consumer, mut before) = (Consumer::default(), Vec::new());
        match self.groups.get(id).map(|group| &group.kind) {
            None => self.check_count()?,
            Some(kind @ Kind::Classic(classic)) => {
                before = kind.tombstones(id);
                if !classic.is_empty() {
                    consumer = self.upgraded(id, classic)?;
                    before.extend(of_consumer(id, consumer.changes()));
                }
            }
            Some(Kind::Consumer(_)) => {
                let Some((Turn::Consumer(mut turn), _)) = self.turn(id, now) else {
                    unreachable!("it was just found");
                };
                return turn.heartbeat(beat, before);
            }
        }
        let id = classic::owned(id);
        // Nothing of the former group is touched before this has been written.
        let response =
            consumer::Turn::new(&id, &mut consumer, &mut self.shared, now).heartbeat(beat, before)?;
        let group = self.groups.entry(id.clone()).or_default();
        if let Kind::Classic(classic) = &mut group.kind {
            classic.dismiss(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.shared.cancel_all(&id, &group.kind);
        group.kind = Kind::Consumer(consumer);
        if let Some((Turn::Consumer(mut turn), _)) = self.turn(&id, now) {
            turn.start_timers();
        }
        Ok(response)
    }

    /// The group of the consumer protocol that a classic one with members becomes.
    fn upgraded(&self, id: &Str, classic: &Classic) -> Result<Consumer, Refusal> {
        let refused = |why: &str| {
            let message = format!("group {id} is a classic group and stays one: {why}");
            Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message))
        };
        if !self.shared.settings.migration.upgrades() {
            return refused("groups are not upgraded here");
        }
        if !classic.is_of_consumers() {
            return refused("its members are no consumers");
        }
        if classic.member_count() > self.shared.settings.consumer_members_max {
            return refused("it has too many members");
        }
        let moving = classic.moving();
        let consumer = moving.and_then(|(generation, members)| {
            Consumer::from_classic(generation, &members, &self.shared.topics)
        });
        consumer.map_or_else(|| refused("its members use an assignor of their own"), Ok)
    }

    /// Removes members from a group of the consumer protocol. If all who stay speak the classic protocol the group becomes
    /// a classic one, and rebalances.
    pub(super) fn fence(&mut self, id: &Str, members: &[Str], now: Now) -> Result<(), Refusal> {
        if members.is_empty() {
            return Ok(());
        }
        let Some((Turn::Consumer(turn), _)) = self.turn(id, now) else { return Ok(()) };
        let group = turn.group();
        let (stay, is_classic) = (group.member_count() - members.len(), group.is_classic_without(members));
        let (generation, moved) = (group.epoch(), group.moving(members));
        if stay == 0 || !is_classic || !self.may_downgrade(stay) {
            let Some((Turn::Consumer(mut turn), _)) = self.turn(id, now) else { return Ok(()) };
            return turn.remove(members);
        }
        self.downgrade(id, generation, moved, now)?;
        if let Some(mut turn) = self.classic_turn(id, now) {
            turn.rebalance();
        }
        Ok(())
    }

    fn may_downgrade(&self, members: usize) -> bool {
        self.shared.settings.migration.downgrades() && members <= self.shared.settings.members_max
    }

    /// Makes a group of the consumer protocol a classic one with these members, which is stable.
    fn downgrade(
        &mut self,
        id: &Str,
        generation: i32,
        moved: Vec<(Moved, Partitions)>,
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(group) = self.groups.get_mut(id) else { return Ok(()) };
        let classic = Classic::from_consumer(generation, moved, &self.shared.topics, now);
        let mut records = group.kind.tombstones(id);
        records.push(Record::Group { group: id.clone(), value: classic.written().cloned() });
        if !self.shared.write(&records) {
            return Err(Refusal::new(ErrorCode::NOT_COORDINATOR, "the disk failed"));
        }
        self.shared.cancel_all(id, &group.kind);
        group.kind = Kind::Classic(Box::new(classic));
        if let Some(mut turn) = self.classic_turn(id, now) {
            turn.start_sessions();
        }
        Ok(())
    }

    /// A member of the classic protocol joins a group of the consumer protocol that has members. It does not wait: it is
    /// told its epoch as a generation, and to join again when there is something new.
    pub(super) fn join_consumer(
        &mut self,
        joiner: &Joiner,
        now: Now,
    ) -> Result<JoinGroupResponse, ErrorCode> {
        let settings = &self.shared.settings;
        if settings.migration == MigrationPolicy::Disabled {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let downgrades = settings.migration.downgrades();
        let members_max = settings.members_max;
        let Some((Turn::Consumer(mut turn), _)) = self.turn(&joiner.request.group_id, now) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let may_downgrade = downgrades && turn.group().member_count() <= members_max;
        let (response, downgrade) = turn.join_classic(joiner, may_downgrade)?;
        if let Some(consumer::Downgrade { generation, moved, rebalances }) = downgrade {
            let id = classic::owned(&joiner.request.group_id);
            self.downgrade(&id, generation, moved, now).map_err(|refusal| refusal.code)?;
            if rebalances && let Some(mut turn) = self.classic_turn(&id, now) {
                turn.rebalance();
            }
        }
        Ok(response)
    }

    /// LeaveGroup for members of a group of the consumer protocol, whichever protocol they speak.
    pub(super) fn leave_consumer(
        &mut self,
        request: &LeaveGroupRequest,
        now: Now,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        let Some((Turn::Consumer(turn), _)) = self.turn(&request.group_id, now) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let mut leaving = BTreeSet::new();
        let answers = request.members.iter().map(|identity| {
            let found = turn.group().named(&identity.member_id, identity.group_instance_id.as_ref());
            if let Ok(id) = &found {
                leaving.insert(id.clone());
            }
            MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: found.err().unwrap_or(ErrorCode::NONE),
                ..Default::default()
            }
        });
        let answers = answers.collect();
        let leaving: Vec<Str> = leaving.into_iter().collect();
        let id = classic::owned(&request.group_id);
        self.fence(&id, &leaving, now).map_err(|refusal| refusal.code)?;
        Ok(answers)
    }
}
