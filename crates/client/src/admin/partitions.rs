//! Partitions as the items of a call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_core::metadata::Destination;

/// A topic's name, and the index of a partition.
pub(super) type Partition = (Arc<str>, i32);

/// Where a request for the partition goes.
pub(super) fn leader_of((topic, partition): &Partition) -> Destination {
    Destination::Leader { topic: Arc::clone(topic), partition: *partition }
}

/// The partitions of each topic, in order. A partition that is given twice is there once: Kafka refuses a request that names
/// one twice.
pub(super) fn by_topic<'a>(partitions: &[&'a Partition]) -> BTreeMap<&'a str, BTreeSet<i32>> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().insert(*partition);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_given_twice_is_asked_for_once() {
        let partitions = [("t", 1), ("u", 0), ("t", 1), ("t", 0)].map(|(topic, at)| (Arc::from(topic), at));
        let topics = by_topic(&partitions.iter().collect::<Vec<_>>());
        let asked = topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(|at| (*topic, *at)));
        assert_eq!(asked.collect::<Vec<_>>(), [("t", 0), ("t", 1), ("u", 0)]);
    }
}
