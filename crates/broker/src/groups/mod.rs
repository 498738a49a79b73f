//! The group coordinator: the members of groups, their rebalances and their committed offsets.
//!
//! ```text
//!  api/join_group … ─▶ Groups ─▶ Group ─▶ classic   members, generation, rebalances
//!                        │             ├▶ consumer  members, epochs, assignments (KIP-848)
//!                        │             └▶ offsets   what the group has committed
//!                        ├▶ queue      sessions, rebalances, syncs and offsets that will run out
//!                        └▶ journal    what Kafka writes to __consumer_offsets, so that a crash loses none of it
//! ```
//!
//! All nodes share one coordinator, as they share the logs; `State::coordinator` says which node answers for a group. A
//! group that moves to another node is made anew from the last record that was written of it, as Kafka's next
//! coordinator would read it. The groups must not know requests' frames or other parts of the broker.

pub(crate) mod classic;
pub(crate) mod consumer;
mod migration;
pub(crate) mod offsets;
mod record;
pub(crate) mod reply;
mod room;
mod topics;
pub(crate) mod transactional;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_messages::consumer_group_describe;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use milena_messages::describe_groups::DescribedGroup;
use milena_messages::group_metadata_record::GroupMetadataValue;
use milena_messages::list_groups::ListedGroup;
use milena_wire::{Str, Uuid};

use crate::builder::MigrationPolicy;
use crate::journal::Journal;
use crate::locked::Timed;
use crate::now::Now;
use crate::random::Random;
use crate::timers::{Queue, Timer};

use classic::Classic;
use consumer::{Beat, Change, Consumer, Refusal};
use offsets::Offsets;
pub(crate) use record::Record;
use room::Room;
pub(crate) use topics::Topics;
use transactional::Writers;

/// The settings of the coordinator, as Kafka's broker has them.
#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub(crate) initial_rebalance_delay: Duration,
    /// The shortest and the longest session timeout that a member may ask for (`group.min.session.timeout.ms`,
    /// `group.max.session.timeout.ms`).
    pub(crate) session_timeout_min: Duration,
    pub(crate) session_timeout_max: Duration,
    /// The most members of a group (`group.max.size`).
    pub(crate) members_max: usize,
    /// The same for groups of the consumer protocol (`group.consumer.max.size`).
    pub(crate) consumer_members_max: usize,
    /// How often members of the consumer protocol send heartbeats (`group.consumer.heartbeat.interval.ms`), and how long
    /// they may be silent (`group.consumer.session.timeout.ms`).
    pub(crate) consumer_heartbeat_interval: Duration,
    pub(crate) consumer_session_timeout: Duration,
    /// The shortest time between two assignments of a group (`group.consumer.assignment.interval.ms`).
    pub(crate) consumer_assignment_interval: Duration,
    /// Which groups change their protocol while they have members (`group.consumer.migration.policy`).
    pub(crate) migration: MigrationPolicy,
    /// The longest metadata of a committed offset, in UTF-16 units as Kafka counts them (`offset.metadata.max.bytes`).
    pub(crate) metadata_max: usize,
    /// How long offsets are kept that are not in use (`offsets.retention.minutes`).
    pub(crate) offsets_retention: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::ZERO,
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            members_max: 10_000,
            consumer_members_max: 10_000,
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_assignment_interval: Duration::ZERO,
            migration: MigrationPolicy::Bidirectional,
            metadata_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// How often the coordinator looks for offsets to expire (Kafka's `offsets.retention.check.interval.ms`).
const OFFSETS_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How long a new member may wait for the first rebalance that it joins, and then its coordinator takes it for dead. It
/// sends no heartbeats meanwhile. Kafka has no setting for it.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The most groups. Each costs memory, and any client can make one by naming it.
const GROUPS_MAX: usize = 100_000;

/// All groups of the cluster.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: BTreeMap<Str, Group>,
    room: Room,
    writers: Writers,
    shared: Shared,
    /// The newest time that a caller passed. Commands such as stopping a node have none of their own.
    now: Option<Now>,
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) offsets: Offsets,
}

/// The members of a group, by the protocol that they speak. A group that has offsets only is a classic one.
#[derive(Debug)]
pub(crate) enum Kind {
    Classic(Box<Classic>),
    Consumer(Consumer),
}

/// What the groups have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: GroupSettings,
    queue: Queue<Due>,
    random: Random,
    journal: Journal<Record>,
    topics: Arc<Topics>,
    /// The last ones, oldest first.
    expired: VecDeque<ExpiredMember>,
}

/// A member that its group's coordinator removed without the member's doing: it was silent for its session timeout, or late for a
/// rebalance. See [`Cluster::expired_members`](crate::Cluster::expired_members).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredMember {
    /// The group's id.
    pub group: String,
    /// The member's id.
    pub member_id: String,
    /// The `client.id` of the member's last join or heartbeat.
    pub client_id: String,
}

/// How many members that expired are remembered.
const EXPIRED_MAX: usize = 1000;

/// Work that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A group's rebalance goes on with the members that have joined.
    Join(Str),
    /// Members that have not fetched their assignment leave the group.
    Sync(Str),
    /// A member of a group was silent for too long.
    Session(Str, Str),
    /// A member has not given up its partitions in time.
    Revocation(Str, Str),
    /// A member of the classic protocol, in a group of the other one, has not joined again in time.
    Rejoin(Str, Str),
    /// The same of one that has not fetched its assignment.
    Resync(Str, Str),
    /// A group's subscriptions have patterns, and their topics are not known.
    Patterns(Str),
    /// Offsets expire.
    Expire,
}

impl Due {
    /// The work that is for a member of a group of the consumer protocol.
    const OF_MEMBERS: [fn(Str, Str) -> Self; 4] =
        [Self::Session, Self::Revocation, Self::Rejoin, Self::Resync];
}

/// A group in the hands of the coordinator.
#[derive(Debug)]
enum Turn<'a> {
    Classic(classic::Turn<'a>),
    Consumer(consumer::Turn<'a>),
}

impl Groups {
    /// The groups that the journal has.
    pub(crate) fn open(settings: GroupSettings, random: Random, mut journal: Journal<Record>) -> Self {
        let records = journal.take_loaded();
        let topics = Arc::default();
        let shared =
            Shared { settings, queue: Queue::default(), random, journal, topics, expired: VecDeque::new() };
        let mut groups = Self {
            groups: BTreeMap::new(),
            room: Room::default(),
            writers: Writers::default(),
            shared,
            now: None,
        };
        for record in records {
            groups.replay(record);
        }
        for group in groups.groups.values_mut() {
            if let Kind::Consumer(consumer) = &mut group.kind {
                consumer.settle();
            }
        }
        groups
    }

    /// Follows other settings from now on.
    pub(crate) fn configure(&mut self, settings: GroupSettings) {
        self.shared.settings = settings;
    }

    /// The members that were removed without their doing.
    pub(crate) fn expired(&self) -> Vec<ExpiredMember> {
        self.shared.expired.iter().cloned().collect()
    }

    /// Learns the time. The first time starts the sessions of members that were read from the journal.
    pub(crate) fn pass(&mut self, now: Now) {
        if self.now.replace(now).is_none() {
            self.shared.queue.set(Due::Expire, now.instant + OFFSETS_CHECK_INTERVAL);
            for (id, group) in &mut self.groups {
                match &mut group.kind {
                    Kind::Classic(classic) => {
                        classic::Turn::new(id, classic, &mut self.shared, now).start_sessions();
                    }
                    Kind::Consumer(consumer) => {
                        consumer::Turn::new(id, consumer, &mut self.shared, now).start_timers();
                    }
                }
            }
        }
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Group { group, value: Some(value) } => {
                self.groups.entry(group).or_default().kind =
                    Kind::Classic(Box::new(Classic::from_record(value)));
            }
            Record::Group { group, value: None } => self.end_kind(&group),
            Record::Consumer { group, change: Change::Epoch(None) } => self.end_kind(&group),
            Record::Consumer { group, change } => {
                let kind = &mut self.groups.entry(group).or_default().kind;
                if let Kind::Classic(_) = kind {
                    *kind = Kind::Consumer(Consumer::default());
                }
                if let Kind::Consumer(consumer) = kind {
                    consumer.take(&change);
                }
            }
            Record::Offset { group, topic, partition, value } => {
                // The end of an offset must not make a group that ended before.
                if value.is_some() || self.groups.contains_key(group.as_str()) {
                    self.groups.entry(group).or_default().offsets.replay(topic, partition, value);
                }
            }
            Record::Pending { group, producer_id, epoch, topic, partition, value } => {
                self.replay_pending(group, (producer_id, epoch), (topic, partition), value);
            }
            Record::Marker { partition, marker, timestamp } => {
                self.replay_marker(partition, &marker, timestamp);
            }
        }
    }

    /// The end of a group's members. Kafka writes the tombstones of a group's offsets before, if they end too; otherwise
    /// the group goes on with its offsets, and members of the other protocol may follow.
    fn end_kind(&mut self, id: &Str) {
        if self.groups.get(id).is_some_and(|group| group.offsets.is_empty()) {
            self.groups.remove(id);
        } else if let Some(group) = self.groups.get_mut(id) {
            group.kind = Kind::default();
        }
    }

    /// The version of the topics that the groups know.
    pub(crate) fn topics_version(&self) -> u64 {
        self.shared.topics.version()
    }

    /// Learns which topics there are, unless it knows newer ones.
    pub(crate) fn learn_topics(&mut self, topics: Topics) {
        if topics.version() > self.topics_version() {
            self.shared.topics = Arc::new(topics);
        }
    }

    /// Forgets the offsets of topics that do not exist. A crash may come between the end of a topic and that of its
    /// offsets.
    pub(crate) fn retain_topics(&mut self, exists: impl Fn(&str, Uuid) -> bool) {
        for group in self.groups.values_mut() {
            group.offsets.retain_topics(&exists);
        }
    }

    /// A topic was deleted: its offsets go with it.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        let mut records = Vec::new();
        for (id, group) in &mut self.groups {
            group.offsets.forget_topic(id, topic, &mut records);
        }
        self.shared.write(&records);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &Str> {
        self.groups.keys()
    }

    /// A group and what it needs to be worked on; `None` when there is no such group.
    fn turn(&mut self, id: &str, now: Now) -> Option<(Turn<'_>, &mut Offsets)> {
        let mut found =
            self.groups.range_mut::<str, _>((std::ops::Bound::Included(id), std::ops::Bound::Included(id)));
        let (id, group) = found.next()?;
        let shared = &mut self.shared;
        let turn = match &mut group.kind {
            Kind::Classic(classic) => Turn::Classic(classic::Turn::new(id, classic, shared, now)),
            Kind::Consumer(consumer) => Turn::Consumer(consumer::Turn::new(id, consumer, shared, now)),
        };
        Some((turn, &mut group.offsets))
    }

    /// The same for groups of the classic protocol only.
    fn classic_turn(&mut self, id: &str, now: Now) -> Option<classic::Turn<'_>> {
        match self.turn(id, now)?.0 {
            Turn::Classic(turn) => Some(turn),
            Turn::Consumer(_) => None,
        }
    }

    /// Makes a group if it does not exist. `None` when there are too many. True if it was made.
    fn ensure(&mut self, id: &str) -> Option<bool> {
        if self.groups.contains_key(id) {
            return Some(false);
        }
        if self.groups.len() >= GROUPS_MAX {
            return None;
        }
        // A copy, because a slice of the request would keep the whole frame in memory.
        self.groups.insert(Str::from(id), Group::default());
        Some(true)
    }

    /// Does all work that is due.
    pub(crate) fn handle_due(&mut self, now: Now) {
        while let Some(due) = self.shared.queue.take_due(now.instant) {
            let id = match &due {
                Due::Join(id) | Due::Sync(id) | Due::Patterns(id) => id,
                Due::Session(id, _) | Due::Revocation(id, _) | Due::Rejoin(id, _) | Due::Resync(id, _) => id,
                Due::Expire => {
                    self.expire_offsets(now);
                    self.shared.queue.set(Due::Expire, now.instant + OFFSETS_CHECK_INTERVAL);
                    continue;
                }
            };
            let Some((turn, _)) = self.turn(id, now) else { continue };
            match (turn, &due) {
                (Turn::Classic(mut turn), Due::Join(_)) => turn.rebalance_is_due(),
                (Turn::Classic(mut turn), Due::Sync(_)) => turn.expire_sync(),
                (Turn::Classic(mut turn), Due::Session(_, member)) => turn.expire_session(member),
                (Turn::Consumer(mut turn), Due::Patterns(_)) => turn.resolve_patterns(),
                (
                    Turn::Consumer(turn),
                    Due::Session(_, member)
                    | Due::Revocation(_, member)
                    | Due::Rejoin(_, member)
                    | Due::Resync(_, member),
                ) if turn.is_over(&due, member) => self.expire_member(id, member, now),
                // The group's protocol has changed since.
                (Turn::Classic(_) | Turn::Consumer(_), _) => {}
            }
        }
    }

    /// The time of a member of a group of the consumer protocol is over.
    fn expire_member(&mut self, id: &Str, member: &Str, now: Now) {
        let client_id = match self.turn(id, now) {
            Some((Turn::Consumer(turn), _)) => turn.group().client_id(member),
            _ => None,
        };
        let fenced = self.fence(id, std::slice::from_ref(member), now);
        if let (Ok(()), Some(client_id)) = (&fenced, &client_id) {
            self.shared.note_expired(id, member, client_id);
        }
        if let Err(refusal) = fenced {
            tracing::warn!(group = %id, %member, "cannot remove a member whose time is over: {}", refusal.message);
            if let Some((Turn::Consumer(mut turn), _)) = self.turn(id, now) {
                turn.renew(member);
            }
        }
    }

    /// Offsets expire that have been unused for the retention. A group that has neither members nor offsets ends.
    fn expire_offsets(&mut self, now: Now) {
        let retention = self.shared.settings.offsets_retention.as_millis() as i64;
        let mut records = Vec::new();
        self.groups.retain(|id, group| {
            let is_bare = group.offsets.expire(id, &group.kind, now.unix_ms, retention, &mut records);
            let ends = is_bare && group.kind.is_empty();
            if ends {
                records.extend(group.kind.tombstones(id));
                self.shared.cancel_all(id, &group.kind);
            }
            !ends
        });
        self.shared.write(&records);
        self.expire_writers(now);
    }

    /// Groups have another coordinator now. Requests that wait are sent away, and each group is as its new coordinator
    /// reads it from the journal.
    pub(crate) fn reload(&mut self, ids: &[Str]) {
        let Some(now) = self.now else { return };
        for id in ids {
            match self.turn(id, now) {
                Some((Turn::Classic(mut turn), _)) => turn.reload(),
                // What it is has been written; only its timers begin anew.
                Some((Turn::Consumer(mut turn), _)) => turn.start_timers(),
                None => {}
            }
        }
    }

    /// A heartbeat of the consumer protocol.
    pub(crate) fn consumer_heartbeat(
        &mut self,
        beat: &Beat<'_>,
        version: i16,
        now: Now,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        consumer::check(beat.request, version)?;
        if !self.take_room(room::of_heartbeat(beat.request, &beat.client_id)) {
            return Err(Refusal::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "groups take too much memory"));
        }
        let (id, epoch) = (&beat.request.group_id, beat.request.member_epoch);
        if epoch == 0 {
            return self.consumer_join(beat, now);
        }
        match self.turn(id, now) {
            Some((Turn::Consumer(mut turn), _)) if epoch < 0 => {
                if let Some(member) = turn.leave(beat.request)? {
                    self.fence(&classic::owned(id), &[member], now)?;
                }
                Ok(ConsumerGroupHeartbeatResponse {
                    member_id: Some(beat.request.member_id.clone()),
                    member_epoch: epoch,
                    ..Default::default()
                })
            }
            Some((Turn::Consumer(mut turn), _)) => turn.heartbeat(beat, Vec::new()),
            Some((Turn::Classic(_), _)) => Err(Refusal::new(
                ErrorCode::GROUP_ID_NOT_FOUND,
                format!("group {id} is one of the classic protocol"),
            )),
            None => Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, format!("there is no group {id}"))),
        }
    }

    /// Refuses a group too many.
    fn check_count(&self) -> Result<(), Refusal> {
        if self.groups.len() < GROUPS_MAX {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "there are too many groups"))
    }

    fn is_consumer_with_members(&self, id: &str) -> bool {
        let kind = self.groups.get(id).map(|group| &group.kind);
        matches!(kind, Some(Kind::Consumer(consumer)) if !consumer.is_empty())
    }

    /// Makes a group of the consumer protocol, which has no members, a classic one. True when it was none before.
    fn make_classic(&mut self, id: &str) -> Result<bool, ErrorCode> {
        let Some((id, group)) = self.groups.get_key_value(id) else { return Ok(true) };
        if let Kind::Classic(_) = &group.kind {
            return Ok(false);
        }
        let id = id.clone();
        if !self.shared.write(&group.kind.tombstones(&id)) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            self.shared.cancel_all(&id, &group.kind);
            group.kind = Kind::default();
        }
        Ok(true)
    }

    /// Describes one group of the classic protocol. The error is a sentence.
    pub(crate) fn describe(&self, id: &str) -> Result<DescribedGroup, String> {
        match self.groups.get_key_value(id) {
            Some((id, Group { kind: Kind::Classic(classic), .. })) => Ok(classic.describe(id.clone())),
            Some(_) => Err(format!("Group {id} is not a classic group.")),
            None => Err(format!("Group {id} not found.")),
        }
    }

    /// Describes one group of the consumer protocol. The error is a sentence.
    pub(crate) fn describe_consumer(
        &self,
        id: &str,
    ) -> Result<consumer_group_describe::DescribedGroup, String> {
        match self.groups.get_key_value(id) {
            Some((id, Group { kind: Kind::Consumer(group), .. })) => {
                Ok(group.describe(id.clone(), &self.shared.topics))
            }
            Some(_) => Err(format!("Group {id} is not a consumer group.")),
            None => Err(format!("Group {id} not found.")),
        }
    }

    /// The groups as ListGroups shows them, by their ids.
    pub(crate) fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.iter().map(|(id, group)| {
            let (protocol_type, state, kind) = match &group.kind {
                Kind::Classic(classic) => {
                    (classic.protocol_type().cloned().unwrap_or_default(), classic.state().name(), "classic")
                }
                Kind::Consumer(consumer) => (Str::from_static(CONSUMER), consumer.state(), CONSUMER),
            };
            ListedGroup {
                group_id: id.clone(),
                protocol_type,
                group_state: Str::from_static(state),
                group_type: Str::from_static(kind),
                ..Default::default()
            }
        })
    }

    /// Deletes a group that has no members, and its offsets.
    pub(crate) fn delete(&mut self, id: &str) -> ErrorCode {
        let Some((id, group)) = self.groups.get_key_value(id) else { return ErrorCode::GROUP_ID_NOT_FOUND };
        if !group.kind.is_empty() {
            return ErrorCode::NON_EMPTY_GROUP;
        }
        let id = id.clone();
        let mut records = group.offsets.tombstones(&id);
        records.extend(group.kind.tombstones(&id));
        if !self.shared.write(&records) {
            return ErrorCode::NOT_COORDINATOR;
        }
        if let Some(group) = self.groups.remove(&id) {
            self.shared.cancel_all(&id, &group.kind);
        }
        ErrorCode::NONE
    }

    /// Makes the journal durable.
    pub(crate) fn flush(&self) -> Result<(), crate::error::Error> {
        self.shared.journal.flush()
    }

    /// Replaces the journal by a short one, if most of it is outdated.
    fn compact(&mut self) {
        if !self.shared.journal.is_bloated() {
            return;
        }
        let mut records = self.writer_records();
        records.extend(self.pending_records(true));
        for (id, group) in &self.groups {
            match &group.kind {
                Kind::Classic(classic) => {
                    let written = classic.written().cloned().map(Some);
                    records.extend(written.map(|value| Record::Group { group: id.clone(), value }));
                }
                Kind::Consumer(consumer) => records.extend(of_consumer(id, consumer.changes())),
            }
            group.offsets.records(id, &mut records);
        }
        records.extend(self.pending_records(false));
        self.shared.journal.replace(&records);
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::Classic(Box::default())
    }
}

impl Kind {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(classic) => classic.is_empty(),
            Self::Consumer(consumer) => consumer.is_empty(),
        }
    }

    /// The records that end the group's members.
    fn tombstones(&self, id: &Str) -> Vec<Record> {
        match self {
            Self::Classic(_) => vec![Record::Group { group: id.clone(), value: None }],
            Self::Consumer(consumer) => of_consumer(id, consumer.tombstones()),
        }
    }
}

/// The protocol type of consumers, and the type of groups of the consumer protocol.
const CONSUMER: &str = "consumer";

fn of_consumer(group: &Str, changes: Vec<Change>) -> Vec<Record> {
    changes.into_iter().map(|change| Record::Consumer { group: group.clone(), change }).collect()
}

impl Shared {
    /// Remembers a member that is being removed without its doing.
    fn note_expired(&mut self, group: &Str, member_id: &Str, client_id: &Str) {
        if self.expired.len() == EXPIRED_MAX {
            self.expired.pop_front();
        }
        let (group, member_id, client_id) = (group.to_string(), member_id.to_string(), client_id.to_string());
        self.expired.push_back(ExpiredMember { group, member_id, client_id });
    }

    /// Writes records; false when the disk failed, and nothing was written.
    fn write(&mut self, records: &[Record]) -> bool {
        self.journal.append(records)
    }

    fn write_group(&mut self, id: &Str, value: GroupMetadataValue) -> bool {
        self.write(&[Record::Group { group: id.clone(), value: Some(value) }])
    }

    /// Forgets all work for a group that ends.
    fn cancel_all(&mut self, id: &Str, kind: &Kind) {
        match kind {
            Kind::Classic(classic) => self.cancel_classic(id, classic),
            Kind::Consumer(consumer) => {
                self.queue.cancel(&Due::Patterns(id.clone()));
                for (member, due) in consumer.member_ids().flat_map(|id| Due::OF_MEMBERS.map(|due| (id, due)))
                {
                    self.queue.cancel(&due(id.clone(), member.clone()));
                }
            }
        }
    }

    fn cancel_classic(&mut self, id: &Str, classic: &Classic) {
        self.queue.cancel(&Due::Join(id.clone()));
        self.queue.cancel(&Due::Sync(id.clone()));
        for member in classic.member_ids() {
            self.queue.cancel(&Due::Session(id.clone(), member.clone()));
        }
    }

    fn set(&mut self, due: Due, at: Instant) {
        self.queue.set(due, at);
    }
}

impl Timed for Groups {
    const TIMER: Timer = Timer::Groups;

    fn settle(&mut self) -> Option<Instant> {
        self.compact();
        self.shared.queue.earliest()
    }
}
