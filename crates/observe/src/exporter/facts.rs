//! What was seen of a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::lag::{PartitionReport, Status};

/// A cluster at one time.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whether the last look succeeded.
    pub is_up: bool,
    /// How long the last look took.
    pub look_time: Duration,
    /// How many looks failed.
    pub failed_looks: u64,
    /// When it was, in milliseconds since 1970.
    pub at_ms: i64,
    /// Brokers by their ids, with their addresses.
    pub brokers: BTreeMap<i32, String>,
    /// Topics, with their partitions in order.
    pub topics: BTreeMap<Arc<str>, Vec<PartitionFacts>>,
    /// Groups.
    pub groups: BTreeMap<String, GroupFacts>,
    /// The directories of brokers. Empty if this principal may not see them.
    pub log_dirs: Vec<LogDirFacts>,
    /// The bytes of all replicas of topics, as far as they are known.
    pub topic_bytes: BTreeMap<Arc<str>, u64>,
    /// Partitions of groups that found no room; see [`Plan::pairs_max`](super::Plan::pairs_max).
    pub left_out: usize,
}

/// A partition at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Its index.
    pub index: i32,
    /// Its leader. None if it has none.
    pub leader: Option<i32>,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Replicas in sync.
    pub in_sync: usize,
    /// The first offset. None if its leader did not say.
    pub start: Option<i64>,
    /// The offset after the last record. None if its leader did not say.
    pub end: Option<i64>,
    /// The last stable offset, at which consumers with `isolation.level=read_committed` end. None if its leader did not say.
    pub stable_end: Option<i64>,
    /// Since when the last stable offset stands below the end, in milliseconds since 1970: since the look that saw it there first. None
    /// if no transaction holds records back.
    pub held_since_ms: Option<i64>,
    /// The bytes of its leader's replica. None if they are not known.
    pub bytes: Option<u64>,
}

/// A directory in which a broker keeps records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirFacts {
    /// The broker's id.
    pub broker: i32,
    /// Where it is.
    pub path: String,
    /// Whether the broker can use it.
    pub is_online: bool,
    /// The bytes of the replicas in it.
    pub replica_bytes: u64,
    /// How large the volume is. None if the broker does not tell.
    pub total_bytes: Option<u64>,
    /// How much of the volume is free. None if the broker does not tell.
    pub usable_bytes: Option<u64>,
}

/// A group at one time.
#[derive(Debug, Clone, Default)]
pub struct GroupFacts {
    /// Its state, by Kafka's name.
    pub state: String,
    /// What its members are.
    pub protocol_type: String,
    /// Its assignor.
    pub assignor: String,
    /// Its coordinator.
    pub coordinator: i32,
    /// The number of its members.
    pub members: usize,
    /// The partitions that it has committed offsets of.
    pub partitions: BTreeMap<(Arc<str>, i32), GroupPartition>,
}

/// A partition that a group reads.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPartition {
    /// The committed offset.
    pub committed: i64,
    /// Its lag. None if the end of the partition is not known.
    pub report: Option<PartitionReport>,
}

impl GroupFacts {
    /// As Burrow judges it.
    pub fn status(&self) -> Status {
        Status::of_group(self.partitions.values().filter_map(|of| of.report).map(|report| report.status))
    }
}

impl PartitionFacts {
    /// How many offsets the last stable one is before the end: records that a transaction holds back, and its own.
    pub fn held_back(&self) -> Option<u64> {
        let (stable_end, end) = (self.stable_end?, self.end?);
        Some(if stable_end < end { end.abs_diff(stable_end) } else { 0 })
    }
}
