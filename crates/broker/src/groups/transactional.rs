//! Offsets that are committed within transactions (KIP-98): they wait until their transaction ends. KIP-447 (consumers wait for
//! them, and members commit under their generation), KIP-890 (verification).
//!
//! ```text
//!  TxnOffsetCommit ─▶ begin_verification ─▶ the transaction coordinator ─▶ commit_in_transaction ─▶ pending
//!  marker          ─▶ end_transaction ─▶ commit: pending offsets become the group's │ abort: they go
//! ```
//!
//! In Kafka these are records and markers in the partitions of `__consumer_offsets`. Here is no such topic, but a group has the
//! number of its partition there: transactions are known by it, and what its log would know of their producers is kept for it.

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::ErrorCode;
use milena_messages::offset_commit_record::OffsetCommitValue;
use milena_messages::txn_offset_commit::TxnOffsetCommitRequest;
use milena_wire::{Str, Uuid};

use super::classic::owned;
use super::offsets::{Commit, Offsets};
use super::record::Record;
use super::room::{self, PLACE};
use super::{Groups, Kind};
use crate::now::Now;
use crate::producers::{Marker, Producers, Refused, Stamp, Verified};

/// The offsets of one group that wait for the ends of their transactions, by their producers.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<i64, BTreeMap<(Str, i32), Waiting>>);

#[derive(Debug)]
struct Waiting {
    epoch: i16,
    order: i64,
    /// An offset was committed after this one, and stays when this one's transaction is committed.
    is_outdated: bool,
    value: OffsetCommitValue,
}

/// What the groups know of transactions.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// The producers of each partition of the offsets topic.
    producers: BTreeMap<i32, Producers>,
    /// The groups with pending offsets, by partition and producer.
    groups: BTreeMap<(i32, i64), BTreeSet<Str>>,
    /// Counts what is written. A later offset replaces an earlier one, whichever transaction ends first.
    order: i64,
}

/// The partitions that Kafka's offsets topic has (`offsets.topic.num.partitions`).
const PARTITIONS: usize = 50;

/// The partition of the offsets topic in which Kafka would keep a group.
pub(crate) fn partition_of(group: &str) -> i32 {
    (crate::state::spread(group) % PARTITIONS) as i32
}

impl Groups {
    /// Whether the transaction coordinator must be asked before a producer commits offsets of a group.
    pub(crate) fn begin_verification(
        &mut self,
        group: &str,
        stamp: &Stamp,
        raises_epoch: bool,
    ) -> Option<Verified> {
        let producers = self.writers.producers.entry(partition_of(group)).or_default();
        producers.begin_verification(stamp, raises_epoch)
    }

    /// Commits offsets within a transaction, each with a code of its own. The error is the code of all of them.
    pub(crate) fn commit_in_transaction(
        &mut self,
        request: &TxnOffsetCommitRequest,
        verified: Option<Verified>,
        commits: Vec<Commit>,
        now: Now,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let (id, producer_id, epoch) = (&request.group_id, request.producer_id, request.producer_epoch);
        if self.get(id).is_none() && request.generation_id_or_member_epoch >= 0 {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let stamp = Stamp::of_offsets(producer_id, epoch);
        let producers = self.writers.producers.entry(partition_of(id)).or_default();
        producers.check_transaction(&stamp, verified).map_err(Refused::code)?;
        if !self.take_room(room::of_transactional_commit(request)) {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let is_made = self.ensure(id).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        if let Err(code) = self.check_transactional(request, &commits) {
            if is_made {
                self.groups.remove(id.as_str());
            }
            return Err(code);
        }
        let (group, metadata_max) = (owned(id), self.shared.settings.metadata_max);
        let (mut codes, mut records) = (Vec::with_capacity(commits.len()), Vec::new());
        for commit in commits {
            let (group, topic, partition) = (group.clone(), owned(&commit.topic), commit.partition);
            match commit.into_value(metadata_max, -1, now) {
                Ok(value) => {
                    codes.push(ErrorCode::NONE);
                    records.push(Record::Pending { group, producer_id, epoch, topic, partition, value });
                }
                Err(code) => codes.push(code),
            }
        }
        if !self.shared.write(&records) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        for record in records {
            self.replay(record);
        }
        Ok(codes)
    }

    /// Whether a transaction may commit to a group, which exists. A producer that names no member may always.
    fn check_transactional(
        &self,
        request: &TxnOffsetCommitRequest,
        commits: &[Commit],
    ) -> Result<(), ErrorCode> {
        let (member_id, epoch) = (&request.member_id, request.generation_id_or_member_epoch);
        let instance_id = request.group_instance_id.as_ref();
        if epoch < 0 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        match self.get(&request.group_id).map(|group| &group.kind) {
            Some(Kind::Classic(classic)) => {
                if epoch < 0 && classic.is_empty() {
                    return Ok(());
                }
                classic.check(member_id, instance_id)?;
                match epoch == classic.generation() {
                    true => Ok(()),
                    false => Err(ErrorCode::ILLEGAL_GENERATION),
                }
            }
            Some(Kind::Consumer(consumer)) => {
                let partitions = commits.iter().map(|commit| (commit.topic_id, commit.partition));
                let checked = consumer.check_commit(member_id, epoch, i16::MAX, partitions);
                // Producers know the code of the classic protocol only.
                checked.map_err(|code| match code {
                    ErrorCode::STALE_MEMBER_EPOCH => ErrorCode::ILLEGAL_GENERATION,
                    code => code,
                })
            }
            None => Ok(()),
        }
    }

    /// Takes over a pending offset.
    pub(super) fn replay_pending(
        &mut self,
        group: Str,
        (producer_id, epoch): (i64, i16),
        (topic, partition): (Str, i32),
        value: OffsetCommitValue,
    ) {
        let of_group = partition_of(&group);
        self.writers.order += 1;
        let order = self.writers.order;
        let producers = self.writers.producers.entry(of_group).or_default();
        producers.record(&Stamp::of_offsets(producer_id, epoch), order, value.commit_timestamp);
        self.writers.groups.entry((of_group, producer_id)).or_default().insert(group.clone());
        let waiting = Waiting { epoch, order, is_outdated: false, value };
        let pending = &mut self.groups.entry(group).or_default().offsets.pending;
        pending.0.entry(producer_id).or_default().insert((topic, partition), waiting);
    }

    /// Ends a producer's transaction in a partition of the offsets topic.
    pub(crate) fn end_transaction(
        &mut self,
        partition: i32,
        marker: &Marker,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if !(0..PARTITIONS as i32).contains(&partition) {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if let Some(producers) = self.writers.producers.get(&partition) {
            producers.check_marker(marker).map_err(Refused::code)?;
        }
        let record = Record::Marker { partition, marker: *marker, timestamp: now.unix_ms };
        if !self.shared.write(std::slice::from_ref(&record)) {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        self.replay(record);
        Ok(())
    }

    /// Takes over the end of a transaction.
    pub(super) fn replay_marker(&mut self, partition: i32, marker: &Marker, timestamp: i64) {
        self.writers.order += 1;
        let producers = self.writers.producers.entry(partition).or_default();
        producers.end(marker, self.writers.order, timestamp);
        let groups = self.writers.groups.remove(&(partition, marker.producer_id));
        for group in groups.into_iter().flatten() {
            if let Some(group) = self.groups.get_mut(&group) {
                group.offsets.end(marker.producer_id, marker.is_commit);
            }
        }
    }

    /// Forgets producers that have committed nothing for long.
    pub(super) fn expire_writers(&mut self, now: Now) {
        self.writers.producers.values_mut().for_each(|producers| producers.expire(now.unix_ms));
    }

    /// The records that say what is known of producers, before those of any group.
    pub(super) fn writer_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (&partition, producers) in &self.writers.producers {
            records.extend(producers.describe().map(|known| {
                let marker = Marker {
                    producer_id: known.producer_id,
                    producer_epoch: known.epoch,
                    coordinator_epoch: known.coordinator_epoch,
                    is_commit: false,
                    raises_epoch: false,
                };
                Record::Marker { partition, marker, timestamp: known.last_timestamp }
            }));
        }
        records
    }

    /// The records of all pending offsets: those that are outdated come before the offsets that replaced them, the others after
    /// all offsets.
    pub(super) fn pending_records(&self, is_outdated: bool) -> Vec<Record> {
        let mut records = Vec::new();
        for (group, of) in &self.groups {
            for (&producer_id, offsets) in &of.offsets.pending.0 {
                let those = offsets.iter().filter(|(_, waiting)| waiting.is_outdated == is_outdated);
                records.extend(those.map(|((topic, partition), waiting)| {
                    let (group, topic, value) = (group.clone(), topic.clone(), waiting.value.clone());
                    let (epoch, partition) = (waiting.epoch, *partition);
                    let record = Record::Pending { group, producer_id, epoch, topic, partition, value };
                    (waiting.order, record)
                }));
            }
        }
        records.sort_by_key(|&(order, _)| order);
        records.into_iter().map(|(_, record)| record).collect()
    }
}

impl Offsets {
    /// Whether an open transaction has committed an offset of this partition (KIP-447).
    pub(crate) fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.pending.partitions().any(|(name, index)| name == topic && *index == partition)
    }

    /// A producer's transaction has ended.
    fn end(&mut self, producer_id: i64, is_commit: bool) {
        let offsets = self.pending.0.remove(&producer_id).into_iter().flatten();
        for ((topic, partition), waiting) in offsets.filter(|(_, waiting)| is_commit && !waiting.is_outdated)
        {
            self.pending.outdate(&topic, partition, waiting.order);
            self.put(topic, partition, waiting.value);
        }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        let offsets = self.0.values().flatten();
        offsets.map(|((topic, _), waiting)| 2 * PLACE + topic.len() + waiting.value.metadata.len()).sum()
    }

    /// The partitions that have one, some more than once.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &(Str, i32)> {
        self.0.values().flat_map(BTreeMap::keys)
    }

    /// An offset of this partition was written after those before `order`.
    pub(super) fn outdate(&mut self, topic: &str, partition: i32, order: i64) {
        for ((name, index), waiting) in self.0.values_mut().flatten() {
            waiting.is_outdated |= name == topic && *index == partition && waiting.order < order;
        }
    }

    /// Only the offsets of these partitions stay.
    pub(super) fn retain(&mut self, stays: impl Fn(&str, i32, Uuid) -> bool) {
        self.0.retain(|_, offsets| {
            offsets.retain(|(topic, partition), waiting| stays(topic, *partition, waiting.value.topic_id));
            !offsets.is_empty()
        });
    }
}
