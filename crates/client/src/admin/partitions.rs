//! Partitions as the items of a call, and groups as where it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::metadata::{Coordinated, Destination};

use crate::Error;

/// A topic's name, and the index of a partition.
pub(super) type Partition = (Arc<str>, i32);

/// One result for each partition, by topic and index.
pub(super) type OfPartitions<T> = Vec<((String, i32), Result<T, Error>)>;

/// The partitions that a caller names.
pub(super) fn named<T: AsRef<str>>(partitions: impl IntoIterator<Item = (T, i32)>) -> Vec<Partition> {
    partitions.into_iter().map(|(topic, partition)| (Arc::from(topic.as_ref()), partition)).collect()
}

/// Where a request about the group goes.
pub(super) fn coordinator_of(group: &str) -> Destination {
    Destination::Coordinator(Coordinated::Group(Arc::from(group)))
}

/// Where a request for the partition goes.
pub(super) fn leader_of((topic, partition): &Partition) -> Destination {
    Destination::Leader { topic: Arc::clone(topic), partition: *partition }
}

/// The partitions of each topic in order, each with what comes with it. A partition that is given twice is there once: Kafka
/// refuses a request that names one twice.
pub(super) fn by_topic<'a, T>(
    partitions: impl IntoIterator<Item = (&'a Partition, T)>,
) -> BTreeMap<&'a str, BTreeMap<i32, T>> {
    let mut topics: BTreeMap<&str, BTreeMap<i32, T>> = BTreeMap::new();
    for ((topic, partition), with) in partitions {
        topics.entry(topic).or_default().insert(*partition, with);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_given_twice_is_asked_for_once() {
        let partitions = named([("t", 1), ("u", 0), ("t", 1), ("t", 0)]);
        let topics = by_topic(partitions.iter().map(|partition| (partition, ())));
        let asked = topics.iter().flat_map(|(topic, partitions)| partitions.keys().map(|at| (*topic, *at)));
        assert_eq!(asked.collect::<Vec<_>>(), [("t", 0), ("t", 1), ("u", 0)]);
    }
}
