//! The offsets that a group has committed: by topic and partition, with metadata and leader epoch. KIP-211 (expiry),
//! KIP-320 (leader epochs).
//!
//! An offset is a fact of the group, whoever committed it. Topics are known by their names here; which exist is known to
//! the callers.

use std::collections::BTreeMap;

use milena_messages::ErrorCode;
use milena_messages::offset_commit::OffsetCommitRequest;
use milena_messages::offset_commit_record::OffsetCommitValue;
use milena_wire::{Str, Uuid};

use super::classic::{self, Classic, State, owned};
use super::record::Record;
use super::room::{self, PLACE};
use super::transactional::Pending;
use super::{Groups, Kind};
use crate::now::Now;

/// The offsets of one group.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    stored: BTreeMap<Str, BTreeMap<i32, OffsetCommitValue>>,
    /// Those of transactions that are open.
    pub(super) pending: Pending,
}

/// An offset to be committed. Its topic and partition exist.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<Str>,
}

/// From this version of OffsetCommit on, clients understand that a group does not exist (KIP-848).
const GROUP_NOT_FOUND_FROM: i16 = 9;
/// The retention in a request that leaves it to the broker.
const RETENTION_DEFAULT: i64 = -1;

impl Groups {
    /// Commits offsets, each with a code of its own. The error is the code of all of them.
    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        commits: Vec<Commit>,
        now: Now,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if self.get(&request.group_id).is_none() && generation >= 0 {
            return Err(match version {
                GROUP_NOT_FOUND_FROM.. => ErrorCode::GROUP_ID_NOT_FOUND,
                _ => ErrorCode::ILLEGAL_GENERATION,
            });
        }
        if !self.take_room(room::of_commit(request)) {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        // A consumer without members of its own, or an administrator: the group is made for its offsets alone.
        let is_made = self.ensure(&request.group_id).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let metadata_max = self.shared.settings.metadata_max;
        let accepted = self.check_commit(request, version, &commits, now);
        if let Err(code) = accepted {
            if is_made {
                self.groups.remove(request.group_id.as_str());
            }
            return Err(code);
        }
        let expire_timestamp = match request.retention_time_ms {
            RETENTION_DEFAULT => -1,
            retention => now.unix_ms.saturating_add(retention),
        };
        let group_id = owned(&request.group_id);
        let mut codes = Vec::with_capacity(commits.len());
        let mut records = Vec::with_capacity(commits.len());
        for commit in commits {
            let (topic, partition) = (owned(&commit.topic), commit.partition);
            match commit.into_value(metadata_max, expire_timestamp, now) {
                Ok(value) => {
                    codes.push(ErrorCode::NONE);
                    let (group, value) = (group_id.clone(), Some(value));
                    records.push(Record::Offset { group, topic, partition, value });
                }
                Err(code) => codes.push(code),
            }
        }
        if !self.shared.write(&records) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let group = self.groups.get_mut(&group_id).expect("it exists");
        for record in records {
            if let Record::Offset { topic, partition, value, .. } = record {
                group.offsets.replay(topic, partition, value);
            }
        }
        Ok(codes)
    }

    /// Whether the request may commit to its group, which exists. If it may, its member lives.
    fn check_commit(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        commits: &[Commit],
        now: Now,
    ) -> Result<(), ErrorCode> {
        let (member_id, epoch) = (&request.member_id, request.generation_id_or_member_epoch);
        match self.turn(&request.group_id, now).expect("it exists").0 {
            super::Turn::Classic(mut turn) => {
                turn.group().check_commit(request)?;
                turn.renew_by_commit(member_id);
                Ok(())
            }
            super::Turn::Consumer(turn) => {
                let partitions = commits.iter().map(|commit| (commit.topic_id, commit.partition));
                turn.group().check_commit(member_id, epoch, version, partitions)
            }
        }
    }

    /// Whether a member may fetch offsets of its group. Members of the classic protocol are not asked who they are.
    pub(crate) fn check_fetch(
        &self,
        group_id: &str,
        member_id: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self.get(group_id).map(|group| &group.kind) {
            Some(Kind::Consumer(consumer)) => consumer.check_fetch(member_id, epoch),
            Some(Kind::Classic(_)) | None => Ok(()),
        }
    }

    /// Deletes offsets of partitions that exist, each with a code of its own.
    pub(crate) fn delete_offsets(
        &mut self,
        group_id: &str,
        partitions: &[(Str, i32)],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let (id, group) = self.groups.get_key_value(group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if let Kind::Classic(classic) = &group.kind
            && !classic.is_empty()
            && !classic.is_of_consumers()
        {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        let mut records = Vec::new();
        let delete = |(topic, partition): &(Str, i32)| {
            if group.kind.is_subscribed_to(topic) {
                return ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC;
            }
            if group.offsets.get(topic, *partition).is_some() || group.offsets.is_unstable(topic, *partition)
            {
                let (group, topic, partition) = (id.clone(), owned(topic), *partition);
                records.push(Record::Offset { group, topic, partition, value: None });
            }
            ErrorCode::NONE
        };
        let codes = partitions.iter().map(delete).collect();
        if !self.shared.write(&records) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let offsets = &mut self.groups.get_mut(group_id).expect("it was just found").offsets;
        for (topic, partition) in partitions
            .iter()
            .zip(&codes)
            .filter(|(_, code): &(_, &ErrorCode)| code.is_none())
            .map(|(partition, _)| partition)
        {
            offsets.replay(topic.clone(), *partition, None);
        }
        Ok(codes)
    }
}

impl Commit {
    /// The offset as it is kept, if its metadata is not too long.
    pub(super) fn into_value(
        self,
        metadata_max: usize,
        expire_timestamp: i64,
        now: Now,
    ) -> Result<OffsetCommitValue, ErrorCode> {
        let metadata = self.metadata.unwrap_or_default();
        if metadata.encode_utf16().count() > metadata_max {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        Ok(OffsetCommitValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: owned(&metadata),
            commit_timestamp: now.unix_ms,
            expire_timestamp,
            topic_id: self.topic_id,
            ..Default::default()
        })
    }
}

impl Kind {
    fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(classic) => classic.is_subscribed_to(topic),
            Self::Consumer(consumer) => consumer.is_subscribed_to(topic),
        }
    }
}

impl classic::Turn<'_> {
    /// A commit says that its member lives. While assignments are handed out it says nothing, as in Kafka.
    fn renew_by_commit(&mut self, member_id: &Str) {
        if matches!(self.group().state(), State::Stable | State::Preparing) {
            self.renew(member_id);
        }
    }
}

impl Classic {
    /// Whether a commit is one of this generation, or of nobody while there are no members.
    fn check_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation < 0 && request.member_id.is_empty() && request.group_instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check(&request.member_id, request.group_instance_id.as_ref())?;
        if generation != self.generation() {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state() == State::Completing {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }
}

impl Offsets {
    /// What they take in memory.
    pub(super) fn bytes(&self) -> usize {
        let partitions = self.stored.values().flat_map(BTreeMap::values);
        let stored: usize = partitions.map(|value| PLACE + value.metadata.len()).sum();
        stored + self.pending.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.stored.get(topic)?.get(&partition)
    }

    /// All offsets by topic and partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &BTreeMap<i32, OffsetCommitValue>)> {
        self.stored.iter()
    }

    /// Takes over what a record says.
    pub(super) fn replay(&mut self, topic: Str, partition: i32, value: Option<OffsetCommitValue>) {
        match value {
            Some(value) => {
                self.pending.outdate(&topic, partition, i64::MAX);
                self.put(topic, partition, value);
            }
            None => {
                self.pending.retain(|name, index, _| (name, index) != (topic.as_str(), partition));
                let Some(partitions) = self.stored.get_mut(topic.as_str()) else { return };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.stored.remove(topic.as_str());
                }
            }
        }
    }

    /// Has this offset in the place of any other.
    pub(super) fn put(&mut self, topic: Str, partition: i32, value: OffsetCommitValue) {
        self.stored.entry(topic).or_default().insert(partition, value);
    }

    /// The records that say what is here.
    pub(super) fn records(&self, group: &Str, records: &mut Vec<Record>) {
        for (topic, partitions) in &self.stored {
            for (&partition, value) in partitions {
                let (group, topic, value) = (group.clone(), topic.clone(), Some(value.clone()));
                records.push(Record::Offset { group, topic, partition, value });
            }
        }
    }

    /// The records that end all offsets.
    pub(super) fn tombstones(&self, group: &str) -> Vec<Record> {
        let mut records = Vec::new();
        self.records(&Str::from(group), &mut records);
        for record in &mut records {
            if let Record::Offset { value, .. } = record {
                *value = None;
            }
        }
        records.extend(self.pending.partitions().map(|(topic, partition)| Record::Offset {
            group: Str::from(group),
            topic: topic.clone(),
            partition: *partition,
            value: None,
        }));
        records
    }

    pub(super) fn retain_topics(&mut self, exists: impl Fn(&str, Uuid) -> bool) {
        self.stored.retain(|topic, partitions| {
            partitions.retain(|_, value| exists(topic, value.topic_id));
            !partitions.is_empty()
        });
        self.pending.retain(|topic, _, id| exists(topic, id));
    }

    pub(super) fn forget_topic(&mut self, group: &Str, topic: &str, records: &mut Vec<Record>) {
        records.extend(self.pending.partitions().filter(|(name, _)| name == topic).map(
            |(name, partition)| {
                let (group, topic, partition) = (group.clone(), name.clone(), *partition);
                Record::Offset { group, topic, partition, value: None }
            },
        ));
        self.pending.retain(|name, _, _| name != topic);
        let Some((topic, partitions)) = self.stored.remove_entry(topic) else { return };
        records.extend(partitions.into_keys().map(|partition| Record::Offset {
            group: group.clone(),
            topic: topic.clone(),
            partition,
            value: None,
        }));
    }

    /// Removes offsets that nobody has used for the retention. True when none is left.
    ///
    /// Of an empty classic group they count from when it became empty, of other groups from their commit. Members keep the
    /// offsets of the topics that they subscribe to (KIP-211).
    pub(super) fn expire(
        &mut self,
        group: &Str,
        kind: &Kind,
        now_ms: i64,
        retention_ms: i64,
        records: &mut Vec<Record>,
    ) -> bool {
        let since_empty = match kind {
            Kind::Consumer(_) => None,
            Kind::Classic(classic) => match (classic.protocol_type(), classic.state()) {
                (None, _) => None,
                (Some(_), State::Empty) => classic.since_ms(),
                (Some(_), State::Stable) if classic.is_of_consumers() && classic.subscribed().is_some() => {
                    None
                }
                _ => return self.is_empty(),
            },
        };
        let pending = &self.pending;
        self.stored.retain(|topic, partitions| {
            if kind.is_subscribed_to(topic) {
                return true;
            }
            partitions.retain(|&partition, value| {
                let is_expired = match value.expire_timestamp {
                    -1 => now_ms - since_empty.unwrap_or(value.commit_timestamp) >= retention_ms,
                    at => now_ms >= at,
                };
                // One that a transaction is about to replace stays until then.
                let is_expired = is_expired
                    && !pending.partitions().any(|(name, index)| (name, *index) == (topic, partition));
                if is_expired {
                    let (group, topic) = (group.clone(), topic.clone());
                    records.push(Record::Offset { group, topic, partition, value: None });
                }
                !is_expired
            });
            !partitions.is_empty()
        });
        self.is_empty()
    }
}
