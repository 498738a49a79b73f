//! What was seen of a cluster.

use std::collections::BTreeMap;
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
    pub topics: BTreeMap<String, Vec<PartitionFacts>>,
    /// Groups.
    pub groups: BTreeMap<String, GroupFacts>,
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
    pub partitions: BTreeMap<(String, i32), GroupPartition>,
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
