//! What was seen of a group. It judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena::GroupState;

use crate::lag::Look;

/// A partition by topic and index.
pub type Partition = (String, i32);

/// A group, what it reads and the brokers that serve it, as they were during some seconds.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The group.
    pub group: String,
    /// How it stood, at even intervals, the earliest first.
    pub samples: Vec<Sample>,
    /// What the principal of the client may not do.
    pub denied: Vec<Denied>,
    /// The topics that it reads, by name.
    pub topics: BTreeMap<String, TopicSeen>,
    /// Transactions that were open at its partitions at the end.
    pub open: Vec<OpenAt>,
    /// The records at which partitions did not move, as far as they were read.
    pub records: BTreeMap<Partition, RecordSeen>,
    /// Quotas for reading.
    pub quotas: Vec<Quota>,
    /// How long brokers took for a request of the smallest kind, by their ids.
    pub answers: BTreeMap<i32, Vec<Duration>>,
    /// The settings of the group's consumers, if they are known.
    pub reader: Option<Reader>,
}

/// A group at one time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Its state. [`GroupState::Empty`] if it has committed offsets and is not known otherwise.
    pub state: GroupState,
    /// The epoch of its assignment. None with the classic protocol.
    pub epoch: Option<i32>,
    /// Its members.
    pub members: Vec<MemberSeen>,
    /// The partitions that it has committed offsets of, or reads.
    pub looks: BTreeMap<Partition, Look>,
    /// Their last stable offsets.
    pub stable: BTreeMap<Partition, i64>,
}

/// A member at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberSeen {
    /// Its id.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// The `client.id` of its client.
    pub client_id: String,
    /// The host from which it is connected.
    pub host: String,
    /// Its epoch. None with the classic protocol.
    pub epoch: Option<i32>,
    /// Its partitions.
    pub partitions: BTreeSet<Partition>,
}

/// Something that the principal of the client may not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// Read this topic.
    Topic(String),
    /// Be a member of the group.
    Group,
}

/// A topic that the group reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicSeen {
    /// Its `retention.ms`. None if records are kept for ever or the setting may not be seen.
    pub retention_ms: Option<u64>,
    /// The keys of its last records.
    pub keys: Keys,
}

/// The keys of some records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// How many records were read.
    pub records: usize,
    /// The bytes of their keys and values.
    pub bytes: usize,
    /// The keys that most of them have, the most frequent one first. Records without a key are left out.
    pub top: Vec<KeyCount>,
}

/// How many records have a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCount {
    /// The key, as text. Other bytes are escaped.
    pub key: String,
    /// The number of records.
    pub records: usize,
}

/// A transaction that is open at a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAt {
    /// The partition.
    pub partition: Partition,
    /// Its first record there.
    pub start: i64,
    /// Its producer.
    pub producer_id: i64,
    /// The transactional id. None if no coordinator knows of it: it hangs, and nothing ends it.
    pub transactional_id: Option<String>,
}

/// A record at which a partition did not move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordSeen {
    /// Its offset.
    pub offset: i64,
    /// Its key, as text.
    pub key: Option<String>,
    /// The bytes of its key and value.
    pub bytes: usize,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// A quota for reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    /// The `client.id` for which it is. None if it is for all, or for users.
    pub client_id: Option<String>,
    /// The user for whom it is. None if it is for all, or for client ids.
    pub user: Option<String>,
    /// Bytes a second, from each broker.
    pub bytes_per_second: f64,
}

/// Settings of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// `max.poll.interval.ms`.
    pub max_poll_interval: Duration,
    /// `max.poll.records`.
    pub max_poll_records: u32,
}

impl Observation {
    /// The last sample.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }

    /// What was seen of a partition, the earliest first.
    pub(super) fn looks(&self, partition: &Partition) -> impl Iterator<Item = &Look> {
        self.samples.iter().filter_map(|sample| sample.looks.get(partition))
    }

    /// The last member that had a partition.
    pub(super) fn owner(&self, partition: &Partition) -> Option<&MemberSeen> {
        let has_it = |sample: &&Sample| sample.owner(partition).is_some();
        self.samples.iter().rev().find(has_it).and_then(|sample| sample.owner(partition))
    }
}

impl Sample {
    /// The member that has a partition.
    pub(super) fn owner(&self, partition: &Partition) -> Option<&MemberSeen> {
        self.members.iter().find(|member| member.partitions.contains(partition))
    }
}
