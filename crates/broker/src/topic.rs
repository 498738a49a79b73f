//! A topic: its name, its id, its configs, its partitions; and which names and assignments Kafka allows.
//!
//! A topic never changes: more partitions make a new `Topic` with the old partitions in it. It must not know requests.

use std::sync::Arc;

use milena_wire::{Str, Uuid};

use crate::configs::{Overrides, TopicRules};
use crate::partition::Partition;

/// A topic, shared by whoever serves it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    pub(crate) overrides: Overrides,
    pub(crate) rules: TopicRules,
    /// Partition `n` is element `n`.
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// The partition with this index.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Longest name: what fits in a file name beside the partition's number.
const NAME_BYTES_MAX: usize = 249;

/// Checks a topic's name as Kafka does. The error is a sentence.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("Topic name is invalid: its length is longer than {NAME_BYTES_MAX} characters"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!(
            "Topic name is invalid: '{}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// Two names that differ only in `.` and `_` share the name of a metric in Kafka, which refuses the second.
/// This is what names that collide have in common.
pub(crate) fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Which nodes hold the replicas of `count` partitions, the leader first: leaders go round the nodes, starting at
/// `start`, and so do the followers.
pub(crate) fn assign(nodes: &[i32], count: i32, replication: usize, start: usize) -> Vec<Vec<i32>> {
    let replicas = |partition: usize| {
        (0..replication).map(|replica| nodes[(start + partition + replica) % nodes.len()]).collect()
    };
    (0..count as usize).map(replicas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for name in ["orders", "a.b_c-9", "...", &longest] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let too_long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "../x", "naïve", "a\0", &too_long] {
            assert!(check_name(name).is_err(), "{name}");
        }
        let collide = |one, other| metric_name(one) == metric_name(other);
        assert!(collide("a.b_c", "a_b.c") && !collide("a.b", "a-b") && !collide("a.b", "a_b_"));
    }

    #[test]
    fn leaders_and_followers_are_spread() {
        assert_eq!(assign(&[1, 2, 3], 4, 2, 1), [[2, 3], [3, 1], [1, 2], [2, 3]]);
    }
}
