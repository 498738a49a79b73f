//! `roundrobin`: partitions are dealt out one by one, around all members.

use super::layout::{Layout, static_first};
use super::{Assignment, Assignor, ClusterView, Member};
use crate::Failure;

/// Deals the partitions of all topics out to the members in turn, as Java's `RoundRobinAssignor` does. A member that does
/// not subscribe a topic is passed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Vec<Assignment>, Failure> {
        let layout = Layout::new(cluster, members, static_first);
        let mut dealt = vec![Vec::new(); layout.member_count()];
        // The turn goes on from topic to topic.
        let mut turn = 0;
        for topic in 0..layout.topic_count() {
            let subscribers = layout.subscribers(topic);
            for slot in layout.slots(topic) {
                let at = subscribers.partition_point(|rank| *rank < turn);
                let rank = subscribers[if at < subscribers.len() { at } else { 0 }];
                dealt[rank as usize].push(slot);
                turn = rank + 1;
            }
        }
        Ok(layout.assignments(dealt))
    }
}
