//! Which member of a classic group reads which partition: the group's leader decides it with an assignor.
//!
//! ```text
//!  JoinGroup response ─▶ Group::decode ─▶ Group ─▶ topics() ─▶ metadata ─▶ ClusterView
//!  (every member's bytes)                   └──── assign(assignor, view) ─▶ SyncGroup request (every member's bytes)
//! ```
//!
//! Assignors are pure: the same members and the same cluster give the same assignment, whatever the order in which the
//! members come. They must not know generations beyond those that subscriptions name, timers, or the coordinator.
//!
//! Members and topics are numbered in the order of Java's strings, and partitions are numbered through all topics
//! (`layout.rs`), so that the algorithms work on numbers only.

mod balance;
mod cooperative_sticky;
mod fill;
mod layout;
mod leader;
mod range;
mod round_robin;
mod sticky;
mod subscription;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use milena_messages::join_group::JoinGroupRequestProtocol;
use milena_wire::{EncodeError, Str};

pub use self::cooperative_sticky::CooperativeSticky;
pub use self::leader::{Group, Unreadable};
pub use self::range::Range;
pub use self::round_robin::RoundRobin;
pub use self::sticky::Sticky;
pub use self::subscription::{Assignment, Subscription, VERSION_MAX};
use crate::Failure;
use crate::metadata::Snapshot;

/// How a group moves a partition from one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceProtocol {
    /// Every member gives up all its partitions before it joins again.
    Eager,
    /// Members keep what they own while they join. A partition that moves is given up in one generation and assigned in
    /// the next (KIP-429).
    Cooperative,
}

/// Decides which member gets which partition, for the group's leader. The names are those of Java's
/// `partition.assignment.strategy`: members agree on an assignor by its name.
pub trait Assignor: fmt::Debug + Send + Sync {
    /// The name that members agree on, such as `range`.
    fn name(&self) -> &str;

    /// The rebalance protocols that this assignor can be used with. Default: eager only.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// Bytes for the leader's assignor that go with the subscription. `held` has the member's last assignment, and is
    /// None before the first one. Default: none.
    fn user_data(&self, topics: &[Str], held: Option<&Held>) -> Option<Bytes> {
        let _ = (topics, held);
        None
    }

    /// The assignment of each member, in the order of `members`.
    ///
    /// # Errors
    /// When the assignor cannot assign, which fails the rebalance. The assignors of this crate always can.
    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Vec<Assignment>, Failure>;
}

/// Java's default assignors: `range`, and `cooperative-sticky` to which a group can change without stopping.
pub fn defaults() -> Vec<Arc<dyn Assignor>> {
    vec![Arc::new(Range), Arc::new(CooperativeSticky)]
}

/// The rebalance protocol for a member that offers these assignors: the best one that all of them can be used with. None
/// if there is no such protocol, or no assignor.
pub fn protocol_of(assignors: &[Arc<dyn Assignor>]) -> Option<RebalanceProtocol> {
    let (first, rest) = assignors.split_first()?;
    let by_all =
        |protocol: &&RebalanceProtocol| rest.iter().all(|other| other.protocols().contains(*protocol));
    first.protocols().iter().filter(by_all).max().copied()
}

/// What a member offers in its JoinGroup request: its subscription for each of its assignors, in their order.
///
/// `subscription` has everything but user data. `held` is the member's last assignment, also under the eager protocol, under
/// which it owns nothing while it joins.
///
/// # Errors
/// When a name is too long.
pub fn offers(
    assignors: &[Arc<dyn Assignor>],
    subscription: &Subscription,
    held: Option<&Held>,
) -> Result<Vec<JoinGroupRequestProtocol>, EncodeError> {
    let offer = |assignor: &Arc<dyn Assignor>| {
        let user_data = assignor.user_data(&subscription.topics, held);
        let metadata = Subscription { user_data, ..subscription.clone() }.encode(VERSION_MAX)?;
        Ok(JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata,
            ..JoinGroupRequestProtocol::default()
        })
    };
    assignors.iter().map(offer).collect()
}

/// A member of the group, as its leader sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: Str,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// What it wants and has.
    pub subscription: Subscription,
}

/// Partitions of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: Str,
    /// Indices of its partitions.
    pub partitions: Vec<i32>,
}

/// What a member was assigned last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The partitions.
    pub partitions: Vec<TopicPartitions>,
    /// The generation of that assignment.
    pub generation: i32,
}

/// The topics and partitions that can be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// By name, each once.
    topics: Vec<TopicView>,
}

/// A topic that can be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: Str,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
}

/// A partition that can be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionView {
    /// Its index.
    pub index: i32,
    /// The racks of its replicas, as far as they are known.
    pub racks: Vec<Str>,
}

impl ClusterView {
    /// A view of these topics. Of two topics with one name, or partitions with one index, the first counts.
    pub fn new(topics: impl IntoIterator<Item = TopicView>) -> Self {
        let mut topics: Vec<_> = topics.into_iter().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics.dedup_by(|a, b| a.name == b.name);
        for topic in &mut topics {
            topic.partitions.sort_by_key(|partition| partition.index);
            topic.partitions.dedup_by_key(|partition| partition.index);
        }
        Self { topics }
    }

    /// A view of those of `topics` that the snapshot describes.
    pub fn of(snapshot: &Snapshot, topics: &[Str]) -> Self {
        Self::new(topics.iter().filter_map(|name| {
            let topic = snapshot.topics.get(name.as_str())?.as_ref().ok()?;
            let partitions = topic.partitions.iter().map(|partition| {
                let brokers = partition.replicas.iter().filter_map(|id| snapshot.brokers.get(id));
                let racks = brokers.filter_map(|broker| broker.rack.as_deref()).map(Str::from);
                PartitionView { index: partition.index, racks: racks.collect() }
            });
            Some(TopicView { name: name.clone(), partitions: partitions.collect() })
        }))
    }

    /// The topics, by name.
    pub fn topics(&self) -> &[TopicView] {
        &self.topics
    }

    /// A topic, by its name.
    pub fn topic(&self, name: &str) -> Option<&TopicView> {
        Some(&self.topics[self.position(name.as_bytes())?])
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.topics.binary_search_by(|topic| topic.name.as_bytes().cmp(name)).ok()
    }
}

impl TopicView {
    /// The place of the partition with this index. As a rule that is the index itself.
    fn position(&self, index: i32) -> Option<usize> {
        let guess = usize::try_from(index).ok()?;
        if self.partitions.get(guess).is_some_and(|partition| partition.index == index) {
            return Some(guess);
        }
        self.partitions.binary_search_by_key(&index, |partition| partition.index).ok()
    }
}
