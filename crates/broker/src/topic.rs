//! A topic: its name, its id, its configs and its partitions; and the rules that Kafka has for names and assignments.
//!
//! A `Topic` never changes. When partitions are added there is a new one, which has the old partitions too. It must not
//! know requests.

use std::sync::Arc;

use milena_wire::{Str, Uuid};

use crate::configs::{Overrides, TopicRules};
use crate::partition::Partition;

/// A topic, shared by all requests that are about it.
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

/// The longest name in bytes. With the partition's number it must fit in a file name.
const NAME_BYTES_MAX: usize = 249;

/// Checks a topic's name by Kafka's rules. The error is a sentence for the client.
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

/// The name that a topic has in Kafka's metrics. Two names that differ only in `.` and `_` have the same one, so Kafka
/// refuses the second topic.
pub(crate) fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// The replicas of `count` partitions, the leader first. The nodes take turns as leaders, beginning with the node at
/// `start`, and followers are the nodes after the leader.
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
