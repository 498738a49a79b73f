//! The group coordinator: the members of groups, their rebalances and their committed offsets.
//!
//! ```text
//!  api/join_group … ─▶ Groups ─▶ Group ─▶ classic   members, generation, rebalances
//!                        │             └▶ offsets   what the group has committed
//!                        ├▶ queue      sessions, rebalances, syncs and offsets that will run out
//!                        └▶ journal    what Kafka writes to __consumer_offsets, so that a crash loses none of it
//! ```
//!
//! All nodes share one coordinator, as they share the logs; `State::coordinator` says which node answers for a group. A
//! group that moves to another node is made anew from the last record that was written of it, as Kafka's next
//! coordinator would read it. The groups must not know requests' frames or other parts of the broker.

pub(crate) mod classic;
mod journal;
pub(crate) mod offsets;
pub(crate) mod reply;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_messages::describe_groups::DescribedGroup;
use milena_messages::group_metadata_record::GroupMetadataValue;
use milena_messages::list_groups::ListedGroup;
use milena_wire::{Str, Uuid};

use crate::now::Now;
use crate::random::Random;
use crate::timers::{Queue, Timer, Timers};

use classic::{Classic, Turn};
pub(crate) use journal::Journal;
use journal::Record;
use offsets::Offsets;

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
    shared: Shared,
    /// The newest time that a caller passed. Commands such as stopping a node have none of their own.
    now: Option<Now>,
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) classic: Classic,
    pub(crate) offsets: Offsets,
}

/// What the groups have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: GroupSettings,
    queue: Queue<Due>,
    random: Random,
    journal: Journal,
}

/// Work that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A group's rebalance goes on with the members that have joined.
    Join(Str),
    /// Members that have not fetched their assignment leave the group.
    Sync(Str),
    /// A member of a group was silent for too long.
    Session(Str, Str),
    /// Offsets expire.
    Expire,
}

/// The groups, locked. When it is dropped the machine's timer is set to the earliest work.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    groups: MutexGuard<'a, Groups>,
    timers: &'a Timers,
}

impl Groups {
    /// The groups that the journal has.
    pub(crate) fn open(settings: GroupSettings, random: Random, mut journal: Journal) -> Self {
        let records = journal.take_loaded();
        let shared = Shared { settings, queue: Queue::default(), random, journal };
        let mut groups = Self { groups: BTreeMap::new(), shared, now: None };
        for record in records {
            groups.replay(record);
        }
        groups
    }

    /// Learns the time. The first time starts the sessions of members that were read from the journal.
    pub(crate) fn pass(&mut self, now: Now) {
        if self.now.replace(now).is_none() {
            self.shared.queue.set(Due::Expire, now.instant + OFFSETS_CHECK_INTERVAL);
            for (id, group) in &mut self.groups {
                Turn::new(id, &mut group.classic, &mut self.shared, now).start_sessions();
            }
        }
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Group { group, value: Some(value) } => {
                self.groups.entry(group).or_default().classic = Classic::from_record(value);
            }
            // Kafka writes the tombstones of a group's offsets before that of the group.
            Record::Group { group, value: None } => {
                self.groups.remove(group.as_str());
            }
            Record::Offset { group, topic, partition, value } => {
                // The end of an offset must not make a group that ended before.
                if value.is_some() || self.groups.contains_key(group.as_str()) {
                    self.groups.entry(group).or_default().offsets.replay(topic, partition, value);
                }
            }
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

    /// The group and what it needs to be worked on; `None` when there is no such group.
    fn turn(&mut self, id: &str, now: Now) -> Option<(Turn<'_>, &mut Offsets)> {
        let mut found =
            self.groups.range_mut::<str, _>((std::ops::Bound::Included(id), std::ops::Bound::Included(id)));
        let (id, group) = found.next()?;
        Some((Turn::new(id, &mut group.classic, &mut self.shared, now), &mut group.offsets))
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
            let (id, member) = match &due {
                Due::Join(id) | Due::Sync(id) => (id, None),
                Due::Session(id, member) => (id, Some(member)),
                Due::Expire => {
                    self.expire_offsets(now);
                    self.shared.queue.set(Due::Expire, now.instant + OFFSETS_CHECK_INTERVAL);
                    continue;
                }
            };
            let Some((mut turn, _)) = self.turn(id, now) else { continue };
            match (&due, member) {
                (Due::Join(_), _) => turn.rebalance_is_due(),
                (_, Some(member)) => turn.expire_session(member),
                (_, None) => turn.expire_sync(),
            }
        }
    }

    /// Offsets expire that have been unused for the retention. A group that has neither members nor offsets ends.
    fn expire_offsets(&mut self, now: Now) {
        let retention = self.shared.settings.offsets_retention.as_millis() as i64;
        let mut records = Vec::new();
        self.groups.retain(|id, group| {
            let is_bare = group.offsets.expire(id, &group.classic, now.unix_ms, retention, &mut records);
            let ends = is_bare && group.classic.is_empty();
            if ends {
                records.push(Record::Group { group: id.clone(), value: None });
                self.shared.cancel_all(id, &group.classic);
            }
            !ends
        });
        self.shared.write(&records);
    }

    /// Groups have another coordinator now. Requests that wait are sent away, and each group is as its new coordinator
    /// reads it from the journal.
    pub(crate) fn reload(&mut self, ids: &[Str]) {
        let Some(now) = self.now else { return };
        for id in ids {
            if let Some((mut turn, _)) = self.turn(id, now) {
                turn.reload();
            }
        }
    }

    /// Describes one group; `None` when there is no such group.
    pub(crate) fn describe(&self, id: &str) -> Option<DescribedGroup> {
        let (id, group) = self.groups.get_key_value(id)?;
        Some(group.classic.describe(id.clone()))
    }

    /// The groups as ListGroups shows them, by their ids.
    pub(crate) fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.iter().map(|(id, group)| ListedGroup {
            group_id: id.clone(),
            protocol_type: group.classic.protocol_type().cloned().unwrap_or_default(),
            group_state: Str::from_static(group.classic.state().name()),
            group_type: Str::from_static("classic"),
            ..Default::default()
        })
    }

    /// Deletes a group that has no members, and its offsets.
    pub(crate) fn delete(&mut self, id: &str) -> ErrorCode {
        let Some(group) = self.groups.get(id) else { return ErrorCode::GROUP_ID_NOT_FOUND };
        if !group.classic.is_empty() {
            return ErrorCode::NON_EMPTY_GROUP;
        }
        let mut records = group.offsets.tombstones(id);
        records.push(Record::Group { group: Str::from(id), value: None });
        if !self.shared.write(&records) {
            return ErrorCode::NOT_COORDINATOR;
        }
        if let Some(group) = self.groups.remove(id) {
            self.shared.cancel_all(&Str::from(id), &group.classic);
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
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            if let Some(value) = group.classic.written() {
                records.push(Record::Group { group: id.clone(), value: Some(value.clone()) });
            }
            group.offsets.records(id, &mut records);
        }
        self.shared.journal.replace(&records);
    }
}

impl Shared {
    /// Writes records; false when the disk failed, and nothing was written.
    fn write(&mut self, records: &[Record]) -> bool {
        self.journal.append(records)
    }

    fn write_group(&mut self, id: &Str, value: GroupMetadataValue) -> bool {
        self.write(&[Record::Group { group: id.clone(), value: Some(value) }])
    }

    /// Forgets all work for a group that ends.
    fn cancel_all(&mut self, id: &Str, classic: &Classic) {
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

impl<'a> Locked<'a> {
    pub(crate) fn new(groups: MutexGuard<'a, Groups>, timers: &'a Timers) -> Self {
        Self { groups, timers }
    }
}

impl Deref for Locked<'_> {
    type Target = Groups;

    fn deref(&self) -> &Groups {
        &self.groups
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.groups.compact();
        // The timer is set under the groups' lock, or an older result could replace a newer one.
        if let Some(at) = self.groups.shared.queue.earliest() {
            self.timers.arm(Timer::Groups, at);
        }
    }
}
